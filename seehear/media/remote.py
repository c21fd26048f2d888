"""Files on a server: copies in shards at an address by HTTP or S3, of which this machine keeps what it used last.

A copy's address is that of a file in a shard (`seehear.media.packed`) with the checksum of its bytes:
`https://HOST/SHARD.tar/OFFSET+SIZE+CHECKSUM/NAME`. Nothing but these bytes is fetched, they are put down only when
their checksum holds, and what is decoded is the file put down: FFmpeg never sees an address. Only what a person gave as
an address is fetched: a table on a server names files below its own place alone. Imports no torch.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
import urllib.parse
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from seehear.errors import DataError, MediaError, UsageError
from seehear.files import user_cache_folder
from seehear.media.fetching import SCHEMES, Lost, Refused, download
from seehear.media.nearby import Nearby

AHEAD, THREADS = 32, 8
"""Copies that are fetched before they are asked for, and how many at once."""
GONE_AFTER = 3
"""So many copies one after the other that a server does not give, however often it is asked: it is gone."""

_ADDRESS = re.compile(rf"({'|'.join(SCHEMES)}):/{{1,2}}([^/].*)", re.DOTALL)


@dataclass(frozen=True)
class Streaming:
    """How files on servers are read by this process."""

    folder: str | None = None
    """Where what was fetched is kept; by default `seehear/streamed` in the user's cache folder."""
    budget_bytes: int = 16 << 30
    """How much of it."""
    patience_seconds: float = 60.0
    """A lost connection is tried again until nothing has come for so long."""

    @property
    def nearby(self) -> Nearby:
        """What is kept on this machine."""
        return Nearby(Path(self.folder) if self.folder else user_cache_folder() / "streamed", self.budget_bytes)


@dataclass(frozen=True)
class Copy:
    """A range of bytes on a server, and what must be in it."""

    path: str
    """What a manifest calls it."""
    url: str
    """Of the shard."""
    offset: int
    size: int
    checksum: str | None
    """BLAKE2b, 16 bytes as hexadecimal digits."""


_streaming = Streaming()


def use(streaming: Streaming) -> None:
    """Read files on servers so from now on, in this process and in the decoding processes that it starts."""
    global _streaming
    _streaming = streaming


def streaming() -> Streaming:
    """How this process reads files on servers."""
    return _streaming


def address(place: str | os.PathLike[str]) -> str | None:
    """A place on a server as it is written in full, None for a place on disk; a `Path` has lost one of the slashes."""
    found = _ADDRESS.match(os.fspath(place))
    return None if found is None else f"{found[1]}://{found[2]}"


def checked_address(place: str | os.PathLike[str]) -> str | None:
    """As `address`, of a place that a person gives. Raises `UsageError` for one that tables must not hold."""
    url = address(place)
    if url is None:
        return None
    parts = urllib.parse.urlsplit(url)
    if parts.username or parts.password or parts.query or parts.fragment or not parts.netloc:
        raise UsageError(
            f"not an address of files: {parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}",
            "give scheme, host and path alone: passwords and tokens would be written into manifests and logs",
        )
    return url


# ---------------------------------------------------------------- copies


def opened(copy: Copy) -> BinaryIO:
    """A copy, open for reading on this machine: fetched now if it is not there. Raises `MediaError`."""
    nearby = _streaming.nearby
    for _ in range(8):
        try:
            return nearby.open(_checksum(copy), copy.size)
        except FileNotFoundError:
            bring(copy)
    why = "it was deleted for others as often as it was fetched"
    raise MediaError(copy.path, "too_large", why, "raise data.stream_gib")


