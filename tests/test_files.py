"""Folders and files that appear whole or not at all, and leave nothing behind."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from seehear import files
from seehear.errors import DestinationError, UsageError
from seehear.files import FORGOTTEN_SECONDS, new_folder, remove_leftovers, temporary_beside


def test_a_new_folder_appears_when_it_is_full(tmp_path):
    path = tmp_path / "deep" / "new"
    with new_folder(path) as temporary:
        (temporary / "inner").mkdir()
        (temporary / "inner" / "file").write_text("text")
        assert not path.exists()
    assert (path / "inner" / "file").read_text() == "text"
    assert [p.name for p in path.parent.iterdir()] == ["new"]


def fill_and_fail(path):
    with new_folder(path) as temporary:
        (temporary / "file").write_text("text")
        raise ZeroDivisionError


def test_a_failure_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError):
        fill_and_fail(tmp_path / "new")
    assert not list(tmp_path.iterdir())


def test_what_is_there_stays(tmp_path):
    (tmp_path / "empty").mkdir()
    with new_folder(tmp_path / "empty") as temporary:
        (temporary / "file").write_text("new")
    for taken in (tmp_path / "empty", tmp_path / "empty" / "file"):
        with pytest.raises(UsageError, match="there is something in"), new_folder(taken):
            pass
    assert (tmp_path / "empty" / "file").read_text() == "new"


def test_what_killed_processes_were_writing_is_removed_and_nothing_else(tmp_path):
    def written_by(process, name="state"):
        path = temporary_beside(tmp_path / "inner" / name)
        path = path.with_name(path.name.replace(f"-{os.getpid()}.", f"-{process}."))
        path.mkdir(parents=True)
        (path / "file").write_text("text")
        return path

    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    alive = written_by(os.getppid())
    gone = [written_by(dead.pid), written_by(os.getpid()), written_by(dead.pid, "a.b-c")]
    elsewhere = alive.with_name(".state.ffffffff-1.tmp")
    nameless, forgotten = alive.with_name(".model.safetensors.tmp"), alive.with_name(".old.77.tmp")
    for path in (elsewhere, nameless, forgotten):
        path.write_text("text")
    os.utime(forgotten, (0, os.stat(forgotten).st_mtime - FORGOTTEN_SECONDS - 60))
    others = [tmp_path / ".hidden", tmp_path / "table.tmp", tmp_path / "inner" / "file.1-2.tmp"]
    for path in others:
        path.write_text("text")
    remove_leftovers(tmp_path)
    assert not any(path.exists() for path in [*gone, forgotten])
    assert all(path.exists() for path in [alive, elsewhere, nameless, *others])


def test_a_scratch_file_is_there_for_a_block_and_those_of_dead_processes_go(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    kept = [f"seehear-{files._HOST}-{os.getppid()}-x.scratch", f"seehear-00000000-{dead.pid}-x.scratch", "seehear-x"]
    for name in (*kept, f"seehear-{files._HOST}-{dead.pid}-x.scratch"):
        (tmp_path / name).touch()
    with files.scratch_file(lambda file: file.write(b"content")) as path:
        assert Path(path).read_bytes() == b"content"
        assert {p.name for p in tmp_path.iterdir()} == {*kept, Path(path).name}
    assert {p.name for p in tmp_path.iterdir()} == {*kept}

    def full(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(DestinationError, match="TMPDIR"), files.scratch_file(full):
        pass
    assert {p.name for p in tmp_path.iterdir()} == {*kept}


def test_tables_are_cut_into_row_groups(monkeypatch):
    monkeypatch.setattr(files, "ROWS_AT_ONCE", 4)
    tables = [pa.table({"x": np.arange(start, end)}) for start, end in ((0, 3), (3, 3), (3, 12), (12, 13))]
    found = list(files.in_row_groups(tables))
    assert [t["x"].to_pylist() for t in found] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12]]
    assert all(t["x"].num_chunks == 1 for t in found)
    assert [len(t) for t in files.in_row_groups([*tables[:2], tables[3]])] == [4]  # nothing is left over
    assert [len(t) for t in files.in_row_groups([tables[1]])] == [0]
    with pytest.raises(ValueError, match="no table"):
        list(files.in_row_groups([]))
