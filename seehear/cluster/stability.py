"""How many clusters are there? An estimate from the stability of labellings, without labels.

A number of clusters suits the data if labellings of overlapping subsamples, each from its own seed, agree on the rows
that they share. Agreement is the adjusted Rand index: 0 is chance, 1 is equality (Ben-Hur, Elisseeff and Guyon). Alone
it misleads: any data can be cut in two at its longest extent again and again. So the same is done with reference data
that have no clusters, and what counts is the excess over them (Dudoit and Fridlyand's Clest). Two changes: the
references are drawn from the Gaussian with the mean and covariance of the rows, which keeps their extents, instead of
from a box; and instabilities, 1 − stability, are compared by their logarithms, since a cut through a gap moves next to
no row where a cut through one piece moves some. Standardised by the references, that of a k must be better than that of
any reference at any k, which holds for all k asked about at once. Of those that pass, the k is taken whose instability
is the smallest part of the references'.

It is an estimate of how many groups the features fall into, seen by the algorithm that looks: neither the number of
classes that a person has in mind, nor proof of clusters. Data that are in one piece but not Gaussian (bent, skewed) may
be said to have some; overlapping clusters may not be found.

References: A. Ben-Hur, A. Elisseeff, I. Guyon, "A stability based method for discovering structure in clustered data"
(2002); S. Dudoit, J. Fridlyand, "A prediction-based resampling method for estimating the number of clusters in a
dataset" (2002); U. von Luxburg, "Clustering stability: an overview" (2010), for what can go wrong.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seehear.cluster.kmeans import kmeans
from seehear.errors import DataError

Clusterer = Callable[[Tensor, int, int], Tensor]
"""Rows (n, D), the number of clusters and a seed to labels (n,)."""

LEVEL = 0.05
"""How often data without clusters may be taken for clustered, all k together."""
LEAST_EXCESS = 0.05
"""Where the stability is not this much above that of the references, nothing is claimed, however certain."""
_SMALLEST_INSTABILITY = 0.005
"""Below this 1 − stability is a matter of single rows."""
_SMALLEST_SD = 0.1
"""Of the logarithm of the instability, for references that are all alike."""


@dataclass(frozen=True)
class Stability:
    """One number of clusters."""

    k: int
    stability: float
    """Mean adjusted Rand index of pairs of labellings on the rows that they share."""
    sd: float
    """Standard deviation over the pairs, which are not independent."""
    reference: float
    """Mean stability of the reference data."""
    reference_sd: float
    """Standard deviation over the reference data sets."""
    steadier: float
    """How many times the references' instability (geometric mean) is that of these rows."""
    p_value: float
    """Share of data sets (the references and this one) that are as stable, beyond what is usual, at any k."""


@dataclass(frozen=True)
class Estimate:
    """How stable each number of clusters is, and which one is best, if any is better than chance."""

    k: int | None
    """The k with the largest `steadier` among those that are better than chance; None: nothing can be claimed."""
    also: tuple[int, ...]
    """Others that are better than chance and at least half as many times steadier."""
    table: tuple[Stability, ...]
    rows: int
    """Rows used."""
    subsamples: int
    references: int

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, for JSON."""
        return asdict(self)

    def as_text(self) -> str:
        """The verdict in one sentence."""
        if self.k is None:
            best = max(self.table, key=lambda s: (-s.p_value, s.steadier))
            return (
                f"no estimate: no number of clusters is more stable than in data without clusters (the best, "
                f"{best.k}: {best.stability:.2f} against {best.reference:.2f}, p = {best.p_value:.2f})"
            )
        best = next(s for s in self.table if s.k == self.k)
        others = f"; nearly as good: {', '.join(map(str, self.also))}" if self.also else ""
        return (
            f"estimate: {self.k} clusters (stability {best.stability:.2f} against {best.reference:.2f} in data without "
            f"clusters, p = {best.p_value:.2f}){others}"
        )


def by_kmeans(x: Tensor, k: int, seed: int) -> Tensor:
    """Labels (n,) by k-means, the best of three starts."""
    return kmeans(x, k, restarts=3, seed=seed).labels


def estimate_k(
    x: Tensor,
    ks: Sequence[int],
    *,
    cluster: Clusterer = by_kmeans,
    subsamples: int = 8,
    share: float = 0.8,
    references: int = 19,
    most_rows: int = 1000,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Estimate:
    """Compare numbers of clusters by the stability of their labellings with that of data without clusters.

    Args:
        x: rows (N, D), float32 on the CPU, prepared as they will be clustered.
        ks: numbers of clusters to compare, each at least 2.
        cluster: the algorithm.
        subsamples: subsets that are clustered for each k; all pairs of them are compared.
        share: of the rows, in each subset.
        references: data sets without clusters. Below 19 nothing can be better than chance at the 5 % level.
        most_rows: of more rows so many are drawn at random first.
        seed: of every draw.

    Complexity:
        (references + 1) · len(ks) · subsamples clusterings; O(most_rows · (D + most_rows)) memory.

    Raises:
        DataError: too few rows for the largest k, or rows that are not finite.
        ValueError: settings out of range.
    """
    wanted = sorted(set(ks))
    if not wanted or wanted[0] < 2:
        raise ValueError(f"numbers of clusters to compare must be at least 2, not {list(ks)}")
    if subsamples < 2 or not 0.5 < share < 1 or references < 2:
        raise ValueError(
            f"subsamples={subsamples} must be at least 2, share={share} above one half and below 1, and "
            f"references={references} at least 2"
        )
    random = np.random.default_rng(seed)
    if len(x) > most_rows:
        x = x[torch.from_numpy(np.sort(random.choice(len(x), most_rows, replace=False)))]
    size = int(share * len(x))
    if size < wanted[-1]:
        raise DataError(
            f"subsamples of {size} rows cannot make {wanted[-1]} clusters",
            f"compare at most {size} clusters, or give more rows",
        )
    if not bool(x.isfinite().all()):
        raise DataError("rows to cluster are not finite", "leave out the rows with NaN or infinity")
    total, done = (references + 1) * len(wanted), 0
    means = np.empty((references + 1, len(wanted)))
    sds = np.empty(len(wanted))
    for data_set in range(references + 1):
        rows = x if data_set == 0 else _reference(x, random)
        for column, k in enumerate(wanted):
            found = agreements(rows, k, cluster, subsamples, size, random)
            means[data_set, column] = found.mean()
            if data_set == 0:
                sds[column] = found.std()
            done += 1
            if progress:
                progress(done, total)
    return _estimate(wanted, means, sds, len(x), subsamples, references)


def _estimate(
    ks: Sequence[int], means: np.ndarray, sds: np.ndarray, rows: int, subsamples: int, references: int
) -> Estimate:
    """The estimate from the mean agreements (1 + references, K), the first row being the data's, and their sd (K,)."""
    firmness = -np.log(np.maximum(1 - means, _SMALLEST_INSTABILITY))
    p_values = _p_values(firmness)
    table = tuple(
        Stability(
            k=k,
            stability=float(means[0, i]),
            sd=float(sds[i]),
            reference=float(means[1:, i].mean()),
            reference_sd=float(means[1:, i].std(ddof=1)),
            steadier=float(np.exp(firmness[0, i] - firmness[1:, i].mean())),
            p_value=float(p_values[i]),
        )
        for i, k in enumerate(ks)
    )
    better = [s for s in table if s.p_value <= LEVEL + 1e-9 and s.stability - s.reference >= LEAST_EXCESS]
    if not better:
        return Estimate(None, (), table, rows, subsamples, references)
    best = max(better, key=lambda s: (s.steadier, s.k))
    also = tuple(s.k for s in better if s is not best and s.steadier >= best.steadier / 2)
    return Estimate(best.k, also, table, rows, subsamples, references)


