"""Positions of all segments on a plane, for a picture of the whole collection."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np

from seehear.errors import DestinationError, UsageError
from seehear.search.layout import write_array

if TYPE_CHECKING:
    from seehear.search.index import Index

MOST_BY_TSNE = 5000
_COMPONENTS = 30
_NEIGHBOURS = 3
_BLOCK_ROWS = 4096


def map_of(index: Index, by: str) -> np.ndarray:
    """`Index.map`: read from the generation's folder, or made and kept there."""
    streams = {"both": [s for s in ("video", "audio") if s in index.space], "video": ["video"], "audio": ["audio"]}
    if by not in streams or not all(s in index.space for s in streams[by]):
        raise UsageError(f"there is no map by {by!r}", f"there are: {', '.join(index.labels)}")
    path = index.folder / f"map.{by}.npy"
    with contextlib.suppress(OSError, ValueError):
        kept: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        if kept.shape == (len(index), 2):
            return kept
    made = positions([index.space[s] for s in streams[by]])
    with contextlib.suppress(DestinationError):  # a run that cannot be written to: it is made again the next time
        write_array(path, made)
    return made


def positions(spaces: list[np.ndarray], seed: int = 0) -> np.ndarray:
    """Rows of some spaces, each (N, D), joined and laid out on a plane: (N, 2) float32 in [-1, 1].

    t-SNE of up to `MOST_BY_TSNE` rows, evenly drawn, after PCA; every other row lies between those of its three nearest
    among them, nearer to the more similar. Equal input gives equal positions.
    """
    rows = len(spaces[0])
    drawn = np.unique(np.linspace(0, rows - 1, min(rows, MOST_BY_TSNE)).round().astype(int))
    x = np.concatenate([np.asarray(space[drawn]) for space in spaces], axis=1)
    centre, axes = _axes(x)
    placed = _tsne((x - centre) @ axes, seed)
    low, high = placed.min(0), placed.max(0)
    scale = float(max((high - low).max(), 1e-9))
    placed = ((placed - (low + high) / 2) / scale * 2).astype(np.float32)
    if len(drawn) == rows:
        return placed
    made = np.empty((rows, 2), dtype=np.float32)
    known = (x - centre) @ axes
    squares = (known**2).sum(1)
    for start in range(0, rows, _BLOCK_ROWS):
        block = np.concatenate([np.asarray(s[start : start + _BLOCK_ROWS]) for s in spaces], axis=1)
        block = (block - centre) @ axes
        distances = (block**2).sum(1)[:, None] + squares - 2 * block @ known.T
        nearest = np.argpartition(distances, _NEIGHBOURS, axis=1)[:, :_NEIGHBOURS]
        near = np.take_along_axis(distances, nearest, axis=1).clip(0)
        weights = 1 / (near + 1e-6)
        weights /= weights.sum(1, keepdims=True)
        made[start : start + len(block)] = (placed[nearest] * weights[:, :, None]).sum(1)
    made[drawn] = placed
    return made


def _axes(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (D,) and principal axes (D, P) of rows."""
    centre = x.mean(0)
    _, _, axes = np.linalg.svd(x - centre, full_matrices=False)
    return centre, axes[: min(_COMPONENTS, len(axes))].T


def _tsne(x: np.ndarray, seed: int) -> np.ndarray:
    """Positions (N, 2); principal components where there are too few rows for t-SNE, or nothing to tell apart."""
    plane = np.zeros((len(x), 2))
    plane[:, : min(2, x.shape[1])] = x[:, :2]
    if len(x) < 8 or np.ptp(x, axis=0).max() < 1e-6:
        return plane
    from sklearn.manifold import TSNE

    start = plane / max(float(plane[:, 0].std()), 1e-12) * 1e-4
    perplexity = min(30.0, (len(x) - 1) / 3)
    made: np.ndarray = TSNE(
        init=start.astype(np.float32), perplexity=perplexity, random_state=seed, n_jobs=1
    ).fit_transform(x)
    return made
