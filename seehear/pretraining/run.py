"""Pretraining from end to end: a folder of videos in, a run folder with a model and labels out."""

from __future__ import annotations

import collections
import contextlib
import errno
import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from seehear import dist
from seehear.config import Config
from seehear.data.cache import media_cache, stream_as
from seehear.data.clips import Video
from seehear.data.columns import VideoTable, cut
from seehear.data.loader import ClipLoader, Failures, workers_of
from seehear.data.manifest import Manifest
from seehear.data.scanning import scan
from seehear.data.statistics import measure_statistics
from seehear.data.supply import Supply
from seehear.data.views import SpectrogramView, Statistics
from seehear.engine.device import choose_device, peak_memory_bytes, use_bfloat16
from seehear.engine.runfolder import RunFolder, beginning
from seehear.engine.runlog import RunLog
from seehear.engine.sampling import spans_of
from seehear.engine.schedule import stages
from seehear.engine.stop import StopRequest
from seehear.engine.trainer import Trainer
from seehear.errors import DataError, RunError, UsageError
from seehear.features.kinds import FinalKinds, clusters_to_begin, final_kinds
from seehear.features.labels import LabelsOfBlocks
from seehear.features.model import Model, bank_table, table_bank, usable_rows, video_table
from seehear.features.viewloader import ViewLoader
from seehear.files import in_row_groups, write_atomic, write_table, write_tables
from seehear.hypotheses.language import parse
from seehear.media.timeline import covers
from seehear.methods import build_method, check_method
from seehear.methods.base import Method
from seehear.methods.deepcluster import VARIANTS, cluster_features, clusters_of
from seehear.modalities import MODALITIES, streams_of
from seehear.models import build_encoders
from seehear.models.audio import AudioEncoder
from seehear.models.pretrained import load_audio_weights, load_video_weights
from seehear.models.speed import prepare_encoders
from seehear.models.video import VideoEncoder
from seehear.pretraining.foreign import (
    Backbones,
    check_backbones,
    encoders_on,
    kept_features,
    open_backbones,
    read_backbones,
    standardise,
    whole_encoders,
    write_backbones,
)
from seehear.pretraining.plan import check_text, looks_at_text
from seehear.pretraining.texts import load_word_vectors, save_vocabulary, trained_texts, with_texts
from seehear.progress import Progress
from seehear.words.vocabulary import Vocabulary


def pretrain(
    source: str | Path | Manifest | None,
    out: str | Path,
    config: Config,
    *,
    resume: bool = False,
    resume_if_there: bool = False,
    quiet: bool = False,
    after_epoch: Callable[[Mapping[str, Any]], bool] | None = None,
) -> Path:
    """Pretrain on the videos of `source` and leave a finished run in `out`.

    `source` is a folder, glob, CSV or Parquet with a `path` column, a manifest that `scan` made, or the address of
    prepared shards. With
    `resume` the run in `out` goes on from its last saved state, `source` and `config` being its own; with
    `resume_if_there` it does if it was begun, and must have these settings.
    `after_epoch` is called with what each epoch logs; when it returns True, the run saves and stops as it
    does at a signal. Returns the run folder.

    Raises:
        UsageError: a setting or method is wrong.
        DataError: no usable video.
        RunError: `out` holds another run, or is in use, or the disk is full.
        TrainingError: training cannot go on; `ProcessError` of these where another process is the cause.
        Interrupted: a signal came; the state is saved.
    """
    folder = RunFolder(Path(out))
    if resume:
        config = folder.load_config()
        folder.check_begun()
        folder.check_trained(f"start from them: --video-weights {folder.model / 'model.safetensors'}")
    else:
        config.check()
        check_method(config.method)
        check_text(config)
        if source is None:
            raise UsageError("no videos given", "seehear pretrain VIDEOS --out RUN")
    if config.threads:
        torch.set_num_threads(config.threads)
    stream_as(config)
    stop = StopRequest()
    with (
        dist.together(config.process_timeout_seconds),
        Progress(quiet=quiet or not dist.is_main()) as progress,
        stop.listening(),
    ):
        if resume_if_there and dist.broadcast(folder.begun and not folder.imported):
            if config.cluster.auto:  # the clusters to begin with are those that its videos asked for
                config = replace(config, cluster=replace(config.cluster, k=folder.load_config().cluster.k))
            folder.check_config(config)
        elif source is not None and not resume and dist.is_main():
            _begin(folder, source, config, progress, stop)
        dist.barrier("the scan of the videos")
        with folder.lock() if dist.is_main() else contextlib.nullcontext():
            if folder.finished:
                progress.note(f"{folder.path} is finished already")
                return folder.path
            try:
                _run(folder, folder.load_config(), progress, stop, after_epoch)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                raise RunError(
                    f"the disk is full: {getattr(error, 'message', error)}",
                    f"free some space, then `seehear pretrain --resume {folder.path}`",
                ) from error
    return folder.path


