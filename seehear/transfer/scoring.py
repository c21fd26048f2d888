"""Scores of answers for test videos, with what chance would give; several splits as one result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from seehear.data.datasets import TEST
from seehear.errors import DataError
from seehear.methods.several import classes_in, indicators_of
from seehear.metrics import classification as metrics
from seehear.metrics.classification import confusion
from seehear.metrics.intervals import Score, score_of
from seehear.transfer.classifiers import Answers, Predictor, answer
from seehear.transfer.retrieval import (
    class_chance,
)
from seehear.transfer.split import Split


def score(answers: Answers, truth: np.ndarray, separator: str | None = None) -> dict[str, Score]:
    """The share of test videos with a right answer, for each setting; and how well the classes are ranked.

    `truth` (N,) are the true classes; videos without one ("") do not count. With several repetitions the
    value is their mean and `sd` their sample deviation. Of answers with scores there are also "top-5" (of more than
    five classes) and the metrics of `seehear.metrics.classification.ranking`. With a `separator` a video has the
    classes that it parts, and an answer is right that is one of them.

    Raises `DataError` if no test video has a class.
    """
    known = truth != ""
    if not known.any():
        raise DataError("no test video has a class", "fill in the column of classes")
    found = {}
    for setting, classes in answers.classes.items():
        found[setting] = score_of(_right(classes[:, known], truth[known], separator))
    if answers.scores is not None and answers.ranked is not None:
        found |= _ranking_scores(answers.scores[:, known], indicators_of(truth[known], answers.ranked, separator))
    return found


def _right(classes: np.ndarray, truth: np.ndarray, separator: str | None) -> np.ndarray:
    """Whether one of the answers (S, N, A) for each video is one of its classes, (S, N) bool."""
    if separator is None:
        return np.asarray((classes == truth[None, :, None]).any(axis=2))
    true = [set(classes_in(text, separator)) for text in truth]
    return np.array([[not true[n].isdisjoint(row) for n, row in enumerate(run)] for run in classes.tolist()])


def _ranking_scores(scores: np.ndarray, truth: np.ndarray) -> dict[str, Score]:
    """Scores by the ranking (S, N, C) of classes; `truth` (N, C) says which each video has."""
    found = {}
    if truth.shape[1] > metrics.TOP_K:
        hits = np.stack([metrics.top_k_hits(truth, of, metrics.TOP_K) for of in scores])
        found[f"top-{metrics.TOP_K}"] = score_of(hits)
    runs = [metrics.ranking(truth, of) for of in scores]
    for name in metrics.RANKING:
        if all(name in run for run in runs):
            values = np.array([[run[name][end] for end in ("value", "low", "high")] for run in runs])
            value, low, high = values.mean(axis=0).tolist()
            found[name] = Score(value, low, high, float(values[:, 0].std(ddof=1)) if len(runs) > 1 else None)
    return found


def ranking_chance(train_labels: np.ndarray, truth: np.ndarray, separator: str | None = None) -> dict[str, float]:
    """What one who sees no test video scores by "top-5" (the five commonest training classes) and by rankings."""
    known = truth[truth != ""]
    classes, counts = np.unique([c for text in train_labels for c in classes_in(text, separator)], return_counts=True)
    commonest = np.argsort(-counts, kind="stable")[: metrics.TOP_K]
    true = indicators_of(known, classes, separator)
    shares = true.mean(axis=0)
    shares = shares[(shares > 0) & (shares < 1)]
    return {
        f"top-{metrics.TOP_K}": float(true[:, commonest].any(axis=1).mean()),
        "mAP": float(shares.mean()) if len(shares) else 0.0,
        "AUC": 0.5,
        "d'": 0.0,
    }


def chance_accuracy(
    train_labels: np.ndarray, truth: np.ndarray, uniform: bool = False, separator: str | None = None
) -> float:
    """The accuracy of one who sees no test video: always the commonest training class, or any one (`uniform`)."""
    known = truth[truth != ""]
    classes, counts = np.unique([c for text in train_labels for c in classes_in(text, separator)], return_counts=True)
    true = indicators_of(known, classes, separator)
    if uniform:
        return float(true.sum(axis=1).mean() / len(classes))
    return float(true[:, counts.argmax()].mean())


def mean_over_splits(results: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Results of several splits as `splits`, and of their `scores` and `baselines` the means, with sample deviations.

    A setting that is not in every split (R@k for a k above the number of training videos) has no mean.
    """
    first = next(iter(results.values()))
    groups = {"": first["scores"], **first.get("baselines", {})}

    def values(group: str, modality: str, setting: str) -> list[float] | None:
        of = [(r["scores"] if not group else r["baselines"][group])[modality] for r in results.values()]
        return [x[setting]["value"] for x in of] if all(setting in x for x in of) else None

    means = {
        group: {
            modality: {
                setting: {"value": float(np.mean(found)), "sd": float(np.std(found, ddof=1))}
                for setting in settings
                if (found := values(group, modality, setting)) is not None
            }
            for modality, settings in modalities.items()
        }
        for group, modalities in groups.items()
    }
    scores = means.pop("")
    return {"scores": scores, **({"baselines": means} if means else {}), "splits": dict(results)}


