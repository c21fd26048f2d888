"""Frames and sound of time windows of one video, in one pass, by presentation timestamps.

Time zero of a file is the earliest start of its picture and its sound on the container's presentation
timeline, as a player shows it: edit lists, start offsets and codec delays are honoured, so both streams
of a window begin at the same moment.

This module imports no torch: decoding runs in worker processes that should stay small.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import av
import numpy as np
from av.codec.context import ThreadType
from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.reformatter import Interpolation, VideoReformatter

from seehear.errors import MediaError, UsageError
from seehear.media.formats import DEMUXERS

MAX_FRAME_PIXELS = 8192 * 4608
"""Larger frames are refused before anything is allocated (8K video passes)."""

MAX_OUTPUT_BYTES = 2 << 30
"""The most that one call of `decode` returns."""

PAD_SECONDS = 0.05
"""So much silence may stand in for a track that is shorter than its window (codec priming), no more."""

SEEK_GAP_SECONDS = 2.0
"""Windows farther apart than this are reached by a seek, nearer ones by reading on."""

# Containers only: no playlist or script format (hls, dash, concat, ...) can ever be opened, whatever the
# file is called, since those make FFmpeg open other files.
_OPEN_OPTIONS = {"format_whitelist": DEMUXERS, "protocol_whitelist": "file"}
# A seek there only guesses, and the timestamps after it are wrong.
_UNSEEKABLE = {"mp3", "aac", "ac3", "eac3", "amr"}
_PLAYLIST_MARKS = (
    b"#extm3u", b"ffconcat", b"<mpd", b"<smil", b"[playlist]", b"<asx", b"[reference]", b"<compositionplaylist",
)  # fmt: skip

_START_SLACK_SECONDS = 0.01  # containers misstate the start of a track by up to a codec's delay
_DRIFT_SECONDS = 0.04  # smaller steps between audio timestamps are rounding, larger ones real gaps
_PREROLL_SECONDS = 0.25  # audio codecs need some packets before the first sample that is right (Opus: 80 ms)
_MISMATCH_SECONDS = 0.5  # how far a frame may lie from its due time at the ends of the picture
_BACK_SECONDS = (0.3, 5.0, math.inf)  # how far before a window to seek: once more, farther, when it misses


def truncation_tolerance(stated_seconds: float) -> float:
    """By so many seconds a stream may end before its stated end; one that ends earlier is truncated."""
    return max(0.3, 0.02 * stated_seconds)


Backend = Literal["auto", "pyav", "torchcodec"]


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


def decode(
    path: str | os.PathLike[str],
    windows: Sequence[Window],
    *,
    short_side_px: int | None,
    sample_rate_hz: int,
    backend: Backend = "pyav",
    max_frame_pixels: int = MAX_FRAME_PIXELS,
    max_output_bytes: int = MAX_OUTPUT_BYTES,
) -> list[Decoded]:
    """Decode windows of one file with one open and one forward pass over both streams.

    Frame i of a window is the source frame whose presentation time is nearest to `start + i / frame_rate`
    (the earlier of two equally near), whatever the source's rate, constant or not. Frames are turned upright
    (rotations by 90 degrees), made square-pixelled and scaled so that the shorter side has `short_side_px`
    pixels (None: the stored size).

    Sound is the mean of all channels, resampled to `sample_rate_hz`, exactly
    `round(audio_seconds * sample_rate_hz)` samples beginning at the window's own start.

    A window that reaches past the end of a stream is moved back so that it fits, and one that begins before
    the sound does is moved forward to its start; both streams move together and stay in step. Nothing is
    invented: sound that is shorter than its window by up to `PAD_SECONDS` is padded with zeros, and
    more than that raises.

    Returns one `Decoded` for each window, in the order given.

    Raises `MediaError` with reason missing, permission, unreadable, empty, not_media, unsafe, no_video,
    no_audio, too_short, audio_too_short, too_large, truncated or decode_error.
    """
    name = os.fspath(path)
    if backend not in ("auto", "pyav", "torchcodec"):
        raise UsageError(f"unknown decoding back end {backend!r}", "use auto, pyav or torchcodec")
    picture_backend = _torchcodec_frames if _use_torchcodec(backend) else None
    if not windows:
        return []
    with open_media(name) as container:
        streams = Streams.of(container, name)
        want_video = any(window.frame_count for window in windows)
        want_audio = any(window.audio_seconds for window in windows)
        if want_video and streams.video is None:
            raise MediaError(name, "no_video", "the file has no picture that can be decoded")
        if want_audio and streams.audio is None:
            raise MediaError(name, "no_audio", "the file has no sound that can be decoded")
        _check_size(name, streams, windows, short_side_px, sample_rate_hz, max_frame_pixels, max_output_bytes)
        job = _Job(name, container, streams, short_side_px, sample_rate_hz, max_frame_pixels)
        return job.decode(list(windows), picture_backend)


# ---------------------------------------------------------------- opening


@contextmanager
def open_media(path: str | os.PathLike[str]) -> Iterator[InputContainer]:
    """Open a file for reading, safely, and turn every failure inside the block into a `MediaError`.

    Only container formats and only this very file can be opened; playlists are refused (reason unsafe).
    """
    name = os.fspath(path)
    _check_file(name)
    try:
        # An absolute path cannot be taken for a protocol ("concat:a|b").
        container = av.open(os.path.abspath(name), container_options=dict(_OPEN_OPTIONS), metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError, MemoryError) as error:
        raise _open_error(name, error) from error
    try:
        with container:
            yield container
    except MediaError:
        raise
    except MemoryError as error:
        raise MediaError(name, "too_large", "decoding needs more memory than a worker may take") from error
    except av.FFmpegError as error:
        raise MediaError(name, "decode_error", _words(error)) from error


def _check_file(name: str) -> None:
    try:
        status = os.stat(name)
        if not stat.S_ISREG(status.st_mode):
            raise MediaError(name, "not_media", "not a regular file")
        if status.st_size == 0:
            raise MediaError(name, "empty", "the file has no bytes")
        with open(name, "rb"):
            pass
    except FileNotFoundError as error:
        raise MediaError(name, "missing", "no such file") from error
    except PermissionError as error:
        raise MediaError(name, "permission", "the file may not be read by this user") from error
    except (OSError, ValueError) as error:
        raise MediaError(name, "unreadable", str(error)) from error


def _open_error(name: str, error: BaseException) -> MediaError:
    with open(name, "rb") as file:
        head = file.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if any(mark in head[:512] for mark in _PLAYLIST_MARKS):
        return MediaError(name, "unsafe", "a playlist, which would open other files", "give the media itself")
    if isinstance(error, MemoryError):
        return MediaError(name, "too_large", "opening needs more memory than a worker may take")
    if b"ftyp" in head[:16] and b"moov" not in head:
        # The index of a recording stands at its end and was never written, or was cut off.
        return MediaError(name, "truncated", "the file ends before its index (moov)", "copy it again")
    if isinstance(error, OSError) and not isinstance(error, av.FFmpegError):
        return MediaError(name, "unreadable", str(error))
    return MediaError(name, "not_media", f"no video or audio container was recognised ({_words(error)})")


def _words(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


@dataclass
class Streams:
    """The picture and the sound of a file, and where time zero lies."""

    video: av.VideoStream | None
    audio: av.AudioStream | None
    zero: float  # seconds on the container's timeline

    @classmethod
    def of(cls, container: InputContainer, name: str) -> Streams:
        """The first picture that is not cover art and the first sound, set to one thread each."""
        video: av.VideoStream | None = None
        audio: av.AudioStream | None = None
        for stream in container.streams.video:
            if video is None and not stream.disposition & Disposition.attached_pic:
                video = stream
        if container.streams.audio:
            audio = container.streams.audio[0]
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


def start_of(stream: av.VideoStream | av.AudioStream) -> float:
    """Start of a stream in seconds on the container's timeline (0 where it is not stated)."""
    if stream.start_time is None or stream.time_base is None:
        return 0.0
    return float(stream.start_time * stream.time_base)


