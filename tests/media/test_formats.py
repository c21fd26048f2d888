from __future__ import annotations

import av
import pytest

from seehear.data.scanning import scan
from seehear.errors import MediaError
from seehear.media.decode import Window, decode, open_media
from seehear.media.formats import AUDIO_EXTENSIONS, CONTAINERS, DEMUXERS, VIDEO_EXTENSIONS
from tests.corpus import frame_number, make_video, tone

MPEG2 = {"codec": "mpeg2video", "fps": 25, "rate": 48000}
DV = {"codec": "dvvideo", "size": (720, 576), "fps": 25, "rate": 48000, "audio_codec": "pcm_s16le", "container": "dv"}
VIDEOS = {
    "a.mxf": MPEG2 | {"audio_codec": "pcm_s16le"},
    "a.gxf": MPEG2 | {"audio_codec": "pcm_s16le", "size": (720, 576), "gop": 5},
    "a.dv": DV,
    "a.dif": DV,
    "a.wtv": MPEG2 | {"audio_codec": "mp2"},
    "a.mod": MPEG2 | {"audio_codec": "ac3", "container": "vob"},
    "a.vob": MPEG2 | {"audio_codec": "mp2"},
    "a.evo": MPEG2 | {"audio_codec": "ac3", "container": "vob"},
    "a.tod": MPEG2 | {"audio_codec": "ac3", "container": "mpegts"},
    "a.mts": {"fps": 25, "container": "mpegts"},
    "a.m2t": {"fps": 25, "container": "mpegts"},
    "a.dvr-ms": MPEG2 | {"audio_codec": "mp2", "container": "asf"},
    "a.asf": {"codec": "msmpeg4", "audio_codec": "mp3", "fps": 25, "rate": 44100},
    "a.rm": {"codec": "rv20", "audio_codec": "ac3", "fps": 25, "rate": 44100, "size": (176, 144)},
    "a.nut": {},
    "a.ogm": {"codec": "vp8", "audio_codec": "opus", "fps": 25, "rate": 48000, "container": "ogg"},
    "a.divx": {"codec": "mpeg4", "audio_codec": "mp3", "container": "avi"},
    "a.f4v": {"container": "mp4"},
    "a.qt": {"container": "mov"},
}
SOUNDS = {
    "a.wv": ("wavpack", "wv"), "a.tta": ("tta", "tta"), "a.ac3": ("ac3", "ac3"), "a.eac3": ("eac3", "eac3"),
    "a.mp2": ("mp2", "mp2"), "a.aifc": ("pcm_s16be", "aiff"), "a.snd": ("pcm_s16be", "au"), "a.voc": ("pcm_u8", "voc"),
    "a.m4b": ("aac", "ipod"),
}  # fmt: skip


@pytest.mark.parametrize("name", VIDEOS)
def test_videos_of_broadcasters_and_cameras_are_found_and_decode(tmp_path, name):
    settings = dict(VIDEOS[name])
    if name.endswith(("dv", "dif")):
        settings["wave"] = tone(2.6, 48000, channels=2)
    path = make_video(tmp_path / name, seconds=2.6, **settings)
    manifest = scan(tmp_path, workers=0)
    assert [(row["video_id"], row["reason"]) for row in manifest.rows()] == [(name, None)]
    row, rate = manifest.rows()[0], float(settings.get("fps", 15))
    start = row["video_start_seconds"]
    windows = [Window(start + after, 3, rate, 0.4) for after in (1.6, 0.2, 0.8)]
    for window, got in zip(windows, decode(path, windows, short_side_px=None, sample_rate_hz=16000), strict=True):
        assert got.start_seconds == pytest.approx(window.start_seconds, abs=1e-6)
        first = frame_number(got.frames[0])
        assert [frame_number(frame) for frame in got.frames] == [first, first + 1, first + 2]
        assert (
            abs(first - (window.start_seconds - start) * rate) < 1.5
        )  # some muxers show the first frame twice as long
        assert got.waveform.std() > 0.1


