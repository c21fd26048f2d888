"""The kinds that the clips of a bank are of, where processes share it: how many, and which clips are in doubt."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from seehear import dist
from seehear.cluster.doubt import FEWEST_NEIGHBOURS, Companions, companions, doubts
from seehear.cluster.kinds import Kinds, Measured, Shared, measure_kinds, numbers_to_try, verdict
from seehear.errors import DataError, UsageError
from seehear.features.bank import FeatureBank

MOST_ROWS = 1000
"""Clips that are counted; more would say little more."""
MOST_COMPANIONS = 5000
"""Clips among which neighbours are looked for."""
_SUBSETS = 4
"""Of a round; their measurements are put together with those of other rounds."""


def both_modalities(bank: FeatureBank, of: str) -> tuple[Tensor, Tensor]:
    """Sight and sound of a bank, rows of length 1. Raises `UsageError`, naming `of`, if there is but one of them."""
    if not {"video", "audio"} <= bank.features.keys():
        raise UsageError(
            f"{of} has learnt {', '.join(bank.features)}, and kinds are what sight and sound agree on",
            "take a run that has learnt from both, or estimate by one: `seehear cluster --choose-k 2-20`",
        )
    sight, sound = (torch.from_numpy(bank.joined(name).astype(np.float32)) for name in ("video", "audio"))
    return torch.nn.functional.normalize(sight, dim=1), torch.nn.functional.normalize(sound, dim=1)


def evenly(rows: int, most: int) -> np.ndarray:
    """The numbers of at most so many of a table's rows, evenly over all; (min(rows, most),) int64."""
    return np.linspace(0, rows - 1, min(rows, most)).round().astype(int)


def sampled(bank: FeatureBank, most: int) -> tuple[Tensor, Tensor]:
    """Sight and sound of at most so many clips of all processes, evenly over them all: the same on every process."""
    rows = len(bank)
    total = sum(dist.row_counts(rows))
    chosen = evenly(rows, math.ceil(most * rows / max(total, 1)))
    sight, sound = both_modalities(bank.take(chosen), "the run")
    return dist.all_gather_rows(sight), dist.all_gather_rows(sound)


