"""A study from end to end: the videos, the runs, the table."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from seehear.engine.runfolder import RunFolder
from seehear.engine.stop import StopRequest
from seehear.errors import UsageError
from seehear.files import check_destination, write_atomic, writing
from seehear.progress import Progress, shown
from seehear.studies.base import Question, Study, normal
from seehear.studies.folder import StudyFolder, asked_of, find_videos, merged
from seehear.studies.named import study_of
from seehear.studies.picture import curves_svg
from seehear.studies.running import Failure, Job, carry_out_all
from seehear.studies.table import StudyTable, as_csv, as_data, as_markdown, as_text, make_table


def run_study(
    name: str,
    data: str | Path,
    out: str | Path,
    *,
    recipe: str = "small",
    method: str | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    values: Sequence[str] = (),
    uncurated: str | Path | None = None,
    settings: Sequence[str] = (),
    jobs: int = 1,
    quiet: bool = False,
) -> dict[str, Any]:
    """What `seehear.study` does, with its arguments, result and errors."""
    started = time.monotonic()
    study = study_of(name)
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise UsageError("name each seed once, from 0 on", "--seeds 0 1 2")
    if jobs < 1:
        raise UsageError(f"at least one job at a time, not {jobs}")
    other = None if uncurated is None else str(uncurated)
    asked = asked_of(study, str(data), recipe, method, settings, other)
    folder = StudyFolder(Path(out))
    check_destination(folder.path, folder=True)
    wanted = tuple(dict.fromkeys(map(normal, values or study.values)))
    every = merged(folder.check(asked), wanted)
    stop, progress = StopRequest(), Progress(quiet=quiet)
    with shown(not quiet), stop.listening(), _held(folder.path):
        with Progress(quiet=quiet) as scanning:
            show = stop.shown(scanning, "scan", "files", "run the same command again")
            question = find_videos(folder, study, asked, every, seeds[0], scanning, show)
        names = {arm.name for arm in study.arms(replace(question, values=wanted))}
        arms = [arm for arm in study.arms(question) if arm.name in names]
        for arm in arms:
            arm.config(question, seeds[0])  # what no run could have shows before any is made
        folder.keep(asked, question)
        needed = [Job(arm, seed) for seed in seeds for arm in arms]
        missing = [job for job in needed if folder.scores_of(job.arm, job.seed, question) is None]
        progress.note(f"{study.name}: {len(needed)} runs, {len(needed) - len(missing)} of them done")

        def after() -> None:
            _write(folder, study, question, ())

        failures = carry_out_all(
            folder, study, question, missing, side_by_side=jobs, stop=stop, progress=progress, after=after
        )  # fmt: skip
        table = _write(folder, study, question, failures)
    return {
        "study": study.name,
        "paper": table.source,
        "remark": study.remark,
        "folder": str(folder.path),
        "runs": len(needed),
        "rows": as_data(table),
        "failures": [failure.as_dict() for failure in failures],
        "seconds": time.monotonic() - started,
        "text": as_text(table),
    }


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """The folder, held for this process; what fails before anything is in it leaves none behind."""
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
    try:
        with RunFolder(path).lock():
            yield
    finally:
        with suppress(OSError):  # there is something in it
            path.rmdir()


def _write(folder: StudyFolder, study: Study, question: Question, failures: Sequence[Failure]) -> StudyTable:
    """Table, scores and picture of all that is there."""
    scores = folder.all_scores(study, question)
    lines = study.lines(question, {arm: list(of_arm.values()) for arm, of_arm in scores.items()})
    table = make_table(study, question, lines)
    notes = [f"failed: {f.job.name}: {f.error.message}" for f in failures]
    write_atomic(folder.scores, json.dumps(scores, indent=1, ensure_ascii=False))
    write_atomic(folder.lines, as_csv(table))
    picture = study.picture(question, lines)
    if picture is not None and any(len(curve.points) > 1 for curve in picture.curves):
        write_atomic(folder.picture, curves_svg(picture))
    write_atomic(folder.table, as_markdown(table, notes))
    return table
