"""Rates of the parts of a training step, on the clips, batches and steps that a run would have."""

from __future__ import annotations

import contextlib
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch

from seehear.config import Config
from seehear.data.cache import LONGEST_SECONDS, MediaCache
from seehear.data.clips import ClipRequest, Video, make_ref
from seehear.data.columns import VideosById
from seehear.data.loader import ClipLoader, Failures, workers_of
from seehear.data.manifest import Manifest
from seehear.data.scanning import scan
from seehear.data.sources import FileList, find
from seehear.data.views import Statistics
from seehear.engine.device import choose_device, use_bfloat16
from seehear.engine.runfolder import RunFolder
from seehear.engine.runlog import RunLog
from seehear.engine.sampling import epoch_steps, split
from seehear.engine.schedule import Stage, learning_rate, stages
from seehear.engine.stop import StopRequest
from seehear.engine.trainer import Trainer
from seehear.errors import DataError, UsageError
from seehear.features.bank import FeatureBank, gather_assignment, view_name
from seehear.features.model import usable_videos
from seehear.media.pool import available_cores
from seehear.media.timeline import covers
from seehear.methods import build_method
from seehear.methods.base import Method
from seehear.modalities import streams_of
from seehear.pretraining.foreign import check_backbones, encoders_on, open_backbones
from seehear.pretraining.run import needed_streams, shortest_usable_seconds
from seehear.progress import Progress
from seehear.types import Batch

ROUNDS = 3
"""Slices of each part."""
MOST_CLIPS = 2048
"""Requests made for a slice; what time does not suffice for is never begun."""


@dataclass(frozen=True)
class Profile:
    """Rates in clips a second, medians over the slices, and what they come from."""

    recipe: str
    method: str
    device: str
    cores: int
    workers: int
    videos: int
    """In the whole source."""
    sample: int
    """Of them looked at and decoded."""
    decoder_a_core: float
    """Clips a second of CPU time: opening, seeking, decoding, scaling; nothing else."""
    loader: float
    """Batches from files, with all decoding processes: decoding, views, spectrograms."""
    cached: float | None
    """Batches from the cache of decoded media; None where the run has none."""
    model: float
    """Steps on a batch that is there: forward, backward, optimiser."""
    together: float
    """Training: from files, or from the cache where the run would have all videos there."""
    waiting: float
    """Share of the time in which training waited for data."""
    from_cache: bool
    """Whether `together` is from the cache."""
    cache_gib: float
    """What all videos need in the cache."""
    allowed_cache_gib: float
    short_side_px: int
    """The median of the videos."""
    wanted_side_px: int
    frame_rate_hz: float
    sample_rate_hz: int
    prepared: bool
    """Whether the videos are copies of `seehear prepare`."""

    @property
    def cores_needed(self) -> float:
        """How many cores decode as fast as the model learns."""
        return self.model / self.decoder_a_core

    @property
    def limit(self) -> str:
        """What limits: "model", "decoding", "making batches", or "nothing alone"."""
        supply = self.cached if self.from_cache and self.cached is not None else self.loader
        if supply >= 1.15 * self.model:
            return "model"
        if self.model < 1.15 * supply:
            return "nothing alone"
        # Where processes could decode much more than the loader gives, it is what it does with them that takes long.
        could = self.decoder_a_core * min(max(1, self.workers), self.cores)
        return "making batches" if self.from_cache or could > 2 * supply else "decoding"

    def as_dict(self) -> dict[str, object]:
        """All facts, what limits, and what would help."""
        from seehear.profiling.text import advice

        return {**asdict(self), "cores_needed": self.cores_needed, "limit": self.limit, "advice": advice(self)}


def profile(
    source: str | Path | Manifest, config: Config, *, seconds: float, sample: int, progress: Progress
) -> Profile:
    """Measure for about `seconds` on a sample of the source's videos. Raises `UsageError` and `DataError`."""
    config.check()
    backbones = open_backbones(config)
    if backbones and not config.model.tune_encoders:
        raise UsageError(
            "a run on encoders that stay as they are sees each clip once, and trains on features from then on",
            "its log has the seconds of both (`prepare`); with --set model.tune_encoders=true there is more to measure",
        )
    check_backbones(config, backbones)
    manifest, total = _sampled(source, config, sample, progress)
    config = replace(config, cluster=replace(config.cluster, restarts=1))  # labels of nothing need no care
    classes_of = manifest.by_id(config.data.label_column) if config.method == "supervised" else None
    method = build_method(config, classes_of, encoders_on(backbones, config))
    if not method.trains:
        raise UsageError(f"{config.method} trains nothing", "choose another --method")
    videos = [
        video for video in usable_videos(manifest, streams_of(tuple(method.modalities.values())))
        if covers(video.seconds, shortest_usable_seconds(config))
    ]  # fmt: skip
    if not videos:
        raise DataError("no video of the sample is as long as a clip", "shorten clip.audio_seconds or clip.frames")
    with tempfile.TemporaryDirectory(prefix="seehear-profile-") as scratch:
        return _Bench(method, videos, Path(scratch)).measure(seconds, manifest, total, progress)


