"""Models of torchvision by the file of their weights."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from seehear.encoders import open_encoder, read_encoder
from seehear.encoders.of_torchvision import _published_pixels
from seehear.errors import DataError, UsageError
from tests.encoders.tiny_programs import clips
from tests.encoders.with_torchvision import TORCHVISION

needs_torchvision = pytest.mark.skipif(not TORCHVISION, reason="torchvision is not installed")


@needs_torchvision
def test_frames_are_those_of_the_presets() -> None:
    """Of every video model, and of image models with another interpolation and size."""
    from torchvision import models

    for name in ("r3d_18", "mvit_v2_s", "s3d", "swin3d_t", "resnet18", "vit_b_16", "swin_v2_t"):
        for weights in models.get_model_weights(name):
            preset = weights.transforms()
            pixels = _published_pixels(preset)
            for height, width in ((40, 57), (97, 70)):
                levels = torch.randint(0, 256, (3, 3, height, width), dtype=torch.uint8)
                found = pixels(levels.permute(1, 0, 2, 3)[None] / 255)[0]
                made = preset(levels)
                expected = made.permute(1, 0, 2, 3) if "Video" in type(preset).__name__ else made
                torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@needs_torchvision
@pytest.mark.parametrize(
    ("name", "file", "dim", "frames", "rate"),
    [("mc3_18", "mc3_18-a90a0ba3.pth", 512, 16, 15.0), ("resnet18", "resnet18-f37072fd.pth", 512, 4, 4.0)],
)
def test_features_are_those_before_the_classifier(
    tmp_path: Path, name: str, file: str, dim: int, frames: int, rate: float
) -> None:
    from torchvision import models

    torch.manual_seed(0)
    model = models.get_model(name, num_classes=7).eval()
    torch.save(model.state_dict(), tmp_path / file)
    encoder = open_encoder(f"torchvision:{name}:{tmp_path / file}", "video")
    assert encoder.feature_dim == dim
    assert (encoder.wanted.frames, encoder.wanted.frame_rate_hz) == (frames, rate)
    x = clips("video", side=encoder.wanted.crop_px or 0)
    with torch.inference_mode():
        features, seen = encoder(x), encoder.prepared(x)
        if name == "resnet18":
            classes = model(seen.flatten(0, 1)).unflatten(0, (2, 4)).mean(1)
        else:
            classes = model(seen)
        torch.testing.assert_close(model.fc(features), classes, rtol=1e-4, atol=1e-4)
    encoder.write(tmp_path)
    again = read_encoder(tmp_path)
    with torch.inference_mode():
        assert torch.equal(again(x), features)
    assert again.content() == encoder.content()
    stated = open_encoder(f"torchvision:{name}:{tmp_path / file}?mean=0&std=1&crop=64&frames=5&rate=10", "video")
    assert stated.content() != encoder.content()
    assert stated.wanted.settings() == {
        "frames": 5, "frame_rate_hz": 10, "stride": 1, "short_side_px": 64, "crop_px": 64
    }  # fmt: skip
    (tmp_path / file).rename(tmp_path / "mine.pth")
    with pytest.raises(UsageError, match="which weights these are"):
        open_encoder(f"torchvision:{name}:{tmp_path / 'mine.pth'}", "video")
    other = "r3d_18" if name == "mc3_18" else "resnet34"
    with pytest.raises(DataError, match=f"is not of {other}"):
        open_encoder(f"torchvision:{other}:{tmp_path / 'mine.pth'}?mean=0&std=1&crop=64", "video")


@needs_torchvision
def test_what_names_no_model_is_said(tmp_path: Path) -> None:
    torch.save([Path("a")], tmp_path / "a.pth")
    with pytest.raises(UsageError, match="has no model 'r3d'"):
        open_encoder(f"torchvision:r3d:{tmp_path / 'a.pth'}", "video")
    with pytest.raises(DataError, match="encoder of video"):
        open_encoder("torchvision:r3d_18:a.pth", "audio")
    with pytest.raises(DataError, match="read safely"):
        open_encoder(f"torchvision:r3d_18:{tmp_path / 'a.pth'}?mean=0&std=1&crop=64", "video")


def test_torchvision_that_does_not_load_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(UsageError, match="torchvision: does not load"):
        open_encoder(f"torchvision:r3d_18:{tmp_path}", "video")
