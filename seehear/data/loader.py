"""From requests for clips to batches: decode (or slice the cache), view, stack, one batch ahead of the model."""

from __future__ import annotations

import itertools
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import torch
from scipy.signal import resample_poly
from torch import Tensor

from seehear.config import ClipConfig, Config
from seehear.copies import beside
from seehear.data.cache import LONGEST_SECONDS, CachedMedia, MediaCache, stream_as
from seehear.data.clips import ClipRequest, Video, plain_requests
from seehear.data.columns import VideosById
from seehear.data.device_views import RawBatch, RawFrames, RawSound, raw_frames, raw_sound
from seehear.data.views import (
    SpectrogramView,
    Statistics,
    degraded,
    draw_frames,
    measured_by,
    normalise_frames,
    to_modality,
    video_view,
)
from seehear.errors import DataError, MediaError
from seehear.hypotheses.factors import FACTORS, View
from seehear.media.decode import Decoded, Window
from seehear.media.packed import remote_copy
from seehear.media.pool import WorkerPool, available_cores
from seehear.media.reading import read_clips, read_windows
from seehear.media.remote import brought
from seehear.modalities import MODALITIES, streams_of
from seehear.types import Batch, ClipRef
from seehear.words.changes import drop_words
from seehear.words.cues import said
from seehear.words.tokens import words
from seehear.words.vocabulary import Vocabulary

T = TypeVar("T")
Part = tuple[str, float, int]
"""Something to decode: the stream, where it starts in seconds, and the playback speed."""
BATCHES_AHEAD = 2
STATISTICS_CLIPS = 512
"""Clips at most over which a collection's statistics are measured: their means are then known to a few hundredths of a
deviation, in seconds."""
REQUESTS_AT_ONCE = 1 << 16
"""Requests that an epoch is cut into: decoding does not look beyond, and memory does not grow with the epoch."""
CLIPS_AN_OPENING = 16
"""Clips of a video that are decoded in one opening: more would be held in memory at once."""


@dataclass
class Failures:
    """Videos that could not be decoded during a run, with the reasons."""

    limit: int = 2
    """A video that has failed this often is not tried again."""
    counts: dict[str, int] = field(default_factory=dict)
    reports: list[dict[str, Any]] = field(default_factory=list)
    """New reports, to be written to the run's `failures.jsonl` by the engine."""

    def add(self, video_id: str, error: MediaError) -> None:
        self.counts[video_id] = self.counts.get(video_id, 0) + 1
        self.reports.append({"video_id": video_id, "path": error.path, "reason": error.reason, "detail": error.detail})

    def given_up(self, video_id: str) -> bool:
        return self.counts.get(video_id, 0) >= self.limit


