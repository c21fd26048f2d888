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

from dataclasses import dataclass, replace

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


@dataclass(frozen=True)
class Companions:
    """What goes with what: clips of a collection among which the neighbours of any clip are looked for."""

    first: Tensor
    """(M, D₁) float32 on the CPU, of length 1."""
    second: Tensor
    """(M, D₂), of the same clips."""
    neighbours: int
    scales: tuple[float, float]
    """Root mean square distance of two of these clips by each modality."""
    usual: float
    strange: float
    telling: bool
    """Whether a clip with another's sound is farther from its neighbours than usual, so that something can be said."""

    def doubt(self, first: Tensor, second: Tensor) -> Doubt:
        """The doubt of rows (N, D₁) and (N, D₂), of the collection or of others, of length 1.

        A row is no neighbour of its own: one of the collection is known by having the very same numbers.

        Complexity:
            O(N · M · (D₁ + D₂)) time.
        """
        if not self.telling:
            return Doubt(np.full(len(first), np.nan, np.float32), self.usual, self.strange)
        distance = self._apart(first, second, self._own(first, second))
        doubt = (distance - self.usual) / (self.strange - self.usual)
        return Doubt(doubt.astype(np.float32), self.usual, self.strange)

    def _own(self, first: Tensor, second: Tensor) -> Tensor:
        """Each row's place among the companions, (N,) int64; -1: it is none of them."""

        def keys(one: Tensor, two: Tensor) -> list[bytes]:
            return [a.tobytes() + b.tobytes() for a, b in zip(one.numpy(), two.numpy(), strict=True)]

        places = {key: place for place, key in enumerate(keys(self.first, self.second))}
        return torch.tensor([places.get(key, -1) for key in keys(first, second)], dtype=torch.int64)

    def _apart(self, first: Tensor, second: Tensor, own: Tensor) -> np.ndarray:
        """How far each row's sound is from that of what looks like it, and the other way round; (N,)."""
        return self._far(second, 1, _nearest(first, self.first, own, self.neighbours)) / 2 + (
            self._far(first, 0, _nearest(second, self.second, own, self.neighbours)) / 2
        )

    def _far(self, x: Tensor, modality: int, near: Tensor) -> np.ndarray:
        """Mean distance (N,) of rows to the companions of these numbers (N, count), in units of the scale."""
        to = (self.first, self.second)[modality]
        parts = [
            (rows[:, None] - to[of]).norm(dim=2).mean(1)
            for rows, of in zip(x.split(4096), near.split(4096), strict=True)
        ]
        return (torch.cat(parts) / self.scales[modality]).numpy()


def companions(first: Tensor, second: Tensor, *, neighbours: int = 3, seed: int = 0) -> Companions:
    """Make ready to doubt clips, by rows (M, D₁) and (M, D₂) of the same clips, float32 on the CPU, of length 1.

    Args:
        neighbours: of each clip by each modality. A kind with fewer clips beside one is strange.
        seed: of the draw of strangers.

    Raises:
        DataError: too few rows, or modalities that do not have as many.
    """
    if len(first) != len(second) or len(first) <= neighbours + 1:
        raise DataError(
            f"{len(first)} and {len(second)} rows: no {neighbours} neighbours of each clip in both modalities",
            f"give at least {neighbours + 2} clips that have both",
        )
    rows = len(first)
    scales = (_rms_distance(first), _rms_distance(second))
    found = Companions(first, second, neighbours, scales, 0.0, 0.0, False)
    near = [_nearest(x, x, torch.arange(rows), neighbours) for x in (first, second)]
    # Every clip gets the sound of one that stands up to M − 1 places further: never its own.
    other = (torch.arange(rows) + torch.from_numpy(np.random.default_rng(seed).integers(1, rows, rows))) % rows
    distance = (found._far(second, 1, near[0]) + found._far(first, 0, near[1])) / 2
    strangers = (found._far(second[other], 1, near[0]) + found._far(first, 0, near[1][other])) / 2
    usual, strange = float(np.median(distance)), float(np.quantile(strangers, _STRANGERS))
    telling = strange > usual and _below(distance, strangers) >= _LEAST_CONTRAST
    return replace(found, usual=usual, strange=strange, telling=telling)


def doubts(first: Tensor, second: Tensor, *, neighbours: int = 3, most_rows: int = 5000, seed: int = 0) -> Doubt:
    """Measure how far the modalities of each clip are from what goes with each other.

    Args:
        first, second: rows (N, D₁) and (N, D₂) of the same clips, float32 on the CPU, of length 1.
        neighbours: see `companions`.
        most_rows: neighbours are looked for among so many clips, drawn at random, if there are more.
        seed: of every draw.

    Complexity:
        O(N · min(N, most_rows) · (D₁ + D₂)) time.

    Raises:
        DataError: too few rows, or modalities that do not have as many.
    """
    x, rows = (first, second), len(first)
    if rows > most_rows and len(second) == rows:
        among = torch.from_numpy(np.sort(np.random.default_rng(seed).choice(rows, most_rows, replace=False)))
        x = (first[among], second[among])
    return companions(*x, neighbours=neighbours, seed=seed).doubt(first, second)


def _below(a: np.ndarray, b: np.ndarray) -> float:
    """How often a number of a is below one of b, ties counting half."""
    ordered = np.sort(b)
    above = len(b) - np.searchsorted(ordered, a, "right")
    return float((above + 0.5 * (np.searchsorted(ordered, a, "right") - np.searchsorted(ordered, a))).mean() / len(b))


def _nearest(x: Tensor, among: Tensor, own: Tensor, count: int) -> Tensor:
    """The rows of `among` (M, D) nearest to each row (N, D), without the one that is its own; (N, count) int64."""
    found = torch.empty((len(x), count), dtype=torch.int64)
    step = max(1, _BLOCK_NUMBERS // len(among))
    for start in range(0, len(x), step):
        part = slice(start, start + step)
        distances = torch.cdist(x[part], among)
        itself = (own[part] >= 0).nonzero().flatten()
        distances[itself, own[part][itself]] = torch.inf
        found[part] = distances.topk(count, largest=False).indices
    return found


def _rms_distance(x: Tensor) -> float:
    """Root mean square distance of two different rows: twice the variance, as for n − 1."""
    return float((2 * x.double().var(0).sum()).sqrt().clamp_min(1e-12))
