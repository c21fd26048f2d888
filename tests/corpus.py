"""Small videos made on the spot, good and broken, for the tests of the whole project.

Everything is written with PyAV's own encoders, is deterministic for a seed, and is small: a clip of
`make_collection` takes under 20 ms.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition

VIDEO_CODECS = {"h264": "libx264", "mpeg4": "mpeg4", "vp9": "libvpx-vp9", "mjpeg": "mjpeg"}
RATE_CLOCKED = {"mpeg4", "mpeg1video", "mpeg2video", "dvvideo", "msmpeg4", "wmv2", "rv20"}
"""Encoders that take no clock finer than their frame rate."""
AUDIO_CODECS = {"opus": "libopus", "mp3": "libmp3lame"}

FrameMaker = Callable[[int, float], np.ndarray]


def tone(seconds: float, rate: int, channels: int = 1, hz: float = 440.0, level: float = 0.3) -> np.ndarray:
    """A sine of shape (channels, samples), float32."""
    times = np.arange(round(seconds * rate)) / rate
    return np.tile((level * np.sin(2 * np.pi * hz * times)).astype(np.float32), (channels, 1))


def clicks(seconds: float, rate: int, at: Sequence[float], channels: int = 1) -> np.ndarray:
    """Silence with one 1-ms burst starting at each of the given times, of shape (channels, samples)."""
    wave = np.zeros((channels, round(seconds * rate)), np.float32)
    for time in at:
        first = round(time * rate)
        wave[:, first : first + max(2, rate // 1000)] = 0.9
    return wave


def numbered_frames(size: tuple[int, int]) -> FrameMaker:
    """Frames that name themselves: `frame_number` reads the index (0-4095) back after lossy coding."""
    width, height = size

    def make(index: int, _time: float) -> np.ndarray:
        frame = np.zeros((height, width, 3), np.uint8)
        for bit in range(12):
            left, right = width * bit // 12, width * (bit + 1) // 12
            frame[:, left:right] = 220 if index >> bit & 1 else 30
        return frame

    return make


def frame_number(frame: np.ndarray) -> int:
    """The index that `numbered_frames` wrote into a decoded frame of shape (H, W, 3)."""
    width = frame.shape[1]
    middles = [(2 * bit + 1) * width // 24 for bit in range(12)]
    row = frame[frame.shape[0] // 2].mean(axis=-1)
    return sum(int(row[x] > 125) << bit for bit, x in enumerate(middles))


def flash_frames(size: tuple[int, int], at: Sequence[float], fps: float) -> FrameMaker:
    """Black frames, with a white one at the first frame at or after each of the given times."""
    width, height = size
    white = {int(np.ceil(time * fps - 1e-9)) for time in at}

    def make(index: int, _time: float) -> np.ndarray:
        return np.full((height, width, 3), 250 if index in white else 5, np.uint8)

    return make


def make_video(
    path: str | Path,
    *,
    seconds: float = 2.5,
    fps: float | Fraction = 15,
    size: tuple[int, int] = (64, 48),
    frames: FrameMaker | Sequence[np.ndarray] | None = None,
    frame_times: Sequence[float] | None = None,
    codec: str = "h264",
    pixel_format: str | None = None,
    gop: int = 12,
    bframes: int = 0,
    rotation: int = 0,
    video_offset: float = 0.0,
    wave: np.ndarray | None = None,
    rate: int = 24000,
    layout: str | None = None,
    audio_codec: str | None = None,
    audio_offset: float = 0.0,
    audio_seconds: float | None = None,
    has_video: bool = True,
    has_audio: bool = True,
    container: str | None = None,
    options: dict[str, str] | None = None,
    video_options: dict[str, str] | None = None,
    audio_options: dict[str, str] | None = None,
    more_tracks: Sequence[np.ndarray] = (),
    default_track: int | None = None,
    metadata: dict[str, str] | None = None,
) -> Path:
    """Write one video.

    `frames(index, time)` gives frames of shape (height, width, 3) uint8 (default `numbered_frames`);
    `frame_times` makes the rate variable; `wave` is float32 of shape (channels, samples), by default a
    440 Hz tone; the offsets (>= 0) put the start of a stream later on the container's timeline;
    `rotation` is the display rotation in degrees counter-clockwise; `options` are the container's,
    `video_options` and `audio_options` the encoders', `metadata` the file's. `more_tracks` are further sound
    tracks like `wave`, and `default_track` is the number of the only one that is marked as default.
    """
    path = Path(path)
    rate_fraction = Fraction(fps).limit_denominator(1001)
    if frame_times is None:
        frame_times = [float(i / rate_fraction) for i in range(round(seconds * rate_fraction))]
    make = numbered_frames(size) if frames is None else frames
    name = AUDIO_CODECS.get(audio_codec or "", audio_codec)
    if name is None:
        name = {".webm": "libopus", ".ogg": "libopus", ".wav": "pcm_s16le", ".avi": "libmp3lame"}.get(
            path.suffix, "aac"
        )
    if wave is None:
        wave = tone(seconds if audio_seconds is None else audio_seconds, rate)

    with av.open(str(path), "w", format=container, options=options or {}) as out:
        out.metadata.update(metadata or {})
        packets = []
        video, audios = None, []
        if has_video:
            encoder = VIDEO_CODECS.get(codec, codec)
            video = out.add_stream(encoder, rate=rate_fraction)
            video.width, video.height = size
            video.pix_fmt = pixel_format or ("yuvj420p" if encoder == "mjpeg" else "yuv420p")
            video.codec_context.thread_count = 1
            video.codec_context.gop_size = gop
            base = 1 / rate_fraction if encoder in RATE_CLOCKED else Fraction(1, 90000)
            video.codec_context.time_base = base
            if encoder == "libx264":
                video.options = {"preset": "ultrafast", "bf": "0", "g": str(gop), "x264-params": "threads=1"}
                if bframes:
                    video.options |= {
                        "preset": "veryfast",
                        "bf": str(bframes),
                        "x264-params": "threads=1:b-adapt=0:scenecut=0",
                    }
            elif encoder == "libvpx-vp9":
                video.options = {"cpu-used": "8", "deadline": "realtime", "g": str(gop)}
            elif encoder == "mpeg4":
                video.options = {"bf": str(bframes), "g": str(gop), "qscale": "4"}
            video.options |= video_options or {}
            if rotation:
                video.set_display_rotation(rotation)
        for number, track in enumerate([wave, *more_tracks] if has_audio else []):
            audio = out.add_stream(name, rate=rate)
            audio.codec_context.layout = layout or {1: "mono", 2: "stereo", 6: "5.1"}[track.shape[0]]
            audio.codec_context.thread_count = 1
            if name == "aac":
                audio.options = {"aac_coder": "fast"}
            audio.options |= audio_options or {}
            if default_track is not None:
                audio.disposition = Disposition.default if number == default_track else Disposition(0)
            audios.append((audio, track))
        if video is not None:
            for index, time in enumerate(frame_times):
                picture = make(index, time) if callable(make) else make[index]
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.time_base = base
                frame.pts = round((time + video_offset) / base)
                packets += video.encode(frame)
            packets += video.encode(None)
        for audio, track in audios:
            packets += _encode_audio(audio, track, rate, audio_offset)
        for packet in sorted(packets, key=lambda p: float((p.dts or 0) * p.time_base)):
            out.mux(packet)
    return path


def _encode_audio(stream: av.AudioStream, wave: np.ndarray, rate: int, offset: float) -> list[av.Packet]:
    context = stream.codec_context
    context.open()
    sample_format = context.format.name
    step = context.frame_size or 1024
    packets = []
    for first in range(0, wave.shape[1], step):
        part = wave[:, first : first + step]
        if sample_format.startswith("u8"):
            part = (part * 127 + 128).astype(np.uint8)
        elif sample_format.startswith("s16"):
            part = (part * 32767).astype(np.int16)
        elif sample_format.startswith("s32"):
            part = (part * float(2**31 - 128)).astype(np.int32)
        if not sample_format.endswith("p"):
            part = part.T.reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(part), format=sample_format, layout=context.layout.name)
        frame.sample_rate = rate
        frame.time_base = Fraction(1, rate)
        frame.pts = first + round(offset * rate)
        packets += stream.encode(frame)
    return packets + stream.encode(None)


# ---------------------------------------------------------------- a collection that can be learnt from


def make_collection(
    folder: str | Path,
    n: int = 24,
    classes: int = 4,
    seed: int = 0,
    *,
    seconds: float = 2.5,
    fps: int = 15,
    size: tuple[int, int] = (64, 48),
    rate: int = 24000,
    split: float = 0.25,
) -> Path:
    """`n` short videos of `classes` kinds that both eye and ear can tell apart, and `labels.csv` beside them.

    A class is a colour, a direction of motion and a chord with its own tremolo; brightness, phase, position,
    loudness, pitch and noise vary from clip to clip. Labels go round (clip i is of class i % classes), and
    the last `split` of the clips are of split "test". Returns the path of labels.csv (path, label, split).
    """
    folder = Path(folder)
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    rows = []
    for index in range(n):
        kind = index % classes
        name = f"clips/clip_{index:04d}.mp4"
        make_video(
            folder / name,
            seconds=seconds,
            fps=fps,
            size=size,
            frames=_class_frames(kind, classes, round(seconds * fps), size, rng),
            wave=_class_wave(kind, classes, seconds, rate, rng),
            rate=rate,
            codec="mpeg4",
            gop=15,
        )
        rows.append((name, f"class_{kind}", "test" if index >= n * (1 - split) else "train"))
    table = folder / "labels.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "label", "split"), *rows])
    return table


def _class_frames(
    kind: int, classes: int, count: int, size: tuple[int, int], rng: np.random.Generator
) -> list[np.ndarray]:
    width, height = size
    hue = 2 * np.pi * kind / classes
    colour = 0.5 + 0.45 * np.cos(hue - 2 * np.pi * np.arange(3) / 3) + rng.normal(0, 0.04, 3)
    angle = np.pi * kind / classes
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    along = columns * np.cos(angle) + rows * np.sin(angle)
    phase, speed = rng.uniform(0, 2 * np.pi), 0.3 * rng.uniform(0.8, 1.2)
    noise = rng.normal(0, 0.06, (height, width, 1)).astype(np.float32)
    light = rng.uniform(0.7, 1.0)
    frames = []
    for index in range(count):
        stripes = 0.6 + 0.4 * np.sin(2 * np.pi * along / 16 + phase + speed * index)
        picture = light * stripes[..., None] * colour + noise
        frames.append((picture.clip(0, 1) * 255).astype(np.uint8))
    return frames


def _class_wave(kind: int, classes: int, seconds: float, rate: int, rng: np.random.Generator) -> np.ndarray:
    times = np.arange(round(seconds * rate)) / rate
    pitch = 220 * 16 ** (kind / classes) * rng.uniform(0.96, 1.04)
    wave = np.sin(2 * np.pi * pitch * times + rng.uniform(0, 6))
    wave += 0.5 * np.sin(2 * np.pi * 1.5 * pitch * times + rng.uniform(0, 6))
    wave *= 1 + 0.8 * np.sin(2 * np.pi * (2 + kind) * times + rng.uniform(0, 6))
    wave = rng.uniform(0.1, 0.2) * wave + rng.normal(0, 0.02, len(times))
    return wave.clip(-1, 1).astype(np.float32)[None]


# ---------------------------------------------------------------- broken files


def make_broken(folder: str | Path) -> dict[str, str]:
    """Write files that are broken in many ways; {name: the reason for which a scan must reject it}."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    good = make_video(folder / "source.mp4", seconds=6, gop=6)
    front = make_video(folder / "front.mp4", seconds=6, gop=6, options={"movflags": "faststart"})
    mkv = make_video(folder / "whole.mkv", seconds=6, gop=6)
    data, front_data, mkv_data = (path.read_bytes() for path in (good, front, mkv))
    for path in (good, front, mkv):
        path.unlink()

    texts: dict[str, tuple[bytes, str]] = {
        "empty.mp4": (b"", "empty"),
        "text.mp4": (b"this is no video\n" * 400, "not_media"),
        "noise.mp4": (np.random.default_rng(1).bytes(50_000), "not_media"),
        "picture.mp4": (b"\x89PNG\r\n\x1a\n" + bytes(2000), "not_media"),
        "zeros.mkv": (bytes(20_000), "not_media"),
        "hls.mp4": (b"#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\nsecret.mp4\n#EXT-X-ENDLIST\n", "unsafe"),
        "concat.mp4": (b"ffconcat version 1.0\nfile secret.mp4\n", "unsafe"),
        "dash.mp4": (
            b'<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"></MPD>\n',
            "unsafe",
        ),
        "index_lost.mp4": (data[: len(data) // 2], "truncated"),  # the index stands at the end
        "header_only.mp4": (data[:24], "truncated"),
        "cut_at_60.mp4": (front_data[: len(front_data) * 6 // 10], "truncated"),
        "cut_at_85.mp4": (front_data[: len(front_data) * 85 // 100], "truncated"),
        "cut_at_50.mkv": (mkv_data[: len(mkv_data) // 2], "truncated"),
    }
    for name, (content, _) in texts.items():
        (folder / name).write_bytes(content)
    reasons = {name: reason for name, (_, reason) in texts.items()}

    make_video(folder / "no_sound.mp4", has_audio=False)
    make_video(folder / "no_picture.m4a", has_video=False)
    make_video(folder / "silent.mp4", wave=np.zeros((1, 60000), np.float32))
    make_video(folder / "short.mp4", seconds=0.4)
    make_video(folder / "short_sound.mp4", audio_seconds=0.4)
    make_video(folder / "apart.mp4", seconds=3, audio_seconds=2, audio_offset=2.6)
    (folder / "gone.mp4").symlink_to(folder / "nowhere.mp4")
    (folder / "device.mp4").symlink_to("/dev/null")
    return reasons | {
        "no_sound.mp4": "no_audio",
        "no_picture.m4a": "no_video",
        "silent.mp4": "silent",
        "short.mp4": "too_short",
        "short_sound.mp4": "audio_too_short",
        "apart.mp4": "too_short",
        "gone.mp4": "missing",
        "device.mp4": "not_media",
    }


def make_huge(path: str | Path, side: int = 12_000, *, honest: bool = True) -> Path:
    """A small MJPEG .mov whose frames claim `side` x `side` pixels; its header says so too when `honest`."""
    path = make_video(path, seconds=2, codec="mjpeg", audio_codec="pcm_s16le")
    data = path.read_bytes()
    small, large = [(n).to_bytes(2, "big") for n in (64, 48)], side.to_bytes(2, "big")
    frame_size = b"\xff\xc0\x00\x11\x08" + small[1] + small[0]
    header_size = b"".join(small) + bytes.fromhex("0048000000480000")
    assert frame_size in data
    assert header_size in data
    data = data.replace(frame_size, frame_size[:5] + large + large)
    if honest:
        data = data.replace(header_size, large + large + header_size[4:])
    path.write_bytes(data)
    return path
