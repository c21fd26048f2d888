"""A folder of prepared copies: the table of what became of each original, and how it is read as a source of videos.

`seehear.preparing` makes it. The copies keep the ids of their originals, so that labels, splits and what a run found
can be joined with either.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from seehear.data.addresses import at_address
from seehear.data.manifest import COLUMNS
from seehear.errors import DataError
from seehear.files import write_result, write_table
from seehear.media import remote
from seehear.media.packed import packed
from seehear.media.remote import address, checked_address

TABLE, TABLE_CSV, INDEX, JOURNAL = "prepared.parquet", "prepared.csv", "index.parquet", "progress.jsonl"
"""Names in the folder: what became of each original (twice), where in the shards each copy lies, what is done."""
VIDEOS, SHARDS = "videos", "shards"
"""The folders of copies, as files and as tar shards."""

PREPARED, REJECTED, FAILED = "prepared", "rejected", "failed"

OUTCOMES: dict[str, pa.DataType] = {
    "video_id": pa.string(),
    "outcome": pa.string(),
    "reason": pa.string(),
    "detail": pa.string(),
    "prepared_path": pa.string(),
    "prepared_bytes": pa.int64(),
    "prepared_fingerprint": pa.string(),
    "original_path": pa.string(),
    "original_bytes": pa.int64(),
    "original_fingerprint": pa.string(),
    "start_seconds": pa.float64(),
    "end_seconds": pa.float64(),
    "seconds": pa.float64(),
    "cpu_seconds": pa.float64(),
}
"""The columns of the table, in order; those that came with the originals follow them, as strings."""

PLACES: dict[str, pa.DataType] = {
    "video_id": pa.string(),
    "key": pa.string(),
    "shard": pa.string(),
    "offset": pa.int64(),
    "size": pa.int64(),
    "checksum": pa.string(),
    "start_seconds": pa.float64(),
    "end_seconds": pa.float64(),
}
"""The columns of the index of shards."""

_KEY = b"seehear.prepared"
_VERSION = 1


def save(folder: Path, rows: Sequence[Mapping[str, Any]], extra: Sequence[str], settings: Mapping[str, Any]) -> None:
    """Write the table of a finished preparation, as Parquet and as CSV. Raises `DestinationError`."""
    names = {name: own_column(name) for name in extra}
    schema = pa.schema(list(OUTCOMES.items()) + [(new, pa.string()) for new in names.values()])
    table = pa.Table.from_pylist([{**row, **{new: row.get(old) for old, new in names.items()}} for row in rows], schema)
    write_table(table, folder / TABLE_CSV)
    note = json.dumps({"version": _VERSION, "settings": dict(settings)}).encode()
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata({_KEY: note}), sink)
    write_result(folder / TABLE, sink.getvalue().to_pybytes())


def own_column(name: str) -> str:
    """The name that a column of the originals has in the table, where one of the table's own may have it already."""
    return f"given_{name}" if name in OUTCOMES or name in COLUMNS else name


def prepared_folder(source: str) -> str | None:
    """The folder of prepared copies that a path means, itself or by its table or index; None if it means another thing.

    An address on a server means one unless it is that of another table. Raises `UsageError` for what is no address.
    """
    if (url := checked_address(source)) is not None:
        folder, _, name = url.rpartition("/")
        if name in ("", TABLE, INDEX):
            return folder
        return None if name.endswith(".parquet") else url
    if os.path.isdir(source):
        there = any(os.path.isfile(os.path.join(source, name)) for name in (TABLE, JOURNAL))
        return source if there else None
    folder = os.path.dirname(os.path.abspath(source))
    named = os.path.basename(source) == TABLE
    named |= os.path.basename(source) == INDEX and os.path.isfile(os.path.join(folder, TABLE))
    return folder if named and os.path.isfile(source) else None


def load(folder: str | os.PathLike[str]) -> pa.Table:
    """The table of a folder of copies, a row for every original (see `OUTCOMES`).

    Raises `DataError` if the preparation was not finished, or the table is none.
    """
    url = address(folder)
    path = f"{url}/{TABLE}" if url else os.path.join(folder, TABLE)
    try:
        table = pq.read_table(remote.table(path) if url else path, partitioning=None)
    except FileNotFoundError as error:
        if url:
            why = (
                "give the address of a folder that `seehear prepare --shards` made, or of a manifest beside its shards"
            )
            raise DataError(f"there is nothing prepared at {url} ({error.strerror})", why) from error
        raise DataError(
            f"the preparation of {os.fspath(folder)} was not finished",
            "give the same `seehear prepare` command again: it goes on where it stopped",
        ) from error
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}", "give the same `seehear prepare` command again") from error
    note = json.loads((table.schema.metadata or {}).get(_KEY, b"{}"))
    if note.get("version", _VERSION + 1) > _VERSION or not set(OUTCOMES) <= set(table.column_names):
        raise DataError(
            f"{path} is no table of prepared copies, or one of a newer seehear", "update seehear, or prepare again"
        )
    return table.replace_schema_metadata(None)


def addresses(folder: str, table: pa.Table) -> dict[str, str]:
    """Where each copy of a folder on a server is to be had, by its id, as table and index agree.

    Raises `DataError` if there is no index, or if it is not of this table.
    """
    url, remedy = f"{folder}/{INDEX}", "put table, index and shards of one preparation there"
    try:
        index = pq.read_table(remote.table(url), partitioning=None, columns=list(PLACES))
    except FileNotFoundError:
        raise DataError(
            f"there is no {url}: the copies are not in shards", "gather them: the same `seehear prepare` with --shards"
        ) from None
    except (pa.ArrowException, OSError, KeyError) as error:
        raise DataError(f"{url} cannot be read: {error}", remedy) from error
    rows = {row["video_id"]: row for row in index.to_pylist()}
    found = {}
    for row in table.to_pylist():
        if row["outcome"] != PREPARED:
            continue
        video_id, place = row["video_id"], packed(row["prepared_path"])
        said = (row["prepared_bytes"], row["prepared_fingerprint"])
        listed = rows.get(video_id)
        if place is None or listed is None or said != (listed["size"], listed["checksum"]) or (
            (place.shard, place.offset, place.size) != (listed["shard"], listed["offset"], listed["size"])
        ):  # fmt: skip
            raise DataError(f"{url} and {TABLE} beside it say different things of {video_id}", remedy)
        found[video_id] = at_address(folder, place, listed["checksum"])
    return found


def lacking(table: pa.Table) -> str | None:
    """In words which originals have no copy, by their reasons; None if all have one."""
    gone = [row for row in table.select(["outcome", "reason"]).to_pylist() if row["outcome"] != PREPARED]
    if not gone:
        return None
    reasons = ", ".join(f"{count} {name}" for name, count in Counter(row["reason"] for row in gone).most_common())
    return f"{len(gone)} of {len(table)} originals have no copy ({reasons}): see {TABLE_CSV}"
