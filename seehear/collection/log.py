"""The log of edits: append-only, in the folder `edits` of a run, one SQLite file for each machine that writes.

Processes of one machine share its file (WAL, full synchronisation). SQLite's WAL cannot be shared over a network disk,
so the files of other machines are only read, as private copies. Each row carries a hash chained to the row before, so a
copy that was torn while it was made is noticed and made again. Events once seen are never forgotten.
"""

from __future__ import annotations

import contextlib
import errno
import getpass
import hashlib
import os
import re
import shutil
import socket
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from seehear.collection.events import Event, first_link, link, packed, unpacked
from seehear.errors import DestinationError, RunError
from seehear.files import temporary_beside, writing

FOLDER = "edits"
APPLICATION_ID = 0x5EE0_4EA2
VERSION = 1
BUSY_SECONDS = 60.0
"""How long a process waits for another one that is writing."""
_RECENT_SECONDS = 3.0
"""A file changed within this time may have changed again without its time or size telling."""
_TRIES = 8
_SCHEMA = """
CREATE TABLE events (
    seq INTEGER PRIMARY KEY, clock INTEGER NOT NULL, time TEXT NOT NULL, author TEXT NOT NULL, kind TEXT NOT NULL,
    by TEXT NOT NULL, base TEXT NOT NULL, payload BLOB NOT NULL, hash BLOB NOT NULL
);
CREATE TABLE bases (
    base TEXT NOT NULL, by TEXT NOT NULL, generation TEXT NOT NULL, clock INTEGER NOT NULL, content BLOB NOT NULL,
    hash BLOB NOT NULL, PRIMARY KEY (base, by, generation)
);
"""


def this_host() -> str:
    """Six hexadecimal digits that name this machine; the variable SEEHEAR_HOST names another one.

    Copies of one virtual machine that share a disk have the same name and need that.
    """
    told = os.environ.get("SEEHEAR_HOST")
    machine = ""
    for place in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        with contextlib.suppress(OSError):
            machine = machine or Path(place).read_text().strip()
    name = told or f"{socket.gethostname()}\n{machine}"
    return hashlib.blake2b(name.encode(), digest_size=3).hexdigest()


def this_person() -> str:
    """Who edits, where nobody is named: the user of this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container may have no name for its user
        return "someone"


class Unreadable(Exception):
    """A file of events cannot be read, perhaps because it was written to meanwhile."""


class HostLog:
    """What was read of one machine's file: its events, in order, and the clusterings that they are about."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.events: list[Event] = []
        self.bases: dict[tuple[str, str, str], tuple[int, bytes]] = {}
        self._last = first_link(host)

    def read(self, connection: sqlite3.Connection) -> bool:
        """Take what is new; whether there was something. Raises `Unreadable` and leaves all as it was."""
        known = len(self.events)
        with _unreadable(), _one_view(connection):
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            if application != APPLICATION_ID:
                raise Unreadable("it is no log of edits")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > VERSION:
                raise Unreadable(f"a newer version of seehear wrote it (format {version})")
            rows = connection.execute("SELECT * FROM events WHERE seq > ? ORDER BY seq", (known,)).fetchall()
            (last,) = connection.execute("SELECT max(seq) FROM events").fetchone()
            bases = connection.execute("SELECT base, by, generation, clock, hash FROM bases").fetchall()
            new = [b for b in bases if tuple(b[:3]) not in self.bases]
            contents = {tuple(b[:3]): (b[3], self._content(connection, b)) for b in new}
            if (last or 0) != known + len(rows):
                raise Unreadable("there were more events in it before")
            chained, tail = self._chained(rows)
        self.events += chained
        self.bases |= contents
        self._last = tail
        return bool(chained)

    def _content(self, connection: sqlite3.Connection, base: Sequence[Any]) -> bytes:
        query = "SELECT content FROM bases WHERE base = ? AND by = ? AND generation = ?"
        content: bytes = connection.execute(query, tuple(base[:3])).fetchone()[0]
        if hashlib.blake2b(content, digest_size=16).digest() != base[4]:
            raise Unreadable("the checksum of a clustering in it differs")
        return content

    def _chained(self, rows: Sequence[Sequence[Any]]) -> tuple[list[Event], bytes]:
        tail, events = self._last, []
        for number, (seq, clock, when, author, kind, by, base, data, stored) in enumerate(rows, len(self.events) + 1):
            event = Event(self.host, seq, clock, when, author, kind, by, base, unpacked(data))
            tail = link(tail, event, data)
            if tail != stored or seq != number:
                raise Unreadable(f"the checksum of event {seq} differs")
            events.append(event)
        return events, tail

    def append(self, connection: sqlite3.Connection, event: Event, pending: list[bytes]) -> None:
        """Write an event within a transaction; `pending` holds the hashes of those before it."""
        data = packed(event.payload)
        stored = link(pending[-1] if pending else self._last, event, data)
        values = (event.seq, event.clock, event.time, event.author, event.kind, event.by, event.base, data, stored)
        connection.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
        pending.append(stored)


