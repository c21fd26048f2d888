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
    return {"heats": heats, "with_classes": bool(content.scores)} if heats else None


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
    return [_heat(title, a[rows], b, counts[rows], "video", "audio", "clip")]


def _with_classes(content: Content) -> list[figures.HeatMap]:
    heats = []
    for name, scores in content.scores.items():
        a, b, counts = figures.contingency(scores.classes, scores.clusters)
        title = f"Classes × {'joint' if name == 'both' else name} clusters, NMI {scores.nmi:.2f}"
        heats.append(_heat(title, a, b, counts, "class", name, "video"))
    return heats


def _heat(
    title: str, rows: np.ndarray, columns: np.ndarray, counts: np.ndarray, row_word: str, column_word: str, unit: str
) -> figures.HeatMap:
    order = figures.match_columns(counts)
    names = [str(r) for r in rows], [str(c) for c in columns[order]]
    return figures.heat_map(title, counts[:, order], *names, row_word, column_word, unit)


SECTION = Section("relations", "How they relate", gather)
