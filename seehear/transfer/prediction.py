"""What a finetuned run says of videos: the probabilities of its classes, averaged over the clips of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from seehear.data.cache import MediaCache
from seehear.data.clips import clip_refs, plain_requests
from seehear.data.loader import ClipLoader, Failures, worker_count
from seehear.data.manifest import Manifest
from seehear.engine.device import choose_device
from seehear.errors import DataError, RunError, UsageError
from seehear.features.bank import FeatureBank
from seehear.features.extract import extract
from seehear.features.model import Model, segments, usable_videos
from seehear.files import check_ending, write_table
from seehear.methods.finetune import Probabilities
from seehear.modalities import STREAMS_OF, streams_of
from seehear.progress import Progress
from seehear.types import ClipRef


def load_finetuned(run: str | Path) -> Model:
    """The model of a finetuned run; `RunError` for another run, or for the folder of several splits."""
    parts = sorted(path.parent.name for path in Path(run).glob("*/config.yaml"))
    if parts and not (Path(run) / "config.yaml").exists():
        raise RunError(f"{run} holds the finetunings of several splits", f"give one, such as {Path(run) / parts[0]}")
    model = Model.load(run)
    if not model.class_names:
        raise RunError(
            f"{run} has no classifier, so it can name no classes",
            f"finetune it: seehear finetune {run} --data TABLE.csv --out runs/finetuned; or label by clusters: "
            f"seehear label {run}",
        )
    return model


def class_probabilities(
    model: Model,
    loader: ClipLoader,
    refs: Sequence[ClipRef],
    *,
    clips: int,
    device: str | torch.device = "cpu",
    bfloat16: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> FeatureBank:
    """For each encoder the probability of every class, (N, C), a mean over `clips` evenly spaced clips of each span.

    Each clip is one centre crop, not augmented (XDC paper, section 4.1), or with `finetune.test_crops=3` also those at
    both ends of the longer side (GDT's release). A span is judged by its clips that can be decoded; one without any is
    absent.
    """
    classes, several = len(model.class_names), model.config.data.label_separator is not None
    modules = {
        name: Probabilities(model.encoders[name], model.classifiers[name], classes, several).to(device)
        for name in loader.views
    }
    requests = plain_requests(refs, loader.videos, loader.config.clip, clips)

    def bank_at(at: float, names: Sequence[str]) -> FeatureBank:
        loader.crop_at = at
        return extract(
            {name: modules[name] for name in names}, loader, requests, device=torch.device(device), bfloat16=bfloat16,
            batch_size=loader.config.optim.batch_size, progress=progress,
        )  # fmt: skip

    bank = bank_at(0.5, list(modules))
    seeing = [name for name in modules if streams_of((loader.views[name],)) == ("video",)]
    if model.config.finetune.test_crops == 3 and seeing:
        try:
            _average(bank, [bank_at(0.0, seeing), bank_at(1.0, seeing)], seeing)
        finally:
            loader.crop_at = 0.5
    return bank


def _average(bank: FeatureBank, others: Sequence[FeatureBank], names: Sequence[str]) -> None:
    """Make of a bank's features the mean of its own and those of others, which may lack spans."""
    rows = [{ref.clip_id: row for row, ref in enumerate(other.refs)} for other in others]
    for row, ref in enumerate(bank.refs):
        there = [(other, of[ref.clip_id]) for other, of in zip(others, rows, strict=True) if ref.clip_id in of]
        for name in names:
            values = [bank.features[name][row], *(other.features[name][i] for other, i in there)]
            bank.features[name][row] = np.mean(values, axis=0)


def by_modality(bank: FeatureBank) -> dict[str, np.ndarray]:
    """The probabilities (N, C) by each encoder and, where there are two, by both: the mean of theirs."""
    found: dict[str, np.ndarray] = {
        name: np.asarray(bank.features[name]) for name in ("video", "audio") if name in bank.features
    }
    if len(found) == 2:
        found["both"] = (found["video"] + found["audio"]) / 2
    return found


def predict_and_write(
    run: str | Path,
    source: str | Path | Manifest,
    *,
    out: str | Path | None,
    modality: str | None,
    workers: int | None,
    device: str,
    failures: Failures,
    **options: Any,
) -> pa.Table:
    """What `seehear.predict` does: look at the files, `predict`, and write the table."""
    check_ending(out, ".csv", ".parquet")
    model = load_finetuned(run)
    with Progress(quiet=None) as progress:
        if not isinstance(source, Manifest) and Manifest.is_manifest(source):
            source = Manifest.load(source)
        if not isinstance(source, Manifest):
            need = tuple(model.classifiers) if modality is None else STREAMS_OF[modality]
            source = model.scan(source, need, workers=workers, progress=progress.shown("scan", "files"))
            progress.note(source.summary_text())
        table = predict(
            run, source, modality=modality, workers=worker_count(workers), device=choose_device(device),
            failures=failures, progress=progress.shown("predict", "clips"), **options,
        )  # fmt: skip
        progress.left_out(failures.reports)
    if out is not None:
        write_table(table, Path(out))
    return table


def predict(
    run: str | Path,
    source: str | Path | Manifest,
    *,
    modality: str | None = None,
    top: int = 5,
    every_seconds: float | None = None,
    clips: int | None = None,
    workers: int = 0,
    cache: MediaCache | None = None,
    device: str | torch.device = "cpu",
    failures: Failures | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> pa.Table:
    """The likeliest classes of every video of `source`, or of every segment, by a finetuned run.

    `source` is whatever `seehear.scan` takes, or its result; `modality` is "video", "audio" or "both" (the mean of
    the two probabilities; by default all that the run has). A segment is a whole video or, with `every_seconds`, one of
    that length; the probabilities of `clips` evenly spaced clips of it (as many as the run was tested with) are
    averaged. Columns: video, start, end (seconds), and for i = 1 ... `top` class_i, probability_i, the likeliest
    first. Videos that fail are in `failures`.

    Raises:
        RunError: the run is not finetuned.
        UsageError: it has no classifier of this modality.
        DataError: nothing is left to predict.
    """
    if top < 1:
        raise UsageError(f"there is no top {top}", "ask for one class at least")
    if clips is not None and clips < 1:
        raise UsageError(f"a video has at least one clip, not {clips}")
    model = load_finetuned(run)
    if modality is None:
        modality = "both" if len(model.classifiers) == 2 else next(iter(model.classifiers))
    if modality not in STREAMS_OF or not all(name in model.classifiers for name in STREAMS_OF[modality]):
        raise UsageError(
            f"{run} has no classifier by {modality!r}", f"it was finetuned on: {' and '.join(model.classifiers)}"
        )
    views = {name: model.modalities[name] for name in STREAMS_OF[modality]}
    streams = streams_of(tuple(views.values()))
    manifest = source if isinstance(source, Manifest) else model.scan(source, streams, workers=workers)
    videos = usable_videos(manifest, streams)
    if every_seconds is None:
        refs = clip_refs(videos, model.config.cluster)
    else:
        refs = [ref for video in videos for ref in segments(video, every_seconds)]
    with ClipLoader(
        videos, model.config, views, model.statistics, workers=workers, cache=cache, failures=failures,
        device=device,
    ) as loader:  # fmt: skip
        bank = class_probabilities(
            model, loader, refs, clips=clips or model.config.finetune.test_clips, device=device, progress=progress
        )
    if not len(bank):
        raise DataError("not one clip could be decoded")
    return prediction_table(bank.refs, by_modality(bank)[modality], model.class_names, top)


def prediction_table(
    refs: Sequence[ClipRef], probabilities: np.ndarray, class_names: Sequence[str], top: int
) -> pa.Table:
    """The `top` likeliest classes of each span with their probabilities (N, C), as `predict` gives them."""
    ranked = ranked_classes(probabilities)[:, :top]
    columns = {
        "video": pa.array([r.video_id for r in refs]),
        "start": pa.array([r.start_seconds for r in refs], pa.float64()),
        "end": pa.array([r.end_seconds for r in refs], pa.float64()),
    }
    names = np.array(class_names, dtype=object)
    values = np.take_along_axis(probabilities, ranked, axis=1)
    for i in range(ranked.shape[1]):
        columns[f"class_{i + 1}"] = pa.array(names[ranked[:, i]].tolist(), pa.string())
        columns[f"probability_{i + 1}"] = pa.array(np.round(values[:, i].astype(np.float64), 6))
    return pa.table(columns)


def ranked_classes(probabilities: np.ndarray) -> np.ndarray:
    """The numbers of the classes of each row (N, C), the likeliest first; of equals the one with the lower number."""
    return np.argsort(-probabilities, axis=1, kind="stable")
