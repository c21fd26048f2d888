"""Feature extraction beside the bare forward pass: what decoding, views and bookkeeping cost on top of the encoders.

    python benchmarks/extraction.py VIDEOS --recipe small
    python benchmarks/extraction.py VIDEOS --recipe gdt-kinetics --videos 3 --clips 4 --rounds 3

Four contestants embed the same clips with the same untrained encoders, by turns, so that a busy machine slows all
alike: `encoders` alone, on inputs that lie ready in memory; `forward`, the whole pass from decoded clips in memory,
that is crop, spectrogram, normalisation and encoders; `cached`, `clip_features` as `seehear evaluate` calls it, of
videos that are decoded in the media cache; `streamed`, the same of videos that are not cached (each is opened once).
Speeds are clips a wall second and clips a second of this process's CPU time, which other work does not slow; the
decoding processes of `streamed` are not in the latter. A round's ratio is that of its own speeds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from support import machine

import seehear
from seehear.data.cache import media_cache
from seehear.data.clips import clip_refs, plain_requests
from seehear.data.loader import ClipLoader, workers_of
from seehear.data.manifest import Manifest
from seehear.data.views import SpectrogramView, Statistics, normalise_frames, video_view
from seehear.features.extract import evaluation
from seehear.features.frozen import Sampling, clip_features
from seehear.features.model import Model, usable_videos
from seehear.models import build_encoders
from seehear.pretraining.plan import make_config

RESULTS = Path(__file__).parent / "results" / "extraction.json"
BOTH = {"video": "video", "audio": "audio"}


def untrained(recipe: str, cache: Path, cache_gib: float) -> Model:
    config = make_config(recipe=recipe)
    config = replace(config, data=replace(config.data, cache_folder=str(cache), cache_gib=cache_gib))
    return Model(config, BOTH, build_encoders(config.model, BOTH, config.seed), Statistics())


Decoded = list[tuple[np.ndarray, np.ndarray]]
"""Frames (T, H, W, 3) uint8 and waveforms (S,) of a batch."""


def decoded_clips(model: Model, manifest: Manifest, clips: int) -> list[Decoded]:
    """All clips in batches; fills the media cache on the way."""
    videos = usable_videos(manifest, tuple(BOTH))
    cache, workers = media_cache(model.config), workers_of(model.config)
    with ClipLoader(videos, model.config, BOTH, model.statistics, workers=workers, cache=cache) as loader:
        loader.fill_cache()
        refs = clip_refs(videos, replace(model.config.cluster, clips_per_video=clips))
        requests = plain_requests(refs, loader.videos, model.config.clip)
        found = [(frames, sound) for _, frames, sound in loader.clips(requests)]
    size = model.config.optim.batch_size
    return [found[i : i + size] for i in range(0, len(found), size)]


def inputs_of(model: Model, spectrogram: SpectrogramView, batch: Decoded) -> dict[str, torch.Tensor]:
    """What the encoders take, from decoded clips."""
    config = model.config
    views = [video_view(frames, config.clip, config.augment, None) for frames, _ in batch]
    sound = torch.from_numpy(np.stack([waveform for _, waveform in batch]))
    return {
        "video": normalise_frames(torch.stack(views), model.statistics),
        "audio": spectrogram(sound, config.augment, None),
    }


def seconds_of(model: Model, batches: Iterable[dict[str, torch.Tensor]]) -> tuple[float, float]:
    """Wall and CPU seconds of the encoders on inputs, and of making these if `batches` makes them."""
    start, cpu = time.perf_counter(), time.process_time()
    with evaluation(model.encoders):
        for inputs in batches:
            for name, encoder in model.encoders.items():
                encoder(inputs[name]).float().cpu().numpy()
    return time.perf_counter() - start, time.process_time() - cpu


def seconds_of_extraction(model: Model, manifest: Manifest, clips: int) -> tuple[float, float]:
    """Wall and CPU seconds of feature extraction as `seehear evaluate` does it."""
    start, cpu = time.perf_counter(), time.process_time()
    clip_features(model, manifest, Sampling(clips))
    return time.perf_counter() - start, time.process_time() - cpu


def measure(arguments: argparse.Namespace, cache: Path) -> dict[str, Any]:
    found = seehear.scan(arguments.source)
    manifest = Manifest(found.table.slice(0, arguments.videos), found.info)
    cached, streamed = untrained(arguments.recipe, cache, 8.0), untrained(arguments.recipe, cache, 0.0)
    decoded = decoded_clips(cached, manifest, arguments.clips)
    clips = sum(map(len, decoded))
    spectrogram = SpectrogramView(cached.config, cached.statistics)
    ready = [inputs_of(cached, spectrogram, batch) for batch in decoded]
    seconds_of(cached, ready)  # warm up
    rounds = []
    for _ in range(arguments.rounds):
        seconds = {
            "encoders": seconds_of(cached, ready),
            "forward": seconds_of(cached, (inputs_of(cached, spectrogram, batch) for batch in decoded)),
            "cached": seconds_of_extraction(cached, manifest, arguments.clips),
            "streamed": seconds_of_extraction(streamed, manifest, arguments.clips),
        }
        speeds = {name: clips / wall for name, (wall, _) in seconds.items()}
        speeds |= {f"{name} (CPU)": clips / seconds[name][1] for name in ("encoders", "forward", "cached")}
        rounds.append(speeds | {"load": os.getloadavg()[0]})
        print({name: round(value, 2) for name, value in rounds[-1].items()}, flush=True)

    def ratio(one: str, other: str) -> float:
        return statistics.median(r[one] / r[other] for r in rounds)

    return {
        "clips": clips,
        "median_clips_per_second": {n: statistics.median(r[n] for r in rounds) for n in rounds[0] if n != "load"},
        "median_ratio_to_forward": {
            "cached": ratio("cached", "forward"),
            "cached (CPU)": ratio("cached (CPU)", "forward (CPU)"),
            "streamed": ratio("streamed", "forward"),
        },
        "median_ratio_to_encoders": {
            "cached": ratio("cached", "encoders"),
            "cached (CPU)": ratio("cached (CPU)", "encoders (CPU)"),
        },
        "rounds": rounds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", nargs="?", metavar="VIDEOS", help="a folder, glob or table of videos with sound")
    parser.add_argument("--videos", type=int, default=64)
    parser.add_argument("--clips", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--recipe", default="small")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if arguments.source is None:
        print("extraction.py reads videos: python benchmarks/extraction.py VIDEOS")
        return
    torch.set_num_threads(arguments.threads)
    before = machine()
    with tempfile.TemporaryDirectory() as cache:
        measured = measure(arguments, Path(cache))
    settings = {name: getattr(arguments, name) for name in ("videos", "clips", "rounds", "recipe", "threads")}
    result = {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "note": "a virtual machine shared with other work: ratios within one round count, speeds vary",
        "settings": settings,
        "machine": before | {"load_average_at_the_end": list(os.getloadavg())},
        **measured,
    }
    arguments.out.parent.mkdir(exist_ok=True)
    # One entry a recipe: a run for another one leaves this one's there.
    others = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    arguments.out.write_text(json.dumps(others | {arguments.recipe: result}, indent=1))
    print(json.dumps({k: result[k] for k in result if k.startswith("median")}, indent=1))


if __name__ == "__main__":
    main()
