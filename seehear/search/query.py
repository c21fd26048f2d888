"""Queries: what is like a segment, a stretch of a video, or a file; by sight, by sound, by both or across them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from seehear.errors import SeehearError, UsageError
from seehear.search.calibration import CUT_OFF, Scale, scale_of
from seehear.search.index import Index
from seehear.search.nearest import EXACT_UP_TO, InvertedFiles, Part, best_rows, faiss_there, unit

if TYPE_CHECKING:
    from seehear.search.queryfile import FileEmbedder
    from seehear.search.spaces import Spaces

By = Literal["sight", "sound", "both", "across"]
AcrossFrom = Literal["sight", "sound"]
STREAM_OF: dict[str, str] = {"sight": "video", "sound": "audio"}


@dataclass(frozen=True)
class Hit:
    """A segment that was found."""

    row: int
    score: float
    """Calibrated, 0..1: see `seehear.search.calibration`."""
    similarity: float
    """Cosine in the space that was searched, -1..1; by both the weighted mean of two."""


@dataclass(frozen=True)
class Answer:
    """What a search found, best first, and how."""

    hits: list[Hit]
    by: str
    """What was searched by: what was asked for, or what of it the query has."""
    through: str
    """What was compared with what, in words."""
    nothing_like_it: bool
    """Whether even the best segment scores below `cut_off`."""
    cut_off: float
    exact: bool
    """Whether every segment was compared."""
    recall: float | None
    """Of a search that is not exact: the share of the true best that it finds, as measured when it was built."""
    notes: list[str] = field(default_factory=list)
    """What else a person should know."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "by": self.by, "through": self.through, "nothing_like_it": self.nothing_like_it, "cut_off": self.cut_off,
            "exact": self.exact, "recall": self.recall, "notes": self.notes,
            "hits": [
                {"row": hit.row, "score": round(hit.score, 4), "similarity": round(hit.similarity, 4)}
                for hit in self.hits
            ],
        }  # fmt: skip


@dataclass(frozen=True)
class Query:
    """What is searched for: unit vectors in the spaces of the index, as far as the query has them."""

    vectors: dict[str, np.ndarray]
    without: frozenset[int] = frozenset()
    """Rows that are the query itself."""
    video: int | None = None
    """The place of the query's video among those that are indexed."""


