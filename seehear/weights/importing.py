"""Weights from elsewhere made into a folder that every command takes as a run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import seehear
from seehear.data.clips import clip_refs
from seehear.data.loader import ClipLoader, Failures
from seehear.data.manifest import Manifest
from seehear.data.statistics import measure_statistics
from seehear.data.views import Statistics
from seehear.engine.runfolder import RunFolder
from seehear.errors import DataError, UsageError
from seehear.features.model import Model, usable_videos
from seehear.files import new_folder, write_atomic
from seehear.modalities import streams_of
from seehear.settings import save_config
from seehear.weights.reading import read_weights
from seehear.weights.showing import show_weights


def import_weights(
    path: str | Path,
    out: str | Path,
    *,
    audio_weights: str | Path | None = None,
    modality: Literal["video", "audio", "both"] = "both",
    statistics: str | Path | Manifest | None = None,
    settings: Sequence[str] = (),
    ignore: Sequence[str] = (),
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Make of weights a folder that commands take as a run; it appears whole or not at all.

    Args:
        path, audio_weights, modality, settings, ignore: see `read_weights`.
        out: the new folder.
        statistics: videos on which to measure the means and deviations that the settings leave open (whatever `scan`
            takes, or its result), or the `statistics.json` of a run.
        workers: decoding processes.
        progress: called with videos looked at and their number.

    Returns:
        What `show_weights` says of the folder.

    Raises:
        DataError: as `read_weights`, and if no video can be used.
        UsageError: as `read_weights`; if something is left to measure and there are no `statistics`.
        RunError: there is something in `out`.
    """
    folder = RunFolder(Path(out))
    folder.check_new()
    weights = read_weights(path, audio_weights=audio_weights, modality=modality, settings=settings, ignore=ignore)
    notes, measured = list(weights.notes), None
    if statistics is not None and not weights.measure:
        raise UsageError(
            "how these weights' clips are normalised is known: there is nothing to measure",
            "leave --statistics out; to measure all the same, --set clip.pixel_statistics=measured for pixels,"
            " --set spectrogram.mean=null --set spectrogram.std=null for spectrograms",
        )
    if statistics is not None:
        weights.model.statistics, measured, said = _measured(weights.model, statistics, workers, progress)
        notes += said
    elif "spectrograms" in weights.measure:
        raise UsageError(
            "the settings leave the mean and deviation of spectrograms to be measured, which the audio encoder needs",
            "measure them: --statistics VIDEOS; or take the video encoder alone: --modality video",
        )
    elif "pixels" in weights.measure:
        raise UsageError(
            "the settings leave the pixels' mean and deviation to be measured", "measure them: --statistics VIDEOS"
        )
    told = {
        "format": "seehear-imported",
        "version": 1,
        "seehear_version": seehear.__version__,
        "imported_utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "sources": list(weights.sources),
        "statistics": measured,
        "unused": list(weights.unused),
        "exact": list(weights.exact),
        "inexact": list(weights.inexact),
        "notes": notes,
    }
    with new_folder(folder.path) as temporary:
        made = RunFolder(temporary)
        save_config(weights.model.config, made.config)
        write_atomic(made.statistics, json.dumps(weights.model.statistics.to_dict(), indent=1))
        weights.model.save(made.model)
        write_atomic(made.provenance, json.dumps(told, indent=1, ensure_ascii=False))
    return show_weights(folder.path)


def _measured(
    model: Model, source: str | Path | Manifest, workers: int, progress: Callable[[int, int], None] | None
) -> tuple[Statistics, str, list[str]]:
    """Statistics of videos, whose they are in words, and what there is to say of the videos."""
    if isinstance(source, str | Path) and Path(source).suffix == ".json":
        try:
            return Statistics.from_dict(json.loads(Path(source).read_text())), f"from {Path(source).name}", []
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise DataError(f"{source} holds no statistics: {error}", "give the statistics.json of a run") from error
    streams = streams_of(tuple(model.modalities.values()))
    if isinstance(source, Manifest):
        manifest = source
    elif Manifest.is_manifest(source):
        manifest = Manifest.load(source)
    else:
        manifest = model.scan(source, streams, workers=workers or None, progress=progress)
    videos = usable_videos(manifest, streams)
    failures = Failures()
    with ClipLoader(
        videos, model.config, model.modalities, Statistics(), workers=workers, cache=None, failures=failures
    ) as loader:
        found = measure_statistics(loader, clip_refs(videos, model.config.cluster))
    notes = [f"left out of the statistics: {f['path']}: {f['reason']}" for f in failures.reports]
    return found, f"measured on {len(videos) - len(failures.counts)} videos", notes
