"""Copies of videos: the same times, sight and sound in sync, quick to decode."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from seehear.errors import DestinationError, MediaError
from seehear.media import recoding
from seehear.media.decode import Window, decode
from seehear.media.probe import probe
from seehear.media.recoding import Original, Recoding, recode
from tests.corpus import clicks, flash_frames, frame_number, make_video, tone

BOTH = Recoding(48, 30.0, 10, 24000, ("video", "audio"))
AT = (1.0, 2.2, 3.4)
"""When the picture flashes and the sound clicks, in seconds after the stream's start."""


def copied(path: Path, wanted: Recoding = BOTH, need: tuple[str, ...] = ("video", "audio")) -> Path:
    """The copy of a video, made beside it."""
    row = asdict(probe(path, need=need, silence_dbfs=-200))
    assert row["usable"], row
    out = path.with_name("copies") / f"{path.stem}.mp4"
    recode(str(out), Original.from_row(row), wanted)
    return out


def flashes_and_clicks(path: Path, fps: float) -> tuple[list[float], list[float]]:
    """When the picture is white and when the sound sets in, in seconds after time zero."""
    found = probe(path, silence_dbfs=-200)
    start, frames = found.video_start_seconds, max(1, round(found.video_duration_seconds * fps))
    picture = Window(start, frames, fps)
    sound = Window(found.audio_start_seconds, 0, 0.0, found.audio_duration_seconds)
    seen, heard = decode(path, [picture, sound], short_side_px=None, sample_rate_hz=24000)
    bright = seen.frames.mean(axis=(1, 2, 3)) > 128
    loud = np.flatnonzero(np.abs(heard.waveform) > 0.2) / 24000 + heard.audio_start_seconds
    starts = [float(t) for t, before in zip(loud, [-1.0, *loud], strict=False) if t - before > 0.3]
    return [float(t) for t in seen.frame_pts_seconds[bright]], starts


FILMS: dict[str, dict[str, Any]] = {
    "25 frames a second": {"fps": 25},
    "more frames than are wanted": {"fps": 60, "bframes": 2},
    "mpeg4 in avi": {"fps": 25, "codec": "mpeg4", "suffix": ".avi"},
    "sound begins later": {"fps": 25, "audio_offset": 0.43},
    "picture begins later": {"fps": 25, "video_offset": 0.31, "suffix": ".mkv"},
    "29.97 and another sampling rate": {"fps": 30000 / 1001, "rate": 44100},
    "vp9 and opus": {"fps": 20, "codec": "vp9", "suffix": ".webm", "rate": 48000},
}


@pytest.mark.parametrize("name", FILMS)
def test_sight_and_sound_stay_where_they_were(tmp_path, name):
    made = dict(FILMS[name])
    suffix, fps, rate = made.pop("suffix", ".mp4"), made.pop("fps"), made.pop("rate", 24000)
    film = make_video(
        tmp_path / f"film{suffix}", seconds=4.5, fps=fps, frames=flash_frames((64, 48), AT, fps),
        wave=clicks(4.5, rate, AT), rate=rate, **made,
    )  # fmt: skip
    original, copy = flashes_and_clicks(film, fps), flashes_and_clicks(copied(film), min(fps, 30.0))
    frame = 1 / min(fps, 30.0)
    for before, after in zip(original, copy, strict=True):
        assert len(before) == 3
        assert len(after) >= 3
        for time in before:
            assert min(abs(time - other) for other in after) <= frame / 2 + 0.005


def test_every_frame_is_the_one_of_its_time(tmp_path):
    film = make_video(tmp_path / "film.mp4", seconds=3, fps=25, size=(96, 64))
    copy = copied(film)
    frames = decode(copy, [Window(0.0, 75, 25)], short_side_px=None, sample_rate_hz=24000)[0].frames
    assert frames.shape == (75, 48, 72, 3)
    assert [frame_number(frame) for frame in frames] == list(range(75))


