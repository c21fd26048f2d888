"""Files of many makes, each with a flash and a beep at times that are known: both are found where they are.

`FILMS` is the table, a row a file. Every file is scanned, decoded around its flashes, and read as training reads it:
from the cache, and clip by clip from places drawn at random. A row whose file cannot be used says for what reason.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as replaced
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition

import seehear
from seehear.config import ClusterConfig
from seehear.data.cache import MediaCache
from seehear.data.clips import ClipRequest, Video, clip_refs, plain_requests, training_requests
from seehear.data.loader import ClipLoader
from seehear.data.views import Statistics
from seehear.media.decode import Decoded, Window, decode
from seehear.pretraining.plan import make_config
from tests.conftest import TINY_SETTINGS
from tests.corpus import make_video

SECONDS = 5.0
AT = (2.0, 4.0)
"""When the picture flashes and the sound beeps, both for `LASTS` seconds."""
LASTS = 0.2
APART = 0.03
"""So far apart may the two be found, in seconds."""
BEEP_HZ, LOUD = 1000, 0.5
CLIP = make_config(
    settings=[*TINY_SETTINGS, "clip.frames=15", "clip.frame_rate_hz=15", "clip.sample_rate_hz=16000",
              "augment.independent_jitter=true"]
)  # fmt: skip

Change = Callable[[Path], None]
"""What happens to a file after it was written."""


@dataclass(frozen=True)
class Film:
    """A row of the table: a file, and what must be found in it."""

    name: str
    made: Mapping[str, Any]
    """How `make_video` writes it."""
    then: Change | None = None
    at: tuple[float, ...] = AT
    """When there is a flash and a beep, in seconds after the file's time zero."""
    refused: str | None = None
    """The reason for which it cannot be used."""
    detail: str = ""
    """What the reason says in words."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What its row of the manifest says."""

    @property
    def fps(self) -> float:
        return float(self.made.get("fps", 25))

    @property
    def frame_seconds(self) -> float:
        """The longest time from one frame to the next."""
        times = self.made.get("frame_times")
        return 1 / self.fps if times is None else float(np.diff(times).max())


def film(
    name: str,
    *,
    then: Change | None = None,
    at: tuple[float, ...] = AT,
    refused: str | None = None,
    detail: str = "",
    facts: Mapping[str, Any] | None = None,
    **made: Any,
) -> Film:
    return Film(name, made, then, at, refused, detail, facts or {})


# ---------------------------------------------------------------- what happens to files


def torn(share: float) -> Change:
    """A download that stopped."""

    def change(path: Path) -> None:
        data = path.read_bytes()
        path.write_bytes(data[: round(share * len(data))])

    return change


def shifted(seconds: float) -> Change:
    """Copied packet by packet with earlier time stamps: what lies before 0 is hidden by an edit list."""

    def change(path: Path) -> None:
        whole = path.rename(path.with_stem("whole"))
        with av.open(str(whole)) as source, av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as out:
            streams = [out.add_stream_from_template(stream) for stream in source.streams]
            for packet in source.demux():
                if packet.dts is not None and packet.pts is not None:
                    ticks = round(seconds / packet.time_base)
                    packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
                    packet.stream = streams[packet.stream.index]
                    out.mux(packet)
        whole.unlink()

    return change


def edited(*parts: tuple[float, float]) -> Change:
    """An MP4 of which only the parts (start, seconds) are shown, one after the other, by its edit lists."""

    def change(path: Path) -> None:
        data = bytearray(path.read_bytes())
        at = -1
        while (at := data.find(b"elst", at + 1)) >= 0:
            _rewrite_edits(data, at, parts)
        path.write_bytes(data)

    return change


