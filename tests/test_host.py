"""Memory is used again, threads sleep: measured by what the system counts, in processes of their own."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import json, resource
import torch
from seehear import host

def faults(steps=5):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(steps):
        tensors = [torch.ones(1 << 20) for _ in range(4)]
        del tensors
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / steps

faults()
before = faults()
kept = host.keep_freed_memory()
faults()
print(json.dumps({"kept": kept, "before": before, "after": faults()}))
"""
# The thresholds that the C library begins with. It doesn't move those that are set, and whether it moves them otherwise
# depends on which thread frees what first.
AS_IT_BEGINS = {"MALLOC_MMAP_THRESHOLD_": str(1 << 17), "MALLOC_TRIM_THRESHOLD_": str(1 << 17), "OMP_NUM_THREADS": "1"}
WAITING = """
import os, sys
from seehear import cli
assert "torch" not in sys.modules
cli.main(["--version"])
assert "torch" not in sys.modules
print(os.environ["OMP_WAIT_POLICY"])
"""


def run(program: str, **variables: str) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"} | variables
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left as they are")
def test_memory_of_freed_tensors_is_used_again():
    found = json.loads(run(FAULTS, **AS_IT_BEGINS))
    assert found["kept"]
    assert found["before"] > 1000  # pages a step: else there would be nothing to gain
    assert found["after"] < found["before"] / 10


def test_the_command_line_lets_threads_sleep_before_torch_is_loaded_unless_it_is_told_otherwise():
    assert run(WAITING) == "passive"
    assert run(WAITING, OMP_WAIT_POLICY="active") == "active"
