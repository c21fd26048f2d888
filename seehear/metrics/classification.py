"""Metrics of classifiers beyond the share of right answers: rankings, confusions and scores of single classes.

Mean average precision, ROC AUC and d' are what Gemmeke et al. ("Audio Set", 2017; Hershey et al., "CNN
architectures for large-scale audio classification", 2017) report for AudioSet and Chen et al. ("VGG-Sound", 2020)
for VGG-Sound: each is a mean over classes. A clip may have several classes or one (`indicators`).

Shapes: N clips, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import norm
from sklearn.metrics import average_precision_score, precision_recall_fscore_support, roc_auc_score

from seehear.errors import UsageError

TOP_K = 5
RANKING = ("mAP", "AUC", "d'")
"""Metrics that need a score for each class, by the names under which they are reported."""
BOOTSTRAP_DRAWS = 200


def indicators(labels: Sequence[str] | np.ndarray, classes: Sequence[str] | np.ndarray) -> np.ndarray:
    """Which class each clip has, (N, C) bool; a label that is none of `classes` gives a row of False."""
    return np.asarray(labels)[:, None] == np.asarray(classes)[None]


def average_precision(truth: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Average precision of each class, (C,): the mean, over its clips, of the precision down to each.

    `truth` (N, C) is True where a clip has a class, `scores` (N, C) are larger where it is likelier. NaN for a class
    that no clip has. Raises `UsageError` if the shapes differ.
    """
    _check(truth, scores)
    found = np.full(truth.shape[1], np.nan)
    for c in np.flatnonzero(truth.any(axis=0)):
        found[c] = average_precision_score(truth[:, c], scores[:, c])
    return found


