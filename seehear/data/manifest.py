"""The manifest: one row for every media file of a collection, usable or not, and why not.

`seehear.data.scanning` makes it.
"""

from __future__ import annotations

import difflib
import hashlib
import itertools
import json
import operator
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from seehear.data.addresses import moved_to
from seehear.errors import DataError, UsageError
from seehear.files import write_result
from seehear.media import remote

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
    "changed": ("the file is not the one that was scanned", "scan again, or put the file back"),
    "no_text": ("nothing is said of it", "fill in its caption, put a .srt or .vtt file beside it, or leave text out"),
    "bad_text": ("its subtitle file cannot be read", "correct the file, or save it as SubRip or WebVTT in UTF-8"),
    "duplicate": ("another file has exactly the same content", "nothing to do: the first one is used"),
}
"""Why a file cannot be used: code -> (meaning, remedy)."""

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
    "audio_track": pa.int32(),
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

_LATER = ("clock_jumps", "audio_track")
"""Columns that manifests of older versions do not have: there they are empty."""

_METADATA_KEY = b"seehear.manifest"
_VERSION = 1
_ROWS_AT_ONCE = 1 << 14


@dataclass(frozen=True)
class Manifest:
    """A table of the files of a collection, one row each (see `COLUMNS`), and what the scan left out.

    `info` holds how it was made: source, root, need, min_seconds, ignored (files by extension, never opened),
    unreadable_folders, sample (how many usable rows were drawn of how many), and notes on what had to be guessed.
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

    def each_usable(self) -> Iterator[dict[str, Any]]:
        """The usable rows one by one, of which only some are objects of Python at a time."""
        for part in self.usable().table.to_batches(max_chunksize=_ROWS_AT_ONCE):
            yield from part.to_pylist()

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

    def sample(self, amount: float, seed: int) -> Manifest:
        """A random part of the usable rows, and all others: a share up to 1, or above that so many of them.

        A row's place in the draw is a hash of the seed and its content, so that the same videos are drawn wherever
        they lie, and a smaller part lies within a larger one. `info["sample"]` counts the usable rows, `of`, and those
        `drawn`, and has the `fingerprint` of what they were drawn from.
        """
        usable = self.usable().table.select(["video_id", "fingerprint"]).to_pylist()
        count = max(1, round(amount * len(usable))) if amount <= 1 else min(int(amount), len(usable))

        def place(row: Mapping[str, Any]) -> tuple[bytes, str]:
            content = f"{seed}\0{row['fingerprint']}".encode()
            return hashlib.blake2b(content, digest_size=16).digest(), row["video_id"]

        drawn = {row["video_id"] for row in sorted(usable, key=place)[:count]}
        keep = [not u or i in drawn for i, u in zip(self.column("video_id"), self.column("usable"), strict=True)]
        about = {"of": len(usable), "drawn": len(drawn), "fingerprint": self.fingerprint()}
        info = dict(self.info) | {"sample": about}
        return Manifest(self.table.filter(pa.array(keep, pa.bool_())), info)

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
        rows = self.table.filter(self.table.column("usable")).select(["video_id", "fingerprint", "audio_track"])
        digest = hashlib.blake2b(digest_size=16)
        entries = []
        for row in itertools.chain.from_iterable(p.to_pylist() for p in rows.to_batches(max_chunksize=_ROWS_AT_ONCE)):
            track = f"\0{row['audio_track']}" if row["audio_track"] else ""
            entries.append(f"{row['video_id']}\0{row['fingerprint']}{track}\n")
        for entry in sorted(entries):
            digest.update(entry.encode())
        return digest.hexdigest()

    def summary(self) -> dict[str, Any]:
        """Counts: found, usable, rejected (by reason), duplicates, ignored (by extension); usable hours."""
        counted = pc.value_counts(self.table["reason"].drop_null())
        reasons = Counter({entry["values"].as_py(): entry["counts"].as_py() for entry in counted})
        usable = self.table.select(["usable", "video_duration_seconds", "audio_duration_seconds"])
        usable = usable.filter(usable["usable"])
        seconds = 0.0
        for part in usable.to_batches(max_chunksize=_ROWS_AT_ONCE):
            of_streams = (pc.fill_null(part[f"{s}_duration_seconds"], 0.0).to_numpy() for s in ("video", "audio"))
            seconds = sum(np.maximum(*of_streams).tolist(), seconds)
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
        if "sample" in self.info:
            lines.append("  {drawn:6d} drawn at random from {of} usable (data.sample)".format_map(self.info["sample"]))
        for reason, count in facts["rejected"].items():
            meaning, remedy = REASONS.get(reason, (reason, ""))
            lines.append(f"  {count:6d} rejected: {reason}: {meaning}" + (f" -> {remedy}" if remedy else ""))
            lines.append(f"         {_examples([row for row in rejected if row['reason'] == reason])}")
        if facts["ignored"]:
            parts = ", ".join(f"{count} {suffix}" for suffix, count in facts["ignored"].items())
            lines.append(f"  ignored as no media, by extension: {parts}")
        by_another = pc.and_(self.table["usable"], pc.fill_null(pc.not_equal(self.table["audio_track"], 0), False))
        others = pc.sum(by_another).as_py() or 0
        if others:
            lines.append(f"  {others:6d} usable by another sound track than their first (column audio_track)")
        lines += [f"  could not read the folder {folder}" for folder in facts["unreadable_folders"]]
        lines += [f"  {note}" for note in self.info.get("notes", [])]
        return "\n".join(lines)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to a Parquet file: all of it or nothing, even if the machine stops meanwhile.

        Raises `DestinationError` if it cannot be written.
        """
        note = json.dumps({"version": _VERSION, "info": dict(self.info)}).encode()
        table = self.table.replace_schema_metadata({_METADATA_KEY: note})
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        write_result(Path(path), sink.getvalue().to_pybytes())

    @staticmethod
    def is_manifest(path: str | os.PathLike[str]) -> bool:
        """Whether a file is what `save` wrote (a Parquet table with a path column is not)."""
        try:
            return _METADATA_KEY in (pq.read_schema(_on_disk(path)).metadata or {})
        except (pa.ArrowException, OSError):
            return False

    @staticmethod
    def info_of(path: str | os.PathLike[str]) -> dict[str, Any]:
        """The `info` of a manifest's file alone; nothing of a file that is none."""
        try:
            note = json.loads((pq.read_schema(_on_disk(path)).metadata or {})[_METADATA_KEY])
        except (pa.ArrowException, OSError, KeyError, ValueError):
            return {}
        info: dict[str, Any] = note["info"]
        return info

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Manifest:
        """Read what `save` wrote, or what somebody made of it since: types are restored, and NaN means no value.

        One on a server is of the shards beside it, wherever they were when it was made.

        Raises `DataError` if it is something else or of a newer version, or if a cell that is needed is empty or
        cannot be what its column holds; row and column are named.
        """
        remedy = "make one with: seehear scan FOLDER --out manifest.parquet"
        try:
            table = pq.read_table(_on_disk(path), partitioning=None)
        except FileNotFoundError as error:
            raise DataError(f"no manifest at {os.fspath(path)}", remedy) from error
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{os.fspath(path)} is not a manifest: {error}", remedy) from error
        note = (table.schema.metadata or {}).get(_METADATA_KEY)
        if note is None:
            if set(COLUMNS) <= set(table.column_names):
                why = "its note was lost when another tool wrote it"
                remedy = f"{why}; it serves as a list: seehear scan {os.fspath(path)} --out manifest.parquet"
            raise DataError(f"{os.fspath(path)} is a Parquet table, but not a manifest", remedy)
        content = json.loads(note)
        if content["version"] > _VERSION:
            raise DataError(
                f"{os.fspath(path)} was written by a newer seehear (format {content['version']})",
                "update seehear, or scan again",
            )
        manifest = cls(_restored(os.fspath(path), table.replace_schema_metadata(None)), content["info"])
        _check_cells(os.fspath(path), manifest)
        if (url := remote.checked_address(path)) is not None:
            manifest = cls(*moved_to(url.rpartition("/")[0], manifest.table, manifest.info))
        return manifest


