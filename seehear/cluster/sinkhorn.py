"""Self-labelling by optimal transport: Sinkhorn-Knopp iterations that read blocks of rows.

With P the probabilities (N, K) that a network gives to clusters, the labels are those of the plan

    Q = diag(beta) P^strength diag(alpha),   Q^T 1 = r,   Q 1 = 1/N

(Eqs. 2 and 3 of the SeLaVi paper, whose matrices are the transposed of these; strength is its lambda), that is
of q(y|x) = softmax(strength · log p + log alpha): one number a cluster is all there is to find. beta follows
from it row by row and is never stored, so that an iteration reads the rows once and, with many processes, ends
with one sum of K numbers.

Each row is taken relative to its largest entry, potentials included: no row underflows whatever the logits
are. Columns whose mass is too small for sums of the type at hand are summed as logarithms in float64.

References: Y. Asano, M. Patrick, C. Rupprecht, A. Vedaldi, "Labelling unlabelled videos from scratch with
multi-modal self-supervision" (2020), Sections 3.1 and 3.2; M. Cuturi, "Sinkhorn distances" (2013).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seehear import dist
from seehear.cluster.kmeans import Rows, full_precision

_DRIFT = 10.0
"""Potentials may move so far, in nats, from those that a stored kernel holds before it is rescaled."""
_LARGE_MAXIMUM = 16.0
"""Beyond this a row's maximum is taken off before multiplying: rounding would eat the small differences."""


@dataclass(frozen=True)
class _Range:
    """What a type can hold. The order floor · e^(2 · _DRIFT) << trusted, floor << low keeps sums exact."""

    floor: float
    """Exponents below this one are not raised: their sums count for nothing, and denormal numbers are slow."""
    low: float
    """Column masses below this one are summed as logarithms."""
    trusted: float
    """Column masses above this one can be summed from a stored kernel."""


_RANGES = {torch.float32: _Range(-60.0, 1e-18, 1e-11), torch.float64: _Range(-600.0, 1e-240, 1e-230)}


@dataclass(frozen=True)
class Transport:
    """Labels under given cluster marginals. `labels` are those of this process's rows; the rest is common."""

    labels: Tensor
    """(n,) int64: for each row the cluster of the largest entry of Q (the first one on a tie)."""
    iterations: int
    """How often the potentials were changed."""
    converged: bool
    """Whether `marginal_error` is at most the tolerance."""
    marginal_error: float
    """Largest |c_y / r_y − 1| over the clusters y, c being the column sums of Q. The next iteration would
    change alpha by this share, to first order."""
    log_alpha: Tensor
    """(K,) float64 of mean 0: q(y|x) = softmax(strength · log p(y|x) + log_alpha), for new rows too."""
    masses: Tensor
    """(K,) int64: rows of all processes with each label."""


def sinkhorn(
    log_p: Rows,
    marginals: Tensor | np.ndarray | Sequence[float],
    *,
    strength: float = 20.0,
    tolerance: float = 1e-3,
    max_iterations: int = 2000,
    check_every: int = 10,
    dtype: torch.dtype = torch.float32,
    block_rows: int | None = None,
    device: torch.device | str | None = None,
    overwrite: bool = False,
) -> Transport:
    """Labels for rows such that cluster y gets the share `marginals[y]` of them (before rounding to labels).

    That the iterations end without convergence is reported, not raised. With many processes the result is that
    of one process with all rows, up to the rounding of sums.

    Args:
        log_p: this process's log-probabilities (n, K), of any real type; n may be 0 on some processes. A
            constant may be added to any row: logits will do.
        marginals: r (K,), positive, of sum 1 (up to 1e-3; it is normalised). That of rank 0 counts.
        strength: the factor lambda on log_p; the larger, the nearer to the unregularised plan.
        tolerance: stop when `marginal_error` is at most this. Below 1e-5 take float64.
        max_iterations: at most so many changes of the potentials.
        check_every: iterations from one check of the tolerance to the next.
        dtype: float32 or float64, of the computation. Sums over blocks and processes are float64.
        block_rows: rows handled at once; None takes what a CPU's cache, or a GPU, holds well.
        device: where to compute; None takes that of log_p (the CPU for arrays). log_p is not moved as a whole.
        overwrite: use log_p, which must be a tensor (or writable array) of type `dtype` on `device`, as working
            memory: its exponentials take its place and are not recomputed in every iteration, which is several
            times faster. Its content is lost. To keep it pass a copy.

    Complexity:
        O(n · K) an iteration, in one pass over the rows; O(block_rows · K) memory beside rows and labels.

    Raises:
        ValueError: entries that are not finite, a wrong shape, marginals that are not positive or not of sum 1,
            settings out of range, or rows that cannot be overwritten. On every process alike.
    """
    where = torch.device(device if device is not None else getattr(log_p, "device", "cpu"))
    r = torch.as_tensor(marginals, dtype=torch.float64).detach()
    wrong = _what_is_wrong(log_p, strength, dtype, block_rows, tolerance) or _wrong_marginals(r, log_p.shape[1])
    if max_iterations < 0 or check_every < 1:
        wrong = f"max_iterations={max_iterations} must be at least 0 and check_every={check_every} at least 1"
    if overwrite and not wrong:
        wrong = _why_not_writable(log_p, dtype, where)
    _raise_together(wrong, int(log_p.shape[-1]))
    if overwrite and isinstance(log_p, np.ndarray):
        log_p = torch.from_numpy(log_p)
    with torch.no_grad(), full_precision(where):
        r = dist.broadcast(r.to(where))
        kernel = _Kernel(_Blocks(log_p, dtype, where, block_rows), strength, overwrite)
        kernel.survey()
        log_r = (r / r.sum()).log()
        potentials, iterations = log_r.clone(), 0
        while True:
            change = log_r - kernel.log_masses(potentials)
            if iterations % check_every == 0 or iterations == max_iterations:
                error = float(torch.expm1(-change).abs().max())
                if error <= tolerance or iterations == max_iterations:
                    break
            potentials = potentials + change
            iterations += 1
        labels = kernel.labels(potentials)
        masses = dist.all_reduce_sum(torch.bincount(labels, minlength=len(r)))
        return Transport(labels, iterations, error <= tolerance, error, potentials - potentials.mean(), masses)


