"""Encoders of others draw at random when they are tuned: masks, layers, dropout. A resumed run draws the same."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from seehear.encoders import open_encoder
from seehear.errors import Interrupted
from seehear.pretraining.plan import make_config
from seehear.pretraining.run import pretrain
from tests.corpus import make_collection
from tests.encoders.tiny import saved
from tests.pretraining.test_frozen_runs import FAST, stop_at_second_step


def test_a_tuned_run_that_was_stopped_ends_with_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = make_collection(tmp_path / "videos", n=12, classes=4)
    specs = {"video": f"hf:{saved('vjepa2', tmp_path)}", "audio": f"hf:{saved('wav2vec2', tmp_path)}"}
    config = make_config(
        method="xdc", tune_encoders=True, video_encoder=specs["video"], audio_encoder=specs["audio"],
        settings=[*FAST, "rounds=1", "cluster.averaged_clips=1", "optim.batch_size=4", "clip.audio_seconds=0.5"],
    )  # fmt: skip
    whole = pretrain(table, tmp_path / "whole", config, quiet=True)
    stop_at_second_step(monkeypatch)
    with pytest.raises(Interrupted):
        pretrain(table, tmp_path / "stopped", config, quiet=True)
    pretrain(None, tmp_path / "stopped", config, resume=True, quiet=True)
    for modality, spec in specs.items():
        first, second = (
            load_file(tmp_path / run / "model" / "encoders" / modality / "model.safetensors")
            for run in ("whole", "stopped")
        )
        assert all(torch.equal(first[key], second[key]) for key in first)
        started = open_encoder(spec, modality).network.state_dict()  # type: ignore[operator, union-attr]
        assert any(not torch.equal(first[key], started[key]) for key in first), "it was tuned"
    assert pq.read_table(whole / "labels.parquet").equals(pq.read_table(tmp_path / "stopped" / "labels.parquet"))
