"""What is made of stretches, looked at with a decoder: the right frames, the right sound, in step."""

from __future__ import annotations

import io
import itertools
import json
import subprocess
import sys

import av
import numpy as np
import pytest
from PIL import Image

from seehear.app import makers
from seehear.errors import MediaError
from seehear.media.decode import Window, decode
from seehear.media.identity import Identity, file_fingerprint
from tests.corpus import clicks, flash_frames, frame_number, make_video


def stretch(path, start, end, *, video=True, audio=True):
    return makers.Stretch(str(path), Identity(file_fingerprint(path)), start, end, video, audio, False, 0)


@pytest.fixture(scope="module")
def numbered(tmp_path_factory):
    """12 s at 25 frames a second, each of which tells its number, with a click every second."""
    path = tmp_path_factory.mktemp("numbered") / "numbered.mkv"
    wave = clicks(12, 24000, [0.5 + second for second in range(12)])
    return make_video(path, seconds=12, fps=25, size=(192, 64), wave=wave, gop=50, bframes=2)


def test_a_copy_holds_the_frames_of_its_stretch_across_pieces(numbered, tmp_path):
    out = tmp_path / "copy.mp4"
    makers.copy(str(out), stretch(numbered, 1.0, 11.0))
    made = decode(out, [Window(0.0, 250, 25.0)], short_side_px=None, sample_rate_hz=8000)[0]
    assert [frame_number(frame) for frame in made.frames] == list(range(25, 275))


def test_a_copy_is_in_step_and_ready_to_play(numbered, tmp_path):
    out = tmp_path / "copy.mp4"
    makers.copy(str(out), stretch(numbered, 1.0, 11.0))
    wave = decode(out, [Window(0.0, 0, 1.0, 10.0)], short_side_px=None, sample_rate_hz=8000)[0].waveform
    loud = np.flatnonzero(np.abs(wave) > 0.2) / 8000
    heard = loud[np.concatenate([[True], np.diff(loud) > 0.5])]
    assert heard == pytest.approx(np.arange(10) + 0.5, abs=0.03)
    data = out.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(out)) as container:
        assert {s.codec_context.name for s in container.streams} == {"h264", "aac"}
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"


def test_a_stretch_to_the_very_end_is_not_doubled(numbered, tmp_path):
    out = tmp_path / "copy.mp4"
    makers.copy(str(out), stretch(numbered, 7.6, 12.0))
    made = decode(out, [Window(0.0, 110, 25.0)], short_side_px=None, sample_rate_hz=8000)[0]
    numbers = [frame_number(frame) for frame in made.frames]
    assert numbers[:100] == list(range(190, 290))
    assert numbers == sorted(numbers)


def test_large_pictures_are_made_small_and_small_ones_stay(tmp_path):
    large = make_video(tmp_path / "large.mp4", seconds=1, size=(1280, 720))
    small = make_video(tmp_path / "small.mp4", seconds=1, size=(66, 50))
    for path, size in ((large, (852, 480)), (small, (66, 50))):
        out = tmp_path / "out.mp4"
        makers.copy(str(out), stretch(path, 0, 1))
        with av.open(str(out)) as container:
            video = container.streams.video[0]
            assert (video.width, video.height) == pytest.approx(size, abs=2)


def test_what_a_browser_cannot_play_is_copied(tmp_path):
    odd = make_video(
        tmp_path / "odd.avi", seconds=2, codec="mpeg4", audio_codec="mp3", frames=flash_frames((64, 48), [1.0], 15)
    )
    out = tmp_path / "out.mp4"
    makers.copy(str(out), stretch(odd, 0, 2))
    made = decode(out, [Window(0.0, 50, 25.0)], short_side_px=None, sample_rate_hz=8000)[0]
    bright = [frame.mean() > 128 for frame in made.frames]
    assert bright.index(True) == pytest.approx(25, abs=2)


def test_copies_of_sound_alone_and_of_pictures_alone(tmp_path):
    both = make_video(tmp_path / "both.mp4", seconds=2)
    for flags, kinds in (({"video": False}, {"audio"}), ({"audio": False}, {"video"})):
        out = tmp_path / "out.mp4"
        makers.copy(str(out), stretch(both, 0, 2, **flags))
        with av.open(str(out)) as container:
            assert {s.type for s in container.streams} == kinds
            assert float(container.duration / av.time_base) == pytest.approx(2, abs=0.1)


def test_a_strip_has_eight_moments_in_order(numbered, tmp_path):
    out = tmp_path / "strip.jpg"
    makers.strip(str(out), stretch(numbered, 2.0, 10.0))
    with Image.open(out) as sheet:
        assert sheet.format == "JPEG"
        assert sheet.size == (8 * 160, 120)
        cells = [np.asarray(sheet)[:, i * 160 : (i + 1) * 160].astype(int) for i in range(8)]
    assert all(np.abs(a - b).mean() > 5 for a, b in itertools.pairwise(cells))


def test_the_wave_follows_the_sound(numbered, tmp_path):
    out = tmp_path / "wave.json"
    makers.wave(str(out), stretch(numbered, 0.0, 6.0))
    found = json.loads(out.read_text())
    assert found["seconds"] == 6
    assert len(found["peaks"]) == makers.WAVE_POINTS
    high = np.array(found["peaks"])[:, 1]
    loud = np.flatnonzero(high > 0.3) / makers.WAVE_POINTS * 6
    assert {int(t) for t in loud} == set(range(6))
    assert np.abs(loud % 1 - 0.5).max() < 0.03


def test_the_spectrogram_shows_a_tone_at_its_height(tmp_path):
    times = np.arange(48000) / 24000
    wave = np.where(times < 1, 0.5 * np.sin(2 * np.pi * 300 * times), 0.5 * np.sin(2 * np.pi * 5000 * times))
    path = make_video(tmp_path / "tones.mp4", seconds=2, wave=wave[None].astype(np.float32))
    out = tmp_path / "s.png"
    makers.spectrogram(str(out), stretch(path, 0.0, 2.0))
    with Image.open(out) as picture:
        light = np.asarray(picture.convert("L")).astype(int)
    left, right = light[:, : light.shape[1] // 3], light[:, -light.shape[1] // 3 :]
    assert light.shape[0] == 128
    assert left.mean(1).argmax() > 100  # low tones at the bottom
    assert right.mean(1).argmax() < 40


def test_lightness_of_the_colours_grows_evenly():
    linear = makers.colours() / 255.0
    linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    lightness = 116 * np.cbrt(luminance) - 16  # CIELAB, another space than the one they were made in
    steps = np.diff(lightness[8:])
    assert (np.diff(lightness) > -0.2).all()
    assert steps.std() < 0.35


def test_a_file_that_was_replaced_is_not_shown(numbered, tmp_path):
    path = tmp_path / "x.mkv"
    path.write_bytes(numbered.read_bytes())
    of = stretch(path, 0, 2)
    path.write_bytes(make_video(tmp_path / "y.mkv", seconds=3).read_bytes())
    with pytest.raises(MediaError) as caught:
        makers.strip(str(tmp_path / "s.jpg"), of)
    assert caught.value.reason == "changed"


def test_making_needs_no_torch():
    code = "import sys, seehear.app.makers, seehear.app.workshop; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_same_stretch_gives_the_same_picture(numbered, tmp_path):
    made = []
    for name in ("a", "b"):
        makers.strip(str(tmp_path / name), stretch(numbered, 2.0, 4.0))
        made.append((tmp_path / name).read_bytes())
    assert made[0] == made[1]
    assert Image.open(io.BytesIO(made[0])).size == (1280, 120)
