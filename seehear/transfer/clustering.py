"""A run's clusters against known classes, with baselines and degraded frames (SeLaVi, section 4 and appendix A.5)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F

from seehear.cluster.kmeans import kmeans
from seehear.data.cache import MediaCache, media_cache
from seehear.data.clips import Video, clip_refs, plain_requests
from seehear.data.loader import ClipLoader, Failures, workers_of
from seehear.data.manifest import Manifest
from seehear.data.truth import load_truth, match
from seehear.data.views import SpectrogramView
from seehear.engine.device import choose_device
from seehear.engine.runfolder import RunFolder, open_run
from seehear.errors import DataError, UsageError
from seehear.features.bank import FeatureBank
from seehear.features.extract import extract
from seehear.features.frozen import untrained_model
from seehear.features.labels import label_table, video_labels
from seehear.features.model import LABELLING_OF, Model, table_bank, usable_videos
from seehear.methods.deepcluster import cluster_features
from seehear.metrics.clustering import clustering_scores, purity_table
from seehear.modalities import streams_of
from seehear.progress import Progress
from seehear.types import ClipRef

RAW_GRID_PX = 16
HEAD_SCORES = ("nmi", "ari", "accuracy", "mean_entropy_nats", "mean_max_purity")
"""Scores of clusters that are averaged over clustering heads."""


def score_clusters(
    run: str | Path,
    labels: str | Path | None = None,
    *,
    k: int | None = None,
    baselines: bool = False,
    seed: int = 0,
    top: int = 5,
    degrade: Sequence[int] = (),
    device: str = "cpu",
) -> dict[str, Any]:
    """Agreement of the run's clusters with known classes.

    `labels` is a CSV or Parquet of videos and labels; without it the run's own `label` column is used. With
    `k` the run's features are clustered anew into so many clusters; NMI depends on k, so compare at equal k.
    Returns, for each of video, audio and both, the scores of `clustering_scores` and the purity table; for a run with
    clustering heads, whose first one these are of, also `heads`: the mean and deviation of each score over all; and
    with `baselines` the same scores for an untrained network of the same shape, k-means on raw pixels and
    spectrograms, and for labels dealt out at random (chance), all with the same k.

    `degrade` names factors by which the frames lose resolution before they are embedded anew on `device`: `degraded`
    then holds for each factor the scores of the labels that the same clusters give them, by video and by both; sound
    stays as it is.
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
        with Progress(quiet=None) as progress:
            show = progress.shown("embed", "clips")
            result["degraded"] = _degraded(folder, model, truth, seen, degrade, str(choose_device(device)), show)
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
    progress: Callable[[int, int], None],
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
            cache=media_cache(config), failures=failures, degradation=factor, device=device,
        ) as loader:  # fmt: skip
            if len(factors) > 1:
                loader.fill_cache()
            requests = plain_requests(refs, loader.videos, config.clip, config.cluster.averaged_clips)
            show = _part_of(progress, done, len(requests) * len(set(factors)))
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
