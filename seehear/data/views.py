"""Views: what an encoder sees of a decoded clip. Random in training, the plain centre otherwise."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from seehear.config import KINETICS_MEAN, KINETICS_STD, PIXEL_STATISTICS, AugmentConfig, ClipConfig, Config
from seehear.media.filterbank import LogFilterbank, on_16_bits
from seehear.media.spectrogram import LogMelSpectrogram


@dataclass(frozen=True)
class Statistics:
    """Normalisation of both inputs; measured once on the run's videos and kept in its folder."""

    pixel_mean: tuple[float, ...] = KINETICS_MEAN
    """Mean of red, green and blue, in [0, 1]."""
    pixel_std: tuple[float, ...] = KINETICS_STD
    spectrogram_mean: float = 0.0
    """Mean of the spectrogram, natural logarithm of power."""
    spectrogram_std: float = 1.0

    def to_dict(self) -> dict[str, object]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, object]) -> Statistics:
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})  # type: ignore[arg-type]

    @classmethod
    def stated(cls, config: Config) -> Statistics:
        """Those that the settings state; what `measured_by` names is still to be measured."""
        values: dict[str, Any] = {}
        if config.clip.pixel_statistics in PIXEL_STATISTICS:
            values["pixel_mean"], values["pixel_std"] = PIXEL_STATISTICS[config.clip.pixel_statistics]
        if config.spectrogram.mean is not None and config.spectrogram.std is not None:
            values |= {"spectrogram_mean": config.spectrogram.mean, "spectrogram_std": config.spectrogram.std}
        return cls(**values)


def measured_by(config: Config) -> tuple[str, ...]:
    """What of the statistics the settings leave to be measured on videos: "pixels", "spectrograms"."""
    pixels = ("pixels",) if config.clip.pixel_statistics == "measured" else ()
    return pixels + (("spectrograms",) if config.spectrogram.mean is None else ())


def video_view(
    frames: np.ndarray, clip: ClipConfig, augment: AugmentConfig, rng: np.random.Generator | None, at: float = 0.5
) -> Tensor:
    """Crop, scale, flip and colour of one clip: (T, H, W, 3) uint8 -> (T, crop, crop, 3) uint8.

    One draw serves all frames, so that motion within the clip stays what it was. Without `rng` nothing is drawn and the
    crop lies in the centre; `at` moves it along the longer side, 0 to its beginning and 1 to its end.
    """
    height, width = frames.shape[1:3]
    side = clip.crop_px
    if rng is not None and augment.short_side_range_px is not None:
        # To scale to a short side of s and crop is to crop c/s of the frame and scale that.
        low, high = augment.short_side_range_px
        side = min(round(clip.crop_px * min(height, width) / rng.integers(low, high + 1)), height, width)
    if side > min(height, width):
        side = min(height, width)
    if rng is None or augment.crop == "centre":
        top, left = (height - side) // 2, (width - side) // 2
        if rng is None and at != 0.5:
            top, left = (round(at * (height - side)), left) if height > width else (top, round(at * (width - side)))
    else:
        top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    frames = frames[:, top : top + side, left : left + side]
    if rng is not None and rng.random() < augment.flip_probability:
        frames = frames[:, :, ::-1]
    view = torch.from_numpy(np.ascontiguousarray(frames))
    if side != clip.crop_px:
        view = F.interpolate(
            view.permute(0, 3, 1, 2), size=(clip.crop_px, clip.crop_px), mode="bilinear", antialias=True
        ).permute(0, 2, 3, 1)
    if rng is not None and augment.colour_jitter:
        view = _colour_jitter(view, augment.colour_jitter, rng)
    return view


def degraded(view: Tensor, factor: int) -> Tensor:
    """Frames (T, H, W, 3) with less to see: scaled down by `factor` and up again, by nearest neighbour.

    As in the SeLaVi paper, Appendix A.5. 1 leaves them as they are; no side gets smaller than one pixel.
    """
    if factor <= 1:
        return view
    rows, columns = (_nearest_of_nearest(size, factor) for size in view.shape[1:3])
    return view[:, rows][:, :, columns]


