"""Finetuning from end to end: a run and videos with classes in, a run that names these classes and its scores out.

Test classes are read once, when the probabilities of all test videos are there. The learning rate is chosen on
videos of the training split that are held out for it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from seehear import dist
from seehear.config import Config, with_settings
from seehear.data.clips import Video, clip_refs
from seehear.data.datasets import DataSet, open_data
from seehear.data.loader import ClipLoader, Failures
from seehear.data.manifest import AUDIO_EXTENSIONS, Manifest
from seehear.engine.runfolder import RunFolder
from seehear.engine.stop import StopRequest
from seehear.engine.trainer import Trainer
from seehear.errors import DataError, DivergedError, Interrupted, RunError, TrainingError, UsageError
from seehear.features.bank import FeatureBank
from seehear.features.model import Model, bank_table, usable_videos
from seehear.files import write_atomic
from seehear.methods.finetune import Finetune
from seehear.modalities import STREAMS_OF, streams_of
from seehear.progress import Progress
from seehear.recipes import FINETUNE_PROTOCOLS, finetune_recipe
from seehear.recipes import recipe as named_recipe
from seehear.tasks import evaluations
from seehear.tasks.evaluate import mean_over_splits
from seehear.tasks.label import write_table
from seehear.tasks.metrics import confusion
from seehear.tasks.predict import by_modality, class_probabilities, ranked_classes
from seehear.tasks.pretrain import (
    SHORT_BY_SECONDS,
    choose_device,
    fill_cache,
    gather_bank,
    media_cache,
    peak_memory_bytes,
    training,
    use_bfloat16,
    workers_of,
)
from seehear.tasks.subjects import UNTRAINED
from seehear.tasks.transfer import (
    TEST,
    Answers,
    Split,
    chance_accuracy,
    classes_of,
    draw_orders,
    make_split,
    ranking_chance,
    rare_classes,
    score,
)
from seehear.types import ClipRef

_STREAM_OF = {
    "ucf101": "video", "hmdb51": "video", "esc50": "audio", "esc10": "audio", "dcase2014": "audio",
}  # fmt: skip
"""Sets that are of sight or of sound alone (part of UCF101's videos have no sound)."""
# Clips of one recording: UCF101 cuts v_CLASS_gNN into _cNN, ESC-50 FOLD-ID into takes -A, -B with -CLASS behind.
_RECORDING = re.compile(r"(v_.+_g\d+)_c\d+|(\d-\d+)-[A-Z]-\d+")


def finetune(
    run: str | Path,
    data: str | Path,
    out: str | Path,
    *,
    split: str = "1",
    protocol: str | None = None,
    modality: str | None = None,
    freeze: bool = False,
    shots: int | None = None,
    seed: int | None = None,
    settings: Iterable[str] = (),
    label_column: str = "label",
    split_column: str = "split",
    quiet: bool = False,
) -> dict[str, Any]:
    """Finetune a run's encoders on labelled videos, leave a finetuned run in `out`, and return its scores.

    Args:
        run: a run folder, or "untrained:" and a recipe or run: new encoders of that shape, the baseline.
        data: what `seehear.data.datasets.open_data` takes; a table has the columns path, label and split.
        out: folder of the new run; for several splits they lie in it, each a run of its own.
        split: the number or name of a split, or "all".
        protocol: one of `FINETUNE_PROTOCOLS`; by default the one that suits the run (`finetune_recipe`).
        modality: "video", "audio" or "both": each encoder with a classifier of its own, and the mean of their
            probabilities. By default what both the run and the data have.
        freeze: learn the classifier alone.
        shots: use so many training videos of each class, drawn by the seed.
        seed: of the classifier, the order of clips, the shots and the held-out videos; the run's by default.
        settings: changes such as "optim.epochs=3"; "optim.base_lr=..." sets the rate, and none is searched for.

    Returns:
        For one split what `evaluate_transfer` gives: `scores` by modality and setting, `chosen`, `train_videos`,
        `test_videos`, `missing`, `failures`, chance in `baselines`; and `search`, what was tried. For "all" the means
        over splits with their sample deviations `sd` in `scores`, and the results by split in `splits`.

    Raises:
        UsageError: an option or setting is wrong.
        DataError: the data has no usable training and test videos, or several classes a video.
        RunError: `run` is no trained run, `out` holds one already or is in use, or the disk is full.
        TrainingError: training cannot go on.
        Interrupted: a signal came; the state is saved (`resume_finetuning`).
    """
    dataset = open_data(data, label_column=label_column, split_column=split_column)
    if dataset.multilabel:
        raise UsageError(
            f"{dataset.name} gives several classes to a video, and a finetuning learns one",
            "score its frozen features instead, or give a table with one class for each video",
        )
    columns = dataset.chosen(split)
    start = open_start(run)
    config = finetune_config(
        start, dataset, run=_absolute(run), protocol=protocol, modality=modality, freeze=freeze, shots=shots, seed=seed,
        settings=settings,
    )  # fmt: skip
    with _sitting(quiet) as (progress, stop):
        folders = [RunFolder(Path(out) / column) if len(columns) > 1 else RunFolder(Path(out)) for column in columns]
        if dist.is_main():
            _begin(folders, columns, dataset, config, start, progress, stop)
        dist.barrier()
        return _finetune_all(Path(out), folders, progress, stop)


def evaluate_finetune(
    run: str | Path,
    data: str | Path,
    *,
    split: str | None = None,
    protocol: str | None = None,
    modality: str | None = None,
    settings: Iterable[str] = (),
    label_column: str = "label",
    split_column: str = "split",
    quiet: bool = False,
) -> dict[str, Any]:
    """Finetune a run within its own folder, in `finetuned/`, all splits by default, and return its scores.

    What is there already is not done again, and what was interrupted goes on. Arguments as `finetune`.
    """
    folder, settings = Path(run), list(settings)
    if not folder.is_dir():
        raise UsageError(f"{run} is no folder of a run", f"seehear finetune {run} --data {data} --out FOLDER")
    options = {
        "data": evaluations.absolute(data),
        "split": split or "all",
        "protocol": protocol,
        "modality": modality,
        "settings": list(settings),
        "label_column": label_column,
        "split_column": split_column,
    }
    digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:8]
    out = folder / "finetuned" / f"{evaluations.data_name(data)}-{digest}"
    if any(out.glob("config.yaml")) or any(out.glob("*/config.yaml")):
        return resume_finetuning(out, quiet=quiet)
    return finetune(
        run, data, out, split=split or "all", protocol=protocol, modality=modality, settings=settings,
        label_column=label_column, split_column=split_column, quiet=quiet,
    )  # fmt: skip


