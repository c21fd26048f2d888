"""All that a GPU has to prove, in under eight minutes: speeds beside the peak measured, equality with the CPU, waiting.

    benchmarks/on_gpu.sh [--out FILE]                  # finds a Python, installs carried wheels, calls this
    python benchmarks/gpu.py --device cuda             # the same without
    python benchmarks/gpu.py --device cpu --tiny       # a dry run with tiny models, in one process, in a minute

Every check runs by itself, in a process of its own with a time limit: one that fails is named, and the rest goes on.
No network is used; the clips are made on the spot. Prints a table, and writes all that was measured as JSON. `--only
NAME` runs single checks (`CHECKS` below).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from support import machine
from support.steps import (
    BareStep,
    encoder_step,
    make_clips,
    random_inputs,
    seconds_each,
    synchronise,
    train,
)
from torch.utils.flop_counter import FlopCounterMode

import seehear
from seehear.cluster.kmeans import kmeans
from seehear.data.cache import media_cache
from seehear.data.clips import clip_refs, plain_requests, training_requests
from seehear.data.loader import ClipLoader, workers_of
from seehear.data.views import Statistics
from seehear.engine.device import choose_device, use_bfloat16
from seehear.engine.trainer import Trainer
from seehear.features.extract import evaluation, extract
from seehear.features.model import usable_videos
from seehear.media.pool import available_cores
from seehear.methods import build_method
from seehear.models.speed import prepare_encoders
from seehear.pretraining.plan import make_config
from seehear.recipes import small as small_recipe

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "gpu.json"
Row = tuple[str, float, str]
"""What was measured, the number and its unit."""


class Place:
    """Where checks run and on what: the device, the scale of everything, a folder that they share."""

    def __init__(self, device: str, tiny: bool, folder: Path) -> None:

        self.device, self.tiny, self.folder = choose_device(device), tiny, folder
        self.bfloat16 = use_bfloat16(small_recipe(), self.device)
        if self.device.type == "cpu":
            torch.set_num_threads(1)

    def clips(self, side: int) -> Path:
        """Videos of so many pixels on the shorter side, made when they are first asked for."""
        count, seconds = (8, 2.5) if self.tiny else (96, 5.0)
        side = 48 if self.tiny else side
        shape = {"width": side * 4 // 3 // 2 * 2, "height": side, "seconds": seconds, "rate_hz": 30.0}
        return make_clips(self.folder / f"videos_{side}", count, **shape)

    def settings(self, *more: str) -> list[str]:
        """Settings of every training here; in a dry run those that make its models tiny."""
        always = ["rounds=1", "cluster.k=4", "cluster.restarts=1", f"data.cache_folder={self.folder / 'cache'}",
                  f"device={self.device.type}", "data.validation_share=0.15"]  # fmt: skip
        return [*always, *more, *(TINY if self.tiny else ())]


TINY = ("threads=1", "clip.frames=4", "clip.stride=1", "clip.frame_rate_hz=7.5", "clip.short_side_px=36",
        "clip.crop_px=32", "clip.audio_seconds=1.0", "clip.sample_rate_hz=8000", "spectrogram.mel_bins=16",
        "spectrogram.frames=49", "spectrogram.hop_seconds=0.02", "spectrogram.window_seconds=0.04",
        "model.video=r2plus1d_10", "model.video_width=4", "model.video_stem_pool=true", "model.audio=resnet9",
        "model.audio_width=4", "optim.batch_size=3", "optim.epochs=2", "optim.clips_per_epoch=6",
        "optim.warmup_epochs=0", "data.workers=0", "augment.short_side_range_px=null")  # fmt: skip


def clips(place: Place) -> list[Row]:
    """Makes the videos of the other checks, before any process here has a GPU."""
    start = time.perf_counter()
    count = sum(len(list(place.clips(side).iterdir())) for side in (256, 128))
    return [("videos", float(count), ""), ("made in", time.perf_counter() - start, "s")]


def peak(place: Place) -> list[Row]:
    """The fastest matrix product (bfloat16 where there is one) and copy of memory that this device does."""
    n, copied = (256, 2**20) if place.tiny else (8192, 2**30)
    kind = torch.bfloat16 if place.bfloat16 else torch.float32
    a, b = (torch.randn(n, n, device=place.device, dtype=kind) for _ in range(2))
    out, x = torch.empty_like(a), torch.empty(copied, dtype=torch.uint8, device=place.device)
    y = torch.empty_like(x)
    product = seconds_each(lambda: torch.mm(a, b, out=out), place.device, times=50)
    copy = seconds_each(lambda: y.copy_(x), place.device, times=50)
    return [
        ("matrix product", 2 * n**3 / product / 1e12, "TFLOP/s"),
        ("copy, read and write", 2 * copied / copy / 1e9, "GB/s"),
    ]


CLIPS = {"8x224": (8, 224, 32), "30x112": (30, 112, 32), "32x224": (32, 224, 8)}
"""Frames, pixels and clips a step."""


def bare_step(place: Place, shape: str) -> list[Row]:
    """Forward, backward and SGD of R(2+1)D-18 on input that lies on the device, in each form of the encoder."""
    frames, pixels, batch = CLIPS[shape]
    best, flop, rows = peak(place)[0][1], 0, []
    for form, execution, compiled in (("plain", "plain", False), ("fast", "fast", False), ("compiled", "fast", True)):
        if compiled and place.tiny:
            continue  # an installation for a CPU may have no compiler
        config = make_config(recipe="xdc-kinetics", settings=[
            f"clip.frames={frames}", f"clip.crop_px={pixels}", f"optim.batch_size={batch}",
            *(TINY if place.tiny else ()), f"model.execution={execution}",
        ])  # fmt: skip
        step = encoder_step(config, place.device, bfloat16=place.bfloat16, compiled=compiled)
        if form == "plain":
            with FlopCounterMode(display=False) as counter:
                step()
            flop = counter.get_total_flops()
        start = time.perf_counter()
        for _ in range(3):
            step()
        synchronise(place.device)
        first = time.perf_counter() - start
        seconds = seconds_each(step, place.device, times=5 if place.tiny else 25, warm_up=2)
        rows += [(form, config.optim.batch_size / seconds, "clips/s"),
                 (f"{form}: share of the matrix product", flop / seconds / 1e12 / best, "")]  # fmt: skip
        if compiled:
            rows.append((f"{form}: first three steps", first, "s"))
    return rows


def trainer(place: Place) -> list[Row]:
    """The trainer of xdc-kinetics, from decoded clips, beside the bare step of the same method."""
    settings = place.settings("optim.epochs=3", "optim.clips_per_epoch=1600", "data.cache_gib=8")
    config = make_config(recipe="xdc-kinetics", settings=settings)
    bare = BareStep(config, place.device, bfloat16=place.bfloat16)
    prepare_encoders(dict(bare.method.encoders.items()), place.device, compile=config.compile, say=lambda text: None)
    step = seconds_each(bare, place.device, times=5 if place.tiny else 25)
    del bare
    trained = train(place.clips(256), place.folder / "trainer", "xdc-kinetics", settings)
    prepare = next(r for r in trained["records"] if r["kind"] == "prepare")
    rounds = [r for r in trained["records"] if r["kind"] == "round"]
    size = trained["batch_size"]
    return [
        ("bare step", size / step, "clips/s"),
        ("trainer", size / trained["seconds_a_step"], "clips/s"),
        ("trainer / bare step", step / trained["seconds_a_step"], ""),
        ("waiting for decoded clips", trained["waiting_share"], ""),
        ("statistics of the collection", prepare["seconds_statistics"], "s"),
        ("clustering", rounds[0]["seconds_cluster"], "s"),
    ]


def waiting(place: Place) -> list[Row]:
    """Share of an epoch spent waiting for clips that are decoded anew each time, 30x112 from files of 128 pixels."""
    settings = place.settings(
        "optim.epochs=3", "optim.clips_per_epoch=1600", "data.cache_gib=0", "clip.frames=30", "clip.crop_px=112",
        "clip.short_side_px=128",
    )  # fmt: skip
    trained = train(place.clips(128), place.folder / "waiting", "xdc-kinetics", settings)
    return [("cores", float(available_cores()), ""),
            ("trainer from files", trained["batch_size"] / trained["seconds_a_step"], "clips/s"),
            ("waiting for files", trained["waiting_share"], "")]  # fmt: skip


@contextlib.contextmanager
def waits_counted() -> Iterator[dict[str, int]]:
    """Counts, by the line that does it, what waits for a GPU in the steps of trainings within the block.

    PyTorch itself watches for it. On a CPU nothing is found, as nothing could wait.
    """
    counts: dict[str, int] = {"steps": 0}
    take_step = Trainer.take_step

    def watched(self: Trainer, *arguments: Any) -> Any:
        if self.device.type != "cuda":
            return take_step(self, *arguments)
        torch.cuda.set_sync_debug_mode("warn")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                return take_step(self, *arguments)
            finally:
                torch.cuda.set_sync_debug_mode("default")
                counts["steps"] += 1
                for warning in caught:
                    if "synchronizing" in str(warning.message):
                        line = f"{Path(warning.filename).name}:{warning.lineno}"
                        counts[line] = counts.get(line, 0) + 1

    Trainer.take_step = watched  # type: ignore[method-assign]
    try:
        yield counts
    finally:
        Trainer.take_step = take_step  # type: ignore[method-assign]


def waits(place: Place) -> list[Row]:
    """How often a step waits for the device, by method and line. Compiled encoders are left to `trainer`."""
    rows = []
    for method, recipe in (("xdc", "small"), ("gdt", "small-gdt"), ("selavi", "small-selavi")):
        settings = place.settings(
            "optim.epochs=2", "optim.clips_per_epoch=160", "selavi.clusterings=2", "compile=false"
        )
        with waits_counted() as counts:
            train(place.clips(128), place.folder / f"waits_{method}", recipe, settings, method)
        steps = max(counts.pop("steps"), 1)
        rows.append((f"{method}: waits a step", sum(counts.values()) / steps, ""))
        rows += [(f"{method}: at {line}", count / steps, "") for line, count in counts.items()]
    return rows


def small(place: Place) -> list[Row]:
    """Milliseconds of a step of the small recipes, by method."""
    rows = []
    for method, recipe in (("xdc", "small"), ("gdt", "small-gdt"), ("selavi", "small-selavi")):
        settings = place.settings(
            "optim.epochs=4", "optim.clips_per_epoch=960", "optim.warmup_epochs=1", "data.cache_gib=4",
            "selavi.clusterings=2", "data.validation_share=0",
        )  # fmt: skip
        trained = train(place.clips(128), place.folder / f"small_{method}", recipe, settings, method)
        rows += [(f"{method}, {trained['batch_size']} clips", 1000 * trained["seconds_a_step"], "ms"),
                 (f"{method}: waiting for clips", trained["waiting_share"], "")]  # fmt: skip
    return rows


def views(place: Place) -> list[Row]:
    """Inputs made on the device beside the CPU's: how far apart, and the seconds of a batch of each."""
    videos = usable_videos(seehear.scan(place.clips(256), workers=None if not place.tiny else 0), ("video", "audio"))
    statistics, rows = Statistics(spectrogram_mean=-4, spectrogram_std=3), []
    for recipe, more in (("xdc-kinetics", ("augment.colour_jitter=0.4",)), ("gdt-kinetics", ()), ("gdt-release", ())):
        settings = [*more, *(TINY[:-1] if place.tiny else ())]
        if place.tiny and recipe != "xdc-kinetics":
            settings.append("augment.short_side_range_px=[32,40]")
        config = make_config(method="xdc", recipe=recipe, settings=settings)
        made = []
        for on_device in (False, True):
            with ClipLoader(
                videos, config, {"video": "video", "audio": "audio"}, statistics,
                workers=0, cache=None, device=place.device, device_views=on_device,
            ) as loader:  # fmt: skip
                refs = clip_refs(videos, config.cluster)[: config.optim.batch_size]
                order = np.arange(len(refs))
                requests = training_requests(refs, order, loader.videos, config.clip, config.augment, (0, 0))
                (batch,) = loader.batches(requests, len(requests))
                loader.to_inputs(batch, place.device)  # what is kept on the device is made
                synchronise(place.device)
                start = time.perf_counter()
                inputs = loader.to_inputs(batch, place.device).inputs
                synchronise(place.device)
                made.append((inputs, time.perf_counter() - start))
        (cpu, _), (device, seconds) = made
        level = 255 * config_std(config)
        rows += [
            (f"{recipe}: frames", float((cpu["video"] - device["video"]).abs().max()) * level, "of 255 levels"),
            (f"{recipe}: spectrograms", float((cpu["audio"] - device["audio"]).abs().max()), "deviations"),
            (f"{recipe}: a batch of {len(refs)} made on the device", 1000 * seconds, "ms"),
        ]
    if any(value > (1.01 if unit == "of 255 levels" else 1e-3) for _, value, unit in rows if unit != "ms"):
        raise AssertionError(f"the device makes other inputs than the CPU: {rows}")
    return rows


