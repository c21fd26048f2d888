"""What a program in a file is given: by what seehear wrote into it, or by what a specification states after the file.

`onnx:model.onnx?mean=0.5,0.5,0.5&std=0.5,0.5,0.5&rate=7.5` states what no ONNX file says. The options stand in
`OPTIONS`; what a file's shapes say needs no stating, and must not be contradicted.
"""

from __future__ import annotations

import difflib
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import torch
from torch import Tensor

from seehear.config import Config
from seehear.data.views import SpectrogramView, Statistics
from seehear.encoders.base import ForeignEncoder, Wanted
from seehear.encoders.families import FRAMES_OF_IMAGES
from seehear.encoders.pixels import Pixels
from seehear.encoders.sounds import Samples
from seehear.errors import DataError, UsageError
from seehear.settings import from_dict, to_dict

OPTIONS: Mapping[str, str] = {
    "mean": "what is subtracted from pixels in [0, 1]: one number, or three for red, green and blue",
    "std": "what they are divided by then",
    "range": "255: pixels are in [0, 255] before mean and std, not in [0, 1]",
    "frames": "frames of a clip",
    "rate": "frames a second; for sound, samples a second",
    "size": "pixels of the shorter side before the crop; the crop's by default",
    "crop": "side of the square that is seen",
    "interpolation": "nearest, bilinear or bicubic, where frames are scaled",
    "layout": "order of the input's axes: BCTHW, BTCHW, or BCHW for frame by frame",
    "seconds": "of sound",
    "normalise": "clip: samples of zero mean and unit deviation in each clip",
    "output": "name of the output that is the feature, where there are several",
    "pool": "mean or first of the tokens, where the output is (B, N, D)",
    "weights": "for torchvision: the name of the published weights whose preprocessing is meant",
}
_OF_FRAMES = ("mean", "std", "range", "frames", "rate", "size", "crop", "interpolation", "layout", "output", "pool")
_OF_SOUND = ("rate", "seconds", "normalise", "output", "pool")
_LAYOUTS = {"BCTHW": (0, 2, 1, 3, 4), "BTCHW": (0, 1, 2, 3, 4), "BCHW": None}  # of (B, T, 3, H, W)
Shape = Sequence[int | None]
"""Sizes of the axes of an input; None where any will do."""


def split_options(place: str, kind: str) -> tuple[Path, dict[str, str]]:
    """The file of a specification, and its options.

    Raises `UsageError` if there is no such file or no such option.
    """
    name, mark, query = place.rpartition("?")
    if not mark or Path(place).exists():
        name, query = place, ""
    path = Path(name)
    if not path.is_file():
        raise UsageError(f"{kind}:{name} is no file", "give the path of the file")
    try:
        given = dict(parse_qsl(query, strict_parsing=True, keep_blank_values=True)) if query else {}
    except ValueError as error:
        raise UsageError(f"{query!r} states nothing", "write it like mean=0.5&std=0.5&rate=7.5") from error
    for option in given:
        if option not in OPTIONS:
            close = difflib.get_close_matches(option, OPTIONS, 1)
            raise UsageError(
                f"there is no {option!r} to be stated of {kind}:",
                f"did you mean {close[0]}?" if close else f"what can be stated: {', '.join(OPTIONS)}",
            )
    return path, given


