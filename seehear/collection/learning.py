"""What people said, learnt: a linear classifier from names and answers, for the segments that nobody has decided.

Its examples are the best segments of each named cluster, weighted by how sure their place is, and all segments that a
person placed, which weigh more. Everything is deterministic.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

ANSWER_WEIGHT = 5.0
"""What a segment that a person placed weighs, in best examples."""
MOST_EXAMPLES, MOST_TOGETHER = 100, 2000
"""Best examples that are learnt from: of a cluster, and of all clusters together."""
MOST_PLACED = 6000
"""Segments that people placed and that are learnt from."""
MOST_DIMENSIONS = 64
_SAMPLE, _BLOCK = 4000, 16_384
_STREAMS = {"both": ("video", "audio"), "video": ("video",), "audio": ("audio",)}


def joined(space: Mapping[str, np.ndarray], by: str, rows: np.ndarray | None = None) -> np.ndarray:
    """Unit features of the streams that a labelling looks at, side by side: (N, D) float32, zeros where one lacks."""
    there = [space[s] for s in _STREAMS[by] if s in space]
    return np.concatenate([np.asarray(x if rows is None else x[rows], dtype=np.float32) for x in there], axis=1)


def reduced(space: Mapping[str, np.ndarray], by: str, dimensions: int = MOST_DIMENSIONS) -> np.ndarray:
    """The main axes of `joined` features, scaled so that the rows' mean square length is 1: (N, d) float32.

    In blocks, as there may be a million rows; the axes are those of a sample, evenly spread.
    """
    count = len(next(iter(space.values())))
    if not count:
        return np.empty((0, 1), dtype=np.float32)
    sample = joined(space, by, np.arange(0, count, max(1, count // _SAMPLE)))
    mean = sample.mean(axis=0, dtype=np.float64)
    centred = sample - mean.astype(np.float32)
    values, axes = np.linalg.eigh((centred.T @ centred / len(sample)).astype(np.float64))
    kept = np.argsort(values)[::-1][:dimensions]
    size = max(float(np.sqrt(values[kept].clip(0).sum())), 1e-6)
    main = (axes[:, kept] / size).astype(np.float32)
    z = np.empty((count, main.shape[1]), dtype=np.float32)
    for start in range(0, count, _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, count))
        z[rows] = (joined(space, by, rows) - mean.astype(np.float32)) @ main
    return z


@dataclass(frozen=True)
class Examples:
    """What is learnt from: rows, the class of each (a number), and its weight."""

    rows: np.ndarray
    label: np.ndarray
    weight: np.ndarray


def examples(
    places: Sequence[int],
    cluster: np.ndarray,
    confirmed: np.ndarray,
    rejected: np.ndarray,
    confidence: np.ndarray,
) -> Examples:
    """Examples of clusters, given by their places: best ones by confidence, and all that people placed there."""
    rows, labels, weights = [], [], []
    most = min(MOST_EXAMPLES, max(5, MOST_TOGETHER // max(1, len(places))))
    for number, place in enumerate(places):
        inside = np.flatnonzero((cluster == place) & ~rejected)
        sure = _evenly(inside[confirmed[inside]], max(50, MOST_PLACED // len(places)))
        rest = inside[~confirmed[inside]]
        best = rest[np.argsort(-confidence[rest], kind="stable")][:most]
        rows += [sure, best]
        weights += [np.full(len(sure), ANSWER_WEIGHT), np.clip(confidence[best], 0.05, 1.0)]
        labels.append(np.full(len(sure) + len(best), number))
    return Examples(np.concatenate(rows), np.concatenate(labels), np.concatenate(weights).astype(np.float64))


def _evenly(rows: np.ndarray, most: int) -> np.ndarray:
    """At most so many of the rows, evenly spread."""
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]


def probabilities(x: np.ndarray, given: Examples, classes: int) -> np.ndarray:
    """Probability of each class for each row of x (N, d): (N, classes) float32. Classes without examples have 0."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    present = np.unique(given.label)
    found = np.zeros((len(x), classes), dtype=np.float32)
    if len(present) == 1:
        found[:, present[0]] = 1.0
        return found
    totals = np.bincount(given.label, given.weight, classes)
    # Every class counts alike, however many examples it has; the mean weight is 1.
    weight = given.weight / totals[given.label] * len(given.rows) / len(present)
    model = LogisticRegression(C=STRENGTH, max_iter=100, tol=1e-3)
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x[given.rows].astype(np.float64), given.label, sample_weight=weight)
        found[:, model.classes_] = model.predict_proba(x)
    return found


STRENGTH = 10.0
"""The inverse of the regularisation."""


@dataclass(frozen=True)
class Question:
    """Is this segment of that cluster?"""

    row: int
    cluster: str
    """Id of the likeliest cluster."""
    probability: float
    others: list[tuple[str, float]]
    """The next likeliest, with their probabilities."""


def margins(p: np.ndarray) -> np.ndarray:
    """How far the likeliest class is ahead of the next one: (N,)."""
    if p.shape[1] < 2:
        return p[:, 0].astype(np.float64)
    top = np.partition(p, p.shape[1] - 2, axis=1)[:, -2:]
    return (top[:, 1] - top[:, 0]).astype(np.float64)


def varied(order: np.ndarray, video: np.ndarray, limit: int) -> list[int]:
    """The first `limit` rows of an order, of different videos as long as there are any, then the others."""
    first: list[int] = []
    later: list[int] = []
    seen: set[int] = set()
    for row in order.tolist():
        if int(video[row]) in seen:
            later.append(row)
            if len(later) >= limit and len(first) + len(later) >= limit and len(seen) >= limit:
                break
            continue
        seen.add(int(video[row]))
        first.append(row)
        if len(first) == limit:
            break
    return (first + later)[:limit]
