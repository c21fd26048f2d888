"""Several processes of one run: `python -m tests.ranks JOB.json`, by `tests/engine/test_ranks.py`.

It forks before anything has run, so that no process takes the seconds that importing torch does. A job is a list of
groups: so many processes that do some tasks one after the other, in one group of torch.distributed. What each process
came to is written as JSON to OUT.RANK.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow.dataset  # noqa: F401 - as the next, what a run would import later on, in each process anew
import torch
import torch._dynamo
import torch.utils.tensorboard
from torch import Tensor

import seehear.features.model
import seehear.metrics.classification  # noqa: F401
import seehear.pretraining.run as running
from seehear import dist
from seehear.data.loader import ClipLoader
from seehear.engine.trainer import Trainer
from seehear.errors import SeehearError
from seehear.methods.base import Method
from seehear.models.heads import ClusterHeads
from seehear.pretraining.plan import make_config
from tests import faults


def in_one_group(size: int, work: Callable[[int], Any], out: str) -> None:
    """Fork so many processes, let each do `work(rank)` in a group with the others, and wait for all."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    children = []
    for rank in range(size):
        pid = os.fork()
        if pid == 0:
            os.environ |= {
                "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size),
                "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
            }  # fmt: skip
            found: dict[str, Any] = {"code": 1}
            try:
                found = {"code": 0, "found": work(rank)}
            except SeehearError as error:
                found = {"code": error.exit_code, "error": type(error).__name__, "said": str(error)}
            except BaseException:  # noqa: BLE001 - the child must end here, whatever it is
                found["said"] = traceback.format_exc()
            finally:
                Path(f"{out}.{rank}").write_text(json.dumps(found))
                os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)


@contextlib.contextmanager
def in_float64() -> Iterator[None]:
    """Within the block methods are trained in float64, whose rounding is too small to hide a difference or to make one.

    Features that labels are made from are kept in float32 even so.
    """
    begin, to_inputs, seen = Trainer.__init__, ClipLoader.to_inputs, ClusterHeads.inputs

    def double_begin(trainer: Trainer, method: Method, *rest: Any, **options: Any) -> None:
        start = method.start_round

        def start_round(*arguments: Any) -> None:
            start(*arguments)
            method.double()  # new heads, too

        method.start_round = start_round  # type: ignore[method-assign]
        begin(trainer, method.double(), *rest, **options)

    def double(values: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: x.double() if x.is_floating_point() else x for name, x in values.items()}

    def double_inputs(loader: ClipLoader, *arguments: Any) -> Any:
        batch = to_inputs(loader, *arguments)
        batch.inputs |= double(batch.inputs)
        return batch

    with (
        mock.patch.object(Trainer, "__init__", double_begin),
        mock.patch.object(ClipLoader, "to_inputs", double_inputs),
        mock.patch.object(ClusterHeads, "inputs", lambda heads, features: seen(heads, double(features))),
    ):
        yield


def pretrain(task: dict[str, Any]) -> None:
    """A pretraining with a fault, if the task has one for this process."""
    config = make_config(method=task.get("method"), settings=task["settings"])
    source = None if task.get("resume") else task["source"]
    with faults.of(task.get("fault"), int(os.environ["RANK"])):
        running.pretrain(
            source, task["out"], config, resume=bool(task.get("resume")), quiet=True,
            resume_if_there=bool(task.get("resume_if_there")),
        )  # fmt: skip


def main(path: str) -> None:
    gc.freeze()  # what is there stays common to all processes, as the collector does not write to it
    for group in json.loads(Path(path).read_text()):

        def work(rank: int, group: dict[str, Any] = group) -> None:
            torch.set_num_threads(1)
            with in_float64() if group.get("float64") else contextlib.nullcontext():
                if len(group["tasks"]) > 1:  # one group for all, as a person's own program may have it
                    with dist.together():
                        for task in group["tasks"]:
                            pretrain(task)
                else:
                    pretrain(group["tasks"][0])

        in_one_group(group["size"], work, group["out"])


if __name__ == "__main__":
    main(sys.argv[1])
