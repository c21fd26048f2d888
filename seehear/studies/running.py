"""The runs of a study, one after another in this process or several side by side in their own.

A run is what `seehear pretrain` makes of its arm's settings, then scores. One that is there is not made again, one that
was interrupted goes on. One that fails is named, and the others go on.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch

from seehear.engine.stop import StopRequest
from seehear.errors import Interrupted, SeehearError
from seehear.files import write_atomic
from seehear.pretraining import pretrain
from seehear.progress import Progress
from seehear.studies.base import Arm, Question, Study
from seehear.studies.folder import StudyFolder, scored_for

POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Job:
    """One run that has to be made, or scored."""

    arm: Arm
    seed: int

    @property
    def name(self) -> str:
        """What it is called where something is said of it."""
        return f"{self.arm.name}, seed {self.seed}"


@dataclass(frozen=True)
class Failure:
    """A run that could not be made or scored."""

    job: Job
    run: Path
    error: SeehearError

    def as_dict(self) -> dict[str, Any]:
        """What is kept of it."""
        return {
            "row": self.job.arm.name, "seed": self.job.seed, "run": str(self.run), "message": self.error.message,
            "remedy": self.error.remedy, "exit_code": self.error.exit_code,
        }  # fmt: skip


def carry_out(folder: StudyFolder, study: Study, question: Question, job: Job, *, quiet: bool) -> None:
    """Train the run of a job unless it is there, from where it stopped, and score it."""
    arm, run = job.arm, folder.run(job.arm, job.seed)
    config = arm.config(question, job.seed)
    if config.threads:
        torch.set_num_threads(config.threads)  # training sets them, and what is scored later must be the same
    if not run.finished:
        if run.begun:
            pretrain(resume=run.path, quiet=quiet)
        else:
            videos = question.uncurated if arm.uncurated else question.data
            pretrain(videos, run.path, config=config, quiet=quiet)
    scores = study.score(run.path, question, arm)
    kept = {"study": study.name, "row": arm.name, "seed": job.seed, "for": scored_for(arm, question), "scores": scores}
    write_atomic(folder.run_scores(arm, job.seed), json.dumps(kept, indent=1, ensure_ascii=False))


def carry_out_all(
    folder: StudyFolder,
    study: Study,
    question: Question,
    jobs: Sequence[Job],
    *,
    side_by_side: int,
    stop: StopRequest,
    progress: Progress,
    after: Callable[[], None],
) -> list[Failure]:
    """All jobs; those that failed. `after` is called after each.

    Raises `Interrupted` when a signal came: what is under way is saved by then.
    """
    failures: list[Failure] = []
    outcomes = _in_turn if side_by_side == 1 else _side_by_side
    for done, (job, error) in enumerate(outcomes(folder, study, question, jobs, side_by_side, stop, progress), 1):
        if error is not None:
            failures.append(Failure(job, folder.run(job.arm, job.seed).path, error))
            progress.note(f"failed: {job.name}: {error}")
        else:
            progress.note(f"done, {done} of {len(jobs)}: {job.name}")
        after()
    return failures


_Outcomes = Iterator[tuple[Job, SeehearError | None]]


def _in_turn(
    folder: StudyFolder, study: Study, question: Question, jobs: Sequence[Job], _: int, stop: StopRequest,
    progress: Progress,
) -> _Outcomes:  # fmt: skip
    for job in jobs:
        if stop:
            raise _interrupted(f"stopped by {stop.name}")
        progress.note(f"run: {job.name}")
        error: SeehearError | None = None
        try:
            carry_out(folder, study, question, job, quiet=progress.quiet)
        except Interrupted as stopped:
            raise _interrupted(stopped.message) from None
        except SeehearError as failed:
            error = failed
        yield job, error
    if stop and jobs:
        raise _interrupted(f"stopped by {stop.name}")


def _interrupted(how: str) -> Interrupted:
    return Interrupted(
        f"{how}; finished runs and the one under way are kept",
        "run the same command again: it goes on where it stood",
    )


@dataclass(frozen=True)
class _Running:
    """A job in a process of its own, and the file that takes what came of it."""

    job: Job
    process: subprocess.Popen[bytes]
    answer: IO[bytes]

    def outcome(self) -> SeehearError | None:
        """The error that it ended with, if it did."""
        code = self.process.wait()
        self.answer.seek(0)
        text = self.answer.read().decode("utf-8", "replace")
        if code == 0:
            return None
        if not text:
            return SeehearError(f"its process ended with {code}", "what it said stands above")
        said = json.loads(text)
        error = SeehearError(said["message"], said["remedy"])
        error.exit_code = code
        return error


def _side_by_side(
    folder: StudyFolder, study: Study, question: Question, jobs: Sequence[Job], most: int, stop: StopRequest,
    progress: Progress,
) -> _Outcomes:  # fmt: skip
    waiting, running, told = list(reversed(jobs)), list[_Running](), False
    try:
        while running or (waiting and not stop):
            while waiting and len(running) < most and not stop:
                running.append(_start(folder, waiting.pop(), progress))
            if stop and not told:
                told = True
                for one in running:
                    one.process.send_signal(signal.SIGTERM)
            for one in [one for one in running if one.process.poll() is not None]:
                running.remove(one)
                error = one.outcome()
                if not (stop and error is not None):  # one that was told to stop did not fail
                    yield one.job, error
            time.sleep(POLL_SECONDS)
    finally:
        for one in running:
            one.process.terminate()
            one.process.wait()
    if stop and jobs:
        raise _interrupted(f"stopped by {stop.name}")


def _start(folder: StudyFolder, job: Job, progress: Progress) -> _Running:
    progress.note(f"run: {job.name}")
    answer = tempfile.TemporaryFile()  # noqa: SIM115 - it is read when the process has ended
    command = [sys.executable, "-m", "seehear.studies.worker", os.fspath(folder.path), job.arm.name, str(job.seed)]
    # In a session of its own: Ctrl-C reaches this process, which tells it to save and stop.
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=answer, start_new_session=True)
    return _Running(job, process, answer)
