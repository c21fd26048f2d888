"""Ctrl-C, SIGTERM and SIGUSR1 ask a run to save and stop; a second Ctrl-C stops at once.

`StopRequest.shown` is the home of work that shows its progress and heeds them.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from seehear import peers
from seehear.errors import Interrupted
from seehear.progress import Progress


class StopRequest:
    """Set by a signal to this process or to another one of the run, looked at by the loop between two steps.

    To look at it raises what ended another process, if something did.
    """

    def __init__(self) -> None:
        self.signal: int | None = None

    def __bool__(self) -> bool:
        return peers.stop_asked() or self.signal is not None

    @property
    def name(self) -> str:
        """Name of the signal that was received; without one, it was another process that got it."""
        return signal.Signals(self.signal).name if self.signal is not None else "a signal to another process"

    def shown(self, progress: Progress, description: str, unit: str, remedy: str) -> Callable[[int, int], None]:
        """A callback (done, total) that shows a task as `Progress.shown` does, and leaves it when a signal came.

        The task, its `description` and the `remedy` are named by the `Interrupted` that the callback then raises.
        """
        update = progress.shown(description, unit)

        def show(done: int, total: int) -> None:
            update(done, total)
            if self:
                raise Interrupted(f"stopped by {self.name} ({description}: {done} of {total} {unit})", remedy)

        return show

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
            peers.ask_to_stop(signal.Signals(number).name)

        watched = [signal.SIGINT, signal.SIGTERM, *([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else [])]
        before = {number: signal.signal(number, handle) for number in watched}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
