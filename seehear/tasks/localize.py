"""Temporal localisation on frozen features: where in untrimmed videos something happens, and what.

The protocol of the XDC paper's section 7: G-TAD on features of clips, scored by mAP at temporal overlaps. Segments of
the test subset are read when all detections are there, and only to score them.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from seehear.data.annotations import THUMOS_PREFIX, Segment, read_annotations
from seehear.data.manifest import AUDIO_EXTENSIONS, VIDEO_EXTENSIONS, FileList, Manifest, scan
from seehear.engine.runfolder import RunFolder
from seehear.errors import DataError, UsageError
from seehear.features.model import LABELLING_OF, Model
from seehear.files import check_new_folder, new_folder, write_atomic
from seehear.modalities import streams_of
from seehear.tasks.evaluate import untrained_model
from seehear.tasks.localization_metrics import Detection, bootstrapped
from seehear.tasks.localize_picture import timelines_svg
from seehear.tasks.localizer import Localizer, LocalizerSettings, Snippets, fit_localizer, snippets_of
from seehear.tasks.pretrain import workers_of
from seehear.tasks.transfer import TEST, TRAIN, Sampling, clip_features

DETECTIONS, SCORES, PICTURE = "detections.json", "scores.json", "timeline.svg"
Progress = Callable[[str, int, int], None]
"""Called with the name of a task and how much of it is done, of how much."""


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
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Learn to localise actions by a run's frozen features, and score what is found in the test subset once.

    `data` is as for `read_annotations`; `videos` a folder with the files, or a manifest of `seehear scan` (by default
    the folder of the annotations). A file belongs to the video of its name without ending, "v_" before it or not.
    `modality` is "video", "audio" or "both". The folder `out` gets the localiser with its encoders (for `detect`) and,
    if there is a test subset, `detections.json`, `scores.json` and `timeline.svg`.

    Returns `scores`: for the modality and each setting ("mAP@0.3", ..., "mAP@0.3:0.7", "mAP@0.5:0.95") a `value` with
    the ends `low` and `high` of a 95 % bootstrap interval over test videos; `chosen`, what was chosen within the
    training subset; counts of videos and segments, `missing` and `failures`. `baselines` adds "sliding_windows" (the
    same classifier without G-TAD) and "untrained" (an untrained network of the same shape, with all the rest). Raises
    `UsageError` and `DataError` before hours of decoding where that is possible.
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
    manifest = _manifest(files, model, progress)
    extracted = {
        name: grid_features(candidate, manifest, settings, run=run, device=device, progress=progress)
        for name, candidate in _models(model, baselines).items()
    }
    usable = set(manifest.usable().column("name"))
    there = set.intersection(*(set(e.snippets) for e in extracted.values()))
    missing = {part: _missing(names, files, usable, there) for part, names in parts.items()}
    learnt_from = sorted(there & set(parts[TRAIN]))
    if not learnt_from:
        raise DataError(f"no video of the subset {train} can be used", "see `seehear scan` of the videos' folder")
    asked = sorted(there & set(parts[TEST]))
    localizers, found = {}, {}
    for name, grid in extracted.items():
        localizers[name] = fit_localizer(
            {n: grid.snippets[n] for n in learnt_from}, truth, settings, device=device,
            progress=_task(progress, "learn" if name == "trained" else "learn from untrained features"),
        )  # fmt: skip
        found[name] = {n: localizers[name].detect(grid.snippets[n]) for n in asked}
    if baselines:
        found["sliding_windows"] = {n: localizers["trained"].slide(extracted["trained"].snippets[n]) for n in asked}

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
        "missing": missing,
        "failures": extracted["trained"].failures,
    }
    with new_folder(Path(out)) as folder:
        localizers["trained"].save(folder)
        model.save(folder / "model")
        if test is not None and asked:
            known = annotations.segments(test)  # all detections are there
            segments = {n: known[n] for n in asked}
            result |= _scored(found, segments, modality, localizers["trained"].classifier.labels)
            lengths = {n: s.seconds(np.array([len(s)]))[0] for n, s in extracted["trained"].snippets.items()}
            picture = timelines_svg({n: (segments[n], found["trained"][n]) for n in asked}, lengths)
            write_atomic(folder / DETECTIONS, detections_json(found["trained"]))
            write_atomic(folder / SCORES, json.dumps(result, indent=1, ensure_ascii=False))
            write_atomic(folder / PICTURE, picture)
    return result


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
    progress: Progress | None = None,
) -> dict[str, list[Detection]]:
    """The `top` best detections in each video of `source` by a localiser of `localize`, by video id.

    Videos that cannot be decoded are added to `failures`. Raises `DataError` if none can be used.
    """
    if top < 1:
        raise UsageError(f"at least one detection a video, not {top}")
    learnt, model = Localizer.load(Path(localizer)), Model.load(localizer)
    if isinstance(source, Manifest):
        manifest = source
    else:
        need, workers = streams_of(tuple(model.modalities.values())), workers_of(model.config)
        manifest = scan(
            source, need=need, min_seconds=model.config.clip.seconds, workers=workers, progress=_task(progress, "scan")
        )
    grid = grid_features(model, manifest, learnt.settings, device=device, progress=progress)
    if failures is not None:
        failures += grid.failures
    return {name: learnt.detect(snippets)[:top] for name, snippets in grid.snippets.items()}


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


# ---------------------------------------------------------------- features


@dataclass(frozen=True)
class Grid:
    """The snippets of each video, by its name, and the reports of videos that failed."""

    snippets: dict[str, Snippets]
    failures: list[dict[str, Any]]


def grid_features(
    model: Model,
    manifest: Manifest,
    settings: LocalizerSettings,
    *,
    run: str | Path | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Grid:
    """Features of all encoders of a model every `stride_seconds` of every usable video, joined.

    Videos go by the manifest's column `name`, or by their ids if it has none. Features are kept in `run`'s folder
    `features/`, as those of the other protocols are.
    """
    sampling = Sampling(clips=1, max_span_seconds=settings.stride_seconds, centred=True)
    cache = Path(run) / "features" if run is not None and RunFolder(Path(run)).config.exists() else None
    extracted = clip_features(
        model, manifest, sampling, cache=cache, device=device, progress=_task(progress, "embed")
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


# ---------------------------------------------------------------- files


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
    endings = {f".{e}" for e in VIDEO_EXTENSIONS | AUDIO_EXTENSIONS}
    for path in paths:
        if Path(path).suffix.lower() not in endings:
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


def _manifest(files: Mapping[str, str], model: Model, progress: Progress | None) -> Manifest:
    root = os.path.commonpath([os.path.dirname(path) for path in files.values()])
    listed = FileList(root, [{"path": path, "name": name} for name, path in sorted(files.items())], root)
    return scan(
        listed, need=streams_of(tuple(model.modalities.values())), min_seconds=model.config.clip.seconds,
        workers=workers_of(model.config), keep_duplicates=True, progress=_task(progress, "scan"),
    )  # fmt: skip


def _missing(names: Sequence[str], files: Mapping[str, str], usable: set[str], there: set[str]) -> dict[str, int]:
    """How many of the annotated videos take no part, and why."""
    why = Counter(
        "no_file" if n not in files else "unusable" if n not in usable else "undecodable"
        for n in names
        if n not in there
    )
    return {reason: why[reason] for reason in ("no_file", "unusable", "undecodable")}


def _task(progress: Progress | None, name: str) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress(name, done, total)
