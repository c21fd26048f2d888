"""The index of a run's segments: features, the rows that searches compare, labels, all mapped from disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from seehear.engine.runfolder import model_sha256, open_run
from seehear.errors import RunError, UsageError
from seehear.search.layout import (
    Content,
    Labels,
    StoredVideos,
    current_generation,
    index_folder,
    read_generation,
)
from seehear.search.segments import Segments

__all__ = ["Index", "Labels"]


class Index:
    """A generation of an index, opened; it stays as it is while others are made.

    `features[encoder]` (N, D) float32 are as the encoder gives them, NaN where the video lacks the stream.
    `space["video"]`, `space["audio"]` are unit rows for searches by sight and by sound, `space["across.video"]` and
    `space["across.audio"]` those of the space that both share; a row of zeros stands where the stream is lacking. All
    are mapped from disk, for reading.
    """

    def __init__(self, run: Path, folder: Path, content: Content) -> None:
        self.run = run
        self.folder = folder
        """Of this generation."""
        self.generation = folder.name.partition("-")[2]
        """Changes whenever the index has other content."""
        self.segments = Segments(content.videos, content.video, content.start_seconds, content.end_seconds)
        self.features: Mapping[str, np.ndarray] = content.features
        self.space: Mapping[str, np.ndarray] = content.space
        self.has: Mapping[str, np.ndarray] = content.has
        """For "video" and "audio" the rows that have features of it, (N,) bool."""
        self.fitted: Mapping[str, np.ndarray] = content.maps
        """What the spaces were made with: see `seehear.search.spaces`."""
        self.labels: Mapping[str, Labels] = content.labels
        """By "both", "video" and "audio", where there are any."""
        self.doubt: np.ndarray | None = content.doubt
        """(N,) float32: see `seehear.cluster.doubt`; NaN where nothing is said of a segment, None where of none."""
        self.facts: dict[str, Any] = content.facts
        self._places: dict[str, int] | None = None

    @classmethod
    def open(cls, run: str | Path) -> Index:
        """The index of a run; nothing is read but tables of videos and facts.

        Raises `RunError` if there is none, if it is damaged, or if the run's model has changed since it was made.
        """
        remedy = f"`seehear index {run}`"
        folder = current_generation(index_folder(run))
        if folder is None or not folder.is_dir():
            open_run(run)
            raise RunError(f"{run} has no index", remedy)
        index = cls(Path(run), folder, read_generation(folder))
        if index.stale:
            raise RunError(f"the index of {run} was made by another model than the run has now", remedy)
        return index

    @classmethod
    def open_or_make(cls, run: str | Path) -> Index:
        """The index of a run; where there is none, or the model has changed, one of the run's own clips.

        That is made of `features.parquet` and `manifest.parquet` in seconds, without decoding anything.
        """
        folder = current_generation(index_folder(run))
        if folder is not None and folder.is_dir():
            index = cls(Path(run), folder, read_generation(folder))
            if not index.stale:
                return index
        from seehear.search.building import index_own_clips

        index_own_clips(run)
        return cls.open(run)

    def __len__(self) -> int:
        return len(self.segments)

    @property
    def stale(self) -> bool:
        """Whether the run has another model than the one that made this index."""
        made_by = self.facts.get("model")
        return made_by is not None and made_by != model_sha256(self.run)

    @property
    def across(self) -> str | None:
        """Through what sight and sound are compared, in words; None where they cannot be."""
        words: str | None = self.facts["across"]
        return words

    @property
    def doubtful_from(self) -> float:
        """From this `doubt` on a segment is doubtful."""
        return float(self.facts.get("doubtful_from", np.inf))

    @property
    def encoders(self) -> dict[str, str]:
        """The encoder of each stream ("video", "audio") that there is."""
        found: dict[str, str] = self.facts["encoders"]
        return found

    def place_of(self, video_id: str) -> int | None:
        """The place of a video in `segments.videos`; None if it is not indexed."""
        if self._places is None:
            self._places = {video_id: place for place, video_id in enumerate(self._video_ids())}
        return self._places.get(video_id)

    def _video_ids(self) -> list[str]:
        videos = self.segments.videos
        if isinstance(videos, StoredVideos):
            return videos.column("video_id")
        return [video.video_id for video in videos]

    def labels_key(self, by: str) -> str:
        """Names the clustering by "both", "video" or "audio": another after another training. `UsageError` if none."""
        keys: dict[str, str] = self.facts["labels_keys"]
        if by not in keys:
            raise UsageError(f"there are no labels by {by!r}", f"there are those by {', '.join(keys) or 'nothing'}")
        return keys[by]

    def map(self, by: str) -> np.ndarray:
        """Positions (N, 2) float32 in [-1, 1] for a scatter plot by "both", "video" or "audio".

        Computed on first use and kept: see `seehear.search.maps`.
        """
        from seehear.search.maps import map_of

        return map_of(self, by)
