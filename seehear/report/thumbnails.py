"""Small moving pictures with sound, encoded in memory: H.264 + AAC in MP4, which every browser plays.

The order in which clips are asked for is the order in which they are dropped from the end when the budget is
used up, so a caller puts the clips that matter most first.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np

from seehear.errors import MediaError, SeehearError
from seehear.media.encoding import Mp4Writer, Picture, Sound
from seehear.media.identity import ANY_CONTENT, Identity, file_state, unchanged

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, how many are done, how many there are)."""


@dataclass(frozen=True)
class Quality:
    """How a thumbnail is encoded."""

    side_px: int
    frame_rate_hz: float
    crf: int
    audio_bits_per_second: int
    sample_rate_hz: int = 24000
    seconds: float = 2.0


QUALITIES = (
    Quality(144, 12.5, 28, 32000),
    Quality(112, 10.0, 29, 24000),
    Quality(96, 8.0, 32, 16000, 16000),
    Quality(80, 6.0, 35, 12000, 16000, 1.6),
)
"""From the best to the smallest. The first is sharp on a dense screen; the second is drawn 1:1."""


@dataclass(frozen=True)
class Source:
    """Which part of which file to show."""

    path: Path
    start_seconds: float
    end_seconds: float
    identity: Identity = ANY_CONTENT
    """What tells whether the file is still the one that was scanned."""
    clock_jumps: bool = False
    audio_track: int = 0


@dataclass(frozen=True)
class Thumbnail:
    """Base64 of an MP4, or the reason why there is none."""

    base64: str = ""
    problem: str = ""
    has_sound: bool = False


@dataclass
class Thumbnails:
    """The thumbnails that fit; `dropped` of those asked for did not."""

    items: dict[int, Thumbnail] = field(default_factory=dict)
    quality: Quality = QUALITIES[0]
    dropped: int = 0

    @property
    def size(self) -> int:
        """Bytes in the page."""
        return sum(len(item.base64) for item in self.items.values())


def make_thumbnails(sources: Sequence[tuple[int, Source]], budget: int, progress: Progress | None = None) -> Thumbnails:
    """Encode (key, source) pairs, most important first, into at most `budget` bytes of base64."""
    if not sources:
        return Thumbnails()
    quality = _choose_quality([source for _, source in sources], budget)
    made = Thumbnails(quality=quality)
    left = budget
    workers = max(1, min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2))
    with ThreadPoolExecutor(workers, thread_name_prefix="thumbnail") as pool:
        # A chunk at a time: once the budget is used up the rest need not be decoded at all.
        chunk = workers * 4
        for first in range(0, len(sources), chunk):
            part = sources[first : first + chunk]
            for key, item in zip(
                [key for key, _ in part], pool.map(lambda s: make_thumbnail(s[1], quality), part), strict=True
            ):
                if len(item.base64) > left:
                    left = 0  # a smaller one later must not take the place of a more important one
                    made.dropped += 1
                    continue
                left -= len(item.base64)
                made.items[key] = item
            done = min(first + chunk, len(sources))
            if progress is not None:
                progress("thumbnails", done, len(sources))
            if left <= 0:
                made.dropped += len(sources) - done
                break
    return made


def make_thumbnail(source: Source, quality: Quality) -> Thumbnail:
    """Encode one thumbnail; a file that cannot be read gives the reason instead."""
    if file_state(str(source.path)) is None:
        return Thumbnail(problem="file is gone")
    try:
        with unchanged(str(source.path), source.identity):
            frames, waveform = _decode(source, quality)
        data, has_sound = encode_mp4(frames, waveform, quality)
    except (SeehearError, av.FFmpegError, OSError, ValueError, IndexError) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        if reason == "changed":
            return Thumbnail(problem="file has changed")
        return Thumbnail(problem=f"cannot be read ({reason})")
    return Thumbnail(base64.b64encode(data).decode("ascii"), has_sound=has_sound)


def encode_mp4(frames: np.ndarray, waveform: np.ndarray, quality: Quality) -> tuple[bytes, bool]:
    """Frames (T, H, W, 3) uint8 and waveform (S,) as one MP4; also whether it has sound."""
    frames = _square(frames, quality.side_px)
    # "medium" takes half as long again for half a decibel.
    picture = Picture(frames.shape[2], frames.shape[1], quality.frame_rate_hz, quality.crf, preset="veryfast")
    sound = Sound(quality.sample_rate_hz, quality.audio_bits_per_second) if waveform.size else None
    buffer = io.BytesIO()
    with Mp4Writer(buffer, picture, sound) as writer:
        writer.add_frames(frames)
        writer.end_frames()
        writer.add_sound(waveform)
    return buffer.getvalue(), sound is not None


def _decode(source: Source, quality: Quality) -> tuple[np.ndarray, np.ndarray]:
    # Imported here: a report without thumbnails needs no decoder.
    from seehear.media.decode import Window, decode

    # Around the middle of the clip, which is also what the encoders saw when its features were extracted.
    middle = (source.start_seconds + source.end_seconds) / 2
    for seconds, sound in ((quality.seconds, True), (quality.seconds, False), (quality.seconds / 4, False)):
        count = max(2, round(seconds * quality.frame_rate_hz))
        start = max(0.0, middle - seconds / 2)
        window = Window(start, count, quality.frame_rate_hz, seconds if sound else 0.0)
        try:
            decoded = decode(
                source.path, [window], short_side_px=quality.side_px, sample_rate_hz=quality.sample_rate_hz,
                clock_jumps=source.clock_jumps, audio_track=source.audio_track,
            )[0]  # fmt: skip
        except MediaError as error:
            # A picture without its sound, or a short one, is better than none.
            if error.reason in ("no_audio", "audio_too_short", "too_short") and (sound or seconds == quality.seconds):
                continue
            raise
        if decoded.frames is None:
            raise ValueError("no frames")
        wave = decoded.waveform if decoded.waveform is not None else np.zeros(0, dtype=np.float32)
        return decoded.frames, wave
    raise ValueError("no frames")


def _square(frames: np.ndarray, side: int) -> np.ndarray:
    if frames.ndim != 4 or not len(frames):
        raise ValueError("no frames")
    height, width = frames.shape[1:3]
    side = min(side, height, width) // 2 * 2
    top, left = (height - side) // 2, (width - side) // 2
    return frames[:, top : top + side, left : left + side]


def _choose_quality(sources: Sequence[Source], budget: int) -> Quality:
    """The best quality at which all are likely to fit, measured on a few; the smallest if none does."""
    picks = sorted({int(i) for i in np.linspace(0, len(sources) - 1, 6)})
    for quality in QUALITIES[:-1]:
        sizes = [len(make_thumbnail(sources[i], quality).base64) for i in picks]
        sizes = [size for size in sizes if size]
        if not sizes or len(sources) * float(np.mean(sizes)) * 1.1 <= budget:
            return quality
    return QUALITIES[-1]
