"""Evaluations kept in the run's folder: one file each, whole or not at all, for tables and the report.

`RUN/evaluations/PROTOCOL-DATA-HASH.json`: the hash is of the data's path and the options, so that the same evaluation
replaces itself and another one stands beside it. docs/formats.md has the fields.
"""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import json
import math
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seehear.engine.runfolder import RunFolder, environment
from seehear.errors import RunError
from seehear.files import write_atomic
from seehear.metrics.classification import add_confusions, per_class

FORMAT, VERSION = "seehear-evaluation", 1
FOLDER = "evaluations"
OWN_CLASSES = "run"
"""The name of the data where a run's clusters are compared with the classes in its own manifest."""
_COMMON_NAMES = frozenset(
    {"manifest", "splits", "labels", "annotations", "clips", "data", "metadata", "index", "test", "train"}
)


# What does not change the scores of an evaluation.
_NO_CHOICE = frozenset({"baselines", "device", "workers", "progress", "scan_progress"})
_NAMES = {"paper": "protocol", "window_seconds": "window"}
"""Options of the functions that the command calls something else."""
_DEFAULTS = {"label_column": "label", "split_column": "split", "shots": "1,5,20", "seeds": 10, "degrade": ""}
"""Given or not, they are the same."""


@dataclass(frozen=True)
class Evaluation:
    """One saved evaluation; `record` is the content of its file."""

    path: Path
    record: Mapping[str, Any]

    @property
    def protocol(self) -> str:
        return str(self.record["protocol"])

    @property
    def data(self) -> str:
        """The name of the data set, not its path."""
        return str(self.record["data"]["name"])

    @property
    def result(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.record["result"]
        return found

    @property
    def options(self) -> Mapping[str, Any]:
        """Options of the command by name, those that make no choice and defaults left out."""
        found: Mapping[str, Any] = self.record["options"]
        return found

    def scores(self) -> dict[str, dict[str, dict[str, float]]]:
        """For each modality and metric the `value`, with `low`, `high` and `sd` where there are such.

        Clustering saves bare numbers; its counts are no scores.
        """
        from seehear.metrics.clustering import METRICS

        found: dict[str, dict[str, dict[str, float]]] = {}
        for modality, settings in self.result["scores"].items():
            found[modality] = {
                name: dict(score) if isinstance(score, Mapping) else {"value": score}
                for name, score in settings.items()
                if isinstance(score, Mapping) or name in METRICS
            }
        return found

    def command(self, run: str) -> str:
        """The command that makes this evaluation for another run."""
        alone = {"finetune": "finetune", "fc-only": "finetune", "localization": "localize"}.get(self.protocol)
        words = ["seehear", *([alone] if alone else ["evaluate", self.protocol]), run]
        if self.data != OWN_CLASSES:
            words += ["--labels" if self.protocol == "clustering" else "--data", str(self.record["data"]["path"])]
        for name, value in self.options.items():
            option = f"--{name.replace('_', '-')}"
            for one in value if isinstance(value, list) else [value]:
                words += [option] if one is True else [option, str(one)]
        if alone:
            words += ["--out", f"{run.rstrip('/')}-{'localized' if alone == 'localize' else 'finetuned'}"]
        return shlex.join(words)


def in_words(options: Mapping[str, Any]) -> str:
    """Options as they are read beside a title: "clips 5, pooling max"; "" for none."""
    texts = {k: " ".join(map(str, v)) if isinstance(v, list) else v for k, v in options.items()}
    return ", ".join(f"{k.replace('_', ' ')} {v}".removesuffix(" True") for k, v in texts.items())


def data_name(spec: str | os.PathLike[str]) -> str:
    """What a data set is called: NAME of `NAME:PATH`, else the file's name without its ending.

    A name that says nothing, such as manifest.csv, is that of the folder.
    """
    name, colon, _ = str(spec).partition(":")
    if colon and len(name) > 1 and re.fullmatch(r"[\w-]+", name) and not os.path.exists(spec):
        return name.lower()
    path = Path(os.path.abspath(spec))
    return path.parent.name if path.stem.lower() in _COMMON_NAMES and path.parent.name else path.stem


def save(
    run: str | Path,
    protocol: str,
    result: Mapping[str, Any],
    *,
    data: str | os.PathLike[str] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Path | None:
    """Keep a result, as the protocols return it, in the folder of its run; the path of the file.

    `data` is the table or `NAME:PATH` (None: the run's own classes), `options` are those of the command that were
    given, by name. None, and nothing is kept, where `run` is a bare model or its folder cannot be written.
    """
    folder = RunFolder(Path(run))
    if not folder.config.is_file():
        return None
    config = folder.load_config()
    given = _given(options or {})
    spec = None if data is None else absolute(data)
    choice = json.dumps([spec, given], sort_keys=True)
    digest = hashlib.sha256(choice.encode("utf-8", "surrogateescape")).hexdigest()
    name = OWN_CLASSES if data is None else data_name(data)
    confusions = _confusions(result)
    record = {
        "format": FORMAT,
        "version": VERSION,
        "protocol": protocol,
        "data": {"name": name, "path": spec},
        "options": given,
        "run": {"path": str(folder.path.absolute()), "method": config.method, "recipe": config.recipe,
                "seed": config.seed},
        "date_utc": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "environment": environment() | {"scikit-learn": importlib.metadata.version("scikit-learn")},
        "result": _plain(result),
        "confusion": confusions,
        "per_class": {modality: per_class(matrix) for modality, matrix in confusions.items()},
    }  # fmt: skip
    safe_name = re.sub(r"[^\w.-]+", "_", name)[:60]
    path = folder.path / FOLDER / f"{protocol}-{safe_name}-{digest[:8]}.json"
    try:
        path.parent.mkdir(exist_ok=True)
        write_atomic(path, json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False))
    except OSError:
        return None  # a run on a read-only or full disk can be scored all the same
    return path


def kept(run: str | Path, protocol: str, result: dict[str, Any], **about: Any) -> dict[str, Any]:
    """The result with the place where `save` kept it, if it did."""
    path = save(run, protocol, result, **about)
    return result if path is None else result | {"kept": str(path)}


def load_all(run: str | Path) -> tuple[list[Evaluation], list[Path]]:
    """The evaluations that a run has, in the order of their file names, and the files that hold none.

    Raises `RunError` if there is no such folder.
    """
    root = Path(run)
    if not root.is_dir():
        raise RunError(f"{root} is not a folder", "give the folder that `seehear pretrain` wrote")
    found, damaged = [], []
    for path in sorted((root / FOLDER).glob("*.json")):
        evaluation = _load(path)
        if evaluation is None:
            damaged.append(path)
        else:
            found.append(evaluation)
    return found, damaged


def _load(path: Path) -> Evaluation | None:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if (record["format"], record["version"]) != (FORMAT, VERSION):
            return None
        evaluation = Evaluation(path, record)
        # All that readers rely on, so that they need not ask again.
        _ = evaluation.protocol, evaluation.data, evaluation.options, record["run"]["seed"], record["date_utc"]
        scores = evaluation.scores()
        if not all(isinstance(s["value"], int | float) for of in scores.values() for s in of.values()):
            return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return evaluation


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options by the command's names, without defaults and without what makes no choice."""
    found = {}
    for name, value in options.items():
        if name in _NO_CHOICE or value is None or value is False:
            continue
        if name in ("shots", "degrade") and not isinstance(value, str):
            value = ",".join(map(str, value))
        if isinstance(value, tuple | list) and not value:
            continue
        if name not in _DEFAULTS or value != _DEFAULTS[name]:
            found[_NAMES.get(name, name)] = _plain(value)
    return found


def _confusions(result: Mapping[str, Any]) -> dict[str, Any]:
    """The confusion matrix of each modality; of folds, in which each video is tested once, their sum.

    Official splits test some videos several times, so that a sum would count these more: there each split keeps its own
    in `result.splits`, and there is none of all.
    """
    splits = result.get("splits", {})
    if splits and not all(name.startswith("fold") for name in splits):
        return {}
    parts = [split.get("confusion", {}) for split in splits.values()] or [result.get("confusion", {})]
    shared = [modality for modality in parts[0] if all(modality in part for part in parts)]
    return {modality: add_confusions([part[modality] for part in parts]) for modality in shared}


def absolute(data: str | os.PathLike[str]) -> str:
    """The data's path, whatever folder the command was run in; `NAME:PATH` keeps its name."""
    text = os.fspath(data)
    name, colon, path = text.partition(":")
    if colon and len(name) > 1 and not os.path.exists(text):
        return f"{name}:{os.path.abspath(os.path.expanduser(path))}"
    return os.path.abspath(text)


def _plain(value: Any) -> Any:
    """A value as JSON has it: no arrays, no tuples, no numbers that are not finite (null stands for them)."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, Path):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
