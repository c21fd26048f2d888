"""A sample of a collection: varied, and balanced over its clusters where that is asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def shares(sizes: Sequence[int], count: int) -> list[int]:
    """How many of each group, so that the smallest share is as large as it can be; all groups together have `count`."""
    given = [0] * len(sizes)
    left = min(count, sum(sizes))
    while left:
        open_ = [i for i, size in enumerate(sizes) if given[i] < size]
        each = max(1, left // len(open_))
        for i in open_:
            more = min(each, sizes[i] - given[i], left)
            given[i] += more
            left -= more
    return given


def varied_rows(x: np.ndarray, rows: np.ndarray, count: int, seed: int) -> np.ndarray:
    """`count` of the rows, ascending, drawn so that they lie apart in x (N, d): as k-means++ draws its centres."""
    from sklearn.cluster import kmeans_plusplus
    from threadpoolctl import threadpool_limits

    if count >= len(rows):
        return np.sort(rows)
    if not count:
        return rows[:0]
    points, first, number = np.unique(x[rows], axis=0, return_index=True, return_inverse=True)
    rng = np.random.default_rng(seed)
    distinct = min(count, len(points))
    with threadpool_limits(limits=1):
        _, drawn = kmeans_plusplus(points.astype(np.float64), distinct, random_state=seed)
    chosen = first[np.unique(drawn)]
    if len(chosen) < count:  # rows that are all alike, and centres that were drawn twice
        rest = np.setdiff1d(np.arange(len(number)), chosen)
        chosen = np.concatenate([chosen, rng.choice(rest, count - len(chosen), replace=False)])
    return np.sort(rows[chosen])


def sampled(x: np.ndarray, groups: Sequence[np.ndarray], count: int, seed: int, balanced: bool) -> np.ndarray:
    """`count` rows, ascending: as many of each group, or of all groups together."""
    groups = [g for g in groups if len(g)]
    if not groups:
        return np.empty(0, dtype=np.int64)
    if not balanced:
        return varied_rows(x, np.concatenate(groups), count, seed)
    drawn = [varied_rows(x, g, n, seed) for g, n in zip(groups, shares([len(g) for g in groups], count), strict=True)]
    return np.sort(np.concatenate(drawn))


def one_a_video(groups: Sequence[np.ndarray], video: np.ndarray, seconds: np.ndarray) -> list[np.ndarray]:
    """For each group one row of each video that has more of its time there than elsewhere: the group's best one.

    Groups have their best rows first.
    """
    time = np.zeros((len(groups), int(video.max(initial=-1)) + 1))
    for number, rows in enumerate(groups):
        np.add.at(time[number], video[rows], seconds[rows])
    best = time.argmax(axis=0)
    found = []
    for number, rows in enumerate(groups):
        mine = rows[best[video[rows]] == number]
        _, first = np.unique(video[mine], return_index=True)
        found.append(mine[np.sort(first)])
    return found
