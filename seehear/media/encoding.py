"""Frames and sound to H.264 and AAC in MP4, which every browser plays. Imports no torch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from types import TracebackType

import av
import numpy as np

from seehear.errors import UsageError

_SAMPLES = 1024
"""Of a frame of AAC."""
_TICKS_HZ = 90000
"""The clock of pictures for training, so that a frame may be shown at any time."""


@dataclass(frozen=True)
class Picture:
    """How frames are encoded; both sides must be even."""

    width_px: int
    height_px: int
    frame_rate_hz: float
    crf: int
    """x264's constant rate factor: 18 is hardly told from the original, 35 is coarse."""
    preset: str = "medium"
    keyframe_frames: int = 250
    """A keyframe at least every so many frames."""
    for_training: bool = False
    """Without what makes decoding slower (CABAC, the deblocking filter, frames that refer to later ones)."""
    start_seconds: float = 0.0
    """When the first frame is shown."""


@dataclass(frozen=True)
class Sound:
    """How mono sound is encoded."""

    sample_rate_hz: int
    bits_per_second: int
    start_seconds: float = 0.0
    """When the first sample is heard."""
    for_training: bool = False
    """Without noise that the decoder makes up, which would be another one after a seek; by the quicker search."""


class Mp4Writer:
    """Writes one MP4 piece by piece. A context manager; what is not whole when the block fails is no valid file.

    target: a path, or a buffer in memory
    picture, sound: None where there is none, of which nothing can be added then
    fast_start: put the index first, so that playing can begin before all has arrived (of a path only)
    """

    def __init__(
        self,
        target: str | os.PathLike[str] | BytesIO,
        picture: Picture | None,
        sound: Sound | None,
        *,
        fast_start: bool = False,
    ) -> None:
        if picture is None and sound is None:
            raise UsageError("an MP4 needs a picture or sound")
        options = {"movflags": "+faststart"} if fast_start else {}
        file = target if isinstance(target, BytesIO) else os.fspath(target)
        self._container = av.open(file, "w", format="mp4", options=options)
        self._frames = self._samples = 0
        self._rest = np.zeros(0, np.float32)
        self._video = None if picture is None else self._add_picture(picture)
        self._audio = None
        if sound is not None:
            self._audio = self._container.add_stream("aac", rate=sound.sample_rate_hz, layout="mono")
            self._audio.bit_rate = sound.bits_per_second
            if sound.for_training:
                self._audio.options = {"aac_pns": "0", "aac_coder": "fast"}
            self._samples = round(sound.start_seconds * sound.sample_rate_hz)
        self._frames_ended = picture is None

    def _add_picture(self, picture: Picture) -> av.VideoStream:
        self._rate = Fraction(picture.frame_rate_hz).limit_denominator(1001)
        self._clock = 1 / self._rate if not picture.for_training else Fraction(1, _TICKS_HZ)
        self._first = Fraction(picture.start_seconds).limit_denominator(_TICKS_HZ)
        training = {"tune": "fastdecode", "bf": "0"} if picture.for_training else {}
        video = self._container.add_stream(
            "libx264",
            rate=self._rate,
            # Without look-ahead: with it x264 gave other bytes now and then when several ran at once, and the
            # same run should give the same page.
            options={
                "crf": str(picture.crf),
                "preset": picture.preset,
                "g": str(picture.keyframe_frames),
                "threads": "1",
                "x264-params": "no-mbtree=1:rc-lookahead=0:lookahead-threads=1",
                **training,
            },
        )
        video.width, video.height, video.pix_fmt = picture.width_px, picture.height_px, "yuv420p"
        video.codec_context.time_base = self._clock
        return video

    def __enter__(self) -> Mp4Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        try:
            if kind is None:
                self.end_frames()
                self._end_sound()
        finally:
            self._container.close()

    def add_frames(self, frames: np.ndarray) -> None:
        """The next frames, of shape (T, H, W, 3) uint8."""
        assert self._video is not None
        for picture in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts = round((self._first + self._frames / self._rate) / self._clock)
            frame.time_base = self._clock
            self._container.mux(self._video.encode(frame))
            self._frames += 1

    def end_frames(self) -> None:
        """No frame follows."""
        if not self._frames_ended:
            self._frames_ended = True
            assert self._video is not None
            self._container.mux(self._video.encode(None))

    def add_sound(self, waveform: np.ndarray) -> None:
        """The next samples, of shape (S,) float; what is beyond [-1, 1] is clipped."""
        if not waveform.size:
            return
        wave = np.concatenate([self._rest, np.clip(waveform, -1.0, 1.0).astype(np.float32)])
        whole = len(wave) // _SAMPLES * _SAMPLES
        for first in range(0, whole, _SAMPLES):
            self._encode_sound(wave[first : first + _SAMPLES])
        self._rest = wave[whole:]

    def _end_sound(self) -> None:
        if self._audio is None:
            return
        if self._rest.size:
            self._encode_sound(self._rest)
        self._container.mux(self._audio.encode(None))

    def _encode_sound(self, piece: np.ndarray) -> None:
        assert self._audio is not None
        sound = av.AudioFrame.from_ndarray(np.ascontiguousarray(piece[None]), format="fltp", layout="mono")
        sound.sample_rate, sound.pts = self._audio.rate, self._samples
        sound.time_base = Fraction(1, self._audio.rate)
        self._container.mux(self._audio.encode(sound))
        self._samples += len(piece)
