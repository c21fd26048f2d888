"""Looking at every file of a source: the manifest, a second time only for what changed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seehear.data.manifest import COLUMNS, Manifest
from seehear.data.sources import Candidate, FileList, Found, find, storable
from seehear.errors import DataError, MediaError, UsageError
from seehear.files import check_destination
from seehear.media.packed import remote_copy, status_of
from seehear.media.pool import WorkerPool, available_cores
from seehear.media.probe import PROBE_VERSION, ProbeResult, probe
from seehear.media.remote import brought

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
    settings = row_settings(need, min_seconds, silence_dbfs, audio_track)
    found = find(source)
    if out is not None:
        check_destination(out)
        if previous is None and os.path.exists(out):
            previous = Manifest.load(out)  # and never overwrite what is no manifest
    rows = known_rows(found.candidates, unchanged(previous, settings))
    _probe_all(found.candidates, rows, settings, workers, timeout_seconds, progress)
    table = table_of(found.candidates, rows, found.extra_columns)
    manifest = manifest_of(table, scan_info(source, settings, found), found.extra_columns, keep_duplicates)
    if out is not None:
        manifest.save(out)
    if strict:
        refuse_rejected(manifest)
    return manifest


def row_settings(
    need: Sequence[str], min_seconds: float, silence_dbfs: float, audio_track: int | None
) -> dict[str, Any]:
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


def scan_info(source: str | os.PathLike[str] | FileList, settings: Mapping[str, Any], found: Found) -> dict[str, Any]:
    """What a manifest notes of how it was made (`Manifest.info`)."""
    return {
        **settings,
        "source": storable(source.source if isinstance(source, FileList) else os.fspath(source)),
        "root": storable(found.root),
        "ignored": dict(found.ignored.most_common()),
        "unreadable_folders": found.unreadable_folders,
        "notes": found.notes,
    }


def table_of(
    candidates: Sequence[Candidate], rows: Sequence[dict[str, Any] | None], extra_columns: Sequence[str]
) -> pa.Table:
    """Candidates and what a look at each found as rows of a manifest; copies are not marked yet."""
    finished = []
    for candidate, row in zip(candidates, rows, strict=True):
        assert row is not None
        if candidate.fingerprint not in (None, row["fingerprint"]) and row["fingerprint"] is not None:
            row |= {"usable": False, "reason": "changed", "detail": _DAMAGED}
        if row["reason"] == "missing" and candidate.place:
            row["detail"] = f"{row['detail']}: {candidate.path} ({candidate.place})"
        finished.append(row | candidate.extra | {"video_id": candidate.video_id, "path": storable(candidate.path)})
    return pa.Table.from_pylist(finished, schema=_schema(extra_columns))


def manifest_of(
    table: pa.Table, info: Mapping[str, Any], extra_columns: Sequence[str], keep_duplicates: bool
) -> Manifest:
    """The manifest of all rows of a scan, in which files of the same content are marked unless they are to be kept."""
    table = table.combine_chunks()
    return Manifest(table if keep_duplicates else _duplicates_marked(table, extra_columns), info)


def _schema(extra_columns: Sequence[str]) -> pa.Schema:
    return pa.schema(list(COLUMNS.items()) + [(name, pa.string()) for name in extra_columns])


def refuse_rejected(manifest: Manifest) -> None:
    """Raise `DataError`, which names them, if any file cannot be used."""
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
    return Manifest(
        pa.Table.from_pylist(rows, schema=_schema(found.extra_columns)), {"source": listed.source, "root": listed.root}
    )


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
    count = min(available_cores() if workers is None else workers, len(todo))
    with WorkerPool(count, timeout_seconds=timeout_seconds) as pool:
        probe_into(rows, candidates, settings, pool, progress)


def probe_into(
    rows: list[dict[str, Any] | None],
    candidates: Sequence[Candidate],
    settings: Mapping[str, Any],
    pool: WorkerPool,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Look at the candidates that have no row yet, and put what was found into `rows`; a file's fault is its row's."""
    todo = [index for index, row in enumerate(rows) if row is None]
    done = len(candidates) - len(todo)
    arguments = (tuple(settings["need"]), settings["min_seconds"], settings["silence_dbfs"], settings["audio_track"])

    def items() -> Iterator[tuple[int, tuple[Any, ...]]]:
        for index, error in zip(todo, brought(remote_copy(candidates[index].path) for index in todo), strict=True):
            if error is not None:
                absent.append((index, error))
            else:
                yield index, (candidates[index].path, *arguments)

    absent: list[tuple[int, MediaError]] = []
    for outcome in pool.imap(_probe_one, items(), ordered=False):
        index = int(outcome.key)  # type: ignore[call-overload]
        path = candidates[index].path
        result: ProbeResult = outcome.value
        if outcome.error is not None:
            result = ProbeResult(path, False, outcome.error.reason, outcome.error.detail, **_status(path))
        rows[index] = asdict(result) | {"duplicate_of": None}
        done += 1
        if progress is not None:
            progress(done, len(candidates))
    for index, error in absent:
        path = candidates[index].path
        result = ProbeResult(path, False, error.reason, error.detail, **_status(path))
        rows[index] = asdict(result) | {"duplicate_of": None}


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


