"""A step of the trainer beside the bare step, and the loader beside both, on a CPU (or the device there is).

    python benchmarks/trainer.py [--recipe small] [--rounds 5] [--out benchmarks/results/trainer.json]

Three contestants take their turns: `bare`, a step of XDC on inputs that lie ready; `trainer`, a step of a run, from
videos decoded in the media cache, with views, labels, means and log; `loader`, the same batches made and thrown away.
On a CPU all are CPU seconds of the process, which other work does not slow; a round's ratio is that of its own times.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from support import machine, ratio
from support.steps import BareStep, clock_of, make_clips, seconds_each, train

import seehear
from seehear.data.cache import media_cache
from seehear.data.clips import clip_refs, training_requests
from seehear.data.loader import ClipLoader, workers_of
from seehear.data.views import Statistics
from seehear.engine.device import choose_device, use_bfloat16
from seehear.features.model import usable_videos
from seehear.pretraining.plan import make_config

RESULTS = Path(__file__).parent / "results" / "trainer.json"


def loader_seconds(source: Path, config: Any, device: torch.device, epochs: int) -> float:
    """Seconds in which the loader makes a batch and moves it, from the media cache that a run has filled."""
    videos = usable_videos(seehear.scan(source, workers=0), ("video", "audio"))
    views = {"video": "video", "audio": "audio"}
    size = config.optim.batch_size
    with ClipLoader(
        videos, config, views, Statistics(), workers=workers_of(config), cache=media_cache(config), device=device
    ) as loader:
        refs = clip_refs(videos, config.cluster)
        order = [i % len(refs) for i in range(epochs * len(refs) // size * size)]
        requests = training_requests(refs, order, loader.videos, config.clip, config.augment, (0, 0, 0))
        clock = clock_of(device)
        start = clock()
        batches = sum(1 for batch in loader.batches(requests, size) if loader.to_inputs(batch, device))
        return (clock() - start) / batches


def measure(folder: Path, recipe: str, rounds: int, clips: int, settings: list[str]) -> dict[str, Any]:
    """Seconds a step of each contestant, by round, and the medians of their ratios to the bare step."""
    settings = [*settings, "rounds=1", "cluster.k=8", "cluster.restarts=1", "optim.epochs=4", "optim.warmup_epochs=1",
                "data.validation_share=0",
                "data.cache_gib=4", f"data.cache_folder={folder / 'cache'}", "data.workers=1", "threads=1"]  # fmt: skip
    config = make_config(method="xdc", recipe=recipe, settings=settings)
    side = config.clip.short_side_px
    source = make_clips(folder / "videos", clips, width=side * 4 // 3 // 2 * 2, height=side, seconds=4, rate_hz=30)
    device = choose_device(config.device)
    bare = BareStep(config, device, bfloat16=use_bfloat16(config, device))
    found: dict[str, list[float]] = {"bare": [], "trainer": [], "loader": []}
    for number in range(rounds):
        found["bare"].append(seconds_each(bare, device, times=10, warm_up=2))
        trained = train(source, folder / f"run{number}", recipe, settings, method="xdc")
        found["trainer"].append(trained["seconds_a_step"])
        found["loader"].append(loader_seconds(source, config, device, 3))
        found["bare"][-1] = (found["bare"][-1] + seconds_each(bare, device, times=10, warm_up=0)) / 2
    ratios = {
        name: statistics.median(x / b for x, b in zip(found[name], found["bare"], strict=True))
        for name in ("trainer", "loader")
    }
    return {"seconds_a_step": found, "ratio_to_bare_step": ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="small")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    before = machine()
    with tempfile.TemporaryDirectory() as name:
        measured = measure(Path(name), arguments.recipe, arguments.rounds, arguments.clips, arguments.settings)
    if arguments.out is not None:
        result = {"measured": datetime.now(UTC).isoformat(timespec="seconds"), "recipe": arguments.recipe,
                  "machine": before, **measured}  # fmt: skip
        arguments.out.write_text(json.dumps(result, indent=1))
    trainer, loader = (measured["ratio_to_bare_step"][name] for name in ("trainer", "loader"))
    ratio(f"a step of the trainer, {arguments.recipe}", trainer, "its loader included, over the bare step")
    ratio(f"loader, {arguments.recipe}", loader, "over the bare step")


if __name__ == "__main__":
    main()
