"""The folder of a study: what was asked, the videos, the runs and their scores."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from seehear.data.datasets import TRAIN, open_data
from seehear.data.manifest import Manifest
from seehear.engine.runfolder import RunFolder
from seehear.errors import DataError, RunError, UsageError
from seehear.files import write_atomic
from seehear.pretraining.run import shortest_usable_seconds
from seehear.progress import Progress
from seehear.studies.base import Arm, Question, Scores, Study, as_number
from seehear.transfer.evaluations import absolute, data_name

_REMEDY = (
    "give a table with the columns path, label and split (train, test), or NAME:PATH of a data set; classes are used "
    "for scoring alone"
)
UNCURATED = "uncurated"


@dataclass(frozen=True)
class Asked:
    """What a study was asked when its folder was made, as its `study.json` has it."""

    study: str
    data: str
    recipe: str
    method: str | None
    settings: tuple[str, ...]
    uncurated: str | None


@dataclass(frozen=True)
class StudyFolder:
    """Where everything of a study lies."""

    path: Path

    @property
    def settings(self) -> Path:
        """What was asked; its presence makes the folder a study."""
        return self.path / "study.json"

    @property
    def scores(self) -> Path:
        return self.path / "scores.json"

    @property
    def table(self) -> Path:
        return self.path / "table.md"

    @property
    def lines(self) -> Path:
        return self.path / "table.csv"

    @property
    def picture(self) -> Path:
        return self.path / "curve.svg"

    @property
    def data(self) -> Path:
        """The folder of the manifests."""
        return self.path / "data"

    def run(self, arm: Arm, seed: int) -> RunFolder:
        """The run of an arm with a seed."""
        return RunFolder(self.path / "runs" / f"{arm.folder}_{seed}")

    def run_scores(self, arm: Arm, seed: int) -> Path:
        """What that run scored."""
        return self.run(arm, seed).path / "study.json"

    def check(self, asked: Asked) -> list[str]:
        """The values that this study was asked for before. Raises `RunError` if the folder holds something else."""
        if not self.settings.exists():
            if self.path.exists() and any(p.name != "run.lock" and p != self.data for p in self.path.iterdir()):
                raise RunError(f"{self.path} is not empty and holds no study", "choose another --out")
            return []
        before = json.loads(self.settings.read_text(encoding="utf-8"))
        now = json.loads(json.dumps(vars(asked)))
        if differing := [name for name, value in now.items() if before.get(name) != value]:
            raise RunError(
                f"{self.path} holds a study with other options: {', '.join(differing)}",
                "give the same options to go on with it, or choose another --out; --values and --seeds may be added to",
            )
        values: list[str] = before["values"]
        return values

    def keep(self, asked: Asked, question: Question) -> None:
        """Write down what is asked, so that the next call goes on with it."""
        about = vars(asked) | {"values": question.values, "classes": question.classes, "manifest": question.data.name}
        write_atomic(self.settings, json.dumps(about, indent=1))

    def question(self) -> tuple[str, Question]:
        """The study's name, and what it is asked, as `keep` wrote it."""
        kept = json.loads(self.settings.read_text(encoding="utf-8"))
        uncurated = None if kept["uncurated"] is None else self.data / f"{UNCURATED}.parquet"
        question = Question(
            self.data / kept["manifest"], kept["classes"], tuple(kept["values"]), kept["recipe"], kept["method"],
            tuple(kept["settings"]), uncurated,
        )  # fmt: skip
        return kept["study"], question

    def scores_of(self, arm: Arm, seed: int, question: Question) -> Scores | None:
        """What a run scored, if it has been scored for all that is asked."""
        path = self.run_scores(arm, seed)
        if not path.exists():
            return None
        kept = json.loads(path.read_text(encoding="utf-8"))
        scores: Scores = kept["scores"]
        return scores if kept["for"] == scored_for(arm, question) else None

    def all_scores(self, study: Study, question: Question) -> dict[str, dict[int, Scores]]:
        """By arm and seed what is there."""
        found: dict[str, dict[int, Scores]] = {}
        for arm in study.arms(question):
            places = (self.path / "runs").glob(f"{_literal(arm.folder)}_*/study.json")
            seeds = sorted(int(p.parent.name.rpartition("_")[2]) for p in places)
            scores = {seed: self.scores_of(arm, seed, question) for seed in seeds}
            found[arm.name] = {seed: of_seed for seed, of_seed in scores.items() if of_seed is not None}
        return found


def scored_for(arm: Arm, question: Question) -> dict[str, Any]:
    """What else but the run its scores depend on: where this changes, it is scored again."""
    return {"values": list(question.values) if arm.value is None else None, "baselines": arm.baselines}


