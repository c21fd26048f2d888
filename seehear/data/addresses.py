"""Where the copies of a prepared folder are to be had when it lies on a server."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from seehear.errors import DataError
from seehear.media.packed import Packed, packed

_SHARD = re.compile(r"shards/[0-9]+\.tar")
"""A shard, relative to its folder: on a server nothing else is asked for."""


def at_address(folder: str, place: Packed, checksum: str) -> str:
    """The path of a copy in a shard of the folder at an address; the place is relative to the folder.

    Raises `DataError` for what is not a shard of that folder: a table on a server names nothing but its own.
    """
    if _SHARD.fullmatch(place.shard) is None or re.fullmatch("[0-9a-f]{32}", checksum) is None:
        raise DataError(
            f"{folder} names {place.path!r}, which is no copy in a shard of that folder",
            "put table, index and shards of one preparation there, a manifest beside them",
        )
    return Packed(f"{folder}/{place.shard}", place.offset, place.size, place.name, checksum).path


def moved_to(folder: str, table: pa.Table, info: Mapping[str, Any]) -> tuple[pa.Table, dict[str, Any]]:
    """The table and info of a manifest of a prepared folder as they are when all of it lies at an address.

    Raises `DataError` if a usable row is of anything but a copy in the folder's shards.
    """
    root = str(info.get("root", "")).rstrip("/") + "/"
    columns = table.select(["path", "usable", "fingerprint"]).to_pydict()
    paths = [
        _moved(folder, root, *row)
        for row in zip(columns["path"], columns["usable"], columns["fingerprint"], strict=True)
    ]
    # What tells a changed file is the checksum in its path: the server's times mean nothing.
    new: dict[str, Sequence[Any]] = {"path": paths, "modified_ns": [0] * len(table)}
    for name, values in new.items():
        at = table.schema.get_field_index(name)
        table = table.set_column(at, name, pa.array(values, table.schema.field(name).type))
    return table, dict(info) | {"root": folder}


def _moved(folder: str, root: str, path: str, usable: bool, fingerprint: str | None) -> str:
    within = packed(path)
    inside = path.startswith(root)
    if not usable:
        return f"{folder}/{path[len(root) :]}" if inside else path
    if within is None or not inside or fingerprint is None:
        raise DataError(
            f"the manifest at {folder} names {path}, which is no copy in the shards beside it",
            "make it of the prepared folder itself: seehear scan prepared/ --out prepared/manifest.parquet",
        )
    relative = Packed(within.shard[len(root) :], within.offset, within.size, within.name)
    return at_address(folder, relative, fingerprint)
