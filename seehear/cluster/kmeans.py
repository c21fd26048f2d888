"""k-means by Lloyd's iterations: one code for a CPU, a GPU and many processes.

Rows are read in blocks, so that memory beside the rows is O(block_rows · k + k · D + N) and the rows may lie
in a file larger than memory. A block costs one `addmm` (its distances to all centroids), one row minimum and
one `index_add_` (its sums by cluster). Distances are float32; sums over blocks and processes are float64.
Every process holds its own rows and ends each iteration with one all-reduce of k x (D + 3) numbers.

References: S. Lloyd, "Least squares quantization in PCM" (1982); D. Arthur and S. Vassilvitskii,
"k-means++: the advantages of careful seeding" (2007).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from seehear import dist
from seehear.errors import DataError

SEED_ROWS_PER_CLUSTER = 64
"""k-means++ draws its centroids among a uniform sample of at most this many rows a cluster."""
_SPLIT_STEP = 0.5
_ROUNDING = 1e-6
"""Squared distances below this share of the squared norms at hand are float32 rounding."""
_SUMMED_ROWS = 4096
_CLOSE = 1e-5
"""Squared distances that differ by less than this share of the squared norms may change places by rounding."""


class Rows(Protocol):
    """A matrix (N, D) that can be read by slices and by arrays of indices: a tensor, an array, a memmap."""

    @property
    def shape(self) -> Any: ...
    def __getitem__(self, index: Any, /) -> Any: ...


@dataclass(frozen=True)
class KMeansResult:
    """A clustering. `labels` and `squared_distances` are those of this process's rows; the rest is common."""

    centroids: Tensor
    """(k, D) float32."""
    labels: Tensor
    """(N,) int64: the nearest of `centroids` for each row."""
    squared_distances: Tensor
    """(N,) float32: squared Euclidean distance of each row to its centroid, at least 0."""
    objective: float
    """Sum of the squared distances of the rows of all processes."""
    iterations: int
    """How often the centroids were moved."""
    reseeded: int
    """How many times an empty cluster got a new centroid."""
    history: list[float]
    """The objective before each iteration, to float32 accuracy; the last entry is `objective`."""
    sizes: Tensor
    """(k,) int64: rows of all processes in each cluster; 0 where too few different rows exist."""


