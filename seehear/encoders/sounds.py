"""Sound as a network was trained on it: AST's and CLAP's spectrograms, and samples of zero mean and unit deviation.

Each is a module that takes samples (B, S) float32 in [-1, 1] at its rate. The numbers are those of the feature
extractors of `transformers`, which make one clip after the other in NumPy; tests compare the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seehear.errors import DataError
from seehear.media.mel import mel_filters

_AUDIOSET_MEAN, _AUDIOSET_STD = -4.2677393, 4.5689974


class Sound(nn.Module):
    """What is done to samples before a network sees them; `settings` says all that it depends on."""

    def __init__(self, settings: Mapping[str, Any], sample_rate_hz: int) -> None:
        super().__init__()
        self.settings, self.sample_rate_hz = dict(settings), sample_rate_hz


class KaldiFilterbank(Sound):
    """Kaldi's log filterbank energies as the Audio Spectrogram Transformer sees them (Gong et al., 2021).

    Frames of 25 ms every 10 ms without their mean, pre-emphasis of .97, Hann's window, 512 points; triangles on the mel
    axis from 20 Hz to half the rate; natural logarithm; cut or filled with zeros to `max_length` frames; then the mean
    is subtracted and twice the deviation divided by.
    """

    filters: Tensor
    window: Tensor

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings, int(settings.get("sampling_rate", 16000)))
        self.bins = int(settings.get("num_mel_bins", 128))
        self.length = int(settings.get("max_length", 1024))
        self.normalised = bool(settings.get("do_normalize", True))
        self.mean = float(settings.get("mean", _AUDIOSET_MEAN))
        self.std = float(settings.get("std", _AUDIOSET_STD))
        filters = kaldi_filters(self.sample_rate_hz, 512, self.bins, 20.0)
        self.register_buffer("filters", torch.from_numpy(filters.T.copy()), persistent=False)
        window = torch.hann_window(400, periodic=False, dtype=torch.float64)
        self.register_buffer("window", window, persistent=False)

    @property
    def output_shape(self) -> tuple[int, ...]:
        return self.length, self.bins

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Samples (B, S) to (B, max_length, num_mel_bins) float32."""
        if x.shape[-1] < 400:
            raise DataError(f"a clip of {x.shape[-1]} samples is shorter than a frame", "--set clip.audio_seconds=2")
        # In float64: a quiet bin beside a loud one would else be rounding, and its logarithm visibly so.
        frames = x.double().unfold(-1, 400, 160)
        frames = frames - frames.mean(-1, keepdim=True)
        before = torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)
        power = _power(torch.fft.rfft((frames - 0.97 * before) * self.window, n=512))
        logs = (power @ self.filters).clamp_(min=1.192092955078125e-07).log_()[:, : self.length]
        logs = F.pad(logs, (0, 0, 0, self.length - logs.shape[1]))
        return ((logs - self.mean) / (2 * self.std) if self.normalised else logs).float()


