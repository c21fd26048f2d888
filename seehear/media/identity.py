"""Whether a file still holds what was scanned.

Size and time of the last change tell quickly; only when they differ is the whole content read and its hash compared,
so that a file that was touched or copied counts as the same.

This module imports no torch: it runs in decoding processes that should stay small.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from seehear.errors import MediaError
from seehear.media.packed import open_bytes, status_of

_State = tuple[int, int, int, int]
"""Device, inode, size in bytes and time of the last change in nanoseconds: what a replacement alters. Of a file in a
shard all but the size are the shard's."""


@dataclass(frozen=True)
class Identity:
    """What a scan noted of a file's content. What it did not note is None."""

    fingerprint: str | None
    """See `file_fingerprint`. Without it every content passes."""
    size_bytes: int | None = None
    modified_ns: int | None = None


ANY_CONTENT = Identity(None)
"""Of a file of which no scan noted anything."""


def file_fingerprint(path: str | os.PathLike[str]) -> str:
    """BLAKE2b of the whole content, 16 bytes as hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=16)
    with open_bytes(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def unchanged(path: str, identity: Identity) -> Iterator[None]:
    """A block that reads a file by its name and is to see the content that `identity` names.

    Raises `MediaError` with reason `changed` if the file has another content when the block begins or when it ends,
    whether the block fails or not: a file that is replaced while it is read fails in ways that mean nothing. A file
    that cannot be looked at passes, as reading it finds the right words.
    """
    before = _check(path, identity, None)
    try:
        yield
    finally:
        _check(path, identity, before)


def file_state(path: str) -> _State | None:
    """What tells cheaply that a file was written to or replaced; None if there is none to be seen."""
    try:
        status = status_of(path)
    except (OSError, ValueError):
        return None
    return status.device, status.inode, status.size, status.modified_ns


def _check(path: str, identity: Identity, passed: _State | None) -> _State | None:
    """The state of the file, which holds what `identity` names; a state that `passed` before is not judged again."""
    state = file_state(path)
    if state is None or state == passed or identity.fingerprint is None:
        return state
    _, _, size, modified_ns = state
    if (size, modified_ns) == (identity.size_bytes, identity.modified_ns):
        return state
    if identity.size_bytes is not None and size != identity.size_bytes:
        what = f"it had {identity.size_bytes} bytes and has {size}"
    else:
        try:
            if _fingerprint_of(path, state) == identity.fingerprint:
                return state
        except OSError:
            return state
        what = "its content is another"
    raise MediaError(
        path, "changed", f"this is not the file that was scanned: {what}", "scan again, or put the file back"
    )


@functools.lru_cache(maxsize=65536)
def _fingerprint_of(path: str, _state: _State) -> str:
    """The fingerprint of a file in this state: a file that was touched is read whole once, not for every clip."""
    return file_fingerprint(path)
