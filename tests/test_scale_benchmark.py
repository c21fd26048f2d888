"""The simulation of many clips, in its tiny form: a part of one process and one that processes share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def test_parts_are_measured_fitted_and_kept(tmp_path):
    out = tmp_path / "scale.json"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "benchmarks/scale.py", "--tiny", "--out", str(out), "--only"]
    for only in (["clips"], ["manifest"]):
        done = subprocess.run([*command, *only], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())
    assert list(found["parts"]) == ["clips", "manifest"]  # the first one's results stay
    for part in found["parts"].values():
        assert [p["rows"] for p in part["points"]] == [2_000, 8_000]
        small, large = part["points"]
        assert small["seconds"] > 0 and 0 < large["bytes"] < large["whole"]
        assert part["seconds"]["each"] == pytest.approx((large["seconds"] - small["seconds"]) / 6_000)
        assert part["seconds"]["scatter"] == 0  # two points lie on their line
    shared = found["ranks"]["clips"]
    assert [(p["rows"], p["ranks"]) for p in shared] == [(8_000, 1), (8_000, 2), (8_000, 4)]
    assert [len(p["of_each"]) for p in shared[1:]] == [2, 4]
    for several in shared[1:]:  # only the first process reads the manifest
        first, *others = several["of_each"]
        assert all(other["bytes"] < first["bytes"] / 2 for other in others)
