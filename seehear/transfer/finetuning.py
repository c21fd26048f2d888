"""Finetuning from end to end: a run and videos with classes in, a run that names these classes and its scores out.

Test classes are read once, when the probabilities of all test videos are there. The learning rate is chosen on
videos of the training split that are held out for it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from seehear import dist
from seehear.config import Config
from seehear.data.cache import media_cache
from seehear.data.clips import Video, clip_refs
from seehear.data.datasets import TEST, DataSet, open_data
from seehear.data.loader import ClipLoader, Failures, workers_of
from seehear.data.manifest import Manifest
from seehear.data.supply import Supply
from seehear.engine.device import choose_device, peak_memory_bytes, use_bfloat16
from seehear.engine.runfolder import RunFolder, beginning, check_new
from seehear.engine.stop import StopRequest
from seehear.engine.trainer import Trainer
from seehear.errors import DataError, DivergedError, RunError, TrainingError, UsageError
from seehear.features.bank import FeatureBank, gather_bank
from seehear.features.model import Model, bank_table
from seehear.files import write_atomic, write_table, writing
from seehear.media.timeline import covers
from seehear.methods.finetune import Finetune
from seehear.methods.several import indicators_of
from seehear.modalities import streams_of
from seehear.pretraining.run import fill_cache, training
from seehear.progress import Progress
from seehear.transfer import evaluations
from seehear.transfer.finetune_config import Start, absolute_run, finetune_config, open_start
from seehear.transfer.finetune_job import Job
from seehear.transfer.finetune_rates import best_rates, held_out_score, held_out_score_of_several
from seehear.transfer.finetune_result import keep, make_result, mean_result
from seehear.transfer.prediction import class_probabilities
from seehear.types import ClipRef


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
    quiet: bool | None = False,
) -> dict[str, Any]:
    """Finetune a run's encoders on labelled videos, leave a finetuned run in `out`, and return its scores.

    Arguments, result and errors are those of `seehear.finetune`.
    """
    dataset = open_data(data, label_column=label_column, split_column=split_column)
    columns = dataset.chosen(split)
    start = open_start(run)
    config = finetune_config(
        start, dataset, run=absolute_run(run), protocol=protocol, modality=modality, freeze=freeze, shots=shots,
        seed=seed, settings=settings,
    )  # fmt: skip
    with _sitting(quiet) as (progress, stop):
        folders = [RunFolder(Path(out) / column) if len(columns) > 1 else RunFolder(Path(out)) for column in columns]
        if dist.is_main() and not _finished_already(folders, columns, config):
            _begin(folders, columns, dataset, config, start, progress, stop)
        dist.barrier("the look at the videos")
        return _finetune_all(Path(out), folders, progress, stop)


def finetune_within(
    run: str | Path,
    data: str | Path,
    *,
    split: str | None = None,
    protocol: str | None = None,
    modality: str | None = None,
    settings: Iterable[str] = (),
    label_column: str = "label",
    split_column: str = "split",
    quiet: bool | None = False,
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
    folders = [RunFolder(found.parent) for found in (*out.glob("config.yaml"), *out.glob("*/config.yaml"))]
    if folders and all(found.begun for found in folders):
        return resume_finetuning(out, quiet=quiet)
    return finetune(
        run, data, out, split=split or "all", protocol=protocol, modality=modality, settings=settings,
        label_column=label_column, split_column=split_column, quiet=quiet,
    )  # fmt: skip


def resume_finetuning(out: str | Path, *, quiet: bool | None = False) -> dict[str, Any]:
    """Go on with what `finetune` began in `out`, to the same bits as if it had not been stopped; its scores."""
    path = Path(out)
    if (path / "config.yaml").is_file():
        folders = [RunFolder(path)]
    else:
        folders = [RunFolder(found.parent) for found in sorted(path.glob("*/config.yaml"))]
    if not folders or any(folder.load_config().method != "finetune" for folder in folders):
        raise RunError(f"{path} is not a finetuning", "`seehear finetune RUN --data DATA --out OUT` makes one")
    for folder in folders:
        folder.check_begun()
    with _sitting(quiet) as (progress, stop):
        return _finetune_all(path, folders, progress, stop)


@contextlib.contextmanager
def _sitting(quiet: bool | None) -> Any:
    """Join other processes if there are any, show progress, and listen to signals."""
    stop = StopRequest()
    with (
        dist.together(),
        Progress(quiet=quiet if dist.is_main() else True) as progress,
        stop.listening(),
    ):
        yield progress, stop


def _finished_already(folders: Sequence[RunFolder], columns: Sequence[str], config: Config) -> bool:
    """Whether this very finetuning has come to its end here, and was killed before it told its result."""
    with writing(folders[0].path):  # a name that cannot be looked at cannot be written either
        return all(
            folder.result.exists()
            and folder.config.exists()
            and folder.load_config() == replace(config, finetune=replace(config.finetune, split=column))
            for folder, column in zip(folders, columns, strict=True)
        )


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
    check_new(folders)
    choose_device(config.device)
    streams = streams_of(config.finetune.encoders)
    manifest = dataset.manifest(
        need=streams,
        min_seconds=config.data.min_seconds or config.clip.seconds,
        workers=workers_of(config),
        audio_track=config.data.audio_track,
        progress=stop.shown(progress, "scan", "files", "run the same command again"),
    )
    manifest = _fitting(manifest, streams, config.clip.seconds)
    progress.note(manifest.summary_text())
    if dataset.note:
        progress.note(f"{dataset.name}: {dataset.note}")
    manifests = [_of_split(manifest, column, dataset) for column in columns]
    for of_split in manifests:
        Job(RunFolder(Path()), config, of_split).held_out()  # what is wrong shows before anything is written
    with beginning(folders):
        for folder, column in zip(folders, columns, strict=True):
            folder.create(replace(config, finetune=replace(config.finetune, split=column)))
            if start.model is not None:
                write_atomic(folder.statistics, json.dumps(start.model.statistics.to_dict(), indent=1))
            if start.model is not None and start.pretrained:
                kept = {name: start.modalities[name] for name in config.finetune.encoders}
                encoders = {name: start.model.encoders[name] for name in kept}
                Model(start.config, kept, encoders, start.model.statistics).save(folder.start)
        for folder, of_split in zip(folders, manifests, strict=True):
            of_split.save(folder.manifest)


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
        elif not covers(Video.from_row(row, streams).seconds, seconds):
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
    job = Job(folder, config, Manifest.load(folder.manifest))
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
        result = make_result(job, model, tested, rates, search, lost, failures)
        write_atomic(folder.result, json.dumps(result, indent=1))
        progress.note(f"finished: {folder.path}")
    dist.barrier("the result")


def _model_of(trainer: Trainer, loader: Supply) -> Model:
    """The trained encoders with their classifiers."""
    method = trainer.method
    assert isinstance(method, Finetune)
    dist.average_buffers(method)
    return Model(
        method.config, method.modalities, dict(method.encoders.items()), loader.statistics,
        classifiers={name: method.classifier(name) for name in method.modalities}, class_names=method.class_names,
    )  # fmt: skip


def _test(
    job: Job,
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
        cache=media_cache(model.config), failures=failures, device=trainer.device,
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
        progress=stop.shown(progress, title, "clips", f"go on with `{command}`"),
    )  # fmt: skip
    return gather_bank(share)


def _search(job: Job, progress: Progress, stop: StopRequest, command: str) -> dict[str, Any]:
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
    dist.barrier("the search for a learning rate")
    for number, rate in enumerate(rates, 1):
        if any(entry["base_lr"] == rate for entry in search["tried"]):
            continue
        title = f"learning rate {rate:g} ({number}/{len(rates)}): "
        search["tried"].append({"base_lr": rate, **_try_rate(job, rate, held, title, progress, stop, command)})
        if dist.is_main():
            write_atomic(path, json.dumps(search, indent=1))
            shutil.rmtree(_trial(job, rate).checkpoints, ignore_errors=True)
        dist.barrier("the search for a learning rate")
    return search


def _trial(job: Job, rate: float) -> RunFolder:
    return RunFolder(job.folder.path / "search" / f"{rate:g}")


def _try_rate(
    job: Job, rate: float, held: Sequence[str], title: str, progress: Progress, stop: StopRequest, command: str
) -> dict[str, Any]:
    """Accuracy and loss on the held-out videos, by encoder, after a training at this rate."""
    trial = _trial(job, rate)
    if dist.is_main():
        trial.path.mkdir(parents=True, exist_ok=True)
        if job.folder.statistics.exists():
            write_atomic(trial.statistics, job.folder.statistics.read_bytes())
    dist.barrier("the start of a learning rate")
    config = job.at_rate(dict.fromkeys(job.modalities, rate), len(job.classes) - len(held))
    torch.manual_seed(job.config.seed)
    try:
        with training(
            trial, job.method(config), job.videos(job.classes), progress, stop, validation=held, title=title,
            resume_command=command,
        ) as (trainer, loader, _):  # fmt: skip
            assert isinstance(loader, ClipLoader)  # a finetuning decodes its clips
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
    texts = [job.classes[ref.video_id] for ref in bank.refs]
    if job.separator is not None:
        several = indicators_of(texts, job.class_names, job.separator)
        return {name: held_out_score_of_several(bank.features[name], several) for name in job.modalities}
    truth = np.array([number[text] for text in texts])
    return {name: held_out_score(bank.features[name], truth) for name in job.modalities}
