"""Detections of actions in time: overlap, Soft-NMS, and mean average precision with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from seehear.errors import DataError
from seehear.localization.annotations import Segment
from seehear.metrics.intervals import Score

THUMOS_TIOU = (0.3, 0.4, 0.5, 0.6, 0.7)
"""Overlaps at which THUMOS14 is scored."""
ACTIVITYNET_TIOU = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
"""Overlaps over which ActivityNet averages."""
_TIOU = tuple(sorted({*THUMOS_TIOU, *ACTIVITYNET_TIOU}))
SETTINGS = (*(f"mAP@{t}" for t in THUMOS_TIOU), "mAP@0.3:0.7", "mAP@0.5:0.95")
"""What is reported."""


@dataclass(frozen=True)
class Detection:
    """A segment, in seconds, the class that is claimed for it, and how surely."""

    start_seconds: float
    end_seconds: float
    label: str
    score: float


def tiou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Temporal intersection over union of segments (N, 2) and (M, 2): (N, M). Two of no length share nothing."""
    shared = np.minimum(a[:, None, 1], b[None, :, 1]) - np.maximum(a[:, None, 0], b[None, :, 0])
    shared = shared.clip(0)
    union = (a[:, 1] - a[:, 0])[:, None] + (b[:, 1] - b[:, 0])[None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def soft_nms(segments: np.ndarray, scores: np.ndarray, sigma: float, keep: int) -> tuple[np.ndarray, np.ndarray]:
    """Soft non-maximum suppression with Gaussian decay (Bodla et al., ICCV 2017, Eq. 4, in one dimension).

    Takes the best of the segments (N, 2) again and again, and multiplies the scores (N,) of those that are left
    by exp(-tIoU² / sigma). Returns the rows that were taken, at most `keep` and none of score 0, and their scores.
    """
    left = scores.astype(np.float64)
    taken: list[int] = []
    found: list[float] = []
    while len(taken) < min(keep, len(left)):
        best = int(left.argmax())
        if left[best] <= 0:
            break
        taken.append(best)
        found.append(float(left[best]))
        left *= np.exp(-(tiou(segments[best][None], segments)[0] ** 2) / sigma)
        left[taken] = -1.0
    return np.array(taken, dtype=np.int64), np.array(found)


def matches(detected: np.ndarray, truth: np.ndarray, thresholds: Sequence[float]) -> np.ndarray:
    """Which detections (N, 2) of a class in a video, best first, are right: (len(thresholds), N) bool.

    ActivityNet's rule: each takes the segment (M, 2) of the truth that it overlaps most among those that none
    before it took, and is right if their tIoU is the threshold or more.
    """
    overlaps = tiou(detected, truth)
    right = np.zeros((len(thresholds), len(detected)), dtype=bool)
    if not truth.size:
        return right
    for k, threshold in enumerate(thresholds):
        free = np.ones(len(truth), dtype=bool)
        for n, row in enumerate(overlaps):
            best = int(np.where(free, row, -1.0).argmax())
            if free[best] and row[best] >= threshold:
                right[k, n], free[best] = True, False
    return right


def average_precision(right: np.ndarray, positives: float, weights: np.ndarray | None = None) -> np.ndarray:
    """Interpolated average precision of detections, best first: `right` (K, N) to (K,).

    At every recall the precision is the largest at this recall or a higher one (Pascal VOC 2010, as in ActivityNet's
    toolkit). `positives` is the number of segments to be found; `weights` (N,) say how often each detection counts.
    """
    if not right.shape[1]:
        return np.zeros(len(right))
    weight = np.ones(right.shape[1]) if weights is None else weights.astype(np.float64)
    hits, all_of_them = np.cumsum(right * weight, axis=1), np.cumsum(weight)
    precision = np.divide(hits, all_of_them, out=np.zeros_like(hits), where=all_of_them > 0)
    best_from_here = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall_gained: np.ndarray = np.diff(hits, axis=1, prepend=0.0) / positives
    return (recall_gained * best_from_here).sum(axis=1)


@dataclass(frozen=True)
class _Class:
    """All detections of a class, best first: right or wrong (K, N), each one's video (N,); segments by video (V,)."""

    right: np.ndarray
    video: np.ndarray
    positives: np.ndarray

    def precision(self, counts: np.ndarray) -> np.ndarray | None:
        """Average precision (K,) if every video counts so often (V,); None if nothing of this class is there."""
        positives = float(self.positives @ counts)
        return average_precision(self.right, positives, counts[self.video]) if positives else None


def mean_average_precision(
    detections: Mapping[str, Sequence[Detection]], truth: Mapping[str, Sequence[Segment]]
) -> dict[str, float]:
    """mAP at each tIoU, and means over tIoU: "mAP@0.3" to "mAP@0.7", "mAP@0.3:0.7" and "mAP@0.5:0.95".

    The mean is over the classes of the truth, as in ActivityNet's toolkit; a detection in a video of which the truth
    says nothing does not count. Raises `DataError` if the truth is empty.
    """
    classes = _classes(detections, truth)
    return dict(zip(SETTINGS, _mean(classes, np.ones(len(truth))).tolist(), strict=True))


def bootstrapped(
    detections: Mapping[str, Sequence[Detection]],
    truth: Mapping[str, Sequence[Segment]],
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, Score]:
    """`mean_average_precision` with 95 % intervals: percentiles over draws of the truth's videos with replacement.

    In a draw, classes without a segment are left out.
    """
    value, classes, count = mean_average_precision(detections, truth), _classes(detections, truth), len(truth)
    draw = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=draws)
    low, high = np.quantile([_mean(classes, counts) for counts in draw], [0.025, 0.975], axis=0)
    return {name: Score(value[name], float(low[i]), float(high[i])) for i, name in enumerate(SETTINGS)}


