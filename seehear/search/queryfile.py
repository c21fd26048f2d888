"""Features of a query that is a file: a video, with sound or without, a sound, or a still picture.

Files are opened with the limits of a scan: in a process of its own, with a time limit and a cap on its memory. Crops,
spectrograms and normalisation are those of the run's own clips (`seehear.data.views`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from seehear.data.clips import Video, clip_refs, plain_requests
from seehear.data.views import SpectrogramView, normalise_frames, to_modality, video_view
from seehear.errors import MediaError, UsageError
from seehear.features.extract import evaluation
from seehear.features.model import Model, segments
from seehear.media.decode import Decoded, Window
from seehear.media.pool import WorkerPool
from seehear.media.reading import read_windows
from seehear.media.stills import is_picture, look, read_picture
from seehear.search.segments import IndexedVideo
from seehear.search.spaces import encoders_of

MOST_SEGMENTS = 8
"""A query is embedded by so many stretches at most, evenly drawn from it."""
SILENCE_DBFS = -60.0
"""Sound below this counts as none, as in a scan."""


class FileEmbedder:
    """Embeds files by a model. Its process for decoding is started at the first file and kept; `close` ends it.

    Threads may share one: files are decoded one after the other.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.encoders = encoders_of(model.modalities)
        self._spectrogram = SpectrogramView(model.config, model.statistics) if "audio" in self.encoders else None
        self._pool: WorkerPool | None = None
        self._lock = threading.Lock()

    def close(self) -> None:
        """End the process for decoding."""
        with self._lock:
            if self._pool is not None:
                self._pool.close()
            self._pool = None

    def embed_file(
        self,
        path: str | os.PathLike[str],
        *,
        start: float | None = None,
        end: float | None = None,
        every_seconds: float | None = None,
    ) -> dict[str, np.ndarray]:
        """Features (D,) of a file, or of `start` to `end` of it (seconds), for each of "video" and "audio" it has.

        A stretch is cut into segments of `every_seconds`, or as the run's own clips are; up to `MOST_SEGMENTS` of them
        are embedded and averaged.

        Raises `MediaError` with the reason if the file has neither, `UsageError` for a stretch that there is not.
        """
        name = os.path.abspath(path)
        if is_picture(name):
            if start is not None or end is not None:
                raise UsageError(f"{os.fspath(path)} is a picture: there is no stretch of it", "leave out the times")
            return self._picture(name)
        video, streams = self._usable(name)
        return self._stretch(video, streams, *_within(video, start, end), every_seconds)

    def embed_indexed(
        self, video: IndexedVideo, start: float, end: float, *, every_seconds: float | None = None
    ) -> dict[str, np.ndarray]:
        """The same of a stretch of a video that is indexed. Raises `MediaError`."""
        identity = video.identity
        known = Video(
            video.video_id, str(video.path), identity.fingerprint or "", video.start_seconds, video.end_seconds, 0, 0,
            video.clock_jumps, video.audio_track, identity.size_bytes, identity.modified_ns,
        )  # fmt: skip
        codecs = {"video": video.video_codec, "audio": video.audio_codec}
        streams = tuple(s for s in self.encoders if codecs[s] is not None)
        return self._stretch(known, streams, *_within(known, start, end), every_seconds)

    def _picture(self, path: str) -> dict[str, np.ndarray]:
        """Features of a clip whose frames are all this picture."""
        if "video" not in self.encoders:
            raise UsageError("this model has no encoder of sight", "search by a sound")
        clip = self.model.config.clip
        picture = self._call(read_picture, path, clip.short_side_px)
        return {"video": self._encoded("video", [np.repeat(picture[None], clip.frames, axis=0)])}

    def _usable(self, path: str) -> tuple[Video, tuple[str, ...]]:
        """The file as a video, with the streams that can be used: all that the model sees, or the one that is there."""
        config, streams = self.model.config, tuple(self.encoders)
        first: Any = None
        for need in (streams, *((s,) for s in streams if len(streams) > 1)):
            settings = need, config.clip.seconds, SILENCE_DBFS, config.data.audio_track
            result = self._call(look, path, *settings)
            if result.usable:
                return Video.from_row({"video_id": path} | asdict(result), need), need
            first = first or result
        raise MediaError(path, first.reason, first.detail or "")

    def _stretch(
        self, video: Video, streams: Sequence[str], start: float, end: float, every_seconds: float | None
    ) -> dict[str, np.ndarray]:
        config = self.model.config
        clip = config.clip
        whole = Video(video.video_id, "", "", start, end, 0, 0)
        cut = segments(whole, every_seconds) if every_seconds else clip_refs([whole], config.cluster)
        drawn = np.unique(np.linspace(0, len(cut) - 1, min(len(cut), MOST_SEGMENTS)).round().astype(int))
        requests = plain_requests([cut[i] for i in drawn], {video.video_id: video}, clip, config.cluster.averaged_clips)
        frames, seconds = clip.frames if "video" in streams else 0, clip.audio_seconds if "audio" in streams else 0.0
        windows = [Window(r.start_seconds, frames, clip.frame_rate_hz / clip.stride, seconds) for r in requests]
        decoded: list[Decoded] = self._call(
            read_windows, video.path, video.identity, windows, clip.short_side_px, clip.sample_rate_hz,
            config.data.decoder, video.clock_jumps, video.audio_track,
        )  # fmt: skip
        found = {}
        if "video" in streams:
            found["video"] = self._encoded("video", [d.frames for d in decoded if d.frames is not None])
        if "audio" in streams:
            found["audio"] = self._encoded("audio", [d.waveform for d in decoded if d.waveform is not None])
        return found

    def _encoded(self, stream: str, clips: Sequence[np.ndarray]) -> np.ndarray:
        """The mean feature (D,) of clips: each frames (T, H, W, 3) uint8 or a waveform (S,)."""
        model, name = self.model, self.encoders[stream]
        config, encoder = model.config, model.encoders[name]
        device = next(encoder.parameters()).device
        with evaluation({name: encoder}):
            if stream == "video":
                views = torch.stack([video_view(c, config.clip, config.augment, None) for c in clips]).to(device)
                inputs = to_modality(model.modalities[name], normalise_frames(views, model.statistics))
            else:
                assert self._spectrogram is not None
                waves = torch.from_numpy(np.stack(clips))
                inputs = self._spectrogram(waves, config.augment, None).to(device)
            made: np.ndarray = encoder(inputs).float().cpu().numpy().mean(0)
        return made

    def _call(self, function: Callable[..., Any], path: str, *args: Any) -> Any:
        with self._lock:
            if self._pool is None:
                self._pool = WorkerPool(1, timeout_seconds=self.model.config.data.decode_timeout_seconds)
            (outcome,) = self._pool.imap(function, [(path, (path, *args))])
        if outcome.error is not None:
            raise outcome.error
        return outcome.value


def _within(video: Video, start: float | None, end: float | None) -> tuple[float, float]:
    """A stretch within a video's span. Raises `UsageError` if there is nothing in it."""
    first = video.start_seconds if start is None else max(start, video.start_seconds)
    last = video.end_seconds if end is None else min(end, video.end_seconds)
    if not first < last:
        raise UsageError(
            f"{video.path} has nothing from {first:g} to {last:g} s",
            f"it lasts from {video.start_seconds:.2f} to {video.end_seconds:.2f} s",
        )
    return first, last
