"""Videos and spans in columns are those that objects would be."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pytest

from seehear.config import ClusterConfig
from seehear.data.clips import Video, clip_refs
from seehear.data.columns import ClipTable, VideosById, VideoTable, cut
from seehear.data.manifest import COLUMNS
from seehear.words.cues import Cue

RNG = np.random.default_rng(3)


def rows_of(count: int) -> pa.Table:
    """Rows of a manifest with spans of all lengths, whose sound begins and ends elsewhere than the picture."""
    starts, lengths = RNG.uniform(-0.3, 2, (2, count)), RNG.uniform(0.7, 47.0, (2, count))
    starts[:, :3], lengths[:, :3] = 0.0, 10.0
    cues = [json.dumps([[0.0, 1.0, "a word"]]), None, "[]", ""]
    known = {
        "video_id": [f"Ä/{i}.mp4" for i in range(count)],
        "path": [f"/x/{i}.mp4" for i in range(count)],
        "usable": [True] * count,
        "fingerprint": [f"{i:032x}" for i in range(count)],
        "width": [None if i % 5 == 0 else 64 for i in range(count)],
        "audio_track": [None if i % 3 == 0 else i % 2 for i in range(count)],
        "clock_jumps": [int(i % 7 == 0) for i in range(count)],
        "size_bytes": list(range(count)),
    }
    for stream, start, length in zip(("video", "audio"), starts, lengths, strict=True):
        known |= {f"{stream}_start_seconds": start, f"{stream}_duration_seconds": length}
    table = pa.table({n: pa.array(known[n], t) if n in known else pa.nulls(count, t) for n, t in COLUMNS.items()})
    return table.append_column("text_cues", pa.array([cues[i % 4] for i in range(count)]))


@pytest.mark.parametrize("streams", [("video",), ("video", "audio")])
def test_videos_are_those_of_the_rows(streams):
    rows = pa.concat_tables([rows_of(31), rows_of(60).slice(31)])  # of two chunks
    table = VideoTable.from_rows(rows, streams)
    expected = [Video.from_row(row, streams) for row in rows.to_pylist()]
    assert list(table) == [table[i] for i in range(-60, 0)] == expected
    assert np.array_equal(table.seconds, [v.seconds for v in expected])
    assert table.with_cues.tolist() == [bool(v.cues) for v in expected]
    columns = VideoTable.columns_of(rows, streams, sort=True)
    mapped = VideoTable.of_columns(columns, streams)
    assert list(mapped) == expected and mapped.places(["Ä/59.mp4", "Ä/60.mp4"]).tolist() == [59, -1]
    assert np.shares_memory(mapped.start_seconds, columns["start of all streams"].to_numpy())
    assert np.shares_memory(mapped.with_cues, columns["with cues"].to_numpy())
    assert mapped.ids.chunk(0).buffers()[2].address == columns["video_id"].chunk(0).buffers()[2].address
    some = table.take(np.array([7, 3, 59]))
    assert list(some) == [expected[i] for i in (7, 3, 59)]
    assert some.places(["Ä/59.mp4", "Ä/4.mp4"]).tolist() == [2, -1]
    assert list(table[3:9:2]) == expected[3:9:2]
    with pytest.raises(IndexError):
        table[60]


@pytest.mark.parametrize("settings", [(1, 10.0), (3, 10.0), (1, 0.9), (2, 4.0)])
def test_spans_are_cut_as_numpy_divides_a_line(settings):
    cluster = dataclasses.replace(ClusterConfig(), clips_per_video=settings[0], max_span_seconds=settings[1])
    videos = [Video.from_row(row, ("video",)) for row in rows_of(400).to_pylist()]
    videos.append(Video("empty", "/x", "f", 2.0, 2.0, 4, 3))
    expected = clip_refs(videos, cluster)
    found = cut(VideoTable.of(videos), cluster)
    assert list(found) == expected
    assert found.clip_ids.to_pylist() == [r.clip_id for r in expected]
    assert [found[i] for i in (0, len(expected) // 2, -1)] == [expected[i] for i in (0, len(expected) // 2, -1)]
    chosen = RNG.random(len(expected)) < 0.3
    part = found.take(chosen)
    assert part == [r for r, c in zip(expected, chosen, strict=True) if c]
    assert ClipTable.of_columns(found.videos, part.columns()) == part
    assert found[5:11] == expected[5:11] and found[5:11] != expected[5:10] and part != found


def test_more_spans_than_are_made_at_once(monkeypatch):
    monkeypatch.setattr("seehear.data.columns._AT_ONCE", 7)
    videos = [Video(f"v{i}", "/x", "f", 0.0, 9.0, 4, 3) for i in range(20)]
    found = cut(VideoTable.of(videos), ClusterConfig(clips_per_video=2))
    assert list(found) == clip_refs(videos, ClusterConfig(clips_per_video=2))
    assert found.clip_ids.to_pylist() == [r.clip_id for r in found]
    assert list(VideosById(videos)) == [v.video_id for v in videos]
    empty = found.take(np.zeros(40, dtype=bool))
    assert len(empty.clip_ids) == 0 and list(empty) == []


def test_by_id(monkeypatch):
    monkeypatch.setattr("seehear.data.columns._AT_ONCE", 3)
    videos = [Video(f"v{i}", "/x", "f", 0.0, 9.0, 4, 3) for i in range(9)]
    again = dataclasses.replace(videos[2], path="/y", cues=(Cue(None, None, "a word"),))
    found = VideosById([*videos, again])
    expected = {v.video_id: v for v in [*videos, again]}
    assert dict(found) == expected and list(found) == list(expected) and len(found) == 9
    assert all(found[i] == v for _ in range(2) for i, v in expected.items())
    assert "v3" in found and "v9" not in found and 3 not in found
    with pytest.raises(KeyError, match="v9"):
        found["v9"]
    assert found.table.with_cues.tolist() == [i == 2 for i in range(9)]
    assert VideosById(found.table).table is found.table
    assert isinstance(cut(found.table, ClusterConfig()), ClipTable)
