"""The kinds that the clips of a bank are of, where processes share it: how many, and which clips are in doubt."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seehear import dist
from seehear.cluster.doubt import Companions, companions
from seehear.cluster.kinds import Kinds, Shared, estimate_kinds
from seehear.config import Config
from seehear.errors import DataError, UsageError
from seehear.features.bank import FeatureBank

MOST_ROWS = 1000
"""Clips that are counted; more would say little more."""
MOST_COMPANIONS = 5000
"""Clips among which neighbours are looked for."""
SPARE = 4 / 3
"""Clusters that a round is trained with for each kind counted: a kind that is overlooked once is found again by the
next round only where clusters are left for it."""


def both_modalities(bank: FeatureBank, of: str) -> tuple[Tensor, Tensor]:
    """Sight and sound of a bank, rows of length 1. Raises `UsageError`, naming `of`, if there is but one of them."""
    if not {"video", "audio"} <= bank.features.keys():
        raise UsageError(
            f"{of} has learnt {', '.join(bank.features)}, and kinds are what sight and sound agree on",
            "take a run that has learnt from both, or estimate by one: `seehear cluster --choose-k 2-20`",
        )
    sight, sound = (torch.from_numpy(bank.joined(name).astype(np.float32)) for name in ("video", "audio"))
    return torch.nn.functional.normalize(sight, dim=1), torch.nn.functional.normalize(sound, dim=1)


def sampled(bank: FeatureBank, most: int) -> tuple[Tensor, Tensor]:
    """Sight and sound of at most so many clips of all processes, evenly over them all: the same on every process."""
    rows = len(bank)
    total = sum(dist.row_counts(rows))
    mine = min(rows, math.ceil(most * rows / max(total, 1)))
    chosen = np.linspace(0, rows - 1, mine).round().astype(int) if mine else np.zeros(0, dtype=int)
    sight, sound = both_modalities(bank.take(chosen), "the run")
    return dist.all_gather_rows(sight), dist.all_gather_rows(sound)


def count_kinds(bank: FeatureBank, seed: int, *, subsets: int = 8) -> Kinds | None:
    """The number of kinds of the clips of all processes, doubtful ones apart; every process passes its own share.

    None: there are too few clips to say.
    """
    sight, sound = sampled(bank, MOST_ROWS)
    found: Kinds | None = None
    if dist.is_main():
        try:
            sure = torch.from_numpy(np.flatnonzero(~companions(sight, sound, seed=seed).doubt(sight, sound).outliers))
            found = estimate_kinds(sight[sure], sound[sure], subsets=subsets, seed=seed)
        except DataError:
            found = None
    counted: Kinds | None = dist.broadcast(found)
    return counted


def clusters_to_train(bank: FeatureBank, begin: int, seed: int) -> int:
    """How many clusters a round is trained with: a third more than kinds are counted, or what they might be at most.

    `begin` where nothing can be counted, as with encoders that have not learnt yet.
    """
    kinds = count_kinds(bank, seed, subsets=4)
    if kinds is None or kinds.k is None or kinds.high is None:
        return begin
    return max(kinds.high, math.ceil(SPARE * kinds.k))


def clusters_to_begin(clips: int) -> int:
    """Clusters of a first round, in which encoders have learnt nothing that could be counted: more than enough."""
    return min(128, max(4, round(1.3 * math.sqrt(clips))), max(2, clips // 2))


@dataclass(frozen=True)
class FinalKinds:
    """What is said of the kinds of a trained run's clips."""

    kinds: Kinds | None
    """None: there were too few clips to count."""
    companions: Companions | None
    """None: too few to doubt one."""

    @property
    def k(self) -> int | None:
        """The number of kinds, if one could be told."""
        return None if self.kinds is None else self.kinds.k

    def sure(self, bank: FeatureBank) -> FeatureBank:
        """The clips of a bank that are not in doubt."""
        if self.companions is None:
            return bank
        return bank.take(np.flatnonzero(~self.companions.doubt(*both_modalities(bank, "the run")).outliers))

    def facts(self, clusters: int) -> dict[str, Any]:
        """For JSON: clusters, k, low, high and the table of every number that was compared."""
        found = {"k": None, "low": None, "high": None} if self.kinds is None else self.kinds.as_dict()
        return {"clusters": clusters, "text": self.as_text(clusters), **found}

    def as_text(self, clusters: int) -> str:
        """The verdict in a sentence, with the number of clusters where it is another."""
        if self.kinds is None:
            return f"too few clips to say how many kinds there are: {clusters} clusters"
        more = "" if self.kinds.k == clusters else f"; the labels have {clusters} clusters"
        return self.kinds.as_text() + more


def final_kinds(bank: FeatureBank, config: Config) -> FinalKinds:
    """Count the kinds of the clips of all processes, and what goes with what; every process passes its own share."""
    return FinalKinds(count_kinds(bank, config.seed), bank_companions(bank, config.seed))


def bank_companions(bank: FeatureBank, seed: int) -> Companions | None:
    """What goes with what among the clips of all processes; None: there are too few of them to say."""
    sight, sound = sampled(bank, MOST_COMPANIONS)
    with contextlib.suppress(DataError):
        return companions(sight, sound, seed=seed)
    return None


def kinds_of_facts(facts: Mapping[str, Any]) -> Kinds | None:
    """The estimate in what `FinalKinds.facts` has written; None: there were too few clips to count.

    Raises `KeyError` or `TypeError` for other facts.
    """
    if "table" not in facts:
        return None
    names = ("k", "low", "high", "p_value", "rows", "subsets")
    return Kinds(table=tuple(Shared(**row) for row in facts["table"]), **{name: facts[name] for name in names})
