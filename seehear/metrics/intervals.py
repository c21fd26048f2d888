"""Scores with their 95 % bootstrap intervals."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np


@dataclass(frozen=True)
class Score:
    """A share of right answers with a 95 % interval over test videos, and its deviation over repetitions."""

    value: float
    low: float
    high: float
    sd: float | None = None

    def as_dict(self) -> dict[str, float]:
        return {name: value for name, value in asdict(self).items() if value is not None}


def score_of(correct: np.ndarray) -> Score:
    """The score of (S, N) right or wrong (or shares in between): S repetitions, N test videos."""
    runs = correct.mean(axis=1)
    low, high = bootstrap(correct.mean(axis=0))
    return Score(float(runs.mean()), low, high, float(runs.std(ddof=1)) if len(runs) > 1 else None)


def bootstrap(values: np.ndarray, draws: int = 1000, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Percentile interval of the mean of `values` (N,), its rows drawn anew with replacement (Efron, 1979)."""
    rng = np.random.default_rng(seed)
    means = [values[rng.integers(len(values), size=len(values))].mean() for _ in range(draws)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