def scaled_size(width: int, height: int, pixel_aspect: Fraction | None, short_side_px: int | None) -> tuple[int, int]:
    """(width, height) with the shorter side `short_side_px` and square pixels; the stored size for None."""
    if short_side_px is None:
        return width, height
    shape = float(pixel_aspect) if pixel_aspect else 1.0
    if not 0.25 <= shape <= 4:  # nonsense in the header
        shape = 1.0
    shown = width * shape
    if shown <= height:
        return short_side_px, max(1, round(short_side_px * height / shown))
    return max(1, round(short_side_px * shown / height)), short_side_px


def _check_size(
    name: str,
    streams: Streams,
    windows: Sequence[Window],
    short_side_px: int | None,
    sample_rate_hz: int,
    max_frame_pixels: int,
    max_output_bytes: int,
) -> None:
    total = sum(4 * round(window.audio_seconds * sample_rate_hz) for window in windows)
    frames = sum(window.frame_count for window in windows)
    if frames and streams.video is not None:
        width, height = streams.video.width, streams.video.height
        if width <= 0 or height <= 0:
            raise MediaError(name, "decode_error", "the picture's size is not stated, or absurd")
        if width * height > max_frame_pixels:
            raise MediaError(name, "too_large", f"frames of {width}x{height} pixels")
        wide, high = scaled_size(width, height, streams.video.sample_aspect_ratio, short_side_px)
        total += frames * wide * high * 3
        # The header may lie about the size: the decoder enforces the limit once more.
        streams.video.codec_context.options = {"max_pixels": str(max_frame_pixels)}
    if total > max_output_bytes:
        raise MediaError(name, "too_large", f"the windows need {total / 2**20:.0f} MiB")


