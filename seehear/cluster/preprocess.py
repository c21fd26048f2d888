"""What is done to features before they are clustered: PCA, whitening and L2 normalisation.

Order and default setting are those of DeepCluster (Caron et al., 2018): PCA to fewer dimensions, whitening,
then each row to length 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from seehear import dist
from seehear.cluster.kmeans import Rows, full_precision
from seehear.errors import DataError

_BLOCK_ROWS = 8192
_NO_VARIANCE = 1e-10
"""Directions with less than this share of the largest variance hold rounding only."""


@dataclass
class FeatureTransform:
    """PCA, whitening and L2 normalisation of rows, each of which may be left out.

    Args:
        l2: scale each row to Euclidean length 1 at the end; a row of zeros stays one.
        pca_dim: keep so many principal components; None keeps the rows as they are.
        whiten: scale each component to variance 1 (with `pca_dim=None`: all components are kept). Components
            without variance become 0.
    """

    l2: bool = True
    pca_dim: int | None = None
    whiten: bool = False
    mean: Tensor | None = None
    """(D,) float32: mean of the rows fitted; None where no PCA is asked for or before `fit`."""
    projection: Tensor | None = None
    """(D, P) float32: principal axes as columns, scaled if `whiten`."""
    explained_variance: Tensor | None = None
    """(P,) float32: share of the total variance along each component."""

    @property
    def _has_pca(self) -> bool:
        return self.pca_dim is not None or self.whiten

    @torch.no_grad()
    def fit(self, x: Rows) -> Self:
        """Measure mean and covariance (float64) of the rows of all processes.

        The sign of each axis is such that its largest entry is positive.

        Args:
            x: this process's rows (N, D): a tensor, an array or a memory map, read by blocks, twice.

        Complexity:
            O(N · D²); nothing is read without PCA and whitening.

        Raises:
            DataError: more components than columns or rows, or rows that are not finite.
        """
        if not self._has_pca:
            return self
        columns = int(x.shape[1])
        first = _block(x, slice(0, 0))
        sums = torch.zeros(columns + 1, dtype=torch.float64, device=first.device)
        for block in _blocks(x):
            sums[:-1] += block.sum(0, dtype=torch.float64)
            sums[-1] += len(block)
        sums = dist.all_reduce_sum(sums)
        total = int(sums[-1])
        kept = self.pca_dim or columns
        if not 1 <= kept <= columns or (self.pca_dim and kept > total):
            raise DataError(
                f"PCA to {kept} dimensions needs as many rows and columns; there are {total} x {columns}",
                f"set pca_dim to at most {min(total, columns)}",
            )
        if total < 2 or not bool(sums.isfinite().all()):
            what = "fewer than 2 rows" if total < 2 else "rows that are not finite"
            raise DataError(f"PCA of {what}", "look at the features: an encoder may have given NaN")
        mean = sums[:-1] / total
        scatter = torch.zeros(columns, columns, dtype=torch.float64, device=first.device)
        for block in _blocks(x):
            centred = block.double() - mean
            scatter.addmm_(centred.T, centred)
        covariance = dist.all_reduce_sum(scatter) / (total - 1)
        variances, axes = torch.linalg.eigh(covariance)
        variances, axes = variances.flip(0).clamp_min(0), axes.flip(1)
        largest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
        axes = axes * torch.where(largest < 0, -1.0, 1.0)
        share = variances / variances.sum().clamp_min(torch.finfo(torch.float64).tiny)
        projection, kept_variances = axes[:, :kept], variances[:kept]
        if self.whiten:
            enough = kept_variances > _NO_VARIANCE * variances[0]
            projection = projection * torch.where(enough, kept_variances.rsqrt(), 0.0)
        # Other hardware may solve for the axes in other ways; rank 0's count.
        self.mean = dist.broadcast(mean.float())
        self.projection = dist.broadcast(projection.float().contiguous())
        self.explained_variance = dist.broadcast(share[:kept].float().contiguous())
        return self

    def apply(self, x: Rows) -> Tensor:
        """The transformed rows (N, P) float32 (P = D without PCA), on the device of x (arrays: the CPU).

        Raises:
            DataError: x has another number of columns than the rows fitted.
            RuntimeError: PCA was asked for and not fitted.
        """
        if self._has_pca and self.projection is None:
            raise RuntimeError("call fit() before apply()")
        if self.projection is not None and int(x.shape[1]) != len(self.projection):
            raise DataError(
                f"features have {x.shape[1]} columns, the transform was fitted on {len(self.projection)}",
                "use features of the encoder that the clusters were made with",
            )
        columns = int(x.shape[1]) if self.projection is None else self.projection.shape[1]
        result = torch.empty(int(x.shape[0]), columns, device=_block(x, slice(0, 0)).device)
        mean = None if self.mean is None else self.mean.to(result.device)
        projection = None if self.projection is None else self.projection.to(result.device)
        with torch.no_grad(), full_precision(result.device):
            for start, block in zip(range(0, len(result), _BLOCK_ROWS), _blocks(x), strict=True):
                if mean is not None and projection is not None:
                    block = (block - mean) @ projection
                if self.l2:
                    block = torch.nn.functional.normalize(block, dim=1, eps=1e-30)
                result[start : start + len(block)] = block
        return result

    def state(self) -> dict[str, Tensor]:
        """All that `from_state` needs, as tensors on the CPU (safetensors can hold them)."""
        state = {
            "l2": torch.tensor(self.l2),
            "whiten": torch.tensor(self.whiten),
            "pca_dim": torch.tensor(self.pca_dim or 0),
        }
        for name in ("mean", "projection", "explained_variance"):
            value = getattr(self, name)
            if value is not None:
                state[name] = value.cpu()
        return state

    @classmethod
    def from_state(cls, state: dict[str, Tensor]) -> Self:
        """The transform that gave `state`."""
        return cls(
            l2=bool(state["l2"]),
            pca_dim=int(state["pca_dim"]) or None,
            whiten=bool(state["whiten"]),
            mean=state.get("mean"),
            projection=state.get("projection"),
            explained_variance=state.get("explained_variance"),
        )


def _blocks(x: Rows) -> Iterator[Tensor]:
    for start in range(0, int(x.shape[0]), _BLOCK_ROWS):
        yield _block(x, slice(start, start + _BLOCK_ROWS))


def _block(x: Rows, part: slice) -> Tensor:
    rows = x[part]
    return rows.float() if isinstance(rows, Tensor) else torch.from_numpy(np.array(rows, dtype=np.float32))