@contextlib.contextmanager
def _unreadable() -> Iterator[None]:
    """Errors in reading become `Unreadable`."""
    try:
        yield
    except (sqlite3.DatabaseError, ValueError, TypeError, IndexError, KeyError) as error:
        raise Unreadable(str(error)) from error


@contextlib.contextmanager
def _one_view(connection: sqlite3.Connection) -> Iterator[None]:
    """Reads within see one state of the file, whoever writes meanwhile."""
    if connection.in_transaction:
        yield
        return
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")


class Writer:
    """A transaction: what is appended in it is written as a whole or not at all."""

    def __init__(self, log: EditLog, connection: sqlite3.Connection, author: str) -> None:
        self._log, self._connection, self._author = log, connection, author
        self._hashes: list[bytes] = []

    def append(self, kind: str, by: str, base: str, payload: Mapping[str, Any]) -> Event:
        """Write an event."""
        log, seq = self._log, len(self._log.own.events) + len(self._hashes) + 1
        when = datetime.now(UTC).isoformat(timespec="milliseconds")
        clock = log.clock + len(self._hashes) + 1
        event = Event(log.host, seq, clock, when, self._author, kind, by, base, payload)
        log.own.append(self._connection, event, self._hashes)
        return event

    def add_base(self, base: str, by: str, generation: str, content: bytes) -> None:
        """Write what clusters a clustering has, unless a machine has written it."""
        if not self._log.has_base(base, by, generation):
            digest = hashlib.blake2b(content, digest_size=16).digest()
            self._connection.execute(
                "INSERT INTO bases VALUES (?, ?, ?, ?, ?, ?)", (base, by, generation, self._log.clock, content, digest)
            )