# ---------------------------------------------------------------- where windows lie


@dataclass
class _Span:
    """Extent of a stream in seconds after time zero; `end` is None until it is known."""

    start: float
    end: float | None
    stated_end: float | None

    @classmethod
    def of(cls, stream: av.VideoStream | av.AudioStream | None, zero: float) -> _Span | None:
        if stream is None:
            return None
        start = start_of(stream) - zero
        end = None
        if stream.duration is not None and stream.duration > 0 and stream.time_base is not None:
            end = start + float(stream.duration * stream.time_base)
        return cls(start, end, end)

    def falls_short(self, end: float) -> bool:
        """Whether an actual end lies so far before the stated one that the file must be truncated."""
        stated = self.stated_end
        return stated is not None and stated - end > truncation_tolerance(stated - self.start)


def _place(name: str, window: Window, video: _Span | None, audio: _Span | None) -> float:
    """Start of a window after it is moved to where both streams have something to show."""
    start = window.start_seconds
    if window.frame_count and video is not None:
        if video.end is not None:
            start = min(start, video.end - window.last_frame_seconds)
        start = max(start, video.start if start < video.start - _START_SLACK_SECONDS else start)
    if window.audio_seconds and audio is not None:
        if audio.end is not None:
            length = audio.end - audio.start
            if length < window.audio_seconds - PAD_SECONDS:
                raise MediaError(
                    name,
                    "audio_too_short",
                    f"{window.audio_seconds:g} s of sound are wanted, the track has {max(length, 0):.3f} s",
                )
            start = min(start, audio.end - window.audio_seconds)
        if start < audio.start - _START_SLACK_SECONDS:
            start = audio.start
    if window.frame_count and video is not None:
        early = video.start - start
        late = -math.inf if video.end is None else start + window.last_frame_seconds - video.end
        if max(early, late) > _MISMATCH_SECONDS:
            raise MediaError(
                name,
                "too_short",
                f"{window.frame_count} frames at {window.frame_rate_hz:g} per second do not fit: the picture "
                f"runs from {video.start:.3f} s to " + ("its end" if video.end is None else f"{video.end:.3f} s"),
            )
    return start


class _Missed(Exception):
    """A seek or a skip landed after what was wanted."""


@dataclass
class _Slot:
    """One window on its way: where it lies and what has been found."""

    window: Window
    start: float
    frames: np.ndarray | None = None
    pts: np.ndarray | None = None
    waveform: np.ndarray | None = None
    audio_start: float | None = None

    @property
    def end(self) -> float:
        return self.start + max(self.window.last_frame_seconds, self.window.audio_seconds)


