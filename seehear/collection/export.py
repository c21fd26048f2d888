"""A collection as files for other tools: one function a format, from rows to bytes. Written whole or not at all.

`TABLES` take all segments, what was rejected among them, and say so in a column; the others leave those out.
"""

from __future__ import annotations

import csv
import io
import json
import math
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np

from seehear.errors import UsageError
from seehear.media.packed import packed
from seehear.search.segments import IndexedVideo, Segments

Format = Literal["csv", "parquet", "jsonl", "m3u", "edl", "label-studio", "fiftyone"]
COLUMNS = ("video", "path", "start", "end", "cluster", "name", "confidence", "confirmed", "rejected", "clip")
"""Of a run that says which segments are doubtful there is `DOUBT` too, after the others."""
DOUBT = "doubt"
USUAL_RATE_HZ = 25.0
"""The frame rate of an edit list where no video's is known."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")
_DAY_SECONDS = 24 * 3600
_RECORD_START_SECONDS = 3600
"""Edit lists by custom begin at one hour."""


@dataclass(frozen=True)
class Row:
    """A segment as it is exported."""

    video: IndexedVideo
    start: float
    end: float
    cluster: str
    name: str | None
    confidence: float
    confirmed: bool
    rejected: bool
    doubt: float | None = None
    """NaN: nothing is said of this segment; None: of no segment of the run."""

    @property
    def title(self) -> str:
        """Its name, or that of its cluster."""
        return f"cluster {self.cluster}" if self.name is None else self.name

    def cells(self) -> dict[str, Any]:
        """Its values by `COLUMNS`, and its doubt, None where that is NaN, if the run says something of doubts."""
        clip = f"{self.video.video_id}#t={_seconds(self.start)},{_seconds(self.end)}"
        values = (
            self.video.video_id, str(self.video.path), round(self.start, 3), round(self.end, 3), self.cluster,
            self.name, round(self.confidence, 4), self.confirmed, self.rejected, clip,
        )  # fmt: skip
        doubt = {} if self.doubt is None else {DOUBT: _known(self.doubt)}
        return dict(zip(COLUMNS, values, strict=True)) | doubt


def _known(doubt: float) -> float | None:
    return None if math.isnan(doubt) else round(doubt, 4)


def _seconds(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".")


def rows_of(
    segments: Segments,
    rows: np.ndarray,
    cluster: np.ndarray,
    ids: Sequence[str],
    names: Sequence[str | None],
    confidence: np.ndarray,
    confirmed: np.ndarray,
    rejected: np.ndarray,
    doubt: np.ndarray | None,
) -> list[Row]:
    """The segments of these rows as they are exported."""
    return [
        Row(
            segments.video_of(row), float(segments.start_seconds[row]), float(segments.end_seconds[row]),
            ids[cluster[row]], names[cluster[row]], float(confidence[row]), bool(confirmed[row]), bool(rejected[row]),
            None if doubt is None else float(doubt[row]),
        )
        for row in rows.tolist()
    ]  # fmt: skip


# ---------------------------------------------------------------- tables


def as_csv(rows: Sequence[Row], rates: Mapping[str, float]) -> bytes:
    """Comma separated, UTF-8. Text that a spreadsheet would run as a formula has a ' before it."""
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\r\n")
    writer.writerow(_columns(rows))
    for row in rows:
        writer.writerow([_cell(value) for value in row.cells().values()])
    return sink.getvalue().encode("utf-8", "surrogateescape")


def _columns(rows: Sequence[Row]) -> tuple[str, ...]:
    return (*COLUMNS, DOUBT) if rows and rows[0].doubt is not None else COLUMNS


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value


def as_parquet(rows: Sequence[Row], rates: Mapping[str, float]) -> bytes:
    """A table whose columns have types."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = dict.fromkeys(_columns(rows), pa.string())
    kinds |= {n: pa.float64() for n in ("start", "end", "confidence", DOUBT) if n in kinds}
    kinds |= {"confirmed": pa.bool_(), "rejected": pa.bool_()}
    cells = [row.cells() for row in rows]
    columns = {n: pa.array([_text(c[n]) for c in cells], kind) for n, kind in kinds.items()}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def as_jsonl(rows: Sequence[Row], rates: Mapping[str, float]) -> bytes:
    """A JSON object a line."""
    lines = (json.dumps({n: _text(v) for n, v in row.cells().items()}, ensure_ascii=False) for row in rows)
    return "".join(f"{line}\n" for line in lines).encode()


def _text(value: Any) -> Any:
    """A value whose text is valid Unicode: names of files may hold bytes that are none."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


