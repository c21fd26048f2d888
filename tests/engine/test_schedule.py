"""Learning rates against values worked out by hand, and the stages of a run."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from seehear.config import Config, FinalConfig, OptimConfig
from seehear.engine.schedule import learning_rate, stages
from seehear.recipes import recipe

PAPER = OptimConfig(base_lr=0.01, warmup_epochs=10, step_epochs=10, epochs=45, gamma=0.01)


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [(0, 0.0), (5, 0.005), (10, 0.01), (19.9, 0.01), (20, 1e-4), (29.9, 1e-4), (30, 1e-6), (40, 1e-8)],
)
def test_the_papers_step_schedule(epoch, expected):
    assert learning_rate(PAPER, epoch, 32) == pytest.approx(expected)


def test_without_warm_up_the_first_step_is_at_the_full_rate():
    assert learning_rate(replace(PAPER, warmup_epochs=0, step_epochs=9), 0, 32) == 0.01


def test_the_rate_scales_with_the_clips_of_a_step():
    assert learning_rate(PAPER, 15, 8) == pytest.approx(0.0025)  # XDC supplement C: 32-frame clips
    assert learning_rate(PAPER, 15, 64 * 32) == pytest.approx(0.64)


@pytest.mark.parametrize(("processes", "start"), [(1, 0.01), (16, 0.01), (64, 0.01)])
def test_gdts_warm_up_begins_with_the_rate_of_one_gpu(processes, start):
    """base (1 + (W - 1) epoch / 10), as the gradual warm-up of the release has it."""
    optim = recipe("gdt-kinetics").optim
    for epoch in range(11):
        expected = start * (1 + (processes - 1) * epoch / 10)
        assert learning_rate(optim, epoch, 12 * processes) == pytest.approx(expected)
    assert learning_rate(optim, 150, 12 * processes) == pytest.approx(0.01 * processes)
    assert learning_rate(replace(optim, warmup_from_process=False), 0, 12 * processes) == 0


def test_one_cycle_rises_and_falls():
    optim = OptimConfig(base_lr=0.1, schedule="one-cycle", warmup_epochs=2, epochs=8)
    rates = [learning_rate(optim, e / 10, 32) for e in range(81)]
    assert rates[0] == pytest.approx(0.004)
    assert rates[20] == pytest.approx(0.1)
    assert rates[50] == pytest.approx(0.05)
    assert rates[80] == pytest.approx(0.0, abs=1e-9)
    assert all(b > a for a, b in itertools.pairwise(rates[:21]))
    assert all(b < a for a, b in itertools.pairwise(rates[20:]))


def test_the_last_round_may_have_its_own_schedule():
    found = stages(recipe("xdc-ig"))
    assert [s.config.optim.epochs for s in found] == [10] * 5 + [30]
    assert all(s.relabels for s in found)


def test_the_final_stage_keeps_the_labels_and_trains_the_video_encoder_on_longer_clips():
    config = Config(rounds=2, final=FinalConfig(frames=32, optim=OptimConfig(batch_size=8)))
    final = stages(config)[-1]
    assert len(stages(config)) == 3
    assert not final.relabels
    assert final.encoders == ("video",)
    assert final.config.clip.frames == 32
    assert learning_rate(final.config.optim, 15, 8) == pytest.approx(0.0025)