class _Job:
    """One call of `decode` on an open container."""

    def __init__(
        self,
        name: str,
        container: InputContainer,
        streams: Streams,
        short_side_px: int | None,
        sample_rate_hz: int,
        max_frame_pixels: int,
    ) -> None:
        self.name, self.container, self.streams = name, container, streams
        self.short_side_px, self.rate, self.max_frame_pixels = short_side_px, sample_rate_hz, max_frame_pixels
        self.spans = (_Span.of(streams.video, streams.zero), _Span.of(streams.audio, streams.zero))
        self.seekable = container.format.name not in _UNSEEKABLE
        self.fresh = True  # nothing read yet: the container stands at its beginning

    def decode(self, windows: list[Window], picture_backend: Callable[..., None] | None) -> list[Decoded]:
        slots = [_Slot(window, _place(self.name, window, *self.spans)) for window in windows]
        self._read(slots, picture_backend)
        # The ends of the streams may have become known only now; only windows they move are read again.
        moved = []
        for index, slot in enumerate(slots):
            start = _place(self.name, slot.window, *self.spans)
            if abs(start - slot.start) > 1e-6 and not self._complete(slot):
                slots[index] = _Slot(slot.window, start)
                moved.append(slots[index])
        if moved:
            self._read(moved, picture_backend)
        for slot in slots:
            self._check(slot)
        return [
            Decoded(slot.frames, slot.pts, slot.waveform, self.rate, slot.audio_start, slot.start) for slot in slots
        ]

    def _complete(self, slot: _Slot) -> bool:
        """Whether all that was asked for lies inside the streams as they now are known to be."""
        video, _ = self.spans
        if slot.window.frame_count:
            if slot.frames is None or slot.pts is None:
                return False
            if video and video.end is not None and slot.start + slot.window.last_frame_seconds > video.end:
                return False
        return not slot.window.audio_seconds or slot.waveform is not None

    def _check(self, slot: _Slot) -> None:
        if slot.window.frame_count and slot.frames is None:
            raise MediaError(self.name, "decode_error", f"no frame could be decoded near {slot.start:.3f} s")
        if slot.window.audio_seconds and slot.waveform is None:
            raise MediaError(
                self.name,
                "audio_too_short",
                f"the sound from {slot.start:.3f} s is shorter than {slot.window.audio_seconds:g} s",
            )

    def _read(self, slots: list[_Slot], picture_backend: Callable[..., None] | None) -> None:
        with_frames = [slot for slot in slots if slot.window.frame_count]
        if picture_backend is not None and with_frames:
            picture_backend(self.name, self.streams, with_frames, self.short_side_px)
        ordered = sorted(slots, key=lambda slot: slot.start)
        group: list[_Slot] = []
        end = -math.inf
        for slot in ordered:
            if group and slot.start - end > SEEK_GAP_SECONDS and self._key_frame_between(end, slot.start):
                self._read_group(group, picture_backend is None)
                group, end = [], -math.inf
            group.append(slot)
            end = max(end, slot.end)
        self._read_group(group, picture_backend is None)

    def _key_frame_between(self, low: float, high: float) -> bool:
        """Whether a seek to `high` would land after `low`, as far as the container's index says."""
        video = self.streams.video
        if video is None or video.time_base is None or not len(video.index_entries):
            return True
        stamp = math.floor((high + self.streams.zero) / video.time_base)
        found = video.index_entries.search_timestamp(stamp, backward=True)
        if found < 0:
            return False
        return float(video.index_entries[found].timestamp * video.time_base) - self.streams.zero > low

    def _read_group(self, group: list[_Slot], frames: bool) -> None:
        """Read windows that lie near each other; farther back when a seek missed."""
        first = min(slot.start for slot in group)
        for back in _BACK_SECONDS:
            at = first - back
            from_start = at <= 0 or not self.seekable or (self.fresh and first <= SEEK_GAP_SECONDS)
            try:
                self._seek(None if from_start else at)
            except av.FFmpegError:
                if from_start and not self.fresh:
                    raise
                self.seekable = False  # the next turn begins at the beginning
                continue
            reader = _Pass(self, group, frames, from_start, careful=back == math.inf)
            try:
                reader.run()
                return
            except _Missed:
                continue
        raise MediaError(self.name, "decode_error", f"nothing could be decoded near {first:.3f} s")

    def _seek(self, seconds: float | None) -> None:
        if seconds is None and self.fresh:
            return
        self.fresh = False
        stream = self.streams.video or self.streams.audio
        assert stream is not None
        assert stream.time_base is not None
        base = stream.time_base
        if seconds is None:  # before the first timestamp of any stream
            low = min(0.0, self.streams.zero) - 10
            self.container.seek(math.floor(low / base), stream=stream)
        else:
            self.container.seek(math.floor((seconds + self.streams.zero) / base), stream=stream)


