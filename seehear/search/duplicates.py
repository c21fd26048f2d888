"""Near duplicates: videos that are copies of each other, in another size, container, bit rate or volume.

Two videos are copies if they last equally long (`LONGER_SHARE`, `LONGER_SECONDS`) and look alike all along, in the
order of time, and sound alike all along; where one has no sound, or is silent, they have to look more alike. What is of
one colour, or silent, says nothing. So a black start or an intro in common does not make copies, nor does the same room
seen by the same camera, which sounds otherwise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from seehear.errors import DestinationError
from seehear.files import write_atomic, writing
from seehear.media.fingerprints import PICTURE_RATE_HZ, SOUND_RATE_HZ, Looks, looks_of
from seehear.media.pool import WorkerPool
from seehear.search.embedding import streams_seen, video_key
from seehear.search.index import Index
from seehear.search.layout import index_folder
from seehear.search.segments import IndexedVideo

LONGER_SHARE, LONGER_SECONDS = 0.02, 0.5
"""Copies may differ in length by this share of it and so many seconds: encoders and containers pad."""
PICTURE_BITS = 11.0
"""Of 63: the mean distance of frames up to which two videos look alike."""
PICTURE_BITS_ALONE = 7.0
"""The same where there is no sound to compare."""
SOUND_SHARE = 0.33
"""The mean share of bits of the sound up to which two videos sound alike; those of others differ in half of theirs."""
_WORST = 1.5  # a third of the time may be so many times as far apart as the whole
_LEAST = 2  # frames, and sounds, that must have told something
_SHIFT_SECONDS = 0.5
_NEAR_BITS = 22
_BLOCK = 512
_PART = 64
_TIMEOUT_SECONDS = 300.0
_VERSION = 1


@dataclass(frozen=True)
class Copy:
    """One of several videos that are copies of each other."""

    video_id: str
    path: str
    start_seconds: float | None
    """The span that was compared; None of a file that is not indexed, being the very same bytes as another."""
    end_seconds: float | None
    indexed: bool


@dataclass
class Duplicates:
    """Groups of copies, the largest first; in each the videos in the order of the index."""

    groups: list[list[Copy]]
    compared: int
    """Videos whose fingerprints were compared."""
    left_out: list[dict[str, Any]] = field(default_factory=list)
    """Videos that could not be decoded: video_id, path, reason, detail."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "groups": [[asdict(copy) for copy in group] for group in self.groups],
            "compared": self.compared,
            "left_out": self.left_out,
        }