def resume_finetuning(out: str | Path, *, quiet: bool = False) -> dict[str, Any]:
    """Go on with what `finetune` began in `out`, to the same bits as if it had not been stopped; its scores."""
    path = Path(out)
    if (path / "config.yaml").is_file():
        folders = [RunFolder(path)]
    else:
        folders = [RunFolder(found.parent) for found in sorted(path.glob("*/config.yaml"))]
    if not folders or any(folder.load_config().method != "finetune" for folder in folders):
        raise RunError(f"{path} is not a finetuning", "`seehear finetune RUN --data DATA --out OUT` makes one")
    with _sitting(quiet) as (progress, stop):
        return _finetune_all(path, folders, progress, stop)


@contextlib.contextmanager
def _sitting(quiet: bool) -> Any:
    """Join other processes if there are any, show progress, and listen to signals."""
    alone = not dist.is_initialized()
    dist.init_from_environment()
    stop = StopRequest()
    with Progress(quiet=quiet or not dist.is_main()) as progress, stop.listening():
        yield progress, stop
    if alone and dist.is_initialized():
        dist.barrier()
        dist.shutdown()


# ---------------------------------------------------------------- the beginning


@dataclass(frozen=True)
class Start:
    """What a finetuning starts from."""

    config: Config
    model: Model | None
    """With the weights, and the statistics that inputs are normalised with; None: new weights and statistics."""
    pretrained: bool

    @property
    def modalities(self) -> dict[str, str]:
        """The encoders that can be finetuned, and what each sees."""
        if self.model is None:
            return {"video": "video", "audio": "audio"}
        return {n: self.model.modalities[n] for n in ("video", "audio") if n in self.model.modalities}


def open_start(run: str | Path) -> Start:
    """The run that a text names, or what "untrained:RECIPE" and "untrained:RUN" mean."""
    text = str(run)
    if not text.startswith(UNTRAINED):
        model = Model.load(run)
        return Start(model.config, model, pretrained=True)
    name = text.removeprefix(UNTRAINED)
    if Path(name).is_dir():
        model = Model.load(name)
        return Start(model.config, model, pretrained=False)
    return Start(named_recipe(name), None, pretrained=False)


def _absolute(run: str | Path) -> str:
    """The text that names a run, the same from any folder."""
    text = str(run)
    begin = UNTRAINED if text.startswith(UNTRAINED) else ""
    name = text.removeprefix(begin)
    return begin + (os.path.abspath(name) if Path(name).exists() else name)


