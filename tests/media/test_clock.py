"""Files whose clock jumps: recordings joined from several, breaks of a broadcast, wraps after 26.5 hours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from seehear.data.clips import Video
from seehear.media.decode import Decoded, Window, decode
from seehear.media.probe import ProbeResult, probe
from tests.corpus import clicks, flash_frames, make_video

FPS = 20
SECONDS = 4.0
AT = (1.0, 3.0)
"""When each part flashes and clicks, in seconds after its start."""


def part(path: Path, offset: float = 0.0, container: str = "mpegts", **made: object) -> Path:
    options = {"output_ts_offset": str(offset)} if offset else {}
    settings: dict = {
        "seconds": SECONDS, "fps": FPS, "rate": 48000, "gop": 10, "bframes": 2, "options": options,
        "frames": flash_frames((64, 48), AT, FPS), "wave": clicks(SECONDS, 48000, AT),
    }  # fmt: skip
    return make_video(path, container=container, **settings | made)


def joined(path: Path, parts: Sequence[Path]) -> Path:
    path.write_bytes(b"".join(one.read_bytes() for one in parts))
    return path


def look(row: ProbeResult, windows: Sequence[Window]) -> list[Decoded]:
    return decode(row.path, windows, short_side_px=24, sample_rate_hz=24000, clock_jumps=bool(row.clock_jumps))


def events(row: ProbeResult) -> list[tuple[float, float]]:
    """(flash, click) times of the whole file, found in windows of a second, each in its own opening."""
    found: list[tuple[float, float]] = []
    for start in np.arange(0.25, row.video_duration_seconds - 1, 0.5):
        (one,) = look(row, [Window(float(start), FPS, FPS, 1.0)])
        assert one.frames is not None and one.frame_pts_seconds is not None and one.waveform is not None
        flashes = one.frame_pts_seconds[one.frames.mean(axis=(1, 2, 3)) > 125]
        click = np.flatnonzero(np.abs(one.waveform) > 0.3)
        if len(flashes) and len(click) and one.start_seconds + 0.1 < flashes[0] < one.start_seconds + 0.85:
            pair = float(flashes[0]), one.audio_start_seconds + click[0] / 24000
            if not found or pair[0] - found[-1][0] > 0.5:
                found.append(pair)
    return found


@pytest.mark.parametrize("offsets", [(0, 5000), (5000, 0), (0, 0), (0, 10), (0, 5000, 90), (95000, 0), (0, 95000)])
def test_a_recording_joined_from_several_is_one(tmp_path: Path, offsets: tuple[float, ...]) -> None:
    parts = [part(tmp_path / f"{number}.ts", offset) for number, offset in enumerate(offsets)]
    row = probe(joined(tmp_path / "all.ts", parts))
    assert row.usable, row
    assert row.clock_jumps == len(parts) - 1
    assert row.video_duration_seconds == pytest.approx(SECONDS * len(parts), abs=0.25)
    assert row.audio_duration_seconds == pytest.approx(SECONDS * len(parts), abs=0.25)
    assert row.frame_count == FPS * SECONDS * len(parts)
    found = events(row)
    assert len(found) == len(AT) * len(parts)
    for (flash, click), due in zip(found, [SECONDS * n + at for n in range(len(parts)) for at in AT], strict=True):
        assert abs(flash - due) < 0.25  # each join may add a few frames
        assert abs(flash - click) < 0.03


def test_any_window_of_it_decodes_and_is_the_same_alone_and_together(tmp_path: Path) -> None:
    parts = [part(tmp_path / "a.ts"), part(tmp_path / "b.ts", 700)]
    row = probe(joined(tmp_path / "all.ts", parts))
    video = Video.from_row(vars(row) | {"video_id": "all"}, ("video", "audio"))
    assert video.clock_jumps
    rng = np.random.default_rng(0)
    frames = [Window(float(t), 5, 10.0) for t in rng.uniform(video.start_seconds, video.end_seconds - 0.5, 6)]
    sound = [Window(float(t), 0, 0.0, 0.7) for t in rng.uniform(video.start_seconds, video.end_seconds - 0.7, 6)]
    for window, one in zip(frames + sound, look(row, frames + sound), strict=True):
        (alone,) = look(row, [window])
        assert one.start_seconds == alone.start_seconds == window.start_seconds
        if window.frame_count:
            np.testing.assert_array_equal(one.frames, alone.frames)
            assert np.abs(one.frame_pts_seconds - window.start_seconds - np.arange(5) / 10).max() < 0.1
        else:
            assert len(one.waveform) == round(0.7 * 24000)


def test_other_formats_of_recorders(tmp_path: Path) -> None:
    made = {"codec": "mpeg2video", "audio_codec": "mp2", "bframes": 0, "size": (352, 240),
            "frames": flash_frames((352, 240), AT, 25), "fps": 25}  # fmt: skip
    parts = [part(tmp_path / f"{n}.mpg", container="mpeg", **made) for n in range(2)]
    row = probe(joined(tmp_path / "all.mpg", parts))
    assert row.usable, row
    assert row.clock_jumps == 1
    assert row.video_duration_seconds == pytest.approx(2 * SECONDS, abs=0.3)
    assert all(abs(flash - click) < 0.04 for flash, click in events(row))


def test_a_clock_that_wraps_has_not_jumped(tmp_path: Path) -> None:
    row = probe(part(tmp_path / "wraps.ts", 2**33 / 90000 - 2.0))
    assert row.usable, row
    assert row.clock_jumps == 0
    assert row.video_duration_seconds == pytest.approx(SECONDS, abs=0.1)
    assert len(events(row)) == len(AT)


def test_a_stream_that_pauses_is_no_jump(tmp_path: Path) -> None:
    slides = [0.0, 5.0, 5.05, 11.0, 11.05]
    row = probe(part(tmp_path / "slides.ts", frame_times=slides, wave=clicks(12, 48000, [1.0]) + 0.01, bframes=0))
    assert row.clock_jumps == 0
    assert row.video_duration_seconds == pytest.approx(11.1, abs=0.1)


def test_formats_with_an_index_have_no_such_clock(tmp_path: Path) -> None:
    path = make_video(tmp_path / "gap.mp4", frame_times=[0, 0.1, 6, 6.1], wave=clicks(1, 24000, [0.5]) + 0.01)
    assert probe(path).clock_jumps == 0
