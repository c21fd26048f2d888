"""Time of everything after the extraction, on encoders of others that stay as they are.

    python benchmarks/frozen.py vizdoom_actions/manifest.csv --out benchmarks/results/frozen.json

Encoders of the size of a ViT-B are made with random weights: a VideoMAE-B and an AST, of about 86 million parameters
and 768 features each (needs the extra `hf`). Their features are not extracted but written into the bank, with one
direction for each class and noise around it, at just the rows that a run asks for. Then every method runs, as a
process of its own, from the command to the finished run: what is measured is all that follows the extraction, loading
and keeping two encoders included. A method that has anything extracted is an error.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from seehear.config import Config
from seehear.data.columns import VideosById, cut
from seehear.data.manifest import Manifest
from seehear.data.scanning import scan
from seehear.encoders import open_encoder
from seehear.features.model import video_table
from seehear.features.viewbank import ViewBank, bank_name, banks_folder
from seehear.features.viewplan import needed
from seehear.files import write_atomic
from seehear.pretraining.plan import make_config

METHODS = ("xdc", "selavi", "gdt", "sdc", "cdc", "avts")


def make_encoders(folder: Path) -> dict[str, int]:
    """Folders `video` and `audio` with a VideoMAE-B and an AST of random weights; their numbers of parameters."""
    import transformers

    made = {
        "video": (transformers.VideoMAEModel(transformers.VideoMAEConfig()), transformers.VideoMAEImageProcessorPil()),
        "audio": (transformers.ASTModel(transformers.ASTConfig()), transformers.ASTFeatureExtractor()),
    }
    for name, (model, processor) in made.items():
        model.save_pretrained(folder / name)
        processor.save_pretrained(folder / name)
    return {name: sum(p.numel() for p in model.parameters()) for name, (model, _) in made.items()}


def write_banks(manifest: Manifest, config: Config, labels: dict[str, str]) -> int:
    """Features at all rows that a run needs: of each class around a direction of its own. Returns the bytes."""
    rng = np.random.default_rng(0)
    videos = VideosById(video_table(manifest, ("video", "audio")))
    refs = cut(videos.table, config.cluster)
    names = sorted(set(labels.values()))
    of_class = np.array([names.index(labels[ref.video_id]) for ref in refs])
    total = 0
    for stream, spec in (("video", config.model.video_encoder), ("audio", config.model.audio_encoder)):
        encoder = open_encoder(str(spec), stream)
        bank = ViewBank(banks_folder(config) / bank_name(encoder.content(), config, stream), encoder.feature_dim)
        of = needed(config, stream, bank, refs, videos, [None])
        keys = np.concatenate([of.plain_keys.reshape(len(refs), -1), of.moment_keys.reshape(len(refs), -1)], axis=1)
        centres = rng.normal(size=(len(names), encoder.feature_dim))
        x = centres[of_class][:, None] + 2 * rng.normal(size=(*keys.shape, encoder.feature_dim))
        _, first = np.unique(keys.ravel(), return_index=True)
        bank.add(keys.ravel()[first], x.reshape(-1, encoder.feature_dim)[first].astype(np.float32))
        total += len(first) * (4 * encoder.feature_dim + 24)
    return total


def timed(arguments: list[str], environment: dict[str, str]) -> dict[str, float]:
    """Wall and CPU seconds of a process, and the load when it began."""
    load, started, before = os.getloadavg()[0], time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "seehear", *arguments], env=environment, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_seconds": round(time.monotonic() - started, 1), "cpu_seconds": round(cpu, 1), "load": round(load, 1)}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("videos", type=Path)
    arguments.add_argument("--clips", type=int, default=500)
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--methods", nargs="+", default=list(METHODS))
    arguments.add_argument("--out", type=Path)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="seehear-frozen-") as scratch:
        root = Path(scratch)
        os.environ["XDG_CACHE_HOME"] = str(root / "cache")
        parameters = make_encoders(root / "encoders")
        source = Manifest.load(given.videos) if Manifest.is_manifest(given.videos) else scan(given.videos)
        manifest = source.usable().sample(given.clips, 0)
        manifest.save(root / "clips.parquet")
        specs = {name: f"hf:{root / 'encoders' / name}" for name in ("video", "audio")}
        config = make_config(video_encoder=specs["video"], audio_encoder=specs["audio"])
        size = write_banks(manifest, config, manifest.by_id("label"))
        found: dict[str, Any] = {
            "clips": len(manifest), "parameters": parameters, "bank_bytes": size, "threads": given.threads,
            "cores": os.cpu_count(), "methods": {},
        }  # fmt: skip
        for method in given.methods:
            out = root / method
            options = ["--method", method, "--out", str(out), "--quiet", "--set", f"threads={given.threads}"]
            for name, spec in specs.items():
                options += [f"--{name}-encoder", spec]
            took = timed(["pretrain", str(root / "clips.parquet"), *options], dict(os.environ))
            lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
            extracted = sum(line["extracted"] for line in lines if line["kind"] == "prepare")
            assert not extracted, f"{method} extracted {extracted} spans"
            seen = next(line["clips_seen"] for line in lines if line["kind"] == "end")
            steps = [line for line in lines if line["kind"] == "epoch"]
            training = sum(line["seconds_data"] + line["seconds_compute"] for line in steps if "seconds_data" in line)
            rate = round(seen / training) if training else None
            found["methods"][method] = {**took, "clips_seen": seen, "clips_per_second": rate}
            print(method, found["methods"][method], flush=True)
    if given.out is not None:
        write_atomic(given.out, json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
