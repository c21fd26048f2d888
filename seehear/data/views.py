"""Views: what an encoder sees of a decoded clip. Random in training, the plain centre otherwise."""

from __future__ import annotations

from copy import copy, deepcopy
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
    sounds = config.spectrogram.mean is None and config.spectrogram.kind != "waveform"
    return pixels + (("spectrograms",) if sounds else ())


@dataclass(frozen=True)
class FrameDraw:
    """What a view takes of a clip's frames: a square of `side` pixels, mirrored or not, and its colours' factors."""

    top: int
    left: int
    side: int
    flip: bool = False
    colours: tuple[float, float, float] | None = None
    """Of brightness, contrast and saturation."""

    def crop(self, frames: np.ndarray) -> np.ndarray:
        """The square of frames (T, H, W, 3), not yet mirrored: a view of them."""
        return frames[:, self.top : self.top + self.side, self.left : self.left + self.side]


def draw_frames(
    size: tuple[int, int], clip: ClipConfig, augment: AugmentConfig, rng: np.random.Generator | None, at: float = 0.5
) -> FrameDraw:
    """What `video_view` takes of frames of a size (height, width)."""
    height, width = size
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
    if rng is None:
        return FrameDraw(top, left, side)
    flip = bool(rng.random() < augment.flip_probability)
    j = augment.colour_jitter
    colours = tuple(float(f) for f in rng.uniform(1 - j, 1 + j, 3)) if j else None
    return FrameDraw(top, left, side, flip, colours)  # type: ignore[arg-type]


def video_view(
    frames: np.ndarray, clip: ClipConfig, augment: AugmentConfig, rng: np.random.Generator | None, at: float = 0.5
) -> Tensor:
    """Crop, scale, flip and colour of one clip: (T, H, W, 3) uint8 -> (T, crop, crop, 3) uint8.

    One draw serves all frames, so that motion within the clip stays what it was. Without `rng` nothing is drawn and the
    crop lies in the centre; `at` moves it along the longer side, 0 to its beginning and 1 to its end.
    """
    draw = draw_frames(frames.shape[1:3], clip, augment, rng, at)
    frames = draw.crop(frames)
    if draw.flip:
        frames = frames[:, :, ::-1]
    view = torch.from_numpy(np.ascontiguousarray(frames))
    if draw.side != clip.crop_px:
        view = F.interpolate(
            view.permute(0, 3, 1, 2), size=(clip.crop_px, clip.crop_px), mode="bilinear", antialias=True
        ).permute(0, 2, 3, 1)
    if draw.colours is not None:
        view = coloured(view, draw.colours)
    return view


def degraded(view: Tensor, factor: int) -> Tensor:
    """Frames (..., H, W, 3) with less to see: scaled down by `factor` and up again, by nearest neighbour.

    As in the SeLaVi paper, Appendix A.5. 1 leaves them as they are; no side gets smaller than one pixel.
    """
    if factor <= 1:
        return view
    rows, columns = (_nearest_of_nearest(size, factor) for size in view.shape[-3:-1])
    return view.index_select(-3, rows.to(view.device)).index_select(-2, columns.to(view.device))


