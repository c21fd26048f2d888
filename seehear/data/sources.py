"""Which files a folder, a glob, a table or a list names, before anyone looks into them."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from seehear.data import prepared
from seehear.data.manifest import COLUMNS
from seehear.data.tables import TABLE_EXTENSIONS, Record, Table, read_table
from seehear.errors import DataError
from seehear.media.formats import AUDIO_EXTENSIONS, VIDEO_EXTENSIONS, extension_of, is_media
from seehear.media.packed import full_path
from seehear.media.remote import address


@dataclass
class Candidate:
    """A file that a source names; nobody has looked at it."""

    video_id: str
    path: str
    extra: dict[str, str | None] = field(default_factory=dict)
    place: str = ""  # where it is named, e.g. "row 3 of table.csv"
    fingerprint: str | None = None  # what its content must have, where the source knows


@dataclass
class Found:
    """What a source names, in the order of the manifest's rows, and what was passed over."""

    root: str
    candidates: list[Candidate]
    extra_columns: list[str] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    unreadable_folders: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class FileList:
    """Files to scan that are named one by one."""

    root: str
    """Folder that the ids of the files are relative to."""
    rows: Sequence[Mapping[str, str]]
    """Each has an absolute `path`; the other entries, the same in all rows, become columns of the manifest."""
    source: str
    """Where the list is from."""


def find(source: str | os.PathLike[str] | FileList) -> Found:
    """The media files of a folder, a file, a glob, a table or a list (see `seehear.data.scanning.scan`).

    Raises `DataError` if the source cannot be read or names no media file.
    """
    if isinstance(source, FileList):
        return _from_list(source)
    return _find(os.fspath(source))


def _find(source: str) -> Found:
    if (folder := prepared.prepared_folder(source)) is not None:
        found = _from_prepared(folder)
    elif address(source) is not None:
        raise DataError(
            f"{source} is neither prepared copies nor a manifest",
            "give the address of a folder that `seehear prepare --shards` made, or of a manifest beside its shards",
        )
    elif os.path.isdir(source):
        found = _from_folder(source)
    elif os.path.exists(source):
        if extension_of(source) in TABLE_EXTENSIONS:
            found = _from_table(source)
        else:
            folder, name = os.path.split(os.path.abspath(source))
            found = Found(folder, [Candidate(storable(name), os.path.join(folder, name))])
    elif glob.has_magic(source):
        found = _from_glob(source)
    else:
        raise DataError(f"there is no file or folder {storable(source)}")
    if not found.candidates:
        ignored = ", ".join(f"{count} {suffix}" for suffix, count in found.ignored.most_common(5))
        raise DataError(
            f"no media files in {storable(source)}" + (f" (ignored: {ignored})" if ignored else ""),
            f"known extensions: {' '.join(sorted(VIDEO_EXTENSIONS | AUDIO_EXTENSIONS))}",
        )
    return found


def storable(text: str) -> str:
    """The text itself, or with bytes that are not UTF-8 written out, as \\xff."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _identity(path: str, root: str) -> str:
    return storable(Path(os.path.relpath(path, root)).as_posix())


def _from_folder(source: str) -> Found:
    root = os.path.abspath(source)
    found = Found(root, [])
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
            found.unreadable_folders.append(storable(f"{folder} ({error.strerror})"))
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if _is_folder(entry):
                (linked if entry.is_symlink() else folders).append(entry.path)
            elif is_media(entry.name):
                # A broken link or a device gets its row too, and its reason.
                found.candidates.append(Candidate(_identity(entry.path, root), entry.path))
            else:
                suffix = extension_of(entry.name)
                found.ignored[f".{storable(suffix)}" if suffix else "(none)"] += 1
    found.candidates.sort(key=lambda candidate: candidate.video_id)
    return found


def _from_prepared(folder: str) -> Found:
    """The copies of a folder that `seehear prepare` made, under the ids of their originals."""
    root, table = full_path(folder), prepared.load(folder)
    places = prepared.addresses(root, table) if address(root) else {}
    extra = ["original_path", *(name for name in table.column_names if name not in prepared.OUTCOMES)]
    found = Found(root, [], extra_columns=extra)
    for row in table.to_pylist():
        if row["outcome"] == prepared.PREPARED:
            path = places.get(row["video_id"]) or os.path.join(root, row["prepared_path"])
            values = {name: row[name] for name in extra}
            where = f"copy of {row['original_path']}"
            found.candidates.append(Candidate(row["video_id"], path, values, where, row["prepared_fingerprint"]))
    if (gone := prepared.lacking(table)) is not None:
        found.notes.append(gone)
    return found


def table_of(path: str | os.PathLike[str]) -> Table:
    """A table with a column `path`, or that of prepared copies, of which it has those that there are.

    Raises `DataError` if it cannot be read.
    """
    if prepared.prepared_folder(os.fspath(path)) is None:
        return read_table(path)
    found = find(path)
    records: list[Record] = [(i, {"path": c.path, **c.extra}) for i, c in enumerate(found.candidates, 1)]
    return Table(os.fspath(path), ["path", *found.extra_columns], records)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _from_glob(pattern: str) -> Found:
    fixed = []
    for part in Path(pattern).parts[:-1]:
        if glob.has_magic(part):
            break
        fixed.append(part)
    found = Found(os.path.abspath(os.path.join(*fixed) if fixed else "."), [])
    for name in sorted(glob.glob(pattern, recursive=True)):
        path = os.path.abspath(name)
        if os.path.isdir(path):
            continue
        if is_media(path):
            found.candidates.append(Candidate(_identity(path, found.root), path))
        else:
            found.ignored[f".{extension_of(path)}" if extension_of(path) else "(none)"] += 1
    return found


def _from_list(listed: FileList) -> Found:
    candidates = [
        Candidate(_identity(row["path"], listed.root), row["path"], {n: v for n, v in row.items() if n != "path"})
        for row in listed.rows
    ]
    extra = [name for name in listed.rows[0] if name != "path"] if listed.rows else []
    return Found(listed.root, candidates, extra_columns=extra)


def _from_table(source: str) -> Found:
    root = os.path.dirname(os.path.abspath(source))
    table = read_table(source)
    names = table.names
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
    found = Found(root, [], extra_columns=list(kept.values()))
    if table.note:
        found.notes.append(f"{source}: {table.note}")
    seen: dict[str, int] = {}
    for number, record in table.records:
        place = f"row {number} of {os.path.basename(source)}" + (f", {table.note}" if table.note else "")
        name = record["path"]
        if not name:
            raise DataError(f"{source}: the path in row {number} is empty", "fill it in, or remove the row")
        if "\0" in name:  # in Parquet alone
            raise DataError(f"{source}: the path in row {number} is not a file name", "correct it, or remove the row")
        path = os.path.abspath(os.path.join(root, name))
        if path in seen:
            raise DataError(
                f"{source}: rows {seen[path]} and {number} name the same file, {name}",
                "keep one row for each file",
            )
        seen[path] = number
        extra = {new: record[old] for old, new in kept.items()}
        found.candidates.append(Candidate(_identity(path, root), path, extra, place))
    if not found.candidates:
        raise DataError(f"{source} has no rows", "add one for each file")
    return found
