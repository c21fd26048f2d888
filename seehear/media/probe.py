"""What is in a media file and whether it can be used: one row of the manifest.

The whole file is demuxed once (without decoding: the ends of both streams, the number of frames, the
constancy of their rate, jumps of the clock), hashed once, and decoded at its beginning and end, which says where the
streams really begin and end; the level of the sound is measured over the whole track up to a minute, else over evenly
spaced windows. Memory is bounded.
"""

from __future__ import annotations

import math
import os
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import av
import numpy as np

from seehear.errors import MediaError
from seehear.media.clock import Clock, may_jump
from seehear.media.decode import Decoded, Window, decode_and_measure
from seehear.media.identity import file_fingerprint, file_state
from seehear.media.opening import open_media
from seehear.media.packed import full_path, open_bytes, status_of
from seehear.media.timeline import (
    CLOCK_SECONDS,
    GUESSED_LENGTHS,
    MISMATCH_SECONDS,
    PAD_SECONDS,
    Span,
    Streams,
    covers,
    sound_tracks,
    start_of,
    stated_seconds,
    truncation_tolerance,
)

PROBE_VERSION = 2
"""Of what a look at a file finds. Rows of a manifest that another version wrote are made anew by the next scan."""

WHOLE_TRACK_SECONDS = 60.0
"""The level of longer tracks is measured over evenly spaced windows of this total length."""

SILENCE_FLOOR_DBFS = -200.0
"""Stands for minus infinity, which digital silence would give."""

_LEVEL_WINDOWS = 12
_TRIES = 64  # packets that a decoder may take before it gives the first frame
_MAX_STAMPS = 4_000_000  # 18 hours at 60 frames per second; beyond it the frame rate is an average
_LEAD_SECONDS = 0.5  # the first frame of sound may stand alone so long before the others
_PADDING_SECONDS = 0.25  # codecs fill up their last packets with no more than this
# Only these say in their header how long they are; others estimate it, which proves nothing.
_STATED = {"mov", "matroska", "avi", "flv", "asf", "wav"}


@dataclass(frozen=True)
class ProbeResult:
    """One row of the manifest. Unknown values are None; times are seconds after the file's time zero.

    Time zero is the earliest start of the two streams as stated (see `seehear.media.timeline`), on a clock whose jumps
    (`clock_jumps` of them) are taken out (`seehear.media.clock`). A stream begins with its first frame or sample that
    decodes and ends with its last; codecs may give the first one later than is stated. `width` and `height` are
    the stored ones, to be turned by `rotation_degrees` counter-clockwise for display. `audio_track` is the number, from
    0, of the sound track that all about the sound is said of.
    """

    path: str
    usable: bool
    reason: str | None = None
    detail: str | None = None
    container: str | None = None
    size_bytes: int | None = None
    modified_ns: int | None = None
    fingerprint: str | None = None
    clock_jumps: int | None = None
    video_start_seconds: float | None = None
    video_duration_seconds: float | None = None
    frame_rate_hz: float | None = None
    variable_frame_rate: bool | None = None
    frame_count: int | None = None
    width: int | None = None
    height: int | None = None
    rotation_degrees: int | None = None
    video_codec: str | None = None
    audio_track: int | None = None
    audio_start_seconds: float | None = None
    audio_duration_seconds: float | None = None
    sample_rate_hz: int | None = None
    channels: int | None = None
    audio_codec: str | None = None
    audio_rms_dbfs: float | None = None
    audio_peak_dbfs: float | None = None


