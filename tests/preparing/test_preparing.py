"""Preparing: what becomes of every file, going on after whatever stopped it, training from the copies."""

from __future__ import annotations

import csv
import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import seehear
from seehear.data import prepared
from seehear.data.datasets import open_data
from seehear.data.manifest import Manifest
from seehear.errors import DataError, DestinationError, UsageError
from seehear.media.identity import file_fingerprint
from seehear.media.recoding import Recoding
from seehear.preparing.run import Preparation, prepare
from seehear.preparing.shards import key_of, read_shard
from tests.commands import run
from tests.conftest import TINY_SETTINGS
from tests.corpus import make_broken, make_collection, make_video

SMALL = Recoding(32, 15.0, 10, 8000, ("video", "audio"))
ROOT = Path(__file__).parents[2]


def table(folder: Path) -> list[dict[str, Any]]:
    """The rows of the table of what became of each file."""
    return pq.read_table(folder / prepared.TABLE).to_pylist()


def shard_bytes(folder: Path) -> dict[str, bytes]:
    """The shards of a folder by name."""
    return {path.name: path.read_bytes() for path in sorted((folder / prepared.SHARDS).glob("*"))}


def make(source: Any, out: Path, **options: Any) -> Preparation:
    return prepare(source, out, options.pop("recoding", SMALL), **{"workers": 0, **options})


