"""Frames and sound of time windows of one video, in one pass, by presentation timestamps.

`opening` opens the file, `timeline` says where its streams and the windows lie, `frames` and `sound` pick what the
windows want from the packets that this module reads. None of them imports torch: decoding runs in worker processes
that should stay small.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Literal

import av
from av.container import InputContainer
from av.stream import Discard

from seehear.errors import MediaError, UsageError
from seehear.media.clock import Clock
from seehear.media.frames import FramePicker, scaled_size
from seehear.media.opening import open_media
from seehear.media.sound import SoundPicker
from seehear.media.timeline import CLOCK_SECONDS, Decoded, Job, Missed, Slot, Span, Streams, Window, place
from seehear.media.torchcodec_frames import torchcodec_frames, use_torchcodec

__all__ = ["Backend", "Decoded", "Window", "decode"]

MAX_FRAME_PIXELS = 8192 * 4608
"""Larger frames are refused before anything is allocated (8K video passes)."""

MAX_OUTPUT_BYTES = 2 << 30
"""The most that one call of `decode` returns."""


SEEK_GAP_SECONDS = 2.0
"""Windows farther apart than this are reached by a seek, nearer ones by reading on."""


_UNSEEKABLE = {"mp3", "aac", "ac3", "eac3", "amr"}  # a seek there only guesses, and the timestamps after it are wrong
_SOUGHT_BY_BIT_RATE = {"wav", "w64", "aiff", "au"}
_BACK_SECONDS = (0.3, 5.0, 30.0, math.inf)  # how far before a window to seek: again, farther, when it misses
_SHIFTS_SECONDS = (1e-6, CLOCK_SECONDS, math.inf)  # by what a window may lie amiss: read once, again, and at last


Backend = Literal["auto", "pyav", "torchcodec"]


def decode(
    path: str | os.PathLike[str],
    windows: Sequence[Window],
    *,
    short_side_px: int | None,
    sample_rate_hz: int,
    backend: Backend = "pyav",
    max_frame_pixels: int = MAX_FRAME_PIXELS,
    max_output_bytes: int = MAX_OUTPUT_BYTES,
    clock_jumps: bool = False,
    audio_track: int = 0,
) -> list[Decoded]:
    """Decode windows of one file with one open and one forward pass over both streams.

    Frame i of a window is the source frame whose presentation time is nearest to `start + i / frame_rate`
    (the earlier of two equally near), whatever the source's rate, constant or not. Frames are turned upright
    (rotations by 90 degrees), made square-pixelled and scaled so that the shorter side has `short_side_px`
    pixels (None: the stored size).

    Sound is the mean of all channels, resampled to `sample_rate_hz`, exactly
    `round(audio_seconds * sample_rate_hz)` samples beginning at the window's own start.

    A window that reaches past the end of a stream is moved back so that it fits, and one that begins before
    a stream does is moved forward to its start; both streams move together and stay in step. Nothing is
    invented: sound that is shorter than its window by up to `PAD_SECONDS` is padded with zeros, and
    more than that raises. A packet that does not decode costs its own frames: where no other frame lies within half
    a second, it raises.

    `clock_jumps` says that the file's clock does, as its scan found: the file is then read from its beginning, and
    each stretch put after the one before it. `audio_track` is the number of the sound track, from 0.

    Returns one `Decoded` for each window, in the order given.

    Raises `MediaError` with reason missing, permission, unreadable, empty, not_media, unsafe, no_video,
    no_audio, too_short, audio_too_short, too_large, truncated or decode_error.
    """
    decoded, _ = decode_and_measure(
        path, windows, short_side_px=short_side_px, sample_rate_hz=sample_rate_hz, backend=backend,
        max_frame_pixels=max_frame_pixels, max_output_bytes=max_output_bytes, clock_jumps=clock_jumps,
        audio_track=audio_track,
    )  # fmt: skip
    return decoded


def decode_and_measure(
    path: str | os.PathLike[str],
    windows: Sequence[Window],
    *,
    short_side_px: int | None,
    sample_rate_hz: int,
    backend: Backend = "pyav",
    max_frame_pixels: int = MAX_FRAME_PIXELS,
    max_output_bytes: int = MAX_OUTPUT_BYTES,
    clock_jumps: bool = False,
    audio_track: int = 0,
) -> tuple[list[Decoded], tuple[Span | None, Span | None]]:
    """`decode`, and the extents of picture and sound as far as they have become known."""
    name = os.fspath(path)
    if backend not in ("auto", "pyav", "torchcodec"):
        raise UsageError(f"unknown decoding back end {backend!r}", "use auto, pyav or torchcodec")
    picture_backend = torchcodec_frames if not clock_jumps and use_torchcodec(backend) else None
    if not windows:
        return [], (None, None)
    with ExitStack() as opened:

        def reopen() -> tuple[InputContainer, Streams]:
            opened.close()
            container = opened.enter_context(open_media(name))
            streams = Streams.of(container, name, audio_track)
            if streams.video is not None:
                # The header may lie about the size: the decoder enforces the limit once more.
                streams.video.codec_context.options = {"max_pixels": str(max_frame_pixels)}
            return container, streams

        container, streams = reopen()
        want_video = any(window.frame_count for window in windows)
        want_audio = any(window.audio_seconds for window in windows)
        if want_video and streams.video is None:
            raise MediaError(name, "no_video", "the file has no picture that can be decoded")
        if want_audio and streams.audio is None:
            raise MediaError(name, "no_audio", "the file has no sound that can be decoded")
        _check_size(name, streams, windows, short_side_px, sample_rate_hz, max_frame_pixels, max_output_bytes)
        job = Job(name, container, streams, short_side_px, sample_rate_hz, max_frame_pixels)
        if clock_jumps:  # what the container states does not count the jumps
            for span in job.spans:
                if span is not None:
                    span.end = span.stated_end = None
        return _Reader(job, reopen, clock_jumps).decode(list(windows), picture_backend), job.spans


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
    if total > max_output_bytes:
        raise MediaError(name, "too_large", f"the windows need {total / 2**20:.0f} MiB")


def _seeks_truly(job: Job) -> bool:
    """Whether the time stamps after a seek can be believed."""
    container, audio = job.container.format.name, job.streams.audio
    codec = "" if audio is None else audio.codec_context.codec.canonical_name
    if container in _SOUGHT_BY_BIT_RATE and codec.startswith(("adpcm", "gsm")):
        return False  # its blocks are no whole number of bytes a second: 3 ms are lost in each
    if container == "ogg" and codec == "flac" and job.streams.video is not None:
        return False  # now and then off by 40 ms
    return container not in _UNSEEKABLE


class _Reader:
    """Goes through an open container until all windows of a job have what they want."""

    def __init__(self, job: Job, reopen: Callable[[], tuple[InputContainer, Streams]], clock_jumps: bool) -> None:
        self.job, self.name, self.reopen, self.clock_jumps = job, job.name, reopen, clock_jumps
        self.seekable = _seeks_truly(job) and not clock_jumps
        self.fresh = True  # nothing read yet: the container stands at its beginning

    def decode(self, windows: list[Window], picture_backend: Callable[..., None] | None) -> list[Decoded]:
        slots = [Slot(window, place(self.name, window, *self.job.spans)) for window in windows]
        self._read(slots, picture_backend)
        # Where the streams begin and end may have become known only now; only windows they move are read again.
        for shift in _SHIFTS_SECONDS[1:]:
            moved = []
            for index, slot in enumerate(slots):
                start = place(self.name, slot.window, *self.job.spans)
                if abs(start - slot.start) > 1e-6 and not self._complete(slot):
                    slots[index] = Slot(slot.window, start, shift)
                    moved.append(slots[index])
            if not moved:
                break
            self._read(moved, picture_backend)
        for slot in slots:
            self._check(slot)
        return [
            Decoded(slot.frames, slot.pts, slot.waveform, self.job.rate, slot.audio_start, slot.start) for slot in slots
        ]

    def _complete(self, slot: Slot) -> bool:
        """Whether all that was asked for lies inside the streams as they now are known to be."""
        video, _ = self.job.spans
        if slot.window.frame_count:
            if slot.frames is None or slot.pts is None:
                return False
            if video and video.end is not None and slot.start + slot.window.last_frame_seconds > video.end:
                return False
            if video and video.is_before(slot.start):
                return False
        return not slot.window.audio_seconds or slot.waveform is not None

    def _check(self, slot: Slot) -> None:
        if slot.window.frame_count and slot.frames is None:
            raise MediaError(self.name, "decode_error", f"no frame could be decoded near {slot.start:.3f} s")
        if slot.window.audio_seconds and slot.waveform is None:
            raise MediaError(
                self.name,
                "audio_too_short",
                f"the sound from {slot.start:.3f} s is shorter than {slot.window.audio_seconds:g} s",
            )

    def _read(self, slots: list[Slot], picture_backend: Callable[..., None] | None) -> None:
        with_frames = [slot for slot in slots if slot.window.frame_count]
        if picture_backend is not None and with_frames:
            picture_backend(self.name, self.job.streams, with_frames, self.job.short_side_px)
        ordered = sorted(slots, key=lambda slot: slot.start)
        group: list[Slot] = []
        end = -math.inf
        for slot in ordered:
            apart = group and slot.start - end > SEEK_GAP_SECONDS
            if apart and self.seekable and self._key_frame_between(end, slot.start):
                self._read_group(group, picture_backend is None)
                group, end = [], -math.inf
            group.append(slot)
            end = max(end, slot.end)
        self._read_group(group, picture_backend is None)

    def _key_frame_between(self, low: float, high: float) -> bool:
        """Whether a seek to `high` would land after `low`, as far as the container's index says."""
        video = self.job.streams.video
        if video is None or video.time_base is None or not len(video.index_entries):
            return True
        stamp = math.floor((high + self.job.streams.zero) / video.time_base)
        found = video.index_entries.search_timestamp(stamp, backward=True)
        if found < 0:
            return False
        return float(video.index_entries[found].timestamp * video.time_base) - self.job.streams.zero > low

    def _read_group(self, group: list[Slot], frames: bool) -> None:
        """Read windows that lie near each other; farther back when a seek missed."""
        first = min(slot.start for slot in group)
        begun = False  # read from the beginning, which can be bettered by care alone
        for back in _BACK_SECONDS:
            at = first - back
            from_start = at <= 0 or not self.seekable or (self.fresh and first <= SEEK_GAP_SECONDS)
            if from_start and begun and back < math.inf:
                continue
            begun |= from_start
            if not from_start:
                try:
                    self._seek(at)
                except av.FFmpegError:
                    continue  # refused; it may be granted farther back, and the beginning needs none
            elif not self.fresh:
                self.job.container, self.job.streams = self.reopen()
            self.fresh = False
            clock = Clock() if self.clock_jumps else None
            try:
                _Pass(self.job, group, frames, from_start, careful=back == math.inf, clock=clock).run()
                return
            except Missed:
                continue
        raise MediaError(self.name, "decode_error", f"nothing could be decoded near {first:.3f} s")

    def _seek(self, seconds: float) -> None:
        streams = self.job.streams
        stream = streams.video or streams.audio
        assert stream is not None
        assert stream.time_base is not None
        for one in self.job.container.streams:
            one.discard = Discard.default  # some demuxers find no place by a stream that they should leave out
        self.job.container.seek(math.floor((seconds + streams.zero) / stream.time_base), stream=stream)


