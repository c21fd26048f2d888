"""A model in plain values: its encoders, its heads and the inputs that it wants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from torch import nn

from seehear.data.views import SpectrogramView
from seehear.encoders.base import ForeignEncoder
from seehear.features.model import Model
from seehear.modalities import streams_of
from seehear.models.adapter import OnBackbone
from seehear.models.heads import ClusterHeads
from seehear.models.video import VideoEncoder
from seehear.weights.formats import Encoder


def describe(model: Model) -> dict[str, Any]:
    """Encoders, preprocessing, clusters, heads and classes of a model, as plain values."""
    return {
        "method": model.config.method,
        "encoders": {name: encoder_facts(model, name) for name in model.encoders},
        "preprocessing": {s: preprocessing(model, s) for s in streams_of(tuple(model.modalities.values()))},
        "clusters": model.cluster_counts,
        "heads": heads_text(model),
        "classes": list(model.class_names),
    }


def encoder_facts(model: Model, name: str) -> dict[str, Any]:
    facts: dict[str, Any] = {"sees": model.modalities[name]}
    other = model.encoders[name]
    if isinstance(other, OnBackbone):
        backbone = cast(ForeignEncoder, other.backbone)
        return facts | {
            "encoder": f"{backbone.kind}:{backbone.description().get('from', '')}".rstrip(":"),
            "trained": "with an adapter on top" if model.config.model.tune_encoders else "an adapter on top alone",
            "features": other.feature_dim,
            "parameters": sum(p.numel() for p in other.parameters()),
        }
    encoder, settings = cast(Encoder, other), model.config.model
    if isinstance(encoder, VideoEncoder):
        facts |= {"encoder": settings.video, "width": settings.video_width, "mid_planes": encoder.mid_planes}
        facts |= {"stem_stride": settings.video_stem_stride, "stem_pool": encoder.stem_pool}
    else:
        facts |= {"encoder": settings.audio, "width": settings.audio_width}
    return facts | {
        "bn_eps": encoder.bn_eps,
        "features": int(encoder.feature_dim),
        "parameters": sum(p.numel() for p in encoder.parameters()),
    }


def preprocessing(model: Model, stream: str) -> dict[str, Any]:
    """How an encoder's input is made of a stream, "video" or "audio", in plain values with their units."""
    clip, statistics = model.config.clip, model.statistics
    if stream == "video":
        return {
            "frames": clip.frames,
            "frame_rate_hz": clip.frame_rate_hz,
            "stride": clip.stride,
            "short_side_px": clip.short_side_px,
            "centre_crop_px": clip.crop_px,
            "channels": "RGB, scaled to 0 to 1, then (x - pixel_mean) / pixel_std",
            "pixel_mean": list(statistics.pixel_mean),
            "pixel_std": list(statistics.pixel_std),
        }
    settings = model.config.spectrogram
    if settings.kind == "waveform":
        return {
            "kind": settings.kind,
            "seconds": clip.audio_seconds,
            "sample_rate_hz": clip.sample_rate_hz,
            "waveform": "mono, samples from -1 to 1",
        }
    transform = SpectrogramView(model.config, statistics).transform
    top = clip.sample_rate_hz / 2 if settings.f_max_hz is None else settings.f_max_hz
    kinds: dict[str, dict[str, Any]] = {
        "logmel": {
            "waveform": "mono, samples from -1 to 1",
            "window": "Hann",
            "mel_scale": "Slaney, filters of unit area",
            "values": "ln(mel power + log_offset), then (x - spectrogram_mean) / spectrogram_std",
            "log_offset": settings.log_offset,
        },
        "logfbank": {
            "waveform": "mono, 16-bit samples from -32768 to 32767, pre-emphasis 0.97",
            "window": "rectangular",
            "mel_scale": "HTK, triangles of height 1 between whole bins",
            "values": "python_speech_features.logfbank, then (x - spectrogram_mean) / spectrogram_std",
        },
    }
    of_kind = kinds[settings.kind]
    return {
        "kind": settings.kind,
        "seconds": clip.audio_seconds,
        "sample_rate_hz": clip.sample_rate_hz,
        "waveform": of_kind.pop("waveform"),
        "mel_bins": settings.mel_bins,
        "frames": settings.frames,
        "hop_seconds": settings.hop_seconds,
        "window_seconds": settings.window_seconds,
        "n_fft": cast(Any, transform).n_fft,
        "f_min_hz": settings.f_min_hz,
        "f_max_hz": top,
        **of_kind,
        "spectrogram_mean": statistics.spectrogram_mean,
        "spectrogram_std": statistics.spectrogram_std,
    }


def heads_text(model: Model) -> str | None:
    if model.heads is not None:
        return cluster_heads_text(model.heads)
    told = [projections_text(model.projections, model.config.gdt.dimensions)] if model.projections else []
    if model.texts is not None:
        told.append(
            f"a text encoder ({model.config.model.text}) of {len(model.texts.vocabulary)} words into that space"
        )
    return "; ".join(told) or None


def cluster_heads_text(heads: ClusterHeads) -> str:
    return f"{heads.count} heads to {heads.clusters} clusters of {' and '.join(heads.sources)}"


def projections_text(projections: Mapping[str, nn.Module] | nn.ModuleDict, size: int) -> str:
    return f"projections of {' and '.join(projections)} to {size} dimensions"
