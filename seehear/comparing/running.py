"""Runs side by side: their features of the clips that all have, measured, ranked and, with labels, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from scipy.stats import spearmanr
from torch import Tensor

from seehear.cluster.kmeans import kmeans
from seehear.comparing.criteria import Criteria, criteria
from seehear.data.truth import load_truth, match
from seehear.engine.runfolder import open_run
from seehear.errors import DataError, UsageError
from seehear.features.model import table_bank
from seehear.metrics.clustering import nmi
from seehear.progress import Progress

_LEAST_CLIPS = 20


@dataclass(frozen=True)
class Compared:
    """One run."""

    run: str
    method: str
    found: Criteria
    nmi: float | None
    """Of k-means on both modalities into as many clusters as classes, with the classes; None without labels."""


@dataclass(frozen=True)
class Comparison:
    """Runs, the best first."""

    runs: tuple[Compared, ...]
    clips: int
    """That all runs have features of."""
    labelled: int | None
    """Clips with a known class; None without labels."""
    rank_correlation: float | None
    """Spearman's, of bits shared and NMI; None without labels, for fewer than three runs, or if all alike."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        runs = [
            {"run": r.run, "method": r.method, **r.found.as_dict(), **({} if r.nmi is None else {"nmi": r.nmi})}
            for r in self.runs
        ]
        told = {} if self.labelled is None else {"labelled": self.labelled, "rank_correlation": self.rank_correlation}
        return {"clips": self.clips, "runs": runs, **told}


def compare_runs(runs: Sequence[Path], labels: str | Path | None, *, seed: int = 0) -> Comparison:
    """What `seehear.compare` does; arguments as there."""
    if len(runs) < 2:
        raise UsageError("one run has nothing to be compared with", "seehear compare runs/a runs/b")
    methods, features = [], []
    for run in runs:
        folder = open_run(run)
        folder.check_trained("compare runs that learnt from the same videos")
        folder.check_clustered("compare pretrained runs")
        methods.append(folder.load_config().method)
        features.append(_features(run, folder.features))
    # Random places in memory would give another order, and with it other draws.
    clips = sorted(set.intersection(*(set(of_run) for of_run in features)))
    if len(clips) < _LEAST_CLIPS:
        raise DataError(
            f"the runs have features of {len(clips)} clips in common, too few to compare them by",
            "compare runs on the same videos, with clips cut alike",
        )
    truth = None if labels is None else load_truth(labels)
    compared = []
    labelled = None
    with Progress(quiet=None) as progress:
        for number, (run, method, of_run) in enumerate(zip(runs, methods, features, strict=True), start=1):
            sight, sound = (torch.stack([of_run[clip][i] for clip in clips]) for i in (0, 1))
            shown = progress.shown("compare", f"numbers of kinds, run {number} of {len(runs)}")
            found = criteria(sight, sound, seed=seed, progress=shown)
            score = None
            if truth is not None:
                score, labelled = _agreement_with(truth, clips, torch.cat([sight, sound], dim=1) / 2**0.5, seed)
            compared.append(Compared(str(run), method, found, score))
    correlation = None
    scores = [r.nmi for r in compared if r.nmi is not None]
    shared = [r.found.shared_bits for r in compared]
    if len(scores) >= 3 and len(set(scores)) > 1 and len(set(shared)) > 1:
        correlation = float(spearmanr(shared, scores).statistic)
    compared.sort(key=lambda r: -r.found.shared_bits)
    return Comparison(tuple(compared), len(clips), labelled, correlation)


Clip = tuple[str, float, float]


def _features(run: Path, path: Path) -> dict[Clip, tuple[Tensor, Tensor]]:
    """Sight and sound of each clip, of length 1."""
    bank = table_bank(pq.read_table(path))
    if not {"video", "audio"} <= bank.features.keys():
        raise UsageError(
            f"{run} has learnt {', '.join(bank.features)}, and runs are compared by what sight and sound share",
            "leave it out",
        )
    # A copy each: a row of a joint tensor would keep all of it.
    sight, sound = (torch.from_numpy(bank.joined(name).astype(np.float32)) for name in ("video", "audio"))
    sight, sound = (torch.nn.functional.normalize(x, dim=1) for x in (sight, sound))
    keys = [(ref.video_id, ref.start_seconds, ref.end_seconds) for ref in bank.refs]
    return {key: (sight[i], sound[i]) for i, key in enumerate(keys)}


def _agreement_with(truth: dict[str, str], clips: Sequence[Clip], x: Tensor, seed: int) -> tuple[float, int]:
    """NMI of the clips' clusters, as many as classes, with the classes; and how many clips have one."""
    videos = list(dict.fromkeys(video for video, _, _ in clips))
    matched = match(truth, dict.fromkeys(videos, 0))
    class_of = dict(zip(matched.ids, matched.y_true, strict=True))
    rows = [i for i, (video, _, _) in enumerate(clips) if video in class_of]
    classes = [class_of[clips[i][0]] for i in rows]
    found = kmeans(x[rows], len(set(classes)), restarts=10, seed=seed)
    return nmi(classes, found.labels.numpy()), len(rows)
