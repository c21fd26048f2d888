"""What each difference between papers and their released code does on a small collection.

    python benchmarks/fidelity_effects.py TABLE.csv --out runs/effects [--methods gdt selavi xdc] [--seeds 0 1]

TABLE.csv needs the columns path, label and split (train, test). Short runs of the recipe `small` learn from a random
part of its training videos, drawn by the seed: one as the recipe has it, and for each row of docs/fidelity.md one in
which a single setting is another. All are scored alike: clusters against the classes (NMI, by both modalities, of the
videos learnt from), and test videos that query the training videos (R@1). Labels are used for scoring alone. Runs that
are finished are not done again, and interrupted ones resume. Everything is written to OUT/effects.json. What needs no
training is measured by fidelity_direct.py.

Two seeds and a part of a small collection say whether a setting matters much. A difference below the spread says
nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from support import machine

import seehear

SETUPS: dict[str, tuple[str, ...]] = {
    "gdt": ("gdt.hypotheses=e", "optim.epochs=12", "optim.warmup_epochs=2"),
    "selavi": ("cluster.k=9", "selavi.heads=2", "selavi.clusterings=8", "optim.epochs=8", "optim.warmup_epochs=1"),
    "xdc": ("rounds=2", "optim.epochs=4", "optim.warmup_epochs=1"),
}
"""The recipe `small` of each method, shortened."""
SHARED = ("threads=1", "data.sample=0.4", "data.workers=0", "checkpoint_minutes=60")
SOUND = ("spectrogram.kind=logfbank", "spectrogram.window_seconds=0.02", "spectrogram.frames=99")
JITTER = ("augment.colour_jitter=0.4",)
SCALES = ("augment.short_side_range_px=[64,72]",)
EFFECTS: dict[str, dict[str, tuple[str, ...]]] = {
    "gdt": {
        "as the recipe": (),
        "centre crop": ("augment.crop=centre",),
        "detached keys": ("gdt.detach_keys=true",),
        "colour jitter": JITTER,
        "dropout": ("gdt.dropout=0.3",),
        "random scale": SCALES,
        "no warm-up": ("optim.warmup_epochs=0",),
        "sound of the release": SOUND,
    },
    "selavi": {
        "as the recipe": (),
        "one view, labels from a pass": ("selavi.training_views=1", "selavi.labels_from=pass"),
        "power 1.5": ("selavi.power=1.5",),
        "tolerance 0.1": ("selavi.tolerance=0.1",),
        "greedy alignment": ("selavi.alignment=greedy",),
        "dropout": ("selavi.dropout=0.3",),
        "colour jitter": JITTER,
        "random scale": SCALES,
    },
    "xdc": {
        "as the recipe": (),
        "no Nesterov": ("optim.nesterov=false",),
        "mid channels by convolution": ("model.video_mid_planes=convolution",),
        "batch norm's epsilon 1e-3": ("model.bn_eps=0.001",),
    },
}
"""By method and row: the settings that differ from the recipe."""


def scored(table: Path, out: Path, method: str, effect: str, seed: int) -> dict[str, Any]:
    """Train one run unless it is there, and score it."""
    run = out / f"{method}_{effect.replace(' ', '-').replace(',', '')}_{seed}"
    kept = run / "effect.json"
    if kept.exists():
        return json.loads(kept.read_text())  # type: ignore[no-any-return]
    begun = time.process_time()
    if (run / "manifest.parquet").exists():
        seehear.pretrain(resume=run, quiet=True)
    else:
        settings = (*SHARED, *SETUPS[method], *EFFECTS[method][effect])
        seehear.pretrain(
            table, run, method=method, seed=seed, settings=settings, where=("split=train",), quiet=True
        )  # fmt: skip
    k = None if method == "selavi" else 9
    clusters = seehear.evaluate(run, protocol="clustering", k=k)["scores"]
    found = seehear.evaluate(run, protocol="retrieval", data=table, clips=1)["scores"]
    result = {
        "NMI": {m: clusters[m]["nmi"] for m in clusters},
        "R@1": {m: found[m]["R@1"]["value"] for m in found},
        "cpu_seconds": time.process_time() - begun,
    }
    kept.write_text(json.dumps(result, indent=1))
    print(f"{run.name}: {result['NMI']['both']:.3f} {result['R@1']['both']:.3f} "
          f"{result['cpu_seconds']:.0f} CPU s", file=sys.stderr, flush=True)  # fmt: skip
    return result


def table_of(effects: dict[str, Any]) -> str:
    """Markdown: a line for each effect, its scores and how far they lie from the recipe's, seed by seed."""
    lines = ["| method | setting | NMI, both | difference | R@1, both | difference |", "|---" * 6 + "|"]
    for method, of_method in effects.items():
        base = of_method["as the recipe"]
        for name, runs in of_method.items():
            cells = []
            for score in ("NMI", "R@1"):
                values = np.array([r[score]["both"] for r in runs.values()])
                paired = np.array([r[score]["both"] - base[seed][score]["both"] for seed, r in runs.items()])
                cells.append(f"{values.mean():.3f} ({', '.join(f'{v:.3f}' for v in values)})")
                cells.append("" if name == "as the recipe" else ", ".join(f"{d:+.3f}" for d in paired))
            lines.append(f"| {method} | {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path, nargs="?")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--methods", nargs="+", default=list(EFFECTS), choices=list(EFFECTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    arguments = parser.parse_args()
    if arguments.table is None or arguments.out is None:
        print("fidelity_effects.py needs a labelled collection: fidelity_effects.py TABLE.csv --out FOLDER")
        return
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    kept = arguments.out / "effects.json"
    found: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    for seed in arguments.seeds:
        for method in arguments.methods:
            for effect in EFFECTS[method]:
                runs = found.setdefault("trained", {}).setdefault(method, {}).setdefault(effect, {})
                runs[str(seed)] = scored(arguments.table, arguments.out, method, effect, seed)
    found["machine"] = machine()
    found["load"] = os.getloadavg()
    kept.write_text(json.dumps(found, indent=1))
    print(table_of(found["trained"]))


if __name__ == "__main__":
    main()