def _begin(
    folder: RunFolder, source: str | Path | Manifest, config: Config, progress: Progress, stop: StopRequest
) -> None:
    """Find the videos, then make the run folder: what fails before leaves nothing behind."""
    folder.check_new()
    backbones = open_backbones(config)
    _check_buildable(config, backbones)
    manifest = source if isinstance(source, Manifest) else scan_with_progress(source, config, progress, stop)
    for condition in config.data.where:
        manifest = manifest.where(condition)
    if config.data.sample is not None:
        manifest = manifest.sample(config.data.sample, config.seed)
    vocabulary = None
    if looks_at_text(config):
        manifest, config, vocabulary = with_texts(manifest, config)
    progress.note(manifest.summary_text())
    if not len(manifest.usable()):
        raise DataError("no usable video", "the reasons are above, file by file in a manifest: seehear scan --out")
    spans = len(cut(video_table(manifest, needed_streams(config)), config.cluster))
    if config.cluster.auto:
        config = replace(config, cluster=replace(config.cluster, k=clusters_to_begin(spans)))
    k = max(k for k in (config.cluster.k, config.cluster.k_video, config.cluster.k_audio) if k)
    if k > spans:
        raise UsageError(
            f"{spans} spans of video cannot be sorted into {k} clusters",
            f"set cluster.k to {max(2, spans // 8)} or so, or raise cluster.clips_per_video",
        )
    with beginning([folder]):
        folder.create(config)
        write_backbones(folder.encoders, backbones)
        if vocabulary is not None:
            progress.note(save_vocabulary(folder, manifest, config, vocabulary))
        manifest.save(folder.manifest)


def _check_buildable(config: Config, backbones: Backbones) -> None:
    """Raise an error for settings that only the encoders, their files, the spectrogram or the device can judge."""
    choose_device(config.device)
    check_backbones(config, backbones)
    own = {stream: stream for stream in ("video", "audio") if stream not in backbones}
    try:
        _load_weights(build_encoders(config.model, own, seed=0), own, config)
        silence = torch.zeros(1, round(config.clip.audio_seconds * config.clip.sample_rate_hz))
        SpectrogramView(config, Statistics())(silence, config.augment, None)
    except ValueError as error:
        raise UsageError(str(error)) from error


def needed_streams(config: Config) -> tuple[str, ...]:
    """The streams that the encoders of a run see."""
    if config.method in VARIANTS:
        return streams_of(tuple(VARIANTS[config.method].modalities.values()))
    if config.method == "gdt":
        return streams_of(parse(config.gdt.hypotheses).encoded)
    if config.method == "selavi":
        return streams_of(config.selavi.encoders)
    if config.method == "rotation":
        return ("video",)
    return ("video", "audio")


def shortest_usable_seconds(config: Config) -> float:
    """Videos shorter than this have no room for a clip, at the fastest playback speed that is asked for."""
    fastest = parse(config.gdt.hypotheses).fastest if config.method == "gdt" else 1
    return fastest * max(stage.config.clip.seconds for stage in stages(config))


def scan_with_progress(source: str | Path, config: Config, progress: Progress, stop: StopRequest) -> Manifest:
    """`scan`, shown as it goes. A manifest file that `scan` wrote is taken as it is.

    Raises `UsageError` for a manifest whose scan chose the sound tracks otherwise than `data.audio_track` says.
    """
    track = config.data.audio_track
    if Manifest.is_manifest(source):
        manifest = Manifest.load(source)
        if track is not None and manifest.info.get("audio_track") != track:
            raise UsageError(
                f"the manifest {source} was not made with data.audio_track={track}",
                f"make it with: seehear scan ... --audio-track {track}, or leave the setting out",
            )
        return manifest
    return scan(
        source,
        need=needed_streams(config),
        min_seconds=config.data.min_seconds or shortest_usable_seconds(config),
        workers=workers_of(config),
        audio_track=track,
        progress=stop.shown(progress, "scan", "files", "run the same command again"),
    )


