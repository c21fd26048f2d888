"""How the learning rate of a finetuning is chosen: on videos of the training split that are held out for it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seehear.data.manifest import Manifest
from seehear.errors import DataError, TrainingError
from seehear.metrics.classification import average_precision
from seehear.transfer.classifiers import draw_orders, rare_classes
from seehear.transfer.prediction import ranked_classes

# Clips of one recording: UCF101 cuts v_CLASS_gNN into _cNN, ESC-50 FOLD-ID into takes -A, -B with -CLASS behind.
_RECORDING = re.compile(r"(v_.+_g\d+)_c\d+|(\d-\d+)-[A-Z]-\d+")


def few(classes: Mapping[str, str], shots: int, seed: int) -> dict[str, str]:
    """`shots` videos of each class, or all that there are; those of fewer shots are among those of more."""
    ids = list(classes)
    labels = np.array([classes[i] for i in ids])
    rows = sorted(int(row) for order in draw_orders(labels, seed) for row in order[:shots])
    return {ids[row]: classes[ids[row]] for row in rows}


def recordings(manifest: Manifest, ids: Iterable[str]) -> dict[str, str]:
    """What recording each video is cut from: the column `group`, or what names of UCF101 and ESC-50 tell, or itself."""
    column = manifest.by_id("group") if "group" in manifest.extra_columns else {}
    found = {}
    for video_id in ids:
        named = _RECORDING.fullmatch(Path(video_id).stem)
        found[video_id] = column.get(video_id) or (named and (named[1] or named[2])) or video_id
    return found


def hold_out(classes: Mapping[str, str], groups: Mapping[str, str], share: float, seed: int) -> list[str]:
    """About `share` of the videos, of each class alike, whole groups together; each class keeps a group to train on.

    A class of one group is not held out. Raises `DataError` if nothing can be.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    ids = sorted(classes)
    labels, of = np.array([classes[i] for i in ids]), np.array([groups[i] for i in ids])
    folds = max(2, round(1 / share))
    out: set[str] = set()
    if np.unique(labels, return_counts=True)[1].max() >= folds:
        alone = len(set(of)) == len(of)
        splitter = (StratifiedKFold if alone else StratifiedGroupKFold)(folds, shuffle=True, random_state=seed)
        with rare_classes():
            _, rows = next(splitter.split(ids, labels, None if alone else of))
        out = {ids[row] for row in rows}
    else:
        # Fewer videos of every class than folds: one group of each class that has several.
        rng = np.random.default_rng(seed)
        for name in np.unique(labels):
            there = np.unique(of[labels == name])
            if len(there) > 1:
                out |= {ids[row] for row in np.flatnonzero(of == rng.choice(there))}
    kept = {classes[i] for i in ids if i not in out}
    back = {groups[i] for i in out if classes[i] not in kept}
    out = {i for i in out if groups[i] not in back}
    if not out:
        raise DataError(
            "no training video can be held out to choose the learning rate: each class has one recording",
            "set the rate: --set optim.base_lr=0.01",
        )
    return sorted(out)


def held_out_score(probabilities: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Accuracy and mean −log probability (nats) of the true classes (N,) by averaged probabilities (N, C)."""
    of_truth = probabilities[np.arange(len(truth)), truth].astype(np.float64)
    return {
        "accuracy": float((ranked_classes(probabilities)[:, 0] == truth).mean()),
        "loss": float(-np.log(of_truth.clip(1e-12)).mean()),
    }


def held_out_score_of_several(probabilities: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Mean average precision and the sum over classes of the mean log loss (nats), by probabilities (N, C).

    `truth` (N, C) is True where a video has a class; classes that no video has do not count for the first.
    """
    there = truth.any(axis=0)
    p = np.where(truth, probabilities, 1 - probabilities).astype(np.float64)
    return {
        "mAP": float(average_precision(truth[:, there], probabilities[:, there]).mean()),
        "loss": float(-np.log(p.clip(1e-12)).sum(axis=1).mean()),
    }


def best_rates(tried: Sequence[Mapping[str, Any]], encoders: Sequence[str]) -> dict[str, float]:
    """For each encoder the rate of the best accuracy, of several classes that of the best mAP; of equals that of the
    lowest loss, then the lowest rate.
    """
    converged = [entry for entry in tried if not entry.get("diverged")]
    if not converged:
        raise TrainingError("training diverged at every learning rate", "--set finetune.rates=[...] with lower ones")
    return {
        name: min(converged, key=lambda e: (-_quality(e[name]), e[name]["loss"], e["base_lr"]))["base_lr"]
        for name in encoders
    }


def _quality(score: Mapping[str, float]) -> float:
    return score["mAP"] if "mAP" in score else score["accuracy"]
