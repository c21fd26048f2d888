"""What people said of one clustering, said of another one: by the time that their clusters have in common.

After a second training the clusters are others. A name goes to the cluster that holds most of the one that bore it, if
that is at least half of it, and if no other cluster has more of its time there. What people said of single segments
goes to the segments that lie by half or more in those. The rest is kept as conflicts; nothing is dropped.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from seehear.collection.state import Conflict, State
from seehear.collection.stretches import HALF

_NAMED_PIECE = 0.1
"""Pieces of a torn cluster are told of from this share on."""


def carry(old: State, new: State) -> None:
    """Bring names and decisions from one state to another, whose own names and decisions stand."""
    shared = _shared_time(old, new)
    target = _Targets(old, new, shared).carried()
    _carry_decisions(old, new, target)
    new.conflicts += [replace(c, clusters=(), provisional=None, loser=None) for c in old.open_conflicts()]


def _shared_time(old: State, new: State) -> np.ndarray:
    """(clusters of old, clusters of new): milliseconds in common, as segments that are not rejected have them."""
    rows, own, time = new.timeline.overlaps(old.timeline.stretches)
    kept = ~old.rejected[rows]
    shared = np.zeros((len(old.ids), len(new.ids)))
    np.add.at(shared, (old.cluster[rows[kept]], new.cluster[own[kept]]), time[kept])
    return shared


class _Targets:
    """Where the clusters of one state are found in another one."""

    def __init__(self, old: State, new: State, shared: np.ndarray) -> None:
        self.old, self.new, self.shared = old, new, shared
        self.total = shared.sum(axis=1)
        self.target: dict[int, int] = {}

    def carried(self) -> dict[int, int]:
        """For each cluster of the old state that is found, its place in the new one; names are given."""
        claims = [place for place in range(len(self.old.ids)) if self.old.stands(place) and self.total[place]]
        # The largest claim first, so that the best claimant of a cluster has it before the others come.
        claims.sort(key=lambda place: (-float(self.shared[place].max()), place))
        for place in claims:
            self._merge_again(place)
            self._claim(place)
        for place, name in enumerate(self.old.names):
            if name is not None and self.old.stands(place) and not self.total[place] and not self._known(name):
                told = f'"{name}" was the name of segments of which none is here'
                self.new.conflicts.append(Conflict(told, name))
        return self.target

    def _known(self, name: str) -> bool:
        return self.new.of_name(name) is not None

    def _merge_again(self, place: int) -> None:
        """Clusters that lie within one that people had merged are merged as well."""
        if not any(into == place and other != place for other, into in enumerate(self.old.into)):
            return
        column = self.shared.sum(axis=0)
        within = [
            c
            for c in np.flatnonzero(self.shared[place] > HALF * column).tolist()
            if self.new.stands(c) and self.new.names[c] is None and c not in self.target.values()
        ]
        if len(within) > 1:
            within.sort(key=lambda c: -float(self.shared[place, c]))
            self.new.merge(within[1:], within[0])
            self.shared[:, within[0]] += self.shared[:, within[1:]].sum(axis=1)
            self.shared[:, within[1:]] = 0

    def _claim(self, place: int) -> None:
        """Find one cluster, and give it the name."""
        best = int(self.shared[place].argmax())
        share = float(self.shared[place, best] / self.total[place])
        name = self.old.names[place]
        if share < HALF:
            if name is not None:
                self._torn(place, name)
            return
        rival = next((p for p, c in self.target.items() if c == best), None)
        if rival is not None:
            if name is not None:
                self._rivalled(name, best, rival)
            return
        self.target[place] = best
        if name is not None:
            self._give(name, best)

    def _give(self, name: str, best: int) -> None:
        has, holder = self.new.names[best], self.new.of_name(name)
        if holder == best:
            return
        if has is None and holder is None:
            self.new.names[best] = name
            return
        if holder is not None:
            told = f'"{name}" is the name of cluster {self.new.ids[holder]}, and most of what bore it before is in '
            told += f"{self.new.label(best)} now"
            self.new.conflicts.append(Conflict(told, name, loser=self.new.ids[best]))
            return
        told = f'cluster {self.new.ids[best]} is called "{has}", and was called "{name}" before'
        self.new.conflicts.append(Conflict(told, name))

    def _torn(self, place: int, name: str) -> None:
        shares = self.shared[place] / self.total[place]
        pieces = [c for c in np.argsort(-shares, kind="stable").tolist() if shares[c] >= _NAMED_PIECE]
        told = ", ".join(f"{self.new.label(c)} ({shares[c]:.0%})" for c in pieces) or "many small pieces"
        text = f'"{name}" is torn in pieces: most of it is in {told}'
        self.new.conflicts.append(Conflict(text, name, tuple(self.new.ids[c] for c in pieces)))

    def _rivalled(self, name: str, best: int, rival: int) -> None:
        cluster = self.new.ids[best]
        text = f'"{name}" lies in cluster {cluster} now, of which {self.old.label(rival)} has more'
        self.new.conflicts.append(Conflict(text, name, (cluster,)))


def _carry_decisions(old: State, new: State, target: dict[int, int]) -> None:
    """Rejected segments, those that people placed, and what they said segments are not."""
    stretches = old.timeline.stretches
    free = ~new.confirmed & ~new.rejected
    rejected = new.timeline.rows(stretches.take(np.flatnonzero(old.rejected)))
    new.rejected[rejected[free[rejected]]] = True
    placed = old.confirmed & ~old.rejected
    for place in np.unique(old.cluster[placed]).tolist():
        rows = new.timeline.rows(stretches.take(np.flatnonzero(placed & (old.cluster == place))))
        rows = rows[free[rows]]
        if not len(rows):
            continue
        if place not in target:
            made = _home(old, new, place)
            if made is None:
                continue
            target[place] = made
        new.decide(rows, target[place])
        free[rows] = False
    _carry_bars(old, new, target)


def _home(old: State, new: State, place: int) -> int | None:
    """A cluster of its own for the segments that people placed in one that is not found any more, if it has a name."""
    name = old.names[place]
    if name is None:
        return None
    there = new.of_name(name)
    if there is not None:
        return there
    made = new.add(new.new_ids(f"old.{old.ids[place]}", 1, "")[0], name)
    for number, conflict in enumerate(new.conflicts):
        if conflict.name == name and conflict.provisional is None:
            text = f"{conflict.text}; what people placed in it stands in a cluster of its own"
            new.conflicts[number] = replace(conflict, text=text, provisional=new.ids[made])
    return made


def _carry_bars(old: State, new: State, target: dict[int, int]) -> None:
    by_cluster: dict[int, list[int]] = {}
    for row, bars in old.barred.items():
        for place in bars:
            by_cluster.setdefault(old.follow(place), []).append(row)
    for place, barred in by_cluster.items():
        if place in target:
            rows = new.timeline.rows(old.timeline.stretches.take(np.array(sorted(barred))))
            new.bar(_away(new, rows, target[place]), target[place])


def _away(new: State, rows: np.ndarray, place: int) -> np.ndarray:
    """Those of the rows that nobody placed in the cluster since."""
    return rows[~((new.cluster[rows] == place) & new.confirmed[rows])]
