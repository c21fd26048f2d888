"""Clusters of prescribed sizes: the sizes, the groups that are there, and what is said of each row."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from seehear.cluster.balanced import balanced
from seehear.errors import DataError


def blobs(sizes: list[int], columns: int = 16, apart: float = 8.0, seed: int = 0) -> tuple[torch.Tensor, np.ndarray]:
    random = torch.Generator().manual_seed(seed)
    centres = torch.nn.functional.normalize(torch.randn(len(sizes), columns, generator=random), dim=1) * apart
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    return centres[labels] + torch.randn(len(labels), columns, generator=random), labels.numpy()


@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_groups_of_the_given_shares_are_found(offset):
    sizes = [240, 120, 80, 60]
    x, truth = blobs(sizes)
    result = balanced(x + offset, 4, "zipf")
    assert result.converged
    assert adjusted_rand_score(truth, result.labels) > 0.95
    assert sorted(result.sizes.tolist(), reverse=True) == pytest.approx(sizes, abs=4)
    # The largest share went to the largest cluster, and so on down.
    assert torch.equal(result.sizes.argsort(), result.marginals.argsort())


def test_shares_hold_where_the_groups_are_not_so():
    x, _ = blobs([350, 150], columns=8)
    assert balanced(x, 2).sizes.tolist() == pytest.approx([250, 250], abs=8)
    thirds = balanced(x, 3, [1, 2, 3]).sizes.sort().values.tolist()
    assert thirds == pytest.approx([500 / 6, 1000 / 6, 250], abs=8)


def test_noise_is_dealt_out_evenly_in_many_dimensions():
    x = torch.randn(600, 128, generator=torch.Generator().manual_seed(0))
    sizes = balanced(x, 6, iterations=10).sizes
    assert sizes.min() >= 90
    assert sizes.max() <= 110


def test_the_scale_of_features_does_not_matter():
    x, _ = blobs([100, 60, 40])
    a, b = balanced(x, 3), balanced(1000 * x, 3)
    assert torch.equal(a.labels, b.labels)
    assert torch.allclose(a.confidence, b.confidence, atol=1e-3)


def test_distances_and_confidences_are_what_they_say():
    x, _ = blobs([60, 40], columns=2)
    result = balanced(x, 2)
    expected = (x - result.centroids[result.labels]).square().sum(1)
    assert torch.allclose(result.squared_distances, expected, atol=1e-4)
    assert float(result.confidence.min()) >= 0
    assert float(result.confidence.max()) < 1
    # Rows that had to leave their group lie close to the border.
    moved = (x[:, None] - result.centroids).square().sum(2).argmin(1) != result.labels
    assert moved.any()
    assert result.confidence[moved].mean() < result.confidence[~moved].mean()


def test_one_cluster_and_equal_rows():
    x = torch.ones(10, 3)
    assert balanced(x, 1).sizes.tolist() == [10]
    assert int(balanced(x, 2).sizes.sum()) == 10


def test_too_few_rows_and_wrong_shares_are_refused():
    x, _ = blobs([5, 5])
    with pytest.raises(DataError, match="11 clusters"):
        balanced(x, 11)
    with pytest.raises(DataError, match="at least 1"):
        balanced(x, 0)
    with pytest.raises(ValueError, match="3 marginals"):
        balanced(x, 2, [1, 1, 1])


def test_what_is_too_large_to_store_gives_the_same(monkeypatch):
    x, _ = blobs([100, 60, 40])
    stored = balanced(x, 3)
    monkeypatch.setattr("seehear.cluster.balanced._STORED_BYTES", 0)
    assert torch.equal(balanced(x, 3).labels, stored.labels)