def _run(
    folder: RunFolder,
    config: Config,
    progress: Progress,
    stop: StopRequest,
    after_epoch: Callable[[Mapping[str, Any]], bool] | None = None,
) -> None:
    classes_of = None
    if config.method == "supervised":
        classes_of = Manifest.load(folder.manifest).by_id(config.data.label_column)
    backbones = read_backbones(folder.encoders, config)
    if backbones and config.model.tune_encoders:  # dropout in them draws from torch's own generator
        torch.manual_seed(config.seed * 1009 + dist.rank())
    method = build_method(config, classes_of, encoders_on(backbones, config))
    if config.final is not None and "video" not in method.modalities:
        raise UsageError(f"the final stage retrains the video encoder, and {config.method} has none")
    streams = streams_of(tuple(method.modalities.values()))
    columns = dist.once_a_machine("the manifest", lambda: _videos(folder, streams, config, classes_of, progress))
    videos = VideoTable.of_columns(columns, streams)
    if not videos:
        raise DataError(
            f"no video is as long as a clip ({shortest_usable_seconds(config):.2f} s)",
            "shorten clip.audio_seconds or clip.frames",
        )
    if config.method == "selavi" and config.selavi.labels_from == "training" and not method.labels_from_training:
        progress.note("several processes: labels are made from a pass over all clips (selavi.labels_from)")
    if dist.world_size() > 1 and config.optim.sync_batchnorm == "gpu" and choose_device(config.device).type == "cpu":
        progress.note("on CPUs batch normalisation counts each process's own clips (optim.sync_batchnorm)")
    for note in _load_weights(dict(method.encoders.items()), method.modalities, config):
        progress.note(note)
    for note in load_word_vectors(method, folder, config):
        progress.note(note)
    with training(
        folder, method, videos, progress, stop, backbones=backbones, after_epoch=after_epoch
    ) as (trainer, loader, log):  # fmt: skip
        _finish(folder, trainer, whole_encoders(method, backbones), loader, log, progress)
    if dist.is_main():
        shutil.rmtree(folder.encoders, ignore_errors=True)  # they are in the model


def _videos(
    folder: RunFolder,
    streams: Sequence[str],
    config: Config,
    classes_of: Mapping[str, str | None] | None,
    progress: Progress,
) -> pa.Table:
    """The columns of a run's videos: those that can be used, have a class if that is learnt, and room for a clip."""
    rows = usable_rows(Manifest.load(folder.manifest), streams, VideoTable.columns(streams))
    if classes_of is not None:
        rows = rows.filter(pa.array([bool(classes_of.get(i)) for i in rows["video_id"].to_pylist()], pa.bool_()))
    shortest = shortest_usable_seconds(config)
    seconds = VideoTable.from_rows(rows, streams).seconds
    kept = np.fromiter((covers(s, shortest) for s in seconds), bool, len(rows))
    if not kept.all():
        progress.note(f"{len(kept) - kept.sum()} videos are shorter than a clip ({shortest:.2f} s): left out")
        rows = rows.filter(pa.array(kept))
    return VideoTable.columns_of(rows, streams, sort=True)


@contextlib.contextmanager
def training(
    folder: RunFolder,
    method: Method,
    videos: Sequence[Video],
    progress: Progress,
    stop: StopRequest,
    *,
    backbones: Backbones = MappingProxyType({}),
    **options: Any,
) -> Iterator[tuple[Trainer, Supply, RunLog]]:
    """Train from where the run in `folder` stands to its end; then the block has the trainer, its loader and the log.

    Where encoders of others, `backbones`, stay as they are, their features take the place of clips. `options` are the
    keyword arguments of `Trainer` that it may do without. Decoding processes and logs are closed when the block is
    left.
    """
    config = method.config
    device = choose_device(config.device)
    log = RunLog(folder, write=dist.is_main())
    failures = Failures()
    loaders: list[Supply] = []
    vocabulary = Vocabulary.load(folder.vocabulary) if "text" in method.modalities.values() else None

    def make_loader(stage_config: Config) -> Supply:
        stored = {} if config.model.tune_encoders else backbones
        live = {name: m for name, m in method.modalities.items() if m not in stored}
        loader = ClipLoader(
            videos, stage_config, live, Statistics(), workers=workers_of(config) if live else 0,
            cache=media_cache(config), failures=failures, vocabulary=vocabulary, device=device,
        )  # fmt: skip
        loaders.append(loader)
        started = time.monotonic()
        facts: dict[str, Any] = fill_cache(loader, progress, stop) if live else {}
        facts["seconds_decode"] = (decoded := time.monotonic()) - started
        loader.set_statistics(_statistics(folder, loader, stage_config))
        facts["seconds_statistics"] = time.monotonic() - decoded
        supply: ViewLoader | ClipLoader = loader
        if stored:
            supply, more = kept_features(
                method, stored, trainer.videos, stage_config, failures, loader if live else None, loader.statistics,
                device, progress, stop,
            )  # fmt: skip
            facts |= more
        if not went_on:
            standardise(method, supply, stage_config, device, progress)
        log.record("prepare", trainer.state.step, **facts)
        return supply

    trainer = Trainer(
        method, videos, make_loader, folder, log, progress, stop,
        device=device, bfloat16=use_bfloat16(config, device), **options,
    )  # fmt: skip
    went_on = False
    try:
        if went_on := trainer.restore():
            progress.note(f"resuming after step {trainer.state.step}")
        prepare_encoders(dict(method.encoders.items()), device, compile=config.compile, say=progress.note)
        yield trainer, trainer.run(), log
    finally:
        for loader in loaders:
            loader.close()
        log.close()


