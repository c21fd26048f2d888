"""Sinkhorn-Knopp: equal to POT and to the definition, stable at any logits, indifferent to blocks and processes."""

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from seehear import dist
from seehear.cluster.sinkhorn import Transport, assign, sinkhorn

DOUBLE = torch.float64


def logits(n: int, k: int, scale: float = 1.0, seed: int = 0) -> Tensor:
    return scale * torch.randn(n, k, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def log_probabilities(n: int, k: int, scale: float = 1.0, seed: int = 0) -> Tensor:
    return logits(n, k, scale, seed).log_softmax(1)


def shares(k: int, seed: int = 0) -> Tensor:
    drawn = torch.rand(k, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE) + 0.05
    return drawn / drawn.sum()


def plan(log_p: Tensor, result: Transport, strength: float = 20.0) -> Tensor:
    """Q itself, (N, K) float64."""
    return (strength * log_p.double() + result.log_alpha).softmax(1) / len(log_p)


def plain_log_domain(log_p: Tensor, r: Tensor, strength: float, iterations: int) -> Tensor:
    """The definition: both scalings in turn, as logarithms, over the whole matrix."""
    kernel, beta, alpha = strength * log_p.double(), torch.zeros(len(log_p), dtype=DOUBLE), r.log()
    for _ in range(iterations):
        beta = -math.log(len(log_p)) - (kernel + alpha).logsumexp(1)
        alpha = r.log() - (kernel + beta[:, None]).logsumexp(0)
    beta = -math.log(len(log_p)) - (kernel + alpha).logsumexp(1)
    return (kernel + alpha + beta[:, None]).exp()


def same(a: Transport, b: Transport, log_p: Tensor) -> None:
    """Equal up to rounding; only rows whose two best clusters are equal up to rounding may differ in label."""
    assert (a.iterations, a.converged) == (b.iterations, b.converged)
    torch.testing.assert_close(a.log_alpha, b.log_alpha, rtol=1e-4, atol=1e-4)
    best = (20 * log_p.double() + a.log_alpha).topk(2, 1).values
    clear = best[:, 0] - best[:, 1] > 1e-3
    assert torch.equal(a.labels[clear], b.labels[clear])
    assert a.marginal_error == pytest.approx(b.marginal_error, rel=1e-2, abs=1e-5)


def test_two_rows_and_two_clusters_by_hand() -> None:
    """With kernel [[a, b], [b, a]] and equal marginals the plan is the kernel over its sum 2(a + b)."""
    log_p = torch.tensor([[0.8, 0.2], [0.2, 0.8]], dtype=DOUBLE).log()
    result = sinkhorn(log_p, [0.5, 0.5], strength=2.0, dtype=DOUBLE)
    a, b = 0.64, 0.04
    expected = torch.tensor([[a, b], [b, a]], dtype=DOUBLE) / (2 * (a + b))
    torch.testing.assert_close(plan(log_p, result, 2.0), expected)
    assert result.labels.tolist() == [0, 1]
    assert result.masses.tolist() == [1, 1]
    assert (result.converged, result.iterations) == (True, 0)


def test_a_two_by_two_plan_with_unequal_marginals_by_hand() -> None:
    """Scalings keep the ratio Q11 Q22 / (Q12 Q21) = 16² of the kernel; marginals leave one unknown t = Q11."""
    log_p = torch.tensor([[0.8, 0.2], [0.2, 0.8]], dtype=DOUBLE).log()
    result = sinkhorn(log_p, [0.7, 0.3], strength=2.0, dtype=DOUBLE, tolerance=1e-12)
    # t (t − 0.2) = 256 (0.5 − t) (0.7 − t), the root with all entries positive.
    ratio = 256.0
    roots = np.roots([1 - ratio, -0.2 + 1.2 * ratio, -0.35 * ratio])
    t = float(roots[(roots > 0.2) & (roots < 0.5)][0])
    expected = torch.tensor([[t, 0.5 - t], [0.7 - t, t - 0.2]], dtype=DOUBLE)
    torch.testing.assert_close(plan(log_p, result, 2.0), expected)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("method", ["sinkhorn", "sinkhorn_log"])
def test_equals_pot(method: str, overwrite: bool) -> None:
    ot = pytest.importorskip("ot")
    log_p, r = log_probabilities(300, 12), shares(12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = ot.sinkhorn(
            np.full(300, 1 / 300), r.numpy(), -log_p.numpy(), 1 / 20, method=method, numItermax=5000, stopThr=1e-13
        )
    ours = sinkhorn(log_p.clone(), r, tolerance=1e-10, max_iterations=5000, dtype=DOUBLE, overwrite=overwrite)
    assert ours.converged
    np.testing.assert_allclose(plan(log_p, ours).numpy(), theirs, rtol=1e-6, atol=1e-13)
    np.testing.assert_array_equal(ours.labels.numpy(), theirs.argmax(1))
    single = sinkhorn(log_p.float(), r, tolerance=1e-4, max_iterations=5000, overwrite=overwrite)
    assert (single.labels.numpy() == theirs.argmax(1)).mean() > 0.99


@pytest.mark.parametrize("iterations", [0, 1, 7, 40])
@pytest.mark.parametrize("overwrite", [False, True])
def test_each_iteration_is_the_definition(iterations: int, overwrite: bool) -> None:
    log_p, r = log_probabilities(200, 9, scale=3), shares(9)
    result = sinkhorn(
        log_p.clone(), r, max_iterations=iterations, tolerance=0, dtype=DOUBLE, overwrite=overwrite, block_rows=37
    )
    expected = plain_log_domain(log_p, r, 20.0, iterations)
    torch.testing.assert_close(plan(log_p, result), expected, rtol=1e-8, atol=1e-14)
    assert result.iterations == iterations
    error = (expected.sum(0) / r - 1).abs().max()
    assert result.marginal_error == pytest.approx(float(error), rel=1e-6)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("scale", [1e-7, 1e-3, 0.02])
def test_an_untrained_network(scale: float, overwrite: bool) -> None:
    """Near-uniform probabilities over many clusters: 1/K to the power 20 is no float32 number."""
    log_p = log_probabilities(3000, 400, scale)
    assert bool(((log_p.float() * 20).exp() == 0).all())
    result = sinkhorn(log_p.float(), torch.full((400,), 1 / 400), overwrite=overwrite)
    assert result.converged
    assert math.isfinite(result.marginal_error)
    exact = sinkhorn(log_p, torch.full((400,), 1 / 400), dtype=DOUBLE, tolerance=1e-9)
    agreement = float((result.labels == exact.labels).double().mean())
    if scale >= 1e-3:
        assert int((result.masses > 0).sum()) > 350
        assert int(result.masses.max()) < 60
        assert agreement > 0.95
    sums = plan(log_p, result).sum(0) * 400
    torch.testing.assert_close(sums, torch.ones_like(sums), rtol=2e-3, atol=0)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
@pytest.mark.parametrize("scale", [10.0, 100.0, 1000.0])
def test_extreme_logits(scale: float, dtype: torch.dtype, overwrite: bool) -> None:
    """Rows far apart: no NaN, and the potentials do what the definition does."""
    x = (scale * torch.rand(150, 6, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)).float()
    x = x * torch.where(torch.arange(6) % 2 == 0, 1.0, -1.0)
    r = shares(6)
    result = sinkhorn(x.to(dtype, copy=True), r, max_iterations=60, dtype=dtype, overwrite=overwrite)
    assert bool(result.log_alpha.isfinite().all()) and math.isfinite(result.marginal_error)
    expected = plain_log_domain(x, r, 20.0, result.iterations)
    if dtype == DOUBLE:
        torch.testing.assert_close(plan(x, result), expected, rtol=1e-6, atol=1e-12)
    # float32 rounds exponents of 20 000 to 0.001.
    assert float((result.labels == expected.argmax(1)).double().mean()) > 0.97


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_cluster_that_no_row_wants_gets_its_share(overwrite: bool) -> None:
    """Its exponents lie 20 · 40 below all others: every float32 power of them is 0."""
    x = logits(500, 5, 0.05).float()
    x[:, 3] -= 40
    r = shares(5)
    result = sinkhorn(x.clone(), r, overwrite=overwrite, tolerance=1e-4)
    assert result.converged
    torch.testing.assert_close(plan(x, result).sum(0), r, rtol=1e-3, atol=0)
    assert float(result.log_alpha[3] - result.log_alpha[0]) > 700


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("smallest", [1e-6, 1e-13, 1e-30, 1e-200, 1e-310])
def test_tiny_marginals(smallest: float, overwrite: bool) -> None:
    x = logits(400, 6, 0.1).float()
    r = torch.tensor([smallest, 0.3, 0.2, 0.2, 0.2, 0.1], dtype=DOUBLE)
    result = sinkhorn(x.clone(), r, overwrite=overwrite, tolerance=1e-4)
    assert result.converged
    log_q = (20 * x.double() + result.log_alpha).log_softmax(1).logsumexp(0) - math.log(400)
    torch.testing.assert_close(log_q, r.log(), rtol=0, atol=1e-3)
    assert result.masses[0] == 0


def test_denormal_probabilities() -> None:
    p = torch.full((50, 3), 1e-42)
    p[torch.arange(50), torch.arange(50) % 3] = 1.0
    result = sinkhorn(p.log(), [0.2, 0.3, 0.5], max_iterations=500)
    assert bool(result.log_alpha.isfinite().all()) and math.isfinite(result.marginal_error)
    assert int(result.masses.sum()) == 50


@pytest.mark.parametrize("seed", range(25))
def test_marginals_hold_on_random_problems(seed: int) -> None:
    random = np.random.default_rng(seed)
    n, k = int(random.integers(1, 200)), int(random.integers(1, 30))
    scale, strength = float(10 ** random.uniform(-3, 0.7)), float(10 ** random.uniform(-1, 1.3))
    x = logits(n, k, scale, seed) + float(random.normal(0, 50))
    r = torch.from_numpy(random.dirichlet(np.full(k, random.uniform(0.3, 5)))).clamp_min(1e-6)
    r /= r.sum()
    results = [
        sinkhorn(
            x.clone(), r, strength=strength, dtype=DOUBLE, max_iterations=400, overwrite=overwrite, block_rows=rows
        )
        for overwrite in (False, True)
        for rows in (7, None)
    ]
    first = results[0]
    q = plan(x, first, strength)
    assert float((q.sum(0) / r - 1).abs().max()) == pytest.approx(first.marginal_error, rel=1e-4, abs=1e-9)
    assert first.converged == (first.marginal_error <= 1e-3)
    assert first.converged or first.iterations == 400
    assert torch.equal(first.masses, torch.bincount(first.labels, minlength=k))
    for other in results[1:]:
        torch.testing.assert_close(other.log_alpha, first.log_alpha, rtol=1e-8, atol=1e-8)
        assert other.iterations == first.iterations


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("block_rows", [1, 7, 999, 5000])
def test_blocks_of_any_size_agree(block_rows: int, overwrite: bool) -> None:
    x, r = log_probabilities(1000, 8).float(), shares(8)
    one = sinkhorn(x, r, block_rows=1000)
    same(one, sinkhorn(x.clone(), r, block_rows=block_rows, overwrite=overwrite), x)


def test_convergence_is_said_and_non_convergence_too() -> None:
    x, r = log_probabilities(500, 10, 5), shares(10)
    few = sinkhorn(x, r, max_iterations=3)
    assert (few.converged, few.iterations) == (False, 3)
    assert few.marginal_error > 1e-3
    enough = sinkhorn(x, r, check_every=7)
    assert enough.converged and enough.iterations % 7 == 0
    assert enough.marginal_error <= 1e-3
    at_once = sinkhorn(x, r, check_every=1)
    assert enough.iterations - 7 < at_once.iterations <= enough.iterations


def test_only_overwrite_changes_the_rows() -> None:
    x, r = log_probabilities(300, 8).float(), shares(8)
    before = x.clone()
    kept = sinkhorn(x, r, tolerance=1e-4)
    assert torch.equal(x, before)
    array = x.numpy().copy()
    same(kept, sinkhorn(array, r, tolerance=1e-4, overwrite=True), before)
    assert not np.array_equal(array, before.numpy())
    result = sinkhorn(x.requires_grad_(), r)
    assert not result.log_alpha.requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, DOUBLE])