def _rewrite_edits(data: bytearray, at: int, parts: Sequence[tuple[float, float]]) -> None:
    """Replace the entries of the edit list at `data[at:]` and correct the sizes of all the boxes around it."""

    def number(place: int) -> int:
        return int.from_bytes(data[place : place + 4], "big")

    movie_clock = number(data.find(b"mvhd") + 16)
    track_clock = number(data.find(b"mdhd", at) + 16)
    first = number(at + 16)  # what the one entry so far skips: the codec's delay
    entries = b"".join(
        struct.pack(">IIHH", round(seconds * movie_clock), first + round(start * track_clock), 1, 0)
        for start, seconds in parts
    )
    size = number(at - 4)
    grown = 16 + len(entries) - size
    data[at + 8 : at - 4 + size] = len(parts).to_bytes(4, "big") + entries
    for box in (b"elst", b"edts", b"trak", b"moov"):
        place = data.rfind(box, 0, at + 4) - 4
        data[place : place + 4] = (number(place) + grown).to_bytes(4, "big")


def covered(how: str, *, keep: tuple[str, ...] = ("video", "audio")) -> Change:
    """With a picture of the cover before the streams to `keep`.

    how: "tagged" as what it is, "attached" as a file (Matroska), or as a "track" of one frame like any other
    """

    def change(path: Path) -> None:
        whole = path.rename(path.with_name("whole.mkv"))
        picture = av.VideoFrame.from_ndarray(np.full((96, 96, 3), 240, np.uint8), format="rgb24")
        picture.pts, picture.time_base = 0, Fraction(1, 25)
        with av.open(str(whole)) as source, av.open(str(path), "w") as out:
            if how == "attached":
                jpeg = av.CodecContext.create("mjpeg", "w")
                assert isinstance(jpeg, av.VideoCodecContext)
                jpeg.width, jpeg.height, jpeg.pix_fmt, jpeg.time_base = 96, 96, "yuvj420p", Fraction(1, 25)
                packets = [*jpeg.encode(picture), *jpeg.encode(None)]
                out.add_attachment("cover.jpg", "image/jpeg", b"".join(bytes(packet) for packet in packets))
                packets = []
            else:
                cover = out.add_stream("mjpeg", rate=25)
                cover.width, cover.height, cover.pix_fmt = 96, 96, "yuvj420p"
                if how == "tagged":
                    cover.disposition = Disposition.attached_pic
                packets = [*cover.encode(picture), *cover.encode(None)]
            streams = {s.index: out.add_stream_from_template(s) for s in source.streams if s.type in keep}
            out.mux(packets)
            for packet in source.demux():
                if packet.dts is not None and packet.stream.index in streams:
                    packet.stream = streams[packet.stream.index]
                    out.mux(packet)
        whole.unlink()

    return change


# ---------------------------------------------------------------- the table

FAST_VPX = {"deadline": "realtime", "cpu-used": "8"}
FAST_X265 = {"preset": "ultrafast", "x265-params": "log-level=none:pools=none:frame-threads=1"}
FRAGMENTS = "frag_keyframe+default_base_moof"
WMA = {"audio_codec": "wmav2", "rate": 44100, "audio_options": {"b": "128k"}}
LATER = (2.05, 4.05)  # WMA's encoder begins with 46 ms of silence
DV = {"codec": "dvvideo", "audio_codec": "pcm_s16le", "layout": "stereo", "seconds": 3.0, "at": AT[:1]}
STEPS = np.random.default_rng(3).choice([0.02, 0.033, 0.05, 0.1], 97)
UNEVEN = sorted({*AT, 0.0, *np.cumsum(STEPS).round(3).tolist()})
SPARSE = sorted({*AT, 0.0, 2.2, 4.2, *(np.random.default_rng(4).choice(125, 50, replace=False) / 25).tolist()})
JUMPY = [*np.arange(30) / 10, *(3 + np.arange(120) / 60)]