# ---------------------------------------------------------------- players and editors


def as_m3u(rows: Sequence[Row], rates: Mapping[str, float]) -> bytes:
    """A playlist, grouped by name, that plays each segment (VLC reads the start and the stop)."""
    lines = ["#EXTM3U"]
    for row in sorted(rows, key=lambda r: (r.name is None, r.title.casefold())):
        title = _line(f"{row.title} - {row.video.path.name}")
        lines += [
            f"#EXTINF:{row.end - row.start:.3f},{title}",
            f"#EXTGRP:{_line(row.title)}",
            f"#EXTVLCOPT:start-time={row.start:.3f}",
            f"#EXTVLCOPT:stop-time={row.end:.3f}",
            _location(row.video.path),
        ]
    return ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape")


def _location(path: Path) -> str:
    """A path in a playlist; one that would break its line is written as an address."""
    text = str(path)
    return path.as_uri() if any(c < " " for c in text) or text != text.strip() else text


def _line(text: str) -> str:
    """Text that stays on its line."""
    return " ".join("".join(c if c >= " " and c != "\x7f" else " " for c in text).split())


def as_edl(rows: Sequence[Row], rates: Mapping[str, float]) -> bytes:
    """An edit list (CMX 3600), one event a segment, in the commonest frame rate of its videos, non-drop.

    A source's timecode counts its frames from 00:00:00:00; the record begins at 01:00:00:00. The reel is AX, as for
    files, and comments name the file and the cluster.
    """
    rate = list_rate(rows, rates)
    nominal = round(rate)
    lines = ["TITLE: seehear", "FCM: NON-DROP FRAME"]
    record = _RECORD_START_SECONDS * nominal
    for number, row in enumerate(rows, 1):
        first = round(Fraction(row.start) * Fraction(rate))
        length = max(1, round(Fraction(row.end) * Fraction(rate)) - first)
        if record + length > _DAY_SECONDS * nominal:
            raise UsageError(
                "an edit list holds 23 hours, and these segments are longer",
                "export named clusters alone, or another format",
            )
        track = {(True, True): "B", (True, False): "V", (False, True): "A"}.get(
            (row.video.video_codec is not None, row.video.audio_codec is not None), "B"
        )
        times = (first, first + length, record, record + length)
        codes = " ".join(timecode(t, nominal) for t in times)
        lines += [
            f"{number:03}  AX       {track:<5} C        {codes}",
            f"* FROM CLIP NAME: {_line(row.video.path.name)}",
            f"* SOURCE FILE: {_line(str(row.video.path))}",
            f"* COMMENT: {_line(row.title)}",
        ]
        record += length
    return ("\r\n".join(lines) + "\r\n").encode("utf-8", "surrogateescape")


def timecode(frame: int, nominal: int) -> str:
    """HH:MM:SS:FF of a frame, counted from 0, without dropped numbers."""
    seconds, frames = divmod(frame, nominal)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}:{frames:02}"


def list_rate(rows: Sequence[Row], rates: Mapping[str, float]) -> float:
    """The commonest frame rate of the videos."""
    known = Counter(rate for v in {r.video.video_id for r in rows} if (rate := rates.get(v)))
    return max(known.items(), key=lambda pair: (pair[1], pair[0]))[0] if known else USUAL_RATE_HZ


# ---------------------------------------------------------------- annotation tools


def _by_video(rows: Sequence[Row]) -> Iterator[list[Row]]:
    grouped: dict[str, list[Row]] = {}
    for row in rows:
        grouped.setdefault(row.video.video_id, []).append(row)
    yield from grouped.values()