@dataclass(frozen=True)
class Given:
    """What a program is given of a clip. One of `pixels`, `spectrogram` and `samples` says how it is made."""

    modality: str
    wanted: Wanted
    pixels: Pixels | None = None
    layout: str = "BCTHW"
    any_length: bool = False
    """Clips of other numbers of frames than `wanted` can be seen too."""
    spectrogram: Mapping[str, Any] | None = None
    """Settings and statistics of a run's spectrogram."""
    samples: Mapping[str, Any] | None = None
    channel: bool = False
    """Samples are (B, 1, S)."""
    _made: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "modality": self.modality, "wanted": asdict(self.wanted), "layout": self.layout, "channel": self.channel,
            "any_length": self.any_length,
            "pixels": self.pixels and self.pixels.to_dict(), "spectrogram": self.spectrogram, "samples": self.samples,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Given:
        pixels = values["pixels"] and Pixels.from_dict(values["pixels"])
        return cls(**{**values, "wanted": Wanted(**values["wanted"]), "pixels": pixels})

    @property
    def fixed(self) -> frozenset[str]:
        """What of `wanted` cannot be otherwise: sizes are scaled, and a rate of frames is borne."""
        if self.pixels is not None:
            return frozenset() if self.by_frame or self.any_length else frozenset({"frames"})
        return frozenset(self.wanted.settings())

    @property
    def by_frame(self) -> bool:
        """Whether frames are seen one by one, and their features averaged."""
        return self.layout == "BCHW"

    def __call__(self, x: Tensor) -> Tensor:
        """Pixels (B, 3, T, H, W) in [0, 1] or samples (B, S) as the program wants them; frame by frame: (B, T, ...).

        Raises `DataError` if the program can take no clip of this length.
        """
        if self.pixels is not None:
            frames = self.wanted.frames
            if frames is not None and not (self.by_frame or self.any_length) and x.shape[2] != frames:
                raise DataError(f"it sees clips of {frames} frames, not {x.shape[2]}", f"--set clip.frames={frames}")
            axes = _LAYOUTS[self.layout]
            seen = self.pixels(x)
            return seen if axes is None else seen.permute(axes).contiguous()
        if self.spectrogram is not None:
            if "view" not in self._made:
                config = from_dict(self.spectrogram["config"])
                self._made["config"] = config
                self._made["view"] = SpectrogramView(config, Statistics.from_dict(self.spectrogram["statistics"]))
            return self._made["view"].to(x.device)(x, self._made["config"].augment, None)
        assert self.samples is not None
        seconds, rate = self.wanted.audio_seconds, self.wanted.sample_rate_hz
        if seconds is not None and rate is not None and x.shape[1] != round(seconds * rate):
            raise DataError(
                f"it hears clips of {seconds:g} s, not {x.shape[1] / rate:g} s", f"--set clip.audio_seconds={seconds:g}"
            )
        x = Samples(self.samples)(x)
        return x[:, None] if self.channel else x


def by_facts(facts: Mapping[str, Any], modality: str, source: str) -> Given:
    """What a program is given that `seehear weights export` wrote, by the facts it wrote into it.

    Raises `DataError` if it is of another modality.
    """
    sees, told = facts["encoder"]["sees"], facts["preprocessing"]
    if sees != modality:
        raise DataError(f"{source} is an encoder of {sees}, not of {modality}", "give it to the other option")
    if modality == "video":
        crop = int(told["centre_crop_px"])
        pixels = Pixels(
            short_side_px=int(told["short_side_px"]), crop_px=(crop, crop),
            mean=tuple(told["pixel_mean"]), std=tuple(told["pixel_std"]),
        )  # fmt: skip
        wanted = Wanted(told["frames"], told["frame_rate_hz"], told["stride"], told["short_side_px"], crop)
        return Given(modality, wanted, pixels)
    config = Config()
    names = ("kind", "mel_bins", "frames", "hop_seconds", "window_seconds", "n_fft", "f_min_hz", "f_max_hz")
    config = replace(
        config,
        clip=replace(config.clip, audio_seconds=told["seconds"], sample_rate_hz=told["sample_rate_hz"]),
        spectrogram=replace(
            config.spectrogram, **{name: told[name] for name in names},
            log_offset=told.get("log_offset", config.spectrogram.log_offset),
        ),
    )  # fmt: skip
    statistics = Statistics(spectrogram_mean=told["spectrogram_mean"], spectrogram_std=told["spectrogram_std"])
    kept = {"config": to_dict(config), "statistics": statistics.to_dict()}
    wanted = Wanted(audio_seconds=told["seconds"], sample_rate_hz=told["sample_rate_hz"])
    return Given(modality, wanted, spectrogram=kept)


def by_options(given: Mapping[str, str], modality: str, shape: Shape, source: str) -> Given:
    """What a program of others is given, by the options of its specification and the shape of its input.

    Raises `UsageError` if something must be stated, or contradicts the shape.
    """
    known = _OF_FRAMES if modality == "video" else _OF_SOUND
    for option in given:
        if option not in known:
            raise UsageError(f"{option} cannot be stated of an encoder of {modality}", f"what can: {', '.join(known)}")
    return (_frames if modality == "video" else _sound)(given, shape, source)