class ClipLoader:
    """Turns clip requests into batches.

    `modalities` names the streams that must be decoded ("video", "audio"); `views` maps each encoder's name to
    the modality that it sees, and every encoder gets a view drawn independently, or the transformations of it
    that a request asks for. With a `degradation` above 1 frames lose detail after they are augmented
    (`seehear.data.views.degraded`). Text is seen by transformations alone, in words of `vocabulary`. Batches for a
    `device` that is a GPU get their views there, when `to_inputs` moves them; `device_views` says whether they do,
    whatever the device. A context manager: leaving it ends the decoding processes.
    """

    def __init__(
        self,
        videos: Sequence[Video],
        config: Config,
        views: Mapping[str, str],
        statistics: Statistics,
        *,
        workers: int,
        cache: MediaCache | None,
        failures: Failures | None = None,
        degradation: int = 1,
        vocabulary: Vocabulary | None = None,
        device: torch.device | str = "cpu",
        device_views: bool | None = None,
    ) -> None:
        self.videos = VideosById(videos)
        self.config = config
        self.views = dict(views)
        self.modalities = streams_of(tuple(self.views.values()))
        self.cache = cache
        self.failures = failures if failures is not None else Failures()
        self.degradation = degradation
        self.vocabulary = vocabulary
        self.crop_at = 0.5  # where plain clips are cropped along the longer side
        self.device_views = torch.device(device).type == "cuda" if device_views is None else device_views
        self._pinned = self.device_views and torch.cuda.is_available()
        stream_as(config)
        self.pool = WorkerPool(workers, timeout_seconds=config.data.decode_timeout_seconds)
        self._workers = max(1, workers)
        self.set_statistics(statistics)

    def __enter__(self) -> ClipLoader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the decoding processes."""
        self.pool.close()

    def set_statistics(self, statistics: Statistics) -> None:
        """Normalise with these from now on."""
        self.statistics = statistics
        self._spectrogram = SpectrogramView(self.config, statistics) if "audio" in self.modalities else None
        self._spectrograms: dict[torch.device, SpectrogramView] = {}

    # -- decoding ---------------------------------------------------------------------------------------------

    def fill_cache(self, progress: Callable[[int, int], None] | None = None) -> dict[str, int]:
        """Decode into the cache what fits it. Returns how many videos are `cached` and how many `streamed`."""
        if self.cache is None:
            return {"cached": 0, "streamed": len(self.videos)}
        clip = self.config.clip
        keys, missing, needed, total = set(), [], 0, 0
        for video in self.videos.values():
            size = self.cache.entry_bytes(video, clip, self.modalities)
            if video.end_seconds > LONGEST_SECONDS or total + size > self.cache.budget_bytes:
                continue
            total += size
            keys.add(self.cache.key(video, clip, self.modalities))
            if self._cached(video) is None:
                missing.append(video)
                needed += size
        if missing:
            self.cache.make_room(needed, keep=keys)
        items = self._whole_videos(missing, self.cache)
        for done, outcome in enumerate(self.pool.imap(read_windows, items, ordered=False, ahead=2 * self._workers), 1):
            video = self.videos[str(outcome.key)]
            if outcome.error is not None:
                self.failures.add(video.video_id, outcome.error)
            else:
                self.cache.put(self.cache.key(video, clip, self.modalities), outcome.value[0])
            if progress:
                progress(done, len(missing))
        failed = sum(v.video_id in self.failures.counts for v in missing)
        return {"cached": len(keys) - failed, "streamed": len(self.videos) - len(keys)}

    def _whole_videos(self, videos: Sequence[Video], cache: MediaCache) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """What the pool needs to decode each video whole; of one that cannot be had the failure is recorded."""
        for video, error in zip(videos, brought(remote_copy(v.path) for v in videos), strict=True):
            if error is None:
                window = cache.window(video, self.config.clip, self.modalities)
                yield video.video_id, self._decode_arguments(video, [window])
            else:
                self.failures.add(video.video_id, error)

    def _cached(self, video: Video) -> CachedMedia | None:
        return self.cache.get(video, self.config.clip, self.modalities) if self.cache else None

    def _decode_arguments(self, video: Video, windows: list[Window] | list[list[Window]]) -> tuple[Any, ...]:
        clip = self.config.clip
        decoder = self.config.data.decoder
        settings = clip.short_side_px, clip.sample_rate_hz, decoder, video.clock_jumps, video.audio_track
        return video.path, video.identity, windows, *settings

    def clips(
        self, requests: Sequence[ClipRequest], streams: Sequence[str] | None = None
    ) -> Iterator[tuple[ClipRequest, np.ndarray | None, np.ndarray | None]]:
        """Yield each request with its frames (T, H, W, 3) uint8 and waveform (S,) float32, in order.

        Only `streams` are decoded, if given; the rest is None. A clip whose video cannot be decoded is left out, and
        its failure recorded.
        """
        for request, media in self.media(requests, streams):
            yield (
                request,
                media.get(("video", request.start_seconds, 1)),
                media.get(("audio", request.audio_start_seconds, 1)),
            )

    def media(
        self, requests: Sequence[ClipRequest], streams: Sequence[str] | None = None
    ) -> Iterator[tuple[ClipRequest, dict[Part, np.ndarray]]]:
        """Yield each request with all that its views need, decoded in one opening of the file, in order.

        Plain clips of one video that follow each other share an opening, up to `CLIPS_AN_OPENING`. A clip whose video
        cannot be decoded is left out, and its failure recorded.
        """
        wanted = [r for r in requests if not self.failures.given_up(r.ref.video_id)]
        cached = {}
        for request in wanted:
            video_id = request.ref.video_id
            if video_id not in cached:
                cached[video_id] = self._cached(self.videos[video_id]) is not None

        outcomes = self._decoded([r for r in wanted if not cached[r.ref.video_id]], streams)
        failed: set[str] = set()
        for request in wanted:
            video = self.videos[request.ref.video_id]
            found: dict[Part, np.ndarray | None] = {}
            if cached[video.video_id]:
                media = self._cached(video)
                if media is None:
                    error = MediaError(video.path, "decode_error", "its cache entry vanished while it was in use")
                    self.failures.add(video.video_id, error)
                    continue
                for part in itertools.chain.from_iterable(self._parts(request, streams)):
                    stream, start, speed = part
                    found[part] = media.clip(start, start, self._clip_at(speed))[0 if stream == "video" else 1]
            else:
                decoded = next(outcomes)
                if isinstance(decoded, MediaError):
                    if video.video_id not in failed:
                        failed.add(video.video_id)
                        self.failures.add(video.video_id, decoded)
                    continue
                for parts, one in zip(self._parts(request, streams), decoded, strict=True):
                    found |= {p: one.frames if p[0] == "video" else one.waveform for p in parts}
            yield request, {part: array for part, array in found.items() if array is not None}

    def _decoded(
        self, requests: Sequence[ClipRequest], streams: Sequence[str] | None
    ) -> Iterator[list[Decoded] | MediaError]:
        """What each clip holds, or why it could not be had or decoded."""
        openings = _openings(requests)
        copies = (remote_copy(self.videos[group[0].ref.video_id].path) for group in openings)
        absent: dict[int, MediaError] = {}
        sent: deque[int] = deque()

        def arguments() -> Iterator[tuple[str, tuple[Any, ...]]]:
            for number, (group, error) in enumerate(zip(openings, brought(copies), strict=True)):
                if error is not None:
                    absent[number] = error
                    continue
                windows = [[self._window(parts) for parts in self._parts(request, streams)] for request in group]
                sent.append(number)
                yield group[0].ref.clip_id, self._decode_arguments(self.videos[group[0].ref.video_id], windows)

        clips_each = max(1, len(requests) // max(1, len(openings)))
        ahead = max(2 * self._workers, self.config.optim.batch_size // clips_each)
        outcomes = self.pool.imap(read_clips, arguments(), ordered=True, ahead=ahead)
        outcome = None
        for number, group in enumerate(openings):
            # Outcomes come in the order in which openings were sent; before one, all that were not sent are known.
            outcome = next(outcomes, None) if outcome is None else outcome
            if outcome is None or sent[0] != number:
                yield from [absent.pop(number)] * len(group)
                continue
            sent.popleft()
            yield from outcome.value if outcome.error is None else [outcome.error] * len(group)
            outcome = None

    def _parts(self, request: ClipRequest, streams: Sequence[str] | None = None) -> list[list[Part]]:
        """What must be decoded for a clip, grouped by time window."""
        wanted = self.modalities if streams is None else streams
        if request.views:
            rate = self.config.clip.frame_rate_hz
            seen = ((MODALITIES[v.modality].stream, v) for v in request.views)
            parts = [(stream, v.start / rate, v.speed) for stream, v in seen if stream and stream in wanted]
        else:
            starts = {"video": request.start_seconds, "audio": request.audio_start_seconds}
            parts = [(stream, starts[stream], 1) for stream in wanted]
        windows: dict[tuple[float, int], list[Part]] = {}
        for part in dict.fromkeys(parts):
            windows.setdefault(part[1:], []).append(part)
        return list(windows.values())

    def _clip_at(self, speed: int) -> ClipConfig:
        """What a clip is when it is played so many times as fast."""
        clip = self.config.clip
        # In whole samples, so that the sound of every speed has as many of them once it is played.
        samples = speed * round(clip.audio_seconds * clip.sample_rate_hz)
        return replace(clip, stride=clip.stride * speed, audio_seconds=samples / clip.sample_rate_hz)

    def _window(self, parts: list[Part]) -> Window:
        _, start, speed = parts[0]
        clip, streams = self._clip_at(speed), [stream for stream, _, _ in parts]
        return Window(
            start,
            clip.frames if "video" in streams else 0,
            clip.frame_rate_hz / clip.stride,
            clip.audio_seconds if "audio" in streams else 0.0,
        )

    # -- batches ----------------------------------------------------------------------------------------------

    def batches(self, requests: Sequence[ClipRequest], batch_size: int) -> Generator[Batch, None, None]:
        """Batches of up to `batch_size` clips, prepared in a thread while the model works.

        Frames come as uint8 (B, T, H, W, 3), to be moved to the device before `to_inputs` makes floats of them.
        """
        # Groups are cut by request and not by what could be decoded: one bad video must not shift all batches.
        groups = [requests[i : i + batch_size] for i in range(0, len(requests), batch_size)]
        made = self._make_batches(groups)
        return prefetch((batch for batch in made if batch), BATCHES_AHEAD)

    def group_batches(self, groups: Iterable[Sequence[ClipRequest]]) -> Generator[Batch, None, None]:
        """As `batches`, one for every group; that of a group without a clip, or without one that decodes, is empty.

        For processes that must take every step together. Groups may be made as they are asked for: `REQUESTS_AT_ONCE`
        are held at a time.
        """
        return prefetch(itertools.chain.from_iterable(map(self._make_batches, _runs(groups))), BATCHES_AHEAD)

    def _make_batches(self, groups: Sequence[Sequence[ClipRequest]]) -> Iterator[Batch]:
        clips = self.media(list(itertools.chain.from_iterable(groups)))
        pending = next(clips, None)
        for group in groups:
            rows: list[tuple[ClipRequest, dict[Part, np.ndarray]]] = []
            members = {id(r) for r in group}
            while pending is not None and id(pending[0]) in members:
                rows.append(pending)
                pending = next(clips, None)
            yield self._stack(rows) if rows else Batch([], {})

    def _stack(self, rows: list[tuple[ClipRequest, dict[Part, np.ndarray]]]) -> Batch:
        ids = [request.ref.clip_id for request, _ in rows]
        if rows[0][0].views:
            return self._stack_transformed(ids, rows)
        inputs: dict[str, Tensor | RawFrames | RawSound] = {}
        for view, (name, modality) in enumerate(self.views.items(), start=1):
            if MODALITIES[modality].stream is None:
                continue
            rngs = [None if r.seed is None else np.random.default_rng([*r.seed, view]) for r, _ in rows]
            if MODALITIES[modality].stream == "video":
                arrays = [media["video", r.start_seconds, 1] for r, media in rows]
            else:
                arrays = [media["audio", r.audio_start_seconds, 1] for r, media in rows]
            inputs[name] = self._input(modality, arrays, rngs)
        return _batch(ids, inputs, {})

    def _stack_transformed(self, ids: list[str], rows: list[tuple[ClipRequest, dict[Part, np.ndarray]]]) -> Batch:
        """One row for each transformation of each clip, in the input of the modality that it projects to."""
        rate = self.config.clip.frame_rate_hz
        codes: dict[str, list[tuple[int, ...]]] = {}
        arrays: dict[str, list[np.ndarray]] = {name: [] for name in self.views}
        rngs: dict[str, list[np.random.Generator | None]] = {name: [] for name in self.views}
        for request, media in rows:
            assert request.seed is not None
            for leaf, view in enumerate(request.views, start=1):
                found = codes.setdefault(view.modality, [])
                if MODALITIES[view.modality].encoder == "text":
                    rng = np.random.default_rng([*request.seed, leaf])
                    numbers = self._words(self.videos[request.ref.video_id], view, rng)
                    if numbers is None:
                        continue
                    arrays[view.modality].append(numbers)
                found.append(view.codes)
                stream = MODALITIES[view.modality].stream
                if stream is not None:
                    array = media[stream, view.start / rate, view.speed]
                    arrays[view.modality].append(_transformed(array, stream, view))
                    rngs[view.modality].append(np.random.default_rng([*request.seed, leaf]))
        inputs = {name: self._input(name, arrays[name], rngs[name]) for name in self.views}
        factors = len(rows[0][0].views[0].codes)
        held = {name: torch.tensor(values, dtype=torch.int64).reshape(-1, factors) for name, values in codes.items()}
        return _batch(ids, inputs, held)

    def _words(self, video: Video, view: View, rng: np.random.Generator) -> np.ndarray | None:
        """The numbers of the words of a view, (length,) int64.

        None where nothing is said at that time, or the view shall be changed and the text leaves no change.
        """
        assert self.vocabulary is not None
        start = view.start / self.config.clip.frame_rate_hz
        text = said(video.cues, start, start + self.config.clip.seconds * view.speed)
        for factor, value in view.acts:
            changed = FACTORS[factor].act_on_text(text, value)
            if FACTORS[factor].only == "text" and words(changed) == words(text):
                return None
            text = changed
        found = words(text)
        if found and self.config.augment.drop_words:
            found = drop_words(found, self.config.augment.drop_words, rng)
        return self.vocabulary.row(found, self.config.model.text_length) if found else None

    def _input(
        self, modality: str, arrays: Sequence[np.ndarray], rngs: Sequence[np.random.Generator | None]
    ) -> Tensor | RawFrames | RawSound:
        """Augmented frames (B, T, H, W, 3) uint8, spectrograms (B, 1, Q, P) or numbers of words (B, length) int64, or
        what the device makes the first two of."""
        config, at = self.config, self.crop_at
        if MODALITIES[modality].encoder == "text":
            return torch.from_numpy(np.array(arrays, dtype=np.int64).reshape(-1, config.model.text_length))
        if MODALITIES[modality].stream == "video":
            pairs = zip(arrays, rngs, strict=True)
            if self.device_views:
                draws = [draw_frames(a.shape[1:3], config.clip, config.augment, rng, at) for a, rng in pairs]
                return raw_frames(arrays, draws, config.clip.crop_px, pinned=self._pinned)
            views = (video_view(a, config.clip, config.augment, rng, at) for a, rng in pairs)
            return torch.stack([degraded(view, self.degradation) for view in views])
        assert self._spectrogram is not None
        drawn = [rng for rng in rngs if rng is not None] or None
        if self.device_views:
            return raw_sound(arrays, *self._spectrogram.drawn(config.augment, drawn), pinned=self._pinned)
        return self._spectrogram(torch.from_numpy(np.stack(arrays)), config.augment, drawn)

    def to_inputs(self, batch: Batch, device: torch.device) -> Batch:
        """Move a batch to the device and make normalised floats of its frames.

        On a GPU nothing is waited for: all is done beside what is under way there.
        """
        with beside(device) as made:
            inputs = self._made(batch, device)
            batch = batch.to(device)
            batch.inputs |= inputs
            for name, modality in self.views.items():
                if MODALITIES[modality].stream == "video":
                    batch.inputs[name] = to_modality(modality, normalise_frames(batch.inputs[name], self.statistics))
            made += [*batch.inputs.values(), *batch.codes.values()]
        return batch

    def _made(self, batch: Batch, device: torch.device) -> dict[str, Tensor]:
        """The inputs of a batch that the device is left to make."""
        if not isinstance(batch, RawBatch):
            return {}
        if self._spectrogram is not None and device not in self._spectrograms:
            self._spectrograms[device] = self._spectrogram.to(device)
        return {
            name: raw.made(device, self.degradation)
            if isinstance(raw, RawFrames)
            else raw.made(device, self._spectrograms[device])
            for name, raw in batch.raw.items()
        }


def _batch(ids: list[str], inputs: Mapping[str, Tensor | RawFrames | RawSound], codes: dict[str, Tensor]) -> Batch:
    raw = {name: x for name, x in inputs.items() if not isinstance(x, Tensor)}
    ready = {name: x for name, x in inputs.items() if isinstance(x, Tensor)}
    return RawBatch(ids, ready, codes, raw) if raw else Batch(ids, ready, codes)


def _transformed(array: np.ndarray, stream: str, view: View) -> np.ndarray:
    """Frames (T, H, W, 3) or sound (S x speed,) with the view's factors carried out."""
    if stream == "audio" and view.speed > 1:
        # Played faster, the sound has fewer samples and a higher pitch.
        array = resample_poly(array, 1, view.speed).astype(np.float32)
    pair: tuple[np.ndarray | None, np.ndarray | None] = (array, None) if stream == "video" else (None, array)
    for factor, value in view.acts:
        pair = FACTORS[factor].act(*pair, value)
    changed = pair[0] if stream == "video" else pair[1]
    assert changed is not None
    return np.ascontiguousarray(changed)


