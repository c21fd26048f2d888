"""Collections made of numbers: an index without a run's features on disk, and a plain one to compare edits with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from seehear.collection.collection import Collection
from seehear.media.identity import Identity
from seehear.search.index import Labels
from seehear.search.segments import IndexedVideo, Segments


@dataclass
class MadeIndex:
    """What a `Collection` asks of an index."""

    segments: Segments
    space: dict[str, np.ndarray]
    labels: dict[str, Labels]
    generation: str = "1"
    key: str = "first"
    facts: dict[str, Any] = field(default_factory=dict)
    doubt: np.ndarray | None = None
    doubtful_from: float = 0.5

    def labels_key(self, by: str) -> str:
        return f"{self.key}-{by}"


def videos(count: int, prefix: str = "clips/", seconds: float = 10.0) -> list[IndexedVideo]:
    return [
        IndexedVideo(
            f"{prefix}{i}.mp4", Path(f"/videos/{prefix}{i}.mp4"), Identity(f"{i:032x}", 1000, 1), 0.0, seconds, "mp4",
            "h264", "aac",
        )
        for i in range(count)
    ]  # fmt: skip


def cut(of: list[IndexedVideo], every: float) -> Segments:
    """Segments of equal length."""
    starts = [np.arange(v.start_seconds, v.end_seconds - 1e-9, every) for v in of]
    video = np.repeat(np.arange(len(of)), [len(s) for s in starts]).astype(np.int32)
    start = np.concatenate(starts)
    end = np.minimum(start + every, np.array([v.end_seconds for v in of])[video])
    return Segments(of, video, start, end)


def made_index(
    segments: Segments, truth: np.ndarray, cluster: np.ndarray | None = None, *, seed: int = 0, spread: float = 0.3,
    **more: Any,
) -> MadeIndex:  # fmt: skip
    """An index whose features lie around one point for each true class."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(int(truth.max()) + 1, 8))

    def unit() -> np.ndarray:
        x = centres[truth] + spread * rng.normal(size=(len(truth), 8))
        return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)

    cluster = truth if cluster is None else cluster
    confidence = rng.uniform(0.2, 0.9, len(truth)).astype(np.float32)
    rank = np.zeros(len(truth), dtype=np.int32)
    for c in np.unique(cluster):
        inside = np.flatnonzero(cluster == c)
        rank[inside[np.argsort(-confidence[inside])]] = np.arange(1, len(inside) + 1)
    labels = Labels(cluster.astype(np.int32), confidence, 1 - confidence, rank)
    return MadeIndex(
        segments, {"video": unit(), "audio": unit()}, {"both": labels, "video": labels, "audio": labels}, **more
    )


def small_index(clusters: int = 4, count: int = 20, **more: Any) -> MadeIndex:
    """`count` videos of 10 s in segments of 2 s, whose videos have one class each."""
    segments = cut(videos(count), 2.0)
    return made_index(segments, (np.asarray(segments.video) % clusters).astype(np.int32), **more)


def opened(run: Path, index: Any = None, **options: Any) -> Collection:
    """A collection of an index that is not on disk."""
    return Collection(run, index=small_index() if index is None else index, **options)
