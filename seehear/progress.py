"""Progress of long work: a live bar on a terminal, a plain line now and then elsewhere, nothing when quiet."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

PLAIN_SECONDS = 10.0
_shown_by_default = contextvars.ContextVar("shown_by_default", default=False)


@contextlib.contextmanager
def shown(show: bool = True) -> Iterator[None]:
    """Within the block all that takes long shows its progress, as it does on the command line; or nothing does."""
    token = _shown_by_default.set(show)
    try:
        yield
    finally:
        _shown_by_default.reset(token)


@contextlib.contextmanager
def without_remarks(library: str) -> Iterator[None]:
    """Without warnings, and without what a library logs below an error, such as remarks on itself."""
    logger = logging.getLogger(library)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


class Progress:
    """Shows one task at a time with its rate and the time left, on standard error.

    Used as a context manager. `note` prints a line that stays. With `quiet` None that is up to `shown`:
    everything on the command line, nothing in Python.
    """

    def __init__(self, *, quiet: bool | None = False) -> None:
        self.quiet = not _shown_by_default.get() if quiet is None else quiet
        self._live: Any = None
        self._task: Any = None
        self._description, self._unit, self._total = "", "", 0
        self._started, self._shown = 0.0, time.monotonic()
        self._first = 0
        self._done = 0

    def __enter__(self) -> Progress:
        if not self.quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as RichProgress

            self._live = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}", style="dim"),
                console=Console(stderr=True),
                transient=True,
            )
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def start(self, description: str, total: int, unit: str, done: int = 0) -> None:
        """Begin a task of `total` units; the one before ends."""
        self._description, self._unit, self._total = description, unit, total
        self._started = time.monotonic()
        self._first = self._done = done
        if self._live is not None:
            if self._task is not None:
                self._live.remove_task(self._task)
            self._task = self._live.add_task(description, total=total, completed=done, rate="", note="")

    @property
    def task(self) -> str:
        """The description of the task under way, or of the last one; empty before the first."""
        return self._description

    def update(self, done: int, total: int | None = None, note: str = "") -> None:
        """`done` units are finished."""
        now = time.monotonic()
        self._done = done
        self._total = total or self._total
        elapsed = now - self._started
        rate = (done - self._first) / elapsed if elapsed > 0.5 else 0.0
        text = f"{rate:.1f} {self._unit}/s" if rate else ""
        if self._live is not None:
            self._live.update(self._task, completed=done, total=self._total, rate=text, note=note)
        # Across tasks, so that many short ones are heard of too.
        elif not self.quiet and now - self._shown >= PLAIN_SECONDS:
            self._shown = now
            left = f", {_duration((self._total - done) / rate)} left" if rate else ""
            self._print(f"{self._description}: {done}/{self._total} {self._unit} {text}{left} {note}".rstrip())

    def shown(self, description: str, unit: str) -> Callable[[int, int], None]:
        """A callback (done, total) that shows a task; the task begins at its first call."""
        begun = False

        def show(done: int, total: int) -> None:
            nonlocal begun
            if not begun:
                self.start(description, total, unit)
                begun = True
            self.update(done, total)

        return show

    def tasks(self, unit: str) -> Callable[[str, int, int], None]:
        """A callback (task, done, total) that shows each task under its name."""
        begun: dict[str, Callable[[int, int], None]] = {}

        def show(task: str, done: int, total: int) -> None:
            begun.setdefault(task, self.shown(task, unit))(done, total)

        return show

    def note(self, text: str) -> None:
        """Print a line that stays."""
        if not self.quiet:
            self._print(text)

    def left_out(self, reports: Sequence[Mapping[str, Any]]) -> None:
        """Say which videos failed, and why."""
        for report in reports:
            self.note(f"left out: {report['path']}: {report['reason']}: {report['detail']}")

    def _print(self, text: str) -> None:
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)


def _duration(seconds: float) -> str:
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"
