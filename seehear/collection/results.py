"""What a collection tells people of: clusters, edits, and how both are made of a state and a log."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from seehear.collection.events import Event
from seehear.collection.learning import joined
from seehear.collection.state import State


@dataclass(frozen=True, eq=False)
class Cluster:
    """Segments that belong together, as they are now."""

    id: str
    name: str | None
    rows: np.ndarray
    """(n,) int64: its segments that are not rejected, the best example first."""
    seconds: float
    """How long they are together."""
    confidence: float
    """Their mean confidence, 0 to 1."""
    confirmed: int
    """How many of them people placed here."""
    doubtful: int = 0
    """How many of them may belong to no kind."""

    @property
    def size(self) -> int:
        """How many segments it has."""
        return len(self.rows)

    @property
    def title(self) -> str:
        """Its name, or "cluster 3"."""
        return f"cluster {self.id}" if self.name is None else self.name


@dataclass(frozen=True)
class Edit:
    """One edit of the log."""

    id: str
    revision: int
    """How many edits there were with it."""
    author: str
    when: str
    """ISO 8601, UTC."""
    kind: str
    text: str
    """A line for people."""
    active: bool
    """False when it was taken back."""


def edit_of(event: Event, revision: int, active: bool) -> Edit:
    """An event as people see it."""
    text = str(event.payload.get("text", event.kind))
    return Edit(event.id, revision, event.author, event.time, event.kind, text, active)


def natural(cluster: str) -> tuple[tuple[int, int | str], ...]:
    """Sorts ids: 2 before 10, and 3.1 after 3."""
    parts = re.findall(r"\d+|[^\d.]+", cluster)
    return tuple((0, int(p)) if p.isdecimal() else (1, p) for p in parts)


class Ordering:
    """The order of a cluster's segments, kept as long as its segments stay the same."""

    def __init__(self, base: np.ndarray, rank: np.ndarray, features: Callable[[np.ndarray], np.ndarray]) -> None:
        self._base, self._rank, self._features = base, rank, features
        self._kept: dict[str, tuple[bytes, np.ndarray]] = {}

    def order(self, cluster: str, rows: np.ndarray) -> np.ndarray:
        """Rows, the best example first.

        That is the order of the clustering while all are of one of its clusters, else that of closeness to their mean.
        """
        content = rows.tobytes()
        kept = self._kept.get(cluster)
        if kept is not None and kept[0] == content:
            return kept[1]
        bases = self._base[rows]
        if not len(rows) or (bases[0] >= 0 and (bases == bases[0]).all()):
            ordered = rows[np.argsort(self._rank[rows], kind="stable")]
        else:
            x = self._features(rows)
            ordered = rows[np.argsort(-(x @ x.mean(axis=0)), kind="stable")]
        self._kept[cluster] = (content, ordered)
        return ordered


def clusters_of(
    state: State, confidence: np.ndarray, doubtful: np.ndarray, seconds: np.ndarray, ordering: Ordering
) -> list[Cluster]:
    """The clusters that people see, in the order of their ids."""
    kept = np.flatnonzero(~state.rejected)
    grouped = kept[np.argsort(state.cluster[kept], kind="stable")]
    ends = np.searchsorted(state.cluster[grouped], np.arange(len(state.ids) + 1))
    found = []
    for place in sorted(state.shown(), key=lambda p: natural(state.ids[p])):
        rows = ordering.order(state.ids[place], grouped[ends[place] : ends[place + 1]])
        found.append(
            Cluster(
                state.ids[place],
                state.names[place],
                rows,
                float(seconds[rows].sum()),
                float(confidence[rows].mean()) if len(rows) else 0.0,
                int(state.confirmed[rows].sum()),
                int(doubtful[rows].sum()),
            )
        )
    return found


def unit_features(space: dict[str, np.ndarray], by: str) -> Callable[[np.ndarray], np.ndarray]:
    """A function from rows to their unit features."""
    return lambda rows: joined(space, by, rows)