def _openings(requests: Sequence[ClipRequest]) -> list[list[ClipRequest]]:
    """Requests for plain clips of one video that follow each other, in groups of up to `CLIPS_AN_OPENING`.

    Clips of training are decoded alone: sound after a seek differs in its last bits from sound read on, and a resumed
    epoch, which begins between two of them, must not.
    """
    groups = []
    for _, of_video in itertools.groupby(requests, key=lambda r: (r.ref.video_id, r.seed)):
        found = list(of_video)
        groups += [found[i : i + CLIPS_AN_OPENING] for i in range(0, len(found), CLIPS_AN_OPENING)]
    return groups


def _runs(groups: Iterable[Sequence[ClipRequest]]) -> Iterator[list[Sequence[ClipRequest]]]:
    """Groups in their order, as many together as have `REQUESTS_AT_ONCE` requests or more."""
    run: list[Sequence[ClipRequest]] = []
    for group in groups:
        run.append(group)
        if len(run) * max(1, len(group)) >= REQUESTS_AT_ONCE:
            yield run
            run = []
    if run:
        yield run


def measure_statistics(loader: ClipLoader, refs: Sequence[ClipRef], limit: int = STATISTICS_CLIPS) -> Statistics:
    """Mean and deviation of spectrograms and pixels over the centre clips of `refs`, unless the settings state them.

    Of at most `limit` spans, drawn by the run's seed if there are more, and of the streams alone that are measured.
    Raises `DataError` when none can be decoded.
    """
    config = loader.config
    stated, measured = Statistics.stated(config), measured_by(config)
    if not measured:
        return stated
    chosen: Sequence[ClipRef] = refs
    if len(refs) > limit:
        drawn = np.random.default_rng(config.seed).choice(len(refs), limit, replace=False)
        chosen = [refs[i] for i in np.sort(drawn)]
    listens = "audio" in loader.modalities and "spectrograms" in measured
    spectrogram = SpectrogramView(config, Statistics()) if listens else None
    pixels, sounds = _Moments(3), _Moments(1)
    streams = [s for s in loader.modalities if (listens if s == "audio" else "pixels" in measured)]
    if not streams:
        return stated
    for _, frames, waveform in loader.clips(plain_requests(chosen, loader.videos, config.clip), streams):
        if frames is not None:
            view = video_view(frames, config.clip, config.augment, None)
            pixels.add(view.reshape(-1, 3).double().numpy() / 255)
        if waveform is not None and spectrogram is not None:
            x = spectrogram(torch.from_numpy(waveform)[None], config.augment, None)
            sounds.add(x.reshape(-1, 1).double().numpy())
    if spectrogram is not None and not sounds.count:
        raise DataError("not one clip could be decoded", "see the reasons in failures.jsonl of the run folder")
    values: dict[str, Any] = {}
    if pixels.count:
        values |= {"pixel_mean": tuple(pixels.mean.tolist()), "pixel_std": tuple(pixels.std.tolist())}
    if sounds.count:
        values |= {"spectrogram_mean": float(sounds.mean[0]), "spectrogram_std": float(sounds.std[0])}
    return replace(stated, **values)