def _nearest_of_nearest(size: int, factor: int) -> Tensor:
    """For each of `size` places the one whose value it has after down- and up-sampling."""
    small = max(1, round(size / factor))
    down = torch.arange(small) * size // small
    return down[torch.arange(size) * small // size]


def coloured(view: Tensor, factors: tuple[float, float, float]) -> Tensor:
    """Frames (T, H, W, 3) uint8 with other brightness, contrast and saturation; factors of 1 change nothing."""
    brightness, contrast, saturation = factors
    x = view.float() * brightness
    x = x.mean() + (x - x.mean()) * contrast
    grey = (x * constant((0.299, 0.587, 0.114), x.device)).sum(-1, keepdim=True)
    return (grey + (x - grey) * saturation).round_().clamp_(0, 255).to(torch.uint8)


@dataclass(frozen=True)
class SoundDraw:
    """What is drawn for a clip's sound: a factor of its volume, and a first and a number of bins and frames to mask."""

    volume: float = 1.0
    bins: tuple[int, int] = (0, 0)
    frames: tuple[int, int] = (0, 0)


def draw_sound(augment: AugmentConfig, mel_bins: int, frames: int, rng: np.random.Generator) -> SoundDraw:
    """What is drawn for one clip, whose spectrogram has so many bins and frames."""

    def mask(limit: int, size: int) -> tuple[int, int]:
        if not limit:
            return 0, 0
        length = int(rng.integers(limit))
        return int(rng.integers(size - length + 1)), length

    v = augment.volume_jitter
    volume = rng.uniform(1 - v, 1 + v) if v else 1.0
    return SoundDraw(volume, mask(augment.frequency_mask_bins, mel_bins), mask(augment.time_mask_frames, frames))


class Samples(nn.Module):
    """In the place of a spectrogram: the samples as they are, for encoders that make their own."""

    mel_bins = frames = 0

    def forward(self, waveforms: Tensor) -> Tensor:
        """(B, S) to the same."""
        return waveforms


class SpectrogramView:
    """Waveforms to normalised spectrograms, with the audio augmentations. Computes where `to` moved it.

    Of kind `waveform` it leaves them waveforms (B, S), with the volume alone changed.
    """

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
        self.transform: LogMelSpectrogram | LogFilterbank | Samples
        if settings.kind == "waveform":
            self.transform = Samples()
        elif settings.kind == "logfbank":
            self.transform = LogFilterbank(**shared)
        else:
            self.transform = LogMelSpectrogram(**shared, log_offset=settings.log_offset)
        self.statistics = statistics

    def to(self, device: torch.device) -> SpectrogramView:
        """The same view on another device; this one stays where it is."""
        moved = copy(self)
        moved.transform = deepcopy(self.transform).to(device)
        return moved

    def __call__(self, waveforms: Tensor, augment: AugmentConfig, rngs: list[np.random.Generator] | None) -> Tensor:
        """(B, S) samples in [-1, 1] -> (B, 1, Q, P), zero mean and unit deviation over the collection.

        `rngs` holds one generator a clip; None: no augmentation.
        """
        return self.apply(waveforms, *self.drawn(augment, rngs))

    def drawn(
        self, augment: AugmentConfig, rngs: list[np.random.Generator] | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """What `apply` takes, drawn for each clip: volumes (B, 1) float32 and masks (B, 4) int64, where there are any.

        A mask is first bin, number of bins, first frame, number of frames.
        """
        if rngs is None:
            return None, None
        draws = [draw_sound(augment, self.transform.mel_bins, self.transform.frames, rng) for rng in rngs]
        volumes = torch.tensor([[d.volume] for d in draws], dtype=torch.float32) if augment.volume_jitter else None
        masked = augment.frequency_mask_bins or augment.time_mask_frames
        return volumes, torch.tensor([(*d.bins, *d.frames) for d in draws]) if masked else None

    @torch.no_grad()
    def apply(self, waveforms: Tensor, volumes: Tensor | None, masks: Tensor | None) -> Tensor:
        """`__call__` with what `drawn` drew; everything lies on one device."""
        if isinstance(self.transform, LogFilterbank):
            waveforms = on_16_bits(waveforms)
        if volumes is not None:
            waveforms = waveforms * volumes
        x: Tensor = self.transform(waveforms)
        if isinstance(self.transform, Samples):
            return x
        x = (x - self.statistics.spectrogram_mean) / self.statistics.spectrogram_std
        if masks is not None:
            # 0 is the mean after normalisation (SpecAugment fills with the mean).
            bins, frames = _within(masks[:, :2], x.shape[-2]), _within(masks[:, 2:], x.shape[-1])
            x.masked_fill_(bins[:, None, :, None] | frames[:, None, None, :], 0)
        return x


def _within(stretches: Tensor, size: int) -> Tensor:
    """Which of `size` places lie in each stretch (B, 2) of first place and length: (B, size) bool."""
    at, first = torch.arange(size, device=stretches.device), stretches[:, :1]
    return (at >= first) & (at < first + stretches[:, 1:])


@lru_cache(maxsize=64)
def constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Numbers as float32 on a device. Kept there: to copy them each time would wait for the device."""
    with torch.inference_mode(False):
        return torch.tensor(values, device=device)


def normalise_frames(frames: Tensor, statistics: Statistics) -> Tensor:
    """(B, T, H, W, 3) uint8 -> (B, 3, T, H, W) float32 of zero mean and unit deviation, on the same device.

    The result is a permuted view of channels-last memory, which convolutions want.
    """
    mean, std = (constant(x, frames.device) * 255 for x in (statistics.pixel_mean, statistics.pixel_std))
    return (frames - mean).div_(std).permute(0, 4, 1, 2, 3)


def to_modality(modality: str, clips: Tensor) -> Tensor:
    """Normalised clips (B, 3, T, H, W) as a modality of the video stream shows them, of the same shape."""
    if modality == "motion":
        # The last difference is repeated, so that every modality has as many frames.
        return torch.cat([clips[:, :, 1:] - clips[:, :, :-1], clips[:, :, -1:] - clips[:, :, -2:-1]], dim=2)
    return clips
