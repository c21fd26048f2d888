"""CPU seconds of the preprocessing of encoders of others, beside the library's own feature extractors.

Sound: batches of clips made by `seehear.encoders.sounds` and by `transformers`' extractors in turns, on one thread, so
that a busy machine slows both alike; ratios are those of median CPU seconds. Frames: what normalising costs a clip that
was decoded at the network's size, and what scaling costs one that was not. `--processors` takes the library's
processors over torchvision into the race, which needs a torchvision that loads.

    python benchmarks/preprocessing.py
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from support import machine

from seehear.encoders.pixels import read_pixels
from seehear.encoders.sounds import read_sound

RESULTS = Path(__file__).parent / "results" / "preprocessing.json"
BATCH = 8
# The extractor, its settings, and the seconds of a clip.
SOUNDS: list[tuple[str, dict[str, Any], float]] = [
    ("ASTFeatureExtractor", {}, 2.0),
    ("ASTFeatureExtractor", {}, 10.0),
    ("ClapFeatureExtractor", {"truncation": "rand_trunc"}, 2.0),
    ("ClapFeatureExtractor", {}, 10.0),
    ("Wav2Vec2FeatureExtractor", {}, 10.0),
]


def race(contestants: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median CPU seconds of each, taken in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for work in contestants.values():
        work()
    for _ in range(repeats):
        for name, work in contestants.items():
            before = time.process_time()
            work()
            seconds[name].append(time.process_time() - before)
    return {name: statistics.median(found) for name, found in seconds.items()}


def sounds(repeats: int) -> list[dict[str, Any]]:
    told = []
    for kind, settings, length in SOUNDS:
        extractor = getattr(transformers, kind)(**settings)
        rate = extractor.sampling_rate
        x = torch.rand(BATCH, round(length * rate), generator=torch.Generator().manual_seed(0)) - 0.5
        clips = list(x.numpy())
        made = read_sound({**settings, "feature_extractor_type": kind}, kind)
        found = race(
            {
                "ours": lambda made=made, x=x: made(x),
                "library": lambda e=extractor, c=clips, r=rate: e(c, sampling_rate=r, return_tensors="np"),
            },
            repeats,
        )
        told.append(
            {
                "extractor": kind, **settings, "seconds_of_sound": length,
                "clips_per_cpu_second": {name: BATCH / seconds for name, seconds in found.items()},
                "ratio": found["library"] / found["ours"],
            }
        )  # fmt: skip
    return told


def frames(repeats: int, with_processors: bool) -> list[dict[str, Any]]:
    told = []
    for kind, count in (("CLIPImageProcessor", 4), ("VideoMAEImageProcessor", 16)):
        pixels = read_pixels({"image_processor_type": kind}, kind)
        for size in ((224, 224), (240, 320)):
            rng = np.random.default_rng(0)
            clip = rng.integers(0, 256, (count, *size, 3), dtype=np.uint8)
            x = (torch.from_numpy(clip).permute(3, 0, 1, 2) / 255)[None]
            contestants: dict[str, Callable[[], Any]] = {"ours": lambda pixels=pixels, x=x: pixels(x)}
            if with_processors:
                processor = getattr(transformers, kind)()
                contestants["library"] = lambda p=processor, c=clip: p(list(c), return_tensors="pt")
            found = race(contestants, repeats)
            rates = {name: 1 / seconds for name, seconds in found.items()}
            told.append({"processor": kind, "frames": count, "size": size, "clips_per_cpu_second": rates})
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--processors", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    results = {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "note": "a virtual machine shared with other work: ratios within one run count, seconds vary",
        "settings": {**vars(given), "batch": BATCH, "threads": 1},
        "machine": machine(numpy=np.__version__, transformers=transformers.__version__),
        "sound": sounds(given.repeats),
        "frames": frames(given.repeats, given.processors),
    }
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps({"sound": results["sound"], "frames": results["frames"]}, indent=1))


if __name__ == "__main__":
    main()