def test_other_types(dtype: torch.dtype) -> None:
    x = log_probabilities(300, 8).to(dtype)
    same(sinkhorn(x, shares(8)), sinkhorn(x.float(), shares(8)), x)


def test_memory_mapped_rows(tmp_path: Path) -> None:
    x, r = log_probabilities(700, 6).float(), shares(6)
    np.save(tmp_path / "x.npy", x.numpy())
    same(sinkhorn(x, r), sinkhorn(np.load(tmp_path / "x.npy", mmap_mode="r"), r, block_rows=128), x)
    with pytest.raises(ValueError, match="writable array"):
        sinkhorn(np.load(tmp_path / "x.npy", mmap_mode="r"), r, overwrite=True)


def test_new_rows_are_labelled_by_the_potentials() -> None:
    x, r = log_probabilities(600, 7, 2), shares(7)
    result = sinkhorn(x, r, dtype=DOUBLE)
    labels, entropy = assign(x, result.log_alpha, dtype=DOUBLE, block_rows=41)
    assert torch.equal(labels, result.labels)
    q = (20 * x + result.log_alpha).softmax(1)
    torch.testing.assert_close(entropy, -torch.special.xlogy(q, q).sum(1), rtol=1e-6, atol=1e-12)
    assert torch.equal(assign(x, result.log_alpha + 3, dtype=DOUBLE)[0], labels)
    flat = assign(torch.zeros(2, 5), torch.zeros(5), 20.0)[1]
    torch.testing.assert_close(flat, torch.full((2,), math.log(5)))
    sure = assign(1000 * torch.eye(3), torch.zeros(3))
    assert (sure[0].tolist(), sure[1].tolist()) == ([0, 1, 2], [0, 0, 0])
    assert [len(t) for t in assign(torch.zeros(0, 5), torch.zeros(5))] == [0, 0]


