"""Views: shapes, ranges, and that each augmentation does what it says and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from seehear.config import AugmentConfig, ClipConfig, Config, SpectrogramConfig
from seehear.data.views import SpectrogramView, Statistics, degraded, normalise_frames, video_view

CLIP = ClipConfig(frames=4, short_side_px=12, crop_px=8)
STILL = AugmentConfig(flip_probability=0.0)


@pytest.fixture
def frames():
    return np.random.default_rng(0).integers(0, 256, (4, 12, 16, 3), dtype=np.uint8)


def test_without_a_generator_the_view_is_the_centre(frames):
    view = video_view(frames, CLIP, AugmentConfig(colour_jitter=0.4), None)
    assert view.dtype == torch.uint8
    assert np.array_equal(view.numpy(), frames[:, 2:10, 4:12])


def test_random_crops_reach_every_corner(frames):
    tops = set()
    for seed in range(200):
        view = video_view(frames, CLIP, STILL, np.random.default_rng(seed)).numpy()
        place = [(y, x) for y in range(5) for x in range(9) if np.array_equal(view, frames[:, y : y + 8, x : x + 8])]
        assert len(place) == 1
        tops.add(place[0])
    assert {(0, 0), (4, 8), (0, 8), (4, 0)} <= tops


def test_a_centre_crop_is_never_moved_and_is_flipped_all_the_same(frames):
    """GDT, appendix A.5."""
    augment = AugmentConfig(crop="centre", flip_probability=0.5)
    views = [video_view(frames, CLIP, augment, np.random.default_rng(seed)).numpy() for seed in range(20)]
    centre = frames[:, 2:10, 4:12]
    straight = [np.array_equal(view, centre) for view in views]
    assert 0 < sum(straight) < 20
    assert all(np.array_equal(view, centre[:, :, ::-1]) for view, same in zip(views, straight, strict=True) if not same)


def test_a_plain_crop_can_lie_at_the_ends_of_the_longer_side(frames):
    """Three crops at test, as GDT's release takes them."""
    for at, left in ((0.0, 0), (0.5, 4), (1.0, 8)):
        assert np.array_equal(video_view(frames, CLIP, STILL, None, at).numpy(), frames[:, 2:10, left : left + 8])
        upright = frames.transpose(0, 2, 1, 3)
        found = video_view(np.ascontiguousarray(upright), CLIP, STILL, None, at).numpy()
        assert np.array_equal(found, upright[:, left : left + 8, 2:10])


def test_a_flip_mirrors_all_frames(frames):
    square = frames[:, 2:10, 4:12]
    view = video_view(square, CLIP, AugmentConfig(flip_probability=1.0), np.random.default_rng(0))
    assert np.array_equal(view.numpy(), square[:, :, ::-1])


def test_a_drawn_short_side_scales_the_frame_before_the_crop():
    # A frame that is a ramp from left to right: scaled to twice its size, a crop spans half the ramp.
    ramp = np.tile(np.arange(0, 160, 10, dtype=np.uint8)[None, None, :, None], (1, 16, 1, 3))
    clip = ClipConfig(frames=1, short_side_px=16, crop_px=16)
    augment = AugmentConfig(flip_probability=0.0, short_side_range_px=(32, 32))
    view = video_view(ramp, clip, augment, np.random.default_rng(0))
    assert view.shape == (1, 16, 16, 3)
    row = view[0, 8, :, 0].float()
    assert float(row[-1] - row[0]) == pytest.approx(75, abs=8)


def test_colour_jitter_is_one_draw_for_all_frames():
    grey = np.full((4, 8, 8, 3), 100, dtype=np.uint8)
    clip = ClipConfig(frames=4, short_side_px=8, crop_px=8)
    views = [
        video_view(grey, clip, AugmentConfig(colour_jitter=0.4), np.random.default_rng(i)).numpy() for i in range(50)
    ]
    assert all(len(np.unique(v)) == 1 for v in views)
    levels = [int(v.flat[0]) for v in views]
    assert min(levels) >= 60
    assert max(levels) <= 140
    assert len(set(levels)) > 20


def test_frames_are_normalised_channel_by_channel():
    statistics = Statistics(pixel_mean=(0.5, 0.25, 0.0), pixel_std=(0.5, 0.25, 1.0))
    frames = torch.tensor([255, 0, 51], dtype=torch.uint8).expand(2, 4, 8, 8, 3)
    x = normalise_frames(frames, statistics)
    assert x.shape == (2, 3, 4, 8, 8)
    assert x[0, :, 0, 0, 0].tolist() == pytest.approx([1.0, -1.0, 0.2])


def audio_config():
    clip = replace(CLIP, audio_seconds=1.0, sample_rate_hz=8000)
    return Config(clip=clip, spectrogram=SpectrogramConfig(mel_bins=16, frames=50))


def test_spectrograms_are_normalised_by_the_collections_statistics():
    waveform = torch.randn(2, 8000, generator=torch.Generator().manual_seed(0)) * 0.1
    plain = SpectrogramView(audio_config(), Statistics())(waveform, AugmentConfig(), None)
    assert plain.shape == (2, 1, 16, 50)
    scaled = SpectrogramView(audio_config(), Statistics(spectrogram_mean=-3.0, spectrogram_std=2.0))
    assert torch.allclose(scaled(waveform, AugmentConfig(), None), (plain + 3) / 2)


def test_volume_jitter_shifts_the_logarithm():
    waveform = torch.randn(1, 8000, generator=torch.Generator().manual_seed(0)) * 0.1
    view = SpectrogramView(audio_config(), Statistics())
    plain = view(waveform, AugmentConfig(), None)
    for seed in range(5):
        factor = np.random.default_rng(seed).uniform(0.9, 1.1)
        jittered = view(waveform, AugmentConfig(volume_jitter=0.1), [np.random.default_rng(seed)])
        assert torch.allclose(jittered - plain, torch.full_like(plain, 2 * np.log(factor)), atol=2e-2)


def test_masks_are_shorter_than_their_limit_and_filled_with_the_mean():
    waveform = torch.randn(64, 8000, generator=torch.Generator().manual_seed(0))
    view = SpectrogramView(audio_config(), Statistics())
    augment = AugmentConfig(time_mask_frames=6, frequency_mask_bins=3)
    x = view(waveform, augment, [np.random.default_rng(i) for i in range(64)])
    columns = (x == 0).all(2).sum(-1).flatten()
    rows = (x == 0).all(3).sum(-1).flatten()
    assert int(columns.max()) == 5
    assert int(rows.max()) == 2
    assert int(columns.min()) == 0


@pytest.mark.parametrize(("side", "factor"), [(112, 4), (112, 16), (32, 8), (30, 4), (5, 16)])
def test_degraded_frames_are_nearest_neighbours_of_nearest_neighbours(side, factor):
    view = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, side, side, 3), dtype=np.uint8))
    planes = view.permute(0, 3, 1, 2).float()
    small = torch.nn.functional.interpolate(planes, size=max(1, round(side / factor)), mode="nearest")
    expected = torch.nn.functional.interpolate(small, size=side, mode="nearest").permute(0, 2, 3, 1)
    assert torch.equal(degraded(view, factor).float(), expected)


def test_a_degradation_of_one_changes_nothing(frames):
    view = torch.from_numpy(frames)
    assert degraded(view, 1) is view
