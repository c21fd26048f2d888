"""What is made of a stretch of a video for the pages: a copy that browsers play, thumbnails, sound, pictures of it.

These functions run in child processes of the workshop: they import no torch, and write the file whose path they get.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from seehear.errors import MediaError
from seehear.media.decode import Decoded, Window
from seehear.media.encoding import Mp4Writer, Picture, Sound
from seehear.media.identity import Identity
from seehear.media.mel import mel_filters
from seehear.media.opening import open_media
from seehear.media.reading import read_windows
from seehear.media.timeline import Streams

VERSION = 1
"""Of what is made: another one makes all anew."""

COPY_SECONDS = 30.0
"""The longest stretch of which a copy is made."""
COPY_SIDE_PX = 480
_COPY_RATE_HZ = 25.0
_COPY_SOUND = Sound(44100, 96_000)
_PIECE_SECONDS = 4.0  # decoded at once, so that a copy of 30 s never needs more than some 200 MB

STRIP_FRAMES = 8
STRIP_WIDTH_PX, STRIP_HEIGHT_PX = 160, 120

DRAWN_SECONDS = 300.0
"""The longest stretch of which the sound is drawn."""
WAVE_POINTS = 600
_WAVE_RATE_HZ = 8000
_SPECTRUM_RATE_HZ = 16000
_SPECTRUM_BINS, _SPECTRUM_COLUMNS, _SPECTRUM_FFT = 128, 900, 1024
_SPECTRUM_RANGE_DB = 70.0


@dataclass(frozen=True)
class Stretch:
    """A stretch of a file in seconds, within the span of its streams."""

    path: str
    identity: Identity
    start_seconds: float
    end_seconds: float
    has_video: bool
    has_audio: bool
    clock_jumps: bool
    audio_track: int

    @property
    def seconds(self) -> float:
        return self.end_seconds - self.start_seconds

    @property
    def key(self) -> str:
        """Names the content: of the same file elsewhere too."""
        content = self.identity.fingerprint or f"{self.path}\0{self.identity.modified_ns}"
        times = f"{self.start_seconds:.3f}-{self.end_seconds:.3f}"
        return f"{content}\0{times}\0{self.audio_track}\0{int(self.clock_jumps)}\0{VERSION}"

    def decode(self, windows: list[Window], short_side_px: int | None, sample_rate_hz: int) -> list[Decoded]:
        """Windows of the file, if it is still what was scanned."""
        return read_windows(
            self.path, self.identity, windows, short_side_px, sample_rate_hz, "pyav", self.clock_jumps, self.audio_track
        )

    @property
    def short_side_px(self) -> int:
        """Of the stored frames; 0 if that is not known."""
        with open_media(self.path) as container:
            video = Streams.of(container, self.path, self.audio_track).video
            return 0 if video is None else min(video.width, video.height)

    def sound(self, sample_rate_hz: int) -> np.ndarray:
        """All of the sound, (S,) float32 mono. Raises `MediaError` (no_audio) if there is none."""
        if not self.has_audio:
            raise MediaError(self.path, "no_audio", "there is no sound")
        waves = [wave for _, wave in self.pieces(None, sample_rate_hz, 0.0, 30.0)]
        return np.concatenate(waves)

    def pieces(
        self, short_side_px: int | None, sample_rate_hz: int, frame_rate_hz: float, piece_seconds: float
    ) -> Iterator[tuple[np.ndarray | None, np.ndarray]]:
        """Frames (T, H, W, 3) uint8 (None at a rate of 0) and sound (S,), one piece after the other, without gaps."""
        frames_left = round(self.seconds * frame_rate_hz)
        samples_left = round(self.seconds * sample_rate_hz) if self.has_audio else 0
        at = self.start_seconds
        while frames_left or samples_left:
            seconds = min(piece_seconds, self.end_seconds - at)
            last = self.end_seconds - at <= piece_seconds + 1e-6
            frames = frames_left if last else round(seconds * frame_rate_hz)
            samples = samples_left if last else round(seconds * sample_rate_hz) if self.has_audio else 0
            # A window that would reach past the end is moved back as a whole: what comes before it is cut off again.
            window = Window(at, frames, frame_rate_hz or 1.0, samples / sample_rate_hz)
            decoded = self.decode([window], short_side_px, sample_rate_hz)[0]
            early = max(0.0, at - decoded.start_seconds)
            picture = (
                None if decoded.frames is None else decoded.frames[min(frames - 1, round(early * frame_rate_hz)) :]
            )
            wave = np.zeros(0, np.float32) if decoded.waveform is None else decoded.waveform
            yield picture, wave[round(early * sample_rate_hz) :]
            frames_left, samples_left, at = frames_left - frames, samples_left - samples, at + seconds


def copy(destination: str, stretch: Stretch) -> None:
    """A small H.264 and AAC copy in MP4, which every browser plays."""
    rate = _COPY_RATE_HZ if stretch.has_video else 0.0
    side = min(COPY_SIDE_PX, stretch.short_side_px or COPY_SIDE_PX)  # nothing is made larger than it is
    writer: Mp4Writer | None = None
    sound = _COPY_SOUND if stretch.has_audio else None
    try:
        for frames, wave in stretch.pieces(side, _COPY_SOUND.sample_rate_hz, rate, _PIECE_SECONDS):
            if writer is None:
                picture = None
                if frames is not None:
                    high, wide = _even(frames.shape[1]), _even(frames.shape[2])
                    picture = Picture(wide, high, rate, crf=25, preset="veryfast")
                writer = Mp4Writer(destination, picture, sound, fast_start=True)
                writer.__enter__()
            if frames is not None:
                writer.add_frames(frames[:, :high, :wide])
            writer.add_sound(wave)
    except BaseException as error:
        if writer is not None:
            writer.__exit__(type(error), error, None)
        raise
    assert writer is not None
    writer.__exit__(None, None, None)


def strip(destination: str, stretch: Stretch) -> None:
    """`STRIP_FRAMES` frames side by side as a JPEG, each cut to `STRIP_WIDTH_PX` by `STRIP_HEIGHT_PX`."""
    if not stretch.has_video:
        raise MediaError(stretch.path, "no_video", "there is no picture")
    step = stretch.seconds / STRIP_FRAMES
    # The middles of equal parts, so that the last frame is within the stretch too; each on its own, so that of a long
    # stretch only what is near them is decoded.
    windows = [Window(stretch.start_seconds + (index + 0.5) * step, 1, 1.0) for index in range(STRIP_FRAMES)]
    sheet = Image.new("RGB", (STRIP_WIDTH_PX * STRIP_FRAMES, STRIP_HEIGHT_PX))
    for index, decoded in enumerate(stretch.decode(windows, STRIP_HEIGHT_PX * 3 // 2, _WAVE_RATE_HZ)):
        assert decoded.frames is not None
        sheet.paste(_covering(Image.fromarray(decoded.frames[0])), (index * STRIP_WIDTH_PX, 0))
    sheet.save(destination, "JPEG", quality=80, optimize=True)


def sound(destination: str, stretch: Stretch) -> None:
    """The sound as AAC in MP4."""
    wave = stretch.sound(32000)
    with Mp4Writer(destination, None, Sound(32000, 64_000), fast_start=True) as writer:
        writer.add_sound(wave)


def wave(destination: str, stretch: Stretch) -> None:
    """JSON with `peaks`, the least and the greatest sample of each of up to `WAVE_POINTS` parts, and `seconds`."""
    samples = stretch.sound(_WAVE_RATE_HZ)
    count = max(1, min(WAVE_POINTS, len(samples)))
    edges = np.linspace(0, len(samples), count + 1).astype(int)[:-1]
    lows, highs = np.minimum.reduceat(samples, edges), np.maximum.reduceat(samples, edges)
    peaks = np.stack([lows, highs], axis=1).round(4).tolist()
    Path(destination).write_text(json.dumps({"peaks": peaks, "seconds": round(stretch.seconds, 3)}), encoding="ascii")


def spectrogram(destination: str, stretch: Stretch) -> None:
    """The log-mel spectrogram as a PNG, low tones at the bottom, over the loudest `_SPECTRUM_RANGE_DB` decibels."""
    samples = stretch.sound(_SPECTRUM_RATE_HZ)
    # One column a pixel: a short stretch gets finer steps.
    hop = max(64, -(-len(samples) // _SPECTRUM_COLUMNS))
    power = _mel_power(samples, hop)
    level = 10 * np.log10(power + 1e-10)
    top = max(float(level.max()), -40.0)  # silence stays dark
    shades = np.clip((level - top) / _SPECTRUM_RANGE_DB + 1, 0, 1)
    pixels = colours()[(shades[::-1] * 255).astype(np.uint8)]
    Image.fromarray(pixels).quantize(256, dither=Image.Dither.NONE).save(destination, "PNG", optimize=True)


def _mel_power(samples: np.ndarray, hop: int) -> np.ndarray:
    """Mel power (`_SPECTRUM_BINS`, P), column p centred on sample p * hop."""
    padded = np.pad(samples, _SPECTRUM_FFT // 2)
    starts = np.arange(0, max(1, len(samples)), hop)
    window = np.hanning(_SPECTRUM_FFT + 1)[:-1]
    filters = mel_filters(_SPECTRUM_RATE_HZ, _SPECTRUM_FFT, _SPECTRUM_BINS, 40.0)
    views = np.lib.stride_tricks.sliding_window_view(padded, _SPECTRUM_FFT)[np.minimum(starts, len(samples) - 1)]
    return filters @ (np.abs(np.fft.rfft(views * window, axis=1)) ** 2).T / _SPECTRUM_FFT


def colours() -> np.ndarray:
    """(256, 3) uint8, from near black over violet and orange to pale yellow.

    A line through Oklab (B. Ottosson, 2020) whose lightness grows evenly, so that equal steps look equal and nothing is
    lost in grey.
    """
    t = np.linspace(0, 1, 256)
    light = 0.12 + 0.85 * t
    hue = np.radians(-75 + 185 * t)
    chroma = 0.17 * np.sin(np.pi * np.clip(t, 0, 1) ** 0.8) + 0.02
    a, b = chroma * np.cos(hue), chroma * np.sin(hue)
    cone = np.stack([
        light + 0.3963377774 * a + 0.2158037573 * b,
        light - 0.1055613458 * a - 0.0638541728 * b,
        light - 0.0894841775 * a - 1.2914855480 * b,
    ]) ** 3  # fmt: skip
    to_rgb = np.array([
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ])  # fmt: skip
    linear = np.clip(to_rgb @ cone, 0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return (srgb.T * 255).round().astype(np.uint8)


def _even(pixels: int) -> int:
    return max(2, pixels // 2 * 2)


def _covering(picture: Image.Image) -> Image.Image:
    """Scaled and cut in the middle to a thumbnail's size."""
    scale = max(STRIP_WIDTH_PX / picture.width, STRIP_HEIGHT_PX / picture.height)
    wide, high = round(STRIP_WIDTH_PX / scale), round(STRIP_HEIGHT_PX / scale)
    left, top = (picture.width - wide) // 2, (picture.height - high) // 2
    return picture.resize(
        (STRIP_WIDTH_PX, STRIP_HEIGHT_PX), Image.Resampling.BILINEAR, (left, top, left + wide, top + high)
    )
