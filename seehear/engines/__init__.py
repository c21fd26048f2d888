"""What does the tasks of some work: this process and those of its pool, or the machines of a Ray cluster.

A task is bounded in size and writes what it comes to itself, as a file (`seehear.parts`): nothing of the size of the
whole travels. An engine knows nothing of what the tasks are about.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from seehear.errors import UsageError

Engine: TypeAlias = Literal["local", "ray"]
Tell: TypeAlias = Callable[[int, int], None]
"""Is told how much of a task is done, of how much."""
Do: TypeAlias = Callable[[Any, Tell], None]
"""Does the task of a payload."""


@dataclass(frozen=True)
class Task:
    """Some of the work."""

    name: str
    """For messages: which block it is, and of what."""
    items: int
    """How much of the total that progress shows it is."""
    payload: Any
    """What it is done from; picklable, and of bounded size."""
    seen: str
    """A file or folder that a machine must see to do it: one that does not would take all files for missing."""


@dataclass(frozen=True)
class Work:
    """How tasks are done, wherever that is."""

    open: Callable[..., AbstractContextManager[Do]]
    """Called once in each process that does tasks: it loads a model, starts decoding processes. Importable by name."""
    arguments: tuple[Any, ...]
    """Its arguments: picklable, small, and equal for equal work."""
    shared: tuple[str, ...]
    """Files and folders that every machine must see: the run, the folder of the results."""
    processes: int
    """Decoding processes of each; 0 decodes in the process itself."""
    device: str | None = None
    """Where its model computes: auto, cpu, cuda or cuda:N; None where there is none."""


def nearest_seen(path: str) -> str:
    """A path, or if there is nothing the nearest folder on the way to it that is there."""
    path = os.path.abspath(path)
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def check_seen(path: str, patience_seconds: float) -> None:
    """Raise `UsageError` if this machine does not see a path, also after so long: network file systems have delays."""
    until = time.monotonic() + patience_seconds
    while not os.path.exists(path):
        if time.monotonic() >= until:
            raise UsageError(
                f"the machine {socket.gethostname()} does not see {path}",
                "all machines need the videos, the run and the place of the result under the same paths: put them on a "
                "file system that all of them mount; if the files are gone everywhere, scan again",
            )
        time.sleep(0.2)


def run(work: Work, tasks: Iterable[Task], engine: Engine, total: int, done: int, progress: Tell) -> None:
    """Do all tasks. `progress` is called with items done and `total`, from `done` on.

    Raises what a task raises, and for Ray `UsageError` if there is no cluster, or a machine does not see the files.
    """
    if engine == "ray":
        from seehear.engines.on_ray import run_on_ray

        run_on_ray(work, tasks, total, done, progress)
        return
    with work.open(*work.arguments) as do:
        progress(done, total)
        for task in tasks:
            check_seen(task.seen, 0.0)
            do(task.payload, within(progress, done, task.items, total))
            done += task.items
            progress(done, total)


def within(progress: Tell, before: int, items: int, total: int) -> Tell:
    """Tells of a task that is `items` of a `total`, of which so many were done `before`, how far it all is."""
    return lambda done, of: progress(before + items * done // max(1, of), total)
