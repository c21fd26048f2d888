"""The manifest: one row for every media file of a collection, usable or not, and why not.

`scan` makes it from a folder, a file, a glob or a table; a second scan looks only at files that changed.
"""

from __future__ import annotations

import csv
import difflib
import glob
import hashlib
import json
import operator
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from seehear.errors import DataError, UsageError
from seehear.media.pool import WorkerPool, available_cores
from seehear.media.probe import ProbeResult, probe

VIDEO_EXTENSIONS = frozenset(
    {"3g2", "3gp", "asf", "avi", "f4v", "flv", "m2ts", "m4v", "mkv", "mov",
     "mp4", "mpeg", "mpg", "mts", "ogv", "ts", "vob", "webm", "wmv"}
)  # fmt: skip
AUDIO_EXTENSIONS = frozenset(
    {"aac", "aif", "aiff", "amr", "au", "caf", "flac", "m4a",
     "mka", "mp3", "oga", "ogg", "opus", "w64", "wav", "wma"}
)  # fmt: skip

REASONS: dict[str, tuple[str, str]] = {
    "missing": ("there is no such file", "correct the path, or put the file there"),
    "permission": ("this user may not read the file", "change the file's permissions"),
    "unreadable": ("the operating system cannot read the file", "check the disk, or rename the file"),
    "empty": ("the file has no bytes", "copy or download it again"),
    "not_media": ("no video or audio container was recognised", "remove the file, or convert it to mp4"),
    "unsafe": ("the file is a playlist, which would open other files", "give the media itself"),
    "truncated": ("the file ends before it should", "copy or download it again"),
    "decode_error": ("the picture or the sound does not decode", "convert the file to H.264 and AAC in mp4"),
    "no_video": ("the file has no moving picture", "need only audio, or remove the file"),
    "no_audio": ("the file has no sound", "need only video, or remove the file"),
    "too_short": ("picture, or picture and sound together, are too short", "lower min_seconds"),
    "audio_too_short": ("the sound is too short", "lower min_seconds"),
    "silent": ("the sound is silence", "need only video, or remove the file"),
    "too_large": ("frames or windows need too much memory", "scale the video down"),
    "timeout": ("looking at the file took too long and was stopped", "try it alone, or raise the timeout"),
    "crashed": ("looking at the file ended the process that did it", "convert the file; please report it"),
    "duplicate": ("another file has exactly the same content", "nothing to do: the first one is used"),
}
"""Why a file cannot be used: code -> (meaning, remedy)."""

_TRANSIENT = {"timeout", "crashed", "permission", "missing", "unreadable"}  # worth another look at each scan

_PROBED: dict[str, pa.DataType] = {
    "container": pa.string(),
    "size_bytes": pa.int64(),
    "modified_ns": pa.int64(),
    "fingerprint": pa.string(),
    "duplicate_of": pa.string(),
    "clock_jumps": pa.int32(),
    "video_start_seconds": pa.float64(),
    "video_duration_seconds": pa.float64(),
    "frame_rate_hz": pa.float64(),
    "variable_frame_rate": pa.bool_(),
    "frame_count": pa.int64(),
    "width": pa.int32(),
    "height": pa.int32(),
    "rotation_degrees": pa.int32(),
    "video_codec": pa.string(),
    "audio_start_seconds": pa.float64(),
    "audio_duration_seconds": pa.float64(),
    "sample_rate_hz": pa.int32(),
    "channels": pa.int32(),
    "audio_codec": pa.string(),
    "audio_rms_dbfs": pa.float64(),
    "audio_peak_dbfs": pa.float64(),
}
COLUMNS: dict[str, pa.DataType] = {
    "video_id": pa.string(),
    "path": pa.string(),
    "usable": pa.bool_(),
    "reason": pa.string(),
    "detail": pa.string(),
} | _PROBED
"""The columns of every manifest, in order; the columns of the source table follow them, as strings."""

_LATER = ("clock_jumps",)
"""Columns that manifests of older versions do not have: there they are empty."""

