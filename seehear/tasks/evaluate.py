"""Scores of a finished run: its clusters against known classes, and its frozen features on other tasks."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F

from seehear.cluster.kmeans import kmeans
from seehear.data.cache import MediaCache
from seehear.data.clips import Video, clip_refs, plain_requests
from seehear.data.datasets import DataSet, open_data
from seehear.data.loader import ClipLoader, Failures
from seehear.data.manifest import Manifest
from seehear.data.views import SpectrogramView
from seehear.engine.runfolder import RunFolder
from seehear.errors import DataError, UsageError
from seehear.features.bank import FeatureBank, mean_by_video
from seehear.features.extract import extract
from seehear.features.model import LABELLING_OF, Model, table_bank, usable_videos
from seehear.methods.deepcluster import cluster_features
from seehear.modalities import STREAMS_OF, streams_of
from seehear.models import build_encoders
from seehear.tasks.clustering import clustering_scores, load_truth, match, purity_table
from seehear.tasks.label import label_table, open_run, video_labels
from seehear.tasks.metrics import confusion
from seehear.tasks.pretrain import media_cache, workers_of
from seehear.tasks.protocols import PROTOCOLS, Plan, make_plan, make_predictor
from seehear.tasks.retrieval import (
    RECALL_AT,
    class_chance,
    cross_modal_class_recall,
    cross_modal_neighbours,
    cross_modal_recall,
)
from seehear.tasks.subjects import GivenFeatures, Network, measured_statistics, open_subject
from seehear.tasks.transfer import (
    TEST,
    TRAIN,
    Answers,
    Pooling,
    Predictor,
    Split,
    answer,
    chance_accuracy,
    classes_of,
    clip_features,
    make_split,
    ranking_chance,
    score,
)
from seehear.types import ClipRef

RAW_GRID_PX = 16
HEAD_SCORES = ("nmi", "ari", "accuracy", "mean_entropy_nats", "mean_max_purity")
"""Scores of clusters that are averaged over clustering heads."""


def evaluate_clustering(
    run: str | Path,
    labels: str | Path | None = None,
    *,
    k: int | None = None,
    baselines: bool = False,
    seed: int = 0,
    top: int = 5,
    degrade: Sequence[int] = (),
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Agreement of the run's clusters with known classes.

    `labels` is a CSV or Parquet of videos and labels; without it the run's own `label` column is used. With
    `k` the run's features are clustered anew into so many clusters; NMI depends on k, so compare at equal k.
    Returns, for each of video, audio and both, the scores of `clustering_scores` and the purity table; for a run with
    clustering heads, whose first one these are of, also `heads`: the mean and deviation of each score over all; and
    with `baselines` the same scores for an untrained network of the same shape, k-means on raw pixels and
    spectrograms, and for labels dealt out at random (chance), all with the same k.

    `degrade` names factors by which the frames lose resolution before they are embedded anew on `device`
    (`progress` counts these clips): `degraded` then holds for each factor the scores of the labels that the same
    clusters give them, by video and by both; sound stays as it is.
    """
    if degrade and min(degrade) < 1:
        raise UsageError(f"frames lose resolution by whole factors from 1 on, not {min(degrade)}", "--degrade 1,4,8,16")
    folder = open_run(run)
    folder.check_trained("its features can be scored: `seehear evaluate linear`, or embedded, clustered and compared")
    folder.check_clustered(f"its test scores are in {folder.result}")
    truth = _truth(folder, labels)
    model = Model.load(run)
    if k is None:
        table = pq.read_table(folder.labels)
    else:
        bank = table_bank(pq.read_table(folder.features))
        set_clusters(model, bank, k, seed)
        table = label_table(model, bank)
    modalities = [m for m in LABELLING_OF if f"cluster_{m}" in table.column_names]
    result: dict[str, Any] = {"run": str(folder.path), "scores": {}, "purity": {}}
    for modality in modalities:
        matched = match(truth, video_labels(table, modality))
        result["videos"] = len(matched.ids)
        result["unmatched"] = {"truth": len(matched.unmatched_truth), "run": len(matched.unmatched_predictions)}
        result["scores"][modality] = clustering_scores(matched.y_true, matched.y_pred).as_dict()
        result["purity"][modality] = [row.as_dict() for row in purity_table(matched.y_true, matched.y_pred, top=top)]
    if k is None and model.heads is not None and model.heads.count > 1 and not model.clusters:
        result["heads"] = _over_heads(model, table_bank(pq.read_table(folder.features)), truth, modalities)
    if degrade:
        seen = set(matched.ids) if modalities else set()
        result["degraded"] = _degraded(folder, model, truth, seen, degrade, device, progress)
    if baselines:
        result["baselines"] = _baselines(model, Manifest.load(folder.manifest), truth, modalities, seed)
    return result


