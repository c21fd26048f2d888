"""Near duplicates: copies in other sizes, formats and volumes are found; what only begins alike is not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seehear.cli import main
from seehear.media.fingerprints import MOST_STRETCHES, STRETCH_SECONDS, picture_bits, sound_bits, stretches
from seehear.search.building import build_index
from seehear.search.duplicates import find_duplicates
from seehear.search.index import Index
from tests.corpus import make_video
from tests.search.made import copied

FPS, RATE = 15, 24000


def scene(seed: int, seconds: float, size: tuple[int, int] = (96, 72)) -> list[np.ndarray]:
    """Frames of blots that wander, drawn at any size alike."""
    rng = np.random.default_rng(seed)
    centres, speeds = rng.uniform(0, 1, (6, 2)), rng.uniform(-0.3, 0.3, (6, 2))
    colours, widths = rng.uniform(40, 255, (6, 3)), rng.uniform(0.05, 0.2, 6)
    y, x = np.mgrid[: size[1], : size[0]]
    frames = []
    for index in range(round(seconds * FPS)):
        picture = np.zeros((size[1], size[0], 3))
        for c, v, colour, w in zip(centres, speeds, colours, widths, strict=True):
            cx, cy = (c + v * index / FPS) % 1
            blot = np.exp(-(((x / size[0] - cx) ** 2 + (y / size[1] - cy) ** 2) / (2 * w**2)))
            picture += blot[..., None] * colour
        frames.append(picture.clip(0, 255).astype(np.uint8))
    return frames


def noise(seed: int, seconds: float) -> np.ndarray:
    """Sound whose bands come and go."""
    rng = np.random.default_rng(seed)
    times = np.arange(round(seconds * RATE)) / RATE
    wave = np.zeros(len(times))
    for hz in np.geomspace(250, 3000, 24):
        beat = np.interp(times, np.arange(0, seconds + 1, 0.2), rng.uniform(0, 1, len(np.arange(0, seconds + 1, 0.2))))
        wave += beat * np.sin(2 * np.pi * hz * times + rng.uniform(0, 6))
    return (0.3 * wave / np.abs(wave).max()).astype(np.float32)[None]


def write(path: Path, frames: list[np.ndarray], wave: np.ndarray, **options: Any) -> None:
    """A video of these frames, all of them."""
    size = frames[0].shape[1], frames[0].shape[0]
    make_video(path, fps=FPS, seconds=len(frames) / FPS, frames=frames, size=size, wave=wave, rate=RATE, **options)


@pytest.fixture(scope="module")
def found(finished_run, tmp_path_factory):
    """The groups among videos, copies of them and what is only a little like them; the run and the folder."""
    folder = tmp_path_factory.mktemp("copies")
    for seed in (1, 2, 3):
        write(folder / f"a{seed}.mp4", scene(seed, 5), noise(seed, 5))
    # Copies: another size, codec, container, bit rate, volume, and all of it.
    write(folder / "a1_small.mp4", scene(1, 5, (64, 48)), noise(1, 5))
    write(folder / "a1_quiet.mkv", scene(1, 5), 0.2 * noise(1, 5))
    write(folder / "a2_other.webm", scene(2, 5, (128, 96)), 0.7 * noise(2, 5), codec="vp9")
    write(
        folder / "a3_coarse.avi", scene(3, 5), noise(3, 5), codec="mpeg4", video_options={"qscale": "20"},
        audio_options={"b": "32000"},
    )  # fmt: skip
    # No copies: three seconds of black, or of the same intro, then something else; one picture with other sounds.
    black = [np.zeros((72, 96, 3), np.uint8)] * (3 * FPS)
    mute = np.zeros((1, 3 * RATE), np.float32)
    for seed in (4, 5):
        write(folder / f"black{seed}.mp4", black + scene(seed, 2), np.concatenate([mute, noise(seed, 2)], axis=1))
        wave = np.concatenate([noise(9, 3), noise(seed + 10, 2)], axis=1)
        write(folder / f"intro{seed}.mp4", scene(9, 3) + scene(seed + 10, 2), wave)
        write(folder / f"room{seed}.mp4", scene(20, 5), noise(seed + 20, 5))
    write(folder / "long1.mp4", scene(1, 7), noise(1, 7))
    write(folder / "dark1.mp4", black, noise(31, 3))
    write(folder / "dark2.mp4", black, noise(32, 3))
    shutil.copy(folder / "a3.mp4", folder / "zz_same_bytes.mp4")
    run = copied(finished_run, tmp_path_factory.mktemp("run") / "run")
    build_index(run, folder, every_seconds=1.0, workers=0)
    return run, folder, find_duplicates(Index.open(run))


def test_copies_are_found_and_nothing_else(found):
    groups = [[copy.video_id for copy in group] for group in found[2].groups]
    assert sorted(map(sorted, groups)) == [
        ["a1.mp4", "a1_quiet.mkv", "a1_small.mp4"],
        ["a2.mp4", "a2_other.webm"],
        ["a3.mp4", "a3_coarse.avi", "zz_same_bytes.mp4"],
    ]
    assert [copy.indexed for copy in found[2].groups[1] if copy.video_id == "zz_same_bytes.mp4"] in ([False], [])
    assert not found[2].left_out


def test_a_second_call_opens_no_file(found, monkeypatch):
    run, _, first = found

    def none(*_: object) -> None:
        raise AssertionError("a file was opened")

    monkeypatch.setattr("seehear.search.duplicates.looks_of", none)
    again = find_duplicates(Index.open(run))
    assert again.as_dict() == first.as_dict()


def test_damaged_fingerprints_are_made_again_and_bad_files_listed(found, tmp_path):
    run, folder, first = found
    copy, videos = tmp_path / "run", tmp_path / "videos"
    shutil.copytree(run, copy)
    shutil.copytree(folder, videos)
    build_index(copy, videos, every_seconds=1.0, workers=0)
    for path in (copy / "index" / "duplicates").iterdir():
        path.write_bytes(b"nothing")
    (videos / "a1_small.mp4").unlink()
    again = find_duplicates(Index.open(copy))
    assert [report["reason"] for report in again.left_out] == ["missing"]
    assert len(again.groups) == len(first.groups)


def test_the_command_lists_the_groups(found, capsys):
    run, _, first = found
    main(["duplicates", str(run), "--workers", "0"])
    text = capsys.readouterr().out
    assert "copies of 3 videos" in text and "a2_other.webm" in text and "the same bytes" in text
    main(["duplicates", str(run), "--workers", "0", "--json"])
    assert json.loads(capsys.readouterr().out) == first.as_dict()


def test_bits_of_pictures_follow_the_transform():
    frames = np.stack(scene(1, 0.2))[:2]
    bits, plain = picture_bits(frames)
    from PIL import Image

    for frame, found_bits in zip(frames, bits, strict=True):
        grey = np.asarray(Image.fromarray(frame).convert("L").resize((32, 32), Image.Resampling.BOX)).astype(float)
        k = np.arange(32)
        scale = np.where(k == 0, np.sqrt(1 / 32), np.sqrt(2 / 32))[:, None]
        basis = np.cos(np.pi * (2 * k[None] + 1) * k[:, None] / 64) * scale
        lowest = (basis @ grey @ basis.T)[:8, :8].reshape(-1)[1:]
        expected = sum(1 << i for i in range(63) if lowest[i] > np.median(lowest))
        assert bin(int(found_bits) ^ expected).count("1") <= 1
    assert not plain.any()
    assert picture_bits(np.full((3, 40, 40, 3), 17, np.uint8))[1].all()


def test_bits_of_sound_stand_volume_and_are_those_of_nothing_in_silence():
    wave = noise(1, 3)[0, ::3]
    bits, silent = sound_bits(wave)
    quiet, _ = sound_bits(0.1 * wave)
    other, _ = sound_bits(noise(2, 3)[0, ::3])
    assert not silent.any()
    assert np.bitwise_count(bits ^ quiet).mean() < 1
    assert np.bitwise_count(bits ^ other).mean() > 12
    assert sound_bits(np.zeros(24000, np.float32))[1].all()
    assert len(sound_bits(np.zeros(100, np.float32))[0]) == 0


def test_long_videos_are_looked_at_in_stretches():
    assert stretches(1.0, 11.0) == [(1.0, 11.0)]
    assert [round(b - a, 6) for a, b in stretches(0.0, 90.0)] == [30.0] * 3
    many = stretches(0.0, 36_000.0)
    assert len(many) == MOST_STRETCHES and many[0][0] == 0 and many[-1][1] == pytest.approx(36_000)
    assert all(b - a == pytest.approx(STRETCH_SECONDS) for a, b in many)
