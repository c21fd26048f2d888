"""Spans, clip starts and epoch orders."""

from __future__ import annotations

import numpy as np
import pytest

from seehear.config import AugmentConfig, ClipConfig, ClusterConfig
from seehear.data.clips import (
    Video,
    clip_refs,
    epoch_order,
    evenly_spaced_starts,
    held_out,
    random_start,
    training_requests,
)

CLIP = ClipConfig(frames=8, frame_rate_hz=10, audio_seconds=1.0)


def video(start=0.0, end=3.0, name="a.mp4"):
    return Video(name, f"/x/{name}", "f", start, end, 64, 48)


def test_the_usable_span_is_where_both_streams_are():
    row = {
        "video_id": "a", "path": "/a", "fingerprint": "f", "width": 4, "height": 3,
        "video_start_seconds": 0.0, "video_duration_seconds": 5.0,
        "audio_start_seconds": 0.5, "audio_duration_seconds": 4.0,
    }  # fmt: skip
    both = Video.from_row(row, ("video", "audio"))
    assert (both.start_seconds, both.end_seconds) == (0.5, 4.5)
    assert Video.from_row(row, ("video",)).end_seconds == 5.0


def test_a_short_video_is_one_span_and_a_long_one_is_cut():
    cluster = ClusterConfig(max_span_seconds=10)
    assert [(r.start_seconds, r.end_seconds) for r in clip_refs([video()], cluster)] == [(0, 3)]
    refs = clip_refs([video(end=25.0)], cluster)
    assert [r.end_seconds - r.start_seconds for r in refs] == pytest.approx([25 / 3] * 3)
    assert refs[0].clip_id == "a.mp4#t=0.000,8.333"
    assert len(clip_refs([video()], ClusterConfig(clips_per_video=4))) == 4


def test_clips_lie_within_the_video_and_on_the_frame_grid():
    v = video(0.23, 3.3)
    ref = clip_refs([v], ClusterConfig())[0]
    starts = {random_start(ref, v, CLIP.seconds, CLIP, np.random.default_rng(i)) for i in range(400)}
    assert all(abs(s * 10 - round(s * 10)) < 1e-9 for s in starts)
    # Every grid point from which a clip of one second fits: 0.3 to 2.3.
    assert starts == {round(0.1 * i, 10) for i in range(3, 24)} or len(starts) == 21
    assert min(starts) == pytest.approx(0.3)
    assert max(starts) == pytest.approx(2.3)


def test_the_centre_clip_is_in_the_middle():
    v = video(0, 3)
    assert evenly_spaced_starts(clip_refs([v], ClusterConfig())[0], v, 1, CLIP) == pytest.approx([1.0])


def test_a_span_shorter_than_a_clip_borrows_from_the_video():
    v = video(0, 3)
    refs = clip_refs([v], ClusterConfig(clips_per_video=6))  # half-second spans, one-second clips
    starts = [random_start(r, v, CLIP.seconds, CLIP, np.random.default_rng(0)) for r in refs]
    assert all(0 <= s <= 2.0 + 1e-9 for s in starts)
    assert evenly_spaced_starts(refs[-1], v, 1, CLIP) == pytest.approx([2.0])


def test_evenly_spaced_clips_cover_the_video():
    v = video(0, 10)
    assert evenly_spaced_starts(clip_refs([v], ClusterConfig())[0], v, 5, CLIP) == pytest.approx(
        [0.5, 2.5, 4.5, 6.5, 8.5]
    )


def test_an_epoch_is_whole_passes_over_permutations():
    order = epoch_order(10, 25, (0, 1, 2))
    assert sorted(order[:10]) == sorted(order[10:20]) == list(range(10))
    assert len(order) == 25
    assert np.array_equal(order, epoch_order(10, 25, (0, 1, 2)))
    assert not np.array_equal(order, epoch_order(10, 25, (0, 1, 3)))


def test_uniform_sampling_draws_small_clusters_as_often_as_large_ones():
    labels = np.array([0] * 95 + [1] * 5)
    order = epoch_order(100, 2000, (0,), [labels])
    assert np.mean(labels[order] == 1) == pytest.approx(0.5, abs=0.04)


def test_uniform_sampling_over_two_labellings_takes_turns():
    a, b = np.array([0] * 9 + [1]), np.array([0] + [1] * 9)
    order = epoch_order(10, 4000, (0,), [a, b])
    assert np.mean(a[order[0::2]] == 1) == pytest.approx(0.5, abs=0.04)
    assert np.mean(b[order[1::2]] == 0) == pytest.approx(0.5, abs=0.04)


def test_draws_depend_on_seed_and_position_alone():
    v = video()
    refs = clip_refs([v, video(name="b.mp4")], ClusterConfig())
    videos = {x.video_id: x for x in (v, video(name="b.mp4"))}
    first = training_requests(refs, np.array([0, 1, 0]), videos, CLIP, AugmentConfig(), (1, 2))
    again = training_requests(refs, np.array([0, 1]), videos, CLIP, AugmentConfig(), (1, 2))
    assert first[:2] == again
    assert first[0].seed != first[2].seed


def test_the_validation_part_does_not_depend_on_other_videos():
    chosen = [i for i in range(2000) if held_out(f"{i}.mp4", 0.05)]
    assert len(chosen) == pytest.approx(100, abs=35)
    assert not any(held_out(f"{i}.mp4", 0.0) for i in range(100))


def test_frames_and_sound_may_start_apart():
    v = video(0, 6)
    refs = clip_refs([v], ClusterConfig())
    clip = ClipConfig(frames=4, frame_rate_hz=10, stride=2, audio_seconds=2.0)
    order = np.zeros(600, dtype=int)
    together = training_requests(refs, order, {"a.mp4": v}, clip, AugmentConfig(), (0,))
    apart = training_requests(refs, order, {"a.mp4": v}, clip, AugmentConfig(independent_jitter=True), (0,))
    assert all(r.start_seconds == r.audio_start_seconds for r in together)
    assert max(r.start_seconds for r in apart) == pytest.approx(6 - 0.8)
    assert max(r.audio_start_seconds for r in apart) == pytest.approx(4.0)
    correlation = np.corrcoef([r.start_seconds for r in apart], [r.audio_start_seconds for r in apart])[0, 1]
    assert abs(correlation) < 0.15
