"""Where a run stands, and the means over the epoch under way: what a checkpoint holds beside the weights."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from seehear import dist


@dataclass
class TrainState:
    """Where a run stands. Everything here is saved, and nothing else is needed to go on."""

    stage: int = 0
    labelled: bool = False
    """Whether this stage has its pseudo-labels and its training has begun."""
    epoch: int = 0
    done: int = 0
    """Places in the order of this epoch's clips that are done: the same, however many processes take them."""
    relabelled: int = 0
    """Times within this stage at which new labels were made, or are past."""
    step: int = 0
    clips_seen: int = 0
    seconds_data: float = 0.0
    """Spent waiting for batches in this epoch."""
    seconds_compute: float = 0.0
    """Spent on everything else in this epoch."""
    validation_losses: list[float] = field(default_factory=list)
    """Of this stage, one an epoch."""

    def computed(self, since: float) -> float:
        """Count the seconds since a moment of the monotonic clock as computing; returns the moment that is now."""
        now = time.monotonic()
        self.seconds_compute += now - since
        return now


@dataclass
class Means:
    """Means of named scalars over clips. Kept as tensors, so that a GPU is not waited for at every step."""

    count: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)

    def add(self, values: Mapping[str, Tensor], clips: int) -> None:
        """Count values that are means over so many clips."""
        self.count += clips
        for name, value in values.items():
            before = self.sums.get(name)
            before = torch.zeros((), device=value.device) if before is None else before.to(value.device)
            self.sums[name] = before + value.detach().float() * clips

    def values(self) -> dict[str, float]:
        """Means over the clips of all processes, some of which may have seen none."""
        shares = dist.all_gather_objects((self.count, {name: float(x) for name, x in self.sums.items()}))
        count = sum(n for n, _ in shares)
        names = sorted({name for _, sums in shares for name in sums})
        return {name: sum(sums.get(name, 0.0) for _, sums in shares) / count for name in names}