def finetune_config(
    start: Start,
    dataset: DataSet,
    *,
    run: str,
    protocol: str | None = None,
    modality: str | None = None,
    freeze: bool = False,
    shots: int | None = None,
    seed: int | None = None,
    settings: Iterable[str] = (),
) -> Config:
    """The settings of a finetuning; `UsageError` for what does not go together. Arguments as `finetune`."""
    settings = list(settings)
    place = os.path.abspath(dataset.path)
    spec = place if dataset.name == "table" else f"{dataset.name}:{place}"
    config = finetune_recipe(start.config, protocol, freeze, dataset.name)
    if modality is None and config.finetune.protocol == "gdt-vggsound":
        modality = "audio"
    encoders = choose_encoders(start, dataset, modality)
    if "audio" not in encoders:
        # A clip is as long as its frames: shorter videos can be used, and frames are drawn from all of a video.
        config = replace(config, clip=replace(config.clip, audio_seconds=0.0))
    elif encoders == ("audio",):
        config = replace(config, clip=replace(config.clip, frames=1, stride=1))
    config = replace(
        config,
        seed=config.seed if seed is None else seed,
        finetune=replace(config.finetune, run=run, data=spec, encoders=encoders, shots=shots, changes=tuple(settings)),
    )
    fixed = any(text.partition("=")[0].strip() == "optim.base_lr" for text in settings)
    if fixed:
        config = replace(config, finetune=replace(config.finetune, rates=()))
    config = with_settings(config, settings)
    if fixed and len(config.finetune.rates) > 1:
        raise UsageError("optim.base_lr is set, and finetune.rates to choose it from", "set one of the two")
    tuned = config.finetune
    if tuned.audio_lr is not None and len(tuned.rates) > 1:
        raise UsageError("finetune.audio_lr is set, and optim.base_lr is searched for", "set optim.base_lr too")
    if len(tuned.rates) == 1:
        config = replace(config, optim=replace(config.optim, base_lr=tuned.rates[0]))
    if start.pretrained and config.model != replace(start.config.model, video_weights=None, audio_weights=None):
        raise UsageError("the encoders of a run have their shape already", "leave out --set model...")
    if tuned.protocol not in FINETUNE_PROTOCOLS or tuned.encoders != encoders or tuned.freeze != freeze:
        raise UsageError("finetune.protocol, finetune.encoders and finetune.freeze have options of their own")
    config.check()
    return config


def choose_encoders(start: Start, dataset: DataSet, modality: str | None) -> tuple[str, ...]:
    """The encoders to finetune: those asked for, or those of what the run and the data both have."""
    there = tuple(start.modalities)
    if modality is not None:
        if modality not in STREAMS_OF:
            raise UsageError(f"there is no modality {modality!r}", f"choose one of {', '.join(STREAMS_OF)}")
        if not set(STREAMS_OF[modality]) <= set(there):
            raise UsageError(f"the run has no encoder of {modality!r}", f"it has: {' and '.join(there)}")
        return STREAMS_OF[modality]
    stream = _STREAM_OF.get(dataset.name)
    if stream is None and all(_is_sound(row["path"]) for row in dataset.rows):
        stream = "audio"
    found = tuple(name for name in there if stream in (None, name))
    if not found:
        raise UsageError(f"the data is of {stream} alone, and the run has no such encoder", f"it has: {there[0]}")
    return found


def _is_sound(path: str) -> bool:
    return Path(path).suffix.lstrip(".").lower() in AUDIO_EXTENSIONS


def _begin(
    folders: Sequence[RunFolder],
    columns: Sequence[str],
    dataset: DataSet,
    config: Config,
    start: Start,
    progress: Progress,
    stop: StopRequest,
) -> None:
    """Look at the files, then make the run folders: what fails before leaves nothing behind."""
    for folder in folders:
        folder.check_new()
    choose_device(config.device)
    streams = streams_of(config.finetune.encoders)
    manifest = dataset.manifest(
        need=streams,
        min_seconds=config.data.min_seconds or config.clip.seconds,
        workers=workers_of(config),
        progress=_shown(progress, stop, "scan", "files", "run the same command again"),
    )
    manifest = _fitting(manifest, streams, config.clip.seconds)
    progress.note(manifest.summary_text())
    if dataset.note:
        progress.note(f"{dataset.name}: {dataset.note}")
    manifests = [_of_split(manifest, column, dataset) for column in columns]
    for of_split in manifests:
        _Job(RunFolder(Path()), config, of_split).held_out()  # what is wrong shows before anything is written
    for folder, column, of_split in zip(folders, columns, manifests, strict=True):
        folder.create(replace(config, finetune=replace(config.finetune, split=column)))
        of_split.save(folder.manifest)
        if start.model is not None:
            write_atomic(folder.statistics, json.dumps(start.model.statistics.to_dict(), indent=1))
        if start.model is not None and start.pretrained:
            kept = {name: start.modalities[name] for name in config.finetune.encoders}
            encoders = {name: start.model.encoders[name] for name in kept}
            Model(start.config, kept, encoders, start.model.statistics).save(_start_of(folder))


