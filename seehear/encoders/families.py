"""The networks of `transformers` that are known here: what each is given, and which of what it makes is the feature.

One table, `FAMILIES`, says it all. An image model that is not in it is still an encoder, as `GENERIC` says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

LONGEST_SECONDS = 4.0
"""A clip spans no more by default: an encoder that was trained on longer ones is shown its frames closer together, or
fewer of them, so that videos of a few seconds can be used."""
FRAMES_OF_IMAGES = 4
"""Frames that an image model sees of a clip, and their rate: one second."""
RATE_OF_IMAGES_HZ = 4.0


@dataclass(frozen=True)
class Family:
    """Networks of one architecture."""

    title: str
    network: str
    """The class in `transformers`."""
    takes: Literal["clips", "frames", "sound"]
    """Whole clips, or frame by frame; or sound."""
    feature: str
    """Which of what it makes is the feature, and why."""
    features: Callable[[nn.Module, Tensor], Tensor]
    """Prepared input, (B, T, 3, H, W) or (N, 3, H, W) or of sound, to features (B, D) or (N, D)."""
    dim: Callable[[Any], int] = lambda config: int(config.hidden_size)
    frames: Callable[[Any], int] | None = None
    """Frames that the network was trained on, by its configuration."""
    fixed_frames: bool = True
    """Whether it can see no other number of them."""
    rate_hz: float | None = None
    """Frames a second that it was trained on, by its paper; no configuration says it."""
    without: tuple[str, ...] = ()
    """Parts of the class that features do not pass through: they are not kept."""

    @property
    def modality(self) -> Literal["video", "audio"]:
        return "audio" if self.takes == "sound" else "video"


def _pooled(network: nn.Module, x: Tensor) -> Tensor:
    return network(x).pooler_output


def _mean_of_tokens(network: nn.Module, x: Tensor) -> Tensor:
    return network(x).last_hidden_state.mean(1)


_WAV2VEC2 = (
    "mean over time of the last hidden state: they have no token for the whole, and the mean is what the family's own "
    "classifiers of whole clips take"
)


def _wav2vec2(title: str, network: str) -> Family:
    return Family(title, network, "sound", _WAV2VEC2, _mean_of_tokens)


FAMILIES: Mapping[str, Family] = {
    "videomae": Family(
        "VideoMAE", "VideoMAEModel", "clips",
        "mean of all patches of the last layer: it has no token for the whole, and its finetuned classifiers take this",
        _mean_of_tokens, frames=lambda config: int(config.num_frames), rate_hz=7.5,
    ),
    "clip": Family(
        "CLIP", "CLIPVisionModel", "frames",
        "the class token after the last normalisation, before the projection to the space of texts: the paper's linear "
        "probes take this (appendix A.3)",
        _pooled,
    ),
    "audio-spectrogram-transformer": Family(
        "AST", "ASTModel", "sound",
        "mean of the class and the distillation token: its own classifier takes this", _pooled,
    ),
    "wav2vec2": _wav2vec2("wav2vec 2.0", "Wav2Vec2Model"),
    "wav2vec2-conformer": _wav2vec2("wav2vec 2.0 Conformer", "Wav2Vec2ConformerModel"),
    "hubert": _wav2vec2("HuBERT", "HubertModel"),
    "wavlm": _wav2vec2("WavLM", "WavLMModel"),
    "unispeech": _wav2vec2("UniSpeech", "UniSpeechModel"),
    "unispeech-sat": _wav2vec2("UniSpeech-SAT", "UniSpeechSatModel"),
    "data2vec-audio": _wav2vec2("data2vec (sound)", "Data2VecAudioModel"),
    "sew": _wav2vec2("SEW", "SEWModel"),
    "sew-d": _wav2vec2("SEW-D", "SEWDModel"),
}  # fmt: skip
"""By the `model_type` of a configuration."""

ALIASES = {"clip_vision_model": "clip", "siglip_vision_model": "siglip", "clap_audio_model": "clap"}
"""`model_type` of a part that was saved alone, by that of the whole."""


def _generic_dim(config: Any) -> int:
    for name in ("hidden_size", "embed_dim", "num_features"):
        if isinstance(getattr(config, name, None), int):
            return int(getattr(config, name))
    return int(config.hidden_sizes[-1])


def _generic(network: nn.Module, x: Tensor) -> Tensor:
    made = network(x)
    pooled = getattr(made, "pooler_output", None)
    if pooled is not None:
        return torch.as_tensor(pooled).flatten(1)
    last = made.last_hidden_state
    return torch.as_tensor(last.mean(1) if last.dim() == 3 else last.mean((2, 3)))


GENERIC = Family(
    "image model", "AutoModel", "frames",
    "what the network calls its pooled output, or else the mean of its last hidden state", _generic, _generic_dim,
)  # fmt: skip
"""Any other model of images: whatever takes `pixel_values` alone."""
