"""What `seehear prepare` is worth: CPU seconds to decode a clip of originals and of copies, and to make the copies.

    python benchmarks/prepared.py photosound=DATA/photosound/manifest.csv --made 256 --made 360

Each set is prepared at the recipe's size, then clips are drawn as training draws them and decoded in this process, one
opening a clip, without a cache; originals, copies as files and copies in shards take turns, so that a busy machine
slows all alike, and CPU seconds are counted, which other work hardly touches. `--made SIDE` makes a set of larger
videos from the first one: ten clips after each other (30 s), scaled to that short side at 4:3, 30 frames a second, x264
medium CRF 23 with a keyframe every 250 frames, as videos from the web have them, and stereo sound of 44.1 kHz.

Printed and written as JSON: medians of CPU milliseconds a clip, their ratio, and after how many epochs the copies have
paid for themselves: CPU seconds of `seehear prepare` by the CPU seconds that an epoch saves (one clip a video every
`cluster.max_span_seconds`, as an epoch has them).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from support import machine

import seehear
from seehear.data.clips import Video, clip_refs, epoch_order, training_requests
from seehear.data.loader import ClipLoader
from seehear.data.manifest import Manifest
from seehear.data.views import Statistics
from seehear.media.decode import Window, decode
from seehear.pretraining.plan import make_config

RESULTS = Path(__file__).parent / "results" / "prepared.json"


def make_larger(manifest: Manifest, folder: Path, side: int, count: int) -> None:
    """`count` videos of ten clips each, at a short side of so many pixels."""
    rows = manifest.usable_rows()
    wide = side * 4 // 3 // 2 * 2
    folder.mkdir()
    for number in range(count):
        with av.open(str(folder / f"{number:03d}.mp4"), "w") as out:
            video = out.add_stream("libx264", rate=30, options={"preset": "medium", "crf": "23", "g": "250"})
            video.width, video.height, video.pix_fmt = wide, side, "yuv420p"
            audio = out.add_stream("aac", rate=44100, layout="stereo")
            audio.bit_rate = 128_000
            shown = heard = 0
            for row in rows[number * 10 : number * 10 + 10]:
                got = decode(row["path"], [Window(0.0, 90, 30.0, 3.0)], short_side_px=None, sample_rate_hz=44100)[0]
                for picture in got.frames:
                    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(wide, side, "yuv420p")
                    frame.pts, frame.time_base = shown, Fraction(1, 30)
                    out.mux(video.encode(frame))
                    shown += 1
                sound = np.stack([got.waveform, got.waveform])
                for at in range(0, sound.shape[1], 1024):
                    piece = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound[:, at : at + 1024]), "fltp", "stereo")
                    piece.sample_rate, piece.pts, piece.time_base = 44100, heard, Fraction(1, 44100)
                    out.mux(audio.encode(piece))
                    heard += piece.samples
            out.mux(video.encode(None))
            out.mux(audio.encode(None))


def prepared(source: Path, out: Path, side: int, *, shards: bool) -> float:
    """Copy a set by the command; all CPU seconds of its processes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "seehear", "prepare", str(source), "--out", str(out), "--short-side", str(side)]
    subprocess.run(
        [*command, "--workers", "1", *(["--shards"] if shards else [])], check=True, stdout=subprocess.DEVNULL
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measured(sets: dict[str, Manifest], recipe: str, clips: int, rounds: int) -> tuple[dict[str, list[float]], int]:
    """CPU seconds a clip of each set in each round, and the clips of an epoch."""
    config = make_config(recipe=recipe)
    seconds: dict[str, list[float]] = {name: [] for name in sets}
    loaders, requests = {}, {}
    for name, manifest in sets.items():
        videos = [Video.from_row(row, ("video", "audio")) for row in manifest.usable_rows()]
        refs = clip_refs(videos, config.cluster)
        order = epoch_order(len(refs), clips * (rounds + 1), (0,))
        by_id = {video.video_id: video for video in videos}
        requests[name] = training_requests(refs, order, by_id, config.clip, config.augment, (0,))
        views = {"video": "video", "audio": "audio"}
        loaders[name] = ClipLoader(videos, config, views, Statistics(), workers=0, cache=None)
    for turn in range(rounds + 1):
        for name, loader in loaders.items():
            wanted = requests[name][turn * clips : (turn + 1) * clips]
            began = time.process_time()
            found = sum(1 for _ in loader.media(wanted))
            assert found == clips, (name, loader.failures.reports)
            if turn:  # the first one finds the files and warms up
                seconds[name].append((time.process_time() - began) / clips)
    return seconds, len(refs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="*", metavar="NAME=VIDEOS")
    parser.add_argument("--made", type=int, action="append", default=[], metavar="SIDE")
    parser.add_argument("--recipes", default="small,xdc-kinetics")
    parser.add_argument("--videos", type=int, default=12, help="videos of a set that is made")
    parser.add_argument("--clips", type=int, default=60, help="a round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if not arguments.data:
        print("prepared.py needs videos: python benchmarks/prepared.py NAME=VIDEOS")
        return
    sources = {name: Path(place) for name, _, place in (text.partition("=") for text in arguments.data)}
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch_name:
        scratch = Path(scratch_name)
        for side in arguments.made:
            first = seehear.scan(next(iter(sources.values())), out=scratch / "first.parquet", workers=1)
            sources[f"{side}p, keyframe every 250"] = scratch / f"made{side}"
            make_larger(first, scratch / f"made{side}", side, arguments.videos)
        for label, source in sources.items():
            originals = seehear.scan(source, workers=1)
            for recipe in arguments.recipes.split(","):
                side = make_config(recipe=recipe).clip.short_side_px
                side += side % 2
                copies = scratch / f"{len(results)}"
                cpu = prepared(source, copies, side, shards=False)
                packed = scratch / f"{len(results)}s"
                shutil.copytree(copies, packed)
                prepared(source, packed, side, shards=True)  # packs what is made
                sets = {"originals": originals, "copies": seehear.scan(copies), "shards": seehear.scan(packed)}
                seconds, epoch = measured(sets, recipe, arguments.clips, arguments.rounds)
                middle = {kind: statistics.median(values) for kind, values in seconds.items()}
                saved = (middle["originals"] - middle["copies"]) * epoch
                results.append({
                    "set": label, "recipe": recipe, "short_side_px": side, "videos": len(originals.usable_rows()),
                    "cpu_ms_a_clip": {kind: 1000 * value for kind, value in middle.items()},
                    "times_as_many_clips": middle["originals"] / middle["copies"],
                    "prepare_cpu_seconds": cpu, "clips_an_epoch": epoch, "saved_cpu_seconds_an_epoch": saved,
                    "epochs_to_pay_back": cpu / saved if saved > 0 else None,
                    "megabytes": {
                        kind: sum(row["size_bytes"] for row in m.usable_rows()) / 1e6 for kind, m in sets.items()
                    },
                    "rounds_cpu_seconds_a_clip": seconds,
                })  # fmt: skip
                print(json.dumps({k: v for k, v in results[-1].items() if not k.startswith("rounds")}), flush=True)
    note = {"made": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine(), "load": os.getloadavg()}
    arguments.out.write_text(json.dumps({**note, "arguments": sys.argv[1:], "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
