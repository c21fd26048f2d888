"""Segments as a person writes them: VIDEO#t=12,14, as players name stretches of files (media fragments)."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import PurePath

import numpy as np

from seehear.collection.stretches import HALF
from seehear.errors import UsageError
from seehear.search.segments import Segments

_STRETCH = re.compile(r"(?P<video>.+?)(?:#t=(?P<start>[\d.]+)(?:,(?P<end>[\d.]+))?)?", re.DOTALL)


def pointed(segments: Segments, texts: Iterable[str]) -> np.ndarray:
    """Rows (ascending) of segments given as VIDEO, VIDEO#t=start,end or VIDEO#t=moment, in seconds.

    VIDEO is an id, a path, or the end of one that only one video has; alone it means all its segments. Of a stretch all
    segments are meant that lie in it by half or more. Raises `UsageError` for what names nothing.
    """
    videos = _Videos(segments)
    found: list[np.ndarray] = []
    for text in texts:
        match = _STRETCH.fullmatch(text)
        if match is None:
            raise UsageError("a segment without a name", "write VIDEO#t=start,end")
        rows = videos.rows(match["video"])
        if match["start"] is not None:
            rows = _within(segments, rows, text, _number(match["start"], text), match["end"])
        found.append(rows)
    if not found:
        raise UsageError("no segment is given", "write VIDEO#t=start,end")
    return np.unique(np.concatenate(found))


def _number(text: str, whole: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{whole}: {text!r} is no time in seconds", "write VIDEO#t=start,end") from None


def _within(segments: Segments, rows: np.ndarray, text: str, start: float, end: str | None) -> np.ndarray:
    starts, ends = np.asarray(segments.start_seconds)[rows], np.asarray(segments.end_seconds)[rows]
    if end is None:
        chosen = rows[(starts <= start) & (start < ends)]
    else:
        shared = np.minimum(ends, _number(end, text)) - np.maximum(starts, start)
        # To the millisecond, as clips are written.
        chosen = rows[shared >= HALF * (ends - starts) - 0.001]
    if not len(chosen):
        last = max((float(e) for e in ends), default=math.nan)
        raise UsageError(f"{text}: no segment lies there by half", f"that video's segments end at {last:.3f} s")
    return chosen


class _Videos:
    """Videos of an index by whatever names them."""

    def __init__(self, segments: Segments) -> None:
        self._of = np.asarray(segments.video)
        self._ids = [v.video_id for v in segments.videos]
        self._paths = [str(v.path) for v in segments.videos]

    def rows(self, name: str) -> np.ndarray:
        """The rows of a video's segments."""
        return np.flatnonzero(self._of == self._place(name))

    def _place(self, name: str) -> int:
        for names in (self._ids, self._paths):
            if name in names:
                return names.index(name)
        ending = PurePath(name).parts
        fitting = [i for i, path in enumerate(self._paths) if _ends(path, ending)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            likely = ", ".join(self._ids[i] for i in fitting[:3])
            raise UsageError(f"{name}: {len(fitting)} videos are called so", f"write more of the path: {likely}, ...")
        close = difflib.get_close_matches(name, self._ids, n=3, cutoff=0.5) if len(self._ids) < 20_000 else []
        remedy = f"did you mean {' or '.join(close)}?" if close else "`seehear export` lists all segments"
        raise UsageError(f"there is no video {name!r} in the index", remedy)


def _ends(path: str, ending: Sequence[str]) -> bool:
    parts = PurePath(path).parts
    return parts[len(parts) - len(ending) :] == tuple(ending)