def adjusted_rand(a: np.ndarray, b: np.ndarray) -> float:
    """Adjusted Rand index of two labellings (n,) by small non-negative integers; 1 if both are trivial alike."""
    columns = int(b.max()) + 1
    counts = np.bincount(a * columns + b, minlength=(int(a.max()) + 1) * columns).reshape(-1, columns).astype(float)

    def pairs(n: np.ndarray) -> float:
        return float((n * (n - 1)).sum() / 2)

    both, first, second = pairs(counts), pairs(counts.sum(1)), pairs(counts.sum(0))
    expected = first * second / max(len(a) * (len(a) - 1) / 2, 1.0)
    most = (first + second) / 2
    return 1.0 if most == expected else (both - expected) / (most - expected)


def agreements(
    x: Tensor, k: int, cluster: Clusterer, subsamples: int, size: int, random: np.random.Generator
) -> np.ndarray:
    """Adjusted Rand indices of all pairs of labellings of random subsets, on the rows that both have."""
    labels = np.full((subsamples, len(x)), -1)
    for subset in labels:
        rows = np.sort(random.choice(len(x), size, replace=False))
        subset[rows] = cluster(x[torch.from_numpy(rows)], k, int(random.integers(2**31))).numpy()
    found = []
    for a, b in itertools.combinations(labels, 2):
        shared = (a >= 0) & (b >= 0)
        found.append(adjusted_rand(a[shared], b[shared]))
    return np.array(found)


def _reference(x: Tensor, random: np.random.Generator) -> Tensor:
    """Rows (N, D) of the Gaussian with the mean and covariance of x."""
    mean = x.double().mean(0)
    # Normal combinations of the centred rows have their covariance, which need not be made (nor be regular).
    draws = torch.from_numpy(random.standard_normal((len(x), len(x))))
    # Rows of length 1 get references that are not: scaling these would even out their extents, and so make them less
    # stable than rows on a sphere that have no clusters either.
    return (mean + draws @ (x.double() - mean) / max(len(x) - 1, 1) ** 0.5).float()


def _p_values(firmness: np.ndarray) -> np.ndarray:
    """For each k of the first data set, how many data sets reach its standardised score at any k, as a share.

    Each data set is compared with all others, so that under the hypothesis that the first is like the references no
    one of them is singled out. `firmness` are −logarithms of instabilities (data sets, ks).
    """
    scores = np.empty_like(firmness)
    for i in range(len(firmness)):
        others = np.delete(firmness, i, axis=0)
        scores[i] = (firmness[i] - others.mean(0)) / np.maximum(others.std(0, ddof=1), _SMALLEST_SD)
    largest = scores[1:].max(1)
    return (1 + (largest[:, None] >= scores[0]).sum(0)) / len(firmness)