def assign(
    log_p: Rows,
    log_alpha: Tensor,
    strength: float = 20.0,
    *,
    dtype: torch.dtype = torch.float32,
    block_rows: int | None = None,
    device: torch.device | str | None = None,
) -> tuple[Tensor, Tensor]:
    """Labels of rows under known potentials, q(y|x) = softmax(strength · log p + log_alpha); on this process alone.

    Args:
        log_p: log-probabilities (n, K); n may be 0.
        log_alpha: (K,), from `Transport.log_alpha`.

    Returns:
        labels (n,) int64, the argmax of q, and the entropy (n,) of q in nats, of type `dtype`, at least 0.

    Raises:
        ValueError: entries that are not finite, shapes that do not fit, settings out of range.
    """
    if wrong := _what_is_wrong(log_p, strength, dtype, block_rows):
        raise ValueError(wrong)
    if log_alpha.shape != (log_p.shape[1],) or not bool(log_alpha.isfinite().all()):
        raise ValueError(
            f"log_alpha of shape {tuple(log_alpha.shape)} must be finite, one number for each of "
            f"{log_p.shape[1]} columns of log_p"
        )
    where = torch.device(device if device is not None else getattr(log_p, "device", "cpu"))
    with torch.no_grad(), full_precision(where):
        blocks = _Blocks(log_p, dtype, where, block_rows)
        kernel = _Kernel(blocks, strength, overwrite=False)
        kernel.survey(alone=True)
        labels = torch.empty(blocks.count, dtype=torch.int64, device=where)
        entropy = torch.empty(blocks.count, dtype=dtype, device=where)
        shift = log_alpha.to(where, dtype)
        for part, block in blocks:
            z = kernel.exponents(block, shift)
            labels[part] = _argmax(z)
            powers = z.exp()
            sums = powers.sum(1)
            # H = log sum e^z − sum z e^z / sum e^z with z <= 0: no term is negative, nothing cancels.
            entropy[part] = sums.log() - powers.mul_(z).sum(1).div_(sums)
        return labels, entropy


