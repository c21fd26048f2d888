"""What page.js needs of a run, as columns: names once, numbers small."""

from __future__ import annotations

import math
from pathlib import PurePath
from typing import Any

from seehear.report.content import Content
from seehear.report.gather import Clip, Labelling


def page_data(content: Content) -> dict[str, Any]:
    """Files, clips, classes, labellings and maps.

    A clip has its index in `Run.clips` as its key; clips that only a map shows have keys beyond those.
    """
    run = content.run
    table = _Clips(run.clips, _listed(content))
    maps = {
        m.name: {
            "clips": [table.key(clip) for clip in m.clips],
            "x": m.points[:, 0].tolist(),
            "y": m.points[:, 1].tolist(),
        }
        for m in content.maps
    }
    keys = sorted(table.rows)
    truth = content.truth
    classes = truth.classes if truth is not None else []
    numbers = {name: i for i, name in enumerate(classes)}
    by_video = truth.by_video if truth is not None else {}
    return {
        "files": [PurePath(run.paths[v]).name if v in run.paths else v for v in table.videos],
        "clips": [table.rows[key] for key in keys],
        "keys": keys,
        "classes": classes,
        "truth": [numbers.get(by_video.get(v, ""), -1) for v in table.videos],
        "doubtful": [int(key < len(run.clips) and run.doubtful[key]) for key in keys],
        "labellings": {name: _columns(labelling, keys, len(run.clips)) for name, labelling in run.labellings.items()},
        "maps": maps,
    }


class _Clips:
    """The clips that the page can name, each with its key, and their videos in order of first sight."""

    def __init__(self, clips: list[Clip], listed: list[int]) -> None:
        self._clips = clips
        self._keys = {_place(clip): i for i, clip in enumerate(clips)}
        self.videos: dict[str, int] = {}
        self.rows: dict[int, list[float]] = {}
        for key in listed:
            self._add(key, clips[key])

    def key(self, clip: Clip) -> int:
        """The key of a clip, which can be named from now on."""
        key = self._keys.setdefault(_place(clip), len(self._keys))
        if key not in self.rows:
            self._add(key, clip)
        return key

    def _add(self, key: int, clip: Clip) -> None:
        video = self.videos.setdefault(clip.video_id, len(self.videos))
        self.rows[key] = [video, round(clip.start_seconds, 2), round(clip.end_seconds, 2)]


def _place(clip: Clip) -> tuple[str, float]:
    return clip.video_id, round(clip.start_seconds, 3)


def _listed(content: Content) -> list[int]:
    """Indices of the clips that cards list by name, and of the most doubtful ones."""
    run, limit = content.run, content.list_limit
    if limit is None:
        return list(range(len(run.clips)))
    return sorted(
        {
            int(i)
            for labelling in run.labellings.values()
            for cluster in labelling.clusters()
            for i in labelling.members(cluster)[:limit]
        }
        | set(content.doubted())
    )


def _columns(labelling: Labelling, keys: list[int], count: int) -> dict[str, list[Any]]:
    """Cluster, rank and confidence of the clips with these keys; those from `count` on have none."""
    return {
        "cluster": [int(labelling.cluster[i]) if i < count else -1 for i in keys],
        "rank": [_finite(labelling.rank[i]) if i < count else -1 for i in keys],
        "confidence": [
            round(float(labelling.confidence[i]), 2) if i < count and math.isfinite(labelling.confidence[i]) else None
            for i in keys
        ],
    }


def _finite(value: float) -> float | int:
    if not math.isfinite(value):
        return -1
    return int(value) if value == int(value) else round(float(value), 4)
