"""A window that lies inside a file which the scan accepted decodes, wherever it lies, whatever the container.

Frames and sound are drawn apart, as training with `augment.independent_jitter` draws them, at random and at the very
ends, and decoded together in one opening and each by itself. Frames bear their number, so that what a seek finds is
checked as well.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from seehear.data.clips import Video
from seehear.media.decode import Decoded, Window, decode
from seehear.media.probe import ProbeResult, probe
from tests.corpus import FrameMaker, frame_number, make_video, numbered_frames

WMA = {"codec": "wmv2", "audio_codec": "wmav2", "rate": 44100, "audio_options": {"b": "128k"}}
VP8 = {"codec": "libvpx", "video_options": {"deadline": "realtime", "cpu-used": "8"}}
MPEG2 = {"codec": "mpeg2video", "fps": 25}
M2TS = {"options": {"mpegts_m2ts_mode": "1"}}
# A time stamp of a program stream is that of the first picture in its packet of 2 KiB: no tiny pictures here.
PROGRAM = {"size": (352, 240), "video_options": {"qmin": "2", "qmax": "2"}}
DV = {"codec": "dvvideo", "audio_codec": "pcm_s16le", "layout": "stereo", "fps": 25, "size": (720, 576), "seconds": 4}

FILMS: dict[str, dict[str, Any]] = {
    "plain.mp4": {},
    "reordered.mp4": {"bframes": 3, "gop": 40},
    "fragments.mp4": {"options": {"movflags": "frag_keyframe+empty_moov"}},
    "mp3.mp4": {"audio_codec": "mp3", "rate": 44100},
    "mjpeg.mov": {"codec": "mjpeg", "audio_codec": "pcm_s16le"},
    "prores.mov": {"codec": "prores_ks", "pixel_format": "yuv422p10le", "audio_codec": "pcm_s16le"},
    "aac.mkv": {"rate": 44100, "bframes": 2},
    "mp3.mkv": {"audio_codec": "mp3", "rate": 44100},
    "opus.mkv": {"audio_codec": "opus"},
    "flac.mkv": {"audio_codec": "flac", "rate": 44100},
    "vp8.webm": VP8,
    "late.webm": VP8 | {"rate": 24000, "video_offset": 0.007},
    "vp9.webm": {"codec": "vp9"},
    "mpeg4.avi": {"codec": "mpeg4", "rate": 44100, "fps": 25},
    "mjpeg.avi": {"codec": "mjpeg", "audio_codec": "pcm_s16le", "fps": 25},
    "h264.ts": {"bframes": 2},
    "long_gop.ts": {"gop": 500},
    "mpeg2.ts": MPEG2 | {"audio_codec": "mp2"},
    "mpeg4.ts": {"codec": "mpeg4", "fps": 25, "gop": 40},
    "wraps.ts": {"options": {"output_ts_offset": "95440"}},
    "camcorder.mts": M2TS | {"audio_codec": "ac3", "gop": 20},
    "long_gop.mts": M2TS | {"gop": 500},
    "mpeg1.mpg": PROGRAM | {"codec": "mpeg1video", "audio_codec": "mp2", "fps": 25},
    "mpeg2.mpg": PROGRAM | MPEG2 | {"audio_codec": "mp2", "video_options": PROGRAM["video_options"] | {"bf": "2"}},
    "dvd.vob": PROGRAM | MPEG2 | {"audio_codec": "ac3"},
    "h264.flv": {"rate": 44100, "bframes": 2},
    "flv1.flv": {"codec": "flv", "audio_codec": "mp3", "rate": 44100},
    "aac.3gp": {},
    "amr.3gp": {"codec": "h263", "size": (176, 144), "audio_codec": "libopencore_amrnb", "rate": 8000},
    "mp3.asf": {"codec": "mpeg4", "audio_codec": "mp3", "rate": 44100, "fps": 25},
    "wma.wmv": WMA | {"fps": 25},
    "wma.avi": WMA | {"fps": 25, "codec": "msmpeg4"},
    "vp8.ogv": VP8 | {"audio_codec": "opus"},
    "mpeg2.mxf": MPEG2 | {"audio_codec": "pcm_s16le"},
    "h264.nut": {"bframes": 2, "rate": 44100},
    "pal.gxf": MPEG2 | {"audio_codec": "pcm_s16le", "size": (720, 576), "gop": 12, "seconds": 4},
    "pal.dv": DV,
    "recording.wtv": MPEG2 | {"audio_codec": "mp2"},
    "late_sound.mkv": {"audio_offset": 0.7},
    "late_picture.ts": {"video_offset": 0.7},
}


def written(path: Path, made: dict[str, Any]) -> Path:
    """Write a file of the table; skips where this build of PyAV or seehear knows the format not."""
    made = {"seconds": 8, "fps": 20, "size": (96, 64), "rate": 48000, "gop": 25} | made
    made["frames"] = grained(made["size"])
    made.setdefault("wave", noise(made["seconds"], made["rate"], 2 if made.get("layout") == "stereo" else 1))
    try:
        return make_video(path, **made)
    except av.codec.codec.UnknownCodecError as error:
        pytest.skip(f"this build of PyAV has no encoder {error}")


def grained(size: tuple[int, int]) -> FrameMaker:
    """Frames that bear their number, with a grain that no encoder can predict."""
    plain, grain = numbered_frames(size), np.random.default_rng(0).integers(0, 30, (*size[::-1], 1), np.uint8)
    return lambda index, time: plain(index, time) // 2 + 60 + np.roll(grain, (5 * index, 7 * index), (0, 1))


def noise(seconds: float, rate: int, channels: int) -> np.ndarray:
    """Sound without a silent moment, (channels, samples)."""
    wave = np.random.default_rng(0).uniform(-0.3, 0.3, (1, round(seconds * rate))).astype(np.float32)
    return np.repeat(wave, channels, axis=0)


def scanned(path: Path) -> tuple[ProbeResult, Video]:
    row = probe(path)
    if row.reason == "not_media":
        pytest.skip("a container that is not opened")
    assert row.usable, f"{row.reason}: {row.detail}"
    return row, Video.from_row(vars(row) | {"video_id": path.name}, ("video", "audio"))


def drawn(video: Video, count: int, rng: np.random.Generator) -> list[Window]:
    """Windows of frames and of sound, one after the other: `count` pairs at random, and those at the ends."""
    frames, seconds = 5, 1.2
    last = video.end_seconds - np.array([frames / 10, seconds])
    starts = np.vstack([rng.uniform(video.start_seconds, last, (count, 2)), [[video.start_seconds] * 2], [last]])
    pairs = [(Window(a, frames, 10.0), Window(b, 0, 0.0, seconds)) for a, b in starts.tolist()]
    return [window for pair in pairs for window in pair]


def look(path: Path, windows: list[Window], row: ProbeResult) -> list[Decoded]:
    return decode(path, windows, short_side_px=None, sample_rate_hz=16000, clock_jumps=bool(row.clock_jumps))


def whole(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The times of all frames of a file after its time zero, and the numbers that they bear: the oracle."""
    with av.open(str(path)) as container:
        zero = min(float(one.start_time * one.time_base) for one in container.streams if one.start_time is not None)
        found = {
            frame.time - zero: frame_number(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)
        }
    return np.array(list(found)), np.array(list(found.values()))


