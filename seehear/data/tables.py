"""Tables that people bring: CSV, TSV and Parquet."""

from __future__ import annotations

import csv
import os

import pyarrow as pa
import pyarrow.parquet as pq

from seehear.errors import DataError
from seehear.media.formats import extension_of

_Records = list[tuple[int, dict[str, str | None]]]


def read_table(source: str | os.PathLike[str]) -> tuple[list[str], _Records]:
    """The columns of a CSV, TSV or Parquet table, and its rows as texts with the numbers of their lines."""
    name = os.fspath(source)
    suffix = extension_of(name)
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