_METADATA_KEY = b"seehear.manifest"
_VERSION = 1


@dataclass(frozen=True)
class Manifest:
    """A table of the files of a collection, one row each (see `COLUMNS`), and what the scan left out.

    `info` holds how it was made: source, root, need, min_seconds, ignored (files by extension, never opened)
    and unreadable_folders.
    """

    table: pa.Table
    info: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in _LATER:
            if name not in self.table.column_names:
                empty = pa.nulls(len(self.table), COLUMNS[name])
                at = min(list(COLUMNS).index(name), self.table.num_columns)
                object.__setattr__(self, "table", self.table.add_column(at, name, empty))
        missing = [name for name in COLUMNS if name not in self.table.column_names]
        if missing:
            raise DataError(f"not a manifest: the columns {', '.join(missing)} are missing")

    def __len__(self) -> int:
        return self.table.num_rows

    @property
    def extra_columns(self) -> list[str]:
        """Columns that came with the source table, such as label and split."""
        return [name for name in self.table.column_names if name not in COLUMNS]

    def column(self, name: str) -> list[Any]:
        """The values of one column, in the order of the rows."""
        self._require(name)
        return self.table.column(name).to_pylist()

    def by_id(self, name: str) -> dict[str, Any]:
        """The values of one column by video id."""
        return dict(zip(self.column("video_id"), self.column(name), strict=True))

    def rows(self) -> list[dict[str, Any]]:
        """All rows, as dictionaries."""
        return self.table.to_pylist()

    def usable(self) -> Manifest:
        """The manifest of the usable rows alone."""
        return replace(self, table=self.table.filter(self.table.column("usable")))

    def usable_rows(self) -> list[dict[str, Any]]:
        """The usable rows, as dictionaries, in the manifest's order."""
        return self.usable().rows()

    def rejected_rows(self) -> list[dict[str, Any]]:
        """The rows that cannot be used, as dictionaries with `reason` and `detail`."""
        return self.table.filter(pc.invert(self.table.column("usable"))).to_pylist()

    def where(self, condition: str) -> Manifest:
        """Rows that fulfil one condition on any column, such as "split=train" or "video_duration_seconds>=2".

        Operators: = != < <= > >=. Rows without a value in that column never fulfil it, except by !=.
        """
        name, symbol, text = _parse_condition(condition)
        self._require(name)
        column = self.table.column(name)
        try:
            value = _as_type(text, column.type)
        except ValueError as error:
            raise UsageError(f"{condition!r}: {text!r} is no {column.type} as the column holds") from error
        compare = _OPERATORS[symbol]
        keep = [compare(entry, value) if entry is not None else symbol == "!=" for entry in column.to_pylist()]
        return replace(self, table=self.table.filter(pa.array(keep, pa.bool_())))

    def _require(self, name: str) -> None:
        names = self.table.column_names
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            raise UsageError(
                f"the manifest has no column {name!r}",
                f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names)}",
            )

    def fingerprint(self) -> str:
        """Names the usable content: equal for equal files under equal ids, whatever their order or place."""
        rows = self.table.filter(self.table.column("usable")).select(["video_id", "fingerprint"])
        digest = hashlib.blake2b(digest_size=16)
        for entry in sorted(f"{row['video_id']}\0{row['fingerprint']}\n" for row in rows.to_pylist()):
            digest.update(entry.encode())
        return digest.hexdigest()

    def summary(self) -> dict[str, Any]:
        """Counts: found, usable, rejected (by reason), duplicates, ignored (by extension); usable hours."""
        reasons = Counter(reason for reason in self.column("reason") if reason is not None)
        usable = self.table.filter(self.table.column("usable"))
        seconds = sum(
            max(row["video_duration_seconds"] or 0.0, row["audio_duration_seconds"] or 0.0)
            for row in usable.select(["video_duration_seconds", "audio_duration_seconds"]).to_pylist()
        )
        return {
            "found": len(self),
            "usable": usable.num_rows,
            "rejected": dict(reasons.most_common()),
            "duplicates": reasons.get("duplicate", 0),
            "ignored": dict(self.info.get("ignored", {})),
            "unreadable_folders": list(self.info.get("unreadable_folders", [])),
            "hours": seconds / 3600,
        }

    def summary_text(self) -> str:
        """The summary for a person, a few lines."""
        facts, rejected = self.summary(), self.rejected_rows()
        lines = [f"{facts['found']} media files found, {facts['usable']} usable ({facts['hours']:.2f} hours)"]
        for reason, count in facts["rejected"].items():
            meaning, remedy = REASONS.get(reason, (reason, ""))
            lines.append(f"  {count:6d} rejected: {reason}: {meaning}" + (f" -> {remedy}" if remedy else ""))
            lines.append(f"         {_examples([row for row in rejected if row['reason'] == reason])}")
        if facts["ignored"]:
            parts = ", ".join(f"{count} {suffix}" for suffix, count in facts["ignored"].items())
            lines.append(f"  ignored as no media, by extension: {parts}")
        lines += [f"  could not read the folder {folder}" for folder in facts["unreadable_folders"]]
        return "\n".join(lines)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to a Parquet file: all of it or nothing, even if the machine stops meanwhile."""
        target = Path(path)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        except OSError as error:
            raise DataError(f"cannot write the manifest {target}: {error.strerror}") from error
        note = json.dumps({"version": _VERSION, "info": dict(self.info)}).encode()
        table = self.table.replace_schema_metadata({_METADATA_KEY: note})
        try:
            with os.fdopen(descriptor, "wb") as file:
                pq.write_table(table, file)
                file.flush()
                os.fsync(file.fileno())
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(temporary, 0o666 & ~mask)  # mkstemp's 0600 would hide it from others in a shared folder
            os.replace(temporary, target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @staticmethod
    def is_manifest(path: str | os.PathLike[str]) -> bool:
        """Whether a file is what `save` wrote (a Parquet table with a path column is not)."""
        try:
            return _METADATA_KEY in (pq.read_schema(path).metadata or {})
        except (pa.ArrowException, OSError):
            return False

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Manifest:
        """Read what `save` wrote. Raises `DataError` if it is something else or of a newer version."""
        remedy = "make one with: seehear scan FOLDER --out manifest.parquet"
        try:
            table = pq.read_table(path, partitioning=None)
        except FileNotFoundError as error:
            raise DataError(f"no manifest at {os.fspath(path)}", remedy) from error
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{os.fspath(path)} is not a manifest: {error}", remedy) from error
        note = (table.schema.metadata or {}).get(_METADATA_KEY)
        if note is None:
            raise DataError(f"{os.fspath(path)} is a Parquet table, but not a manifest", remedy)
        content = json.loads(note)
        if content["version"] > _VERSION:
            raise DataError(
                f"{os.fspath(path)} was written by a newer seehear (format {content['version']})",
                "update seehear, or scan again",
            )
        return cls(table.replace_schema_metadata(None), content["info"])


def _examples(rows: Sequence[Mapping[str, Any]], most: int = 3) -> str:
    """The files of these rows: of one its name and what is wrong with it, of many the first few names."""
    if len(rows) == 1 and rows[0]["detail"]:
        return f"{rows[0]['video_id']}: {rows[0]['detail']}"
    more = f" and {len(rows) - most} more" if len(rows) > most else ""
    return ", ".join(row["video_id"] for row in rows[:most]) + more


_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}


def _parse_condition(condition: str) -> tuple[str, str, str]:
    places = [(condition.find(symbol), -len(symbol), symbol) for symbol in _OPERATORS if symbol in condition]
    if places:
        at, _, symbol = min(places)
        name, text = condition[:at].strip(), condition[at + len(symbol) :].strip()
        if name:
            return name, symbol, text
    raise UsageError(f"no such condition: {condition!r}", "write it like split=train or width>=128")


def _as_type(text: str, kind: pa.DataType) -> Any:
    if pa.types.is_boolean(kind):
        if text.lower() not in ("true", "false", "1", "0"):
            raise ValueError(text)
        return text.lower() in ("true", "1")
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return float(text)
    return text


# ---------------------------------------------------------------- scanning


@dataclass
class _Candidate:
    video_id: str
    path: str
    extra: dict[str, str | None] = field(default_factory=dict)
    place: str = ""  # where it is named, e.g. "row 3 of table.csv"


@dataclass
class _Found:
    root: str
    candidates: list[_Candidate]
    extra_columns: list[str] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    unreadable_folders: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class FileList:
    """Files to scan that are named one by one."""

    root: str
    """Folder that the ids of the files are relative to."""
    rows: Sequence[Mapping[str, str]]
    """Each has an absolute `path`; the other entries, the same in all rows, become columns of the manifest."""
    source: str
    """Where the list is from."""


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

    Raises `DataError` if the source cannot be read or names no media file; single files never raise, but
    get a row with a reason (see `REASONS`).
    """
    wrong = set(need) - {"video", "audio"}
    if wrong or not need:
        raise UsageError(f"need must be of video and audio, not {sorted(need)}")
    found = _from_list(source) if isinstance(source, FileList) else _find(os.fspath(source))
    settings = {"need": sorted(need), "min_seconds": min_seconds, "silence_dbfs": silence_dbfs}
    if out is not None and previous is None and os.path.exists(out):
        previous = Manifest.load(out)  # and never overwrite what is no manifest
    known = _unchanged(previous, settings)
    rows: list[dict[str, Any] | None] = []
    todo: list[int] = []
    for index, candidate in enumerate(found.candidates):
        row = known.get(candidate.path)
        rows.append(dict(row) if row is not None and _same_file(candidate.path, row) else None)
        if rows[-1] is None:
            todo.append(index)
    _probe_all(found.candidates, rows, todo, settings, workers, timeout_seconds, progress)
    finished = []
    for candidate, row in zip(found.candidates, rows, strict=True):
        assert row is not None
        if row["reason"] == "missing" and candidate.place:
            row["detail"] = f"{row['detail']}: {candidate.path} ({candidate.place})"
        finished.append(row | candidate.extra | {"video_id": candidate.video_id, "path": _storable(candidate.path)})
    if not keep_duplicates:
        _mark_duplicates(finished, found.extra_columns)
    schema = pa.schema(list(COLUMNS.items()) + [(name, pa.string()) for name in found.extra_columns])
    table = pa.Table.from_pylist(finished, schema=schema)
    info = settings | {
        "source": _storable(source.source if isinstance(source, FileList) else os.fspath(source)),
        "root": _storable(found.root),
        "ignored": dict(found.ignored.most_common()),
        "unreadable_folders": found.unreadable_folders,
    }
    manifest = Manifest(table, info)
    if out is not None:
        manifest.save(out)
    if strict and (rejected := manifest.rejected_rows()):
        lines = [f"  {row['video_id']}: {row['reason']}: {row['detail']}" for row in rejected[:20]]
        if len(rejected) > 20:
            lines.append(f"  and {len(rejected) - 20} more")
        raise DataError(
            f"{len(rejected)} of {len(manifest)} files cannot be used:\n" + "\n".join(lines),
            "mend or remove them, or scan without strict",
        )
    return manifest