def _classes(detections: Mapping[str, Sequence[Detection]], truth: Mapping[str, Sequence[Segment]]) -> list[_Class]:
    labels = sorted({s.label for segments in truth.values() for s in segments})
    if not labels:
        raise DataError("there are no segments to be found", "nothing can be scored")
    return [_class(label, sorted(truth), detections, truth) for label in labels]


def _mean(classes: Sequence[_Class], counts: np.ndarray) -> np.ndarray:
    """The numbers of `SETTINGS` if every video counts so often; zero if none has a segment."""
    found = [x for c in classes if (x := c.precision(counts)) is not None]
    return _settings(np.mean(found, axis=0)) if found else np.zeros(len(SETTINGS))


def _settings(by_tiou: np.ndarray) -> np.ndarray:
    """mAP at every one of `_TIOU` to the numbers that are reported."""
    at = dict(zip(_TIOU, by_tiou, strict=True))
    thumos, activitynet = ([at[t] for t in group] for group in (THUMOS_TIOU, ACTIVITYNET_TIOU))
    return np.array([*thumos, np.mean(thumos), np.mean(activitynet)])


def _class(
    label: str,
    videos: Sequence[str],
    detections: Mapping[str, Sequence[Detection]],
    truth: Mapping[str, Sequence[Segment]],
) -> _Class:
    right, scores, video, positives = [np.zeros((len(_TIOU), 0), dtype=bool)], [np.zeros(0)], [], []
    for v, name in enumerate(videos):
        wanted = np.array([(s.start_seconds, s.end_seconds) for s in truth[name] if s.label == label]).reshape(-1, 2)
        claimed = sorted((d for d in detections.get(name, ()) if d.label == label), key=lambda d: -d.score)
        places = np.array([(d.start_seconds, d.end_seconds) for d in claimed]).reshape(-1, 2)
        right.append(matches(places, wanted, _TIOU))
        scores.append(np.array([d.score for d in claimed]))
        video += [v] * len(claimed)
        positives.append(len(wanted))
    order = np.argsort(-np.concatenate(scores), kind="stable")
    return _Class(np.concatenate(right, axis=1)[:, order], np.array(video, dtype=np.int64)[order], np.array(positives))