def probe(
    path: str | os.PathLike[str],
    *,
    need: Iterable[str] = ("video", "audio"),
    min_seconds: float = 1.0,
    silence_dbfs: float = -60.0,
    audio_track: int | None = None,
) -> ProbeResult:
    """Look at one file. Never raises for bad media: the result then is not usable and says why.

    need: the streams without which the file is of no use, of "video" and "audio"
    min_seconds: the needed streams must last so long, together
    silence_dbfs: a needed track whose level (RMS, dB below full scale) is lower counts as silent
    audio_track: the number of the sound track, from 0; by default the one that is marked as default, or else the first,
        unless it is silent, empty or too short and another one is not
    """
    name = full_path(path)
    found: dict[str, Any] = {}
    before = file_state(name)
    try:
        _look(name, frozenset(need), min_seconds, silence_dbfs, audio_track, found)
    except MediaError as error:
        return ProbeResult(path=name, usable=False, reason=error.reason, detail=error.detail, **found)
    except MemoryError:
        why = "needs more memory than a worker may take"
        return ProbeResult(path=name, usable=False, reason="too_large", detail=why, **found)
    except Exception as error:  # noqa: BLE001 - whatever a file does to the decoder is a fact about the file
        why = f"{type(error).__name__}: {error}"
        return ProbeResult(path=name, usable=False, reason="decode_error", detail=why, **found)
    if file_state(name) != before:
        # Its fingerprint may be of one content and its times of the other.
        why = "the file was written to or replaced while it was looked at"
        return ProbeResult(path=name, usable=False, reason="changed", detail=why, **found)
    return ProbeResult(path=name, usable=True, **found)


class _SoundFault(MediaError):
    """One sound track is of no use; another one may be."""


def _look(
    name: str,
    need: frozenset[str],
    min_seconds: float,
    silence: float,
    audio_track: int | None,
    found: dict[str, Any],
) -> None:
    """Fill in what is found, of the first sound track that is of use, or else of the first one."""
    try:
        status = status_of(name)
    except (OSError, ValueError):
        pass  # open_media finds the right words
    else:
        found["size_bytes"], found["modified_ns"] = status.size, status.modified_ns
    with open_media(name) as container:
        found["fingerprint"] = file_fingerprint(name)
        found["container"] = _container_name(name, container.format.name)
        if container.format.name.startswith("mov") and _index_is_cut(name):
            raise MediaError(name, "truncated", "the file ends within its index (moov)", "copy it again")
        count = len(container.streams.audio)
        tracks = (sound_tracks(container) or [0]) if audio_track is None else [audio_track]
    if "audio" in need and 0 < count <= tracks[0]:
        raise MediaError(name, "no_audio", f"it has {count} sound tracks, and none of the number {tracks[0]} from 0")
    faults: list[tuple[_SoundFault, dict[str, Any]]] = []
    for track in tracks:
        of_track: dict[str, Any] = {}
        try:
            _look_at_track(name, need, min_seconds, silence, track, of_track)
        except _SoundFault as fault:
            faults.append((fault, of_track))
        except BaseException:
            found |= of_track
            raise
        else:
            found |= of_track
            return
    first, of_first = faults[0]
    found |= of_first
    raise first


def _look_at_track(
    name: str, need: frozenset[str], min_seconds: float, silence: float, track: int, found: dict[str, Any]
) -> None:
    with open_media(name) as container:
        streams = Streams.of(container, name, track)
        if "video" in need and streams.video is None:
            raise MediaError(name, "no_video", "the file has no moving picture")
        if "audio" in need and streams.audio is None:
            raise MediaError(name, "no_audio", "the file has no sound")
        if streams.video is None and streams.audio is None:
            raise MediaError(name, "no_video", "the file has neither a moving picture nor sound")
        if streams.audio is not None:
            found["audio_track"] = track
        _describe(streams, found)
        tallies = _demux(container, streams)
        # Inside the block: a stream of a closed container points to freed memory.
        _measure_time(name, tallies, streams, found)
    _check_length(name, need, min_seconds, found)
    _try_decoding(name, need, silence, found)
    _check_length(name, need, min_seconds, found)  # decoding may have found less than the packets promised


def _container_name(path: str, formats: str) -> str:
    names = formats.split(",")
    suffix = os.path.splitext(path)[1].lstrip(".").lower()
    return suffix if suffix in names else names[0]


def _index_is_cut(name: str) -> bool:
    """Whether the index box of an MP4 reaches past the end of the file, so that it may lack streams."""
    size = status_of(name).size
    at = 0
    with open_bytes(name) as file:
        for _ in range(1000):
            file.seek(at)
            head = file.read(16)
            if len(head) < 8:
                return False
            length = int.from_bytes(head[:4], "big")
            if length == 1:
                length = int.from_bytes(head[8:16], "big")
            if head[4:8] == b"moov":
                return at + length > size
            if length < 8:  # 0: to the end of the file
                return False
            at += length
    return False