class _Kernel:
    """exp(strength · log_p) with potentials: the sums of its columns once its rows are normalised.

    With `overwrite`, blocks are replaced by exp(e), e being the exponents under the potentials `held` less the
    row's maximum. Where e is below the type's floor, e − floor is stored, which is negative while powers are
    positive: nothing is lost, and the kernel can be rescaled for other potentials at any time.
    """

    def __init__(self, blocks: _Blocks, strength: float, overwrite: bool) -> None:
        self.blocks, self.strength, self.overwrite = blocks, strength, overwrite
        self.range = _RANGES[blocks.dtype]
        self.total = 0
        self.centre = False
        self.held: Tensor | None = None
        self.has_logarithms = False
        self.low = torch.empty(0, dtype=torch.int64, device=blocks.device)
        self.previous: tuple[Tensor, Tensor] | None = None
        self.room = torch.empty(0, dtype=blocks.dtype, device=blocks.device)

    def survey(self, *, alone: bool = False) -> None:
        """Count the rows (of all processes, unless `alone`) and see that every entry is finite."""
        bad = torch.zeros((), dtype=torch.float64, device=self.blocks.device)
        largest = torch.zeros((), dtype=self.blocks.dtype, device=self.blocks.device)
        for _, block in self.blocks:
            low, high = block.amin(1), block.amax(1)
            bad += (~(low.isfinite() & high.isfinite())).sum()
            largest = torch.maximum(largest, high.abs().max())
        self.centre = float(largest) > _LARGE_MAXIMUM
        tally = torch.stack([bad, bad.new_tensor(float(self.blocks.count))])
        bad_rows, self.total = (int(n) for n in (tally if alone else dist.all_reduce_sum(tally)).tolist())
        if bad_rows:
            raise ValueError(
                f"{bad_rows} of {self.total} rows of log_p are not finite in {self.blocks.dtype}: an encoder gave "
                "NaN or infinity, or a softmax underflowed before its logarithm was taken (use log_softmax)"
            )
        if self.total == 0 and not alone:
            raise ValueError("log_p has no rows on any process")

    def log_masses(self, potentials: Tensor) -> Tensor:
        """Logarithms (K,) float64 of the column sums of Q over all processes, the sums of its rows being 1/N."""
        result = self._from_stored(potentials)
        if result is None:
            result = self._from_exponents(potentials)
        self.previous = potentials, result
        return result

    def labels(self, potentials: Tensor) -> Tensor:
        """For each row of this process the column of its largest entry (n,)."""
        labels = torch.empty(self.blocks.count, dtype=torch.int64, device=self.blocks.device)
        shift = self._shift(potentials)
        for part, block in self.blocks:
            labels[part] = _argmax(self.exponents(block, shift))
        return labels

    def exponents(self, block: Tensor, shift: Tensor) -> Tensor:
        """Logarithms of a block's rows of Q, up to a constant that makes each row's maximum 0.

        The result is overwritten by the next call.
        """
        if len(self.room) < len(block):
            self.room = block.new_empty(block.shape)
        z = self.room[: len(block)]
        if self.held is not None:
            torch.clamp_min(block, math.exp(self.range.floor), out=z)
            _log_(z).add_(block.clamp_max(0)).add_(shift)
        elif self.centre:
            torch.sub(block, block.amax(1, keepdim=True), out=z).mul_(self.strength).add_(shift)
        else:
            torch.add(shift, block, alpha=self.strength, out=z)
        return z.sub_(z.amax(1, keepdim=True))

    def _shift(self, potentials: Tensor) -> Tensor:
        """What potentials add to the exponents that the blocks hold now."""
        shift = potentials if self.held is None else potentials - self.held
        return (shift - (shift.max() + shift.min()) / 2).to(self.blocks.dtype)

    def _from_stored(self, potentials: Tensor) -> Tensor | None:
        """`log_masses` by two products a block; None where the stored powers cannot tell."""
        if self.held is None or _distance(potentials, self.held) > _DRIFT:
            return None
        scale = self._shift(potentials).exp()
        sums = torch.zeros(len(scale), dtype=torch.float64, device=scale.device)
        for _, block in self.blocks:
            if self.has_logarithms:
                block = torch.clamp_min(block, 0, out=self.room[: len(block)])
            sums += _product(_product(block, scale).reciprocal_(), block)
        masses = dist.all_reduce_sum(sums.mul_(scale)) / self.total
        return masses.log() if float(masses.min()) >= self.range.trusted else None

    def _from_exponents(self, potentials: Tensor) -> Tensor:
        """`log_masses` whatever the potentials are; stores the powers once they have come to rest."""
        store = False
        if self.overwrite and self.previous is not None:
            before, masses = self.previous
            trusted = float(masses.min()) >= math.log(self.range.trusted)
            store = trusted and _distance(potentials, before) <= _DRIFT / 2
        while True:
            sums, logarithms = self._pass(potentials, store)
            result = (dist.all_reduce_sum(sums) / self.total).log()
            if len(self.low):
                result[self.low] = dist.all_gather_rows(logarithms[None]).logsumexp(0) - math.log(self.total)
            low = (result < math.log(self.range.low)).nonzero().flatten()
            missed = low[~torch.isin(low, self.low)]
            if not len(missed):
                self.low = low
                return result
            self.low = torch.cat([self.low, missed])

    def _pass(self, potentials: Tensor, store: bool) -> tuple[Tensor, Tensor]:
        """Column sums (K,) of this process's rows, each of sum 1, and logarithms of those of the columns `low`."""
        floor, shift = self.range.floor, self._shift(potentials)
        sums = torch.zeros(len(shift), dtype=torch.float64, device=shift.device)
        logarithms = torch.full((len(self.low),), -torch.inf, dtype=torch.float64, device=shift.device)
        has_logarithms = False
        for _, block in self.blocks:
            z = self.exponents(block, shift)
            exact = z.index_select(1, self.low).double() if len(self.low) else None
            if store:
                block.copy_(z)
            _exp_(z.clamp_min_(floor))
            if store:
                below = block.sub_(floor).clamp_max_(0)
                has_logarithms |= bool(below.any())
                below.add_(z)
            row_sums = z.sum(1)
            sums += _product(row_sums.reciprocal(), z)
            if exact is not None:
                exact -= row_sums.double().log()[:, None]
                logarithms = torch.logaddexp(logarithms, exact.logsumexp(0))
        if store:
            self.held, self.has_logarithms = potentials, has_logarithms
        return sums, logarithms


