"""An index survives kill -9 at any moment of its making, and ends as one that was never disturbed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from seehear.search.building import build_index
from seehear.search.index import Index
from tests.search.made import copied
from tests.search.test_index import contents

ONE_PART = "import seehear.search.embedding as e; e.PART_VIDEOS = 4; from seehear.cli import main; main()"


@pytest.fixture
def undisturbed(finished_run, collection, tmp_path, monkeypatch):
    """What an index of the collection holds if nothing happens, in parts of so many videos."""

    def make(part_videos: int) -> dict[str, object]:
        monkeypatch.setattr("seehear.search.embedding.PART_VIDEOS", part_videos)
        run = copied(finished_run, tmp_path / "undisturbed")
        build_index(run, collection.parent / "clips", every_seconds=0.5, workers=0)
        return contents(Index.open(run))

    return make


def test_a_build_that_is_killed_at_every_rename_ends_as_one_that_was_not(
    finished_run, collection, tmp_path, undisturbed
):
    run = copied(finished_run, tmp_path / "run")
    done = subprocess.run(
        [sys.executable, "-m", "tests.search.killing", str(run), str(collection.parent / "clips")],
        capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["codes"][-1] == 0 and set(found["codes"][:-1]) == {-signal.SIGKILL}
    assert sum("/parts/" in path for path in found["paths"]) == 5  # 24 videos, five a part
    assert any(path.endswith("current.json") for path in found["paths"])
    assert contents(Index.open(run)) == undisturbed(5)
    assert not [p for p in (run / "index").rglob("*") if p.name.endswith(".tmp") or p.name == "parts"]


@pytest.mark.parametrize("parts", [1, 3])
def test_the_command_killed_after_some_parts_embeds_only_the_others(
    parts, finished_run, collection, tmp_path, undisturbed
):
    run = copied(finished_run, tmp_path / "run")
    words = ["index", str(run), str(collection.parent / "clips"), "--every", ".5", "--workers", "0", "--json"]
    process = subprocess.Popen(
        [sys.executable, "-c", ONE_PART, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while len(list((run / "index").glob("parts/*/[!.]*.parquet"))) < parts:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    there = len(list((run / "index").glob("parts/*/[!.]*.parquet")))
    done = subprocess.run([sys.executable, "-c", ONE_PART, *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["embedded"] == 24 - 4 * there
    assert contents(Index.open(run)) == undisturbed(4)


def test_the_index_before_stays_in_force_until_the_next_is_whole(finished_run, collection, tmp_path, monkeypatch):
    run = copied(finished_run, tmp_path / "run")
    before = Index.open_or_make(run)

    def no_more(*_: object, **__: object) -> None:
        raise OSError(28, "no space left")

    monkeypatch.setattr("seehear.search.layout.write_array", no_more)
    with pytest.raises(OSError, match="no space left"):
        build_index(run, collection.parent / "clips", every_seconds=0.5, workers=0)
    after = Index.open(run)
    assert after.generation == before.generation
    assert np.isfinite(np.asarray(after.features["video"])).all()
    assert not list((run / "index").glob(".*.tmp"))
