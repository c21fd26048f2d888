"""Segments: stretches of videos, row by row, which an index describes and people name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seehear.media.identity import Identity


@dataclass(frozen=True)
class IndexedVideo:
    """A video of which the index has segments: what the manifest said when it was embedded."""

    video_id: str
    path: Path
    """Absolute."""
    identity: Identity
    """Fingerprint, size and time by which a file is known; `identity.fingerprint` keys what people say of it."""
    start_seconds: float
    end_seconds: float
    """The span in which the streams overlap."""
    container: str
    video_codec: str | None
    audio_codec: str | None
    """None where the file has no such stream."""
    audio_track: int = 0
    clock_jumps: bool = False


@dataclass(frozen=True)
class Segments:
    """N segments of some videos, in the order of the videos and of time."""

    videos: Sequence[IndexedVideo]
    video: np.ndarray
    """(N,) int32: the video's place in `videos`."""
    start_seconds: np.ndarray
    """(N,) float64"""
    end_seconds: np.ndarray
    """(N,) float64"""

    def __len__(self) -> int:
        return len(self.video)

    def video_of(self, row: int) -> IndexedVideo:
        """The video that a segment is of."""
        return self.videos[int(self.video[row])]