def config_std(config: Any) -> float:
    """The deviation of pixels that a configuration states, or that of Kinetics, of the first channel."""
    return Statistics.stated(config).pixel_std[0]


def extraction(place: Place) -> list[Row]:
    """Features of decoded clips beside the forward pass of the encoders on input that lies on the device."""
    config = make_config(recipe="xdc-kinetics", settings=place.settings("data.cache_gib=8"))
    method = build_method(config, None).to(place.device)
    encoders = dict(method.encoders.items())
    prepare_encoders(encoders, place.device, compile=False, say=lambda text: None)
    inputs = random_inputs(config, method, place.device)

    def forward() -> None:
        for name, encoder in encoders.items():
            encoder(inputs[name])

    with evaluation(encoders), torch.autocast(place.device.type, torch.bfloat16, enabled=place.bfloat16):
        alone = config.optim.batch_size / seconds_each(forward, place.device, times=5 if place.tiny else 50)
    videos = usable_videos(seehear.scan(place.clips(256), workers=None if not place.tiny else 0), ("video", "audio"))
    found = []
    with ClipLoader(
        videos, config, method.modalities, Statistics(), workers=workers_of(config), cache=media_cache(config),
        device=place.device,
    ) as loader:  # fmt: skip
        loader.fill_cache()
        requests = plain_requests(
            clip_refs(videos, config.cluster), loader.videos, config.clip, 2 if place.tiny else 20
        )
        for _ in range(2):
            start = time.perf_counter()
            bank = extract(
                encoders, loader, requests, device=place.device, bfloat16=place.bfloat16,
                batch_size=config.optim.batch_size,
            )  # fmt: skip
            found.append(len(requests) / (time.perf_counter() - start))
    assert len(bank) == len(videos)
    return [("forward pass alone", alone, "clips/s"), ("extraction", found[-1], "clips/s"),
            ("extraction / forward pass", found[-1] / alone, "")]  # fmt: skip


