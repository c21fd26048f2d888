"""PCA, whitening and L2: against scikit-learn, in blocks, over processes, and through saved state."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from seehear import dist
from seehear.cluster import preprocess
from seehear.cluster.preprocess import FeatureTransform
from seehear.errors import DataError


def rows(n: int = 400, columns: int = 10) -> Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randn(n, columns, generator=random) @ torch.randn(columns, columns, generator=random) + 3


@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("dim", [4, 10])
def test_equals_scikit_learn_up_to_sign(dim: int, whiten: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preprocess, "_BLOCK_ROWS", 64)
    x = rows()
    oracle = PCA(dim, whiten=whiten, svd_solver="full").fit(x.double().numpy())
    transform = FeatureTransform(l2=False, pca_dim=dim, whiten=whiten).fit(x)
    ours, theirs = transform.apply(x).numpy(), oracle.transform(x.double().numpy())
    signs = np.sign((ours * theirs).sum(0))
    np.testing.assert_allclose(ours, theirs * signs, rtol=1e-3, atol=1e-4)
    assert transform.explained_variance is not None
    np.testing.assert_allclose(transform.explained_variance.numpy(), oracle.explained_variance_ratio_, rtol=1e-4)


def test_l2_comes_last() -> None:
    x = rows()
    plain = FeatureTransform(l2=False, pca_dim=4, whiten=True).fit(x).apply(x)
    both = FeatureTransform(l2=True, pca_dim=4, whiten=True).fit(x).apply(x)
    torch.testing.assert_close(both, plain / plain.norm(dim=1, keepdim=True))
    only = FeatureTransform().fit(x).apply(x)
    torch.testing.assert_close(only, x / x.norm(dim=1, keepdim=True))
    assert FeatureTransform().apply(torch.zeros(2, 3)).tolist() == [[0, 0, 0], [0, 0, 0]]
    assert torch.equal(FeatureTransform(l2=False).apply(x), x)


def test_whitening_keeps_all_dimensions_and_drops_dead_ones() -> None:
    x = rows()
    white = FeatureTransform(l2=False, whiten=True).fit(x).apply(x)
    torch.testing.assert_close(torch.cov(white.T), torch.eye(10), rtol=1e-3, atol=1e-3)
    dead = torch.cat([x, x[:, :1]], 1)
    white = FeatureTransform(l2=False, whiten=True).fit(dead).apply(dead)
    assert bool(white.isfinite().all())
    assert float(white[:, -1].abs().max()) == 0


def test_state_goes_round() -> None:
    x = rows()
    for made in (FeatureTransform(pca_dim=3, whiten=True), FeatureTransform(), FeatureTransform(whiten=True)):
        transform = made.fit(x)
        state = transform.state()
        assert all(isinstance(value, Tensor) for value in state.values())
        again = FeatureTransform.from_state(state)
        assert (again.l2, again.pca_dim, again.whiten) == (made.l2, made.pca_dim, made.whiten)
        assert torch.equal(again.apply(x), transform.apply(x))


def test_memory_mapped_rows(tmp_path: Path) -> None:
    x = rows()
    np.save(tmp_path / "x.npy", x.numpy())
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    transform = FeatureTransform(pca_dim=3, whiten=True).fit(mapped)
    assert torch.equal(transform.apply(mapped), FeatureTransform(pca_dim=3, whiten=True).fit(x).apply(x))


def test_what_cannot_be_transformed() -> None:
    x = rows(6)
    for dim in (11, 7):
        with pytest.raises(DataError, match=f"PCA to {dim}"):
            FeatureTransform(pca_dim=dim).fit(x)
    with pytest.raises(DataError, match="not finite"):
        FeatureTransform(pca_dim=2).fit(x * torch.nan)
    with pytest.raises(DataError, match="9 columns"):
        FeatureTransform(pca_dim=2).fit(x).apply(x[:, :9])
    with pytest.raises(RuntimeError, match="fit"):
        FeatureTransform(pca_dim=2).apply(x)


def _process(rank: int, folder: str, x: Tensor) -> None:
    torch.set_num_threads(1)
    dist.init(rank, 2, init_method=f"file://{folder}/meet")
    transform = FeatureTransform(pca_dim=4, whiten=True).fit(x[:100] if rank == 0 else x[100:])
    torch.save(transform.state(), f"{folder}/{rank}.pt")
    dist.shutdown()


def test_two_processes_equal_one(tmp_path: Path) -> None:
    x = rows()
    torch.multiprocessing.spawn(_process, (str(tmp_path), x), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    expected = FeatureTransform(pca_dim=4, whiten=True).fit(x).state()
    for name, value in expected.items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], value, rtol=1e-4, atol=1e-5)
