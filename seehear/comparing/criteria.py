"""What the features of a run say of it without labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from sklearn.metrics import adjusted_mutual_info_score
from torch import Tensor

from seehear.cluster.doubt import doubts
from seehear.cluster.kinds import estimate_kinds
from seehear.cluster.kmeans import assign, kmeans
from seehear.cluster.stability import agreements

_SPLITS = 3


@dataclass(frozen=True)
class Criteria:
    """Numbers about one run, all of them better the larger."""

    k: int | None
    """Kinds that sight and sound agree on; None: they share no more than chance would, and the rest is 0."""
    low: int | None
    high: int | None
    """The numbers that it may be as well."""
    more: bool
    """Whether it may be more than any number that was compared."""
    shared_bits: float
    """What the labellings by sight and by sound share at k clusters, beyond chance: the criterion that ranks."""
    agreement: float
    """The same as a share of all that they hold: adjusted mutual information."""
    predicted: float
    """AMI of clusters by one modality and what the other says of them, in the half of the clips that neither saw."""
    stability: float
    """Adjusted Rand index of clusters by both modalities in random four fifths of the clips."""
    of_a_kind: float
    """Share of the clips whose sight and sound go together (`seehear.cluster.doubt`); 0 where that cannot be told."""

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, for JSON."""
        return asdict(self)


def criteria(
    sight: Tensor, sound: Tensor, *, seed: int = 0, progress: Callable[[int, int], None] | None = None
) -> Criteria:
    """Measure rows (N, D₁) and (N, D₂) of the same clips, of length 1. Raises what `estimate_kinds` does."""
    kinds = estimate_kinds(sight, sound, seed=seed, progress=progress)
    if kinds.k is None:
        return Criteria(None, None, None, False, 0.0, 0.0, 0.0, 0.0, 0.0)
    best = next(s for s in kinds.table if s.k == kinds.k)
    random = np.random.default_rng(seed)
    both = torch.cat([sight, sound], dim=1) / 2**0.5
    size = int(0.8 * len(both))
    doubt = doubts(sight, sound, seed=seed)
    return Criteria(
        kinds.k, kinds.low, kinds.high, kinds.more, best.shared / float(np.log(2)), best.agreement,
        held_out_prediction(sight, sound, kinds.k, random),
        float(agreements(both, kinds.k, _clusters, 5, size, random).mean()),
        0.0 if np.isnan(doubt.doubt).all() else float(1 - doubt.outliers.mean()),
    )  # fmt: skip


def held_out_prediction(sight: Tensor, sound: Tensor, k: int, random: np.random.Generator) -> float:
    """How well each modality tells the cluster that a clip has by the other, where neither helped to make clusters.

    Half of the clips are clustered by one modality; of these clusters the means by the other modality are taken. A clip
    of the other half has a cluster by its nearest centroid, and a guess by the nearest of those means. Returned is the
    AMI of both, averaged over both directions and three random halves. The encoders may have seen all clips.
    """
    found = []
    for _ in range(_SPLITS):
        order = torch.from_numpy(random.permutation(len(sight)))
        known, held = order[: len(order) // 2], order[len(order) // 2 :]
        for by, of in ((sight, sound), (sound, sight)):
            clusters = kmeans(of[known], k, restarts=3, seed=int(random.integers(2**31)))
            sums = torch.zeros(k, by.shape[1]).index_add_(0, clusters.labels, by[known])
            means = sums / clusters.sizes.clamp_min(1)[:, None]
            truth, guess = assign(of[held], clusters.centroids)[0], assign(by[held], means)[0]
            found.append(adjusted_mutual_info_score(truth.numpy(), guess.numpy()))
    return float(np.mean(found))


def _clusters(x: Tensor, k: int, seed: int) -> Tensor:
    return kmeans(x, k, restarts=2, seed=seed).labels