def stated_pixels(given: Mapping[str, str], crop: int | None, source: str) -> Pixels:
    """What options say of pixels; `crop` is the side that a program fixes. Raises `UsageError` if something is left."""
    for name in ("mean", "std"):
        if name not in given:
            raise UsageError(
                f"{source} does not say how its pixels are normalised, and neither do you",
                "state it after the file, such as '?mean=0.485,0.456,0.406&std=0.229,0.224,0.225'; "
                "mean=0&std=1 for pixels in [0, 1]",
            )
    crop = _agreed("crop", _whole(given, "crop"), crop, source)
    if crop is None:
        raise UsageError(f"the side of the square that {source} sees must be stated", "state crop, such as crop=224")
    levels = given.get("range", "1")
    if levels not in ("1", "255"):
        raise UsageError(f"pixels have no range {levels!r}", "state range=255, or leave it out")
    interpolation = given.get("interpolation", "bilinear")
    if interpolation not in ("nearest", "bilinear", "bicubic"):
        raise UsageError(f"there is no interpolation {interpolation!r}", "nearest, bilinear or bicubic")
    return Pixels(
        short_side_px=_whole(given, "size") or crop, crop_px=(crop, crop), interpolation=interpolation,
        factor=1.0 if levels == "255" else 1 / 255, mean=_channels(given, "mean"), std=_channels(given, "std"),
    )  # fmt: skip


def _frames(given: Mapping[str, str], shape: Shape, source: str) -> Given:
    layout = given.get("layout") or _layout_of(shape, source)
    if layout not in _LAYOUTS:
        raise UsageError(f"there is no layout {layout!r}", f"choose one of {', '.join(_LAYOUTS)}")
    if len(layout) != len(shape) or shape[layout.index("C")] not in (3, None):
        raise UsageError(f"the input of {source} is {_shape(shape)}, which is not {layout}", "state another layout")
    height, width = shape[layout.index("H")], shape[layout.index("W")]
    if height != width:
        raise UsageError(f"the input of {source} is {_shape(shape)}, not square", "export it for square frames")
    pixels = stated_pixels(given, height, source)
    stated = _whole(given, "frames")
    frames = _agreed("frames", stated, shape[layout.index("T")], source) if "T" in layout else stated
    if frames is None and layout == "BCHW":
        frames = FRAMES_OF_IMAGES
    rate = stated_rate(given)
    wanted = Wanted(frames, rate, 1 if rate else None, pixels.short_side_px, min(pixels.crop_px or (0,)))
    return Given("video", wanted, pixels, layout)


def stated_rate(given: Mapping[str, str]) -> float | None:
    """The rate that options state."""
    return _number(given, "rate")


def _layout_of(shape: Shape, source: str) -> str:
    """The order of axes that a shape allows, if there is but one."""
    fitting = [layout for layout in _LAYOUTS if len(layout) == len(shape) and shape[layout.index("C")] == 3]
    if len(fitting) != 1:
        raise UsageError(
            f"the input of {source} is {_shape(shape)}: the order of its axes must be stated",
            f"state layout, one of {', '.join(_LAYOUTS)}" if 4 <= len(shape) <= 5 else "is it an encoder of video?",
        )
    return fitting[0]


def _sound(given: Mapping[str, str], shape: Shape, source: str) -> Given:
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[1] != 1):
        raise UsageError(
            f"the input of {source} is {_shape(shape)}; of others' programs those of sound take samples, (B, S) or "
            "(B, 1, S)", "put the making of its spectrogram into the program when you export it",
        )  # fmt: skip
    rate = _whole(given, "rate")
    if rate is None:
        raise UsageError(f"{source} does not say how many samples a second it takes", "state it: ?rate=16000")
    fixed = shape[-1] and shape[-1] / rate
    seconds = _number(given, "seconds")
    if fixed and seconds and round(seconds * rate) != shape[-1]:
        raise UsageError(f"{source} takes {shape[-1]} samples, which are {fixed:g} s, not {seconds:g} s")
    normalise = given.get("normalise")
    if normalise not in (None, "clip"):
        raise UsageError(f"samples are not normalised by {normalise!r}", "state normalise=clip, or leave it out")
    samples = {"sampling_rate": rate, "do_normalize": normalise == "clip"}
    wanted = Wanted(audio_seconds=fixed or seconds, sample_rate_hz=rate)
    return Given("audio", wanted, samples=samples, channel=len(shape) == 3)


