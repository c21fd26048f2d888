"""Transformations of clips from files to batches: what each factor does to what the encoders see."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import seehear
from seehear.config import AugmentConfig, ClipConfig, ClusterConfig
from seehear.data import loader as loading
from seehear.data.cache import MediaCache
from seehear.data.clips import ClipRequest, Video, clip_refs, make_ref, transformation_requests
from seehear.data.loader import ClipLoader
from seehear.data.views import Statistics
from seehear.features.model import usable_videos
from seehear.hypotheses.language import parse
from seehear.media import reading
from seehear.modalities import MODALITIES
from seehear.pretraining.plan import make_config
from tests.conftest import TINY_SETTINGS
from tests.corpus import frame_number, make_collection, make_video

STILL = AugmentConfig(flip_probability=0.0)
# Clips as large as the frames, on the frames' own grid: a crop has one place, and nothing is scaled.
EXACT = (
    "clip.frames=4", "clip.stride=1", "clip.frame_rate_hz=8", "clip.short_side_px=48", "clip.crop_px=48",
    "augment.flip_probability=0", "augment.volume_jitter=0", "augment.time_mask_frames=0",
    "augment.frequency_mask_bins=0",
)  # fmt: skip


def sweep(seconds, rate=24000):
    """A tone that rises and grows louder: backwards it is something else."""
    times = np.arange(round(seconds * rate)) / rate
    tone = (0.1 + 0.2 * times / seconds) * np.sin(2 * np.pi * (300 + 300 * times / seconds) * times)
    return tone.astype(np.float32)[None]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Six videos of 4.5 s whose frames name themselves, 8 a second, with a rising tone."""
    folder = tmp_path_factory.mktemp("transformed")
    for i in range(6):
        wave = sweep(4.5) * (1 - 0.05 * i)  # copies of one file would count as one
        make_video(folder / f"v{i}.mp4", seconds=4.5, fps=8, size=(48, 48), gop=4, wave=wave)
    return usable_videos(seehear.scan(folder, workers=0), ("video", "audio"))


def config_with(*settings, spec="l"):
    return make_config(method="gdt", settings=[*TINY_SETTINGS, *EXACT, *settings, f"gdt.hypotheses={spec}"])


def loader_for(videos, config, cache=None):
    views = {name: name for name in parse(config.gdt.hypotheses).encoded}
    return ClipLoader(videos, config, views, Statistics(), workers=0, cache=cache)


def requests_for(loader, config, seed=(0, 0)):
    refs = clip_refs(list(loader.videos.values()), ClusterConfig())
    spec = parse(config.gdt.hypotheses)
    return transformation_requests(refs, np.arange(len(refs)), loader.videos, config.clip, spec, seed)


def batch_for(videos, config, **options):
    """The only batch of all videos, its views by modality, in the order of the rows."""
    with loader_for(videos, config, **options) as loader:
        requests = requests_for(loader, config)
        (batch,) = loader.batches(requests, len(requests))
    views = {name: [v for r in requests for v in r.views if v.modality == name] for name in batch.inputs}
    return batch, views


def decoded(videos, config):
    """Every request with its media and views, before cropping."""
    with loader_for(videos, config) as loader:
        for request, media in loader.media(requests_for(loader, config)):
            for view in request.views:
                stream = MODALITIES[view.modality].stream
                part = media[stream, view.start / config.clip.frame_rate_hz, view.speed]
                yield view, loading.transformed(part, stream, view)


def test_reversal_turns_frames_and_sound_around(videos):
    config = config_with(spec="l")
    found = list(decoded(videos[:2], config))
    assert len(found) == 2 * 4
    for i in range(0, len(found), 4):
        (fv, frames), (_, sound), (bv, frames_back), (_, sound_back) = found[i : i + 4]
        assert (dict(fv.acts)["reversal"], dict(bv.acts)["reversal"]) == (0, 1)
        first = fv.start
        assert [frame_number(f) for f in frames] == [first, first + 1, first + 2, first + 3]
        assert np.array_equal(frames_back, frames[::-1])
        assert np.array_equal(sound_back, sound[::-1])


