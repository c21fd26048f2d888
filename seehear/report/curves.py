"""Curves from the lines of metrics.jsonl: which values, over what, in which colour."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from seehear.report.content import NAMES
from seehear.report.figures import Series, thin
from seehear.report.gather import Run, heads, number

Records = Sequence[Mapping[str, Any]]


def series(records: Records, key: str, name: str, tone: str, dashed: bool = False, x: str = "step") -> Series:
    """One value of the records over another; records without it are passed over, as are values that aren't finite."""
    pairs = []
    for index, record in enumerate(records):
        value, place = number(record.get(key)), number(record.get(x))
        if value is not None:
            pairs.append((float(index) if place is None else place, value))
    xs, ys = thin([p[0] for p in pairs], [p[1] for p in pairs])
    return Series(name, xs, ys, tone, dashed)


def by_head(records: Records, prefix: str, dashed: bool = False, suffix: str = "") -> list[Series]:
    """A curve over steps for each name after `prefix/`."""
    names = heads(records, prefix)
    return [series(records, f"{prefix}/{n}", arrows(n) + suffix, tone(n, names), dashed) for n in names]


def arrows(name: str) -> str:
    """A pair of modalities as a person would write it."""
    return name.replace("<-", " ← ").replace("->", " → ")


def tone(name: str, names: Sequence[str]) -> str:
    """Colour by the encoder that learns or asks, as everywhere on the page; by position when that is not unique."""
    learner = _first(name)
    rivals = [n for n in names if _first(n) == learner]
    if learner in NAMES and len(rivals) == 1:
        return f"tone-{learner}"
    return f"tone-{list(names).index(name) % 6}"


def _first(pair: str) -> str:
    return pair.split("<-")[0].split("->")[0]


def round_marks(run: Run) -> list[tuple[float, str]]:
    """The step at which each round starts, with its name."""
    first: dict[float, float] = {}
    for record in [*run.metrics.steps, *run.metrics.rounds]:
        which, step = number(record.get("round")), number(record.get("step"))
        if which is not None and step is not None:
            first[which] = min(step, first.get(which, math.inf))
    return [(step, f"round {which:g}") for which, step in sorted(first.items())]
