"""Temporal localisation on frozen features: where in untrimmed videos something happens, and what.

The protocol of the XDC paper's section 7: G-TAD on features of clips, scored by mAP at temporal overlaps. Segments of
the test subset are read when all detections are there, and only to score them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from seehear.data.datasets import TEST, TRAIN
from seehear.data.loader import workers_of
from seehear.data.manifest import Manifest
from seehear.data.sources import FileList
from seehear.engine.device import choose_device
from seehear.engine.runfolder import RunFolder
from seehear.errors import DataError, UsageError
from seehear.features.frozen import Sampling, clip_features, untrained_model
from seehear.features.model import LABELLING_OF, Model
from seehear.files import check_ending, check_new_folder, new_folder, write_atomic, write_result, write_table
from seehear.localization.annotations import THUMOS_PREFIX, Segment, read_annotations
from seehear.localization.localizer import Localizer, Snippets, snippets_of
from seehear.localization.metrics import Detection, bootstrapped
from seehear.localization.pictures import timelines_svg
from seehear.localization.settings import LocalizerSettings
from seehear.localization.training import fit_localizer
from seehear.media.formats import is_media
from seehear.modalities import streams_of
from seehear.progress import Progress

DETECTIONS, SCORES, PICTURE = "detections.json", "scores.json", "timeline.svg"


def localize(
    run: str | Path,
    data: str | Path,
    out: str | Path,
    *,
    videos: str | Path | None = None,
    modality: str = "both",
    settings: LocalizerSettings | None = None,
    train_subset: str | None = None,
    test_subset: str | None = None,
    baselines: bool = False,
    device: str = "cpu",
) -> dict[str, Any]:
    """Learn to localise actions by a run's frozen features, and score what is found in the test subset once.

    Arguments, result and errors are those of `seehear.localize`, which makes the `settings` of its texts. `baselines`
    adds "sliding_windows" (the same classifier without G-TAD) and "untrained" (an untrained network of the same shape,
    with all the rest).
    """
    settings = settings or LocalizerSettings()
    settings.check()
    annotations = read_annotations(data)
    train, test = annotations.roles(train_subset, test_subset)
    parts = {TRAIN: annotations.subsets[train], TEST: annotations.subsets[test] if test is not None else ()}
    truth = annotations.segments(train)
    model = _model_for(run, modality)
    check_new_folder(Path(out))
    files = find_videos(_folder_of(data) if videos is None else videos, [n for part in parts.values() for n in part])
    # Among the run's features: a call that was stopped goes on where it stood.
    cache = _features_folder(run)
    place = hashlib.sha256(os.path.abspath(out).encode()).hexdigest()[:16]
    kept = None if cache is None else cache / f"localizer-{place}"
    with Progress(quiet=None) as progress:
        manifest = _manifest(files, model, progress)
        extracted = {
            name: grid_features(candidate, manifest, settings, run=run, device=choose_device(device), progress=progress)
            for name, candidate in _models(model, baselines).items()
        }
        there = set.intersection(*(set(e.snippets) for e in extracted.values()))
        learnt_from = sorted(there & set(parts[TRAIN]))
        if not learnt_from:
            raise DataError(f"no video of the subset {train} can be used", "see `seehear scan` of the videos' folder")
        localizers = _learn(extracted, learnt_from, truth, settings, str(choose_device(device)), kept, progress)
    asked = sorted(there & set(parts[TEST]))
    result: dict[str, Any] = {
        "protocol": "localization",
        "description": "G-TAD on frozen features of clips; classes by a linear classifier of snippets",
        "run": str(run),
        "data": annotations.source,
        "subsets": {TRAIN: train, TEST: test},
        "modality": modality,
        "stride_seconds": settings.stride_seconds,
        "scores": {},
        "chosen": {modality: localizers["trained"].chosen},
        "train_videos": len(learnt_from),
        "test_videos": len(asked),
        "train_segments": sum(len(truth[n]) for n in learnt_from),
        "missing": {part: _missing(names, files, manifest, there) for part, names in parts.items()},
        "failures": extracted["trained"].failures,
    }
    found = _detections(localizers, extracted, asked, baselines)
    known = annotations.segments(test) if test is not None and asked else {}  # all detections are there
    _write(Path(out), model, localizers["trained"], extracted["trained"], found, {n: known[n] for n in asked}, result)
    if kept is not None:
        shutil.rmtree(kept, ignore_errors=True)
    return result


def _learn(
    extracted: Mapping[str, Grid],
    names: Sequence[str],
    truth: Mapping[str, Sequence[Segment]],
    settings: LocalizerSettings,
    device: str,
    keep: Path | None,
    progress: Progress,
) -> dict[str, Localizer]:
    """A localiser on the features of each model, those of the videos `names`."""
    localizers = {}
    for name, grid in extracted.items():
        title = "learn" if name == "trained" else "learn from untrained features"
        localizers[name] = fit_localizer(
            {n: grid.snippets[n] for n in names}, truth, settings, device=device,
            keep=None if keep is None else keep / name, progress=progress.shown(title, "epochs"),
        )  # fmt: skip
    return localizers


def _detections(
    localizers: Mapping[str, Localizer], extracted: Mapping[str, Grid], names: Sequence[str], baselines: bool
) -> dict[str, dict[str, list[Detection]]]:
    """What each localiser finds in the videos `names`, and as a baseline sliding windows without G-TAD."""
    found = {
        name: {n: localizer.detect(extracted[name].snippets[n]) for n in names}
        for name, localizer in localizers.items()
    }
    if baselines:
        found["sliding_windows"] = {n: localizers["trained"].slide(extracted["trained"].snippets[n]) for n in names}
    return found


def _write(
    out: Path,
    model: Model,
    localizer: Localizer,
    grid: Grid,
    found: Mapping[str, Mapping[str, Sequence[Detection]]],
    truth: Mapping[str, Sequence[Segment]],
    result: dict[str, Any],
) -> None:
    """The localiser's folder, as a whole; with scores, which `result` gets too, where there is a `truth`."""
    with new_folder(out) as folder:
        localizer.save(folder)
        model.save(folder / "model")
        if truth:
            result |= _scored(found, truth, result["modality"], localizer.classifier.labels)
            lengths = {n: s.seconds(np.array([len(s)]))[0] for n, s in grid.snippets.items()}
            picture = timelines_svg({n: (truth[n], found["trained"][n]) for n in truth}, lengths)
            write_atomic(folder / DETECTIONS, detections_json(found["trained"]))
            write_atomic(folder / SCORES, json.dumps(result, indent=1, ensure_ascii=False))
            write_atomic(folder / PICTURE, picture)


