"""Indexes of generated vectors, and copies of runs that a test may write into."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from seehear.media.identity import Identity
from seehear.search.calibration import calibrate
from seehear.search.index import Index
from seehear.search.layout import Content, Labels, read_generation, write_generation
from seehear.search.nearest import write_inverted_files
from seehear.search.segments import IndexedVideo


def unit_rows(x: np.ndarray) -> np.ndarray:
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def kinds(rng: np.random.Generator, rows: int, dimensions: int, centres: int, spread: float = 0.5) -> np.ndarray:
    """Unit rows around some centres, which go round."""
    middle = rng.normal(size=(centres, dimensions))
    return unit_rows(middle[np.arange(rows) % centres] + spread * rng.normal(size=(rows, dimensions)))


def made_index(
    folder: Path, video: np.ndarray, audio: np.ndarray, *, rows_a_video: int = 4, large: bool = False
) -> Index:
    """An index of these unit rows, in both the streams' own and the joint space; rows that are zero lack the stream."""
    rows = len(video)
    place = (np.arange(rows) // rows_a_video).astype(np.int32)
    names = [f"v{i}.mp4" for i in range(int(place[-1]) + 1)]
    videos = [
        IndexedVideo(name, Path("/nowhere") / name, Identity(f"{i:032x}", 1, 1), 0.0, 8.0, "mp4", "h264", "aac")
        for i, name in enumerate(names)
    ]
    start = (np.arange(rows) % rows_a_video) * 2.0
    given = {"video": video, "audio": audio}
    has = {name: x.any(1) for name, x in given.items()}
    features = {n: np.where(has[n][:, None], x, np.nan).astype(np.float32) for n, x in given.items()}
    none, ranks = np.zeros(rows, np.float32), np.arange(1, rows + 1, dtype=np.int32)
    labels = Labels(np.zeros(rows, np.int32), none, none, ranks)
    content = Content(
        videos, place, start, start + 2.0, features,
        {"video": video, "audio": audio, "across.video": video, "across.audio": audio}, has,
        {"centre.video": np.zeros(video.shape[1]), "centre.audio": np.zeros(audio.shape[1])}, {"both": labels},
        {
            "every_seconds": 2.0, "encoder": "elsewhere", "encoders": {"video": "video", "audio": "audio"},
            "model": None, "across": "a test", "across_kind": None, "labels_keys": {"both": "x"}, "left_out": [],
            "exact_up_to": 10 if large else 1_000_000,
        },
    )  # fmt: skip
    content.facts["calibration"] = calibrate(content)

    def also(within: Path, what: Content) -> None:
        what.facts["nearest"] = write_inverted_files(within, what)

    made = write_generation(folder / "index", content, "made", also if large else None)
    return Index(folder, made, read_generation(made))


def copied(run: Path, folder: Path) -> Path:
    """A copy of a run, without an index."""
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns("index", "checkpoints", "tensorboard"))
    return folder