def test_a_reversed_sound_has_the_spectrogram_that_runs_backwards(videos):
    # With a window at either end, the windows of the reversed sound are those of the sound but for one sample.
    config = config_with("spectrogram.frames=51", spec="l")
    batch, views = batch_for(videos, config)
    x = batch.inputs["audio"]
    assert [dict(v.acts)["reversal"] for v in views["audio"]] == [0, 1] * 6
    forwards, backwards = x[::2], x[1::2]
    assert (forwards - backwards.flip(-1)).abs().mean() < 0.05
    assert (forwards - backwards).abs().mean() > 0.5


def test_rotation_turns_the_frames_by_quarters(videos):
    config = config_with(spec="sample=distinct, rotation=invariant, modality=invariant")
    for i, (view, x) in enumerate(decoded(videos[:1], config)):
        turn = dict(view.acts)["rotation"]
        assert turn == i // 2
        if view.modality == "video":
            upright = np.rot90(x, -turn, axes=(1, 2))
            assert [frame_number(f) for f in upright] == list(range(view.start, view.start + 4))
        else:
            assert x.shape == (8000,)  # the sound is left alone


def test_rotated_clips_of_a_wide_video_reach_the_encoder_with_one_shape(collection):
    videos = usable_videos(seehear.scan(collection, workers=0), ("video", "audio"))
    config = make_config(method="gdt", settings=[*TINY_SETTINGS, "gdt.hypotheses=pirl-rotation"])
    batch, _ = batch_for(videos[:3], config)
    assert batch.inputs["video"].shape == (12, 4, 32, 32, 3)


def test_speed_reads_a_longer_window_and_the_pitch_rises(videos, tmp_path):
    table = make_video(tmp_path / "tone.mp4", seconds=4.5, fps=8, size=(48, 48), gop=4)  # 440 Hz
    spec = "sample=distinct, speed=distinct*3, modality=invariant"
    found = list(decoded(usable_videos(seehear.scan(table, workers=0), ("video", "audio")), config_with(spec=spec)))
    assert [v.speed for v, _ in found] == [1, 1, 2, 2, 4, 4]
    for view, x in found:
        if view.modality == "video":
            assert [frame_number(f) for f in x] == [view.start + view.speed * i for i in range(4)]
        else:
            assert x.shape == (8000,)
            assert x.dtype == np.float32
            assert np.abs(np.fft.rfft(x)).argmax() == pytest.approx(440 * view.speed, abs=1)


def test_sounds_of_every_speed_have_one_length_whatever_the_rate(videos):
    spec = "sample=distinct, speed=distinct*3, modality=invariant"
    config = config_with("clip.sample_rate_hz=11025", "clip.audio_seconds=1.01", spec=spec)
    batch, _ = batch_for(videos[:2], config)
    assert batch.inputs["audio"].shape[0] == 6


def test_a_fast_window_that_ends_with_the_video_is_filled_alike_from_the_cache_and_from_the_file(tmp_path):
    # Training takes videos that are short of the window by up to 0.05 s.
    path = make_video(tmp_path / "short.mp4", seconds=1.97, fps=8, size=(48, 48), wave=sweep(1.97))
    videos = usable_videos(seehear.scan(path, workers=0, min_seconds=1.0), ("video", "audio"))
    config = config_with(spec="sample=distinct, speed=distinct, modality=invariant")
    cache = MediaCache(tmp_path / "cache", 2**30)
    with loader_for(videos, config, cache) as loader:
        assert loader.fill_cache()["cached"] == 1
    shapes = [batch_for(videos, config, cache=c)[0].inputs["audio"].shape for c in (None, cache)]
    assert shapes[0] == shapes[1]


