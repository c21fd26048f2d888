"""What a study is: runs that differ in one thing, their scores, and the table that these make beside the paper's.

A study is a class of one small file; `seehear.studies.named` lists them. It says which runs it needs (`arms`), how one
is scored (`score`), which lines and columns its table has, and which published numbers belong beside which line.
"""

from __future__ import annotations

import hashlib
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seehear.config import Config
from seehear.engine.runfolder import RunFolder
from seehear.errors import UsageError
from seehear.pretraining.plan import make_config
from seehear.transfer import evaluate
from seehear.transfer.table import Published

MODALITIES = ("video", "audio", "both")
Scores = Mapping[str, Any]
"""What `Study.score` returned for one run."""


@dataclass(frozen=True)
class Question:
    """What a study is asked: all but its seeds, of which more may follow."""

    data: Path
    """The manifest of the labelled videos, with the columns label and split (train, test)."""
    classes: int
    """Classes of its training videos."""
    values: tuple[str, ...]
    """What is varied, in the order of the table."""
    recipe: str = "small"
    method: str | None = None
    settings: tuple[str, ...] = ()
    uncurated: Path | None = None
    """The manifest of the videos of `--uncurated`."""


@dataclass(frozen=True)
class Arm:
    """One of the trainings that are compared; each is done with every seed."""

    name: str
    """Its name in the table."""
    method: str | None = None
    settings: tuple[str, ...] = ()
    """Changes of the recipe, before those of the user."""
    value: str | None = None
    """The value of `Question.values` that it stands for; None: it is scored for all of them."""
    uncurated: bool = False
    """It learns from the uncurated videos instead of the training split."""
    baselines: bool = False
    """What needs no training is scored with it."""

    @property
    def folder(self) -> str:
        """Its name on disk."""
        short = re.sub(r"[^\w.+]+", "-", self.name).strip("-")
        if len(short) <= 80:
            return short
        return f"{short[:70]}-{hashlib.sha256(self.name.encode()).hexdigest()[:8]}"

    def config(self, question: Question, seed: int) -> Config:
        """The settings of its run; raises `UsageError` for what there is not or what does not go together."""
        return make_config(
            method=self.method, recipe=question.recipe, seed=seed,
            # One thread, whatever the machine and however many runs go side by side: results do not depend on either.
            settings=("threads=1", *self.settings, *question.settings),
            where=() if self.uncurated else ("split=train",),
        )  # fmt: skip


@dataclass(frozen=True)
class Column:
    """A column of a table: its title, and where in a run's scores its number stands."""

    title: str
    path: tuple[str, ...]


@dataclass(frozen=True)
class Line:
    """A line of a table; `values` holds for each column one number a seed, or none."""

    name: str
    values: tuple[tuple[float, ...], ...]
    seeds: int = 0
    """Runs that it is of; 0 where it is no training's."""
    x: float | None = None
    """Where it lies in the picture's curves."""


@dataclass(frozen=True)
class Curve:
    """A curve of the study's picture: points (x, one number a seed)."""

    name: str
    points: tuple[tuple[float, tuple[float, ...]], ...]


@dataclass(frozen=True)
class Picture:
    """What the study's picture shows."""

    title: str
    x: str
    y: str
    curves: tuple[Curve, ...]
    logarithmic: bool = False
    ticks: tuple[str, ...] = field(default=())