def _over_heads(
    model: Model, bank: FeatureBank, truth: Mapping[str, str], modalities: Sequence[str]
) -> dict[str, dict[str, dict[str, float]]]:
    """Mean and sample deviation of every score over the model's heads, for each modality."""
    assert model.heads is not None
    found: dict[str, dict[str, dict[str, float]]] = {}
    tables = [label_table(model, bank, head) for head in range(model.heads.count)]
    for modality in modalities:
        scores = [_scores(truth, video_labels(table, modality)) for table in tables]
        values = {name: [float(s[name]) for s in scores] for name in HEAD_SCORES}
        found[modality] = {n: {"mean": float(np.mean(v)), "sd": float(np.std(v, ddof=1))} for n, v in values.items()}
    return found


def _degraded(
    folder: RunFolder,
    model: Model,
    truth: Mapping[str, str],
    seen: Collection[str],
    factors: Sequence[int],
    device: str,
    progress: Callable[[int, int], None] | None,
) -> dict[str, Any]:
    """Scores by factor of the model's clusters on frames of less resolution (SeLaVi, Fig. 2 and Appendix A.5).

    The spans are those that the run embedded, of the videos `seen`; their sound's features are the stored ones.
    """
    sees = {n: encoder for n, encoder in model.encoders.items() if streams_of((model.modalities[n],)) == ("video",)}
    if not sees:
        raise UsageError("no encoder of this run sees frames", "leave out --degrade")
    stored = table_bank(pq.read_table(folder.features))
    row_of = {ref.clip_id: row for row, ref in enumerate(stored.refs)}
    videos = usable_videos(Manifest.load(folder.manifest), tuple(dict.fromkeys(model.modalities.values())))
    videos = [v for v in videos if v.video_id in seen]
    there = {v.video_id for v in videos}
    refs = [ref for ref in stored.refs if ref.video_id in there]
    config, failures = model.config, Failures()
    done, scores = 0, {}
    for factor in dict.fromkeys(factors):
        # The views are those of training, so that what it left in the media cache serves here too.
        with ClipLoader(
            videos, config, model.modalities, model.statistics, workers=workers_of(config),
            cache=media_cache(config), failures=failures, degradation=factor,
        ) as loader:  # fmt: skip
            if len(factors) > 1:
                loader.fill_cache()
            requests = plain_requests(refs, loader.videos, config.clip, config.cluster.averaged_clips)
            show = None if progress is None else _part_of(progress, done, len(requests) * len(set(factors)))
            bank = extract(
                {name: encoder.to(device) for name, encoder in sees.items()}, loader, requests,
                device=torch.device(device), batch_size=config.optim.batch_size, progress=show,
            )  # fmt: skip
            done += len(requests)
        if not len(bank):
            raise DataError("not one clip could be decoded", "are the videos still where the run's manifest says?")
        rows = [row_of[clip_id] for clip_id in bank.clip_ids]
        bank.features |= {n: np.asarray(x)[rows] for n, x in stored.features.items() if n not in bank.features}
        table = label_table(model, bank)
        scores[str(factor)] = {
            modality: _scores(truth, video_labels(table, modality))
            for modality in LABELLING_OF
            if f"cluster_{modality}" in table.column_names and modality != "audio"
        }
    return {"scores": scores, "failures": failures.reports}


def _part_of(progress: Callable[[int, int], None], before: int, total: int) -> Callable[[int, int], None]:
    """The progress of a part of a longer task."""
    return lambda done, _: progress(before + done, total)


def _scores(truth: Mapping[str, str], predicted: Mapping[str, int]) -> dict[str, Any]:
    matched = match(truth, predicted)
    return clustering_scores(matched.y_true, matched.y_pred).as_dict()


def _truth(folder: RunFolder, labels: str | Path | None) -> Mapping[str, str]:
    if labels is not None:
        return load_truth(labels)
    manifest, column = Manifest.load(folder.manifest), folder.load_config().data.label_column
    if column not in manifest.extra_columns:
        raise UsageError("no classes to compare with", "give --labels FILE.csv with the columns path and label")
    return {video_id: value for video_id, value in manifest.by_id(column).items() if value}


