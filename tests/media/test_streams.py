"""Streams that are not as their container states them: late, cut short, with holes; and seeks that are refused."""

from __future__ import annotations

import av
import numpy as np
import pytest

from seehear.data.clips import Video
from seehear.errors import MediaError
from seehear.media import opening
from seehear.media.decode import Window, _Reader, decode
from seehear.media.probe import probe
from seehear.media.timeline import PAD_SECONDS
from tests.corpus import clicks, flash_frames, frame_number, make_video


def run(path, *windows, sample_rate_hz=24000):
    return decode(path, windows, short_side_px=None, sample_rate_hz=sample_rate_hz)


def click_time(decoded):
    return decoded.audio_start_seconds + np.flatnonzero(np.abs(decoded.waveform) > 0.3)[0] / 24000


WMA = {"audio_codec": "wmav2", "rate": 44100, "audio_options": {"b": "128k"}, "fps": 20}


@pytest.mark.parametrize(("name", "codec"), [("a.wmv", "wmv2"), ("a.asf", "msmpeg4"), ("a.avi", "mpeg4")])
def test_sound_begins_with_its_first_sample(tmp_path, name, codec):
    """WMA gives its first samples two packets later than its container says."""
    path = make_video(
        tmp_path / name, seconds=4, codec=codec, frames=flash_frames((64, 48), [2.0], 20),
        wave=clicks(4, 44100, [2.0]) + 0.01, **WMA,
    )  # fmt: skip
    row = probe(path)
    assert row.usable, row
    assert 0.05 < row.audio_start_seconds < 0.12
    windows = [Window(start, 40, 20.0, 1.5) for start in (0.0, row.audio_start_seconds, 1.0, 2.2)]
    for decoded in (*run(path, *windows), *(run(path, window)[0] for window in windows)):
        assert decoded.start_seconds >= row.audio_start_seconds - 0.011
        assert decoded.audio_start_seconds == pytest.approx(decoded.start_seconds, abs=1e-3)
        assert np.abs(decoded.waveform[:200]).max() > 0.005  # no silence stands in for what is late
        if decoded.start_seconds == 1.0:
            lit = decoded.frame_pts_seconds[decoded.frames.mean(axis=(1, 2, 3)) > 125]
            assert abs(lit[0] - click_time(decoded)) < 0.03


@pytest.mark.parametrize("seconds", [3.0, 3.017, 2.98])
@pytest.mark.parametrize("rate", [24000, 48000])
def test_all_clips_of_a_short_webm_decode(tmp_path, seconds, rate):
    """Its streams begin at 7 and -3 ms, and its last packet of sound is longer than what it holds."""
    path = make_video(
        tmp_path / "short.webm", seconds=seconds, codec="libvpx", fps=17.5, rate=rate, video_offset=0.007,
        video_options={"deadline": "realtime", "cpu-used": "8"},
    )  # fmt: skip
    row = probe(path, min_seconds=2.0)
    assert row.usable, row
    video = Video.from_row(vars(row) | {"video_id": "short"}, ("video", "audio"))
    assert video.end_seconds <= seconds + 0.01
    for length in (2.0, video.seconds, video.seconds + PAD_SECONDS):
        for start in (*np.arange(video.start_seconds, video.end_seconds - length, 0.05), video.end_seconds - length):
            start = max(float(start), video.start_seconds)
            (one,) = run(path, Window(start, 4, 5.0, length), sample_rate_hz=16000)
            assert len(one.waveform) == round(length * 16000)
            assert abs(one.start_seconds - start) < PAD_SECONDS + 0.011


