"""Features of anyone's encoder, read from a file, an array or a table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from seehear.errors import DataError, UsageError
from seehear.features.bank import FeatureBank

Source: TypeAlias = str | Path | np.ndarray | pa.Table
_ID_COLUMNS = ("video_id", "video", "path", "id")
_START_COLUMNS, _END_COLUMNS = ("start_seconds", "start"), ("end_seconds", "end")


@dataclass(frozen=True)
class Features:
    """Features to cluster."""

    x: np.ndarray
    """(N, D) of real numbers, all finite; may be a memory map."""
    keys: dict[str, pa.ChunkedArray]
    """`video` and, where they are known, `start` and `end` (seconds) of each row; or `row`, its number from 0."""
    source: str
    """Where they are from, for messages."""
    column: str | None = None
    """The column of the table."""


def read_features(source: Source, column: str | None = None) -> Features:
    """Features of a file, an array (N, D), or a table.

    A .npy file or array holds the features alone: rows are known by their numbers. A .parquet file or table has a
    column of lists, all of one length, which `column` names; `a+b` scales the features of each to length 1 and joins
    them (as `seehear label` does for `both`). Without `column` the only such column is taken, or `video+audio` where
    these two are all. Its video_id (or video, path, id), start_seconds and end_seconds (or start, end) name the rows.

    Raises:
        UsageError: another kind of file, or a column that is not there or has to be chosen.
        DataError: a file that cannot be read, pickled objects, a wrong shape or type, no rows, gaps or rows that are
            not finite.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, "the array", column)
    if isinstance(source, pa.Table):
        return _from_table(source, "the table", column)
    path = Path(source)
    if not path.is_file():
        raise DataError(f"{path}: no such file", "give a .npy file of shape (N, D) or a .parquet of `seehear embed`")
    if path.suffix == ".npy":
        return _from_array(_open_npy(path), str(path), column)
    if path.suffix == ".parquet":
        try:
            return _from_table(pq.read_table(path), str(path), column)
        except (OSError, pa.ArrowInvalid) as error:
            raise DataError(f"{path}: not a Parquet file ({error})", "write it anew, e.g. by `seehear embed`") from None
    raise UsageError(
        f"{path}: features are read from .npy and .parquet files", "in Python: numpy.save('features.npy', x)"
    )


def _open_npy(path: Path) -> np.ndarray:
    try:
        with path.open("rb") as file:
            begins = file.read(6)
        if begins[:4] == b"PK\x03\x04":
            raise DataError(f"{path}: an archive of arrays (.npz), not one array", "save one array by numpy.save")
        if begins != b"\x93NUMPY":
            raise DataError(f"{path}: not a .npy file", "write it by numpy.save")
        x: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        return x
    except (ValueError, OSError, EOFError) as error:
        if "allow_pickle" in str(error) or "Python objects" in str(error):
            raise DataError(
                f"{path}: it holds pickled Python objects, which could run code when they are read",
                "save plain numbers: numpy.save(path, numpy.stack(features).astype('float32'))",
            ) from None
        raise DataError(f"{path}: the .npy file cannot be read ({error})", "write it anew by numpy.save") from None


def _from_array(x: np.ndarray, source: str, column: str | None) -> Features:
    if column is not None:
        raise UsageError(f"{source} has no columns", f"leave out the column {column!r}")
    if x.dtype.kind not in "fiu":
        raise DataError(f"{source}: features must be real numbers, not {x.dtype}", "convert them to float32")
    if x.ndim != 2 or x.shape[1] < 1:
        raise DataError(
            f"{source}: features must have shape (N, D), not {x.shape}",
            "one row an item; average or flatten further dimensions: x.reshape(len(x), -1)",
        )
    return _checked(Features(x, {"row": pa.chunked_array([pa.array(np.arange(len(x)))])}, source))


def _from_table(table: pa.Table, source: str, column: str | None) -> Features:
    vectors = [f.name for f in table.schema if _is_list(f.type)]
    if column is None:
        if not vectors:
            raise DataError(
                f"{source}: no column of lists of numbers; there are: {', '.join(table.column_names) or 'none'}",
                "features are one list a row, all of one length",
            )
        if len(vectors) > 1 and set(vectors) != {"video", "audio"}:
            raise UsageError(f"{source} has several features: {', '.join(vectors)}", f"--column {vectors[0]}")
        column = "video+audio" if len(vectors) > 1 else vectors[0]
    names = column.split("+")
    for name in names:
        if name not in vectors:
            raise UsageError(
                f"{source} has no features in a column {name!r}", f"it has them in: {', '.join(vectors) or 'none'}"
            )
    parts = {name: _matrix(table[name], f"{source}, column {name}") for name in names}
    keys: dict[str, pa.ChunkedArray] = {}
    for key, candidates, is_kind in (
        ("video", _ID_COLUMNS, _is_text),
        ("start", _START_COLUMNS, pa.types.is_floating),
        ("end", _END_COLUMNS, pa.types.is_floating),
    ):
        found = (n for n in candidates if n in table.column_names and is_kind(table.schema.field(n).type))
        if (name := next(found, None)) is not None:
            keys[key] = table[name]
    if "video" not in keys:
        keys = {"row": pa.chunked_array([pa.array(np.arange(table.num_rows))])}
    elif keys["video"].null_count:
        raise DataError(f"{source}: {keys['video'].null_count} rows have no id", "fill them in, or drop the column")
    elif not {"start", "end"} <= keys.keys() or keys["start"].null_count or keys["end"].null_count:
        keys = {"video": keys["video"]}
    for name, x in parts.items():
        _checked(Features(x, keys, f"{source}, column {name}"))
    x = FeatureBank([], parts, np.ones(0, dtype=bool)).joined(column)
    return Features(x, keys, source, column)


def _matrix(column: pa.ChunkedArray, source: str) -> np.ndarray:
    lengths = np.unique(pc.list_value_length(column).to_numpy()) if not column.null_count else np.array([-1])
    flat = pc.list_flatten(column)
    if column.null_count or flat.null_count:
        rows = column.null_count or "some"
        raise DataError(f"{source}: {rows} rows have gaps instead of numbers", "leave these rows out")
    if len(lengths) > 1:
        raise DataError(
            f"{source}: lists of {int(lengths[0])} to {int(lengths[-1])} numbers", "all must have one length"
        )
    if not len(column):
        raise DataError(f"{source}: there are no rows", "give features of at least one item")
    return np.asarray(flat.to_numpy(), dtype=np.float32).reshape(len(column), -1)


def _checked(features: Features) -> Features:
    """The same, if there are rows and all are finite in float32."""
    x = features.x
    if not len(x):
        raise DataError(f"{features.source}: there are no rows", "give features of at least one item")
    step = max(1, 2**22 // x.shape[1])
    bad: list[int] = []
    with np.errstate(over="ignore"):
        for start in range(0, len(x), step):
            block = np.asarray(x[start : start + step]).astype(np.float32)
            bad += (start + np.flatnonzero(~np.isfinite(block).all(axis=1))).tolist()
    if bad:
        raise DataError(
            f"{features.source}: {len(bad)} of {len(x)} rows have NaN, infinity or numbers beyond float32 (from 0: "
            f"{', '.join(map(str, bad[:5]))}{', ...' if len(bad) > 5 else ''})",
            "leave these rows out, or mend what made them",
        )
    return features


def _is_list(kind: pa.DataType) -> bool:
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return lists and (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
