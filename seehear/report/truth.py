"""Given labels, brought together with a run's clips; scores come from `seehear.metrics.clustering`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from seehear.data.truth import load_truth, match
from seehear.metrics.clustering import clustering_scores, purity_table
from seehear.report.gather import Labelling, Run


@dataclass(frozen=True)
class Truth:
    """Labels of the run's videos, by video id."""

    by_video: Mapping[str, str]
    source: str

    @property
    def classes(self) -> list[str]:
        """The names that occur, in order."""
        return sorted(set(self.by_video.values()))

    def of(self, run: Run) -> list[str | None]:
        """The label of each of the run's clips."""
        return [self.by_video.get(clip.video_id) for clip in run.clips]


@dataclass(frozen=True)
class Scores:
    """How one labelling compares with the truth."""

    nmi: float
    accuracy: float
    purity: float
    rows: dict[int, Any]
    """For each cluster its row of `purity_table`."""
    counted: int


def read_truth(run: Run, path: str | Path | None) -> Truth | None:
    """Labels from a file, else those that the manifest brought; None when there are none."""
    if path is None:
        found = {video.video_id: video.label for video in run.videos if video.label}
        return Truth(found, "the manifest") if found else None
    # Each video is its own prediction: what comes back is which video each label belongs to.
    matched = match(load_truth(path), {clip.video_id: clip.video_id for clip in run.clips})
    found = dict(zip(matched.y_pred, matched.y_true, strict=True))
    return Truth(found, PurePath(path).name)


def score(labelling: Labelling, labels: list[str | None], concepts: int = 5) -> Scores | None:
    """Compare a labelling with the truth on the clips that have both."""
    both = [i for i, label in enumerate(labels) if label is not None and labelling.cluster[i] >= 0]
    if not both:
        return None
    true = [str(labels[i]) for i in both]
    predicted = [int(labelling.cluster[i]) for i in both]
    rows = {int(row.cluster): row for row in purity_table(true, predicted, concepts)}
    scores = clustering_scores(true, predicted)
    pure = sum(row.purity * row.size for row in rows.values()) / max(sum(r.size for r in rows.values()), 1)
    return Scores(float(scores.nmi), float(scores.accuracy), float(pure), rows, len(both))


def agreement(first: Labelling, second: Labelling) -> float | None:
    """NMI of two labellings of the same clips."""
    from sklearn.metrics import normalized_mutual_info_score

    both = (first.cluster >= 0) & (second.cluster >= 0)
    if not np.any(both):
        return None
    return float(normalized_mutual_info_score(first.cluster[both], second.cluster[both]))