def _literal(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def merged(before: Sequence[str], now: Sequence[str]) -> tuple[str, ...]:
    """All values, each once: numbers in their order, names in that in which they were first asked for."""
    values = list(dict.fromkeys([*before, *now]))
    if all(as_number(value) is not None for value in values):
        values.sort(key=lambda value: as_number(value) or 0.0)
    return tuple(values)


def find_videos(
    folder: StudyFolder,
    study: Study,
    asked: Asked,
    values: Sequence[str],
    seed: int,
    progress: Progress,
    show: Callable[[int, int], None],
) -> Question:
    """Scan the videos once, which `show` shows, or find them as an earlier call left them, and count the classes.

    Raises `UsageError` and `DataError` for data without classes or splits, and for settings that no run could have.
    """
    place = folder.data / f"{data_name(asked.data)}.parquet"
    other = None if asked.uncurated is None else folder.data / f"{UNCURATED}.parquet"
    # Sizes of `curation` are of what is scanned here; settings have to be right before anything is scanned.
    unscanned = Question(place, 2, tuple(values), asked.recipe, asked.method, asked.settings, other)
    shortest = _shortest_seconds(study, unscanned, seed)
    begun = folder.settings.exists()  # what a call left that did not come so far may be of other videos
    if not (begun and place.exists()):
        _labelled(asked.data, shortest, progress, show).save(place)
    if other is not None and not (begun and other.exists()):
        from seehear.data.scanning import scan

        assert asked.uncurated is not None
        scan(
            asked.uncurated, need=("video", "audio"), min_seconds=shortest, progress=show
        ).save(other)  # fmt: skip
    labels = Manifest.load(place).where(f"split={TRAIN}").usable().column("label")
    classes = len({label for label in labels if label})
    if classes < 2:
        raise DataError(f"the training videos of {asked.data} have {classes} classes, and two are needed", _REMEDY)
    return Question(place, classes, tuple(values), asked.recipe, asked.method, asked.settings, other)


def _shortest_seconds(study: Study, question: Question, seed: int) -> float:
    """All runs learn from the same videos: those long enough for each of them."""
    arms = [Arm("sizes", question.method)] if study.needs_uncurated else study.arms(question)
    configs = [arm.config(question, seed) for arm in arms]
    return max(config.data.min_seconds or shortest_usable_seconds(config) for config in configs)


def _labelled(data: str, shortest: float, progress: Progress, show: Callable[[int, int], None]) -> Manifest:
    """The videos of a table or data set with their label, and the first of its splits as the column split."""
    try:
        opened = open_data(data)
    except UsageError as error:
        if "no column" not in error.message:
            raise
        raise UsageError(f"a study needs classes to be scored against: {error.message}", _REMEDY) from None
    if opened.multilabel:
        raise UsageError(f"the videos of {opened.name} have several classes, and studies know one a video", _REMEDY)
    if len(opened.splits) > 1:
        progress.note(f"of the splits of {data} the first is used: {opened.splits[0]}")
    manifest = opened.manifest(
        need=("video", "audio"), min_seconds=shortest, progress=show
    )  # fmt: skip
    progress.note(manifest.summary_text())
    splits = pa.array(manifest.column(opened.splits[0]), pa.string())
    table = manifest.table
    if "split" in table.column_names:
        table = table.drop_columns(["split"])
    return Manifest(table.append_column("split", splits), manifest.info)


def asked_of(
    study: Study, data: str, recipe: str, method: str | None, settings: Sequence[str], uncurated: str | None
) -> Asked:
    """What is asked, with paths as they are from every folder; `UsageError` for what has no meaning."""
    if method is not None and not study.takes_method:
        raise UsageError(f"the study {study.name} chooses its methods", f"--values names {study.about_values}")
    for name in (text.partition("=")[0].strip() for text in settings):
        if name in study.varies or name in ("method", "seed", "data.where"):
            raise UsageError(f"the study {study.name} sets {name} itself", "--values and --seeds say what is varied")
    if study.needs_uncurated and uncurated is None:
        raise UsageError(
            f"the study {study.name} compares with videos that nobody chose",
            "--uncurated VIDEOS: a folder, glob or table; labels are not needed",
        )
    if uncurated is not None and not study.needs_uncurated:
        raise UsageError(f"--uncurated is not of the study {study.name}", "it is of curation")
    other = None if uncurated is None else absolute(uncurated)
    return Asked(study.name, absolute(data), recipe, method, tuple(settings), other)
