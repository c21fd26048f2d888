"""Overlap, Soft-NMS and mAP against loops, and against cases worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from seehear.errors import DataError
from seehear.localization.annotations import Segment
from seehear.localization.metrics import (
    ACTIVITYNET_TIOU,
    SETTINGS,
    THUMOS_TIOU,
    Detection,
    average_precision,
    bootstrapped,
    matches,
    mean_average_precision,
    soft_nms,
    tiou,
)


def overlap(a, b) -> float:
    shared = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    union = (a[1] - a[0]) + (b[1] - b[0]) - shared
    return shared / union if union else 0.0


def random_segments(count: int, rng: np.random.Generator) -> np.ndarray:
    start = rng.uniform(0, 30, count)
    return np.stack([start, start + rng.uniform(0.5, 8, count)], axis=1)


def test_tiou():
    rng = np.random.default_rng(0)
    a, b = random_segments(6, rng), random_segments(9, rng)
    expected = [[overlap(x, y) for y in b] for x in a]
    assert np.allclose(tiou(a, b), expected)
    assert tiou(np.array([[1.0, 3.0]]), np.array([[2.0, 4.0], [3.0, 5.0], [1.0, 3.0]])).tolist() == [[1 / 3, 0, 1]]
    assert tiou(np.array([[1.0, 1.0]]), np.array([[1.0, 1.0]])).tolist() == [[0]]


class TestSoftNms:
    def test_it_is_the_loop(self):
        rng = np.random.default_rng(1)
        segments, scores = random_segments(40, rng), rng.uniform(0, 1, 40)
        left, expected = dict(enumerate(scores.tolist())), []
        while left and len(expected) < 25:
            best = max(left, key=lambda i: left[i])
            expected.append((best, left.pop(best)))
            for i in left:
                left[i] *= math.exp(-(overlap(segments[best], segments[i]) ** 2) / 0.46)
        taken, kept = soft_nms(segments, scores, 0.46, 25)
        assert taken.tolist() == [i for i, _ in expected]
        assert np.allclose(kept, [score for _, score in expected])

    def test_ends(self):
        segments = np.array([[0.0, 1.0], [5.0, 6.0], [7.0, 8.0]])
        taken, kept = soft_nms(segments, np.array([0.5, 0.0, 0.9]), 0.5, 9)
        assert (taken.tolist(), kept.tolist()) == ([2, 0], [0.9, 0.5])  # none of score 0
        assert soft_nms(np.zeros((0, 2)), np.zeros(0), 0.5, 9)[0].tolist() == []


class TestAveragePrecision:
    def test_by_hand(self):
        # Right, wrong, right of three to be found: precisions 1, 1/2, 2/3 at recalls 1/3, 1/3, 2/3.
        found = average_precision(np.array([[True, False, True], [False, False, True]]), 3)
        assert found.tolist() == pytest.approx([1 / 3 + 1 / 3 * 2 / 3, 1 / 3 * 1 / 3])

    def test_precision_is_the_best_at_this_recall_or_a_higher_one(self):
        # Wrong, right, right: precisions 0, 1/2, 2/3; interpolated 2/3 throughout.
        assert average_precision(np.array([[False, True, True]]), 2)[0] == pytest.approx(2 / 3)

    def test_a_weight_is_so_many_copies(self):
        rng = np.random.default_rng(0)
        right, weights = rng.random((4, 30)) < 0.4, rng.integers(0, 4, 30)
        copies = np.repeat(right, weights, axis=1)
        assert np.allclose(average_precision(right, 40, weights), average_precision(copies, 40))

    def test_nothing_detected(self):
        assert average_precision(np.zeros((3, 0), dtype=bool), 5).tolist() == [0, 0, 0]


def test_a_segment_is_found_once_by_the_best_and_the_next_takes_another():
    truth = np.array([[0.0, 10.0], [11.0, 21.0]])
    detected = np.array([[0.0, 9.0], [0.0, 10.0], [2.0, 21.0], [40.0, 50.0]])
    # The second overlaps the first segment perfectly, but that is taken; the third overlaps the second by 10 of 19.
    assert matches(detected, truth, [0.3, 0.5, 0.6]).tolist() == [
        [True, False, True, False], [True, False, True, False], [True, False, False, False],
    ]  # fmt: skip
    assert matches(detected, np.zeros((0, 2)), [0.5]).tolist() == [[False] * 4]


def activitynet_ap(detections, truth, label, threshold) -> float:
    """One class at one tIoU, as ActivityNet's toolkit goes about it: one list of detections, one lock a segment."""
    pool = [(d.score, name, d) for name in truth for d in detections.get(name, ()) if d.label == label]
    pool.sort(key=lambda entry: -entry[0])
    wanted = {name: [s for s in segments if s.label == label] for name, segments in truth.items()}
    locked, hits = set(), []
    for _, name, d in pool:
        order = sorted(
            ((overlap((d.start_seconds, d.end_seconds), (s.start_seconds, s.end_seconds)), j)
             for j, s in enumerate(wanted[name])),
            reverse=True,
        )  # fmt: skip
        hit = False
        for value, j in order:
            if value < threshold:
                break
            if (name, j) not in locked:
                locked.add((name, j))
                hit = True
                break
        hits.append(hit)
    total = sum(map(len, wanted.values()))
    points, right = [], 0
    for n, hit in enumerate(hits, 1):
        right += hit
        points.append((right / total, right / n))
    value, before = 0.0, 0.0
    for recall, _ in points:
        if recall > before:
            value += (recall - before) * max(p for r, p in points if r >= recall)
            before = recall
    return value