def test_one_cluster_and_one_row() -> None:
    assert sinkhorn(torch.randn(5, 1), [1.0]).labels.tolist() == [0] * 5
    assert sinkhorn(torch.zeros(1, 3), [0.2, 0.5, 0.3]).labels.tolist() == [1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"log_p": torch.full((10, 3), torch.nan)}, "10 of 10 rows of log_p are not finite"),
        ({"log_p": torch.tensor([[0.0, -torch.inf, 0.0], [0.0, 0.0, 0.0]])}, "1 of 2 rows"),
        ({"log_p": torch.full((2, 3), 1e300, dtype=DOUBLE)}, "2 of 2 rows"),
        ({"log_p": torch.zeros(10)}, "shape"),
        ({"log_p": torch.zeros(4, 0)}, "shape"),
        ({"log_p": torch.zeros(0, 3)}, "no rows"),
        ({"marginals": [0.5, 0.5]}, "3 columns"),
        ({"marginals": [0.5, 0.5, 0.0]}, "positive"),
        ({"marginals": [0.5, 0.6, -0.1]}, "positive"),
        ({"marginals": [0.5, math.nan, 0.5]}, "positive"),
        ({"marginals": [1.0, 1.0, 1.0]}, "sum 1"),
        ({"strength": 0.0}, "strength"),
        ({"strength": math.nan}, "strength"),
        ({"tolerance": -1.0}, "tolerance"),
        ({"max_iterations": -1}, "max_iterations"),
        ({"check_every": 0}, "check_every"),
        ({"block_rows": 0}, "block_rows"),
        ({"dtype": torch.float16}, "dtype"),
        ({"overwrite": True, "dtype": DOUBLE}, "overwrite=True needs log_p of torch.float64"),
    ],
)
def test_what_cannot_be_solved(change: dict[str, Any], said: str) -> None:
    settings: dict[str, Any] = {"log_p": torch.zeros(10, 3), "marginals": [0.2, 0.3, 0.5]} | change
    with pytest.raises(ValueError, match=said):
        sinkhorn(settings.pop("log_p"), settings.pop("marginals"), **settings)