def _nearest_of_nearest(size: int, factor: int) -> Tensor:
    """For each of `size` places the one whose value it has after down- and up-sampling."""
    small = max(1, round(size / factor))
    down = torch.arange(small) * size // small
    return down[torch.arange(size) * small // size]


def _colour_jitter(view: Tensor, amount: float, rng: np.random.Generator) -> Tensor:
    brightness, contrast, saturation = (float(f) for f in rng.uniform(1 - amount, 1 + amount, 3))
    x = view.float() * brightness
    x = x.mean() + (x - x.mean()) * contrast
    grey = (x * x.new_tensor([0.299, 0.587, 0.114])).sum(-1, keepdim=True)
    return (grey + (x - grey) * saturation).round_().clamp_(0, 255).to(torch.uint8)


class SpectrogramView:
    """Waveforms to normalised spectrograms, with the audio augmentations."""

    def __init__(self, config: Config, statistics: Statistics) -> None:
        settings = config.spectrogram
        shared: dict[str, Any] = {
            "sample_rate_hz": config.clip.sample_rate_hz,
            "mel_bins": settings.mel_bins,
            "frames": settings.frames,
            "hop_seconds": settings.hop_seconds,
            "window_seconds": settings.window_seconds,
            "n_fft": settings.n_fft,
            "f_min_hz": settings.f_min_hz,
            "f_max_hz": settings.f_max_hz,
        }
        self.transform: LogMelSpectrogram | LogFilterbank
        if settings.kind == "logfbank":
            self.transform = LogFilterbank(**shared)
        else:
            self.transform = LogMelSpectrogram(**shared, log_offset=settings.log_offset)
        self.statistics = statistics

    @torch.no_grad()
    def __call__(self, waveforms: Tensor, augment: AugmentConfig, rngs: list[np.random.Generator] | None) -> Tensor:
        """(B, S) samples in [-1, 1] -> (B, 1, Q, P), zero mean and unit deviation over the collection.

        `rngs` holds one generator a clip; None: no augmentation.
        """
        if isinstance(self.transform, LogFilterbank):
            waveforms = on_16_bits(waveforms)
        if rngs is not None and augment.volume_jitter:
            v = augment.volume_jitter
            waveforms = waveforms * torch.tensor([[rng.uniform(1 - v, 1 + v)] for rng in rngs], dtype=waveforms.dtype)
        x = self.transform(waveforms)
        x = (x - self.statistics.spectrogram_mean) / self.statistics.spectrogram_std
        if rngs is not None:
            for row, rng in zip(x, rngs, strict=True):
                # 0 is the mean after normalisation (SpecAugment fills with the mean).
                _mask(row, -2, augment.frequency_mask_bins, rng)
                _mask(row, -1, augment.time_mask_frames, rng)
        return x


def _mask(x: Tensor, dim: int, limit: int, rng: np.random.Generator) -> None:
    """Zero a random stretch of fewer than `limit` entries along `dim`, in place."""
    if limit:
        length = int(rng.integers(limit))
        x.narrow(dim, int(rng.integers(x.shape[dim] - length + 1)), length).zero_()


def normalise_frames(frames: Tensor, statistics: Statistics) -> Tensor:
    """(B, T, H, W, 3) uint8 -> (B, 3, T, H, W) float32 of zero mean and unit deviation, on the same device.

    The result is a permuted view of channels-last memory, which convolutions want.
    """
    mean = torch.tensor(statistics.pixel_mean, device=frames.device) * 255
    std = torch.tensor(statistics.pixel_std, device=frames.device) * 255
    return (frames - mean).div_(std).permute(0, 4, 1, 2, 3)


def to_modality(modality: str, clips: Tensor) -> Tensor:
    """Normalised clips (B, 3, T, H, W) as a modality of the video stream shows them, of the same shape."""
    if modality == "motion":
        # The last difference is repeated, so that every modality has as many frames.
        return torch.cat([clips[:, :, 1:] - clips[:, :, :-1], clips[:, :, -1:] - clips[:, :, -2:-1]], dim=2)
    return clips
