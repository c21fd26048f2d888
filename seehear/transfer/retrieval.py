"""Retrieval on frozen features: classes among the nearest training videos, and one modality found by another.

R@k is the share of queries for which a right one is among the k nearest by cosine similarity. Test videos query
training videos, with k = 1, 5, 10, 20, 50, as in Asano et al., "Labelling unlabelled videos from scratch with
multi-modal self-supervision" (SeLaVi), and Patrick et al., "On Compositions of Transformations" (GDT).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from seehear.errors import UsageError
from seehear.metrics.intervals import bootstrap
from seehear.transfer.classifiers import Answers

RECALL_AT = (1, 5, 10, 20, 50)
_BLOCK_ROWS = 1024


def unit_rows(x: np.ndarray) -> np.ndarray:
    """Rows (N, D) scaled to Euclidean length 1, float64; rows of zeros stay."""
    x = np.asarray(x, dtype=np.float64)
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True).clip(1e-12))


def neighbours(
    queries: np.ndarray, gallery: np.ndarray, k: int, *, leave_out_own: bool = False, seed: int = 0
) -> np.ndarray:
    """Rows of `gallery` (M, D) nearest to each of `queries` (N, D) by cosine similarity, nearest first, (N, k).

    Equally near ones come in an order drawn with `seed`, so that features that are all alike find a random row
    and not the first. `leave_out_own` leaves row i out for query i. Raises `UsageError` if there are too few.
    """
    if not 1 <= k <= len(gallery) - leave_out_own:
        raise UsageError(f"{k} neighbours cannot be found among {len(gallery)} rows")
    order = np.random.default_rng(seed).permutation(len(gallery))
    queries, shuffled = unit_rows(queries), unit_rows(gallery)[order]
    place = np.argsort(order)
    nearest = np.empty((len(queries), k), dtype=np.int64)
    for start in range(0, len(queries), _BLOCK_ROWS):
        similarity = queries[start : start + _BLOCK_ROWS] @ shuffled.T
        if leave_out_own:
            rows = np.arange(len(similarity))
            similarity[rows, place[start + rows]] = -np.inf
        nearest[start : start + _BLOCK_ROWS] = order[np.argsort(-similarity, axis=1, kind="stable")[:, :k]]
    return nearest


def retrieve(train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> Answers:
    """R@k: the classes of the k training videos nearest to each test video, for k in `RECALL_AT`.

    A k above the number of training videos is left out: it could only score 1.
    """
    ks = [k for k in RECALL_AT if k <= len(train)]
    found = labels[neighbours(test, train, max(ks))]
    return Answers({f"R@{k}": found[None, :, :k] for k in ks})


def class_chance(gallery_labels: np.ndarray, query_labels: np.ndarray, k: int, own: bool = False) -> float:
    """The R@k that a random order of the gallery is expected to score.

    A query finds none of its c right ones among M with probability C(M - c, k) / C(M, k). With `own` the gallery
    are the queries, each of which leaves itself out.
    """
    names, counts = np.unique(gallery_labels, return_counts=True)
    right = dict(zip(names.tolist(), counts.tolist(), strict=True))
    total = len(gallery_labels) - own
    missed = []
    for label in query_labels.tolist():
        wrong = total - (right.get(label, 0) - own)
        steps = np.arange(k)
        missed.append(float(np.prod(np.clip((wrong - steps) / (total - steps), 0, 1))))
    return float(1 - np.mean(missed))


def cross_modal_recall(
    a: np.ndarray, b: np.ndarray, ks: Sequence[int] = RECALL_AT, names: tuple[str, str] = ("a", "b")
) -> dict[str, dict[str, Any]]:
    """How well each clip's row of one matrix finds its own row of the other, both ways.

    `a` and `b` (N, D) are embeddings of the same N clips in one space; row i of both is clip i. Returns for
    `a->b` (rows of a are queries) and `b->a`: `recall`, for each "R@k" with k up to N its `value`, the ends `low`
    and `high` of a 95 % bootstrap interval over clips and `chance` = k/N; and `median_rank`, 1 at best, (N + 1)/2
    by chance. Where other rows are exactly as near as the own one, their order counts as random. Raises
    `UsageError` if the shapes differ or there are no rows.
    """
    if a.ndim != 2 or a.shape != b.shape or not len(a):
        raise UsageError(f"cross-modal retrieval needs two matrices of one shape, not {a.shape} and {b.shape}")
    clips = len(a)
    found = {}
    for queries, gallery, (one, other) in ((a, b, names), (b, a, names[::-1])):
        nearer, equal = _ranks(queries, gallery)
        recall = {}
        for k in (k for k in ks if k <= clips):
            # Of a random order of the equal ones: the probability that the own clip comes k-th or before.
            hit = ((k - nearer) / equal).clip(0, 1)
            low, high = bootstrap(hit)
            recall[f"R@{k}"] = {"value": float(hit.mean()), "low": low, "high": high, "chance": k / clips}
        rank = float(np.median(1 + nearer + (equal - 1) / 2))
        found[f"{one}->{other}"] = {"recall": recall, "median_rank": rank, "clips": clips}
    return found


def _ranks(queries: np.ndarray, gallery: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For query i how many rows are nearer than row i, (N,), and how many are equally near, itself included."""
    queries, gallery = unit_rows(queries), unit_rows(gallery)
    nearer, equal = np.empty(len(queries)), np.empty(len(queries))
    for start in range(0, len(queries), _BLOCK_ROWS):
        # Rounded: equal rows may differ in the last bits by where they lie in a block of the product.
        similarity = np.round(queries[start : start + _BLOCK_ROWS] @ gallery.T, 12)
        rows = np.arange(len(similarity))
        own = similarity[rows, start + rows][:, None]
        nearer[start + rows] = (similarity > own).sum(axis=1)
        equal[start + rows] = (similarity == own).sum(axis=1)
    return nearer, equal


