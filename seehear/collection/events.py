"""An event of the log: one edit of one person, as it is written and as it is read."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

UNDO, REDO = "undo", "redo"
_LARGE_BYTES = 1024


@dataclass(frozen=True)
class Event:
    """One edit. Segments are named by content and time, clusters by ids of the clustering `base`."""

    host: str
    """The machine that wrote it."""
    seq: int
    """Its number among those of this machine, from 1."""
    clock: int
    """Greater than that of every event that its writer knew (Lamport's clock)."""
    time: str
    """When, ISO 8601 in UTC. It orders nothing: clocks of machines differ."""
    author: str
    kind: str
    by: str
    base: str
    payload: Mapping[str, Any]

    @property
    def id(self) -> str:
        """Its name."""
        return f"{self.host}-{self.seq}"

    @property
    def place(self) -> tuple[int, str, int]:
        """Sorts the events of all machines in one order that is the same for all who read them."""
        return self.clock, self.host, self.seq


def packed(payload: Mapping[str, Any]) -> bytes:
    """JSON, compressed when it is large."""
    data = json.dumps(payload, separators=(",", ":")).encode()
    return data if len(data) < _LARGE_BYTES else zlib.compress(data, 6)


def unpacked(data: bytes) -> dict[str, Any]:
    """The inverse of `packed`. Raises `ValueError` for what is none."""
    try:
        # JSON begins with a brace, which no zlib stream does.
        found: dict[str, Any] = json.loads(data if data[:1] == b"{" else zlib.decompress(data))
    except zlib.error as error:
        raise ValueError(str(error)) from None
    return found


def first_link(host: str) -> bytes:
    """What the first event of a machine is chained to."""
    return hashlib.blake2b(f"seehear edits of {host}".encode(), digest_size=16).digest()


def link(before: bytes, event: Event, data: bytes) -> bytes:
    """The hash of an event with its payload as stored, chained to the one before it: 16 bytes."""
    digest = hashlib.blake2b(before, digest_size=16)
    for part in (event.seq, event.clock, event.time, event.author, event.kind, event.by, event.base):
        text = str(part).encode("utf-8", "surrogatepass")
        digest.update(len(text).to_bytes(8, "little") + text)
    digest.update(data)
    return digest.digest()