def score_protocol(
    predictor: Predictor,
    features: Mapping[str, Mapping[str, Mapping[str, np.ndarray]]],
    split: Split,
    test_classes: Callable[[], Mapping[str, str]],
    protocol: str,
    baselines: bool = False,
    separator: str | None = None,
) -> dict[str, Any]:
    """Answers of all models first; only then the classes of the test videos are asked for, and the answers scored.

    `features` are those of `video_features` for "trained" and, as a baseline, "untrained"; with it, or with
    `baselines`, there is chance too. With a `separator` videos have several classes.
    """
    answers = {name: answer(predictor, of_model, split) for name, of_model in features.items()}
    by_id = test_classes()
    truth = np.array([by_id[i] for i in split.test])
    scores = {
        name: {
            m: {setting: s.as_dict() for setting, s in score(a, truth, separator).items()} for m, a in of_model.items()
        }
        for name, of_model in answers.items()
    }
    confusions = {m: confusion(truth[truth != ""], a.classes["accuracy"][0, truth != "", 0])
                  for m, a in answers["trained"].items() if "accuracy" in a.classes and separator is None}  # fmt: skip
    unlabelled = int((truth == "").sum())
    missing = {part: dict(counts) for part, counts in split.missing.items()}
    missing[TEST]["unlabelled"] = unlabelled
    result: dict[str, Any] = {
        "scores": scores["trained"],
        "chosen": {m: a.chosen for m, a in answers["trained"].items() if a.chosen},
        **({"confusion": confusions} if confusions else {}),
        "train_videos": len(split.train),
        "test_videos": len(split.test) - unlabelled,
        "missing": missing,
        "videos_of_other_splits": split.other,
    }
    if baselines or len(scores) > 1:
        chance = {m: _chance(protocol, a, split, truth, separator) for m, a in answers["trained"].items()}
        untrained = {"untrained": scores["untrained"]} if "untrained" in scores else {}
        result["baselines"] = untrained | {"chance": chance}
    return result


def _chance(
    protocol: str, answers: Answers, split: Split, truth: np.ndarray, separator: str | None
) -> dict[str, dict[str, float]]:
    """What one who sees no test video is expected to score, for each setting."""
    if protocol == "retrieval":
        ks = {setting: classes.shape[2] for setting, classes in answers.classes.items()}
        return {s: {"value": class_chance(split.train_labels, truth[truth != ""], k)} for s, k in ks.items()}
    value = chance_accuracy(split.train_labels, truth, protocol == "few-shot", separator)
    found = {setting: {"value": value} for setting in answers.classes}
    if answers.scores is not None:
        found |= {setting: {"value": v} for setting, v in ranking_chance(split.train_labels, truth, separator).items()}
    return found
