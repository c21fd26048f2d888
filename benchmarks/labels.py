"""Labels of collections of every shape, by what a person gets who knows nothing and by settings that know everything.

    python benchmarks/shapes.py SHAPES --held-out
    python benchmarks/labels.py SHAPES RUNS [--arms default xdc-known] [--shapes ...] [--seeds ...] [--set rounds=8]
    python benchmarks/labels.py SHAPES RUNS --table

| arm | what is run |
|---|---|
| default | `--clusters auto`: neither the number of kinds nor their shares are known |
| xdc-known | the same recipe, XDC with the true number of clusters |
| selavi-known | SeLaVi with the true number and the true shares, followed strictly |
| xdc-before | XDC with the clusters that `seehear explore` once chose: the root of half the number of clips |
| selavi-before | SeLaVi as its small recipe is: 12 clusters, half following |

Each run is RUNS/SHAPE-SEED-ARM, trained unless it is there, and scored into its folder (labels.json): the run's own
labels by sight and sound together, those of its features with the true number of kinds, the number and its range, how
doubt tells clips of no kind, seconds, and the criteria of `seehear compare`. Clips of no kind count for no score of
labels. `--table [FILE]` collects what is there into results/labels.json and prints it.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from kinds import collection_of, read, told_apart
from scipy.stats import spearmanr
from shapes import NO_KIND
from support import machine
from support.rules_of_k import joined, labels_of

import seehear
from seehear.cluster.doubt import doubts
from seehear.comparing.criteria import criteria
from seehear.engine.runlog import read_metrics
from seehear.files import write_result
from seehear.metrics.clustering import clustering_scores

RESULTS = Path(__file__).parent / "results" / "labels.json"
ARMS = ("default", "xdc-known", "selavi-known", "xdc-before", "selavi-before")


def settings_of(arm: str, truth: list[str]) -> dict[str, Any]:
    """What `seehear.pretrain` is told, for a collection of clips with these labels."""
    sizes = Counter(label for label in truth if label != NO_KIND)
    known = f"cluster.k={len(sizes)}"
    shares = "selavi.shares=" + json.dumps([count / sum(sizes.values()) for count in sizes.values()])
    strict = ("selavi.follow=0", known, shares)
    return {
        "default": {"clusters": "auto"},
        "xdc-known": {"method": "xdc", "recipe": "archive", "settings": ("cluster.auto=false", known)},
        "selavi-known": {"method": "selavi", "recipe": "small-selavi", "settings": strict},
        "xdc-before": {"method": "xdc", "settings": (f"cluster.k={min(64, max(4, round((len(truth) / 2) ** 0.5)))}",)},
        "selavi-before": {"method": "selavi", "recipe": "small-selavi"},
    }[arm]


def score(collection: Path, run: Path) -> dict[str, Any]:
    """What a run's labels are worth."""
    sight, sound, truth, odd = collection_of(collection, read(run / "features.parquet"))
    of_a_kind = truth != NO_KIND
    kinds = len(set(truth[of_a_kind]))
    with collection.open() as file:
        label_of = {Path(row["path"]).name: row["label"] for row in csv.DictReader(file)}
    table = pq.read_table(run / "labels.parquet")
    names = [label_of[Path(name).name] for name in table["video_id"].to_pylist()]
    kept = np.array([name != NO_KIND for name in names])
    own = clustering_scores(np.array(names)[kept], table["cluster_both"].to_numpy()[kept])
    told = clustering_scores(truth[of_a_kind], labels_of(joined(sight, sound), kinds, restarts=10)[of_a_kind])
    found: dict[str, Any] = {
        "clips": len(names), "kinds": kinds,
        "clusters": len(set(table["cluster_both"].to_pylist())),
        "nmi": own.nmi, "accuracy": own.accuracy, "nmi_told": told.nmi, "accuracy_told": told.accuracy,
        "seconds": read_metrics(run / "metrics.jsonl")[-1]["seconds"],
    }  # fmt: skip
    if (run / "kinds.json").exists():
        found |= {name: json.loads((run / "kinds.json").read_text())[name] for name in ("k", "low", "high", "more")}
    x = torch.from_numpy(sight), torch.from_numpy(sound)
    doubt = doubts(*x)
    found["doubtful"] = float(doubt.outliers.mean())
    if odd.any():
        found |= told_apart(doubt, odd)
    found["criteria"] = criteria(*x).as_dict()
    return found


def counted(found: dict[str, Any]) -> str:
    """The number of kinds with its range; + stands for "or more"."""
    return f"{found['k']} ({found['low']} to {found['high']}{'+' if found['more'] else ''})"


