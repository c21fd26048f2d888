"""A collection: the segments of a run, in clusters that people name and correct."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from seehear.collection import edits
from seehear.collection.events import REDO, UNDO, Event
from seehear.collection.export import TABLES, Format, Row, exported, frame_rates, rows_of
from seehear.collection.folding import Folded, adopted, line_of
from seehear.collection.learning import Question, examples, margins, probabilities, reduced, varied
from seehear.collection.log import EditLog, this_person
from seehear.collection.results import Cluster, Edit, Ordering, clusters_of, edit_of, unit_features
from seehear.collection.sampling import one_a_video, sampled
from seehear.collection.state import Conflict, State
from seehear.collection.stretches import Timeline, of_segments, pack
from seehear.collection.text import counted
from seehear.engine.runfolder import RunFolder
from seehear.errors import ConflictError, UsageError
from seehear.files import check_destination, write_result
from seehear.search.index import Index

if TYPE_CHECKING:
    from seehear.search.duplicates import Duplicates
    from seehear.search.query import Answer, Searcher

By = Literal["both", "video", "audio"]
Build = Callable[[State], dict[str, Any]]


class Collection:
    """The segments of a run in clusters, by one labelling: "both", or "video" (sight) or "audio" (sound) alone.

    What is changed is written to the log of edits of the run at once, and may be undone. Rows are those of
    `index.segments`. It may be used from several threads.

    Raises:
        RunError: the run has no labels, or its log of edits cannot be read.
        UsageError: there is no such labelling.
    """

    def __init__(
        self, run: str | Path, by: By = "both", author: str | None = None, *, index: Index | None = None
    ) -> None:
        self.run = Path(run)
        self.by = by
        self.index = Index.open_or_make(run) if index is None else index
        self.author = author or this_person()
        self._base = self.index.labels_key(by)
        self._lock = threading.RLock()
        self._log = EditLog(self.run)
        labels = self.index.labels[by]
        timeline = Timeline(of_segments(self.index.segments))
        self._folded = Folded(self._log, by, self._base, timeline, np.asarray(labels.cluster))
        self._features = unit_features(dict(self.index.space), by)
        self._ordering = Ordering(np.asarray(labels.cluster), np.asarray(labels.rank), self._features)
        self._seconds = timeline.milliseconds / 1000
        self._kept: dict[str, tuple[int, Any]] = {}

    # ------------------------------------------------------------ what there is

    @property
    def _state(self) -> State:
        return self._folded.state

    @property
    def revision(self) -> int:
        """How many edits there are, by anyone, undoing among them: it grows with each."""
        return len(self._log.events)

    def refresh(self) -> bool:
        """Read what other processes wrote. Whether there was something."""
        with self._lock:
            before = self.revision
            self._log.refresh()
            return self._folded.update() or self.revision != before

    def _once(self, name: str, make: Callable[[], Any]) -> Any:
        """A value that is made anew only when the state has changed."""
        with self._lock:
            version = self._folded.version
            if name not in self._kept or self._kept[name][0] != version:
                self._kept[name] = (version, make())
            return self._kept[name][1]

    @property
    def clusters(self) -> list[Cluster]:
        """The clusters, in the order of their ids."""
        found: list[Cluster] = self._once(
            "clusters",
            lambda: clusters_of(self._state, self.confidence, self.doubtful, self._seconds, self._ordering),
        )
        return found

    def cluster(self, id_or_name: str | int) -> Cluster:
        """A cluster by id or name. Raises `UsageError` with the likeliest if there is none."""
        with self._lock:
            wanted = self._state.ids[self._state.find(id_or_name)]
            found = next((c for c in self.clusters if c.id == wanted), None)
        if found is None:
            raise UsageError(f"cluster {wanted} has no segment left")
        return found

    @property
    def ids(self) -> list[str]:
        """Ids of clusters, to which `cluster_of` points."""
        with self._lock:
            return list(self._state.ids)

    @property
    def names(self) -> list[str | None]:
        """The name of each of `ids`."""
        with self._lock:
            return list(self._state.names)

    @property
    def cluster_of(self) -> np.ndarray:
        """(N,) int32: for each segment the place of its cluster in `ids`, for rejected ones that of the one before."""
        with self._lock:
            return self._state.cluster.copy()

    @property
    def rejected(self) -> np.ndarray:
        """Rows of the segments that were rejected, ascending."""
        with self._lock:
            return np.flatnonzero(self._state.rejected)

    @property
    def confirmed(self) -> np.ndarray:
        """(N,) bool: segments that a person placed where they are."""
        with self._lock:
            return self._state.confirmed & ~self._state.rejected

    @property
    def confidence(self) -> np.ndarray:
        """(N,) float32, 0 to 1: of the clustering; 1 where a person decided; a probability where it was learnt."""

        def make() -> np.ndarray:
            sure = self._state.sureness
            return np.where(np.isnan(sure), np.asarray(self.index.labels[self.by].confidence), sure).astype(np.float32)

        found: np.ndarray = self._once("confidence", make)
        return found

    @property
    def doubt(self) -> np.ndarray | None:
        """(N,) float32: how much each segment is in doubt of belonging to any kind; 0 where a person decided.

        From `index.doubtful_from` on it is doubtful. NaN where nothing is said of a segment; None where of none.
        """
        if self.index.doubt is None:
            return None
        given = np.asarray(self.index.doubt)

        def make() -> np.ndarray:
            return np.where(self._state.confirmed, np.float32(0), given)

        found: np.ndarray = self._once("doubt", make)
        return found

    @property
    def doubtful(self) -> np.ndarray:
        """(N,) bool: segments that may belong to no kind, that are in a cluster and that no person placed there."""
        with self._lock:
            doubt = self.doubt
            if doubt is None:
                return np.zeros(len(self._state.timeline), dtype=bool)
            return (doubt >= self.index.doubtful_from) & ~self._state.rejected

    @property
    def conflicts(self) -> list[Conflict]:
        """What people said and what could not be carried over without doubt, until it is settled."""
        with self._lock:
            return self._state.open_conflicts()

    # ------------------------------------------------------------ edits

    def _edit(self, kind: str, build: Build) -> Edit:
        """Check an edit against all that was written before it, and write it."""
        with self._lock:
            with self._log.writing(self.author) as writer:
                self._folded.update()
                payload = build(self._state)
                if not self._log.has_base(self._base, self.by, self.index.generation):
                    content = pack(of_segments(self.index.segments), np.asarray(self.index.labels[self.by].cluster))
                    writer.add_base(self._base, self.by, self.index.generation, content)
                event = writer.append(kind, self.by, self._base, payload)
            self._folded.update()
            return self._as_edit(event)

    def _as_edit(self, event: Event) -> Edit:
        place = next(i for i, e in enumerate(reversed(self._log.events)) if e.id == event.id)
        active = event.kind in (UNDO, REDO) or event in self._folded.line.active
        return edit_of(event, self.revision - place, active)

    @property
    def _suffix(self) -> str:
        """What follows the ids of new clusters, so that two machines never make the same."""
        return f"@{self._log.host}" if self._log.several_hosts else ""

    def name(self, cluster: str | int, text: str | None) -> Edit:
        """Name a cluster; None takes its name away. Names are unique, whatever the case of their letters."""
        return self._edit("name", lambda state: edits.naming(state, cluster, text))

    def merge(self, clusters: Sequence[str | int], into: str | int | None = None) -> Edit:
        """Put clusters together into one, which keeps its id and name; by default the largest, named ones first."""
        return self._edit("merge", lambda state: edits.merging(state, clusters, into))

    def split(self, cluster: str | int, parts: int = 2) -> Edit:
        """Part a cluster by clustering its segments anew: 3 becomes 3.1, 3.2 ...

        Its name stays with the part that has most of the segments that people placed there, or else with the largest.
        """
        x = self._reduced  # before others have to wait
        return self._edit("split", lambda state: edits.splitting(state, cluster, parts, x, self._suffix))

    def move(self, rows: Iterable[int], to: str | int | None = None, new: bool = False) -> Edit:
        """Say that segments belong to a cluster; with `new` to a new one, named `to` if that is given."""
        rows = list(rows)
        return self._edit("move", lambda state: edits.moving(state, rows, to, new, self._suffix))

    def reject(self, rows: Iterable[int]) -> Edit:
        """Take segments out of all clusters."""
        rows = list(rows)
        return self._edit("reject", lambda state: edits.rejecting(state, rows, True))

    def restore(self, rows: Iterable[int]) -> Edit:
        """Put rejected segments back where they were."""
        rows = list(rows)
        return self._edit("restore", lambda state: edits.rejecting(state, rows, False))

    def answer(self, row: int, cluster: str | int, yes: bool) -> Edit:
        """Answer "is this segment of this cluster?": yes places it there, no keeps it from there.

        After a no, a segment that was there goes to the likeliest other cluster.
        """
        if not yes and "learnt True" not in self._kept:
            self._learnt(True)  # before others have to wait
        return self._edit("answer", lambda state: edits.answering(state, row, cluster, yes, self._next_best))

    def propagate(self, min_probability: float = 0.9) -> Edit:
        """Learn from names and answers, and move what nobody decided to the named clusters that it is likely of.

        Segments that people placed stay. Raises `UsageError` with fewer than two names, and if nothing would move.
        """

        self._learnt(False)  # before others have to wait

        def build(state: State) -> dict[str, Any]:
            places, p = self._learnt(False)
            if len(places) < 2:
                raise UsageError("there is too little to learn from", "name at least two clusters")
            return edits.propagating(state, places, p, min_probability)

        return self._edit("propagate", build)

    def adopt(self, other: str | Path) -> Edit:
        """Bring the names and decisions of another run over, such as of an earlier training on the same videos."""
        log = EditLog(other)
        copies = adopted(line_of([e for e in log.events if e.by == self.by]), self.by)
        if not copies["events"]:
            raise UsageError(f"nobody has edited {other} by {self.by}", "`seehear edits RUN` lists the edits of a run")

        def build(state: State) -> dict[str, Any]:
            count = counted(len(copies["events"]), "edit")
            return copies | {"text": f"brought {count} over from {Path(other).absolute().name}"}

        with self._lock:
            with self._log.writing(self.author) as writer:
                for base in copies["bases"]:
                    content = log.base(base, self.by)
                    if content is not None and self._log.base(base, self.by) is None:
                        writer.add_base(base, self.by, "adopted", content)
            return self._edit("adopt", build)

    def undo(self, expected: str | None = None) -> Edit:
        """Take the last edit back. Raises `ConflictError` if that is not the one of the id `expected`."""
        return self._turn(UNDO, lambda: self._folded.line.active, "undo", "took back: ", expected)

    def redo(self, expected: str | None = None) -> Edit:
        """Make the edit again that was taken back last. Raises `ConflictError` if that is not the one `expected`."""
        return self._turn(REDO, lambda: self._folded.line.undone, "redo", "made again: ", expected)

    def _turn(self, kind: str, stack: Callable[[], list[Event]], word: str, prefix: str, expected: str | None) -> Edit:
        def build(_: State) -> dict[str, Any]:
            there = stack()
            if not there:
                raise UsageError(f"there is nothing to {word}")
            if expected is not None and there[-1].id != expected:
                told = f"{there[-1].author}: {there[-1].payload.get('text', there[-1].kind)}"
                raise ConflictError(f"somebody edited meanwhile, and {word} would be of that ({told})", "look again")
            return {"target": there[-1].id, "text": f"{prefix}{there[-1].payload.get('text', there[-1].kind)}"}

        return self._edit(kind, build)

    def history(self, limit: int | None = None) -> list[Edit]:
        """Edits by this labelling, the latest first."""
        with self._lock:
            active = {e.id for e in self._folded.line.active}
            found = [
                edit_of(e, number, e.kind in (UNDO, REDO) or e.id in active)
                for number, e in enumerate(self._log.events, 1)
                if e.by == self.by
            ]
        return found[::-1][:limit]

    @property
    def undoable(self) -> Edit | None:
        """The edit that `undo` takes back."""
        with self._lock:
            line = self._folded.line
            return self._as_edit(line.active[-1]) if line.active else None

    @property
    def redoable(self) -> Edit | None:
        """The edit that `redo` makes again."""
        with self._lock:
            line = self._folded.line
            return self._as_edit(line.undone[-1]) if line.undone else None

    # ------------------------------------------------------------ learning

    @functools.cached_property
    def _reduced(self) -> np.ndarray:
        return reduced(dict(self.index.space), self.by)

    def _learnt(self, unnamed: bool) -> tuple[list[int], np.ndarray]:
        """Places of the clusters that were learnt, and the probability of each for each segment (N, clusters).

        `unnamed`: learn all clusters where fewer than two have names. What people said a segment is not has 0. Learning
        takes a while at many segments; meanwhile other threads may read and edit.
        """
        x, key = self._reduced, f"learnt {unnamed}"
        with self._lock:
            version, state, places = self._folded.version, self._state, self._named()
            if key in self._kept and self._kept[key][0] == version:
                kept: tuple[list[int], np.ndarray] = self._kept[key][1]
                return kept
            if len(places) < 2 and unnamed:
                places = [p for p in state.shown() if len(state.members(p))]
            if not places:
                return [], np.zeros((len(state.timeline), 0), dtype=np.float32)
            given = examples(places, state.cluster, state.confirmed, state.rejected, self.confidence)
            barred = {row: {state.follow(b) for b in bars} for row, bars in state.barred.items()}
        p = probabilities(x, given, len(places))
        for row, bars in barred.items():
            p[row, [i for i, place in enumerate(places) if place in bars]] = 0.0
            total = float(p[row].sum())
            p[row] = p[row] / total if total > 0 else p[row]
        self._kept[key] = (version, (places, p))
        return places, p

    def _named(self) -> list[int]:
        """Places of the clusters that have names and segments."""
        return [p for p in self._state.shown() if self._state.names[p] is not None and len(self._state.members(p))]

    def predictions(self) -> tuple[list[str], np.ndarray]:
        """Ids of the named clusters, and what was learnt of them: each segment's probability of each, (N, clusters).

        Where a person decided, that is 1.
        """
        with self._lock:
            places, p = self._learnt(False)
            p = p.copy()
            for column, place in enumerate(places):
                rows = np.flatnonzero(self.confirmed & (self._state.cluster == place))
                p[rows] = 0.0
                p[rows, column] = 1.0
            return [self._state.ids[i] for i in places], p

    def _next_best(self, row: int, place: int) -> tuple[int, float] | None:
        """The likeliest cluster of a segment but one, and its probability.

        By what was learnt last, if of these clusters: to learn from every answer before the next would take too long.
        """
        kept = self._kept.get("learnt True")
        places, p = self._learnt(True) if kept is None else kept[1]
        if kept is not None and not set(self._named()) <= set(places):
            places, p = self._learnt(True)
        state = self._state
        barred = {state.follow(b) for b in state.barred.get(row, ())} | {place}
        left = [(float(p[row, i]), o) for i, o in enumerate(places) if o not in barred and state.stands(o)]
        if not left:
            left = [(0.0, other) for other in state.shown() if other not in barred]
        if not left:
            return None
        best, other = max(left, key=lambda found: (found[0], -found[1]))
        total = sum(probability for probability, _ in left)
        return other, best / total if total > 0 else 0.0

    def review(self, limit: int = 20, cluster: str | int | None = None) -> list[Question]:
        """The segments of which an answer teaches most, the least certain first, and of different videos.

        Never those that people placed or rejected. With `cluster` only those that are in it or likeliest of it. Where
        fewer than two clusters have names, the questions are about all clusters.
        """
        places, p = self._learnt(True)
        if not places:
            return []
        with self._lock:
            state = self._state
            open_ = ~state.confirmed & ~state.rejected & (p.max(axis=1) > 0)
            if cluster is not None:
                place = state.find(cluster)
                open_ &= (state.cluster == place) | (np.array(places)[p.argmax(axis=1)] == place)
            rows = np.flatnonzero(open_)
            order = rows[np.argsort(margins(p[rows]), kind="stable")]
            chosen = varied(order, np.asarray(self.index.segments.video), limit)
            return [self._question(row, places, p[row]) for row in chosen]

    def _question(self, row: int, places: Sequence[int], p: np.ndarray) -> Question:
        order = np.argsort(-p, kind="stable")
        ranked = [(self._state.ids[places[i]], float(p[i])) for i in order.tolist()]
        return Question(row, ranked[0][0], ranked[0][1], ranked[1:6])

    # ------------------------------------------------------------ taking out

    def export(self, format: Format, out: str | Path, *, named: bool = False) -> int:
        """Write the segments to a file; how many. With `named` only those of clusters that have names.

        Tables (csv, parquet, jsonl) have rejected segments too, with a column that says so; other formats do not. Where
        the run says which segments are doubtful there is a column doubt.

        Raises:
            UsageError: there is no such format, or it cannot hold so much.
            DestinationError: the file cannot be written.
        """
        check_destination(out)
        content, count = self.exported(format, named=named)
        write_result(Path(out), content)
        return count

    def exported(self, format: Format, *, named: bool = False) -> tuple[bytes, int]:
        """What `export` writes, and the number of segments."""
        with self._lock:
            state = self._state
            rows = np.arange(len(state.timeline))
            if named:
                has = np.array([n is not None for n in state.names], dtype=bool)
                rows = rows[has[state.cluster] & ~state.rejected]
            found = self._exported_rows(rows)
        content = exported(format, found, frame_rates(RunFolder(self.run).manifest))
        return content, len(found) if format in TABLES else sum(not r.rejected for r in found)

    def _exported_rows(self, rows: np.ndarray) -> list[Row]:
        with self._lock:
            state = self._state
            return rows_of(
                self.index.segments, rows, state.cluster, state.ids, state.names, self.confidence, self.confirmed,
                state.rejected, self.doubt,
            )  # fmt: skip

    def sample(self, n: int, balanced: bool = False, *, seed: int = 0, videos: bool = False) -> np.ndarray:
        """Rows (at most n, ascending) of segments that differ from each other, as many of each cluster if `balanced`.

        With `videos` one segment of each video that is drawn, of the cluster where it has most of its time.
        """
        if n < 1:
            raise UsageError(f"a sample has at least one segment, not {n}")
        with self._lock:
            groups = [c.rows for c in self.clusters]
            if videos:
                groups = one_a_video(groups, np.asarray(self.index.segments.video), self._seconds)
            return sampled(self._reduced, groups, n, seed, balanced)

    def write_sample(self, rows: np.ndarray, out: str | Path | None) -> list[dict[str, Any]]:
        """These segments as an export has them, written to a .csv, .parquet or .jsonl file if one is named."""
        found = self._exported_rows(rows)
        if out is not None:
            write_result(Path(out), exported(Path(out).suffix.removeprefix("."), found, {}))
        return [row.cells() for row in found]

    # ------------------------------------------------------------ finding

    @functools.cached_property
    def searcher(self) -> Searcher:
        """What searches the index."""
        from seehear.search.query import Searcher

        return Searcher(self.index, self.run)

    def search(
        self,
        query: int | str | Path | tuple[str, float, float],
        *,
        cluster: str | int | None = None,
        rejected: bool = False,
        **how: Any,
    ) -> Answer:
        """What is like a segment (its row), a stretch (id of an indexed video, start and end in seconds), or a file.

        `cluster` searches in one cluster alone, `rejected` among rejected segments too; further options are those of
        `seehear.search.query.Searcher.search`, and of a file `start` and `end`.
        """
        if cluster is not None:
            how["rows"] = np.sort(self.cluster(cluster).rows)
        elif not rejected and self._state.rejected.any():
            how["rows"] = np.flatnonzero(~self._state.rejected)
        if isinstance(query, tuple):
            return self.searcher.like_stretch(*query, **how)
        if isinstance(query, int | np.integer):
            return self.searcher.like_segment(int(query), **how)
        return self.searcher.like_file(query, **how)

    def duplicates(self, workers: int | None = None) -> Duplicates:
        """Groups of videos that are copies of each other; every video is looked at once, in `workers` processes."""
        from seehear.data.loader import worker_count
        from seehear.search.duplicates import find_duplicates

        return find_duplicates(self.index, workers=worker_count(workers))
