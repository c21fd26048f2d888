"""Frozen features scored on labelled data: what is decoded once and what each protocol makes of it."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from seehear.data.datasets import SEPARATOR, TEST, TRAIN, DataSet, open_data
from seehear.data.loader import workers_of
from seehear.data.manifest import Manifest
from seehear.engine.device import choose_device
from seehear.errors import DataError, UsageError
from seehear.features.bank import FeatureBank, mean_by_video
from seehear.features.frozen import clip_features, untrained_model
from seehear.features.model import Model
from seehear.files import user_cache_folder
from seehear.modalities import STREAMS_OF, streams_of
from seehear.progress import Progress
from seehear.transfer.backbones import GivenFeatures, Network, measured_statistics, open_backbone
from seehear.transfer.captions import text_retrieval
from seehear.transfer.classifiers import Predictor, logistic_of_several
from seehear.transfer.options import FrozenOptions
from seehear.transfer.protocols import PROTOCOLS, Plan, make_plan, make_predictor
from seehear.transfer.retrieval import (
    RECALL_AT,
    cross_modal_class_recall,
    cross_modal_neighbours,
    cross_modal_recall,
)
from seehear.transfer.scoring import mean_over_splits, score_protocol
from seehear.transfer.split import classes_of, make_split


def evaluate_linear(run: str | Path, data: str | Path, **options: Any) -> dict[str, Any]:
    """Accuracy of a linear classifier on frozen features: trained on the training split, tested once on the test split.

    What `evaluate_transfer` returns for the protocol "linear", and the bare numbers as `accuracy` and, with
    `baselines`, `untrained`. `options` are those of `evaluate_transfer`. A video's feature is the mean over `clips` (3)
    evenly spaced parts of it, each dimension standardised on the training split; the classifier is logistic regression
    whose strength of regularisation is chosen by 5-fold cross-validation within the training split. Where videos have
    several classes, each is learnt by itself, the strength chosen by mean average precision, and an accuracy is the
    share of videos whose likeliest class is one of theirs.
    """
    result = evaluate_transfer(run, data, "linear", **options)
    result["accuracy"] = {modality: scores["accuracy"]["value"] for modality, scores in result["scores"].items()}
    if untrained := result.get("baselines", {}).get("untrained"):
        result["untrained"] = {modality: scores["accuracy"]["value"] for modality, scores in untrained.items()}
    return result


def evaluate_transfer(
    run: str | Path,
    data: str | Path,
    protocol: str,
    *,
    shots: Sequence[int] = (1, 5, 20),
    seeds: int = 10,
    **options: Any,
) -> dict[str, Any]:
    """Score frozen features by one of `PROTOCOLS`: learn from the training split, answer for the test split once.

    `run` is whatever `seehear.transfer.backbones.open_backbone` opens: a run, `untrained:RECIPE`, or a file of features
    (of which `column` names one). `data` is whatever `seehear.data.datasets.open_data` opens: a data set as NAME:PATH,
    or a table of videos with a class and a split ("train", "test") each, or a manifest of `seehear scan`. `options` are
    those of `FrozenOptions`; `shots` and `seeds` are of "few-shot".

    A video's feature is the mean over `clips` evenly spaced clips (10; for "linear" 3 parts, of each of which the run's
    `cluster.averaged_clips` clips are averaged). Features are kept in the run's folder `features/`.

    Returns `scores`: for each of video, audio and both and each setting a `value` with the ends `low` and `high`
    of a 95 % bootstrap interval over test videos, for few-shot with the deviation `sd` over seeds; `chosen`, what
    was chosen within the training split; `train_videos`, `test_videos`, `missing` and `failures`; with
    `baselines` also the scores of an untrained network of the same shape, and of chance. With several splits all
    this stands in `splits`, by name, and `scores` and `baselines` hold the means over them with their sample deviation
    `sd`.
    Raises `UsageError` for a protocol, column or option that there is not, `DataError` for a table without both
    splits or classes, or a data set that is not laid out as it should be.
    """
    asked = FrozenOptions(**options)
    names = {"label_column": asked.label_column, "split_column": asked.split_column}
    opened = open_data(data, **names, folds=asked.folds is not None)
    columns = opened.chosen(asked.split or asked.folds or "all")
    separator = asked.label_separator or (SEPARATOR if opened.multilabel else None)
    if separator is not None and protocol != "linear":
        raise UsageError(
            f"{protocol} knows one class a video, and those of {opened.name} have several", "linear knows several"
        )
    backbone = open_backbone(run, asked.column)
    if isinstance(backbone, GivenFeatures):
        if asked.of_encoders:
            raise UsageError(
                f"{run} holds features, and no encoder looks at videos",
                "leave out what is of encoders: clips, pooling, a paper, windows, modality",
            )
        predictor = make_predictor(protocol, shots, seeds)
        material = _given_material(backbone, opened, predictor, PROTOCOLS[protocol])
    else:
        streams = opened.streams if asked.modality is None else STREAMS_OF[asked.modality]
        plan = make_plan(
            backbone.restricted(streams), protocol, paper=asked.paper, data=str(data), clips=asked.clips,
            pooling=asked.pooling, window_seconds=asked.window_seconds, shots=shots, seeds=seeds,
        )  # fmt: skip
        material = _extracted_material(backbone, plan, opened, columns, asked)
    if separator is not None:
        material = replace(material, predictor=logistic_of_several(separator), separator=separator)
    results = {c: _score_split(material, opened, c, protocol, asked.baselines) for c in columns}
    return {
        "protocol": protocol,
        "run": str(run),
        "data": str(data),
        "data_set": opened.name,
        **({"note": opened.note} if opened.note else {}),
        **material.about,
        **(results[columns[0]] | {"split": columns[0]} if len(columns) == 1 else mean_over_splits(results)),
    }


@dataclass(frozen=True)
class _Material:
    """All that the splits of a data set are scored from."""

    manifest: Manifest
    predictor: Predictor
    features: dict[str, dict[str, dict[str, np.ndarray]]]
    """For "trained" (whatever is scored) and, as a baseline, "untrained": by modality and video id."""
    about: dict[str, Any]
    space: tuple[Model, FeatureBank] | None = None
    """The model and its clips' features, if its modalities may share a space that is asked about."""
    separator: str | None = None
    """What parts the classes of a video, where it may have several."""

    @property
    def decoded(self) -> set[str]:
        """The videos of which there are all features."""
        return set.intersection(*(set(x) for of_model in self.features.values() for x in of_model.values()))


