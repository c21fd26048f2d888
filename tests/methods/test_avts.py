"""AVTS: which moments are drawn, the loss against loops, its curriculum, what it learns, and several processes."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import seehear
from seehear import dist
from seehear.config import ClipConfig, Config, FinalConfig, ModelConfig, SynchronisationConfig
from seehear.engine.runlog import read_metrics
from seehear.errors import UsageError
from seehear.hypotheses.factors import Span, View
from seehear.methods.avts import AVTS, TwoMoments, avts_loss, steps_apart, two_moments
from seehear.pretraining.plan import make_config
from seehear.recipes import recipe
from tests.conftest import TINY_SETTINGS
from tests.corpus import make_video

TINY = Config(
    method="avts",
    model=ModelConfig(video="r2plus1d_10", video_width=4, video_stem_pool=True, audio="resnet9", audio_width=4),
    avts=SynchronisationConfig(dimensions=8),
)


# ---------------------------------------------------------------- moments


def test_moments_are_drawn_evenly_among_all_that_are_far_enough_apart():
    factor = TwoMoments("distinct", apart_seconds=1.0)
    span, rng = Span(10, 16, 4.0), np.random.default_rng(0)
    drawn = Counter()
    for _ in range(6000):
        (a, first), (b, second) = factor.sample(View(0), span, rng)
        assert (first.start, second.start) == (a, b)
        drawn[a, b] += 1
    expected = {(a, b) for a in range(10, 17) for b in range(10, 17) if abs(a - b) >= 4}
    assert set(drawn) == expected
    assert max(drawn.values()) < 1.25 * min(drawn.values())


@pytest.mark.parametrize(("last", "expected"), [(13, {10, 13}), (10, {10})])
def test_of_a_video_too_short_both_ends_are_taken(last, expected):
    found = TwoMoments("distinct", apart_seconds=1.0).sample(View(0), Span(10, last, 4.0), np.random.default_rng(0))
    assert {code for code, _ in found} == expected


def test_a_clip_is_seen_and_heard_at_two_moments_whose_windows_have_a_gap_between_them():
    clip = ClipConfig(frames=8, frame_rate_hz=8.0, audio_seconds=1.5)
    spec = two_moments(clip, 0.5).checked()
    views = spec.views("a", 0, Span(0, 100, 8.0), np.random.default_rng(1))
    assert [v.modality for v in views] == ["video", "audio"] * 2
    assert views[0].start == views[1].start != views[2].start == views[3].start
    assert abs(views[0].start - views[2].start) >= steps_apart(2.0, 8.0) == 16
    assert steps_apart(0.1, 8.0) == 1


# ---------------------------------------------------------------- the loss


def batch(clips: int, seed: int = 0, dtype: torch.dtype = torch.float64):
    """Embeddings of two moments of so many clips, and their codes; some are too close, one clip is there twice."""
    rng = np.random.default_rng(seed)
    starts = [(5 * i, 5 * i + int(rng.integers(1, 12))) for i in range(clips)]
    codes = torch.tensor([(i % max(clips - 1, 1), s) for i, pair in enumerate(starts) for s in pair])
    x, y = (torch.from_numpy(rng.normal(0, 0.4, (2 * clips, 3))).to(dtype) for _ in range(2))
    return x, y, codes


def literal(x, y, video_codes, audio_codes, apart, margin, hard_share):
    """Pairs one by one: a moment's mean over each kind, then the mean over moments."""
    in_sync, out = [], []
    for f, (clip, start) in zip(x.tolist(), video_codes.tolist(), strict=True):
        own, easy, hard = [], [], []
        for g, (other, at) in zip(y.tolist(), audio_codes.tolist(), strict=True):
            d = math.dist(f, g)
            if clip == other and start == at:
                own.append(d**2)
            elif clip != other:
                easy.append(max(margin - d, 0) ** 2)
            elif abs(start - at) >= apart:
                hard.append(max(margin - d, 0) ** 2)
        if own:
            in_sync.append(np.mean(own))
        if easy and hard:
            out.append((1 - hard_share) * np.mean(easy) + hard_share * np.mean(hard))
        elif (easy and hard_share < 1) or (hard and hard_share > 0):
            out.append(np.mean(easy or hard))
    return 0.5 * ((np.mean(in_sync) if in_sync else 0) + (np.mean(out) if out else 0))


@pytest.mark.parametrize("hard_share", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("clips", [1, 2, 5])
def test_the_loss_is_that_of_a_loop(clips, hard_share):
    x, y, codes = batch(clips)
    loss, parts = avts_loss(x, y, codes, codes, apart=6, margin=0.99, hard_share=hard_share)
    assert loss.item() == pytest.approx(literal(x, y, codes, codes, 6, 0.99, hard_share), rel=1e-12)
    assert all(torch.isfinite(p) for p in parts.values())
    # Moments of the two streams need not come in pairs, or in one order.
    mixed = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))[: len(y) - 1]
    loss, _ = avts_loss(x, y[mixed], codes, codes[mixed], apart=6, margin=0.99, hard_share=hard_share)
    assert loss.item() == pytest.approx(literal(x, y[mixed], codes, codes[mixed], 6, 0.99, hard_share), rel=1e-12)


