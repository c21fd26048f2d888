"""Where the streams of a file and the windows asked for lie on one timeline.

Time zero of a file is the earliest start of its picture and its sound on the container's presentation
timeline, as a player shows it: edit lists, start offsets and codec delays are honoured, so both streams
of a window begin at the same moment.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import av
import numpy as np
from av.codec.context import ThreadType
from av.container import InputContainer
from av.stream import Disposition

from seehear.errors import MediaError, UsageError

PAD_SECONDS = 0.05
"""By so much a stream may be shorter than what is wanted of it: silence, or its last frame, stands in (`covers`)."""

CLOCK_SECONDS = 0.002
"""Many containers count milliseconds: where a stream begins and ends is known to a tick each, and no better."""

GUESSED_LENGTHS = frozenset({"mp3", "aac", "ac3", "eac3", "amr", "mpeg", "mpegts"})
"""Containers that do not say how long they are: FFmpeg guesses it, by the bit rate or some late time stamp."""

_STILL_CODECS = {"mjpeg", "png", "bmp", "gif", "webp", "tiff"}
_START_SLACK_SECONDS = 0.01  # containers misstate the start of a track by up to a codec's delay
MISMATCH_SECONDS = 0.5  # how far a frame may lie from its due time at the ends of the picture


def covers(seconds: float, wanted_seconds: float) -> bool:
    """Whether a stream that lasts `seconds` gives what is wanted; the one tolerance of scan, training and decoding."""
    return seconds >= wanted_seconds - PAD_SECONDS


def truncation_tolerance(stated_seconds: float) -> float:
    """By so many seconds a stream may end before its stated end; one that ends earlier is truncated."""
    return max(0.3, 0.02 * stated_seconds)


@dataclass(frozen=True)
class Window:
    """A stretch of time asked for: `frame_count` frames and `audio_seconds` of sound from `start_seconds`.

    `frame_count` 0 asks for no frames, `audio_seconds` 0 for no sound.
    """

    start_seconds: float
    frame_count: int
    frame_rate_hz: float
    audio_seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.frame_count < 0 or self.audio_seconds < 0 or not math.isfinite(self.start_seconds):
            raise UsageError(f"no such window: {self}")
        if self.frame_count and not self.frame_rate_hz > 0:
            raise UsageError(f"a window with frames needs a frame rate above 0: {self}")

    @property
    def last_frame_seconds(self) -> float:
        """Time of the last frame after the start of the window."""
        return (self.frame_count - 1) / self.frame_rate_hz if self.frame_count else 0.0


@dataclass(frozen=True)
class Decoded:
    """What a window holds. Times are seconds after the file's time zero.

    frames: (T, H, W, 3) uint8 RGB, or None
    frame_pts_seconds: (T,) float64, the presentation times of those frames in the source, or None
    waveform: (S,) float32 mono in [-1, 1], or None
    audio_start_seconds: time of the first sample, or None without sound
    start_seconds: where the window lies after it was moved to fit (see `decode`)
    """

    frames: np.ndarray | None
    frame_pts_seconds: np.ndarray | None
    waveform: np.ndarray | None
    sample_rate_hz: int
    audio_start_seconds: float | None
    start_seconds: float


@dataclass
class Streams:
    """The picture and the sound of a file, and where time zero lies."""

    video: av.VideoStream | None
    audio: av.AudioStream | None
    zero: float  # seconds on the container's timeline

    @classmethod
    def of(cls, container: InputContainer, name: str, audio_track: int = 0) -> Streams:
        """The picture that moves (see `_picture_of`) and the sound track of that number, set to one thread each."""
        video, tracks = _picture_of(container), container.streams.audio
        audio = tracks[audio_track] if 0 <= audio_track < len(tracks) else None
        present = [stream for stream in (video, audio) if stream is not None]
        undecodable = []
        for one in present:
            context: Any = one.codec_context  # None without a decoder, whatever the stubs say
            if context is None:
                undecodable.append(one.type)
                continue
            # Every worker decodes on its one core; more threads would multiply with the workers.
            context.thread_count = 1
            context.thread_type = ThreadType.NONE
        if undecodable:
            raise MediaError(name, "decode_error", f"no decoder for the {' and '.join(undecodable)} stream")
        return cls(video, audio, min((start_of(one) for one in present), default=0.0))


def _picture_of(container: InputContainer) -> av.VideoStream | None:
    """The first picture that is not cover art.

    Where the cover is a track like any other, as many a Matroska file has it, its codec gives it away: a track in a
    codec for photographs counts only where there is no other.
    """
    tracks = [track for track in container.streams.video if not track.disposition & Disposition.attached_pic]

    def moves(track: av.VideoStream) -> bool:
        context: Any = track.codec_context  # None without a decoder, whatever the stubs say
        return context is not None and context.name not in _STILL_CODECS

    return next(filter(moves, tracks), tracks[0] if tracks else None)


def sound_tracks(container: InputContainer) -> list[int]:
    """The numbers of the sound tracks, from 0: those that are marked as default first, without those of no decoder.

    Where no track has a decoder the first stands for all.
    """
    tracks = container.streams.audio
    contexts: list[Any] = [track.codec_context for track in tracks]  # None without a decoder, whatever the stubs say
    able = [number for number, context in enumerate(contexts) if context is not None] or list(range(len(tracks)))[:1]
    return sorted(able, key=lambda number: not tracks[number].disposition & Disposition.default)


def start_of(stream: av.VideoStream | av.AudioStream) -> float:
    """Start of a stream in seconds on the container's timeline (0 where it is not stated)."""
    if stream.start_time is None or stream.time_base is None:
        return 0.0
    return float(stream.start_time * stream.time_base)


