"""How well clusters agree with known classes: scores and purity tables.

Measures are those of SeLaVi (Asano et al., 2020, section 4 and appendix A.4); the purity tables are those of
XDC (Alwassel et al., 2020, tables 6, 14 and 15). Nothing here chooses anything: labels are only compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from seehear.errors import DataError

METRICS = ("nmi", "ari", "accuracy", "mean_entropy_nats", "mean_max_purity")


@dataclass(frozen=True)
class ClusteringScores:
    """Agreement of a clustering with given labels."""

    nmi: float
    """Mutual information over the arithmetic mean of the two entropies (Eq. 8), 0 to 1."""
    ari: float
    """Adjusted Rand index (Eq. 9): 0 is chance, 1 is equality."""
    accuracy: float
    """Share of items whose cluster is matched to their class by the best one-to-one (Hungarian) matching.

    The numbers of clusters and classes may differ: items of clusters (or classes) left over count as wrong.
    """
    mean_entropy_nats: float
    """⟨H⟩, Eq. 10: entropy of the labels in a cluster; unweighted mean over the clusters with items."""
    mean_max_purity: float
    """⟨p_max⟩, Eq. 11: share of a cluster's most frequent label; unweighted mean over clusters with items."""
    n: int
    """Items compared."""
    k: int
    """Clusters with items among them."""
    classes: int
    """Different labels among them."""

    def as_dict(self) -> dict[str, float | int]:
        """The fields by name, for JSON."""
        return asdict(self)

    def as_text(self) -> str:
        """Two lines for a terminal: shares in per cent, the entropy in nats."""
        matching = "" if self.k == self.classes else " (matching is rectangular)"
        return (
            f"NMI {100 * self.nmi:.1f}  ARI {100 * self.ari:.1f}  accuracy {100 * self.accuracy:.1f}  "
            f"<H> {self.mean_entropy_nats:.2f} nats  <p_max> {100 * self.mean_max_purity:.1f}\n"
            f"{self.n} items, {self.k} clusters, {self.classes} classes{matching}"
        )


def clustering_scores(labels_true: Iterable[Any], labels_pred: Iterable[Any]) -> ClusteringScores:
    """Compare a clustering with labels, item by item; names or numbers on either side.

    Raises:
        DataError: no items, or not the same number on both sides.
    """
    _, true, _, predicted = _codes(labels_true, labels_pred)
    counts = _contingency(true, predicted)  # (clusters, classes)
    shares = counts / counts.sum(1, keepdims=True)
    entropies = -np.sum(shares * np.log(shares, where=shares > 0, out=np.zeros_like(shares)), axis=1)
    matched = counts[linear_sum_assignment(counts, maximize=True)].sum()
    return ClusteringScores(
        nmi=float(normalized_mutual_info_score(true, predicted)),
        ari=float(adjusted_rand_score(true, predicted)),
        accuracy=float(matched / len(true)),
        mean_entropy_nats=float(entropies.mean()),
        mean_max_purity=float(shares.max(1).mean()),
        n=len(true),
        k=counts.shape[0],
        classes=counts.shape[1],
    )


def nmi(a: Iterable[Any], b: Iterable[Any]) -> float:
    """Normalised mutual information (arithmetic mean) of two labellings of the same items, 0 to 1.

    Between the clusters of two rounds, 1 - nmi is the churn of the labels.
    """
    _, first, _, second = _codes(a, b)
    return float(normalized_mutual_info_score(first, second))