def test_four_moments_by_hand():
    codes = torch.tensor([[1, 0], [1, 100], [2, 0]])
    x, y = torch.tensor([[0.0], [3.0], [0.5]]), torch.tensor([[0.0], [3.0], [0.0]])
    # In sync: 0, 0, 0.25. Easy: (margin 1) of the first the third sound: 1; of the second: 0; of the third: 0.25 and 0.
    loss, parts = avts_loss(x, y, codes, codes, apart=50, margin=1.0, hard_share=0.0)
    assert loss.item() == pytest.approx((0.25 / 3 + (1 + 0 + 0.125) / 3) / 2)
    assert parts["distance/in-sync"].item() == pytest.approx(0.5 / 3)
    assert parts["distance/hard"].item() == 3.0
    # Own against other clips' sounds: the first is as near to both, the third is nearer to another's than is fair.
    assert parts["accuracy/easy"].item() == pytest.approx(1 / 4 + 1 / 4)
    assert parts["accuracy/hard"].item() == 1.0
    loss, _ = avts_loss(x, y, codes, codes, apart=50, margin=4.0, hard_share=1.0)
    # Hard: of the first the second's sound, 3 away, and the other way round; the third has none, and takes easy ones.
    assert loss.item() == pytest.approx((0.25 / 3 + (1 + 1) / 2) / 2)


def test_gradients_are_those_of_the_loss_and_finite_where_embeddings_are_equal():
    x, y, codes = batch(3)
    x, y = x.requires_grad_(), y.requires_grad_()

    def loss(a, b):
        return avts_loss(a, b, codes, codes, apart=6, margin=0.99, hard_share=0.25)[0]

    assert torch.autograd.gradcheck(loss, (x, y))
    equal = torch.zeros(6, 3, requires_grad=True)
    loss(equal, torch.zeros(6, 3)).backward()
    assert torch.isfinite(equal.grad).all()


def test_without_a_pair_there_is_no_loss_and_a_gradient_of_zero():
    x = torch.randn(2, 3, requires_grad=True)
    codes = torch.tensor([[1, 0], [1, 2]])
    loss, parts = avts_loss(x, torch.randn(1, 3), codes, torch.tensor([[1, 4]]), apart=9, margin=1.0, hard_share=0.5)
    loss.backward()
    assert (loss.item(), parts, x.grad.abs().sum().item()) == (0.0, {}, 0.0)
    loss, parts = avts_loss(x, x[:0], codes, codes[:0], apart=9, margin=1.0, hard_share=0.5)
    assert (loss.item(), parts) == (0.0, {})


# ---------------------------------------------------------------- the method


def test_hard_negatives_come_after_the_easy_epochs():
    method = AVTS(replace(TINY, avts=replace(TINY.avts, easy_share=50 / 90)))
    found = []
    for epoch in range(90):
        method.begin_epoch(epoch, 90)
        found.append(method.hard_share)
    assert found == [0.0] * 50 + [0.25] * 40


def test_every_weight_learns():
    method = AVTS(TINY)
    views = [v for i in range(3) for v in method.spec.views(f"v{i}", 0, Span(0, 900, 30.0), np.random.default_rng(i))]
    targets = {m: torch.tensor([v.codes for v in views if v.modality == m]) for m in ("video", "audio")}
    inputs = {"video": torch.randn(6, 3, 4, 32, 32), "audio": torch.randn(6, 1, 16, 20)}
    method.begin_epoch(9, 10)
    output = method(inputs, targets)
    output.loss.backward()
    assert [n for n, p in method.named_parameters() if p.grad is None or not p.grad.abs().sum()] == []
    assert set(output.parts) == {f"distance/{k}" for k in ("in-sync", "easy", "hard")} | {
        "accuracy/easy", "accuracy/hard"
    }  # fmt: skip


def test_settings_and_recipes():
    with pytest.raises(UsageError, match="avts has none"):
        replace(TINY, final=FinalConfig()).check()
    for wrong in ("margin=0", "easy_share=1.5", "hard_share=-1", "gap_seconds=-1", "dimensions=0"):
        with pytest.raises(UsageError):
            make_config(method="avts", settings=[f"avts.{wrong}"])
    assert recipe("small", "avts").recipe == "small-avts"
    paper = recipe("avts-kinetics")
    paper.check()
    assert (paper.optim.epochs, round(paper.avts.easy_share * paper.optim.epochs)) == (90, 50)
    assert (paper.avts.margin, paper.avts.hard_share, paper.avts.gap_seconds) == (0.99, 0.25, 0.5)


