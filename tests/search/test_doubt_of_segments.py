"""The doubt of an index's segments: that of the run's own clips where they lie in them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seehear.engine.runfolder import RunFolder
from seehear.media.identity import Identity
from seehear.search.building import build_index
from seehear.search.index import Index
from seehear.search.labelled import run_doubt
from seehear.search.layout import Content
from seehear.search.segments import IndexedVideo
from tests.search.made import copied

CLIPS = [  # in no order: video, start, end, doubt
    ("b.mp4", 1.0, 3.0, 0.7),
    ("a.mp4", 4.0, 6.0, 0.2),
    ("a.mp4", 0.0, 2.0, 0.9),
    ("a.mp4", 1.5, 3.5, -0.4),
    ("b.mp4", 5.0, 7.0, None),
]


def run_of(folder: Path, doubt: bool = True) -> RunFolder:
    """A run whose labels and manifest hold these clips."""
    names = ("video_id", "start_seconds", "end_seconds", "doubt")
    labels = pa.table(dict(zip(names, zip(*CLIPS, strict=True), strict=True)))
    pq.write_table(labels if doubt else labels.drop_columns("doubt"), folder / "labels.parquet")
    manifest = {"video_id": ["a.mp4", "b.mp4", "broken.mp4"], "fingerprint": ["fa", "fb", None]}
    pq.write_table(pa.table(manifest), folder / "manifest.parquet")
    return RunFolder(folder)


def content_of(fingerprints: list[str], spans: list[tuple[int, float, float]]) -> Content:
    videos = [
        IndexedVideo(f"x/{f}", Path("/x") / f, Identity(f, 1, 1), 0.0, 9.0, "mp4", "h264", "aac") for f in fingerprints
    ]
    video, start, end = (np.array(x) for x in zip(*spans, strict=True))
    return Content(videos, video.astype(np.int32), start, end, {})


def test_a_segment_has_the_doubt_of_the_clip_that_holds_its_middle(tmp_path):
    # Its video has another id here: it is known by its content. That of the second video is new to the run.
    spans = [
        (0, 0.0, 1.0), (0, 0.5, 2.9), (0, 3.0, 5.0), (0, 3.5, 4.3), (0, 5.0, 7.0), (0, 5.5, 6.4), (1, 0.0, 2.0),
        (2, 0.0, 2.0), (2, 1.0, 2.0), (2, 2.0, 4.0), (2, 5.5, 6.0),
    ]  # fmt: skip
    content = content_of(["fa", "new", "fb"], spans)
    wanted = []
    for video, start, end in spans:
        middle, name = (start + end) / 2, ["a.mp4", "", "b.mp4"][video]
        holding = [(s, d) for v, s, e, d in CLIPS if v == name and s <= middle < e]
        found = max(holding, key=lambda clip: clip[0])[1] if holding else None
        wanted.append(np.nan if found is None else found)
    assert np.isnan(wanted).tolist().count(True) == 5 and len(set(wanted)) > 4
    np.testing.assert_allclose(run_doubt(content, run_of(tmp_path)), wanted, rtol=1e-6)


def test_where_nothing_is_said_there_is_no_doubt(tmp_path):
    here = content_of(["fa"], [(0, 0.0, 1.0)])
    assert run_doubt(here, RunFolder(tmp_path)) is None
    assert run_doubt(here, run_of(tmp_path, doubt=False)) is None
    assert run_doubt(content_of(["new"], [(0, 0.0, 1.0)]), run_of(tmp_path)) is None
    assert run_doubt(here, run_of(tmp_path)).tolist() == pytest.approx([0.9])


def test_an_index_keeps_the_doubt_and_older_ones_open_without(finished_run, tmp_path):
    run = copied(finished_run, tmp_path / "run")
    index = Index.open_or_make(run)
    assert index.doubt is None and not index.labels["both"].distance[0] >= index.doubtful_from
    assert "doubtful_from" not in json.loads((index.folder / "facts.json").read_text())
    labels = pq.read_table(run / "labels.parquet")
    best = int(np.argmin(labels["distance_both"].to_numpy()))  # the surest example of all
    given = np.linspace(-0.5, 0.4, len(labels)).astype(np.float32)
    given[best], given[best - 1] = 1.25, np.nan
    labels = labels.append_column("doubt", pa.array(given, from_pandas=True))
    pq.write_table(labels, run / "labels.parquet")
    assert Index.open(run).doubt is None  # made before the labels said so
    build_index(run, every_seconds=0.5, workers=0)
    made = Index.open(run)
    assert made.generation != index.generation and made.doubtful_from == 0.5
    said = labels.select(["video_id", "start_seconds", "end_seconds", "doubt"]).to_pylist()
    of_video = {clip.pop("video_id"): tuple(clip.values()) for clip in said}
    for row in range(len(made)):
        start, end, doubt = of_video[made.segments.video_of(row).video_id]
        inside = start <= (made.segments.start_seconds[row] + made.segments.end_seconds[row]) / 2 < end
        told = made.doubt[row]
        assert np.isnan(told) if not inside or doubt is None else told == pytest.approx(doubt)
    doubtful = np.flatnonzero(made.doubt >= made.doubtful_from)
    assert len(doubtful)
    for found in made.labels.values():
        for row in doubtful.tolist():
            others = np.flatnonzero((found.cluster == found.cluster[row]) & ~(made.doubt >= 0.5))
            assert (found.rank[others] < found.rank[row]).all()