def unprobed(listed: FileList) -> Manifest:
    """A manifest of files that nobody looked at: all count as usable, and what only a look would tell is null."""
    found = _from_list(listed)
    rows = [{"video_id": c.video_id, "path": _storable(c.path), "usable": True} | c.extra for c in found.candidates]
    schema = pa.schema(list(COLUMNS.items()) + [(name, pa.string()) for name in found.extra_columns])
    return Manifest(pa.Table.from_pylist(rows, schema=schema), {"source": listed.source, "root": listed.root})


def _probe_all(
    candidates: list[_Candidate],
    rows: list[dict[str, Any] | None],
    todo: list[int],
    settings: Mapping[str, Any],
    workers: int | None,
    timeout_seconds: float,
    progress: Callable[[int, int], None] | None,
) -> None:
    done = len(candidates) - len(todo)
    if progress is not None:
        progress(done, len(candidates))
    if not todo:
        return
    arguments = (tuple(settings["need"]), settings["min_seconds"], settings["silence_dbfs"])
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


def _probe_one(path: str, need: tuple[str, ...], min_seconds: float, silence_dbfs: float) -> ProbeResult:
    if _storable(path) != path:
        why = "the file's name is not valid UTF-8, so it cannot be stored in a table: rename it"
        return ProbeResult(path, False, "unreadable", why, **_status(path))
    return probe(path, need=need, min_seconds=min_seconds, silence_dbfs=silence_dbfs)


