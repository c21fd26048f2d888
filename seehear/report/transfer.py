"""The page's section on saved evaluations: scores with intervals, which classes are taken for which, single classes."""
# ruff: noqa: E501 (HTML in strings is easier to read on one line)

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from seehear.report import figures
from seehear.transfer.evaluations import Evaluation
from seehear.transfer.table import IN_UNITS, shown

LARGEST_CONFUSION = 400
"""Classes of a confusion matrix that is drawn; a larger one would be a grey square."""


def transfer(evaluations: Sequence[Evaluation]) -> str:
    """A part for each evaluation on a data set; "" if there is none. Those of clusters stand with the clusters."""
    parts = [_evaluation(e) for e in evaluations if e.protocol != "clustering"]
    if not parts:
        return ""
    return (
        '<p class="intro">What the features are worth on other tasks: learnt from the training videos of a data set, '
        "scored once on its test videos. Intervals (95 %, bootstrap over test videos) say how far other test videos "
        f"would move a score, not what training with another seed would change.</p>{''.join(parts)}"
    )


def _evaluation(evaluation: Evaluation) -> str:
    result = evaluation.result
    options = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in evaluation.options.items())
    title = f"{evaluation.protocol} on {evaluation.data}" + (f" ({options})" if options else "")
    heats, classes = [], []
    for modality, matrix in evaluation.record.get("confusion", {}).items():
        names, counts = matrix["classes"], np.asarray(matrix["counts"])
        if counts.size and len(names) <= LARGEST_CONFUSION:
            # A class that only answers name has no row.
            rows = [i for i in range(len(names)) if counts[i].any()]
            heading = f"{modality}: classes × answers"
            heats.append(
                figures.heat_map(heading, counts[rows], [names[i] for i in rows], names, f"{modality} class", "answer")
            )
        classes.append(_classes(modality, evaluation.record["per_class"][modality]))
    drawn = f'<div class="heats">{"".join(heats)}</div>' if heats else ""
    return (
        f'<article class="evaluation"><h3>{escape(title)}</h3><p class="note">{escape(_about(result))}</p>'
        f"{_scores(evaluation)}{drawn}{''.join(classes)}</article>"
    )


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


def _scores(evaluation: Evaluation) -> str:
    """A row a modality and metric: the score, its interval or deviation, each split, and the baselines."""
    result = evaluation.result
    splits = {name: split["scores"] for name, split in result.get("splits", {}).items()}
    baselines = result.get("baselines", {})
    head = ["", "score", "sd over splits" if splits else "95 % interval", *splits, *baselines]
    rows = []
    for modality, settings in evaluation.scores().items():
        for metric, score in settings.items():
            unit = "" if metric in IN_UNITS else " %"
            spread = ""
            if "low" in score:
                spread = f"{shown(score['low'], metric)} to {shown(score['high'], metric)}"
                spread += f"; sd {shown(score['sd'], metric)}" if "sd" in score else ""
            elif "sd" in score:
                spread = f"± {shown(score['sd'], metric)}"
            others = [_value(group, modality, metric) for group in (*splits.values(), *baselines.values())]
            cells = "".join(f"<td>{escape(text)}</td>" for text in (spread, *others))
            rows.append(
                f'<tr class="tone-{escape(modality)}"><th>{escape(f"{modality} {metric}")}</th>'
                f"<td><b>{escape(shown(score['value'], metric) + unit)}</b></td>{cells}</tr>"
            )
    columns = "".join(f"<th>{escape(str(name))}</th>" for name in head)
    return f'<div class="scroll"><table><thead><tr>{columns}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _value(group: Mapping[str, Any], modality: str, metric: str) -> str:
    score = group.get(modality, {}).get(metric)
    return "" if score is None else shown(score["value"], metric)


def _classes(modality: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Recall, precision and F1 of each class, those that are found least first."""
    body = "".join(
        f"<tr><td>{escape(str(row['class']))}</td><td>{row['clips']:,}</td><td>{100 * row['recall']:.1f}</td>"
        f"<td>{100 * row['precision']:.1f}</td><td>{100 * row['f1']:.1f}</td></tr>"
        for row in sorted(rows, key=lambda row: (row["recall"], str(row["class"])))
    )
    return (
        f'<details class="table"><summary>{escape(modality)}: single classes, the least found first (per cent)</summary>'
        '<div class="scroll"><table><thead><tr><th>class</th><th>test videos</th><th>recall</th><th>precision</th>'
        f"<th>F1</th></tr></thead><tbody>{body}</tbody></table></div></details>"
    )