FILMS: tuple[Film, ...] = (
    # the codecs and containers that people have
    film("h264.mp4", bframes=2, facts={"video_codec": "h264", "audio_codec": "aac"}),
    film("long_gop.mp4", bframes=3, gop=500),
    film("hevc_10_bit.mp4", codec="libx265", pixel_format="yuv420p10le", video_options=FAST_X265),
    film("av1.mp4", codec="libsvtav1", video_options={"preset": "12"}),
    film("av1.webm", codec="libsvtav1", video_options={"preset": "12"}),
    film("vp9.webm", codec="vp9"),
    film("vp8_without_duration.webm", codec="libvpx", video_options=FAST_VPX, options={"live": "1"}),
    film("short_vp8.webm", codec="libvpx", video_options=FAST_VPX, seconds=3.0, at=(2.0,)),
    film("fragmented.mp4", options={"movflags": f"{FRAGMENTS}+empty_moov"}),
    film("fragmented_b.mp4", bframes=2, options={"movflags": f"{FRAGMENTS}+empty_moov"}, at=(2.08, 4.08)),
    film("fragmented_with_edits.mp4", bframes=2, options={"movflags": f"{FRAGMENTS}+delay_moov"}),
    film("mpeg1.mpg", codec="mpeg1video", audio_codec="mp2", rate=44100),
    film("mpeg2.mpg", codec="mpeg2video", audio_codec="mp2"),
    film("mpeg2.vob", codec="mpeg2video", audio_codec="ac3"),
    film("mpeg2.ts", codec="mpeg2video", audio_codec="ac3", video_options={"bf": "2"}),
    film("camcorder.mts", audio_codec="ac3", bframes=2, gop=12, options={"mpegts_m2ts_mode": "1"}),
    film("mpeg2.mxf", codec="mpeg2video", audio_codec="pcm_s16le"),
    film("mjpeg.avi", codec="mjpeg", audio_codec="pcm_s16le", rate=11025),  # on a clock so fine that it repeats frames
    film("repeats.avi", codec="mpeg4", audio_codec="pcm_s16le", frame_times=SPARSE),
    film("mjpeg_u8.avi", codec="mjpeg", audio_codec="pcm_u8", rate=11025),
    film("msmpeg4.avi", codec="msmpeg4", audio_codec="mp3", rate=44100),
    film("pal.dv", pixel_format="yuv420p", size=(720, 576), **DV),
    film("ntsc_dv.avi", pixel_format="yuv411p", size=(720, 480), fps=Fraction(30000, 1001), **DV),
    film("prores.mov", codec="prores_ks", pixel_format="yuv422p10le", audio_codec="pcm_s24le"),
    film("wmv2.wmv", codec="wmv2", at=LATER, **WMA),
    film("wma.avi", codec="msmpeg4", fps=50, at=LATER, **WMA),
    film("theora.ogv", codec="libtheora", audio_codec="opus"),
    film("flv1.flv", codec="flv", audio_codec="mp3", rate=44100),
    film("h264.flv", rate=44100, bframes=2),
    film("h263.3gp", codec="h263", size=(176, 144), audio_codec="libopencore_amrnb", rate=8000),
    film("ffv1.mkv", codec="ffv1", audio_codec="flac"),
    film("lossless_sound.mov", codec="mjpeg", audio_codec="alac", rate=44100),
    film("hevc.nut", codec="libx265", video_options=FAST_X265),
    # streams that begin or end apart
    film("late_sound.mp4", audio_offset=0.7, facts={"audio_start_seconds": 0.68}),
    film("late_sound.mkv", audio_offset=0.7),
    film("late_sound.ts", audio_offset=0.7, bframes=2),
    film("late_picture.mp4", video_offset=0.72, facts={"video_start_seconds": 0.72}),
    film("late_picture.mkv", video_offset=0.72, audio_codec="opus"),
    film("late_picture.ts", video_offset=0.72),
    film("late_picture.flv", video_offset=0.72, rate=44100),
    film("short_sound.mp4", audio_seconds=4.5),
    film("short_picture.mkv", seconds=4.5, audio_seconds=5.0),
    film("after_an_hour.mkv", options={"output_ts_offset": "3600"}, facts={"video_start_seconds": 0.02}),
    film("long_after_midnight.ts", options={"output_ts_offset": "80000"}),
    film("clock_wraps.ts", options={"output_ts_offset": "95440"}, bframes=2),
    # edit lists
    film("starts_hidden.mp4", then=shifted(-0.5), at=(1.5, 3.5)),
    film("starts_hidden_b.mov", bframes=2, then=shifted(-0.7), at=(1.3, 3.3)),
    film("trimmed.mp4", bframes=2, then=edited((0.72, 4.0)), at=(1.28, 3.28)),
    film("middle_cut_out.mp4", then=edited((0.0, 2.48), (2.96, 1.9)), at=(2.0, 3.52)),
    # rates
    film("uneven.mp4", frame_times=UNEVEN, bframes=2, facts={"variable_frame_rate": True}),
    film("uneven.mkv", frame_times=UNEVEN),
    film("slow_then_fast.mp4", frame_times=JUMPY, facts={"variable_frame_rate": True}),
    film("a_frame_a_second.mp4", fps=1, facts={"frame_rate_hz": 1.0}),
    film("240_frames_a_second.mp4", fps=240, facts={"frame_rate_hz": 240.0}),
    film("ntsc.mkv", fps=Fraction(30000, 1001), facts={"variable_frame_rate": False}),
    # pictures
    film("rotated_90.mp4", rotation=90, facts={"rotation_degrees": 90}),
    film("rotated_180.mov", rotation=180, facts={"rotation_degrees": 180}),
    film("rotated_270.mp4", rotation=270, facts={"rotation_degrees": 270}),
    # sounds
    film("5_1.mp4", layout="5.1", facts={"channels": 6}),
    film("5_1.mkv", layout="5.1", audio_codec="ac3", facts={"channels": 6}),
    film("96_khz.mkv", audio_codec="flac", rate=96000, facts={"sample_rate_hz": 96000}),
    film("96_khz_aac.mp4", rate=96000, facts={"sample_rate_hz": 96000}),
    film("8_khz.mov", audio_codec="pcm_alaw", rate=8000, facts={"sample_rate_hz": 8000}),
    film("8_khz_aac.mp4", rate=8000, facts={"sample_rate_hz": 8000}),
    # streams beside picture and sound
    film("cover.mp4", then=covered("tagged"), facts={"video_codec": "h264", "width": 64}),
    film("cover.mkv", then=covered("attached"), facts={"video_codec": "h264", "width": 64}),
    film("cover_track.mkv", then=covered("track"), facts={"video_codec": "h264", "width": 64}),
    film("cover_alone.mp4", then=covered("tagged", keep=("audio",)), refused="no_video"),
    film("timecode.mov", metadata={"timecode": "01:00:00:00"}),
    # downloads that stopped
    film("torn.mp4", then=torn(0.6), refused="truncated", detail="index"),
    film("torn_fast_start.mp4", options={"movflags": "faststart"}, then=torn(0.7), refused="truncated"),
    film("torn.mkv", then=torn(0.6), refused="truncated"),
    film("torn_after_an_hour.mkv", options={"output_ts_offset": "3600"}, then=torn(0.6), refused="truncated"),
    film("torn.avi", codec="mjpeg", then=torn(0.6), refused="truncated"),
    film("torn.flv", rate=44100, then=torn(0.6), refused="truncated"),
    film("torn.wmv", codec="wmv2", then=torn(0.6), at=LATER[:1], **WMA),
    film("torn.ts", then=torn(0.6), at=(2.0,)),
    film("torn.mpg", codec="mpeg2video", audio_codec="mp2", then=torn(0.6), at=(2.0,)),
    film("torn_live.webm", codec="libvpx", video_options=FAST_VPX, options={"live": "1"}, then=torn(0.6), at=(2.0,)),
    film("torn_fragments.mp4", options={"movflags": f"{FRAGMENTS}+empty_moov"}, then=torn(0.7), refused="truncated"),
)  # fmt: skip


