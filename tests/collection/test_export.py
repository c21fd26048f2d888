"""What is exported is read back, by libraries or by the rules of the format, also with names made to do harm."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import urllib.parse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from seehear.collection.export import COLUMNS, ENDINGS, FORMATS, list_rate, timecode
from seehear.errors import DestinationError, UsageError
from tests.collection.made import cut, made_index, opened, videos

NASTY = ['=HYPERLINK("http://x")', "+1", "-1", "@SUM(A1)", '"quoted", comma; <b>&amp;', "日本語 🎧", "'tick"]


@pytest.fixture
def collection(tmp_path):
    of = [
        replace(v, video_id=f"clips/{i} =odd, näme.mp4", path=Path(f"/media/clips/{i} =odd, näme.mp4"))
        for i, v in enumerate(videos(21))
    ]
    of[3] = replace(of[3], audio_codec=None)
    segments = cut(of, 2.0)
    truth = (np.asarray(segments.video) % 7).astype(np.int32)
    made = opened(tmp_path, made_index(segments, truth))
    for cluster, name in enumerate(NASTY[:6]):
        made.name(cluster, name)
    made.move([0, 1], NASTY[6], new=True)
    made.reject([9, 10])
    return made


def expected(collection):
    """What every format should say, from the collection itself."""
    segments, ids, names = collection.index.segments, collection.ids, collection.names
    rejected = set(collection.rejected.tolist())
    return [
        {
            "video": segments.video_of(row).video_id, "path": str(segments.video_of(row).path),
            "start": float(segments.start_seconds[row]), "end": float(segments.end_seconds[row]),
            "cluster": ids[c], "name": names[c], "confidence": round(float(collection.confidence[row]), 4),
            "confirmed": bool(collection.confirmed[row]), "rejected": row in rejected,
            "clip": f"{segments.video_of(row).video_id}#t={segments.start_seconds[row]:g},"
                    f"{segments.end_seconds[row]:g}",
        }
        for row, c in enumerate(collection.cluster_of)
    ]  # fmt: skip


def written(collection, tmp_path, format, **options):
    out = tmp_path / "out" / f"file{ENDINGS[format]}"
    count = collection.export(format, out, **options)
    return out.read_bytes(), count


def test_tables_hold_every_segment(collection, tmp_path):
    wanted = expected(collection)
    content, count = written(collection, tmp_path, "jsonl")
    assert [json.loads(line) for line in content.decode().splitlines()] == wanted and count == len(wanted)
    written(collection, tmp_path, "parquet")
    table = pq.read_table(tmp_path / "out" / "file.parquet")
    assert table.to_pylist() == wanted and tuple(table.column_names) == COLUMNS
    rows = list(csv.DictReader(io.StringIO(written(collection, tmp_path, "csv")[0].decode(), newline="")))
    for row, want in zip(rows, wanted, strict=True):
        for key in ("video", "path", "cluster", "clip", "name"):
            assert not row[key].startswith(("=", "+", "-", "@", "\t"))
            assert row[key].removeprefix("'") == (want[key] or "")
        assert (float(row["start"]), row["confirmed"]) == (want["start"], str(want["confirmed"]).lower())
    assert any(row["name"] == '\'=HYPERLINK("http://x")' for row in rows)


def test_a_playlist_plays_each_segment_grouped_by_name(collection, tmp_path):
    lines = written(collection, tmp_path, "m3u")[0].decode().splitlines()
    assert lines[0] == "#EXTM3U"
    entries = [lines[i : i + 5] for i in range(1, len(lines), 5)]
    kept = [w for w in expected(collection) if not w["rejected"]]
    found = set()
    for info, group, start, stop, path in entries:
        assert not path.startswith("#")
        seconds, title = re.fullmatch(r"#EXTINF:([\d.]+),(.*)", info).groups()
        first, last = (float(x.partition("=")[2]) for x in (start, stop))
        assert float(seconds) == pytest.approx(last - first)
        name = group.removeprefix("#EXTGRP:")
        assert title == f"{name} - {Path(path).name}"
        found.add((path, first, last, name))
    assert found == {(w["path"], w["start"], w["end"], w["name"] or f"cluster {w['cluster']}") for w in kept}
    groups = [e[1] for e in entries]
    assert len([1 for a, b in itertools.pairwise(groups) if a != b]) == len(set(groups)) - 1


def frames(code, rate):
    hours, minutes, seconds, frame = map(int, code.split(":"))
    return ((hours * 60 + minutes) * 60 + seconds) * rate + frame


def test_an_edit_list_counts_frames(collection, tmp_path, monkeypatch):
    rates = {v.video_id: 29.97 if i else 25.0 for i, v in enumerate(collection.index.segments.videos)}
    monkeypatch.setattr("seehear.collection.collection.frame_rates", lambda _: rates)
    lines = written(collection, tmp_path, "edl")[0].decode().split("\r\n")
    assert lines[:2] == ["TITLE: seehear", "FCM: NON-DROP FRAME"]
    kept = [w for w in expected(collection) if not w["rejected"]]
    record = frames("01:00:00:00", 30)
    event = re.compile(r"(\d{3,})  AX       ([VAB])     C        (\S+) (\S+) (\S+) (\S+)")
    for number, want in enumerate(kept):
        line, clip, source, comment = lines[2 + 4 * number : 6 + 4 * number]
        matched = event.fullmatch(line)
        assert int(matched[1]) == number + 1
        assert matched[2] == ("V" if want["video"].startswith("clips/3 ") else "B")
        start, end, record_in, record_out = (frames(matched[i], 30) for i in (3, 4, 5, 6))
        assert (start, end) == (round(want["start"] * 29.97), round(want["end"] * 29.97))
        assert (record_in, record_out - record_in) == (record, end - start)
        record = record_out
        assert clip == f"* FROM CLIP NAME: {Path(want['path']).name}" and source.endswith(want["path"])
        assert comment == f"* COMMENT: {want['name'] or 'cluster ' + want['cluster']}"
    assert timecode(107892, 30) == "00:59:56:12"


def test_an_edit_list_of_more_than_a_day_is_refused(collection):
    long = [replace(v, end_seconds=30_000.0) for v in videos(4)]
    segments = cut(long, 30_000.0)
    made = opened(collection.run, made_index(segments, np.arange(4)))
    with pytest.raises(UsageError, match="23 hours"):
        made.exported("edl")
    assert list_rate([], {}) == 25.0


def test_label_studio_reads_regions_by_frame(collection, tmp_path, monkeypatch):
    monkeypatch.setattr("seehear.collection.collection.frame_rates", lambda _: {})
    tasks = json.loads(written(collection, tmp_path, "label-studio")[0])
    found = set()
    for task in tasks:
        path = "/" + urllib.parse.unquote(task["data"]["video"].partition("?d=")[2])
        for key, confirmed in (("annotations", True), ("predictions", False)):
            for block in task.get(key, []):
                assert len({r["id"] for r in block["result"]}) == len(block["result"])
                for region in block["result"]:
                    (span,) = region["value"]["ranges"]
                    (label,) = region["value"]["timelinelabels"]
                    assert (region["type"], region["from_name"], region["to_name"]) == (
                        "timelinelabels", "label", "video")  # fmt: skip
                    assert 1 <= span["start"] <= span["end"]
                    first, last = (span["start"] - 1) / task["data"]["fps"], span["end"] / task["data"]["fps"]
                    found.add((path, first, last, label, confirmed))
    wanted = {
        (w["path"], w["start"], w["end"], w["name"] or f"cluster {w['cluster']}", w["confirmed"])
        for w in expected(collection)
        if not w["rejected"]
    }
    assert found == wanted


def test_fiftyone_finds_videos_and_labels(collection, tmp_path):
    read = json.loads(written(collection, tmp_path, "fiftyone")[0])
    assert set(read["labels"]) == set(read["data"]) and not any("." in key for key in read["data"])
    found = {(read["data"][key], *d["timestamps"], d["label"]) for key, ds in read["labels"].items() for d in ds}
    assert found == {
        (w["path"], w["start"], w["end"], w["name"] or f"cluster {w['cluster']}")
        for w in expected(collection)
        if not w["rejected"]
    }


def test_named_clusters_alone(collection, tmp_path):
    content, count = written(collection, tmp_path, "jsonl", named=True)
    rows = [json.loads(line) for line in content.decode().splitlines()]
    assert len(rows) == count == sum(c.size for c in collection.clusters if c.name) and all(r["name"] for r in rows)


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_is_written_whole_or_not_at_all(format, collection, tmp_path, monkeypatch):
    kept = tmp_path / "kept"
    kept.write_text("before")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("seehear.files.os.fsync", full)
    with pytest.raises(DestinationError):
        collection.export(format, kept)
    assert kept.read_text() == "before" and [p.name for p in kept.parent.glob(".*")] == []


def test_an_unknown_format_is_refused(collection):
    with pytest.raises(UsageError, match="xlsx"):
        collection.exported("xlsx")


def test_a_sample_is_balanced_varied_and_repeatable(collection):
    rows = collection.sample(40, balanced=True)
    assert len(set(rows.tolist())) == 40 and not set(rows) & set(collection.rejected)
    sizes = np.bincount(collection.cluster_of[rows], minlength=len(collection.ids))
    small = collection.cluster("new.1").size
    assert sizes[collection.ids.index("new.1")] == small == 2
    others = [s for s, i in zip(sizes, collection.ids, strict=True) if i != "new.1"]
    assert max(others) - min(others) <= 1
    assert (collection.sample(40, balanced=True) == rows).all()
    assert (collection.sample(40, balanced=True, seed=1) != rows).any()
    everything = collection.sample(10_000)
    assert len(everything) == len(collection.index.segments) - 2
    with pytest.raises(UsageError):
        collection.sample(0)


def test_a_sample_of_videos_has_one_segment_of_each(collection):
    rows = collection.sample(14, balanced=True, videos=True)
    of = np.asarray(collection.index.segments.video)[rows]
    assert len(set(of.tolist())) == len(rows) == 14
    assert set(np.bincount(of % 7)) == {2}


def test_a_varied_sample_covers_more_than_a_random_one(tmp_path):
    segments = cut(videos(40), 1.0)
    truth = np.where(np.arange(len(segments)) < 380, 0, 1 + np.arange(len(segments)) % 4).astype(np.int32)
    collection = opened(tmp_path, made_index(segments, truth, np.zeros(len(truth), np.int32), spread=0.05))
    rows = collection.sample(10)
    assert len(set(truth[rows].tolist())) == 5
