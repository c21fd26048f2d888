"""A run's encoder as one of others: it gives what the run itself extracts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from seehear.config import Config
from seehear.data.views import SpectrogramView, Statistics, normalise_frames
from seehear.encoders import open_encoder, read_encoder
from seehear.errors import DataError, UsageError
from seehear.features.model import Model
from seehear.models import build_encoders
from seehear.recipes import recipe


def tiny_run(folder: Path) -> tuple[Model, Config]:
    config = recipe("small", "xdc")
    modalities = {"video": "video", "audio": "audio"}
    statistics = Statistics(spectrogram_mean=-3.0, spectrogram_std=2.5)
    model = Model(config, modalities, build_encoders(config.model, modalities, 7), statistics)
    model.save(folder)
    return model, config


@pytest.mark.parametrize("modality", ["video", "audio"])
def test_features_are_those_of_the_run_and_survive_writing(tmp_path: Path, modality: str) -> None:
    model, config = tiny_run(tmp_path / "model")
    encoder = open_encoder(f"run:{tmp_path / 'model'}", modality)
    rng = np.random.default_rng(0)
    with torch.inference_mode():
        if modality == "video":
            frames = torch.from_numpy(rng.integers(0, 256, (2, 4, 64, 64, 3), dtype=np.uint8))
            expected = model.encoders["video"](normalise_frames(frames, model.statistics))
            given = frames.permute(0, 4, 1, 2, 3) / 255
        else:
            given = torch.from_numpy(rng.uniform(-0.5, 0.5, (2, 48000)).astype(np.float32))
            expected = model.encoders["audio"](SpectrogramView(config, model.statistics)(given, config.augment, None))
        torch.testing.assert_close(encoder(given), expected, rtol=1e-4, atol=1e-5)
        (tmp_path / "kept").mkdir()
        encoder.write(tmp_path / "kept")
        again = read_encoder(tmp_path / "kept")
        assert torch.equal(again(given), encoder(given))
    assert again.content() == encoder.content() and again.wanted == encoder.wanted
    other = open_encoder(f"run:{tmp_path / 'model'}", "audio" if modality == "video" else "video")
    assert other.content() != encoder.content()


def test_what_names_no_encoder_is_said(tmp_path: Path) -> None:
    for spec in ("runs/a", "hub:x", "run:"):
        with pytest.raises(UsageError, match="names no encoder"):
            open_encoder(spec, "video")
    with pytest.raises(DataError, match="holds no trained model"):
        open_encoder(f"run:{tmp_path}", "video")
    tiny_run(tmp_path / "model")
    with pytest.raises(DataError, match="no encoders of text"):
        open_encoder(f"run:{tmp_path / 'model'}", "text")