class Study(ABC):
    """One study. Its docstring's first line is what `seehear study` says of it."""

    name: str
    paper: str
    """Where the published numbers are from."""
    remark: str
    """How far the two sides of the table can be compared."""
    rows: str
    """What a line of the table is, for its head."""
    values: tuple[str, ...]
    """What is varied where the user names nothing."""
    about_values: str
    """What these values are, for messages and the documentation."""
    needs_uncurated = False
    varies: tuple[str, ...] = ()
    """Settings that its arms differ in, or that its scores presume."""
    takes_method = True
    """Whether `--method` has a meaning."""

    @property
    def summary(self) -> str:
        """What it asks, in one line."""
        return (type(self).__doc__ or "").partition("\n")[0]

    @abstractmethod
    def arms(self, question: Question) -> list[Arm]:
        """The trainings, in the order of the table."""

    @abstractmethod
    def score(self, run: Path, question: Question, arm: Arm) -> dict[str, Any]:
        """All scores of a finished run, as JSON has them."""

    @abstractmethod
    def columns(self, question: Question) -> list[Column]:
        """The columns of the table."""

    def source(self, question: Question) -> str:
        """Which of the paper's tables this question's is set beside."""
        return self.paper

    def place(self, published: Published, question: Question) -> str | None:
        """The line beside which a published number belongs, or that is added for it; None: not of this study."""
        return None

    def lines(self, question: Question, scores: Mapping[str, Sequence[Scores]]) -> list[Line]:
        """The lines of the table, of the scores of each arm's runs by its name."""
        columns = self.columns(question)
        return [self.line(arm.name, scores[arm.name], columns, arm.value) for arm in self.arms(question)
                if scores.get(arm.name)]  # fmt: skip

    def line(self, name: str, runs: Sequence[Scores], columns: Sequence[Column], value: str | None = None) -> Line:
        """A line of these runs."""
        return Line(name, tuple(numbers(runs, c.path) for c in columns), len(runs), as_number(value))

    def baseline_lines(
        self, question: Question, scores: Mapping[str, Sequence[Scores]], titles: Mapping[str, str]
    ) -> list[Line]:
        """A line for each baseline that was scored with an arm: its scores stand in `baselines` of what they are of."""
        runs = [run for arm in self.arms(question) if arm.baselines for run in scores.get(arm.name, ())]
        found = []
        for group, title in titles.items():
            paths = [baseline_path(c.path, group) for c in self.columns(question)]
            values = tuple(numbers(runs, path) for path in paths)
            if any(values):
                found.append(Line(title, values))
        return found

    def picture(self, question: Question, lines: Sequence[Line]) -> Picture | None:
        """What people would want to see of the table, if it is a curve."""
        return None


def numbers(runs: Iterable[Scores], path: Sequence[str]) -> tuple[float, ...]:
    """What stands at a path in the scores of each run, where it does; of a score with an interval its value."""
    found = []
    for run in runs:
        here: Any = run
        for key in path:
            here = here.get(key) if isinstance(here, Mapping) else None
        if isinstance(here, Mapping):
            here = here.get("value")
        if here is not None:
            found.append(float(here))
    return tuple(found)


def baseline_path(path: Sequence[str], group: str) -> tuple[str, ...]:
    """Where a baseline's number stands that is compared with the one at `path`."""
    return tuple(part for key in path for part in (("baselines", group) if key == "scores" else (key,)))


def by_modality(
    title: str, *path: str, leaf: str | Sequence[str], modalities: Sequence[str] = MODALITIES
) -> list[Column]:
    """A column for each modality: at `path`, then the modality, then `leaf`."""
    leaves = (leaf,) if isinstance(leaf, str) else tuple(leaf)
    return [Column(f"{title}, {modality}", (*path, modality, *leaves)) for modality in modalities]


def evaluated(run: Path, protocol: str = "clustering", **options: Any) -> dict[str, Any]:
    """What a table may need of an evaluation, made where the run was trained: the rest stands in the run's folder."""
    result = evaluate(run, protocol=protocol, device=RunFolder(run).load_config().device, **options)
    names = ("scores", "baselines", "heads", "degraded", "cross_modal", "cross_modal_classes", "videos", "train_videos",
             "test_videos")  # fmt: skip
    return {name: result[name] for name in names if name in result}


def as_number(value: str | None) -> float | None:
    """A value as a number, if it is one."""
    try:
        return None if value is None else float(value)
    except ValueError:
        return None


def normal(value: str) -> str:
    """A value in the one form that it is compared in: numbers without needless zeros."""
    number = as_number(value)
    if number is None or not math.isfinite(number):
        return value
    return str(int(number)) if number == int(number) else str(number)


def positive_numbers(values: Iterable[str], about: str, *, whole: bool = True) -> None:
    """Raise `UsageError` unless all values are numbers above 0."""
    for value in values:
        number = as_number(value)
        if number is None or not 0 < number < float("inf") or (whole and number != int(number)):
            raise UsageError(f"{value!r} is no value of this study", f"give {about} after --values")


def one_of(values: Iterable[str], choices: Iterable[str]) -> None:
    """Raise `UsageError` unless all values are among the choices."""
    known = list(choices)
    for value in values:
        if value not in known:
            raise UsageError(f"{value!r} is no value of this study", f"there are: {', '.join(known)}")