def _start_of(folder: RunFolder) -> Path:
    """Where the pretrained encoders lie, so that the run they come from is not needed again."""
    return folder.path / "start"


def _fitting(manifest: Manifest, streams: Sequence[str], seconds: float) -> Manifest:
    """A manifest in which files without a needed stream, or shorter than a clip, are no longer usable.

    A manifest that was made for something else may hold such.
    """
    rows = manifest.rows()
    for row in rows:
        if not row["usable"]:
            continue
        lacking = [s for s in streams if row[f"{s}_duration_seconds"] is None]
        if lacking:
            row |= {"usable": False, "reason": f"no_{lacking[0]}", "detail": f"it has no {lacking[0]}"}
        elif Video.from_row(row, streams).seconds < seconds - SHORT_BY_SECONDS:
            row |= {"usable": False, "reason": "too_short", "detail": f"shorter than a clip ({seconds:.2f} s)"}
    return Manifest(pa.Table.from_pylist(rows, schema=manifest.table.schema), manifest.info)


def _of_split(manifest: Manifest, column: str, dataset: DataSet) -> Manifest:
    """The manifest with one split, as the column `split`; what is missing on disk goes with it."""
    table = manifest.table
    values = table.column(column)
    others = [name for name in dataset.splits if name != "split"]
    table = table.drop_columns([name for name in (*others, "split") if name in table.column_names])
    info = dict(manifest.info) | {"missing": dataset.missing[column], "note": dataset.note}
    return Manifest(table.append_column("split", values), info)


# ---------------------------------------------------------------- one finetuning


@dataclass
class _Job:
    """One split: who trains, who is held out to choose the rate, and who is tested."""

    folder: RunFolder
    config: Config
    manifest: Manifest
    split: Split = field(init=False)
    """What may be known of the data before the test: no class of a test video."""
    classes: dict[str, str] = field(init=False)
    """The training videos' classes by id; with `finetune.shots` of so many of each class."""

    def __post_init__(self) -> None:
        self.split = make_split(self.manifest)
        self.classes = self.split.train
        if self.config.finetune.shots is not None:
            self.classes = few(self.split.train, self.config.finetune.shots, self.config.seed)

    @property
    def class_names(self) -> list[str]:
        return sorted(set(self.classes.values()))

    @property
    def modalities(self) -> dict[str, str]:
        return {name: name for name in self.config.finetune.encoders}

    def videos(self, ids: Iterable[str]) -> list[Video]:
        """These videos, in the manifest's order."""
        wanted = set(ids)
        return [v for v in usable_videos(self.manifest, streams_of(tuple(self.modalities))) if v.video_id in wanted]

    def held_out(self) -> list[str]:
        """The training videos on which learning rates are compared; none if there is nothing to choose."""
        settings = self.config.finetune
        if len(settings.rates) < 2:
            return []
        groups = recordings(self.manifest, self.classes)
        return hold_out(self.classes, groups, settings.validation_share, self.config.seed)

    def at_rate(self, rates: Mapping[str, float], training_videos: int) -> Config:
        """The settings of a training at a rate for each encoder, an epoch being so many clips of each video."""
        config, first = self.config, next(iter(self.modalities))
        optim = replace(config.optim, base_lr=rates[first])
        if optim.clips_per_epoch is None:
            optim = replace(optim, clips_per_epoch=training_videos * config.finetune.clips_per_video)
        audio_lr = rates["audio"] if first != "audio" and "audio" in rates else None
        return replace(config, optim=optim, finetune=replace(config.finetune, audio_lr=audio_lr))

    def fixed_rates(self) -> dict[str, float]:
        """The rate of each encoder where nothing is chosen."""
        rates = dict.fromkeys(self.modalities, self.config.optim.base_lr)
        if self.config.finetune.audio_lr is not None:
            rates["audio"] = self.config.finetune.audio_lr
        return {name: rates[name] for name in self.modalities}

    def method(self, config: Config) -> Finetune:
        """The encoders as they start, with what they are to learn."""
        method = Finetune(config, self.modalities, self.class_names, self.classes)
        if _start_of(self.folder).exists():
            method.encoders.load_state_dict(Model.load(_start_of(self.folder)).encoders.state_dict())
        return method


