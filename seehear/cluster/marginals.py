"""Shares of the clusters: how many rows each may take, and which cluster takes which share.

References: Y. Asano, M. Patrick, C. Rupprecht, A. Vedaldi, "Labelling unlabelled videos from scratch with
multi-modal self-supervision" (2020), Section 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_SMALLEST_SHARE = 0.01
"""Of the mean share: normal draws are clipped from below here, for a share must be positive."""


def uniform(k: int) -> Tensor:
    """1/k for each of k clusters, (k,) float64."""
    return torch.full((_checked(k),), 1 / k, dtype=torch.float64)


def gaussian(k: int, generator: torch.Generator, sd: float = 0.1) -> Tensor:
    """Draws of N(1, sd)/k, made positive and normalised; (k,) float64 on the CPU, in random order.

    Args:
        generator: on the CPU. Many processes must pass generators of one state.
    """
    if not 0 <= sd < float("inf"):
        raise ValueError(f"sd={sd} must be finite and not negative")
    draws = torch.randn(_checked(k), generator=generator, dtype=torch.float64)
    return _normalised((1 + sd * draws).clamp_min_(_SMALLEST_SHARE))


def zipf(k: int, exponent: float = 1.0) -> Tensor:
    """Shares proportional to 1, 1/2^exponent, 1/3^exponent ..., (k,) float64; equal ones for exponent 0."""
    if not 0 <= exponent < float("inf"):
        raise ValueError(f"exponent={exponent} must be finite and not negative")
    ranks = torch.arange(1, _checked(k) + 1, dtype=torch.float64)
    return given(ranks.pow(-exponent))


def given(values: Tensor | np.ndarray | Sequence[float]) -> Tensor:
    """`values`, shares or counts of clusters, normalised to sum 1; (k,) float64 on the CPU.

    Raises:
        ValueError: they are not a list of positive finite numbers.
    """
    shares = torch.as_tensor(values, dtype=torch.float64).detach().cpu()
    if shares.ndim != 1 or not len(shares):
        raise ValueError(f"marginals must be a list of numbers, not of shape {tuple(shares.shape)}")
    wrong = (~(shares.isfinite() & (shares > 0))).nonzero().flatten().tolist()
    if wrong:
        raise ValueError(f"marginals must be positive and finite; number {wrong[0]} is {float(shares[wrong[0]])}")
    return _normalised(shares)


def shrunk(sizes: Tensor | np.ndarray | Sequence[int]) -> Tensor:
    """Shares of clusters that have these sizes, moved towards equal ones as far as chance may have made them differ.

    If n rows were dealt at random to k kinds that are equally common, sizes would have the variance n/k (1 − 1/k) about
    n/k. With v that which they have (over k), the part of the difference that is believed is 1 − n/k (1 − 1/k) / v, or
    none of it (after W. James, C. Stein, "Estimation with quadratic loss", 1961). Sizes 50, 30 and 10 have v = 267,
    chance 20: .925 of the difference stays, and the shares are .539, .333 and .128. Returns (k,) float64 of sum 1, all
    above 0: an empty cluster counts for half a row.
    """
    counts = torch.as_tensor(sizes, dtype=torch.float64).clamp_min(0.5)
    k, rows = _checked(len(counts)), float(counts.sum())
    chance, variance = rows / k * (1 - 1 / k), float((counts - rows / k).square().mean())
    believed = max(0.0, 1 - chance / variance) if variance > 0 else 0.0
    return given(rows / k + believed * (counts - rows / k))


def make_marginals(kind: str | Tensor | np.ndarray | Sequence[float], k: int, generator: torch.Generator) -> Tensor:
    """The shares of k clusters that a setting names, (k,) float64 of sum 1.

    Args:
        kind: "uniform", "gaussian", "zipf", or k positive numbers.
        generator: for "gaussian"; see there.

    Raises:
        ValueError: another name, a wrong number of numbers, or numbers that are no shares.
    """
    if isinstance(kind, str):
        if kind == "uniform":
            return uniform(k)
        if kind == "gaussian":
            return gaussian(k, generator)
        if kind == "zipf":
            return zipf(k)
        raise ValueError(f'marginals are "uniform", "gaussian", "zipf" or {k} numbers, not {kind!r}')
    shares = given(kind)
    if len(shares) != k:
        raise ValueError(f"{len(shares)} marginals are given for {k} clusters")
    return shares


def match_marginals(marginals: Tensor, masses: Tensor) -> Tensor:
    """The marginals in the order that suits the clusters as they are: the largest for the largest cluster.

    With q the current masses and r the marginals, the energy E(R) = const − sum_y q(y) [R log r]_y (Eq. 4) is
    least for the permutation R that sorts R log r as q is sorted (Eq. 5): exchanging the shares of two
    clusters of which the larger has the smaller share always lowers it.

    Args:
        marginals: r (K,), positive.
        masses: q (K,), counts or shares of the clusters now, at least 0. Among equal ones the first cluster
            gets the smallest share.

    Returns:
        R r (K,): the marginal of each cluster, of the type and on the device of `marginals`.

    Raises:
        ValueError: the two do not fit together, marginals are not positive, or masses are negative or NaN.
    """
    if marginals.ndim != 1 or marginals.shape != masses.shape:
        raise ValueError(f"marginals {tuple(marginals.shape)} and masses {tuple(masses.shape)} must both be (K,)")
    if not bool((marginals > 0).all()):
        raise ValueError("marginals must be positive")
    if not bool((masses >= 0).all()):
        raise ValueError("masses must be at least 0")
    order = masses.to(marginals.device).argsort(stable=True)
    matched = torch.empty_like(marginals)
    matched[order] = marginals.sort().values
    return matched


def _checked(k: int) -> int:
    if k < 1:
        raise ValueError(f"cannot make marginals of {k} clusters")
    return k


def _normalised(shares: Tensor) -> Tensor:
    # By the largest first: the sum of huge numbers would overflow.
    shares = shares / shares.max()
    return shares / shares.sum()
