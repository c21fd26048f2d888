"""Rules for the number of kinds, and outliers, judged on the features of finished runs.

    python benchmarks/kinds.py SHAPES RUNS [--made FOLDER] [--methods xdc gdt] [--rules ...] [--shapes ...] [--seeds 0]

SHAPES is a folder of `benchmarks/shapes.py`. The features of collection SHAPE-SEED are those of RUNS/SHAPE-SEED-METHOD,
a run trained on it, where there is one; else those that RUNS/vizdoom_actions-METHOD or RUNS/photosound-METHOD, trained
on the whole set, have for its clips. Clips that these were not trained on have their features in
MADE/vizdoom_actions-METHOD*.parquet (of `seehear embed`). Features of a run on the whole set are a cheap stand-in: the
encoders have seen clips that the collection lacks, in other shares.

For each the number of kinds by each rule, and the agreement with the truth of k-means on both modalities with that
number and with the true one. Clips of no kind are clustered too, but not scored. Then how well doubt tells what is of
no kind or has another's sound, and what k-means with the true number gives a wrong label. Added to results/kinds.json.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from scipy.optimize import linear_sum_assignment
from shapes import NO_KIND, SETS
from sklearn.metrics import roc_auc_score
from support import machine
from support.rules_of_k import RULES, SLOW_RULES, joined, labels_of

from seehear.cluster.doubt import Doubt, doubts
from seehear.files import write_result
from seehear.metrics.clustering import clustering_scores

RESULTS = Path(__file__).parent / "results" / "kinds.json"
Rows = dict[str, tuple[np.ndarray, np.ndarray]]


def read(path: Path) -> Rows:
    """Sight and sound of each file of a table of features, by the file's name."""
    table = pq.read_table(path, columns=["video_id", "video", "audio"])
    sight, sound = (np.array(table[name].to_pylist(), dtype=np.float32) for name in ("video", "audio"))
    return {Path(name).name: (sight[i], sound[i]) for i, name in enumerate(table["video_id"].to_pylist())}


def features_of(collection: Path, runs: Path, made: Path | None, method: str) -> list[tuple[str, Rows]]:
    """What features there are of a collection, and from where."""
    own = runs / f"{collection.stem}-{method}" / "features.parquet"
    if own.exists():
        return [("itself", read(own))]
    with collection.open() as file:
        sets = {row["set"] for row in csv.DictReader(file)}
    found = []
    for name in sorted(sets):
        whole = read(runs / f"{SETS[name]}-{method}" / "features.parquet")
        for more in sorted(made.glob(f"{SETS[name]}-{method}*.parquet")) if made else []:
            whole |= read(more)
        found.append((SETS[name], whole))
    return found


def unit(x: np.ndarray) -> np.ndarray:
    """Rows of length 1."""
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def collection_of(path: Path, rows: Rows) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Sight, sound (of unit length) and labels of the clips that have features, and which of them are odd."""
    with path.open() as file:
        clips = [row for row in csv.DictReader(file) if Path(row["path"]).name in rows]
    sight, sound = (np.stack([rows[Path(row["path"]).name][i] for row in clips]) for i in (0, 1))
    odd = np.array([row["label"] == NO_KIND or row["swapped"] == "1" for row in clips])
    return unit(sight), unit(sound), np.array([row["label"] for row in clips]), odd


def told_apart(found: Doubt, odd: np.ndarray) -> dict[str, float]:
    """How well doubt tells the odd clips from the others; where it says nothing all are alike to it."""
    said = found.outliers
    return {
        "auc": float(roc_auc_score(odd, np.nan_to_num(found.doubt))),
        "precision": float(odd[said].mean()) if said.any() else 0.0,
        "recall": float(said[odd].mean()),
    }


def judged_doubt(sight: np.ndarray, sound: np.ndarray, truth: np.ndarray, odd: np.ndarray) -> dict[str, float]:
    """How many clips are said to be of no kind; how well doubt tells the odd ones, and those that are mislabelled."""
    found = doubts(torch.from_numpy(sight), torch.from_numpy(sound))
    result = {"said": float(found.outliers.mean())}
    labels = labels_of(joined(sight, sound)[~odd], len(set(truth[~odd])), restarts=10)
    names = sorted(set(truth[~odd]))
    counts = np.array([[np.sum((labels == k) & (truth[~odd] == name)) for name in names] for k in range(len(names))])
    of_cluster = linear_sum_assignment(counts, maximize=True)[1]
    wrong = truth[~odd] != np.array(names)[of_cluster[labels]]
    if wrong.any():
        result |= {"wrong": float(wrong.mean()), "auc_wrong": float(roc_auc_score(wrong, found.doubt[~odd]))}
    if odd.any():
        result |= told_apart(found, odd)
    return {name: round(value, 4) for name, value in result.items()}


def judged(sight: np.ndarray, sound: np.ndarray, truth: np.ndarray, rules: dict[str, Any]) -> dict[str, Any]:
    """Each rule's number with its seconds, and the scores with it and with the true number."""
    of_a_kind = truth != NO_KIND
    x = joined(sight, sound)

    def scores(k: int) -> dict[str, float]:
        labels = labels_of(x, k, restarts=10)[of_a_kind] if k > 1 else np.zeros(int(of_a_kind.sum()), int)
        found = clustering_scores(truth[of_a_kind], labels)
        return {"nmi": round(found.nmi, 4), "accuracy": round(found.accuracy, 4)}

    kinds = len(set(truth[of_a_kind]))
    result: dict[str, Any] = {"clips": len(truth), "kinds": kinds, "known": scores(kinds), "rules": {}}
    for name, rule in rules.items():
        began = time.process_time()
        k = rule(sight, sound)
        result["rules"][name] = {"k": k, "cpu_seconds": round(time.process_time() - began, 2), **scores(k)}
    return result


