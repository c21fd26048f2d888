from __future__ import annotations

import os
import pickle
import subprocess
import sys

import av
import numpy as np
import pytest
import soxr

from seehear.errors import MediaError, UsageError
from seehear.media.decode import Window, decode
from seehear.media.opening import open_media
from seehear.media.sound import resample
from tests.corpus import (
    clicks,
    flash_frames,
    frame_number,
    make_huge,
    make_video,
    tone,
)


def run(path, *windows, short_side_px=None, sample_rate_hz=24000, **more):
    return decode(path, windows, short_side_px=short_side_px, sample_rate_hz=sample_rate_hz, **more)


def decode_all(path):
    """The naive oracle: every frame of the file, with its time after time zero."""
    with av.open(str(path)) as container:
        streams = [s for s in container.streams if s.type in ("video", "audio")]
        zero = min(float(s.start_time * s.time_base) for s in streams)
        frames = [(f.time - zero, f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]
    return np.array([time for time, _ in frames]), np.stack([picture for _, picture in frames])


def nearest(times, due):
    distance = np.abs(times[None] - due[:, None])
    return (distance <= distance.min(axis=1, keepdims=True) + 2e-6).argmax(axis=1)  # ties: the earlier


def assert_equals_oracle(path, windows, out):
    times, pictures = decode_all(path)
    for window, decoded in zip(windows, out, strict=True):
        due = decoded.start_seconds + np.arange(window.frame_count) / window.frame_rate_hz
        index = nearest(times, due)
        np.testing.assert_allclose(decoded.frame_pts_seconds, times[index], atol=1e-9)
        assert np.abs(decoded.frames.astype(int) - pictures[index]).max() <= 4  # bicubic against bilinear chroma


FORMS: dict[str, dict] = {
    "mp4": {},
    "mp4_b": {"bframes": 3},
    "mp4_long_gop": {"gop": 500},
    "mkv": {"audio_codec": "opus", "rate": 48000},
    "mkv_b": {"bframes": 2, "audio_codec": "mp3", "rate": 44100},
    "webm": {"codec": "vp9", "rate": 48000},
    "avi": {"codec": "mpeg4", "rate": 44100},
    "avi_b": {"codec": "mpeg4", "bframes": 2, "rate": 44100},
    "ts": {"rate": 44100},
    "ts_b": {"bframes": 2},
    "mov": {"codec": "mjpeg", "audio_codec": "pcm_s16le"},
    "flv": {"rate": 44100},
}


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    made = {}

    def film(form):
        if form not in made:
            made[form] = make_video(
                folder / f"{form}.{form.split('_')[0]}", seconds=20, fps=12, size=(96, 64), **FORMS[form]
            )
        return made[form]

    return film


# ------------------------------------------------------------ which frames


@pytest.mark.parametrize("form", FORMS)
def test_frames_equal_a_full_decode(films, form):
    rng = np.random.default_rng(0)
    windows = [Window(float(start), 6, float(rate), 0.0) for start, rate in zip(
        rng.uniform(0.3, 18, 7), rng.choice([5, 12, 24, 30, 60], 7), strict=True)]  # fmt: skip
    assert_equals_oracle(films(form), windows, run(films(form), *windows))
    for window in windows[:3]:
        assert_equals_oracle(films(form), [window], run(films(form), window))


@pytest.mark.parametrize("form", FORMS)
def test_one_pass_gives_what_single_calls_give(films, form):
    windows = [Window(start, 4, 10.0, 0.8) for start in (15.3, 0.5, 1.1, 6.0, 6.2, 18.7)]
    together = run(films(form), *windows, short_side_px=32)
    for window, one in zip(windows, together, strict=True):
        (alone,) = run(films(form), window, short_side_px=32)
        np.testing.assert_array_equal(one.frames, alone.frames)
        np.testing.assert_array_equal(one.frame_pts_seconds, alone.frame_pts_seconds)
        assert one.start_seconds == alone.start_seconds
        # Matroska rounds each time stamp to a millisecond, so a seek may start the sample count half one off.
        assert abs(one.audio_start_seconds - alone.audio_start_seconds) < 2e-3
        assert len(one.waveform) == len(alone.waveform) == 19200
        assert np.abs(np.abs(one.waveform).mean() - np.abs(alone.waveform).mean()) < 2e-3


def test_frames_name_themselves(films):
    (one,) = run(films("mp4"), Window(5.0, 4, 12.0))
    assert [frame_number(frame) for frame in one.frames] == [60, 61, 62, 63]
    assert one.frames.shape == (4, 64, 96, 3)
    assert one.frames.dtype == np.uint8
    assert one.waveform is None
    assert one.audio_start_seconds is None
    np.testing.assert_allclose(one.frame_pts_seconds, [5, 61 / 12, 62 / 12, 63 / 12])


def test_variable_frame_rate(tmp_path):
    times = np.cumsum([0, *np.random.default_rng(3).choice([0.02, 0.05, 0.4, 0.1], 60)])
    path = make_video(tmp_path / "v.mp4", frame_times=list(times), seconds=float(times[-1]), bframes=2)
    windows = [Window(start, 12, 10.0) for start in (0.0, 1.0, 3.3, 5.0)]
    out = run(path, *windows)
    assert_equals_oracle(path, windows, out)
    for window, decoded in zip(windows, out, strict=True):
        due = window.start_seconds + np.arange(12) / 10
        assert [frame_number(frame) for frame in decoded.frames] == list(nearest(times, due))


def test_repeated_frames_of_an_avi_keep_their_time_after_a_seek(tmp_path):
    """A recorder of the screen writes an empty chunk where nothing changed; a seek must not count these twice."""
    index = np.sort(np.random.default_rng(0).choice(600, 120, replace=False))
    path = make_video(
        tmp_path / "screen.avi", frame_times=list(index / 30), seconds=20, fps=30, codec="mjpeg",
        audio_codec="pcm_s16le", rate=44100,
    )  # fmt: skip
    windows = [Window(start, 10, 30.0, 0.5) for start in np.arange(1, 19, 0.9)]
    assert_equals_oracle(path, windows, [run(path, window)[0] for window in windows])


def test_higher_rate_than_the_source_repeats_and_lower_skips(films):
    (fast, slow) = run(films("mp4"), Window(2.0, 5, 48.0), Window(2.0, 5, 3.0))
    assert [frame_number(frame) for frame in fast.frames] == [24, 24, 24, 25, 25]
    assert [frame_number(frame) for frame in slow.frames] == [24, 28, 32, 36, 40]


def test_a_window_past_the_end_of_the_picture_moves_back(films):
    for form in ("mp4", "mkv", "ts"):
        (last,) = run(films(form), Window(25.0, 6, 12.0))
        assert [frame_number(frame) for frame in last.frames][-1] == 239
        assert 19.4 < last.start_seconds < 19.7


# ------------------------------------------------------------ picture size and place


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_is_applied(tmp_path, degrees):
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:24, :32] = (250, 10, 10)  # red, top left
    path = make_video(tmp_path / "r.mp4", frames=lambda i, t: picture, rotation=degrees, seconds=1)
    (one,) = run(path, Window(0, 1, 15), short_side_px=24)
    upright = np.rot90(picture, degrees // 90)
    height, width = upright.shape[:2]
    assert one.frames.shape[1:3] == ((32, 24) if degrees % 180 else (24, 32))
    for y in (0.25, 0.75):
        for x in (0.25, 0.75):
            seen = one.frames[0, int(y * one.frames.shape[1]), int(x * one.frames.shape[2])].astype(int)
            assert np.abs(seen - upright[int(y * height), int(x * width)]).max() < 30


@pytest.mark.parametrize(("size", "short", "shape"), [
    ((160, 120), 64, (64, 85)), ((120, 160), 64, (85, 64)), ((64, 48), 96, (96, 128)),
    ((64, 48), None, (48, 64)),
])  # fmt: skip
def test_shorter_side(tmp_path, size, short, shape):
    path = make_video(tmp_path / "s.mp4", size=size, seconds=1)
    (one,) = run(path, Window(0.2, 2, 15), short_side_px=short)
    assert one.frames.shape == (2, *shape, 3)
    assert frame_number(one.frames[0]) == 3


def test_downscaling_averages_and_colours_are_right(tmp_path):
    stripes = np.zeros((96, 128, 3), np.uint8)
    stripes[:, ::2] = 200
    path = make_video(tmp_path / "s.mov", size=(128, 96), frames=lambda i, t: stripes, seconds=1, codec="mjpeg")
    (one,) = run(path, Window(0, 1, 15), short_side_px=24)
    assert np.abs(one.frames.astype(int) - 100).max() < 12
    colour = np.full((48, 64, 3), (30, 180, 90), np.uint8)
    path = make_video(tmp_path / "c.mp4", frames=lambda i, t: colour, seconds=1)
    (one,) = run(path, Window(0, 1, 15))
    assert np.abs(one.frames.astype(int) - (30, 180, 90)).max() < 10


def test_non_square_pixels(tmp_path):
    path = make_video(tmp_path / "n.mkv", size=(64, 64), seconds=1)
    with av.open(str(path)) as source, av.open(str(tmp_path / "wide.mkv"), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        stream.sample_aspect_ratio = 2
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    (one,) = run(tmp_path / "wide.mkv", Window(0, 1, 15), short_side_px=32)
    assert one.frames.shape[1:] in ((32, 64, 3), (32, 32, 3))  # the second where the muxer dropped the ratio


# ------------------------------------------------------------ sound and its place


def click_times(decoded, rate=24000):
    loud = np.flatnonzero(np.abs(decoded.waveform) > 0.3)
    return decoded.audio_start_seconds + loud[0] / rate


SYNC = [
    ("mp4", {}),
    ("mp4", {"bframes": 2}),
    ("mp4", {"audio_offset": 0.7}),
    ("mp4", {"video_offset": 0.7}),
    ("mkv", {"audio_codec": "opus", "rate": 48000, "audio_offset": 0.3}),
    ("mkv", {"rate": 44100, "video_offset": 0.4}),
    ("webm", {"codec": "vp9", "rate": 48000}),
    ("ts", {"rate": 44100}),
    ("ts", {"bframes": 2, "audio_offset": 0.5}),
    ("mov", {"codec": "mjpeg", "audio_codec": "pcm_s16le", "rate": 8000}),
    ("mp4", {"audio_codec": "mp3", "rate": 32000}),
]


@pytest.mark.parametrize(("suffix", "options"), SYNC)
def test_click_and_flash_come_together(tmp_path, suffix, options):
    """The flash at time t of the picture and the click at the same moment, wherever the window lies."""
    options = dict(options)
    rate = options.get("rate", 24000)
    video_offset, audio_offset = options.get("video_offset", 0.0), options.get("audio_offset", 0.0)
    at = [1.5, 4.0, 9.0]  # on the players' clock; all on a frame of 20 fps
    path = make_video(
        tmp_path / f"sync.{suffix}", seconds=11, fps=20, codec=options.pop("codec", "h264"), gop=25,
        frames=flash_frames((64, 48), [time - video_offset for time in at], 20),
        wave=clicks(11, rate, [time - audio_offset for time in at]), **options,
    )  # fmt: skip
    windows = [Window(time - 0.5 + shift, 40, 20.0, 1.0) for time in at for shift in (0, 0.21)]
    for decoded in (*run(path, *windows), *(run(path, window)[0] for window in windows)):
        flash = decoded.frame_pts_seconds[decoded.frames.mean(axis=(1, 2, 3)) > 125][0]
        click = click_times(decoded)
        # Half a frame is 25 ms. Without an edit list to cut a codec's delay, the sound is shifted by it.
        assert abs(flash - click) < 0.025, (flash, click)
        if suffix in ("mp4", "mov") and not audio_offset:
            assert min(abs(click - time) for time in at) < 0.002


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000])
def test_click_position_for_any_rate(tmp_path, rate):
    path = make_video(tmp_path / "c.mkv", seconds=4, has_video=False, audio_codec="pcm_s16le", rate=rate,
                      wave=clicks(4, rate, [2.0], channels=2), layout="stereo")  # fmt: skip
    for start in (0.0, 1.2345, 1.9):
        (one,) = run(path, Window(start, 0, 0, 1.0 if start else 3.0))
        assert abs(click_times(one) - 2.0) < 0.0006
        assert one.frames is None
        assert len(one.waveform) == (24000 if start else 72000)


