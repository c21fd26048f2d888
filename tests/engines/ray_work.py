"""Tasks for the tests of engines, importable in every process."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seehear.engines import Do, Tell
from seehear.errors import DataError


@contextmanager
def opened(folder: str) -> Iterator[Do]:
    """Does what a payload says, and leaves a file for each time that this was opened, and that a task was begun."""
    place = Path(folder)
    (place / f"opened.{os.getpid()}.{time.monotonic_ns()}").touch()

    def do(payload: Any, tell: Tell) -> None:
        name, what = payload
        begun = len(list(place.glob(f"begun.{name}.*")))
        (place / f"begun.{name}.{time.monotonic_ns()}").touch()
        if what == "fails":
            raise DataError(f"{name} cannot be used", "leave it out")
        if what == "dies" or (what == "dies once" and not begun):
            os.kill(os.getpid(), signal.SIGKILL)
        while what == "waits" and not (place / "go").exists():
            time.sleep(0.01)
        tell(1, 1)
        (place / f"done.{name}").write_text(name)

    yield do