def _scored(
    found: Mapping[str, Mapping[str, Sequence[Detection]]],
    truth: Mapping[str, Sequence[Segment]],
    modality: str,
    learnt: Sequence[str],
) -> dict[str, Any]:
    scores = {
        name: {modality: {setting: score.as_dict() for setting, score in bootstrapped(detections, truth).items()}}
        for name, detections in found.items()
    }
    baselines = {name: of_name for name, of_name in scores.items() if name != "trained"}
    return {
        "scores": scores["trained"],
        "test_segments": sum(map(len, truth.values())),
        "unknown_classes": sorted({s.label for segments in truth.values() for s in segments} - set(learnt)),
        **({"baselines": baselines} if baselines else {}),
    }


def detect(
    localizer: str | Path,
    source: str | Path | Manifest,
    *,
    top: int = 20,
    device: str = "cpu",
    failures: list[dict[str, Any]] | None = None,
) -> dict[str, list[Detection]]:
    """The `top` best detections in each video of `source` by a localiser of `localize`, by video id.

    Videos that cannot be decoded are added to `failures`. Raises `DataError` if none can be used.
    """
    if top < 1:
        raise UsageError(f"at least one detection a video, not {top}")
    learnt, model = Localizer.load(Path(localizer)), Model.load(localizer)
    with Progress(quiet=None) as progress:
        if isinstance(source, Manifest):
            manifest = source
        else:
            manifest = model.scan(
                source, streams_of(tuple(model.modalities.values())), workers=workers_of(model.config),
                progress=progress.shown("scan", "files"),
            )  # fmt: skip
        grid = grid_features(model, manifest, learnt.settings, device=choose_device(device), progress=progress)
        progress.left_out(grid.failures)
    if failures is not None:
        failures += grid.failures
    return {name: learnt.detect(snippets)[:top] for name, snippets in grid.snippets.items()}


def detect_and_write(
    localizer: str | Path,
    source: str | Path | Manifest,
    *,
    out: str | Path | None,
    top: int,
    device: str,
    failures: list[dict[str, Any]] | None,
) -> pa.Table:
    """What `seehear.detect` does: `detect`, and write the table in the form that the file's ending names."""
    check_ending(out, ".csv", ".parquet", ".json")
    found = detect(localizer, source, top=top, device=device, failures=failures)
    table = detections_table(found)
    if out is not None and str(out).endswith(".json"):
        write_result(Path(out), detections_json(found))
    elif out is not None:
        write_table(table, Path(out))
    return table


def detections_table(detections: Mapping[str, Sequence[Detection]]) -> pa.Table:
    """Detections as a table: video, start, end (seconds), label, score; the best of each video first."""
    rows = [
        {"video": name, "start": round(d.start_seconds, 3), "end": round(d.end_seconds, 3), "label": d.label,
         "score": round(d.score, 6)}
        for name, of_video in detections.items()
        for d in of_video
    ]  # fmt: skip
    kinds = {
        "video": pa.string(),
        "start": pa.float64(),
        "end": pa.float64(),
        "label": pa.string(),
        "score": pa.float64(),
    }
    return pa.Table.from_pylist(rows, schema=pa.schema(list(kinds.items())))


