"""Features of videos, block by block.

What an encoder makes of a clip depends in its last bits on how many clips are beside it, and the sound of a clip on
what was read before it. So the list of videos is cut in one way, whoever computes, and a block has the same features in
one process and in many. Where each video gives one clip, its batches are those that the whole list would be cut into.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from seehear.config import Config
from seehear.data.cache import MediaCache
from seehear.data.clips import Video, clip_refs, plain_requests
from seehear.data.columns import VideosById
from seehear.data.loader import ClipLoader, Failures
from seehear.engines import Tell
from seehear.errors import DataError
from seehear.features.bank import FeatureBank
from seehear.features.extract import extract
from seehear.features.model import Model, segments
from seehear.parts import cut

MOST_CLIPS, LEAST_BATCHES, BLOCKS = 1024, 4, 16
"""Clips of a block: so many that there are about `BLOCKS`, not above the first number, nor below so many batches."""


class Embedder:
    """Features of videos by the encoders of a model, with decoding processes that are kept from block to block.

    A context manager. `modalities` names encoders; `every_seconds` is the length of a segment, None: spans as training
    cuts them (`clip_refs`).
    """

    def __init__(
        self,
        model: Model,
        *,
        every_seconds: float | None = None,
        modalities: Sequence[str] = ("video", "audio"),
        workers: int = 0,
        cache: MediaCache | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        self.model, self.every_seconds, self.device = model, every_seconds, torch.device(device)
        self.streams = model.streams(modalities)
        views = {name: m for name, m in model.modalities.items() if m in modalities}
        self.encoders = {name: model.encoders[name].to(device) for name in views}
        self._failures = Failures()
        self._loader = ClipLoader(
            [], model.config, views, model.statistics, workers=workers, cache=cache, failures=self._failures,
            device=self.device,
        )  # fmt: skip

    def __enter__(self) -> Embedder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._loader.close()

    def bank(self, rows: Sequence[Mapping[str, Any]], failures: Failures, tell: Tell | None) -> FeatureBank:
        """Features of the videos of some rows of a manifest, those that fail noted in `failures`.

        Raises `DataError` if a feature is not finite.
        """
        config = self.model.config
        videos = [Video.from_row(row, self.streams) for row in rows]
        if self.every_seconds is not None:
            refs = [ref for v in videos for ref in segments(v, self.every_seconds)]
        else:
            refs = clip_refs(videos, config.cluster)
        self._loader.videos, self._loader.failures = VideosById(videos), failures
        requests = plain_requests(refs, self._loader.videos, config.clip, config.cluster.averaged_clips)
        bank = extract(
            self.encoders, self._loader, requests, device=self.device, batch_size=config.optim.batch_size,
            progress=tell,
        )  # fmt: skip
        if bank.not_finite():
            raise DataError("the encoders give features that are not finite", "was the run's training sound?")
        return bank


def clips_of(rows: pa.Table, streams: Sequence[str], config: Config, every_seconds: float | None) -> np.ndarray:
    """About how many clips each video (N,) of a manifest's usable rows gives: the weight of its work."""
    lengths = [rows[f"{stream}_duration_seconds"].to_numpy() for stream in streams]
    seconds = np.minimum.reduce(lengths)
    if every_seconds is None:
        spans = np.ceil(seconds / config.cluster.max_span_seconds - 1e-6).clip(config.cluster.clips_per_video)
    else:
        spans = np.round(seconds / every_seconds).clip(1)
    return spans * config.cluster.averaged_clips


def block_edges(clips: np.ndarray, config: Config) -> tuple[int, ...]:
    """The edges of the blocks of videos that give so many clips each (N,): see `seehear.parts.cut`."""
    batch = config.optim.batch_size
    least = LEAST_BATCHES * batch
    most = min(max(MOST_CLIPS, least), max(least, float(clips.sum()) / BLOCKS))
    return cut(clips, -(-most // batch) * batch)