def set_clusters(model: Model, bank: FeatureBank, k: Mapping[str, int] | int, seed: int) -> None:
    """Cluster a bank by every labelling that the model's encoders allow; `k` in all or for each."""
    names = [n for n in LABELLING_OF.values() if all(part in bank.features for part in n.split("+"))]
    count = {name: k if isinstance(k, int) else k[name] for name in names}
    model.set_clusters({n: cluster_features(bank, n, count[n], model.config.cluster, seed) for n in names})


def _baselines(
    model: Model, manifest: Manifest, truth: Mapping[str, str], modalities: list[str], seed: int
) -> dict[str, dict[str, Any]]:
    """Scores at the model's numbers of clusters of what needs no training."""
    videos = usable_videos(manifest, tuple(dict.fromkeys(model.modalities.values())))
    refs = clip_refs(videos, model.config.cluster)
    workers, cache = workers_of(model.config), media_cache(model.config)
    k = model.cluster_counts
    untrained = untrained_model(model)
    calibrate = model.config.cluster.calibrate_batchnorm != "never"
    bank = untrained.extract(videos, refs, workers=workers, cache=cache, calibrate=calibrate)
    set_clusters(untrained, bank, k, seed)
    table = label_table(untrained, bank)
    raw = raw_features(model, videos, refs, workers=workers, cache=cache)
    rng = np.random.default_rng(seed)

    found: dict[str, dict[str, Any]] = {"untrained": {}, "raw": {}, "chance": {}}
    for modality in modalities:
        name = LABELLING_OF[modality]
        by_video = video_labels(table, modality)
        found["untrained"][modality] = _scores(truth, by_video)
        found["chance"][modality] = _scores(truth, {video_id: int(rng.integers(k[name])) for video_id in by_video})
        if modality in raw.features:
            clustered = kmeans(torch.from_numpy(raw.features[modality]), k[name], restarts=10, seed=seed)
            found["raw"][modality] = _scores(
                truth, {r.video_id: int(c) for r, c in zip(raw.refs, clustered.labels, strict=True)}
            )
    return found


def untrained_model(model: Model) -> Model:
    """Untrained encoders of the same shape, their weights drawn as a run with this seed draws them."""
    encoders = build_encoders(model.config.model, model.modalities, model.config.seed)
    return Model(model.config, model.modalities, encoders, model.statistics)


def raw_features(
    model: Model, videos: Sequence[Video], refs: Sequence[ClipRef], *, workers: int, cache: MediaCache | None
) -> FeatureBank:
    """What is there without any network: each clip's mean frame at 16 x 16 pixels and its log-mel spectrogram."""
    config = model.config
    views = {modality: modality for modality in model.modalities.values()}
    spectrogram = SpectrogramView(config, model.statistics)
    kept: list[ClipRef] = []
    rows: dict[str, list[torch.Tensor]] = {modality: [] for modality in views}
    with ClipLoader(videos, config, views, model.statistics, workers=workers, cache=cache) as loader:
        for request, frames, waveform in loader.clips(plain_requests(refs, loader.videos, config.clip)):
            if frames is not None:
                mean = torch.from_numpy(frames).float().mean(0).permute(2, 0, 1)[None] / 255
                rows["video"].append(F.adaptive_avg_pool2d(mean, RAW_GRID_PX).flatten())
            if waveform is not None:
                rows["audio"].append(spectrogram(torch.from_numpy(waveform)[None], config.augment, None).flatten())
            kept.append(request.ref)
    features = {modality: torch.stack(found).numpy() for modality, found in rows.items()}
    return FeatureBank(kept, features, np.ones(len(kept), dtype=bool))