def _given_material(given: GivenFeatures, opened: DataSet, predictor: Predictor, description: str) -> _Material:
    manifest = opened.unprobed()
    features = {"trained": given.by_id(manifest.column("video_id"))}
    return _Material(manifest, predictor, features, {"description": description, "features": str(given.path)})


def _extracted_material(
    backbone: Network, plan: Plan, opened: DataSet, columns: Sequence[str], asked: FrozenOptions
) -> _Material:
    model = plan.model
    with Progress(quiet=None) as progress:
        manifest = scan_data_set(opened, model, progress.shown("scan", "files"))
        return _extracted(backbone, plan, manifest, columns, asked, progress)


def _extracted(
    backbone: Network,
    plan: Plan,
    manifest: Manifest,
    columns: Sequence[str],
    asked: FrozenOptions,
    progress: Progress,
) -> _Material:
    model = plan.model
    for split_column in columns:  # what is wrong with the data shows before hours of decoding
        make_split(manifest, "label", split_column)
    models = {"trained": model}
    if not backbone.trained:
        model.statistics = measured_statistics(model, manifest.where(f"{columns[0]}={TRAIN}"))
    elif asked.baselines:
        models["untrained"] = untrained_model(model)
    extracted = {
        name: clip_features(
            candidate,
            manifest,
            plan.sampling,
            cache=backbone.cache,
            device=choose_device(asked.device),
            progress=progress.shown("embed", "clips"),
        )
        for name, candidate in models.items()
    }
    about = {
        "description": plan.description,
        **plan.about(),
        "failures": extracted["trained"].failures,
        "features_reused": all(e.reused for e in extracted.values()),
    }
    features = {name: plan.features(e.bank) for name, e in extracted.items()}
    across = plan.protocol == "retrieval" and plan.sampling.pooling == "mean"
    space = (model, extracted["trained"].bank) if across else None
    return _Material(manifest, plan.predictor, features, about, space)


