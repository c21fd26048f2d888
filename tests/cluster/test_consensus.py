"""One labelling out of several: better than its parts, whatever their names, with gaps and odd numbers of clusters."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from seehear.cluster.consensus import consensus
from seehear.errors import DataError


def noisy_copies(n: int = 1500, k: int = 6, heads: int = 9, noise: float = 0.4, seed: int = 0):
    """A labelling (n,) and copies (n, heads) with other names and with labels replaced at random."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, k, n)
    copies = [rng.permutation(k)[np.where(rng.random(n) < noise, rng.integers(0, k, n), truth)] for _ in range(heads)]
    return truth, np.stack(copies, axis=1)


@pytest.mark.parametrize("noise", [0.2, 0.4, 0.55])
def test_noisy_copies_recover_the_labelling(noise):
    truth, copies = noisy_copies(noise=noise)
    found = consensus(copies, 6)
    parts = [adjusted_rand_score(truth, copy) for copy in copies.T]
    assert adjusted_rand_score(truth, found.labels) > max(parts) + 0.15
    assert adjusted_rand_score(truth, found.labels) > 1 - noise / 2
    # A copy keeps a label with 1 − noise, and by luck with 1/k of the rest.
    assert found.of_each.mean() == pytest.approx(1 - noise * 5 / 6, abs=0.08)
    right = adjusted_rand_score(truth[found.agreement > 0.7], found.labels[found.agreement > 0.7])
    assert right >= adjusted_rand_score(truth, found.labels)


def test_equal_labellings_under_other_names_agree_wholly():
    truth, copies = noisy_copies(noise=0.0)
    found = consensus(copies)
    assert adjusted_rand_score(truth, found.labels) == 1
    assert (found.agreement == 1).all()
    assert (found.of_each == 1).all()
    for copy, names in zip(copies.T, found.relabelled, strict=True):
        assert np.array_equal([names[c] for c in copy], found.labels)


def test_names_need_not_be_small_numbers():
    _, copies = noisy_copies(noise=0.2)
    found = consensus(copies * 1_000_003 + 7, 6)
    assert np.array_equal(found.labels, consensus(copies, 6).labels)


def test_labellings_of_other_numbers_of_clusters_join():
    truth, copies = noisy_copies(noise=0.2)
    rng = np.random.default_rng(1)
    halved = copies * 2 + rng.integers(0, 2, copies.shape)  # each cluster in two halves
    found = consensus(halved, 6)
    assert adjusted_rand_score(truth, found.labels) > 0.9
    merged = np.where(copies == 5, 4, copies)
    both = consensus(np.concatenate([copies[:, :5], merged[:, 5:]], axis=1))
    assert adjusted_rand_score(truth, both.labels) > 0.9


def test_gaps_have_no_vote():
    truth, copies = noisy_copies(noise=0.3)
    gaps = np.random.default_rng(2).random(copies.shape) < 0.3
    gaps[np.arange(len(copies)), np.arange(len(copies)) % 9] = False
    found = consensus(np.where(gaps, -1, copies), 6)
    assert adjusted_rand_score(truth, found.labels) > 0.8
    with pytest.raises(DataError, match="row 3"):
        consensus(np.where(np.arange(10)[:, None] == 3, -1, copies[:10]))


def test_blocks_of_rows_change_nothing():
    _, copies = noisy_copies(n=500)
    whole, blocks = consensus(copies, 6), consensus(copies, 6, block_rows=37)
    assert np.array_equal(whole.labels, blocks.labels)
    assert np.array_equal(whole.agreement, blocks.agreement)


def test_memory_does_not_grow_with_pairs_of_rows():
    # 200 000 rows: a matrix of pairs would have 40 GB, or 5 GB as bits.
    truth, copies = noisy_copies(n=200_000, k=4, heads=4, noise=0.2)
    assert adjusted_rand_score(truth, consensus(copies.astype(np.int32), starts=1).labels) > 0.8


def test_one_labelling_is_its_own_consensus():
    truth, _ = noisy_copies(n=100)
    found = consensus(truth[:, None])
    assert adjusted_rand_score(truth, found.labels) == 1
    assert found.rounds == 1


@pytest.mark.parametrize("labels", [np.zeros(5, dtype=int), np.zeros((5, 2)), np.zeros((5, 0), dtype=int)])
def test_what_is_no_table_of_labels_is_refused(labels):
    with pytest.raises(ValueError, match="integers"):
        consensus(labels)
