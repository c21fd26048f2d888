"""Frames are scaled, cropped and normalised as the processors of their networks do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from seehear.encoders.pixels import Pixels, read_pixels
from seehear.errors import DataError
from tests.encoders.with_torchvision import TORCHVISION

SIZES = [(40, 56), (90, 70), (31, 33), (32, 47), (240, 320)]
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
SMALL = {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}}
SQUARE = {"size": {"height": 32, "width": 32}}
PROCESSORS: list[tuple[str, dict[str, Any]]] = [
    ("CLIPImageProcessor", {}),
    ("CLIPImageProcessor", SMALL),
    ("VideoMAEImageProcessor", {}),
    ("VideoMAEImageProcessor", {**SMALL, "do_normalize": False}),
    ("SiglipImageProcessor", {}),
    ("SiglipImageProcessor", {**SQUARE, "do_rescale": False}),
    ("ViTImageProcessor", {}),
    ("ViTImageProcessor", {"do_resize": False}),
    ("BitImageProcessor", {**SMALL, **IMAGENET}),
    ("BitImageProcessor", {"size": {"shortest_edge": 24}, "crop_size": {"height": 32, "width": 32}}),
    ("DINOv3ViTImageProcessor", {}),
    ("DINOv3ViTImageProcessor", {**SQUARE, **IMAGENET}),
]
VIDEO_PROCESSORS: list[tuple[str, dict[str, Any]]] = [
    ("VideoMAEVideoProcessor", {}),
    ("VideoMAEVideoProcessor", SMALL),
    ("VJEPA2VideoProcessor", {**IMAGENET, "crop_size": 32}),
    ("PeVideoVideoProcessor", {**SQUARE, **IMAGENET, "do_resize": True, "do_normalize": True}),
    ("PeVideoVideoProcessor", {**SQUARE, **IMAGENET, "do_resize": True, "do_normalize": True, "do_rescale": True}),
]


def noise(height: int, width: int, frames: int = 3) -> np.ndarray:
    """Frames (T, H, W, 3) uint8, smooth enough that an interpolation matters and rough enough that it shows."""
    rng = np.random.default_rng(height)
    coarse = rng.integers(0, 256, (frames, height // 4 + 2, width // 4 + 2, 3), dtype=np.uint8)
    large = [np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC)) for frame in coarse]
    return (np.stack(large) // 2 + rng.integers(0, 128, (frames, height, width, 3))).astype(np.uint8)


def given(frames: np.ndarray) -> torch.Tensor:
    """(T, H, W, 3) uint8 as an encoder is given it."""
    return torch.from_numpy(frames).permute(3, 0, 1, 2)[None] / 255


@pytest.mark.skipif(not TORCHVISION, reason="torchvision is not installed: the library's processors need it")
@pytest.mark.parametrize(("name", "settings"), PROCESSORS + VIDEO_PROCESSORS)
@pytest.mark.parametrize("size", SIZES)
def test_frames_are_those_of_the_library(name: str, settings: dict[str, Any], size: tuple[int, int]) -> None:
    """Also where the file is silent and the library has a default of its own."""
    transformers = pytest.importorskip("transformers")
    frames = noise(*size)
    processor = getattr(transformers, name)(**settings)
    stated = {**settings, "image_processor_type": name}
    if "Video" in name.removeprefix("Video"):
        stated = {**settings, "video_processor_type": name}
        made = processor(list(frames), return_tensors="pt", do_sample_frames=False)
        expected = torch.as_tensor(made.get("pixel_values", made.get("pixel_values_videos")))
    else:
        expected = torch.as_tensor(processor(list(frames), return_tensors="pt").pixel_values)
    expected = expected.reshape(1, *expected.shape[-4:])
    found = read_pixels(stated, "a.json")(given(frames))
    torch.testing.assert_close(found, expected.float(), rtol=1e-5, atol=1e-5)
    saved = {k: v for k, v in processor.to_dict().items() if not callable(v)}
    torch.testing.assert_close(read_pixels(saved, "a.json")(given(frames)), found, rtol=0, atol=0)


@pytest.mark.parametrize(("name", "settings"), PROCESSORS)
def test_frames_are_those_of_the_library_with_pillow_to_a_level(name: str, settings: dict[str, Any]) -> None:
    """Pillow rounds between its two passes, so that a few in a hundred are one level off."""
    transformers = pytest.importorskip("transformers", reason="the extra `encoders` is not installed")
    size = settings.get("size", {}).get("shortest_edge", 32)
    if not hasattr(transformers, f"{name}Pil") or settings.get("do_resize") is False or size < 32:
        pytest.skip(f"over Pillow the library has no {name}, or scales nothing, or pads on another side")
    for size in SIZES:
        frames = noise(*size)
        pixels = read_pixels({**settings, "image_processor_type": name}, "a.json")
        made = getattr(transformers, f"{name}Pil")(**settings)(list(frames), return_tensors="pt").pixel_values
        level = pixels.factor / min(pixels.std or (1.0,))
        found = pixels(given(frames))[0]
        off = (found - torch.as_tensor(made).reshape(found.shape)).abs() / level
        assert off.max() <= 2.01 and (off > 1.01).float().mean() < 1e-3 and off.mean() < 0.1


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_frames_are_those_of_pillow_to_one_level(interpolation: str) -> None:
    """Step by step: the shorter side, the middle, the normalisation."""
    filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    pixels = Pixels(36, None, (32, 32), interpolation, mean=(0.1, 0.2, 0.3), std=(0.5, 0.5, 0.5))
    for height, width in SIZES:
        frames = noise(height, width)
        short = min(height, width)
        rows, columns = (36 if side == short else int(36 * side / short) for side in (height, width))
        top, left = (rows - 32) // 2, (columns - 32) // 2
        found = pixels(given(frames))[0]
        for frame, seen in zip(frames, found, strict=True):
            scaled = np.asarray(Image.fromarray(frame).resize((columns, rows), filters[interpolation]))
            middle = scaled[top : top + 32, left : left + 32] / 255
            expected = (middle - np.array([0.1, 0.2, 0.3])) / 0.5
            assert np.abs(seen.permute(1, 2, 0).numpy() - expected).max() <= 1.01 / 255 / 0.5


def test_frames_of_the_network_s_size_are_not_scaled_again() -> None:
    """They were scaled to the shorter side and cropped when they were decoded."""
    pixels = Pixels(36, None, (32, 32), mean=(0.5,) * 3, std=(0.25,) * 3)
    frames = noise(32, 32)
    expected = (torch.from_numpy(frames).permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
    torch.testing.assert_close(pixels(given(frames))[0], expected)
    assert Pixels.from_dict(pixels.to_dict()) == pixels


def test_files_of_earlier_versions_are_read() -> None:
    """CLIP's of 2021, and VideoMAE's of 2022."""
    clip = {"feature_extractor_type": "CLIPFeatureExtractor", "crop_size": 224, "size": 224, "resample": 3}
    clip |= {"do_center_crop": True, "do_normalize": True, "do_resize": True}
    clip |= {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}
    assert read_pixels(clip, "a.json") == read_pixels({"image_processor_type": "CLIPImageProcessor"}, "a.json")
    videomae = {"feature_extractor_type": "VideoMAEFeatureExtractor", "size": 224, "resample": 2, "crop_size": 224}
    read = read_pixels({**videomae, **IMAGENET}, "a.json")
    assert (read.short_side_px, read.crop_px, read.mean) == (224, (224, 224), (0.485, 0.456, 0.406))


def test_what_is_not_done_or_not_said_is_refused() -> None:
    whole = {"size": 32, **IMAGENET}
    assert read_pixels(whole, "a.json").size_px == (32, 32)
    for settings, said in (
        (IMAGENET, r"a\.json does not say size"),
        ({"size": 32}, "does not say image_mean"),
        ({**whole, "resample": 5}, "interpolation 5"),
        ({**whole, "crop_pct": 0.875}, "asks for crop_pct"),
        ({**whole, "size": {"shortest_edge": 3, "longest_edge": 4}}, "longest edge"),
    ):
        with pytest.raises(DataError, match=said):
            read_pixels(settings, "a.json")
