"""Where actions happen in untrimmed videos: annotations of ActivityNet's form and of THUMOS14's.

Which videos belong to which subset is read at once; their segments only when `Annotations.segments` asks for a
subset, so that those of the test subset need not be known before answers are given.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seehear.data.tables import read_text
from seehear.errors import DataError, UsageError

THUMOS_PREFIX = "thumos14:"
AMBIGUOUS = "Ambiguous"
"""THUMOS14's mark for what is hard to judge. No class: such segments are neither learnt nor scored."""
_SUBSETS = (("training", "validation"), ("validation", "test"), ("train", "test"), ("train", "val"))


# THUMOS14's names for the files of a subset: ClassName_val.txt and ClassName_test.txt.
_THUMOS_ENDINGS = {"validation": "_val", "test": "_test"}


@dataclass(frozen=True)
class Segment:
    """A stretch of a video, in seconds, and the class of what happens there."""

    start_seconds: float
    end_seconds: float
    label: str


@dataclass(frozen=True)
class Annotations:
    """The videos of each subset, and a way to read their segments.

    `subsets` maps a subset's name, in lower case, to sorted video names.
    """

    source: str
    subsets: Mapping[str, Sequence[str]]
    _read: Callable[[str], dict[str, list[Segment]]] = field(repr=False)

    def segments(self, subset: str) -> dict[str, list[Segment]]:
        """The segments of each video of a subset, by their starts; [] for a video where nothing happens.

        Segments that end before they begin, and those marked `Ambiguous`, are left out. Raises `DataError` for
        what cannot be read.
        """
        found = self._read(subset)
        return {
            name: sorted(
                (s for s in found.get(name, []) if s.end_seconds > s.start_seconds and s.label != AMBIGUOUS),
                key=lambda s: (s.start_seconds, s.end_seconds, s.label),
            )
            for name in self.subsets[subset]
        }

    def roles(self, train: str | None = None, test: str | None = None) -> tuple[str, str | None]:
        """The subsets to learn from and to be tested on; without a wish, those that the data set's custom says.

        ActivityNet: training and validation (the classes of testing are secret). THUMOS14: validation and test. With
        a single subset there is no test. Raises `UsageError` if it cannot be told or a name is unknown.
        """
        names = [name for name, videos in self.subsets.items() if videos]
        for wish in (train, test):
            if wish is not None and wish.lower() not in names:
                raise UsageError(f"{self.source} has no subset {wish!r}", f"it has: {', '.join(names) or 'none'}")
        if train is not None:
            if test is not None and train.lower() == test.lower():
                raise UsageError("the subset to learn from cannot be the one to be tested on")
            return train.lower(), None if test is None else test.lower()
        if test is not None:
            raise UsageError("the subset to learn from is missing", "name it: --train-subset NAME")
        for pair in _SUBSETS:
            if set(pair) <= set(names):
                return pair
        if len(names) == 1:
            return names[0], None
        known = ", ".join(names) or "none"
        raise UsageError(
            f"which subset of {self.source} is to learn from? It has: {known}", "--train-subset NAME --test-subset NAME"
        )


def read_annotations(source: str | Path) -> Annotations:
    """Annotations of `thumos14:FOLDER`, or of a JSON file in ActivityNet's form.

    The JSON: {"database": {name: {"subset": s, "annotations": [{"segment": [start, end], "label": l}]}}}. The folder:
    ClassName_val.txt and ClassName_test.txt at any depth, with lines `name start end`. Times are in seconds. Raises
    `DataError` for anything else.
    """
    text = str(source)
    if text.startswith(THUMOS_PREFIX):
        return _thumos(Path(text.removeprefix(THUMOS_PREFIX)))
    return _activitynet(Path(text))


def _activitynet(path: Path) -> Annotations:
    form = 'it must hold {"database": {name: {"subset": ..., "annotations": [{"segment": [s, e], "label": ...}]}}}'
    try:
        database = json.loads(read_text(path, form)[0])["database"]
        subsets: dict[str, list[str]] = {}
        for name, entry in database.items():
            subsets.setdefault(str(entry["subset"]).lower(), []).append(name)
    except ValueError as error:
        raise DataError(f"{path} cannot be read as annotations: {error}", form) from error
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is not of ActivityNet's form: {error!r}", form) from error

    def read(subset: str) -> dict[str, list[Segment]]:
        return {name: [_segment(path, name, a) for a in database[name]["annotations"]] for name in subsets[subset]}

    return Annotations(str(path), {s: sorted(names) for s, names in subsets.items()}, read)


def _segment(path: Path, name: str, annotation: Any) -> Segment:
    try:
        start, end = (float(x) for x in annotation["segment"])
        if not math.isfinite(start) or not math.isfinite(end):
            raise ValueError("a time is not finite")
        return Segment(start, end, str(annotation["label"]))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: an annotation of {name} is none: {annotation!r} ({error})",
            'it looks like {"segment": [start, end], "label": ...}',
        ) from error


def _thumos(folder: Path) -> Annotations:
    files = {
        subset: sorted(p for p in folder.rglob(f"*{ending}.txt") if not p.name.startswith(AMBIGUOUS))
        for subset, ending in _THUMOS_ENDINGS.items()
    }
    if not any(files.values()):
        raise DataError(
            f"{folder} holds no annotations of THUMOS14",
            "unpack TH14_Temporal_annotations_validation.zip and the one of the test set there",
        )
    names = {subset: sorted({n for p in paths for n, _ in _lines(p)}) for subset, paths in files.items()}

    def read(subset: str) -> dict[str, list[Segment]]:
        found: dict[str, list[Segment]] = {}
        for path in files[subset]:
            label = path.stem.removesuffix(_THUMOS_ENDINGS[subset])
            for name, times in _lines(path):
                found.setdefault(name, []).append(_segment(path, name, {"segment": times, "label": label}))
        return found

    return Annotations(f"{THUMOS_PREFIX}{folder}", names, read)


def _lines(path: Path) -> list[tuple[str, list[str]]]:
    """The video's name and the rest of every line that is not empty."""
    lines = [line.split() for line in read_text(path, "unpack it again")[0].splitlines()]
    return [(words[0], words[1:]) for words in lines if words]