class Searcher:
    """Searches an index. The run's model is loaded when a file has to be embedded, once.

    Threads may share one: it changes nothing but what it has opened.
    """

    def __init__(self, index: Index, run: str | os.PathLike[str] | None = None) -> None:
        self.index = index
        self.run = Path(index.run if run is None else run)
        self._files: tuple[FileEmbedder, Spaces] | None = None
        self._inverted = InvertedFiles(index.folder, index.facts.get("nearest") or {})
        self._full = {stream: bool(has.all()) for stream, has in index.has.items()}

    # -- queries -------------------------------------------------------------------------------------------------

    def like_segment(self, row: int, **how: Any) -> Answer:
        """What is like a segment of the index; see `search` for the options. The segment itself is left out.

        Except across: there its own sound (or picture) is what it should find first.
        """
        if not 0 <= row < len(self.index):
            raise UsageError(f"there is no segment {row}", f"the index has {len(self.index)}, from 0 on")
        return self.search(self._of_rows(np.array([row])), **how)

    def like_stretch(self, video_id: str, start: float, end: float, **how: Any) -> Answer:
        """What is like a stretch of an indexed video, in seconds; see `search` for the options.

        It is the mean of the segments that lie within it by half of their length at least. Where there are none the
        stretch is embedded anew, or if that cannot be done it is the segment that overlaps it most. Segments that
        overlap it are left out, except across.
        """
        segments = self.index.segments
        place = self.index.place_of(video_id)
        if place is None:
            raise UsageError(f"no video {video_id!r} is indexed", "`seehear index RUN VIDEOS` indexes more")
        video = segments.videos[place]
        rows = np.flatnonzero(np.asarray(segments.video) == place)
        starts, ends = segments.start_seconds[rows], segments.end_seconds[rows]
        overlap = np.minimum(ends, end) - np.maximum(starts, start)
        if not len(rows) or not start < end or overlap.max() <= 0:
            raise UsageError(
                f"{video_id} has nothing from {start:g} to {end:g} s",
                f"it lasts from {video.start_seconds:.2f} to {video.end_seconds:.2f} s",
            )
        touched = frozenset(rows[overlap > 0].tolist())
        within = rows[overlap >= (ends - starts) / 2]
        if len(within):
            found = self._of_rows(within)
        else:
            try:
                files, spaces = self._embedder()
                every = self.index.facts["every_seconds"]
                features = files.embed_indexed(video, start, end, every_seconds=every)
                found = self._of_features(spaces, features)
            except SeehearError:  # the file is gone, or features are another encoder's
                found = self._of_rows(rows[[int(overlap.argmax())]])
        return self.search(Query(found.vectors, touched, place), **how)

    def like_file(
        self, path: str | os.PathLike[str], *, start: float | None = None, end: float | None = None, **how: Any
    ) -> Answer:
        """What is like a file, or `start` to `end` of it in seconds; see `search` for the options.

        A video with sound or without, a sound, or a picture (JPEG, PNG, WebP, BMP).

        Raises:
            MediaError: it cannot be used; its reason is one of those of a scan.
            UsageError: the index is of another encoder's features, or the stretch is not there.
        """
        files, spaces = self._embedder()
        every = self.index.facts["every_seconds"]
        features = files.embed_file(path, start=start, end=end, every_seconds=every)
        return self.search(self._of_features(spaces, features), **how)

    def like_words(self, text: str, *, k: int = 20, min_score: float | None = None) -> Answer:
        """The k segments that go best with some words, of a run that learnt from frames or sound and text.

        Every segment is compared, by its frames or, where the run has no video encoder, by its sound. Scores are
        similarities put on 0..1.

        Raises:
            UsageError: the run has no text encoder, the index is of another encoder, or there is no word in the text.
        """
        # Here, as searches by a segment need no torch.
        from seehear.features.model import Model
        from seehear.search.across import JointSpace
        from seehear.search.spaces import by_blocks

        if k < 1:
            raise UsageError("k is at least 1")
        model = Model.load(self.run)
        if model.texts is None:
            raise UsageError("this run has no text encoder", "--method gdt --hypotheses video-text trains one")
        names = [(s, n) for s, n in self.index.facts["encoders"].items() if n in model.projections]
        if self.index.facts["encoder"] != "run" or not names:
            raise UsageError("this index is not of the run's own encoders", f"`seehear index {self.run}` makes one")
        stream, name = names[0]
        space = JointSpace(model, {stream: name})
        rows = by_blocks(lambda x: space.rows(stream, x), self.index.features[name])
        similarity = rows @ model.texts.project([text])[0]
        there = np.flatnonzero(np.asarray(self.index.has[stream]))
        best = there[np.argsort(-similarity[there], kind="stable")[:k]]
        scores = (1 + similarity) / 2
        hits = [
            Hit(int(row), float(scores[row]), float(similarity[row]))
            for row in best
            if min_score is None or scores[row] >= min_score
        ]
        seen = "seen" if stream == "video" else "heard"
        notes = ["scores are similarities put on 0..1: what they mean is not known for words"]
        return Answer(hits, "words", f"words, with what is {seen}", False, CUT_OFF, True, None, notes)

    # -- the search ----------------------------------------------------------------------------------------------

    def search(
        self,
        query: Query,
        *,
        by: By = "both",
        sound_weight: float = 0.5,
        k: int = 20,
        min_score: float | None = None,
        rows: np.ndarray | None = None,
        skip_same_video: bool = False,
        across_from: AcrossFrom | None = None,
    ) -> Answer:
        """The k best segments.

        Args:
            query: what is searched for.
            by: "sight", "sound", "both", or "across": by the query's picture the sounds, or by its sound the pictures.
            sound_weight: by both, how much the sound counts, from 0 to 1.
            min_score: leave out what scores less.
            rows: search among these alone (n,).
            skip_same_video: leave out the segments of the query's own video.
            across_from: whether to go from "sight" or from "sound"; from sight where the query has it.

        Raises:
            UsageError: the query, or the collection, has nothing to search so; or an option is no good.
        """
        if k < 1 or not 0 <= sound_weight <= 1:
            raise UsageError("k is at least 1, and the weight of the sound from 0 to 1")
        done, parts, through, notes = self._plan(query, by, sound_weight, across_from)
        if rows is not None and not len(rows):
            return Answer([], done, through, True, CUT_OFF, True, None, notes)
        allowed = self._allowed(query, parts, skip_same_video, keep_itself=done == "across")
        found_rows, similarity, recall = self._find(parts, k, rows, allowed, notes)
        scale = self._scale(done, sound_weight, notes)
        scores = (1 + similarity) / 2 if scale is None else scale.score(similarity)
        nothing = not len(scores) or (scale is not None and float(scores[0]) < CUT_OFF)
        hits = [
            Hit(int(row), float(score), float(value))
            for row, score, value in zip(found_rows, scores, similarity, strict=True)
            if min_score is None or score >= min_score
        ]
        return Answer(hits, done, through, nothing, CUT_OFF, recall is None, recall, notes)

    def _find(
        self, parts: list[Part], k: int, rows: np.ndarray | None, allowed: Any, notes: list[str]
    ) -> tuple[np.ndarray, np.ndarray, float | None]:
        if rows is None and len(self.index) >= self.index.facts.get("exact_up_to", EXACT_UP_TO):
            found = self._inverted.search(self.index.space, parts, k, allowed)
            if found is not None:
                return found
            if not faiss_there():
                notes.append(
                    f"all {len(self.index)} segments were compared: `pip install 'seehear[large]'` and index again "
                    "to search so many faster"
                )
        return *best_rows(self.index.space, parts, k, rows=rows, allowed=allowed), None

    def _plan(
        self, query: Query, by: str, sound_weight: float, across_from: str | None
    ) -> tuple[str, list[Part], str, list[str]]:
        """What is done in fact, the summands of the similarity, words for it, and notes."""
        if by == "across":
            return self._plan_across(query, across_from)
        if by not in ("sight", "sound", "both"):
            raise UsageError(f"there is no search by {by!r}", "choose sight, sound, both or across")
        shares = {"both": {"video": 1 - sound_weight, "audio": sound_weight}}.get(by) or {STREAM_OF[by]: 1.0}
        there = {s: w for s, w in shares.items() if s in query.vectors and s in self.index.space}
        notes = []
        if by == "both" and len(there) == 1:
            (stream,) = there
            there = {stream: 1.0}
            by = "sight" if stream == "video" else "sound"
            lacking = "sound" if by == "sight" else "picture"
            notes.append(f"by {by} alone: the query or the collection has no {lacking}")
        if not there:
            raise UsageError(f"the query, or the collection, has nothing to compare by {by}", "choose another --by")
        parts = [Part(stream, query.vectors[stream], weight) for stream, weight in there.items() if weight > 0]
        words = {"sight": "what is seen, with what is seen", "sound": "what is heard, with what is heard"}
        through = words.get(by) or f"what is seen and what is heard, the sound counting {sound_weight:g} of 1"
        return by, parts, through, notes

    def _plan_across(self, query: Query, across_from: str | None) -> tuple[str, list[Part], str, list[str]]:
        if self.index.across is None:
            raise UsageError("sight and sound cannot be compared in this index", "search by sight, sound or both")
        choices = [across_from] if across_from else ["sight", "sound"]
        for chosen in choices:
            if chosen not in STREAM_OF:
                raise UsageError(f"there is no search from {chosen!r}", "choose sight or sound")
            vector = query.vectors.get(f"across.{STREAM_OF[chosen]}")
            if vector is not None:
                target, words = ("audio", "sounds, by what is seen") if chosen == "sight" else (
                    "video", "pictures, by what is heard"
                )  # fmt: skip
                return "across", [Part(f"across.{target}", vector, 1.0)], f"{words}; through {self.index.across}", []
        raise UsageError(f"the query has no {across_from or 'picture or sound'} to search across by")

    def _allowed(self, query: Query, parts: list[Part], skip_same_video: bool, *, keep_itself: bool) -> Any:
        """Which of some rows count, as a function of them; None where all do."""
        needed = [p.space.removeprefix("across.") for p in parts]
        partly = [self.index.has[s] for s in needed if not self._full[s]]
        without = np.array(sorted(query.without if not keep_itself else ()), dtype=np.int64)
        video = query.video if skip_same_video else None
        if not partly and not len(without) and video is None:
            return None

        def allowed(rows: np.ndarray) -> np.ndarray:
            counts = ~np.isin(rows, without)
            for has in partly:
                counts &= has[rows]
            if video is not None:
                counts &= np.asarray(self.index.segments.video[rows]) != video
            return counts

        return allowed

    def _scale(self, by: str, sound_weight: float, notes: list[str]) -> Scale | None:
        scale = scale_of(self.index.facts["calibration"], by, sound_weight)
        if scale is None:
            notes.append("scores are similarities put on 0..1: the collection is too small to say what they mean")
        return scale

    # -- what is searched for ------------------------------------------------------------------------------------

    def _of_rows(self, rows: np.ndarray) -> Query:
        """The mean of some segments of one video."""
        vectors = {}
        for name, space in self.index.space.items():
            of = rows[np.asarray(self.index.has[name.removeprefix("across.")][rows])]
            if len(of):
                vectors[name] = unit(np.asarray(space[of]).mean(0, keepdims=True))[0]
        return Query(vectors, frozenset(rows.tolist()), int(self.index.segments.video[rows[0]]))

    def _of_features(self, spaces: Spaces, features: Mapping[str, np.ndarray]) -> Query:
        vectors = {}
        for stream, x in features.items():
            if stream in self.index.space:
                vectors[stream] = spaces.rows(stream, x[None])[0]
            if f"across.{stream}" in self.index.space and spaces.across is not None:
                vectors[f"across.{stream}"] = spaces.across_rows(stream, x[None])[0]
        return Query(vectors)

    def _embedder(self) -> tuple[FileEmbedder, Spaces]:
        """What embeds files by the run's model, and what features become. `UsageError` if another encoder made them."""
        facts = self.index.facts
        if facts["encoder"] != "run":
            raise UsageError(
                f"this index is of the features in {facts['encoder']}: no file can be embedded alike",
                "search by a segment, VIDEO_ID#t=start,end, or index by the run's own model",
            )
        if self._files is None:
            # Here, as searches by a segment need no torch.
            from seehear.features.model import Model
            from seehear.search.queryfile import FileEmbedder
            from seehear.search.spaces import restore_spaces

            model = Model.load(self.run)
            spaces = restore_spaces(facts["encoders"], self.index.fitted, facts["across_kind"], model)
            self._files = FileEmbedder(model), spaces
        return self._files

    def close(self) -> None:
        """End the process that decodes files, if one was started; a later search starts another."""
        if self._files is not None:
            self._files[0].close()