def _describe(streams: Streams, found: dict[str, Any]) -> None:
    if streams.video is not None:
        video = streams.video
        found["video_codec"] = video.codec_context.codec.canonical_name
        found["width"], found["height"] = video.width, video.height
    if streams.audio is not None:
        audio = streams.audio
        found["audio_codec"] = audio.codec_context.codec.canonical_name
        found["sample_rate_hz"], found["channels"] = audio.sample_rate, audio.channels


class _Tally:
    """What the packets of one stream say. Times are in ticks of the stream's time base."""

    def __init__(self) -> None:
        self.count = 0
        self.stamps = array("q")
        self.first: int | None = None
        self.end: int | None = None
        self.corrupt = False
        self.tried = 0
        self.shown: av.VideoFrame | av.AudioFrame | None = None
        """The first frame that decodes, of sound the first that is not alone."""
        self.settled = False

    def add(self, packet: av.Packet) -> None:
        stamp = packet.pts if packet.pts is not None else packet.dts
        if packet.is_corrupt:
            self.corrupt = True
        if packet.is_discard:
            return  # an edit list hides it
        self.count += 1
        if stamp is None:
            return
        if len(self.stamps) < _MAX_STAMPS:
            self.stamps.append(stamp)
        duration = packet.duration or 0
        self.first = stamp if self.first is None else min(self.first, stamp)
        self.end = stamp + duration if self.end is None else max(self.end, stamp + duration)

    def show(self, packet: av.Packet) -> None:
        """Decode as many packets as it takes to see where the stream begins."""
        if self.settled or self.tried >= _TRIES:
            return
        self.tried += 1
        try:
            frames: list[Any] = packet.decode()  # the stubs know of pictures alone
        except av.FFmpegError:
            return  # whether the stream decodes is found out later
        for frame in frames:
            if isinstance(frame, av.VideoFrame):
                self.shown, self.settled = frame, True
            elif isinstance(frame, av.AudioFrame):
                first, self.settled = self.shown, self.shown is not None
                if not isinstance(first, av.AudioFrame) or self._stands_alone(first, frame):
                    self.shown = frame
            if self.settled:
                return

    @staticmethod
    def _stands_alone(first: av.AudioFrame, second: av.AudioFrame) -> bool:
        """Whether the sound runs on from its second frame only.

        Writers of fragmented MP4 put off all but the first packet by as long as the picture is delayed.
        """
        if first.pts is None or second.pts is None or second.time_base is None:
            return False
        gap = float((second.pts - first.pts) * second.time_base) - first.samples / first.sample_rate
        return PAD_SECONDS < gap <= _LEAD_SECONDS

    def start_seconds(self, stream: av.VideoStream | av.AudioStream) -> float:
        """Where the stream begins on the container's timeline: as stated, or later if its first frame is."""
        base = float(stream.time_base or 0)
        stated = start_of(stream) if stream.start_time is not None else (self.first or 0) * base
        pts = None if self.shown is None else self.shown.pts
        shown = stated if pts is None else pts * base
        return shown if shown > stated + CLOCK_SECONDS else stated


@dataclass
class _Tallies:
    container: str  # FFmpeg's name
    video: _Tally
    audio: _Tally
    jumps: int
    stated: float | None  # seconds, of the whole container
    trustworthy: bool
    broke: str | None


def _demux(container: Any, streams: Streams) -> _Tallies:
    """Read all packets; decode only as many as it takes to get one frame of each stream."""
    tallies = _Tallies(container.format.name, _Tally(), _Tally(), 0, None, False, None)
    tallies.trustworthy = container.format.name.split(",")[0] in _STATED
    if container.duration:
        tallies.stated = container.duration / av.time_base
    wanted = [stream for stream in (streams.video, streams.audio) if stream is not None]
    clock = Clock() if may_jump(container) else None
    try:
        packets = container.demux(*wanted)
        for packet in packets if clock is None else clock.straightened(packets):
            is_video = packet.stream.type == "video"
            if not packet.size and (not is_video or (packet.pts is None and packet.dts is None)):
                continue  # the end of the stream; an empty packet of a picture shows the frame before it once more
            tally = tallies.video if is_video else tallies.audio
            tally.add(packet)
            if packet.size:
                tally.show(packet)
    except av.FFmpegError as error:
        tallies.broke = str(getattr(error, "strerror", None) or error)
    tallies.jumps = 0 if clock is None else clock.jumps
    return tallies