# ---------------------------------------------------------------- one forward pass


class _Pass:
    """Reads packets forward from where the container stands until all windows of a group have all."""

    def __init__(self, job: _Job, group: list[_Slot], frames: bool, from_start: bool, careful: bool) -> None:
        self.job = job
        self.name = job.name
        streams = job.streams
        picture = [slot for slot in group if frames and slot.window.frame_count]
        sound = [slot for slot in group if slot.window.audio_seconds]
        self.video = _FramePicker(job, picture, from_start, careful) if picture else None
        self.audio = _SoundPicker(job, sound, from_start, careful) if sound else None
        self.wanted = [
            stream
            for stream, picker in ((streams.video, self.video), (streams.audio, self.audio))
            if stream is not None and picker is not None
        ]

    def run(self) -> None:
        job = self.job
        for stream in job.container.streams:
            stream.discard = Discard.default if stream in self.wanted else Discard.all
        job.fresh = False
        for packet in self._packets():
            picker = self.video if packet.stream.type == "video" else self.audio
            if picker is not None and not picker.done:
                picker.feed(packet)
            if (self.video is None or self.video.done) and (self.audio is None or self.audio.done):
                return
        for picker in (self.video, self.audio):
            if picker is not None and not picker.done:
                picker.finish()

    def _packets(self) -> Iterator[av.Packet]:
        if not self.wanted:
            return
        try:
            yield from self.job.container.demux(*self.wanted)
        except (av.error.InvalidDataError, av.error.EOFError):
            # Damaged from here on: what was decoded so far counts, and the ends tell the rest.
            for picker in (self.video, self.audio):
                if picker is not None and not picker.done:
                    picker.flush()


