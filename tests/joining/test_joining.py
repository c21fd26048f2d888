"""Parts done one by one, in any order, come to what one process makes, byte for byte."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import seehear
from seehear.cli import main
from seehear.data.manifest import Manifest
from seehear.errors import DataError, UsageError
from seehear.features.headlabels import ranked
from seehear.parts import PartFolder, parts_of
from seehear.search.index import Index
from tests.corpus import make_video
from tests.joining.parted import SMALL, work
from tests.search.made import copied

OUT = {"scan": "out.parquet", "embed": "out.parquet", "label": "out.csv"}


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(("kind", "parts"), [("scan", 3), ("embed", 2), ("label", 3)])
def test_parts_joined_are_the_file_of_one_process(kind, parts, mixed, finished_run, tmp_path):
    one, many = tmp_path / "one" / OUT[kind], tmp_path / "many" / OUT[kind]
    whole = work(kind, finished_run, mixed, one)
    rows = 0
    for number in reversed(range(1, parts + 1)):
        part = work(kind, finished_run, mixed, many, part=f"{number}/{parts}")
        rows += len(part) if kind == "scan" else part.num_rows
    assert not many.exists()
    assert len(list(parts_of(many).glob("block-*"))) >= 3
    made = seehear.join_parts(many)
    assert made["rows"] == rows == len(whole)
    assert (made["kind"], made["out"]) == (kind, str(many))
    assert many.read_bytes() == one.read_bytes()
    assert not parts_of(many).exists()


@pytest.mark.parametrize("shards", [False, True])
def test_copies_made_in_parts_are_those_of_one_process(shards, mixed, tmp_path, monkeypatch):
    monkeypatch.setattr("seehear.preparing.in_parts.LEAST_SECONDS", 10.0)
    one, many = tmp_path / "one", tmp_path / "many"
    work("prepare", tmp_path, mixed, one, shards=shards)
    for part in ("3/3", "1/3", "2/3"):
        written = work("prepare", tmp_path, mixed, many, shards=shards, part=part)
        assert written.num_rows > 0
    monkeypatch.setattr("seehear.preparing.run.recode", None)  # nothing is left to make
    made = seehear.join_parts(many)
    table = pq.read_table(one / "prepared.parquet")
    timed = ["seconds", "cpu_seconds"]
    assert pq.read_table(many / "prepared.parquet").drop_columns(timed).equals(table.drop_columns(timed))
    assert made["rows"] == len(table) and not parts_of(many).exists()
    copies = {p.relative_to(one): p for ending in ("mp4", "tar") for p in one.rglob(f"*.{ending}")}
    assert len(copies) == (1 if shards else sum(o == "prepared" for o in table["outcome"].to_pylist()))
    for name, path in copies.items():
        assert (many / name).read_bytes() == path.read_bytes()
    assert {p.name for p in one.iterdir()} == {p.name for p in many.iterdir()}
    again = work("prepare", tmp_path, mixed, many, shards=shards, part="1/1")
    assert again.items == 0  # all is there


@pytest.mark.usefixtures("small_blocks")
def test_parts_of_an_index_come_to_the_generation_of_one_process(mixed, finished_run, tmp_path):
    one, many = copied(finished_run, tmp_path / "one"), copied(finished_run, tmp_path / "many")
    whole = work("index", one, mixed, tmp_path)
    counts = [work("index", many, mixed, tmp_path, part=f"{number}/3")["videos"] for number in (3, 1, 2)]
    assert sum(counts) == whole["videos"] and min(counts) > 0
    made = seehear.join_parts(many / "index")
    assert made["rows"] == whole["segments"]
    first, second = Index.open(one), Index.open(many)
    assert first.generation == second.generation  # it names all that is in it
    for name, x in first.features.items():
        assert np.array_equal(x, second.features[name], equal_nan=True)
    assert made["left_out"] == whole["left_out"] != []
    assert not parts_of(many / "index").exists()


@pytest.mark.usefixtures("small_blocks")
def test_an_index_that_is_there_is_gone_on_with_in_parts(mixed, finished_run, tmp_path):
    one, many = copied(finished_run, tmp_path / "one"), copied(finished_run, tmp_path / "many")
    table = pq.read_table(mixed)
    some = tmp_path / "some.parquet"
    pq.write_table(table.filter(pa.array([i % 3 != 0 for i in range(len(table))])), some)
    for run in (one, many):
        work("index", run, some, tmp_path)
    whole = work("index", one, mixed, tmp_path)
    for part in ("1/2", "2/2"):
        work("index", many, mixed, tmp_path, part=part)
    seehear.join_parts(many / "index")
    assert Index.open(one).generation == Index.open(many).generation
    assert 0 < whole["kept"] < whole["videos"]
    assert work("index", many, mixed, tmp_path, part="1/2")["videos"] == 0  # nothing is missing any more
    assert seehear.join_parts(many / "index")["rows"] == whole["segments"]


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("head", [1, "consensus"])
def test_labels_by_heads_are_those_of_one_process(head, selavi_run, collection, tmp_path):
    seehear.scan(collection.parent / "clips", out=tmp_path / "manifest.parquet", workers=0)
    options = {"every_seconds": 1.0, "head": head, "workers": 0}
    whole = seehear.label(selavi_run, tmp_path / "manifest.parquet", out=tmp_path / "one.parquet", **options)
    for part in ("2/2", "1/2"):
        seehear.label(selavi_run, tmp_path / "manifest.parquet", out=tmp_path / "many.parquet", part=part, **options)
    seehear.join_parts(tmp_path / "many.parquet")
    joined = pq.read_table(tmp_path / "many.parquet")
    assert set(whole["labelled_by"].to_pylist()) == {"both"}
    assert joined.equals(whole.drop_columns(["labelled_by"]))
    assert 0 < np.mean(joined["agreement"].to_numpy()) <= 1


def test_the_agreement_is_that_of_a_literal_count():
    rng = np.random.default_rng(0)
    chosen, others = rng.integers(0, 4, 50).astype(np.int32), rng.integers(0, 4, (50, 3)).astype(np.int32)
    distance = rng.random(50).astype(np.float32)
    found = ranked({"cluster": chosen, "distance": distance, "confidence": distance, "others": others})
    for row in range(50):
        agree = []
        for head in range(3):
            of = chosen[others[:, head] == others[row, head]]  # rows that the other head puts in the same cluster
            agree.append(np.bincount(of, minlength=4).argmax() == chosen[row])
        assert found["agreement"][row] == pytest.approx(np.mean(agree))
        better = (chosen == chosen[row]) & (distance < distance[row])
        assert found["rank"][row] == better.sum() + 1


def test_copies_are_found_across_parts_as_in_one_scan(mixed, tmp_path):
    for part in ("1/3", "2/3", "3/3"):
        seehear.scan(mixed.parent / "videos", out=tmp_path / "many.parquet", workers=0, part=part)
    seehear.join_parts(tmp_path / "many.parquet")
    rows = {row["video_id"]: row for row in Manifest.load(tmp_path / "many.parquet").rows()}
    first, last = rows["a copy.mp4"], rows["zz copy.mp4"]
    assert first["usable"] and not last["usable"]
    assert (last["reason"], last["duplicate_of"]) == ("duplicate", "a copy.mp4")
    alike = [row for row in rows.values() if row["fingerprint"] == first["fingerprint"]]
    assert len(alike) == 3 and sum(row["usable"] for row in alike) == 1


def test_a_second_scan_in_parts_looks_at_what_changed_alone(mixed, tmp_path, monkeypatch):
    out = tmp_path / "clips.parquet"
    seehear.scan(mixed.parent / "videos", out=out, workers=0)
    before = out.read_bytes()
    looked: list[str] = []
    probe_one = seehear.data.scanning._probe_one
    monkeypatch.setattr(
        "seehear.data.scanning._probe_one", lambda path, *rest: looked.append(path) or probe_one(path, *rest)
    )
    for part in ("1/2", "2/2"):
        seehear.scan(mixed.parent / "videos", out=out, workers=0, part=part)
    seehear.join_parts(out)
    assert out.read_bytes() == before
    assert len(looked) < 5  # those whose reason may have passed


@pytest.mark.usefixtures("small_blocks")
def test_a_part_that_is_missing_is_named_and_no_file_is_written(mixed, finished_run, tmp_path):
    work("embed", finished_run, mixed, tmp_path / "out.parquet", part="2/2")
    with pytest.raises(DataError, match=r"blocks missing: 0, 2") as raised:
        seehear.join_parts(tmp_path / "out.parquet")
    assert "part 1/2" in raised.value.remedy
    assert not (tmp_path / "out.parquet").exists()
    work("embed", finished_run, mixed, tmp_path / "out.parquet", part="1/2")
    seehear.join_parts(tmp_path / "out.parquet")


def test_a_part_on_a_machine_without_the_videos_leaves_no_block(mixed, finished_run, tmp_path):
    manifest = tmp_path / "clips.parquet"
    (tmp_path / "videos").symlink_to(mixed.parent / "videos")
    seehear.scan(tmp_path / "videos", out=manifest, workers=0)
    (tmp_path / "videos").unlink()  # as where the file system is not mounted
    for kind in ("embed", "prepare"):
        with pytest.raises(UsageError, match="does not see"):
            work(kind, finished_run, manifest, tmp_path / kind / "out.parquet", part="1/2")
        assert not list(parts_of(tmp_path / kind / "out.parquet").glob("block-*"))


@pytest.mark.usefixtures("small_blocks")
def test_parts_of_other_videos_or_settings_are_refused(mixed, finished_run, tmp_path):
    out = tmp_path / "out.parquet"
    work("embed", finished_run, mixed, out, part="1/2")
    fewer = tmp_path / "fewer.parquet"
    pq.write_table(pq.read_table(mixed).slice(4), fewer)
    with pytest.raises(DataError, match="other files or with other settings"):
        work("embed", finished_run, fewer, out, part="2/2")
    with pytest.raises(DataError, match="other files or with other settings"):
        work("embed", finished_run, mixed, out, part="2/2", modality="audio")
    with pytest.raises(DataError, match="parts of `seehear embed`"):
        seehear.label(finished_run, mixed, out=out, part="2/2", workers=0)


def test_an_index_of_parts_of_another_manifest_is_refused(mixed, finished_run, tmp_path):
    run, manifest = copied(finished_run, tmp_path / "run"), tmp_path / "manifest.parquet"
    manifest.write_bytes(mixed.read_bytes())
    work("index", run, manifest, tmp_path, part="1/1")
    pq.write_table(pq.read_table(mixed).slice(4), manifest)
    with pytest.raises(DataError, match="other files"):
        seehear.join_parts(run / "index")
    assert not list((run / "index").glob("generation-*"))


def test_what_would_have_to_be_scanned_first_is_refused(mixed, finished_run, selavi_run, tmp_path):
    for kind in ("embed", "label", "index", "prepare"):
        with pytest.raises(UsageError, match="scan") as raised:
            work(kind, finished_run, mixed.parent / "videos", tmp_path / "out.parquet", part="1/2")
        assert "seehear scan" in raised.value.remedy
    with pytest.raises(UsageError, match="own videos already"):
        seehear.label(finished_run, out=tmp_path / "out.csv", part="1/2")
    with pytest.raises(UsageError, match="look at them again for one"):
        seehear.label(selavi_run, mixed, out=tmp_path / "out.csv", part="1/2")
    with pytest.raises(UsageError, match="one after the other"):
        seehear.label(selavi_run, mixed, out=tmp_path / "out.csv", part="1/2", running=tmp_path / "running.json")
    with pytest.raises(UsageError, match="beside the result"):
        seehear.scan(mixed.parent / "videos", part="1/2")


def test_a_copy_is_not_labelled_by_one_stream_for_being_a_copy(mixed, selavi_run):
    table = seehear.label(selavi_run, mixed, workers=0)
    by = dict(zip(table["video"].to_pylist(), table["labelled_by"].to_pylist(), strict=True))
    assert by["a copy.mp4"] == "both" and "zz copy.mp4" not in by
    assert set(by.values()) == {"both", "video", "audio"}


@pytest.mark.usefixtures("small_blocks")
def test_files_that_fail_are_reported_by_their_part_and_when_joined(mixed, finished_run, tmp_path):
    """A file that was replaced since it was scanned fails for its own fault, and takes no other with it."""
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        make_video(videos / name, seconds=3 + ord(name[0]) % 3)
    seehear.scan(videos, out=tmp_path / "clips.parquet", workers=0)
    make_video(videos / "b.mp4", seconds=7)
    out = tmp_path / "features.parquet"
    written = seehear.embed(finished_run, tmp_path / "clips.parquet", out=out, part="1/1", workers=0)
    assert [(r["video_id"], r["reason"]) for r in written.left_out] == [("b.mp4", "changed")]
    assert seehear.join_parts(out)["left_out"] == list(written.left_out)
    assert pq.read_table(out)["video_id"].to_pylist() == ["a.mp4", "c.mp4"]


@pytest.mark.parametrize("kind", ["embed", "label"])
def test_blocks_of_which_nothing_decodes_take_no_other_with_them(kind, finished_run, tmp_path, monkeypatch):
    monkeypatch.setattr("seehear.features.blocks.block_edges", lambda clips, config: tuple(range(len(clips) + 1)))
    monkeypatch.setattr("seehear.labelling.in_parts.block_edges", lambda clips, config: tuple(range(len(clips) + 1)))
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        make_video(videos / name, seconds=3 + ord(name[0]) % 3)
    manifest = tmp_path / "clips.parquet"
    seehear.scan(videos, out=manifest, workers=0)
    (videos / "a.mp4").unlink()
    command = {"embed": seehear.embed, "label": seehear.label}[kind]
    whole = command(finished_run, manifest, out=tmp_path / "one.parquet", workers=0)
    command(finished_run, manifest, out=tmp_path / "many.parquet", workers=0, part="1/1")
    assert whole.num_rows == 2
    assert len(seehear.join_parts(tmp_path / "many.parquet")["left_out"]) == 1
    assert (tmp_path / "many.parquet").read_bytes() == (tmp_path / "one.parquet").read_bytes()
    for path in videos.iterdir():
        path.unlink()
    command(finished_run, manifest, out=tmp_path / "none.parquet", workers=0, part="1/1")
    with pytest.raises(DataError, match="not one clip"):
        seehear.join_parts(tmp_path / "none.parquet")
    assert not (tmp_path / "none.parquet").exists()


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("kind", ["scan", "embed"])
def test_a_part_that_is_killed_does_again_what_it_was_at_alone(kind, mixed, finished_run, tmp_path):
    out = tmp_path / "out.parquet"
    words = {
        "scan": ["scan", str(mixed.parent / "videos")],
        "embed": ["embed", str(finished_run), str(mixed), "--every", ".5"],
    }[kind]
    code = f"{SMALL if kind == 'embed' else 'pass'}; from seehear.cli import main; main()"
    command = [sys.executable, "-c", code, *words, "--out", str(out), "--workers", "0", "--part", "1/1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(parts_of(out).glob("block-*")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    folder = PartFolder.open(out)
    there = {p.name: p.stat().st_mtime_ns for p in parts_of(out).glob("block-*")}
    assert 0 < len(there) < folder.plan.count
    work(kind, finished_run, mixed, out, part="1/1")
    assert {name: (folder.path / name).stat().st_mtime_ns for name in there} == there
    seehear.join_parts(out)
    work(kind, finished_run, mixed, tmp_path / "one.parquet")
    assert out.read_bytes() == (tmp_path / "one.parquet").read_bytes()


def test_the_commands_say_what_to_do_next(mixed, finished_run, tmp_path, capsys):
    out = str(tmp_path / "labels.csv")
    main(["label", str(finished_run), str(mixed), "--out", out, "--workers", "0", "--part", "1/1"])
    assert f"part 1/1 is done; when all are: seehear join {out}" in capsys.readouterr().out
    main(["join", out, "--json"])
    made = json.loads(capsys.readouterr().out)
    assert (made["kind"], made["unit"]) == ("label", "segments")
    main(["scan", str(mixed.parent / "videos"), "--out", f"{tmp_path}/m.parquet", "--workers", "0", "--part", "1/1"])
    assert "seehear join" in capsys.readouterr().out
    main(["join", f"{tmp_path}/m.parquet"])
    assert "files of" in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        main(["join", f"{tmp_path}/m.parquet"])
    assert end.value.code == DataError.exit_code