def in_small_shards(source: Any, out: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Preparation:
    """Several shards of a few copies each: the least size is for people."""
    monkeypatch.setattr("seehear.preparing.run.check_settings", lambda *_: None)
    return make(source, out, shard_bytes=60_000, **options)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table of eight videos."""
    return make_collection(tmp_path_factory.mktemp("few"), n=8, classes=4)


@pytest.fixture(scope="module")
def copies(few: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Their copies as files."""
    return make(few, tmp_path_factory.mktemp("copies") / "prepared").folder


def test_the_table_says_what_became_of_every_file(tmp_path):
    videos = tmp_path / "videos"
    reasons = make_broken(videos)
    make_video(videos / "deep" / "good.mp4", seconds=3) if (videos / "deep").mkdir() is None else None
    make_video(videos / "other.avi", seconds=3, codec="mpeg4", size=(128, 96))
    shutil.copy(videos / "other.avi", videos / "twin.avi")
    result = make(videos, tmp_path / "out", workers=2)
    rows = {row["video_id"]: row for row in table(result.folder)}
    assert {v: r["reason"] for v, r in rows.items() if r["outcome"] == "rejected"} == reasons | {
        "twin.avi": "duplicate"
    }
    good = {v: r for v, r in rows.items() if r["outcome"] == "prepared"}
    assert set(good) == {"deep/good.mp4", "other.avi"}
    for video_id, row in good.items():
        copy = result.folder / row["prepared_path"]
        assert (row["prepared_bytes"], row["prepared_fingerprint"]) == (copy.stat().st_size, file_fingerprint(copy))
        assert row["original_bytes"] == (videos / video_id).stat().st_size
        assert row["original_path"] == str(videos / video_id)
        assert row["original_fingerprint"] == file_fingerprint(videos / video_id)
        assert (row["start_seconds"], row["end_seconds"]) == (pytest.approx(0, abs=0.05), pytest.approx(3, abs=0.15))
        assert row["cpu_seconds"] > 0
    with open(result.folder / prepared.TABLE_CSV, newline="", encoding="utf-8") as file:
        assert [row["outcome"] for row in csv.DictReader(file)] == [row["outcome"] for row in rows.values()]
    facts = result.summary()
    assert (facts["prepared"], facts["rejected"], facts["failed"]) == (2, len(reasons) + 1, 0)
    manifest = seehear.scan(result.folder, workers=0)
    assert [row["video_id"] for row in manifest.usable_rows()] == sorted(good)
    assert f"{len(reasons) + 1} of {len(rows)} originals have no copy" in manifest.summary_text()


def test_ids_and_columns_of_the_originals_are_kept(few, copies):
    manifest, originals = seehear.scan(copies, workers=0), seehear.scan(few, workers=0)
    assert manifest.column("video_id") == originals.column("video_id")
    assert manifest.column("label") == originals.column("label")
    assert manifest.column("original_path") == originals.column("path")
    assert manifest.column("width") != originals.column("width")
    by_table = seehear.scan(copies / prepared.TABLE, workers=0)
    assert by_table.table.equals(manifest.table)


def test_the_table_of_copies_is_a_data_set(few, copies):
    of_copies, of_originals = open_data(copies / prepared.TABLE), open_data(few)
    assert [(r["label"], r["split"]) for r in of_copies.rows] == [(r["label"], r["split"]) for r in of_originals.rows]
    manifest = of_copies.manifest(need=("video", "audio"), min_seconds=1.0, workers=0)
    assert manifest.column("video_id") == [f"clips/clip_{i:04d}.mp4" for i in range(8)]
    assert manifest.column("split") == ["train"] * 6 + ["test"] * 2
    assert all(str(copies) in path for path in manifest.column("path"))


def test_a_part_of_a_table_is_prepared_where_it_is_asked_for(few, tmp_path):
    result = make(few, tmp_path / "out", where=["split=test"])
    assert [row["split"] for row in result.rows] == ["test", "test"]


def test_a_second_time_nothing_is_done(few, copies):
    before = {path: path.stat().st_mtime_ns for path in copies.rglob("*.mp4")}
    again = make(few, copies)
    assert again.made == 0
    assert {path: path.stat().st_mtime_ns for path in copies.rglob("*.mp4")} == before
    assert len(table(copies)) == 8


def test_what_changed_is_done_again_and_what_went_is_taken_out(few, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(few.parent, source)
    out = make(source / "clips", tmp_path / "out").folder
    first = {row["video_id"]: row["prepared_fingerprint"] for row in table(out)}
    make_video(source / "clips" / "clip_0003.mp4", seconds=3)
    (source / "clips" / "clip_0005.mp4").unlink()
    os.utime(source / "clips" / "clip_0006.mp4", ns=(1, 1))  # touched: its content is the same
    damaged = out / "videos" / "clip_0001.mp4"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"!")
    again = make(source / "clips", out)
    assert again.made == 2
    second = {row["video_id"]: row["prepared_fingerprint"] for row in table(out)}
    assert {v for v in first if second.get(v) != first[v]} == {"clip_0003.mp4", "clip_0005.mp4"}
    assert not (out / "videos" / "clip_0005.mp4").exists()
    assert make(source / "clips", out, recoding=Recoding(32, 10.0, 10, 8000, ("video", "audio"))).made == 7


def test_one_that_fails_costs_itself_alone(few, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(few.parent, source)
    manifest = seehear.scan(source / "labels.csv", workers=0)
    good = (source / "clips" / "clip_0002.mp4").read_bytes()
    (source / "clips" / "clip_0002.mp4").write_bytes(good[:-300])
    result = make(manifest, tmp_path / "out", workers=1)
    failed = [row for row in result.rows if row["outcome"] != "prepared"]
    assert [(r["video_id"], r["outcome"], r["reason"]) for r in failed] == [
        ("clips/clip_0002.mp4", "failed", "changed")
    ]
    (source / "clips" / "clip_0002.mp4").write_bytes(good)
    assert make(manifest, tmp_path / "out").made == 1


def test_one_that_takes_too_long_is_stopped(tmp_path):
    (tmp_path / "videos").mkdir()
    make_video(tmp_path / "videos" / "long.mp4", seconds=180)  # seconds of work, however late the clock is looked at
    manifest = seehear.scan(tmp_path / "videos", workers=0)
    with pytest.raises(DataError, match="timeout: took longer than"):
        make(manifest, tmp_path / "out", workers=2, timeout_seconds=0.01)
    with pytest.raises(DataError, match="not finished"):
        seehear.scan(tmp_path / "out")
    assert make(tmp_path / "videos", tmp_path / "out", workers=1).made == 1


# ---------------------------------------------------------------- shards


def test_shards_hold_the_same_bytes_as_files_with_an_index(few, copies, tmp_path, monkeypatch):
    out = in_small_shards(few, tmp_path / "out", monkeypatch).folder
    shards = sorted((out / prepared.SHARDS).iterdir())
    assert len(shards) > 2
    assert not (out / prepared.VIDEOS).exists()
    files = {row["video_id"]: (copies / row["prepared_path"]).read_bytes() for row in table(copies)}
    index = pq.read_table(out / prepared.INDEX).to_pylist()
    assert [row["video_id"] for row in index] == list(files)
    for row in index:
        with open(out / row["shard"], "rb") as file:
            file.seek(row["offset"])
            content = file.read(row["size"])
        assert content == files[row["video_id"]]
        assert row["checksum"] == file_fingerprint(copies / prepared.VIDEOS / f"{row['key']}.mp4")
        assert 2.4 < row["end_seconds"] - row["start_seconds"] < 2.7
    on_disk, packed = seehear.scan(copies, workers=0), seehear.scan(out, workers=0)
    assert packed.fingerprint() == on_disk.fingerprint()
    assert packed.column("label") == on_disk.column("label")


def test_webdataset_reads_the_shards(few, tmp_path, monkeypatch):
    webdataset = pytest.importorskip("webdataset")
    out = in_small_shards(few, tmp_path / "out", monkeypatch).folder
    shards = [str(path) for path in sorted((out / prepared.SHARDS).iterdir())]
    samples = list(webdataset.WebDataset(shards, shardshuffle=False).decode())
    rows = table(out)
    assert [sample["__key__"] for sample in samples] == [key_of(row["video_id"]) for row in rows]
    for sample, row in zip(samples, rows, strict=True):
        assert sample["json"]["video_id"] == row["video_id"]
        assert sample["json"]["label"] == row["label"]
        assert sample["json"]["fingerprint"] == row["prepared_fingerprint"]
        assert len(sample["mp4"]) == row["prepared_bytes"]


def test_files_become_shards_and_shards_files_without_making_anything_again(few, tmp_path, monkeypatch):
    out = tmp_path / "out"
    fresh = shard_bytes(in_small_shards(few, tmp_path / "fresh", monkeypatch).folder)
    first = make(few, out)
    files = {path.name: path.read_bytes() for path in out.rglob("*.mp4")}
    packed = in_small_shards(few, out, monkeypatch)
    assert (packed.made, shard_bytes(out)) == (0, fresh)
    loose = make(few, out)
    assert (loose.made, {path.name: path.read_bytes() for path in out.rglob("*.mp4")}) == (0, files)
    assert not (out / prepared.SHARDS).exists()
    assert not (out / prepared.INDEX).exists()
    assert first.made == 8


def test_shards_after_changes_are_those_of_a_fresh_start(few, tmp_path, monkeypatch):
    source, out = tmp_path / "source", tmp_path / "out"
    shutil.copytree(few.parent / "clips", source)
    late = source / "clip_0006.mp4"
    kept = late.read_bytes()
    late.unlink()
    in_small_shards(source, out, monkeypatch)
    first = shard_bytes(out)
    late.write_bytes(kept)
    make_video(source / "clip_0004.mp4", seconds=3)
    again = in_small_shards(source, out, monkeypatch)
    assert again.made == 2
    fresh = shard_bytes(in_small_shards(source, tmp_path / "fresh", monkeypatch).folder)
    assert shard_bytes(out) == fresh
    assert first["000000.tar"] == fresh["000000.tar"]
    assert not list(out.rglob("*.mp4"))


def test_a_damaged_shard_is_named_and_made_whole_again(few, tmp_path, monkeypatch):
    out = in_small_shards(few, tmp_path / "out", monkeypatch).folder
    whole = shard_bytes(out)
    first, second = out / prepared.SHARDS / "000000.tar", out / prepared.SHARDS / "000001.tar"
    place = read_shard(first)[0].place
    content = bytearray(whole["000000.tar"])
    content[place.offset + place.size // 2] ^= 255
    first.write_bytes(content)
    second.write_bytes(whole["000001.tar"][:30_000])
    rows = {row["path"]: row for row in seehear.scan(out, workers=0).rejected_rows()}
    assert {row["reason"] for row in rows.values()} == {"changed", "truncated"}
    assert all(str(first) in path for path, row in rows.items() if row["reason"] == "changed")
    assert all(str(second) in path for path, row in rows.items() if row["reason"] == "truncated")
    again = in_small_shards(few, out, monkeypatch)
    assert 0 < again.made < 8
    assert shard_bytes(out) == whole


def test_keys_are_plain_and_never_meet():
    ids = ["a/b.mp4", "a/b.avi", "a/b.c.mp4", "a/b_c.mp4", "../x.mp4", ".hidden.mp4", "a b/ü.mp4", f"{'n' * 300}.mp4"]
    keys = [key_of(video_id) for video_id in ids]
    assert len(set(keys)) == len(ids)
    assert keys[0] == "a/b"
    assert keys[6] == "a b/ü"
    assert all("." not in key and len(os.fsencode(key.split("/")[-1])) < 250 for key in keys)


@pytest.mark.parametrize("sharded", [False, True])
def test_copies_are_read_again_only_where_their_time_changed_or_it_is_asked_for(few, tmp_path, monkeypatch, sharded):
    out, read = tmp_path / "out", []

    def again(**options: Any) -> int:
        read.clear()
        return (in_small_shards if sharded else make)(few, out, *([monkeypatch] if sharded else []), **options).made

    def fingerprint(path: str) -> str:
        read.append(path)
        return file_fingerprint(path)

    assert again() == 8
    monkeypatch.setattr("seehear.preparing.run.file_fingerprint", fingerprint)
    assert (again(), len(read)) == (0, 0)
    assert (again(verify=True), len(read)) == (0, 8)
    assert (again(), len(read)) == (0, 0)
    file = min(out.rglob("*.tar" if sharded else "*.mp4"))
    within = sum(len(row["prepared_path"].partition(file.name)[1]) > 0 for row in table(out))
    os.utime(file)
    assert (again(), len(read)) == (0, within)
    # A byte that changed by itself, without a trace in the file system.
    status, data = file.stat(), bytearray(file.read_bytes())
    row = next(row for row in table(out) if file.name in row["prepared_path"])
    data[data.index(b"mdat") + 100] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (again(), len(read)) == (0, 0)
    assert (again(verify=True), len(read)) == (1, 8)
    assert {r["video_id"]: r for r in table(out)}[row["video_id"]]["prepared_fingerprint"] == row[
        "prepared_fingerprint"
    ]


# ---------------------------------------------------------------- stopped


def test_killed_at_every_rename_it_leaves_what_it_leaves_undisturbed(few, tmp_path):
    out = tmp_path / "out"
    found = subprocess.run(
        [sys.executable, "-m", "tests.preparing.killed", str(few), str(out)],
        cwd=ROOT, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    ended = json.loads(found.stdout)
    assert ended["codes"][-1] == 0, found.stderr
    assert set(ended["codes"][:-1]) == {-signal.SIGKILL}
    assert len([path for path in ended["paths"] if path.startswith("videos")]) == 8
    assert {"shards/000000.tar", prepared.TABLE, prepared.INDEX} <= set(ended["paths"])
    fresh = make(few, tmp_path / "fresh", shard_bytes=1_000_000).folder
    assert shard_bytes(out) == shard_bytes(fresh)
    timed = ("seconds", "cpu_seconds")
    same = [[{k: v for k, v in row.items() if k not in timed} for row in table(folder)] for folder in (out, fresh)]
    assert same[0] == same[1]
    assert not list(out.rglob(".*.tmp"))


def test_killed_while_processes_work_the_same_command_goes_on(tmp_path):
    videos = tmp_path / "videos"
    videos.mkdir()
    frames = np.random.default_rng(0).integers(0, 255, (30, 96, 128, 3), dtype=np.uint8)
    for number in range(6):
        make_video(
            videos / f"{number}.mp4", seconds=6, frames=lambda i, _, n=number: frames[(i + n) % 30], size=(128, 96)
        )
    out = tmp_path / "out"
    command = [sys.executable, "-m", "seehear", "prepare", str(videos), "--out", str(out), "--workers", "2"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    journal, until = out / prepared.JOURNAL, time.monotonic() + 60
    while time.monotonic() < until and not (journal.exists() and '"prepared"' in journal.read_text()):
        time.sleep(0.02)
    process.kill()
    process.wait()
    with pytest.raises(DataError, match="not finished"):
        seehear.scan(out)
    finished = journal.read_text().count('"prepared"')
    assert 0 < finished < 6
    result = seehear.prepare(videos, out=out, workers=1)
    assert result.made == 6 - finished
    assert len(list((out / "videos").glob("*.mp4"))) == 6


def test_a_full_disk_ends_it_and_room_lets_it_go_on(few, tmp_path):
    source, out = tmp_path / "source", tmp_path / "out"
    shutil.copytree(few.parent / "clips", source)
    noise = np.random.default_rng(0).integers(0, 255, (20, 256, 256, 3), dtype=np.uint8)
    make_video(source / "large.mp4", seconds=3, frames=lambda i, _: noise[i % 20], size=(256, 256))
    code = (
        "import resource, sys; from seehear.cli import main; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY)); main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, "prepare", str(source), "--out", str(out), "--workers", "1"]
    stopped = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert stopped.returncode == UsageError.exit_code
    assert "large.mp4" in stopped.stderr
    assert os.strerror(errno.EFBIG) in stopped.stderr
    assert "the same command again" in stopped.stderr
    assert not list(out.rglob("*.tmp"))
    again = seehear.prepare(source, out=out, workers=1)
    assert again.made == 1
    assert again.summary()["prepared"] == 9


# ---------------------------------------------------------------- training


def test_training_from_files_and_from_shards_gives_the_same_bits(copies, few, tmp_path, monkeypatch):
    out = in_small_shards(few, tmp_path / "out", monkeypatch).folder
    settings = [*TINY_SETTINGS, "rounds=1", "optim.epochs=1", "optim.warmup_epochs=0", "clip.short_side_px=32",
                "data.cache_gib=0", "cluster.k=2", "data.workers=1"]  # fmt: skip
    runs = []
    for number, source in enumerate((copies, out)):
        runs.append(tmp_path / f"run{number}")
        seehear.pretrain(source, runs[-1], settings=settings, quiet=True)
    weights = [(run_folder / "model" / "model.safetensors").read_bytes() for run_folder in runs]
    assert weights[0] == weights[1]
    labels = [pq.read_table(run_folder / "labels.parquet") for run_folder in runs]
    assert labels[0].equals(labels[1])
    scores = seehear.evaluate(runs[1], labels=few)["scores"]  # by the table of the originals
    assert scores["both"]["n"] == 8


# ---------------------------------------------------------------- mistakes


def test_mistakes_are_said_before_anything_is_done(few, tmp_path, capsys):
    out = tmp_path / "out"
    for arguments, words in (
        (["--short-side", "33"], "an even number"),
        (["--audio-rate", "24414"], "AAC knows"),
        (["--fps", "0"], "frames a second"),
        (["--shard-mb", "5"], "add --shards"),
        (["--shards", "--shard-mb", "0"], "a megabyte"),
        (["--timeout", "0"], "above 0"),
    ):
        code, _, error = run(capsys, "prepare", few, "--out", out, *arguments)
        assert (code, words in error) == (2, True), error
    assert not out.exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="there is something in"):
        make(few, tmp_path / "other")
    with pytest.raises(UsageError, match="lie within each other"):
        make(few.parent, few.parent / "prepared")


def test_two_at_once_do_not_work_in_one_folder(few, copies):
    with open(copies / ".lock", "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="another process"):
            make(few, copies)
    assert len(table(copies)) == 8


def test_a_place_that_cannot_be_written_is_named(few, tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(DestinationError, match="taken"):
        make(few, tmp_path / "taken" / "out")


def test_a_source_of_which_nothing_can_be_used_leaves_no_copies(tmp_path):
    videos = tmp_path / "videos"
    videos.mkdir()
    (videos / "a.mp4").write_bytes(b"no video")
    with pytest.raises(DataError, match="no usable video"):
        make(videos, tmp_path / "out")


def test_the_command_says_what_it_did_and_what_comes_next(tmp_path, capsys):
    videos = tmp_path / "videos"
    make_broken(videos)
    make_video(videos / "good.mp4", seconds=3)
    arguments = ("prepare", videos, "--out", tmp_path / "out", "--workers", "1", "--short-side", "32", "--shards")
    code, out, _ = run(capsys, *arguments)
    assert code == 0
    assert "1 of 22 files prepared, 1 of them now" in out
    assert "1 rejected: silent" in out
    assert f"seehear pretrain {tmp_path / 'out'}" in out
    code, out, _ = run(capsys, *arguments, "--json")
    facts = json.loads(out)
    assert (code, facts["prepared"], facts["made_now"], facts["reasons"]["truncated"]) == (0, 1, 0, 5)
    assert Manifest.is_manifest(tmp_path / "out" / "originals.parquet")