class _FramePicker:
    """Picks, from frames in presentation order, the one nearest to each due time."""

    def __init__(self, job: _Job, slots: list[_Slot], from_start: bool, careful: bool) -> None:
        assert job.streams.video is not None
        self.job, self.stream = job, job.streams.video
        self.from_start, self.careful = from_start, careful
        self.due = sorted(
            (slot.start + i / slot.window.frame_rate_hz, i, index)
            for index, slot in enumerate(slots)
            for i in range(slot.window.frame_count)
        )
        self.slots = slots
        self.next = 0
        self.previous: av.VideoFrame | None = None
        self.previous_pts = -math.inf
        self.picture: np.ndarray | None = None  # the previous frame, converted once for all who want it
        self.held: list[av.Packet] = []
        self.end = -math.inf
        self.reformatter = VideoReformatter()
        self.size: tuple[int, int] | None = None
        self.failed = ""

    @property
    def done(self) -> bool:
        return self.next >= len(self.due)

    def feed(self, packet: av.Packet) -> None:
        """Take one packet. Packets are held back as long as a later key frame may make them needless."""
        if packet.size == 0 and packet.pts is None:
            self.flush()
            return
        target = self.due[self.next][0]
        shown = self._seconds(packet.pts)
        if packet.is_keyframe and self.held and not self.careful and shown is not None and shown <= target:
            self.held.clear()
            self.stream.codec_context.flush_buffers()
            self.previous, self.previous_pts, self.from_start = None, -math.inf, False
        self.held.append(packet)
        decoded = self._seconds(packet.dts)
        now = decoded if decoded is not None else shown
        if now is None or now >= target or self.careful:
            self._decode_held()

    def flush(self) -> None:
        """Decode all that is left: no packet follows."""
        self._decode_held()
        if not self.done:
            self._decode(None)

    def finish(self) -> None:
        """The stream has ended: the last frame is the nearest to all that is still due."""
        span = self.job.spans[0]
        assert span is not None
        if self.previous is None:
            if not self.careful:
                raise _Missed
            raise MediaError(self.job.name, "decode_error", self.failed or "no frame of the picture could be decoded")
        if span.falls_short(self.end):
            raise MediaError(
                self.job.name,
                "truncated",
                f"the picture should last {span.stated_end:.2f} s and ends at {self.end:.2f} s",
            )
        span.end = self.end
        self._give(math.inf)

    def _seconds(self, stamp: int | None) -> float | None:
        if stamp is None or self.stream.time_base is None:
            return None
        return float(stamp * self.stream.time_base) - self.job.streams.zero

    def _decode_held(self) -> None:
        held, self.held = self.held, []
        for packet in held:
            self._decode(packet)
            if self.done:
                return

    def _decode(self, packet: av.Packet | None) -> None:
        try:
            frames = self.stream.decode(packet)
        except av.error.EOFError:
            return
        except av.FFmpegError as error:
            self._bad(packet, error)
            return
        for frame in frames:
            self._take(frame)
            if self.done:
                return

    def _bad(self, packet: av.Packet | None, error: av.FFmpegError) -> None:
        # A bad packet matters only where it is wanted. Before the first frame after a seek it is normal:
        # the decoder has not met a key frame yet.
        self.failed = _words(error)
        at = None if packet is None else self._seconds(packet.pts)
        if self.previous is not None and (at is None or at >= self.due[self.next][0] - 0.1):
            raise MediaError(self.job.name, "decode_error", f"picture near {at or 0:.3f} s: {self.failed}")

    def _take(self, frame: av.VideoFrame) -> None:
        stamp = frame.pts if frame.pts is not None else frame.dts
        pts = self._seconds(stamp)
        if pts is None:
            pts = 0.0 if self.previous is None else self.previous_pts + 1 / float(self.stream.guessed_rate or 25)
        if pts <= self.previous_pts:
            return  # never shown
        if self.previous is None:
            at_start = self.from_start or self.careful
            if not at_start and pts > self.due[self.next][0] + 1e-6:
                raise _Missed
        else:
            self._give((self.previous_pts + pts) / 2 + 1e-6)  # rounding must not decide a tie
        self.previous, self.previous_pts, self.picture = frame, pts, None
        self.end = max(self.end, pts + float(frame.duration * (self.stream.time_base or 0)))

    def _give(self, until: float) -> None:
        """The previous frame is the nearest for all that is due up to `until`."""
        while not self.done and self.due[self.next][0] <= until:
            _, i, index = self.due[self.next]
            slot = self.slots[index]
            if self.picture is None:
                self.picture = self._convert()
            if slot.frames is None or slot.pts is None:
                slot.frames = np.empty((slot.window.frame_count, *self.picture.shape), np.uint8)
                slot.pts = np.empty(slot.window.frame_count, np.float64)
            slot.frames[i], slot.pts[i] = self.picture, self.previous_pts
            self.next += 1

    def _convert(self) -> np.ndarray:
        frame = self.previous
        assert frame is not None
        if frame.width * frame.height > self.job.max_frame_pixels:
            raise MediaError(self.job.name, "too_large", f"frames of {frame.width}x{frame.height} pixels")
        if self.size is None:  # the first frame's size is the size of all, should it change on the way
            self.size = scaled_size(frame.width, frame.height, self.stream.sample_aspect_ratio, self.job.short_side_px)
        return to_rgb(frame, self.size, self.reformatter)


def to_rgb(frame: av.VideoFrame, size: tuple[int, int], reformatter: VideoReformatter) -> np.ndarray:
    """A frame scaled to (width, height), then turned upright, as (H, W, 3) uint8."""
    smaller = size[0] * size[1] < frame.width * frame.height
    rgb = reformatter.reformat(
        frame,
        width=size[0],
        height=size[1],
        format="rgb24",
        interpolation=Interpolation.AREA if smaller else Interpolation.BICUBIC,
        threads=1,
    ).to_ndarray()
    turns = round(frame.rotation / 90) % 4
    return np.rot90(rgb, turns) if turns else rgb


