"""The statistics of a collection, by which what encoders are given is normalised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from seehear.data.clips import plain_requests
from seehear.data.loader import ClipLoader
from seehear.data.views import SpectrogramView, Statistics, measured_by, video_view
from seehear.errors import DataError
from seehear.types import ClipRef

STATISTICS_CLIPS = 512
"""Clips at most over which a collection's statistics are measured: their means are then known to a few hundredths of a
deviation, in seconds."""


def measure_statistics(loader: ClipLoader, refs: Sequence[ClipRef], limit: int = STATISTICS_CLIPS) -> Statistics:
    """Mean and deviation of spectrograms and pixels over the centre clips of `refs`, unless the settings state them.

    Of at most `limit` spans, drawn by the run's seed if there are more, and of the streams alone that are measured.
    Raises `DataError` when none can be decoded.
    """
    config = loader.config
    stated, measured = Statistics.stated(config), measured_by(config)
    if not measured:
        return stated
    chosen: Sequence[ClipRef] = refs
    if len(refs) > limit:
        drawn = np.random.default_rng(config.seed).choice(len(refs), limit, replace=False)
        chosen = [refs[i] for i in np.sort(drawn)]
    listens = "audio" in loader.modalities and "spectrograms" in measured
    spectrogram = SpectrogramView(config, Statistics()) if listens else None
    pixels, sounds = _Moments(3), _Moments(1)
    streams = [s for s in loader.modalities if (listens if s == "audio" else "pixels" in measured)]
    if not streams:
        return stated
    for _, frames, waveform in loader.clips(plain_requests(chosen, loader.videos, config.clip), streams):
        if frames is not None:
            view = video_view(frames, config.clip, config.augment, None)
            pixels.add(view.reshape(-1, 3).double().numpy() / 255)
        if waveform is not None and spectrogram is not None:
            x = spectrogram(torch.from_numpy(waveform)[None], config.augment, None)
            sounds.add(x.reshape(-1, 1).double().numpy())
    if spectrogram is not None and not sounds.count:
        raise DataError("not one clip could be decoded", "see the reasons in failures.jsonl of the run folder")
    values: dict[str, Any] = {}
    if pixels.count:
        values |= {"pixel_mean": tuple(pixels.mean.tolist()), "pixel_std": tuple(pixels.std.tolist())}
    if sounds.count:
        values |= {"spectrogram_mean": float(sounds.mean[0]), "spectrogram_std": float(sounds.std[0])}
    return replace(stated, **values)


class _Moments:
    """Running mean and standard deviation of rows."""

    def __init__(self, size: int) -> None:
        self.count, self.sum, self.squares = 0, np.zeros(size), np.zeros(size)

    def add(self, rows: np.ndarray) -> None:
        self.count += len(rows)
        self.sum += rows.sum(0)
        self.squares += (rows**2).sum(0)

    @property
    def mean(self) -> np.ndarray:
        return self.sum / self.count

    @property
    def std(self) -> np.ndarray:
        # A collection of constant clips has no deviation; dividing by one leaves it at zero.
        std = np.sqrt(np.maximum(self.squares / self.count - self.mean**2, 0))
        return np.where(std > 1e-8, std, 1.0)
