"""Files that lie within another file, as copies in a tar shard do: named by a path, read by a range of bytes.

Such a path is `SHARD.tar/OFFSET+SIZE/NAME`: the shard, where the file's first byte lies in it and how many there are,
and the file's name within the shard, which tells its ending and stands in texts. Nothing is unpacked, and the shard's
own headers need not be read. A shard on a server is named by its address, and the range by the checksum of its bytes
too, `https://HOST/SHARD.tar/OFFSET+SIZE+CHECKSUM/NAME`: these bytes are fetched (`seehear.media.remote`). Every other
path is that of a file on disk. Imports no torch.
"""

from __future__ import annotations

import io
import os
import re
import stat
from dataclasses import dataclass
from typing import BinaryIO

from seehear.media import remote

_PACKED = re.compile(
    r"(?P<shard>.+\.tar)/(?P<offset>\d+)\+(?P<size>\d+)(?:\+(?P<checksum>[0-9a-f]{32}))?/(?P<name>.+)", re.DOTALL
)


@dataclass(frozen=True)
class Packed:
    """A file within a shard."""

    shard: str
    """Path of the shard, or its address on a server."""
    offset: int
    """Of its first byte in the shard."""
    size: int
    """In bytes."""
    name: str
    checksum: str | None = None
    """Of a file on a server: BLAKE2b of its bytes, 16 bytes as hexadecimal digits."""

    @property
    def path(self) -> str:
        """What names it in a manifest."""
        content = f"+{self.checksum}" if self.checksum else ""
        return f"{self.shard}/{self.offset}+{self.size}{content}/{self.name}"

    @property
    def remote(self) -> remote.Copy | None:
        """What is to be fetched of it; None where the shard is on disk."""
        if remote.address(self.shard) is None:
            return None
        return remote.Copy(self.path, self.shard, self.offset, self.size, self.checksum)


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
    url = remote.address(path)
    found = _PACKED.fullmatch(os.fspath(path) if url is None else url)
    if found is None:
        return None
    place = Packed(found["shard"], int(found["offset"]), int(found["size"]), found["name"], found["checksum"])
    on_disk = url is None and (place.checksum or (not os.path.isfile(place.shard) and os.path.exists(path)))
    return None if on_disk else place


def remote_copy(path: str | os.PathLike[str]) -> remote.Copy | None:
    """What is to be fetched of the file that a path names; None for one on disk."""
    within = packed(path) if remote.address(path) is not None else None
    return None if within is None else within.remote


def full_path(path: str | os.PathLike[str]) -> str:
    """A path from the root on, or an address as it is."""
    return remote.address(path) or os.path.abspath(os.fspath(path))


def status_of(path: str | os.PathLike[str]) -> Status:
    """`os.stat` of a file on disk or within a shard. Raises `OSError`, and `ValueError` for what is no path.

    Of a file on a server nothing is asked: its path says how long it is, and has another checksum with another content.
    """
    within = packed(path)
    if within is not None and within.remote is not None:
        return Status(0, 0, within.size, 0, True)
    status = os.stat(path if within is None else within.shard)
    regular = stat.S_ISREG(status.st_mode)
    if within is None:
        return Status(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, regular)
    whole = within.offset + within.size <= status.st_size
    return Status(status.st_dev, status.st_ino, within.size, status.st_mtime_ns, regular, whole)


def open_bytes(path: str | os.PathLike[str]) -> BinaryIO:
    """A file on disk or within a shard, open for reading. Raises `OSError`; of a file on a server `MediaError`."""
    within = packed(path)
    if within is None:
        return open(path, "rb")
    if (copy := within.remote) is not None:
        return remote.opened(copy)
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
