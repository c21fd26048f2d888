"""Steps of training, by the trainer and bare, on clips made for the purpose: what `trainer.py` and `gpu.py` share."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seehear.config import Config
from seehear.engine.device import choose_device
from seehear.engine.optimiser import clip_gradients, make_optimiser, set_rate, step_if_finite
from seehear.engine.runlog import read_metrics
from seehear.engine.schedule import stages
from seehear.media.encoding import Mp4Writer, Picture, Sound
from seehear.methods import build_method
from seehear.methods.base import Method
from seehear.models import build_encoders
from seehear.models.speed import prepare_encoders
from seehear.pretraining.plan import make_config
from seehear.pretraining.run import pretrain


def make_clip(folder: Path, number: int, *, width: int, height: int, seconds: float, rate_hz: float) -> None:
    """One video: a textured ground that drifts below moving noise, and a chord of its own with noise."""
    rng = np.random.default_rng(number)
    frames, samples = round(seconds * rate_hz), round(seconds * 24000)
    ground = rng.integers(0, 256, (height // 8 + 2, width // 8 + 2, 3)).repeat(8, 0).repeat(8, 1)
    pictures = np.empty((frames, height, width, 3), np.uint8)
    for t in range(frames):
        y, x = (int(step * t) % 8 for step in rng.uniform(0.2, 1.5, 2))
        noise = rng.integers(-12, 13, (height, width, 1))
        pictures[t] = np.clip(ground[y : y + height, x : x + width] + noise, 0, 255)
    times = np.arange(samples) / 24000
    wave = sum(np.sin(2 * np.pi * hz * times) for hz in rng.uniform(80, 6000, 3)) / 6 + rng.normal(0, 0.05, samples)
    path = folder / f"{number:04d}.mp4"
    with Mp4Writer(path, Picture(width, height, rate_hz, 23, "veryfast"), Sound(24000, 64000)) as writer:
        writer.add_frames(pictures)
        writer.add_sound(wave.astype(np.float32))


def make_clips(folder: Path, count: int, **shape: Any) -> Path:
    """A folder of `count` videos (`make_clip`), made by as many processes as there are cores, if it is not there."""
    if not folder.exists():
        making = folder.with_name(f"{folder.name}.part")
        making.mkdir(parents=True, exist_ok=True)
        if count <= 16:
            for number in range(count):
                make_clip(making, number, **shape)
        else:
            with ProcessPoolExecutor() as pool:
                list(pool.map(partial(make_clip, making, **shape), range(count)))
        making.rename(folder)
    return folder


def synchronise(device: torch.device) -> None:
    """Wait for all that the device has to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def clock_of(device: torch.device) -> Callable[[], float]:
    """Wall seconds for a GPU; this process's CPU seconds for a CPU, which other work on the machine does not slow."""
    return time.perf_counter if device.type == "cuda" else time.process_time


def seconds_each(step: Callable[[], object], device: torch.device, *, times: int, warm_up: int = 3) -> float:
    """Median over five groups of the mean seconds (`clock_of`) of a call, `times` calls in all; a GPU is waited for."""
    clock = clock_of(device)
    for _ in range(warm_up):
        step()
    group, found = max(1, times // 5), []
    for _ in range(5):
        synchronise(device)
        start = clock()
        for _ in range(group):
            step()
        synchronise(device)
        found.append((clock() - start) / group)
    return statistics.median(found)


def random_inputs(config: Config, method: Method, device: torch.device) -> dict[str, Tensor]:
    """Normalised inputs of a whole batch for each encoder, in the memory order in which the loader gives them."""
    clip, sound, batch = config.clip, config.spectrogram, config.optim.batch_size
    shapes = {
        "video": (batch, clip.frames, clip.crop_px, clip.crop_px, 3),
        "audio": (batch, 1, sound.mel_bins, sound.frames),
    }
    found = {name: torch.randn(shapes[modality], device=device) for name, modality in method.modalities.items()}
    return {name: x.permute(0, 4, 1, 2, 3) if x.ndim == 5 else x for name, x in found.items()}


class BareStep:
    """A step of XDC as the trainer takes it, on inputs that lie on the device: nothing is read, moved or logged."""

    def __init__(self, config: Config, device: torch.device, *, bfloat16: bool) -> None:
        self.config, self.device, self.bfloat16 = config, device, bfloat16
        self.method = build_method(config, None).to(device)
        self.method.start_round(
            dict.fromkeys(("video", "audio"), config.cluster.k), config.optim, torch.Generator().manual_seed(0)
        )
        self.method.train()
        self.optimiser = make_optimiser(self.method.parameter_groups(), config.optim, fused=device.type == "cuda")
        self.inputs = random_inputs(config, self.method, device)
        self.targets = {
            name: torch.randint(config.cluster.k, (config.optim.batch_size,), device=device) for name in self.inputs
        }

    def __call__(self) -> None:
        set_rate(self.optimiser, 1e-4)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            output = self.method(self.inputs, self.targets)
        self.optimiser.zero_grad(set_to_none=True)
        output.loss.backward()
        step_if_finite(self.optimiser, clip_gradients(self.method.parameters(), None))


def encoder_step(config: Config, device: torch.device, *, bfloat16: bool, compiled: bool) -> Callable[[], None]:
    """A step of the video encoder alone under SGD, compiled or not, on input that lies on the device."""
    encoder = build_encoders(config.model, {"video": "video"}, seed=0)["video"].to(device).train()
    prepare_encoders({"video": encoder}, device, compile=compiled, say=lambda text: None)
    optimiser = make_optimiser([{"params": list(encoder.parameters())}], config.optim, fused=device.type == "cuda")
    clip = config.clip
    shape = (config.optim.batch_size, clip.frames, clip.crop_px, clip.crop_px, 3)
    x = torch.randn(shape, device=device).permute(0, 4, 1, 2, 3)

    def step() -> None:
        set_rate(optimiser, 1e-4)
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            loss = encoder(x).float().square().mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        step_if_finite(optimiser, clip_gradients(encoder.parameters(), None))

    return step


def train(source: Path, out: Path, recipe: str, settings: Sequence[str], method: str | None = None) -> dict[str, Any]:
    """Pretrain, and what its epochs took: medians over all but the first of the seconds of a step (`clock_of`) and of
    the share of waiting for data, and all records of the log.

    On a CPU the seconds of a step hold what the loader's thread did for it, and validation if there is any.
    """
    config = make_config(recipe=recipe, method=method, settings=list(settings))
    device = choose_device(config.device)
    ends: list[float] = []

    def after_epoch(record: Any) -> bool:
        synchronise(device)
        ends.append(clock_of(device)())
        return False

    pretrain(source, out, config, quiet=True, after_epoch=after_epoch)
    records = read_metrics(out / "metrics.jsonl")
    size = stages(config)[0].config.optim.batch_size
    steps, waiting = [], []
    for start, end, record in zip(ends, ends[1:], [r for r in records if r["kind"] == "epoch"][1:], strict=False):
        if record["epoch"] > 0:
            spent = record["seconds_data"] + record["seconds_compute"]
            waiting.append(record["seconds_data"] / spent)
            steps.append((spent if device.type == "cuda" else end - start) / (record["clips"] / size))
    return {
        "seconds_a_step": statistics.median(steps),
        "waiting_share": statistics.median(waiting),
        "batch_size": size,
        "records": records,
    }