def test_time_shifts_are_distinct_starts_within_the_span():
    clip = ClipConfig(frames=4, frame_rate_hz=8, audio_seconds=1.0)
    video = Video("v", "/v", "f", 0.2, 9.3, 96, 48)
    ref = make_ref("v", 2.0, 5.0)
    spec = parse("sample=distinct, time_shift=distinct*4, speed=invariant, modality=invariant")
    seen = set()
    for seed in range(40):
        (request,) = transformation_requests([ref], np.array([0]), {"v": video}, clip, spec, (seed,))
        starts = list(dict.fromkeys(v.start for v in request.views))
        assert len(starts) == 4
        assert request.views[0].start == request.views[1].start  # sight and sound start together
        seen |= set(starts)
    # From 2 s on, and so that two seconds (a second at double speed) end by 5 s.
    assert seen == set(range(16, 25))


def test_a_clip_without_a_time_shift_starts_anywhere_in_its_span():
    clip = ClipConfig(frames=4, frame_rate_hz=8, audio_seconds=1.0)
    video = Video("v", "/v", "f", 0.0, 3.0, 96, 48)
    starts = set()
    for seed in range(200):
        (request,) = transformation_requests(
            [make_ref("v", 0.0, 3.0)], np.array([0]), {"v": video}, clip, parse("m" if seed % 2 else "e"), (seed,)
        )
        starts |= {v.start for v in request.views}
    assert starts == set(range(17))


def test_requests_depend_on_seed_and_position_alone(videos):
    config = config_with(spec="m")
    with loader_for(videos, config) as loader:
        one, again, other = (requests_for(loader, config, seed) for seed in ((0, 1), (0, 1), (0, 2)))
    assert one == again
    assert one != other
    assert one[0].views != one[1].views


def test_every_view_has_its_own_crop_and_mirror(videos):
    config = config_with("clip.crop_px=32", "augment.flip_probability=0.5", spec="f")
    batch, views = batch_for(videos, config)
    x = batch.inputs["video"]
    assert x.shape == (12, 4, 32, 32, 3)
    # Undo the reversal: the same frames, cropped elsewhere.
    upright = [clip.flip(0) if dict(v.acts)["reversal"] else clip for clip, v in zip(x, views["video"], strict=True)]
    assert sum(torch.equal(upright[2 * i], upright[2 * i + 1]) for i in range(6)) <= 1
    plain = batch_for(videos, replace(config, augment=STILL, clip=replace(config.clip, crop_px=48)))
    assert plain[0].inputs["video"].shape == (12, 4, 48, 48, 3)


def test_every_view_has_its_own_volume_and_masks(videos):
    spec = "simclr-audio"
    still, _ = batch_for(videos, config_with(spec=spec))
    assert torch.equal(still.inputs["audio"][::2], still.inputs["audio"][1::2])
    drawn, _ = batch_for(videos, config_with("augment.volume_jitter=0.1", spec=spec))
    gap = (drawn.inputs["audio"][::2] - drawn.inputs["audio"][1::2]).abs().flatten(1).amax(1)
    assert (gap > 0).all()


@pytest.mark.parametrize("spec", ["m", "sample=distinct, speed=distinct*2, time_shift=distinct, modality=invariant"])
def test_a_video_is_opened_once_a_batch(spec, videos, monkeypatch):
    calls = []
    decode = reading.decode

    def counting(path, windows, **options):
        calls.append((path, len(windows)))
        return decode(path, windows, **options)

    monkeypatch.setattr(reading, "decode", counting)
    batch, _ = batch_for(videos, config_with(spec=spec))
    assert sorted(path for path, _ in calls) == sorted(v.path for v in videos)
    # Views that differ in direction or modality alone share a window.
    assert {windows for _, windows in calls} == {2 if spec == "m" else 4}
    assert len(batch.codes["video"]) == 24


