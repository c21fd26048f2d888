"""Alignment of two heads: Eq. 7 as it is written, and the permutation that lowers it."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from seehear import dist
from seehear.cluster import alignment
from seehear.cluster.alignment import align, alignment_cost


def probabilities(n: int, k: int, seed: int, scale: float = 2.0) -> Tensor:
    return (scale * torch.randn(n, k, generator=torch.Generator().manual_seed(seed))).softmax(1)


def plain(p: Tensor, q: Tensor, permutation: list[int]) -> float:
    """Eq. 7 for one permutation of the outputs of p."""
    return sum(
        abs(float(p[i, permutation[y]]) - float(q[i, y])) for i in range(len(p)) for y in range(len(permutation))
    )


def test_the_cost_is_the_equation_for_every_permutation() -> None:
    p, q = probabilities(15, 4, 0), probabilities(15, 4, 1)
    cost = alignment_cost(p, q, block_rows=4)
    assert cost.dtype == torch.float64
    for order in itertools.permutations(range(4)):
        assert float(cost[range(4), order].sum()) == pytest.approx(plain(p, q, list(order)), rel=1e-6)
    result = align(cost)
    assert result.cost_before == pytest.approx(plain(p, q, [0, 1, 2, 3]), rel=1e-6)
    assert result.cost_after == pytest.approx(plain(p, q, result.permutation.tolist()), rel=1e-6)


@pytest.mark.parametrize("block_rows", [1, 7, 300, None])
def test_blocks_arrays_and_maps_agree(block_rows: int | None, tmp_path: Path) -> None:
    p, q = probabilities(200, 6, 0), probabilities(200, 6, 1)
    expected = (p.double()[:, None, :] - q.double()[:, :, None]).abs().sum(0)
    np.save(tmp_path / "p.npy", p.numpy())
    for rows in (p, p.numpy(), np.load(tmp_path / "p.npy", mmap_mode="r"), p.double()):
        torch.testing.assert_close(alignment_cost(rows, q, block_rows=block_rows), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", ["auto", "hungarian", "greedy"])
def test_a_known_permutation_is_found(method: str) -> None:
    q = probabilities(300, 12, 0)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(3))
    p = q[:, order]
    result = align(alignment_cost(p, q), method)
    assert torch.equal(p[:, result.permutation], q)
    assert torch.equal(result.permutation, order.argsort())
    assert result.cost_after == pytest.approx(0, abs=1e-6)
    assert result.cost_before > 1


def test_weights_are_permuted_by_rows() -> None:
    random = torch.Generator().manual_seed(0)
    features, weights, bias = (torch.randn(*shape, generator=random) for shape in ((50, 8), (5, 8), (5,)))
    q = (features @ weights.T + bias).softmax(1)
    order = torch.tensor([3, 1, 4, 0, 2])
    other, other_bias = weights[order], bias[order]
    found = align(alignment_cost((features @ other.T + other_bias).softmax(1), q)).permutation
    assert torch.equal(other[found], weights) and torch.equal(other_bias[found], bias)


@pytest.mark.parametrize("seed", range(6))
def test_hungarian_is_the_best_of_all_permutations(seed: int) -> None:
    cost = torch.rand(5, 5, generator=torch.Generator().manual_seed(seed))
    least = min(float(cost.double()[range(5), order].sum()) for order in itertools.permutations(range(5)))
    assert align(cost, "hungarian").cost_after == pytest.approx(least)


@pytest.mark.parametrize("k", [1, 2, 7, 60])
def test_hungarian_is_at_most_greedy_which_is_at_most_before(k: int) -> None:
    cost = alignment_cost(probabilities(100, k, 0), probabilities(100, k, 1))
    best, swapped = (align(cost, method) for method in ("hungarian", "greedy"))
    assert best.cost_after <= swapped.cost_after * (1 + 1e-12) <= swapped.cost_before * (1 + 1e-12)
    if k > 2:
        assert swapped.cost_after < swapped.cost_before
    for result in (best, swapped):
        assert sorted(result.permutation.tolist()) == list(range(k))
        chosen = cost[torch.arange(k), result.permutation].sum()
        assert float(chosen) == pytest.approx(result.cost_after)


def test_more_restarts_and_candidates_do_not_harm() -> None:
    cost = alignment_cost(probabilities(100, 40, 0), probabilities(100, 40, 1))

    def after(candidates: int, restarts: int) -> float:
        random = torch.Generator().manual_seed(1)
        return align(cost, "greedy", candidates=candidates, restarts=restarts, generator=random).cost_after

    assert after(2000, 5) <= after(2000, 1) <= after(200, 1) <= after(0, 1) == pytest.approx(float(cost.trace()))
    assert torch.equal(align(cost, "greedy").permutation, align(cost, "greedy").permutation)


def test_heads_that_agree_stay_as_they_are() -> None:
    p = probabilities(50, 6, 0)
    for method in ("hungarian", "greedy"):
        assert align(alignment_cost(p, p), method).permutation.tolist() == list(range(6))
    flat = torch.full((10, 4), 0.25)
    result = align(alignment_cost(flat, flat))
    assert result.permutation.tolist() == [0, 1, 2, 3]
    assert result.cost_after == result.cost_before == 0


def test_many_clusters_are_aligned_by_swaps(monkeypatch: pytest.MonkeyPatch) -> None:
    cost = torch.rand(9, 9, generator=torch.Generator().manual_seed(0))
    assert align(cost).method == "hungarian"
    monkeypatch.setattr(alignment, "HUNGARIAN_CLUSTERS", 8)
    assert align(cost).method == "greedy"


def test_what_cannot_be_aligned() -> None:
    p = probabilities(10, 4, 0)
    for p_rows, q_rows, said in (
        (p, p[:, :3], "one shape"),
        (p, p[:9], "one shape"),
        (p[0], p[0], "one shape"),
        (p * torch.nan, p, "not finite"),
    ):
        with pytest.raises(ValueError, match=said):
            alignment_cost(p_rows, q_rows)
    with pytest.raises(ValueError, match="block_rows"):
        alignment_cost(p, p, block_rows=0)
    cost = torch.zeros(3, 3)
    for wrong in (torch.zeros(2, 3), torch.zeros(3), torch.zeros(0, 0), cost / 0):
        with pytest.raises(ValueError, match="cost"):
            align(wrong)
    for settings in ({"method": "best"}, {"candidates": -1}, {"restarts": 0}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            align(cost, **settings)


def _process(rank: int, folder: str, p: Tensor, q: Tensor) -> None:
    torch.set_num_threads(1)
    dist.init(rank, 2, init_method=f"file://{folder}/meet")
    mine = slice(0, 30) if rank == 0 else slice(30, None)
    cost = alignment_cost(p[mine], q[mine])
    none = alignment_cost(p if rank else p[:0], q if rank else q[:0])
    said = ""
    try:
        alignment_cost(p, q[:, :2] if rank else q)
    except ValueError as error:
        said = str(error)
    torch.save((cost, none, said, align(cost, "greedy").permutation), f"{folder}/{rank}.pt")
    dist.shutdown()


def test_two_processes_equal_one(tmp_path: Path) -> None:
    p, q = probabilities(100, 7, 0), probabilities(100, 7, 1)
    torch.multiprocessing.spawn(_process, (str(tmp_path), p, q), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    expected = alignment_cost(p, q)
    for a, b in zip(first[:2], second[:2], strict=True):
        assert torch.equal(a, b)
        torch.testing.assert_close(a, expected, rtol=1e-6, atol=1e-6)
    assert "one shape" in first[2] and first[2] == second[2]
    assert torch.equal(first[3], second[3])