def detections_json(detections: Mapping[str, Sequence[Detection]]) -> str:
    """Detections in the form that ActivityNet's toolkit reads."""
    results = {
        name: [
            {"label": d.label, "score": d.score, "segment": [round(d.start_seconds, 3), round(d.end_seconds, 3)]}
            for d in of_video
        ]
        for name, of_video in detections.items()
    }
    return json.dumps({"version": "seehear-1", "results": results, "external_data": {}}, indent=1, ensure_ascii=False)


@dataclass(frozen=True)
class Grid:
    """The snippets of each video, by its name, and the reports of videos that failed."""

    snippets: dict[str, Snippets]
    failures: list[dict[str, Any]]


def _features_folder(run: str | Path) -> Path | None:
    """Where a run keeps features; a bare model has no such place."""
    return Path(run) / "features" if RunFolder(Path(run)).config.exists() else None


def grid_features(
    model: Model,
    manifest: Manifest,
    settings: LocalizerSettings,
    *,
    run: str | Path | None = None,
    device: str | torch.device = "cpu",
    progress: Progress,
) -> Grid:
    """Features of all encoders of a model every `stride_seconds` of every usable video, joined.

    Videos go by the manifest's column `name`, or by their ids if it has none. Features are kept in `run`'s folder
    `features/`, as those of the other protocols are.
    """
    sampling = Sampling(clips=1, max_span_seconds=settings.stride_seconds, centred=True)
    cache = None if run is None else _features_folder(run)
    extracted = clip_features(
        model, manifest, sampling, cache=cache, device=device, progress=progress.shown("embed", "clips")
    )  # fmt: skip
    names = manifest.by_id("name") if "name" in manifest.extra_columns else {}
    snippets = snippets_of(extracted.bank, "+".join(model.modalities))
    return Grid({names.get(video_id, video_id): s for video_id, s in snippets.items()}, extracted.failures)


def _model_for(run: str | Path, modality: str) -> Model:
    """The run's encoders of a modality, one for each stream."""
    if modality not in LABELLING_OF:
        raise UsageError(f"there is no modality {modality!r}", f"choose one of {', '.join(LABELLING_OF)}")
    model, names = Model.load(run), LABELLING_OF[modality].split("+")
    if not set(names) <= set(model.encoders):
        raise UsageError(f"this run has no encoder for {modality}", f"it has {', '.join(model.encoders)}")
    return Model(
        model.config, {n: model.modalities[n] for n in names}, {n: model.encoders[n] for n in names}, model.statistics
    )


def _models(model: Model, baselines: bool) -> dict[str, Model]:
    return {"trained": model, **({"untrained": untrained_model(model)} if baselines else {})}


def _folder_of(data: str | Path) -> Path:
    text = str(data)
    return Path(text.removeprefix(THUMOS_PREFIX)) if text.startswith(THUMOS_PREFIX) else Path(text).parent


def find_videos(source: str | Path, names: Iterable[str]) -> dict[str, str]:
    """The absolute path of each video of these names that is there: in a folder at any depth, or in a manifest.

    Raises `DataError` if none is there, or if two files have the same name.
    """
    if Manifest.is_manifest(source):
        paths = Manifest.load(source).column("path")
    elif Path(source).is_dir():
        paths = [
            os.path.join(folder, file)
            for folder, inner, files in os.walk(os.path.abspath(source), followlinks=True)
            if not inner.sort()  # in place: the order of the walk
            for file in sorted(files)
        ]
    else:
        raise DataError(f"{source} is neither a folder nor a manifest", "give the videos' folder with --videos")
    wanted, found = set(names), dict[str, str]()
    for path in paths:
        if not is_media(path):
            continue
        stem = Path(path).stem
        name = stem if stem in wanted else stem.removeprefix("v_")
        if name not in wanted:
            continue
        if name in found:
            raise DataError(f"two files are called {name}: {found[name]} and {path}", "give a folder with one of them")
        found[name] = path
    if not found:
        raise DataError(f"{source} holds none of the {len(wanted)} annotated videos", "give their folder with --videos")
    return found


def _manifest(files: Mapping[str, str], model: Model, progress: Progress) -> Manifest:
    root = os.path.commonpath([os.path.dirname(path) for path in files.values()])
    listed = FileList(root, [{"path": path, "name": name} for name, path in sorted(files.items())], root)
    return model.scan(
        listed, streams_of(tuple(model.modalities.values())), workers=workers_of(model.config), keep_duplicates=True,
        progress=progress.shown("scan", "files"),
    )  # fmt: skip


def _missing(names: Sequence[str], files: Mapping[str, str], manifest: Manifest, there: set[str]) -> dict[str, int]:
    """How many of the annotated videos take no part, and why."""
    usable = set(manifest.usable().column("name"))
    why = Counter(
        "no_file" if n not in files else "unusable" if n not in usable else "undecodable"
        for n in names
        if n not in there
    )
    return {reason: why[reason] for reason in ("no_file", "unusable", "undecodable")}
