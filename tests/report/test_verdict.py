"""The word that stands first on a page, and what it is measured by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from seehear.report.gather import Metrics, Run
from seehear.report.verdict import ENOUGH_STEPS, steepest_fall, verdict


def run(losses: list[list[float]], every: int = 1, method: str = "xdc", warnings: tuple[str, ...] = ()) -> Run:
    """A finished run with so many losses in each round, one written down every so many steps."""
    steps = [
        {"kind": "step", "step": every * n, "round": which, "loss": loss}
        for n, (which, loss) in enumerate(((w, x) for w, of in enumerate(losses) for x in of), 1)
    ]
    end = {"kind": "end", "steps": every * len(steps)}
    metrics = Metrics(steps=steps, end=end, warnings=[{"message": m} for m in warnings])
    return Run(Path("a"), config={"method": method}, metrics=metrics)


def falling(count: int, noise: float = 0.1, drop: float = 1.0) -> list[float]:
    return (2.5 - drop * np.linspace(0, 1, count) + noise * np.random.default_rng(0).normal(size=count)).tolist()


def test_a_run_that_learnt_is_healthy_and_the_page_says_by_what():
    found = verdict(run([falling(60), falling(60)]))
    assert (found.level, found.word) == ("good", "healthy")
    assert "no warning in 120 steps, and the loss went from 2." in found.detail and " in round " in found.detail


@pytest.mark.parametrize("count", [1, 12, ENOUGH_STEPS - 1])
def test_a_run_of_few_steps_is_too_short_to_judge_however_its_loss_fell(count):
    found = verdict(run([falling(count)]))
    assert (found.level, found.word) == ("doubt", "too short to judge")
    assert found.detail.startswith(f"{count} step") and f"it takes {ENOUGH_STEPS} to tell" in found.detail


@pytest.mark.parametrize("drop", [0.0, -1.0])
def test_a_loss_that_does_not_fall_by_more_than_chance_is_not_healthy(drop):
    found = verdict(run([falling(200, noise=0.3, drop=drop)]))
    assert (found.level, found.word) == ("doubt", "nothing learnt yet")
    assert "in 200 steps the loss went from" in found.detail and "two standard errors" in found.detail


def test_steps_are_those_taken_and_not_those_written_down():
    assert verdict(run([falling(20)], every=10)).word == "healthy"
    assert verdict(run([falling(9)], every=10)).word == "too short to judge"


def test_one_round_that_learnt_is_enough_and_a_restart_of_the_loss_is_no_rise():
    flat = [2.0] * 60
    assert verdict(run([flat, falling(60)])).word == "healthy"
    assert verdict(run([flat, flat])).word == "nothing learnt yet"


def test_epochs_speak_where_steps_are_written_down_more_rarely():
    found = run([[2.5]], every=500)
    assert verdict(found).word == "too short to judge"
    found.metrics.epochs = [{"round": 0, "train_loss": loss} for loss in falling(30)]
    fall = steepest_fall(found.metrics)
    assert fall is not None and fall.clear and verdict(found).word == "healthy"


def test_warnings_come_before_everything_else():
    assert verdict(run([falling(12)], warnings=("collapse: one cluster",))).word == "collapse"
    assert verdict(run([falling(12)], warnings=("step 3 left out",))).word == "look closer"


def test_an_unfinished_and_an_untrained_run_are_called_so():
    unfinished = run([falling(12)])
    unfinished.metrics.end = None
    assert verdict(unfinished).word == "not finished"
    assert verdict(run([], method="scratch")).word == "untrained"


@pytest.mark.parametrize("losses", [[], [[]], [[float("nan")] * 200]])
def test_a_run_without_losses_is_too_short_to_judge(losses):
    assert verdict(run(losses)).word == "too short to judge"
