"""Health: what would show a collapse, for each round, or each clustering of a method with many a round."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from seehear.report.content import Content
from seehear.report.curves import Records, series, tone
from seehear.report.figures import Chart, Series, plots
from seehear.report.gather import heads, number
from seehear.report.section import Section


def gather(content: Content) -> dict[str, Any] | None:
    """Charts over rounds; None for a run without any."""
    rounds = content.run.metrics.rounds
    times = "clustering" if any("clustering" in record for record in rounds) else "round"
    drawn = plots([*_of_clusters(rounds, times), _of_features(rounds, times), _objective(rounds, times)])
    return {"plots": drawn} if drawn else None


def _of_clusters(rounds: Records, times: str) -> list[Chart]:
    before = f"Agreement with the {times} before"
    return [
        _chart(
            "Evenness of cluster sizes",
            _entries(rounds, times, "entropy"),
            times,
            "entropy ÷ ln k: 1 is all alike, 0 is one cluster",
            1.0,
        ),
        _chart(before, _entries(rounds, times, "churn_nmi"), times, "NMI: rises as the clusters settle", 1.0),
        _chart("Empty clusters", _entries(rounds, times, "empty"), times),
    ]


def _of_features(rounds: Records, times: str) -> Chart:
    names = heads(rounds, "effective_rank")
    curves = [series(rounds, f"effective_rank/{n}", n, tone(n, names), x=times) for n in names]
    note = "how many directions are in use: near 1 is a collapse"
    return _chart("Effective rank of the features", curves, times, note)


def _objective(rounds: Records, times: str) -> Chart:
    curves = _entries(rounds, times, "objective")
    if times == "round":
        return _chart("k-means objective", curves, times, "mean squared distance, within a round's features")
    return _chart("Energy of the labels", curves, times, "mean −log p of the labels, in nats")


def _chart(title: str, curves: list[Series], times: str, note: str = "", top: float | None = None) -> Chart:
    return Chart(title, curves, times, note, from_zero=True, top=top, whole_x=True)


def _entries(rounds: Records, times: str, key: str) -> list[Series]:
    """A value of each labelling's entry in the rounds; entropies as a share of the largest possible."""
    names = heads(rounds, "clusters")
    return [_entry(rounds, times, name, key, tone(name, names)) for name in names]


def _entry(rounds: Records, times: str, name: str, key: str, tone: str) -> Series:
    xs, ys = [], []
    for index, record in enumerate(rounds):
        entry = record.get(f"clusters/{name}")
        value = _value(entry, key) if isinstance(entry, Mapping) else None
        if value is not None:
            place = number(record.get(times))
            xs.append(float(index) if place is None else place)
            ys.append(value)
    return Series(name, xs, ys, tone)


def _value(entry: Mapping[str, Any], key: str) -> float | None:
    value, k = number(entry.get(key)), number(entry.get("k")) or 0
    if key == "entropy" and value is not None:
        return value / math.log(k) if k > 1 else None
    return value


SECTION = Section("health", "Health", gather)