def _rotation(tally: _Tally) -> int:
    frame = tally.shown
    return round(frame.rotation / 90) * 90 % 360 if isinstance(frame, av.VideoFrame) else 0


def _measure_time(name: str, tallies: _Tallies, streams: Streams, found: dict[str, Any]) -> None:
    ends = []
    container_stated = tallies.stated
    found["clock_jumps"] = tallies.jumps
    for kind, stream, tally in (
        ("video", streams.video, tallies.video),
        ("audio", streams.audio, tallies.audio),
    ):
        if stream is None:
            continue
        words = "picture" if kind == "video" else "sound"
        base = stream.time_base
        if not tally.count or tally.end is None or tally.first is None or base is None:
            cut = tallies.trustworthy and bool(container_stated)
            fault = _SoundFault if kind == "audio" else MediaError
            raise fault(name, "truncated" if cut else "decode_error", f"the {words} stream has no packets")
        start = tally.start_seconds(stream)
        end = float(tally.end * base)
        if kind == "video":
            rate, variable, length = _frame_rate(tally, float(base))
            found["frame_count"] = tally.count
            found["frame_rate_hz"] = rate or _stated_rate(stream)
            found["variable_frame_rate"] = variable
            found["rotation_degrees"] = _rotation(tally)
            if tally.end * base <= max(tally.stamps) * base:  # durations are not stated
                end += length
        stated = None if tallies.jumps else stated_seconds(stream, tallies.container)
        if stated is not None:
            if tallies.trustworthy and start + stated - end > truncation_tolerance(stated):
                raise MediaError(
                    name,
                    "truncated",
                    f"the {words} should last {stated:.2f} s and ends at {end - start:.2f} s",
                )
            guessed = tallies.container in GUESSED_LENGTHS and end - start - stated > _PADDING_SECONDS
            if kind == "audio" and not guessed:
                end = min(end, start + stated)  # beyond it lies the codec's padding
        ends.append(end)
        found[f"{kind}_start_seconds"] = start - streams.zero
        found[f"{kind}_duration_seconds"] = max(0.0, end - start)
    if tallies.trustworthy and container_stated and ends:
        if tallies.container.startswith("matroska") and container_stated > streams.zero:
            container_stated -= streams.zero  # it states the end on its own clock, which may begin at any time
        lasts = max(ends) - streams.zero
        if container_stated - lasts > truncation_tolerance(container_stated):
            raise MediaError(
                name, "truncated", f"the file should last {container_stated:.2f} s and ends at {lasts:.2f} s"
            )
    if tallies.trustworthy and (tallies.video.corrupt or tallies.audio.corrupt):
        raise MediaError(name, "truncated", "the last packet is cut off")
    if tallies.broke:
        raise MediaError(name, "decode_error", f"reading stops at {max(ends):.2f} s: {tallies.broke}")


def _stated_rate(stream: Any) -> float | None:
    return float(stream.guessed_rate) if stream.guessed_rate else None


def _frame_rate(tally: _Tally, base: float) -> tuple[float | None, bool, float]:
    """(mean frames per second, whether it varies, seconds from frame to frame) by the time stamps."""
    stamps = np.unique(np.frombuffer(tally.stamps, np.int64))
    if len(stamps) < 2:
        return None, False, 0.0
    steps = np.diff(stamps)
    middle = float(np.median(steps))
    # Coarse time bases round the stamps by up to a tick each.
    varies = bool(np.any(np.abs(steps - middle) > max(2.0, 0.02 * middle)))
    mean = float(stamps[-1] - stamps[0]) / (len(stamps) - 1) * base
    return 1 / mean, varies, middle * base


