"""Stretches of videos, named by content: what is said of one index's segments, found again in another's.

Edits name segments by the fingerprint of their video and by time, in milliseconds. So they hold for moved and renamed
files, and for an index that cuts the same videos at another step.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from seehear.search.segments import Segments

HALF = 0.5
"""A segment counts as meant when at least this share of it is."""


@dataclass(frozen=True)
class Stretches:
    """N stretches of some videos."""

    videos: Sequence[str]
    """Fingerprints."""
    video: np.ndarray
    """(N,) int64: the video's place in `videos`."""
    start_ms: np.ndarray
    """(N,) int64"""
    end_ms: np.ndarray
    """(N,) int64"""

    def __len__(self) -> int:
        return len(self.video)

    def take(self, rows: np.ndarray) -> Stretches:
        """Those of these rows."""
        return Stretches(self.videos, self.video[rows], self.start_ms[rows], self.end_ms[rows])

    def as_json(self) -> dict[str, list[int]]:
        """For each video start, end, start, end ..., in milliseconds."""
        found: dict[str, list[int]] = {}
        for video, start, end in zip(self.video.tolist(), self.start_ms.tolist(), self.end_ms.tolist(), strict=True):
            found.setdefault(self.videos[video], []).extend((start, end))
        return found

    def json_order(self) -> np.ndarray:
        """The order (N,) in which `from_json(as_json())` has them: grouped by content, which copies share."""
        first: dict[str, int] = {}
        group = np.array([first.setdefault(self.videos[v], len(first)) for v in self.video.tolist()], dtype=np.int64)
        return np.argsort(group, kind="stable")

    @classmethod
    def from_json(cls, found: Mapping[str, Sequence[int]]) -> Stretches:
        """The inverse of `as_json`."""
        videos = list(found)
        lengths = [len(found[v]) // 2 for v in videos]
        times = np.array([t for v in videos for t in found[v]], dtype=np.int64).reshape(-1, 2)
        return cls(videos, np.repeat(np.arange(len(videos)), lengths), times[:, 0], times[:, 1])


def of_segments(segments: Segments) -> Stretches:
    """The segments of an index. A video without a fingerprint is known by its id."""
    column = getattr(segments.videos, "column", None)  # of an index on disk, without making every video
    if column is not None:
        known = list(zip(column("fingerprint"), column("video_id"), strict=True))
    else:
        known = [(v.identity.fingerprint, v.video_id) for v in segments.videos]
    keys = [fingerprint or f"id:{video_id}" for fingerprint, video_id in known]
    return Stretches(
        keys,
        np.asarray(segments.video, dtype=np.int64),
        np.round(np.asarray(segments.start_seconds) * 1000).astype(np.int64),
        np.round(np.asarray(segments.end_seconds) * 1000).astype(np.int64),
    )


class Timeline:
    """Stretches in order of time, to find which of them others overlap."""

    def __init__(self, stretches: Stretches) -> None:
        self.stretches = stretches
        self.milliseconds = stretches.end_ms - stretches.start_ms
        self._number: dict[str, int] = {}
        # Copies of one file are one video here: what is said of its content holds for all of them.
        for key in stretches.videos:
            self._number.setdefault(key, len(self._number))
        numbers = np.array([self._number[key] for key in stretches.videos], dtype=np.int64)
        self._far = int(stretches.end_ms.max(initial=0)) + 1
        # All videos behind one another on one line.
        offset = numbers[stretches.video] * self._far if len(stretches) else np.empty(0, np.int64)
        start, end = offset + stretches.start_ms, offset + stretches.end_ms
        self._order = np.argsort(start, kind="stable")
        self._start, self._end = start[self._order], end[self._order]
        # Of what begins before a place, how far the farthest reaches.
        self._reach = np.maximum.accumulate(self._end) if len(self._end) else self._end

    def __len__(self) -> int:
        return len(self.stretches)

    def overlaps(self, others: Stretches) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pairs (other, own, milliseconds) of stretches that have time in common, each (P,) int64."""
        numbers = np.array([self._number.get(key, -1) for key in others.videos], dtype=np.int64)
        number = numbers[others.video] if len(others) else np.empty(0, np.int64)
        known = np.flatnonzero((number >= 0) & (others.start_ms < self._far))
        offset = number[known] * self._far
        start = offset + np.maximum(others.start_ms[known], 0)
        end = offset + np.minimum(others.end_ms[known], self._far)
        first = np.searchsorted(self._reach, start, side="right")
        count = np.maximum(np.searchsorted(self._start, end, side="left") - first, 0)
        other = np.repeat(np.arange(len(known)), count)
        own = np.arange(len(other)) - np.repeat(np.cumsum(count) - count, count) + np.repeat(first, count)
        shared = np.minimum(end[other], self._end[own]) - np.maximum(start[other], self._start[own])
        real = shared > 0
        return known[other[real]], self._order[own[real]], shared[real]

    def rows(self, meant: Stretches) -> np.ndarray:
        """The rows (ascending) of which at least half lies in what is meant."""
        return self.rows_with(meant, np.zeros(len(meant)))[0]

    def rows_with(self, meant: Stretches, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`rows`, and for each of them the mean by time of the values (N,) of what is meant."""
        other, own, shared = self.overlaps(meant)
        rows, place = np.unique(own, return_inverse=True)
        total = np.bincount(place, shared, len(rows))
        mean = np.bincount(place, shared * values[other], len(rows)) / np.maximum(total, 1)
        enough = total >= HALF * self.milliseconds[rows]
        return rows[enough], mean[enough]

    def best(self, parts: Iterable[Stretches]) -> tuple[np.ndarray, np.ndarray]:
        """The rows that overlap any of the parts, and for each the number of the part that it overlaps most."""
        rows, which, shared = [], [], []
        for number, part in enumerate(parts):
            _, own, time = self.overlaps(part)
            rows.append(own)
            shared.append(time)
            which.append(np.full(len(own), number))
        if not rows:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        found, place = np.unique(np.concatenate(rows), return_inverse=True)
        totals = np.zeros((len(found), len(rows)))
        np.add.at(totals, (place, np.concatenate(which)), np.concatenate(shared))
        return found, totals.argmax(axis=1)


def pack(stretches: Stretches, cluster: np.ndarray) -> bytes:
    """A clustering, small: stretches with the cluster of each, (N,) integers."""
    import json

    names = json.dumps(list(stretches.videos)).encode()
    head = np.array([len(names), len(stretches)], dtype="<i8").tobytes()
    columns = (stretches.video, stretches.start_ms, stretches.end_ms, cluster)
    # Differences of neighbours repeat themselves, and what repeats packs well.
    numbers = b"".join(np.diff(np.asarray(c, dtype=np.int64), prepend=0).astype("<i8").tobytes() for c in columns)
    return zlib.compress(head + names + numbers, 6)


def unpack(content: bytes) -> tuple[Stretches, np.ndarray]:
    """The inverse of `pack`. Raises `ValueError` for what is none."""
    import json

    try:
        data = zlib.decompress(content)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    names, count = np.frombuffer(data, dtype="<i8", count=2).tolist()
    videos: Any = json.loads(data[16 : 16 + names])
    numbers = np.frombuffer(data, dtype="<i8", offset=16 + names).reshape(4, count).cumsum(axis=1)
    return Stretches(videos, numbers[0], numbers[1], numbers[2]), numbers[3].astype(np.int32)