@pytest.fixture(scope="module")
def flickering(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 videos of 6 s of one colour each, bright and loud or dark and hushed by thirds of a second at random."""
    folder = tmp_path_factory.mktemp("flickering")
    rng = np.random.default_rng(0)
    for v in range(20):
        colour, pitch = rng.integers(60, 250, 3), 200 + 60 * v
        on = np.repeat(rng.integers(0, 2, 6), 8)  # a second each, 8 frames a second
        frames = [np.full((48, 64, 3), colour * (1.0 if b else 0.2), np.uint8) for b in on]
        time = np.arange(6 * 8000) / 8000
        wave = np.repeat(np.where(on, 0.5, 0.02), 1000) * np.sin(2 * math.pi * pitch * time)
        make_video(
            folder / f"{v:02d}.mp4", seconds=6, fps=8, frames=frames, wave=wave[None].astype(np.float32), rate=8000,
            codec="mpeg4", gop=8,
        )  # fmt: skip
    return folder


def test_what_is_in_sync_comes_closer_than_what_is_not(flickering, tmp_path):
    settings = [*TINY_SETTINGS, "rounds=1", "optim.epochs=16", "optim.clips_per_epoch=80", "optim.base_lr=0.2",
                "avts.dimensions=16", "avts.gap_seconds=0.0", "avts.hard_share=0.5"]  # fmt: skip
    seehear.pretrain(flickering, tmp_path / "run", method="avts", settings=settings, quiet=True)
    epochs = [r for r in read_metrics(tmp_path / "run" / "metrics.jsonl") if r["kind"] == "epoch"]
    first, last = epochs[0], epochs[-1]
    assert first["accuracy/easy"] < 0.6
    assert last["distance/in-sync"] < 0.8 * last["distance/hard"] < 0.8 * last["distance/easy"]
    # In videos that are held out, too.
    assert last["validation_distance/in-sync"] < 0.8 * last["validation_distance/easy"]
    assert min(last["accuracy/easy"], last["accuracy/hard"]) > 0.65
    assert last["validation_accuracy/easy"] > 0.55  # of few clips
    assert seehear.label(tmp_path / "run", modality="both").num_rows == 20


# ---------------------------------------------------------------- several processes


class Plain(nn.Module):
    """In the place of an encoder: no batch normalisation, which each process would do by itself."""

    feature_dim = 8

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


def plain_step():
    method = AVTS(TINY)
    torch.manual_seed(0)
    for name in ("video", "audio"):
        method.encoders[name], method.heads[name] = Plain(), nn.Linear(8, 8)
    method.begin_epoch(9, 10)
    views = [v for i in range(4) for v in method.spec.views(f"v{i}", 0, Span(0, 90, 30.0), np.random.default_rng(i))]
    targets = {m: torch.tensor([v.codes for v in views if v.modality == m]) for m in ("video", "audio")}
    return method, {m: torch.randn(8, 5) * 0.3 for m in targets}, targets


def _process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init(rank, 2, init_method=f"file://{folder}/meet")
    method, inputs, targets = plain_step()
    mine = slice(0, 6) if rank == 0 else slice(6, None)  # three clips here, one there
    wrapped = dist.average_gradients(method, "cpu")
    output = wrapped({n: x[mine] for n, x in inputs.items()}, {n: x[mine] for n, x in targets.items()})
    output.loss.backward()
    gradients = {n: p.grad for n, p in method.named_parameters()}
    with torch.no_grad():  # a process without a clip, as in validation
        alone = method(inputs, targets) if rank == 0 else method({}, {})
    dist.barrier()
    torch.save((output.loss.detach(), gradients, dict(output.parts), alone.loss), f"{folder}/{rank}.pt")
    dist.shutdown()


def test_two_processes_have_the_loss_and_the_gradients_of_one_with_the_joint_batch(tmp_path):
    torch.multiprocessing.spawn(_process, (str(tmp_path),), nprocs=2)
    method, inputs, targets = plain_step()
    output = method(inputs, targets)
    output.loss.backward()
    assert output.loss.item() > 0.1
    for rank in range(2):
        loss, gradients, parts, alone = torch.load(tmp_path / f"{rank}.pt")
        assert loss.item() == pytest.approx(output.loss.item(), rel=1e-5)
        assert alone.item() == pytest.approx(output.loss.item(), rel=1e-5)
        for name, parameter in method.named_parameters():
            assert torch.allclose(gradients[name], parameter.grad, rtol=1e-4, atol=1e-6), name
        assert parts.keys() == output.parts.keys()
        assert all(float(parts[k]) == pytest.approx(float(output.parts[k]), rel=1e-4) for k in parts)
