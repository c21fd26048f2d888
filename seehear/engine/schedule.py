"""Stages of a run and the learning rate within them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from torch import Tensor

from seehear.config import Config, OptimConfig
from seehear.types import Batch


@dataclass(frozen=True)
class Stage:
    """A round of deep clustering, or the final retraining."""

    index: int
    config: Config
    """The run's settings with those of this stage in `clip` and `optim`."""
    relabels: bool
    """Whether new pseudo-labels are made first; the final stage keeps the last ones."""
    encoders: tuple[str, ...] | None = None
    """Encoders that are trained; None: all."""
    from_scratch: bool = False

    def inputs_of(self, batch: Batch) -> dict[str, Tensor]:
        """What the encoders that are trained see of a batch."""
        return {name: x for name, x in batch.inputs.items() if self.encoders is None or name in self.encoders}


def stages(config: Config) -> list[Stage]:
    """The rounds of a run, the last one with its own schedule if it has one, and the final retraining if any."""
    rounds = [Stage(i, config, relabels=True) for i in range(config.rounds)]
    if config.last_round is not None:
        rounds[-1] = replace(rounds[-1], config=replace(config, optim=config.last_round))
    if config.final is not None:
        clip = replace(config.clip, frames=config.final.frames)
        final = replace(config, clip=clip, optim=config.final.optim)
        rounds.append(Stage(config.rounds, final, False, ("video",), config.final.from_scratch))
    return rounds


def learning_rate(optim: OptimConfig, epoch: float, clips_per_step: int) -> float:
    """Learning rate at a fractional epoch of a round.

    `base_lr` holds for 32 clips a step and scales linearly (XDC supplement C, after Goyal et al. 2017).
    The warm-up is linear from `warmup_start` of the peak in `step`, or from the rate of one process's batch
    (`warmup_from_process`; Goyal et al., 2017, section 2.2), and a cosine in `one-cycle`.
    """
    peak = optim.base_lr * clips_per_step / 32
    warmup = optim.warmup_epochs
    if optim.schedule == "one-cycle":
        if epoch < warmup:
            return peak * (0.04 + 0.96 * (1 - math.cos(math.pi * epoch / warmup)) / 2)
        rest = max(optim.epochs - warmup, 1e-9)
        return peak * (1 + math.cos(math.pi * min((epoch - warmup) / rest, 1.0))) / 2
    if epoch < warmup:
        start = optim.warmup_start * peak
        if optim.warmup_from_process:
            start = max(start, min(peak, optim.base_lr * optim.batch_size / 32))
        return start + (peak - start) * epoch / warmup
    return peak * optim.gamma ** math.floor((epoch - warmup) / optim.step_epochs)
