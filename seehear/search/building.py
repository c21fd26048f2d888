"""Making an index: of the clips that a run has features of, or of segments of its videos or others."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from seehear.data.clips import Video
from seehear.data.manifest import Manifest
from seehear.engine.runfolder import RunFolder, open_run
from seehear.errors import RunError
from seehear.features.model import Model, table_bank
from seehear.hashes import HASHES, sha256_of
from seehear.modalities import MODALITIES, streams_of
from seehear.search.labelled import label_content
from seehear.search.layout import Content, current_generation, index_folder, write_generation
from seehear.search.segments import IndexedVideo
from seehear.search.spaces import STREAMS, across_kind, encoders_of, fit_spaces

_WEIGHTS = "model.safetensors"


def model_sha256(run: str | Path) -> str:
    """SHA-256 of the weights of a run's model: of encoders, heads and clusters. `RunError` if there is none."""
    import json

    folder = RunFolder(Path(run)).model
    try:
        return str(json.loads((folder / HASHES).read_bytes())[_WEIGHTS])
    except (OSError, ValueError, KeyError):  # models of earlier versions have no hashes
        pass
    try:
        return sha256_of(folder / _WEIGHTS)
    except OSError as error:
        raise RunError(f"{run} holds no trained model: {error}", "give the folder of a finished run") from error


def index_own_clips(run: str | Path) -> Path:
    """Index the clips that a run has features of, without decoding anything; the folder of the generation.

    Raises `RunError` if the run is not finished, or has no features of its own (imported and finetuned ones).
    """
    folder = open_run(run)
    remedy = f"`seehear index {run} VIDEOS`"
    folder.check_trained(remedy)
    folder.check_clustered(remedy)
    model = Model.load(run)
    bank = table_bank(pq.read_table(folder.features))
    rows = Manifest.load(folder.manifest).usable_rows()
    streams = streams_of(tuple(model.modalities.values()))
    there = {ref.video_id for ref in bank.refs}
    videos = [indexed_video(row, streams) for row in rows if row["video_id"] in there]
    place = {video.video_id: i for i, video in enumerate(videos)}
    known = [i for i, ref in enumerate(bank.refs) if ref.video_id in place]
    known.sort(key=lambda i: (place[bank.refs[i].video_id], bank.refs[i].start_seconds))
    content = Content(
        videos,
        np.array([place[bank.refs[i].video_id] for i in known], dtype=np.int32),
        np.array([bank.refs[i].start_seconds for i in known]),
        np.array([bank.refs[i].end_seconds for i in known]),
        {name: x[known] for name, x in bank.features.items()},
    )
    with RunFolder(_made(index_folder(run))).lock():
        there_now = current_generation(index_folder(run))
        return (
            there_now
            if there_now is not None and there_now.is_dir() and not _stale(there_now, run)
            else publish(run, model, content, Facts(every_seconds=None))
        )


def _stale(generation: Path, run: str | Path) -> bool:
    import json

    return bool(json.loads((generation / "facts.json").read_bytes()).get("model") != model_sha256(run))


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def indexed_video(row: Mapping[str, Any], streams: Sequence[str]) -> IndexedVideo:
    """A video of a row of a manifest, with the span in which those of `streams` that it has overlap."""
    there = [s for s in streams if row[f"{s}_duration_seconds"] is not None]
    video = Video.from_row(row, there)
    return IndexedVideo(
        video.video_id, Path(video.path).absolute(), video.identity, video.start_seconds, video.end_seconds,
        row["container"] or "", row["video_codec"], row["audio_codec"], video.audio_track, video.clock_jumps,
    )  # fmt: skip


@dataclass
class Facts:
    """What is to be noted of how an index was made."""

    every_seconds: float | None
    left_out: list[dict[str, Any]] = field(default_factory=list)
    encoder: str = "run"
    """"run", or where features of another encoder are from."""


def publish(run: str | Path, model: Model | None, content: Content, facts: Facts) -> Path:
    """Make spaces, labels and facts of features, write them as a generation and put it in force."""
    encoders = encoders_of(model.modalities if model is not None else {n: n for n in content.features})
    encoders = {stream: name for stream, name in encoders.items() if name in content.features}
    own = model if facts.encoder == "run" else None
    spaces = fit_spaces(content.features, encoders, own, _pairs(run, content, encoders, own))
    content.space = {stream: spaces.rows(stream, content.features[name]) for stream, name in encoders.items()}
    if spaces.across is not None:
        for stream, name in encoders.items():
            content.space[f"across.{stream}"] = spaces.across_rows(stream, content.features[name])
    content.maps = spaces.arrays
    sha = model_sha256(run)
    keys = label_content(content, model, sha, facts.encoder)
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
    }
    return write_generation(index_folder(run), content, _name(content))


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
    arrays = [content.video, content.start_seconds, content.end_seconds]
    arrays += [x for _, x in sorted(content.features.items())]
    arrays += [x for _, x in sorted(content.space.items())]
    arrays += [labels.cluster for _, labels in sorted(content.labels.items())]
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(memoryview(np.ascontiguousarray(array)).cast("B"))
    return digest.hexdigest()


def streams_needed(model: Model) -> tuple[str, ...]:
    """The streams that a model's encoders look at."""
    return tuple(s for s in STREAMS if any(MODALITIES[m].stream == s for m in model.modalities.values()))
