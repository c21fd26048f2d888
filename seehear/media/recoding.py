"""A video as a small copy that decodes fast: few pixels, many keyframes, mono sound at the rate that is used.

Times stay what they were: the copy's streams begin and end when those of the original do, counted from the same time
zero, so that a stretch of one is a stretch of the other. Runs in processes of the pool; imports no torch.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

from seehear.errors import DestinationError, MediaError
from seehear.files import sync_folder, temporary_beside, writing
from seehear.media.decode import Window
from seehear.media.encoding import Mp4Writer, Picture, Sound
from seehear.media.identity import Identity, unchanged
from seehear.media.opening import open_media
from seehear.media.probe import ProbeResult, probe
from seehear.media.reading import read_windows
from seehear.media.timeline import PAD_SECONDS, Streams

VERSION = 1
"""Of how copies are made: another one makes all anew."""

AAC_RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
"""What AAC holds and players know."""

_CRF = 22
_BITS_PER_SECOND = 64_000
_PIECE_BYTES = 96 << 20
_MOST_PIECE_SECONDS = 120.0


@dataclass(frozen=True)
class Recoding:
    """What copies are like."""

    short_side_px: int
    """An even number; nothing is made larger than it is."""
    frame_rate_hz: float
    """The most frames a second; a video with a lower constant rate keeps it."""
    keyframe_frames: int
    """A keyframe at least every so many frames."""
    sample_rate_hz: int
    """One of `AAC_RATES_HZ`."""
    streams: tuple[str, ...]
    """What is kept, of "video" and "audio"."""


@dataclass(frozen=True)
class Original:
    """What a scan found of the file to copy; times are seconds after its time zero, None where there is no stream."""

    path: str
    identity: Identity
    video_start_seconds: float | None
    video_seconds: float | None
    frame_rate_hz: float | None
    """None where it varies."""
    audio_start_seconds: float | None
    audio_seconds: float | None
    clock_jumps: bool
    audio_track: int

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Original:
        """Of a row of a manifest."""
        return cls(
            row["path"], Identity(row["fingerprint"], row["size_bytes"], row["modified_ns"]),
            row["video_start_seconds"], row["video_duration_seconds"],
            None if row["variable_frame_rate"] else row["frame_rate_hz"],
            row["audio_start_seconds"], row["audio_duration_seconds"],
            bool(row["clock_jumps"]), row["audio_track"] or 0,
        )  # fmt: skip


@dataclass(frozen=True)
class Copied:
    """A copy as it was found when it was looked at again."""

    probe: ProbeResult
    seconds: float
    """How long it took."""
    cpu_seconds: float


def recode(destination: str, original: Original, wanted: Recoding) -> Copied:
    """Write the copy of a video to `destination`, whole or not at all, and look at it as a scan does.

    Raises `MediaError` if the original does not decode, is another one than was scanned, or if its copy is not what it
    should be; `DestinationError` if the copy cannot be written.
    """
    began, cpu = time.monotonic(), time.process_time()
    target = Path(destination)
    temporary = temporary_beside(target)
    has_video = "video" in wanted.streams and original.video_seconds is not None
    has_audio = "audio" in wanted.streams and original.audio_seconds is not None
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    try:
        _write(temporary, target, original, wanted, has_video, has_audio)
        found = _checked(temporary, original, wanted, has_video, has_audio)
        with writing(target):
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, target)
            sync_folder(target.parent)
    finally:
        temporary.unlink(missing_ok=True)
    return Copied(found, time.monotonic() - began, time.process_time() - cpu)


def _write(
    temporary: Path, target: Path, original: Original, wanted: Recoding, has_video: bool, has_audio: bool
) -> None:
    sound = None
    if has_audio:
        assert original.audio_start_seconds is not None
        sound = Sound(wanted.sample_rate_hz, _BITS_PER_SECOND, original.audio_start_seconds, for_training=True)
    rate = _rate_of(original, wanted)
    side = _side_of(original, wanted) if has_video else 0
    writer: Mp4Writer | None = None
    for frames, wave in _pieces(original, wanted, rate if has_video else 0.0, side, has_audio):
        if frames is not None:
            frames = frames[:, : max(2, frames.shape[1] // 2 * 2), : max(2, frames.shape[2] // 2 * 2)]
        with _encoding(target, writer):
            if writer is None:
                picture = None
                if frames is not None:
                    assert original.video_start_seconds is not None
                    picture = Picture(
                        frames.shape[2], frames.shape[1], rate, _CRF, "veryfast", wanted.keyframe_frames,
                        for_training=True, start_seconds=original.video_start_seconds,
                    )  # fmt: skip
                writer = Mp4Writer(temporary, picture, sound)
                writer.__enter__()
            if frames is not None and len(frames):
                writer.add_frames(frames)
            writer.add_sound(wave)
    assert writer is not None
    with _encoding(target, None):
        writer.__exit__(None, None, None)


@contextlib.contextmanager
def _encoding(target: Path, writer: Mp4Writer | None) -> Iterator[None]:
    """A block that encodes: what the system does not let it write is no fault of the video."""
    try:
        yield
    except (av.FFmpegError, OSError) as error:
        if writer is not None:
            with contextlib.suppress(av.FFmpegError, OSError):
                writer.__exit__(type(error), error, None)
        if isinstance(error, OSError) and error.errno and 0 < error.errno < 256:
            raise DestinationError(str(target), error.errno) from error
        raise MediaError(str(target), "decode_error", f"the copy cannot be encoded: {error}") from error


def _rate_of(original: Original, wanted: Recoding) -> float:
    own = original.frame_rate_hz
    return wanted.frame_rate_hz if not own else min(own, wanted.frame_rate_hz)


def _side_of(original: Original, wanted: Recoding) -> int:
    with unchanged(original.path, original.identity), open_media(original.path) as container:
        video = Streams.of(container, original.path, original.audio_track).video
        assert video is not None
        return min(wanted.short_side_px, video.width, video.height)


def _pieces(
    original: Original, wanted: Recoding, rate: float, side: int, has_audio: bool
) -> Iterator[tuple[np.ndarray | None, np.ndarray]]:
    """Frames (T, H, W, 3) uint8 (None without a picture) and sound (S,), one piece after the other, without gaps."""
    sample_rate = wanted.sample_rate_hz
    frames_left = max(1, round((original.video_seconds or 0.0) * rate)) if rate else 0
    samples_left = round((original.audio_seconds or 0.0) * sample_rate) if has_audio else 0
    # A square piece stands for all shapes: a picture twice as wide needs twice as much.
    seconds = min(_MOST_PIECE_SECONDS, _PIECE_BYTES / (3 * side * side * rate)) if rate else _MOST_PIECE_SECONDS
    shown = heard = 0
    while shown < frames_left or heard < samples_left:
        frames = min(frames_left - shown, max(1, int(seconds * rate))) if rate else 0
        samples = min(samples_left - heard, int(seconds * sample_rate))
        windows = []
        if frames:
            windows.append(Window((original.video_start_seconds or 0.0) + shown / rate, frames, rate))
        if samples:
            at = (original.audio_start_seconds or 0.0) + heard / sample_rate
            windows.append(Window(at, 0, 0.0, samples / sample_rate))
        decoded = read_windows(
            original.path, original.identity, windows, side or None, sample_rate, "pyav", original.clock_jumps,
            original.audio_track,
        )  # fmt: skip
        picture, wave = None, np.zeros(0, np.float32)
        for window, one in zip(windows, decoded, strict=True):
            # A window that would reach past the end is moved back as a whole: what comes before it is cut off again.
            early = max(0.0, window.start_seconds - one.start_seconds)
            if one.frames is not None:
                picture = one.frames[min(frames - 1, round(early * rate)) :]
            if one.waveform is not None:
                wave = one.waveform[round(early * sample_rate) :]
        shown, heard = shown + frames, heard + samples
        yield picture, wave


def _checked(temporary: Path, original: Original, wanted: Recoding, has_video: bool, has_audio: bool) -> ProbeResult:
    """The copy as a scan finds it. Raises `MediaError` if it is not as long as the original."""
    need = [name for name, there in (("video", has_video), ("audio", has_audio)) if there]
    found = probe(temporary, need=need, min_seconds=0.0, silence_dbfs=-math.inf)
    if not found.usable:
        raise MediaError(original.path, "decode_error", f"its copy cannot be used: {found.reason}: {found.detail}")
    rate = _rate_of(original, wanted)
    streams = (
        ("picture", has_video, original.video_start_seconds, original.video_seconds, found.video_start_seconds,
         found.video_duration_seconds, 1.5 / rate + PAD_SECONDS),
        # The coder's first frame of silence may be heard before the sound, and its last one may be filled up.
        ("sound", has_audio, original.audio_start_seconds, original.audio_seconds, found.audio_start_seconds,
         found.audio_duration_seconds, 2 * 1024 / wanted.sample_rate_hz + PAD_SECONDS),
    )  # fmt: skip
    for words, there, start, seconds, new_start, new_seconds, tolerance in streams:
        if not there:
            continue
        assert start is not None
        assert seconds is not None
        assert new_start is not None
        assert new_seconds is not None
        if abs(new_start - start) > tolerance or abs(new_start + new_seconds - start - seconds) > 2 * tolerance:
            raise MediaError(
                original.path, "decode_error",
                f"the {words} runs from {start:.3f} to {start + seconds:.3f} s, that of its copy from {new_start:.3f} "
                f"to {new_start + new_seconds:.3f} s",
            )  # fmt: skip
    return found