class _SoundPicker:
    """Collects decoded sound by its timestamps and cuts the windows out of it."""

    def __init__(self, job: _Job, slots: list[_Slot], from_start: bool, careful: bool) -> None:
        assert job.streams.audio is not None
        self.job, self.stream = job, job.streams.audio
        self.from_start, self.careful = from_start, careful
        self.open = sorted(slots, key=lambda slot: slot.start)
        self.rate = 0  # of the source, known from its first frame
        self.chunks: list[tuple[int, np.ndarray]] = []  # (number of its first sample after time zero, samples)
        self.next_sample: int | None = None
        self.first_sample: int | None = None
        self.skipped = False
        self.skipped_end = -math.inf  # seconds
        self.failed = ""

    @property
    def done(self) -> bool:
        return not self.open

    def feed(self, packet: av.Packet) -> None:
        if packet.size == 0 and packet.pts is None:
            self.flush()
            return
        base = self.stream.time_base
        if packet.pts is not None and base is not None and not self.careful:
            end = float((packet.pts + (packet.duration or 0)) * base) - self.job.streams.zero
            if end < self.open[0].start - _PREROLL_SECONDS:
                self.skipped, self.skipped_end = True, max(self.skipped_end, end)
                return
        if self.skipped:
            self.skipped, self.next_sample, self.from_start = False, None, False
            self.first_sample = None
            self.stream.codec_context.flush_buffers()
        self._decode(packet)

    def flush(self) -> None:
        """Decode all that is left: no packet follows."""
        if not self.done:
            self._decode(None)

    def finish(self) -> None:
        """The track has ended: what is still open gets what there is, if that is enough."""
        span = self.job.spans[1]
        assert span is not None
        end = self.skipped_end
        if self.rate and self.next_sample is not None:
            end = max(end, self.next_sample / self.rate)
        if end == -math.inf:
            if not self.careful:
                raise _Missed
            raise MediaError(self.job.name, "decode_error", self.failed or "no sound of the track could be decoded")
        if span.falls_short(end):
            raise MediaError(
                self.job.name,
                "truncated",
                f"the sound should last {span.stated_end:.2f} s and ends at {end:.2f} s",
            )
        span.end = end
        for slot in self.open:
            shift = slot.start - _place(self.job.name, slot.window, *self.job.spans)
            if self.rate and abs(shift) < 1e-6:
                self._cut(slot)  # the others are read again where they fit
        self.open = []

    def _decode(self, packet: av.Packet | None) -> None:
        try:
            frames = self.stream.decode(packet)
        except av.error.EOFError:
            return
        except av.FFmpegError as error:
            self.failed = _words(error)
            return  # the hole it leaves is found when a window over it is cut
        for frame in frames:
            self._take(frame)

    def _take(self, frame: av.AudioFrame) -> None:
        if not self.rate:
            self.rate = frame.sample_rate
        elif frame.sample_rate != self.rate:
            raise MediaError(self.job.name, "decode_error", "the sample rate changes within the track")
        samples = mono(frame)
        first = self.next_sample
        if frame.pts is not None and frame.time_base is not None:
            stamp = round((float(frame.pts * frame.time_base) - self.job.streams.zero) * self.rate)
            # Coarse time bases round every timestamp: run on over small steps, follow large ones.
            if first is None or abs(stamp - first) > _DRIFT_SECONDS * self.rate:
                first = stamp
        if first is None:
            first = 0
        if self.first_sample is None:
            self.first_sample = first
            if not self.from_start and not self.careful and first / self.rate > self.open[0].start + 1e-3:
                raise _Missed
        self.chunks.append((first, samples))
        self.next_sample = first + len(samples)
        margin = self._margin()
        while self.open:
            slot = self.open[0]
            if self.next_sample < round((slot.start + slot.window.audio_seconds) * self.rate) + margin:
                # Windows are sorted by their start, not by their end: a later one may be complete already.
                break
            self._cut(slot)
            self.open.pop(0)
        keep = round(self.open[0].start * self.rate) - margin if self.open else math.inf
        while self.chunks and self.chunks[0][0] + len(self.chunks[0][1]) < keep:
            self.chunks.pop(0)

    def _margin(self) -> int:
        """Source samples on either side that the resampling filter sees, a whole number of output samples."""
        if self.rate == self.job.rate:
            return 0
        step = self.rate // math.gcd(self.rate, self.job.rate)
        reach = 64 * max(1.0, self.rate / self.job.rate)
        return step * math.ceil(reach / step)

    def _cut(self, slot: _Slot) -> None:
        rate, out_rate = self.rate, self.job.rate
        wanted = round(slot.window.audio_seconds * out_rate)
        margin = self._margin()
        first = round(slot.start * rate)
        inner = math.ceil(wanted * rate / out_rate)
        wave = np.zeros(inner + 2 * margin, np.float32)
        heard = np.zeros(inner, bool)
        for start, samples in self.chunks:
            low = max(start, first - margin)
            high = min(start + len(samples), first + inner + margin)
            if low >= high:
                continue
            at = low - first + margin
            wave[at : at + high - low] = samples[low - start : high - start]
            heard[max(0, low - first) : max(0, high - first)] = True
        hole = (inner - int(heard.sum())) / rate
        if hole > PAD_SECONDS:
            why = f" ({self.failed})" if self.failed else ""
            raise MediaError(
                self.job.name,
                "audio_too_short" if not self.failed else "decode_error",
                f"{hole:.3f} s of the sound from {slot.start:.3f} s are missing{why}",
            )
        resampled = resample(wave, rate, out_rate)[margin * out_rate // rate :][:wanted]
        if len(resampled) < wanted:
            resampled = np.pad(resampled, (0, wanted - len(resampled)))
        slot.waveform = np.clip(resampled, -1, 1, out=np.ascontiguousarray(resampled))
        slot.audio_start = first / rate


def mono(frame: av.AudioFrame) -> np.ndarray:
    """Mean of a frame's channels, of shape (samples,), float32 in [-1, 1] for any sample format."""
    data = frame.to_ndarray()
    kind = frame.format.name.removesuffix("p")
    if not frame.format.is_planar:
        data = data.reshape(-1, len(frame.layout.channels)).T
    if kind == "u8":
        data = (data.astype(np.float32) - 128) / 128
    elif kind in ("s16", "s32", "s64"):
        data = (data / float(2 ** (int(kind[1:]) - 1))).astype(np.float32)
    else:
        data = np.nan_to_num(data.astype(np.float32, copy=False))
    return data[0] if len(data) == 1 else data.mean(axis=0, dtype=np.float32)


def resample(wave: np.ndarray, rate_hz: int, new_rate_hz: int) -> np.ndarray:
    """Resample (S,) float32 with libswresample; sample 0 stays at the same moment."""
    if rate_hz == new_rate_hz or not len(wave):
        return wave
    # 64 taps instead of 32: aliases stay below 1e-5 instead of 4e-3, at little cost.
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=new_rate_hz, options={"filter_size": "64"})
    frame = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
    frame.sample_rate, frame.time_base, frame.pts = rate_hz, Fraction(1, rate_hz), 0
    parts = [part.to_ndarray()[0] for part in (*resampler.resample(frame), *resampler.resample(None))]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