@pytest.mark.parametrize("spec", ["m", "sample=distinct, speed=distinct, time_shift=distinct, modality=invariant"])
def test_cached_and_streamed_transformations_agree(spec, videos, tmp_path):
    config = config_with(spec=spec)
    cache = MediaCache(tmp_path, 2**30)
    with loader_for(videos, config, cache) as loader:
        assert loader.fill_cache() == {"cached": 6, "streamed": 0}
    streamed, cached = (batch_for(videos, config, cache=c)[0] for c in (None, cache))
    assert streamed.clip_ids == cached.clip_ids
    assert torch.equal(streamed.inputs["video"], cached.inputs["video"])
    assert all(torch.equal(streamed.codes[m], cached.codes[m]) for m in ("video", "audio"))
    # AAC decoded from a seek point differs a little from one decoded from the start.
    for a, b in zip(streamed.inputs["audio"], cached.inputs["audio"], strict=True):
        assert np.corrcoef(a.flatten(), b.flatten())[0, 1] > 0.99


def test_codes_name_the_rows_of_each_input(videos):
    config = config_with(spec="m")
    batch, views = batch_for(videos, config)
    for name in ("video", "audio"):
        assert batch.codes[name].tolist() == [list(v.codes) for v in views[name]]
        assert batch.codes[name].dtype == torch.int64
        assert len(batch.codes[name]) == len(batch.inputs[name]) == 24
    assert len(batch) == 6
    assert set(batch.to(torch.device("cpu")).codes) == {"video", "audio"}


def test_a_label_has_codes_and_no_input(videos):
    batch, _ = batch_for(videos, config_with(spec="rotnet"))
    assert set(batch.inputs) == {"video"}
    assert {n: len(c) for n, c in batch.codes.items()} == {"video": 24, "label": 24}


def test_a_video_that_fails_is_left_out_with_all_its_views(tmp_path):
    table = make_collection(tmp_path, n=6)
    videos = usable_videos(seehear.scan(table, workers=0), ("video", "audio"))
    (tmp_path / videos[2].video_id).write_bytes(b"gone")
    config = make_config(method="gdt", settings=[*TINY_SETTINGS, "gdt.hypotheses=l"])
    spec = parse("l")
    with loader_for(videos, config) as loader:
        requests = requests_for(loader, config)
        batches = list(loader.batches(requests, 3))
        assert [len(b) for b in batches] == [2, 3]
        assert loader.failures.counts == {videos[2].video_id: 1}
    assert [len(b.inputs["audio"]) for b in batches] == [4, 6]
    kept = {int(c) for b in batches for c in b.codes["video"][:, spec.column("sample")]}
    assert kept == {r.views[0].codes[0] for r in requests if r.ref.video_id != videos[2].video_id}


def test_motion_is_the_difference_of_successive_frames(videos):
    config = config_with(spec="motion")
    with loader_for(videos, config) as loader:
        assert loader.modalities == ("video", "audio")  # streams
        requests = requests_for(loader, config)
        batch = next(iter(loader.batches(requests, 6)))
        assert torch.equal(batch.inputs["motion"], batch.inputs["video"])  # nothing drawn at random here
        inputs = loader.to_inputs(batch, torch.device("cpu")).inputs
    video, motion = inputs["video"], inputs["motion"]
    assert motion.shape == video.shape == (6, 3, 4, 48, 48)
    assert torch.allclose(motion[:, :, :3], video[:, :, 1:] - video[:, :, :3])
    assert torch.equal(motion[:, :, 3], motion[:, :, 2])


def test_a_request_without_views_is_what_it_was(videos):
    config = config_with(spec="l")
    with loader_for(videos, config) as loader:
        requests = [
            ClipRequest(r.ref, r.start_seconds, r.audio_start_seconds, None) for r in requests_for(loader, config)
        ]
        batch = next(iter(loader.batches(requests, 6)))
    assert batch.codes == {}
    assert len(batch.inputs["video"]) == len(batch.inputs["audio"]) == 6
