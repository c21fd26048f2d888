"""What the processes of a run tell each other beside collectives: that they live, what each waits for, why one ended.

A collective waits for all; one that never comes leaves the others waiting. So every process has a thread that notes in
a store which all of them reach, once a second, that the process lives and what it is at. The first one looks at all,
the others at the first. Whatever ends one (an error, a signal, `kill -9`) ends all: they raise the same, from wherever
they are, or are ended if they are stuck. The store is that of `torch.distributed`, which `seehear.dist` hands over;
this module imports no torch, so that signals can be heeded without it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from seehear.errors import Interrupted, ProcessError, SeehearError
from seehear.files import process_lives

BEAT_SECONDS = 1.0
LOST_SECONDS = 30.0
"""A process that has given no sign of life for so long is lost."""
GRACE_SECONDS = 10.0
"""So long a process may take to come to an end by itself, when another has ended; then it is ended."""
_RESUME = "what was saved last is untouched: resume, with as many processes as you like"
_COMMUNICATION = ("gloo", "nccl", "tcpstore", "socket", "connection", "timed out", "timeout")


class Store(Protocol):
    """What is needed of `torch.distributed.Store`."""

    def set(self, key: str, value: str, /) -> None: ...
    def get(self, key: str, /) -> bytes: ...
    def add(self, key: str, amount: int, /) -> int: ...
    def check(self, keys: list[str], /) -> bool: ...


def meet(store: Store, rank: int, size: int, timeout_seconds: float) -> str:
    """Wait until all of `size` processes are here; a name for what they keep in the store, the same for each.

    No earlier meeting in the store had it. torchrun keeps its store when it starts processes anew, with all that those
    before them left there, and its count of restarts may differ between machines. So every process comes with a new
    name, the first one lists those that it finds, and a list counts when each process has found its own name on it.

    Raises `ProcessError` if they do not come in time.
    """
    mine, counted, listed = uuid.uuid4().hex, "", ""
    store.set(f"come/{rank}", mine)
    deadline = time.monotonic() + timeout_seconds
    while True:
        if rank == 0 and all(store.check([f"come/{r}"]) for r in range(size)):
            names = " ".join(store.get(f"come/{r}").decode() for r in range(size))
            if names != listed:
                listed = names
                store.set("list", names)
        names = store.get("list").decode() if store.check(["list"]) else ""
        if len(names.split()) == size and names.split()[rank] == mine:
            meeting = hashlib.sha256(names.encode()).hexdigest()[:16]
            if meeting != counted:
                counted = meeting
                store.add(f"found/{meeting}", 1)
            if store.add(f"found/{meeting}", 0) >= size:
                return meeting
        if time.monotonic() > deadline:
            absent = [r for r in range(size) if not store.check([f"come/{r}"])]
            raise _not_come(rank, timeout_seconds, absent or [r for r in range(size) if r != rank])
        time.sleep(0.02)


def _not_come(rank: int, seconds: float, absent: Sequence[int]) -> ProcessError:
    return ProcessError(
        f"process {rank} waited {seconds:.0f} s for {_processes(absent)} to start",
        "do all machines run the command, and reach MASTER_ADDR and MASTER_PORT?",
    )


class Peers:
    """This process among `size`, and what it knows of the others.

    Args:
        timeout_seconds: how long this process waits for one that lives and does not move.
    """

    def __init__(self, store: Store, rank: int, size: int, timeout_seconds: float) -> None:
        self.store, self.rank, self.size, self.timeout_seconds = store, rank, size, timeout_seconds
        self.doing, self.number, self.waits, self.moves = "start", 0, False, 0
        self.since = time.monotonic()
        self.stop_signal: str | None = None
        """The name of a signal that this process got; the thread tells the others."""
        self.stop_heard = False
        self.trouble: SeehearError | None = None
        """Why the run cannot go on, once it is known that another process has ended or is lost."""
        self._troubled_at, self._grace = 0.0, GRACE_SECONDS
        self._heard = False
        self._barriers = self._beats = 0
        self._seen: dict[int, tuple[str, float]] = {}
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="seehear-peers", daemon=True)

    def start(self) -> None:
        """Wait for all to come, then watch over them. Raises `ProcessError` for those that do not come in time."""
        self._beat()
        deadline = time.monotonic() + self.timeout_seconds
        while absent := [r for r in range(self.size) if not self.store.check([f"beat/{r}"])]:
            if time.monotonic() > deadline:
                raise _not_come(self.rank, self.timeout_seconds, absent)
            time.sleep(0.05)
        self._thread.start()

    # -- what this process is at --------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def waiting(self, name: str) -> Iterator[None]:
        """Say within the block that this process waits for the others in a collective of this name."""
        self.doing, self.number, self.waits, self.since = name, self.number + 1, True, time.monotonic()
        yield
        self.waits = False  # not after an error: that came of waiting

    @property
    def _has_heard(self) -> bool:
        return self.trouble is not None

    def moved(self) -> None:
        """Show that this process gets on; raise what ended another one, if something did."""
        self.moves += 1
        self._raise_trouble()

    def _raise_trouble(self) -> None:
        if self.trouble is not None:
            self._grace = 4 * GRACE_SECONDS  # for what is to be closed on the way out
            raise self.trouble

    def barrier(self, name: str) -> None:
        """Wait until all are here, for as long as those that are not live and move.

        Raises what ended another process, or `ProcessError` for one that has not moved for `timeout_seconds`.
        """
        self._barriers += 1
        key, pause = f"barrier/{self._barriers}", 0.001
        with self.waiting(name):
            with self._store_errors():
                self.store.add(key, 1)
            moved_at: dict[int, tuple[Any, float]] = {}
            looked = time.monotonic()
            while True:
                with self._store_errors():
                    if self.store.add(key, 0) >= self.size:
                        return
                self._raise_trouble()
                time.sleep(pause)
                pause = min(2 * pause, 0.1)
                if time.monotonic() - looked > min(5.0, self.timeout_seconds / 4):
                    looked = time.monotonic()
                    self._check_that_others_move(name, moved_at)

    def _check_that_others_move(self, name: str, moved_at: dict[int, tuple[Any, float]]) -> None:
        now = time.monotonic()
        for rank, state in self._states().items():
            sign = state.get("number"), state.get("moves")
            if rank == self.rank or (state.get("waits") and state.get("doing") == name) or state.get("left"):
                moved_at.pop(rank, None)
            elif rank not in moved_at or moved_at[rank][0] != sign:
                moved_at[rank] = sign, now
            elif now - moved_at[rank][1] > self.timeout_seconds:
                raise self.timed_out(now - self.since)

    # -- what is known of the others ----------------------------------------------------------------------------------

    def _states(self) -> dict[int, dict[str, Any]]:
        with self._store_errors():
            return {r: json.loads(self.store.get(f"beat/{r}")) for r in range(self.size)}

    def timed_out(self, seconds: float) -> ProcessError:
        """The error of having waited so long in the collective at hand: what it was, and where the others are."""
        groups: dict[str, list[int]] = {}
        try:
            states = self._states()
        except ProcessError as error:
            return error
        for rank, state in states.items():
            if rank != self.rank:
                groups.setdefault(self._where(state), []).append(rank)
        told = "; ".join(f"{_processes(ranks)} {where}" for where, ranks in groups.items())
        return ProcessError(
            f'process {self.rank} waited {seconds:.0f} s in "{self.doing}": {told}',
            f"if one was slow and not stuck, raise process_timeout_seconds; {_RESUME}",
        )

    def _where(self, state: dict[str, Any]) -> str:
        if state.get("left"):
            return "had come to the end"
        if not state["waits"]:
            return f'was at work after "{state["doing"]}"'
        return "waited there, too" if state["doing"] == self.doing else f'waited in "{state["doing"]}"'

    def explained(self, error: BaseException) -> BaseException:
        """What is to be raised for an error: where it comes of a lost connection or a time-out, the cause of that."""
        if isinstance(error, SeehearError) or not isinstance(error, RuntimeError):
            return error
        text = str(error).lower()
        self._grace = 4 * GRACE_SECONDS
        if self.trouble is not None:
            return self.trouble
        if not any(word in text for word in _COMMUNICATION):
            return error
        waited = time.monotonic() - self.since
        if ("timed out" in text or "timeout" in text) and waited >= 0.9 * self.timeout_seconds:
            return self.timed_out(waited)
        # A connection ends at once; why it ended is known when the thread has heard of it or missed a sign of life.
        deadline = time.monotonic() + LOST_SECONDS + 5 * BEAT_SECONDS
        while time.monotonic() < deadline and not self._has_heard and self._thread.is_alive():
            time.sleep(0.05)
        return self.trouble or ProcessError(f'process {self.rank} lost the others in "{self.doing}": {error}', _RESUME)

    def report(self, error: BaseException) -> None:
        """Tell the others why this process ends, unless another ended first; the first process waits till they know."""
        if self.trouble is None:
            told, remedy = str(error) or type(error).__name__, None
            if isinstance(error, SeehearError):
                told, remedy = error.message, error.remedy
            elif not isinstance(error, KeyboardInterrupt | SystemExit):
                told = f"{type(error).__name__}: {told}"
            self._end({
                "rank": self.rank, "said": told, "remedy": remedy,
                "stopped": isinstance(error, Interrupted | KeyboardInterrupt),
                "lost": isinstance(error, ProcessError),
            })  # fmt: skip
        self._note_heard()
        with contextlib.suppress(Exception):
            # The store may be the first process's: it must not vanish before all have read of the end.
            deadline = time.monotonic() + 5 * BEAT_SECONDS
            while self.rank == 0 and self.store.add("heard", 0) < self.size and time.monotonic() < deadline:
                time.sleep(0.05)

    def _note_heard(self) -> None:
        if not self._heard:
            self._heard = True
            with contextlib.suppress(Exception):
                self.store.add("heard", 1)

    def _end(self, verdict: dict[str, Any]) -> None:
        """The first verdict counts."""
        with contextlib.suppress(Exception):
            if self.store.add("verdicts", 1) == 1:
                self.store.set("verdict", json.dumps(verdict))

    def leave(self) -> None:
        """Come to the end of the run, together with all others."""
        self.barrier("end")
        self._left.set()
        self._thread.join()
        with contextlib.suppress(Exception):
            self._beat(left=True)
            self.store.add("left", 1)
            deadline = time.monotonic() + GRACE_SECONDS
            # Who reads the count of the barrier must find the store there.
            while self.rank == 0 and self.store.add("left", 0) < self.size and time.monotonic() < deadline:
                time.sleep(0.01)

    @contextlib.contextmanager
    def _store_errors(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise self.trouble or ProcessError(
                f"process {self.rank} does not reach the first process any more: {error}", _RESUME
            ) from None

    # -- the thread ---------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        looked = time.monotonic()
        while not self._left.wait(BEAT_SECONDS):
            now = time.monotonic()
            if now - looked > 5 * BEAT_SECONDS:
                self._seen.clear()  # this machine stood still: nothing is known of the others
            looked = now
            if self.trouble is None:
                try:
                    self._beat()
                    self._hear()
                    self._look(now)
                except Exception as error:  # noqa: BLE001 - the store is gone, and its process with it
                    if not self._left.is_set():
                        self._in_trouble(
                            ProcessError(f"process 0 is lost, or cannot be reached any more: {error}", _RESUME)
                        )
            elif now - self._troubled_at > self._grace:
                # Nothing else gets out of a collective whose others are gone. Files are written whole or not at all.
                print(f"seehear: {self.trouble}", file=sys.stderr, flush=True)
                os._exit(self.trouble.exit_code)

    def _beat(self, *, left: bool = False) -> None:
        self._beats += 1
        state = {
            "beat": self._beats, "doing": self.doing, "number": self.number, "waits": self.waits, "moves": self.moves,
            "pid": os.getpid(), "host": _host(), "left": left,
        }  # fmt: skip
        self.store.set(f"beat/{self.rank}", json.dumps(state))
        if self.stop_signal is not None and not self.stop_heard:
            self.store.set("stop", self.stop_signal)
            self.stop_heard = True

    def _hear(self) -> None:
        """Has one asked to stop, or ended?"""
        if not self.stop_heard and self.store.check(["stop"]):
            self.stop_heard = True
        if self.store.check(["verdict"]):
            verdict = json.loads(self.store.get("verdict"))
            self._note_heard()
            if verdict["rank"] != self.rank:
                self._in_trouble(_error_of(verdict))

    def _look(self, now: float) -> None:
        """Is one lost? The first process asks of all, the others of the first."""
        for rank in range(1, self.size) if self.rank == 0 else (0,):
            beat = self.store.get(f"beat/{rank}").decode()
            state = json.loads(beat)
            if rank not in self._seen or self._seen[rank][0] != beat:
                self._seen[rank] = beat, now
            silent = now - self._seen[rank][1]
            if state["left"] or (silent < LOST_SECONDS and not _is_dead(state)):
                continue
            name = state["doing"]
            place = f'in "{name}"' if state["waits"] else f'after "{name}"'
            cause = "has been killed" if _is_dead(state) else f"has given no sign of life for {silent:.0f} s"
            verdict = {"rank": rank, "said": f"process {rank} {cause}, {place}", "remedy": _RESUME, "lost": True}
            self._end(verdict | {"stopped": False})
            if not self.store.check(["verdict"]):  # another ended first, and is about to say why
                continue
            self._in_trouble(_error_of(json.loads(self.store.get("verdict"))))

    def _in_trouble(self, error: SeehearError) -> None:
        if self.trouble is None:
            self._troubled_at = time.monotonic()
            self.trouble = error


def _error_of(verdict: dict[str, Any]) -> SeehearError:
    """What the others raise when a process has ended."""
    if verdict["stopped"]:
        return Interrupted(verdict["said"], verdict["remedy"])
    said = verdict["said"] if verdict["lost"] else f"process {verdict['rank']} has failed: {verdict['said']}"
    return ProcessError(said, verdict["remedy"])


def _processes(ranks: Sequence[int]) -> str:
    listed = ", ".join(map(str, ranks[:8])) + (f" and {len(ranks) - 8} more" if len(ranks) > 8 else "")
    return f"process {listed}" if len(ranks) == 1 else f"processes {listed}"


def _host() -> str:
    """Names the processes among which a number is one process."""
    try:
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def _is_dead(state: dict[str, Any]) -> bool:
    """Whether a process is known to be: one of this machine that has ended, seen or not yet seen by its parent."""
    if state["host"] != _host():
        return False
    try:
        return Path(f"/proc/{state['pid']}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return not process_lives(int(state["pid"]))


# -- the group that this process is in --------------------------------------------------------------------------------

current: Peers | None = None
"""Set by `seehear.dist` while there is a group."""


def ask_to_stop(signal_name: str) -> None:
    """Let the other processes know of a signal; may be called in its handler."""
    if current is not None and current.stop_signal is None:
        current.stop_signal = signal_name


def stop_asked() -> bool:
    """Whether another process has got a signal; also shows that this one gets on.

    Raises what ended another process, if something did.
    """
    if current is None:
        return False
    current.moved()
    return current.stop_heard
