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
from seehear.models import build_video_encoder

encoder = build_video_encoder("r2plus1d_10", width=16, stem_pool=True)
clips = torch.randn(16, 3, 4, 64, 64)

def faults(steps=5):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(steps):
        encoder(clips).sum().backward()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / steps

faults()
before = faults()
kept = host.keep_freed_memory()
faults()
print(json.dumps({"kept": kept, "before": before, "after": faults()}))
"""
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
    found = json.loads(run(FAULTS))
    assert found["kept"]
    assert found["before"] > 1000  # pages a step: else there would be nothing to gain
    assert found["after"] < found["before"] / 10


def test_the_command_line_lets_threads_sleep_before_torch_is_loaded_unless_it_is_told_otherwise():
    assert run(WAITING) == "passive"
    assert run(WAITING, OMP_WAIT_POLICY="active") == "active"
