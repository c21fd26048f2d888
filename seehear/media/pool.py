"""Worker processes for work that may hang, crash or eat memory, as decoding strangers' files may.

Each task runs in a child process of its own Python (no fork, so no inherited decoders, threads or locks; it
imports no torch unless the function does) with a deadline and a cap on its address space. A task that
overruns, crashes or raises costs only itself: it ends in an `Outcome` with a `MediaError`, its child is
replaced, and the other tasks go on.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection, Pipe
from typing import Any

from seehear.errors import MediaError, SeehearError, UsageError
from seehear.media import remote

DEFAULT_MEMORY_LIMIT_BYTES = 4 << 30
"""Address space of a child; Python, NumPy and FFmpeg reserve about half a GiB of it."""

_START_SECONDS = 60.0  # for a child to come up, on a machine however busy
_CLOSE_SECONDS = 2.0
_BOOT = (
    "import sys, json; c = json.loads(sys.argv[1]); sys.path[:] = c['path']; "
    "from seehear.media.pool import _child_main; "
    "_child_main(c['fd'], c['parent'], c['memory'], c['streaming'])"
)


def available_cores() -> int:
    """Number of CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True)
class Outcome:
    """What became of one task: `value` is the function's result, or `error` says why there is none."""

    key: Hashable
    value: Any = None
    error: MediaError | None = None


@dataclass(eq=False)
class _Task:
    key: Hashable
    function: Callable[..., Any]
    args: tuple[Any, ...]
    outcome: Outcome | None = None
    fault: BaseException | None = None  # not the file's fault: raised in the caller


@dataclass(eq=False)
class _Worker:
    thread: threading.Thread | None = None
    process: subprocess.Popen[bytes] | None = None
    connection: Connection | None = None
    loaded: Callable[..., Any] | None = None  # the function whose module it has imported
    deadline: float = float("inf")  # of the task it runs, on the monotonic clock
    overran: bool = False


