"""Given labels, brought together with a run's clips; scores come from `seehear.metrics.clustering`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np

from seehear.data.truth import load_truth, match
from seehear.metrics.clustering import ClusterRow, clustering_scores, prevailing_cluster, purity_table
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


@dataclass(frozen=True)
class Scores:
    """How one labelling compares with the truth, as `seehear evaluate clustering` measures it.

    Items are videos: a video has the cluster of most of its time.
    """

    nmi: float
    accuracy: float
    purity: float
    """Mean over the clusters, unweighted, of the share of their commonest class."""
    rows: dict[int, ClusterRow]
    """For each cluster that some video has, its row of `purity_table`."""
    classes: np.ndarray
    """The class of each video that has both, in the order of `clusters`."""
    clusters: np.ndarray
    """The cluster of each of these videos."""


def read_truth(run: Run, path: str | Path | None) -> Truth | None:
    """Labels from a file, else those that the manifest brought; None when there are none."""
    if path is None:
        found = {video.video_id: video.label for video in run.videos if video.label}
        return Truth(found, "the manifest") if found else None
    # Each video is its own prediction: what comes back is which video each label belongs to.
    matched = match(load_truth(path), {clip.video_id: clip.video_id for clip in run.clips})
    found = dict(zip(matched.y_pred, matched.y_true, strict=True))
    return Truth(found, PurePath(path).name)


def score(run: Run, labelling: Labelling, truth: Truth, concepts: int = 5) -> Scores | None:
    """Compare a labelling with the truth on the videos that have both; None if there are none."""
    labelled = np.flatnonzero(labelling.cluster >= 0)
    by_video = prevailing_cluster(
        [run.clips[i].video_id for i in labelled],
        [int(labelling.cluster[i]) for i in labelled],
        [run.clips[i].end_seconds - run.clips[i].start_seconds for i in labelled],
    )
    videos = [video for video in by_video if video in truth.by_video]
    if not videos:
        return None
    true, predicted = [truth.by_video[v] for v in videos], [by_video[v] for v in videos]
    scores = clustering_scores(true, predicted)
    rows = {int(row.cluster): row for row in purity_table(true, predicted, concepts)}
    return Scores(scores.nmi, scores.accuracy, scores.mean_max_purity, rows, np.asarray(true), np.asarray(predicted))


def agreement(first: Labelling, second: Labelling) -> float | None:
    """NMI of two labellings of the same clips."""
    from sklearn.metrics import normalized_mutual_info_score

    both = (first.cluster >= 0) & (second.cluster >= 0)
    if not np.any(both):
        return None
    return float(normalized_mutual_info_score(first.cluster[both], second.cluster[both]))
