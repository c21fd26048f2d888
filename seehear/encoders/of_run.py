"""`run:FOLDER`: the encoder of a run of ours, with the statistics that its inputs were normalised by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from seehear.config import Config
from seehear.data.views import SpectrogramView, Statistics, normalise_frames
from seehear.encoders import place_alone
from seehear.encoders.base import ForeignEncoder, Wanted
from seehear.errors import DataError
from seehear.files import write_atomic
from seehear.hashes import check_hashes
from seehear.models import build_encoder
from seehear.settings import from_dict, to_dict

_WEIGHTS = "weights.safetensors"


class RunEncoder(ForeignEncoder):
    """The video or the audio encoder of a finished run, of imported weights, or of a model folder."""

    kind = "run"

    def __init__(self, config: Config, modality: str, statistics: Statistics, origin: str) -> None:
        super().__init__()
        if modality not in ("video", "audio"):
            raise DataError(f"an encoder of {modality} cannot be built on")
        self.modality = modality  # type: ignore[assignment]
        self.config, self.statistics, self.origin = config, statistics, origin
        self.encoder = build_encoder(modality, config.model, torch.Generator())
        self.feature_dim = int(self.encoder.feature_dim)
        clip = config.clip
        if modality == "video":
            self.wanted = Wanted(
                frames=clip.frames, frame_rate_hz=clip.frame_rate_hz, stride=clip.stride,
                short_side_px=clip.short_side_px, crop_px=clip.crop_px,
            )  # fmt: skip
        else:
            self.wanted = Wanted(audio_seconds=clip.audio_seconds, sample_rate_hz=clip.sample_rate_hz)
            self._spectrogram = SpectrogramView(config, statistics)

    @classmethod
    def open(cls, place: str, modality: str) -> RunEncoder:
        """The encoder of a modality of the run, or the model folder, at `place`.

        Raises `DataError` if there is none, `RunError` if its files are damaged.
        """
        folder = Path(place)
        folder = folder / "model" if (folder / "model" / "config.json").exists() else folder
        check_hashes(folder)
        try:
            description = json.loads((folder / "config.json").read_text())
            tensors = load_file(folder / "model.safetensors")
        except FileNotFoundError as error:
            raise DataError(f"run:{place} holds no trained model", "give the folder of a finished run") from error
        names = [name for name, seen in description["modalities"].items() if seen == modality]
        if len(names) != 1:
            raise DataError(
                f"run:{place} has {len(names) or 'no'} encoders of {modality}",
                f"its encoders see {', '.join(description['modalities'].values())}",
            )
        prefix = f"encoders.{names[0]}."
        encoder = cls(
            from_dict(description["config"]),
            modality,
            Statistics.from_dict(description["statistics"]),
            place_alone("run", place),
        )
        encoder.encoder.load_state_dict({k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)})
        return encoder

    def prepared(self, x: Tensor) -> Tensor:
        """Pixels (B, 3, T, H, W) normalised, or samples (B, S) as the run's spectrogram (B, 1, Q, P)."""
        if self.modality == "video":
            return normalise_frames(x.permute(0, 2, 3, 4, 1) * 255, self.statistics)
        return self._spectrogram.to(x.device)(x, self.config.augment, None)

    def features(self, x: Tensor) -> Tensor:
        features: Tensor = self.encoder(x)
        return features

    def preprocessing(self) -> dict[str, Any]:
        described = to_dict(self.config)
        return {part: described[part] for part in ("clip", "spectrogram")} | {"statistics": self.statistics.to_dict()}

    def description(self) -> dict[str, Any]:
        return {"from": self.origin, "config": to_dict(self.config), "statistics": self.statistics.to_dict()}

    def write_files(self, folder: Path) -> None:
        tensors = {name: x.detach().cpu().contiguous() for name, x in self.encoder.state_dict().items()}
        write_atomic(folder / _WEIGHTS, safetensors_bytes(tensors))

    @classmethod
    def restore(cls, folder: Path, description: dict[str, Any]) -> RunEncoder:
        encoder = cls(
            from_dict(description["config"]), description["modality"],
            Statistics.from_dict(description["statistics"]), description["from"],
        )  # fmt: skip
        encoder.encoder.load_state_dict(load_file(folder / _WEIGHTS))
        return encoder