def kmeans(
    x: Rows,
    k: int,
    *,
    init: str | Tensor = "k-means++",
    iterations: int = 20,
    restarts: int = 1,
    tolerance: float = 0.0,
    block_rows: int | None = None,
    seed: int = 0,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> KMeansResult:
    """Cluster rows by k-means; the best of `restarts` runs of Lloyd's iterations.

    A cluster without rows is seeded anew by splitting the largest: while there is an empty cluster e (lowest
    number first), take the cluster b with most rows (lowest number on a tie) among those of at least two
    rows that are not all equal up to rounding. With r the root-mean-square distance of its rows to its
    centroid and u a unit vector drawn at random, put c_e = c_b + s and c_b = c_b - s, s = u · r / (2√D) (half
    the deviation along one coordinate), and count half of b's rows for each. If no such cluster is left, the
    empty ones stay as they are.

    On a CPU the result depends on the rows, the settings and the seed only. With many processes it is that of
    one process which holds the rows of rank 0, then those of rank 1 ..., up to float64 rounding of sums.

    Args:
        x: this process's rows (N, D), of any real type; N may be 0 on some processes.
        k: number of clusters.
        init: "k-means++" (greedy, on a sample of `SEED_ROWS_PER_CLUSTER` · k rows), "random" (k different
            rows) or the first centroids (k, D); `restarts` has no effect on the latter.
        iterations: at most so many moves of the centroids. The run stops before when no label changes.
        tolerance: stop when the objective falls by no more than this share of itself.
        block_rows: rows handled at once; None takes a size that suits the device.
        seed: of the random draws, the same on all processes; `generator` (on a CPU) takes its place if given.
        device: where to compute; None takes that of x (the CPU for arrays). x itself is not moved as a whole.

    Complexity:
        O(N · k · D) a pass; `iterations` + 2 passes at most a run.

    Raises:
        DataError: fewer rows than clusters, k < 1, rows that are not finite, x or init of a wrong shape. On
            every process alike.
    """
    with torch.no_grad(), full_precision(device if device is not None else getattr(x, "device", "cpu")):
        rows = _RowReader(x, device, block_rows, k)
        total, norms = _survey(rows, k)
        if isinstance(init, Tensor):
            _check_centroids(init, k, rows.columns)
            restarts = 1
        elif init not in ("k-means++", "random"):
            raise ValueError(f'init is "k-means++", "random" or a tensor, not {init!r}')
        if restarts < 1 or iterations < 0:
            raise ValueError(f"restarts={restarts} must be at least 1 and iterations={iterations} at least 0")

        random = torch.Generator().manual_seed(_common_seed(seed, generator))
        best: KMeansResult | None = None
        for _ in range(restarts):
            start = init if isinstance(init, Tensor) else _draw_centroids(rows, k, total, init, random)
            start = dist.broadcast(start.to(rows.device, torch.float32))
            result = _lloyd(rows, norms, start, iterations, tolerance, random)
            if best is None or result.objective < best.objective:
                best = result
        assert best is not None
        return best


def assign(
    x: Rows, centroids: Tensor, block_rows: int | None = None, *, device: torch.device | str | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The nearest centroid of each row, on this process alone.

    Candidates come from the expanded form |x|² − 2x·c + |c|²; the two best are then compared by |x − c|²
    itself, so that distances carry no cancellation.

    Args:
        x: rows (N, D).
        centroids: (k, D), k >= 1.

    Returns:
        labels (N,) int64, squared distances (N,) float32 to the nearest and to the second nearest centroid;
        the latter are infinite for k = 1.

    Raises:
        DataError: x and centroids do not fit together.
    """
    with torch.no_grad(), full_precision(device if device is not None else getattr(x, "device", "cpu")):
        rows = _RowReader(x, device, block_rows, len(centroids))
        _check_centroids(centroids, len(centroids), rows.columns)
        return _assign(rows, centroids.to(rows.device, torch.float32))


def _assign(rows: _RowReader, centroids: Tensor, *, with_second: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """What `assign` does; without `with_second` the third result is infinite but where rounding could decide."""
    labels = torch.empty(rows.count, dtype=torch.int64, device=rows.device)
    first = torch.empty(rows.count, device=rows.device)
    second = torch.full_like(first, torch.inf)
    shift = _shift_for(centroids.mean(0), centroids.var(0, correction=0).sum())
    scorer = _Scorer(centroids if shift is None else centroids - shift)
    for part, block in rows.blocks():
        scores = scorer(block if shift is None else block - shift)
        least, nearest = _least(scores)
        d1 = centroids[nearest].sub_(block).square_().sum(1)
        if len(centroids) > 1:
            scores.scatter_(1, nearest[:, None], torch.inf)
            following, runner_up = _least(scores)
            d2 = torch.full_like(d1, torch.inf)
            # A score is a squared distance less the row's squared norm, which is d1 - least.
            open_question = following - least <= _CLOSE * (scorer.norms.amax() + (d1 - least).clamp_min(0))
            close = slice(None) if with_second else open_question.nonzero()[:, 0]
            d2[close] = centroids[runner_up[close]].sub_(block[close]).square_().sum(1)
            swap = d2 < d1
            nearest = torch.where(swap, runner_up, nearest)
            d1, second[part] = torch.minimum(d1, d2), torch.maximum(d1, d2)
        labels[part], first[part] = nearest, d1
    return labels, first, second


def _lloyd(
    rows: _RowReader, norms: _Norms, start: Tensor, iterations: int, tolerance: float, random: torch.Generator
) -> KMeansResult:
    """Lloyd's iterations from the centroids `start`, in coordinates moved by `norms.shift`."""
    k, columns = start.shape
    shift = norms.shift
    centroids = start if shift is None else start - shift
    labels = torch.full((rows.count,), -1, dtype=torch.int64, device=rows.device)
    squared = torch.empty(rows.count, device=rows.device)
    history: list[float] = []
    moves = reseeded = 0
    for _ in range(iterations):
        # By cluster: sums of rows, number of rows, sum of squared distances, rows with a changed label.
        totals = torch.zeros(k, columns + 3, dtype=torch.float64, device=rows.device)
        scorer, sums, summed = _Scorer(centroids), torch.zeros_like(centroids), 0
        before = labels.clone()
        for part, block in rows.blocks(shift):
            squared[part], labels[part] = _least(scorer(block))
            sums.index_add_(0, labels[part], block)
            summed += len(block)
            if summed >= _SUMMED_ROWS or part.stop == rows.count:
                # float32 within so many rows, float64 across them: the error does not grow with N.
                totals[:, :columns] += sums
                sums.zero_()
                summed = 0
        measures = [torch.ones_like(squared), squared.add_(norms.squared).clamp_min_(0), labels != before]
        totals[:, columns:].index_add_(0, labels, torch.stack(measures, 1).double())
        totals = dist.all_reduce_sum(totals)
        counts, inertia, changed = totals[:, columns:].unbind(1)
        history.append(float(inertia.sum()))
        fallen = history[-2] - history[-1] if len(history) > 1 else torch.inf
        if not changed.any() or (tolerance > 0 and fallen <= tolerance * history[-1]):
            break
        means = totals[:, :columns] / counts.clamp_min(1)[:, None]
        centroids = torch.where(counts[:, None] > 0, means, centroids.double()).float()
        reseeded += _split_for_empty(centroids, counts, inertia, random)
        moves += 1

    centroids = centroids if shift is None else centroids + shift
    # The labels of exactly these centroids, with distances free of cancellation.
    labels, squared, _ = _assign(rows, centroids, with_second=False)
    sizes = dist.all_reduce_sum(torch.bincount(labels, minlength=k))
    objective = float(dist.all_reduce_sum(squared.sum(dtype=torch.float64)))
    if len(history) > moves:
        history.pop()  # the run has converged: its last pass saw these same centroids
    return KMeansResult(centroids, labels, squared, objective, moves, reseeded, [*history, objective], sizes)


def _split_for_empty(centroids: Tensor, counts: Tensor, inertia: Tensor, random: torch.Generator) -> int:
    """Seed empty clusters anew by the rule that `kmeans` states. Changes `centroids`; returns their number.

    All arguments are equal on all processes, hence so is the outcome.
    """
    empty = (counts == 0).nonzero().flatten().tolist()
    if not empty:
        return 0
    columns = centroids.shape[1]
    sizes, spread = counts.cpu().clone(), (inertia / counts.clamp_min(1)).cpu()
    flat = spread <= _ROUNDING * centroids.double().square().sum(1).cpu()
    done = 0
    for cluster in empty:
        largest = int(torch.where(flat | (sizes < 2), 0.0, sizes).argmax())
        if sizes[largest] < 2 or flat[largest]:
            break
        direction = torch.randn(columns, generator=random)
        step = direction * (_SPLIT_STEP * (float(spread[largest]) / columns) ** 0.5 / direction.norm())
        step = step.to(centroids.device)
        centroids[cluster] = centroids[largest] + step
        centroids[largest] -= step
        sizes[cluster] = sizes[largest] = sizes[largest] / 2
        spread[cluster], flat[cluster] = spread[largest], False
        done += 1
    return done


def _least(scores: Tensor) -> tuple[Tensor, Tensor]:
    """The least entry of each row and where it stands, the first on a tie."""
    if scores.device.type != "cpu":
        least, where = scores.min(1)
        return least, where
    # NumPy's search is six times as fast as torch's, which was a tenth of all.
    where = torch.from_numpy(scores.numpy().argmin(1))
    return scores.gather(1, where[:, None])[:, 0], where


def _squared_norms(rows: Tensor) -> Tensor:
    """(N, D) to (N,), without a matrix of squares on the way."""
    return torch.linalg.vector_norm(rows, dim=1).square_()


class _Scorer:
    """Squared distances (rows, k) of blocks less the squared norm of each row, which leaves their order.

    The result is overwritten by the next call.
    """

    def __init__(self, centroids: Tensor) -> None:
        self.transposed, self.norms = centroids.T, centroids.square().sum(1)
        self.out = centroids.new_empty(0)

    def __call__(self, block: Tensor) -> Tensor:
        if len(self.out) < len(block):
            self.out = block.new_empty(len(block), len(self.norms))
        return torch.addmm(self.norms, block, self.transposed, alpha=-2, out=self.out[: len(block)])


def _draw_centroids(rows: _RowReader, k: int, total: int, how: str, random: torch.Generator) -> Tensor:
    """k rows of all processes' as first centroids (k, D), the same on every process."""
    wanted = k if how == "random" else min(total, SEED_ROWS_PER_CLUSTER * k)
    # In order of position, so that the draw doesn't depend on how rows are spread over processes.
    chosen = torch.randperm(total, generator=random)[:wanted]
    if how == "random":
        order = chosen.argsort().argsort().to(rows.device)
        return _gather_rows(rows, chosen.sort().values)[order]
    return _plus_plus(_gather_rows(rows, chosen.sort().values), k, random)


def _gather_rows(rows: _RowReader, positions: Tensor) -> Tensor:
    """Rows at sorted positions among the rows of all processes."""
    before = sum(dist.row_counts(rows.count, rows.device)[: dist.rank()])
    mine = positions[(positions >= before) & (positions < before + rows.count)] - before
    return dist.all_gather_rows(rows.take(mine))


def _plus_plus(sample: Tensor, k: int, random: torch.Generator) -> Tensor:
    """Greedy k-means++: each centroid is the best of 2 + ln k rows drawn by their squared distance."""
    trials = 2 + int(np.log(k))
    sample_norms = sample.square().sum(1)
    first = int(torch.randint(len(sample), (1,), generator=random))
    chosen = [first]
    nearest = (sample - sample[first]).square_().sum(1)
    for _ in range(1, k):
        cumulative = nearest.double().cumsum(0)
        draws = torch.rand(trials, generator=random, dtype=torch.float64).to(sample.device) * cumulative[-1]
        candidates = torch.searchsorted(cumulative, draws, right=True).clamp_max_(len(sample) - 1)
        # (trials, rows): squared distances to the nearest centroid if the candidate became one.
        distances = torch.addmm(sample_norms, sample[candidates], sample.T, alpha=-2)
        distances = distances.add_(sample_norms[candidates][:, None]).clamp_min_(0)
        distances = torch.minimum(distances, nearest, out=distances)
        best = int(distances.sum(1, dtype=torch.float64).argmin())
        chosen.append(int(candidates[best]))
        nearest = distances[best].clone()
        nearest[chosen[-1]] = 0  # rounding must not let a row be drawn twice
    return sample[chosen]


def _common_seed(seed: int, generator: torch.Generator | None) -> int:
    if generator is not None:
        seed = int(torch.randint(2**62, (1,), generator=generator))
    return int(dist.broadcast(seed))


@dataclass(frozen=True)
class _Norms:
    """Squared norms (N,) of the rows less `shift`: their mean, where it outweighs the spread, or None."""

    squared: Tensor
    shift: Tensor | None


def _survey(rows: _RowReader, k: int) -> tuple[int, _Norms]:
    """Count and check the rows of all processes and measure their norms; the first pass over the data."""
    squared, shift = torch.empty(rows.count, device=rows.device), None
    sums = torch.zeros(rows.columns, dtype=torch.float64, device=rows.device)
    for part, block in rows.blocks():
        squared[part] = _squared_norms(block)
        sums += block.sum(0)
    bad = ~squared.isfinite()
    counts = sums.new_tensor([rows.count, int(bad.sum())])
    tally = dist.all_reduce_sum(torch.cat([counts, squared.sum(dtype=torch.float64)[None], sums]))
    total, bad_rows = int(tally[0]), int(tally[1])
    # Every process sees the same counts and raises alike: none is left waiting in a collective.
    if k < 1:
        raise DataError(f"cannot make {k} clusters", "ask for at least 1 cluster")
    if k > total:
        raise DataError(
            f"cannot make {k} clusters out of {total} rows",
            f"ask for at most {total} clusters, or add videos",
        )
    if bad_rows:
        here = bad.nonzero().flatten()[:5].tolist()
        raise DataError(
            f"{bad_rows} of {total} rows to cluster are not finite or overflow float32"
            + (f" (rows {', '.join(map(str, here))} ...)" if here else ""),
            "an encoder gave NaN or infinity: look at its training loss, lower the learning rate, or leave "
            "these rows out",
        )
    mean = tally[3:] / total
    shift = _shift_for(mean, tally[2] / total - mean.square().sum())
    if shift is not None:
        for part, block in rows.blocks(shift):
            squared[part] = _squared_norms(block)
    return total, _Norms(squared, shift)


def _shift_for(mean: Tensor, variance: Tensor) -> Tensor | None:
    """The mean (D,), if rows lie so far from the origin that cancellation in float32 would eat the spread."""
    return mean.float() if float(mean.square().sum()) > 10 * max(float(variance), 0.0) else None


def _check_centroids(centroids: Tensor, k: int, columns: int) -> None:
    if centroids.shape != (k, columns) or k < 1:
        raise DataError(
            f"centroids of shape {tuple(centroids.shape)} do not fit k={k} and rows with {columns} columns",
            "give centroids made from features of the same encoder and transform",
        )
    if not bool(centroids.isfinite().all()):
        raise DataError("the centroids are not finite", "start from other centroids")


class _RowReader:
    """Reads float32 blocks of rows onto the device that computes."""

    def __init__(self, x: Rows, device: torch.device | str | None, block_rows: int | None, k: int) -> None:
        if len(x.shape) != 2:
            raise DataError(f"rows to cluster must have shape (N, D), not {tuple(x.shape)}")
        self.x = x
        self.count, self.columns = (int(n) for n in x.shape)
        self.device = torch.device(device if device is not None else getattr(x, "device", "cpu"))
        if block_rows is not None and block_rows < 1:
            raise ValueError(f"block_rows={block_rows} must be at least 1")
        # A block's distances and rows fit a CPU's cache or, on a GPU, fill the device.
        room = 2**19 if self.device.type == "cpu" else 2**26
        self.block_rows = block_rows or max(256, room // max(k, self.columns, 1))

    def blocks(self, shift: Tensor | None = None) -> Iterator[tuple[slice, Tensor]]:
        """Each block's place and its rows, less `shift` if given."""
        for start in range(0, self.count, self.block_rows):
            part = slice(start, min(start + self.block_rows, self.count))
            block = self._tensor(self.x[part])
            yield part, block if shift is None else block - shift

    def take(self, positions: Tensor) -> Tensor:
        """The rows at these positions, (len(positions), D)."""
        if isinstance(self.x, Tensor):
            return self._tensor(self.x[positions.to(self.x.device)])
        return self._tensor(self.x[positions.numpy()])

    def _tensor(self, part: Any) -> Tensor:
        # A copy: memory maps are read once, and may be read-only.
        part = part if isinstance(part, Tensor) else torch.from_numpy(np.array(part, dtype=np.float32))
        return part.to(self.device, torch.float32)


@contextmanager
def full_precision(device: torch.device | str) -> Iterator[None]:
    """float32 products as such: neither autocast nor TF32 nor bfloat16, whatever training has set."""
    everything: Any = torch.backends  # its stubs lack some of these
    backends = [everything.cuda.matmul, everything.mkldnn.matmul]
    before = [backend.fp32_precision for backend in backends]
    with torch.autocast(torch.device(device).type, enabled=False):
        for backend in backends:
            backend.fp32_precision = "ieee"
        try:
            yield
        finally:
            for backend, precision in zip(backends, before, strict=True):
                backend.fp32_precision = precision
