"""One labelling out of several of the same rows, by voting.

Labellings name their clusters as they like. Each is relabelled to agree with a common labelling on as many rows as
possible (Hungarian matching of its clusters with the common ones), then each row takes the label with most votes, and
so on until no label changes. Both steps raise the number of votes that the common labelling gets. The labellings
themselves are the starts, and the start that ends with most votes wins.

Labels are read by blocks of rows and counted in tables of clusters by clusters: no pair of rows is ever looked at.

References: E. Dimitriadou, A. Weingessel, K. Hornik, "A combination scheme for fuzzy clustering" (2002), for voting by
turns; A. Strehl, J. Ghosh, "Cluster ensembles" (2002), for the task; S. Dudoit, J. Fridlyand, "Bagging to improve the
accuracy of a clustering procedure" (2003), for votes after matching.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from seehear.cluster.kmeans import kmeans
from seehear.errors import DataError


@dataclass(frozen=True)
class Consensus:
    """A labelling that several agree on."""

    labels: np.ndarray
    """(N,) int64, 0 to k − 1; a cluster may be empty."""
    agreement: np.ndarray
    """(N,) float32: the share of a row's votes that its label got, 1/k to 1. Where all agree it says nothing about
    being right: labellings that share an error share it here."""
    of_each: np.ndarray
    """(H,) float64: the share of its rows on which each labelling, relabelled, agrees with the outcome."""
    relabelled: list[dict[int, int]]
    """For each labelling: its clusters' names to those of the outcome."""
    rounds: int
    """Votes until nothing changed, from the start that won."""


def consensus(
    labels: np.ndarray,
    k: int | None = None,
    *,
    rounds: int = 50,
    starts: int = 8,
    block_rows: int = 65536,
    seed: int = 0,
) -> Consensus:
    """Combine labellings of the same rows into one of k clusters.

    Where a labelling has more clusters than k, those that the matching leaves over join the common cluster with which
    they share most rows. If none has exactly k clusters, k-means on the rows of indicators (row i has a 1 for each
    cluster that it is in) makes the start; the squared distance of two rows is then twice the number of labellings that
    part them.

    Args:
        labels: (N, H) integers, one column a labelling. Negative: this labelling has no vote on this row.
        k: clusters of the outcome; by default as many as the labelling with most of them has.
        rounds: at most so many votes from each start.
        starts: at most so many labellings are tried as starts.
        block_rows: rows whose votes are counted at once.
        seed: of the k-means, where there is one.

    Complexity:
        O(N · H + H · K³) a vote; O(N · H) memory for codes of the labels and O(block_rows · k) for votes.

    Raises:
        DataError: no rows, or a row without any vote.
        ValueError: labels that are not a matrix of integers, or settings out of range.
    """
    if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer) or labels.shape[1] < 1:
        raise ValueError(f"labels must be integers (N, H), not {labels.dtype} {labels.shape}")
    if (k is not None and k < 1) or rounds < 1 or starts < 1 or block_rows < 1:
        raise ValueError(f"k={k}, rounds={rounds}, starts={starts} and block_rows={block_rows} must be at least 1")
    if not len(labels):
        raise DataError("there are no rows to label")
    silent = np.flatnonzero((labels < 0).all(1))
    if len(silent):
        raise DataError(
            f"{len(silent)} of {len(labels)} rows have no label by any labelling (the first is row {silent[0]})",
            "leave these rows out",
        )
    heads = [_Head(labels[:, h]) for h in range(labels.shape[1])]
    k = max(len(head.names) for head in heads) if k is None else k
    # A labelling with gaps cannot be a start: votes fill gaps, not empty labels.
    whole = [head.codes for head in heads if len(head.names) == k and not (head.codes < 0).any()]
    begin = whole[:starts] or [kmeans(_Indicators(heads), k, restarts=5, seed=seed).labels.numpy()]
    best: Consensus | None = None
    for start in begin:
        found = _vote_in_turns(heads, start.astype(np.int64), k, rounds, block_rows)
        if best is None or found.of_each.mean() > best.of_each.mean():
            best = found
    assert best is not None
    return best


class _Head:
    """One labelling: `codes` (N,) int32 from 0, −1 where it has no label, and the `names` of the codes."""

    def __init__(self, labels: np.ndarray) -> None:
        known = labels >= 0
        self.names, codes = np.unique(labels[known], return_inverse=True)
        self.codes = np.full(len(labels), -1, dtype=np.int32)
        self.codes[known] = codes

    def matched(self, common: np.ndarray, k: int) -> np.ndarray:
        """The common cluster of each of its own, (names,), such that most rows agree."""
        known = self.codes >= 0
        pairs = self.codes[known].astype(np.int64) * k + common[known]
        table = np.bincount(pairs, minlength=len(self.names) * k).reshape(-1, k)
        found = table.argmax(1)
        own, theirs = linear_sum_assignment(table, maximize=True)
        found[own] = theirs
        return found


def _vote_in_turns(heads: list[_Head], common: np.ndarray, k: int, rounds: int, block_rows: int) -> Consensus:
    done = 0
    while True:
        maps = [head.matched(common, k) for head in heads]
        voted, agreement = _vote(heads, maps, common, k, block_rows)
        done += 1
        if done == rounds or bool((voted == common).all()):
            break
        common = voted
    of_each = []
    for head, of in zip(heads, maps, strict=True):
        known = head.codes >= 0
        of_each.append(float((of[head.codes[known]] == voted[known]).mean()) if known.any() else 0.0)
    names = [
        {int(name): int(to) for name, to in zip(head.names, of, strict=True)}
        for head, of in zip(heads, maps, strict=True)
    ]
    return Consensus(voted, agreement, np.array(of_each), names, done)


def _vote(
    heads: list[_Head], maps: list[np.ndarray], common: np.ndarray, k: int, block_rows: int
) -> tuple[np.ndarray, np.ndarray]:
    """The label of each row with most votes, and its share of them; of several the present one, else the first."""
    voted, agreement = np.empty_like(common), np.empty(len(common), dtype=np.float32)
    for start in range(0, len(common), block_rows):
        part = slice(start, start + block_rows)
        rows = np.arange(len(common[part]))
        votes = np.zeros((len(rows), k))
        for head, of in zip(heads, maps, strict=True):
            codes = head.codes[part]
            known = codes >= 0
            votes[rows[known], of[codes[known]]] += 1
        cast = votes.sum(1)
        votes[rows, common[part]] += 0.5
        voted[part] = votes.argmax(1)
        votes[rows, common[part]] -= 0.5
        agreement[part] = votes[rows, voted[part]] / cast
    return voted, agreement


class _Indicators:
    """Rows (N, sum of clusters) with a 1 for each cluster that a row is in; made when they are read."""

    def __init__(self, heads: list[_Head]) -> None:
        self.heads = heads
        self.shape = (len(heads[0].codes), sum(len(head.names) for head in heads))

    def __getitem__(self, part: Any) -> np.ndarray:
        blocks = [(head.codes[part][:, None] == np.arange(len(head.names))).astype(np.float32) for head in self.heads]
        return np.concatenate(blocks, axis=1)
