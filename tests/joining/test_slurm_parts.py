"""The example of an array of jobs, run by bash with the variables that SLURM sets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import seehear
from tests.corpus import make_collection

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "examples" / "slurm-parts.sh"


def test_the_tasks_of_the_array_and_a_join_make_the_manifest_of_one_process(tmp_path):
    collection = make_collection(tmp_path / "videos", n=20, classes=2)
    seehear.scan(collection, out=tmp_path / "one.parquet", workers=0)
    shim = tmp_path / "bin" / "seehear"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m seehear "$@"\n')
    shim.chmod(0o755)
    out = tmp_path / "many.parquet"
    for task in ("2", "1", "3", "join"):
        environment = {
            **os.environ, "PATH": f"{shim.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "PARTS": "3",
            "SLURM_ARRAY_TASK_ID": task, "SLURM_CPUS_PER_TASK": "1",
        }  # fmt: skip
        words = ["bash", str(SCRIPT), "scan", str(collection), "--out", str(out), "--workers", "0"]
        if task == "join":
            words = ["bash", str(SCRIPT), "join", str(out)]
            environment["SLURM_ARRAY_TASK_ID"] = "1"
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert ("20 files" if task == "join" else f"part {task}/3 is done") in done.stdout
    assert out.read_bytes() == (tmp_path / "one.parquet").read_bytes()


def test_the_array_has_as_many_tasks_as_there_are_parts():
    text = SCRIPT.read_text()
    assert "#SBATCH --array=1-8\n" in text and "${PARTS:-8}" in text
    assert os.access(SCRIPT, os.X_OK)
