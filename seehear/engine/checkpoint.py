"""Saved states: written whole or not at all, checked when read, the newest valid one wins."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch

from seehear.errors import RunError
from seehear.files import sync_folder, temporary_beside
from seehear.types import Assignment

_STATE, _ASSIGNMENT, _HASHES = "state.pt", "assignment.parquet", "hashes.json"


def save(folder: Path, step: int, state: dict[str, Any], assignment: Assignment | None, keep: int) -> Path:
    """Write `folder/step_N` and delete all but the newest `keep`.

    `state` may hold tensors, numbers, texts and containers of these. Raises `RunError` when the disk is full;
    the states saved before stay valid.
    """
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"step_{step:09d}"
    temporary = temporary_beside(final)
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        with open(temporary / _STATE, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        if assignment is not None:
            assignment.save(temporary / _ASSIGNMENT)
        hashes = {path.name: _digest(path) for path in sorted(temporary.iterdir())}
        (temporary / _HASHES).write_text(json.dumps(hashes))
        for path in temporary.iterdir():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
        sync_folder(temporary)
        shutil.rmtree(final, ignore_errors=True)  # the same step saved again, e.g. after a resume
        os.rename(temporary, final)
        sync_folder(folder)
    except (OSError, RuntimeError) as error:  # torch.save reports a full disk as RuntimeError
        shutil.rmtree(temporary, ignore_errors=True)
        full = isinstance(error, RuntimeError) or error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise RunError(
            f"cannot save the state of step {step} in {folder}: {error}",
            "free some disk space and resume: the state saved before is untouched" if full else None,
        ) from error
    for old in sorted(folder.glob("step_*"))[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def load_newest(folder: Path) -> tuple[dict[str, Any], Path | None] | None:
    """The newest state whose files are what was written, and where its assignment is; None if there is none."""
    for path in sorted(folder.glob("step_*"), reverse=True):
        if _valid(path):
            state = torch.load(path / _STATE, map_location="cpu", weights_only=True)
            assignment = path / _ASSIGNMENT
            return state, assignment if assignment.exists() else None
    return None


def _valid(path: Path) -> bool:
    try:
        hashes = json.loads((path / _HASHES).read_text())
        return _STATE in hashes and all(_digest(path / name) == digest for name, digest in hashes.items())
    except (OSError, ValueError):
        return False


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
