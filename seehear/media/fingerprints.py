"""What a video looks and sounds like, in few bits that survive another encoding: for finding copies.

Runs in processes of the pool; imports no torch.

Pictures: four times a second 63 bits, the signs of the lowest frequencies of the grey picture about their median (a
perceptual hash by the discrete cosine transform). The picture is the mean of half a second, so that a copy whose frames
come some hundredths of a second earlier or later has nearly the same bits, however fast things move. Sound: sixteen
times a second 32 bits, whether the difference of the energies of neighbouring bands grows (Haitsma and Kalker, ISMIR
2002). Pictures of one colour and silent sound have none: black is like any other black, and silence like silence.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.fft import dctn

from seehear.media.decode import Window
from seehear.media.identity import Identity
from seehear.media.reading import read_windows

PICTURE_RATE_HZ, SOUND_RATE_HZ = 4, 16
STRETCH_SECONDS = 30.0
MOST_STRETCHES = 20
"""A longer video is looked at in so many stretches, evenly spread."""
_FRAMES_HZ, _AVERAGED = 16, 8
_SIDE, _KEPT = 32, 8
_FLAT_STD = 4.0  # of 255
_SAMPLE_RATE_HZ = 8000
_FRAME, _HOP = 3000, _SAMPLE_RATE_HZ // SOUND_RATE_HZ
_BANDS = 33
_LOWEST_HZ, _HIGHEST_HZ = 200.0, 3400.0
_SILENCE = 10 ** (-55 / 20)


@dataclass(frozen=True)
class Looks:
    """Fingerprints of S stretches of a video, each from its start on; the same length for all but rounding."""

    picture: np.ndarray
    """(S, T) uint64; no columns without a picture."""
    plain: np.ndarray
    """(S, T) bool: frames of one colour, whose bits mean nothing."""
    sound: np.ndarray
    """(S, U) uint32; no columns without sound."""
    silent: np.ndarray
    """(S, U) bool: sound whose bits mean nothing."""


def stretches(start: float, end: float) -> list[tuple[float, float]]:
    """What of a span is looked at: all, in equal parts of up to `STRETCH_SECONDS`, or `MOST_STRETCHES` of these."""
    count = max(1, math.ceil((end - start) / STRETCH_SECONDS))
    if count <= MOST_STRETCHES:
        edges = np.linspace(start, end, count + 1)
        return [(float(a), float(b)) for a, b in itertools.pairwise(edges)]
    starts = np.linspace(start, end - STRETCH_SECONDS, MOST_STRETCHES)
    return [(float(a), float(a) + STRETCH_SECONDS) for a in starts]


def looks_of(
    path: str,
    identity: Identity,
    start: float,
    end: float,
    streams: tuple[str, ...],
    clock_jumps: bool,
    audio_track: int,
) -> Looks:
    """The fingerprints of a span of a file. Raises `MediaError`."""
    spans = stretches(start, end)
    frames = max(1, int((spans[0][1] - spans[0][0]) * _FRAMES_HZ)) if "video" in streams else 0
    seconds = spans[0][1] - spans[0][0] if "audio" in streams else 0.0
    windows = [Window(first, frames, float(_FRAMES_HZ), seconds) for first, _ in spans]
    decoded = read_windows(
        path, identity, windows, 2 * _SIDE, _SAMPLE_RATE_HZ, "pyav", clock_jumps, audio_track
    )  # fmt: skip
    pictures = [picture_bits(d.frames) for d in decoded if d.frames is not None]
    sounds = [sound_bits(d.waveform) for d in decoded if d.waveform is not None]
    none = np.zeros((len(spans), 0))
    return Looks(
        np.stack([bits for bits, _ in pictures]) if pictures else none.astype(np.uint64),
        np.stack([plain for _, plain in pictures]) if pictures else none.astype(bool),
        np.stack([bits for bits, _ in sounds]) if sounds else none.astype(np.uint32),
        np.stack([silent for _, silent in sounds]) if sounds else none.astype(bool),
    )


def picture_bits(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of frames (F, H, W, 3) uint8 at 16 a second the bits (T,) uint64, and which are of one colour (T,) bool."""
    small = np.stack(
        [np.asarray(Image.fromarray(f).convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)) for f in frames]
    ).astype(np.float32)
    if len(small) > _AVERAGED:
        sums = np.cumsum(np.concatenate([np.zeros_like(small[:1]), small], dtype=np.float64), axis=0)
        means = (sums[_AVERAGED:] - sums[:-_AVERAGED]) / _AVERAGED
        small = means[:: _FRAMES_HZ // PICTURE_RATE_HZ].astype(np.float32)
    lowest = dctn(small, axes=(1, 2), norm="ortho")[:, :_KEPT, :_KEPT].reshape(len(small), -1)[:, 1:]
    bits = lowest > np.median(lowest, axis=1, keepdims=True)
    weights = np.uint64(1) << np.arange(bits.shape[1], dtype=np.uint64)
    return (bits * weights).sum(1, dtype=np.uint64), small.std(axis=(1, 2)) < _FLAT_STD


def sound_bits(waveform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of a waveform (S,) at 8 kHz the bits (U,) uint32, and where it is silent (U,) bool."""
    count = (len(waveform) - _FRAME - _HOP) // _HOP + 1
    if count < 1:
        return np.zeros(0, dtype=np.uint32), np.zeros(0, dtype=bool)
    frames = np.lib.stride_tricks.sliding_window_view(waveform, _FRAME)[::_HOP][: count + 1]
    power = np.abs(np.fft.rfft(frames * np.hanning(_FRAME).astype(np.float32), axis=1)) ** 2
    edges = np.geomspace(_LOWEST_HZ, _HIGHEST_HZ, _BANDS + 1) * _FRAME / _SAMPLE_RATE_HZ
    bands = np.stack([power[:, int(a) : max(int(a) + 1, int(b))].sum(1) for a, b in itertools.pairwise(edges)], axis=1)
    between = np.diff(np.log(bands + 1e-12), axis=1)
    bits = np.diff(between, axis=0) > 0
    weights = np.uint32(1) << np.arange(bits.shape[1], dtype=np.uint32)
    level = np.sqrt((frames[1:].astype(np.float64) ** 2).mean(1))
    return (bits * weights).sum(1, dtype=np.uint32), level < _SILENCE
