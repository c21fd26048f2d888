"""The space in which sight and sound are compared: what the model has, or a small map fitted on the run's own pairs.

| model | space |
|---|---|
| GDT | the space in which it was trained: the heads' outputs, of unit length |
| SeLaVi | the clusters: what its heads say of sight alone and of sound alone |
| others | canonical correlations between the features of sight and of sound, fitted on the run's own pairs |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch

from seehear.data.clips import held_out
from seehear.features.bank import FeatureBank
from seehear.features.headlabels import log_p
from seehear.features.model import Model
from seehear.search.nearest import unit

MOST_PAIRS = 20_000
"""The map is fitted on so many pairs at most, evenly drawn."""
LEAST_PAIRS = 8
"""Fewer pairs tell nothing of how sight and sound go together."""
_HELD_OUT = 0.25
_RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
_DIMENSIONS = (4, 8, 16, 32, 64, 128)


class Across(Protocol):
    """Features of either stream into one space."""

    @property
    def words(self) -> str:
        """Through what sight and sound are compared, for people."""
        ...

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What was fitted, to be kept."""
        ...

    def rows(self, stream: str, features: np.ndarray) -> np.ndarray:
        """Features (N, D) of the encoder of "video" or "audio" -> unit rows (N, P) float32."""
        ...


def own_moment_ranks(sight: np.ndarray, sound: np.ndarray) -> np.ndarray:
    """For each unit row (N, P) of sight the place, from 1, of the sound of the same row among all N; (N,)."""
    similarity = sight @ sound.T
    own = np.diagonal(similarity)
    ahead: np.ndarray = (similarity > own[:, None]).sum(1) + 1
    return ahead


def own_moment_score(sight: np.ndarray, sound: np.ndarray) -> float:
    """Mean reciprocal rank of the own moment, from sight to sound and back."""
    return float(
        np.mean([np.mean(1 / own_moment_ranks(a, b)) for a, b in ((sight, sound), (sound, sight))], dtype=np.float64)
    )


# -- GDT ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class JointSpace:
    """The space that a model's encoders share."""

    model: Model
    encoders: Mapping[str, str]
    """The encoder of each stream."""
    words: str = "the space that sight and sound share in this model"
    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    def rows(self, stream: str, features: np.ndarray) -> np.ndarray:
        name = self.encoders[stream]
        bank = FeatureBank([], {name: np.ascontiguousarray(features, dtype=np.float32)}, np.ones(0, dtype=bool))
        return unit(self.model.project(bank)[name])


# -- SeLaVi ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Posteriors:
    """What a model's clustering heads say of either stream alone.

    `kind` "sqrt": square roots of the probabilities of all heads, joined: the inner product of two rows is the mean
    Bhattacharyya coefficient. "log": log-probabilities less their mean over the run's own clips of that stream.
    """

    model: Model
    kind: str
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    """For "log" the means, by "mean.video" and "mean.audio"."""

    @property
    def words(self) -> str:
        return "the clusters: what the model's heads expect of sight alone and of sound alone"

    def rows(self, stream: str, features: np.ndarray) -> np.ndarray:
        logs = head_log_p(self.model, stream, features)
        if self.kind == "sqrt":
            return unit(np.exp(logs / 2))
        return unit(logs - self.arrays[f"mean.{stream}"])


def head_log_p(model: Model, stream: str, features: np.ndarray) -> np.ndarray:
    """Log-probabilities of all heads for one stream alone, joined: (N, heads * clusters) float32."""
    assert model.heads is not None
    inputs = {stream: torch.from_numpy(np.ascontiguousarray(features, dtype=np.float32))}
    with torch.inference_mode():
        found = [log_p(model.heads, inputs, head).log_softmax(1).numpy() for head in range(model.heads.count)]
    return np.concatenate(found, axis=1)


def choose_posteriors(model: Model, sight: np.ndarray, sound: np.ndarray) -> Posteriors:
    """The kind that finds the own moment better among pairs (N, D), (N, E) of features."""
    means = {f"mean.{s}": head_log_p(model, s, x).mean(0) for s, x in (("video", sight), ("audio", sound))}
    best: tuple[float, Posteriors] | None = None
    some = _evenly(len(sight), 2000)
    for made in (Posteriors(model, "sqrt"), Posteriors(model, "log", means)):
        score = own_moment_score(made.rows("video", sight[some]), made.rows("audio", sound[some]))
        if best is None or score > best[0]:
            best = score, made
    assert best is not None
    return best[1]


