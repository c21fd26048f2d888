"""Pictures, sounds and copies, made when a page asks for them: one making each, a few at a time, kept on disk."""

from __future__ import annotations

import hashlib
import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from seehear.errors import MediaError
from seehear.files import remove_leftovers, temporary_beside
from seehear.media.pool import WorkerPool

DEFAULT_CAP_BYTES = 2 << 30
"""By default the cache takes no more of the disk."""

WORKERS = 2
"""Processes that decode and encode for the pages."""

MAKING_SECONDS = 60.0
"""What takes longer is given up."""

_SWEEP_BYTES = 64 << 20  # so much is written before the size of the cache is looked at again
_REMEMBERED_FAILURES = 10_000
_PASSING = {"changed", "missing", "permission", "timeout"}  # failures that may be gone at the next asking

Maker = Callable[..., None]
"""Called as `maker(destination, *arguments)` in a child process, which has no torch; writes the file `destination`."""


class Cache:
    """Files by keys in a folder, the longest unused of which go when there are more than `cap_bytes`."""

    def __init__(self, folder: Path, cap_bytes: int = DEFAULT_CAP_BYTES) -> None:
        self.folder, self.cap_bytes = folder, cap_bytes
        self._written = _SWEEP_BYTES  # look at the first writing
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)

    def path(self, key: str, ending: str) -> Path:
        """Where what `key` names lies, or would."""
        name = hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
        return self.folder / name[:2] / f"{name[2:]}{ending}"

    def find(self, path: Path) -> bool:
        """Whether it is there; if so it counts as used now."""
        try:
            os.utime(path)
        except OSError:
            return False
        return True

    def add(self, path: Path, temporary: Path) -> None:
        """Give a file that was written its name."""
        size = temporary.stat().st_size
        os.replace(temporary, path)
        with self._lock:
            self._written += size
            if self._written < _SWEEP_BYTES:
                return
            self._written = 0
        self.sweep(path)

    def sweep(self, keep: Path | None = None) -> int:
        """Remove what was not used for the longest time until the rest fits; the bytes that are left."""
        found = []
        for path in self.folder.glob("??/*"):
            try:
                status = path.stat()
            except OSError:
                continue
            found.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self.cap_bytes:
                break
            if path != keep and not path.name.startswith("."):
                path.unlink(missing_ok=True)
                total -= size
        return total


class Job:
    """Something being made; who no longer wants it leaves."""

    def __init__(self, key: str, path: Path, maker: Maker, arguments: tuple[Any, ...], order: tuple[int, int]) -> None:
        self.key, self.path, self.maker, self.arguments, self.order = key, path, maker, arguments, order
        self.future: Future[Path] = Future()
        self.waiting = 1


class Workshop:
    """Makes files in child processes with time and memory limits: one making a key, others wait for it.

    What is asked for as `urgent` (a person waits for it) comes first, then the newest: of a long grid that is scrolled
    through, what is on the screen now. What nobody waits for any more is not made.
    """

    def __init__(self, cache: Cache, *, workers: int = WORKERS, timeout_seconds: float = MAKING_SECONDS) -> None:
        self.cache = cache
        self._pool = WorkerPool(workers, timeout_seconds=timeout_seconds)
        self._jobs: dict[str, Job] = {}
        self._queue: list[Job] = []
        self._failures: dict[str, MediaError] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._count = itertools.count()
        self._threads = [threading.Thread(target=self._work, daemon=True, name="workshop") for _ in range(workers)]
        for thread in self._threads:
            thread.start()

    def ask(self, key: str, ending: str, maker: Maker, *arguments: Any, urgent: bool = False) -> Job | Path:
        """The file that `key` names if it is there, or the job that makes it.

        Raises the `MediaError` of an earlier making that failed for good. Whoever gets a job waits for its `future`
        without ever cancelling it, as others may wait too, and calls `leave` in any case.
        """
        path = self.cache.path(key, ending)
        if self.cache.find(path):
            return path
        with self._changed:
            if key in self._failures:
                raise self._failures[key]
            job = self._jobs.get(key)
            if job is None:
                job = Job(key, path, maker, arguments, (int(urgent), next(self._count)))
                self._jobs[key] = job
                self._queue.append(job)
                self._changed.notify()
            else:
                job.waiting += 1
                job.order = (max(job.order[0], int(urgent)), next(self._count))
        return job

    def leave(self, job: Job) -> None:
        """Nobody waits for `job` here any more."""
        with self._changed:
            job.waiting -= 1
            if not job.waiting and job in self._queue:
                self._queue.remove(job)
                self._jobs.pop(job.key, None)
                job.future.cancel()

    def close(self) -> None:
        """Stop all that is being made, and wait until its processes are gone."""
        with self._changed:
            self._closed = True
            for job in self._queue:
                job.future.cancel()
            self._queue.clear()
            self._changed.notify_all()
        self._pool.close()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._queue and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                job = max(self._queue, key=lambda waiting: waiting.order)
                self._queue.remove(job)
                job.future.set_running_or_notify_cancel()  # from here on nobody can cancel it
            try:
                self._make(job)
            except BaseException as error:  # noqa: BLE001 - whoever waits gets it
                with self._changed:
                    self._jobs.pop(job.key, None)
                    if isinstance(error, MediaError) and error.reason not in _PASSING:
                        if len(self._failures) >= _REMEMBERED_FAILURES:
                            self._failures.clear()
                        self._failures[job.key] = error
                job.future.set_exception(error)
            else:
                with self._changed:
                    self._jobs.pop(job.key, None)
                job.future.set_result(job.path)

    def _make(self, job: Job) -> None:
        job.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_beside(job.path)
        try:
            task = (job.path.name, (str(temporary), *job.arguments))
            for outcome in self._pool.imap(job.maker, [task]):
                if outcome.error is not None:
                    raise outcome.error
            self.cache.add(job.path, temporary)
        finally:
            temporary.unlink(missing_ok=True)
