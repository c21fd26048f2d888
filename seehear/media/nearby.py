"""Files from elsewhere kept on this machine, within a bound: what was used longest ago goes first.

A file's name is the checksum of its content, so that it is right whoever brought it. All processes of a machine share
the folder: a file appears whole or not at all, and room is taken under a lock before the first byte comes, so that the
bound holds for what is on its way too. Imports no torch.
"""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from seehear.errors import DestinationError
from seehear.files import writing

_FORGOTTEN_SECONDS = 900.0
"""What is on its way and has not grown for so long was left by a process that was killed."""
_ROOM_SECONDS = 60.0
_REMEDY = "name another place with data.cache_folder, or a smaller bound with data.stream_gib"


class Nearby:
    """A folder of files within a bound in bytes."""

    def __init__(self, folder: Path, budget_bytes: int) -> None:
        self.folder, self.budget_bytes = folder, budget_bytes

    def path(self, name: str) -> Path:
        """Where the file of a name lies, if it is there."""
        return self.folder / name[:2] / name

    def has(self, name: str, size: int) -> bool:
        """Whether a file is there whole; it counts as used now."""
        try:
            whole = self.path(name).stat().st_size == size
            os.utime(self.path(name))
        except OSError:
            return False
        return whole

    def open(self, name: str, size: int) -> BinaryIO:
        """A file, open for reading; it stays so when it is deleted meanwhile. Raises `FileNotFoundError`."""
        if not self.has(name, size):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path(name)))
        return open(self.path(name), "rb")

    def add(self, name: str, size: int | None, fill: Callable[[BinaryIO], None]) -> None:
        """Have `fill` write a file; if it raises, nothing is left of it. An `OSError` of `fill` is the folder's.

        size: of the file in bytes; None: `fill` calls `take_room` when it knows it
        Raises `DestinationError` where the folder cannot be written or has no room, and what `fill` raises.
        """
        target = self.path(name)
        with writing(target, _REMEDY):
            target.parent.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=".", suffix=".tmp")
        try:
            with os.fdopen(descriptor, "w+b") as file:
                if size is not None:
                    self.take_room(file, size)
                with writing(target, _REMEDY):
                    fill(file)
                    file.flush()
                    os.fsync(descriptor)
            with writing(target, _REMEDY):
                os.replace(temporary, target)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary)

    # ------------------------------------------------------------ the bound

    def take_room(self, file: BinaryIO, size: int) -> None:
        """Make a file that is to be written as long as it will be; others go for it where it must be.

        Raises `DestinationError`.
        """
        end = time.monotonic() + _ROOM_SECONDS
        while True:
            with writing(self.folder, _REMEDY), self._locked() as ledger:
                total = self._noted(ledger)
                if total is None or total + size > self.budget_bytes:
                    total = self._delete(size)
                if total + size <= self.budget_bytes:
                    os.ftruncate(file.fileno(), size)  # before the lock goes, so that whoever counts next counts it
                    os.pwrite(ledger, f"{total + size:020d}".encode(), 0)
                    return
            if size > self.budget_bytes or time.monotonic() > end:
                remedy = f"it may hold {self.budget_bytes} bytes, and {size} more are needed: raise data.stream_gib"
                raise DestinationError(str(self.folder), errno.ENOSPC, remedy)
            time.sleep(0.1)  # what is on its way for others ends, or is given up

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """The file that notes how much there is, held against all others."""
        descriptor = os.open(self.folder / ".bytes", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)

    @staticmethod
    def _noted(ledger: int) -> int | None:
        text = os.pread(ledger, 20, 0)
        return int(text) if text.isdigit() else None

    def _delete(self, size: int) -> int:
        """Delete what was used longest ago until `size` more bytes fit, and some more; how many bytes are there then.

        What is on its way counts as large as it is so far or will be: its writer has made it that long.
        """
        found = []
        for place in self.folder.glob("[0-9a-f][0-9a-f]/*"):
            with suppress(FileNotFoundError):
                status = place.stat()
                found.append((status.st_mtime, status.st_size, place))
        total = sum(length for _, length, _ in found)
        wanted = self.budget_bytes
        if total + size > wanted:
            wanted -= self.budget_bytes // 16  # so that the next ones need not look again
        now = time.time()
        for used, length, place in sorted(found):
            if total + size <= wanted:
                break
            if place.name.startswith(".") and now - used < _FORGOTTEN_SECONDS:
                continue
            place.unlink(missing_ok=True)
            total -= length
        return total
