"""Transfer: saved evaluations with their intervals, confusion matrices, and scores of each class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from seehear.report import figures
from seehear.report.content import Content
from seehear.report.section import Section
from seehear.transfer.evaluations import Evaluation
from seehear.transfer.table import IN_UNITS, shown

LARGEST_CONFUSION = 400
"""Classes of a confusion matrix that is drawn; a larger one would be a grey square."""


def gather(content: Content) -> dict[str, Any] | None:
    """A part for each evaluation on a data set; None if there is none. Those of clusters stand with the clusters."""
    found = [_evaluation(e) for e in content.run.evaluations if e.protocol != "clustering"]
    return {"evaluations": found} if found else None


def _evaluation(evaluation: Evaluation) -> dict[str, Any]:
    options = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in evaluation.options.items())
    heats, classes = [], []
    for modality, matrix in evaluation.record.get("confusion", {}).items():
        names, counts = matrix["classes"], np.asarray(matrix["counts"])
        if counts.size and len(names) <= LARGEST_CONFUSION:
            # A class that is only predicted has no row.
            rows = [i for i in range(len(names)) if counts[i].any()]
            shown_names = [names[i] for i in rows], names
            heading = f"{modality}: confusion matrix, classes × predictions"
            heats.append(
                figures.heat_map(heading, counts[rows], *shown_names, f"{modality} class", "prediction", "video")
            )
        of_classes = evaluation.record["per_class"][modality]
        classes.append((modality, sorted(of_classes, key=lambda row: (row["recall"], str(row["class"])))))
    return {
        "title": f"{evaluation.protocol} on {evaluation.data}" + (f" ({options})" if options else ""),
        "about": _about(evaluation.result),
        "columns": _columns(evaluation.result),
        "rows": _rows(evaluation),
        "heats": heats,
        "classes": classes,
    }


def _about(result: Mapping[str, Any]) -> str:
    """What was done with how many videos, and what is missing of them."""
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
        parts.append("confusions are summed over the splits")
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
