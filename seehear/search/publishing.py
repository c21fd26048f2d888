"""From features to a generation of the index: spaces, labels and facts, written and put in force."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from seehear.cluster.doubt import THRESHOLD
from seehear.data.clips import Video
from seehear.engine.runfolder import RunFolder, model_sha256
from seehear.features.model import Model, table_bank
from seehear.media.packed import full_path
from seehear.search.calibration import calibrate
from seehear.search.labelled import label_content
from seehear.search.layout import (
    Content,
    current_generation,
    generation_folder,
    index_folder,
    write_generation,
)
from seehear.search.nearest import EXACT_UP_TO, faiss_there, write_inverted_files
from seehear.search.segments import IndexedVideo
from seehear.search.spaces import STREAMS, across_kind, encoders_of, fit_spaces


def indexed_video(row: Mapping[str, Any], streams: Sequence[str], unused: Sequence[str] = ()) -> IndexedVideo:
    """A video of a row of a manifest, with the span in which `streams` overlap.

    Streams that are `unused`, such as sound that is silence, count as not there.
    """
    video = Video.from_row(row, streams)
    codecs = {s: None if s in unused else row[f"{s}_codec"] for s in STREAMS}
    return IndexedVideo(
        video.video_id, Path(full_path(video.path)), video.identity, video.start_seconds, video.end_seconds,
        row["container"] or "", codecs["video"], codecs["audio"], video.audio_track, video.clock_jumps,
    )  # fmt: skip


@dataclass
class Facts:
    """What is to be noted of how an index was made."""

    every_seconds: float | None
    left_out: list[dict[str, Any]] = field(default_factory=list)
    encoder: str = "run"
    """run, or where features of another encoder are from."""
    exact_up_to: int = EXACT_UP_TO
    """Of so many segments and more inverted files are made, if the package for it is there."""


def publish(run: str | Path, model: Model | None, content: Content, facts: Facts) -> Path:
    """Make spaces, labels and facts of features, write them as a generation and put it in force; its folder.

    `model` is the one whose encoders made the features, None where it was another encoder. Where the same content is
    in force already, nothing is written.
    """
    encoders = encoders_of(model.modalities if model is not None else {n: n for n in content.features})
    encoders = {stream: name for stream, name in encoders.items() if name in content.features}
    spaces = fit_spaces(content.features, encoders, model, _pairs(run, content, encoders, model))
    content.space = {stream: spaces.rows(stream, content.features[name]) for stream, name in encoders.items()}
    content.has = {stream: np.isfinite(content.features[name]).all(axis=1) for stream, name in encoders.items()}
    if spaces.across is not None:
        for stream, name in encoders.items():
            content.space[f"across.{stream}"] = spaces.across_rows(stream, content.features[name])
    content.maps = spaces.arrays
    sha = model_sha256(run)
    keys = label_content(content, model, RunFolder(Path(run)), sha)
    content.facts = {
        "made_utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "every_seconds": facts.every_seconds,
        "videos": len(content.videos),
        "segments": len(content.video),
        "encoder": facts.encoder,
        "encoders": encoders,
        "model": sha,
        "across": None if spaces.across is None else spaces.across.words,
        "across_kind": across_kind(spaces.across),
        "labels_keys": keys,
        "left_out": facts.left_out,
        "exact_up_to": facts.exact_up_to,
    }
    if content.doubt is not None:
        content.facts["doubtful_from"] = THRESHOLD
    large = len(content.video) >= facts.exact_up_to and faiss_there()
    content.facts["approximate"] = large
    name = _name(content)
    if current_generation(index_folder(run)) == generation_folder(index_folder(run), name):
        return generation_folder(index_folder(run), name)
    content.facts["calibration"] = calibrate(content)
    return write_generation(index_folder(run), content, name, _with_inverted_files if large else None)


def _with_inverted_files(folder: Path, content: Content) -> None:
    content.facts["nearest"] = write_inverted_files(folder, content)


def _pairs(
    run: str | Path, content: Content, encoders: Mapping[str, str], own: Model | None
) -> tuple[np.ndarray, np.ndarray, Sequence[str]] | None:
    """Sight and sound of the same moments: of the run's own clips, or else of the segments that are indexed."""
    if set(encoders) != set(STREAMS):
        return None
    folder = RunFolder(Path(run))
    if own is not None and folder.features.exists():
        bank = table_bank(pq.read_table(folder.features))
        if all(name in bank.features for name in encoders.values()):
            return bank.features[encoders["video"]], bank.features[encoders["audio"]], [r.video_id for r in bank.refs]
    x, y = content.features[encoders["video"]], content.features[encoders["audio"]]
    both = np.flatnonzero(np.isfinite(x[:, 0]) & np.isfinite(y[:, 0]))
    return x[both], y[both], [content.videos[int(v)].video_id for v in content.video[both]]


def _name(content: Content) -> str:
    """Names the content: equal for equal videos, segments, features, labels, however they came about."""
    digest = hashlib.blake2b(digest_size=12)
    for video in content.videos:
        digest.update(f"{video.video_id}\0{video.path}\0{video.identity.fingerprint}\n".encode("utf-8", "replace"))
    facts = {k: v for k, v in content.facts.items() if k != "made_utc"}
    digest.update(json.dumps(facts, sort_keys=True).encode())
    arrays = [content.video, content.start_seconds, content.end_seconds]
    arrays += [x for _, x in sorted(content.features.items())]
    arrays += [x for _, x in sorted(content.space.items())]
    arrays += [labels.cluster for _, labels in sorted(content.labels.items())]
    arrays += [] if content.doubt is None else [content.doubt]
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).reshape(-1).data)
    return digest.hexdigest()