class WorkerPool:
    """Runs picklable functions in child processes, each call with a deadline.

    workers: number of children; 0 runs everything in this process, without deadlines
    timeout_seconds: a task that takes longer is killed and reported with reason `timeout`
    memory_limit_bytes: address space of a child (None: unlimited); a task that needs more is reported

    Functions must be importable by name (not defined in `__main__`). Use it as a context manager, or call
    `close`; either leaves no process behind. Children also die with this process, even if it is killed.
    """

    def __init__(
        self,
        workers: int,
        *,
        timeout_seconds: float,
        memory_limit_bytes: int | None = DEFAULT_MEMORY_LIMIT_BYTES,
    ) -> None:
        if workers < 0 or not timeout_seconds > 0:
            raise UsageError("a pool needs workers >= 0 and a timeout above 0")
        self.workers = workers
        self.timeout_seconds = timeout_seconds
        self.memory_limit_bytes = memory_limit_bytes
        self._changed = threading.Condition()
        self._pending: deque[_Task] = deque()
        self._closed = False
        self._crew = [_Worker() for _ in range(workers)]
        for worker in self._crew:
            # A child gets a signal when the *thread* that started it ends, so its own thread starts it.
            worker.thread = threading.Thread(target=self._serve, args=(worker,), daemon=True)
            worker.thread.start()
        self._watch = threading.Thread(target=self._watch_deadlines, daemon=True) if workers else None
        if self._watch is not None:
            self._watch.start()

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def imap(
        self,
        function: Callable[..., Any],
        items: Iterable[tuple[Hashable, tuple[Any, ...]]],
        *,
        ordered: bool = True,
        ahead: int | None = None,
    ) -> Iterator[Outcome]:
        """Call `function(*args)` for each `(key, args)` and yield an `Outcome` for each.

        `ahead` (default: 2 a worker + 2) bounds how many items are taken from `items` before their outcomes
        are consumed, and so how many results wait in memory. With `ordered=False` outcomes come as they
        are ready.

        A MediaError that the function raises is passed on in the outcome; any other exception becomes a
        MediaError with reason `crashed`, a missing answer one with `timeout` or `crashed`, and a MemoryError
        one with `too_large`. Other SeehearErrors (wrong settings) are raised here: no file is to blame.
        """
        if self._closed:
            raise UsageError("the worker pool is closed")
        source = iter(items)
        if not self.workers:
            for key, args in source:
                yield _call(key, function, args)
            return
        if getattr(function, "__module__", None) == "__main__":
            raise UsageError(
                f"{function} is defined in __main__, where worker processes cannot find it",
                "move it into a module, or use workers=0",
            )
        limit = max(1, 2 * self.workers + 2 if ahead is None else ahead)
        waiting: deque[_Task] = deque()
        exhausted = False
        try:
            while True:
                while not exhausted and len(waiting) < limit:
                    entry = next(source, None)
                    if entry is None:
                        exhausted = True
                        break
                    task = _Task(entry[0], function, entry[1])
                    waiting.append(task)
                    with self._changed:
                        self._pending.append(task)
                        self._changed.notify_all()
                if not waiting:
                    return
                task = self._await(waiting, ordered)
                if task.fault is not None:
                    raise task.fault
                assert task.outcome is not None
                yield task.outcome
        finally:
            with self._changed:  # whoever stops early leaves no work behind
                for task in waiting:
                    if task in self._pending:
                        self._pending.remove(task)

    def close(self) -> None:
        """Stop all children, those with a task too, and wait until they are gone."""
        with self._changed:
            self._closed = True
            self._pending.clear()
            for worker in self._crew:
                if worker.process is not None and worker.deadline < float("inf"):
                    worker.process.kill()
            self._changed.notify_all()
        for worker in self._crew:
            if worker.thread is not None:
                worker.thread.join()
        if self._watch is not None:
            self._watch.join()

    # ------------------------------------------------------------ the caller's side

    def _await(self, waiting: deque[_Task], ordered: bool) -> _Task:
        with self._changed:
            while True:
                for task in itertools.islice(waiting, 1 if ordered else None):
                    if task.outcome is not None or task.fault is not None:
                        waiting.remove(task)
                        return task
                if self._closed:
                    raise UsageError("the worker pool was closed while it was in use")
                self._changed.wait()

    # ------------------------------------------------------------ one thread for each child

    def _serve(self, worker: _Worker) -> None:
        while True:
            with self._changed:
                while not self._pending and not self._closed:
                    self._changed.wait()
                if self._closed:
                    break
                task = self._pending.popleft()
            try:
                outcome, fault = self._run(worker, task), None
            except BaseException as error:  # noqa: BLE001 - handed to the caller, whose thread raises it
                outcome, fault = None, error
            with self._changed:
                task.outcome, task.fault = outcome, fault
                self._changed.notify_all()
        self._stop(worker)

    def _run(self, worker: _Worker, task: _Task) -> Outcome:
        message = pickle.dumps((str(task.key), task.function, task.args), protocol=5)
        if worker.process is None or worker.process.poll() is not None:
            self._start(worker)
        assert worker.connection is not None
        try:
            if worker.loaded is not task.function:  # importing must not count against the task's time
                self._set_deadline(worker, _START_SECONDS)
                worker.connection.send_bytes(pickle.dumps(("", _load, (task.function,)), protocol=5))
                status, value = _receive(worker.connection)
                if status == "value":
                    worker.loaded = task.function
            self._set_deadline(worker, self.timeout_seconds)
            worker.connection.send_bytes(message)
            status, value = _receive(worker.connection)
        except (EOFError, OSError):
            overran = worker.overran
            self._set_idle(worker)
            code = self._stop(worker)
            if overran:
                why = f"took longer than {self.timeout_seconds:g} s and was stopped"
                return Outcome(task.key, error=MediaError(str(task.key), "timeout", why))
            if self._closed:
                raise UsageError("the worker pool was closed while it was in use") from None
            why = f"the process that worked on it {_epitaph(code)}"
            return Outcome(task.key, error=MediaError(str(task.key), "crashed", why))
        self._set_idle(worker)
        if status == "fault":
            raise value
        return Outcome(task.key, value) if status == "value" else Outcome(task.key, error=value)

    def _set_deadline(self, worker: _Worker, seconds: float) -> None:
        with self._changed:
            worker.overran = False
            worker.deadline = time.monotonic() + seconds
            self._changed.notify_all()

    def _set_idle(self, worker: _Worker) -> None:
        with self._changed:
            worker.deadline = float("inf")

    def _start(self, worker: _Worker) -> None:
        self._stop(worker)
        ours, theirs = Pipe(duplex=True)
        config = {
            "path": [os.path.abspath(entry) for entry in sys.path],
            "fd": theirs.fileno(),
            "parent": os.getpid(),
            "memory": self.memory_limit_bytes,
            "streaming": asdict(remote.streaming()),
        }
        environment = os.environ | {
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
        }
        try:
            process = subprocess.Popen(
                [sys.executable, "-c", _BOOT, json.dumps(config)],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env=environment,
                process_group=0,  # Ctrl-C at the terminal is the parent's business
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        with self._changed:
            worker.process, worker.connection, worker.loaded = process, ours, None
        self._set_deadline(worker, _START_SECONDS)
        try:
            _receive(ours)
        except (EOFError, OSError):
            self._set_idle(worker)
            code = self._stop(worker)
            raise SeehearError(f"a worker process did not start: it {_epitaph(code)}") from None

    def _stop(self, worker: _Worker) -> int | None:
        """End a child (closing its pipe asks it to go) and return its exit code."""
        process, connection = worker.process, worker.connection
        if process is None:
            return None
        if connection is not None:
            connection.close()
        try:
            code = process.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        with self._changed:
            worker.process = worker.connection = None
        return code

    # ------------------------------------------------------------ one thread for all deadlines

    def _watch_deadlines(self) -> None:
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                for worker in self._crew:
                    if worker.deadline <= now and worker.process is not None:
                        worker.overran, worker.deadline = True, float("inf")
                        worker.process.kill()  # its thread sees the pipe end
                nearest = min((worker.deadline for worker in self._crew), default=float("inf"))
                self._changed.wait(None if nearest == float("inf") else max(0.01, nearest - now))


def _epitaph(code: int | None) -> str:
    if code is None:
        return "vanished"
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        return f"died of {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return f"ended itself with exit code {code}"


def _load(_function: Callable[..., Any]) -> None:
    """Does nothing: that the function arrived means that its module is imported."""


def _call(key: Hashable, function: Callable[..., Any], args: tuple[Any, ...]) -> Outcome:
    """Call in this process; what is no file's fault is raised."""
    try:
        return Outcome(key, function(*args))
    except MediaError as error:
        return Outcome(key, error=error)
    except SeehearError:
        raise
    except MemoryError:
        why = "needs more memory than a worker may take"
        return Outcome(key, error=MediaError(str(key), "too_large", why))
    except Exception as error:  # noqa: BLE001 - reported as what became of the task
        place = traceback.extract_tb(error.__traceback__)[-1]
        why = f"{type(error).__name__}: {error} ({os.path.basename(place.filename)}:{place.lineno})"
        return Outcome(key, error=MediaError(str(key), "crashed", why))


# ---------------------------------------------------------------- messages


def _send(connection: Connection, message: object) -> None:
    """Send an object; its arrays follow as they lie in memory, without a copy."""
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(message, protocol=5, buffer_callback=buffers.append)
    views = [buffer.raw() for buffer in buffers]
    connection.send_bytes(pickle.dumps([view.nbytes for view in views]))
    connection.send_bytes(head)
    for view in views:
        if view.nbytes:
            connection.send_bytes(view)


def _receive(connection: Connection) -> Any:
    # Only our own child holds the other end of the pipe.
    sizes = pickle.loads(connection.recv_bytes())
    head = connection.recv_bytes()
    buffers = []
    for size in sizes:
        buffer = bytearray(size)  # not bytes: arrays should be writable
        if size:
            connection.recv_bytes_into(buffer)
        buffers.append(buffer)
    return pickle.loads(head, buffers=buffers)


# ---------------------------------------------------------------- the child


def _child_main(descriptor: int, parent: int, memory_limit_bytes: int | None, streaming: dict[str, Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with_parent(parent)
    if memory_limit_bytes is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory_limit_bytes, memory_limit_bytes))
    remote.use(remote.Streaming(**streaming))
    os.dup2(2, 1)  # a stray print must not end up in the output of a command
    connection = Connection(descriptor)
    try:
        _send(connection, ("ready", None))
        while True:
            _answer(connection, connection.recv_bytes())
    except (EOFError, OSError):
        os._exit(0)  # the parent has closed the pipe


def _answer(connection: Connection, message: bytes) -> None:
    try:
        name, function, args = pickle.loads(message)
        outcome = _call(name, function, args)
    except Exception as error:  # noqa: BLE001 - sent to the parent, which raises it
        reply: tuple[str, object] = ("fault", error)
    else:
        reply = ("value", outcome.value) if outcome.error is None else ("error", outcome.error)
    try:
        _send(connection, reply)
    except (EOFError, OSError):
        raise
    except Exception as error:  # noqa: BLE001 - the value or error cannot be pickled
        _send(connection, ("fault", UsageError(f"a worker's answer cannot be sent: {error}")))


def _die_with_parent(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:  # it has gone already
        os._exit(0)
