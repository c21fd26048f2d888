"""Sizes of clusters on frozen features: k-means against transport with shares that are known, estimated or shrunk.

    python benchmarks/kind_sizes.py SHAPES RUNS [--made MADE] [--methods xdc gdt] [--seeds 0] [--shapes equal-games ...]

Collections and features as in `benchmarks/kinds.py`, without those that have clips of no kind or swapped sounds. The
true number of kinds is given. "shares of k-means, s" are those of its clusters, moved by s towards equal ones; "chosen"
takes the s whose labels agree best when they are read off each modality: class means of one half of the clips, by sight
and by sound apart, label the other half, and the adjusted mutual information of both decides. Results are added to
results/kind_sizes.json.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kinds import collection_of, features_of, parser_of
from scipy.cluster.hierarchy import fcluster, linkage
from sklearn.metrics import adjusted_mutual_info_score
from support import machine
from support.rules_of_k import joined

from seehear.cluster.balanced import balanced
from seehear.cluster.kmeans import kmeans
from seehear.files import write_result
from seehear.metrics.clustering import clustering_scores

RESULTS = Path(__file__).parent / "results" / "kind_sizes.json"
SHRINKS = (0.0, 0.25, 0.5, 0.75)


def labellings(sight: np.ndarray, sound: np.ndarray, truth: np.ndarray) -> dict[str, np.ndarray]:
    """Labels (n,) by each way to find sizes, by its name."""
    x = joined(sight, sound)
    rows = torch.from_numpy(x)
    true = np.sort(np.unique(truth, return_counts=True)[1])
    k = len(true)
    start = kmeans(rows, k, restarts=10, seed=0)

    def transported(shares: np.ndarray) -> np.ndarray:
        return balanced(rows, k, np.maximum(shares, 1e-4), restarts=10, seed=0).labels.numpy()

    found = start.sizes.numpy() / len(x)
    shrunk = {s: transported((1 - s) * found + s / k) for s in SHRINKS}
    chosen = max(shrunk, key=lambda s: agreement_of_halves(sight, sound, shrunk[s], k))
    return {
        "k-means": start.labels.numpy(),
        "Ward": fcluster(linkage(x, "ward"), k, "maxclust"),
        "true shares": transported(true / len(x)),
        "equal shares": transported(np.full(k, 1 / k)),
        **{f"shares of k-means, {s}": labels for s, labels in shrunk.items()},
        "chosen": shrunk[chosen],
    }


def agreement_of_halves(sight: np.ndarray, sound: np.ndarray, labels: np.ndarray, k: int) -> float:
    """How well labels that are read off each modality by nearest means agree, in clips that made no means."""
    random, found = np.random.default_rng(0), []
    for _ in range(4):
        order = random.permutation(len(labels))
        known, held = order[: len(order) // 2], order[len(order) // 2 :]
        read = []
        for x in (sight, sound):
            there = [c for c in range(k) if (labels[known] == c).any()]
            means = np.stack([x[known][labels[known] == c].mean(0) for c in there])
            read.append(((x[held][:, None] - means[None]) ** 2).sum(-1).argmin(1))
        found.append(adjusted_mutual_info_score(*read))
    return float(np.mean(found))


def summary(results: dict[str, Any]) -> str:
    """Mean NMI and accuracy, over collections with kinds of one size and of several, and the most that is lost."""
    lines = []
    unequal = ("mild", "tail", "giant")
    for title, chosen in (
        ("equal sizes", {key: r for key, r in results.items() if not key.startswith(unequal)}),
        ("unequal sizes", {key: r for key, r in results.items() if key.startswith(unequal)}),
    ):
        if not chosen:
            continue
        lines.append(f"{title + f', {len(chosen)} sets of features':<40}{'NMI':>7}{'accuracy':>10}{'worst':>8}")
        for name in next(iter(chosen.values())):
            scores = [[r[name][m] for r in chosen.values()] for m in ("nmi", "accuracy")]
            worst = min(r[name]["nmi"] - r["k-means"]["nmi"] for r in chosen.values())
            lines.append(f"  {name:<38}{np.mean(scores[0]):>7.3f}{np.mean(scores[1]):>10.3f}{worst:>+8.3f}")
    return "\n".join(lines)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--seeds", nargs="+", default=["0"], help="only collections of these seeds")
    asked = parser.parse_args()
    saved = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"collections": {}}
    for collection in sorted(asked.shapes_folder.glob("*.csv")):
        shape, seed = collection.stem.rsplit("-", 1)
        if seed not in asked.seeds or (asked.shapes and shape not in asked.shapes):
            continue
        if shape.startswith(("none", "swapped", "mixed", "large")):
            continue
        for method in asked.methods:
            for source, rows in features_of(collection, asked.runs, asked.made, method):
                sight, sound, truth, _ = collection_of(collection, rows)
                found = {
                    name: {m: round(getattr(scores, m), 4) for m in ("nmi", "accuracy")}
                    for name, labels in labellings(sight, sound, truth).items()
                    for scores in [clustering_scores(truth, labels)]
                }
                saved["collections"][f"{collection.stem}|{method}|{source}"] = found
                print(f"{collection.stem} {method}: " + ", ".join(f"{n} {s['nmi']:.3f}" for n, s in found.items()))
                write_result(RESULTS, json.dumps(saved | {"machine": machine()}, indent=1))
    print(summary(saved["collections"]))


if __name__ == "__main__":
    main()
