"""The networks of `transformers` that are known here: what each is given, and which of what it makes is the feature.

One table, `FAMILIES`, says it all. An image model that is not in it is still an encoder, as `GENERIC` says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

LONGEST_SECONDS = 2.0
"""By default a clip spans no more, like its sound: an encoder that was trained on longer ones is shown its frames
closer together, or fewer of them, so that short videos can be used."""
FRAMES_OF_IMAGES = 4
"""Frames that an image model sees of a clip, over one second."""
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


def _first_token(network: nn.Module, x: Tensor) -> Tensor:
    return network(x).last_hidden_state[:, 0]


def _of_vjepa2(network: Any, x: Tensor) -> Tensor:
    return network.get_vision_features(x).mean(1)


def _of_xclip(network: Any, x: Tensor) -> Tensor:
    return network.get_video_features(x).pooler_output


def _of_clap(network: Any, x: Tensor) -> Tensor:
    # Of a clip that is not longer than CLAP hears, the channels are four copies: there is nothing to fuse.
    longer = (x[:, :1] != x[:, -1:]).flatten(1).any(1, keepdim=True)
    return network.audio_model(x, is_longer=longer).pooler_output


def _clap_dim(config: Any) -> int:
    audio = config.audio_config
    return int(audio.patch_embeds_hidden_size * 2 ** (len(audio.depths) - 1))


_WAV2VEC2 = (
    "mean over time of the last hidden state: they have no token for the whole, and the mean is what the family's own "
    "classifiers of whole clips take"
)


def _image(title: str, network: str) -> Family:
    return Family(
        title,
        network,
        "frames",
        "the class token after the last normalisation: the papers' linear probes take it",
        _pooled,
    )


def _wav2vec2(title: str, network: str) -> Family:
    return Family(title, network, "sound", _WAV2VEC2, _mean_of_tokens)


FAMILIES: Mapping[str, Family] = {
    "videomae": Family(
        "VideoMAE", "VideoMAEModel", "clips",
        "mean of all patches of the last layer: it has no token for the whole, and its finetuned classifiers take this",
        _mean_of_tokens, frames=lambda config: int(config.num_frames), rate_hz=7.5,
    ),
    "vjepa2": Family(
        "V-JEPA 2", "VJEPA2Model", "clips",
        "mean of all patches of the encoder, without the predictor, which is for training: it has no token for the "
        "whole (the paper's probes learn an attention over the patches)",
        _of_vjepa2, frames=lambda config: int(config.frames_per_clip), fixed_frames=False, rate_hz=4.0,
        without=("predictor",),
    ),
    "timesformer": Family(
        "TimeSformer", "TimesformerModel", "clips", "the class token: its own classifier takes it", _first_token,
        frames=lambda config: int(config.num_frames), rate_hz=30 / 32,
    ),
    "xclip": Family(
        "X-CLIP", "XCLIPModel", "clips",
        "the frames' class tokens after the transformer over frames, in the space of texts: before it, nothing has "
        "seen more than one frame",
        _of_xclip, dim=lambda config: int(config.projection_dim),
        frames=lambda config: int(config.vision_config.num_frames),
        without=(
            "text_model", "text_projection", "prompts_visual_layernorm", "prompts_visual_projection",
            "prompts_generator", "logit_scale",
        ),
    ),
    "clip": Family(
        "CLIP", "CLIPVisionModel", "frames",
        "the class token after the last normalisation, before the projection to the space of texts: the paper's linear "
        "probes take this (appendix A.3)",
        _pooled,
    ),
    "siglip": Family(
        "SigLIP", "SiglipVisionModel", "frames",
        "the output of its attention pooling, which is also its embedding: it has no class token", _pooled,
    ),
    "dinov2": _image("DINOv2", "Dinov2Model"),
    "dinov2_with_registers": _image("DINOv2 with registers", "Dinov2WithRegistersModel"),
    "dinov3_vit": _image("DINOv3", "DINOv3ViTModel"),
    "dinov3_convnext": Family(
        "DINOv3 ConvNeXt", "DINOv3ConvNextModel", "frames",
        "mean of the last feature map, normalised: it takes the place of the class token", _pooled,
        dim=lambda config: int(config.hidden_sizes[-1]),
    ),
    "pe_video": Family(
        "PE-AV (sight)", "PeVideoEncoder", "clips",
        "the class token, before the projection to the space of texts, as for CLIP", _pooled,
        frames=lambda config: 16, fixed_frames=False, rate_hz=4.0,
    ),
    "pe_audio": Family(
        "PE-AV (sound)", "PeAudioEncoder", "sound",
        "the class token, before the projection to the space of texts, as for CLIP", _pooled,
    ),
    "audio-spectrogram-transformer": Family(
        "AST", "ASTModel", "sound",
        "mean of the class and the distillation token: its own classifier takes this", _pooled,
    ),
    "clap": Family(
        "CLAP", "ClapModel", "sound",
        "the pooled output of the last layer, before the projection to the space of texts, as for CLIP", _of_clap,
        dim=_clap_dim,
        without=("text_model", "text_projection", "audio_projection", "logit_scale_a", "logit_scale_t"),
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
"""By the `model_type` of a configuration, or what `_PARTS` says of it."""

_PARTS: Mapping[str, tuple[str, ...]] = {
    "clip_vision_model": ("clip",),
    "siglip_vision_model": ("siglip",),
    "pe_audio_video": ("pe_video", "pe_audio"),
    "pe_video_encoder": ("pe_video",),
    "pe_audio_encoder": ("pe_audio",),
}
"""A `model_type` of a part that was saved alone, or of a whole with several parts."""


def known(model_type: str, modality: str) -> tuple[str, Family] | None:
    """The family that a configuration belongs to, with its name: that of this modality if there are two."""
    found = [(name, FAMILIES[name]) for name in _PARTS.get(model_type, (model_type,)) if name in FAMILIES]
    return next((pair for pair in found if pair[1].modality == modality), found[0] if found else None)


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