def clustering(place: Place) -> list[Row]:
    """k-means on the device: 500 000 features of 512 dimensions, 1024 clusters, 20 iterations."""
    n, d, k = (2000, 16, 8) if place.tiny else (500_000, 512, 1024)
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(0))
    on_device = x.to(place.device)
    kmeans(on_device, k, iterations=2)
    synchronise(place.device)
    start = time.perf_counter()
    found = kmeans(on_device, k, init="random", iterations=20)
    synchronise(place.device)
    seconds = time.perf_counter() - start
    few = x[: 20 * k]
    same = [kmeans(few, k, init=few[:k], iterations=3, device=where) for where in ("cpu", place.device)]
    apart = abs(same[0].objective - same[1].objective) / same[0].objective
    assert apart < 1e-3, f"k-means on the device ends elsewhere than on the CPU: {apart:.1e} of the objective"
    return [("k-means", seconds, "s"), ("k-means", 2 * n * d * k * (found.iterations + 1) / seconds / 1e12, "TFLOP/s"),
            ("objective, CPU to device", apart, "relatively")]  # fmt: skip


def recompiling(place: Place) -> list[Row]:
    """Graphs that are compiled after the first epoch of a run with validation: there may be none."""
    import torch._dynamo.utils as dynamo  # which takes seconds to import

    compiled: list[int] = []
    validate = Trainer.validate

    def counted(self: Any, *arguments: Any) -> Any:
        found = validate(self, *arguments)
        compiled.append(int(dynamo.counters["stats"]["unique_graphs"]))
        return found

    Trainer.validate = counted  # type: ignore[method-assign]
    compile_it = "false" if place.tiny else "true"
    # 96 videos, some held out: 15 % is no whole batch, so that validation ends with a smaller one.
    settings = place.settings("optim.epochs=3", "optim.clips_per_epoch=160", "data.cache_gib=8", "rounds=2",
                              f"compile={compile_it}")  # fmt: skip
    train(place.clips(256), place.folder / "recompiling", "xdc-kinetics", settings)
    if len(set(compiled)) != 1:
        raise AssertionError(f"graphs compiled by the end of each epoch: {compiled}")
    return [("graphs compiled in the first epoch", float(compiled[0]), ""),
            ("graphs compiled later", float(compiled[-1] - compiled[0]), "")]  # fmt: skip