class StatedEncoder(ForeignEncoder):
    """An encoder that is given what `given` says, clip by clip or, where it sees single frames, frame by frame."""

    given: Given

    @property
    def fixed(self) -> frozenset[str]:
        return self.given.fixed

    def prepared(self, x: Tensor) -> Tensor:
        return self.given(x)

    def features(self, x: Tensor) -> Tensor:
        if not self.given.by_frame:
            return self.run(x)
        return self.run(x.flatten(0, 1)).unflatten(0, x.shape[:2]).mean(1)

    @abstractmethod
    def run(self, x: Tensor) -> Tensor:
        """What the network makes of a batch of its inputs: (B, D)."""


def given_by(
    facts: Mapping[str, Any] | None, options: dict[str, str], modality: str, shape: Shape, source: str
) -> Given:
    """What a program is given: by `facts` that seehear wrote into its file, or else by `options` and its input's shape.

    Raises `UsageError` if both are there, and what `by_facts` and `by_options` do.
    """
    if facts is None:
        return by_options(options, modality, shape, source)
    if options:
        raise UsageError(f"{source} says itself what it is given", f"leave out ?{'&'.join(options)}")
    return by_facts(facts, modality, source)


def in_turns(x: Tensor, size: int | None, run: Callable[[Tensor], Tensor]) -> Tensor:
    """What `run` makes of inputs (B, ...), so many at a time where a `size` is fixed: the last fills up the rest."""
    size = size or max(len(x), 1)
    made = []
    for part in x.split(size):
        missing = size - len(part)
        filled = torch.cat([part, part[-1:].expand(missing, *part.shape[1:])]) if missing else part
        made.append(run(filled)[: len(part)])
    return torch.cat(made)


def feature_of(made: Tensor, pool: str | None, source: str) -> Tensor:
    """The features (B, D) in an output, (B, D) or with `pool` (B, N, D). Raises `UsageError` if it is another shape."""
    if pool not in (None, "mean", "first"):
        raise UsageError(f"there is no pool {pool!r}", "state pool=mean or pool=first")
    if made.dim() == 2:
        return made
    if made.dim() == 3 and pool is not None:
        return made.mean(1) if pool == "mean" else made[:, 0]
    if made.dim() > 3 and all(size == 1 for size in made.shape[2:]):
        return made.flatten(1)
    raise UsageError(
        f"the output of {source} is {tuple(made.shape)}, not one feature a clip",
        "state pool=mean or pool=first" if made.dim() == 3 else "state another output",
    )


def blank(given: Given, batch: int) -> Tensor:
    """Clips (batch, ...) as `Given` takes them, of the shape that is wanted: to try a program with."""
    wanted = given.wanted
    if given.modality == "video":
        assert wanted.crop_px is not None
        return torch.zeros(batch, 3, wanted.frames or 8, wanted.crop_px, wanted.crop_px)
    assert wanted.sample_rate_hz is not None
    return torch.zeros(batch, round((wanted.audio_seconds or 2.0) * wanted.sample_rate_hz))


def _agreed(name: str, stated: int | None, fixed: int | None, source: str) -> int | None:
    if stated is not None and fixed is not None and stated != fixed:
        raise UsageError(f"{source} has {name} of {fixed}, not {stated}", f"leave {name} out")
    return stated if fixed is None else fixed


def _number(given: Mapping[str, str], name: str) -> float | None:
    if name not in given:
        return None
    try:
        value = float(given[name])
    except ValueError as error:
        raise UsageError(f"{name}={given[name]} is no number") from error
    if not value > 0:
        raise UsageError(f"{name}={given[name]} is not greater than zero")
    return value


def _whole(given: Mapping[str, str], name: str) -> int | None:
    value = _number(given, name)
    if value is not None and value != int(value):
        raise UsageError(f"{name}={given[name]} is no whole number")
    return None if value is None else int(value)


def _channels(given: Mapping[str, str], name: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in given[name].split(","))
    except ValueError as error:
        raise UsageError(f"{name}={given[name]} is no list of numbers", "write it like 0.5,0.5,0.5") from error
    if len(values) not in (1, 3) or (name == "std" and not all(value > 0 for value in values)):
        raise UsageError(f"{name}={given[name]} does not fit three channels", "give one number or three")
    return values * 3 if len(values) == 1 else values


def _shape(shape: Shape) -> str:
    return "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"
