"""Files with several sound tracks: which one is taken, and that it is the one that is heard everywhere."""

from __future__ import annotations

import base64
import io

import av
import numpy as np
import pytest

from seehear.data.cache import MediaCache
from seehear.data.clips import Video, clip_refs, plain_requests
from seehear.data.loader import ClipLoader
from seehear.data.manifest import Manifest
from seehear.data.scanning import scan
from seehear.data.views import Statistics
from seehear.engine.stop import StopRequest
from seehear.errors import MediaError, UsageError
from seehear.media.decode import Window, decode
from seehear.media.probe import probe
from seehear.pretraining.run import scan_with_progress
from seehear.progress import Progress
from seehear.recipes import recipe
from seehear.report.thumbnails import QUALITIES, Source, make_thumbnail
from seehear.settings import with_settings
from tests.conftest import TINY_SETTINGS
from tests.corpus import make_video, tone

RATE, SECONDS = 24000, 2.5
LOW, HIGH = (tone(SECONDS, RATE, hz=hz) for hz in (440, 1320))
SILENCE = np.zeros_like(LOW)
STUB = tone(0.2, RATE)


def pitch(wave, rate):
    """The strongest frequency, in Hz."""
    return int(np.argmax(np.abs(np.fft.rfft(wave * np.hanning(len(wave))))) * rate / len(wave))


def heard(path, track):
    """The frequency of one second of a file's sound track."""
    got = decode(path, [Window(0.8, 2, 15, 1.0)], short_side_px=24, sample_rate_hz=8000, audio_track=track)
    return pitch(got[0].waveform, 8000)


def with_tracks(path, *tracks, **settings):
    return make_video(path, seconds=SECONDS, wave=tracks[0], more_tracks=tracks[1:], **settings)


@pytest.mark.parametrize(("tracks", "default", "taken"), [
    ((LOW, HIGH), None, 0),
    ((LOW, HIGH), 0, 0),
    ((LOW, HIGH), 1, 1),
    ((SILENCE, HIGH), None, 1),
    ((SILENCE, HIGH), 0, 1),  # a default that is silent
    ((LOW, SILENCE), 1, 0),
    ((SILENCE, SILENCE, HIGH, LOW), None, 2),
    ((STUB, HIGH), None, 1),  # a track that ends at once
])  # fmt: skip
def test_the_default_track_is_taken_or_the_first_that_is_not_silent(tmp_path, tracks, default, taken):
    row = probe(with_tracks(tmp_path / "v.mkv", *tracks, default_track=default))
    assert (row.usable, row.reason, row.audio_track) == (True, None, taken)
    assert row.audio_rms_dbfs > -30
    assert heard(row.path, taken) == (440 if tracks[taken] is LOW else 1320)


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv", "ts", "avi", "webm", "nut"])
def test_a_silent_first_track_is_passed_over_in_every_container(tmp_path, ending):
    codec = {"webm": {"codec": "vp9", "rate": 24000}, "avi": {"codec": "mpeg4"}}.get(ending, {})
    row = probe(with_tracks(tmp_path / f"v.{ending}", SILENCE, HIGH, **codec))
    assert (row.usable, row.audio_track) == (True, 1)
    assert heard(row.path, 1) == 1320


def test_files_with_one_track_or_none_are_as_before(tmp_path):
    assert probe(make_video(tmp_path / "one.mp4")).audio_track == 0
    assert probe(make_video(tmp_path / "none.mp4", has_audio=False), need=["video"]).audio_track is None


def test_where_all_tracks_are_silent_the_first_says_why(tmp_path):
    row = probe(with_tracks(tmp_path / "v.mkv", SILENCE, SILENCE))
    assert (row.usable, row.reason, row.audio_track) == (False, "silent", 0)


def test_a_track_can_be_chosen(tmp_path):
    path = with_tracks(tmp_path / "v.mkv", LOW, HIGH, SILENCE)
    assert [probe(path, audio_track=n).audio_track for n in (0, 1)] == [0, 1]
    assert probe(path, audio_track=2).reason == "silent"
    absent = probe(path, audio_track=3)
    assert (absent.usable, absent.reason, absent.audio_track) == (False, "no_audio", None)
    assert "3 sound tracks" in absent.detail
    assert probe(path, audio_track=3, need=["video"]).usable
    for number in (3, -1):
        with pytest.raises(MediaError, match="no sound"):
            heard(path, number)


