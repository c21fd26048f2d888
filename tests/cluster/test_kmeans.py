"""k-means: equal to faiss and scikit-learn, indifferent to blocks, processes and where the rows lie."""

from pathlib import Path

import faiss
import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from seehear import dist
from seehear.cluster.kmeans import KMeansResult, _plus_plus, assign, kmeans
from seehear.errors import DataError


def blobs(n: int, columns: int, clusters: int, spread: float = 1.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    centres = 4 * torch.randn(clusters, columns, generator=random)
    truth = torch.randint(clusters, (n,), generator=random)
    return centres[truth] + spread * torch.randn(n, columns, generator=random), truth


def same(a: KMeansResult, b: KMeansResult) -> None:
    assert torch.equal(a.labels, b.labels)
    assert torch.equal(a.sizes, b.sizes)
    assert (a.iterations, a.reseeded) == (b.iterations, b.reseeded)
    torch.testing.assert_close(a.centroids, b.centroids, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(a.history, b.history, rtol=1e-5)


def plain_lloyd(x: np.ndarray, centroids: np.ndarray, iterations: int) -> tuple[np.ndarray, np.ndarray]:
    """The definition, in float64, one centroid at a time."""
    for _ in range(iterations):
        labels = ((x[:, None] - centroids) ** 2).sum(2).argmin(1)
        centroids = np.stack([x[labels == j].mean(0) for j in range(len(centroids))])
    return ((x[:, None] - centroids) ** 2).sum(2).argmin(1), centroids


def test_equals_the_definition() -> None:
    x, _ = blobs(300, 5, 6)
    labels, centroids = plain_lloyd(x.double().numpy(), x[:6].double().numpy(), 7)
    result = kmeans(x, 6, init=x[:6], iterations=7, block_rows=64)
    np.testing.assert_array_equal(result.labels.numpy(), labels)
    np.testing.assert_allclose(result.centroids.numpy(), centroids, rtol=1e-5, atol=1e-5)
    assert result.objective == pytest.approx(((x.double().numpy() - centroids[labels]) ** 2).sum(), rel=1e-6)


@pytest.mark.parametrize("iterations", [1, 6])
def test_equals_faiss_and_scikit_learn_from_the_same_start(iterations: int) -> None:
    x, _ = blobs(4000, 24, 12, spread=2.5)
    start = x[:20].clone()
    ours = kmeans(x, 20, init=start, iterations=iterations)
    assert (ours.reseeded, ours.iterations) == (0, iterations)

    theirs = faiss.Kmeans(24, 20, niter=iterations, max_points_per_centroid=10**9)
    theirs.train(x.numpy(), init_centroids=start.numpy())
    squared, labels = theirs.index.search(x.numpy(), 1)
    np.testing.assert_allclose(ours.history[:-1], theirs.obj, rtol=1e-5)
    assert ours.objective == pytest.approx(float(squared.sum(dtype=np.float64)), rel=1e-5)
    np.testing.assert_array_equal(ours.labels.numpy(), labels[:, 0])

    lloyd = KMeans(20, init=start.numpy(), n_init=1, max_iter=iterations, tol=0, algorithm="lloyd")
    lloyd.fit(x.numpy())
    assert ours.objective == pytest.approx(lloyd.inertia_, rel=1e-5)
    np.testing.assert_array_equal(ours.labels.numpy(), lloyd.labels_)
    np.testing.assert_allclose(ours.centroids.numpy(), lloyd.cluster_centers_, rtol=1e-4, atol=1e-4)


def test_labels_distances_and_sizes_belong_to_the_final_centroids() -> None:
    x, _ = blobs(1000, 8, 5, spread=3)
    result = kmeans(x, 12, iterations=3, seed=4)
    labels, first, second = assign(x, result.centroids)
    exact = torch.cdist(x.double(), result.centroids.double()).square().sort(1).values
    assert torch.equal(result.labels, labels)
    assert torch.equal(result.squared_distances, first)
    torch.testing.assert_close(first.double(), exact[:, 0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(second.double(), exact[:, 1], rtol=1e-5, atol=1e-6)
    assert torch.equal(result.sizes, torch.bincount(labels, minlength=12))
    assert result.objective == pytest.approx(float(first.double().sum()))
    assert result.history[-1] == result.objective
    assert all(b <= a * (1 + 1e-5) for a, b in zip(result.history[:-1], result.history[1:], strict=True))


def test_convergence_and_tolerance_stop_early() -> None:
    x, truth = blobs(600, 6, 4, spread=0.1)
    result = kmeans(x, 4, seed=1, iterations=50)
    assert result.iterations < 10
    assert len(result.history) == result.iterations + 1
    assert len({(int(t), int(label)) for t, label in zip(truth, result.labels, strict=True)}) == 4
    x, _ = blobs(2000, 6, 4, spread=5)
    loose, tight = (kmeans(x, 30, seed=1, iterations=50, tolerance=t) for t in (0.01, 1e-5))
    assert loose.iterations < tight.iterations
    assert len(loose.history) == loose.iterations + 1


@pytest.mark.parametrize("init", ["k-means++", "random"])
@pytest.mark.parametrize("block_rows", [1, 7, 999, 5000])
def test_blocks_of_any_size_agree(init: str, block_rows: int) -> None:
    x, _ = blobs(1000, 6, 5)
    same(
        kmeans(x, 7, init=init, seed=3, iterations=5),
        kmeans(x, 7, init=init, seed=3, iterations=5, block_rows=block_rows),
    )


def test_the_seed_decides() -> None:
    x, _ = blobs(3000, 6, 5, spread=4)
    first, again = (kmeans(x, 9, seed=5) for _ in range(2))
    assert torch.equal(first.centroids, again.centroids)
    assert torch.equal(first.labels, again.labels)
    assert not torch.equal(first.centroids, kmeans(x, 9, seed=6).centroids)
    drawn = [kmeans(x, 9, generator=torch.Generator().manual_seed(2)).centroids for _ in range(2)]
    assert torch.equal(*drawn)


def test_the_best_restart_wins() -> None:
    x, _ = blobs(800, 4, 12, spread=0.3)
    one = [kmeans(x, 12, init="random", seed=s).objective for s in range(6)]
    many = kmeans(x, 12, init="random", seed=0, restarts=6)
    assert many.objective <= min(one[0], float(np.median(one)))


def test_plus_plus_draws_by_squared_distance() -> None:
    """From 0, 1 and 3 with k = 2 there are two candidates for the second centroid: the better one stays."""
    x = torch.tensor([[0.0], [1.0], [3.0]])
    expected = np.zeros((3, 3))
    for first in range(3):
        squared = (x[:, 0].numpy() - float(x[first])) ** 2
        p = squared / squared.sum()
        left = {c: np.minimum(squared, (x[:, 0].numpy() - float(x[c])) ** 2).sum() for c in range(3)}
        for a in range(3):
            for b in range(3):
                expected[first, a if left[a] <= left[b] else b] += p[a] * p[b] / 3
    random = torch.Generator().manual_seed(0)
    seen = np.zeros((3, 3))
    for _ in range(1500):
        a, b = _plus_plus(x, 2, random).flatten().tolist()
        seen[{0: 0, 1: 1, 3: 2}[a], {0: 0, 1: 1, 3: 2}[b]] += 1 / 1500
    np.testing.assert_allclose(seen, expected, atol=0.045)


def test_plus_plus_finds_every_blob() -> None:
    x, truth = blobs(2000, 10, 15, spread=0.05)
    result = kmeans(x, 15, seed=2, iterations=0)
    assert len(set(truth[result.squared_distances == 0].tolist())) == 15
    assert result.iterations == 0


def test_as_many_clusters_as_rows() -> None:
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    for init in ("k-means++", "random"):
        result = kmeans(x, 40, init=init)
        assert sorted(result.labels.tolist()) == list(range(40))
        assert result.objective == pytest.approx(0, abs=1e-9)


def test_an_empty_cluster_splits_the_largest() -> None:
    """Three far blobs; the third centroid starts beyond them all and the big blob has two halves."""
    random = torch.Generator().manual_seed(0)
    big = torch.randn(200, 2, generator=random) * torch.tensor([0.1, 0.1]) + torch.tensor([[0.0, 0.0]])
    big[100:, 0] += 3
    small = torch.randn(30, 2, generator=random) * 0.1 + 20
    x = torch.cat([big, small])
    start = torch.tensor([[1.5, 0.0], [20.0, 20.0], [1e4, 1e4]])
    result = kmeans(x, 3, init=start, iterations=10)
    assert result.reseeded == 1
    assert sorted(result.sizes.tolist()) == [30, 100, 100]
    assert torch.equal(result.centroids, kmeans(x, 3, init=start, iterations=10).centroids)


def test_the_split_is_the_documented_one() -> None:
    x = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])  # r = 1, D = 2
    result = kmeans(x, 2, init=torch.tensor([[0.0, 0.0], [9.0, 9.0]]), iterations=1)
    assert result.reseeded == 1
    torch.testing.assert_close(result.centroids[0], -result.centroids[1])
    assert float(result.centroids[0].norm()) == pytest.approx(1 / (2 * 2**0.5))


def test_equal_rows_leave_clusters_empty() -> None:
    x = torch.randn(10, 4, generator=torch.Generator().manual_seed(0)).repeat(5, 1)
    result = kmeans(x, 14, seed=0)
    assert int((result.sizes > 0).sum()) == 10
    assert result.objective == pytest.approx(0, abs=1e-6)
    assert result.reseeded == 0
    assert kmeans(torch.zeros(8, 3), 3).objective == 0


def test_far_from_the_origin() -> None:
    """Rows at 1e4 with a spread of 1: |x|² − 2x·c + |c|² alone would have errors of about 10."""
    x, _ = blobs(500, 6, 4, spread=0.5)
    x = x.double()
    near, far = (kmeans((x + offset).float(), 4, init=(x[:4] + offset).float(), iterations=5) for offset in (0, 1e4))
    assert torch.equal(near.labels, far.labels)
    assert far.objective == pytest.approx(near.objective, rel=1e-3)
    assert torch.equal(assign((x + 1e4).float(), far.centroids)[0], near.labels)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_other_types(dtype: torch.dtype) -> None:
    x, _ = blobs(300, 6, 4)
    x = x.half().to(dtype)
    same(kmeans(x, 5, iterations=4), kmeans(x.float(), 5, iterations=4))


def test_settings_of_training_do_not_reach_the_distances() -> None:
    x, _ = blobs(300, 6, 4)
    expected = kmeans(x, 5)
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            result = kmeans(x.requires_grad_(), 5)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert torch.equal(result.centroids, expected.centroids)
    assert not result.centroids.requires_grad


def test_memory_mapped_rows(tmp_path: Path) -> None:
    x, _ = blobs(700, 6, 4)
    np.save(tmp_path / "x.npy", x.numpy())
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert isinstance(mapped, np.memmap)
    for init in ("k-means++", "random"):
        same(kmeans(x, 5, init=init), kmeans(mapped, 5, init=init, block_rows=128))
    assert torch.equal(assign(mapped, x[:3])[0], assign(x, x[:3])[0])


def test_assign_with_one_centroid_and_with_no_rows() -> None:
    labels, first, second = assign(torch.ones(3, 2), torch.zeros(1, 2))
    assert labels.tolist() == [0, 0, 0]
    assert first.tolist() == [2, 2, 2]
    assert bool(second.isinf().all())
    assert [len(t) for t in assign(torch.ones(0, 2), torch.zeros(1, 2))] == [0, 0, 0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"k": 0}, "cannot make 0"),
        ({"k": 11}, "11 clusters out of 10 rows"),
        ({"x": torch.full((10, 3), torch.nan)}, "10 of 10 rows"),
        ({"x": torch.ones(10)}, "shape"),
        ({"init": torch.ones(3, 3)}, "do not fit"),
        ({"init": torch.full((2, 3), torch.inf)}, "not finite"),
    ],
)
def test_what_cannot_be_clustered(change: dict, said: str) -> None:
    settings = {"x": torch.rand(10, 3), "k": 2} | change
    with pytest.raises(DataError, match=said):
        kmeans(settings.pop("x"), settings.pop("k"), **settings)