# -- a fitted map ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Correlations:
    """Regularised canonical correlation analysis of unit features; see `fit_correlations`."""

    arrays: dict[str, np.ndarray]
    """For each stream "mean.S" (D,) and "map.S" (D, P)."""
    words: str = "a linear map (canonical correlations) fitted on pairs of sight and sound of one moment"

    def rows(self, stream: str, features: np.ndarray) -> np.ndarray:
        return unit((unit(features) - self.arrays[f"mean.{stream}"]) @ self.arrays[f"map.{stream}"])


def fit_correlations(sight: np.ndarray, sound: np.ndarray, ridge: float, dimensions: int) -> Correlations:
    """Canonical correlations of pairs (N, D), (N, E), of which the rows are scaled to unit length first.

    With centred X and Y, S = (X'X/N + ridge t I)^-1/2 with t the mean variance of a column, and the singular value
    decomposition U diag(r) V' = S_x X'Y/N S_y, the maps are S_x U diag(r) and S_y V diag(r): directions count as much
    as they are correlated. Of `dimensions` no more are kept than there are.
    """
    return _fit(_Moments.of(sight, sound), ridge, dimensions)


@dataclass(frozen=True)
class _Moments:
    """What all maps of some pairs are made of: of unit rows the means, the eigenvalues and eigenvectors of the
    covariance, and the covariance of one stream with the other."""

    means: tuple[np.ndarray, np.ndarray]
    eigen: tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
    between: np.ndarray

    @classmethod
    def of(cls, sight: np.ndarray, sound: np.ndarray) -> _Moments:
        x, y = (unit(a).astype(np.float64) for a in (sight, sound))
        means = x.mean(0), y.mean(0)
        x, y = x - means[0], y - means[1]
        eigen = tuple(np.linalg.eigh(a.T @ a / len(a)) for a in (x, y))
        return cls(means, ((eigen[0][0], eigen[0][1]), (eigen[1][0], eigen[1][1])), x.T @ y / len(x))


def _fit(moments: _Moments, ridge: float, dimensions: int) -> Correlations:
    roots = []
    for values, vectors in moments.eigen:
        raised = np.maximum(values, 0) + max(ridge * float(values.mean()), 1e-12)
        roots.append(vectors * raised**-0.5 @ vectors.T)
    u, r, vt = np.linalg.svd(roots[0] @ moments.between @ roots[1], full_matrices=False)
    kept = slice(0, min(dimensions, len(r)))
    maps = roots[0] @ u[:, kept] * r[kept], roots[1] @ vt[kept].T * r[kept]
    arrays = {f"mean.{s}": m.astype(np.float32) for s, m in zip(("video", "audio"), moments.means, strict=True)}
    arrays |= {f"map.{s}": m.astype(np.float32) for s, m in zip(("video", "audio"), maps, strict=True)}
    return Correlations(arrays)


def choose_correlations(sight: np.ndarray, sound: np.ndarray, video_ids: Sequence[str]) -> Correlations:
    """The map of the ridge and the number of dimensions that find the own moment best in videos that are held out."""
    rows = _evenly(len(sight), MOST_PAIRS)
    sight, sound = np.asarray(sight)[rows], np.asarray(sound)[rows]
    out = np.array([held_out(video_ids[row], _HELD_OUT) for row in rows])
    if out.sum() < 2 or (~out).sum() < LEAST_PAIRS:
        out = np.arange(len(rows)) % 4 == 3
    train, test = np.flatnonzero(~out), np.flatnonzero(out)[: 2 * MOST_PAIRS // 10]
    most = min(sight.shape[1], sound.shape[1])
    best: tuple[float, float, int] | None = None
    moments = _Moments.of(sight[train], sound[train])
    for ridge in _RIDGES:
        full = _fit(moments, ridge, most)
        for dimensions in sorted({min(d, most) for d in _DIMENSIONS}):
            made = Correlations({n: a[:, :dimensions] if n.startswith("map.") else a for n, a in full.arrays.items()})
            score = own_moment_score(made.rows("video", sight[test]), made.rows("audio", sound[test]))
            if best is None or score > best[0]:
                best = score, ridge, dimensions
    assert best is not None
    return fit_correlations(sight, sound, best[1], best[2])


def _evenly(count: int, most: int) -> np.ndarray:
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))