def table(rows: dict[str, dict[str, Any]]) -> str:
    """The scores of every collection and arm; then means, and what the default loses against what knows everything."""
    by: dict[str, dict[str, dict[str, Any]]] = {}
    for name, row in rows.items():
        *collection, arm = name.split("-", 3)
        by.setdefault("-".join(collection), {})[arm] = row
    lines = [f"{'':<18}" + "".join(f"{arm:>22}" for arm in ARMS) + "   k (range) of kinds"]
    for collection, arms in sorted(by.items()):
        cells = [f"{a['nmi']:.3f} / {a['accuracy']:.3f}" if (a := arms.get(arm)) else "" for arm in ARMS]
        found = arms.get("default")
        count = f"   {counted(found)} of {found['kinds']}" if found else ""
        lines.append(f"{collection:<18}" + "".join(f"{cell:>22}" for cell in cells) + count)
    for arm in ARMS[1:]:
        both = [(a["default"], a[arm]) for a in by.values() if arm in a and "default" in a]
        for name in ("nmi", "accuracy") if both else ():
            gain = [d[name] - o[name] for d, o in both]
            told = f"{np.mean(gain):+.3f}, at least {min(gain):+.3f} ({len(gain)})"
            lines.append(f"default less {arm}, {name}: {told}")
    default = [a["default"] for a in by.values() if "default" in a]
    if default:
        for name in ("nmi", "accuracy"):
            lost = [d[name] - d[f"{name}_told"] for d in default]
            told = f"{np.mean(lost):+.3f}, at least {min(lost):+.3f}"
            lines.append(f"default less itself, told the number of kinds, {name}: {told}")
        with_k = [d for d in default if d["k"]]
        near = [abs(d["k"] - d["kinds"]) <= 0.2 * d["kinds"] for d in with_k]
        inside = [d["low"] <= d["kinds"] <= d["high"] for d in with_k]
        more = [d["more"] and d["kinds"] > d["high"] for d in with_k]
        lines.append(
            f"k within 20 %: {sum(near)} of {len(default)}; in the range: {sum(inside)}, its 'or more': {sum(more)}; "
            f"any of these: {sum(map(any, zip(near, inside, more, strict=True)))}"
        )
    for collection, arms in sorted(by.items()):
        for arm, a in arms.items():
            if "auc" in a:
                told = f"AUC {a['auc']:.3f}, precision {a['precision']:.2f}, recall {a['recall']:.2f}"
                lines.append(f"{collection} {arm}: {told}, {a['doubtful']:.2f} doubtful")
    ranks = []
    for arms in by.values():
        pairs = [(a["criteria"]["shared_bits"], a["nmi_told"]) for a in arms.values()]
        if len(pairs) >= 3:
            ranks.append(spearmanr(*zip(*pairs, strict=True)).statistic)
    if ranks:
        lines.append(f"rank correlation of shared bits and NMI over the arms: {np.nanmean(ranks):.2f} ({len(ranks)})")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes_folder", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--arms", nargs="+", default=["default"], choices=ARMS)
    parser.add_argument("--shapes", nargs="+")
    parser.add_argument("--seeds", nargs="+")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="for every run")
    parser.add_argument(
        "--table", nargs="?", const=RESULTS, type=Path, help="collect what is there into a file, and print"
    )
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.table:
        found = {p.parent.name: json.loads(p.read_text()) for p in sorted(asked.runs.glob("*/labels.json"))}
        write_result(asked.table, json.dumps({"runs": found, "machine": machine()}, indent=1))
        print(table(found))
        return
    for collection in sorted(asked.shapes_folder.glob("*.csv")):
        shape, seed = collection.stem.rsplit("-", 1)
        if (asked.shapes and shape not in asked.shapes) or (asked.seeds and seed not in asked.seeds):
            continue
        with collection.open() as file:
            truth = [row["label"] for row in csv.DictReader(file)]
        for arm in asked.arms:
            run = asked.runs / f"{collection.stem}-{arm}"
            if (run / "labels.json").exists():
                continue
            chosen = settings_of(arm, truth)
            if not (run / "labels.parquet").exists():
                settings = (*chosen.pop("settings", ()), *asked.settings, "threads=1", "data.workers=0")
                seehear.pretrain(
                    collection, run, **chosen, settings=settings, seed=int(seed), resume_if_there=True, quiet=True
                )
            result = score(collection, run) | {"arm": arm, "settings": list(asked.settings)}
            write_result(run / "labels.json", json.dumps(result, indent=1))
            print(f"{run.name}: NMI {result['nmi']:.3f}, accuracy {result['accuracy']:.3f}", flush=True)


if __name__ == "__main__":
    main()
