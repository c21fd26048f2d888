"""Log filterbank energies as the package `python_speech_features` computes them (its `logfbank`, version 0.6).

GDT and SeLaVi were trained on them. They differ from `seehear.media.spectrogram` in nearly everything: samples on the
scale of 16 bits, a pre-emphasis, a rectangular window, frames that are not centred, HTK's mel scale, triangles with
corners on whole bins of the FFT, most of which are too narrow to be triangles and some of which are empty.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from seehear.errors import UsageError
from seehear.media.mel import highest_hz

FULL_SCALE = 32768  # of 16-bit samples
PRE_EMPHASIS = 0.97
DEFAULT_N_FFT = 1024  # of both releases
EPS = float(np.finfo(np.float64).eps)  # what the package puts in place of an energy of zero


def floored_filters(
    sample_rate_hz: int, n_fft: int, mel_bins: int, f_min_hz: float = 0.0, f_max_hz: float | None = None
) -> np.ndarray:
    """Triangles of height 1 between whole bins of the FFT, of shape (mel_bins, n_fft // 2 + 1), float64.

    The corners are equidistant in HTK's mel, 2595 log10(1 + hz / 700), and each is moved down to a bin. A triangle
    whose three corners fall into one bin is empty; one with two in one bin has a vertical side.
    """
    top = sample_rate_hz / 2 if f_max_hz is None else f_max_hz
    low_mel, top_mel = (2595 * np.log10(1 + hz / 700.0) for hz in (f_min_hz, top))
    edges_hz = 700 * (10 ** (np.linspace(low_mel, top_mel, mel_bins + 2) / 2595.0) - 1)
    corners = np.floor((n_fft + 1) * edges_hz / sample_rate_hz)
    left, peak, right = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    bins = np.arange(n_fft // 2 + 1)[None]
    with np.errstate(divide="ignore", invalid="ignore"):
        rising, falling = (bins - left) / (peak - left), (right - bins) / (right - peak)
    rises, falls = (left <= bins) & (bins < peak), (peak <= bins) & (bins < right)
    return np.where(rises, rising, np.where(falls, falling, 0.0))


def on_16_bits(waveform: Tensor) -> Tensor:
    """Samples in [-1, 1] as they are after they were stored in 16 bits: rounded to multiples of 1/32768.

    The releases read sound in this form. Below -90 dB nothing is left, and digital silence is silence.
    """
    return (waveform * FULL_SCALE).round_().clamp_(-FULL_SCALE, FULL_SCALE - 1) / FULL_SCALE


class LogFilterbank(nn.Module):
    """Natural logarithm of filterbank energies: (B, S) waveform in [-1, 1] -> (B, 1, Q, P) float32.

    Q = `mel_bins`, P = `frames`. Frame p begins with sample p * hop, and S samples give 1 + ceil((S - window) / hop)
    frames, the end padded with zeros: 1 s at a window of 20 ms and a hop of 10 ms gives 99. Those beyond `frames` are
    cropped at the end.

    n_fft: points of the Fourier transform; None: 1024

    Computed in float64, for quiet bins beside loud ones. Samples should be `on_16_bits`. Normalisation is the data
    layer's.
    """

    filters: Tensor

    def __init__(
        self,
        *,
        sample_rate_hz: int,
        mel_bins: int,
        hop_seconds: float,
        window_seconds: float,
        frames: int,
        n_fft: int | None = None,
        f_min_hz: float = 0.0,
        f_max_hz: float | None = None,
    ) -> None:
        super().__init__()
        top = highest_hz(sample_rate_hz, f_min_hz, f_max_hz)
        # The package rounds halves up; `round` would round them to even.
        self.hop = math.floor(hop_seconds * sample_rate_hz + 0.5)
        self.window_samples = math.floor(window_seconds * sample_rate_hz + 0.5)
        self.n_fft = n_fft or DEFAULT_N_FFT
        if self.hop < 1 or self.window_samples < 2 or frames < 1 or mel_bins < 1:
            raise UsageError("a spectrogram needs a hop of a sample, a window of two, a frame and a mel bin")
        if self.n_fft < self.window_samples:
            # The package cuts the window off and says so; nothing was trained that way.
            raise UsageError(
                f"n_fft {self.n_fft} is shorter than the window of {self.window_samples} samples",
                "set spectrogram.n_fft or a shorter spectrogram.window_seconds",
            )
        self.sample_rate_hz, self.mel_bins, self.frames = sample_rate_hz, mel_bins, frames
        filters = floored_filters(sample_rate_hz, self.n_fft, mel_bins, f_min_hz, top)
        # Derived from the settings, so not part of a checkpoint.
        self.register_buffer("filters", torch.from_numpy(filters), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """(B, S) float -> (B, 1, Q, P) float32. Raises `ValueError` if S does not fit `frames`."""
        if waveform.ndim != 2:
            raise ValueError(f"waveforms of shape (batch, samples) are needed, not {tuple(waveform.shape)}")
        found = 1 + max(0, math.ceil((waveform.shape[1] - self.window_samples) / self.hop))
        # One frame less is asked for where a clip has one more than a round number; a window more, elsewhere.
        if not 0 <= found - self.frames <= 1 + math.ceil(self.window_samples / self.hop):
            raise ValueError(
                f"{waveform.shape[1]} samples at a hop of {self.hop} give {found} frames, not the {self.frames}"
                " asked for"
            )
        x = waveform.double() * FULL_SCALE
        x = torch.cat([x[:, :1], x[:, 1:] - PRE_EMPHASIS * x[:, :-1]], 1)
        needed = (found - 1) * self.hop + self.window_samples
        x = nn.functional.pad(x, (0, max(0, needed - x.shape[1])))
        frames = x.unfold(1, self.window_samples, self.hop)[:, : self.frames]
        spectrum = torch.fft.rfft(frames, self.n_fft)
        power = (spectrum.real.square() + spectrum.imag.square()) / self.n_fft
        energies = power @ self.filters.T
        return energies.where(energies != 0, EPS).log().transpose(1, 2).unsqueeze(1).float()

    def extra_repr(self) -> str:
        return (
            f"{self.sample_rate_hz} Hz, {self.mel_bins} mel bins x {self.frames} frames, hop {self.hop}, "
            f"window {self.window_samples}, n_fft {self.n_fft}"
        )