def mean_and_deviation(scores: Sequence[ClusteringScores]) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation (n - 1; 0 for a single one) of each metric over heads or seeds."""
    if not scores:
        raise DataError("no scores to average")
    values = {name: [getattr(score, name) for score in scores] for name in METRICS}
    spread = 1 if len(scores) > 1 else 0
    return {name: (float(np.mean(v)), float(np.std(v, ddof=spread))) for name, v in values.items()}


@dataclass(frozen=True)
class ClusterRow:
    """One line of a purity table."""

    rank: int
    """From 1, the purest."""
    cluster: Any
    size: int
    purity: float
    """Share of the most frequent concept."""
    concepts: list[tuple[str, float]]
    """The most frequent concepts and their shares, falling."""

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, for JSON."""
        return {**asdict(self), "concepts": [[name, share] for name, share in self.concepts]}

    def as_text(self) -> str:
        """As XDC prints it: `play cello(0.15), play trombone(0.11), ...`."""
        return ", ".join(f"{name}({share:.2f})" for name, share in self.concepts)


def purity_table(
    labels_true: Iterable[Any], labels_pred: Iterable[Any], top: int = 3, *, min_size: int = 1
) -> list[ClusterRow]:
    """All clusters by falling purity, with their `top` most frequent labels (XDC: 3 in table 6, 5 in 14, 15).

    Of equally pure clusters the larger comes first, then the lower number; equally frequent labels stand in
    alphabetical order. Clusters of fewer than `min_size` items, which are pure by chance, can be left out.

    Raises:
        DataError: no items, or not the same number on both sides.
    """
    names, true, clusters, predicted = _codes(labels_true, labels_pred)
    counts = _contingency(true, predicted)
    sizes = counts.sum(1)
    purities = counts.max(1) / sizes
    order = [c for c in np.lexsort((np.arange(len(sizes)), -sizes, -purities)) if sizes[c] >= min_size]
    rows = []
    for rank, c in enumerate(order, start=1):
        frequent = np.argsort(-counts[c], kind="stable")[:top]  # names are sorted, so ties are too
        concepts = [(str(names[i]), float(counts[c, i] / sizes[c])) for i in frequent if counts[c, i]]
        rows.append(ClusterRow(rank, clusters[c].item(), int(sizes[c]), float(purities[c]), concepts))
    return rows


def table_as_text(rows: Sequence[ClusterRow], ends: int | None = None) -> str:
    """A purity table in lines: rank, cluster, size, concepts; `ends` shows so many at the top and bottom."""
    cut = ends is not None and len(rows) > 2 * ends
    shown = [*rows[:ends], *rows[len(rows) - ends :]] if ends is not None and cut else list(rows)
    lines = [f"{'#':>4}  {'cluster':>7}  {'size':>6}  concepts"]
    for index, row in enumerate(shown):
        if cut and index == ends:
            lines.append(f"{'...':>4}")
        lines.append(f"{row.rank:>4}  {row.cluster!s:>7}  {row.size:>6}  {row.as_text()}")
    return "\n".join(lines)


def prevailing_cluster(videos: Sequence[str], clusters: Sequence[int], weights: Sequence[float]) -> dict[str, int]:
    """For each video the cluster that weighs most in it; of equal ones the smallest number."""
    found: dict[str, dict[int, float]] = {}
    for video, cluster, weight in zip(videos, clusters, weights, strict=True):
        of_video = found.setdefault(video, {})
        of_video[cluster] = of_video.get(cluster, 0.0) + weight
    return {video: max(sorted(of), key=lambda c: of[c]) for video, of in found.items()}


def _codes(a: Iterable[Any], b: Iterable[Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Sorted names and codes 0, 1, ... of two labellings of the same items."""
    first, second = (np.asarray(side if isinstance(side, np.ndarray) else list(side)) for side in (a, b))
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise DataError(
            f"labels of shape {first.shape} and clusters of shape {second.shape} cannot be compared",
            "both need one entry for each of at least one item",
        )
    first_names, first_codes = np.unique(first, return_inverse=True)
    second_names, second_codes = np.unique(second, return_inverse=True)
    return first_names, first_codes, second_names, second_codes


def _contingency(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """(clusters, classes): how many items of each class are in each cluster."""
    shape = (int(predicted.max()) + 1, int(true.max()) + 1)
    return coo_array((np.ones(len(true), dtype=np.int64), (predicted, true)), shape=shape).toarray()