def _finetune_all(out: Path, folders: Sequence[RunFolder], progress: Progress, stop: StopRequest) -> dict[str, Any]:
    """Finetune each split that is not finished; the result of one, or the mean of several."""
    results = {}
    for folder in folders:
        with folder.lock() if dist.is_main() else contextlib.nullcontext():
            if not folder.result.exists():
                try:
                    _finetune_split(folder, out, progress, stop)
                except OSError as error:
                    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                        raise
                    raise RunError(
                        f"the disk is full: {getattr(error, 'message', error)}",
                        f"free some space, then `seehear finetune --resume {out}`",
                    ) from error
            else:
                progress.note(f"{folder.path} is finished already")
        results[folder.path.name] = json.loads(folder.result.read_text())
    result = next(iter(results.values())) if len(folders) == 1 else mean_result(results)
    if dist.is_main():
        if len(folders) > 1:
            write_atomic(out / "result.json", json.dumps(result, indent=1))
        for path in keep(folders[0].load_config(), out, result):
            progress.note(f"kept: {path}")
    return result


def _finetune_split(folder: RunFolder, out: Path, progress: Progress, stop: StopRequest) -> None:
    """Choose the rate, train on the whole training split, answer for the test split; the result is written last."""
    config = folder.load_config()
    if config.threads:
        torch.set_num_threads(config.threads)
    job = _Job(folder, config, Manifest.load(folder.manifest))
    command = f"seehear finetune --resume {out}"
    rates, search = job.fixed_rates(), None
    if len(config.finetune.rates) > 1:
        search = _search(job, progress, stop, command)
        rates = best_rates(search["tried"], list(job.modalities))
        words = ", ".join(f"{name} {rate:g}" for name, rate in rates.items())
        progress.note(f"learning rate, chosen on {search['held_out_videos']} held-out training videos: {words}")
    tuned = job.at_rate(rates, len(job.classes))
    torch.manual_seed(config.seed)  # dropout draws from torch's own generator
    with training(
        folder, job.method(tuned), job.videos(job.classes), progress, stop, validation=(), resume_command=command
    ) as (trainer, loader, log):
        model = _model_of(trainer, loader)
        if dist.is_main():
            model.save(folder.model)
        failures = Failures()
        tested = _test(job, trainer, model, failures, progress, stop, command)
        log.failures(failures.reports, part=TEST)
        gone = dist.all_gather_objects(list(filter(loader.failures.given_up, loader.failures.counts)))
        lost = {i for share in gone for i in share}
        state = trainer.state
        log.record(
            "end", state.step, rounds=state.stage, clips_seen=state.clips_seen, steps=state.step,
            failed=len(loader.failures.counts), peak_memory_bytes=peak_memory_bytes(),
        )  # fmt: skip
    if dist.is_main():
        write_table(bank_table(tested), folder.path / "predictions.parquet")
        result = _result(job, model, tested, rates, search, lost, failures)
        write_atomic(folder.result, json.dumps(result, indent=1))
        progress.note(f"finished: {folder.path}")
    dist.barrier()


def _model_of(trainer: Trainer, loader: ClipLoader) -> Model:
    """The trained encoders with their classifiers."""
    method = trainer.method
    assert isinstance(method, Finetune)
    dist.average_buffers(method)
    return Model(
        method.config, method.modalities, dict(method.encoders.items()), loader.statistics,
        classifiers={name: method.classifier(name) for name in method.modalities}, class_names=method.class_names,
    )  # fmt: skip


def _test(
    job: _Job,
    trainer: Trainer,
    model: Model,
    failures: Failures,
    progress: Progress,
    stop: StopRequest,
    command: str,
) -> FeatureBank:
    """The probabilities of the classes for every test video that can be decoded."""
    videos = job.videos(job.split.test)
    with ClipLoader(
        videos, model.config, model.modalities, model.statistics, workers=workers_of(model.config),
        cache=media_cache(model.config), failures=failures,
    ) as loader:  # fmt: skip
        fill_cache(loader, progress, stop)
        tested = _probabilities(trainer, model, loader, clip_refs(videos, model.config.cluster), "test", progress, stop,
                                command)  # fmt: skip
    failures.reports[:] = [report for share in dist.all_gather_objects(failures.reports) for report in share]
    if not len(tested):
        raise DataError("not one test video could be decoded", "the reasons are in failures.jsonl of the run folder")
    if not all(np.isfinite(x).all() for x in tested.features.values()):
        raise TrainingError("the classifier gives probabilities that are not finite", "lower optim.base_lr")
    return tested