class _Moments:
    """Running mean and standard deviation of rows."""

    def __init__(self, size: int) -> None:
        self.count, self.sum, self.squares = 0, np.zeros(size), np.zeros(size)

    def add(self, rows: np.ndarray) -> None:
        self.count += len(rows)
        self.sum += rows.sum(0)
        self.squares += (rows**2).sum(0)

    @property
    def mean(self) -> np.ndarray:
        return self.sum / self.count

    @property
    def std(self) -> np.ndarray:
        # A collection of constant clips has no deviation; dividing by one leaves it at zero.
        std = np.sqrt(np.maximum(self.squares / self.count - self.mean**2, 0))
        return np.where(std > 1e-8, std, 1.0)


def prefetch(items: Iterable[T], ahead: int) -> Generator[T, None, None]:
    """Iterate over `items` in a background thread, up to `ahead` of the consumer.

    An exception in the thread is raised in the consumer; closing the generator ends the thread.
    """
    ready: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=ahead)
    stop = threading.Event()

    def put(entry: tuple[str, Any]) -> bool:
        while not stop.is_set():
            try:
                ready.put(entry, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def run() -> None:
        try:
            for item in items:
                if not put(("item", item)):
                    return
            put(("end", None))
        except BaseException as error:  # noqa: BLE001 - handed over to the consumer
            put(("error", error))

    thread = threading.Thread(target=run, name="seehear-loader", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = ready.get()
            if kind == "item":
                yield value
            elif kind == "error":
                raise value
            else:
                return
    finally:
        stop.set()
        thread.join()


def worker_count(workers: int | None) -> int:
    """Decoding processes to start: so many, or one a core."""
    return available_cores() if workers is None else workers


def workers_of(config: Config) -> int:
    """Decoding processes to start."""
    return worker_count(config.data.workers)