def _status(path: str) -> dict[str, Any]:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return {}
    return {"size_bytes": status.st_size, "modified_ns": status.st_mtime_ns}


def _storable(text: str) -> str:
    """The text itself, or with bytes that are not UTF-8 written out, as \\xff."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _unchanged(previous: Manifest | None, settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Rows of an earlier scan by path, as they were before duplicates were marked."""
    if previous is None or any(previous.info.get(name) != value for name, value in settings.items()):
        return {}
    known = {}
    for row in previous.table.select(list(COLUMNS)).to_pylist():
        if row["reason"] in _TRANSIENT:
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


# ---------------------------------------------------------------- sources


def _find(source: str) -> _Found:
    if os.path.isdir(source):
        found = _from_folder(source)
    elif os.path.exists(source):
        suffix = _suffix(source)
        if suffix in ("csv", "tsv", "parquet"):
            found = _from_table(source)
        else:
            folder, name = os.path.split(os.path.abspath(source))
            found = _Found(folder, [_Candidate(_storable(name), os.path.join(folder, name))])
    elif glob.has_magic(source):
        found = _from_glob(source)
    else:
        raise DataError(f"there is no file or folder {_storable(source)}")
    if not found.candidates:
        ignored = ", ".join(f"{count} {suffix}" for suffix, count in found.ignored.most_common(5))
        raise DataError(
            f"no media files in {_storable(source)}" + (f" (ignored: {ignored})" if ignored else ""),
            f"known extensions: {' '.join(sorted(VIDEO_EXTENSIONS | AUDIO_EXTENSIONS))}",
        )
    return found


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lstrip(".").lower()


