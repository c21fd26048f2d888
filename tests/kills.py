"""Kill a job again and again: run as `python -m tests.kills JOB.json`, by `tests/engine/test_kills.py`.

It forks before anything has run, so that every child is a new process without the seconds that importing torch takes.
A child counts on being killed: at the first rename to a path at which none was killed before, it ends itself by
SIGKILL instead. The next one goes on as a person would, by the same command, or by --resume where that is refused.
So every file that a job leaves is one at which a process died before it had its name. What each child came to is
printed as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from seehear.errors import RunError, SeehearError
from seehear.pretraining.plan import make_config
from seehear.pretraining.run import pretrain
from seehear.transfer.finetuning import finetune, resume_finetuning

MOST_CHILDREN = 100
RESUMED = "resumed"
"""The key of what --resume came to when all was done."""


def kill_at_new_paths(within: list[str], seen: Path) -> None:
    """From now on a rename to a path that is not listed in the file `seen` is listed there, and ends the process."""
    known = set(seen.read_text().splitlines()) if seen.exists() else set()
    renames = {name: getattr(os, name) for name in ("rename", "replace")}

    def watched(name: str) -> Callable[..., None]:
        def rename(source: Any, target: Any, **options: Any) -> None:
            path = os.fspath(target).replace(f"-{os.getpid()}.tmp", "-N.tmp")  # a child's own number is no new path
            if path not in known and any(path.startswith(folder + os.sep) for folder in within):
                with seen.open("a") as file:
                    file.write(f"{path}\n")
                os.kill(os.getpid(), signal.SIGKILL)
            renames[name](source, target, **options)

        return rename

    for name in renames:
        setattr(os, name, watched(name))


def in_child(work: Callable[[], Any], within: list[str], seen: Path) -> int:
    """Exit code of a new process that does some work, or the negative number of the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            kill_at_new_paths(within, seen)
            work()
            code = 0
        except SeehearError as error:
            print(error, file=sys.stderr)
            code = error.exit_code
        except BaseException:  # noqa: BLE001 - the child must end here, whatever it is
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def pretraining(job: dict[str, Any], out: str) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """A pretraining in the folder `out`: how it starts and how it goes on."""
    config = make_config(method=job["method"], settings=job["settings"])
    return (
        lambda: pretrain(job["source"], out, config, quiet=True),
        lambda: pretrain(None, out, config, resume=True, quiet=True),
    )


def finetuning(job: dict[str, Any], out: str) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """A finetuning in the folder `out`: how it starts and how it goes on."""
    return (
        lambda: finetune(job["run"], job["source"], out, split=job["split"], settings=job["settings"], quiet=True),
        lambda: resume_finetuning(out, quiet=True),
    )


def main(path: str) -> None:
    job = json.loads(Path(path).read_text())
    torch.set_num_threads(1)
    out, seen = job["out"], Path(path).with_name("seen.txt")
    start, resume = {"pretrain": pretraining, "finetune": finetuning}[job["command"]](job, out)
    codes: list[list[int]] = []
    while len(codes) < MOST_CHILDREN and (not codes or codes[-1][-1] == -signal.SIGKILL):
        codes.append([in_child(start, [out, job["run"]], seen)])
        if codes[-1][-1] == RunError.exit_code:
            codes[-1].append(in_child(resume, [out, job["run"]], seen))
    paths = seen.read_text().splitlines()
    print(json.dumps({"codes": codes, "paths": paths, RESUMED: in_child(resume, [out, job["run"]], seen)}))


if __name__ == "__main__":
    main(sys.argv[1])
