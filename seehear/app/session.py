"""What the server holds of a run while it runs: its index, the collection by each labelling, what is made of media."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seehear.app.makers import Stretch
from seehear.app.media import MediaFiles
from seehear.app.workshop import DEFAULT_CAP_BYTES, Cache, Workshop
from seehear.collection.collection import Collection
from seehear.errors import SeehearError, UsageError
from seehear.files import user_cache_folder
from seehear.search.index import Index
from seehear.search.layout import current_generation, index_folder

LABELLINGS = ("both", "video", "audio")
SHORTEST_SECONDS = 0.1


class StaleError(SeehearError):
    """A request speaks of rows of an index that there is no longer."""

    exit_code = 4


class NotFoundError(SeehearError):
    """There is no such row, video, cluster or page."""

    exit_code = 2


class ReadOnlyError(SeehearError):
    """The run folder cannot be written to, so nothing can be kept."""

    exit_code = 2


@dataclass(frozen=True)
class View:
    """A collection at one revision, row by row."""

    collection: Collection
    revision: int
    clusters: Sequence[Any]
    place: np.ndarray
    """(N,) int32: each segment's cluster by its place in `clusters`; -1 for none."""
    order: np.ndarray
    """(N,) int32: place among the examples of its cluster, the best 0."""
    rejected: np.ndarray
    """(N,) bool"""
    confirmed: np.ndarray
    """(N,) bool"""
    confidence: np.ndarray
    """(N,) float32 in 0..1"""
    doubt: np.ndarray | None
    """(N,) float32, NaN where nothing is said of a segment; None: of none."""
    doubtful: np.ndarray
    """(N,) bool"""

    @classmethod
    def of(cls, collection: Collection) -> View:
        count = len(collection.index.segments)
        place, order = np.full(count, -1, np.int32), np.zeros(count, np.int32)
        clusters = list(collection.clusters)
        for number, cluster in enumerate(clusters):
            place[cluster.rows] = number
            order[cluster.rows] = np.arange(len(cluster.rows))
        rejected = np.zeros(count, bool)
        rejected[collection.rejected] = True
        confidence = np.nan_to_num(collection.confidence, nan=0.0)
        confirmed = np.asarray(collection.confirmed, bool)
        return cls(
            collection, collection.revision, clusters, place, order, rejected, confirmed, confidence, collection.doubt,
            collection.doubtful,
        )  # fmt: skip

    def cluster_at(self, row: int) -> Any | None:
        """The cluster of a segment."""
        place = int(self.place[row])
        return None if place < 0 else self.clusters[place]


class Session:
    """A run, open for the pages. `lock` guards the collections: hold it while one is read or edited.

    by: the labelling that is shown first
    cache_bytes: how much of the disk what is made of media may take
    """

    def __init__(self, run: str | Path, *, by: str = "both", cache_bytes: int = DEFAULT_CAP_BYTES) -> None:
        self.run, self.by = Path(run), by
        self.lock = threading.RLock()
        self.searching = threading.BoundedSemaphore(2)
        """Held by searches: more at once would only take each other's time and memory."""
        self.drawing = threading.Lock()
        """Held while a map is drawn: a second asking waits for what the first one draws."""
        self.comparing = threading.Lock()
        """Held while videos are compared with each other: a second asking waits for what the first one finds."""
        self._collections: dict[str, Collection] = {}
        self._views: dict[str, View] = {}
        self._searcher: Any = None
        self.index = Index.open_or_make(run)
        self.media = MediaFiles(self.index.segments.videos)
        self.check_labelling(by)
        self.workshop = Workshop(Cache(user_cache_folder() / "app", cache_bytes))

    def close(self) -> None:
        """End the processes that make things and look at queries."""
        self.workshop.close()
        if self._searcher is not None:
            self._searcher.close()

    @property
    def generation(self) -> str:
        """Of the index."""
        return self.index.generation

    @property
    def labellings(self) -> list[str]:
        """Those that the run has."""
        return [name for name in LABELLINGS if name in self.index.labels]

    def check_labelling(self, by: str) -> None:
        """Raise `UsageError` for a labelling that the run does not have."""
        if by not in self.labellings:
            have = ", ".join(self.labellings) or "none"
            raise UsageError(f"{self.run} has no labels by {by!r}", f"it has: {have}")

    def renew(self) -> None:
        """Open the index anew if there is another generation of it than the one that is open."""
        folder = current_generation(index_folder(self.run))
        if folder is None or folder.name == self.index.folder.name:
            return
        with self.lock:
            self.index = Index.open(self.run)
            self.media = MediaFiles(self.index.segments.videos)
            self._collections.clear()
            self._views.clear()
            self._searcher = None

    def check_generation(self, given: str | None) -> None:
        """Raise `StaleError` if rows of another index are meant. None means whichever there is."""
        self.renew()
        if given is not None and given != self.generation:
            raise StaleError("the index was made anew since this page was loaded", "reload the page")

    def collection(self, by: str) -> Collection:
        """The collection by a labelling, with what others wrote meanwhile. Hold `lock`."""
        self.renew()
        self.check_labelling(by)
        if by not in self._collections:
            self._collections[by] = Collection(self.run, by, index=self.index)  # type: ignore[arg-type]
        else:
            self._collections[by].refresh()
        return self._collections[by]

    def view(self, by: str) -> View:
        """What a collection is now, row by row. Hold `lock` while it is made; it stays as it is."""
        collection = self.collection(by)
        held = self._views.get(by)
        if held is None or held.collection is not collection or held.revision != collection.revision:
            held = self._views[by] = View.of(collection)
        return held

    def searcher(self) -> Any:
        """What answers searches in the index that is open."""
        with self.lock:
            self.renew()
            if self._searcher is None or self._searcher.index is not self.index:
                from seehear.search.query import Searcher

                self._searcher = Searcher(self.index, self.run)
            return self._searcher

    def check_rows(self, rows: Sequence[int]) -> np.ndarray:
        """Rows as an array; `NotFoundError` for one that there is not."""
        given = np.asarray(rows, np.int64).reshape(-1)
        if given.size and (given.min() < 0 or given.max() >= len(self.index.segments)):
            raise NotFoundError(f"there are {len(self.index.segments)} segments, counted from 0")
        return given

    def video_place(self, name: str) -> int:
        """A video's place in the index by its id; `NotFoundError` if there is none."""
        place = self.media.index.get(name)
        if place is None:
            raise NotFoundError("there is no such video in the index")
        return place

    def stretch_of_row(self, row: int, longest_seconds: float) -> Stretch:
        """A segment, or its beginning if it is longer than that."""
        self.check_rows([row])
        segments = self.index.segments
        start, end = float(segments.start_seconds[row]), float(segments.end_seconds[row])
        return self.stretch(int(segments.video[row]), start, min(end, start + longest_seconds), longest_seconds)

    def stretch(self, place: int, start: float, end: float, longest_seconds: float) -> Stretch:
        """A stretch of a video, within its span. `UsageError` if it is too long or nothing is left of it."""
        video = self.index.segments.videos[place]
        if end - start > longest_seconds + 1e-3:
            raise UsageError(f"a stretch may last {longest_seconds:g} s", "ask for a shorter one")
        start, end = max(start, video.start_seconds), min(end, video.end_seconds)
        if end - start < SHORTEST_SECONDS:
            raise UsageError("nothing is left of that stretch", f"the video lasts {video.end_seconds:.2f} s")
        return Stretch(
            str(video.path), video.identity, round(start, 3), round(end, 3), video.video_codec is not None,
            video.audio_codec is not None, video.clock_jumps, video.audio_track,
        )  # fmt: skip