CHECKS: dict[str, tuple[Callable[[Place], list[Row]], int]] = {
    "clips": (clips, 60),
    "peak": (peak, 30),
    "bare_8x224": (partial(bare_step, shape="8x224"), 100),
    "trainer": (trainer, 120),
    "small": (small, 60),
    "views": (views, 40),
    "extraction": (extraction, 50),
    "clustering": (clustering, 30),
    "recompiling": (recompiling, 90),
    "waiting": (waiting, 60),
    "waits": (waits, 60),
    "bare_30x112": (partial(bare_step, shape="30x112"), 100),
    "bare_32x224": (partial(bare_step, shape="32x224"), 100),
}
"""The checks in their order, with the seconds that each may take; together no more than `BUDGET_SECONDS` are spent."""
BUDGET_SECONDS = 460


def here(name: str, place: Place) -> dict[str, Any]:
    """Run one check in this process."""
    start = time.monotonic()
    try:
        found: dict[str, Any] = {"rows": CHECKS[name][0](place)}
    except Exception as error:  # noqa: BLE001 - named in the table; the other checks go on
        found = {"failed": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}
    return {**found, "seconds": time.monotonic() - start}


def apart(name: str, arguments: argparse.Namespace, folder: Path, limit: float) -> dict[str, Any]:
    """Run one check in a process of its own, for so many seconds at most."""
    out = folder / f"{name}.json"
    command = [sys.executable, __file__, "--one", name, "--device", arguments.device, "--work", str(folder)]
    start = time.monotonic()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, cwd=ROOT)
        if out.exists():
            return dict(json.loads(out.read_text()))
        failed = f"ended with {done.returncode}: {done.stderr[-2000:]}"
    except subprocess.TimeoutExpired:
        failed = f"not done after {limit:.0f} s"
    return {"failed": failed, "seconds": time.monotonic() - start}