def _probabilities(
    trainer: Trainer,
    model: Model,
    loader: ClipLoader,
    refs: Sequence[ClipRef],
    title: str,
    progress: Progress,
    stop: StopRequest,
    command: str,
) -> FeatureBank:
    """`class_probabilities` by all processes together; every one has all of them."""
    share = class_probabilities(
        model, loader, dist.share(refs), clips=model.config.finetune.test_clips, device=trainer.device,
        bfloat16=use_bfloat16(model.config, trainer.device),
        progress=_shown(progress, stop, title, "clips", f"go on with `{command}`"),
    )  # fmt: skip
    return gather_bank(share)


def _shown(progress: Progress, stop: StopRequest, title: str, unit: str, remedy: str) -> Callable[[int, int], None]:
    """A callback that shows a task, and leaves it when a signal came."""
    update = progress.shown(title, unit)

    def show(done: int, total: int) -> None:
        update(done, total)
        if stop:
            raise Interrupted(f"stopped by {stop.name}", remedy)

    return show


# ---------------------------------------------------------------- the learning rate


def few(classes: Mapping[str, str], shots: int, seed: int) -> dict[str, str]:
    """`shots` videos of each class, or all that there are; those of fewer shots are among those of more."""
    ids = list(classes)
    labels = np.array([classes[i] for i in ids])
    rows = sorted(int(row) for order in draw_orders(labels, seed) for row in order[:shots])
    return {ids[row]: classes[ids[row]] for row in rows}


def recordings(manifest: Manifest, ids: Iterable[str]) -> dict[str, str]:
    """What recording each video is cut from: the column `group`, or what names of UCF101 and ESC-50 tell, or itself."""
    column = manifest.by_id("group") if "group" in manifest.extra_columns else {}
    found = {}
    for video_id in ids:
        named = _RECORDING.fullmatch(Path(video_id).stem)
        found[video_id] = column.get(video_id) or (named and (named[1] or named[2])) or video_id
    return found


def hold_out(classes: Mapping[str, str], groups: Mapping[str, str], share: float, seed: int) -> list[str]:
    """About `share` of the videos, of each class alike, whole groups together; each class keeps a group to train on.

    A class of one group is not held out. Raises `DataError` if nothing can be.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    ids = sorted(classes)
    labels, of = np.array([classes[i] for i in ids]), np.array([groups[i] for i in ids])
    folds = max(2, round(1 / share))
    out: set[str] = set()
    if np.unique(labels, return_counts=True)[1].max() >= folds:
        alone = len(set(of)) == len(of)
        splitter = (StratifiedKFold if alone else StratifiedGroupKFold)(folds, shuffle=True, random_state=seed)
        with rare_classes():
            _, rows = next(splitter.split(ids, labels, None if alone else of))
        out = {ids[row] for row in rows}
    else:
        # Fewer videos of every class than folds: one group of each class that has several.
        rng = np.random.default_rng(seed)
        for name in np.unique(labels):
            there = np.unique(of[labels == name])
            if len(there) > 1:
                out |= {ids[row] for row in np.flatnonzero(of == rng.choice(there))}
    kept = {classes[i] for i in ids if i not in out}
    back = {groups[i] for i in out if classes[i] not in kept}
    out = {i for i in out if groups[i] not in back}
    if not out:
        raise DataError(
            "no training video can be held out to choose the learning rate: each class has one recording",
            "set the rate: --set optim.base_lr=0.01",
        )
    return sorted(out)


def _search(job: _Job, progress: Progress, stop: StopRequest, command: str) -> dict[str, Any]:
    """Train at every rate without the held-out videos and score these; each is kept as soon as it is known."""
    path, rates = job.folder.path / "search.json", job.config.finetune.rates
    held = job.held_out()
    search: dict[str, Any] = {
        "training_videos": len(job.classes) - len(held),
        "held_out_videos": len(held),
        "held_out": held,
        "tried": [],
    }
    if path.exists():
        search = json.loads(path.read_text())
    dist.barrier()
    for number, rate in enumerate(rates, 1):
        if any(entry["base_lr"] == rate for entry in search["tried"]):
            continue
        title = f"learning rate {rate:g} ({number}/{len(rates)}): "
        search["tried"].append({"base_lr": rate, **_try_rate(job, rate, held, title, progress, stop, command)})
        if dist.is_main():
            write_atomic(path, json.dumps(search, indent=1))
            shutil.rmtree(_trial(job, rate).checkpoints, ignore_errors=True)
        dist.barrier()
    return search


def _trial(job: _Job, rate: float) -> RunFolder:
    return RunFolder(job.folder.path / "search" / f"{rate:g}")


def _try_rate(
    job: _Job, rate: float, held: Sequence[str], title: str, progress: Progress, stop: StopRequest, command: str
) -> dict[str, Any]:
    """Accuracy and loss on the held-out videos, by encoder, after a training at this rate."""
    trial = _trial(job, rate)
    if dist.is_main():
        trial.path.mkdir(parents=True, exist_ok=True)
        if job.folder.statistics.exists():
            write_atomic(trial.statistics, job.folder.statistics.read_bytes())
    dist.barrier()
    config = job.at_rate(dict.fromkeys(job.modalities, rate), len(job.classes) - len(held))
    torch.manual_seed(job.config.seed)
    try:
        with training(
            trial, job.method(config), job.videos(job.classes), progress, stop, validation=held, title=title,
            resume_command=command,
        ) as (trainer, loader, _):  # fmt: skip
            refs = clip_refs(job.videos(held), config.cluster)
            bank = _probabilities(
                trainer, _model_of(trainer, loader), loader, refs, f"{title}held-out videos", progress, stop, command
            )
    except DivergedError:
        progress.note(f"{title}gradients are not finite: not taken")
        return {"diverged": True}
    if not len(bank):
        raise DataError("not one held-out video could be decoded", "mend the data, or set optim.base_lr")
    number = {name: i for i, name in enumerate(job.class_names)}
    truth = np.array([number[job.classes[ref.video_id]] for ref in bank.refs])
    return {name: held_out_score(bank.features[name], truth) for name in job.modalities}


def held_out_score(probabilities: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Accuracy and mean −log probability (nats) of the true classes (N,) by averaged probabilities (N, C)."""
    of_truth = probabilities[np.arange(len(truth)), truth].astype(np.float64)
    return {
        "accuracy": float((ranked_classes(probabilities)[:, 0] == truth).mean()),
        "loss": float(-np.log(of_truth.clip(1e-12)).mean()),
    }