def _sampled(source: str | Path | Manifest, config: Config, sample: int, progress: Progress) -> tuple[Manifest, int]:
    """The manifest of evenly spread videos of the source, and how many it has."""
    if not isinstance(source, Manifest) and Manifest.is_manifest(source):
        source = Manifest.load(source)
    if isinstance(source, Manifest):
        manifest = source.usable()
        for condition in config.data.where:
            manifest = manifest.where(condition)
        chosen = _spread(len(manifest), sample)
        return Manifest(manifest.table.take(chosen), manifest.info), len(manifest)
    if config.data.where:
        raise UsageError("a part of a source can be measured by its manifest alone", "seehear scan VIDEOS --out ...")
    found = find(source)
    rows = []
    for index in _spread(len(found.candidates), sample):
        one = found.candidates[index]
        rows.append({"path": one.path, **{name: value or "" for name, value in one.extra.items()}})
    manifest = scan(
        FileList(found.root, rows, str(source)), need=needed_streams(config),
        min_seconds=shortest_usable_seconds(config), workers=workers_of(config), audio_track=config.data.audio_track,
        progress=progress.shown("scan a sample", "files"),
    )  # fmt: skip
    return manifest, len(found.candidates)


def _spread(count: int, most: int) -> list[int]:
    return [int(i) for i in np.unique(np.linspace(0, count - 1, min(count, most)).astype(int))] if count else []


