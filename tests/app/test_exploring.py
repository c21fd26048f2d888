"""`seehear explore`: one command from videos to the page, as often as one likes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pyarrow.parquet as pq
import pytest

import seehear
from seehear.app.exploring import FEWEST_VIDEOS, choose, default_folder, prepare
from seehear.engine.runfolder import RunFolder
from seehear.errors import DataError, RunError
from tests.app.conftest import Server, make_h264
from tests.conftest import TINY_SETTINGS
from tests.corpus import make_video

EXPLORE = (
    "import sys, seehear\n"
    "from seehear import progress\n"
    "from tests.conftest import TINY_SETTINGS\n"
    "from seehear.cli import main\n"
    "import seehear.app.exploring as e\n"
    "prepare = e.prepare\n"
    "e.prepare = lambda videos, out, **o: prepare(videos, out, **(o | {'settings': TINY_SETTINGS}))\n"
    "main(['explore', *sys.argv[1:]])\n"
)


@pytest.mark.parametrize(
    ("spans", "cores", "rounds", "epochs"),
    [
        (12, 2, 14, 10),  # few: all of the recipe's rounds
        (4000, 2, 14, 10),
        (12000, 2, 5, 10),  # 100 hours: fewer rounds
        (120000, 2, 4, 2),  # 1000 hours: fewer epochs too
        (120000, 66, 14, 10),  # with a GPU
        (50000, 2, 4, 3),
    ],
)
def test_what_is_chosen_follows_the_rule(spans, cores, rounds, epochs):
    found = choose(spans, cores, rounds=14, epochs=10)
    assert "cluster.auto=true" in found.settings
    assert (found.rounds, found.epochs) == pytest.approx((rounds, epochs), abs=3)
    assert found.visits <= max(300_000 * cores, spans * 8)


def test_the_run_is_named_after_the_videos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "My films (2024)").mkdir()
    assert str(default_folder("My films (2024)/")) == "runs/My-films-2024"
    (tmp_path / "table.csv").write_text("path\n")
    assert str(default_folder("table.csv")) == "runs/table"
    assert str(default_folder("/")) == "runs/videos"


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return make_h264(tmp_path_factory.mktemp("explored") / "videos", count=14, seconds=3.0)


@pytest.fixture(scope="module")
def explored(videos):
    run = videos.parent / "run"
    prepare(videos, run, workers=1, settings=TINY_SETTINGS)
    return run


def test_all_is_there_at_the_end(explored):
    assert pq.read_table(explored / "labels.parquet").num_rows == 14
    assert (explored / "labels.csv").exists()
    config = RunFolder(explored).load_config()
    assert (config.recipe, config.optim.label_smoothing) == ("archive", 0.1)
    server = Server(explored)
    told = server.get("/api/run")
    assert (told["videos"], told["indexed_every"]) == (14, 2.0)
    assert server.stop() == 0


def test_a_second_time_nothing_is_done_again(explored, videos):
    before = {name: (explored / name).stat().st_mtime_ns for name in ("labels.parquet", "labels.csv", "metrics.jsonl")}
    began = time.monotonic()
    prepare(videos, explored, workers=1, settings=TINY_SETTINGS)
    assert {name: (explored / name).stat().st_mtime_ns for name in before} == before
    assert time.monotonic() - began < 30


def test_new_videos_are_put_into_the_index(explored, videos, tmp_path, capsys):
    shutil.copytree(videos, tmp_path / "videos")
    shutil.copytree(explored, tmp_path / "run")
    make_video(tmp_path / "videos" / "new.mp4", seconds=4, fps=10)
    from seehear import progress

    with progress.shown():
        prepare(tmp_path / "videos", tmp_path / "run", workers=1, settings=TINY_SETTINGS)
    told = capsys.readouterr().err
    assert "1 video is new" in told
    assert "learnt already" in told
    from seehear.search.index import Index

    assert "new.mp4" in [video.video_id for video in Index.open(tmp_path / "run").segments.videos]


def test_a_run_of_other_videos_is_not_touched(explored, tmp_path):
    others = make_h264(tmp_path / "others", count=13, seconds=2.5)
    with pytest.raises(RunError, match="other videos"):
        prepare(others, explored, workers=1, settings=TINY_SETTINGS)


def test_a_folder_of_something_else_is_not_touched(videos, tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(RunError, match="not empty"):
        prepare(videos, tmp_path, workers=1, settings=TINY_SETTINGS)
    assert [p.name for p in tmp_path.iterdir()] == ["note.txt"]


def test_too_few_videos_are_an_error_that_says_how_many_there_must_be(tmp_path):
    few = make_h264(tmp_path / "few", count=3, seconds=2.5)
    (few / "bad.mp4").write_bytes(b"no")
    with pytest.raises(DataError, match=f"3 usable videos .* {FEWEST_VIDEOS}"):
        prepare(few, tmp_path / "run", workers=1, settings=TINY_SETTINGS)
    assert not (tmp_path / "run").exists()


def start(*words):
    return subprocess.Popen(
        [sys.executable, "-c", EXPLORE, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip


def test_killed_half_way_it_goes_on_and_ends_with_the_page(videos, tmp_path):
    run = tmp_path / "run"
    process = start(videos, "--out", run, "--no-open", "--port", "0", "--workers", "1")
    while process.poll() is None and not (run / "metrics.jsonl").exists():
        time.sleep(0.02)
    process.kill()  # in training
    process.communicate()
    assert not (run / "labels.parquet").exists()

    process = start(videos, "--out", run, "--no-open", "--port", "0", "--workers", "1")
    for line in process.stderr:
        if "3 of 4" in line:
            break
    process.send_signal(signal.SIGTERM)  # before or in the index
    process.communicate()

    process = start(videos, "--out", run, "--no-open", "--port", "0", "--workers", "1")
    line = process.stdout.readline()
    assert "http://127.0.0.1:" in line
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    steps = [line for line in errors.splitlines() if " of 4: " in line]
    assert [step[:7] for step in steps] == ["1 of 4:", "2 of 4:", "3 of 4:", "4 of 4:"]
    assert "learnt already" in steps[1]
    kinds = [json.loads(line)["kind"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert kinds.count("end") == 1


def test_an_interruption_says_to_give_the_same_command_again(videos, tmp_path):
    run = tmp_path / "run"
    process = start(videos, "--out", run, "--no-open", "--port", "0", "--workers", "1")
    while process.poll() is None and not (run / "metrics.jsonl").exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    if process.returncode == 0:
        pytest.skip("it was ready before the signal came")
    assert process.returncode == 75
    assert "same command again" in errors
    assert "--resume" not in errors


def test_python_has_the_same_commands():
    assert seehear.explore.command.name == "explore"
    assert seehear.serve.command.name == "serve"