def check(window: Window, one: Decoded, shown: tuple[np.ndarray, np.ndarray]) -> None:
    assert abs(one.start_seconds - window.start_seconds) < 0.011  # it lies where it was drawn
    if one.frames is not None:
        assert one.frame_pts_seconds is not None
        times, numbers = shown
        due = one.start_seconds + np.arange(window.frame_count) / window.frame_rate_hz
        nearest = np.abs(times[None] - due[:, None]).min(axis=1)
        np.testing.assert_allclose(np.abs(one.frame_pts_seconds - due), nearest, atol=1e-5)
        which = np.abs(times[None] - one.frame_pts_seconds[:, None]).argmin(axis=1)
        assert [frame_number(frame) for frame in one.frames] == numbers[which].tolist()
    else:
        assert one.waveform is not None
        assert len(one.waveform) == round(window.audio_seconds * 16000)
        silent = np.abs(one.waveform.reshape(-1, 160)).max(axis=1) < 1e-3
        assert silent.sum() <= 2  # the noise is never silent: hardly anything stands in for it


@pytest.mark.parametrize("name", FILMS)
def test_any_window_of_an_accepted_file_decodes(name: str, tmp_path: Path) -> None:
    path = written(tmp_path / name, FILMS[name])
    row, video = scanned(path)
    shown = whole(path)
    windows = drawn(video, 8, np.random.default_rng(1))
    for window, one in zip(windows, look(path, windows, row), strict=True):
        check(window, one, shown)
    for window in windows:
        check(window, look(path, [window], row)[0], shown)
    for first in range(0, len(windows), 2):
        for window, one in zip(windows[first:], look(path, windows[first : first + 2], row), strict=False):
            check(window, one, shown)
