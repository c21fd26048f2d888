from __future__ import annotations

import hashlib
import os

import av
import numpy as np
import pytest

from seehear.media.decode import Window, decode
from seehear.media.probe import SILENCE_FLOOR_DBFS, file_fingerprint, probe
from tests.corpus import make_broken, make_huge, make_video, tone


def test_a_good_file(tmp_path):
    path = make_video(tmp_path / "g.mp4", seconds=4, fps=12, size=(96, 64), rate=44100, gop=7, bframes=2)
    row = probe(path)
    assert row.usable
    assert row.reason is None
    assert row.path == str(path)
    assert row.container == "mp4"
    assert (row.width, row.height, row.rotation_degrees) == (96, 64, 0)
    assert (row.video_codec, row.audio_codec) == ("h264", "aac")
    assert (row.sample_rate_hz, row.channels) == (44100, 1)
    assert row.frame_count == 48
    assert row.frame_rate_hz == pytest.approx(12)
    assert row.variable_frame_rate is False
    assert row.video_start_seconds == pytest.approx(0, abs=1e-3)
    assert row.video_duration_seconds == pytest.approx(4, abs=2e-3)
    assert row.audio_duration_seconds == pytest.approx(4, abs=2e-3)
    assert row.audio_rms_dbfs == pytest.approx(20 * np.log10(0.3 / np.sqrt(2)), abs=0.2)
    assert row.audio_peak_dbfs == pytest.approx(20 * np.log10(0.3), abs=0.5)
    assert (row.size_bytes, row.modified_ns) == (path.stat().st_size, path.stat().st_mtime_ns)
    assert row.fingerprint == hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    assert row.fingerprint == file_fingerprint(path)


@pytest.mark.parametrize(("suffix", "options"), [
    ("mkv", {"audio_codec": "opus", "rate": 48000}), ("webm", {"codec": "vp9", "rate": 48000}),
    ("avi", {"codec": "mpeg4", "rate": 44100}), ("ts", {}), ("flv", {"rate": 44100}),
    ("mov", {"codec": "mjpeg"}),
])  # fmt: skip
def test_other_containers(tmp_path, suffix, options):
    row = probe(make_video(tmp_path / f"g.{suffix}", seconds=4, **options))
    assert row.usable, row
    assert row.container in (suffix, "matroska", "mpegts")
    assert row.video_duration_seconds == pytest.approx(4, abs=0.08)
    assert row.audio_duration_seconds == pytest.approx(4, abs=0.09)
    assert row.frame_count in (60, 61)  # AVI counts the place of a frame that stays
    assert row.frame_rate_hz == pytest.approx(15, rel=0.02)


def test_offsets_rotation_and_variable_rate(tmp_path):
    row = probe(make_video(tmp_path / "a.mp4", seconds=3, audio_offset=0.5, rotation=90))
    assert row.video_start_seconds == 0
    assert row.audio_start_seconds == pytest.approx(0.457, abs=0.01)  # the codec's delay comes first
    assert row.rotation_degrees == 90
    row = probe(make_video(tmp_path / "b.mp4", seconds=3, video_offset=0.5))
    assert row.video_start_seconds == pytest.approx(0.5, abs=1e-3)
    times = np.cumsum([0, *np.random.default_rng(0).choice([0.02, 0.1], 50)])
    row = probe(make_video(tmp_path / "c.mkv", frame_times=list(times), seconds=float(times[-1])))
    assert row.variable_frame_rate is True
    assert row.frame_rate_hz == pytest.approx(50 / times[-1], rel=0.01)
    assert row.frame_count == 51


def test_ntsc_rates_are_constant(tmp_path):
    from fractions import Fraction

    for suffix in ("mp4", "mkv", "flv"):
        row = probe(make_video(tmp_path / f"n.{suffix}", seconds=3, fps=Fraction(30000, 1001), rate=44100))
        assert row.variable_frame_rate is False
        assert row.frame_rate_hz == pytest.approx(29.97, abs=0.02)


def test_each_broken_file_has_its_reason(tmp_path):
    expected = make_broken(tmp_path)
    assert len(expected) >= 15
    rows = {name: probe(tmp_path / name) for name in expected}
    assert {name: row.reason for name, row in rows.items()} == expected
    assert all(row.detail and not row.usable for row in rows.values())


@pytest.mark.parametrize("percent", [5, 20, 40, 60, 80, 90])
def test_truncation_is_seen_wherever_it_falls(tmp_path, percent):
    for suffix, options in (("mp4", {"movflags": "faststart"}), ("mp4", {}), ("mkv", {})):
        whole = make_video(tmp_path / f"w.{suffix}", seconds=8, options=options)
        cut = tmp_path / f"c.{suffix}"
        cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * percent // 100])
        row = probe(cut)
        assert row.reason in ("truncated", "not_media"), row
        if percent >= 20:
            assert row.reason == "truncated", row


@pytest.mark.parametrize("percent", [30, 60, 85])
def test_truncation_of_an_avi_is_seen(tmp_path, percent):
    """FFmpeg shortens what the header says in proportion to what is there."""
    whole = make_video(tmp_path / "w.avi", seconds=30, codec="mpeg4", audio_codec="mp3", rate=44100)
    assert probe(whole).usable
    cut = tmp_path / "c.avi"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * percent // 100])
    assert probe(cut).reason == "truncated"
    cut.write_bytes(whole.read_bytes()[: whole.read_bytes().rindex(b"idx1")])  # all is there but the index
    assert probe(cut).usable