def table(found: dict[str, dict[str, Any]]) -> str:
    """All checks and what they found, as text."""
    lines = []
    for name, result in found.items():
        lines.append(f"{name} ({result['seconds']:.0f} s)" + (": FAILED" if "failed" in result else ""))
        lines += [f"    {what:<55} {value:>12.4g} {unit}" for what, value, unit in result.get("rows", ())]
        lines += [f"    {line}" for line in result.get("failed", "").splitlines()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", help="cuda, or cpu with --tiny; nothing is measured without")
    parser.add_argument("--tiny", action="store_true", help="tiny models and clips, all in one process")
    parser.add_argument("--only", action="append", choices=list(CHECKS), help="a check to run; may be repeated")
    parser.add_argument("--out", type=Path, help="JSON of all that was measured")
    parser.add_argument("--one", choices=list(CHECKS), help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.device is None:
        print("gpu.py measures a GPU: benchmarks/on_gpu.sh; a dry run: gpu.py --device cpu --tiny")
        return
    if arguments.one:
        result = here(arguments.one, Place(arguments.device, arguments.tiny, arguments.work))
        (arguments.work / f"{arguments.one}.json").write_text(json.dumps(result))
        return
    with tempfile.TemporaryDirectory() as name:
        found = run_all(arguments, Path(name))
    print(table(found))
    if arguments.out is not None:
        gpu = torch.cuda.get_device_name() if arguments.device != "cpu" else None
        result = {"measured": datetime.now(UTC).isoformat(timespec="seconds"), "tiny": arguments.tiny,
                  "machine": {**machine(), "gpu": gpu, "cuda": torch.version.cuda}, "checks": found}  # fmt: skip
        arguments.out.parent.mkdir(exist_ok=True)
        arguments.out.write_text(json.dumps(result, indent=1))
    sys.exit(any("failed" in result for result in found.values()))


def run_all(arguments: argparse.Namespace, folder: Path) -> dict[str, dict[str, Any]]:
    """Every check that is asked for, while there is time."""
    deadline, found = time.monotonic() + BUDGET_SECONDS, {}
    place = Place(arguments.device, True, folder) if arguments.tiny else None
    for name in arguments.only or CHECKS:
        left = deadline - time.monotonic()
        if left < 15:
            found[name] = {"failed": "no time was left for it: run it with --only", "seconds": 0.0}
        elif place is not None:
            found[name] = here(name, place)
        else:
            found[name] = apart(name, arguments, folder, min(left, CHECKS[name][1]))
        print(
            f"{name}: {'FAILED' if 'failed' in found[name] else 'done'} in {found[name]['seconds']:.0f} s", flush=True
        )
    return found


if __name__ == "__main__":
    main()
