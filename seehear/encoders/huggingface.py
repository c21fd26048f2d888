"""`hf:PATH` or `hf:ID@REVISION`: encoders in the folders of Hugging Face's `transformers`.

A folder holds `config.json`, `preprocessor_config.json` and weights in `.safetensors`. Nothing in it is run: neither
code of its own nor a pickle. An id is looked for in the hub's cache on this machine alone.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from safetensors.torch import save as safetensors_bytes
from torch import Tensor, nn

from seehear.encoders.base import ForeignEncoder, Wanted, available_bytes
from seehear.encoders.families import (
    FAMILIES,
    FRAMES_OF_IMAGES,
    GENERIC,
    LONGEST_SECONDS,
    RATE_OF_IMAGES_HZ,
    Family,
    known,
)
from seehear.encoders.hub import check_installed, licence_of, located
from seehear.encoders.pixels import Pixels, read_pixels
from seehear.encoders.sounds import Sound, read_sound
from seehear.errors import DataError, RunError, UsageError
from seehear.files import write_atomic

_WEIGHTS = "model.safetensors"
_PROCESSORS = ("processor_config.json", "video_preprocessor_config.json", "preprocessor_config.json")


class HuggingFaceEncoder(ForeignEncoder):
    """The part of a model of `transformers` that sees, or hears, with the preprocessing that its folder states."""

    kind = "hf"

    def __init__(self, network: nn.Module, name: str, processor: Mapping[str, Any], origin: Mapping[str, Any]) -> None:
        """`name` is the key in `FAMILIES`, or "" for another image model; `origin` says where it is from."""
        super().__init__()
        self.family_name, self.processor, self.origin = name, dict(processor), dict(origin)
        self.family = FAMILIES.get(name, GENERIC)
        self.modality = self.family.modality
        self.network = network
        for part in (*self.family.without, *self.origin.get("without", ())):
            setattr(network, part, None)
        self.feature_dim = self.family.dim(network.config)
        self.sound: Sound | None = None
        self.pixels: Pixels | None = None
        source = f"the processor of hf:{self.origin['from']}"
        if self.modality == "audio":
            self.sound = read_sound(processor, source)
            self.wanted = Wanted(sample_rate_hz=self.sound.sample_rate_hz)
        else:
            self.pixels = read_pixels(processor, source)
            self.wanted = self._wanted_of_frames(self.pixels)

    def _wanted_of_frames(self, pixels: Pixels) -> Wanted:
        """Frames as they were trained on, within `LONGEST_SECONDS`, and the size that leaves nothing to scale."""
        frames, rate = FRAMES_OF_IMAGES, RATE_OF_IMAGES_HZ
        if self.family.frames is not None:
            frames = self.family.frames(self.network.config)
            rate = self.family.rate_hz or frames / LONGEST_SECONDS
            if not self.family.fixed_frames:
                frames = min(frames, round(rate * LONGEST_SECONDS))
            rate = max(rate, frames / LONGEST_SECONDS)
        crop = min(pixels.output_px) if pixels.output_px else None
        short = max(pixels.short_side_px or crop or 0, crop or 0) or None
        return Wanted(frames=frames, frame_rate_hz=rate, stride=1, short_side_px=short, crop_px=crop)

    @property
    def fixed(self) -> frozenset[str]:
        """Its rate of sound, and its number of frames where it knows no other; sizes it scales, and rates it bears."""
        frames = {"frames"} if self.family.frames is not None and self.family.fixed_frames else set()
        return frozenset({"sample_rate_hz"} if self.modality == "audio" else frames)

    @classmethod
    def open(cls, place: str, modality: str) -> HuggingFaceEncoder:
        """The encoder of a modality in the folder `place`, or in the hub's cache under the id `place`.

        Raises:
            UsageError: `transformers` is not installed; the id is not in the cache.
            DataError: the folder holds no encoder of this modality, lacks a file, or asks for code of its own.
        """
        check_installed()
        folder, origin = located(place)
        config = _json(folder / "config.json")
        name, family = _family(config, modality, place)
        processor = _processor_settings(folder, family.takes, place)
        _check_weights(folder, place)
        origin |= {"licence": licence_of(folder)}
        network, without = _loaded(folder, family, place)
        encoder = cls(network, name, processor, origin | {"without": without})
        if family is GENERIC:
            encoder._try_a_frame(place)
        return encoder

    def _try_a_frame(self, place: str) -> None:
        """Raise `DataError` if a network that is not known here makes no feature of an image, or another each time."""
        side = self.wanted.crop_px or 224
        try:
            with torch.inference_mode():
                made, again = (self.eval()(torch.linspace(0, 1, side).expand(1, 3, 1, side, side)) for _ in range(2))
        except (TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
            first = str(error).strip().partition("\n")[0]
            raise DataError(
                f"hf:{place} ({self.family_name}) makes no feature of an image: {first}",
                "take a model of a known kind (`seehear encoders`), or an ONNX export of the part that sees",
            ) from error
        if not torch.equal(made, again):
            raise DataError(
                f"hf:{place} ({self.family_name}) makes another feature of an image each time: it draws at random",
                "take a model of a known kind (`seehear encoders`)",
            )
        self.feature_dim = made.shape[-1]

    def prepared(self, x: Tensor) -> Tensor:
        """Pixels (B, 3, T, H, W) as (B, T, 3, H', W'), or samples (B, S) as its feature extractor makes them."""
        if self.sound is not None:
            prepared: Tensor = self.sound(x)
            return prepared
        assert self.pixels is not None
        if self.family.frames is not None and self.family.fixed_frames:
            wanted = self.family.frames(self.network.config)
            if x.shape[2] != wanted:
                raise DataError(
                    f"hf:{self.origin['from']} sees clips of {wanted} frames, not {x.shape[2]}",
                    f"--set clip.frames={wanted}",
                )
        return self.pixels(x)

    def features(self, x: Tensor) -> Tensor:
        if self.family.takes != "frames":
            return self.family.features(self.network, x)
        batch, frames = x.shape[:2]
        return self.family.features(self.network, x.flatten(0, 1)).unflatten(0, (batch, frames)).mean(1)

    def preprocessing(self) -> dict[str, Any]:
        if self.sound is not None:
            return {"sound": self.sound.settings, "family": self.family_name}
        assert self.pixels is not None
        return {"pixels": self.pixels.to_dict(), "family": self.family_name}

    def description(self) -> dict[str, Any]:
        config = self.network.config.to_dict()  # type: ignore[operator, union-attr]
        return {**self.origin, "family": self.family_name, "config": config, "processor": self.processor}

    def write_files(self, folder: Path) -> None:
        tensors = {name: x.detach().cpu().contiguous() for name, x in self.network.state_dict().items()}
        write_atomic(folder / _WEIGHTS, safetensors_bytes(tensors, {"format": "pt"}))

    @classmethod
    def restore(cls, folder: Path, description: dict[str, Any]) -> HuggingFaceEncoder:
        check_installed()
        import transformers

        family = FAMILIES.get(description["family"], GENERIC)
        config = dict(description["config"])
        kind = transformers.CONFIG_MAPPING[config.pop("model_type")]
        with _quiet(), _uninitialised():
            if family is GENERIC:
                network = transformers.AutoModel.from_config(kind.from_dict(config), dtype=torch.float32)
            else:
                network = getattr(transformers, family.network)(kind.from_dict(config))
        origin = {key: description[key] for key in ("from", "revision", "licence", "without")}
        encoder = cls(_calm(network), description["family"], description["processor"], origin)
        try:
            encoder.network.load_state_dict(load_file(folder / _WEIGHTS))
        except (OSError, RuntimeError) as error:
            raise RunError(f"{folder / _WEIGHTS} does not fit its description: {error}") from error
        return encoder


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"{path.parent} has no {path.name}", "give the folder of a model of transformers") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}", "take the folder from its source again") from error
    if not isinstance(found, dict):
        raise DataError(f"{path} is no configuration", "take the folder from its source again")
    return found


def _family(config: Mapping[str, Any], modality: str, place: str) -> tuple[str, Family]:
    """The family of a configuration, with its name."""
    import transformers

    kind = str(config.get("model_type", ""))
    found = known(kind, modality)
    if found is None:
        if kind not in transformers.CONFIG_MAPPING:
            own = " and asks for code of its own (auto_map), which is never run" if config.get("auto_map") else ""
            raise DataError(
                f"hf:{place} is a {kind or 'model without model_type'}, which transformers "
                f"{transformers.__version__} does not know{own}",
                "take a model of a known kind (`seehear encoders`), a newer transformers, or an ONNX export of it",
            )
        if modality == "audio":
            heard = ", ".join(family.title for family in FAMILIES.values() if family.modality == "audio")
            raise DataError(f"hf:{place} is a {kind}, which is no encoder of sound known here", f"known are {heard}")
        return kind, GENERIC
    if found[1].modality != modality:
        option = "--audio-encoder" if found[1].modality == "audio" else "--video-encoder"
        raise DataError(f"hf:{place} ({found[1].title}) is an encoder of {found[1].modality}", f"give it to {option}")
    return found


def _processor_settings(folder: Path, takes: str, place: str) -> dict[str, Any]:
    """The configuration of the processor of frames, or of sound, in a folder."""
    nested = ("feature_extractor",) if takes == "sound" else ("video_processor", "image_processor")
    for file in _PROCESSORS:
        if not (folder / file).exists() or (takes == "sound" and file.startswith("video")):
            continue
        found = _json(folder / file)
        inner = next((found[key] for key in nested if isinstance(found.get(key), dict)), None)
        if inner is not None:
            return inner
        if file != "processor_config.json":
            return found
    raise DataError(
        f"hf:{place} has no preprocessor_config.json: how its input is to be made is not said",
        "take that file from where the weights are from, into the same folder",
    )


def _check_weights(folder: Path, place: str) -> None:
    if files := list(folder.glob("*.safetensors")):
        size, free = sum(file.stat().st_size for file in files), available_bytes()
        if free is not None and size > free:
            raise DataError(
                f"hf:{place} has {size / 2**30:.1f} GiB of weights, and {free / 2**30:.1f} GiB of memory are free",
                "take a smaller model, or a larger machine",
            )
        return
    others = [path.name for ending in ("bin", "pt", "pth", "h5", "msgpack") for path in folder.glob(f"*.{ending}")]
    if others:
        raise DataError(
            f"hf:{place} has its weights in {others[0]} alone, a kind of file that can run code when it is read",
            "take a revision with model.safetensors, or have it converted by someone whom you trust "
            "(https://huggingface.co/spaces/safetensors/convert)",
        )
    raise DataError(f"hf:{place} has no weights", "put model.safetensors into the folder")


def _loaded(folder: Path, family: Family, place: str) -> tuple[nn.Module, list[str]]:
    """The network with the weights of a folder, and the parts that it has to do without.

    Raises `DataError` if weights are missing that its features need.
    """
    import transformers

    with _quiet():
        try:
            network, told = getattr(transformers, family.network).from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32,
                output_loading_info=True,
            )  # fmt: skip
        except ImportError as error:
            raise UsageError(
                f"hf:{place} needs a package that is missing or does not load: {_missing(error)}", _MISSING
            ) from error
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            first = str(error).strip().partition("\n")[0]
            raise DataError(f"hf:{place} cannot be read: {first}", "take the folder from its source again") from error
    missing = sorted(str(key) for key in told["missing_keys"] if not _is_idle(str(key), family))
    without = []
    if family is GENERIC and missing and all(key.startswith("pooler.") for key in missing):
        missing, without = [], ["pooler"]  # of a finetuned classifier, which had none: the last hidden state is there
    if missing:
        raise DataError(
            f"hf:{place} lacks {len(missing)} weights of {family.network}, such as {missing[0]}: "
            "they would be random numbers",
            "take the whole model, not a part of it",
        )
    return _calm(network), without


def _is_idle(key: str, family: Family) -> bool:
    """Whether features do not depend on a weight: what stands for masked input, or a part that is left out."""
    return key.partition(".")[0] in family.without or key.rpartition(".")[2] in ("masked_spec_embed", "mask_token")


_MISSING = "install it; where it is torchvision, one of the same build as torch, or none: it is not needed"


def _missing(error: ImportError) -> str:
    """What an import of the library's failed for, in its own words."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return " ".join(str(cause).split())


def _calm(network: nn.Module) -> nn.Module:
    """Without what draws at random beside torch's generator when it trains, which no checkpoint could hold."""
    config = network.config
    for name, value in (("apply_spec_augment", False), ("layerdrop", 0.0)):
        if hasattr(config, name):
            setattr(config, name, value)
    return network


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's progress bars, and its remarks on torchvision and on weights that are not needed."""
    from transformers.utils import logging as remarks

    level, bars = remarks.get_verbosity(), remarks.is_progress_bar_enabled()
    remarks.set_verbosity(logging.CRITICAL)
    remarks.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        remarks.set_verbosity(level)
        if bars:
            remarks.enable_progress_bar()


@contextmanager
def _uninitialised() -> Iterator[None]:
    """Modules built in here have no weights drawn for them: they are loaded at once."""
    from transformers.initialization import no_init_weights

    with no_init_weights():
        yield
