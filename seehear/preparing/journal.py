"""What a preparation has done so far, a line of JSON for every original: it goes on after whatever stopped it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from seehear.files import write_atomic, writing


@dataclass(frozen=True)
class Done:
    """What became of one original."""

    video_id: str
    source: str
    """Its content, and the sound track that was taken."""
    settings: str
    """Names what copies are like."""
    outcome: str
    reason: str | None = None
    detail: str | None = None
    bytes: int | None = None
    fingerprint: str | None = None
    """Of the copy."""
    start_seconds: float | None = None
    end_seconds: float | None = None
    seconds: float | None = None
    cpu_seconds: float | None = None
    modified_ns: int | None = None
    """When the copy's file, or the shard around it, was last written, once a preparation has ended."""


class Journal:
    """The file of what is done; the last line of an original counts."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, Done]:
        """By video id. A line that was cut off when its process died is left out."""
        found: dict[str, Done] = {}
        if not self.path.exists():
            return found
        names = {field.name for field in fields(Done)}
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                values = json.loads(line)
                done = Done(**{name: value for name, value in values.items() if name in names})
            except (ValueError, TypeError, AttributeError):
                continue
            found[done.video_id] = done
        return found

    def add(self, done: Done) -> None:
        """Append a line, on disk when this returns. Raises `DestinationError`."""
        # A line that was cut off must not swallow this one.
        with writing(self.path), open(self.path, "a", encoding="utf-8") as file:
            file.write(f"\n{json.dumps(asdict(done), ensure_ascii=True)}\n")
            file.flush()
            os.fsync(file.fileno())

    def rewrite(self, kept: Iterable[Done]) -> None:
        """Keep these lines alone. Raises `DestinationError`."""
        write_atomic(self.path, "".join(f"{json.dumps(asdict(done), ensure_ascii=True)}\n" for done in kept))
