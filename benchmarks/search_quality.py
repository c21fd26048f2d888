"""How good search is: held-out queries against the index of what a run learnt from.

    python benchmarks/search_quality.py TABLE.csv RUN... [--strangers OTHER.csv] [--out FILE.json]

TABLE.csv needs the columns path, label and split. Each RUN was trained on its train part; its index is that of these
clips, as `seehear search RUN FILE` uses it. Every file of the test part is asked for by sight, by sound, by both and
across, and the precision among the first ten hits is the share that has the query's class. Recall of the moment: the
test part is indexed in a copy of the run, and each clip's own sound is looked for by its picture among all of them,
and the other way round. With `--strangers`, files of another collection are asked for too: the share that is told
"nothing like it here", beside the same share of the queries that do have their like. Nothing is chosen by these.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import seehear
from seehear.errors import SeehearError
from seehear.search.index import Index
from seehear.search.query import Searcher

KINDS: dict[str, dict[str, str]] = {
    "sight": {"by": "sight"},
    "sound": {"by": "sound"},
    "both": {"by": "both"},
    "across, sounds by sight": {"by": "across", "across_from": "sight"},
    "across, pictures by sound": {"by": "across", "across_from": "sound"},
}


def rows_of(table: Path, split: str) -> Iterator[tuple[str, Path, str]]:
    """Id, file and class of each clip of a split."""
    with open(table, newline="") as file:
        for row in csv.DictReader(file):
            if row["split"] == split:
                yield row["path"], table.parent / row["path"], row["label"]


def precision_at_10(searcher: Searcher, index: Index, table: Path, truth: dict[str, str]) -> dict[str, Any]:
    """For each kind of search the mean precision among ten hits, over the queries that can be asked."""
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    told: dict[str, list[bool]] = {kind: [] for kind in KINDS}
    refused = 0
    for _, path, label in rows_of(table, "test"):
        for kind, options in KINDS.items():
            try:
                answer = searcher.like_file(path, k=10, **options)
            except SeehearError:
                refused += 1
                continue
            hits = [truth[index.segments.video_of(hit.row).video_id] == label for hit in answer.hits]
            found[kind].append(float(np.mean(hits)) if hits else 0.0)
            told[kind].append(answer.nothing_like_it)
    return {
        "precision_at_10": {kind: float(np.mean(values)) for kind, values in found.items() if values},
        "queries": {kind: len(values) for kind, values in found.items()},
        "told_nothing_like_it": {kind: float(np.mean(values)) for kind, values in told.items() if values},
        "refused": refused,
    }


def told_to_strangers(searcher: Searcher, table: Path) -> dict[str, float]:
    """The share of another collection's files that is told there is nothing like it, for each kind of search."""
    told: dict[str, list[bool]] = {kind: [] for kind in KINDS}
    for _, path, _ in rows_of(table, "test"):
        for kind, options in KINDS.items():
            try:
                told[kind].append(searcher.like_file(path, k=10, **options).nothing_like_it)
            except SeehearError:
                continue
    return {kind: float(np.mean(values)) for kind, values in told.items() if values}


def recall_of_the_moment(run: Path, table: Path) -> dict[str, Any]:
    """How often a clip's own other side is the first, or among the first ten, of all test clips."""
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / "run"
        shutil.copytree(run, copy, ignore=shutil.ignore_patterns("index", "checkpoints", "edits"))
        videos = Path(temporary) / "videos.csv"
        with open(videos, "w", newline="") as file:
            csv.writer(file).writerows([["path"], *([str(path.resolve())] for _, path, _ in rows_of(table, "test"))])
        seehear.build_index(copy, videos, every_seconds=3.0)  # of clips of 3 s: each is one segment
        index = Index.open(copy)
        searcher = Searcher(index, copy)
        both = np.flatnonzero(index.has["video"] & index.has["audio"]).tolist()  # silent clips have no other side
        result: dict[str, Any] = {"clips": len(both), "through": index.across}
        for name, across_from in (("sounds by sight", "sight"), ("pictures by sound", "sound")):
            ranks = []
            for row in both:
                answer = searcher.like_segment(row, by="across", across_from=across_from, k=len(index.segments))
                order = [hit.row for hit in answer.hits]
                ranks.append(order.index(row) if row in order else len(order))
            result[name] = {
                "recall_at_1": float(np.mean(np.array(ranks) < 1)),
                "recall_at_10": float(np.mean(np.array(ranks) < 10)),
            }
        return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, nargs="?")
    parser.add_argument("runs", type=Path, nargs="*")
    parser.add_argument("--strangers", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if not arguments.runs:
        print("search_quality.py needs a table with classes and runs: search_quality.py TABLE.csv RUN...")
        return
    truth = {name: label for name, _, label in rows_of(arguments.table, "train")}
    results: dict[str, Any] = {}
    for run in arguments.runs:
        index = Index.open_or_make(run)
        searcher = Searcher(index, run)
        results[run.name] = precision_at_10(searcher, index, arguments.table, truth)
        if arguments.strangers is not None:
            results[run.name]["strangers_told"] = told_to_strangers(searcher, arguments.strangers)
        results[run.name]["moment"] = recall_of_the_moment(run, arguments.table)
        print(run.name, json.dumps(results[run.name], indent=1), flush=True)
        if arguments.out is not None:
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            arguments.out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
