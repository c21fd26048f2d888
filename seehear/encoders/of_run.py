"""`run:FOLDER`: the encoder of a run of ours, with the statistics that its inputs were normalised by."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file
from safetensors.torch import save as safetensors_bytes
from torch import Tensor, nn

from seehear.config import Config, DataConfig
from seehear.data.views import SpectrogramView, Statistics, normalise_frames
from seehear.encoders import place_alone, read_encoder, without_place
from seehear.encoders.base import ForeignEncoder, Wanted
from seehear.errors import DataError
from seehear.files import write_atomic
from seehear.hashes import check_hashes
from seehear.models import build_encoder
from seehear.models.adapter import OnBackbone, ResidualAdapter
from seehear.settings import from_dict, to_dict

_WEIGHTS, _OTHER = "weights.safetensors", "other"


class RunEncoder(ForeignEncoder):
    """The video or the audio encoder of a finished run, of imported weights, or of a model folder."""

    kind = "run"

    def __init__(
        self, config: Config, modality: str, statistics: Statistics, origin: str, other: ForeignEncoder | None = None
    ) -> None:
        """`other` is what the run's own encoder was built on, if it was built on one of others."""
        super().__init__()
        if modality not in ("video", "audio"):
            raise DataError(f"an encoder of {modality} cannot be built on")
        self.modality = modality  # type: ignore[assignment]
        self.config, self.statistics, self.origin = config, statistics, origin
        self.other = other
        self.encoder: nn.Module
        if other is None:
            own = build_encoder(modality, config.model, torch.Generator())
            self.encoder, self.feature_dim = own, int(own.feature_dim)
        else:
            # Whether the other one learns is up to who builds on this one.
            self.encoder = OnBackbone(other, ResidualAdapter(other.feature_dim), tuned=other.trainable)
            self.feature_dim, self.trainable = other.feature_dim, other.trainable
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
        there = folder / "encoders" / names[0]
        encoder = cls(
            _without_places(from_dict(description["config"])),
            modality,
            Statistics.from_dict(description["statistics"]),
            place_alone("run", place),
            read_encoder(there) if there.is_dir() else None,
        )
        encoder._load({k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)})
        return encoder

    def _load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the weights of the encoder, or of the adapter on top of the other one."""
        if self.other is None:
            self.encoder.load_state_dict(tensors)
        else:
            adapter = {k.removeprefix("adapter."): v for k, v in tensors.items()}
            cast(OnBackbone, self.encoder).adapter.load_state_dict(adapter)

    def prepared(self, x: Tensor) -> Tensor:
        """Pixels (B, 3, T, H, W) normalised, or samples (B, S) as the run's spectrogram (B, 1, Q, P).

        On an encoder of others they stay what they are: it prepares them itself.
        """
        if self.other is not None:
            return x
        if self.modality == "video":
            return normalise_frames(x.permute(0, 2, 3, 4, 1) * 255, self.statistics)
        return self._spectrogram.to(x.device)(x, self.config.augment, None)

    def features(self, x: Tensor) -> Tensor:
        features: Tensor = self.encoder(x)
        return features

    def preprocessing(self) -> dict[str, Any]:
        described = to_dict(self.config)
        found = {part: described[part] for part in ("clip", "spectrogram")} | {"statistics": self.statistics.to_dict()}
        return found if self.other is None else found | {"on": self.other.content()}

    def description(self) -> dict[str, Any]:
        return {"from": self.origin, "config": to_dict(self.config), "statistics": self.statistics.to_dict()}

    def write_files(self, folder: Path) -> None:
        own: nn.Module = self.encoder
        if self.other is not None:
            (folder / _OTHER).mkdir()
            self.other.write(folder / _OTHER)
            own = cast(OnBackbone, self.encoder).adapter
        tensors = {name: x.detach().cpu().contiguous() for name, x in own.state_dict().items()}
        write_atomic(folder / _WEIGHTS, safetensors_bytes(tensors))

    @classmethod
    def restore(cls, folder: Path, description: dict[str, Any]) -> RunEncoder:
        encoder = cls(
            from_dict(description["config"]), description["modality"],
            Statistics.from_dict(description["statistics"]), description["from"],
            read_encoder(folder / _OTHER) if (folder / _OTHER).is_dir() else None,
        )  # fmt: skip
        encoder._load(load_file(folder / _WEIGHTS))
        return encoder


def _without_places(config: Config) -> Config:
    """Settings without what they say of a machine and its data."""
    model = replace(
        config.model, video_weights=None, audio_weights=None, text_vectors=None,
        video_encoder=without_place(config.model.video_encoder),
        audio_encoder=without_place(config.model.audio_encoder),
    )  # fmt: skip
    return replace(config, model=model, data=DataConfig(), finetune=replace(config.finetune, run="", data=""))