class ClapMel(Sound):
    """CLAP's mel spectrogram in decibels, of at most `max_length_s` seconds (Wu et al., 2023).

    A shorter clip is repeated as often as it fits whole and filled with silence (`repeatpad`), repeated and cut
    (`repeat`), or filled with silence (`pad`). Of a longer one the library takes pieces at random; here a clip gives
    the same features each time: the middle one of those it draws from. With `fusion` there are four channels: the whole
    shrunk and three pieces, or four copies of a clip that is not longer.
    """

    filters: Tensor
    window: Tensor

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings, int(settings.get("sampling_rate", 48000)))
        self.points = int(settings.get("fft_window_size", 1024))
        self.hop = int(settings.get("hop_length", 480))
        self.bins = int(settings.get("feature_size", 64))
        self.samples = int(settings.get("max_length_s", 10)) * self.sample_rate_hz
        self.padding = str(settings.get("padding", "repeatpad"))
        self.truncation = str(settings.get("truncation", "fusion"))
        if self.padding not in ("repeatpad", "repeat", "pad") or self.truncation not in ("fusion", "rand_trunc"):
            raise DataError(f"CLAP's padding {self.padding!r} with truncation {self.truncation!r} is not done here")
        low, high = float(settings.get("frequency_min", 0)), float(settings.get("frequency_max", 14000))
        if self.truncation == "fusion":
            filters = htk_filters(self.sample_rate_hz, self.points, self.bins, low, high)
        else:
            filters = mel_filters(self.sample_rate_hz, self.points, self.bins, low, high)
        self.register_buffer("filters", torch.from_numpy(filters.copy()), persistent=False)
        self.register_buffer("window", torch.hann_window(self.points, dtype=torch.float64), persistent=False)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Samples (B, S) to (B, 1 or 4, frames, mel bins) float32."""
        length = x.shape[-1]
        if length < self.samples:
            x = self._filled(x)
        elif length > self.samples and self.truncation == "rand_trunc":
            first = (length - self.samples) // 2
            x = x[:, first : first + self.samples]
        decibels = self._decibels(x)
        if self.truncation == "rand_trunc":
            return decibels[:, None]
        frames = self.samples // self.hop + 1
        if decibels.shape[1] == frames:
            return decibels[:, None].expand(-1, 4, -1, -1).contiguous()
        return self._fused(decibels, frames)

    def _filled(self, x: Tensor) -> Tensor:
        if self.padding == "repeat":
            return x.repeat(1, self.samples // x.shape[-1] + 1)[:, : self.samples]
        if self.padding == "repeatpad":
            x = x.repeat(1, self.samples // x.shape[-1])
        return F.pad(x, (0, self.samples - x.shape[-1]))

    def _decibels(self, x: Tensor) -> Tensor:
        """(B, S) to (B, frames, mel bins) in dB."""
        half = self.points // 2
        x = F.pad(x[:, None].double(), (half, half), mode="reflect")[:, 0]
        power = _power(torch.fft.rfft(x.unfold(-1, self.points, self.hop) * self.window))
        return (10 * (power @ self.filters.T).clamp_(min=1e-10).log10_()).float()

    def _fused(self, decibels: Tensor, frames: int) -> Tensor:
        """The whole (B, F, M) shrunk to so many frames, then the middle pieces of three ranges: (B, 4, frames, M)."""
        ranges = np.array_split(np.arange(decibels.shape[1] - frames + 1), 3)
        firsts = [int(found[len(found) // 2]) if len(found) else 0 for found in ranges]
        whole = F.interpolate(decibels[:, None], size=(frames, decibels.shape[-1]), mode="bilinear")
        pieces = [decibels[:, None, first : first + frames] for first in firsts]
        return torch.cat([whole, *pieces], dim=1)


class Samples(Sound):
    """Samples themselves; with `do_normalize` of zero mean and unit deviation in each clip (wav2vec 2.0 and kin)."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings, int(settings.get("sampling_rate", 16000)))
        self.normalised = bool(settings.get("do_normalize", True))

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Samples (B, S) to the same shape."""
        if not self.normalised:
            return x
        variance, mean = torch.var_mean(x, -1, correction=0, keepdim=True)
        return (x - mean).div_((variance + 1e-7).sqrt())


class ReflectedSamples(Sound):
    """Samples (B, 1, S') for PE-AV: the end is mirrored until they are a whole number of hops."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings, int(settings.get("sampling_rate", 48000)))
        self.hop = int(settings.get("hop_length", 1920))

    def forward(self, x: Tensor) -> Tensor:
        """Samples (B, S) to (B, 1, S'), S' the next multiple of `hop_length`."""
        return F.pad(x[:, None], (0, -x.shape[-1] % self.hop), mode="reflect")


_SOUNDS: dict[str, type[Sound]] = {
    "ASTFeatureExtractor": KaldiFilterbank,
    "ClapFeatureExtractor": ClapMel,
    "Wav2Vec2FeatureExtractor": Samples,
    "PeAudioFeatureExtractor": ReflectedSamples,
}


def read_sound(settings: Mapping[str, Any], source: str) -> Sound:
    """What a feature extractor's configuration says is done to samples; `source` is its file, for errors.

    Raises `DataError` if it is of another extractor.
    """
    kind = str(settings.get("feature_extractor_type", ""))
    if kind not in _SOUNDS:
        raise DataError(
            f"{source}: the sound of {kind or 'an unnamed feature extractor'} is not made here",
            f"those of {', '.join(_SOUNDS)} are",
        )
    return _SOUNDS[kind](settings)  # type: ignore[call-arg]


def _power(spectrum: Tensor) -> Tensor:
    """|z|², without the root that `abs` takes first."""
    return torch.addcmul(spectrum.real.square(), spectrum.imag, spectrum.imag)


def kaldi_filters(sample_rate_hz: int, points: int, bins: int, low_hz: float) -> np.ndarray:
    """Kaldi's filters (bins, points // 2 + 1), float64: triangles of height 1 on the axis of 1127 ln(1 + f / 700)."""

    def mel(hz: Any) -> Any:
        return 1127.0 * np.log(1.0 + np.asarray(hz, np.float64) / 700.0)

    edges = np.linspace(mel(low_hz), mel(sample_rate_hz // 2), bins + 2)
    return _triangles(mel(np.arange(points // 2 + 1) * (sample_rate_hz / points)), edges)


def htk_filters(sample_rate_hz: int, points: int, bins: int, low_hz: float, high_hz: float) -> np.ndarray:
    """HTK's filters (bins, points // 2 + 1), float64: edges evenly on 2595 log10(1 + f / 700), triangles in Hz."""
    low, high = (2595.0 * np.log10(1.0 + hz / 700.0) for hz in (low_hz, high_hz))
    edges = 700.0 * (10.0 ** (np.linspace(low, high, bins + 2) / 2595.0) - 1.0)
    return _triangles(np.linspace(0, sample_rate_hz // 2, points // 2 + 1), edges)


def _triangles(at: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """At each of these places the height of triangle q, which rises from edge q to q + 1 and falls to q + 2."""
    widths = np.diff(edges)[:, None]
    rising = (at - edges[:-2, None]) / widths[:-1]
    falling = (edges[2:, None] - at) / widths[1:]
    return np.maximum(0.0, np.minimum(rising, falling))