def as_label_studio(rows: Sequence[Row], rates: Mapping[str, float]) -> bytes:
    """Tasks of Label Studio for a `TimelineLabels` named label over a `Video` named video, with frameRate="$fps".

    What people placed is an annotation, the rest a prediction. Frames count from 1. Videos are named as its storage of
    local files names them below the root folder of the disk.
    """
    tasks = []
    for own in _by_video(rows):
        video = own[0].video
        rate = round(rates.get(video.video_id) or list_rate(rows, rates), 3)
        place = urllib.parse.quote(str(video.path).lstrip("/"), errors="surrogateescape")
        task: dict[str, Any] = {
            "data": {"video": f"/data/local-files/?d={place}", "fps": rate, "id": _text(video.video_id)}
        }
        placed, rest = ([r for r in own if r.confirmed is c] for c in (True, False))
        if placed:
            task["annotations"] = [{"result": [_region(r, rate) for r in placed]}]
        if rest:
            score = round(sum(r.confidence for r in rest) / len(rest), 4)
            predicted = {"model_version": "seehear", "score": score, "result": [_region(r, rate) for r in rest]}
            task["predictions"] = [predicted]
        tasks.append(task)
    return (json.dumps(tasks, ensure_ascii=False, indent=1) + "\n").encode()


def _region(row: Row, rate: float) -> dict[str, Any]:
    first = round(row.start * rate) + 1
    last = max(first, round(row.end * rate))
    return {
        "id": f"t{round(row.start * 1000)}-{round(row.end * 1000)}",
        "type": "timelinelabels", "from_name": "label", "to_name": "video", "origin": "prediction",
        "value": {"ranges": [{"start": first, "end": last}], "timelinelabels": [row.title]},
    }  # fmt: skip


def as_fiftyone(rows: Sequence[Row], rates: Mapping[str, float]) -> bytes:
    """Labels of a FiftyOneTemporalDetectionDataset, and under `data` where its videos are."""
    labels: dict[str, Any] = {}
    data: dict[str, str] = {}
    for number, own in enumerate(_by_video(rows), 1):
        key = f"video-{number:06}"  # the importer cuts what follows a dot
        data[key] = _text(str(own[0].video.path))
        labels[key] = [
            {
                "label": r.title,
                "timestamps": [round(r.start, 3), round(r.end, 3)],
                "confidence": round(r.confidence, 4),
                "attributes": _attributes(r),
            }
            for r in own
        ]
    return (json.dumps({"labels": labels, "data": data}, ensure_ascii=False, indent=1) + "\n").encode()


def _attributes(row: Row) -> dict[str, Any]:
    found = {"cluster": row.cluster, "confirmed": row.confirmed, "video_id": _text(row.video.video_id)}
    known = None if row.doubt is None else _known(row.doubt)
    return found if known is None else found | {DOUBT: known}


FORMATS: dict[str, Callable[[Sequence[Row], Mapping[str, float]], bytes]] = {
    "csv": as_csv,
    "parquet": as_parquet,
    "jsonl": as_jsonl,
    "m3u": as_m3u,
    "edl": as_edl,
    "label-studio": as_label_studio,
    "fiftyone": as_fiftyone,
}
TABLES = frozenset({"csv", "parquet", "jsonl"})
ENDINGS = {
    "csv": ".csv",
    "parquet": ".parquet",
    "jsonl": ".jsonl",
    "m3u": ".m3u8",
    "edl": ".edl",
    "label-studio": ".json",
    "fiftyone": ".json",
}
"""What a file of each format is usually called."""


def exported(format: str, rows: Sequence[Row], rates: Mapping[str, float]) -> bytes:
    """The file's content. `rates` are frames a second by video id, where they are known."""
    if format not in FORMATS:
        raise UsageError(f"there is no format {format!r}", f"choose one of {', '.join(FORMATS)}")
    kept = rows if format in TABLES else [row for row in rows if not row.rejected]
    if format not in TABLES and any(packed(row.video.path) is not None for row in kept):
        raise UsageError(
            f"these videos lie in shards, where what reads {format} cannot open them",
            "export a table (csv, parquet, jsonl), or make files of the shards: the same `seehear prepare` without "
            "--shards, then scan and index these",
        )
    return FORMATS[format](kept, rates)


def frame_rates(manifest: Path) -> dict[str, float]:
    """Frames a second by video id, as the scan of a run measured them; nothing where there is no manifest."""
    import pyarrow.parquet as pq

    if not manifest.is_file():
        return {}
    table = pq.read_table(manifest, columns=["video_id", "frame_rate_hz"])
    ids, rates = (table[n].to_pylist() for n in ("video_id", "frame_rate_hz"))
    return {i: float(r) for i, r in zip(ids, rates, strict=True) if i is not None and r}
