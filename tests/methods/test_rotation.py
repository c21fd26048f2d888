"""Rotation prediction: what is seen of a clip, its loss, what it learns, and that it needs no sound."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import seehear
from seehear.config import Config, FinalConfig, ModelConfig
from seehear.data.clips import Video, clip_refs, transformation_requests
from seehear.data.loader import ClipLoader
from seehear.data.views import Statistics
from seehear.engine.runlog import read_metrics
from seehear.errors import UsageError
from seehear.features.model import Model, usable_videos
from seehear.methods import build_method
from seehear.methods.rotation import RotationPrediction
from seehear.pretraining.plan import make_config
from seehear.recipes import recipe
from tests.conftest import TINY_SETTINGS
from tests.corpus import make_video

TINY = Config(method="rotation", model=ModelConfig(video="r2plus1d_10", video_width=4, video_stem_pool=True))


@pytest.fixture(scope="module")
def sunsets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 silent videos that are bright above and dark below."""
    folder = tmp_path_factory.mktemp("sunsets")
    rng = np.random.default_rng(0)
    for v in range(16):
        ramp = np.linspace(rng.uniform(180, 250), rng.uniform(0, 60), 48)[:, None, None] * rng.uniform(0.5, 1, 3)
        frames = [np.broadcast_to(ramp, (48, 64, 3)).astype(np.uint8)] * 16
        make_video(
            folder / f"{v:02d}.mp4", seconds=2, fps=8, frames=frames, codec="mpeg4", gop=8, has_audio=False
        )  # fmt: skip
    return folder


def test_the_four_turns_of_a_clip_reach_the_encoder_with_their_numbers(sunsets):
    settings = [*TINY_SETTINGS, "augment.flip_probability=0", "clip.crop_px=36", "augment.temporal_jitter=false"]
    config = make_config(method="rotation", settings=settings)
    method = build_method(config)
    videos = usable_videos(seehear.scan(sunsets, modality="video", min_seconds=0.5), ("video",))
    assert isinstance(videos[0], Video)
    refs = clip_refs(videos, config.cluster)[:3]
    with ClipLoader(videos, config, method.modalities, Statistics(), workers=0, cache=None) as loader:
        by_id = {v.video_id: v for v in videos}
        requests = transformation_requests(refs, np.arange(3), by_id, config.clip, method.hypotheses, (0,))
        (batch,) = loader.batches(requests, 3)
    turns = batch.codes["video"][:, method.spec.column("rotation")]
    assert turns.tolist() == [0, 1, 2, 3] * 3
    for view, turn in zip(batch.inputs["video"].float(), turns.tolist(), strict=True):
        brightest = [view[:, 0].mean(), view[:, :, 0].mean(), view[:, -1].mean(), view[:, :, -1].mean()]
        assert int(np.argmax(brightest)) == turn  # counter-clockwise: above, left, below, right


def test_the_loss_is_the_mean_cross_entropy_over_rows():
    method = RotationPrediction(TINY)
    method.eval()
    x = torch.randn(8, 3, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    column, count = method.spec.column("rotation"), len(method.spec.factors)
    codes = torch.full((8, count), 77)
    codes[:, column] = torch.tensor([0, 1, 2, 3, 3, 2, 1, 0])
    output = method({"video": x}, {"video": codes})
    with torch.no_grad():
        logits = (method.encoders["video"](x) @ method.head.weight.T + method.head.bias).double().tolist()
    expected = right = 0.0
    for row, turn in zip(logits, codes[:, column].tolist(), strict=True):
        expected += math.log(sum(math.exp(v) for v in row)) - row[turn]
        right += max(range(4), key=row.__getitem__) == turn
    assert output.loss.item() == pytest.approx(expected / 8, rel=1e-5)
    assert output.parts["accuracy/rotation"].item() == right / 8
    method.train()({"video": x}, {"video": codes}).loss.backward()
    assert [n for n, p in method.named_parameters() if p.grad is None or not p.grad.abs().sum()] == []


def test_the_first_weights_depend_on_the_seed_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = RotationPrediction(TINY).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert all(torch.equal(v, one[k]) for k, v in RotationPrediction(TINY).state_dict().items())
    other = RotationPrediction(replace(TINY, seed=1)).state_dict()
    assert not torch.equal(other["head.weight"], one["head.weight"])


def test_up_and_down_are_learnt_from_silent_videos(sunsets, tmp_path):
    settings = [*TINY_SETTINGS, "rounds=1", "optim.epochs=6", "optim.clips_per_epoch=48", "augment.flip_probability=0"]
    seehear.pretrain(sunsets, tmp_path / "run", method="rotation", settings=settings, quiet=True)
    epochs = [r for r in read_metrics(tmp_path / "run" / "metrics.jsonl") if r["kind"] == "epoch"]
    assert epochs[-1]["accuracy/rotation"] > 0.9 > epochs[0]["accuracy/rotation"]
    assert list(Model.load(tmp_path / "run").encoders) == ["video"]
    assert seehear.label(tmp_path / "run", modality="video").num_rows == 16


def test_there_is_no_final_stage_and_a_recipe():
    with pytest.raises(UsageError, match="rotation has none"):
        replace(TINY, final=FinalConfig()).check()
    assert recipe("small", "rotation").recipe == "small-rotation"