def test_a_varying_rate_becomes_a_constant_one(tmp_path):
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.uniform(0.02, 0.12, 60))
    times -= times[0]
    film = make_video(tmp_path / "film.mp4", frame_times=list(times), fps=25, wave=tone(times[-1], 24000))
    copy = copied(film, replace(BOTH, frame_rate_hz=20.0))
    assert (probe(copy).frame_rate_hz, probe(copy).variable_frame_rate) == (pytest.approx(20.0), False)
    count = int(times[-1] * 20)
    frames = decode(copy, [Window(0.0, count, 20)], short_side_px=None, sample_rate_hz=24000)[0].frames
    for i, frame in enumerate(frames):
        assert abs(times[frame_number(frame)] - i / 20) <= np.abs(times - i / 20).min() + 1e-3


def test_long_videos_are_copied_piece_by_piece_without_a_seam(tmp_path, monkeypatch):
    wave = tone(5.0, 24000, hz=300.0)
    film = make_video(tmp_path / "film.mp4", seconds=5, fps=20, wave=wave, gop=50)
    whole = copied(film)
    content = decode(whole, [Window(0, 100, 20), Window(0, 0, 0, 5.0)], short_side_px=None, sample_rate_hz=24000)
    whole.unlink()
    monkeypatch.setattr(recoding, "_PIECE_BYTES", 3 * 48 * 48 * 14)  # 0.7 s
    pieces = decode(
        copied(film), [Window(0, 100, 20), Window(0, 0, 0, 5.0)], short_side_px=None, sample_rate_hz=24000
    )  # fmt: skip
    assert [frame_number(frame) for frame in pieces[0].frames] == list(range(100))
    assert np.abs(pieces[1].waveform - content[1].waveform).max() < 0.02


def test_copies_have_keyframes_even_sides_and_no_frame_that_waits_for_a_later_one(tmp_path):
    film = make_video(tmp_path / "film.mp4", seconds=4, fps=25, size=(102, 68), gop=100, bframes=2, rotation=90)
    copy = copied(film)
    found = probe(copy)
    assert (found.width, found.height, found.rotation_degrees) == (48, 72, 0)
    with av.open(str(copy)) as container:
        packets = [p for p in container.demux(container.streams.video[0]) if p.size]
        keys = [i for i, p in enumerate(packets) if p.is_keyframe]
        assert all(p.pts == p.dts for p in packets)
    assert max(np.diff([*keys, len(packets)])) <= 10
    assert (found.sample_rate_hz, found.channels, found.audio_codec) == (24000, 1, "aac")


def test_nothing_is_made_larger(tmp_path):
    film = make_video(tmp_path / "film.mp4", seconds=3, fps=10, size=(40, 36))
    found = probe(copied(film))
    assert (found.width, found.height) == (40, 36)
    assert found.frame_rate_hz == pytest.approx(10)


@pytest.mark.parametrize("stream", ["video", "audio"])
def test_one_stream_alone_is_kept_where_one_is_wanted(tmp_path, stream):
    film = make_video(tmp_path / "film.mp4", seconds=3)
    found = probe(copied(film, replace(BOTH, streams=(stream,)), (stream,)), need=(stream,))
    assert found.usable
    assert (found.video_codec is None, found.audio_codec is None) == (stream == "audio", stream == "video")


def test_the_same_video_gives_the_same_bytes(tmp_path):
    film = make_video(tmp_path / "film.mp4", seconds=3)
    first = copied(film).read_bytes()
    assert copied(film).read_bytes() == first


def test_another_file_than_was_scanned_is_not_copied(tmp_path):
    film = make_video(tmp_path / "film.mp4", seconds=3)
    row = asdict(probe(film))
    make_video(film, seconds=4)
    with pytest.raises(MediaError) as caught:
        recode(str(tmp_path / "copy.mp4"), Original.from_row(row), BOTH)
    assert caught.value.reason == "changed"
    assert [p.name for p in tmp_path.iterdir()] == ["film.mp4"]


def test_a_copy_shorter_than_its_original_is_no_copy(tmp_path):
    film = make_video(tmp_path / "film.mp4", seconds=3)
    row = asdict(probe(film))
    wrong = replace(Original.from_row(row), video_seconds=2.0, audio_start_seconds=1.0)
    with pytest.raises(MediaError, match="that of its copy"):
        recode(str(tmp_path / "copy.mp4"), wrong, BOTH)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    film = make_video(tmp_path / "film.mp4", seconds=3)
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(DestinationError, match="taken"):
        recode(str(tmp_path / "taken" / "copy.mp4"), Original.from_row(asdict(probe(film))), BOTH)
