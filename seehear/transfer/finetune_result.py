"""The result of a finetuning: the only place where classes of test videos are read, and how it is kept and told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seehear.config import Config
from seehear.data.datasets import TEST
from seehear.data.loader import Failures
from seehear.engine.runfolder import RunFolder
from seehear.features.bank import FeatureBank
from seehear.features.model import Model
from seehear.methods.several import classes_in
from seehear.metrics.classification import confusion
from seehear.transfer import evaluations
from seehear.transfer.backbones import UNTRAINED
from seehear.transfer.classifiers import Answers
from seehear.transfer.finetune_job import Job
from seehear.transfer.prediction import by_modality, ranked_classes
from seehear.transfer.scoring import chance_accuracy, mean_over_splits, ranking_chance, score
from seehear.transfer.split import classes_of, make_split


def make_result(
    job: Job,
    model: Model,
    tested: FeatureBank,
    rates: Mapping[str, float],
    search: Mapping[str, Any] | None,
    lost: set[str],
    failures: Failures,
) -> dict[str, Any]:
    """Scores of the test videos; the only place where their classes are read."""
    settings = job.config.finetune
    answers = answers_of(tested, model.class_names, rates)
    ids = [ref.video_id for ref in tested.refs]
    usable = {i for i, u in job.manifest.by_id("usable").items() if u}
    split = make_split(job.manifest, decoded=(usable - set(job.split.test) - lost) | set(ids))
    by_id = classes_of(job.manifest, "label", "split", TEST)
    truth = np.array([by_id[i] for i in ids])
    scores = {
        m: {setting: s.as_dict() for setting, s in score(a, truth, job.separator).items()} for m, a in answers.items()
    }
    known = truth != ""
    confusions = {}
    if job.separator is None:
        confusions = {m: confusion(truth[known], a.classes["accuracy"][0, known, 0]) for m, a in answers.items()}
    labels = np.array(list(job.classes.values()))
    chance = {
        "accuracy": chance_accuracy(labels, truth, separator=job.separator),
        **ranking_chance(labels, truth, job.separator),
    }
    true_classes = {name for text in truth for name in classes_in(text, job.separator)}
    missing = {part: dict(counts) for part, counts in split.missing.items()}
    unlabelled = int((truth == "").sum())
    missing[TEST]["unlabelled"] = unlabelled
    for part, count in job.manifest.info.get("missing", {}).items():
        missing[part]["not_on_disk"] = count
    return {
        "protocol": "finetune",
        "description": describe(job.config),
        "run": settings.run,
        "data": settings.data,
        "split": settings.split,
        "freeze": settings.freeze,
        "clips": settings.test_clips,
        "scores": scores,
        "chosen": {name: {"base_lr": rate} for name, rate in rates.items()},
        "search": None if search is None else {k: v for k, v in search.items() if k != "held_out"},
        "train_videos": len(set(job.classes) - lost),
        "test_videos": len(ids) - unlabelled,
        "classes": len(model.class_names),
        "missing": missing,
        "videos_of_other_splits": split.other,
        "test_classes_not_trained": sorted(true_classes - set(model.class_names)),
        "baselines": {"chance": {m: {k: {"value": chance[k]} for k in of} for m, of in scores.items()}},
        "failures": failures.reports,
        "confusion": confusions,
        **({"note": job.manifest.info["note"]} if job.manifest.info.get("note") else {}),
    }


def describe(config: Config) -> str:
    """A finetuning in a line."""
    settings = config.finetune
    what = "the classifier alone is learnt" if settings.freeze else "encoder and classifier are learnt"
    shots = "" if settings.shots is None else f", {settings.shots} training videos a class"
    return f"protocol {settings.protocol}, {what}{shots}; start: {settings.run}"


def answers_of(bank: FeatureBank, class_names: Sequence[str], rates: Mapping[str, float]) -> dict[str, Answers]:
    """By modality the likeliest class of each video and the probabilities of all."""
    names = np.array(class_names)
    return {
        modality: Answers(
            {"accuracy": names[ranked_classes(p)[:, 0]][None, :, None]},
            {"base_lr": rates[modality]} if modality in rates else {},
            p[None],
            names,
        )
        for modality, p in by_modality(bank).items()
    }


def mean_result(results: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The results of several splits, and the mean of each score over them with its sample deviation `sd`."""
    first = next(iter(results.values()))
    shared = {key: first[key] for key in ("protocol", "description", "run", "data", "freeze", "clips")}
    return {**shared, "split": "all", **mean_over_splits(results)}


def keep(config: Config, out: Path, result: Mapping[str, Any]) -> list[Path]:
    """Keep the scores among the evaluations of the run that was finetuned, and of the new one; the files."""
    settings = config.finetune
    runs = [out] if settings.run.startswith(UNTRAINED) else [Path(settings.run), out]
    kept = []
    for run in runs:
        folder = RunFolder(run)
        own_seed = folder.load_config().seed if folder.config.is_file() else config.seed
        options = {
            "protocol": settings.protocol,
            "split": result["split"] if result["split"] != "split" else None,
            "modality": "both" if len(settings.encoders) == 2 else settings.encoders[0],
            "freeze": settings.freeze,
            "shots": None if settings.shots is None else str(settings.shots),
            "seed": config.seed if config.seed != own_seed else None,
            "set": list(settings.changes),
        }
        name = "fc-only" if settings.freeze else "finetune"
        path = evaluations.save(run, name, result, data=settings.data, options=options)
        kept += [] if path is None else [path]
    return kept
