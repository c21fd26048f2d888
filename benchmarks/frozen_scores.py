r"""Does learning on top of frozen features pay? Three methods against k-means on the same features.

    python benchmarks/frozen_scores.py vizdoom_actions/manifest.csv --encoder run:RUN_OF_PHOTOSOUND --seeds 0 1 2 \
        --out OUT

For every seed `seehear pretrain TABLE --where split=train --method M --video-encoder E --audio-encoder E` with the
recipe `frozen`, of M = scratch (k-means on the standardised features), xdc, selavi and gdt. NMI and accuracy
(Hungarian) of the training clips' labels and of those that the run's model gives to the test split, of which nothing
was known before. Features of the test split are extracted once, too, and every run's adapter is applied to them: that
is what `seehear label` does to new videos. Runs that are in OUT already are only scored.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import seehear
from seehear.data.columns import VideosById, cut
from seehear.data.loader import Failures
from seehear.data.manifest import Manifest
from seehear.data.scanning import scan
from seehear.encoders import open_encoder
from seehear.features.bank import FeatureBank
from seehear.features.model import LABELLING_OF, Model, video_table
from seehear.features.viewbank import ViewBank, bank_name, banks_folder
from seehear.features.viewfill import fill
from seehear.features.viewplan import needed
from seehear.files import write_atomic
from seehear.metrics.clustering import clustering_scores
from seehear.models.adapter import OnBackbone

METHODS = ("scratch", "xdc", "selavi", "gdt")


def scores(clusters: dict[str, np.ndarray], classes: np.ndarray) -> dict[str, dict[str, float]]:
    """NMI and accuracy of each labelling."""
    found = {name: clustering_scores(classes, x) for name, x in clusters.items()}
    return {name: {"nmi": of.nmi, "accuracy": of.accuracy} for name, of in found.items()}


class Rows:
    """The raw features of the plain clips of some videos, (N, P, D) by stream, extracted if they are not there."""

    def __init__(self, manifest: Manifest, config: Any, encoder: str) -> None:
        videos = VideosById(video_table(manifest, ("video", "audio")))
        self.refs = cut(videos.table, config.cluster)
        self.classes = np.array([manifest.by_id("label")[ref.video_id] for ref in self.refs])
        opened = {stream: open_encoder(encoder, stream) for stream in ("video", "audio")}
        banks = {
            s: ViewBank(banks_folder(config) / bank_name(e.content(), config, s), e.feature_dim)
            for s, e in opened.items()
        }
        wanted = {s: needed(config, s, bank, self.refs, videos, []) for s, bank in banks.items()}
        fill(
            wanted, opened, self.refs, videos, config, Failures(), device=torch.device("cpu"), workers=1,
            progress=lambda done, total: None,
        )  # fmt: skip
        self.x = {s: of.bank.take(of.plain_rows.ravel()).reshape(*of.plain_rows.shape, -1) for s, of in wanted.items()}

    def clusters(self, model: Model) -> dict[str, np.ndarray]:
        """What a run's model says of them, for sight, sound and both."""
        features = {}
        for name, encoder in model.encoders.items():
            assert isinstance(encoder, OnBackbone)
            with torch.inference_mode():
                features[name] = encoder.adapter(torch.from_numpy(self.x[name])).mean(1).numpy()
        bank = FeatureBank(list(self.refs), features, np.ones(len(self.refs), dtype=bool))
        found = {m: model.labels(bank, labelling) for m, labelling in LABELLING_OF.items()}
        return {m: rows["cluster"] for m, rows in found.items() if rows is not None}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("videos", type=Path)
    arguments.add_argument("--encoder", required=True)
    arguments.add_argument("--seeds", type=int, nargs="+", default=[0])
    arguments.add_argument("--methods", nargs="+", default=list(METHODS))
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--results", type=Path)
    given = arguments.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    kept = given.out / "manifest.parquet"
    manifest = Manifest.load(kept) if kept.exists() else scan(given.videos, out=kept)
    rows = {}
    found: dict[str, list[dict[str, Any]]] = {}
    for method in given.methods:
        for seed in given.seeds:
            run, started = given.out / f"{method}-{seed}", time.monotonic()
            if not (run / "labels.parquet").exists():
                seehear.pretrain(
                    kept, run, method=method, seed=seed, where=("split=train",), video_encoder=given.encoder,
                    audio_encoder=given.encoder, settings=("threads=1",), resume_if_there=True, quiet=True,
                )  # fmt: skip
            model = Model.load(run)
            for split in ("train", "test"):
                if split not in rows:
                    rows[split] = Rows(manifest.where(f"split={split}").usable(), model.config, given.encoder)
            entry = {"seed": seed, "seconds": round(time.monotonic() - started)} | {
                split: scores(of.clusters(model), of.classes) for split, of in rows.items()
            }
            found.setdefault(method, []).append(entry)
            print(method, json.dumps(entry), flush=True)
    for split in ("train", "test"):
        for method, entries in found.items():
            cells = []
            for modality in LABELLING_OF:
                for score in ("nmi", "accuracy"):
                    values = [entry[split][modality][score] for entry in entries]
                    spread = statistics.stdev(values) if len(values) > 1 else 0.0
                    cells.append(f"{statistics.mean(values):.3f} ± {spread:.3f}")
            print(f"| {split} | {method} | {' | '.join(cells)} |")
    if given.results is not None:
        write_atomic(given.results, json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