def best_rates(tried: Sequence[Mapping[str, Any]], encoders: Sequence[str]) -> dict[str, float]:
    """For each encoder the rate of the best accuracy; of equals that of the lowest loss, then the lowest rate."""
    converged = [entry for entry in tried if not entry.get("diverged")]
    if not converged:
        raise TrainingError("training diverged at every learning rate", "--set finetune.rates=[...] with lower ones")
    return {
        name: min(converged, key=lambda e: (-e[name]["accuracy"], e[name]["loss"], e["base_lr"]))["base_lr"]
        for name in encoders
    }


# ---------------------------------------------------------------- results


def _result(
    job: _Job,
    model: Model,
    tested: FeatureBank,
    rates: Mapping[str, float],
    search: Mapping[str, Any] | None,
    lost: set[str],
    failures: Failures,
) -> dict[str, Any]:
    """Scores of the test videos; the only place where their classes are read."""
    settings = job.config.finetune
    answers = answers_of(tested, model.class_names, rates)
    ids = [ref.video_id for ref in tested.refs]
    usable = {i for i, u in job.manifest.by_id("usable").items() if u}
    split = make_split(job.manifest, decoded=(usable - set(job.split.test) - lost) | set(ids))
    by_id = classes_of(job.manifest, "label", "split", TEST)
    truth = np.array([by_id[i] for i in ids])
    scores = {m: {setting: s.as_dict() for setting, s in score(a, truth).items()} for m, a in answers.items()}
    known = truth != ""
    confusions = {m: confusion(truth[known], a.classes["accuracy"][0, known, 0]) for m, a in answers.items()}
    labels = np.array(list(job.classes.values()))
    chance = {"accuracy": chance_accuracy(labels, truth), **ranking_chance(labels, truth)}
    missing = {part: dict(counts) for part, counts in split.missing.items()}
    unlabelled = int((truth == "").sum())
    missing[TEST]["unlabelled"] = unlabelled
    for part, count in job.manifest.info.get("missing", {}).items():
        missing[part]["not_on_disk"] = count
    return {
        "protocol": "finetune",
        "description": describe(job.config),
        "run": settings.run,
        "data": settings.data,
        "split": settings.split,
        "freeze": settings.freeze,
        "clips": settings.test_clips,
        "scores": scores,
        "chosen": {name: {"base_lr": rate} for name, rate in rates.items()},
        "search": None if search is None else {k: v for k, v in search.items() if k != "held_out"},
        "train_videos": len(set(job.classes) - lost),
        "test_videos": len(ids) - unlabelled,
        "classes": len(model.class_names),
        "missing": missing,
        "videos_of_other_splits": split.other,
        "test_classes_not_trained": sorted(set(truth[truth != ""].tolist()) - set(model.class_names)),
        "baselines": {"chance": {m: {k: {"value": chance[k]} for k in of} for m, of in scores.items()}},
        "failures": failures.reports,
        "confusion": confusions,
        **({"note": job.manifest.info["note"]} if job.manifest.info.get("note") else {}),
    }