def summary(results: dict[str, Any]) -> str:
    """For each method and rule: how often k is within a fifth, its error, and what of the scores is lost."""
    lines = [f"{'':<28}{'within 20 %':>12}{'|log k/k*|':>12}{'NMI':>8}{'accuracy':>10}{'worst NMI':>11}{'cpu s':>8}"]
    for method in sorted({key.split("|")[1] for key in results}):
        of = [r for key, r in results.items() if key.split("|")[1] == method]
        known = [np.mean([r["known"][name] for r in of]) for name in ("nmi", "accuracy")]
        lines.append(f"{method + ', k known':<52}{known[0]:>8.3f}{known[1]:>10.3f}")
        for rule in dict.fromkeys(name for r in of for name in r["rules"]):
            rows = [(r["rules"][rule], r) for r in of if rule in r["rules"]]
            within = np.mean([abs(x["k"] - r["kinds"]) <= 0.2 * r["kinds"] for x, r in rows])
            error = np.mean([abs(np.log(max(x["k"], 1) / r["kinds"])) for x, r in rows])
            lost = [[x[name] - r["known"][name] for x, r in rows] for name in ("nmi", "accuracy")]
            seconds = np.mean([x["cpu_seconds"] for x, _ in rows])
            lines.append(
                f"  {rule:<26}{within:>12.2f}{error:>12.2f}{np.mean(lost[0]):>+8.3f}{np.mean(lost[1]):>+10.3f}"
                f"{min(lost[0]):>+11.3f}{seconds:>8.1f}"
            )
    of_doubt = [(key, r["doubt"]) for key, r in sorted(results.items()) if "auc" in r.get("doubt", {})]
    lines += [f"\n{'of no kind, or swapped':<40}{'AUC':>6}{'precision':>11}{'recall':>8}{'said':>6}"]
    lines += [
        f"{key:<40}{d['auc']:>6.3f}{d['precision']:>11.2f}{d['recall']:>8.2f}{d['said']:>6.2f}" for key, d in of_doubt
    ]
    clean = [d["said"] for r in results.values() if (d := r.get("doubt", {})) and "auc" not in d]
    if clean:
        lines.append(f"said of collections without such clips: {np.mean(clean):.3f}, at most {max(clean):.2f}")
    return "\n".join(lines)


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """A parser of what says which collections are looked at, with features of which runs."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes_folder", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--made", type=Path)
    parser.add_argument("--methods", nargs="+", default=["xdc", "selavi", "gdt"])
    parser.add_argument("--shapes", nargs="+", help="only collections of these shapes")
    return parser


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--seeds", nargs="+", help="only collections of these seeds")
    parser.add_argument("--rules", nargs="+", default=list(RULES), choices=[*RULES, *SLOW_RULES])
    asked = parser.parse_args()
    rules = {name: rule for name, rule in (RULES | SLOW_RULES).items() if name in asked.rules}
    saved = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"collections": {}}
    for collection in sorted(asked.shapes_folder.glob("*.csv")):
        shape, seed = collection.stem.rsplit("-", 1)
        if (asked.shapes and shape not in asked.shapes) or (asked.seeds and seed not in asked.seeds):
            continue
        for method in asked.methods:
            for source, rows in features_of(collection, asked.runs, asked.made, method):
                sight, sound, truth, odd = collection_of(collection, rows)
                result = judged(sight, sound, truth, rules)
                known = saved["collections"].setdefault(f"{collection.stem}|{method}|{source}", result)
                known["rules"] |= result["rules"]
                known["doubt"] = judged_doubt(sight, sound, truth, odd)
                numbers = ", ".join(f"{name} {found['k']}" for name, found in result["rules"].items())
                print(f"{collection.stem} {method} {source}: {result['kinds']} kinds; {numbers}", flush=True)
                write_result(RESULTS, json.dumps(saved | {"machine": machine()}, indent=1))
    print(summary(saved["collections"]))


if __name__ == "__main__":
    main()
