"""Labels from the features of any encoder, after its training: cluster, score, and estimate how many clusters.

Clustering the features of a trained network is the baseline that the SeLaVi paper compares itself with (Asano et al.,
2020, section 4): it needs no more than a table of numbers, whoever made it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from torch import Tensor

from seehear.cluster.balanced import balanced
from seehear.cluster.kmeans import kmeans
from seehear.cluster.preprocess import FeatureTransform
from seehear.cluster.stability import Estimate, by_kmeans, estimate_k
from seehear.data.truth import load_truth, load_truth_of_rows, match
from seehear.errors import DataError, UsageError
from seehear.features.files import Features, Source, read_features
from seehear.features.headlabels import exemplar_ranks
from seehear.features.model import nearest_centroids
from seehear.files import check_ending, write_result, write_table
from seehear.labelling.stability_picture import stability_svg
from seehear.metrics.clustering import clustering_scores, prevailing_cluster, purity_table
from seehear.options import number_span
from seehear.progress import Progress

Algorithm = Literal["kmeans", "sinkhorn"]
Marginals = Literal["uniform", "gaussian", "zipf"]
ALGORITHMS: tuple[Algorithm, ...] = ("kmeans", "sinkhorn")
MARGINALS: tuple[Marginals, ...] = ("uniform", "gaussian", "zipf")


@dataclass(frozen=True)
class Preparation:
    """What is done to features before they are clustered; the defaults are those of pretraining."""

    l2: bool = True
    """Scale each row to length 1, last of all."""
    pca_dim: int | None = None
    """Keep so many principal components."""
    whiten: bool = False
    """Give the components unit variance."""

    def apply(self, features: Features) -> Tensor:
        """Rows (N, P) float32 to cluster."""
        transform = FeatureTransform(l2=self.l2, pca_dim=self.pca_dim, whiten=self.whiten)
        try:
            return transform.fit(features.x).apply(features.x)
        except DataError as error:
            raise DataError(f"{features.source}: {error.message}", error.remedy) from None


@dataclass(frozen=True)
class LabelledRows:
    """A table like that of `seehear label`, and how it came about."""

    table: pa.Table
    """`video` (and `start`, `end` where known) or `row`; cluster, confidence (rounded to 4 places), exemplar_rank."""
    facts: dict[str, Any] = field(default_factory=dict)
    """For JSON: features, column, rows, dimensions, algorithm, k, sizes, and what the algorithm adds."""


@dataclass(frozen=True)
class LabelledFeatures:
    """What `seehear.label_features` found, as far as it was asked for."""

    table: pa.Table | None
    """See `LabelledRows`."""
    facts: dict[str, Any]
    """About `table`, for JSON."""
    estimate: Estimate | None
    """Of the number of clusters."""
    scores: dict[str, Any]
    """Agreement with known classes, as `score_labels` gives it."""
    out: str | None
    """Where `table` was written."""
    unlabelled: bool
    """There was no number of clusters to label with."""

    def as_dict(self) -> dict[str, Any]:
        """All but the table, for JSON."""
        estimate = {} if self.estimate is None else {"estimate": self.estimate.as_dict()}
        return estimate | self.facts | ({"out": self.out} if self.out else {}) | self.scores


def label_and_compare(
    features: Source,
    k: int | None,
    *,
    out: str | Path | None,
    algorithm: Algorithm,
    marginals: Marginals | None,
    column: str | None,
    l2: bool,
    pca: int | None,
    whiten: bool,
    seed: int,
    labels: str | Path | None,
    among: str | Iterable[int] | None,
    plot: str | Path | None,
) -> LabelledFeatures:
    """What `seehear.label_features` does; arguments as there, `among` being `choose_k`."""
    if (k is None) == (among is None):
        raise UsageError("give either a number of clusters or numbers to choose from", "-k 10, or --choose-k 2-20")
    if among is None and plot is not None:
        raise UsageError("--plot draws what --choose-k found", "--choose-k 2-20 --plot FILE.svg")
    if among is None and out is None and labels is None:
        raise UsageError("nothing to do with the labels", "write them with --out labels.csv, or compare: --labels FILE")
    check_ending(out, ".csv", ".parquet")
    check_ending(plot, ".svg")
    ks = number_span(among) if isinstance(among, str) else among
    read = read_features(features, column)
    options: dict[str, Any] = {
        "algorithm": algorithm, "marginals": marginals, "seed": seed, "preparation": Preparation(l2, pca, whiten),
    }  # fmt: skip
    estimate = None
    if ks is not None:
        with Progress(quiet=None) as progress:
            estimate = choose_k(read, list(ks), progress=progress.shown("compare", "labellings"), **options)
        k = estimate.k
        if plot is not None:
            write_result(Path(plot), stability_svg(estimate))
    wanted = out is not None or labels is not None
    if k is None or not wanted:
        return LabelledFeatures(None, {}, estimate, {}, None, unlabelled=wanted)
    found = cluster_features(read, k, **options)
    if out is not None:
        write_table(found.table, Path(out))
    scores = {} if labels is None else score_labels(found.table, labels)
    return LabelledFeatures(found.table, found.facts, estimate, scores, None if out is None else str(out), False)


def cluster_features(
    source: Source | Features,
    k: int,
    *,
    column: str | None = None,
    algorithm: Algorithm = "kmeans",
    marginals: Marginals | None = None,
    preparation: Preparation | None = None,
    iterations: int = 50,
    restarts: int = 10,
    seed: int = 0,
) -> LabelledRows:
    """Label the rows of `source` (see `read_features`) with k clusters.

    "kmeans" keeps the best of `restarts` runs; the confidence is 1 − d₁/d₂ with the distances to the nearest and second
    nearest centroid, as `seehear label` has it. "sinkhorn" gives the clusters the shares that `marginals` names
    ("uniform" if None) by optimal transport; see `seehear.cluster.balanced`, also for its confidence. The exemplar rank
    is 1 for the row closest to its cluster's centroid.

    Raises:
        UsageError: an algorithm or marginals that there are not, or do not go together.
        DataError: see `read_features`; fewer rows than clusters.
    """
    _check_choices(algorithm, marginals)
    features = source if isinstance(source, Features) else read_features(source, column)
    _check_count(features, k)
    x = (preparation or Preparation()).apply(features)
    facts: dict[str, Any] = {
        "features": features.source, "column": features.column, "rows": len(x), "dimensions": int(features.x.shape[1]),
        "algorithm": algorithm, "k": k, "seed": seed,
    }  # fmt: skip
    if algorithm == "kmeans":
        found = kmeans(x, k, iterations=iterations, restarts=restarts, seed=seed)
        labels = found.labels.numpy()
        _, distances, confidence = nearest_centroids(x, found.centroids)
        facts |= {"sizes": found.sizes.tolist(), "objective": found.objective, "reseeded": found.reseeded}
    else:
        result = balanced(x, k, marginals or "uniform", iterations=iterations, restarts=restarts, seed=seed)
        labels, confidence = result.labels.numpy(), result.confidence.numpy()
        distances = result.squared_distances.sqrt().numpy()
        facts |= {
            "marginals": marginals or "uniform",
            "sizes": result.sizes.tolist(),
            "shares": [round(share, 6) for share in result.marginals.tolist()],
            "iterations": result.iterations,
            "converged": result.converged,
        }
    columns: dict[str, Any] = dict(features.keys)
    columns |= {
        "cluster": labels.astype(np.int32),
        "confidence": np.round(confidence, 4),
        "exemplar_rank": exemplar_ranks(labels, distances),
    }
    return LabelledRows(pa.table(columns), facts)


def choose_k(
    source: Source | Features,
    ks: Sequence[int],
    *,
    column: str | None = None,
    algorithm: Algorithm = "kmeans",
    marginals: Marginals | None = None,
    preparation: Preparation | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Estimate:
    """Estimate how many clusters the rows of `source` fall into: see `seehear.cluster.stability.estimate_k`.

    `options` are those of that function. Raises what `cluster_features` does.
    """
    _check_choices(algorithm, marginals)
    if not ks or min(ks) < 2:
        raise UsageError("numbers of clusters to compare are 2 or more", "--choose-k 2-20")
    features = source if isinstance(source, Features) else read_features(source, column)
    _check_count(features, max(ks))

    def by_sinkhorn(x: Tensor, k: int, seed: int) -> Tensor:
        return balanced(x, k, marginals or "uniform", restarts=1, seed=seed).labels

    x = (preparation or Preparation()).apply(features)
    cluster = by_kmeans if algorithm == "kmeans" else by_sinkhorn
    try:
        return estimate_k(x, ks, cluster=cluster, seed=seed, progress=progress, **options)
    except DataError as error:
        raise DataError(f"{features.source}: {error.message}", error.remedy) from None


def score_labels(table: pa.Table, truth: str | Path, top: int = 5) -> dict[str, Any]:
    """Agreement of a table of `cluster_features` with known classes, as `evaluate_clustering` gives it.

    `truth` is a CSV or Parquet of videos and labels; a video has the cluster of most of its time (or rows). Rows
    without a video are matched by a column `row`, or by their order if there are as many.
    """
    if "video" in table.column_names:
        known, clusters = load_truth(truth), _clusters_by_video(table)
    else:
        known = load_truth_of_rows(truth, table.num_rows)
        clusters = {str(row): c for row, c in zip(*(table[n].to_pylist() for n in ("row", "cluster")), strict=True)}
    matched = match(known, clusters)
    return {
        "videos": len(matched.ids),
        "unmatched": {"truth": len(matched.unmatched_truth), "run": len(matched.unmatched_predictions)},
        "scores": {"features": clustering_scores(matched.y_true, matched.y_pred).as_dict()},
        "purity": {"features": [row.as_dict() for row in purity_table(matched.y_true, matched.y_pred, top=top)]},
    }


def _clusters_by_video(table: pa.Table) -> Mapping[str, int]:
    timed = "start" in table.column_names
    lengths = np.subtract(table["end"].to_numpy(), table["start"].to_numpy()) if timed else np.ones(table.num_rows)
    return prevailing_cluster(table["video"].to_pylist(), table["cluster"].to_pylist(), lengths.tolist())


def _check_choices(algorithm: str, marginals: str | None) -> None:
    if algorithm not in ALGORITHMS:
        raise UsageError(f"there is no algorithm {algorithm!r}", f"choose one of {', '.join(ALGORITHMS)}")
    if marginals is not None and marginals not in MARGINALS:
        raise UsageError(f"there are no marginals {marginals!r}", f"choose one of {', '.join(MARGINALS)}")
    if marginals is not None and algorithm != "sinkhorn":
        raise UsageError(f"{algorithm} cannot keep marginals", "--algorithm sinkhorn")


def _check_count(features: Features, k: int) -> None:
    if k < 1:
        raise UsageError(f"cannot make {k} clusters", "ask for at least 1")
    if k > len(features.x):
        raise DataError(
            f"{features.source}: {len(features.x)} rows cannot make {k} clusters",
            f"ask for at most {len(features.x)}, or give more rows",
        )
