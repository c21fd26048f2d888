"""What tests share: a small collection of videos with classes, and settings that train on it in seconds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.corpus import make_collection

# Two busy cores: more threads than one only get in each other's way, and a fixed number makes runs repeatable.
os.environ.setdefault("OMP_NUM_THREADS", "1")

TINY_SETTINGS = (
    "threads=1",
    "rounds=2",
    "log_steps=1",
    "optim.least_clips_per_epoch=0",
    "clip.frames=4",
    "clip.stride=1",
    "clip.frame_rate_hz=7.5",
    "clip.short_side_px=36",
    "clip.crop_px=32",
    "clip.audio_seconds=1.0",
    "clip.sample_rate_hz=8000",
    "spectrogram.mel_bins=16",
    "spectrogram.frames=50",
    "spectrogram.hop_seconds=0.02",
    "spectrogram.window_seconds=0.04",
    "model.video=r2plus1d_10",
    "model.video_width=4",
    "model.video_stem_stride=2",
    "model.video_stem_pool=true",
    "model.audio=resnet9",
    "model.audio_width=4",
    "cluster.k=4",
    "cluster.restarts=2",
    "cluster.averaged_clips=1",
    "optim.schedule=one-cycle",
    "optim.base_lr=0.1",
    "optim.batch_size=8",
    "optim.epochs=3",
    "optim.warmup_epochs=1",
    "data.validation_share=0.15",
    "data.workers=0",
)


@pytest.fixture(scope="session")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 videos of 4 classes; the path of their labels.csv (path, label, split)."""
    return make_collection(tmp_path_factory.mktemp("collection"), n=24, classes=4)


@pytest.fixture(scope="session", autouse=True)
def media_cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keep the cache of decoded media out of the user's home."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["XDG_CACHE_HOME"] = str(folder)
    return folder / "seehear" / "media"


@pytest.fixture(scope="session")
def finished_run(collection: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished XDC run on the collection."""
    import seehear

    out = tmp_path_factory.mktemp("runs") / "xdc"
    seehear.pretrain(collection, out, method="xdc", settings=TINY_SETTINGS, quiet=True)
    return out
