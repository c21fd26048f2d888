"""What differences between papers and their released code do without any training.

    python benchmarks/fidelity_direct.py TABLE.csv RUN OUT.json

RUN is a finished run of GDT (a `gdt_as-the-recipe_S` of fidelity_effects.py), TABLE.csv its labelled collection.
Measured are, on 60 test videos, how far the features of the trained encoders move when their input is made otherwise,
and retrieval by three poolings; and, on generated numbers with the sizes of the SeLaVi paper (K = 309), how many labels
differ by the end of Sinkhorn's iterations, how the marginals of paper and release differ, and what the alignments cost.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from support import machine
from torch import Tensor

import seehear
from seehear.cluster.alignment import align, alignment_cost
from seehear.cluster.marginals import gaussian, uniform
from seehear.cluster.sinkhorn import sinkhorn
from seehear.config import AugmentConfig
from seehear.data.clips import clip_refs, plain_requests
from seehear.data.loader import ClipLoader
from seehear.data.manifest import Manifest
from seehear.data.views import SpectrogramView, Statistics
from seehear.features.model import Model, usable_videos

VIDEOS = 60


def test_videos(table: Path) -> Manifest:
    """The first usable test videos of a table, evenly spread."""
    manifest = seehear.scan(table, workers=0).where("split=test").usable()
    rows = np.linspace(0, len(manifest) - 1, VIDEOS).round().astype(int)
    return Manifest(manifest.table.take(rows), manifest.info)


def cosines(one: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """Of the features of the same clips, and for scale of features of different clips."""
    a, b = F.normalize(torch.from_numpy(one), dim=1), F.normalize(torch.from_numpy(other), dim=1)
    same, apart = (a * b).sum(1), (a @ a.T).fill_diagonal_(float("nan"))
    return {"mean": float(same.mean()), "least": float(same.min()), "of_different_clips": float(apart.nanmean())}


def inputs(model: Model, manifest: Manifest) -> dict[str, Any]:
    """How features move when the input is normalised, scaled or cropped otherwise, and sound is reversed otherwise."""
    videos = usable_videos(manifest, ("video", "audio"))
    refs = clip_refs(videos, model.config.cluster)

    def features(changed: Callable[[Any], Any] = lambda c: c, statistics: Statistics | None = None) -> dict[str, Any]:
        other = Model(changed(model.config), model.modalities, model.encoders, statistics or model.statistics)
        return other.extract(videos, refs).features

    plain = features()
    release = replace(model.statistics, pixel_mean=(0.45,) * 3, pixel_std=(0.225,) * 3)
    found = {
        "pixels normalised by .45 and .225": features(statistics=release),
        "shorter side that of the crop": features(
            lambda c: replace(c, clip=replace(c.clip, short_side_px=c.clip.crop_px))
        ),
    }
    for module in model.encoders["video"].modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.eps = 1e-3
    found["batch norm's epsilon 1e-3"] = features()
    for module in model.encoders["video"].modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.eps = 1e-5
    moved = {name: cosines(plain["video"], other["video"]) for name, other in found.items()}
    return moved | {"sound reversed, against its spectrogram mirrored": reversed_sound(model, videos, refs)}


def reversed_sound(model: Model, videos: list[Any], refs: list[Any]) -> dict[str, float]:
    """The spectrogram of the sound played backwards against the spectrogram mirrored in time."""
    view = SpectrogramView(model.config, model.statistics)
    with ClipLoader(videos, model.config, model.modalities, model.statistics, workers=0, cache=None) as loader:
        waves = [w for _, _, w in loader.clips(plain_requests(refs, loader.videos, model.config.clip)) if w is not None]
    x = torch.from_numpy(np.stack(waves))
    none = AugmentConfig()
    played, mirrored = view(x.flip(1), none, None), view(x, none, None).flip(-1)
    encoder = model.encoders["audio"].eval()
    with torch.inference_mode():
        a, b = encoder(played), encoder(mirrored)
    difference = (played - mirrored).abs().mean() / played.std()
    return {"mean_difference_in_deviations": float(difference)} | cosines(a.numpy(), b.numpy())


def pooling(run: Path, table: Path) -> dict[str, Any]:
    """Retrieval by each pooling, one clip a video."""
    return {
        name: {
            k: seehear.evaluate(run, protocol="retrieval", data=table, clips=1, pooling=name)["scores"]["video"][k]
            for k in ("R@1", "R@5")
        }
        for name in ("mean", "max", "max2")
    }


def planted(n: int, k: int, noise: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Log-probabilities (n, k) of two heads of which one numbers its clusters otherwise; kinds are unequally common."""
    generator = torch.Generator().manual_seed(seed)
    kinds = torch.multinomial(1 / torch.arange(1, k + 1).double().sqrt(), n, True, generator=generator)
    logits = [4 * F.one_hot(kinds, k) + noise * torch.randn(n, k, generator=generator) for _ in range(2)]
    order = torch.randperm(k, generator=generator)
    return logits[0].log_softmax(1), logits[1][:, order].log_softmax(1)


def selavi(n: int = 20_000, k: int = 309) -> dict[str, Any]:
    """Sinkhorn's end, the marginals and the alignment, on planted clusters."""
    first, second = planted(n, k, 1.0)
    tight = sinkhorn(first, uniform(k), tolerance=1e-6)
    ends = {}
    for name, options in {
        "tolerance 1e-3": {"tolerance": 1e-3},
        "tolerance 0.02": {"tolerance": 0.02},
        "tolerance 0.1": {"tolerance": 0.1},
    }.items():
        plan = sinkhorn(first, uniform(k), **options)
        ends[name] = {
            "iterations": plan.iterations,
            "labels_that_differ": float((plan.labels != tight.labels).double().mean()),
        }
    draws = 1 + 0.1 * torch.randn(100_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    shares = {"N(1, 0.1)": gaussian(100_000, torch.Generator().manual_seed(0)) * 100_000, "1/N(1, 0.1)": 1 / draws}
    marginals = {
        name: {"deviation": float((x / x.mean()).std()), "1st percentile": float((x / x.mean()).quantile(0.01)),
               "99th percentile": float((x / x.mean()).quantile(0.99))}
        for name, x in shares.items()
    }  # fmt: skip
    cost = alignment_cost(second.exp(), first.exp())
    none = float(cost.diagonal().sum())
    aligned = {"none": none, "hungarian": align(cost, "hungarian").cost_after}
    for restarts in (2, 5):
        aligned[f"greedy, {restarts} restarts"] = align(cost, "greedy", restarts=restarts).cost_after
    return {
        "end of Sinkhorn": {"iterations of 1e-6": tight.iterations, **ends},
        "marginals": marginals,
        "alignment": {name: value / aligned["hungarian"] for name, value in aligned.items()},
    }


def main() -> None:
    if len(sys.argv) != 4:
        print("fidelity_direct.py needs a collection, a run of GDT and a place: TABLE.csv RUN OUT.json")
        return
    table, run, out = map(Path, sys.argv[1:])
    torch.set_num_threads(1)
    found = {
        "selavi": selavi(),
        "inputs": inputs(Model.load(run), test_videos(table)),
        "pooling": pooling(run, table),
        "machine": machine(),
        "load": os.getloadavg(),
    }
    out.write_text(json.dumps(found, indent=1))
    print(json.dumps({k: v for k, v in found.items() if k != "machine"}, indent=1))


if __name__ == "__main__":
    main()
