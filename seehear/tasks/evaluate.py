"""Scores of a finished run: its clusters against known classes, and a linear classifier on its features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F

from seehear.cluster.kmeans import kmeans
from seehear.data.cache import MediaCache
from seehear.data.clips import Video, clip_refs, plain_requests
from seehear.data.loader import ClipLoader
from seehear.data.manifest import Manifest
from seehear.data.views import SpectrogramView
from seehear.engine.runfolder import RunFolder
from seehear.errors import DataError, UsageError
from seehear.features.bank import FeatureBank
from seehear.features.model import LABELLING_OF, Model, table_bank, usable_videos
from seehear.methods.deepcluster import cluster_features
from seehear.models import build_encoders
from seehear.tasks.clustering import clustering_scores, load_truth, match, purity_table
from seehear.tasks.label import label_table, open_run, video_labels
from seehear.tasks.pretrain import media_cache, workers_of
from seehear.types import ClipRef

RAW_GRID_PX = 16


def evaluate_clustering(
    run: str | Path,
    labels: str | Path | None = None,
    *,
    k: int | None = None,
    baselines: bool = False,
    seed: int = 0,
    top: int = 5,
) -> dict[str, Any]:
    """Agreement of the run's clusters with known classes.

    `labels` is a CSV or Parquet of videos and labels; without it the run's own `label` column is used. With
    `k` the run's features are clustered anew into so many clusters; NMI depends on k, so compare at equal k.
    Returns, for each of video, audio and both, the scores of `clustering_scores` and the purity table, and
    with `baselines` the same scores for an untrained network of the same shape, k-means on raw pixels and
    spectrograms, and for labels dealt out at random (chance), all with the same k.
    """
    folder = open_run(run)
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
    if baselines:
        result["baselines"] = _baselines(model, Manifest.load(folder.manifest), truth, modalities, seed)
    return result


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
    k = {name: len(clusters.centroids) for name, clusters in model.clusters.items()}
    untrained = untrained_model(model)
    calibrate = model.config.cluster.calibrate_batchnorm != "never"
    bank = untrained.extract(videos, refs, workers=workers, cache=cache, calibrate=calibrate)
    set_clusters(untrained, bank, k, seed)
    table = label_table(untrained, bank)
    raw = raw_features(model, videos, refs, workers=workers, cache=cache)
    rng = np.random.default_rng(seed)

    def scores(predicted: Mapping[str, int]) -> dict[str, Any]:
        matched = match(truth, predicted)
        return clustering_scores(matched.y_true, matched.y_pred).as_dict()

    found: dict[str, dict[str, Any]] = {"untrained": {}, "raw": {}, "chance": {}}
    for modality in modalities:
        name = LABELLING_OF[modality]
        by_video = video_labels(table, modality)
        found["untrained"][modality] = scores(by_video)
        found["chance"][modality] = scores({video_id: int(rng.integers(k[name])) for video_id in by_video})
        if modality in raw.features:
            clustered = kmeans(torch.from_numpy(raw.features[modality]), k[name], restarts=10, seed=seed)
            found["raw"][modality] = scores(
                {r.video_id: int(c) for r, c in zip(raw.refs, clustered.labels, strict=True)}
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


def evaluate_linear(
    run: str | Path,
    data: str | Path,
    *,
    label_column: str = "label",
    split_column: str = "split",
    baselines: bool = False,
    clips: int = 3,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Accuracy of a linear classifier on frozen features: trained on the training split, tested once on the test split.

    `data` is a table of videos with a class and a split ("train", "test") each. A video's feature is the mean
    over `clips` evenly spaced clips, each dimension standardised on the training split; the classifier is
    logistic regression whose strength of regularisation is chosen by 5-fold cross-validation within the
    training split. Test labels are read after the predictions are made.
    """
    from seehear.data.manifest import scan

    model = Model.load(run)
    manifest = scan(data, min_seconds=model.config.clip.seconds, workers=workers_of(model.config))
    splits, labels = manifest.by_id(split_column), manifest.by_id(label_column)
    result: dict[str, Any] = {"run": str(run), "data": str(data), "clips": clips, "accuracy": {}}
    models = {"accuracy": model, **({"untrained": untrained_model(model)} if baselines else {})}
    for key, candidate in models.items():
        features = _video_features(candidate, manifest, clips, progress)
        ids = sorted(next(iter(features.values())))
        train = [i for i in ids if splits[i] == "train" and labels[i]]
        test = [i for i in ids if splits[i] == "test" and labels[i]]
        if not train or not test:
            raise DataError(f"{data} has no videos with {split_column} train and test", "add such a column")
        unlabelled = sum(not labels[i] for i in ids)
        result |= {"train_videos": len(train), "test_videos": len(test), "videos_without_label": unlabelled}
        result[key] = {}
        for modality, feature in features.items():
            predicted = fit_linear(
                np.stack([feature[i] for i in train]),
                [labels[i] for i in train],
                np.stack([feature[i] for i in test]),
            )
            correct = [p == labels[i] for p, i in zip(predicted, test, strict=True)]
            result[key][modality] = float(np.mean(correct))
    return result


def _video_features(
    model: Model, manifest: Manifest, clips: int, progress: Callable[[int, int], None] | None
) -> dict[str, dict[str, np.ndarray]]:
    """For video, audio and both the mean feature of each video over `clips` evenly spaced clips."""
    videos = usable_videos(manifest, tuple(dict.fromkeys(model.modalities.values())))
    refs = clip_refs(videos, replace(model.config.cluster, clips_per_video=clips))
    bank = model.extract(
        videos, refs, workers=workers_of(model.config), cache=media_cache(model.config), progress=progress
    )
    found: dict[str, dict[str, np.ndarray]] = {}
    for modality, labelling in LABELLING_OF.items():
        if not all(n in bank.features for n in labelling.split("+")):
            continue
        rows: dict[str, list[np.ndarray]] = {}
        for ref, row in zip(bank.refs, bank.joined(labelling), strict=True):
            rows.setdefault(ref.video_id, []).append(row)
        found[modality] = {video_id: np.mean(r, axis=0) for video_id, r in rows.items()}
    return found


def fit_linear(train: np.ndarray, labels: list[str], test: np.ndarray) -> np.ndarray:
    """Predicted classes of `test` (N, D) by logistic regression fitted on `train` (M, D) and its labels."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    folds = min(5, min(np.unique(labels, return_counts=True)[1]))
    if folds < 2:
        return pipeline.fit(train, labels).predict(test)
    search = GridSearchCV(pipeline, {"logisticregression__C": [0.001, 0.01, 0.1, 1.0, 10.0]}, cv=int(folds))
    return search.fit(train, labels).predict(test)
