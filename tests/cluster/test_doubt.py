"""Clips of no kind: found where sight and sound do not go together, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from seehear.cluster.doubt import doubts, neighbours_of
from seehear.errors import DataError
from tests.cluster.test_kinds import views


def test_distances_are_those_of_a_literal_loop():
    first, second, _ = views([9, 8, 7], spread=0.4)
    found = doubts(first, second, neighbours=2)
    x, y = first.double().numpy(), second.double().numpy()

    def far(z, i, j):
        return float(np.sqrt(((z[i] - z[j]) ** 2).sum()))

    rows = range(len(x))
    pairs = [(i, j) for i in rows for j in rows if i != j]
    scale = [np.sqrt(np.mean([far(z, i, j) ** 2 for i, j in pairs])) for z in (x, y)]
    distances = [
        np.mean(sorted(np.hypot(far(x, i, j) / scale[0], far(y, i, j) / scale[1]) for j in rows if j != i)[:2])
        for i in rows
    ]
    assert found.usual == pytest.approx(np.median(distances), rel=1e-5)
    wanted = (np.array(distances) - found.usual) / (found.strange - found.usual)
    np.testing.assert_allclose(found.doubt, wanted, atol=1e-4)


def test_neighbours_are_a_twentieth_of_the_clips_within_limits():
    assert [neighbours_of(n) for n in (10, 60, 100, 372, 10**6)] == [3, 3, 5, 18, 20]


def test_clips_with_the_sound_of_others_are_found_and_small_kinds_are_not_taken_for_them():
    first, second, kinds = views([40, 40, 40, 5], seed=1)
    swapped = second.clone()
    swapped[[0, 1, 50, 90]] = second[[100, 60, 5, 45]]  # sounds of another kind each
    found = doubts(first, swapped, neighbours=3)
    assert set(np.flatnonzero(found.outliers)) == {0, 1, 50, 90}
    assert found.doubt[[0, 1, 50, 90]].min() > 0.65
    # A kind of no more clips than there are neighbours (6) is stranger than others are.
    rare = (kinds == 3) & (np.arange(125) != 90)
    assert doubts(first, swapped).doubt[rare].min() > found.doubt[rare].max() + 0.2
    assert np.median(found.doubt) == pytest.approx(0, abs=1e-6)
    assert found.doubt[(kinds == 3) & (np.arange(125) != 90)].max() < 0.3


def test_no_clip_is_doubted_where_all_are_of_a_kind():
    assert not doubts(*views([30, 30, 30])[:2]).outliers.any()


def test_nothing_is_said_where_sight_and_sound_share_nothing():
    first, second, _ = views([30, 30, 30])
    shuffled = second[torch.randperm(90, generator=torch.Generator().manual_seed(0))]
    found = doubts(first, shuffled)
    assert np.isnan(found.doubt).all()
    assert not found.outliers.any()


def test_rows_that_are_all_alike_are_not_doubted():
    assert np.isnan(doubts(torch.ones(20, 3), torch.ones(20, 4)).doubt).all()


def test_neighbours_among_a_sample_tell_the_same():
    first, second, _ = views([60, 60, 60])
    second[[0, 70]] = second[[100, 10]]
    found = doubts(first, second, most_rows=90)
    assert set(np.flatnonzero(found.outliers)) == {0, 70}


def test_too_few_clips_are_refused():
    first, second, _ = views([2, 2])
    with pytest.raises(DataError, match="3 neighbours"):
        doubts(first, second)
    with pytest.raises(DataError, match="4 and 3 rows"):
        doubts(first, second[:3])
