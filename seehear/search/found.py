"""What the commands do: one search of a run, with the places of what was found; its duplicates."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seehear.data.loader import worker_count
from seehear.engine.runfolder import open_run
from seehear.errors import DataError, RunError, UsageError
from seehear.progress import Progress
from seehear.search.duplicates import Duplicates, find_duplicates
from seehear.search.index import Index
from seehear.search.query import AcrossFrom, Answer, By, Searcher

_FRAGMENT = re.compile(r"(?P<video>.+)#t=(?P<start>[0-9.]+),(?P<end>[0-9.]+)", re.DOTALL)


@dataclass(frozen=True)
class Found:
    """An answer and the index that it is about."""

    answer: Answer
    index: Index

    @property
    def hits(self) -> list[dict[str, Any]]:
        """What was found, best first: video (id), path, start and end in seconds, score, similarity, cluster, row."""
        labels = self.index.labels.get("both") or next(iter(self.index.labels.values()))
        segments = self.index.segments
        return [
            {
                "video": segments.video_of(hit.row).video_id,
                "path": str(segments.video_of(hit.row).path),
                "start": round(float(segments.start_seconds[hit.row]), 3),
                "end": round(float(segments.end_seconds[hit.row]), 3),
                "score": round(hit.score, 4),
                "similarity": round(hit.similarity, 4),
                "cluster": int(labels.cluster[hit.row]),
                "row": hit.row,
            }
            for hit in self.answer.hits
        ]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return self.answer.as_dict() | {
            "segments": len(self.index),
            "generation": self.index.generation,
            "hits": self.hits,
        }


def search_run(
    run: str | Path,
    query: str | Path | None,
    *,
    text: str | None = None,
    by: By,
    sound_weight: float,
    start: float | None,
    end: float | None,
    k: int,
    min_score: float | None,
    across_from: AcrossFrom | None,
) -> Found:
    """What `seehear.search` does; arguments as there."""
    if (query is None) == (text is None):
        raise UsageError(
            "a search is for a file or stretch, or for words", "seehear search RUN QUERY, or search RUN --text WORDS"
        )
    if text is not None and (start is not None or end is not None or across_from is not None or by != "both"):
        raise UsageError(
            "--by, --from, --to and --across-from are of a file or stretch, not of words", "leave them out"
        )
    index = _opened(run)
    searcher = Searcher(index, run)
    how: dict[str, Any] = {
        "by": by, "sound_weight": sound_weight, "k": k, "min_score": min_score, "across_from": across_from,
    }  # fmt: skip
    try:
        if text is not None:
            return Found(searcher.like_words(text, k=k, min_score=min_score), index)
        assert query is not None
        if os.path.isfile(query):
            return Found(searcher.like_file(query, start=start, end=end, **how), index)
        video, first, last = _stretch(index, str(query), start, end)
        return Found(searcher.like_stretch(video, first, last, **how), index)
    finally:
        searcher.close()


def _stretch(index: Index, query: str, start: float | None, end: float | None) -> tuple[str, float, float]:
    """The stretch of an indexed video that a query names."""
    place = index.place_of(query)
    if place is None and (named := _FRAGMENT.fullmatch(query)) is not None:
        if start is not None or end is not None:
            raise UsageError(f"{query} names its times already", "leave --from and --to out")
        try:
            start, end = float(named["start"]), float(named["end"])
        except ValueError:
            raise UsageError(f"{query} names no times", "write it like VIDEO_ID#t=12.5,15") from None
        query, place = named["video"], index.place_of(named["video"])
    if place is None:
        raise DataError(
            f"{query} is neither a file nor an indexed video", "a query is a file, or VIDEO_ID#t=START,END of the index"
        )
    video = index.segments.videos[place]
    first, last = (video.start_seconds if start is None else start), (video.end_seconds if end is None else end)
    if not np.isfinite([first, last]).all():
        raise UsageError(f"no stretch from {first} to {last} s")
    return video.video_id, first, last


def duplicates_of_run(run: str | Path, workers: int | None) -> Duplicates:
    """What `seehear.find_duplicates` does; arguments as there."""
    index = _opened(run)
    with Progress(quiet=None) as progress:
        found = find_duplicates(index, workers=worker_count(workers), progress=progress.shown("compare", "videos"))
        progress.left_out(found.left_out)
    return found


def _opened(run: str | Path) -> Index:
    """The index of a run; where there is none, or the model has changed, one of its own clips, with a word on it."""
    open_run(run)
    try:
        return Index.open(run)
    except RunError as error:
        with Progress(quiet=None) as progress:
            finer = f"`seehear index {run}` makes a finer one"
            progress.note(f"{error.message}: one of the run's own clips is made; {finer}")
        return Index.open_or_make(run)
