"""Labels and features of videos by a finished run: of its own videos, or of new ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from seehear.cluster.doubt import THRESHOLD
from seehear.data.loader import Failures, worker_count
from seehear.data.manifest import Manifest
from seehear.engine.device import choose_device
from seehear.engine.runfolder import RunFolder, open_run
from seehear.errors import UsageError
from seehear.features.headlabels import exemplar_ranks
from seehear.features.labels import LabelsOfBlocks, one_modality, with_refs
from seehear.features.model import LABELLING_OF, Model, table_bank
from seehear.files import check_destination, check_ending, write_table, write_tables
from seehear.labelling.blocks import BlockLabels, labels_of_blocks
from seehear.labelling.doubting import doubt_of, run_companions
from seehear.labelling.heads import Head, embed_what_there_is, head_labels
from seehear.modalities import STREAMS_OF, streams_of
from seehear.progress import Progress

Source = str | Path | Manifest | None


def embed_videos(
    run: str | Path,
    source: Source,
    *,
    out: str | Path | None,
    every_seconds: float | None,
    modality: str,
    workers: int | None,
    device: str,
    failures: Failures,
) -> pa.Table:
    """What `seehear.embed` does; arguments as there."""
    check_ending(out, ".parquet")
    folder = open_run(run)
    if source is None:
        remedy = f"name the videos to embed: `seehear embed {run} VIDEOS --out FILE.parquet`"
        folder.check_trained(remedy)
        folder.check_clustered(remedy)
    model = Model.load(run)
    streams = STREAMS_OF[modality]
    if source is None and every_seconds is None:
        table = pq.read_table(folder.features)
        others = [n for n, m in model.modalities.items() if m not in streams and n in table.column_names]
        table = table.drop_columns(others)
    else:
        with Progress(quiet=None) as progress:
            table = model.embed(
                new_manifest(folder, model, source, streams, workers, progress), every_seconds=every_seconds,
                modalities=streams, workers=worker_count(workers), device=choose_device(device), failures=failures,
                progress=progress.shown("embed", "clips"),
            )  # fmt: skip
            progress.left_out(failures.reports)
    if out is not None:
        write_tables([table], Path(out))
    return table


def label_videos(
    run: str | Path,
    source: Source,
    *,
    out: str | Path | None,
    modality: str,
    every_seconds: float | None,
    head: Head | None,
    running: str | Path | None,
    workers: int | None,
    device: str,
    failures: Failures,
) -> pa.Table:
    """What `seehear.label` does; arguments as there.

    A run of SeLaVi labels by its heads, of which `head` is one, or by "consensus" of all: see `head_rows` and
    `consensus_rows` for the columns, agreement among them. By "both" a new video that has one stream alone is labelled
    by that; the column labelled_by tells. `running` names a file in which the shares of the clusters are followed
    from call to call (see `RunningMarginals`).
    """
    check_ending(out, ".csv", ".parquet")
    folder = checked_run(run, source, modality, head, running)
    if source is None and every_seconds is None and head is None and folder.labels.exists():
        table = one_modality(pq.read_table(folder.labels), modality)  # made when the run ended
    else:
        model = Model.load(run)
        check_labels(run, model, head, running)
        if source is None and every_seconds is None:
            table = _labels(folder, model, pq.read_table(folder.features), modality, head, running)
        else:
            table = _new_labels(
                folder, model, source, modality, head, running, every_seconds=every_seconds, workers=workers,
                device=choose_device(device), failures=failures,
            )  # fmt: skip
    if out is not None:
        write_table(table, Path(out))
    return table


def checked_run(
    run: str | Path, source: Source, modality: str, head: Head | None, running: str | Path | None
) -> RunFolder:
    """The run, if it can do what is asked for. Raises `UsageError` and `RunError` as `seehear.label` does."""
    if modality not in LABELLING_OF:
        raise UsageError(f"there is no modality {modality!r}", f"choose one of {', '.join(LABELLING_OF)}")
    if running is not None:
        check_destination(running)
    if running is not None and source is None:
        raise UsageError("running marginals follow new videos, and there are none", f"seehear label {run} VIDEOS ...")
    folder = open_run(run)
    if source is None or head == "consensus" or running is not None:
        folder.check_trained(f"`seehear label {run} VIDEOS --out FILE.csv` labels by one head")
    return folder


def check_labels(run: str | Path, model: Model, head: Head | None, running: str | Path | None) -> None:
    """Raise `UsageError` where a model cannot label, or not in the way that is asked for."""
    if model.class_names:
        raise UsageError(
            f"{run} was finetuned: it names classes and has no clusters",
            f"`seehear predict {run} VIDEOS --out FILE.csv`",
        )
    if model.heads is None and not model.clusters:
        embedded = f"`seehear embed {run} VIDEOS --out FILE.parquet`"
        raise UsageError(
            f"{run} has no clusters to label by", f"{embedded}, then `seehear cluster --features FILE.parquet -k N`"
        )
    if not by_heads(model) and (head, running) != (None, None):
        raise UsageError("this run has no heads that label", "only --method selavi trains some")


def by_heads(model: Model) -> bool:
    """Whether a model labels by its heads, not by centroids."""
    return model.heads is not None and not model.clusters


def _new_labels(
    folder: RunFolder,
    model: Model,
    source: Source,
    modality: str,
    head: Head | None,
    running: str | Path | None,
    *,
    workers: int | None,
    **options: Any,
) -> pa.Table:
    """Labels of videos whose features are not there yet, made block by block."""
    streams = STREAMS_OF[modality]
    tables: list[pa.Table] = []
    has: list[str] | None = None
    with Progress(quiet=None) as progress:
        manifest = new_manifest(folder, model, source, streams, workers, progress)
        options |= {"workers": worker_count(workers), "progress": progress.shown("label", "clips")}
        blocks: Iterator[tuple[pa.Table, str]]
        if by_what_there_is(model, source, modality):
            has, blocks = [], embed_what_there_is(model, manifest, **options)
        else:
            blocks = ((t, modality) for t in model.embed_blocks(manifest, modalities=streams, **options))
        label = None if running is not None else BlockLabels.of(folder, model, modality, head)
        for table, by in blocks:
            tables.append(table if label is None else label.rows(table))
            if has is not None:
                has += [by] * table.num_rows
        progress.left_out(options["failures"].reports)
    if running is None:
        labels = labels_of_blocks(tables, modality)
    else:
        labels = _labels(folder, model, pa.concat_tables(tables), modality, head, running)
    return labels if has is None else labels.append_column("labelled_by", pa.array(has))


def by_what_there_is(model: Model, source: Source, modality: str) -> bool:
    """Whether new videos that lack a stream are labelled by the other one: by heads that label by either."""
    return source is not None and modality == "both" and model.heads is not None and len(model.heads.sources) > 1


def _labels(
    folder: RunFolder,
    model: Model,
    features: pa.Table,
    modality: str,
    head: Head | None,
    running: str | Path | None,
) -> pa.Table:
    bank, companions = table_bank(features), run_companions(folder)
    if not by_heads(model):
        labels = LabelsOfBlocks(model, companions=companions)
        labels.add(bank)
        return one_modality(labels.table(), modality)
    own = table_bank(pq.read_table(folder.features)) if head == "consensus" or running is not None else bank
    followed = None if running is None else Path(running)
    rows = head_labels(model, own, bank, modality, 0 if head is None else head, followed)
    columns = {f"{name}_{modality}": pa.array(x) for name, x in rows.items()}
    if companions is not None:
        doubt = doubt_of(companions, bank)
        columns[f"rank_{modality}"] = pa.array(exemplar_ranks(rows["cluster"], rows["distance"], doubt >= THRESHOLD))
        columns["doubt"] = pa.array(doubt, from_pandas=True)
    return one_modality(with_refs(bank, columns), modality)


def new_manifest(
    folder: RunFolder, model: Model, source: Source, need: tuple[str, ...], workers: int | None, progress: Progress
) -> Manifest:
    """The manifest of new videos, or of the run's own, with a word on those that cannot be used."""
    if source is None:
        return Manifest.load(folder.manifest)
    if isinstance(source, Manifest):
        return source
    if Manifest.is_manifest(source):
        return Manifest.load(source)
    # A model of one modality asks no more of the videos than it looks at.
    has = streams_of(tuple(model.modalities.values()))
    manifest = model.scan(
        source, tuple(stream for stream in has if stream in need) or need, workers=workers,
        progress=progress.shown("scan", "files"),
    )  # fmt: skip
    progress.note(manifest.summary_text())
    return manifest
