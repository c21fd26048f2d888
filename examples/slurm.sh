#!/bin/bash
# Pretrain on GPUs of a SLURM cluster, one process a GPU:
#
#     sbatch --nodes=2 examples/slurm.sh /data/clips.parquet /data/runs/a --recipe gdt-kinetics
#
# Three minutes before the time is up, and when the job is preempted, every process finishes its step, the first one
# saves, and all end with exit code 75; the job then goes back into the queue and goes on, on whatever nodes it gets.
# VIDEOS, RUN and the media must lie where all nodes see them under the same path.
#SBATCH --job-name=seehear
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@180
#SBATCH --requeue
#SBATCH --open-mode=append
set -u

videos=$1 run=$2
shift 2

MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
MASTER_PORT=$((20000 + SLURM_JOB_ID % 10000))
export MASTER_ADDR MASTER_PORT

# One SLURM task is one process. Signals and exit codes are its own, with no torchrun in between.
srun --kill-on-bad-exit=1 bash -c '
    export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS
    exec python -m seehear pretrain "$@" --quiet
' pretrain "$videos" --out "$run" --resume-if-there \
    --set data.workers="${SLURM_CPUS_PER_TASK:-8}" "$@"
code=$?

[ "$code" -ne 75 ] || scontrol requeue "$SLURM_JOB_ID"
exit "$code"