class Count(nn.Module):
    """The number of kinds as rounds of training measure it, each on features of its own.

    Encoders that are trained with more clusters than there are kinds learn some of these by heart, and the more rounds
    pass the more kinds they seem to know; those of early rounds know few. So what all rounds but the first ones have
    measured is put together (`seehear.cluster.kinds.verdict`). What was measured is part of a method's state.

    Attributes:
        numbers: (rounds, numbers, subsets, 2) float64, see `Measured`; NaN where nothing was measured.
        p_values: (rounds,) float64.
    """

    numbers: Tensor
    p_values: Tensor

    def __init__(self, rounds: int) -> None:
        super().__init__()
        shape = (rounds, len(numbers_to_try(MOST_ROWS)), _SUBSETS, 2)
        self.register_buffer("numbers", torch.full(shape, torch.nan, dtype=torch.float64))
        self.register_buffer("p_values", torch.full((rounds,), torch.nan, dtype=torch.float64))

    def measure(self, bank: FeatureBank, seed: int, left: int) -> None:
        """Measure features of the clips of all processes, doubtful ones apart; each process passes its own share.

        `left` rounds follow this one. Nothing is measured where clips are too few.
        """
        found = measured(bank, seed, _SUBSETS)
        if found is not None:
            row = len(self.numbers) - 1 - left
            self.numbers[row, : len(found.ks)] = torch.from_numpy(found.numbers).to(self.numbers)
            self.p_values[row] = found.p_value

    def told(self, more: Measured | None = None) -> Kinds | None:
        """What all rounds but the first third say, together with `more`; None: nothing was measured."""
        ks = tuple(numbers_to_try(MOST_ROWS))
        rounds = []
        for numbers, p_value in zip(self.numbers.cpu().numpy(), self.p_values.tolist(), strict=True):
            tried = int(np.isfinite(numbers[:, 0, 0]).sum())
            if tried:
                rounds.append(Measured(ks[:tried], numbers[:tried], p_value, more.rows if more else 0))
        later = [*rounds[len(rounds) // 3 :], *([more] if more else [])]
        return verdict(later) if later else None


def measured(bank: FeatureBank, seed: int, subsets: int = 8) -> Measured | None:
    """What the clips of all processes share, doubtful ones apart; every process passes its own share.

    None: there are too few clips.
    """
    sight, sound = sampled(bank, MOST_ROWS)
    with dist.alone(), contextlib.suppress(DataError):
        doubt = doubts(sight, sound, neighbours=FEWEST_NEIGHBOURS, seed=seed)
        sure = torch.from_numpy(np.flatnonzero(~doubt.outliers))
        return measure_kinds(sight[sure], sound[sure], subsets=subsets, seed=seed)
    return None


def clusters_to_begin(clips: int) -> int:
    """Clusters that rounds are trained with where kinds are counted: more than enough.

    Encoders that learn more clusters than there are kinds learn the kinds too; a kind for which there is no cluster is
    lost.
    """
    return min(128, max(4, round(1.3 * math.sqrt(clips))), max(2, clips // 2))


@dataclass(frozen=True)
class FinalKinds:
    """What is said of the kinds of a trained run's clips."""

    kinds: Kinds | None
    """None: there were too few clips to count."""
    companions: Companions | None
    """By which clips are doubted; None: too few to doubt one."""
    closest: Companions | None
    """The same with fewest neighbours: what these leave out is no part of a kind, however rare."""

    @property
    def k(self) -> int | None:
        """The number of kinds, if one could be told."""
        return None if self.kinds is None else self.kinds.k

    def sure(self, bank: FeatureBank) -> FeatureBank:
        """The clips of a bank from which clusters are made."""
        if self.closest is None:
            return bank
        return bank.take(np.flatnonzero(~self.closest.doubt(*both_modalities(bank, "the run")).outliers))

    def facts(self, clusters: int) -> dict[str, Any]:
        """For JSON: clusters, k, low, high and the table of every number that was compared."""
        found = {"k": None, "low": None, "high": None, "more": False} if self.kinds is None else self.kinds.as_dict()
        return {"clusters": clusters, "text": self.as_text(clusters), **found}

    def as_text(self, clusters: int) -> str:
        """The verdict in a sentence, with the number of clusters where it is another."""
        if self.kinds is None:
            return f"too few clips to say how many kinds there are: {clusters} clusters"
        more = "" if self.kinds.k == clusters else f"; the labels have {clusters} clusters"
        return self.kinds.as_text() + more


def final_kinds(bank: FeatureBank, seed: int, count: Count | None) -> FinalKinds:
    """Count the kinds of the clips of all processes, and what goes with what; every process passes its own share.

    `count` is what the rounds of the training have measured, if its method has any.
    """
    clips = sampled(bank, MOST_COMPANIONS)
    known, closest = (_companions(*clips, neighbours, seed) for neighbours in (None, FEWEST_NEIGHBOURS))
    last = measured(bank, seed)
    if count is not None:
        return FinalKinds(count.told(last), known, closest)
    return FinalKinds(None if last is None else verdict([last]), known, closest)


def bank_companions(bank: FeatureBank, seed: int) -> Companions | None:
    """What goes with what among the clips of all processes; None: there are too few of them to say."""
    return _companions(*sampled(bank, MOST_COMPANIONS), None, seed)


def _companions(sight: Tensor, sound: Tensor, neighbours: int | None, seed: int) -> Companions | None:
    with contextlib.suppress(DataError):
        return companions(sight, sound, neighbours=neighbours, seed=seed)
    return None


def kinds_of_facts(facts: Mapping[str, Any]) -> Kinds | None:
    """The estimate in what `FinalKinds.facts` has written; None: there were too few clips to count.

    Raises `KeyError` or `TypeError` for other facts.
    """
    if "table" not in facts:
        return None
    names = ("k", "low", "high", "p_value", "rows", "subsets")
    return Kinds(table=tuple(Shared(**row) for row in facts["table"]), **{name: facts[name] for name in names})