def unchanged(
    previous: Manifest | None, settings: Mapping[str, Any], among: Sequence[Candidate] | None = None
) -> dict[str, dict[str, Any]]:
    """Rows of an earlier scan by path, as they were before duplicates were marked; of these candidates, or of all."""
    if previous is None or any(previous.info.get(name) != value for name, value in settings.items()):
        return {}
    known, table = {}, previous.table.select(list(COLUMNS))
    if among is not None:
        table = table.filter(pc.is_in(table["path"], pa.array([storable(c.path) for c in among], pa.string())))
    for row in table.to_pylist():
        if row["reason"] in TRANSIENT:
            continue
        if row["reason"] == "duplicate":
            row |= {"usable": True, "reason": None, "detail": None}
        row["duplicate_of"] = None
        known[row["path"]] = row
    return known


def known_rows(candidates: Sequence[Candidate], known: Mapping[str, dict[str, Any]]) -> list[dict[str, Any] | None]:
    """For each candidate its row of an earlier scan if its file is as it was then, or None."""
    rows = [known.get(candidate.path) for candidate in candidates]
    return [
        dict(row) if row is not None and _same_file(c.path, row) else None
        for c, row in zip(candidates, rows, strict=True)
    ]


def _same_file(path: str, row: Mapping[str, Any]) -> bool:
    status = _status(path)
    return bool(status) and all(row[name] == value for name, value in status.items())


def _duplicates_marked(table: pa.Table, extra_columns: Sequence[str]) -> pa.Table:
    """The table with every usable file but the first of the same content rejected as its duplicate."""
    there = pc.and_(table["usable"], pc.is_valid(table["fingerprint"]))
    places = np.flatnonzero(there.to_numpy(zero_copy_only=False))
    contents = table["fingerprint"].combine_chunks().filter(there.combine_chunks()).dictionary_encode()
    codes = contents.indices.to_numpy(zero_copy_only=False)
    first = np.full(len(contents.dictionary), len(table), dtype=np.int64)
    np.minimum.at(first, codes, places)
    originals = first[codes]
    copies = places[places != originals]
    if not len(copies):
        return table
    wanted = ["video_id", *extra_columns]
    rows = table.select(wanted).take(copies).to_pylist()
    of = table.select(wanted).take(originals[places != originals]).to_pylist()
    new: dict[str, list[Any]] = {"usable": [False] * len(copies), "reason": ["duplicate"] * len(copies)}
    new |= {"detail": [], "duplicate_of": []}
    for row, original in zip(rows, of, strict=True):
        differ = [name for name in extra_columns if row[name] != original[name]]
        detail = f"the same content as {original['video_id']}"
        new["detail"].append(detail + (f", but with another {', '.join(differ)}" if differ else ""))
        new["duplicate_of"].append(original["video_id"])
    mask = np.zeros(len(table), dtype=bool)
    mask[copies] = True
    for name, values in new.items():
        at, kind = table.schema.get_field_index(name), COLUMNS[name]
        column = pc.replace_with_mask(table[name].combine_chunks(), pa.array(mask), pa.array(values, kind))
        table = table.set_column(at, name, column)
    return table
