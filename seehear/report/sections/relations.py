"""How they relate: video with audio clusters, and each labelling with the given classes."""

from __future__ import annotations

from typing import Any

import numpy as np

from seehear.report import figures
from seehear.report.content import Content
from seehear.report.section import Section
from seehear.report.truth import agreement


def gather(content: Content) -> dict[str, Any] | None:
    """Heat maps, their columns in the order that brings agreement onto the diagonal; None without two labellings."""
    heats = [*_of_modalities(content), *_with_classes(content)]
    return {"heats": heats} if heats else None


def _of_modalities(content: Content) -> list[figures.HeatMap]:
    labellings = content.run.labellings
    if "video" not in labellings or "audio" not in labellings:
        return []
    first, second = labellings["video"], labellings["audio"]
    both = (first.cluster >= 0) & (second.cluster >= 0)
    shared = agreement(first, second)
    if shared is None:
        return []
    a, b, counts = figures.contingency(first.cluster[both], second.cluster[both])
    rows = np.argsort(-counts.sum(axis=1), kind="stable")
    title = f"Video × audio clusters, NMI {shared:.2f}"
    return [_heat(title, a[rows], b, counts[rows], "video", "audio")]


def _with_classes(content: Content) -> list[figures.HeatMap]:
    labels = np.array([label or "" for label in content.labels], dtype=object)
    heats = []
    for name, scores in content.scores.items():
        labelling = content.run.labellings[name]
        both = (labelling.cluster >= 0) & (labels != "")
        a, b, counts = figures.contingency(labels[both].astype(str), labelling.cluster[both])
        title = f"Classes × {'joint' if name == 'both' else name} clusters, NMI {scores.nmi:.2f}"
        heats.append(_heat(title, a, b, counts, "class", name))
    return heats


def _heat(
    title: str, rows: np.ndarray, columns: np.ndarray, counts: np.ndarray, row_word: str, column_word: str
) -> figures.HeatMap:
    order = figures.match_columns(counts)
    return figures.heat_map(
        title, counts[:, order], [str(r) for r in rows], [str(c) for c in columns[order]], row_word, column_word
    )


SECTION = Section("relations", "How they relate", gather)