def _is_media(path: str) -> bool:
    return _suffix(path) in VIDEO_EXTENSIONS or _suffix(path) in AUDIO_EXTENSIONS


def _identity(path: str, root: str) -> str:
    return _storable(Path(os.path.relpath(path, root)).as_posix())


def _from_folder(source: str) -> _Found:
    root = os.path.abspath(source)
    found = _Found(root, [])
    visited: set[tuple[int, int]] = set()
    # Linked folders wait until all real ones are visited, so files appear under their real place.
    folders: list[str] = [root]
    linked: list[str] = []
    while folders or linked:
        folder = folders.pop() if folders else linked.pop(0)
        try:
            status = os.stat(folder)
            key = (status.st_dev, status.st_ino)
            if key in visited:
                continue
            visited.add(key)
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: os.fsencode(entry.name))
        except OSError as error:
            found.unreadable_folders.append(_storable(f"{folder} ({error.strerror})"))
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if _is_folder(entry):
                (linked if entry.is_symlink() else folders).append(entry.path)
            elif _is_media(entry.name):
                # A broken link or a device gets its row too, and its reason.
                found.candidates.append(_Candidate(_identity(entry.path, root), entry.path))
            else:
                suffix = _suffix(entry.name)
                found.ignored[f".{_storable(suffix)}" if suffix else "(none)"] += 1
    found.candidates.sort(key=lambda candidate: candidate.video_id)
    return found


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _from_glob(pattern: str) -> _Found:
    fixed = []
    for part in Path(pattern).parts[:-1]:
        if glob.has_magic(part):
            break
        fixed.append(part)
    found = _Found(os.path.abspath(os.path.join(*fixed) if fixed else "."), [])
    for name in sorted(glob.glob(pattern, recursive=True)):
        path = os.path.abspath(name)
        if os.path.isdir(path):
            continue
        if _is_media(path):
            found.candidates.append(_Candidate(_identity(path, found.root), path))
        else:
            found.ignored[f".{_suffix(path)}" if _suffix(path) else "(none)"] += 1
    return found


