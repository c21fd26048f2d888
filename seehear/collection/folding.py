"""From the log to the state of one labelling: which edits are active, and clusterings one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from seehear.collection.carry import carry
from seehear.collection.events import REDO, UNDO, Event
from seehear.collection.log import EditLog
from seehear.collection.state import Conflict, State
from seehear.collection.stretches import Timeline, unpack
from seehear.errors import RunError


@dataclass
class Line:
    """Edits that hold, in order, and those that were taken back and may be made again, the next one last."""

    active: list[Event] = field(default_factory=list)
    undone: list[Event] = field(default_factory=list)


def line_of(events: Sequence[Event]) -> Line:
    """What undoing and redoing leave of the events of one labelling. A new edit ends what could be made again."""
    active: dict[str, Event] = {}
    undone: dict[str, Event] = {}
    back = False
    for event in events:
        if event.kind == UNDO:
            if (taken := active.pop(event.payload["target"], None)) is not None:
                undone[taken.id] = taken
        elif event.kind == REDO:
            if (again := undone.pop(event.payload["target"], None)) is not None:
                active[again.id] = again
                back = True
        else:
            active[event.id] = event
            undone.clear()
    # Machines that edit at once may undo what is not the last: an edit that is made again keeps its place.
    ordered = sorted(active.values(), key=lambda e: e.place) if back else list(active.values())
    return Line(ordered, list(undone.values()))


def adopted(line: Line, by: str) -> dict[str, Any]:
    """Edits of another log as they are copied into an event."""
    kept = [e for e in line.active if e.by == by]
    copies = [
        {"id": e.id, "time": e.time, "author": e.author, "kind": e.kind, "base": e.base, "payload": e.payload}
        for e in kept
    ]
    return {"bases": _in_order(kept), "events": copies}


def _in_order(events: Sequence[Event]) -> list[str]:
    """The clusterings of events, by the last event of each."""
    last = {event.base: number for number, event in enumerate(events)}
    return sorted(last, key=last.__getitem__)


_EVERY_EDITS = 32
_SNAPSHOT_BYTES = 64 << 20


class _Snapshots:
    """States of the past, so that undoing folds no more than a few edits anew: the latest lie closest together."""

    def __init__(self, rows: int) -> None:
        self._most = int(np.clip(_SNAPSHOT_BYTES // (10 * max(1, rows)), 4, 64))
        self._kept: list[tuple[list[Event], State]] = []

    def keep(self, events: list[Event], state: State) -> None:
        """Keep the state that these events make, if enough were added since the last one."""
        last = len(self._kept[-1][0]) if self._kept else 0
        if len(events) < last + _EVERY_EDITS:
            return
        self._kept.append((list(events), state.copied()))
        if len(self._kept) > self._most:
            self._kept = self._kept[: self._most // 2 : 2] + self._kept[self._most // 2 :]

    def before(self, events: list[Event]) -> tuple[int, State] | None:
        """The latest state that these events begin with, as a copy, and how many of them it has; later ones go."""
        while self._kept:
            made_of, state = self._kept[-1]
            if events[: len(made_of)] == made_of:
                return len(made_of), state.copied()
            self._kept.pop()
        return None


class Folded:
    """The state of one labelling, kept as the log grows."""

    def __init__(self, log: EditLog, by: str, base: str, timeline: Timeline, cluster: np.ndarray) -> None:
        self.log, self.by, self.base = log, by, base
        self._timeline, self._cluster = timeline, cluster
        self.line = Line()
        self.state = self._begun()
        self.version = 0
        """Grows whenever the state changes."""
        self._snapshots = _Snapshots(len(timeline))
        self._before: tuple[list[str], State | None] = ([], None)
        self.update()

    def _begun(self) -> State:
        return State(self._timeline, self._cluster, carry=self._adopt)

    def update(self) -> bool:
        """Take in what the log has by now; whether the state has changed."""
        known, line = self.line.active, line_of([e for e in self.log.events if e.by == self.by])
        self.line = line
        added = line.active[len(known) :]
        if line.active[: len(known)] == known and all(e.base == self.base for e in added):
            self._apply(added, len(known))
            self.version += bool(added)
            return bool(added)
        self.version += 1
        if (kept := self._snapshots.before(line.active)) is not None:
            count, self.state = kept
            if all(e.base == self.base for e in line.active[count:]):
                self._apply(line.active[count:], count)
                return True
        self.state = self._begun()
        before = [e for e in line.active if e.base != self.base]
        if before:
            ids = [e.id for e in before]
            if self._before[0] != ids:
                self._before = (ids, self._sequence(before, _in_order(before), self.state.conflicts))
            if self._before[1] is not None:
                carry(self._before[1], self.state)
        last_before = max((i for i, e in enumerate(line.active, 1) if e.base != self.base), default=0)
        for event in line.active[:last_before]:
            if event.base == self.base:
                self.state.apply(event)
        self._apply(line.active[last_before:], last_before)
        return True

    def _apply(self, events: Sequence[Event], number: int) -> None:
        """Carry out edits of this clustering, which come after so many others."""
        for event in events:
            self.state.apply(event)
            number += 1
            if number % _EVERY_EDITS == 0:
                self._snapshots.keep(self.line.active[:number], self.state)

    def _sequence(self, events: Sequence[Event], bases: Sequence[str], conflicts: list[Conflict]) -> State | None:
        """The state that edits of earlier clusterings come to, each carried to the next one."""
        last: State | None = None
        for base in bases:
            state = self._described(base)
            own = [e for e in events if e.base == base]
            if state is None:
                told = ", ".join(str(e.payload.get("text", e.kind)) for e in own[:3])
                conflicts.append(Conflict(f"{len(own)} edits of a labelling that nothing describes any more: {told}"))
                continue
            if last is not None:
                carry(last, state)
            for event in own:
                state.apply(event)
            last = state
        return last

    def _described(self, base: str) -> State | None:
        """A clustering as the log describes it, without any edit."""
        packed = self.log.base(base, self.by)
        if packed is None:
            return None
        try:
            stretches, cluster = unpack(packed)
        except ValueError as error:
            raise RunError(f"{self.log.folder}: a clustering in it cannot be read: {error}") from error
        return State(Timeline(stretches), cluster, carry=self._adopt)

    def _adopt(self, state: State, event: Event) -> None:
        """Carry out an event that brings the edits of another log."""
        copies = [_copied(copy, event) for copy in event.payload["events"]]
        bases: list[str] = list(event.payload["bases"])
        own: list[Event] = []
        if bases and bases[-1] == event.base and not _clash(state, [c for c in copies if c.base == bases[-1]]):
            same = bases.pop()
            own = [c for c in copies if c.base == same]  # of the same clustering: they hold as they are
        before = self._sequence(copies, bases, state.conflicts)
        if before is not None:
            carry(before, state)
        for copy in own:
            state.apply(copy)


def _copied(copy: Mapping[str, Any], event: Event) -> Event:
    return replace(
        event, host=f"{event.id}/{copy['id']}", time=copy["time"], author=copy["author"], kind=copy["kind"],
        base=copy["base"], payload=copy["payload"],
    )  # fmt: skip


def _clash(state: State, events: Sequence[Event]) -> bool:
    """Whether events make clusters of ids that there are already."""
    made = [p["id"] for e in events if e.kind == "split" for p in e.payload["parts"]]
    made += [e.payload["to"] for e in events if e.kind == "move" and "name" in e.payload]
    return bool(set(made) & set(state.ids))