@pytest.mark.parametrize(("suffix", "first", "options"), [
    ("aac", "quiet", {}), ("aac", "loud", {}),
    ("mp3", "quiet", {"write_xing": "0"}), ("mp3", "loud", {"write_xing": "0"}),
])  # fmt: skip
def test_lengths_guessed_by_the_bit_rate_are_not_believed(tmp_path, suffix, first, options):
    """Raw AAC and MP3 do not say how long they are; half a file is no measure for the other half."""
    rate = 44100
    wave = np.random.default_rng(0).normal(0, 0.2, (1, 16 * rate)).astype(np.float32)
    half = slice(0, 8 * rate) if first == "quiet" else slice(8 * rate, None)
    wave[:, half] = 0.01 * tone(8, rate)
    path = make_video(
        tmp_path / f"s.{suffix}", wave=wave, rate=rate, audio_codec=suffix, has_video=False, options=options,
        audio_options={"flags": "+qscale", "global_quality": "100"},
    )  # fmt: skip
    with av.open(str(path)) as container:
        (stream,) = container.streams.audio
        assert abs(float(stream.duration * stream.time_base) - 16) > 2  # what FFmpeg guesses
    row = probe(path, need=["audio"])
    assert row.usable, row
    assert row.audio_duration_seconds == pytest.approx(16, abs=0.1)
    start = row.audio_start_seconds + row.audio_duration_seconds - 1
    (last,) = decode(path, [Window(start, 0, 0.0, 1.0)], short_side_px=None, sample_rate_hz=16000)
    assert last.start_seconds == pytest.approx(start)


def test_the_end_of_a_program_stream_is_where_its_last_packet_ends(tmp_path):
    """The last time stamp in an MPEG file may lie a second before its last frame."""
    path = make_video(tmp_path / "p.mpg", seconds=6, fps=25, codec="mpeg2video", audio_codec="mp2", rate=48000,
                      frames=lambda index, time: np.full((48, 64, 3), 40 + index, np.uint8))  # fmt: skip
    row = probe(path)
    assert row.video_duration_seconds == pytest.approx(6, abs=0.01)
    (last,) = decode(path, [Window(4.6, 25, 25.0, 1.0)], short_side_px=32, sample_rate_hz=16000)
    assert last.start_seconds == 4.6
    np.testing.assert_allclose(last.frame_pts_seconds, 4.6 + np.arange(25) / 25, atol=0.021)


def test_a_long_track_is_measured_in_parts(tmp_path):
    wave = tone(150, 8000, level=0.5)
    path = make_video(tmp_path / "l.wav", has_video=False, wave=wave, rate=8000)
    row = probe(path, need=["audio"])
    assert row.usable
    assert row.container == "wav"
    assert row.audio_duration_seconds == pytest.approx(150)
    assert row.audio_rms_dbfs == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)), abs=0.1)
    assert row.video_codec is None


def test_what_is_needed_decides(tmp_path):
    mute = make_video(tmp_path / "m.mp4", has_audio=False)
    assert probe(mute).reason == "no_audio"
    assert probe(mute, need=["video"]).usable
    assert probe(mute, need=["video"], min_seconds=3).reason == "too_short"
    blind = make_video(tmp_path / "b.m4a", has_video=False)
    assert probe(blind).reason == "no_video"
    assert probe(blind, need=["audio"]).usable
    silent = make_video(tmp_path / "s.mp4", wave=np.zeros((1, 60000), np.float32))
    row = probe(silent, need=["video"])
    assert row.usable
    assert row.audio_rms_dbfs == SILENCE_FLOOR_DBFS
    faint = make_video(tmp_path / "f.mov", wave=tone(2.5, 24000, level=0.0005), audio_codec="pcm_s16le", codec="mjpeg")
    assert probe(faint).reason == "silent"
    assert probe(faint, silence_dbfs=-80).usable


def test_a_picture_that_does_not_decode(tmp_path):
    path = make_video(tmp_path / "g.mov", codec="mjpeg", audio_codec="pcm_s16le")
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            if packet.size:
                data[packet.pos : packet.pos + packet.size] = os.urandom(packet.size)
    path.write_bytes(data)
    assert probe(path).reason == "decode_error"
    assert probe(path, need=["audio"]).usable
    assert probe(make_huge(tmp_path / "h.mov")).reason == "too_large"
    assert probe(make_huge(tmp_path / "i.mov", honest=False)).reason == "decode_error"


def test_never_raises(tmp_path):
    data = bytearray(make_video(tmp_path / "g.mp4", seconds=1.5).read_bytes())
    rng = np.random.default_rng(5)
    path = tmp_path / "m.mp4"
    for _ in range(30):
        bad = bytearray(data)
        for at in rng.integers(0, len(data), 20):
            bad[at] = rng.integers(256)
        path.write_bytes(bad)
        row = probe(path)
        assert row.usable == (row.reason is None)
    assert probe(tmp_path / "none.mp4").reason == "missing"
    assert probe(tmp_path).reason == "not_media"
    assert probe("a\0b.mp4").reason == "unreadable"
    fifo = tmp_path / "fifo.mp4"
    os.mkfifo(fifo)
    assert probe(fifo).reason == "not_media"