def replaced(path, target, change):
    """Copy a file packet by packet; `change(packet)` gives the bytes of a picture's packet, None to keep them."""
    with av.open(str(path)) as source, av.open(str(target), "w") as out:
        streams = {stream.index: out.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is None:
                continue
            data = change(packet) if packet.stream.type == "video" else None
            if data is not None:
                copy = av.Packet(data)
                copy.pts, copy.dts, copy.duration = packet.pts, packet.dts, packet.duration
                copy.time_base = packet.time_base
                copy.stream = streams[packet.stream.index]
                out.mux(copy)
            else:
                packet.stream = streams[packet.stream.index]
                out.mux(packet)
    return target


def seconds_of(packet):
    return float(packet.pts * packet.time_base)


def test_an_empty_packet_repeats_the_frame_before_it(tmp_path, monkeypatch):
    """As in Theora, where it is no end of the stream: here every picture but each third is such a packet."""
    monkeypatch.setitem(opening._OPEN_OPTIONS, "format_whitelist", "nut")  # its muxer alone writes them
    path = make_video(tmp_path / "all.mkv", seconds=6, fps=15, codec="mjpeg", audio_codec="pcm_s16le")
    still = replaced(path, tmp_path / "still.nut", lambda p: b"" if round(seconds_of(p) * 15) % 3 else None)
    windows = [Window(start, 6, 15.0, 0.4) for start in (0.0, 1.0, 3.4, 5.6)]
    for decoded in (*run(still, *windows), *(run(still, window)[0] for window in windows)):
        index = np.round(decoded.frame_pts_seconds * 15).astype(int)
        assert index[0] == round(decoded.start_seconds * 15)
        assert (np.diff(index) == 1).all()
        assert [frame_number(frame) for frame in decoded.frames] == list(index // 3 * 3)
    row = probe(still)
    assert row.usable, row
    assert row.frame_count == 90
    assert row.video_duration_seconds == pytest.approx(6, abs=0.01)
    assert row.frame_rate_hz == pytest.approx(15, rel=0.01)


@pytest.mark.parametrize("suffix", ["mkv", "avi"])
def test_a_bad_packet_costs_its_own_frames(tmp_path, suffix):
    path = make_video(tmp_path / f"good.{suffix}", seconds=6, fps=15, codec="mjpeg", audio_codec="pcm_s16le")
    garbage = {32: b"no picture"}
    bad = replaced(path, tmp_path / f"bad.{suffix}", lambda p: garbage.get(round(seconds_of(p) * 15)))
    for start in (0.2, 1.9, 2.0, 32 / 15, 2.2):
        (one,) = run(bad, Window(start, 6, 15.0))
        due = start + np.arange(6) / 15
        away = np.abs(one.frame_pts_seconds - due)
        assert away.max() < 1.01 / 15
        assert (np.round(one.frame_pts_seconds * 15) != 32).all()
        np.testing.assert_array_equal(
            [frame_number(frame) for frame in one.frames], np.round(one.frame_pts_seconds * 15)
        )
    assert probe(bad).usable


def test_a_stretch_of_bad_packets_is_not_papered_over(tmp_path):
    path = make_video(tmp_path / "good.mkv", seconds=8, fps=15, codec="mjpeg", audio_codec="pcm_s16le")
    bad = replaced(path, tmp_path / "bad.mkv", lambda p: b"no picture" if 2 < seconds_of(p) < 4 else None)
    run(bad, Window(1.0, 6, 15.0), Window(4.1, 6, 15.0))
    for start in (2.8, 2.5, 3.2):
        with pytest.raises(MediaError) as caught:
            run(bad, Window(start, 2, 15.0))
        assert caught.value.reason == "decode_error"


def test_a_picture_that_begins_late_begins_with_its_first_frame(tmp_path):
    """A recording that was begun between two key frames: nothing decodes before the second."""
    path = make_video(tmp_path / "whole.mkv", seconds=6, fps=15, codec="mjpeg", audio_codec="pcm_s16le")
    late = replaced(path, tmp_path / "late.mkv", lambda p: b"no picture" if seconds_of(p) < 1.4 else None)
    row = probe(late)
    assert row.usable, row
    assert row.video_start_seconds == pytest.approx(1.4, abs=0.01)
    (one,) = run(late, Window(0.0, 6, 15.0, 1.0))
    assert one.start_seconds == pytest.approx(1.4, abs=0.01)
    assert frame_number(one.frames[0]) == 21


@pytest.mark.parametrize("refused", [1, 2, 3])
def test_a_refused_seek_is_tried_from_farther_back(tmp_path, monkeypatch, refused):
    path = make_video(tmp_path / "long.mkv", seconds=20, fps=12)
    windows = [Window(12.3, 4, 12.0, 0.5), Window(17.0, 4, 12.0, 0.5)]
    wanted = run(path, *windows)
    original, asked = _Reader._seek, []

    def seek(self, seconds):
        asked.append(seconds)
        if len(asked) <= refused:
            raise av.error.PermissionError(1, "Operation not permitted")
        original(self, seconds)

    monkeypatch.setattr(_Reader, "_seek", seek)
    found = run(path, *windows)
    assert len(asked) >= min(refused, 2)
    assert asked[:2] == sorted(asked[:2], reverse=True)
    for one, other in zip(wanted, found, strict=True):
        np.testing.assert_array_equal(one.frames, other.frames)
        assert np.abs(one.audio_start_seconds - other.audio_start_seconds) < 2e-3


def test_windows_of_a_transport_stream_that_want_one_stream_each(tmp_path):
    """The picture by which AVCHD is sought must not be left out when the group before wanted sound alone."""
    path = make_video(tmp_path / "c.mts", seconds=20, fps=20, container="mpegts", gop=25,
                      options={"mpegts_m2ts_mode": "1"})  # fmt: skip
    out = run(path, Window(4.0, 0, 0.0, 1.0), Window(12.0, 4, 20.0), Window(17.0, 0, 0.0, 1.0))
    assert [one.start_seconds for one in out] == [4.0, 12.0, 17.0]
    assert np.abs(out[1].frame_pts_seconds - 12 - np.arange(4) / 20).max() < 0.026
