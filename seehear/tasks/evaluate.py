"""Scores of a finished run: its clusters against known classes, and a linear classifier on its features."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F

from seehear.cluster.kmeans import kmeans
from seehear.data.clips import clip_refs, plain_requests
from seehear.data.loader import ClipLoader
from seehear.data.manifest import Manifest
from seehear.data.views import SpectrogramView
from seehear.errors import DataError, UsageError
from seehear.features.bank import FeatureBank
from seehear.features.model import LABELLING_OF, Model, usable_videos
from seehear.methods.deepcluster import cluster_features, clusters_of
from seehear.models import build_encoder
from seehear.tasks.clustering import clustering_scores, load_truth, match, purity_table
from seehear.tasks.label import label_table, open_run, video_labels
from seehear.tasks.pretrain import media_cache, workers_of

RAW_GRID_PX = 16


def evaluate_clustering(
    run: str | Path, labels: str | Path | None = None, *, baselines: bool = False, seed: int = 0, top: int = 5
) -> dict[str, Any]:
    """Agreement of the run's clusters with known classes.

    `labels` is a CSV or Parquet of videos and labels; without it the run's own `label` column is used.
    Returns, for each of video, audio and both, the scores of `clustering_scores` and the purity table, and
    with `baselines` the same scores for an untrained network of the same shape, k-means on raw pixels and
    spectrograms, and for labels dealt out at random (chance), all with the same k.
    """
    folder = open_run(run)
    truth = _truth(folder.manifest, labels)
    table = pq.read_table(folder.labels)
    modalities = [m for m in LABELLING_OF if f"cluster_{m}" in table.column_names]
    result: dict[str, Any] = {"run": str(folder.path), "scores": {}, "purity": {}}
    for modality in modalities:
        matched = match(truth, video_labels(table, modality))
        result["videos"] = len(matched.ids)
        result["unmatched"] = {"truth": len(matched.unmatched_truth), "run": len(matched.unmatched_predictions)}
        result["scores"][modality] = clustering_scores(matched.y_true, matched.y_pred).as_dict()
        result["purity"][modality] = [row.as_dict() for row in purity_table(matched.y_true, matched.y_pred, top=top)]
    if baselines:
        result["baselines"] = _baselines(Model.load(run), Manifest.load(folder.manifest), truth, modalities, seed)
    return result


def _truth(manifest: Path, labels: str | Path | None) -> Mapping[str, str]:
    if labels is not None:
        return load_truth(labels)
    known = Manifest.load(manifest)
    if "label" not in known.extra_columns:
        raise UsageError("no classes to compare with", "give --labels FILE.csv with the columns path and label")
    return {video_id: value for video_id, value in known.by_id("label").items() if value}


def _baselines(
    model: Model, manifest: Manifest, truth: Mapping[str, str], modalities: list[str], seed: int
) -> dict[str, dict[str, Any]]:
    videos = usable_videos(manifest, tuple(dict.fromkeys(model.modalities.values())))
    refs = clip_refs(videos, model.config.cluster)
    settings = {"workers": workers_of(model.config), "cache": media_cache(model.config)}
    found: dict[str, dict[str, Any]] = {"untrained": {}, "raw": {}, "chance": {}}
    untrained = untrained_model(model)
    calibrate = model.config.cluster.calibrate_batchnorm != "never"
    bank = untrained.extract(videos, refs, calibrate=calibrate, **settings)  # type: ignore[arg-type]
    made = {}
    for modality in modalities:
        name = LABELLING_OF[modality]
        k = clusters_of(name, model.modalities, model.config.cluster)
        made[name] = cluster_features(bank, name, k, model.config.cluster, seed)
    untrained.set_clusters(made)
    table = label_table(untrained, bank)
    rng = np.random.default_rng(seed)
    for modality in modalities:
        matched = match(truth, video_labels(table, modality))
        found["untrained"][modality] = clustering_scores(matched.y_true, matched.y_pred).as_dict()
        dealt = rng.integers(len(model.clusters[LABELLING_OF[modality]].centroids), size=len(matched.y_true))
        found["chance"][modality] = clustering_scores(matched.y_true, dealt).as_dict()
    raw = raw_features(model, videos, refs, **settings)
    for modality in (m for m in ("video", "audio") if m in modalities):
        k = clusters_of(modality, model.modalities, model.config.cluster)
        clustered = kmeans(torch.from_numpy(raw.features[modality]), k, restarts=4, seed=seed)
        predicted = {r.video_id: int(c) for r, c in zip(raw.refs, clustered.labels, strict=True)}
        matched = match(truth, predicted)
        found["raw"][modality] = clustering_scores(matched.y_true, matched.y_pred).as_dict()
    return found


def untrained_model(model: Model, seed: int | None = None) -> Model:
    """The same encoders before training: weights as a run with this seed draws them first."""
    start = model.config.seed if seed is None else seed
    encoders = {
        name: build_encoder(modality, model.config.model, torch.Generator().manual_seed(start * 1009 + index))
        for index, (name, modality) in enumerate(model.modalities.items())
    }
    return Model(model.config, model.modalities, encoders, model.statistics)


def raw_features(model: Model, videos: list[Any], refs: list[Any], **settings: Any) -> FeatureBank:
    """What is there without any network: each clip's mean frame at 16 x 16 pixels and its log-mel spectrogram."""
    config = model.config
    kept, pixels, sounds = [], [], []
    with ClipLoader(videos, config, {"video": "video", "audio": "audio"}, model.statistics, **settings) as loader:
        spectrogram = SpectrogramView(config, model.statistics)
        for request, frames, waveform in loader.clips(plain_requests(refs, loader.videos, config.clip)):
            assert frames is not None
            assert waveform is not None
            mean = torch.from_numpy(frames).float().mean(0).permute(2, 0, 1)[None] / 255
            pixels.append(F.adaptive_avg_pool2d(mean, RAW_GRID_PX).flatten())
            sounds.append(spectrogram(torch.from_numpy(waveform)[None], config.augment, None).flatten())
            kept.append(request.ref)
    features = {"video": torch.stack(pixels).numpy(), "audio": torch.stack(sounds).numpy()}
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
        train = [i for i in ids if splits[i] == "train"]
        test = [i for i in ids if splits[i] == "test"]
        if not train or not test:
            raise DataError(f"{data} has no videos with {split_column} train and test", "add such a column")
        result |= {"train_videos": len(train), "test_videos": len(test)}
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
    from dataclasses import replace

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