def test_wrong_settings() -> None:
    for wrong in ({"init": "best"}, {"restarts": 0}, {"iterations": -1}, {"block_rows": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            kmeans(torch.rand(10, 3), 2, **wrong)


def _process(rank: int, folder: str, x: Tensor, cut: int) -> None:
    torch.set_num_threads(1)
    dist.init(rank, 2, init_method=f"file://{folder}/meet")
    mine = x[:cut] if rank == 0 else x[cut:]
    results = {
        "plus": kmeans(mine, 9, seed=3, iterations=8),
        "random": kmeans(mine, 9, seed=3, iterations=8, init="random", restarts=2),
        "empty": kmeans(mine, 3, init=_far_start(x), iterations=8),
        "no_rows": kmeans(x if rank else x[:0], 9, seed=3, iterations=8),
    }
    try:
        kmeans(torch.full((5, 2), torch.nan) if rank else torch.ones(5, 2), 2)
    except DataError as error:
        results["error"] = str(error)
    torch.save(results, f"{folder}/{rank}.pt")
    dist.shutdown()


def _far_start(x: Tensor) -> Tensor:
    return torch.stack([x[0], x[1], torch.full_like(x[0], 1e4)])


def test_two_processes_equal_one(tmp_path: Path) -> None:
    x, _ = blobs(1200, 6, 7, spread=2)
    torch.multiprocessing.spawn(_process, (str(tmp_path), x, 500), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in range(2))
    one = {
        "plus": kmeans(x, 9, seed=3, iterations=8),
        "random": kmeans(x, 9, seed=3, iterations=8, init="random", restarts=2),
        "empty": kmeans(x, 3, init=_far_start(x), iterations=8),
        "no_rows": kmeans(x, 9, seed=3, iterations=8),
    }
    assert one["empty"].reseeded == 1
    for name, expected in one.items():
        a, b = first[name], second[name]
        assert torch.equal(a.centroids, b.centroids)
        assert a.objective == b.objective
        torch.testing.assert_close(a.centroids, expected.centroids, rtol=1e-5, atol=1e-5)
        assert torch.equal(torch.cat([a.labels, b.labels]), expected.labels)
        assert torch.equal(a.sizes, expected.sizes)
        assert (a.reseeded, a.iterations) == (expected.reseeded, expected.iterations)
        np.testing.assert_allclose(a.history, expected.history, rtol=1e-5)
    assert "5 of 10 rows" in first["error"]
    assert "5 of 10 rows" in second["error"]
