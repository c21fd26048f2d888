"""Features and labels of many videos in parts: blocks that any process makes, and the table that joins them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from seehear.config import Config
from seehear.data.loader import Failures, worker_count
from seehear.data.manifest import Manifest
from seehear.data.scan_parts import manifest_file
from seehear.engine.device import choose_device
from seehear.engine.runfolder import RunFolder, model_sha256, open_run
from seehear.engines import Do, Engine, Task, Tell, Work, run
from seehear.errors import DataError, UsageError
from seehear.features.blocks import Embedder, block_edges, clips_of
from seehear.features.model import Model, bank_table, usable_rows
from seehear.files import check_ending, write_table, write_tables
from seehear.labelling.blocks import BlockLabels, labels_of_blocks
from seehear.labelling.heads import Head, seen_again
from seehear.labelling.labels import Source, by_what_there_is, check_labels, checked_run
from seehear.modalities import STREAMS_OF
from seehear.parts import Part, PartFolder, Plan, Written, digest_of
from seehear.progress import Progress

_OF_A_VIDEO = (
    "video_id", "path", "fingerprint", "size_bytes", "modified_ns", "clock_jumps", "audio_track", "width", "height",
    "video_start_seconds", "video_duration_seconds", "audio_start_seconds", "audio_duration_seconds",
)  # fmt: skip
"""The columns of a manifest that a video is made of."""


@dataclass(frozen=True)
class How:
    """How blocks are made, in any process."""

    kind: Literal["embed", "label"]
    run: str
    modality: str
    every_seconds: float | None
    head: Head | None
    processes: int
    """Decoding processes; 0 decodes in the process itself."""
    device: str

    @property
    def settings(self) -> dict[str, Any]:
        """What features and labels depend on, videos apart."""
        return {
            "model": model_sha256(self.run), "modality": self.modality, "every_seconds": self.every_seconds,
            "head": self.head,
        }  # fmt: skip


def embed_in_parts(
    run: str | Path,
    source: Source,
    out: str | Path,
    *,
    part: Part | None,
    engine: Engine,
    every_seconds: float | None,
    modality: str,
    workers: int | None,
    device: str,
) -> Written:
    """One part of what `seehear.embed` writes to `out`, or by an engine all of it; arguments as there."""
    check_ending(out, ".parquet")
    open_run(run)
    how = How("embed", str(Path(run).absolute()), modality, every_seconds, None, _processes(workers, engine), device)
    return _in_parts(how, Model.load(run), _listed(run, source, every_seconds), Path(out), part, engine)


def label_in_parts(
    run: str | Path,
    source: Source,
    out: str | Path,
    *,
    part: Part | None,
    engine: Engine,
    modality: str,
    every_seconds: float | None,
    head: Head | None,
    running: str | Path | None,
    workers: int | None,
    device: str,
) -> Written:
    """One part of what `seehear.label` writes to `out`, or by an engine all of it; arguments as there.

    Raises `UsageError` also for `running`, which goes from call to call, and for files that would have to be looked at
    again to label them by one stream.
    """
    check_ending(out, ".csv", ".parquet")
    if running is not None:
        raise UsageError("running marginals follow videos one after the other, not in parts", "leave out --running")
    checked_run(run, source, modality, head, None)
    model, manifest = Model.load(run), _listed(run, source, every_seconds)
    check_labels(run, model, head, None)
    if by_what_there_is(model, source, modality) and (again := seen_again(manifest)) is not None:
        raise UsageError(
            f"{len(again.rows)} files of the manifest cannot be used for both sight and sound, and one process would "
            "look at them again for one: that is not done in parts",
            "label them apart: by --modality video and audio, with the manifests of `seehear scan --modality video` "
            "and audio; or without --part and --engine; or leave these rows out of the manifest",
        )
    how = How("label", str(Path(run).absolute()), modality, every_seconds, head, _processes(workers, engine), device)
    return _in_parts(how, model, manifest, Path(out), part, engine)


def _processes(workers: int | None, engine: Engine) -> int:
    return 1 if engine == "ray" and workers is None else worker_count(workers)


def _listed(run: str | Path, source: Source, every_seconds: float | None) -> Manifest:
    """The manifest that all processes read. Raises `UsageError` for videos that would first have to be scanned."""
    if source is None:
        if every_seconds is None:
            raise UsageError(f"{run} has that of its own videos already", "leave out --part and --engine")
        return Manifest.load(RunFolder(Path(run)).manifest)
    if isinstance(source, Manifest):
        return source
    return Manifest.load(manifest_file(source))


def _in_parts(how: How, model: Model, manifest: Manifest, out: Path, part: Part | None, engine: Engine) -> Written:
    streams = model.streams(STREAMS_OF[how.modality])
    rows = usable_rows(manifest, streams).select(list(_OF_A_VIDEO))
    plan = plan_of(rows, streams, model.config, how.every_seconds, how.settings, how.kind, how.modality)
    folder = PartFolder.begin(out, plan)
    asked = folder.asked(part)
    place = str(out.absolute())
    work = Work(opened, (how, place), (how.run, str(folder.path.absolute())), how.processes, how.device)
    with Progress(quiet=None) as progress:
        tasks = (_task(number, plan, rows) for number in asked.todo)
        run(work, tasks, engine, asked.items, asked.done, progress.shown(how.kind, "videos"))
        if part is None:
            return finish(folder, out, progress)
        made = [folder.read(number) for number in asked.numbers]
        left_out = tuple(report for _, reports in made for report in reports)
        progress.left_out(left_out)
    return Written(str(out), sum(len(table) for table, _ in made), asked.items, left_out, str(part))


def plan_of(
    rows: pa.Table,
    streams: Sequence[str],
    config: Config,
    every_seconds: float | None,
    settings: Mapping[str, Any],
    kind: str,
    modality: str,
) -> Plan:
    """The plan of embedding or labelling the videos of some rows of a manifest."""
    named = ["video_id", "path", "fingerprint", "audio_track"]
    named += [f"{stream}_{what}_seconds" for stream in streams for what in ("start", "duration")]
    batches = (batch.to_pydict().values() for batch in rows.select(named).to_batches(max_chunksize=4096))
    digest = digest_of(settings, (value for batch in batches for row in zip(*batch, strict=True) for value in row))
    return Plan(
        kind, digest, block_edges(clips_of(rows, streams, config, every_seconds), config), {"modality": modality}
    )


def _task(number: int, plan: Plan, rows: pa.Table) -> Task:
    place = plan.block(number)
    block = rows.slice(place.start, len(place)).to_pylist()
    name = f"block {number} ({block[0]['video_id']} to {block[-1]['video_id']})"
    return Task(name, len(block), (number, block), os.path.dirname(block[0]["path"]))


@contextmanager
def opened(how: How, out: str) -> Iterator[Do]:
    """What embeds or labels the videos of a block, by a model that is loaded once."""
    model, folder = Model.load(how.run), PartFolder.open(out)
    labels = None
    if how.kind == "label":
        labels = BlockLabels.of(RunFolder(Path(how.run)), model, how.modality, how.head)
    with Embedder(
        model, every_seconds=how.every_seconds, modalities=STREAMS_OF[how.modality], workers=how.processes,
        device=choose_device(how.device),
    ) as embedder:  # fmt: skip

        def do(payload: Any, tell: Tell) -> None:
            number, rows = payload
            failures = Failures()
            table = bank_table(embedder.bank(rows, failures, tell))
            folder.write(number, table if labels is None else labels.rows(table), failures.reports)

        yield do


def finish(folder: PartFolder, out: Path, progress: Progress) -> Written:
    """The table of all parts, written to `out`; the parts are deleted then. Raises `DataError` as `check` does.

    Features pass through memory block by block; labels, which are ranked among all, are there together.
    """
    folder.check()
    if not folder.rows():
        raise DataError("not one clip could be decoded")
    left_out: list[dict[str, Any]] = []
    blocks = _noting(folder, left_out.extend, progress)
    if folder.plan.kind == "label":
        labels = labels_of_blocks(blocks, folder.plan.facts["modality"])
        rows = labels.num_rows
        write_table(labels, out)
    else:
        rows = write_tables(blocks, out)
    progress.left_out(left_out)
    folder.remove()
    return Written(str(out), rows, folder.plan.items, tuple(left_out))


def _noting(folder: PartFolder, note: Callable[[list[dict[str, Any]]], None], progress: Progress) -> Iterator[pa.Table]:
    """The tables of all blocks, whose reports are noted."""
    tell = progress.shown("join", "blocks")
    for number, (table, reports) in enumerate(folder.blocks(), 1):
        note(reports)
        yield table
        tell(number, folder.plan.count)