def _on_disk(path: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """A file itself, or where one from a server was put down. Raises `FileNotFoundError` and `DataError`."""
    url = remote.checked_address(path)
    if url is None:
        return path
    if not url.endswith(".parquet"):
        raise FileNotFoundError(2, "no table", url)
    return remote.table(url)


def _restored(source: str, table: pa.Table) -> pa.Table:
    """The table with the types that its columns ought to have, and null for NaN: other tools change both."""
    for index, name in enumerate(table.column_names):
        column, kind = table.column(index), COLUMNS.get(name, pa.string())
        if pa.types.is_floating(column.type):
            column = pc.if_else(pc.is_nan(column), None, column)
        if column.type != kind:
            try:
                column = column.cast(kind)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                if name not in COLUMNS:
                    continue  # a column of the reader's own, such as a list
                raise _misfit(source, name, column, kind) from error
        if not column.equals(table.column(index)):
            table = table.set_column(index, name, column)
    return table


def _misfit(source: str, name: str, column: pa.ChunkedArray, kind: pa.DataType) -> DataError:
    """What to say of a column that cannot have the type it ought to have."""
    for number, value in enumerate(column, 1):
        try:
            value.cast(kind)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            why = f"row {number} has {value.as_py()!r} in the column {name}, which holds {kind}"
            return DataError(f"{source}: {why}", "correct it, or scan again")
    return DataError(f"{source}: the column {name} holds {column.type}, not {kind}", "scan again")


def _check_cells(source: str, manifest: Manifest) -> None:
    """Raise `DataError` for the first cell that readers rely on and that is empty, or no length of time."""
    table = manifest.table
    every = pa.chunked_array([pa.repeat(pa.scalar(True), len(table))])
    for name in ("video_id", "path", "usable"):
        _refuse(source, table, name, _empty(table.column(name)), every, "has no value")
    if len(pc.unique(table.column("video_id"))) < len(table):
        twice = next(i for i, count in Counter(manifest.column("video_id")).items() if count > 1)
        raise DataError(f"{source}: two rows have the video_id {twice}", "keep one of them")
    usable = table.column("usable")
    for name in ("fingerprint", "size_bytes", "modified_ns"):
        _refuse(source, table, name, _empty(table.column(name)), usable, "has no value")
    for stream in ("video", "audio"):
        columns = [f"{stream}_start_seconds", f"{stream}_duration_seconds"]
        there = usable
        if stream not in manifest.info.get("need", ()):  # it may be absent, but not in half
            known = [pc.is_valid(table.column(name)) for name in columns]
            there = pc.and_(usable, pc.or_(*known))
        for name in columns:
            column = table.column(name)
            _refuse(source, table, name, _empty(column), there, "has no value")
            _refuse(source, table, name, pc.invert(pc.is_finite(column)), there, "has no time")
        _refuse(source, table, columns[1], pc.less(table.column(columns[1]), 0), there, "has a negative time")


def _empty(column: pa.ChunkedArray) -> pa.ChunkedArray:
    gaps = pc.is_null(column)
    return pc.or_kleene(gaps, pc.equal(column, "")) if pa.types.is_string(column.type) else gaps


def _refuse(source: str, table: pa.Table, name: str, wrong: pa.ChunkedArray, among: pa.ChunkedArray, what: str) -> None:
    index = pc.index(pc.and_(wrong, among), True).as_py()
    if index >= 0:
        video = table.column("video_id")[index].as_py()
        row = f"row {index + 1}" + (f" ({video})" if video else "")
        remedy = "fill it in, remove the row, set usable to false, or scan again"
        raise DataError(f"{source}: {row} {what} in the column {name}", remedy)


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
