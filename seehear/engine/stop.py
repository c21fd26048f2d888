"""Ctrl-C, SIGTERM and SIGUSR1 ask a run to save and stop; a second Ctrl-C stops at once."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class StopRequest:
    """Set by a signal, looked at by the loop between two steps."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    @property
    def name(self) -> str:
        """Name of the signal that was received."""
        return signal.Signals(self.signal).name if self.signal is not None else ""

    @contextlib.contextmanager
    def listening(self) -> Iterator[StopRequest]:
        """Catch the signals within the block (in the main thread; elsewhere nothing can be caught)."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return

        def handle(number: int, frame: FrameType | None) -> None:
            if self.signal is not None and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.signal = number

        watched = [signal.SIGINT, signal.SIGTERM, *([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else [])]
        before = {number: signal.signal(number, handle) for number in watched}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