@pytest.mark.parametrize("name", SOUNDS)
def test_sound_files_are_found_and_decode(tmp_path, name):
    codec, container = SOUNDS[name]
    path = make_video(
        tmp_path / name, has_video=False, audio_codec=codec, container=container, rate=48000, wave=tone(2.5, 48000)
    )
    manifest = scan(tmp_path, need=("audio",), workers=0)
    assert [(row["video_id"], row["reason"]) for row in manifest.rows()] == [(name, None)]
    got = decode(path, [Window(1.2, 0, 0.0, 0.5)], short_side_px=None, sample_rate_hz=16000)[0]
    assert got.waveform.std() == pytest.approx(0.3 / 2**0.5, rel=0.1)


def test_a_container_is_known_by_its_content_and_not_by_its_name(tmp_path):
    make_video(tmp_path / "really_mp4.mxf", seconds=1.2, container="mp4")
    manifest = scan(tmp_path, workers=0)
    assert (manifest.column("usable"), manifest.column("container")) == ([True], ["mov"])


def test_every_demuxer_of_the_list_is_there():
    names = [name for container in CONTAINERS.values() for name in container.demuxers.split(",")]
    assert len(names) == len(set(names))
    assert ",".join(names) == DEMUXERS
    known = {part for name in av.formats_available for part in name.split(",")}
    assert set(names) - known == set()
    assert not VIDEO_EXTENSIONS & AUDIO_EXTENSIONS
    endings = [e for c in CONTAINERS.values() for e in f"{c.video} {c.audio}".split()]
    assert len(endings) == len(set(endings))


REFERRING = {"concat", "hls", "dash", "imf", "image2", "webm_dash_manifest", "sdp", "rtsp", "rtp", "sap", "vobsub",
             "mlv", "lavfi"}  # fmt: skip


def test_no_demuxer_that_opens_other_files_is_in_the_list():
    assert not REFERRING & set(DEMUXERS.split(","))
    assert not [name for name in DEMUXERS.split(",") if name.endswith("_pipe")]


ATTACKS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\n{name}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile {name}\n",
    "dash": '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
    "<Representation><BaseURL>{name}</BaseURL></Representation></AdaptationSet></Period></MPD>\n",
    "imf": '<?xml version="1.0"?>\n<CompositionPlaylist xmlns="http://www.smpte-ra.org/schemas/2067-3/2016">'
    "</CompositionPlaylist>\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
    "a=rtpmap:96 H264/90000\n",
    "vobsub": "# VobSub index file, v7 (do not modify this line!)\nid: en, index: 0\n",
    "real": "file://{path}\n",
    "asx": '<asx version="3.0"><entry><ref href="{path}"/></entry></asx>\n',
}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("ending", ["mxf", "rm", "gxf", "wtv", "nut", "mod", "ogm", "asf", "dv", "ivf"])
def test_playlists_and_descriptions_stay_refused_whatever_they_are_called(tmp_path, attack, ending):
    secret = make_video(tmp_path / "secret.mp4", seconds=1.2)
    path = tmp_path / f"list.{ending}"
    path.write_text(ATTACKS[attack].format(name=secret.name, path=secret))
    with pytest.raises(MediaError) as error, open_media(path):
        pass
    assert error.value.reason in ("unsafe", "not_media")
    assert scan(path, workers=0).column("usable") == [False]


@pytest.mark.parametrize("ending", ["mxf", "rm", "mod"])
def test_numbered_pictures_are_not_gathered(tmp_path, ending):
    picture = b"\x89PNG\r\n\x1a\n" + bytes(200)
    for number in range(3):
        (tmp_path / f"list{number}.{ending}").write_bytes(picture)
    (tmp_path / f"list%d.{ending}").write_bytes(picture)
    assert not any(scan(tmp_path, workers=0).column("usable"))