@pytest.mark.parametrize(("name", "options"), [
    ("ima.wav", {"audio_codec": "adpcm_ima_wav", "rate": 22050, "has_video": False}),
    ("ms.wav", {"audio_codec": "adpcm_ms", "rate": 22050, "has_video": False}),
    ("flac.ogv", {"codec": "libvpx", "audio_codec": "flac", "rate": 48000, "fps": 25,
                  "video_options": {"deadline": "realtime", "cpu-used": "8"}}),
])  # fmt: skip
def test_sound_that_is_sought_by_guessing_is_found_where_it_is(tmp_path, name, options):
    """Blocks of ADPCM are no whole number of bytes a second: a seek by the bit rate drifts by 3 ms in each."""
    at = np.arange(1, 40, 1.3)
    noise = np.random.default_rng(0).normal(0, 0.01, (1, 41 * options["rate"])).astype(np.float32)
    path = make_video(tmp_path / name, seconds=41, wave=clicks(41, options["rate"], at) + noise, **options)
    for time in at:
        (one,) = run(path, Window(time - 0.4, 0, 0, 0.8))
        assert abs(click_times(one) - time) < 0.002


def test_six_channels_are_averaged(tmp_path):
    wave = np.zeros((6, 48000), np.float32)
    wave[2] = tone(1, 48000, level=0.6)[0]
    path = make_video(tmp_path / "c.mov", seconds=1, has_video=False, audio_codec="pcm_s16le", rate=48000,
                      wave=wave, layout="5.1")  # fmt: skip
    (one,) = run(path, Window(0, 0, 0, 0.9))
    assert abs(np.abs(one.waveform[500:-500]).max() - 0.1) < 0.005
    path = make_video(tmp_path / "c.mp4", seconds=2, rate=48000, wave=np.tile(tone(2, 48000), (6, 1)), layout="5.1")
    (one,) = run(path, Window(0.3, 4, 10, 1.0))
    assert one.waveform.dtype == np.float32


