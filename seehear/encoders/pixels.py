"""Frames as a network was trained on them: scaled, cropped and normalised as its processor's configuration says.

The arithmetic is that of the processors of `transformers` over torchvision (`image_processing_backends.py`,
`video_processing_utils.py` there), in torch alone: frames are scaled as 8-bit levels, with antialiasing, then cropped
in the middle, then normalised in one step. Tests compare the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from seehear.data.views import constant
from seehear.errors import DataError

_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_HALF = (0.5, 0.5, 0.5)
_IMAGENET = {"image_mean": (0.485, 0.456, 0.406), "image_std": (0.229, 0.224, 0.225)}
_INTERPOLATIONS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # by the numbers of Pillow
_SQUARE_224 = {"height": 224, "width": 224}

# What a processor does where its file is silent: files of 2021 state little beyond the mean. A number in the place of a
# size means the shorter side where `shorter` is true, and both sides where it is not.
_SHORTER: dict[str, Any] = {"do_center_crop": True, "size": {"shortest_edge": 224}, "crop_size": 224, "shorter": True}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "CLIPImageProcessor": {**_SHORTER, "resample": 3, "image_mean": _CLIP_MEAN, "image_std": _CLIP_STD},
    "BitImageProcessor": {**_SHORTER, "resample": 3, "image_mean": _CLIP_MEAN, "image_std": _CLIP_STD},
    "VideoMAEImageProcessor": {**_SHORTER, "resample": 2, "image_mean": _HALF, "image_std": _HALF},
    "VideoMAEVideoProcessor": {**_SHORTER, "resample": 2, "image_mean": _HALF, "image_std": _HALF},
    "SiglipImageProcessor": {"resample": 3, "size": _SQUARE_224, "image_mean": _HALF, "image_std": _HALF},
    "ViTImageProcessor": {"resample": 2, "size": _SQUARE_224, "image_mean": _HALF, "image_std": _HALF},
    "VJEPA2VideoProcessor": {"do_center_crop": True, "crop_size": 256, "resample": 2, **_IMAGENET},
    "DINOv3ViTImageProcessor": {"resample": 2, "size": _SQUARE_224, **_IMAGENET},
    "PeVideoVideoProcessor": {"resample": 2, "do_rescale": False, "do_resize": False, "do_normalize": False},
}
_UNKNOWN = ("crop_pct", "do_pad", "do_thumbnail", "do_align_long_axis", "do_grayscale", "patch_size", "max_num_patches")


@dataclass(frozen=True)
class Pixels:
    """What is done to frames before a network sees them."""

    short_side_px: int | None = None
    """Scale so that the shorter side has this many pixels."""
    size_px: tuple[int, int] | None = None
    """Or scale to this height and width, whatever the shape was."""
    crop_px: tuple[int, int] | None = None
    """Then take the middle of this height and width; what is missing is black."""
    interpolation: str = "bilinear"
    factor: float = 1 / 255
    """Levels from 0 to 255 are multiplied by this before the normalisation."""
    offset: float = 0.0
    """And this is subtracted."""
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    rescale_first: bool = False
    """Multiply before scaling, which then rounds to no levels (DINOv3)."""
    antialias: bool = True
    integers: bool = True
    """Scale 8-bit levels in integers where the processor can; or in float32, and round (torchvision's own weights)."""
    centre_rounds: bool = False
    """An odd pixel beside the crop is shared by rounding to even numbers (torchvision's own weights), not down."""

    @property
    def output_px(self) -> tuple[int, int] | None:
        """Height and width of what the network sees of a square; None: those that the frames have."""
        if self.crop_px or self.size_px:
            return self.crop_px or self.size_px
        return (self.short_side_px, self.short_side_px) if self.short_side_px else None

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Pixels:
        given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**given)

    def __call__(self, x: Tensor) -> Tensor:
        """Pixels (B, 3, T, H, W) in [0, 1] to what the network sees, (B, T, 3, H', W') float32.

        Frames that have the network's size already are not scaled: they were, and cropped, when they were decoded.
        """
        batch, _, frames, height, width = x.shape
        x = x.permute(0, 2, 1, 3, 4).reshape(batch * frames, 3, height, width)
        if self.output_px is not None and (height, width) != self.output_px:
            x = self._cropped(self._scaled(x))
        else:
            x = x * 255
        return self._normalised(x).unflatten(0, (batch, frames))

    def _scaled(self, x: Tensor) -> Tensor:
        """Frames (N, 3, H, W) in [0, 1] at the size before the crop, in levels from 0 to 255."""
        height, width = x.shape[-2:]
        size = self.size_px or (height, width)
        if self.short_side_px is not None:
            short, long = sorted((height, width))
            other = int(self.short_side_px * long / short)
            size = (other, self.short_side_px) if width <= height else (self.short_side_px, other)
        if size == (height, width):
            return x * 255
        smooth: dict[str, Any] = {}
        if self.interpolation != "nearest":
            smooth = {"antialias": self.antialias, "align_corners": False}
        if self.rescale_first:
            return F.interpolate(x, size, mode=self.interpolation, **smooth) * 255
        levels = (x * 255).round().clamp(0, 255)
        if self.integers and x.device.type == "cpu":  # which has integer arithmetic of its own for them, as Pillow has
            return F.interpolate(levels.to(torch.uint8), size, mode=self.interpolation, **smooth).float()
        return F.interpolate(levels, size, mode=self.interpolation, **smooth).clamp(0, 255).round()

    def _cropped(self, x: Tensor) -> Tensor:
        if self.crop_px is None:
            return x
        (height, width), (rows, columns) = x.shape[-2:], self.crop_px
        if rows > height or columns > width:
            beside, above = max(columns - width, 0), max(rows - height, 0)
            x = F.pad(x, (beside // 2, beside - beside // 2, above // 2, above - above // 2))
            height, width = x.shape[-2:]
        top, left = (height - rows) // 2, (width - columns) // 2
        if self.centre_rounds:
            top, left = round((height - rows) / 2), round((width - columns) / 2)
        return x[..., top : top + rows, left : left + columns]

    def _normalised(self, x: Tensor) -> Tensor:
        """Levels (N, 3, H, W) from 0 to 255, which are overwritten, as the network wants them."""
        if self.mean is None or self.std is None:
            return x.mul_(self.factor).sub_(self.offset)
        # (x f - o - mean) / std, as the processors do it: all numbers multiplied by 1 / f.
        mean = constant(tuple((m + self.offset) / self.factor for m in self.mean), x.device)[:, None, None]
        std = constant(tuple(s / self.factor for s in self.std), x.device)[:, None, None]
        return x.sub_(mean).div_(std)


def read_pixels(settings: Mapping[str, Any], source: str) -> Pixels:
    """What a processor's configuration says is done to frames; `source` is its file, for errors.

    Raises `DataError` if it says too little, or something that is not done here.
    """
    kind = processor_kind(settings)
    given = {**_DEFAULTS.get(kind, {}), **{k: v for k, v in settings.items() if v is not None}}
    for name in _UNKNOWN:
        if given.get(name):
            raise DataError(f"{source}: {kind or 'the processor'} asks for {name}, which is not done here")

    def stated(name: str) -> Any:
        if name not in given:
            raise DataError(f"{source} does not say {name}", "take the file that belongs to these weights")
        return given[name]

    crop = _pair(stated("crop_size")) if given.get("do_center_crop", False) else None
    short, exact = None, None
    if kind == "VJEPA2VideoProcessor":  # whose size always follows from its crop
        short = int(_pair(given["crop_size"])[0] * 256 / 224)
    elif given.get("do_resize", True):
        size = stated("size")
        if isinstance(size, int) and given.get("shorter", False):
            short = size
        elif isinstance(size, Mapping) and set(size) - {"longest_edge"} == {"shortest_edge"}:
            if size.get("longest_edge"):
                raise DataError(f"{source}: a size with a longest edge is not done here")
            short = int(size["shortest_edge"])
        else:
            exact = _pair(size)
    resample = int(given.get("resample", 2))
    if resample not in _INTERPOLATIONS:
        raise DataError(f"{source}: interpolation {resample} is not done here", "0 to 3 are")
    normalise = given.get("do_normalize", True)
    factor = float(given.get("rescale_factor", 1 / 255)) if given.get("do_rescale", True) else 1.0
    return Pixels(
        short_side_px=short, size_px=exact, crop_px=crop, interpolation=_INTERPOLATIONS[resample], factor=factor,
        offset=1.0 if given.get("offset", False) else 0.0,
        mean=_channels(stated("image_mean")) if normalise else None,
        std=_channels(stated("image_std")) if normalise else None,
        rescale_first=kind == "DINOv3ViTImageProcessor",
    )  # fmt: skip


def processor_kind(settings: Mapping[str, Any]) -> str:
    """The name of the processor that a configuration is of, without what versions of the library appended to it."""
    kinds = ("video_processor_type", "image_processor_type", "feature_extractor_type")
    kind = str(next((settings[key] for key in kinds if settings.get(key)), ""))
    return kind.removesuffix("Fast").removesuffix("Pil").replace("FeatureExtractor", "ImageProcessor")


def _pair(size: Any) -> tuple[int, int]:
    """Height and width of a size as any version of the library wrote it."""
    if isinstance(size, Mapping):
        return int(size["height"]), int(size["width"])
    if isinstance(size, (list, tuple)):
        return int(size[0]), int(size[1])
    return int(size), int(size)


def _channels(values: Any) -> tuple[float, ...]:
    return (float(values),) * 3 if isinstance(values, (int, float)) else tuple(map(float, values))
