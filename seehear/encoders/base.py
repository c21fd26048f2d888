"""What an encoder of others is: what it is given of a clip, its preprocessing, and what it returns."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from seehear.files import write_atomic

ENCODER = "encoder.json"


@dataclass(frozen=True)
class Wanted:
    """What an encoder asks of a clip, in settings of `clip`; None where it takes whatever there is."""

    frames: int | None = None
    frame_rate_hz: float | None = None
    stride: int | None = None
    short_side_px: int | None = None
    crop_px: int | None = None
    audio_seconds: float | None = None
    sample_rate_hz: int | None = None

    def settings(self) -> dict[str, int | float]:
        """By name those that it does ask for."""
        return {name: value for name, value in asdict(self).items() if value is not None}


class ForeignEncoder(nn.Module, ABC):
    """An encoder that others have trained, with the preprocessing that it was trained with.

    It sees what every encoder of its modality can be given: pixels in [0, 1], (B, 3, T, H, W) float32, or samples in
    [-1, 1], (B, S) float32, at the rates of `wanted`. What else it needs (another size, its normalisation, its
    spectrogram) is its own preprocessing, `prepared`. Subclasses set the attributes.

    Attributes:
        modality: "video" or "audio".
        feature_dim: D of the features (B, D).
        wanted: what clips must be.
        trainable: whether gradients pass through it.
    """

    kind: ClassVar[str]
    """The word before the colon of its specifications."""
    modality: Literal["video", "audio"]
    feature_dim: int
    wanted: Wanted
    trainable: bool = True

    @property
    def fixed(self) -> frozenset[str]:
        """The settings in `wanted` that cannot be otherwise; the others are what it was trained on, or does best with.

        All of them, unless a kind says otherwise.
        """
        return frozenset(self.wanted.settings())

    @classmethod
    @abstractmethod
    def open(cls, place: str, modality: str) -> ForeignEncoder:
        """The encoder of a modality at `place`, what follows the colon of a specification."""

    @abstractmethod
    def prepared(self, x: Tensor) -> Tensor:
        """Pixels or samples as the network wants them."""

    @abstractmethod
    def features(self, x: Tensor) -> Tensor:
        """What the network makes of `prepared` input: (B, D)."""

    def forward(self, x: Tensor) -> Tensor:
        """Pixels (B, 3, T, H, W) in [0, 1] or samples (B, S) in [-1, 1] to features (B, D), float32."""
        return self.features(self.prepared(x)).float()

    @abstractmethod
    def preprocessing(self) -> dict[str, Any]:
        """All that `prepared` depends on, as JSON can hold it; part of what a feature is kept by."""

    def write(self, folder: Path) -> None:
        """Write all that `restore` of its kind needs into `folder`, which exists, beside `encoder.json`."""
        described = {"kind": self.kind, "modality": self.modality, **self.description()}
        write_atomic(folder / ENCODER, json.dumps(described, indent=1))
        self.write_files(folder)

    @abstractmethod
    def description(self) -> dict[str, Any]:
        """What `encoder.json` says of it besides kind and modality: where it is from, licence, settings."""

    @abstractmethod
    def write_files(self, folder: Path) -> None:
        """Write its weights and whatever else its kind reads."""

    @classmethod
    @abstractmethod
    def restore(cls, folder: Path, description: dict[str, Any]) -> ForeignEncoder:
        """Inverse of `write`, without a look at anything outside `folder`."""

    def content(self) -> str:
        """SHA-256 of weights and preprocessing: what features of a clip depend on besides the clip, in hexadecimal."""
        digest = hashlib.sha256(json.dumps(self.preprocessing(), sort_keys=True).encode())
        digest.update(self.weights_digest().encode())
        return digest.hexdigest()

    def weights_digest(self) -> str:
        """SHA-256 of the weights; one whose weights are no tensors of a module overrides it."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


def available_bytes() -> int | None:
    """Memory that a process can still have; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), None)
