#!/bin/bash
#SBATCH --job-name=seehear-parts
#SBATCH --array=1-8
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=12:00:00
#SBATCH --requeue
#
# One part of a scan, of features, of labels or of an index for each task of an array:
#
#     sbatch examples/slurm-parts.sh scan /data/videos --out /data/clips.parquet
#
# PARTS is the number of parts, that of the tasks of the array: `PARTS=200 sbatch --array=1-200 ...` for more. A task
# that was killed is given again by itself: `sbatch --array=3 ...`; it does what is missing. When all have ended, one task
# joins them: `sbatch --array=1 examples/slurm-parts.sh join /data/clips.parquet`. For a GPU a task, add `--gres=gpu:1`.
set -eu
# What does not fit the cores that SLURM gave would only wait for them.
export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-1}"
if [ "$1" = join ]; then
    exec seehear "$@"
fi
exec seehear "$@" --part "$SLURM_ARRAY_TASK_ID/${PARTS:-8}"
