"""The mel scale and its filters, in NumPy: processes that only draw sound need no torch.

Both are Slaney's, as librosa's defaults are (`htk=False`, `norm="slaney"`): linear below 1 kHz, logarithmic above, each
triangle of unit area in Hz.
"""

from __future__ import annotations

import math

import numpy as np

from seehear.errors import UsageError

_LINEAR_STEP_HZ = 200 / 3  # of one mel, below the corner
_CORNER_HZ = 1000.0
_CORNER_MEL = _CORNER_HZ / _LINEAR_STEP_HZ
_LOG_STEP = math.log(6.4) / 27  # of one mel, above the corner


def hz_to_mel(hz: np.ndarray) -> np.ndarray:
    """Slaney's mel scale."""
    hz = np.asarray(hz, np.float64)
    above = _CORNER_MEL + np.log(np.maximum(hz, _CORNER_HZ) / _CORNER_HZ) / _LOG_STEP
    return np.where(hz < _CORNER_HZ, hz / _LINEAR_STEP_HZ, above)


def mel_to_hz(mel: np.ndarray) -> np.ndarray:
    """The inverse of `hz_to_mel`."""
    mel = np.asarray(mel, np.float64)
    above = _CORNER_HZ * np.exp(_LOG_STEP * np.maximum(mel - _CORNER_MEL, 0))
    return np.where(mel < _CORNER_MEL, mel * _LINEAR_STEP_HZ, above)


def highest_hz(sample_rate_hz: int, f_min_hz: float, f_max_hz: float | None) -> float:
    """Where filters from `f_min_hz` on end: `f_max_hz`, or half the rate. `UsageError` if they do not fit the rate."""
    top = sample_rate_hz / 2 if f_max_hz is None else f_max_hz
    if not 0 <= f_min_hz < top <= sample_rate_hz / 2:
        raise UsageError(
            f"mel filters from {f_min_hz:g} Hz to {top:g} Hz do not fit a rate of {sample_rate_hz} Hz",
            f"choose 0 <= f_min_hz < f_max_hz <= {sample_rate_hz / 2:g}",
        )
    return top


def mel_filters(
    sample_rate_hz: int, n_fft: int, mel_bins: int, f_min_hz: float = 0.0, f_max_hz: float | None = None
) -> np.ndarray:
    """Triangular filters of shape (mel_bins, n_fft // 2 + 1), float64, each of unit area in Hz."""
    edges = _edges_hz(sample_rate_hz, mel_bins, f_min_hz, f_max_hz)
    bins = np.arange(n_fft // 2 + 1) * (sample_rate_hz / n_fft)
    widths = np.diff(edges)
    rising = (bins[None] - edges[:-2, None]) / widths[:-1, None]
    falling = (edges[2:, None] - bins[None]) / widths[1:, None]
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    return triangles * (2 / (edges[2:] - edges[:-2]))[:, None]


def count_empty_filters(
    sample_rate_hz: int, n_fft: int, mel_bins: int, f_min_hz: float = 0.0, f_max_hz: float | None = None
) -> int:
    """How many filters lie between two bins of the FFT and would always be silent."""
    edges = _edges_hz(sample_rate_hz, mel_bins, f_min_hz, f_max_hz)
    step = sample_rate_hz / n_fft
    first_inside = (np.floor(edges[:-2] / step) + 1) * step
    return int((first_inside >= edges[2:]).sum())


def _edges_hz(sample_rate_hz: int, mel_bins: int, f_min_hz: float, f_max_hz: float | None) -> np.ndarray:
    """The corners of all triangles, of shape (mel_bins + 2,): filter q runs from edge q to edge q + 2."""
    top = sample_rate_hz / 2 if f_max_hz is None else f_max_hz
    return mel_to_hz(np.linspace(hz_to_mel(np.array(f_min_hz)), hz_to_mel(np.array(top)), mel_bins + 2))
