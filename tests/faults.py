"""What can befall one process of a run, put into it at a given moment: for `tests.ranks`."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from collections.abc import Iterator
from typing import Any
from unittest import mock

from seehear import dist
from seehear.data.loader import ClipLoader
from seehear.engine import checkpoint
from seehear.engine.trainer import Trainer


@contextlib.contextmanager
def of(fault: dict[str, Any] | None, rank: int) -> Iterator[None]:
    """Within the block a process of the rank that `fault` names meets with it.

    `what` is kill, stop, fail or sleep; `where` is what is called then (a key of `_PLACES`), for the time `count`.
    """
    if fault is None or fault["rank"] != rank:
        yield
        return
    owner, name = _PLACES[fault["where"]]
    original = getattr(owner, name)
    calls = 0

    def watched(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == fault.get("count", 1):
            _befall(fault["what"])
        return original(*arguments, **options)

    with mock.patch.object(owner, name, watched):
        yield


_PLACES = {
    "step": (Trainer, "take_step"),
    "extraction": (Trainer, "watch"),
    "cache": (ClipLoader, "fill_cache"),
    "save": (checkpoint, "save"),
    "decoding": (ClipLoader, "_stack"),
    "collective": (dist, "any_of"),
}


def _befall(what: str) -> None:
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "stop":
        os.kill(os.getpid(), signal.SIGTERM)
    elif what == "full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    elif what == "fail":
        raise ZeroDivisionError("a fault of the program")
    elif what == "sleep":
        time.sleep(3600)
