"""Writing files so that no crash, full disk or power cut leaves half of one, and errors name what cannot be written.

Whatever cannot be written raises `DestinationError`. Results that took long to compute are written to places that
`check_destination` looked at before.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from seehear.errors import DestinationError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

_HOST = hashlib.blake2b(socket.gethostname().encode(), digest_size=4).hexdigest()
_TEMPORARY = re.compile(r"\..+\.(?P<host>[0-9a-f]{8})-(?P<process>\d+)\.tmp|\..+\.tmp")
FORGOTTEN_SECONDS = 24 * 3600.0
"""A temporary file whose writer cannot be looked for is taken for a leftover when it is older than this."""


def temporary_beside(path: Path) -> Path:
    """Where `path` is written before it gets its name: beside it, hidden, and named after the process that writes."""
    ending = f".{_HOST}-{os.getpid()}.tmp"
    # A name of as many bytes as there may be leaves no room for the dot and the ending.
    kept = os.fsencode(path.name)[: 254 - len(ending)].decode("utf-8", "ignore")
    return path.with_name(f".{kept}{ending}")


def is_temporary(path: Path) -> bool:
    """Whether a file or folder is named as one that is being written, or was when its process was killed."""
    return _TEMPORARY.fullmatch(path.name) is not None


def process_lives(process: int) -> bool:
    """Whether a process of this host, by its number, runs; another user's does too."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def remove_leftovers(folder: Path) -> None:
    """Delete what killed processes were writing in a folder, at any depth, when they were killed.

    For a process that writes nothing in there at the moment: what bears its own number is of an earlier process that
    had the same one. What a living process of this host writes stays, and so does what another host's may write, until
    it is `FORGOTTEN_SECONDS` old.
    """
    for path in [p for p in folder.rglob(".*.tmp") if is_temporary(p)]:
        named = _TEMPORARY.fullmatch(path.name)
        assert named is not None
        if named["host"] == _HOST:
            process = int(named["process"])
            gone = process == os.getpid() or not process_lives(process)
        else:
            gone = _age_seconds(path) > FORGOTTEN_SECONDS
        if gone and path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif gone:
            path.unlink(missing_ok=True)


@contextmanager
def scratch_file(content: Callable[[BinaryIO], None]) -> Iterator[str]:
    """The path of a new file for this machine alone, in the folder for temporary files, until the block ends.

    Its room is free again when no process has it open any more. What killed processes of this host left there goes.
    """
    for left in Path(tempfile.gettempdir()).glob(f"seehear-{_HOST}-*-*.scratch"):
        if not process_lives(int(left.name.split("-")[2])):
            with suppress(OSError):  # another process may be as quick
                left.unlink()
    descriptor, path = tempfile.mkstemp(prefix=f"seehear-{_HOST}-{os.getpid()}-", suffix=".scratch")
    try:
        remedy = "make room there, or set TMPDIR to a folder on a disk of this machine that has more"
        with writing(path, remedy), open(descriptor, "wb") as file:
            content(file)
        yield path
    finally:
        os.unlink(path)


