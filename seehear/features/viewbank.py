"""Features of clips and of augmented views of them, by an encoder that stays as it is: extracted once, kept on disk.

A bank is a folder within the user's cache, named by a hash of the encoder and of what a clip is to it. It grows by
segments: folders with `features.npy`, (N, D) float32, `index.arrow`, one row each, and `hashes.json`. A segment appears
whole or not at all and never changes, so that any process may read, and any add, at any time. What a row is of stands
in its key: the video by content, where the clip begins, how it is played and turned, and which augmentation it is.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from seehear.config import Config
from seehear.data.clips import Video
from seehear.errors import RunError, UsageError
from seehear.files import new_folder, remove_leftovers, user_cache_folder, writing
from seehear.hashes import check_hashes, write_hashes
from seehear.settings import to_dict

_FEATURES, _INDEX, _USED = "features.npy", "index.arrow", "used"
# What a clip is to an encoder of each stream, of the settings `clip`.
_CLIP = {
    "video": ("frames", "frame_rate_hz", "stride", "short_side_px", "crop_px"),
    "audio": ("audio_seconds", "sample_rate_hz"),
}
_AUGMENT = {
    "video": ("crop", "flip_probability", "short_side_range_px", "colour_jitter"),
    "audio": ("volume_jitter",),
}
_VERSION = 1
PLAIN = -1
"""The number of the view that is not augmented."""


def bank_name(content: str, config: Config, stream: str) -> str:
    """The name of the bank of an encoder with this `content` for clips of these settings: 32 hexadecimal digits."""
    clip = to_dict(config)["clip"]
    parts = [_VERSION, content, stream, {name: clip[name] for name in _CLIP[stream]}]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def banks_folder(config: Config) -> Path:
    """Where banks lie: beside the decoded media."""
    own = config.data.cache_folder
    return Path(own).absolute() / "banks" if own else user_cache_folder() / "banks"


def draws(config: Config, stream: str) -> bool:
    """Whether augmented views of a stream differ from the plain one."""
    augment = config.augment
    if stream == "audio":
        return augment.volume_jitter > 0
    drawn = augment.short_side_range_px is not None or augment.colour_jitter > 0 or augment.flip_probability > 0
    return drawn or augment.crop == "random"


@dataclass(frozen=True)
class Act:
    """How a clip is played and turned before an encoder sees it."""

    speed: int = 1
    acts: tuple[tuple[str, int], ...] = ()
    """Factors that act on it and their values, by name; a value of 0 changes nothing and is left out."""

    @property
    def text(self) -> str:
        return ",".join([f"speed={self.speed}"] * (self.speed > 1) + [f"{name}={value}" for name, value in self.acts])


def view_texts(config: Config, stream: str, acts: Sequence[Act], augmentations: int) -> list[list[str]]:
    """What the views of a moment are called in keys: of each act so many augmentations; with 0 the plain one alone.

    The same settings of augmentation give the same names, whatever the run.
    """
    augment = to_dict(config)["augment"]
    drawn = json.dumps({name: augment[name] for name in _AUGMENT[stream]}, sort_keys=True)
    own = hashlib.sha256(drawn.encode()).hexdigest()[:12]
    if not augmentations:
        return [[act.text] for act in acts]
    return [[f"{act.text}#{own}.{number}" for number in range(augmentations)] for act in acts]


def video_number(video: Video, stream: str) -> int:
    """A video by its content, and of its sound by the track: 64 bits."""
    track = video.audio_track if stream == "audio" else 0
    return _number(f"{video.fingerprint} {track}")


def keys_of(videos: np.ndarray, starts: np.ndarray, views: Sequence[str]) -> np.ndarray:
    """Keys of rows: `videos` (N,) uint64, `starts` (N, M) in microseconds int64, V views, to (N, M, V) of 24 bytes."""
    names = np.array([_number(view) for view in views], dtype=np.uint64)
    shape = (*starts.shape, len(views))
    parts = np.empty((*shape, 3), dtype=">u8")
    parts[..., 0] = videos[:, None, None]
    parts[..., 1] = starts.astype(np.int64).view(np.uint64)[..., None]
    parts[..., 2] = names
    return np.ascontiguousarray(parts).view("S24").reshape(shape)


def microseconds(starts: Any, rate_hz: float) -> np.ndarray:
    """Starts on the frame grid as whole microseconds, int64."""
    return np.round(np.asarray(starts, dtype=np.float64) / rate_hz * 1e6).astype(np.int64)


def _number(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "big")


class ViewBank:
    """The features (N, D) of a bank, found by keys.

    Attributes:
        damaged: segments that were found damaged when they were opened; they are gone.
    """

    def __init__(self, folder: Path, dim: int) -> None:
        self.folder, self.dim = folder, dim
        self.damaged: list[str] = []
        self._segments: list[np.ndarray] = []
        self.open()

    def open(self) -> None:
        """Look at what there is now. A damaged segment is deleted: its rows are missing again."""
        self._segments, keys = [], []
        if self.folder.is_dir():
            remove_leftovers(self.folder)
            with writing(self.folder / _USED):
                (self.folder / _USED).touch()
        for path in sorted(self.folder.glob("segment-*")):
            try:
                check_hashes(path)
                with pa.OSFile(str(path / _INDEX)) as file:
                    column = pa.ipc.open_file(file).read_all()["key"]
                keys.append(np.array(column.to_pylist(), dtype="S24"))
                features = np.load(path / _FEATURES, mmap_mode="r", allow_pickle=False)
                if features.shape != (len(keys[-1]), self.dim) or features.dtype != np.float32:
                    raise ValueError(f"features of shape {features.shape}")
            except (RunError, OSError, ValueError, KeyError, pa.ArrowInvalid):
                keys = keys[: len(self._segments)]
                self.damaged.append(path.name)
                shutil.rmtree(path, ignore_errors=True)
                continue
            self._segments.append(features)
        self._first = np.cumsum([0, *map(len, self._segments)])
        every = np.concatenate(keys) if keys else np.empty(0, dtype="S24")
        self._order = np.argsort(every, kind="stable")
        self._keys = every[self._order]

    def __len__(self) -> int:
        return int(self._first[-1])

    def find(self, keys: np.ndarray) -> np.ndarray:
        """The rows of keys of any shape, int64 of that shape; -1 for one that there is not."""
        if not len(self._keys):
            return np.full(keys.shape, -1, dtype=np.int64)
        place = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[place] == keys, self._order[place], -1)

    def take(self, rows: np.ndarray) -> np.ndarray:
        """The features of rows (M,), none of them -1: (M, D) float32."""
        found = np.empty((len(rows), self.dim), dtype=np.float32)
        segment = np.searchsorted(self._first, rows, side="right") - 1
        for number in np.unique(segment):
            of = segment == number
            found[of] = self._segments[number][rows[of] - self._first[number]]
        return found

    def add(self, keys: np.ndarray, features: np.ndarray) -> None:
        """Write rows, (N,) keys and (N, D) features, as a new segment; `open` finds them. `DestinationError` if not."""
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        name = f"segment-{time.time_ns():020d}-{os.getpid()}"
        buffer = pa.py_buffer(np.ascontiguousarray(keys.astype("S24")))
        column = pa.Array.from_buffers(pa.binary(24), len(keys), [None, buffer])
        with new_folder(self.folder / name) as temporary, writing(self.folder / name):
            np.save(temporary / _FEATURES, np.ascontiguousarray(features, dtype=np.float32), allow_pickle=False)
            table = pa.table({"key": column})
            with pa.OSFile(str(temporary / _INDEX), "wb") as sink, pa.ipc.new_file(sink, table.schema) as file:
                file.write_table(table)
            write_hashes(temporary, (_FEATURES, _INDEX))


def make_room(config: Config, needed: Mapping[str, int]) -> None:
    """Make room for so many more bytes in each bank, by name: others go, those used last staying.

    Raises `UsageError` if these banks alone would be more than `bank.gib`.
    """
    root, budget = banks_folder(config), int(config.bank.gib * 2**30)
    if not any(needed.values()):
        return
    sizes: dict[str, int] = {}
    used: dict[str, float] = {}
    for folder in root.iterdir() if root.is_dir() else ():
        if folder.is_dir():
            sizes[folder.name] = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            mark = folder / _USED
            used[folder.name] = (mark if mark.exists() else folder).stat().st_mtime
    own = sum(sizes.get(name, 0) + more for name, more in needed.items())
    if own > budget:
        raise UsageError(
            f"the features of these videos take {own / 2**30:.2f} GiB, and bank.gib is {config.bank.gib:g}",
            f"--set bank.gib={own / 2**30 + 1:.0f}, or fewer: bank.moments, bank.augmentations, cluster.averaged_clips",
        )
    total = sum(sizes.values()) + sum(needed.values())
    for name in sorted(used, key=used.__getitem__):
        if total <= budget:
            break
        if name not in needed:
            shutil.rmtree(root / name, ignore_errors=True)
            total -= sizes[name]