def _check_length(name: str, need: frozenset[str], min_seconds: float, found: dict[str, Any]) -> None:
    low, high = 0.0, math.inf
    for kind, reason in (("video", "too_short"), ("audio", "audio_too_short")):
        if kind not in need:
            continue
        start, length = found[f"{kind}_start_seconds"], found[f"{kind}_duration_seconds"]
        if not covers(length, min_seconds):
            words, fault = ("picture", MediaError) if kind == "video" else ("sound", _SoundFault)
            raise fault(name, reason, f"{length:.3f} s of {words}, {min_seconds:g} s are needed")
        low, high = max(low, start), min(high, start + length)
    if not covers(high - low, min_seconds):
        raise MediaError(
            name, "too_short", f"picture and sound overlap for {max(0.0, high - low):.3f} s, "
            f"{min_seconds:g} s are needed"
        )  # fmt: skip


def _try_decoding(name: str, need: frozenset[str], silence: float, found: dict[str, Any]) -> None:
    """Decode frames at both ends and measure the sound; raises what makes the file useless."""
    windows = []
    if "video_start_seconds" in found and "video" in need:
        rate = found["frame_rate_hz"] or 25.0
        first, length = found["video_start_seconds"], found["video_duration_seconds"]
        windows.append(Window(first, min(2, found["frame_count"]), rate))
        windows.append(Window(first + max(0.0, length - 0.5 / rate), 1, rate))
    sound = []
    if "audio_start_seconds" in found:
        first, length = found["audio_start_seconds"], found["audio_duration_seconds"]
        if length <= WHOLE_TRACK_SECONDS:
            sound = [Window(first, 0, 0.0, length)]
        else:
            part = WHOLE_TRACK_SECONDS / _LEVEL_WINDOWS
            step = (length - part) / (_LEVEL_WINDOWS - 1)
            sound = [Window(first + i * step, 0, 0.0, part) for i in range(_LEVEL_WINDOWS)]
    rate_hz = found.get("sample_rate_hz") or 24000
    jumps = bool(found.get("clock_jumps"))

    def look(windows: list[Window]) -> list[Decoded]:
        decoded, spans = decode_and_measure(
            name, windows, short_side_px=32, sample_rate_hz=rate_hz, clock_jumps=jumps,
            audio_track=found.get("audio_track") or 0,
        )  # fmt: skip
        _correct_ends(spans, found)
        return decoded

    if "audio" in need:
        decoded = look(windows + sound)
    else:
        decoded = look(windows)
        try:  # for the record only
            decoded += look(sound)
        except MediaError:
            return
    squares, count, peak = 0.0, 0, 0.0
    for piece in decoded:
        if piece.waveform is not None and len(piece.waveform):
            squares += float(np.square(piece.waveform, dtype=np.float64).sum())
            count += len(piece.waveform)
            peak = max(peak, float(np.abs(piece.waveform).max()))
    if count:
        found["audio_rms_dbfs"] = _decibels(math.sqrt(squares / count))
        found["audio_peak_dbfs"] = _decibels(peak)
        if "audio" in need and found["audio_rms_dbfs"] < silence:
            raise _SoundFault(
                name, "silent", f"the sound's level is {found['audio_rms_dbfs']:.0f} dBFS, below {silence:g}"
            )


def _correct_ends(spans: tuple[Span | None, Span | None], found: dict[str, Any]) -> None:
    """Let a stream end where its last frame or sample was found to end, if that is before its last packet does."""
    # Up to the second tolerance the last frame stands in for the ones after it: decoding moves no window for less.
    for kind, span, tolerance in zip(("video", "audio"), spans, (MISMATCH_SECONDS, CLOCK_SECONDS), strict=True):
        if span is None or span.end is None or f"{kind}_start_seconds" not in found:
            continue
        start, seconds = found[f"{kind}_start_seconds"], found[f"{kind}_duration_seconds"]
        if span.end < start + seconds - tolerance:
            found[f"{kind}_duration_seconds"] = max(0.0, span.end - start)


def _decibels(level: float) -> float:
    return max(SILENCE_FLOOR_DBFS, 20 * math.log10(level)) if level > 0 else SILENCE_FLOOR_DBFS