def random_case(seed: int):
    rng = np.random.default_rng(seed)
    truth, detections = {}, {}
    for v in range(5):
        places = random_segments(4, rng)
        truth[f"v{v}"] = [Segment(s, e, "abc"[rng.integers(3)]) for s, e in places]
        guesses = np.concatenate([places + rng.normal(0, 0.8, places.shape), random_segments(8, rng)])
        detections[f"v{v}"] = [
            Detection(min(s, e), max(s, e) + 0.1, "abcd"[rng.integers(4)], float(rng.random())) for s, e in guesses
        ]
    return detections, truth


class TestMeanAveragePrecision:
    @pytest.mark.parametrize("seed", range(4))
    def test_it_is_what_the_loop_says(self, seed):
        detections, truth = random_case(seed)
        found = mean_average_precision(detections, truth)
        labels = sorted({s.label for segments in truth.values() for s in segments})

        def expected(threshold):
            return np.mean([activitynet_ap(detections, truth, label, threshold) for label in labels])

        assert list(found) == list(SETTINGS)
        for threshold in THUMOS_TIOU:
            assert found[f"mAP@{threshold}"] == pytest.approx(expected(threshold))
        assert found["mAP@0.3:0.7"] == pytest.approx(np.mean([expected(t) for t in THUMOS_TIOU]))
        assert found["mAP@0.5:0.95"] == pytest.approx(np.mean([expected(t) for t in ACTIVITYNET_TIOU]))
        assert 0 < found["mAP@0.7"] < found["mAP@0.3"] < 1

    def test_the_truth_itself_scores_one_and_other_classes_nothing(self):
        _, truth = random_case(0)
        perfect = {n: [Detection(s.start_seconds, s.end_seconds, s.label, 1.0) for s in x] for n, x in truth.items()}
        assert set(mean_average_precision(perfect, truth).values()) == {1.0}
        wrong = {n: [Detection(d.start_seconds, d.end_seconds, "z", 1.0) for d in x] for n, x in perfect.items()}
        assert set(mean_average_precision(wrong, truth).values()) == {0.0}

    def test_no_truth_is_an_error(self):
        with pytest.raises(DataError):
            mean_average_precision({}, {"v": []})

    def test_the_interval_is_that_of_videos_drawn_again(self):
        detections, truth = random_case(1)
        found = bootstrapped(detections, truth, draws=50, seed=3)
        names, rng = sorted(truth), np.random.default_rng(3)
        values = []
        for counts in rng.multinomial(5, np.full(5, 0.2), size=50):
            again = [(f"{n}.{i}", n) for n, count in zip(names, counts, strict=True) for i in range(count)]
            values.append(
                mean_average_precision({new: detections[n] for new, n in again}, {new: truth[n] for new, n in again})
            )
        for setting in SETTINGS:
            low, high = np.quantile([v[setting] for v in values], [0.025, 0.975])
            assert found[setting].value == mean_average_precision(detections, truth)[setting]
            assert (found[setting].low, found[setting].high) == pytest.approx((low, high), abs=1e-9)
