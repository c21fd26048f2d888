"""Pretrain every method with several seeds on a labelled collection and tabulate how well it found the classes.

    python benchmarks/methods_table.py TABLE.csv --out runs/table [--methods xdc sdc ...] [--seeds 0 1 2] [--jobs 2]

TABLE.csv needs the columns path, label and split (train, test). Each run is the command that a user would give
(`seehear pretrain TABLE.csv --where split=train ...`, then `seehear evaluate`); labels are used for scoring
alone, the test split for the linear classifier's final score alone. Runs that are finished are not done again,
and interrupted ones resume. Prints a table in Markdown and writes all scores to OUT/scores.json.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

METHODS = ("xdc", "cdc", "mdc", "sdc", "same-modality")
MODALITIES = ("video", "audio", "both")


def seehear(*arguments: object) -> str:
    """Standard output of a command, on one thread: as many runs as cores go side by side."""
    command = [sys.executable, "-m", "seehear", *map(str, arguments)]
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def kept_scores(
    table: Path, run: Path, options: list[object], settings: list[str], evaluate: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """Scores of a run, which is trained with `options` unless it is there, or from where it stopped."""
    kept = run / "scores.json"
    if kept.exists():
        return json.loads(kept.read_text())  # type: ignore[no-any-return]
    if (run / "config.yaml").exists():
        seehear("pretrain", "--resume", run, "--quiet")
    else:
        changes = [part for s in ["threads=1", *settings] for part in ("--set", s)]
        seehear("pretrain", table, "--where", "split=train", *options, "--out", run, "--quiet", *changes)
    found = evaluate()
    found["seconds"] = [json.loads(line) for line in (run / "metrics.jsonl").open()][-1]["seconds"]
    kept.write_text(json.dumps(found, indent=1))
    print(f"{run.name}: done", file=sys.stderr, flush=True)
    return found


def score(table: Path, out: Path, method: str, seed: int, settings: list[str], classes: int) -> dict[str, Any]:
    """Train one run unless it is there, and score it."""
    run = out / f"{method}_{seed}"
    first = ["--baselines"] if method == "xdc" else []

    def evaluate() -> dict[str, Any]:
        return {
            "own_k": json.loads(seehear("evaluate", "clustering", run, "--json", *first)),
            "k_classes": json.loads(seehear("evaluate", "clustering", run, "--k", classes, "--json", *first)),
            "linear": json.loads(seehear("evaluate", "linear", run, "--data", table, "--json", *first)),
        }

    return kept_scores(table, run, ["--method", method, "--seed", seed], settings, evaluate)


def table_arguments(
    description: str,
    option: str,
    rows: Sequence[str],
    *,
    choices: Sequence[str] | None = None,
    repeated: Sequence[str] | None = None,
) -> argparse.Namespace | None:
    """The options that the tables share; None, with a word, where no collection is given.

    `option` names the rows, by default `rows`, of `choices` if they are limited. With `repeated` there is an option for
    the rows that take all seeds and not the first alone.
    """
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("table", type=Path, nargs="?")
    parser.add_argument("--out", type=Path)
    parser.add_argument(option, dest="rows", nargs="+", default=list(rows), choices=choices)
    if repeated is not None:
        parser.add_argument("--repeated", nargs="*", default=list(repeated))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="SECTION.FIELD=VALUE")
    arguments = parser.parse_args()
    if arguments.table is None or arguments.out is None:
        print(f"{parser.prog} needs a labelled collection: python benchmarks/{parser.prog} TABLE.csv --out FOLDER")
        return None
    return arguments


def run_all(
    arguments: argparse.Namespace, score: Callable[[str, int], dict[str, Any]]
) -> dict[str, list[dict[str, Any]]]:
    """`score(row, seed)` of every row and seed, side by side; written to OUT/scores.json, by row."""
    repeated = getattr(arguments, "repeated", arguments.rows)
    jobs = [
        (row, seed)
        for seed in arguments.seeds
        for row in arguments.rows
        if seed == arguments.seeds[0] or row in repeated
    ]
    arguments.out.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        found = list(pool.map(lambda job: score(*job), jobs))
    scores: dict[str, list[dict[str, Any]]] = {row: [] for row in arguments.rows}
    for (row, _), result in zip(jobs, found, strict=True):
        scores[row].append(result)
    (arguments.out / "scores.json").write_text(json.dumps(scores, indent=1))
    return scores


def class_count(table: Path) -> int:
    """The number of classes in a table with the column label."""
    with table.open(newline="", encoding="utf-8") as file:
        return len({row["label"] for row in csv.DictReader(file)})


def cell(values: list[float]) -> str:
    """Mean and standard deviation over seeds."""
    if not values:
        return ""
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


def rows(scores: dict[str, list[dict[str, Any]]]) -> list[tuple[str, list[str]]]:
    """Lines of the table: methods, then what needs no training."""

    def line(runs: list[dict[str, Any]], group: str | None) -> list[str]:
        cells = []
        for key in ("own_k", "k_classes"):
            for modality in MODALITIES:
                found = [(r[key]["baselines"][group] if group else r[key]["scores"]).get(modality) for r in runs]
                cells.append(cell([f["nmi"] for f in found if f]))
        linear = {None: "accuracy", "untrained": "untrained"}.get(group)
        for modality in MODALITIES:
            found = [r["linear"].get(linear, {}).get(modality) for r in runs]
            cells.append(cell([f for f in found if f is not None]))
        return cells

    table = [(method, line(runs, None)) for method, runs in scores.items()]
    if "xdc" in scores:
        names = {"untrained": "untrained encoders", "raw": "raw pixels, spectrograms", "chance": "chance"}
        table += [(title, line(scores["xdc"], group)) for group, title in names.items()]
    return table


def main() -> None:
    if (arguments := table_arguments(__doc__, "--methods", METHODS)) is None:
        return
    classes = class_count(arguments.table)
    scores = run_all(
        arguments,
        lambda method, seed: score(arguments.table, arguments.out, method, seed, arguments.settings, classes),
    )
    first = scores[arguments.rows[0]][0]["own_k"]["scores"]
    k = first["video"]["k"] if "video" in first else "own"
    print(f"|  | NMI at k = {k} |  |  | NMI at k = {classes} classes |  |  | linear, test accuracy |  |  |")
    print("|---" * 10 + "|")
    print("|  | " + " | ".join(MODALITIES * 3) + " |")
    for name, cells in rows(scores):
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