def stated_seconds(stream: av.VideoStream | av.AudioStream, container: str) -> float | None:
    """How long a stream should last, as FFmpeg reads it from its `container`; None where that is not stated."""
    if not stream.duration or stream.duration < 0 or stream.time_base is None:
        return None
    # Of an AVI that is cut off FFmpeg shortens the length in proportion, but leaves the number of frames.
    ticks = max(stream.duration, stream.frames) if container == "avi" else stream.duration
    return float(ticks * stream.time_base)


@dataclass
class Span:
    """Extent of a stream in seconds after time zero; `end` is None until it is known.

    It is first what the container states. Reading makes it true: a stream begins with the first frame or sample that
    decodes and ends with the last.
    """

    start: float
    end: float | None
    stated_end: float | None

    @classmethod
    def of(cls, stream: av.VideoStream | av.AudioStream | None, zero: float, container: str) -> Span | None:
        """Extent of a stream as its `container` (FFmpeg's name) states it; where that is a guess, it has no end yet."""
        if stream is None:
            return None
        start = start_of(stream) - zero
        length = None if container in GUESSED_LENGTHS else stated_seconds(stream, container)
        end = None if length is None else start + length
        return cls(start, end, end)

    def begins(self, seconds: float) -> None:
        """The first frame or sample of the stream was found here; codecs may give it later than is stated."""
        if seconds > self.start + CLOCK_SECONDS:
            self.start = seconds

    def is_before(self, seconds: float) -> bool:
        """Whether a time lies before the stream, by more than containers misstate its start."""
        return seconds < self.start - _START_SLACK_SECONDS

    def falls_short(self, end: float) -> bool:
        """Whether an actual end lies so far before the stated one that the file must be truncated."""
        stated = self.stated_end
        return stated is not None and stated - end > truncation_tolerance(stated - self.start)


def place(name: str, window: Window, video: Span | None, audio: Span | None) -> float:
    """Start of a window after it is moved to where both streams have something to show."""
    start = window.start_seconds
    if window.frame_count and video is not None:
        if video.end is not None:
            start = min(start, video.end - window.last_frame_seconds)
        if video.is_before(start):
            start = video.start
    if window.audio_seconds and audio is not None:
        if audio.end is not None:
            length = audio.end - audio.start
            if not covers(length + CLOCK_SECONDS, window.audio_seconds):
                raise MediaError(
                    name,
                    "audio_too_short",
                    f"{window.audio_seconds:g} s of sound are wanted, the track has {max(length, 0):.3f} s",
                )
            start = min(start, audio.end - window.audio_seconds)
        if audio.is_before(start):
            start = audio.start
    if window.frame_count and video is not None:
        early = video.start - start
        late = -math.inf if video.end is None else start + window.last_frame_seconds - video.end
        if max(early, late) > MISMATCH_SECONDS:
            raise MediaError(
                name,
                "too_short",
                f"{window.frame_count} frames at {window.frame_rate_hz:g} per second do not fit: the picture "
                f"runs from {video.start:.3f} s to " + ("its end" if video.end is None else f"{video.end:.3f} s"),
            )
    return start


class Missed(Exception):
    """A seek or a skip landed after what was wanted."""


@dataclass
class Slot:
    """One window on its way: where it lies and what has been found."""

    window: Window
    start: float
    may_shift: float = 1e-6
    """When the sound turns out to end early, it is cut out all the same if the window belongs no farther away."""
    frames: np.ndarray | None = None
    pts: np.ndarray | None = None
    waveform: np.ndarray | None = None
    audio_start: float | None = None

    @property
    def end(self) -> float:
        return self.start + max(self.window.last_frame_seconds, self.window.audio_seconds)


@dataclass
class Job:
    """One call of `decode`: the open file, where its streams lie, and how the windows are wanted."""

    name: str
    container: InputContainer
    streams: Streams
    short_side_px: int | None
    rate: int
    """Of the sound that is wanted, in Hz."""
    max_frame_pixels: int
    spans: tuple[Span | None, Span | None] = field(init=False)
    """Of the picture and of the sound; what decoding finds out about their ends is kept here."""

    def __post_init__(self) -> None:
        streams, kind = self.streams, self.container.format.name
        self.spans = (Span.of(streams.video, streams.zero, kind), Span.of(streams.audio, streams.zero, kind))
