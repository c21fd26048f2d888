"""Views made on the device are the loader's own: the same draws, the same bytes of frames, the same spectrograms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import seehear
from seehear.config import ClusterConfig
from seehear.data.clips import clip_refs, plain_requests, training_requests, transformation_requests
from seehear.data.device_views import RawBatch, filter_weights, raw_frames, scaled
from seehear.data.loader import ClipLoader
from seehear.data.views import FrameDraw, Statistics
from seehear.features.model import usable_videos
from seehear.hypotheses.language import parse
from seehear.pretraining.plan import make_config
from tests.conftest import TINY_SETTINGS
from tests.corpus import make_video

BOTH = {"video": "video", "audio": "audio"}
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")),
]
STATISTICS = Statistics(spectrogram_mean=-4.0, spectrogram_std=2.5)
SCALED = ("augment.short_side_range_px=[32,40]", "augment.volume_jitter=0.3", "augment.time_mask_frames=9",
          "augment.frequency_mask_bins=5")  # fmt: skip
COLOURS = ("augment.colour_jitter=0.4",)
RELEASE = ("spectrogram.kind=logfbank", "spectrogram.window_seconds=0.02", "augment.volume_jitter=0.2")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Wide, high and small ones: the last have no room for a crop of 32 pixels."""
    folder = tmp_path_factory.mktemp("shapes")
    for number, size in enumerate([(64, 48), (48, 64), (96, 48), (64, 64)]):
        make_video(folder / f"{number}.mp4", size=size, seconds=2.5)
    return usable_videos(seehear.scan(folder, workers=0), ("video", "audio"))


def both_ways(videos, config, requests_of, device, views=BOTH, **options):
    """The inputs of one batch, with views made by the loader on the CPU and by the device."""
    found = []
    for on_device in (False, True):
        with ClipLoader(
            videos, config, views, STATISTICS, workers=0, cache=None, device_views=on_device, **options
        ) as loader:
            requests = requests_of(loader)
            (batch,) = loader.batches(requests, len(requests))
            assert isinstance(batch, RawBatch) == on_device
            where = torch.device(device if on_device else "cpu")
            found.append(loader.to_inputs(batch, where))
            assert all(x.device.type == where.type for x in found[-1].inputs.values())
    return found


def random_requests(config):
    def make(loader):
        refs = clip_refs(list(loader.videos.values()), ClusterConfig())
        order = np.tile(np.arange(len(refs)), 3)
        return training_requests(refs, order, loader.videos, config.clip, config.augment, (3, 1))

    return make


def same_frames(a, b, levels=0.0):
    """Normalised frames that differ by at most so many levels of 255 (a level is at most 1 / (255 x .2169))."""
    return a.stride() == b.stride() and float((a - b.cpu()).abs().max()) <= (levels + 1e-3) / (255 * 0.2169)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("settings", [(), SCALED, COLOURS, (*SCALED, *COLOURS), RELEASE])
def test_random_views_are_those_of_the_cpu(settings, device, videos):
    config = make_config(settings=[*TINY_SETTINGS, *settings])
    cpu, other = both_ways(videos, config, random_requests(config), device)
    assert cpu.clip_ids == other.clip_ids
    # Means over a clip's colours are sums in another order on a GPU: a level may be rounded to its neighbour.
    assert same_frames(cpu.inputs["video"], other.inputs["video"], device == "cuda" and COLOURS[0] in settings)
    assert torch.allclose(cpu.inputs["audio"], other.inputs["audio"].cpu(), atol=2e-5, rtol=1e-5)
    if device == "cpu":
        assert all(torch.equal(cpu.inputs[name], other.inputs[name]) for name in BOTH)


@pytest.mark.parametrize("device", DEVICES)
def test_clips_smaller_than_the_crop_are_scaled_up_beside_whole_ones(device, tmp_path):
    for number, size in enumerate([(64, 48), (26, 20)]):
        make_video(tmp_path / f"{number}.mp4", size=size, seconds=2.5)
    videos = usable_videos(seehear.scan(tmp_path, workers=0), ("video", "audio"))
    config = make_config(settings=[*TINY_SETTINGS, "clip.short_side_px=33", "augment.flip_probability=1"])
    cpu, other = both_ways(videos, config, random_requests(config), device)
    assert same_frames(cpu.inputs["video"], other.inputs["video"])


@pytest.mark.parametrize("device", DEVICES)
def test_plain_clips_at_any_place_and_degraded(device, videos):
    config = make_config(settings=TINY_SETTINGS)

    def plain(loader):
        loader.crop_at = 1.0
        return plain_requests(clip_refs(videos, ClusterConfig()), loader.videos, config.clip, 2)

    cpu, other = both_ways(videos, config, plain, device, degradation=4)
    assert same_frames(cpu.inputs["video"], other.inputs["video"])
    assert torch.allclose(cpu.inputs["audio"], other.inputs["audio"].cpu(), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("device", DEVICES)
def test_transformations_and_motion(device, videos):
    config = make_config(settings=[*TINY_SETTINGS, *SCALED])
    spec = parse(
        "sample=distinct, time_shift=distinct, reversal=invariant, modality=invariant:motion+audio, augment=invariant"
    )

    def transformed(loader):
        refs = clip_refs(videos, ClusterConfig())
        return transformation_requests(refs, np.arange(len(refs)), loader.videos, config.clip, spec, (0, 1))

    cpu, other = both_ways(videos, config, transformed, device, views={"motion": "motion", "audio": "audio"})
    assert {name: x.tolist() for name, x in cpu.codes.items()} == {name: x.tolist() for name, x in other.codes.items()}
    assert same_frames(cpu.inputs["motion"], other.inputs["motion"])
    assert torch.allclose(cpu.inputs["audio"], other.inputs["audio"].cpu(), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("size", "out"), [(140, 112), (112, 128), (20, 32), (7, 32), (333, 64), (256, 224), (64, 64)])
def test_scaling_has_the_bytes_of_pytorchs_filter(size, out, device):
    pixels = torch.randint(0, 256, (2, 3, size, size, 3), dtype=torch.uint8)
    weights, bits = filter_weights(size, out)
    assert int(weights.abs().max()) < 2**15
    flips = torch.tensor([False, True])
    values = (pixels, weights.expand(2, -1, -1), torch.tensor([bits] * 2), torch.tensor([size] * 2), flips)
    found = scaled(*(x.to(device) for x in values)).cpu()
    for clip, mirrored, view in zip(pixels, flips, found, strict=True):
        clip = clip.flip(2) if mirrored else clip
        channels = F.interpolate(clip.permute(0, 3, 1, 2), size=(out, out), mode="bilinear", antialias=True)
        assert torch.equal(view, channels.permute(0, 2, 3, 1))


def test_squares_of_different_size_lie_in_one_corner():
    clips = [np.arange(2 * 6 * 8 * 3, dtype=np.uint8).reshape(2, 6, 8, 3) for _ in range(2)]
    raw = raw_frames(clips, [FrameDraw(1, 2, 4, True), FrameDraw(0, 1, 6)], 4, pinned=False)
    assert raw.pixels.shape == (2, 2, 6, 6, 3)
    assert np.array_equal(raw.pixels[0, :, :4, :4].numpy(), clips[0][:, 1:5, 2:6])
    made = raw.made(torch.device("cpu"), 1)
    assert np.array_equal(made[0].numpy(), clips[0][:, 1:5, 2:6][:, :, ::-1])
