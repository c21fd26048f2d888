"""What all edits together make of a clustering: a fold of events over arrays, one number a segment."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from seehear.collection.events import Event
from seehear.collection.stretches import Stretches, Timeline
from seehear.errors import UsageError

UNSORTED = "unsorted"
"""The cluster of segments that the clustering left out."""
MAX_NAME = 200


@dataclass(frozen=True)
class Conflict:
    """Something that people said and that cannot be carried over without doubt. It is kept until it is settled."""

    text: str
    name: str | None = None
    """The name that it is about."""
    clusters: tuple[str, ...] = ()
    """Ids of the clusters that come into question. When a person has named all of them, it is settled."""
    provisional: str | None = None
    """Id of a cluster that bears the name for the time being."""
    loser: str | None = None
    """Id of a cluster that did not get the name that it was given. When it has a name, the conflict is settled."""


@dataclass(eq=False)
class State:
    """Clusters of the N segments of a timeline, begun by a clustering and changed by edits.

    A cluster is known by its place in `ids`; those that were merged away keep theirs.
    """

    timeline: Timeline
    base: np.ndarray
    """(N,) int32: the clustering; −1 where it says nothing."""
    ids: list[str] = field(default_factory=list)
    names: list[str | None] = field(default_factory=list)
    into: list[int] = field(default_factory=list)
    """Where a cluster was merged to; its own place while it stands by itself."""
    cluster: np.ndarray = field(init=False)
    """(N,) int32: the place of each segment's cluster."""
    rejected: np.ndarray = field(init=False)
    """(N,) bool"""
    confirmed: np.ndarray = field(init=False)
    """(N,) bool: a person said that the segment belongs where it is."""
    sureness: np.ndarray = field(init=False)
    """(N,) float32: what an edit says of the segment's place: 1 by a person, a probability by propagation; else NaN."""
    barred: dict[int, set[int]] = field(default_factory=dict)
    """For segments of which a person said what they are not: those clusters."""
    conflicts: list[Conflict] = field(default_factory=list)
    named_here: set[int] = field(default_factory=set)
    """Clusters that a person named in this clustering, rather than that their name came from another one."""
    carry: Callable[[State, Event], None] | None = None
    """Carries out events that bring the edits of another log."""
    _place: dict[str, int] = field(default_factory=dict)
    _rows: dict[str, np.ndarray] = field(default_factory=dict)
    _moves: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    _begun: bool = False

    def __post_init__(self) -> None:
        if self._begun:
            return
        count = len(self.timeline)
        known = np.unique(self.base[self.base >= 0])
        places = {int(c): self.add(str(c)) for c in known}
        table = np.zeros(int(known.max(initial=-1)) + 2, dtype=np.int32)
        for c, place in places.items():
            table[c] = place
        if (self.base < 0).any():
            table[-1] = self.add(UNSORTED)
        self.cluster = table[self.base] if count else np.empty(0, np.int32)
        self.rejected = np.zeros(count, dtype=bool)
        self.confirmed = np.zeros(count, dtype=bool)
        self.sureness = np.full(count, np.nan, dtype=np.float32)

    def copied(self) -> State:
        """A state of its own that is as this one is now."""
        other = replace(
            self, ids=list(self.ids), names=list(self.names), into=list(self.into),
            barred={row: set(bars) for row, bars in self.barred.items()}, conflicts=list(self.conflicts),
            named_here=set(self.named_here), _place=dict(self._place), _begun=True,
        )  # fmt: skip
        other.cluster, other.rejected = self.cluster.copy(), self.rejected.copy()
        other.confirmed, other.sureness = self.confirmed.copy(), self.sureness.copy()
        return other

    # ------------------------------------------------------------ clusters

    def add(self, cluster: str, name: str | None = None) -> int:
        """A new cluster without segments; its place."""
        self.ids.append(cluster)
        self.names.append(name)
        self.into.append(len(self.into))
        self._place[cluster] = len(self.ids) - 1
        return len(self.ids) - 1

    def stands(self, place: int) -> bool:
        """Whether a cluster was not merged away."""
        return self.into[place] == place

    def follow(self, place: int) -> int:
        """The cluster in which one has ended up."""
        while self.into[place] != place:
            place = self.into[place]
        return place

    def place(self, cluster: str) -> int:
        """The place of a cluster by its id. One that has no segment here is made, so that its name isn't lost."""
        if cluster not in self._place:
            self.add(cluster)
        return self.follow(self._place[cluster])

    def find(self, cluster: str | int) -> int:
        """The place of a cluster by its id or its name. Raises `UsageError` with the likeliest if there is none."""
        asked = str(cluster).strip()
        if asked in self._place and self.stands(self._place[asked]):
            return self._place[asked]
        if (named := self.of_name(asked)) is not None:
            return named
        if asked in self._place:
            there = self.label(self.follow(self._place[asked]))
            raise UsageError(f"cluster {asked} was merged into {there}", "name that one, or undo the merge")
        known = [n for n, i in zip(self.names, self.into, strict=True) if n] + [
            c for i, c in enumerate(self.ids) if self.stands(i)
        ]
        folded = {n.casefold(): n for n in known}
        close = difflib.get_close_matches(asked.casefold(), folded, n=3, cutoff=0.5)
        likely = f"did you mean {' or '.join(folded[c] for c in close)}?"
        raise UsageError(f"there is no cluster {asked!r}", likely if close else "`seehear clusters RUN` lists them")

    def of_name(self, name: str) -> int | None:
        """The cluster of this name, whatever the case of its letters."""
        wanted = name.casefold()
        for place, given in enumerate(self.names):
            if given is not None and given.casefold() == wanted and self.stands(place):
                return place
        return None

    def label(self, place: int) -> str:
        """A cluster as a person calls it."""
        name = self.names[place]
        return f"cluster {self.ids[place]}" if name is None else f'"{name}"'

    def shown(self) -> list[int]:
        """The clusters that people see: those with segments that are not rejected, and those with a name."""
        sizes = np.bincount(self.cluster[~self.rejected], minlength=len(self.ids))
        return [i for i in range(len(self.ids)) if self.stands(i) and (sizes[i] or self.names[i] is not None)]

    def members(self, place: int) -> np.ndarray:
        """Rows of a cluster that are not rejected, ascending."""
        return np.flatnonzero((self.cluster == place) & ~self.rejected)

    def new_ids(self, stem: str, count: int, suffix: str) -> list[str]:
        """Ids that no cluster has had: STEM.1, STEM.2, ..., with a suffix by which machines never meet."""
        found: list[str] = []
        number = 1
        while len(found) < count:
            made = f"{stem}.{number}{suffix}"
            if made not in self._place:
                found.append(made)
            number += 1
        return found

    # ------------------------------------------------------------ events

    def apply(self, event: Event) -> None:
        """Carry out an edit. What has become impossible, since another machine edited too, is kept as a conflict."""
        handler = getattr(self, f"_{event.kind}", None)
        if handler is None:
            self.conflicts.append(Conflict(f"an edit of a kind that this version does not know: {event.kind}"))
            return
        handler(event)

    def _meant(self, event: Event) -> np.ndarray:
        """Rows of the segments that an event names."""
        if event.id not in self._rows:
            self._rows[event.id] = self.timeline.rows(Stretches.from_json(event.payload["segments"]))
        return self._rows[event.id]

    def _name(self, event: Event) -> None:
        self._set_name(self.place(event.payload["cluster"]), event.payload["name"], event.author)

    def _set_name(self, place: int, name: str | None, author: str) -> None:
        """Name a cluster, unless another one has that name: then it is a conflict."""
        other = None if name is None else self.of_name(name)
        if other is not None and other != place:
            mine, theirs = self.ids[place], self.ids[other]
            told = f'{author} named cluster {mine} "{name}", as cluster {theirs} is already: merge them, or choose'
            self.conflicts.append(Conflict(told, name, loser=mine))
            return
        self.names[place] = name
        self.named_here.add(place)

    def _merge(self, event: Event) -> None:
        self.merge([self.place(c) for c in event.payload["clusters"]], self.place(event.payload["into"]))

    def merge(self, places: Sequence[int], target: int) -> None:
        """Put clusters into another one, which keeps its name, or else takes the first that one of them has."""
        for place in places:
            if place == target or not self.stands(place):
                continue
            self.cluster[self.cluster == place] = target
            self.into[place] = target
            self.names[target] = self.names[target] or self.names[place]
            self.names[place] = None
            if place in self.named_here:
                self.named_here.add(target)
        for row, bars in list(self.barred.items()):
            self.barred[row] = {self.follow(b) for b in bars} - {int(self.cluster[row])}

    def _split(self, event: Event) -> None:
        place = self.place(event.payload["cluster"])
        parts = [Stretches.from_json(p["segments"]) for p in event.payload["parts"]]
        places = [self._made(p["id"], event) for p in event.payload["parts"]]
        rows, which = self.timeline.best(parts)
        inside = self.cluster[rows] == place
        self.cluster[rows[inside]] = np.array(places, dtype=np.int32)[which[inside]]
        keeper = places[event.payload["named"]]
        self.names[keeper], self.names[place] = self.names[place], None
        if place in self.named_here:
            self.named_here.add(keeper)

    def _made(self, cluster: str, event: Event) -> int:
        """A new cluster of an event. Machines that never saw each other's files may have chosen the same id."""
        if cluster in self._place:
            cluster = self.new_ids(f"{cluster}~{event.host}", 1, "")[0]
        return self.add(cluster)

    def _move(self, event: Event) -> None:
        rows = self._meant(event)
        if "name" in event.payload:
            target = self._made(event.payload["to"], event)
            self._set_name(target, event.payload["name"], event.author)
        else:
            target = self.place(event.payload["to"])
        self.decide(rows, target)

    def decide(self, rows: np.ndarray, target: int) -> None:
        """A person says that these segments belong to a cluster."""
        self.cluster[rows] = target
        self.confirmed[rows] = True
        self.rejected[rows] = False
        self.sureness[rows] = 1.0
        for row in rows.tolist() if self.barred else ():
            self.barred.get(row, set()).discard(target)

    def _reject(self, event: Event) -> None:
        self.rejected[self._meant(event)] = True

    def _restore(self, event: Event) -> None:
        self.rejected[self._meant(event)] = False

    def _answer(self, event: Event) -> None:
        rows, asked = self._meant(event), self.place(event.payload["cluster"])
        if event.payload["yes"]:
            self.decide(rows, asked)
            return
        self.bar(rows, asked)
        inside = rows[self.cluster[rows] == asked]
        if event.payload["to"] is not None:
            self.cluster[inside] = self.place(event.payload["to"])
            self.sureness[inside] = event.payload["probability"]
        self.confirmed[inside] = False

    def bar(self, rows: np.ndarray, place: int) -> None:
        """A person says that these segments do not belong to a cluster."""
        for row in rows.tolist():
            self.barred.setdefault(row, set()).add(place)

    def _propagate(self, event: Event) -> None:
        for number, move in enumerate(event.payload["moves"]):
            rows, sure = self._moved(f"{event.id}/{number}", move)
            target = self.place(move["to"])
            free = ~self.confirmed[rows] & ~self.rejected[rows]
            if self.barred:
                free &= np.array([target not in self.barred.get(r, ()) for r in rows.tolist()], dtype=bool)
            self.cluster[rows[free]] = target
            self.sureness[rows[free]] = sure[free]

    def _moved(self, key: str, move: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """Rows that a propagation moves, and their probabilities."""
        if key not in self._moves:
            values = np.array(move["probability"], dtype=np.float64)
            self._moves[key] = self.timeline.rows_with(Stretches.from_json(move["segments"]), values)
        return self._moves[key]

    def _adopt(self, event: Event) -> None:
        assert self.carry is not None
        self.carry(self, event)

    # ------------------------------------------------------------ results

    def open_conflicts(self) -> list[Conflict]:
        """Conflicts that nobody has settled, each once."""
        return list(dict.fromkeys(c for c in self.conflicts if not self._settled(c)))

    def _settled(self, conflict: Conflict) -> bool:
        if conflict.loser is not None:
            return self.names[self.place(conflict.loser)] is not None
        if conflict.name is None:
            return False
        holder = self.of_name(conflict.name)
        if conflict.provisional is not None:
            made = self._place[conflict.provisional]
            if not self.stands(made) or made in self.named_here:
                return True
            holder = None if holder == made else holder
        contested = [self.place(c) for c in conflict.clusters]
        return holder is not None or (bool(contested) and all(c in self.named_here for c in contested))


def checked_name(text: str | None) -> str | None:
    """A name without the spaces around it; None and "" take a name away. Raises `UsageError` for what is no name."""
    if text is None:
        return None
    name = unicodedata.normalize("NFC", text).strip()
    if not name:
        return None
    if len(name) > MAX_NAME:
        raise UsageError(f"a name has at most {MAX_NAME} characters, not {len(name)}")
    # Cc: control, Cs: halves of characters, Zl and Zp: ends of lines. Bidi overrides could disguise other text.
    if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") or c in "\u202a\u202b\u202c\u202d\u202e" for c in name):
        raise UsageError("a name has no control characters and no ends of lines")
    return name
