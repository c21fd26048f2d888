"""Decoded media kept on disk: a video is decoded once and every later clip is a slice of a memory map.

An entry holds all frames of a video's usable span on the grid of `clip.frame_rate_hz` at the working size, and
the sound of that span at the working rate. Its name is a hash of the file's content and of these settings, so a
changed file or setting can never meet an old entry, and runs that share the settings share the entries. For that
to hold, only what was decoded from exactly that content may be put there (see `seehear.media.identity`).
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seehear.config import ClipConfig, Config
from seehear.data.clips import Video, first_grid_index
from seehear.files import user_cache_folder, whole_file, writing
from seehear.media import remote
from seehear.media.decode import Decoded, Window

# Longer videos are decoded clip by clip: one entry must fit a worker's memory.
LONGEST_SECONDS = 300.0

# Entries of version 1 may hold the frames of a file that had taken the place of the one that names them.
_VERSION = 2


@dataclass(frozen=True)
class CachedMedia:
    """Memory maps of one video: `frames` (K, H, W, 3) uint8, `sound` (S,) int16, either may be None."""

    origin_seconds: float
    """Time of the first frame and sample."""
    frames: np.ndarray | None
    sound: np.ndarray | None

    def clip(
        self, start_seconds: float, audio_start_seconds: float, clip: ClipConfig
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Frames (T, H, W, 3) uint8 and waveform (S,) float32 of the clip that starts there."""
        frames = sound = None
        if self.frames is not None:
            first = round((start_seconds - self.origin_seconds) * clip.frame_rate_hz)
            # A clip at the very end repeats the last frame as nearest-frame sampling does.
            index = np.minimum(first + clip.stride * np.arange(clip.frames), len(self.frames) - 1)
            frames = self.frames[index]
        if self.sound is not None:
            count = round(clip.audio_seconds * clip.sample_rate_hz)
            first = round((audio_start_seconds - self.origin_seconds) * clip.sample_rate_hz)
            first = max(0, min(first, len(self.sound) - count))
            sound = self.sound[first : first + count].astype(np.float32) / 32767
            # A window played fast may reach past the end by as much as `decode` fills with silence.
            if len(sound) < count:
                sound = np.pad(sound, (0, count - len(sound)))
        return frames, sound


class MediaCache:
    """A folder of entries within a budget. Safe to share between processes: entries appear whole or not at all."""

    def __init__(self, folder: Path, budget_bytes: int) -> None:
        self.folder = folder
        self.budget_bytes = budget_bytes

    def key(self, video: Video, clip: ClipConfig, modalities: tuple[str, ...]) -> str:
        """Name of a video's entry."""
        span = self.window(video, clip, modalities)
        settings: tuple[object, ...] = (
            _VERSION, video.fingerprint, span, clip.frame_rate_hz, clip.short_side_px, clip.sample_rate_hz, modalities
        )  # fmt: skip
        if video.audio_track and "audio" in modalities:  # so that entries of first tracks keep their names
            settings += (("audio_track", video.audio_track),)
        return hashlib.blake2b(repr(settings).encode(), digest_size=16).hexdigest()

    def entry_bytes(self, video: Video, clip: ClipConfig, modalities: tuple[str, ...]) -> int:
        """Estimated size of a video's entry."""
        size = 0
        if "video" in modalities and min(video.width, video.height) > 0:
            scale = clip.short_side_px / min(video.width, video.height)
            size += int(video.end_seconds * clip.frame_rate_hz * 3 * video.width * video.height * scale**2)
        if "audio" in modalities:
            size += int(video.end_seconds * clip.sample_rate_hz * 2)
        return size

    def window(self, video: Video, clip: ClipConfig, modalities: tuple[str, ...]) -> Window:
        """What must be decoded for a video's entry."""
        start = first_grid_index(video, clip) / clip.frame_rate_hz
        seconds = video.end_seconds - start
        frames = (
            max(clip.frames * clip.stride, int(seconds * clip.frame_rate_hz + 1e-6) + 1) if "video" in modalities else 0
        )
        return Window(
            start, frames, clip.frame_rate_hz, max(seconds, clip.audio_seconds) if "audio" in modalities else 0.0
        )

    def get(self, video: Video, clip: ClipConfig, modalities: tuple[str, ...]) -> CachedMedia | None:
        """A video's entry, or None if it is absent or damaged."""
        key = self.key(video, clip, modalities)
        origin = first_grid_index(video, clip) / clip.frame_rate_hz
        try:
            return CachedMedia(origin, *(self._open(key, m) if m in modalities else None for m in ("video", "audio")))
        except (OSError, ValueError):
            return None

    @functools.lru_cache(maxsize=8192)  # noqa: B019 - a cache lives as long as the run
    def _open(self, key: str, modality: str) -> np.ndarray:
        return np.load(self._path(key, modality), mmap_mode="r", allow_pickle=False)

    def _path(self, key: str, modality: str) -> Path:
        return self.folder / key[:2] / f"{key}.{modality}.npy"

    def put(self, key: str, decoded: Decoded) -> None:
        """Store a decoded video atomically. Raises `DestinationError` if the folder cannot be written."""
        if decoded.frames is not None:
            self._write(self._path(key, "video"), decoded.frames)
        if decoded.waveform is not None:
            samples = np.round(np.clip(decoded.waveform, -1, 1) * 32767).astype(np.int16)
            self._write(self._path(key, "audio"), samples)

    def _write(self, path: Path, array: np.ndarray) -> None:
        remedy = "name another place with data.cache_folder, or do without: data.cache_gib=0"
        with writing(path, remedy):
            path.parent.mkdir(parents=True, exist_ok=True)
            # Not `write_atomic`: an entry may be large, and should not be in memory twice.
            with whole_file(path) as file:
                np.save(file, array, allow_pickle=False)

    def make_room(self, needed_bytes: int, keep: set[str]) -> None:
        """Delete the entries least recently used until `needed_bytes` more fit the budget; never those in `keep`."""
        entries = []
        for path in self.folder.glob("*/*.npy"):
            try:
                stat = path.stat()
            except FileNotFoundError:
                continue
            entries.append((max(stat.st_atime, stat.st_mtime), stat.st_size, path))
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries, key=lambda e: e[0]):
            if total + needed_bytes <= self.budget_bytes:
                break
            if path.name.partition(".")[0] not in keep:
                path.unlink(missing_ok=True)
                total -= size


def media_cache(config: Config) -> MediaCache | None:
    """The cache of decoded media as the settings say."""
    if config.data.cache_gib <= 0:
        return None
    if config.data.cache_folder:
        folder = Path(config.data.cache_folder)
    else:
        folder = user_cache_folder() / "media"
    return MediaCache(folder, int(config.data.cache_gib * 2**30))


def stream_as(config: Config) -> None:
    """Read files on servers as the settings say, in this process and in the decoding processes that it starts."""
    data = config.data
    folder = None if data.cache_folder is None else str(Path(data.cache_folder).absolute() / "streamed")
    remote.use(remote.Streaming(folder, int(data.stream_gib * 2**30), data.stream_patience_seconds))