def _age_seconds(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


def sync_folder(folder: Path) -> None:
    """Make a folder's entries durable (a rename is not until its folder is)."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_ending(path: str | Path | None, *endings: str) -> None:
    """Before any work is done: raise `UsageError` if a file to write has another ending, and see `check_destination`.

    None: there is nothing to write.
    """
    if path is None:
        return
    if not str(path).endswith(endings):
        raise UsageError(f"cannot write {path}: its ending must be {' or '.join(endings)}")
    check_destination(path)


@contextmanager
def writing(path: str | os.PathLike[str], remedy: str | None = None) -> Iterator[None]:
    """A block that writes `path` and nothing else: an OSError in it becomes a `DestinationError` that names `path`."""
    try:
        yield
    except OSError as error:
        raise DestinationError(os.fspath(path), error.errno or errno.EIO, remedy) from error


def check_destination(path: str | os.PathLike[str], *, folder: bool = False) -> None:
    """Raise `DestinationError` if a file, or what belongs into a folder, could not be written to `path` now.

    Folders that are missing on the way count as writable if they can be made: `write_result` and `new_folder` make
    them. Nothing is left behind.
    """
    target = Path(path)
    with writing(target):
        _check_kind(target, folder)
        within = target if folder else target.parent
        while not within.exists():
            within = within.parent
        # Whoever may write here may still not use such a name, and the system looks at a name only when it is made.
        longest = os.pathconf(within, "PC_NAME_MAX")
        if any(len(os.fsencode(part)) > longest for part in target.parts):
            raise OSError(errno.ENAMETOOLONG, "")
        # Access rights tell too little (of read-only disks, of quotas, of root): only trying does.
        descriptor, name = tempfile.mkstemp(dir=within, prefix=".", suffix=".tmp")
        os.close(descriptor)
        os.unlink(name)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to fill, which gets the name `path` as a whole when the block ends and vanishes if it fails.

    Its bytes are on disk by then; its name is when the caller has synchronised the folder (`sync_folder`).
    """
    temporary = temporary_beside(path)
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic(path: Path, content: bytes | str) -> None:
    """Replace `path` by `content` as a whole or not at all. Its folder must be there."""
    data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    with writing(path):
        _check_kind(path, folder=False)
        with whole_file(path) as file:
            file.write(data)
        sync_folder(path.parent)


def copy_file(source: Path, target: Path) -> None:
    """A copy of a file under another name, whole or not at all."""
    with open(source, "rb") as original, writing(target):
        with whole_file(target) as copy:
            shutil.copyfileobj(original, copy, 1 << 20)
        sync_folder(target.parent)


def write_result(path: Path, content: bytes | str) -> None:
    """`write_atomic` to a place that a person named: folders that are missing on the way are made."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, content)


def _check_kind(path: Path, folder: bool) -> None:
    """Raise OSError if something of another kind has the name: a device or a pipe must not be replaced by a file."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if folder and not stat.S_ISDIR(mode):
        raise OSError(errno.ENOTDIR, "")
    if not folder and not stat.S_ISREG(mode):
        raise OSError(errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL, "")


def user_cache_folder() -> Path:
    """Where what can be made again is kept for this user: `$XDG_CACHE_HOME/seehear`, or `~/.cache/seehear`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "seehear"


@contextmanager
def new_folder(path: Path, *, replacing: Collection[str] = ()) -> Iterator[Path]:
    """A folder to fill, which gets the name `path` as a whole when the block ends and vanishes if it fails.

    Raises `UsageError` if `path` is there and is not an empty folder, `DestinationError` if it cannot be written.
    It may hold files and folders of the names `replacing`, which go when the new ones are there.
    """
    check_new_folder(path, replacing=replacing)
    temporary = temporary_beside(path)
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.mkdir()
        try:
            yield temporary
        except DestinationError as error:  # of a file in it, under a name that nobody knows
            raise DestinationError(str(path), error.errno or errno.EIO) from error
        with writing(path):
            for inner in temporary.rglob("*"):
                if inner.is_dir():
                    sync_folder(inner)
            sync_folder(temporary)
            for name in replacing:
                if (path / name).is_dir():
                    shutil.rmtree(path / name)
                (path / name).unlink(missing_ok=True)
            os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    with writing(path):
        sync_folder(path.parent)


def check_new_folder(path: Path, *, replacing: Collection[str] = ()) -> None:
    """Raise `UsageError` if `path` is there and is not an empty folder, `DestinationError` if it cannot be written.

    It may hold files of the names `replacing`.
    """
    with writing(path):
        taken = path.exists() and (not path.is_dir() or any(found.name not in replacing for found in path.iterdir()))
    if taken:
        raise UsageError(f"there is something in {path} already", "choose another --out")
    check_destination(path, folder=True)


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
    write_result(path, sink.getvalue().to_pybytes())


ROWS_AT_ONCE = 1 << 16
"""Rows that `write_tables` holds in memory: those of a row group of the Parquet file."""


def in_row_groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The rows of tables of one schema in tables of `ROWS_AT_ONCE` rows and one of the rest, each in one piece.

    Without any row there is one table, of no rows; `ValueError` without a table.
    """
    import pyarrow as pa

    waiting: list[pa.Table] = []
    rows = 0
    for table in tables:
        waiting.append(table)
        while sum(map(len, waiting)) >= ROWS_AT_ONCE:
            joined = pa.concat_tables(waiting)
            yield joined.slice(0, ROWS_AT_ONCE).combine_chunks()
            waiting, rows = [joined.slice(ROWS_AT_ONCE)], rows + ROWS_AT_ONCE
    if not waiting:
        raise ValueError("there is no table to write")
    rest = pa.concat_tables(waiting).combine_chunks()
    if len(rest) or not rows:
        yield rest


def write_tables(tables: Iterable[pa.Table], path: Path) -> int:
    """Write tables of one schema, one after the other, as one .parquet file; the number of rows.

    Never more than `ROWS_AT_ONCE` rows and a table are in memory. Where the rows come from has no part in the bytes.
    """
    import pyarrow.parquet as pq

    rows, writer = 0, None
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _check_kind(path, folder=False)
        with whole_file(path) as file:
            try:
                for table in in_row_groups(tables):
                    writer = writer or pq.ParquetWriter(file, table.schema)
                    writer.write_table(table)
                    rows += len(table)
            finally:
                if writer is not None:
                    writer.close()
        sync_folder(path.parent)
    return rows
