"""Features of the segments of videos, kept in parts while they are made, and taken again where nothing changed.

A part is a Parquet file of the segments of some dozens of videos, written whole: a process that is killed loses the
part that it was at. Parts are of one model and one length of segments (`_parts_folder`), and each row of one content:
its fingerprint, its sound track, the streams that are looked at and the span of them (`video_key`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from seehear.data.clips import Video, plain_requests
from seehear.data.columns import VideosById
from seehear.data.loader import ClipLoader, Failures
from seehear.errors import DataError, RunError
from seehear.features.extract import extract
from seehear.features.model import Model, segments
from seehear.files import write_atomic
from seehear.modalities import MODALITIES
from seehear.search.layout import Content, current_generation, read_generation
from seehear.search.segments import IndexedVideo

PART_VIDEOS = 48
PART_SEGMENTS = 1024
"""A part ends when it has so many videos, or segments."""
_FAILURES = b"seehear.failures"


@dataclass
class Embedded:
    """Segments of one video and their features, by encoder (n, D)."""

    start: np.ndarray
    end: np.ndarray
    features: dict[str, np.ndarray]
    failure: dict[str, str] | None = None
    """Why something of it could not be decoded: reason and detail."""


@dataclass
class Known:
    """What has been embedded, by `video_key`."""

    found: dict[str, Embedded] = field(default_factory=dict)
    of_index: frozenset[str] = frozenset()
    """The keys of the index that is in force, of whatever model."""


@dataclass(frozen=True)
class ToEmbed:
    """How segments are embedded."""

    model: Model
    every_seconds: float
    workers: int
    device: torch.device
    progress: Callable[[int, int], None]


def streams_seen(video: IndexedVideo) -> tuple[str, ...]:
    """The streams of a video that are embedded: those whose codec is noted."""
    return tuple(s for s, codec in (("video", video.video_codec), ("audio", video.audio_codec)) if codec is not None)


def video_key(video: IndexedVideo) -> str:
    """Names what the features of a video depend on, wherever its file lies."""
    span = f"{video.start_seconds:.6f},{video.end_seconds:.6f}"
    return f"{video.identity.fingerprint}|{video.audio_track}|{'+'.join(streams_seen(video))}|{span}"


def known_features(folder: Path, model_sha: str, every_seconds: float, in_force_alone: bool = False) -> Known:
    """What the index in force and the parts of a build that was stopped hold, for this model and length.

    With `in_force_alone` the index, without the parts.
    """
    known = Known()
    with contextlib.suppress(RunError):  # a damaged index is made anew
        generation = current_generation(folder)
        if generation is not None and generation.is_dir():
            content = read_generation(generation)
            known.of_index = frozenset(video_key(video) for video in content.videos)
            facts = content.facts
            if (facts["model"], facts["every_seconds"], facts["encoder"]) == (model_sha, every_seconds, "run"):
                known.found |= dict(_of_content(content))
    parts = () if in_force_alone else _parts_folder(folder, model_sha, every_seconds).glob("*.parquet")
    for path in sorted(parts):
        known.found |= _read_part(path)
    return known


def _of_content(content: Content) -> Iterator[tuple[str, Embedded]]:
    failed = {report["video_id"] for report in content.facts["left_out"]}
    edges = np.searchsorted(content.video, np.arange(len(content.videos) + 1))
    for place, video in enumerate(content.videos):
        if video.video_id in failed:
            continue  # it is tried again
        rows = slice(int(edges[place]), int(edges[place + 1]))
        features = {n: x[rows] for n, x in content.features.items() if not np.isnan(x[rows]).any()}
        yield video_key(video), Embedded(content.start_seconds[rows], content.end_seconds[rows], features)


def embed_missing(
    asked: ToEmbed,
    folder: Path,
    model_sha: str,
    videos: Sequence[IndexedVideo],
    known: Known,
    failures: Failures,
) -> None:
    """Embed videos part by part; each part is on disk before the next begins, and in `known`."""
    parts = _parts_folder(folder, model_sha, asked.every_seconds)
    for other in parts.parent.glob("*"):
        if other != parts:
            shutil.rmtree(other, ignore_errors=True)  # of another model or another length
    if not videos:
        return
    parts.mkdir(parents=True, exist_ok=True)
    total = sum(len(_refs(v, asked.every_seconds)) for v in videos) * asked.model.config.cluster.averaged_clips
    done = 0
    for streams, alike in alike_videos(asked.model, videos):
        with loader_of(asked, streams, failures) as loader:
            for part in cut_into_parts(alike, asked.every_seconds):
                made, clips = embed_part(asked, loader, part, _after(asked.progress, done, total))
                done += clips
                _write_part(parts, made)
                known.found |= made


def alike_videos(model: Model, videos: Sequence[IndexedVideo]) -> Iterator[tuple[tuple[str, ...], list[IndexedVideo]]]:
    """Videos by the streams that are embedded of them, where the model has an encoder of any."""
    for streams in (("video", "audio"), ("video",), ("audio",)):
        alike = [v for v in videos if streams_seen(v) == streams]
        if alike and any(MODALITIES[m].stream in streams for m in model.modalities.values()):
            yield streams, alike


def loader_of(asked: ToEmbed, streams: Sequence[str], failures: Failures) -> ClipLoader:
    """What decodes videos that have these streams, for the encoders that see them."""
    views = {n: m for n, m in asked.model.modalities.items() if MODALITIES[m].stream in streams}
    return ClipLoader(
        [], asked.model.config, views, asked.model.statistics, workers=asked.workers, cache=None, failures=failures,
        device=asked.device,
    )  # fmt: skip


def embed_part(
    asked: ToEmbed, loader: ClipLoader, part: Sequence[IndexedVideo], progress: Callable[[int, int], None]
) -> tuple[dict[str, Embedded], int]:
    """Features of videos that have the streams of a loader, by `video_key`, and how many clips that took.

    Raises `DataError` if a feature is not finite.
    """
    config = asked.model.config
    encoders = {name: asked.model.encoders[name].to(asked.device) for name in loader.views}
    loader.videos = VideosById(_decodable(v) for v in part)
    refs = [ref for v in part for ref in _refs(v, asked.every_seconds)]
    requests = plain_requests(refs, loader.videos, config.clip, config.cluster.averaged_clips)
    bank = extract(
        encoders, loader, requests, device=asked.device, batch_size=config.optim.batch_size, progress=progress
    )
    if bank.not_finite():
        raise DataError("the encoders give features that are not finite", "was the run's training sound?")
    made = _by_video(part, [(r.video_id, r.start_seconds, r.end_seconds) for r in bank.refs], bank.features)
    for report in loader.failures.reports:
        made[report["video_id"]].failure = {"reason": report["reason"], "detail": report["detail"]}
    loader.failures.reports.clear()
    by_key = {v.video_id: video_key(v) for v in part}
    return {by_key[video_id]: embedded for video_id, embedded in made.items()}, len(requests)


def remove_parts(folder: Path) -> None:
    """Delete all parts: what they hold is in an index now."""
    shutil.rmtree(folder / "parts", ignore_errors=True)


def _after(progress: Callable[[int, int], None], before: int, total: int) -> Callable[[int, int], None]:
    return lambda done, _: progress(before + done, total)


def _decodable(video: IndexedVideo) -> Video:
    identity = video.identity
    return Video(
        video.video_id, str(video.path), identity.fingerprint or "", video.start_seconds, video.end_seconds, 0, 0,
        video.clock_jumps, video.audio_track, identity.size_bytes, identity.modified_ns,
    )  # fmt: skip


def _refs(video: IndexedVideo, every_seconds: float) -> list[Any]:
    return segments(_decodable(video), every_seconds)


def cut_into_parts(videos: Sequence[IndexedVideo], every_seconds: float) -> Iterator[list[IndexedVideo]]:
    """Videos in parts of `PART_VIDEOS` or `PART_SEGMENTS`."""
    part: list[IndexedVideo] = []
    rows = 0
    for video in videos:
        part.append(video)
        rows += len(_refs(video, every_seconds))
        if len(part) >= PART_VIDEOS or rows >= PART_SEGMENTS:
            yield part
            part, rows = [], 0
    if part:
        yield part


def _by_video(
    videos: Sequence[IndexedVideo], refs: Sequence[tuple[str, float, float]], features: dict[str, np.ndarray]
) -> dict[str, Embedded]:
    rows: dict[str, list[int]] = {video.video_id: [] for video in videos}
    for row, (video_id, _, _) in enumerate(refs):
        rows[video_id].append(row)
    return {
        video_id: Embedded(
            np.array([refs[i][1] for i in of]), np.array([refs[i][2] for i in of]),
            {name: x[of] for name, x in features.items()},
        )
        for video_id, of in rows.items()
    }  # fmt: skip


# -- parts on disk -------------------------------------------------------------------------------------------------


def _parts_folder(folder: Path, model_sha: str, every_seconds: float) -> Path:
    name = hashlib.blake2b(f"{model_sha} {every_seconds!r}".encode(), digest_size=8).hexdigest()
    return folder / "parts" / name


def _write_part(folder: Path, made: dict[str, Embedded]) -> None:
    table, failures = part_table(made)
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata({_FAILURES: json.dumps(failures).encode()}), sink)
    name = hashlib.blake2b("\n".join(made).encode(), digest_size=8).hexdigest()
    write_atomic(folder / f"{name}.parquet", sink.getvalue().to_pybytes())


def part_table(made: dict[str, Embedded]) -> tuple[pa.Table, dict[str, dict[str, str] | None]]:
    """Segments and features of some videos as a table, and for every key why something failed, or None."""
    columns: dict[str, Any] = {
        "key": pa.array([key for key, e in made.items() for _ in e.start], pa.string()),
        "start_seconds": pa.array(np.concatenate([e.start for e in made.values()])),
        "end_seconds": pa.array(np.concatenate([e.end for e in made.values()])),
    }
    for name in next(iter(made.values())).features:
        x = np.concatenate([e.features[name] for e in made.values()])
        columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), x.shape[1])
    return pa.table(columns), {key: e.failure for key, e in made.items()}


def _read_part(path: Path) -> dict[str, Embedded]:
    """What a part holds; nothing if it is damaged: its videos are embedded again."""
    try:
        table = pq.read_table(path)
        return embedded_of(table, json.loads((table.schema.metadata or {})[_FAILURES]))
    except (OSError, ValueError, KeyError, pa.ArrowException):
        return {}


def embedded_of(table: pa.Table, failures: dict[str, dict[str, str] | None]) -> dict[str, Embedded]:
    """Inverse of `part_table`. Raises KeyError or ValueError if the two do not belong together."""
    keys = table["key"].to_pylist()
    starts, ends = table["start_seconds"].to_numpy(), table["end_seconds"].to_numpy()
    names = [n for n in table.column_names if n not in ("key", "start_seconds", "end_seconds")]
    x = {n: np.array(table[n].combine_chunks().flatten()).reshape(len(keys), table[n].type.list_size) for n in names}
    rows: dict[str, list[int]] = {key: [] for key in failures}
    for row, key in enumerate(keys):
        rows[key].append(row)
    return {
        key: Embedded(starts[of], ends[of], {n: a[of] for n, a in x.items()}, failures[key])
        for key, of in rows.items()
    }  # fmt: skip