@pytest.mark.parametrize(("rate", "new"), [(44100, 24000), (48000, 16000), (8000, 24000), (22050, 24000)])
def test_resampling_is_aligned_and_free_of_aliases(rate, new):
    rng = np.random.default_rng(0)
    band = np.fft.rfftfreq(rate) * rate < 0.4 * min(rate, new)
    wave = np.fft.irfft(np.fft.rfft(rng.normal(size=rate)) * band, rate).astype(np.float32)
    ours, theirs = resample(wave, rate, new), soxr.resample(wave, rate, new)
    assert abs(len(ours) - new) <= 1
    middle = slice(new // 20, new - new // 20)
    assert np.abs(ours[middle] - theirs[middle]).max() < 3e-4
    if new < rate:
        high = np.sin(2 * np.pi * 0.55 * new * np.arange(rate) / rate).astype(np.float32)
        assert np.abs(resample(high, rate, new)[middle]).max() < 1e-3


def test_windows_resample_as_the_whole_track_does(tmp_path):
    rng = np.random.default_rng(1)
    wave = rng.uniform(-0.5, 0.5, (1, 44100 * 3)).astype(np.float32)
    path = make_video(tmp_path / "w.mov", has_video=False, audio_codec="pcm_s16le", rate=44100, wave=wave)
    whole = resample((wave[0] * 32767).astype(np.int16) / np.float32(32768), 44100, 24000)
    (one,) = run(path, Window(1.0, 0, 0, 1.0))
    assert np.abs(one.waveform - whole[24000:48000]).max() < 2e-4


def test_late_sound_moves_the_window_forward(tmp_path):
    path = make_video(tmp_path / "l.mp4", seconds=4, audio_seconds=3, audio_offset=1.0)
    (one,) = run(path, Window(0.0, 3, 15, 1.0))
    assert 0.9 < one.start_seconds <= 1.0  # the codec's delay comes before the first sample
    assert abs(one.audio_start_seconds - one.start_seconds) < 1e-3
    assert abs(one.frame_pts_seconds[0] - one.start_seconds) <= 0.5 / 15
    (still,) = run(path, Window(0.0, 3, 15))
    assert still.start_seconds == 0  # no sound wanted, no move


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_sound_that_ends_early_moves_the_window_back(tmp_path, suffix):
    path = make_video(tmp_path / f"e.{suffix}", seconds=6, audio_seconds=3)
    (one, early) = run(path, Window(4.5, 6, 15, 1.0), Window(0.5, 6, 15, 1.0))
    assert 1.9 < one.start_seconds < 2.15
    assert len(one.waveform) == 24000
    assert np.abs(one.waveform[-2000:]).max() > 0.1
    assert abs(one.frame_pts_seconds[0] - one.start_seconds) <= 0.5 / 15 + 1e-6
    assert early.start_seconds == 0.5


def test_a_track_short_by_a_codec_delay_is_padded_and_no_more(tmp_path):
    path = make_video(tmp_path / "p.mov", seconds=3, audio_seconds=1.97, audio_codec="pcm_s16le", codec="mjpeg")
    (one,) = run(path, Window(0.0, 3, 15, 2.0))
    assert len(one.waveform) == 48000
    assert np.abs(one.waveform[-700:]).max() == 0
    with pytest.raises(MediaError) as caught:
        run(path, Window(0.0, 3, 15, 2.1))
    assert caught.value.reason == "audio_too_short"


def test_a_hole_in_the_sound_is_not_filled(tmp_path):
    path = make_video(tmp_path / "whole.mkv", seconds=6, audio_codec="pcm_s16le")
    with av.open(str(path)) as source, av.open(str(tmp_path / "hole.mkv"), "w") as out:
        streams = {s.index: out.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if packet.dts is None or (packet.stream.type == "audio" and 2 < packet.pts * packet.time_base < 3):
                continue
            packet.stream = streams[packet.stream.index]
            out.mux(packet)
    run(tmp_path / "hole.mkv", Window(0.5, 3, 15, 1.0), Window(4, 3, 15, 1.0))
    with pytest.raises(MediaError, match="are missing") as caught:
        run(tmp_path / "hole.mkv", Window(1.5, 3, 15, 1.0))
    assert caught.value.reason == "audio_too_short"


# ------------------------------------------------------------ what cannot be decoded


def reason_of(path, *windows, **more):
    with pytest.raises(MediaError) as caught:
        run(path, *(windows or (Window(0, 2, 15, 0.5),)), **more)
    assert str(path) in str(caught.value)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.reason, copy.detail, copy.path) == (caught.value.reason, caught.value.detail, str(path))
    return caught.value.reason


def test_missing_streams_and_times(tmp_path):
    assert reason_of(make_video(tmp_path / "a.mp4", has_audio=False)) == "no_audio"
    assert reason_of(make_video(tmp_path / "b.m4a", has_video=False)) == "no_video"
    short = make_video(tmp_path / "c.mp4", seconds=1.0)
    assert reason_of(short, Window(0, 60, 15)) == "too_short"
    assert reason_of(short, Window(0, 0, 0, 2.0)) == "audio_too_short"
    assert reason_of(tmp_path / "none.mp4") == "missing"
    assert reason_of(tmp_path) == "not_media"


def test_files_cut_off_after_their_header(tmp_path):
    whole = make_video(tmp_path / "w.mp4", seconds=6, options={"movflags": "faststart"})
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    run(cut, Window(0.5, 4, 15, 1.0))  # what is there is there
    assert reason_of(cut, Window(4.5, 4, 15)) == "truncated"
    assert reason_of(cut, Window(4.5, 0, 0, 1.0)) == "truncated"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_permission(tmp_path):
    path = make_video(tmp_path / "p.mp4", seconds=1)
    path.chmod(0)
    assert reason_of(path) == "permission"


@pytest.mark.parametrize("text", [
    "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{good}\n#EXT-X-ENDLIST\n",
    "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nfile://{good}\n#EXT-X-ENDLIST\n",
    "ffconcat version 1.0\nfile '{good}'\n",
    "ffconcat version 1.0\nfile {name}\n",
])  # fmt: skip
@pytest.mark.parametrize("suffix", ["mp4", "m3u8", "mkv"])
def test_a_playlist_opens_nothing(tmp_path, text, suffix):
    good = make_video(tmp_path / "good.mp4", seconds=3)
    path = tmp_path / f"list.{suffix}"
    path.write_text(text.format(good=good, name=good.name))
    assert reason_of(path, Window(0, 1, 15)) == "unsafe"


def test_names_are_never_protocols(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_video(tmp_path / "x.mp4", seconds=1)
    assert reason_of("concat:x.mp4|x.mp4") == "missing"
    odd = tmp_path / "file:x.mp4"
    odd.write_bytes((tmp_path / "x.mp4").read_bytes())
    assert run("file:x.mp4", Window(0, 1, 15))[0].frames.shape[0] == 1


def test_sizes_are_checked_before_allocating(tmp_path):
    window = Window(0, 2, 5)
    assert reason_of(make_huge(tmp_path / "h.mov"), window) == "too_large"
    assert reason_of(make_huge(tmp_path / "l.mov", honest=False), window) == "decode_error"
    small = make_video(tmp_path / "s.mp4")
    assert reason_of(small, Window(0, 2_000_000_000, 1e9)) == "too_large"
    assert reason_of(small, window, max_frame_pixels=1000) == "too_large"
    assert reason_of(small, window, max_output_bytes=1000) == "too_large"


def test_cover_art_is_no_picture(tmp_path):
    path = tmp_path / "cover.mkv"
    make_video(path, seconds=2, has_video=False)
    with open_media(path) as container:
        assert [stream.type for stream in container.streams] == ["audio"]
    assert reason_of(path, Window(0, 1, 15)) == "no_video"


def test_wrong_use_is_a_usage_error(tmp_path):
    path = make_video(tmp_path / "g.mp4", seconds=1)
    assert run(path) == []
    with pytest.raises(UsageError, match="back end"):
        run(path, Window(0, 1, 15), backend="decord")
    with pytest.raises(UsageError, match="frame rate"):
        Window(0, 4, 0.0)
    with pytest.raises(UsageError, match="no such window"):
        Window(float("nan"), 4, 10.0)


def test_mutated_files_never_raise_anything_else(tmp_path):
    data = bytearray(make_video(tmp_path / "g.mp4", seconds=2).read_bytes())
    rng = np.random.default_rng(0)
    path = tmp_path / "m.mp4"
    for _ in range(40):
        bad = bytearray(data)
        for at in rng.integers(0, len(data), rng.integers(1, 30)):
            bad[at] = rng.integers(256)
        path.write_bytes(bad)
        try:
            (one,) = run(path, Window(0.4, 8, 15, 1.0), short_side_px=32)
        except MediaError:
            continue
        assert one.frames.shape[0] == 8
        assert np.isfinite(one.waveform).all()
        assert np.abs(one.waveform).max() <= 1


def test_imports_no_torch_and_leaves_no_file_open(tmp_path):
    path = make_video(tmp_path / "g.mp4", seconds=1)
    code = (
        "import sys, os\nfrom seehear.media.decode import *\n"
        f"for _ in range(5): decode({str(path)!r}, [Window(0, 2, 15, .5)], "
        "short_side_px=32, sample_rate_hz=16000)\n"
        "assert 'torch' not in sys.modules\n"
        f"print(sum(os.readlink(f'/proc/self/fd/{{n}}') == {str(path)!r} "
        "for n in os.listdir('/proc/self/fd') "
        "if os.path.exists(f'/proc/self/fd/{n}')), len(os.listdir('/proc/self/task')))\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    assert out.stdout.split() == ["0", "1"]


# ------------------------------------------------------------ the other back end


def test_torchcodec_gives_the_same_frames(films):
    try:
        from torchcodec.decoders import VideoDecoder  # noqa: F401
    except (ImportError, RuntimeError, OSError) as error:
        pytest.skip(f"torchcodec does not load: {str(error).splitlines()[0]}")
    windows = [Window(start, 6, rate, 0.5) for start, rate in ((0.3, 30.0), (5.01, 7.0), (17.0, 12.0))]
    for form in ("mp4", "mp4_b", "ts"):
        ours = run(films(form), *windows)
        for backend in ("torchcodec", "auto"):
            theirs = run(films(form), *windows, backend=backend)
            for one, other in zip(ours, theirs, strict=True):
                np.testing.assert_allclose(one.frame_pts_seconds, other.frame_pts_seconds, atol=1e-6)
                assert np.abs(one.frames.astype(int) - other.frames).mean() < 2
                np.testing.assert_array_equal(one.waveform, other.waveform)


def test_an_absent_back_end_says_so(films, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)
    with pytest.raises(UsageError, match="torchcodec back end does not load"):
        run(films("mp4"), Window(0, 1, 15), backend="torchcodec")
    assert run(films("mp4"), Window(0, 1, 15), backend="auto")[0].frames.shape[0] == 1