def scan_data_set(opened: DataSet, model: Model, progress: Callable[[int, int], None] | None = None) -> Manifest:
    """Look at the files of a data set, as far as that was not done before: scans are kept in the user's cache.

    So the runs that a data set scores share one scan. Raises `DataError` if not one file has what the model's encoders
    need.
    """
    need = streams_of(tuple(model.modalities.values()))
    about = (str(opened.path.absolute()), opened.name, need, model.config.clip.seconds,
             model.config.data.audio_track)  # fmt: skip
    path = user_cache_folder() / "scans" / f"{hashlib.sha256(repr(about).encode()).hexdigest()[:32]}.parquet"
    manifest = opened.manifest(
        need=need, min_seconds=model.config.clip.seconds, workers=workers_of(model.config),
        audio_track=model.config.data.audio_track, progress=progress, previous=_kept_scan(path),
    )  # fmt: skip
    if not any(manifest.column("usable")):
        raise DataError(
            f"not one file of {opened.path} can be used:\n{manifest.summary_text()}",
            "if they have only sound or only a picture: --modality audio, or video",
        )
    with contextlib.suppress(OSError, DataError):  # where nothing can be kept, runs can be scored all the same
        path.parent.mkdir(parents=True, exist_ok=True)
        manifest.save(path)
    return manifest


def _kept_scan(path: Path) -> Manifest | None:
    """A scan that was kept, if it can be read."""
    with contextlib.suppress(OSError, DataError):
        return Manifest.load(path) if Manifest.is_manifest(path) else None
    return None


def _score_split(material: _Material, opened: DataSet, column: str, protocol: str, baselines: bool) -> dict[str, Any]:
    manifest = material.manifest
    split = make_split(manifest, "label", column, material.decoded)
    result = score_protocol(
        material.predictor, material.features, split, lambda: classes_of(manifest, "label", column, TEST), protocol,
        baselines=baselines, separator=material.separator,
    )  # fmt: skip
    for part, counts in result["missing"].items():
        if "features" in material.about:
            counts["without_features"] = counts.pop("undecodable")
        counts["not_on_disk"] = opened.missing[column][part]
    labels = manifest.by_id("label")
    result["videos_without_label"] = sum(not labels[i] for i in material.decoded)
    if material.space is not None:
        result |= across_modalities(*material.space, split.test, labels)
        told = text_retrieval(*material.space, manifest, split.test, labels)
        for name, found in told.items():
            result[name] = result.get(name, {}) | found
    return result


def across_modalities(
    model: Model, bank: FeatureBank, videos: Sequence[str], labels: Mapping[str, str]
) -> dict[str, Any]:
    """Retrieval of one modality by the other among `videos`, where the model has a space that they share.

    A video's embedding is the mean of its clips'. Returns `cross_modal` (its own counterpart is sought, see
    `cross_modal_recall`) and `cross_modal_classes` (another video of its class is); {} without such a space.
    """
    if not {"video", "audio"} <= set(model.projections):
        return {}
    projected, names = model.project(bank), ("video", "audio")
    means = {m: mean_by_video([r.video_id for r in bank.refs], projected[m]) for m in names}
    pair = (np.stack([means["video"][v] for v in videos]), np.stack([means["audio"][v] for v in videos]))
    nearest = cross_modal_neighbours(*pair, min(max(RECALL_AT), len(videos) - 1), names=names)
    return {
        "cross_modal": cross_modal_recall(*pair, names=names),
        "cross_modal_classes": cross_modal_class_recall(nearest, np.array([labels[v] for v in videos])),
    }