# ---------------------------------------------------------------- writing and finding


def shown(size: tuple[int, int], at: Sequence[float], lasts: float) -> Callable[[int, float], np.ndarray]:
    """Dark frames, and white ones but for a dark quarter (top left) for a while from each of the times.

    Their grain gives each frame a size in bytes as real ones have it, so that no packet holds a second of them.
    """
    width, height = size
    grain = np.random.default_rng(0).integers(0, 20, (height, width, 1), np.uint8)

    def make(index: int, time: float) -> np.ndarray:
        lit = any(start - 1e-6 <= time < start + lasts - 1e-6 for start in at)
        frame = np.full((height, width, 3), 220 if lit else 20, np.uint8)
        frame[: height // 2, : width // 2] = 20
        return frame + np.roll(grain, (5 * index, 7 * index), (0, 1))

    return make


def beeps(seconds: float, rate: int, at: Sequence[float], channels: int) -> np.ndarray:
    """Silence, and a beep from each of the times, in the last channel alone."""
    wave = np.zeros((channels, round(seconds * rate)), np.float32)
    for start in at:
        times = np.arange(round(LASTS * rate)) / rate
        first = round(start * rate)
        wave[-1, first : first + len(times)] = LOUD * np.sin(2 * np.pi * BEEP_HZ * times)
    return wave


def written(row: Film, folder: Path) -> Path:
    """Write the file of a row; skips where this PyAV has no encoder for it."""
    made = {"seconds": SECONDS, "size": (64, 48), "rate": 48000, "gop": 25, "layout": "mono", "fps": 25} | row.made
    lasts = max(LASTS, 1 / row.fps)
    at = AT if row.made.get("seconds", SECONDS) > AT[1] + LASTS else AT[:1]
    channels = {"mono": 1, "stereo": 2, "5.1": 6}[made["layout"]]
    sound = made.pop("audio_seconds", made["seconds"])
    try:
        return make_video(
            folder / row.name,
            frames=shown(made["size"], [time - made.get("video_offset", 0.0) for time in at], lasts),
            wave=beeps(sound, made["rate"], [time - made.get("audio_offset", 0.0) for time in at], channels),
            **made,
        )
    except av.codec.codec.UnknownCodecError as error:
        pytest.skip(f"this build of PyAV has no encoder {error}")


def flash_in(frames: np.ndarray, times: np.ndarray) -> float:
    """When the first lit frame of (T, H, W, 3) is shown."""
    lit = frames.mean(axis=(1, 2, 3)) > 110
    assert lit.any(), "no flash"
    return float(times[lit.argmax()])


def beep_in(wave: np.ndarray, start: float, rate: int, loud: float) -> float:
    """When the sound first swings half as far as the beep does."""
    heard = np.abs(wave) > loud / 2
    assert heard.any(), "no beep"
    return start + float(heard.argmax()) / rate


def check_upright(frame: np.ndarray, degrees: int) -> None:
    """Of a lit frame the dark quarter lies where the rotation (counter-clockwise) brings it."""
    height, width = frame.shape[0] // 2, frame.shape[1] // 2
    quarters = {
        0: frame[:height, :width], 90: frame[height:, :width],
        180: frame[height:, width:], 270: frame[:height, width:],
    }  # fmt: skip
    levels = {turn: float(quarter.mean()) for turn, quarter in quarters.items()}
    assert levels.pop(degrees) < 60
    assert min(levels.values()) > 190


def check_clip(row: Film, frames: np.ndarray, wave: np.ndarray, request: ClipRequest, loud: float) -> None:
    """What a clip of training shows and plays is what there is at its time, frame by frame and 10 ms by 10 ms."""
    lasts = max(LASTS, 1 / row.fps)
    times = request.start_seconds + np.arange(len(frames)) / CLIP.clip.frame_rate_hz
    for time, level in zip(times, frames.mean(axis=(1, 2, 3)), strict=True):
        edges = [edge for start in row.at for edge in (start, start + lasts)]
        if min(abs(time - edge) for edge in edges) > row.frame_seconds:
            assert (level > 110) == any(start < time < start + lasts for start in row.at), time
    step = CLIP.clip.sample_rate_hz // 100
    for first in range(0, len(wave) - step + 1, step):
        time = request.audio_start_seconds + (first + step / 2) / CLIP.clip.sample_rate_hz
        edges = [edge for start in row.at for edge in (start, start + LASTS)]
        if min(abs(time - edge) for edge in edges) > APART + 0.02:
            heard = np.abs(wave[first : first + step]).max() > loud / 2
            assert heard == any(start < time < start + LASTS for start in row.at), time


@pytest.mark.parametrize("row", FILMS, ids=[row.name for row in FILMS])
def test_flash_and_beep_are_found_together(row: Film, tmp_path: Path) -> None:
    path = written(row, tmp_path)
    if row.then is not None:
        row.then(path)
    (found,) = seehear.scan(path, workers=0).rows()
    if row.refused is not None:
        assert (found["usable"], found["reason"]) == (False, row.refused)
        assert row.detail in found["detail"]
        return
    assert found["usable"], f"{found['reason']}: {found['detail']}"
    for name, value in row.facts.items():
        assert found[name] == (pytest.approx(value, abs=0.05) if isinstance(value, float) else value), name
    loud = LOUD / found["channels"]
    check_windows(row, path, found["rotation_degrees"], loud)
    check_training(row, Video.from_row(found, ("video", "audio")), loud, tmp_path)


def check_windows(row: Film, path: Path, degrees: int, loud: float) -> None:
    """Around each flash, frame by frame at the file's own rate, in one pass and window by window."""
    windows = [
        Window(start - before, round(1.1 * max(row.fps, 3.0)), max(row.fps, 3.0), 1.1)
        for start in row.at
        for before in (0.83, 0.5)
    ]

    def look(*some: Window) -> list[Decoded]:
        return decode(path, some, short_side_px=32, sample_rate_hz=24000)

    starts = np.repeat(row.at, 2)
    for start, *both in zip(starts, look(*windows), (look(window)[0] for window in windows), strict=True):
        for one in both:
            assert one.frames is not None and one.frame_pts_seconds is not None
            assert one.waveform is not None and one.audio_start_seconds is not None
            flash = flash_in(one.frames, one.frame_pts_seconds)
            beep = beep_in(one.waveform, one.audio_start_seconds, 24000, loud)
            assert abs(flash - start) < row.frame_seconds + 1e-3
            assert abs(beep - flash) < APART
            check_upright(one.frames[one.frames.mean(axis=(1, 2, 3)).argmax()], degrees)


def check_training(row: Film, video: Video, loud: float, folder: Path) -> None:
    """Clips of the whole file as they are evaluated (from the cache) and trained on (drawn at random, streamed)."""
    refs = clip_refs([video], ClusterConfig(clips_per_video=3))
    known = {video.video_id: video}
    views = {"video": "video", "audio": "audio"}
    plain = plain_requests(refs, known, CLIP.clip, count=2)
    order = np.arange(9) % len(refs)
    drawn = training_requests(refs, order, known, CLIP.clip, CLIP.augment, (0, 0))
    together = training_requests(
        refs, order[:3], known, CLIP.clip, replaced(CLIP.augment, independent_jitter=False), (1, 0)
    )
    cache = MediaCache(folder / "cache", 2**30)
    for kept, requests in ((cache, plain + together), (None, drawn + together)):
        with ClipLoader([video], CLIP, views, Statistics(), workers=0, cache=kept) as loader:
            if kept is not None:
                assert loader.fill_cache() == {"cached": 1, "streamed": 0}
            clips = list(loader.clips(requests))
            assert not loader.failures.reports
        assert [request for request, _, _ in clips] == requests
        for request, frames, wave in clips:
            assert frames is not None and wave is not None
            check_clip(row, frames, wave, request, loud)
