"""Writing files so that no crash, full disk or power cut leaves half of one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from seehear.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa


def sync_folder(folder: Path) -> None:
    """Make a folder's entries durable (a rename is not until its folder is)."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_ending(path: str | Path | None, *endings: str) -> None:
    """Before any work is done: raise `UsageError` if a file to write (None: there is none) has another ending."""
    if path is not None and not str(path).endswith(endings):
        raise UsageError(f"cannot write {path}: its ending must be {' or '.join(endings)}")


def write_atomic(path: Path, content: bytes | str) -> None:
    """Replace `path` by `content` as a whole or not at all."""
    data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, which gets the name `path` as a whole when the block ends and vanishes if it fails.

    Raises `UsageError` if `path` is there and is not an empty folder.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UsageError(f"there is something in {path} already", "choose another --out")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir()
        yield temporary
        for inner in temporary.rglob("*"):
            if inner.is_dir():
                sync_folder(inner)
        sync_folder(temporary)
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    sync_folder(path.parent)


def write_table(table: pa.Table, path: Path) -> None:
    """Write as the file's ending says: .csv or .parquet."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    if path.suffix == ".csv":
        pa.csv.write_csv(table, sink)
    elif path.suffix == ".parquet":
        pq.write_table(table, sink)
    else:
        raise UsageError(f"cannot write {path.name}: its ending is neither .csv nor .parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, sink.getvalue().to_pybytes())