def describe(config: Config) -> str:
    """A finetuning in a line."""
    settings = config.finetune
    what = "the classifier alone is learnt" if settings.freeze else "encoder and classifier are learnt"
    shots = "" if settings.shots is None else f", {settings.shots} training videos a class"
    return f"protocol {settings.protocol}, {what}{shots}; start: {settings.run}"


def answers_of(bank: FeatureBank, class_names: Sequence[str], rates: Mapping[str, float]) -> dict[str, Answers]:
    """By modality the likeliest class of each video and the probabilities of all."""
    names = np.array(class_names)
    return {
        modality: Answers(
            {"accuracy": names[ranked_classes(p)[:, 0]][None, :, None]},
            {"base_lr": rates[modality]} if modality in rates else {},
            p[None],
            names,
        )
        for modality, p in by_modality(bank).items()
    }


def mean_result(results: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The results of several splits, and the mean of each score over them with its sample deviation `sd`."""
    first = next(iter(results.values()))
    shared = {key: first[key] for key in ("protocol", "description", "run", "data", "freeze", "clips")}
    return {**shared, "split": "all", **mean_over_splits(results)}


def keep(config: Config, out: Path, result: Mapping[str, Any]) -> list[Path]:
    """Keep the scores among the evaluations of the run that was finetuned, and of the new one; the files."""
    settings = config.finetune
    runs = [out] if settings.run.startswith(UNTRAINED) else [Path(settings.run), out]
    kept = []
    for run in runs:
        folder = RunFolder(run)
        own_seed = folder.load_config().seed if folder.config.is_file() else config.seed
        options = {
            "protocol": settings.protocol,
            "split": result["split"] if result["split"] != "split" else None,
            "modality": "both" if len(settings.encoders) == 2 else settings.encoders[0],
            "freeze": settings.freeze,
            "shots": None if settings.shots is None else str(settings.shots),
            "seed": config.seed if config.seed != own_seed else None,
            "set": list(settings.changes),
        }
        name = "fc-only" if settings.freeze else "finetune"
        path = evaluations.save(run, name, result, data=settings.data, options=options)
        kept += [] if path is None else [path]
    return kept


def as_text(result: Mapping[str, Any]) -> str:
    """A result for a person."""
    lines = [f"finetune: {result['description']}"]
    if "splits" in result:
        lines.append(f"mean over {len(result['splits'])} splits of {result['data']}, {result['clips']} clips a video")
        names = list(result["splits"])
        lines.append(f"{'':<20}{'mean':>8}{'sd':>8}" + "".join(f"{name:>10}" for name in names))
        for modality, scores in result["scores"].items():
            for setting, of in scores.items():
                each = (result["splits"][name]["scores"][modality][setting]["value"] for name in names)
                cells = f"{of['value']:>8.3f}{of['sd']:>8.3f}" + "".join(f"{value:>10.3f}" for value in each)
                lines.append(f"{modality + ' ' + setting:<20}{cells}")
        lines += [f"{name}: {line}" for name in names for line in _left_out(result["splits"][name])]
        return "\n".join(lines)
    lines.append(
        f"{result['data']}, {result['split']}: {result['clips']} clips a video; "
        f"{result['train_videos']} training videos, {result['test_videos']} test videos, {result['classes']} classes"
    )
    chance = result["baselines"]["chance"]
    lines.append(f"{'':<20}{'score':>8}{'95 % interval':>16}{'chance':>9}")
    for modality, scores in result["scores"].items():
        for setting, of in scores.items():
            interval = f"{of['low']:>10.3f}-{of['high']:.3f}"
            by_chance = f"{chance[modality][setting]['value']:>9.3f}"
            lines.append(f"{modality + ' ' + setting:<20}{of['value']:>8.3f}{interval}{by_chance}")
    rates = ", ".join(f"{name} {of['base_lr']:g}" for name, of in result["chosen"].items())
    search = result["search"]
    how = f" (best on {search['held_out_videos']} held-out training videos)" if search else ""
    lines.append(f"learning rate: {rates}{how}")
    return "\n".join(lines + _left_out(result))


def _left_out(result: Mapping[str, Any]) -> list[str]:
    lines = []
    for part, counts in result["missing"].items():
        if any(counts.values()):
            lines.append(f"left out of {part}: " + ", ".join(f"{n} {why}" for why, n in counts.items() if n))
    if result["test_classes_not_trained"]:
        lines.append(f"test classes without a training video: {', '.join(result['test_classes_not_trained'])}")
    if "note" in result:
        lines.append(result["note"])
    return lines + [f"left out: {f['path']}: {f['reason']}: {f['detail']}" for f in result["failures"]]
