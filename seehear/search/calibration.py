"""What a similarity means: a score in 0..1, the chance that two segments are alike, as this collection tells it.

Pairs that are alike are drawn from the collection itself: sampled segments and what is most similar to each in another
video. Pairs that are not are random ones. A logistic regression on the similarity tells them apart, both kinds counted
as equally common. A score of .5 (`CUT_OFF`) is where they are equally likely, or where `FALSE_ALARMS` of the pairs that
are alike lie below if that is higher: the best of many is similar to anything, more so than a random pair. A search
whose best hit scores less says that there is nothing like the query here. Across sight and sound, alike are the two
streams of one moment, and not alike those of different videos.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seehear.search.layout import Content

CUT_OFF = 0.5
FALSE_ALARMS = 0.05
"""Of so many of the collection's own segments at least it would be said that there is nothing like them."""
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Weights of the sound for which scores by both are calibrated; between them coefficients are interpolated."""
_SAMPLED = 500
_AMONG = 200_000
_LEAST_ROWS = 8
_BLOCK_ROWS = 16_384


@dataclass(frozen=True)
class Scale:
    """Similarity to score: 1 / (1 + exp(-(slope * similarity + offset)))."""

    slope: float
    offset: float

    def score(self, similarity: np.ndarray) -> np.ndarray:
        """Scores (N,) in 0..1 of similarities (N,)."""
        z = np.clip(self.slope * np.asarray(similarity, dtype=np.float64) + self.offset, -60, 60)
        made: np.ndarray = 1 / (1 + np.exp(-z))
        return made

    def similarity(self, score: float) -> float:
        """The similarity of a score; the inverse of `score`."""
        clipped = min(max(score, 1e-12), 1 - 1e-12)
        return float((np.log(clipped / (1 - clipped)) - self.offset) / self.slope)


def fit_scale(alike: np.ndarray, unlike: np.ndarray) -> Scale:
    """Logistic regression of similarities (N,) of pairs that are alike, and (M,) of those that are not.

    Both kinds weigh the same whatever their numbers. The slope is kept positive and finite by a weak penalty. The
    curve is moved so that no less than `FALSE_ALARMS` of the pairs that are alike score below `CUT_OFF`.
    """
    from sklearn.linear_model import LogisticRegression

    x = np.concatenate([alike, unlike]).astype(np.float64)
    y = np.concatenate([np.ones(len(alike)), np.zeros(len(unlike))])
    centre, spread = float(x.mean()), float(max(x.std(), 1e-6))
    model = LogisticRegression(C=10.0, class_weight="balanced").fit(((x - centre) / spread)[:, None], y)
    slope = max(float(model.coef_[0, 0]) / spread, 1e-3)
    offset = float(model.intercept_[0]) - float(model.coef_[0, 0]) / spread * centre
    return Scale(slope, min(offset, -slope * float(np.quantile(alike, FALSE_ALARMS))))


def calibrate(content: Content, seed: int = 0) -> dict[str, Any]:
    """Coefficients for a content's spaces: "both" for each of `WEIGHTS`, "sight", "sound", "across"; None where the
    collection is too small to tell."""
    rng = np.random.default_rng(seed)
    streams = [s for s in ("video", "audio") if s in content.space]
    sampled = _rows(content, streams, rng)
    weights = WEIGHTS if len(streams) == 2 else ((0.0,) if streams == ["video"] else (1.0,))
    fitted = _of(content, sampled, weights, rng)
    made: dict[str, Any] = {}
    if "video" in streams:
        made["sight"] = fitted[0]
    if "audio" in streams:
        made["sound"] = fitted[-1]
    if len(streams) == 2:
        made["both"] = fitted
        if "across.video" in content.space:
            made["across"] = _across(content, sampled, rng)
    return made


def scale_of(calibration: dict[str, Any], by: str, sound_weight: float) -> Scale | None:
    """The scale of a search; None where it could not be calibrated."""
    found = calibration.get(by)
    if by == "both" and found is not None:
        if any(entry is None for entry in found):
            return None
        slope, offset = (float(np.interp(sound_weight, WEIGHTS, [e[k] for e in found])) for k in ("slope", "offset"))
        return Scale(slope, offset)
    return None if found is None else Scale(found["slope"], found["offset"])


def _rows(content: Content, streams: Sequence[str], rng: np.random.Generator) -> np.ndarray:
    """Sampled segments that have every stream that is indexed."""
    there = np.flatnonzero(np.all([content.has[s] for s in streams], axis=0))
    return np.sort(rng.choice(there, min(_SAMPLED, len(there)), replace=False))


def _of(
    content: Content, sampled: np.ndarray, weights: Sequence[float], rng: np.random.Generator
) -> list[dict[str, float] | None]:
    """A scale for each weight of the sound."""
    if len(sampled) < _LEAST_ROWS or len(content.video) < _LEAST_ROWS:
        return [None] * len(weights)
    among = np.arange(len(content.video))
    if len(among) > _AMONG:
        among = np.sort(rng.choice(among, _AMONG, replace=False))
    best = np.full((len(weights), len(sampled)), -np.inf, dtype=np.float32)
    several = len(np.unique(content.video[among])) > 1
    for start in range(0, len(among), _BLOCK_ROWS):
        block = among[start : start + _BLOCK_ROWS]
        same = content.video[sampled][:, None] == content.video[block] if several else sampled[:, None] == block
        streams = {s: _similarity(content, s, sampled, block) for s in _used(weights)}
        for i, weight in enumerate(weights):
            similarity = _weighted(streams, weight)
            best[i] = np.maximum(best[i], np.where(same, -np.inf, similarity).max(1))
    pairs = rng.choice(among, (4 * len(sampled), 2))
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    streams = {s: _paired(content, s, pairs) for s in _used(weights)}
    return [
        _kept(fit_scale(found[np.isfinite(found)], _weighted(streams, weight)))
        for weight, found in zip(weights, best, strict=True)
    ]


def _used(weights: Sequence[float]) -> list[str]:
    return [s for s, used in (("video", min(weights) < 1), ("audio", max(weights) > 0)) if used]


def _weighted(streams: Mapping[str, np.ndarray], weight: float) -> np.ndarray:
    """(1 - weight) times the similarity of "video" plus `weight` times that of "audio"; what counts nothing is not
    asked for."""
    shares = [streams[s] * np.float32(w) for s, w in (("video", 1 - weight), ("audio", weight)) if w]
    return shares[0] if len(shares) == 1 else shares[0] + shares[1]


def _across(content: Content, sampled: np.ndarray, rng: np.random.Generator) -> dict[str, float] | None:
    if len(sampled) < _LEAST_ROWS:
        return None
    sight, sound = (np.asarray(content.space[f"across.{s}"][sampled]) for s in ("video", "audio"))
    similarity = sight @ sound.T
    other = content.video[sampled][:, None] != content.video[sampled][None]
    if not other.any():
        other = ~np.eye(len(sampled), dtype=bool)
    unlike = similarity[other]
    if len(unlike) > 20_000:
        unlike = rng.choice(unlike, 20_000, replace=False)
    return _kept(fit_scale(np.diagonal(similarity), unlike))


def _similarity(content: Content, stream: str, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    x = content.space[stream]
    found: np.ndarray = np.asarray(x[rows]) @ np.asarray(x[others]).T
    return found


def _paired(content: Content, stream: str, pairs: np.ndarray) -> np.ndarray:
    x = content.space[stream]
    found: np.ndarray = np.einsum("nd,nd->n", np.asarray(x[pairs[:, 0]]), np.asarray(x[pairs[:, 1]]))
    return found


def _kept(scale: Scale) -> dict[str, float]:
    return {"slope": scale.slope, "offset": scale.offset}
