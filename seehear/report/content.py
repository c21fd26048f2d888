"""What the page is made of: a gathered run with what was measured and made for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

import numpy as np

from seehear.report.gather import Clip, Labelling, Run
from seehear.report.thumbnails import Thumbnails
from seehear.report.truth import Scores, Truth

NAMES = {"video": "Video", "audio": "Audio", "both": "Both together"}
"""What the page calls the labellings."""


@dataclass(frozen=True)
class Map:
    """Points (N, 2) of one encoder's features, in a square of 0..1000."""

    name: str
    method: str
    clips: Sequence[Clip]
    points: np.ndarray
    total: int


@dataclass
class Content:
    """Everything that a page is made of."""

    run: Run
    truth: Truth | None = None
    scores: dict[str, Scores] = field(default_factory=dict)
    maps: list[Map] = field(default_factory=list)
    exemplars: int = 10
    thumbnails: Thumbnails = field(default_factory=Thumbnails)
    size_budget_bytes: int = 0
    list_limit: int | None = None
    """Clips of each cluster that are listed by name; None for all."""

    def best(self, labelling: Labelling, cluster: int) -> list[int]:
        """The clips of a cluster that stand for it: each video once, the closest first."""
        seen: dict[str, int] = {}
        for index in labelling.members(cluster):
            seen.setdefault(self.run.clips[index].video_id, int(index))
            if len(seen) == self.exemplars:
                break
        return list(seen.values())

    def doubted(self) -> list[int]:
        """The most doubtful clips, each video once, for a look at what may belong to no kind."""
        if self.run.doubt is None:
            return []
        rows = np.flatnonzero(self.run.doubtful)
        seen: dict[str, int] = {}
        for index in rows[np.argsort(-self.run.doubt[rows], kind="stable")].tolist():
            seen.setdefault(self.run.clips[index].video_id, index)
        return list(seen.values())[: self.exemplars]


def labelled_by_heads(run: Run) -> bool:
    """Whether the labels are those of clustering heads: there are no centres then."""
    return bool(run.setting("method") == "selavi")


def name_of(labelling: str) -> str:
    """What the page calls a labelling."""
    return NAMES.get(labelling, labelling)


def display_name(run: Run, video_id: str) -> str:
    """The file name that a person knows a video by."""
    path = run.paths.get(video_id)
    return PurePath(path).name if path else video_id
