"""Whether a run is well, in a word, and by what that is measured."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from seehear.report.figures import short
from seehear.report.gather import Metrics, Run, number

ENOUGH_STEPS = 100
"""Fewer steps say nothing: the learning rate may still be warming up, and signs of a collapse need time to show."""
CLEAR = 2.0
"""Standard errors by which a loss must have fallen: less may be chance, for batches differ."""


@dataclass(frozen=True)
class Verdict:
    """What stands first on the page."""

    level: str
    """"good", "doubt" or "bad": a class of style.css."""
    word: str
    detail: str = ""


@dataclass(frozen=True)
class Fall:
    """The loss in the first and in the last third of a round."""

    first: float
    last: float
    error: float
    """Standard error of their difference; 0 where a third is a single value."""
    round: float

    @property
    def clear(self) -> bool:
        """Whether the loss fell by more than chance would make it."""
        return self.first - self.last > CLEAR * self.error

    @property
    def size(self) -> float:
        """By how many standard errors."""
        return (self.first - self.last) / max(self.error, 1e-12)


def verdict(run: Run) -> Verdict:
    """From the run's own warnings, and from whether it trained for long enough to have any.

    A run is healthy when nothing warned in at least `ENOUGH_STEPS` steps and its loss fell clearly in some round.
    """
    messages = [str(w.get("message", "")) for w in run.metrics.warnings]
    fallen = next((m for m in messages if "collapse" in m.lower()), None)
    if fallen is not None:
        head, _, rest = fallen.partition(":")
        return Verdict(
            "bad", "collapse", rest.strip() if head.strip().lower() == "collapse" and rest.strip() else fallen
        )
    if messages:
        return Verdict("doubt", "look closer", messages[-1])
    if run.metrics.end is None:
        return Verdict("doubt", "not finished", "the run has not written its end; what follows is how far it came")
    if run.setting("method") == "scratch":
        return Verdict("doubt", "untrained", "the encoders are as they were initialised")
    return _by_training(run.metrics)


def _by_training(metrics: Metrics) -> Verdict:
    """The verdict on a finished run without warnings."""
    steps, fall = metrics.step_count, steepest_fall(metrics)
    went = "" if fall is None else f"the loss went from {short(fall.first)} to {short(fall.last)}"
    if steps < ENOUGH_STEPS:
        taken = f"{steps} step{'' if steps == 1 else 's'} of training, and it takes {ENOUGH_STEPS} to tell"
        return Verdict("doubt", "too short to judge", f"{taken}; {went}" if went else taken)
    if fall is None:
        return Verdict("doubt", "too short to judge", "there are not two values of the loss in any round to compare")
    if not fall.clear:
        chance = f"; a fall of {short(CLEAR * fall.error)} (two standard errors) would be clear" if fall.error else ""
        return Verdict("doubt", "nothing learnt yet", f"in {steps:,} steps {went}{chance}")
    rounds = len({record.get("round") for record in metrics.steps})
    where = f" in round {fall.round:g}" if rounds > 1 else ""
    return Verdict("good", "healthy", f"no warning in {steps:,} steps, and {went}{where}")


def steepest_fall(metrics: Metrics) -> Fall | None:
    """The clearest fall of the training loss within a round, for labels and heads are new in each; None without two."""
    falls = [fall for which, losses in _losses(metrics).items() if (fall := _fall(losses, which)) is not None]
    return max(falls, key=lambda fall: fall.size, default=None)


def _losses(metrics: Metrics) -> dict[float, list[float]]:
    """By round the losses of its logged steps, or the means of its epochs where those are more."""
    by_step, by_epoch = (
        _by_round((number(r.get("round")) or 0.0, number(r.get(key))) for r in records)
        for records, key in ((metrics.steps, "loss"), (metrics.epochs, "train_loss"))
    )
    return {
        which: max(by_step.get(which, []), by_epoch.get(which, []), key=len) for which in sorted({*by_step, *by_epoch})
    }


def _by_round(values: Iterable[tuple[float, float | None]]) -> dict[float, list[float]]:
    found: dict[float, list[float]] = defaultdict(list)
    for which, value in values:
        if value is not None:
            found[which].append(value)
    return found


def _fall(losses: Sequence[float], which: float) -> Fall | None:
    if len(losses) < 2:
        return None
    third = max(1, len(losses) // 3)
    first, last = np.asarray(losses[:third]), np.asarray(losses[-third:])
    squares = [float(part.var(ddof=1)) / third if third > 1 else 0.0 for part in (first, last)]
    return Fall(float(first.mean()), float(last.mean()), math.sqrt(sum(squares)), which)