def find_duplicates(
    index: Index, *, workers: int = 0, progress: Callable[[int, int], None] | None = None
) -> Duplicates:
    """Groups of copies among the videos of an index.

    Files are opened at the first call; their fingerprints are kept in the index's folder. Files that the scan found to
    have the same content as an indexed one are in the groups too.
    """
    videos = list(index.segments.videos)
    looks, left_out = _looks_of_all(index_folder(index.run) / "duplicates", videos, workers, progress)
    known = [i for i, video in enumerate(videos) if video_key(video) in looks]
    parent = list(range(len(videos)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i, j in _pairs([looks[video_key(videos[i])] for i in known], [videos[i] for i in known]):
        a, b = root(known[i]), root(known[j])
        parent[max(a, b)] = min(a, b)
    groups: dict[int, list[Copy]] = {}
    for i, video in enumerate(videos):
        copy = Copy(video.video_id, str(video.path), video.start_seconds, video.end_seconds, True)
        groups.setdefault(root(i), []).append(copy)
    place = {video.video_id: i for i, video in enumerate(videos)}
    for report in index.facts["left_out"]:
        original = place.get(report.get("duplicate_of", ""))
        if original is not None:
            groups[root(original)].append(Copy(report["video_id"], report["path"], None, None, False))
    found = sorted((g for g in groups.values() if len(g) > 1), key=len, reverse=True)
    return Duplicates(found, len(known), left_out)


def alike(a: Looks, b: Looks) -> bool:
    """Whether two videos of equal length are copies."""
    if len(a.picture) != len(b.picture):
        return False
    picture = _distance(a.picture, a.plain, b.picture, b.plain, round(_SHIFT_SECONDS * PICTURE_RATE_HZ))
    sound = _distance(a.sound, a.silent, b.sound, b.silent, round(_SHIFT_SECONDS * SOUND_RATE_HZ))
    heard = None if sound is None else sound[0] <= 32 * SOUND_SHARE and sound[1] <= 32 * SOUND_SHARE * 1.25
    if heard is False:
        return False
    if picture is None:
        return heard is True
    most = PICTURE_BITS if heard else PICTURE_BITS_ALONE
    return picture[0] <= most and picture[1] <= _WORST * most


def _distance(
    a: np.ndarray, a_blank: np.ndarray, b: np.ndarray, b_blank: np.ndarray, most_shift: int
) -> tuple[float, float] | None:
    """Mean distance in bits over time, and that of the worst third, at the shift where they are least; None where too
    little can be compared. The arrays are (S, T)."""
    best: tuple[float, float] | None = None
    count = min(a.shape[1], b.shape[1])
    for shift in range(-most_shift, most_shift + 1):
        length = count - abs(shift)
        if length < 1:
            continue
        x, y = slice(max(0, shift), max(0, shift) + length), slice(max(0, -shift), max(0, -shift) + length)
        told = ~(a_blank[:, x] | b_blank[:, y])
        if told.sum() < _LEAST:
            continue
        bits = np.bitwise_count(a[:, x] ^ b[:, y]).astype(np.float64)
        thirds = [
            float(part[there].mean())
            for part, there in zip(
                np.array_split(bits.reshape(-1), 3), np.array_split(told.reshape(-1), 3), strict=True
            )
            if there.any()
        ]
        found = float(bits[told].mean()), max(thirds)
        if best is None or found < best:
            best = found
    return best


def _pairs(looks: Sequence[Looks], videos: Sequence[IndexedVideo]) -> Iterator[tuple[int, int]]:
    """Pairs of copies, by their places. Only what lasts equally long and looks a little alike is compared in full."""
    seconds = np.array([v.end_seconds - v.start_seconds for v in videos])
    order = np.argsort(seconds, kind="stable")
    middles, blank = _middles(looks)
    own = middles[:, middles.shape[1] // 2]
    for start in range(0, len(order), _BLOCK):
        block = order[start : start + _BLOCK]
        most = seconds[block[-1]] * (1 + LONGER_SHARE) + LONGER_SECONDS
        others = order[start : int(np.searchsorted(seconds[order], most, side="right"))]
        near = np.abs(seconds[block][:, None] - seconds[others]) <= (
            LONGER_SECONDS + LONGER_SHARE * np.maximum(seconds[block][:, None], seconds[others])
        )
        apart = np.full(near.shape, 255, dtype=np.uint8)
        for shifted in middles.T:
            apart = np.minimum(apart, np.bitwise_count(own[block][:, None] ^ shifted[others]))
        near &= (apart <= _NEAR_BITS) | blank[block][:, None] | blank[others]
        for i, j in zip(*np.nonzero(near), strict=True):
            a, b = int(block[i]), int(others[j])
            if start + i < start + j and alike(looks[a], looks[b]):
                yield min(a, b), max(a, b)


def _middles(looks: Sequence[Looks]) -> tuple[np.ndarray, np.ndarray]:
    """The bits of frames about the middle of each video, (N, shifts), and whether that tells nothing (N,)."""
    shifts = round(_SHIFT_SECONDS * PICTURE_RATE_HZ)
    middles = np.zeros((len(looks), 2 * shifts + 1), dtype=np.uint64)
    blank = np.ones(len(looks), dtype=bool)
    for i, look in enumerate(looks):
        flat, plain = look.picture.reshape(-1), look.plain.reshape(-1)
        if len(flat):
            at = np.clip(len(flat) // 2 + np.arange(-shifts, shifts + 1), 0, len(flat) - 1)
            middles[i], blank[i] = flat[at], bool(plain[at].any())
    return middles, blank


# -- fingerprints, kept --------------------------------------------------------------------------------------------


def _looks_of_all(
    folder: Path,
    videos: Sequence[IndexedVideo],
    workers: int,
    progress: Callable[[int, int], None] | None,
) -> tuple[dict[str, Looks], list[dict[str, Any]]]:
    """Fingerprints by `video_key`, of the cache or of the files, and videos that could not be decoded."""
    known = _read_cache(folder)
    missing = {video_key(v): v for v in videos if video_key(v) not in known}
    items = (
        (
            key,
            (
                str(v.path), v.identity, v.start_seconds, v.end_seconds, streams_seen(v), v.clock_jumps,
                v.audio_track,
            ),
        )
        for key, v in missing.items()
    )  # fmt: skip
    left_out, fresh = [], {}
    with WorkerPool(workers, timeout_seconds=_TIMEOUT_SECONDS) as pool:
        for done, outcome in enumerate(pool.imap(looks_of, items, ordered=False), 1):
            key = str(outcome.key)
            if outcome.error is not None:
                video, error = missing[key], outcome.error
                report = {"video_id": video.video_id, "path": str(video.path)}
                left_out.append(report | {"reason": error.reason, "detail": error.detail})
            else:
                fresh[key] = known[key] = outcome.value
            if len(fresh) >= _PART:
                _write_part(folder, fresh)
                fresh = {}
            if progress is not None:
                progress(done, len(missing))
    if fresh:
        _write_part(folder, fresh)
    return known, left_out


_COLUMNS = ("picture", "plain", "sound", "silent")


def _write_part(folder: Path, looks: dict[str, Looks]) -> None:
    """Keep some fingerprints; where the run cannot be written to they are made again the next time."""
    counts = [len(look.picture) for look in looks.values()]
    columns: dict[str, Any] = {"video": pa.array(list(looks)), "stretches": pa.array(counts)}
    for name in _COLUMNS:
        columns[name] = pa.array([getattr(look, name).reshape(-1) for look in looks.values()])
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns).replace_schema_metadata({"version": str(_VERSION)}), sink)
    name = hashlib.blake2b("\n".join(looks).encode(), digest_size=8).hexdigest()
    try:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / f"{name}.parquet", sink.getvalue().to_pybytes())
    except DestinationError:
        return


def _read_cache(folder: Path) -> dict[str, Looks]:
    found: dict[str, Looks] = {}
    for path in sorted(folder.glob("*.parquet")):
        try:
            table = pq.read_table(path)
            if (table.schema.metadata or {}).get(b"version") != str(_VERSION).encode():
                continue
            for row in range(table.num_rows):
                count = table["stretches"][row].as_py()
                arrays = [np.asarray(table[name][row].values).reshape(count, -1) for name in _COLUMNS]
                found[table["video"][row].as_py()] = Looks(*arrays)
        except (OSError, ValueError, KeyError, pa.ArrowException):
            continue  # damaged: made again
    return found
