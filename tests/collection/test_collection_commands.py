"""The commands that name, correct and take out, on a real run, as a person types them."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import seehear
from seehear.collection.pointing import pointed
from seehear.errors import UsageError
from tests.collection.made import small_index
from tests.commands import run as command


@pytest.fixture
def folder(finished_run, tmp_path):
    """A copy of a finished run, to edit."""
    return shutil.copytree(finished_run, tmp_path / "run")


def listed(capsys, folder, *more):
    code, out, err = command(capsys, "clusters", folder, "--json", *more)
    assert code == 0, err
    return json.loads(out)


def test_segments_that_may_belong_to_no_kind_are_counted(folder, capsys):
    assert all("doubtful" not in c for c in listed(capsys, folder)["clusters"])
    labels = pq.read_table(folder / "labels.parquet")
    doubt = np.where(np.arange(len(labels)) % 8 == 1, 0.8, 0.1).astype(np.float32)
    pq.write_table(labels.append_column("doubt", pa.array(doubt)), folder / "labels.parquet")
    shutil.rmtree(folder / "index")
    assert sum(c["doubtful"] for c in listed(capsys, folder)["clusters"]) == 3
    code, out, _ = command(capsys, "clusters", folder)
    assert code == 0 and "3 segments may belong to no kind" in out


def test_a_person_names_corrects_and_takes_out(folder, tmp_path, capsys):
    before = listed(capsys, folder)
    assert before["revision"] == 0 and sum(c["segments"] for c in before["clusters"]) == 24
    first, second = (c["id"] for c in before["clusters"][:2])
    code, out, _ = command(capsys, "name", folder, first, "chainsaw")
    assert code == 0 and out == f'named cluster {first} "chainsaw"\n'
    code, out, _ = command(capsys, "name", folder, second, "rain", "--json")
    assert code == 0 and json.loads(out)["kind"] == "name"
    code, _, err = command(capsys, "name", folder, second, "Chainsaw")
    assert code == 2 and "merge" in err
    code, _, err = command(capsys, "name", folder, "chainsw", "x")
    assert code == 2 and "did you mean chainsaw" in err

    collection = seehear.Collection(folder)
    video = collection.index.segments.video_of(0)
    clip = f"{video.video_id}#t={video.start_seconds:.3f},{video.end_seconds:.3f}"
    code, out, _ = command(capsys, "move", folder, clip, "--to", "rain")
    assert (code, out) == (0, 'moved 1 segment to "rain"\n')
    code, out, _ = command(capsys, "move", folder, video.path.name, "--new", "odd")
    assert code == 0 and 'a new cluster "odd"' in out
    assert command(capsys, "move", folder, clip)[0] == 2
    assert command(capsys, "reject", folder, clip)[0] == 0
    code, out, _ = command(capsys, "clusters", folder)
    assert "1 segment rejected" in out and "chainsaw" in out and "odd" in out
    assert command(capsys, "restore", folder, clip)[0] == 0
    code, _, err = command(capsys, "restore", folder, clip)
    assert code == 2 and "in place already" in err
    assert command(capsys, "merge", folder, "odd", "rain", "--into", "rain")[0] == 0
    assert command(capsys, "split", folder, "rain", "--parts", "2")[0] == 0
    for _ in range(2):
        assert command(capsys, "undo", folder)[0] == 0
    code, out, _ = command(capsys, "redo", folder)
    assert 'made again: merged "odd" into "rain"' in out
    code, out, _ = command(capsys, "edits", folder, "--limit", "3")
    assert len(out.splitlines()) == 3 and '(split "rain" into 2 parts)' not in out
    code, out, _ = command(capsys, "edits", folder)
    assert '(split "rain" into 2 parts)' in out
    assert all(e["author"] for e in json.loads(command(capsys, "edits", folder, "--json")[1]))

    code, out, _ = command(capsys, "export", folder, "--format", "csv", "--out", tmp_path / "o.csv")
    assert (code, out) == (0, f"24 segments: {tmp_path / 'o.csv'}\n")
    with open(tmp_path / "o.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {r["name"] for r in rows} >= {"chainsaw", "rain"} and rows[0]["confirmed"] == "true"
    code, out, _ = command(capsys, "export", folder, "--format", "edl", "--out", tmp_path / "o.edl", "--named")
    assert code == 0 and b"* COMMENT: rain" in (tmp_path / "o.edl").read_bytes()
    code, out, _ = command(capsys, "sample", folder, "-n", "6", "--balanced")
    assert code == 0 and len(out.splitlines()) == 6
    code, out, _ = command(capsys, "sample", folder, "-n", 5, "--videos", "--out", tmp_path / "s.csv", "--json")
    assert code == 0 and len(json.loads(out)) == 5 == len((tmp_path / "s.csv").read_text().splitlines()) - 1


def test_sight_and_sound_are_named_apart(folder, capsys):
    cluster = listed(capsys, folder, "--by", "audio")["clusters"][0]["id"]
    assert command(capsys, "name", folder, cluster, "loud", "--by", "audio")[0] == 0
    assert "loud" in {c["name"] for c in listed(capsys, folder, "--by", "audio")["clusters"]}
    assert "loud" not in {c["name"] for c in listed(capsys, folder)["clusters"]}
    code, _, err = command(capsys, "undo", folder)
    assert code == 2 and "nothing to undo" in err


def test_names_are_brought_over_from_another_run(folder, tmp_path, capsys):
    cluster = listed(capsys, folder)["clusters"][0]["id"]
    other = shutil.copytree(folder, tmp_path / "other")
    code, _, err = command(capsys, "name", other, "--from", folder)
    assert code == 2 and "nobody has edited" in err
    assert command(capsys, "name", folder, cluster, "mine")[0] == 0
    code, out, _ = command(capsys, "name", other, "--from", folder)
    assert (code, out) == (0, "brought 1 edit over from run\n")
    assert "mine" in {c["name"] for c in listed(capsys, other)["clusters"]}
    for wrong in (["name", other], ["name", other, cluster], ["name", other, cluster, "x", "--from", folder]):
        assert command(capsys, *wrong)[0] == 2


def test_names_survive_renamed_files_and_another_step(folder, tmp_path, capsys):
    collection = seehear.Collection(folder)
    largest = max(collection.clusters, key=lambda c: c.size)
    collection.name(largest.id, "common")
    row = int(collection.cluster("common").rows[-1])
    moved = collection.index.segments.video_of(row)
    collection.move([row], "special", new=True)
    kept = {collection.index.segments.video_of(int(r)).identity.fingerprint for r in largest.rows} - {
        moved.identity.fingerprint
    }
    for number, video in enumerate(collection.index.segments.videos):
        target = tmp_path / "elsewhere" / f"renamed {number}.mp4"
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(video.path, target)
    code, _, err = command(capsys, "index", folder, tmp_path / "elsewhere", "--every", 1)
    assert code == 0, err
    again = seehear.Collection(folder)
    assert len(again.index.segments) > len(collection.index.segments)
    special = {again.index.segments.video_of(int(r)) for r in again.cluster("special").rows}
    assert {v.identity.fingerprint for v in special} == {moved.identity.fingerprint}
    assert all(v.path.name.startswith("renamed") for v in special)
    rows = again.cluster("common").rows
    found = [again.index.segments.video_of(int(r)).identity.fingerprint for r in rows]
    # The model labels pieces of videos anew; those of the cluster's videos are still most of it.
    assert sum(f in kept for f in found) > len(found) / 2 and again.conflicts == []


def test_a_collection_is_searched_without_what_was_rejected(folder):
    collection = seehear.Collection(folder)
    first = collection.search(0, by="sound", k=3).hits[0].row
    collection.reject([first])
    assert first not in {h.row for h in collection.search(0, by="sound", k=23).hits}
    assert first in {h.row for h in collection.search(0, by="sound", k=23, rejected=True).hits}
    largest = max(collection.clusters, key=lambda c: c.size)
    assert {h.row for h in collection.search(0, k=24, cluster=largest.id).hits} <= set(largest.rows.tolist())
    video = collection.index.segments.video_of(1)
    assert collection.search((video.video_id, video.start_seconds, video.end_seconds), k=1).hits
    assert collection.search(video.path, k=1).hits[0].row == 1
    assert collection.duplicates(workers=1).groups == []


def test_what_cannot_be_written_is_told_before_any_work(folder, tmp_path, capsys):
    code, _, err = command(capsys, "export", folder, "--format", "csv", "--out", tmp_path)
    assert code == 2 and "folder" in err
    code, _, err = command(capsys, "sample", folder, "-n", 3, "--out", tmp_path / "s.xlsx")
    assert code == 2 and ".csv" in err
    assert command(capsys, "export", tmp_path, "--format", "csv", "--out", tmp_path / "o.csv")[0] == 4
    (folder / "edits").mkdir()
    (folder / "edits" / "abcdef.sqlite").write_bytes(b"nonsense" * 999)
    code, _, err = command(capsys, "clusters", folder)
    assert code == 4 and "abcdef.sqlite" in err and "->" in err


def test_segments_are_pointed_at_by_video_and_time():
    segments = small_index().segments
    assert pointed(segments, ["clips/3.mp4"]).tolist() == [15, 16, 17, 18, 19]
    assert pointed(segments, ["3.mp4#t=2,6", "/videos/clips/0.mp4#t=9.5"]).tolist() == [4, 16, 17]
    assert pointed(segments, ["3.mp4#t=2.9,5.1"]).tolist() == [16, 17]
    for wrong, words in (
        ("clips/33.mp4", "did you mean"),
        ("3.mp4#t=100,102", "end at 10.000 s"),
        ("3.mp4#t=1.2.3", "no time"),
        ("p4", "no video"),
    ):
        with pytest.raises(UsageError, match=words):
            pointed(segments, [wrong]) if "mean" not in words else _remedy(segments, wrong)
    with pytest.raises(UsageError):
        pointed(segments, [])


def _remedy(segments, text):
    try:
        pointed(segments, [text])
    except UsageError as error:
        raise UsageError(error.remedy or "") from error
