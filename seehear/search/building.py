"""Making an index: of the clips that a run has features of, or of segments of its videos or others."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from seehear.data.loader import Failures, worker_count
from seehear.data.manifest import Manifest
from seehear.data.sources import FileList
from seehear.engine.device import choose_device
from seehear.engine.runfolder import RunFolder, model_sha256, open_run
from seehear.engines import Engine
from seehear.errors import DataError, UsageError
from seehear.features.model import Model, table_bank
from seehear.files import writing
from seehear.parts import Part, PartFolder
from seehear.progress import Progress
from seehear.search.embedding import Known, ToEmbed, embed_missing, known_features, remove_parts, video_key
from seehear.search.in_parts import embed_in_parts, joined
from seehear.search.layout import Content, current_generation, index_folder, read_generation
from seehear.search.nearest import EXACT_UP_TO
from seehear.search.others import content_of_features
from seehear.search.publishing import Facts, indexed_video, publish
from seehear.search.segments import IndexedVideo
from seehear.search.spaces import STREAMS, encoders_of

Source = str | Path | Manifest | None
_ONE_STREAM = {
    "video": {"no_audio", "silent", "audio_too_short", "too_short"},
    "audio": {"no_video", "too_short"},
}
"""For which reasons a file that is of no use for both streams is looked at again for one."""


def index_own_clips(run: str | Path) -> Path:
    """Index the clips that a run has features of, without decoding anything; the folder of the generation.

    Raises `RunError` if the run is not finished, or has no features of its own (imported and finetuned ones).
    """
    folder = open_run(run)
    remedy = f"`seehear index {run} VIDEOS`"
    folder.check_trained(remedy)
    folder.check_clustered(remedy)
    with RunFolder(_made(index_folder(run))).lock():
        made = current_generation(index_folder(run))  # another process may have been first
        if made is not None and made.is_dir() and read_generation(made).facts["model"] == model_sha256(run):
            return made
        model = Model.load(run)
        bank = table_bank(pq.read_table(folder.features))
        there = {ref.video_id for ref in bank.refs}
        manifest = Manifest.load(folder.manifest)
        videos = [indexed_video(row, _streams(model)) for row in manifest.each_usable() if row["video_id"] in there]
        place = {video.video_id: i for i, video in enumerate(videos)}
        order = [i for i, ref in enumerate(bank.refs) if ref.video_id in place]
        order.sort(key=lambda i: (place[bank.refs[i].video_id], bank.refs[i].start_seconds))
        content = Content(
            videos,
            np.array([place[bank.refs[i].video_id] for i in order], dtype=np.int32),
            np.array([bank.refs[i].start_seconds for i in order]),
            np.array([bank.refs[i].end_seconds for i in order]),
            {name: x[order] for name, x in bank.features.items()},
        )
        _, left_out = _usable([manifest], _streams(model))
        return publish(run, model, content, Facts(every_seconds=None, left_out=left_out))


def build_index(
    run: str | Path,
    videos: Source = None,
    *,
    every_seconds: float = 2.0,
    features: str | Path | None = None,
    column: str | None = None,
    exact_up_to: int = EXACT_UP_TO,
    workers: int | None = None,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
    part: Part | None = None,
    engine: Engine = "local",
) -> dict[str, Any]:
    """What `seehear.build_index` does; arguments as there. `progress` is called with clips embedded and their number.

    Returns generation, videos, segments, embedded, kept, gone (videos), left_out, every_seconds, across, seconds.
    """
    if not every_seconds > 0:
        raise UsageError("segments need a length above zero", "--every 2")
    if part is not None or engine != "local":
        if features is not None or column is not None:
            raise UsageError("features of a file are indexed by one process", "leave out --part and --engine")
        return _index_in_parts(
            run, videos, part, engine, every_seconds=every_seconds, exact_up_to=exact_up_to, workers=workers,
            device=device, progress=progress,
        )  # fmt: skip
    started = time.monotonic()
    folder = open_run(run)
    if videos is None:
        remedy = f"name the videos to index: `seehear index {run} VIDEOS`"
        folder.check_trained(remedy)
        folder.check_clustered(remedy)
    with RunFolder(_made(index_folder(run))).lock(), Progress(quiet=None) as shown:
        model = Model.load(run)
        found, left_out = _videos(folder, model, videos, workers, shown)
        if features is not None:
            content, facts = content_of_features(run, features, column, found)
            facts.left_out += left_out
            facts.exact_up_to = exact_up_to
            counts = {"embedded": 0, "kept": len(content.videos), "gone": 0}
            made = publish(run, None, content, facts)
        else:
            if column is not None:
                raise UsageError("a column is one of a file of features", "add --features FILE")
            content, failed, counts = _embedded(
                run, model, found, every_seconds, workers, device, progress or shown.shown("index", "clips")
            )
            shown.left_out(failed)
            made = publish(run, model, content, Facts(every_seconds, left_out + failed, exact_up_to=exact_up_to))
            remove_parts(index_folder(run))
    return _facts(made, counts, started)


def _facts(made: Path, counts: Mapping[str, int], started: float) -> dict[str, Any]:
    kept = read_generation(made)
    return {
        "generation": made.name.partition("-")[2],
        "videos": len(kept.videos),
        "segments": len(kept.video),
        **counts,
        "left_out": kept.facts["left_out"],
        "every_seconds": kept.facts["every_seconds"],
        "across": kept.facts["across"],
        "recall": min((f["recall"] for f in kept.facts.get("nearest", {}).values()), default=None),
        "seconds": round(time.monotonic() - started, 3),
    }


def _index_in_parts(
    run: str | Path,
    videos: Source,
    part: Part | None,
    engine: Engine,
    *,
    progress: Callable[[int, int], None] | None,
    **options: Any,
) -> dict[str, Any]:
    """Embed one part of the videos, or by an engine all of them, and then make the index."""
    folder = open_run(run)
    _made(index_folder(run))
    with Progress(quiet=None) as shown:
        model = Model.load(run)
        listed: Source = videos
        if videos is None or (isinstance(videos, str | Path) and Manifest.is_manifest(videos)):
            found, _ = _videos(folder, model, videos, None, shown)
        else:
            found = []  # it is refused
        tell = progress or shown.shown("index", "videos")
        done = embed_in_parts(run, model, listed, found, part=part, engine=engine, progress=tell, **options)
    return done if part is not None else join_index(run)


def join_index(run: str | Path) -> dict[str, Any]:
    """Make the index of the parts that were embedded, and delete them; returns what `build_index` does.

    Raises `DataError` if parts are missing or are not of the videos, the model and the index as they are now.
    """
    started = time.monotonic()
    parts = PartFolder.open(index_folder(run))
    facts = parts.plan.facts
    every_seconds, exact_up_to = float(facts["every_seconds"]), int(facts["exact_up_to"])
    with RunFolder(_made(index_folder(run))).lock(), Progress(quiet=None) as shown:
        model = Model.load(run)
        videos, left_out = _usable([Manifest.load(facts["manifest"])], _streams(model))
        known = joined(parts, run, model, videos)
        content, failed = _assembled(videos, known, model), _failed(videos, known)
        shown.left_out(failed)
        made = publish(run, model, content, Facts(every_seconds, left_out + failed, exact_up_to=exact_up_to))
        remove_parts(index_folder(run))
        parts.remove()
    there = {video_key(v) for v in videos}
    counts = {
        "embedded": parts.plan.items,
        "kept": len(there & known.of_index),
        "gone": len(known.of_index - there),
    }
    return _facts(made, counts, started)


def _made(folder: Path) -> Path:
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def _streams(model: Model) -> tuple[str, ...]:
    return tuple(s for s in STREAMS if s in encoders_of(model.modalities))


# -- which videos -----------------------------------------------------------------------------------------------


def _videos(
    folder: RunFolder, model: Model, source: Source, workers: int | None, shown: Progress
) -> tuple[list[IndexedVideo], list[dict[str, Any]]]:
    """The videos to index, each with the streams that it has, and the files that are left out, with reasons."""
    streams = _streams(model)
    if isinstance(source, Manifest):
        return _usable([source], streams)
    if source is None or Manifest.is_manifest(source):
        return _usable([Manifest.load(folder.manifest if source is None else source)], streams)
    kept = index_folder(folder.path)
    options: dict[str, Any] = {"workers": workers, "progress": shown.shown("scan", "files")}
    whole = model.scan(source, streams, out=kept / "manifest.parquet", **options)
    manifests = [whole]
    for stream in streams if len(streams) == 2 else ():
        used = {video_id for manifest in manifests for video_id in manifest.usable().column("video_id")}
        rejected = [row for row in whole.rejected_rows() if row["video_id"] not in used]
        again = [row for row in rejected if row["reason"] in _ONE_STREAM[stream]]
        if again:
            files = FileList(str(whole.info["root"]), [{"path": str(r["path"])} for r in again], str(source))
            manifests.append(model.scan(files, (stream,), out=kept / f"manifest.{stream}.parquet", **options))
    shown.note(whole.summary_text())
    return _usable(manifests, streams)


def _usable(manifests: Sequence[Manifest], streams: Sequence[str]) -> tuple[list[IndexedVideo], list[dict[str, Any]]]:
    """Usable rows of any of these manifests; later ones look again at what earlier ones rejected."""
    found: dict[str, IndexedVideo] = {}
    rejected: dict[str, dict[str, Any]] = {}
    for manifest in manifests:
        need = manifest.info.get("need", streams)
        for row in manifest.each_usable():
            there = [s for s in streams if row[f"{s}_duration_seconds"] is not None]
            if len(manifests) > 1 and len(need) == 1:
                there = [s for s in there if s in need]  # the other was looked at and is of no use
            if there:
                found[row["video_id"]] = indexed_video(row, there, [s for s in streams if s not in there])
        for row in manifest.rejected_rows():
            report = {"video_id": row["video_id"], "path": row["path"]}
            report |= {"reason": row["reason"], "detail": row["detail"] or ""}
            if row["duplicate_of"] is not None:
                report["duplicate_of"] = row["duplicate_of"]
            rejected.setdefault(row["video_id"], report)
    if not found:
        raise DataError(f"no usable video\n{manifests[0].summary_text()}", "see the reasons above")
    order = {i: n for n, i in enumerate(manifests[0].column("video_id"))}
    videos = sorted(found.values(), key=lambda video: order.get(video.video_id, len(order)))
    return videos, [row for video_id, row in rejected.items() if video_id not in found]


# -- their features ----------------------------------------------------------------------------------------------


def _embedded(
    run: str | Path,
    model: Model,
    videos: Sequence[IndexedVideo],
    every_seconds: float,
    workers: int | None,
    device: str,
    progress: Callable[[int, int], None],
) -> tuple[Content, list[dict[str, Any]], dict[str, int]]:
    """Features of all segments: those known from before, and of new and changed videos."""
    folder, sha = index_folder(run), model_sha256(run)
    known = known_features(folder, sha, every_seconds)
    before = set(known.of_index)
    asked = ToEmbed(model, every_seconds, worker_count(workers), choose_device(device), progress)
    missing = {video_key(v): v for v in videos if video_key(v) not in known.found}
    failures = Failures(limit=1_000_000)  # each clip is asked for once; one that fails takes no other with it
    embed_missing(asked, folder, sha, list(missing.values()), known, failures)
    content = _assembled(videos, known, model)
    there = {video_key(v) for v in videos}
    failed = _failed(videos, known)
    counts = {
        "embedded": len(missing),
        "kept": sum(key in before for key in there),
        "gone": len(before - there),
    }
    return content, failed, counts


def _assembled(videos: Sequence[IndexedVideo], known: Known, model: Model) -> Content:
    dims = {name: int(encoder.feature_dim) for name, encoder in model.encoders.items()}  # type: ignore[arg-type]
    parts = [(video, known.found[video_key(video)]) for video in videos]
    parts = [(video, part) for video, part in parts if len(part.start)]
    if not parts:
        raise DataError("not one clip could be decoded")
    counts = [len(part.start) for _, part in parts]
    features = {name: np.full((sum(counts), dim), np.nan, dtype=np.float32) for name, dim in dims.items()}
    row = 0
    for (_, part), count in zip(parts, counts, strict=True):
        for name, x in part.features.items():
            features[name][row : row + count] = x
        row += count
    return Content(
        [video for video, _ in parts],
        np.repeat(np.arange(len(parts), dtype=np.int32), counts),
        np.concatenate([part.start for _, part in parts]),
        np.concatenate([part.end for _, part in parts]),
        features,
    )


def _failed(videos: Sequence[IndexedVideo], known: Known) -> list[dict[str, Any]]:
    """A line for each video of which something could not be decoded."""
    reports = []
    for video in videos:
        failure = known.found[video_key(video)].failure
        if failure is not None:
            reports.append({"video_id": video.video_id, "path": str(video.path), **failure})
    return reports