class _Blocks:
    """Blocks of rows in the type and on the device that compute; views of the rows themselves where they can be."""

    def __init__(self, x: Rows, dtype: torch.dtype, device: torch.device, block_rows: int | None) -> None:
        self.x = x.detach() if isinstance(x, Tensor) else x
        self.dtype, self.device = dtype, device
        self.count, columns = (int(n) for n in x.shape)
        room = 2**18 if device.type == "cpu" else 2**25
        self.block_rows = block_rows or max(16, room // columns)

    def __iter__(self) -> Iterator[tuple[slice, Tensor]]:
        for start in range(0, self.count, self.block_rows):
            part = slice(start, min(start + self.block_rows, self.count))
            block: Any = self.x[part]
            # A copy: memory maps are read once, and may be read-only.
            block = block if isinstance(block, Tensor) else torch.from_numpy(np.array(block))
            yield part, block.to(self.device, self.dtype)


# On blocks that lie in a CPU's cache numpy takes 0.3 to 0.6 of the time that torch takes for each of these.


def _product(a: Tensor, b: Tensor) -> Tensor:
    """The product of a matrix and a vector, in either order."""
    return torch.from_numpy(a.numpy() @ b.numpy()) if a.device.type == "cpu" else a @ b


def _argmax(a: Tensor) -> Tensor:
    """Each row's first largest entry."""
    return torch.from_numpy(a.numpy().argmax(1)) if a.device.type == "cpu" else a.argmax(1)


def _exp_(a: Tensor) -> Tensor:
    if a.device.type != "cpu":
        return a.exp_()
    np.exp(a.numpy(), out=a.numpy())
    return a


def _log_(a: Tensor) -> Tensor:
    if a.device.type != "cpu":
        return a.log_()
    np.log(a.numpy(), out=a.numpy())
    return a


def _distance(a: Tensor, b: Tensor) -> float:
    """How far potentials are from each other at most, up to a constant."""
    return float((a - b).max() - (a - b).min()) / 2


def _what_is_wrong(
    log_p: Rows, strength: float, dtype: torch.dtype, block_rows: int | None, tolerance: float = 0.0
) -> str | None:
    shape = tuple(log_p.shape)
    if len(shape) != 2 or shape[1] < 1:
        return f"log_p must have shape (N, K) with K >= 1, not {shape}"
    if not (math.isfinite(strength) and strength > 0):
        return f"strength={strength} must be positive"
    if not tolerance >= 0:
        return f"tolerance={tolerance} must not be negative"
    if dtype not in _RANGES:
        return f"dtype must be torch.float32 or torch.float64, not {dtype}"
    if block_rows is not None and block_rows < 1:
        return f"block_rows={block_rows} must be at least 1"
    return None


def _wrong_marginals(r: Tensor, columns: int) -> str | None:
    if r.shape != (columns,):
        return f"marginals of shape {tuple(r.shape)} do not fit log_p with {columns} columns"
    if not bool((r.isfinite() & (r > 0)).all()):
        return "marginals must be positive and finite"
    if abs(float(r.sum()) - 1) > 1e-3:
        return f"marginals must have the sum 1, not {float(r.sum()):.6g}"
    return None


def _why_not_writable(log_p: Rows, dtype: torch.dtype, device: torch.device) -> str | None:
    if isinstance(log_p, np.ndarray) and log_p.flags.writeable:
        log_p = torch.from_numpy(log_p)
    if not isinstance(log_p, Tensor):
        return "overwrite=True needs a tensor or a writable array as log_p"
    if log_p.dtype != dtype or log_p.device != device:
        return (
            f"overwrite=True needs log_p of {dtype} on {device}, not of {log_p.dtype} on {log_p.device}: "
            "convert it, or leave overwrite out"
        )
    return None


def _raise_together(wrong: str | None, columns: int) -> None:
    """Raise on every process if something is wrong on one, so that none waits for the others."""
    answers = dist.all_gather_objects((wrong, columns))
    for said, _ in answers:
        if said:
            raise ValueError(said)
    if len({k for _, k in answers}) > 1:
        raise ValueError(f"processes hold log_p with different numbers of columns: {[k for _, k in answers]}")