def test_what_cannot_be_labelled() -> None:
    with pytest.raises(ValueError, match="log_alpha"):
        assign(torch.zeros(4, 3), torch.zeros(2))
    with pytest.raises(ValueError, match="4 of 4 rows"):
        assign(torch.full((4, 3), torch.nan), torch.zeros(3))


def _problems(x: Tensor) -> dict[str, tuple[Tensor, dict[str, Any]]]:
    unwanted = x.clone()
    unwanted[:, 2] -= 40
    return {
        "plain": (x, {}),
        "overwrite": (x.clone(), {"overwrite": True}),
        "unwanted": (unwanted, {"max_iterations": 50}),
        "unwanted_overwrite": (unwanted.clone(), {"max_iterations": 50, "overwrite": True}),
    }


def _process(rank: int, folder: str, x: Tensor, cut: int) -> None:
    torch.set_num_threads(1)
    dist.init(rank, 2, init_method=f"file://{folder}/meet")
    r = shares(6)
    results: dict[str, Any] = {
        name: sinkhorn(rows[:cut] if rank == 0 else rows[cut:], r, **settings)
        for name, (rows, settings) in _problems(x).items()
    }
    results["no_rows"] = sinkhorn(x if rank else x[:0], r)
    for name, rows in (("nan", torch.full((5, 6), torch.nan)), ("shape", torch.zeros(5, 4))):
        try:
            sinkhorn(rows if rank else torch.zeros(5, 6), r)
        except ValueError as error:
            results[name] = str(error)
    torch.save(results, f"{folder}/{rank}.pt")
    dist.shutdown()


def test_two_processes_equal_one(tmp_path: Path) -> None:
    x = log_probabilities(900, 6).float()
    torch.multiprocessing.spawn(_process, (str(tmp_path), x, 350), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in range(2))
    expected = {name: (rows.clone(), sinkhorn(rows, shares(6), **more)) for name, (rows, more) in _problems(x).items()}
    expected["no_rows"] = (x, sinkhorn(x, shares(6)))
    for name, (rows, one) in expected.items():
        a, b = first[name], second[name]
        assert torch.equal(a.log_alpha, b.log_alpha)
        assert torch.equal(a.masses, b.masses)
        assert a.marginal_error == b.marginal_error
        both = Transport(
            torch.cat([a.labels, b.labels]), a.iterations, a.converged, a.marginal_error, a.log_alpha, a.masses
        )
        same(one, both, rows)
        assert torch.equal(both.masses, torch.bincount(both.labels, minlength=6))
    assert "5 of 10 rows" in first["nan"] and first["nan"] == second["nan"]
    assert "4 columns" in first["shape"] and first["shape"] == second["shape"]
