"""Pretrain GDT under each hypothesis on a labelled collection and tabulate retrieval and linear classification.

    python benchmarks/hypotheses_table.py TABLE.csv --out runs/rows [--rows a e k m] [--seeds 0 1 2] [--jobs 2]

TABLE.csv needs the columns path, label and split (train, test). Each run is the command that a user would give
(`seehear pretrain TABLE.csv --where split=train --method gdt --hypotheses ROW`, then `seehear evaluate linear` and
`retrieval`); labels are used for scoring alone, the test split for final scores alone. The first of --seeds is run for
every row, the others for --repeated alone. Runs that are finished are not done again, and interrupted ones resume.
Prints a table in Markdown and writes all scores to OUT/scores.json.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from methods_table import cell, kept_scores, run_all, seehear, table_arguments

ROWS = (*"abcdefghijklm", "within-modal", "all-pairs", "simclr-audio")
REPEATED = ("a", "e", "k", "m", "within-modal")
"""Rows of which all seeds are run."""
COLUMNS = {
    "linear, video": ("linear", "scores", "video", "accuracy"),
    "linear, audio": ("linear", "scores", "audio", "accuracy"),
    "video R@1": ("retrieval", "scores", "video", "R@1"),
    "video R@5": ("retrieval", "scores", "video", "R@5"),
    "audio R@1": ("retrieval", "scores", "audio", "R@1"),
    "audio to video: class R@1": ("retrieval", "cross_modal_classes", "audio->video", "R@1"),
    "own clip R@1": ("retrieval", "cross_modal", "audio->video", "recall", "R@1"),
    "own clip R@10": ("retrieval", "cross_modal", "audio->video", "recall", "R@10"),
}


def score(table: Path, out: Path, row: str, seed: int, settings: list[str]) -> dict[str, Any]:
    """Train one run unless it is there, and score it."""
    run = out / f"{row}_{seed}"
    first = ["--baselines"] if row == "e" else []

    def evaluate() -> dict[str, Any]:
        return {
            protocol: json.loads(seehear("evaluate", protocol, run, "--data", table, "--clips", 3, "--json", *first))
            for protocol in ("linear", "retrieval")
        }

    return kept_scores(table, run, ["--method", "gdt", "--hypotheses", row, "--seed", seed], settings, evaluate)


def values(runs: list[dict[str, Any]], path: tuple[str, ...]) -> list[float]:
    """What stands at a path in each run's scores, where it is there."""
    found = []
    for run in runs:
        here: Any = run
        for key in path:
            here = here.get(key) if isinstance(here, dict) else None
        if here is not None:
            found.append(here["value"])
    return found


def main() -> None:
    if (arguments := table_arguments(__doc__, "--rows", ROWS, repeated=REPEATED)) is None:
        return
    scores = run_all(arguments, lambda row, seed: score(arguments.table, arguments.out, row, seed, arguments.settings))
    print("| row | seeds | " + " | ".join(COLUMNS) + " |")
    print("|---" * (len(COLUMNS) + 2) + "|")
    for row, runs in scores.items():
        print(f"| {row} | {len(runs)} | " + " | ".join(cell(values(runs, path)) for path in COLUMNS.values()) + " |")
    for name in ("untrained", "chance"):
        runs = [{p: {"scores": r[p]["baselines"][name]} for p in ("linear", "retrieval")} for r in scores.get("e", [])]
        print(f"| {name} | {len(runs)} | " + " | ".join(cell(values(runs, path)) for path in COLUMNS.values()) + " |")


if __name__ == "__main__":
    main()