def evaluate_linear(run: str | Path, data: str | Path, **options: Any) -> dict[str, Any]:
    """Accuracy of a linear classifier on frozen features: trained on the training split, tested once on the test split.

    What `evaluate_transfer` returns for the protocol "linear", and the bare numbers as `accuracy` and, with
    `baselines`, `untrained`. `options` are those of `evaluate_transfer`. A video's feature is the mean over `clips` (3)
    evenly spaced parts of it, each dimension standardised on the training split; the classifier is logistic regression
    whose strength of regularisation is chosen by 5-fold cross-validation within the training split.
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
    split: str | None = None,
    folds: str | None = None,
    label_column: str = "label",
    split_column: str = "split",
    modality: Literal["video", "audio", "both"] | None = None,
    column: str | None = None,
    baselines: bool = False,
    clips: int | None = None,
    pooling: Pooling | None = None,
    paper: str | None = None,
    window_seconds: float | None = None,
    shots: Sequence[int] = (1, 5, 20),
    seeds: int = 10,
    device: str = "cpu",
    scan_progress: Callable[[int, int], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Score frozen features by one of `PROTOCOLS`: learn from the training split, answer for the test split once.

    `run` is whatever `seehear.tasks.subjects.open_subject` opens: a run, `untrained:RECIPE`, or a file of features
    (of which `column` names one). `data` is whatever `seehear.data.datasets.open_data` opens: a data set as NAME:PATH,
    or a table of videos with a class and a split ("train", "test") each, or a manifest of `seehear scan`. Of several
    official splits or folds `split` (or `folds`) chooses one by number or name, or "all", as by default.

    `modality` says which encoders to use, by default those that the data set is for. A video's feature is the mean
    over `clips` evenly spaced clips (10; for "linear" 3 parts, of each of which the run's `cluster.averaged_clips`
    clips are averaged). `pooling` is "mean", the encoder's own, or "max" of its last map. `paper` takes these from a
    paper (`seehear.tasks.protocols`), and `window_seconds` is the length of windows of sound, where a protocol has
    them. `shots` and `seeds` are those of "few-shot". Features are kept in the run's folder `features/`.

    Returns `scores`: for each of video, audio and both and each setting a `value` with the ends `low` and `high`
    of a 95 % bootstrap interval over test videos, for few-shot with the deviation `sd` over seeds; `chosen`, what
    was chosen within the training split; `train_videos`, `test_videos`, `missing` and `failures`; with
    `baselines` also the scores of an untrained network of the same shape, and of chance. With several splits all
    this stands in `splits`, by name, and `scores` and `baselines` hold the means over them with their sample deviation
    `sd`.
    Raises `UsageError` for a protocol, column or option that there is not, `DataError` for a table without both
    splits or classes, or a data set that is not laid out as it should be.
    """
    if split is not None and folds is not None:
        raise UsageError("splits and folds are the same choice", "give --split or --folds")
    opened = open_data(data, label_column=label_column, split_column=split_column, folds=folds is not None)
    columns = opened.chosen(split or folds or "all")
    if opened.multilabel:
        raise UsageError(f"{protocol} knows one class a video, and those of {opened.name} have several")
    subject = open_subject(run, column)
    if isinstance(subject, GivenFeatures):
        if any(x is not None for x in (clips, pooling, paper, window_seconds, modality)):
            raise UsageError(
                f"{run} holds features, and no encoder looks at videos",
                "leave out what is of encoders: clips, pooling, a paper, windows, modality",
            )
        material = _given_material(subject, opened, make_predictor(protocol, shots, seeds), PROTOCOLS[protocol])
    else:
        streams = opened.streams if modality is None else STREAMS_OF[modality]
        plan = make_plan(
            subject.restricted(streams), protocol, paper=paper, data=str(data), clips=clips, pooling=pooling,
            window_seconds=window_seconds, shots=shots, seeds=seeds,
        )  # fmt: skip
        material = _extracted_material(subject, plan, opened, columns, baselines, device, scan_progress, progress)
    results = {c: _score_split(material, opened, c, protocol, baselines) for c in columns}
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

    @property
    def decoded(self) -> set[str]:
        """The videos of which there are all features."""
        return set.intersection(*(set(x) for of_model in self.features.values() for x in of_model.values()))


def _given_material(subject: GivenFeatures, opened: DataSet, predictor: Predictor, description: str) -> _Material:
    manifest = opened.unprobed()
    features = {"trained": subject.by_id(manifest.column("video_id"))}
    return _Material(manifest, predictor, features, {"description": description, "features": str(subject.path)})