def bring(copy: Copy, stop: threading.Event | None = None) -> bool:
    """Fetch a copy if it is not on this machine, whether it was fetched.

    Raises `MediaError`: missing, permission, truncated or unsafe as the server answers, changed where the bytes there
    are others, unreadable where the connection was lost and patience is over. Raises `DestinationError` if what comes
    cannot be kept.
    """
    nearby, checksum = _streaming.nearby, _checksum(copy)
    if nearby.has(checksum, copy.size):
        return False
    if copy.size > nearby.budget_bytes:
        raise MediaError(
            copy.path, "too_large", f"{copy.size} bytes are more than may be kept", "raise data.stream_gib"
        )

    def fill(file: BinaryIO) -> None:
        download(
            copy.url, file, start=copy.offset, size=copy.size, most=copy.size, checked=True, stop=stop,
            patience_seconds=_streaming.patience_seconds,
        )  # fmt: skip
        file.flush()
        file.seek(0)
        digest = hashlib.blake2b(digest_size=16)
        while block := file.read(1 << 20):
            digest.update(block)
        if digest.hexdigest() != checksum:
            raise Refused(
                "changed", f"bytes {copy.offset} to {copy.offset + copy.size - 1} there are not those of the index",
                "scan again, or put shards and index of one preparation there",
            )  # fmt: skip

    try:
        try:
            nearby.add(checksum, copy.size, fill)
        except Refused as refused:  # damaged on the way, perhaps
            if refused.reason != "changed":
                raise
            nearby.add(checksum, copy.size, fill)
    except Refused as refused:
        raise MediaError(copy.path, refused.reason, refused.detail, refused.remedy) from refused
    except Lost as lost:
        why = f"{lost}; tried again for {_streaming.patience_seconds:g} s"
        remedy = "see that the server answers; data.stream_patience_seconds says how long it is waited for"
        raise MediaError(copy.path, "unreadable", why, remedy) from lost
    return True


def _checksum(copy: Copy) -> str:
    if copy.checksum is None:
        raise MediaError(copy.path, "unreadable", "an address of a copy without its checksum", "scan again")
    return copy.checksum


def brought(copies: Iterable[Copy | None]) -> Iterator[MediaError | None]:
    """For each copy None when it is on this machine, or why it cannot be had; some are fetched ahead.

    None stands for a file on disk, of which nothing is to be fetched. Raises `DataError` when the server is gone
    (`GONE_AFTER`), and what else `bring` raises.
    """
    source, waiting, under_way = iter(copies), deque[tuple[Copy | None, Future[bool] | None]](), 0
    stop, pool, lost, exhausted = threading.Event(), None, 0, False
    try:
        while True:
            while not exhausted and len(waiting) < AHEAD and under_way <= _streaming.budget_bytes // 4:
                try:
                    copy = next(source)
                except StopIteration:
                    exhausted = True
                    break
                if copy is None:
                    waiting.append((None, None))
                    break
                pool = pool or ThreadPoolExecutor(THREADS, thread_name_prefix="seehear-fetch")
                waiting.append((copy, pool.submit(bring, copy, stop)))
                under_way += copy.size
            if not waiting:
                return
            copy, future = waiting.popleft()
            error = None
            if copy is not None and future is not None:
                try:
                    lost = 0 if future.result() else lost
                except MediaError as failed:
                    error = failed
                    lost += failed.reason == "unreadable"
                under_way -= copy.size
                if error is not None and lost >= GONE_AFTER:
                    raise _gone(copy, error)
            yield error
    finally:
        stop.set()
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)


def _gone(copy: Copy, error: MediaError) -> DataError:
    parts = urllib.parse.urlsplit(copy.url)
    return DataError(
        f"{parts.scheme}://{parts.netloc} gives no more files: {GONE_AFTER} in a row could not be had, the last "
        f"{copy.url}: {error.detail}",
        "see that the server answers, then give the same command again; a run goes on with "
        "`seehear pretrain --resume RUN`",
    )


# ---------------------------------------------------------------- tables


_SAME_SECONDS = 10.0
"""So soon after it was fetched a table is not fetched again: who looks what it is reads it next."""
_tables: dict[str, tuple[float, Path]] = {}


def table(url: str) -> Path:
    """A table on a server, fetched; where it lies on this machine, until room is needed.

    Raises `DataError` if it cannot be had, `FileNotFoundError` if there is none.
    """
    nearby = _streaming.nearby
    fetched = _tables.get(url)
    if fetched is not None and time.monotonic() - fetched[0] < _SAME_SECONDS and fetched[1].exists():
        return fetched[1]
    name = hashlib.blake2b(url.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest() + ".parquet"

    def fill(file: BinaryIO) -> None:
        download(
            url, file, size=None, most=nearby.budget_bytes // 2, checked=False,
            patience_seconds=_streaming.patience_seconds, sized=lambda size: nearby.take_room(file, size),
        )  # fmt: skip

    try:
        nearby.add(name, None, fill)
    except Refused as refused:
        if refused.reason == "missing":
            raise FileNotFoundError(2, refused.detail, url) from refused
        raise DataError(f"{url}: {refused.detail}", refused.remedy) from refused
    except Lost as lost:
        why = f"{lost}; tried again for {_streaming.patience_seconds:g} s"
        raise DataError(f"{url}: {why}", "see that the server answers") from lost
    _tables[url] = time.monotonic(), nearby.path(name)
    return nearby.path(name)
