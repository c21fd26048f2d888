"""`torchvision:MODEL:FILE`: a model of torchvision with the weights of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from safetensors.torch import save as safetensors_bytes
from torch import Tensor, nn

from seehear.encoders import place_alone
from seehear.encoders.base import Wanted
from seehear.encoders.families import FRAMES_OF_IMAGES, LONGEST_SECONDS, RATE_OF_IMAGES_HZ
from seehear.encoders.pixels import Pixels
from seehear.encoders.stated import Given, StatedEncoder, split_options, stated_pixels, stated_rate
from seehear.errors import DataError, RunError, UsageError
from seehear.files import write_atomic

_WEIGHTS = "weights.safetensors"
_HEADS = ("fc", "head", "heads", "classifier")
_OPTIONS = ("weights", "mean", "std", "range", "frames", "rate", "size", "crop", "interpolation")

# Frames and their rate that torchvision's weights were trained on (its documentation of each); whether no other number
# of frames can be seen.
_CLIPS: dict[str, tuple[int, float, bool]] = {
    "r3d_18": (16, 15.0, False),
    "mc3_18": (16, 15.0, False),
    "r2plus1d_18": (16, 15.0, False),
    "mvit_v1_b": (16, 7.5, True),
    "mvit_v2_s": (16, 7.5, True),
    "s3d": (128, 15.0, False),
    "swin3d_t": (32, 15.0, False),
    "swin3d_s": (32, 15.0, False),
    "swin3d_b": (32, 15.0, False),
}


class TorchvisionEncoder(StatedEncoder):
    """A model of torchvision without the last layer of its classifier; an image model sees frame by frame."""

    kind = "torchvision"

    def __init__(self, model: str, given: Given, origin: str) -> None:
        super().__init__()
        self.model, self.given, self.origin = model, given, origin
        self.modality, self.wanted = "video", given.wanted
        self.network = torchvision_models().get_model(model, weights=None)
        name, last = _last_layer(self.network, model)
        self.head = name
        self.feature_dim = last.in_features if isinstance(last, nn.Linear) else last.in_channels
        self.network.set_submodule(name, nn.Identity())

    @classmethod
    def open(cls, place: str, modality: str) -> TorchvisionEncoder:
        """The model and the file of a specification, with what it states.

        Raises:
            UsageError: torchvision is not installed or does not load; there is no such model or file; something must
                be stated.
            DataError: the file cannot be read safely, or is of another model.
        """
        if modality != "video":
            raise DataError(f"torchvision:{place} is an encoder of video", "give it to --video-encoder")
        models = torchvision_models()
        model, _, file = place.partition(":")
        names = [*models.list_models(module=models.video), *models.list_models(module=models)]
        if model not in names:
            raise UsageError(
                f"torchvision has no model {model!r}",
                f"write torchvision:MODEL:FILE, as in torchvision:r3d_18:r3d.pth; models are {', '.join(names)}",
            )  # fmt: skip
        path, options = split_options(file, f"torchvision:{model}")
        encoder = cls(model, _given(models, model, path, options), place_alone("torchvision", place))
        encoder._take(_tensors(path), place)
        return encoder

    def _take(self, tensors: dict[str, Tensor], place: str) -> None:
        """Load weights, all but those of the layer that is left out."""
        kept = {k: v for k, v in tensors.items() if not k.startswith(f"{self.head}.")}
        try:
            self.network.load_state_dict(kept)
        except RuntimeError as error:
            lines = " ".join(" ".join(str(error).split("\n")[1:3]).split())
            raise DataError(f"torchvision:{place}: the file is not of {self.model}: {lines[:300]}") from error

    def run(self, x: Tensor) -> Tensor:
        made: Tensor = self.network(x)
        return made.flatten(1)

    def preprocessing(self) -> dict[str, Any]:
        return {**self.given.to_dict(), "model": self.model}

    def description(self) -> dict[str, Any]:
        return {"from": self.origin, "model": self.model, "given": self.given.to_dict()}

    def write_files(self, folder: Path) -> None:
        tensors = {name: x.detach().cpu().contiguous() for name, x in self.network.state_dict().items()}
        write_atomic(folder / _WEIGHTS, safetensors_bytes(tensors))

    @classmethod
    def restore(cls, folder: Path, description: dict[str, Any]) -> TorchvisionEncoder:
        encoder = cls(description["model"], Given.from_dict(description["given"]), description["from"])
        try:
            encoder.network.load_state_dict(load_file(folder / _WEIGHTS))
        except (OSError, RuntimeError) as error:
            raise RunError(f"{folder / _WEIGHTS} does not fit {description['model']}: {error}") from error
        return encoder


def torchvision_models() -> Any:
    """`torchvision.models`. Raises `UsageError` if torchvision is not there, or not of this build of torch."""
    try:
        from torchvision import models
    except (ImportError, RuntimeError) as error:
        raise UsageError(
            f"torchvision: does not load: {' '.join(str(error).split())}",
            f"install the torchvision of the same version and build as torch {torch.__version__}: "
            "python -m pip install 'seehear[torchvision]', from the index that torch is from (pytorch.org says which)",
        ) from error
    return models


def _last_layer(network: nn.Module, model: str) -> tuple[str, Any]:
    """The layer that makes classes of features, with its name."""
    found = [
        (name, layer)
        for name, layer in network.named_modules()
        if isinstance(layer, (nn.Linear, nn.Conv2d, nn.Conv3d)) and name.partition(".")[0] in _HEADS
    ]
    if not found:
        raise UsageError(f"torchvision's {model} has no classifier whose last layer could be left out")
    return found[-1]


def _given(models: Any, model: str, path: Path, options: dict[str, str]) -> Given:
    """What the model is given: by the published weights that the file is, or that are stated, or by the options."""
    for option in options:
        if option not in _OPTIONS:
            raise UsageError(f"{option} cannot be stated of torchvision:", f"what can: {', '.join(_OPTIONS)}")
    published = list(models.get_model_weights(model))
    source = f"torchvision:{model}:{path}"
    chosen = [entry for entry in published if entry.url.rpartition("/")[2] == path.name]
    if "weights" in options:
        chosen = [entry for entry in published if entry.name == options["weights"]]
    if "mean" in options:
        pixels = stated_pixels(options, None, source)
    elif chosen:
        pixels = _published_pixels(chosen[0].transforms())
    else:
        names = ", ".join(entry.name for entry in published)
        raise UsageError(
            f"{source}: neither the file's name nor you say which weights these are",
            f"state ?weights=NAME, of {names}; or ?mean=...&std=...&size=...&crop=... for weights of your own",
        )
    frames, rate, fixed = _CLIPS.get(model, (FRAMES_OF_IMAGES, RATE_OF_IMAGES_HZ, False))
    rate = stated_rate(options) or rate
    if not fixed:
        frames = int(options.get("frames", min(frames, round(rate * LONGEST_SECONDS))))
    elif "rate" not in options:
        rate = max(rate, frames / LONGEST_SECONDS)
    crop = min(pixels.crop_px or (0,))
    wanted = Wanted(frames, rate, 1, pixels.short_side_px or min(pixels.size_px or (crop,)), crop)
    return Given("video", wanted, pixels, "BCTHW" if model in _CLIPS else "BCHW", any_length=not fixed)


def _published_pixels(preset: Any) -> Pixels:
    """What one of torchvision's presets of transforms does."""
    size, crop = list(preset.resize_size), list(preset.crop_size)
    return Pixels(
        short_side_px=size[0] if len(size) == 1 else None,
        size_px=(size[0], size[1]) if len(size) == 2 else None,
        crop_px=(crop[0], crop[-1]),
        interpolation=preset.interpolation.value,
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        antialias=bool(getattr(preset, "antialias", False)),
        integers=False,
        centre_rounds=True,
    )


def _tensors(path: Path) -> dict[str, Tensor]:
    """The state dict of a file. Raises `DataError` if it is none, or more than tensors."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        first = str(error).strip().partition("\n")[0]
        raise DataError(f"{path} is no file of weights that can be read safely: {first}") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise DataError(f"{path} is no state dict", "save model.state_dict() alone")
    return state