def _from_list(listed: FileList) -> _Found:
    candidates = [
        _Candidate(_identity(row["path"], listed.root), row["path"], {n: v for n, v in row.items() if n != "path"})
        for row in listed.rows
    ]
    extra = [name for name in listed.rows[0] if name != "path"] if listed.rows else []
    return _Found(listed.root, candidates, extra_columns=extra)


def _from_table(source: str) -> _Found:
    root = os.path.dirname(os.path.abspath(source))
    names, records = read_table(source)
    if "path" not in names:
        near = [name for name in names if name.strip().lower() in ("path", "file", "filename", "video")]
        raise DataError(
            f"{source} has no column 'path' (it has: {', '.join(names)})",
            f"rename the column {near[0]!r} to path" if near else "add one with the files' paths",
        )
    if set(COLUMNS) <= set(names):  # a manifest: look at its files afresh
        kept = {name: name for name in names if name not in COLUMNS}
    else:
        kept = {name: f"given_{name}" if name in COLUMNS else name for name in names if name != "path"}
    found = _Found(root, [], extra_columns=list(kept.values()))
    seen: dict[str, int] = {}
    for number, record in records:
        place = f"row {number} of {os.path.basename(source)}"
        name = record["path"]
        if not name:
            raise DataError(f"{source}: the path in row {number} is empty")
        if "\0" in name:
            raise DataError(f"{source}: the path in row {number} is not a file name")
        path = os.path.abspath(os.path.join(root, name))
        if path in seen:
            raise DataError(
                f"{source}: rows {seen[path]} and {number} name the same file, {name}",
                "keep one row for each file",
            )
        seen[path] = number
        extra = {new: record[old] for old, new in kept.items()}
        found.candidates.append(_Candidate(_identity(path, root), path, extra, place))
    if not found.candidates:
        raise DataError(f"{source} has no rows")
    return found


_Records = list[tuple[int, dict[str, str | None]]]


def read_table(source: str | os.PathLike[str]) -> tuple[list[str], _Records]:
    """The columns of a CSV, TSV or Parquet table, and its rows as texts with the numbers of their lines."""
    name = os.fspath(source)
    suffix = _suffix(name)
    if suffix not in ("csv", "tsv", "parquet"):
        raise DataError(f"{name} is no table", "tables end in .csv, .tsv or .parquet")
    return _read_parquet(name) if suffix == "parquet" else _read_csv(name, suffix)


def _read_csv(source: str, suffix: str) -> tuple[list[str], _Records]:
    try:
        with open(source, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter="\t" if suffix == "tsv" else ",", strict=True)
            names = next(reader, [])
            if len(set(names)) < len(names):
                raise DataError(f"{source}: two columns have the same name")
            records: _Records = []
            for values in reader:
                if not values:
                    continue
                if len(values) != len(names):
                    found = f"line {reader.line_num} has {len(values)} fields"
                    raise DataError(f"{source}: {found}, the header has {len(names)}")
                # The number of the line, as an editor shows it.
                records.append((reader.line_num, dict(zip(names, values, strict=True))))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{source} cannot be read as a table: {error}", "save it as CSV in UTF-8") from error
    return names, records


def _read_parquet(source: str) -> tuple[list[str], _Records]:
    try:
        table = pq.read_table(source, partitioning=None)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{source} cannot be read as a Parquet table: {error}") from error
    records: _Records = [
        (number, {name: None if value is None else str(value) for name, value in row.items()})
        for number, row in enumerate(table.to_pylist(), 1)
    ]
    return table.column_names, records