# ------------------------------------------------------------ the manifest and what follows from it


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tracks")
    with_tracks(folder / "a.mkv", SILENCE, HIGH)
    with_tracks(folder / "b.mkv", LOW, HIGH)
    return folder


def test_the_manifest_says_which_track(folder, tmp_path):
    manifest = scan(folder, out=tmp_path / "m.parquet", workers=0)
    assert Manifest.load(tmp_path / "m.parquet").by_id("audio_track") == {"a.mkv": 1, "b.mkv": 0}
    assert "1 usable by another sound track" in manifest.summary_text()
    chosen = scan(folder, out=tmp_path / "m.parquet", workers=0, audio_track=1)  # looks at all of them again
    assert chosen.by_id("audio_track") == {"a.mkv": 1, "b.mkv": 1}
    assert chosen.fingerprint() != manifest.fingerprint()  # features of other sound are other features
    with pytest.raises(UsageError, match="from 0"):
        scan(folder, audio_track=-1)


def test_a_manifest_without_the_column_means_the_first_track(folder):
    manifest = scan(folder, workers=0, audio_track=0)
    older = Manifest(manifest.table.drop_columns(["audio_track"]), manifest.info)
    assert older.column("audio_track") == [None, None]
    assert older.fingerprint() == manifest.fingerprint()
    assert Video.from_row(older.usable_rows()[0], ("video", "audio")).audio_track == 0


def test_a_setting_chooses_the_track_of_a_run(folder, tmp_path):
    config = with_settings(recipe("small", "xdc"), [*TINY_SETTINGS, "data.audio_track=1"])
    with Progress(quiet=True) as progress:
        found = scan_with_progress(folder, config, progress, StopRequest())
        assert found.by_id("audio_track") == {"a.mkv": 1, "b.mkv": 1}
        found.save(tmp_path / "m.parquet")
        again = scan_with_progress(tmp_path / "m.parquet", config, progress, StopRequest())
        assert again.table.equals(found.table)
        scan(folder, workers=0, out=tmp_path / "other.parquet")
        with pytest.raises(UsageError, match="--audio-track 1"):
            scan_with_progress(tmp_path / "other.parquet", config, progress, StopRequest())
    with pytest.raises(UsageError, match="from 0"):
        with_settings(recipe("small", "xdc"), ["data.audio_track=-1"]).check()


@pytest.mark.parametrize("cached", [False, True], ids=["streamed", "cached"])
def test_clips_hear_the_track_of_the_manifest(folder, tmp_path, cached):
    config = with_settings(recipe("small", "xdc"), TINY_SETTINGS)
    cache = MediaCache(tmp_path / "cache", 1 << 30) if cached else None
    for track, pitches in ((None, [1320, 440]), (1, [1320, 1320])):
        rows = scan(folder, workers=0, audio_track=track).usable_rows()
        videos = [Video.from_row(row, ("video", "audio")) for row in rows]
        views = {"video": "video", "audio": "audio"}
        with ClipLoader(videos, config, views, Statistics(), workers=0, cache=cache) as loader:
            loader.fill_cache()
            requests = plain_requests(clip_refs(videos, config.cluster), loader.videos, config.clip)
            waves = [sound for _, _, sound in loader.clips(requests)]
        assert [pitch(wave, config.clip.sample_rate_hz) for wave in waves] == pitches


def test_the_page_s_thumbnails_have_the_track_s_sound(folder):
    for track, hz in ((0, 440), (1, 1320)):
        made = make_thumbnail(Source(folder / "b.mkv", 0.0, 2.0, audio_track=track), QUALITIES[0])
        with av.open(io.BytesIO(base64.b64decode(made.base64))) as container:
            sound = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
        assert abs(pitch(sound, QUALITIES[0].sample_rate_hz) - hz) < 3