def roc_auc(truth: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each class, (C,): how often a clip that has it scores above one that has not.

    Equal scores count half. NaN for a class that no clip or every clip has. Arguments as `average_precision`.
    """
    _check(truth, scores)
    found = np.full(truth.shape[1], np.nan)
    for c in np.flatnonzero(truth.any(axis=0) & ~truth.all(axis=0)):
        found[c] = roc_auc_score(truth[:, c], scores[:, c])
    return found


def d_prime(auc: float) -> float:
    """d' = sqrt(2) * Phi^-1(AUC), Phi the normal distribution: 0 at chance, infinite for an AUC of 1."""
    return float(np.sqrt(2) * norm.ppf(auc))


def top_k_hits(truth: np.ndarray, scores: np.ndarray, k: int) -> np.ndarray:
    """For each clip whether one of its classes is among the k that score highest, (N,) float64.

    Where classes score the same, their order counts as random: a hit is then the probability of one, for the best
    of the clip's classes. A clip without a class among the C is never hit.
    """
    _check(truth, scores)
    best = np.where(truth, scores, -np.inf).max(axis=1, keepdims=True)
    above, equal = (scores > best).sum(axis=1), np.maximum((scores == best).sum(axis=1), 1)
    return np.where(truth.any(axis=1), ((k - above) / equal).clip(0, 1), 0.0)


def top_k_accuracy(truth: np.ndarray, scores: np.ndarray, k: int) -> float:
    """Share of clips with one of their classes among the k that score highest (see `top_k_hits`)."""
    return float(top_k_hits(truth, scores, k).mean())


def ranking(truth: np.ndarray, scores: np.ndarray, seed: int = 0) -> dict[str, dict[str, float]]:
    """mAP, AUC and d' with the ends `low` and `high` of a 95 % interval by bootstrap over the clips.

    Means are over the classes that some clip has and some has not; d' is that of the mean AUC, as for AudioSet, and
    left out where the AUC is 1. {} if there is no such class. A draw in which a class is missing leaves it out.
    Intervals are percentiles of `BOOTSTRAP_DRAWS` draws.
    """
    classes = truth.any(axis=0) & ~truth.all(axis=0)
    if not classes.any():
        return {}
    truth, scores = truth[:, classes], scores[:, classes]
    values = {"mAP": float(average_precision(truth, scores).mean()), "AUC": float(roc_auc(truth, scores).mean())}
    rng, drawn, count = np.random.default_rng(seed), _Drawn(truth, scores), len(truth)
    draws = [drawn.means(rng.multinomial(count, np.full(count, 1 / count))) for _ in range(BOOTSTRAP_DRAWS)]
    low, high = np.nanquantile(np.array(draws), [0.025, 0.975], axis=0)
    found = {
        name: {"value": value, "low": float(low[i]), "high": float(high[i])}
        for i, (name, value) in enumerate(values.items())
    }
    if (prime := {end: d_prime(auc) for end, auc in found["AUC"].items()}) and np.isfinite(list(prime.values())).all():
        found["d'"] = prime
    return found


class _Drawn:
    """Mean average precision and AUC of clips drawn with replacement; the sorting is done once."""

    def __init__(self, truth: np.ndarray, scores: np.ndarray) -> None:
        order = np.argsort(-scores, axis=0, kind="stable")
        self.order = order
        self.truth = np.take_along_axis(truth, order, axis=0)
        ranked = np.take_along_axis(scores, order, axis=0)
        # Equal scores are one threshold: sums are read off at the last of them, and before the first.
        places = np.broadcast_to(np.arange(len(ranked))[:, None], ranked.shape)
        changes = ranked[1:] != ranked[:-1]
        edge = np.ones((1, ranked.shape[1]), dtype=bool)
        self.first = np.maximum.accumulate(np.where(np.vstack([edge, changes]), places, 0), axis=0)
        last = np.where(np.vstack([changes, edge]), places, len(ranked))
        self.last = np.minimum.accumulate(last[::-1], axis=0)[::-1]

    def means(self, weights: np.ndarray) -> tuple[float, float]:
        """(mAP, AUC) with clip i counted `weights[i]` times."""
        w = weights[self.order].astype(np.float64)
        positive = w * self.truth
        of_positives, of_all = positive.cumsum(axis=0), w.cumsum(axis=0)
        total, count = of_positives[-1], of_all[-1, 0]
        at_least = np.take_along_axis(of_all, self.last, axis=0)
        precision = np.take_along_axis(of_positives, self.last, axis=0) / np.maximum(at_least, 1)
        with np.errstate(invalid="ignore", divide="ignore"):
            average = (positive * precision).sum(axis=0) / total
            negative = of_all - of_positives
            through = np.take_along_axis(negative, self.last, axis=0)
            before = np.take_along_axis(negative - (w - positive), self.first, axis=0)
            below = (count - total) - (through + before) / 2
            auc = (positive * below).sum(axis=0) / (total * (count - total))
        return _mean(average), _mean(auc)


def _mean(values: np.ndarray) -> float:
    """The mean of those that are defined, NaN if none is."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")


def confusion(truth: np.ndarray, predicted: np.ndarray) -> dict[str, Any]:
    """Clips of each class (a row) by the class that was answered (a column): `classes` and `counts`, (C, C)."""
    classes, codes = np.unique(np.concatenate([truth, predicted]), return_inverse=True)
    counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(counts, tuple(codes.reshape(2, -1)), 1)
    return {"classes": classes.tolist(), "counts": counts.tolist()}


def add_confusions(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The sum of several confusion matrices, such as those of the folds of a set, over the classes of any."""
    classes = sorted({name for part in parts for name in part["classes"]})
    place = {name: i for i, name in enumerate(classes)}
    counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
    for part in parts:
        rows = [place[name] for name in part["classes"]]
        counts[np.ix_(rows, rows)] += np.asarray(part["counts"], dtype=np.int64)
    return {"classes": classes, "counts": counts.tolist()}


def per_class(matrix: dict[str, Any]) -> list[dict[str, Any]]:
    """`class`, `clips`, `recall`, `precision` and `f1` of every class that some clip has, from a confusion matrix.

    A precision without any answer, and an f1 without either, are 0.
    """
    classes, counts = matrix["classes"], np.asarray(matrix["counts"])
    rows, columns = np.nonzero(counts)
    with_clips = [i for i in range(len(classes)) if counts[i].any()]
    precision, recall, f1, support = precision_recall_fscore_support(
        rows, columns, labels=with_clips, sample_weight=counts[rows, columns], zero_division=0.0
    )
    return [
        {"class": classes[i], "clips": int(n), "recall": float(r), "precision": float(p), "f1": float(f)}
        for i, p, r, f, n in zip(with_clips, precision, recall, f1, support, strict=True)
    ]


def _check(truth: np.ndarray, scores: np.ndarray) -> None:
    if truth.ndim != 2 or truth.shape != scores.shape:
        raise UsageError(f"truth and scores are two matrices (N, C), not {truth.shape} and {scores.shape}")
