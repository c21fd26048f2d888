"""Saved states: whole or absent, checked, the newest valid one wins."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest
import torch

from seehear.engine import checkpoint
from seehear.errors import RunError
from seehear.types import Assignment

ASSIGNMENT = Assignment(["a#t=0,1", "b#t=0,1"], {"video": np.array([1, 0])}, {"video": 2})


def state(value):
    return {"w": torch.full((3,), float(value)), "n": value}


def test_what_is_saved_is_loaded(tmp_path):
    checkpoint.save(tmp_path, 7, state(1), ASSIGNMENT, keep=2)
    loaded, labels = checkpoint.load_newest(tmp_path)
    assignment = Assignment.load(labels)
    assert loaded["n"] == 1
    assert torch.equal(loaded["w"], state(1)["w"])
    assert assignment.of("video", ["b#t=0,1", "a#t=0,1"]).tolist() == [0, 1]


def test_only_the_newest_are_kept(tmp_path):
    for step in (1, 2, 10, 11):
        checkpoint.save(tmp_path, step, state(step), None, keep=2)
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["step_000000010", "step_000000011"]


def test_no_state_is_none(tmp_path):
    assert checkpoint.load_newest(tmp_path) is None


@pytest.mark.parametrize("damage", ["truncate", "flip", "delete", "no hashes", "assignment"])
def test_a_damaged_state_falls_back_to_the_one_before(tmp_path, damage):
    checkpoint.save(tmp_path, 1, state(1), ASSIGNMENT, keep=2)
    newest = checkpoint.save(tmp_path, 2, state(2), ASSIGNMENT, keep=2)
    file = newest / ("assignment.parquet" if damage == "assignment" else "state.pt")
    content = file.read_bytes()
    if damage == "truncate":
        file.write_bytes(content[: len(content) // 2])
    elif damage in ("flip", "assignment"):
        middle = len(content) // 2
        file.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    elif damage == "delete":
        file.unlink()
    else:
        (newest / "hashes.json").unlink()
    loaded, _ = checkpoint.load_newest(tmp_path)
    assert loaded["n"] == 1


def test_a_full_disk_leaves_the_state_before_and_says_so(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, 1, state(1), None, keep=2)

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="free some disk space"):
        checkpoint.save(tmp_path, 2, state(2), None, keep=2)
    assert [p.name for p in tmp_path.iterdir()] == ["step_000000001"]
    assert checkpoint.load_newest(tmp_path)[0]["n"] == 1


def test_the_same_step_can_be_saved_again(tmp_path):
    checkpoint.save(tmp_path, 3, state(1), None, keep=2)
    checkpoint.save(tmp_path, 3, state(5), None, keep=2)
    assert checkpoint.load_newest(tmp_path)[0]["n"] == 5


def test_a_state_that_is_a_program_is_not_run(tmp_path):
    """A crafted state file must not be unpickled into code, even with matching hashes."""
    import json
    import pickle

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/owned",)

    folder = tmp_path / "runs" / "step_000000001"
    folder.mkdir(parents=True)
    (folder / "state.pt").write_bytes(pickle.dumps(Evil()))
    (folder / "hashes.json").write_text(json.dumps({"state.pt": checkpoint._digest(folder / "state.pt")}))
    with pytest.raises(pickle.UnpicklingError):
        checkpoint.load_newest(tmp_path / "runs")
    assert not (tmp_path / "owned").exists()
