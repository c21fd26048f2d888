"""The whole check of a GPU, run in its tiny form on a CPU, through the script that people start."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def gpu():
    """`benchmarks/gpu.py` as a module."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        spec = importlib.util.spec_from_file_location("gpu_benchmark", ROOT / "benchmarks" / "gpu.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


def test_every_check_passes_in_its_tiny_form(gpu, tmp_path):
    out = tmp_path / "gpu.json"
    environment = {**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    command = ["benchmarks/on_gpu.sh", "--device", "cpu", "--tiny", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    checks = json.loads(out.read_text())["checks"]
    assert list(checks) == list(gpu.CHECKS)
    for name, check in checks.items():
        assert check["rows"], name
        assert f"\n{name} (" in "\n" + done.stdout
    rows = {(name, what): value for name, check in checks.items() for what, value, _ in check["rows"]}
    assert rows["recompiling", "graphs compiled later"] == 0
    assert rows["views", "gdt-release: frames"] == rows["views", "gdt-release: spectrograms"] == 0
    assert rows["trainer", "trainer / bare step"] > 0.1
    assert 0 <= rows["waiting", "waiting for files"] <= 1
    # A ratio is that of the two numbers beside it.
    whole, part = rows["extraction", "forward pass alone"], rows["extraction", "extraction"]
    assert rows["extraction", "extraction / forward pass"] == pytest.approx(part / whole)


def test_a_check_that_fails_is_named_and_the_rest_goes_on(gpu, tmp_path, monkeypatch, capsys):
    def broken(place):
        raise RuntimeError("no such kernel")

    monkeypatch.setitem(gpu.CHECKS, "views", (broken, 10))
    arguments = argparse.Namespace(device="cpu", tiny=True, only=["views", "peak"])
    found = gpu.run_all(arguments, tmp_path)
    assert found["views"]["failed"] == "RuntimeError: no such kernel"
    assert [unit for _, _, unit in found["peak"]["rows"]] == ["TFLOP/s", "GB/s"]
    assert "views: FAILED" in capsys.readouterr().out
    assert "no such kernel" in gpu.table(found)


def test_a_check_in_a_process_of_its_own_ends_with_its_time(gpu, tmp_path):
    arguments = argparse.Namespace(device="cpu")
    found = gpu.apart("peak", arguments, tmp_path, 0.2)
    assert found["failed"] == "not done after 0 s"


def test_the_time_of_all_checks_is_under_eight_minutes(gpu):
    assert gpu.BUDGET_SECONDS < 8 * 60
