"""Clusters of prescribed sizes from features alone: centroids and optimal transport in turns, without a network.

k-means gives first centroids. Then, until no label changes:

1. The cost of row x in cluster y is |x − c_y|² / s, where s is the mean over the rows of the difference between
   the squared distances to the second nearest and to the nearest centroid of k-means: the cost of taking the next
   best cluster is 1 on average, whatever the features are. log p(y|x) is the logarithm of the softmax of −cost.
2. Optimal transport (`seehear.cluster.sinkhorn`) labels the rows so that cluster y gets its share of them. The
   largest share belongs to the largest cluster of k-means, and so on down.
3. Each centroid becomes the mean of the rows with its label.

With equal potentials this is k-means. The rows of a cluster are a cell of a power diagram: a cluster whose share is
larger than what lies near it reaches out for its neighbours' nearest rows. For rows of length 1 the cost differs from
−2 · cosine / s, with centroids as they are, by a number for each cluster and one for each row, neither of which changes
the plan.

References: M. Cuturi and A. Doucet, "Fast computation of Wasserstein barycenters" (2014), Section 4, for clusters of
prescribed sizes by transport; Y. Asano, M. Patrick, C. Rupprecht, A. Vedaldi, "Labelling unlabelled videos from scratch
with multi-modal self-supervision" (2020), Section 3, for the marginals and the strength.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from seehear.cluster.kmeans import KMeansResult, assign, full_precision, kmeans
from seehear.cluster.marginals import make_marginals, match_marginals
from seehear.cluster.sinkhorn import sinkhorn

_STORED_BYTES = 2 << 30
"""Costs are computed once a round up to this size, and once a Sinkhorn iteration beyond."""
_BLOCK_NUMBERS = 2**20


@dataclass(frozen=True)
class BalancedResult:
    """A clustering under given shares."""

    centroids: Tensor
    """(k, D) float32."""
    labels: Tensor
    """(N,) int64; not always the nearest centroid."""
    squared_distances: Tensor
    """(N,) float32: squared Euclidean distance of each row to the centroid of its label."""
    confidence: Tensor
    """(N,) float32: 1 − p₂/p₁ with the two largest probabilities under the transport's potentials (at strength 1): 0
    on the border of two clusters, towards 1 far from every border."""
    marginals: Tensor
    """(k,) float64: the share that each cluster was to get."""
    sizes: Tensor
    """(k,) int64: rows in each cluster."""
    iterations: int
    """How often the centroids were moved after k-means."""
    converged: bool
    """Whether the labels came to rest and the last transport met its tolerance."""


def balanced(
    x: Tensor,
    k: int,
    marginals: str | Tensor | np.ndarray | Sequence[float] = "uniform",
    *,
    strength: float = 50.0,
    iterations: int = 50,
    restarts: int = 3,
    tolerance: float = 1e-3,
    seed: int = 0,
) -> BalancedResult:
    """Cluster rows so that the clusters get given shares of them; on this process alone.

    Args:
        x: rows (N, D), float32; scaled to length 1 if directions are to count.
        k: number of clusters.
        marginals: "uniform", "gaussian", "zipf" or k positive numbers; see `make_marginals`.
        strength: the larger, the closer the plan is to the unregularised one, and the sizes to the shares; the more
            iterations it takes, too.
        iterations: at most so many moves of the centroids.
        restarts: runs of the k-means that begins it.
        tolerance: of the shares; see `sinkhorn`.
        seed: of k-means and of "gaussian".

    Complexity:
        O(N · k · (D + T)) a move, T being the iterations of the transport; O(N · k) memory up to 2 GiB, beyond that
        O(N · k · D · T) time and no such memory.

    Raises:
        DataError: fewer rows than clusters, k < 1, or rows that are not finite.
        ValueError: marginals that are no shares of k clusters, or settings out of range.
    """
    if iterations < 1:
        raise ValueError(f"iterations={iterations} must be at least 1")
    shares = make_marginals(marginals, k, torch.Generator().manual_seed(seed)) if k >= 1 else None
    start = kmeans(x, k, restarts=restarts, seed=seed)
    assert shares is not None
    with torch.no_grad(), full_precision(x.device):
        shares = match_marginals(shares.to(x.device), start.sizes.double())
        costs = _Costs(x, start.centroids, _mean_gap(x, start))
        labels, moves, settled = None, 0, False
        while True:
            stored = 4 * len(x) * k <= _STORED_BYTES
            plan = sinkhorn(
                costs[:] if stored else costs, shares, strength=strength, tolerance=tolerance, overwrite=stored
            )
            settled = labels is not None and bool((plan.labels == labels).all())
            labels = plan.labels
            if settled or moves == iterations:
                break
            costs.centroids = _means(x, labels, costs.centroids)
            moves += 1
        squared, confidence = _measure(x, costs, labels, plan.log_alpha / strength)
        return BalancedResult(
            costs.centroids, labels, squared, confidence, shares, plan.masses, moves, settled and plan.converged
        )


class _Costs:
    """−|x − c|² / scale (N, k), up to a number for each row; computed when a slice is read."""

    def __init__(self, x: Tensor, centroids: Tensor, scale: float) -> None:
        self.x, self.centroids, self.scale = x, centroids, scale
        # Features may lie far from the origin and close to each other.
        self.shift = x.mean(0)
        self.device = x.device

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.x), len(self.centroids)

    def __getitem__(self, part: slice) -> Tensor:
        centroids = self.centroids - self.shift
        return torch.addmm(-centroids.square().sum(1), self.x[part] - self.shift, centroids.T, alpha=2).div_(self.scale)


def _mean_gap(x: Tensor, start: KMeansResult) -> float:
    if len(start.centroids) < 2:
        return 1.0
    _, nearest, second = assign(x, start.centroids)
    # Rows that are all alike have no gap, and nothing to scale.
    return float((second - nearest).mean(dtype=torch.float64)) or 1.0


def _means(x: Tensor, labels: Tensor, before: Tensor) -> Tensor:
    """The mean of the rows with each label; a cluster without rows stays where it was."""
    sums = torch.zeros(before.shape, dtype=torch.float64, device=x.device)
    for part in _parts(len(x), x.shape[1]):
        sums.index_add_(0, labels[part], x[part].double())
    counts = torch.bincount(labels, minlength=len(before))[:, None]
    return torch.where(counts > 0, sums / counts.clamp_min(1), before.double()).float()


def _measure(x: Tensor, costs: _Costs, labels: Tensor, potentials: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distances to the label's centroid (N,) and confidences (N,)."""
    squared, confidence = torch.empty(len(x), device=x.device), torch.ones(len(x), device=x.device)
    k = len(costs.centroids)
    for part in _parts(len(x), max(k, x.shape[1])):
        squared[part] = (x[part] - costs.centroids[labels[part]]).square_().sum(1)
        if k > 1:
            best = (costs[part].double() + potentials).topk(2, dim=1).values
            confidence[part] = -torch.expm1(best[:, 1] - best[:, 0]).float()
    return squared, confidence


def _parts(rows: int, columns: int) -> list[slice]:
    step = max(64, _BLOCK_NUMBERS // max(columns, 1))
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]
