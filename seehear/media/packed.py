"""Files that lie within another file, as copies in a tar shard do: named by a path, read by a range of bytes.

Such a path is `SHARD.tar/OFFSET+SIZE/NAME`: the shard, where the file's first byte lies in it and how many there are,
and the file's name within the shard, which tells its ending and stands in texts. Nothing is unpacked, and the shard's
own headers need not be read. Every other path is that of a file on disk. Imports no torch.
"""

from __future__ import annotations

import io
import os
import re
import stat
from dataclasses import dataclass
from typing import BinaryIO

_PACKED = re.compile(r"(?P<shard>.+\.tar)/(?P<offset>\d+)\+(?P<size>\d+)/(?P<name>.+)", re.DOTALL)


@dataclass(frozen=True)
class Packed:
    """A file within a shard."""

    shard: str
    offset: int
    """Of its first byte in the shard."""
    size: int
    """In bytes."""
    name: str

    @property
    def path(self) -> str:
        """What names it in a manifest."""
        return f"{self.shard}/{self.offset}+{self.size}/{self.name}"


@dataclass(frozen=True)
class Status:
    """What the file system tells of a file or of the shard around it."""

    device: int
    inode: int
    size: int
    """Of the file itself in bytes."""
    modified_ns: int
    regular: bool
    whole: bool = True
    """Whether the shard reaches to the file's end."""


def packed(path: str | os.PathLike[str]) -> Packed | None:
    """The file within a shard that a path names; None for a path of a file on disk."""
    found = _PACKED.fullmatch(os.fspath(path))
    if found is None or (not os.path.isfile(found["shard"]) and os.path.exists(os.fspath(path))):
        return None
    return Packed(found["shard"], int(found["offset"]), int(found["size"]), found["name"])


def status_of(path: str | os.PathLike[str]) -> Status:
    """`os.stat` of a file on disk or within a shard. Raises `OSError`, and `ValueError` for what is no path."""
    within = packed(path)
    status = os.stat(path if within is None else within.shard)
    regular = stat.S_ISREG(status.st_mode)
    if within is None:
        return Status(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, regular)
    whole = within.offset + within.size <= status.st_size
    return Status(status.st_dev, status.st_ino, within.size, status.st_mtime_ns, regular, whole)


def open_bytes(path: str | os.PathLike[str]) -> BinaryIO:
    """A file on disk or within a shard, open for reading. Raises `OSError`."""
    within = packed(path)
    if within is None:
        return open(path, "rb")
    return io.BufferedReader(ByteRange(within.shard, within.offset, within.size), 1 << 16)


class ByteRange(io.RawIOBase):
    """A range of a file's bytes as a file of its own: nothing before it and nothing behind it can be read."""

    def __init__(self, path: str | os.PathLike[str], offset: int, size: int) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._offset, self._size, self._at = offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError(22, "a place before the file's beginning")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        wanted = max(0, min(len(buffer), self._size - self._at))
        data = os.pread(self._descriptor, wanted, self._offset + self._at)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()