class _Bench:
    """Everything that a run would have at its first step, over a sample of its videos."""

    def __init__(self, method: Method, videos: Sequence[Video], scratch: Path) -> None:
        self.method, self.config, self.scratch = method, method.config, scratch
        self.stage: Stage = stages(self.config)[0]
        self.videos = VideosById(videos)
        self.workers = workers_of(self.config)
        self.device = choose_device(self.config.device)
        folder = RunFolder(scratch / "run")
        self.trainer = Trainer(
            method, videos, lambda _: self.loader(videos, None), folder, RunLog(folder, write=False),
            Progress(quiet=True), StopRequest(), device=self.device, bfloat16=use_bfloat16(self.config, self.device),
        )  # fmt: skip
        self.refs, _, _ = split(self.videos, self.config, frozenset())
        self._label()
        self.trainer.prepare(self.stage)
        method.begin_epoch(0, self.config.optim.epochs)
        method.train()
        self.epoch = 0

    def loader(self, videos: Sequence[Video], cache: MediaCache | None, workers: int | None = None) -> ClipLoader:
        """A loader as a run has it; measuring the collection's statistics would change no time."""
        return ClipLoader(
            videos, self.config, self.method.modalities, Statistics(),
            workers=self.workers if workers is None else workers, cache=cache, failures=Failures(limit=1),
        )  # fmt: skip

    def _label(self) -> None:
        """Labels as the method makes them, of random features: how long a step takes does not depend on them."""
        spec, rng = self.method.labelling_hypotheses, np.random.default_rng(0)
        views = 1 if spec is None else spec.transformations_per_sample // len(spec.modalities)
        count = max(len(self.refs), 2 * self.config.cluster.k, 256)
        others = [
            make_ref(self.refs[i % len(self.refs)].video_id, 1e6 + i, 1e6 + i + 1)
            for i in range(count - len(self.refs))
        ]
        refs = [*self.refs, *others]
        dims = {name: int(cast(int, encoder.feature_dim)) for name, encoder in self.method.encoders.items()}
        features = {
            view_name(name, view): rng.normal(size=(count, dim)).astype(np.float32)
            for name, dim in dims.items()
            for view in range(views)
        }
        bank = FeatureBank(refs, features, np.ones(count, dtype=bool))
        labellings = self.method.assign(bank, seed=0)
        if labellings is not None:
            self.trainer.assignment = gather_assignment(bank, labellings)

    def requests(self, videos: Collection[str], count: int) -> list[ClipRequest]:
        """So many requests at least, in whole batches, as the epochs of a run draw them."""
        refs = [ref for ref in self.refs if ref.video_id in videos]
        found: list[ClipRequest] = []
        while len(found) < count:
            steps = epoch_steps(
                self.stage, refs, self.videos, self.method.hypotheses, self.trainer.assignment, self.epoch
            )
            found += itertools.chain.from_iterable(steps.requests(0, steps.end))
            self.epoch += 1
        return found

    # ------------------------------------------------------------ the parts

    def decode(self, loader: ClipLoader, seconds: float) -> float:
        """Clips a CPU second of decoding alone, in this process."""
        until, began, count = time.monotonic() + seconds, time.process_time(), 0
        while count == 0 or time.monotonic() < until:
            count += sum(1 for _ in loader.media(self.requests(loader.videos, 1)[:4]))
            self._check(loader)
        return count / (time.process_time() - began)

    def load(self, loader: ClipLoader, seconds: float) -> float:
        """Clips a second in batches that nobody waits for."""
        return self._through(loader, seconds, lambda _: None)[0]

    def step(self, batch: Batch, seconds: float) -> float:
        """Clips a second of steps on one batch that lies on the device."""
        until, began, count = time.monotonic() + seconds, time.monotonic(), 0
        while count == 0 or time.monotonic() < until:
            self._take(batch)
            count += len(batch)
        return count / (time.monotonic() - began)

    def train(self, loader: ClipLoader, seconds: float) -> tuple[float, float]:
        """Clips a second of steps on batches as they come, and the share of the time spent waiting for them."""
        return self._through(loader, seconds, lambda batch: self._take(loader.to_inputs(batch, self.device)))

    def batch(self, loader: ClipLoader) -> Batch:
        """One batch on the device."""
        size = self.config.optim.batch_size
        with contextlib.closing(loader.group_batches([self.requests(loader.videos, size)[:size]])) as batches:
            batch = next(batches)
        self._check(loader)
        return loader.to_inputs(batch, self.device)

    def _take(self, batch: Batch) -> None:
        optim = self.config.optim
        rate = learning_rate(optim, 0.0, optim.batch_size)
        self.trainer.take_step(self.stage, replace(batch, inputs=dict(batch.inputs)), rate)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _through(self, loader: ClipLoader, seconds: float, use: Callable[[Batch], None]) -> tuple[float, float]:
        """Clips a second from the second batch on, the first being late, and the share of the time without a batch."""
        size = self.config.optim.batch_size
        requests = self.requests(loader.videos, max(8 * size, MOST_CLIPS))
        groups = [requests[i : i + size] for i in range(0, len(requests), size)]
        count, waited = 0, 0.0
        began = until = mark = time.monotonic()
        with contextlib.closing(loader.group_batches(groups)) as batches:
            for number, batch in enumerate(batches):
                if number:
                    waited += time.monotonic() - mark
                    count += len(batch)
                self._check(loader)
                use(batch)
                mark = time.monotonic()
                if not number:
                    began, until = mark, mark + seconds
                elif mark >= until:
                    break
        return count / (mark - began), waited / (mark - began)

    @staticmethod
    def _check(loader: ClipLoader) -> None:
        if len(loader.failures.counts) == len(loader.videos):
            report = loader.failures.reports[-1]
            raise DataError(f"not one video of the sample decodes; {report['path']}: {report['detail']}")

    # ------------------------------------------------------------ all of them

    def measure(self, seconds: float, manifest: Manifest, total: int, progress: Progress) -> Profile:
        """The parts in turns, for about so many seconds."""
        videos, data = list(self.videos.values()), self.config.data
        streams = streams_of(tuple(self.method.modalities.values()))
        cache = MediaCache(self.scratch / "cache", 1 << 50)
        mean = statistics.fmean(cache.entry_bytes(video, self.config.clip, streams) for video in videos)
        needed = mean * total / 2**30
        kept = _few(videos) if data.cache_gib > 0 else []
        from_cache = bool(kept) and needed <= data.cache_gib
        progress.start("measure", ROUNDS, "rounds")
        with self.loader(videos, None, 0) as alone, self.loader(videos, None) as files, contextlib.ExitStack() as held:
            cached = held.enter_context(self.loader(kept, cache)) if kept else None
            if cached is not None:
                cached.fill_cache()
            batch = self.batch(files)
            for _ in range(2):
                self._take(batch)
            found: dict[str, list[float]] = {}
            slice_seconds = seconds / ROUNDS / (4 + (cached is not None))
            for done in range(1, ROUNDS + 1):
                rates = {
                    "decoder": self.decode(alone, slice_seconds),
                    "loader": self.load(files, slice_seconds),
                    "model": self.step(batch, slice_seconds),
                }
                if cached is not None:
                    rates["cached"] = self.load(cached, slice_seconds)
                trained = self.train(cached if from_cache and cached is not None else files, slice_seconds)
                rates["together"], rates["waiting"] = trained
                for name, rate in rates.items():
                    found.setdefault(name, []).append(rate)
                progress.update(done)
        middle = {name: statistics.median(rates) for name, rates in found.items()}
        sides = [min(video.width, video.height) for video in videos if video.width and video.height]
        return Profile(
            self.config.recipe, self.config.method, str(self.device), available_cores(), self.workers, total,
            len(videos), middle["decoder"], middle["loader"], middle.get("cached"), middle["model"],
            middle["together"], middle["waiting"], from_cache, needed, data.cache_gib,
            round(statistics.median(sides)) if sides and "video" in streams else 0, self.config.clip.short_side_px,
            self.config.clip.frame_rate_hz, self.config.clip.sample_rate_hz,
            "original_path" in manifest.extra_columns,
        )  # fmt: skip


def _few(videos: Sequence[Video]) -> list[Video]:
    """Some videos, two minutes in all, that the cache would take."""
    found: list[Video] = []
    seconds = 0.0
    for video in videos:
        if (video.end_seconds <= LONGEST_SECONDS and (seconds := seconds + video.end_seconds) <= 120) or not found:
            found.append(video)
    return [video for video in found if video.end_seconds <= LONGEST_SECONDS]
