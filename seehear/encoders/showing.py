"""What there is of encoders of others, and what one of them is."""

from __future__ import annotations

import resource
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from seehear.encoders import open_encoder, pinned
from seehear.encoders.base import ForeignEncoder, available_bytes
from seehear.encoders.families import FAMILIES, GENERIC
from seehear.encoders.huggingface import HuggingFaceEncoder
from seehear.encoders.of_torchvision import TorchvisionEncoder, torchvision_models
from seehear.errors import DataError, SeehearError, UsageError

_BOTH = ("video", "audio")
# Kind: what it is, an example, what it sees or hears, the packages that it needs, and the extra that brings them.
_KINDS: dict[str, tuple[str, str, tuple[str, ...], tuple[str, ...], str]] = {
    "run": ("an encoder of one of your runs, or of imported weights", "run:runs/a", _BOTH, (), ""),
    "hf": (
        "a model of Hugging Face's transformers: a folder, or an id of the hub that was fetched",
        "hf:models/clip-vit-base-patch32", _BOTH, ("transformers",), "encoders",
    ),
    "onnx": (
        "an ONNX file; what it does not say of its input is stated after it",
        "'onnx:model.onnx?mean=0.5&std=0.5&rate=7.5'", _BOTH, ("onnx", "onnxruntime"), "onnx",
    ),
    "export": (
        "a program of torch.export; likewise", "'export:model.pt2?mean=0.5&std=0.5&rate=7.5'", _BOTH, (), "",
    ),
    "torchvision": (
        "a model of torchvision by the file of its weights", "torchvision:mvit_v2_s:mvit_v2_s-ae3be167.pth", ("video",),
        ("torchvision",), "torchvision",
    ),
}  # fmt: skip
TIMED_SECONDS = 5.0
"""How long an encoder is run for to be measured, at least; one clip at least."""


def kinds() -> list[dict[str, Any]]:
    """Of each kind what `seehear encoders` says."""
    told = []
    for kind, (what, example, modalities, packages, extra) in _KINDS.items():
        needs = {name: _version(name) for name in packages}
        remedy = f"python -m pip install 'seehear[{extra}]'" if None in needs.values() else None
        if kind == "torchvision" and remedy is None:
            remedy = _why_torchvision_does_not_load()
        networks = [*FAMILIES.values(), GENERIC] if kind == "hf" else []
        told.append(
            {
                "kind": kind, "what": what, "example": example, "modalities": list(modalities), "needs": needs,
                "remedy": remedy,
                "networks": [
                    {"title": family.title, "modality": family.modality, "feature": family.feature}
                    for family in networks
                ],
            }
        )  # fmt: skip
    return told


def show(spec: str, modality: str | None, timed: bool) -> list[dict[str, Any]]:
    """What an encoder is, for each modality that it has; see `seehear.encoders.show_encoder`."""
    found: list[dict[str, Any]] = []
    refusals: list[SeehearError] = []
    for seen in (modality,) if modality else _BOTH:
        try:
            encoder = open_encoder(spec, seen)
        except (DataError, UsageError) as error:
            refusals.append(error)
        else:
            found.append(facts_of(encoder, pinned(spec)) | _measured(encoder, timed))
    if not found:
        raise refusals[0]
    return found


def facts_of(encoder: ForeignEncoder, spec: str) -> dict[str, Any]:
    """What an encoder is, in plain values."""
    tensors = [*encoder.parameters(), *encoder.buffers()]
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    file = getattr(encoder, "file", None)
    free = available_bytes()
    size = size or (Path(file).stat().st_size if file is not None else 0)
    here = "its packages are installed"
    if free is not None:
        here += f"; {free / 2**30:.1f} GiB of memory are free" + (
            "" if free > 3 * size else ", which may not be enough"
        )
    title, feature = _told(encoder)
    return {
        "spec": spec,
        "kind": encoder.kind,
        "modality": encoder.modality,
        "title": title,
        "wanted": encoder.wanted.settings(),
        "fixed": sorted(encoder.fixed),
        "feature": feature,
        "feature_dim": encoder.feature_dim,
        "parameters": sum(p.numel() for p in encoder.parameters()) if any(True for _ in encoder.parameters()) else None,
        "weights_bytes": size,
        "licence": encoder.description().get("licence"),
        "revision": encoder.description().get("revision"),
        "trainable": encoder.trainable,
        "here": here,
    }


def _told(encoder: ForeignEncoder) -> tuple[str, str]:
    """What an encoder is called, and which feature is taken of it."""
    if isinstance(encoder, HuggingFaceEncoder):
        family = encoder.family
        name = family.title if family is not GENERIC else f"{encoder.family_name}, an image model not known here"
        by_frame = ", of each frame, and their mean over the frames" if family.takes == "frames" else ""
        return name, family.feature + by_frame
    if isinstance(encoder, TorchvisionEncoder):
        by_frame = ", of each frame, and their mean over the frames" if encoder.given.by_frame else ""
        return f"torchvision's {encoder.model}", f"what its last layer makes classes of{by_frame}"
    names = {"run": "the encoder of a run", "onnx": "an ONNX model", "export": "a program of torch.export"}
    return names[encoder.kind], "its output"


def _measured(encoder: ForeignEncoder, timed: bool) -> dict[str, Any]:
    """Clips a second over `TIMED_SECONDS`, and the process's largest memory; None where nothing is to be measured."""
    if not timed:
        return {"clips_per_second": None, "milliseconds_preparing": None, "threads": None, "peak_bytes": None}
    clip = _noise(encoder)
    done, preparing, started = 0, 0.0, 0.0
    with torch.inference_mode():
        encoder(clip)  # the first one is slower than all others
        started = time.monotonic()
        while not done or time.monotonic() - started < TIMED_SECONDS:
            before = time.monotonic()
            prepared = encoder.prepared(clip)
            preparing += time.monotonic() - before
            encoder.features(prepared)
            done += 1
    seconds = time.monotonic() - started
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "clips_per_second": done / seconds,
        "milliseconds_preparing": 1000 * preparing / done,
        "threads": torch.get_num_threads(),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
    }


def _noise(encoder: ForeignEncoder) -> torch.Tensor:
    """A clip as the encoder wants it."""
    wanted = encoder.wanted
    generator = torch.Generator().manual_seed(0)
    if encoder.modality == "audio":
        seconds, rate = wanted.audio_seconds or 2.0, wanted.sample_rate_hz or 16000
        return torch.rand(1, round(seconds * rate), generator=generator) - 0.5
    side = wanted.crop_px or 224
    levels = torch.randint(0, 256, (1, 3, wanted.frames or 8, side, side), generator=generator)
    return levels.float() / 255


def _why_torchvision_does_not_load() -> str | None:
    try:
        torchvision_models()
    except UsageError as error:
        return f"{error.message}; {error.remedy}"
    return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
