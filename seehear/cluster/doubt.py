"""Doubt: how strange a clip's sound is for what it looks like, and the other way round.

Clips that look alike should sound alike. For each clip take those that look most like it, and ask how far their sound
is from its own; then those that sound most like it, and how far they look from it. A clip whose neighbours by one
modality are strangers by the other belongs to no kind: a voice-over, a menu among battles, one of its own. Clusters do
not come in, so this needs no number of them, and a kind may be small: a few clips that agree in both modalities are
enough.

The mean of both distances, each in units of the root mean square distance of any two clips by that modality, is the
clip's distance s. Two numbers give it a scale: the median of s is what is usual here, and the upper quartile over clips
that were given the sound of any other clip is what a clip of no kind has. So

    doubt = (s − usual) / (strange − usual),

0 for a usual clip, 1 for one whose sound has nothing to do with its sight. From 1/2 on it is nearer to the strangers.

Encoders that learnt from a clip may have learnt it by heart; its doubt is then too small, and the list of doubtful
clips far from complete. The rule is ours; evidence, for and against, is in docs/research/labels.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from seehear.errors import DataError

THRESHOLD = 0.5
"""From here on a clip is doubtful."""
_STRANGERS = 0.75
"""Quantile of the distances of clips with another's sound that stands for strangers: others are often of the same kind,
and where one kind has most of the clips the median would be."""
_LEAST_CONTRAST = 0.65
"""How often a clip's distance must be below that of one with another's sound, or nothing can be said; 1/2 is chance."""
_BLOCK_NUMBERS = 2**22


@dataclass(frozen=True)
class Doubt:
    """How much each clip is in doubt, and what that is measured by."""

    doubt: np.ndarray
    """(N,) float32; 0 at the median, 1 for strangers, below 0 for clips that agree more than usually. All NaN where
    sight and sound have so little in common that strangers are no farther apart than others."""
    usual: float
    """The median distance."""
    strange: float
    """The upper quartile of the distances of clips with the sound of another."""

    @property
    def outliers(self) -> np.ndarray:
        """(N,) bool: the doubtful clips."""
        return self.doubt >= THRESHOLD


def doubts(first: Tensor, second: Tensor, *, neighbours: int = 3, most_rows: int = 5000, seed: int = 0) -> Doubt:
    """Measure how far the modalities of each clip are from what goes with each other.

    Args:
        first, second: rows (N, D₁) and (N, D₂) of the same clips, float32 on the CPU, of length 1.
        neighbours: of each clip by each modality. A kind with fewer clips beside one is strange.
        most_rows: neighbours are looked for among so many clips, drawn at random, if there are more.
        seed: of every draw.

    Complexity:
        O(N · min(N, most_rows) · (D₁ + D₂)) time.

    Raises:
        DataError: too few rows, or modalities that do not have as many.
    """
    if len(first) != len(second) or len(first) <= neighbours + 1:
        raise DataError(
            f"{len(first)} and {len(second)} rows: no {neighbours} neighbours of each clip in both modalities",
            f"give at least {neighbours + 2} clips that have both",
        )
    random = np.random.default_rng(seed)
    rows = len(first)
    among = np.sort(random.choice(rows, most_rows, replace=False)) if rows > most_rows else np.arange(rows)
    chosen = torch.from_numpy(among)
    near = [_nearest(x, chosen, neighbours) for x in (first, second)]
    scale = [_rms_distance(x) for x in (first, second)]
    own = torch.arange(rows)
    # Every clip gets the sound of one that stands up to N − 1 places further: never its own.
    other = (own + torch.from_numpy(random.integers(1, rows, rows))) % rows

    def apart(sounds: Tensor) -> np.ndarray:
        by_sight = _distances(second, sounds, near[0]) / scale[1]
        by_sound = _distances(first, own, near[1][sounds]) / scale[0]
        return ((by_sight + by_sound) / 2).numpy()

    distance = apart(own)
    strangers = apart(other)
    usual, strange = float(np.median(distance)), float(np.quantile(strangers, _STRANGERS))
    if strange <= usual or _below(distance, strangers) < _LEAST_CONTRAST:
        return Doubt(np.full(rows, np.nan, np.float32), usual, strange)
    return Doubt(((distance - usual) / (strange - usual)).astype(np.float32), usual, strange)


def _below(a: np.ndarray, b: np.ndarray) -> float:
    """How often a number of a is below one of b, ties counting half."""
    ordered = np.sort(b)
    above = len(b) - np.searchsorted(ordered, a, "right")
    return float((above + 0.5 * (np.searchsorted(ordered, a, "right") - np.searchsorted(ordered, a))).mean() / len(b))


def _nearest(x: Tensor, among: Tensor, count: int) -> Tensor:
    """The rows of `among` nearest to each row (N, D), without itself; (N, count) numbers of rows."""
    others = x[among]
    place = torch.full((len(x),), -1, dtype=torch.int64)
    place[among] = torch.arange(len(among))
    found = torch.empty((len(x), count), dtype=torch.int64)
    step = max(1, _BLOCK_NUMBERS // len(among))
    for start in range(0, len(x), step):
        part = slice(start, start + step)
        distances = torch.cdist(x[part], others)
        itself = (place[part] >= 0).nonzero().flatten()
        distances[itself, place[part][itself]] = torch.inf
        found[part] = among[distances.topk(count, largest=False).indices]
    return found


def _distances(x: Tensor, rows: Tensor, to: Tensor) -> Tensor:
    """Mean distance (N,) of the rows numbered by (N,) to those numbered by (N, count)."""
    return torch.cat(
        [
            (x[some][:, None] - x[near]).norm(dim=2).mean(1)
            for some, near in zip(rows.split(4096), to.split(4096), strict=True)
        ]
    )


def _rms_distance(x: Tensor) -> float:
    """Root mean square distance of two different rows: twice the variance, as for n − 1."""
    return float((2 * x.double().var(0).sum()).sqrt().clamp_min(1e-12))