# ---------------------------------------------------------------- torchcodec


def _use_torchcodec(backend: str) -> bool:
    if backend == "pyav":
        return False
    try:
        from torchcodec.decoders import VideoDecoder  # noqa: F401
    except (ImportError, RuntimeError, OSError) as error:
        if backend == "auto":
            return False
        raise UsageError(
            f"the torchcodec back end does not load: {str(error).splitlines()[0]}",
            "install torchcodec beside an FFmpeg that it knows, or use the pyav back end",
        ) from error
    return True


def _torchcodec_frames(name: str, streams: Streams, slots: list[_Slot], short_side_px: int | None) -> None:
    """Fill the slots' frames with torchcodec. The file was opened by `open_media` before, so it is safe."""
    from torchcodec.decoders import VideoDecoder

    assert streams.video is not None
    decoder = VideoDecoder(
        os.path.abspath(name), stream_index=streams.video.index, dimension_order="NHWC", num_ffmpeg_threads=1
    )
    reformatter = VideoReformatter()
    first = decoder.metadata.begin_stream_seconds or 0.0
    end = decoder.metadata.end_stream_seconds
    for slot in slots:
        due = [slot.start + streams.zero + i / slot.window.frame_rate_hz for i in range(slot.window.frame_count)]
        inside = [min(max(time, first), end - 1e-6) for time in due]
        shown = decoder.get_frames_played_at(inside)
        starts, lengths = shown.pts_seconds, shown.duration_seconds
        # torchcodec gives the frame on show; the nearest may be the one after it.
        nearest = [
            float(start + 1.5 * length) if time - start > length / 2 and start + length < end - 1e-6 else time
            for time, start, length in zip(inside, starts.tolist(), lengths.tolist(), strict=True)
        ]
        batch = decoder.get_frames_played_at([min(time, end - 1e-6) for time in nearest])
        slot.pts = batch.pts_seconds.numpy().astype(np.float64) - streams.zero
        pictures = []
        for picture in batch.data.numpy():
            high, wide = picture.shape[:2]
            size = scaled_size(wide, high, None, short_side_px)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            pictures.append(to_rgb(frame, size, reformatter))
        slot.frames = np.stack(pictures)
