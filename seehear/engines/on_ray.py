"""Tasks on the machines of a Ray cluster.

A worker process opens the work once and does task after task. Ray is told not to try anything again: whether a task
ended for its own fault, which a second try would repeat, or because its machine or process died, is told apart here.
"""

from __future__ import annotations

import os
import pickle
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from seehear.engines import Do, Task, Tell, Work, check_seen
from seehear.errors import SeehearError, UsageError

ATTEMPTS = 4
"""So often a task is begun whose machine or process dies of it, or with it."""
_AHEAD = 2
"""Tasks a slot of the cluster that are handed out: one is done, one waits."""
_HEARTBEAT_SECONDS = 5.0
_PATIENCE_SECONDS = 5.0
"""How long a machine looks for a file before it is said not to see it."""


def run_on_ray(work: Work, tasks: Iterable[Task], total: int, done: int, progress: Tell) -> None:
    """What `seehear.engines.run` does, by Ray."""
    source = iter(tasks)
    waiting: dict[Any, tuple[Task, int]] = {}
    again: deque[tuple[Task, int]] = deque()
    lost: list[Task] = []
    with _cluster() as ray:
        remote = _remote(ray, work)
        shipped = ray.put(pickle.dumps(work))
        progress(done, total)
        while True:
            while len(waiting) < _AHEAD * _slots(ray, work):
                task, attempt = again.popleft() if again else (next(source, None), 1)
                if task is None:
                    break
                waiting[remote.remote(shipped, task.payload, task.seen)] = task, attempt
            if not waiting:
                break
            ready, _ = ray.wait(list(waiting), num_returns=1, timeout=_HEARTBEAT_SECONDS)
            for reference in ready:
                task, attempt = waiting.pop(reference)
                if _ended(ray, reference):
                    done += task.items
                elif attempt < ATTEMPTS:
                    again.append((task, attempt + 1))
                else:
                    lost.append(task)
            progress(done, total)
    if lost:
        names = ", ".join(task.name for task in lost[:5]) + (f" and {len(lost) - 5} more" if len(lost) > 5 else "")
        raise SeehearError(
            f"machines or worker processes died {ATTEMPTS} times at {names}",
            "what else there was is done: give the same command again, with fewer --workers if memory ran out, or "
            "leave the files of these blocks out",
        )


def _ended(ray: Any, reference: Any) -> bool:
    """Whether a task ended; False if its machine or process did. Raises what it raised."""
    try:
        ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, SeehearError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError:  # the machine was lost, the process was killed, memory ran out
        return False
    return True


@contextmanager
def _cluster() -> Iterator[Any]:
    """Ray, connected: as the program is already, or to the cluster of RAY_ADDRESS, or that of this machine."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # or else it warns of a change of its own
    try:
        import ray
    except ImportError as error:
        raise UsageError("--engine ray needs Ray", "pip install 'seehear[ray]' on every machine") from error
    if ray.is_initialized():
        yield ray
        return
    address = os.environ.get("RAY_ADDRESS", "auto")
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError) as error:
        why = str(error).strip().splitlines()[0]
        raise UsageError(
            f"no Ray cluster was found ({why})",
            "start one: `ray start --head` on this machine, `ray start --address=HOST:6379` on the others; or set "
            "RAY_ADDRESS to HOST:6379",
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _remote(ray: Any, work: Work) -> Any:
    options: dict[str, Any] = {"num_cpus": _cpus(work), "max_retries": 0, "scheduling_strategy": "SPREAD"}
    if _on_gpus(ray, work):
        options["num_gpus"] = 1
    return ray.remote(**options)(do_task)


def _cpus(work: Work) -> int:
    return max(1, work.processes)


def _on_gpus(ray: Any, work: Work) -> bool:
    """Whether a worker takes a GPU: where that is said, and by `auto` where the cluster has any."""
    if work.device is None or work.device == "cpu":
        return False
    return work.device != "auto" or ray.cluster_resources().get("GPU", 0) > 0


def _slots(ray: Any, work: Work) -> int:
    """How many tasks the machines that are there now do at once; at least one, as others may come."""
    there = ray.cluster_resources()
    slots = there.get("CPU", 0) / _cpus(work)
    if _on_gpus(ray, work):
        slots = min(slots, there.get("GPU", 0))
    return max(1, int(slots))


# -- in the worker processes ---------------------------------------------------------------------------------------


_open: dict[bytes, tuple[ExitStack, Do]] = {}
"""The work that this process has open, by its pickle: one at most."""


def do_task(shipped: bytes, payload: Any, seen: str) -> None:
    """Do one task in a worker process. Raises `UsageError` if this machine does not see the files."""
    work: Work = pickle.loads(shipped)  # the driver's, whose code this process runs anyway
    for path in (*work.shared, seen):
        check_seen(path, _PATIENCE_SECONDS)
    if shipped not in _open:
        for stack, _ in _open.values():
            stack.close()
        _open.clear()
        stack = ExitStack()
        _open[shipped] = stack, stack.enter_context(work.open(*work.arguments))
    _open[shipped][1](payload, lambda done, of: None)
