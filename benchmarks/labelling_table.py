"""Label a labelled collection by SeLaVi, its relatives and baselines, and tabulate how well each found the classes.

    python benchmarks/labelling_table.py TABLE.csv --out runs/labels [--rows selavi xdc ...] [--seeds 0 1 2] [--jobs 2]

TABLE.csv needs the columns path, label and split (train, test); all is trained and scored on its train part. Each
run is the command that a user would give (`seehear pretrain TABLE.csv --where split=train ...`, then `seehear evaluate
clustering`), with as many clusters as there are classes; classes are used for scoring alone, but for the row
`supervised`, whose encoders learnt them: k-means on its features says what perfect features would give. SeLaVi and
its relatives see each clip as often as XDC does: 70 epochs of two views, or 140 of one.
Runs that are finished are not done again, and interrupted ones resume. Prints a table in Markdown and writes all
scores to OUT/scores.json.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from methods_table import MODALITIES, cell, class_count, kept_scores, run_all, seehear, table_arguments

SELAVI = ("--method", "selavi", "--set", "optim.epochs=70")
ROWS: dict[str, tuple[str, ...]] = {
    "selavi": SELAVI,
    "selavi, strict marginals": (*SELAVI, "--set", "selavi.follow=0"),
    "xdc": ("--method", "xdc"),
    "concatenation": (
        "--method", "selavi", "--set", "selavi.variant=concatenation", "--set", "selavi.marginals=uniform",
        "--set", "selavi.heads=1", "--set", "optim.epochs=140",
    ),
    "frames": (*SELAVI, "--set", "selavi.variant=frames", "--set", "selavi.marginals=uniform"),
    "supervised": ("--method", "supervised", "--set", "rounds=1", "--set", "optim.epochs=40"),
}  # fmt: skip
BASELINES = {
    "untrained": "k-means, untrained encoders",
    "raw": "k-means, pixels and spectrograms",
    "chance": "chance",
}
SCORES = {
    "NMI": "nmi",
    "ARI": "ari",
    "accuracy": "accuracy",
    "⟨H⟩": "mean_entropy_nats",
    "⟨p_max⟩": "mean_max_purity",
}


def score(table: Path, out: Path, row: str, seed: int, classes: int, settings: list[str]) -> dict[str, Any]:
    """Train one run unless it is there, and score its labels; those of `supervised` are k-means on its features."""
    run = out / f"{row.replace(', ', '-').replace(' ', '-')}_{seed}"
    options = [*ROWS[row], "--clusters", classes, "--seed", seed]
    anew = ["--k", classes] if row == "supervised" else []
    first = ["--baselines"] if row == "xdc" else []

    def evaluate() -> dict[str, Any]:
        return json.loads(seehear("evaluate", "clustering", run, *anew, *first, "--json"))  # type: ignore[no-any-return]

    return kept_scores(table, run, options, settings, evaluate)


def lines(scores: dict[str, list[dict[str, Any]]]) -> list[list[str]]:
    """Cells of the table: a line for what each row's labels are read off, then for what needs no training."""

    def line(name: str, modality: str, found: list[dict[str, Any]]) -> list[str]:
        return [name, modality, str(len(found)), *(cell([f[key] for f in found]) for key in SCORES.values())]

    table = []
    for row, runs in scores.items():
        for modality in MODALITIES:
            if found := [run["scores"][modality] for run in runs if modality in run["scores"]]:
                table.append(line("k-means, supervised encoders" if row == "supervised" else row, modality, found))
    for group, title in BASELINES.items():
        for modality in MODALITIES:
            if found := [run["baselines"][group][modality] for run in scores.get("xdc", [])
                         if modality in run["baselines"][group]]:  # fmt: skip
                table.append(line(title, modality, found))
    return table


def main() -> None:
    if (arguments := table_arguments(__doc__, "--rows", list(ROWS), choices=list(ROWS))) is None:
        return
    classes = class_count(arguments.table)
    scores = run_all(
        arguments, lambda row, seed: score(arguments.table, arguments.out, row, seed, classes, arguments.settings)
    )
    print(f"| k = {classes} | labels from | seeds | " + " | ".join(SCORES) + " |")
    print("|---" * (3 + len(SCORES)) + "|")
    for cells in lines(scores):
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
