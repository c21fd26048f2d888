"""First layers: their weights as pictures (XDC, figure 3)."""

from __future__ import annotations

from typing import Any

import numpy as np

from seehear.report.content import Content
from seehear.report.figures import Tiles, filter_sheet
from seehear.report.section import Section


def gather(content: Content) -> dict[str, Any] | None:
    """A sheet of filters for each first layer that is known; None for a run without a model."""
    sheets = [sheet for key, weight in content.run.weights.items() if (sheet := _sheet(key, weight)) is not None]
    return {"sheets": sheets} if sheets else None


def _sheet(key: str, weight: np.ndarray) -> Tiles | None:
    if key.endswith("video.stem.0.weight") and weight.ndim == 5 and weight.shape[1] == 3:
        return _of_pixels(weight)
    if key.endswith("video.stem.3.weight") and weight.ndim == 5 and weight.shape[3:] == (1, 1) and weight.shape[2] > 1:
        note = f"{len(weight)} filters; each column a moment (t−1, t, t+1), each row a spatial filter"
        return filter_sheet("Video: temporal filters", note, weight[..., 0, 0], 16, 5)
    if key.endswith(("audio.conv1.weight", "audio.stem.0.weight")) and weight.ndim == 4:
        tiles = weight[:, 0][:, ::-1]  # low frequencies at the bottom, as in a spectrogram
        note = f"{len(weight)} filters over the spectrogram: time runs right, pitch up"
        return filter_sheet("Audio: first filters", note, tiles, 8, 4)
    return None


def _of_pixels(weight: np.ndarray) -> Tiles:
    """Filters (N, RGB, T, H, W) in their own colours."""
    count, _, moments, height, width = weight.shape
    frames = weight.transpose(0, 2, 3, 4, 1)
    if moments == 1:
        note = f"{count} filters of {height}×{width}: edges, colours, textures"
        return filter_sheet("Video: spatial filters", note, frames[:, 0], 9, 4)
    side_by_side = np.concatenate(list(frames.transpose(1, 0, 2, 3, 4)), axis=2)
    note = f"{count} filters, their {moments} frames side by side: a change is motion"
    return filter_sheet("Video: filters in space and time", note, side_by_side, 4, 4)


SECTION = Section("filters", "First layers", gather)
