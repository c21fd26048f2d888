"""Agreement of two heads before the first clustering: which output of the one is which of the other.

Two networks with random weights number their clusters differently. Eq. 7 of the SeLaVi paper seeks the
permutation of one head's outputs that brings its probabilities p nearest to the other's, q, in the 1-norm:

    min over pi of  sum_i sum_y |p(pi(y)|x_i) − q(y|x_i)|  =  sum_y cost[y, pi(y)],

which is an assignment problem with cost[y, z] = sum_i |p(z|x_i) − q(y|x_i)|: one pass over the rows gives all
costs, and no permutation needs to look at them again.

References: Y. Asano, M. Patrick, C. Rupprecht, A. Vedaldi, "Labelling unlabelled videos from scratch with
multi-modal self-supervision" (2020), Section 3.3 and Appendix A.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from seehear import dist
from seehear.cluster.kmeans import Rows

HUNGARIAN_CLUSTERS = 2048
"""Up to so many clusters the optimum is found; beyond, its cubic time counts and pairs are swapped."""


@dataclass(frozen=True)
class Alignment:
    """A permutation of a head's outputs, with the cost that it saves."""

    permutation: Tensor
    """(K,) int64 pi: p[:, pi] agrees with q. For a last layer of weights W and biases b, take W[pi] and b[pi]."""
    cost_before: float
    """Eq. 7 of the outputs as they are."""
    cost_after: float
    """Eq. 7 after the permutation; never more than before."""
    method: str
    """"hungarian" or "greedy"."""


def alignment_cost(
    p: Rows, q: Rows, *, block_rows: int | None = None, device: torch.device | str | None = None
) -> Tensor:
    """The 1-norm distance of each output of one head from each of another, over the rows of all processes.

    Args:
        p: probabilities (n, K) by the head that will be permuted, this process's rows; n may be 0.
        q: probabilities (n, K) of the same rows by the head that stays.
        block_rows: rows handled at once; None takes a size that suits the cache.
        device: where to compute; None takes that of p (the CPU for arrays).

    Returns:
        cost (K, K) float64, cost[y, z] = sum_i |p_iz − q_iy|, the same on every process.

    Complexity:
        O(n · K²) time, O(K² + block_rows · K) memory.

    Raises:
        ValueError: shapes that differ, or entries that are not finite; on every process alike.
    """
    wrong = None
    if len(p.shape) != 2 or tuple(p.shape) != tuple(q.shape):
        wrong = f"the heads must give matrices of one shape (N, K), not {tuple(p.shape)} and {tuple(q.shape)}"
    elif block_rows is not None and block_rows < 1:
        wrong = f"block_rows={block_rows} must be at least 1"
    columns = int(p.shape[-1])
    answers = dist.all_gather_objects((wrong, columns))
    for said, _ in answers:
        if said:
            raise ValueError(said)
    if len({k for _, k in answers}) > 1:
        raise ValueError(f"processes hold different numbers of columns: {[k for _, k in answers]}")
    where = torch.device(device if device is not None else getattr(p, "device", "cpu"))
    step = block_rows or max(64, 2**17 // max(columns, 1))
    with torch.no_grad():
        cost = torch.zeros(columns, columns, dtype=torch.float64, device=where)
        for start in range(0, int(p.shape[0]), step):
            one, other = (_transposed(x[start : start + step], where) for x in (p, q))
            # float32 within a block, float64 across blocks.
            cost += torch.cdist(other, one, p=1)
        cost = dist.all_reduce_sum(cost)
    if not bool(cost.isfinite().all()):
        raise ValueError("probabilities to align are not finite: an encoder gave NaN or infinity")
    return cost


def align(
    cost: Tensor,
    method: str = "auto",
    *,
    candidates: int = 50_000,
    restarts: int = 5,
    generator: torch.Generator | None = None,
) -> Alignment:
    """The permutation of outputs that lowers Eq. 7, from `alignment_cost`.

    Args:
        cost: (K, K), finite.
        method: "hungarian" finds the optimum in O(K³); "greedy" is the paper's: from a permutation, pairs
            drawn at random are swapped where that lowers the cost; the best of `restarts` wins. "auto" takes
            the first up to `HUNGARIAN_CLUSTERS` clusters.
        candidates: pairs that greedy tries in each restart.
        restarts: how often greedy starts: first from the outputs as they are, then from random permutations.
        generator: of greedy's draws, on the CPU; None draws the same each time. Many processes must pass
            generators of one state.

    Raises:
        ValueError: a cost that is not square and finite, or settings out of range.
    """
    if cost.ndim != 2 or cost.shape[0] != cost.shape[1] or not len(cost):
        raise ValueError(f"the cost must be a matrix (K, K), not {tuple(cost.shape)}")
    if not bool(cost.isfinite().all()):
        raise ValueError("the cost is not finite")
    if method not in ("auto", "hungarian", "greedy"):
        raise ValueError(f'method is "auto", "hungarian" or "greedy", not {method!r}')
    if candidates < 0 or restarts < 1:
        raise ValueError(f"candidates={candidates} must be at least 0 and restarts={restarts} at least 1")
    if method == "auto":
        method = "hungarian" if len(cost) <= HUNGARIAN_CLUSTERS else "greedy"
    table = cost.detach().double().cpu().numpy()
    identity = np.arange(len(table))
    before = float(table.trace())
    if method == "hungarian":
        found = linear_sum_assignment(table)[1]
    else:
        found = _swap_pairs(table, candidates, restarts, generator or torch.Generator().manual_seed(0))
    after = float(table[identity, found].sum())
    if after >= before:
        found, after = identity, before
    return Alignment(torch.from_numpy(found.astype(np.int64)).to(cost.device), before, after, method)


def _swap_pairs(table: np.ndarray, candidates: int, restarts: int, random: torch.Generator) -> np.ndarray:
    k = len(table)
    rows = np.arange(k)
    best, best_cost = rows, float("inf")
    for restart in range(restarts):
        current = list(range(k)) if restart == 0 else torch.randperm(k, generator=random).tolist()
        if k > 1:
            first = torch.randint(k, (candidates,), generator=random)
            # The second of a pair is never the first.
            second = (first + torch.randint(1, k, (candidates,), generator=random)) % k
            for a, b in zip(first.tolist(), second.tolist(), strict=True):
                x, y = current[a], current[b]
                if table[a, y] + table[b, x] < table[a, x] + table[b, y]:
                    current[a], current[b] = y, x
        total = float(table[rows, current].sum())
        if total < best_cost:
            best, best_cost = np.array(current), total
    return best


def _transposed(part: Any, device: torch.device) -> Tensor:
    part = part if isinstance(part, Tensor) else torch.from_numpy(np.array(part))
    return part.to(device, torch.float32).T.contiguous()
