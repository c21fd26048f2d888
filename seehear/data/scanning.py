"""Looking at every file of a source: the manifest, a second time only for what changed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from seehear.data.manifest import COLUMNS, Manifest
from seehear.data.sources import Candidate, FileList, Found, find, storable
from seehear.errors import DataError, UsageError
from seehear.files import check_destination
from seehear.media.packed import status_of
from seehear.media.pool import WorkerPool, available_cores
from seehear.media.probe import PROBE_VERSION, ProbeResult, probe

TRANSIENT = {"timeout", "crashed", "permission", "missing", "unreadable", "changed"}  # worth another look at each scan


_DAMAGED = "this is not the copy that was prepared: it or its shard was damaged or replaced"


def scan(
    source: str | os.PathLike[str] | FileList,
    *,
    out: str | os.PathLike[str] | None = None,
    need: Sequence[str] = ("video", "audio"),
    min_seconds: float = 1.0,
    workers: int | None = None,
    previous: Manifest | None = None,
    progress: Callable[[int, int], None] | None = None,
    strict: bool = False,
    silence_dbfs: float = -60.0,
    timeout_seconds: float = 120.0,
    keep_duplicates: bool = False,
    audio_track: int | None = None,
) -> Manifest:
    """Look at every media file of a source and say of each whether it can be used.

    source: a folder (searched to any depth, links followed once; hidden files left out), one file, a glob, a
        CSV or Parquet table with a column `path` (relative to the table's folder), whose other columns are
        kept as strings, or a `FileList`
    out: where to save the manifest; one that is there already serves as `previous`
    need: the streams without which a file is of no use
    workers: processes to use (default: one a core; 0: this one, without protection from hangs and crashes)
    previous: files unchanged in size and time since then are not looked at again
    progress: called with (done, total) as files are looked at
    strict: raise `DataError` if any file is rejected
    keep_duplicates: use files of the same content all the same, as a data set's official split does
    audio_track: the number of the sound track to take of every file, from 0; by default see `seehear.media.probe.probe`

    Raises `DataError` if the source cannot be read or names no media file, and `DestinationError` if `out` cannot be
    written; single files never raise, but get a row with a reason (see `REASONS`).
    """
    settings = _settings(need, min_seconds, silence_dbfs, audio_track)
    found = find(source)
    if out is not None:
        check_destination(out)
        if previous is None and os.path.exists(out):
            previous = Manifest.load(out)  # and never overwrite what is no manifest
    known = _unchanged(previous, settings)
    rows: list[dict[str, Any] | None] = []
    for candidate in found.candidates:
        row = known.get(candidate.path)
        rows.append(dict(row) if row is not None and _same_file(candidate.path, row) else None)
    _probe_all(found.candidates, rows, settings, workers, timeout_seconds, progress)
    info = settings | {"source": storable(source.source if isinstance(source, FileList) else os.fspath(source))}
    manifest = _manifest_of(found, rows, info, keep_duplicates)
    if out is not None:
        manifest.save(out)
    if strict:
        _refuse_rejected(manifest)
    return manifest


def _settings(need: Sequence[str], min_seconds: float, silence_dbfs: float, audio_track: int | None) -> dict[str, Any]:
    """What a row depends on besides its file: rows of a scan with other settings are made anew."""
    wrong = set(need) - {"video", "audio"}
    if wrong or not need:
        raise UsageError(f"need must be of video and audio, not {sorted(need)}")
    if audio_track is not None and audio_track < 0:
        raise UsageError(f"sound tracks are counted from 0, there is no {audio_track}")
    return {
        "need": sorted(need),
        "min_seconds": min_seconds,
        "silence_dbfs": silence_dbfs,
        "audio_track": audio_track,
        "probe_version": PROBE_VERSION,
    }


def _manifest_of(
    found: Found, rows: Sequence[dict[str, Any] | None], info: Mapping[str, Any], keep_duplicates: bool
) -> Manifest:
    finished = []
    for candidate, row in zip(found.candidates, rows, strict=True):
        assert row is not None
        if candidate.fingerprint not in (None, row["fingerprint"]) and row["fingerprint"] is not None:
            row |= {"usable": False, "reason": "changed", "detail": _DAMAGED}
        if row["reason"] == "missing" and candidate.place:
            row["detail"] = f"{row['detail']}: {candidate.path} ({candidate.place})"
        finished.append(row | candidate.extra | {"video_id": candidate.video_id, "path": storable(candidate.path)})
    if not keep_duplicates:
        _mark_duplicates(finished, found.extra_columns)
    facts = {
        "root": storable(found.root),
        "ignored": dict(found.ignored.most_common()),
        "unreadable_folders": found.unreadable_folders,
        "notes": found.notes,
    }
    return Manifest(pa.Table.from_pylist(finished, schema=_schema(found)), {**info, **facts})


def _schema(found: Found) -> pa.Schema:
    return pa.schema(list(COLUMNS.items()) + [(name, pa.string()) for name in found.extra_columns])


def _refuse_rejected(manifest: Manifest) -> None:
    rejected = manifest.rejected_rows()
    if not rejected:
        return
    lines = [f"  {row['video_id']}: {row['reason']}: {row['detail']}" for row in rejected[:20]]
    if len(rejected) > 20:
        lines.append(f"  and {len(rejected) - 20} more")
    raise DataError(
        f"{len(rejected)} of {len(manifest)} files cannot be used:\n" + "\n".join(lines),
        "mend or remove them, or scan without strict",
    )


def unprobed(listed: FileList) -> Manifest:
    """A manifest of files that nobody looked at: all count as usable, and what only a look would tell is null."""
    found = find(listed)
    rows = [{"video_id": c.video_id, "path": storable(c.path), "usable": True} | c.extra for c in found.candidates]
    return Manifest(pa.Table.from_pylist(rows, schema=_schema(found)), {"source": listed.source, "root": listed.root})


def _probe_all(
    candidates: list[Candidate],
    rows: list[dict[str, Any] | None],
    settings: Mapping[str, Any],
    workers: int | None,
    timeout_seconds: float,
    progress: Callable[[int, int], None] | None,
) -> None:
    todo = [index for index, row in enumerate(rows) if row is None]
    done = len(candidates) - len(todo)
    if progress is not None:
        progress(done, len(candidates))
    if not todo:
        return
    arguments = (tuple(settings["need"]), settings["min_seconds"], settings["silence_dbfs"], settings["audio_track"])
    count = min(available_cores() if workers is None else workers, len(todo))
    items = ((index, (candidates[index].path, *arguments)) for index in todo)
    with WorkerPool(count, timeout_seconds=timeout_seconds) as pool:
        for outcome in pool.imap(_probe_one, items, ordered=False):
            index = int(outcome.key)  # type: ignore[call-overload]
            path = candidates[index].path
            result: ProbeResult = outcome.value
            if outcome.error is not None:
                result = ProbeResult(path, False, outcome.error.reason, outcome.error.detail, **_status(path))
            rows[index] = asdict(result) | {"duplicate_of": None}
            done += 1
            if progress is not None:
                progress(done, len(candidates))


def _probe_one(
    path: str, need: tuple[str, ...], min_seconds: float, silence_dbfs: float, audio_track: int | None
) -> ProbeResult:
    if storable(path) != path:
        why = "the file's name is not valid UTF-8, so it cannot be stored in a table: rename it"
        return ProbeResult(path, False, "unreadable", why, **_status(path))
    return probe(path, need=need, min_seconds=min_seconds, silence_dbfs=silence_dbfs, audio_track=audio_track)


def _status(path: str) -> dict[str, Any]:
    try:
        status = status_of(path)
    except (OSError, ValueError):
        return {}
    return {"size_bytes": status.size, "modified_ns": status.modified_ns}


def _unchanged(previous: Manifest | None, settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Rows of an earlier scan by path, as they were before duplicates were marked."""
    if previous is None or any(previous.info.get(name) != value for name, value in settings.items()):
        return {}
    known = {}
    for row in previous.table.select(list(COLUMNS)).to_pylist():
        if row["reason"] in TRANSIENT:
            continue
        if row["reason"] == "duplicate":
            row |= {"usable": True, "reason": None, "detail": None}
        row["duplicate_of"] = None
        known[row["path"]] = row
    return known


def _same_file(path: str, row: Mapping[str, Any]) -> bool:
    status = _status(path)
    return bool(status) and all(row[name] == value for name, value in status.items())


def _mark_duplicates(rows: list[dict[str, Any]], extra_columns: Sequence[str]) -> None:
    first: dict[str, dict[str, Any]] = {}
    for row in rows:
        if not row["usable"] or row["fingerprint"] is None:
            continue
        original = first.setdefault(row["fingerprint"], row)
        if original is row:
            continue
        differ = [name for name in extra_columns if row.get(name) != original.get(name)]
        detail = f"the same content as {original['video_id']}"
        if differ:
            detail += f", but with another {', '.join(differ)}"
        row |= {
            "usable": False,
            "reason": "duplicate",
            "detail": detail,
            "duplicate_of": original["video_id"],
        }