class _Pass:
    """Reads packets forward from where the container stands until all windows of a group have all."""

    def __init__(
        self, job: Job, group: list[Slot], frames: bool, from_start: bool, careful: bool, clock: Clock | None
    ) -> None:
        self.job, self.clock = job, clock
        streams = job.streams
        picture = [slot for slot in group if frames and slot.window.frame_count]
        sound = [slot for slot in group if slot.window.audio_seconds]
        self.video = FramePicker(job, picture, from_start, careful) if picture else None
        self.audio = SoundPicker(job, sound, from_start, careful) if sound else None
        # A clock that jumps is known only by the packets of both streams.
        self.wanted = [
            stream
            for stream, picker in ((streams.video, self.video), (streams.audio, self.audio))
            if stream is not None and (picker is not None or clock is not None)
        ]

    def run(self) -> None:
        for stream in self.job.container.streams:
            stream.discard = Discard.default if stream in self.wanted else Discard.all
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
            packets = self.job.container.demux(*self.wanted)
            yield from packets if self.clock is None else self.clock.straightened(packets)
        except (av.error.InvalidDataError, av.error.EOFError):
            # Damaged from here on: what was decoded so far counts, and the ends tell the rest.
            for picker in (self.video, self.audio):
                if picker is not None and not picker.done:
                    picker.flush()