def _load_weights(encoders: Mapping[str, nn.Module], modalities: Mapping[str, str], config: Config) -> list[str]:
    """Start encoders from files of weights, if the settings name any. Returns what there is to say of it."""
    files = {"video": config.model.video_weights, "audio": config.model.audio_weights}
    said = []
    for name, encoder in encoders.items():
        path = files.get(modalities[name])
        if path is None:
            continue
        if isinstance(encoder, VideoEncoder):
            report = load_video_weights(encoder, path)
        else:
            report = load_audio_weights(cast(AudioEncoder, encoder), path)
        said.append(f"{name}: {len(report.loaded)} tensors of {path} ({report.layout})")
        said += [f"{name}: {note}" for note in report.notes]
    return said


def fill_cache(loader: ClipLoader, progress: Progress, stop: StopRequest) -> dict[str, int]:
    """Decode once what fits the cache; the first process does it for those of its machine."""
    if not dist.is_main() and dist.local_rank() != 0:
        dist.barrier("the media cache")
        return {}
    counts = loader.fill_cache(stop.shown(progress, "decode", "videos", "resume: what is decoded is kept"))
    if progress.task == "decode" or counts["streamed"]:  # silent where all was there
        progress.note(
            f"{counts['cached']} videos decoded once and cached, {counts['streamed']} decoded anew for each clip"
        )
    dist.barrier("the media cache")
    return counts


def _statistics(folder: RunFolder, loader: ClipLoader, config: Config) -> Statistics:
    """The collection's statistics, measured by the first process when the run begins."""
    if dist.is_main() and not folder.statistics.exists():
        measured = measure_statistics(loader, cut(loader.videos.table, config.cluster))
        write_atomic(folder.statistics, json.dumps(measured.to_dict(), indent=1))
    dist.barrier("the statistics of the videos")
    return Statistics.from_dict(json.loads(folder.statistics.read_text()))


def _finish(
    folder: RunFolder,
    trainer: Trainer,
    encoders: Mapping[str, nn.Module],
    loader: Supply,
    log: RunLog,
    progress: Progress,
) -> None:
    """Final features, clusters and labels; `labels.parquet` comes last and marks the run as finished."""
    config, method = loader.config, trainer.method
    refs = spans_of(trainer.videos.table, config)
    share = trainer.features(loader, refs, "final features")
    kinds = final_kinds(share, config.seed, method.count) if config.cluster.auto else None
    if kinds is not None:
        # The number that labels have is from now on that of the model.
        k = kinds.k if method.cluster_heads is None else method.cluster_heads.clusters
        config = replace(config, cluster=replace(config.cluster, k=k or config.cluster.k))
    cluster, clustered = config.cluster, share if kinds is None else kinds.sure(share)
    names = [name for name in ("video", "audio") if name in method.encoders and method.cluster_heads is None]
    labellings = [*names, *(["+".join(names)] if len(names) == 2 else [])]
    made = {
        name: cluster_features(
            clustered, name, clusters_of(name, method.modalities, cluster), cluster, config.seed, trainer.device
        )
        for name in labellings
    }
    features = in_row_groups(dist.tables_of_all(bank_table(share)))
    if not dist.is_main():
        collections.deque(features, maxlen=0)
        return
    # Text is none of what looks at videos: it stands beside.
    seen = {n: m for n, m in method.modalities.items() if MODALITIES[m].stream}
    model = Model(
        config, seen, {n: encoders[n] for n in seen}, loader.statistics,
        projections={n: head for n, head in method.projections.items() if n in seen}, heads=method.cluster_heads,
        texts=trained_texts(method, folder),
    )  # fmt: skip
    model.set_clusters(made)
    model.save(folder.model)
    labels = _write_features(features, folder.features, model, kinds)
    if kinds is not None:
        write_atomic(folder.kinds, json.dumps(kinds.facts(config.cluster.k), indent=1))
        progress.note(kinds.as_text(config.cluster.k))
    state = trainer.state
    log.record(
        "end", state.step, rounds=state.stage, clips_seen=state.clips_seen, steps=state.step,
        failed=len(loader.failures.counts), peak_memory_bytes=peak_memory_bytes(),
    )  # fmt: skip
    write_table(labels, folder.labels)
    progress.note(f"finished: {folder.path}")


def _write_features(
    features: Iterable[pa.Table], path: Path, model: Model, kinds: FinalKinds | None = None
) -> pa.Table:
    """Write features of which only a table at a time is in memory; the labels of all."""
    labels = LabelsOfBlocks(model, companions=None if kinds is None else kinds.companions)

    def labelled() -> Iterator[pa.Table]:
        for table in features:
            labels.add(table_bank(table))
            yield table

    write_tables(labelled(), path)
    return labels.table()
