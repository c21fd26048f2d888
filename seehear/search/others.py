"""An index of features that another encoder made: `seehear index --features FILE`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from seehear.engine.runfolder import RunFolder
from seehear.errors import DataError, UsageError
from seehear.features.files import Features, read_features
from seehear.search.layout import Content
from seehear.search.publishing import Facts
from seehear.search.segments import IndexedVideo

Span = tuple[int, float, float]
"""Place of a video among those that are indexed, start and end in seconds."""


def content_of_features(
    run: str | Path, path: str | Path, column: str | None, videos: Sequence[IndexedVideo]
) -> tuple[Content, Facts]:
    """The segments and features of a file, by `read_features`, of these videos.

    A column named `audio` is searched by sound and any other by sight; of a table that has `video` and `audio` both
    are taken, unless `column` chooses. Rows are of the video, start and end that they name; of the whole video if they
    name no times; and those of an array are, in their order, of the rows of the run's `features.parquet`.

    Raises:
        UsageError: see `read_features`; an array without a run's own features to go with.
        DataError: see `read_features`; rows and segments differ in number; no row is of a video that is indexed.
    """
    read = _read(path, column)
    first = next(iter(read.values()))
    spans = _spans(RunFolder(Path(run)), first, videos)
    kept = [row for row, span in enumerate(spans) if span is not None]
    if not kept:
        raise DataError(
            f"{first.source}: none of its {len(spans)} rows is of a video that is indexed",
            "its ids must be those of the manifest, or paths: see `seehear scan`",
        )
    kept.sort(key=lambda row: spans[row] or (0, 0.0, 0.0))
    chosen = [span for row in kept if (span := spans[row]) is not None]
    places = sorted({span[0] for span in chosen})
    new = {place: i for i, place in enumerate(places)}
    content = Content(
        [videos[place] for place in places],
        np.array([new[span[0]] for span in chosen], dtype=np.int32),
        np.array([span[1] for span in chosen]),
        np.array([span[2] for span in chosen]),
        {name: np.asarray(f.x, dtype=np.float32)[kept] for name, f in read.items()},
    )
    unknown = sorted({str(first.keys["video"][i].as_py()) for i, span in enumerate(spans) if span is None})
    detail = "the features name a video that is not among those that are indexed"
    left_out = [{"video_id": v, "path": v, "reason": "missing", "detail": detail} for v in unknown]
    return content, Facts(None, left_out, encoder=str(path))


def _read(path: str | Path, column: str | None) -> dict[str, Features]:
    names = []
    if column is None and Path(path).suffix == ".parquet" and Path(path).is_file():
        try:
            names = [n for n in ("video", "audio") if _holds_lists(path, n)]
        except OSError:
            names = []
    if len(names) == 2:
        return {name: read_features(path, name) for name in names}
    found = read_features(path, column)
    if found.column is not None and set(found.column.split("+")) == {"video", "audio"}:
        return {name: read_features(path, name) for name in ("video", "audio")}
    return {"audio" if found.column == "audio" else "video": found}


def _holds_lists(path: str | Path, name: str) -> bool:
    import pyarrow as pa

    try:
        schema = pq.read_schema(path)
    except pa.ArrowException:
        return False
    return name in schema.names and hasattr(schema.field(name).type, "value_type")


def _spans(folder: RunFolder, features: Features, videos: Sequence[IndexedVideo]) -> list[Span | None]:
    """Of which stretch each row is; None where its video is not indexed."""
    place = {str(video.path): i for i, video in enumerate(videos)} | {v.video_id: i for i, v in enumerate(videos)}
    if "video" in features.keys:
        ids = [str(i) for i in features.keys["video"].to_pylist()]
        whole = "start" not in features.keys
        starts = [None] * len(ids) if whole else features.keys["start"].to_pylist()
        ends = [None] * len(ids) if whole else features.keys["end"].to_pylist()
    else:
        if not folder.features.exists():
            raise UsageError(
                f"{features.source} does not name the videos of its rows, and {folder.path} has no features of its own",
                "give a .parquet with the columns video_id, start_seconds, end_seconds and a list of numbers",
            )
        own = pq.read_table(folder.features, columns=["video_id", "start_seconds", "end_seconds"])
        if own.num_rows != len(features.x):
            raise DataError(
                f"{features.source} has {len(features.x)} rows, {folder.features} has {own.num_rows}",
                "an array needs a row for each of these, in their order; or name the videos in a .parquet",
            )
        ids, starts, ends = (own[n].to_pylist() for n in own.column_names)
    found: list[Span | None] = []
    for video_id, start, end in zip(ids, starts, ends, strict=True):
        at = place.get(video_id)
        if at is None:
            found.append(None)
        else:
            video = videos[at]
            found.append((at, video.start_seconds, video.end_seconds) if start is None else (at, start, end))
    return found
