"""The examples for clusters, as far as one machine goes: stand-ins for what a cluster has, and the options named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from seehear.cli.assemble import chosen, parsed

EXAMPLES = Path(__file__).parent.parent / "examples"
SRUN = """#!{python}
# A stand-in for SLURM's: starts as many tasks on this machine, each with its number, and ends with the highest code.
import json, os, subprocess, sys
from pathlib import Path
command = [word for word in sys.argv[1:]]
while command[0].startswith("--"):
    command.pop(0)
tasks = []
for number in range(int(os.environ["SLURM_NTASKS"])):
    variables = os.environ | {{"SLURM_PROCID": str(number), "SLURM_LOCALID": str(number)}}
    tasks.append(subprocess.Popen(command, env=variables))
sys.exit(max(task.wait() for task in tasks))
"""
PYTHON = """#!/bin/bash
# A stand-in for python: keeps what it was asked, and ends with the code that the test wants.
echo "{{\\"rank\\": \\"$RANK\\", \\"local\\": \\"$LOCAL_RANK\\", \\"size\\": \\"$WORLD_SIZE\\",\
 \\"master\\": \\"$MASTER_ADDR\\",\
 \\"port\\": \\"$MASTER_PORT\\", \\"words\\": \\"$*\\"}}" >> {asked}.$RANK
exit {code}
"""
SCONTROL = """#!/bin/bash
[ "$1" = show ] && {{ printf 'node-a\\nnode-b\\n'; exit; }}
echo "$*" >> {asked}.scontrol
"""


def stand_in(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)


@pytest.mark.parametrize("code", [0, 75, 5])
def test_the_script_for_slurm_starts_every_process_and_requeues_what_was_stopped(code, tmp_path):
    asked = tmp_path / "asked"
    stand_in(tmp_path, "srun", SRUN.format(python=sys.executable))
    stand_in(tmp_path, "python", PYTHON.format(asked=asked, code=code))
    stand_in(tmp_path, "scontrol", SCONTROL.format(asked=asked))
    environment = {
        **os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "1234567", "SLURM_NTASKS": "3",
        "SLURM_CPUS_PER_TASK": "6", "SLURM_JOB_NODELIST": "node-[a-b]",
    }  # fmt: skip
    command = ["bash", EXAMPLES / "slurm.sh", "clips.parquet", "runs/a", "--recipe", "gdt-kinetics"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr
    for rank in range(3):
        told = json.loads(Path(f"{asked}.{rank}").read_text())
        words = told.pop("words").split()
        assert told == {
            "rank": str(rank), "local": str(rank), "size": "3", "master": "node-a", "port": str(20000 + 1234567 % 10000)
        }  # fmt: skip
        assert words[:2] == ["-m", "seehear"]
        given = command_line(words[2:])
        assert given["videos"] == "clips.parquet" and str(given["out"]) == "runs/a"
        assert given["resume_if_there"] and given["quiet"] and given["recipe"] == "gdt-kinetics"
    requeued = Path(f"{asked}.scontrol")
    assert (requeued.read_text() if requeued.exists() else "") == ("requeue 1234567\n" if code == 75 else "")


def test_the_script_for_slurm_asks_for_a_signal_that_saves():
    lines = [line.split() for line in (EXAMPLES / "slurm.sh").read_text().splitlines() if line.startswith("#SBATCH")]
    options = {words[1].partition("=")[0]: words[1].partition("=")[2] for words in lines}
    name, _, seconds = options["--signal"].partition("@")
    assert name in ("TERM", "USR1", "INT") and int(seconds) >= 60
    assert {"--requeue", "--ntasks-per-node", "--gpus-per-node"} <= options.keys()
    assert options["--ntasks-per-node"] == options["--gpus-per-node"]


def test_the_job_for_kubernetes_names_options_that_exist():
    from torch.distributed.run import get_args_parser

    service, job = yaml.safe_load_all((EXAMPLES / "kubernetes.yaml").read_text())
    spec = job["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert container["command"][0] == "torchrun"
    asked = get_args_parser().parse_args(container["command"][1:])
    assert asked.module and asked.training_script == "seehear"
    assert int(asked.nnodes) == spec["completions"] == spec["parallelism"]
    assert int(asked.nproc_per_node) == container["resources"]["limits"]["nvidia.com/gpu"]
    # The first pod of an indexed job is found by its name within the service.
    name, subdomain = job["metadata"]["name"], pod["subdomain"]
    assert asked.rdzv_endpoint.startswith(f"{name}-0.{subdomain}:") and spec["completionMode"] == "Indexed"
    assert service["metadata"]["name"] == subdomain and service["spec"]["selector"] == {"job-name": name}
    given = command_line(asked.training_script_args)
    assert given["resume_if_there"]
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert all(any(str(given[key]).startswith(path) for path in mounted) for key in ("videos", "out"))
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


def command_line(words: list[str]) -> dict[str, object]:
    """The arguments that a command takes of these words; unknown options end the test."""
    command, rest = chosen(words)
    assert not isinstance(command, str) and command.name == "pretrain"
    return parsed(command, rest)
