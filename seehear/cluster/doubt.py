"""Doubt: how far a clip is from all that it could be of a kind with.

A clip of a kind has others that look and sound like it, both at once. So each clip's distance s is the mean of its
distances to the clips nearest to it by both modalities together, sight and sound each in units of the root mean square
distance of any two clips by it. A clip whose sound goes with other sights than its own is far from all, and so is one
of its own. Clusters do not come in, so this needs no number of them. Neighbours are a twentieth of the clips, from 3 to
20: encoders that were trained on a few odd clips make these resemble each other, but seldom twenty.

Two numbers give s a scale: its median is what is usual here, and the upper quartile over clips that were given the
sound of any other clip is what a clip of no kind has. So

    doubt = (s − usual) / (strange − usual),

0 for a usual clip, 1 for one whose sound has nothing to do with its sight. From 1/2 on it is nearer to the strangers.
A kind of fewer clips than there are neighbours is strange as well: doubt says that a clip may belong to none.

The rule is ours; evidence, for and against, is in docs/research/labels.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from seehear.errors import DataError

THRESHOLD = 0.5
"""From here on a clip is doubtful."""
FEWEST_NEIGHBOURS = 3
"""So that a kind of four clips is a kind: with so many, clips are left out where kinds are counted."""
_STRANGERS = 0.75
"""Quantile of the distances of clips with another's sound that stands for strangers: others are often of the same kind,
and where one kind has most of the clips the median would be."""
_LEAST_CONTRAST = 0.65
"""How often a clip's distance must be below that of one with another's sound, or nothing can be said; 1/2 is chance."""
_SAME = 0.01
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

        A row is no neighbour of its own: a companion that lies within a hundredth of the scale is the same clip.
        Decoded anew, or in another batch, a clip's features differ by a tenth of that.

        Complexity:
            O(N · M · (D₁ + D₂)) time.
        """
        if not self.telling:
            return Doubt(np.full(len(first), np.nan, np.float32), self.usual, self.strange)
        distance = self.distances(first, second)
        doubt = (distance - self.usual) / (self.strange - self.usual)
        return Doubt(doubt.astype(np.float32), self.usual, self.strange)

    def distances(self, first: Tensor, second: Tensor, without: Tensor | None = None) -> np.ndarray:
        """Mean distance (N,) of rows to their nearest companions.

        Those numbered in `without` (N, ...) are left out, by default the one that is the same clip.
        """
        x, among = self._joint(first, second), self._joint(self.first, self.second)
        found = torch.empty(len(x))
        step = max(1, _BLOCK_NUMBERS // len(among))
        for start in range(0, len(x), step):
            part = slice(start, start + step)
            distances = torch.cdist(x[part], among)
            if without is None:
                nearest, place = distances.min(dim=1)
                distances[torch.arange(len(place)), place] = nearest.where(nearest > _SAME, torch.inf)
            else:
                distances.scatter_(1, without[part], torch.inf)
            found[part] = distances.topk(self.neighbours, largest=False).values.mean(1)
        return found.numpy()

    def _joint(self, first: Tensor, second: Tensor) -> Tensor:
        return torch.cat([first / self.scales[0], second / self.scales[1]], dim=1)


def neighbours_of(rows: int) -> int:
    """How many neighbours each of so many clips has."""
    return min(20, max(FEWEST_NEIGHBOURS, rows // 20))


def companions(first: Tensor, second: Tensor, *, neighbours: int | None = None, seed: int = 0) -> Companions:
    """Make ready to doubt clips, by rows (M, D₁) and (M, D₂) of the same clips, float32 on the CPU, of length 1.

    Args:
        neighbours: of each clip; by default those of `neighbours_of`.
        seed: of the draw of strangers.

    Raises:
        DataError: too few rows, or modalities that do not have as many.
    """
    rows = len(first)
    count = neighbours_of(rows) if neighbours is None else neighbours
    if rows != len(second) or rows <= count + 2:
        raise DataError(
            f"{rows} and {len(second)} rows: no {count} neighbours of each clip in both modalities",
            f"give at least {count + 3} clips that have both",
        )
    found = Companions(first, second, count, (_rms_distance(first), _rms_distance(second)), 0.0, 0.0, False)
    # Every clip gets the sound of one that stands up to M − 1 places further: never its own.
    own = torch.arange(rows)
    other = (own + torch.from_numpy(np.random.default_rng(seed).integers(1, rows, rows))) % rows
    distance = found.distances(first, second, own[:, None])
    strangers = found.distances(first, second[other], torch.stack([own, other], dim=1))
    usual, strange = float(np.median(distance)), float(np.quantile(strangers, _STRANGERS))
    telling = strange > usual and _below(distance, strangers) >= _LEAST_CONTRAST
    return replace(found, usual=usual, strange=strange, telling=telling)


def doubts(
    first: Tensor, second: Tensor, *, neighbours: int | None = None, most_rows: int = 5000, seed: int = 0
) -> Doubt:
    """Measure how far each clip is from all that it could be of a kind with.

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


def _rms_distance(x: Tensor) -> float:
    """Root mean square distance of two different rows: twice the variance, as for n − 1."""
    return float((2 * x.double().var(0).sum()).sqrt().clamp_min(1e-12))