def _extracted_material(
    subject: Network,
    plan: Plan,
    opened: DataSet,
    columns: Sequence[str],
    baselines: bool,
    device: str,
    scan_progress: Callable[[int, int], None] | None,
    progress: Callable[[int, int], None] | None,
) -> _Material:
    model = plan.model
    manifest = scan_data_set(opened, model, subject.cache, scan_progress)
    for split_column in columns:  # what is wrong with the data shows before hours of decoding
        make_split(manifest, "label", split_column)
    models = {"trained": model}
    if not subject.trained:
        model.statistics = measured_statistics(model, manifest.where(f"{columns[0]}={TRAIN}"))
    elif baselines:
        models["untrained"] = untrained_model(model)
    extracted = {
        name: clip_features(candidate, manifest, plan.sampling, cache=subject.cache, device=device, progress=progress)
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


def scan_data_set(
    opened: DataSet, model: Model, kept: Path | None, progress: Callable[[int, int], None] | None = None
) -> Manifest:
    """Look at the files of a data set, if that was not done before: a scan is kept in the folder `kept`.

    Raises `DataError` if not one file has what the model's encoders need.
    """
    need = streams_of(tuple(model.modalities.values()))
    key = hashlib.sha256(repr((str(opened.path.absolute()), opened.name, need)).encode()).hexdigest()[:32]
    path = None if kept is None else kept / f"scan-{key}.parquet"
    manifest = opened.manifest(
        need=need, min_seconds=model.config.clip.seconds, workers=workers_of(model.config), progress=progress,
        previous=Manifest.load(path) if path is not None and Manifest.is_manifest(path) else None,
    )  # fmt: skip
    if not any(manifest.column("usable")):
        raise DataError(
            f"not one file of {opened.path} can be used:\n{manifest.summary_text()}",
            "if they have only sound or only a picture: --modality audio, or video",
        )
    if path is not None:
        with contextlib.suppress(OSError, DataError):  # a run on a read-only or full disk can be scored all the same
            manifest.save(path)
    return manifest


def _score_split(material: _Material, opened: DataSet, column: str, protocol: str, baselines: bool) -> dict[str, Any]:
    manifest = material.manifest
    split = make_split(manifest, "label", column, material.decoded)
    result = score_protocol(
        material.predictor, material.features, split, lambda: classes_of(manifest, "label", column, TEST), protocol,
        baselines=baselines,
    )  # fmt: skip
    for part, counts in result["missing"].items():
        if "features" in material.about:
            counts["without_features"] = counts.pop("undecodable")
        counts["not_on_disk"] = opened.missing[column][part]
    labels = manifest.by_id("label")
    result["videos_without_label"] = sum(not labels[i] for i in material.decoded)
    if material.space is not None:
        result |= across_modalities(*material.space, split.test, labels)
    return result


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


def score_protocol(
    predictor: Predictor,
    features: Mapping[str, Mapping[str, Mapping[str, np.ndarray]]],
    split: Split,
    test_classes: Callable[[], Mapping[str, str]],
    protocol: str,
    baselines: bool = False,
) -> dict[str, Any]:
    """Answers of all models first; only then the classes of the test videos are asked for, and the answers scored.

    `features` are those of `video_features` for "trained" and, as a baseline, "untrained"; with it, or with
    `baselines`, there is chance too.
    """
    answers = {name: answer(predictor, of_model, split) for name, of_model in features.items()}
    by_id = test_classes()
    truth = np.array([by_id[i] for i in split.test])
    scores = {
        name: {m: {setting: s.as_dict() for setting, s in score(a, truth).items()} for m, a in of_model.items()}
        for name, of_model in answers.items()
    }
    confusions = {m: confusion(truth[truth != ""], a.classes["accuracy"][0, truth != "", 0])
                  for m, a in answers["trained"].items() if "accuracy" in a.classes}  # fmt: skip
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
        chance = {m: _chance(protocol, a, split, truth) for m, a in answers["trained"].items()}
        untrained = {"untrained": scores["untrained"]} if "untrained" in scores else {}
        result["baselines"] = untrained | {"chance": chance}
    return result


def _chance(protocol: str, answers: Answers, split: Split, truth: np.ndarray) -> dict[str, dict[str, float]]:
    """What one who sees no test video is expected to score, for each setting."""
    if protocol == "retrieval":
        ks = {setting: classes.shape[2] for setting, classes in answers.classes.items()}
        return {s: {"value": class_chance(split.train_labels, truth[truth != ""], k)} for s, k in ks.items()}
    value = chance_accuracy(split.train_labels, truth, uniform=protocol == "few-shot")
    found = {setting: {"value": value} for setting in answers.classes}
    if answers.scores is not None:
        found |= {setting: {"value": v} for setting, v in ranking_chance(split.train_labels, truth).items()}
    return found
