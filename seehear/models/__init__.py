"""Encoders: tensors to features. Importing this package does not import torch; building an encoder does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

from seehear.modalities import MODALITIES

if TYPE_CHECKING:
    import torch

    from seehear.config import ModelConfig
    from seehear.models.audio import AudioEncoder
    from seehear.models.text import TextEncoder
    from seehear.models.video import Family, MidPlanes, VideoEncoder

    Encoder = VideoEncoder | AudioEncoder | TextEncoder

# Name: family and BasicBlocks per stage. The 18-layer ones are torchvision's; the 10-layer ones are ours.
_VIDEO: dict[str, tuple[Family, tuple[int, int, int, int]]] = {
    "r2plus1d_18": ("r2plus1d", (2, 2, 2, 2)),
    "r2plus1d_10": ("r2plus1d", (1, 1, 1, 1)),
    "r3d_18": ("r3d", (2, 2, 2, 2)),
    "r3d_10": ("r3d", (1, 1, 1, 1)),
    "mc3_18": ("mc3", (2, 2, 2, 2)),
    "mc3_10": ("mc3", (1, 1, 1, 1)),
}
# ResNet-18 is XDC's audio encoder, ResNet-9 that of GDT and SeLaVi (which count no classifier among the 9).
_AUDIO: dict[str, tuple[int, int, int, int]] = {"resnet18": (2, 2, 2, 2), "resnet9": (1, 1, 1, 1)}

VIDEO_ENCODERS: tuple[str, ...] = tuple(_VIDEO)
AUDIO_ENCODERS: tuple[str, ...] = tuple(_AUDIO)

__all__ = [
    "AUDIO_ENCODERS",
    "VIDEO_ENCODERS",
    "audio_encoder_name",
    "build_audio_encoder",
    "build_encoder",
    "build_encoders",
    "build_text_encoder",
    "build_video_encoder",
    "video_encoder_name",
]


def video_encoder_name(family: Family, blocks: Sequence[int]) -> str | None:
    """The name of the video encoder of a family with so many blocks in its stages, if there is one."""
    return next((name for name, shape in _VIDEO.items() if shape == (family, tuple(blocks))), None)


def audio_encoder_name(blocks: Sequence[int]) -> str | None:
    """The name of the audio encoder with so many blocks in its stages, if there is one."""
    return next((name for name, shape in _AUDIO.items() if shape == tuple(blocks)), None)


def build_encoder(modality: str, model: ModelConfig, generator: torch.Generator) -> Encoder:
    """A new encoder of a modality as a run's settings say, its weights drawn from `generator`."""
    norm = {"bn_eps": model.bn_eps, "bn_momentum": model.bn_momentum}
    encoder: VideoEncoder | AudioEncoder
    if MODALITIES[modality].encoder == "video":
        encoder = build_video_encoder(
            model.video,
            width=model.video_width,
            stem_stride=model.video_stem_stride,
            stem_pool=model.video_stem_pool,
            mid_planes=model.video_mid_planes,
            generator=generator,
            **norm,
        )
    elif MODALITIES[modality].encoder == "text":
        return build_text_encoder(model, generator)
    else:
        if model.audio_bn_eps is not None:
            norm["bn_eps"] = model.audio_bn_eps
        encoder = build_audio_encoder(model.audio, width=model.audio_width, generator=generator, **norm)
    encoder.execution = model.execution
    return encoder


def build_encoders(model: ModelConfig, modalities: Mapping[str, str], seed: int) -> dict[str, Encoder]:
    """New encoders by name (`modalities` says what each sees), as a run with this seed starts from."""
    import torch

    # Each draws from a generator of its own: encoders of one modality differ, and adding one changes no other.
    generators = (torch.Generator().manual_seed(seed * 1009 + index) for index in range(len(modalities)))
    return {
        name: build_encoder(modality, model, generator)
        for (name, modality), generator in zip(modalities.items(), generators, strict=True)
    }


def build_video_encoder(
    name: str,
    *,
    width: int = 64,
    stem_stride: int = 2,
    stem_pool: bool = False,
    mid_planes: MidPlanes = "block",
    bn_eps: float = 1e-5,
    bn_momentum: float = 0.1,
    generator: torch.Generator | None = None,
) -> VideoEncoder:
    """A video encoder by its name, one of `VIDEO_ENCODERS`: clips (B, 3, T, H, W) to features (B, 8 x width).

    The settings are those of `seehear.models.video.VideoEncoder`. With the same `generator` state the weights
    are the same whatever the state of torch's global generator.

    Raises:
        ValueError: the name is unknown (the message names close ones), or a setting is out of range.
    """
    if name not in _VIDEO:
        raise ValueError(_unknown("video", name, VIDEO_ENCODERS))
    from seehear.models.video import VideoEncoder

    family, blocks = _VIDEO[name]
    return VideoEncoder(
        family,
        blocks=blocks,
        width=width,
        stem_stride=(1, stem_stride, stem_stride),
        stem_pool=stem_pool,
        mid_planes=mid_planes,
        bn_eps=bn_eps,
        bn_momentum=bn_momentum,
        generator=generator,
    )


def build_audio_encoder(
    name: str,
    *,
    width: int = 64,
    bn_eps: float = 1e-5,
    bn_momentum: float = 0.1,
    generator: torch.Generator | None = None,
) -> AudioEncoder:
    """An audio encoder by its name, one of `AUDIO_ENCODERS`: (B, 1, Q, P) to features (B, 8 x width).

    The settings are those of `seehear.models.audio.AudioEncoder`; `generator` as in `build_video_encoder`.

    Raises:
        ValueError: the name is unknown (the message names close ones), or a setting is out of range.
    """
    if name not in _AUDIO:
        raise ValueError(_unknown("audio", name, AUDIO_ENCODERS))
    from seehear.models.audio import AudioEncoder

    return AudioEncoder(blocks=_AUDIO[name], width=width, bn_eps=bn_eps, bn_momentum=bn_momentum, generator=generator)


def build_text_encoder(model: ModelConfig, generator: torch.Generator | None = None) -> TextEncoder:
    """A new text encoder as a run's settings say; `generator` as in `build_video_encoder`."""
    from seehear.models.text import TextEncoder

    return TextEncoder(
        model.text, words=model.text_words, dimensions=model.text_dimensions, width=model.text_width,
        layers=model.text_layers, fixed=model.text_fixed, generator=generator,
    )  # fmt: skip


def _unknown(modality: str, name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known ones: {', '.join(known)}"
    return f"unknown {modality} encoder {name!r}; {hint}"