class EditLog:
    """The edits of all machines. It may be used from several threads."""

    def __init__(self, run: str | Path, host: str | None = None) -> None:
        self.folder = Path(run) / FOLDER
        self.host = host or this_host()
        self.own = HostLog(self.host)
        self.events: list[Event] = []
        """Of all machines, in their one order."""
        self._others: dict[str, HostLog] = {}
        self._states: dict[Path, tuple[Any, ...]] = {}
        self._lock = threading.RLock()
        self.refresh()

    @property
    def path(self) -> Path:
        """The file of this machine."""
        return self.folder / f"{self.host}.sqlite"

    @property
    def clock(self) -> int:
        """The greatest of all events."""
        return self.events[-1].clock if self.events else 0

    @property
    def several_hosts(self) -> bool:
        """Whether other machines have written."""
        return bool(self._others)

    def has_base(self, base: str, by: str, generation: str) -> bool:
        """Whether this clustering is described in any file."""
        return any((base, by, generation) in log.bases for log in (self.own, *self._others.values()))

    def base(self, base: str, by: str) -> bytes | None:
        """The latest description of a clustering, packed."""
        found = [
            (clock, log.host, content)
            for log in (self.own, *self._others.values())
            for (key, labelling, _), (clock, content) in log.bases.items()
            if (key, labelling) == (base, by)
        ]
        return max(found)[2] if found else None

    def refresh(self) -> bool:
        """Read what was written since; whether there was something.

        Raises `RunError` for a file that cannot be read, unless its events were read before.
        """
        with self._lock:
            changed = False
            if self._changed(self.path):
                try:
                    with self._opened() as connection:
                        changed = self.own.read(connection)
                except Unreadable as error:
                    raise _damaged(self.path, error) from error
                except DestinationError:  # a folder that may only be read
                    changed = self._read_copy(self.own, self.path)
            return self._refresh_others() | changed

    def _refresh_others(self) -> bool:
        changed = False
        for path in self._files():
            if path != self.path and self._changed(path):
                log = self._others.setdefault(path.stem, HostLog(path.stem))
                changed |= self._read_copy(log, path)
        if changed or sum(map(len, self._lists())) != len(self.events):
            self.events = sorted((e for events in self._lists() for e in events), key=lambda e: e.place)
        return changed

    def _lists(self) -> list[list[Event]]:
        return [log.events for log in (self.own, *self._others.values())]

    def _files(self) -> list[Path]:
        try:
            return sorted(p for p in self.folder.iterdir() if re.fullmatch(r"[0-9a-f]{6}\.sqlite", p.name))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise RunError(f"{self.folder} cannot be read: {error.strerror}", "make it a folder you may read") from None

    def _changed(self, path: Path) -> bool:
        """Whether a file may hold what was not read: it is there, and not as it was when it had come to rest."""
        state = _state(path)
        if state is None or state == self._states.get(path):
            return False
        # What changed a moment ago may change again within one tick of the clock: it is read again next time.
        if abs(time.time() - max(s[1] for s in state if s) / 1e9) > _RECENT_SECONDS:
            self._states[path] = state
        else:
            self._states.pop(path, None)
        return True

    def _read_copy(self, log: HostLog, path: Path) -> bool:
        """Read another machine's file as a private copy of its bytes."""
        problem = Unreadable("")
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(0.02 * 2**attempt)
            with tempfile.TemporaryDirectory(prefix="seehear-") as place:
                copy = Path(place) / path.name
                try:
                    shutil.copyfile(path, copy)
                    with contextlib.suppress(FileNotFoundError):
                        shutil.copyfile(_wal(path), _wal(copy))
                    with _unreadable(), contextlib.closing(sqlite3.connect(copy)) as connection:
                        return log.read(connection)
                except Unreadable as error:
                    problem = error
                except OSError as error:
                    problem = Unreadable(error.strerror or str(error))
        self._states.pop(path, None)
        if log.events:
            return False
        raise _damaged(path, problem)

    # ------------------------------------------------------------ writing

    @contextlib.contextmanager
    def writing(self, author: str) -> Iterator[Writer]:
        """A transaction that sees all that was written before it; no other process of this machine writes meanwhile.

        Raises:
            DestinationError: the log cannot be written, as the folder is read-only or the disk is full.
            RunError: a file of the log is damaged.
        """
        with self._lock:
            self._create()
            with self._opened() as connection:
                with self._failing():
                    connection.execute("BEGIN IMMEDIATE")
                    try:
                        try:
                            self.own.read(connection)
                        except Unreadable as error:
                            raise _damaged(self.path, error) from error
                        self._refresh_others()
                        yield Writer(self, connection, author)
                        connection.execute("COMMIT")
                    except BaseException:
                        if connection.in_transaction:
                            connection.execute("ROLLBACK")
                        raise
                with contextlib.suppress(sqlite3.OperationalError):  # written it is; the main file may follow later
                    connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
                try:
                    self.own.read(connection)
                except Unreadable as error:
                    raise _damaged(self.path, error) from error
            self._refresh_others()

    def _create(self) -> None:
        """Make this machine's file, complete or not at all, unless it is there."""
        if self.path.exists():
            return
        with writing(self.folder):
            self.folder.mkdir(exist_ok=True)
        temporary = temporary_beside(self.path)
        with writing(self.path), self._failing():
            try:
                with contextlib.closing(sqlite3.connect(temporary, isolation_level=None)) as connection:
                    connection.execute("PRAGMA journal_mode = WAL")
                    connection.execute("PRAGMA synchronous = FULL")
                    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                    connection.execute(f"PRAGMA user_version = {VERSION}")
                    connection.executescript(_SCHEMA)
                try:
                    os.link(temporary, self.path)  # fails where another process was faster
                except FileExistsError:
                    pass
                except OSError:  # a file system without links
                    if not self.path.exists():
                        os.replace(temporary, self.path)
            finally:
                for leftover in (temporary, _wal(temporary), temporary.with_name(f"{temporary.name}-shm")):
                    leftover.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """A connection to this machine's file. The last one to close leaves a complete file, without a WAL."""
        with self._failing():
            connection = sqlite3.connect(
                f"{self.path.absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY_SECONDS, isolation_level=None,
                check_same_thread=False,
            )  # fmt: skip
        with contextlib.closing(connection):
            with self._failing():
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            yield connection

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        """Errors of SQLite become ones that a person can act on."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            code = (error.sqlite_errorcode or 0) & 0xFF if hasattr(error, "sqlite_errorcode") else 0
            if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise _damaged(self.path, error) from error
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise RunError(
                    f"{self.path} is being written by another process for more than {BUSY_SECONDS:.0f} s",
                    "wait for it, or stop it",
                ) from error
            codes = {sqlite3.SQLITE_FULL: errno.ENOSPC, sqlite3.SQLITE_IOERR: errno.EIO}
            raise DestinationError(str(self.path), codes.get(code, errno.EACCES)) from error


def _wal(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _state(path: Path) -> tuple[Any, ...] | None:
    """What tells that a file or its WAL was written to; None if there is no such file."""
    try:
        states: list[tuple[int, int, int] | None] = [_stat(path)]
    except OSError:
        return None
    try:
        states.append(_stat(_wal(path)))
    except OSError:
        states.append(None)
    return tuple(states)


def _stat(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino


def _damaged(path: Path, error: Exception) -> RunError:
    return RunError(
        f"{path}, which holds edits, cannot be read: {error}",
        "put back a copy of it, or move it out of that folder: the edits in it are then left out",
    )