def cross_modal_neighbours(
    a: np.ndarray, b: np.ndarray, k: int, names: tuple[str, str] = ("a", "b")
) -> dict[str, np.ndarray]:
    """For `a->b` and `b->a` the k nearest other clips of each clip, (N, k): its own counterpart is left out.

    No class is needed; `cross_modal_class_recall` scores the result. Raises `UsageError` for shapes that differ.
    """
    if a.ndim != 2 or a.shape != b.shape:
        raise UsageError(f"cross-modal retrieval needs two matrices of one shape, not {a.shape} and {b.shape}")
    return {
        f"{names[0]}->{names[1]}": neighbours(a, b, k, leave_out_own=True),
        f"{names[1]}->{names[0]}": neighbours(b, a, k, leave_out_own=True),
    }


def cross_modal_class_recall(
    nearest: dict[str, np.ndarray], truth: np.ndarray, ks: Sequence[int] = RECALL_AT
) -> dict[str, dict[str, dict[str, float]]]:
    """R@k of classes across modalities: is a clip of the query's class among its k nearest other clips?

    `nearest` is what `cross_modal_neighbours` returned, `truth` (N,) the clips' classes; clips without one ("")
    are no queries, and none is right for another. Returns for each direction and "R@k" the `value`, `low` and
    `high` (a 95 % bootstrap interval over clips) and `chance` (a random order).
    """
    known = truth != ""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for direction, rows in nearest.items():
        right = truth[rows[known]] == truth[known][:, None]
        found[direction] = {}
        for k in (k for k in ks if k <= rows.shape[1]):
            hit = right[:, :k].any(axis=1).astype(float)
            low, high = bootstrap(hit)
            chance = class_chance(truth, truth[known], k, own=True)
            found[direction][f"R@{k}"] = {"value": float(hit.mean()), "low": low, "high": high, "chance": chance}
    return found
