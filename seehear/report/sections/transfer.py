"""Transfer: saved evaluations with their intervals, confusion matrices, and scores of each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seehear.metrics.classification import per_class
from seehear.report import figures
from seehear.report.content import Content
from seehear.report.section import Section
from seehear.transfer.evaluations import Evaluation, in_words
from seehear.transfer.table import IN_UNITS, shown

LARGEST_CONFUSION = 400
"""Classes of a confusion matrix that is drawn; a larger one would be a grey square."""


def gather(content: Content) -> dict[str, Any] | None:
    """A part for each evaluation on a data set; None if there is none. Those of clusters stand with the clusters."""
    found = [_evaluation(e) for e in content.run.evaluations if e.protocol != "clustering"]
    return {"evaluations": found} if found else None


def _evaluation(evaluation: Evaluation) -> dict[str, Any]:
    options = in_words(evaluation.options)
    heats, classes = [], []
    for name, modality, matrix in _confusions(evaluation):
        counts = np.asarray(matrix["counts"])
        if not counts.any():  # a split without a known class
            continue
        if len(matrix["classes"]) <= LARGEST_CONFUSION:
            heats.append(_heat(name, modality, matrix["classes"], counts))
        classes.append((name, sorted(per_class(matrix), key=lambda row: (row["recall"], str(row["class"])))))
    return {
        "title": f"{evaluation.protocol} on {evaluation.data}" + (f" ({options})" if options else ""),
        "about": _about(evaluation),
        "columns": _columns(evaluation.result),
        "rows": _rows(evaluation),
        "heats": heats,
        "classes": classes,
    }


def _confusions(evaluation: Evaluation) -> list[tuple[str, str, dict[str, Any]]]:
    """What each confusion matrix is called, its modality, and the matrix.

    Official splits share test videos, so that there is no matrix of all: there each split's own stands.
    """
    if of_all := evaluation.record.get("confusion"):
        return [(modality, modality, matrix) for modality, matrix in of_all.items()]
    return [
        (f"{split}, {modality}", modality, matrix)
        for split, result in evaluation.result.get("splits", {}).items()
        for modality, matrix in result.get("confusion", {}).items()
    ]


def _heat(name: str, modality: str, classes: Sequence[str], counts: np.ndarray) -> figures.HeatMap:
    # A class that is only predicted has no row.
    rows = [i for i in range(len(classes)) if counts[i].any()]
    heading = f"{name}: confusion matrix, classes × predictions"
    words = f"{modality} class", "prediction", "video"
    return figures.heat_map(heading, counts[rows], [classes[i] for i in rows], classes, *words)


def _about(evaluation: Evaluation) -> str:
    """What was done with how many videos, and what is missing of them."""
    result = evaluation.result
    parts = [str(result.get("description", ""))]
    if "clips" in result:
        window = f" of {result['window_seconds']:g} s" if result.get("window_seconds") else ""
        parts.append(f"{result['clips']} clip{'s' if result['clips'] != 1 else ''}{window} a video")
    of_splits = result.get("splits") or {result.get("split", ""): result}
    for name, split in of_splits.items():
        if "train_videos" in split:
            counts = f"{split['train_videos']:,} training and {split['test_videos']:,} test videos"
            parts.append(f"{name}: {counts}" if len(of_splits) > 1 else counts)
        for part, missing in split.get("missing", {}).items():
            gone = ", ".join(f"{n:,} {why.replace('_', ' ')}" for why, n in missing.items() if n)
            if gone:
                parts.append(f"left out of {part}: {gone}")
    if len(of_splits) > 1 and any("confusion" in split for split in of_splits.values()):
        summed = bool(evaluation.record.get("confusion"))
        parts.append(
            "confusions are summed over the splits"
            if summed
            else "confusions are those of each split: a sum would count videos that several splits test more than once"
        )
    return "; ".join(part for part in parts if part) + "."


def _columns(result: Mapping[str, Any]) -> list[str]:
    splits, baselines = result.get("splits", {}), result.get("baselines", {})
    return ["", "score", "sd over splits" if splits else "95 % interval", *map(str, splits), *map(str, baselines)]


def _rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """For each modality and metric the score, its interval or deviation, that of each split, and the baselines."""
    result = evaluation.result
    groups = [*(split["scores"] for split in result.get("splits", {}).values()), *result.get("baselines", {}).values()]
    return [
        {
            "modality": modality,
            "metric": metric,
            "score": shown(score["value"], metric) + ("" if metric in IN_UNITS else " %"),
            "others": [_spread(score, metric), *(_value(group, modality, metric) for group in groups)],
        }
        for modality, metrics in evaluation.scores().items()
        for metric, score in metrics.items()
    ]


def _spread(score: Mapping[str, float], metric: str) -> str:
    if "low" in score:
        interval = f"{shown(score['low'], metric)} to {shown(score['high'], metric)}"
        return f"{interval}; sd {shown(score['sd'], metric)}" if "sd" in score else interval
    return f"± {shown(score['sd'], metric)}" if "sd" in score else ""


def _value(group: Mapping[str, Any], modality: str, metric: str) -> str:
    score = group.get(modality, {}).get(metric)
    return "" if score is None else shown(score["value"], metric)


SECTION = Section("transfer", "Transfer", gather)
