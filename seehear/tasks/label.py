"""Labels: which cluster every stretch of every video belongs to, how surely, and how good an example it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from seehear.data.loader import Failures
from seehear.data.manifest import Manifest
from seehear.engine.runfolder import RunFolder
from seehear.errors import RunError, UsageError
from seehear.features.bank import FeatureBank
from seehear.features.model import LABELLING_OF, Model, table_bank
from seehear.files import check_destination, write_result
from seehear.modalities import STREAMS_OF
from seehear.tasks.clustering import prevailing_cluster
from seehear.tasks.head_label import Head, embed_what_there_is, head_labels


def label_table(model: Model, bank: FeatureBank, head: int = 0) -> pa.Table:
    """Labels of a bank by every labelling of the model, by one of its heads if it has heads.

    Columns: video_id, start_seconds, end_seconds and, for each m of video, audio and both that there is,
    cluster_m, confidence_m, distance_m and rank_m (see `cluster_rows`), by heads also agreement_m (`head_rows`).
    """
    columns: dict[str, pa.Array] = {}
    for modality, labelling in LABELLING_OF.items():
        rows = model.labels(bank, labelling, head)
        if rows is not None:
            columns |= {f"{name}_{modality}": pa.array(rows[name]) for name in rows}
    return _with_refs(bank, columns)


def _with_refs(bank: FeatureBank, columns: dict[str, pa.Array]) -> pa.Table:
    """A table of the bank's segments with these columns."""
    refs = {
        "video_id": pa.array([r.video_id for r in bank.refs]),
        "start_seconds": pa.array([r.start_seconds for r in bank.refs], pa.float64()),
        "end_seconds": pa.array([r.end_seconds for r in bank.refs], pa.float64()),
    }
    return pa.table(refs | columns)


def one_modality(table: pa.Table, modality: str) -> pa.Table:
    """The labels of one modality under plain names: video, start, end, cluster, confidence, exemplar_rank.

    Labels of a head have the column agreement too.
    """
    if f"cluster_{modality}" not in table.column_names:
        there = [n.removeprefix("cluster_") for n in table.column_names if n.startswith("cluster_")]
        remedy = f"add --modality {there[0]}" if there else "this run labels by both together: leave --modality out"
        raise UsageError(f"there are no labels by {modality!r}", remedy)
    agreement = {}
    if f"agreement_{modality}" in table.column_names:
        agreement["agreement"] = np.round(table[f"agreement_{modality}"].to_numpy(), 4)
    return pa.table(
        {
            "video": table["video_id"],
            "start": table["start_seconds"],
            "end": table["end_seconds"],
            "cluster": table[f"cluster_{modality}"],
            "confidence": np.round(table[f"confidence_{modality}"].to_numpy(), 4),
            "exemplar_rank": table[f"rank_{modality}"],
            **agreement,
        }
    )


def video_labels(table: pa.Table, modality: str) -> dict[str, int]:
    """One cluster for each video: that of most of its segments, the longest time deciding."""
    if f"cluster_{modality}" not in table.column_names:
        raise UsageError(f"this run has no labels by {modality!r}")
    columns = ("video_id", f"cluster_{modality}", "start_seconds", "end_seconds")
    ids, clusters, starts, ends = (table[c].to_pylist() for c in columns)
    return prevailing_cluster(ids, clusters, [end - start for start, end in zip(starts, ends, strict=True)])


def write_table(table: pa.Table, path: Path) -> None:
    """Write as the file's ending says: .csv or .parquet."""
    sink = pa.BufferOutputStream()
    if path.suffix == ".csv":
        pa.csv.write_csv(table, sink)
    elif path.suffix == ".parquet":
        pq.write_table(table, sink)
    else:
        raise UsageError(f"cannot write {path.name}: its ending is neither .csv nor .parquet")
    write_result(path, sink.getvalue().to_pybytes())


def open_run(run: str | Path) -> RunFolder:
    """A finished run; `RunError` that says what to do otherwise."""
    folder = RunFolder(Path(run))
    folder.load_config()
    if not folder.finished and not folder.imported:
        raise RunError(f"the run in {folder.path} is not finished", f"`{folder.resume_command}`")
    return folder


def embed(
    run: str | Path,
    source: str | Path | Manifest | None = None,
    *,
    every_seconds: float | None = None,
    modalities: Sequence[str] = ("video", "audio"),
    workers: int = 0,
    device: str = "cpu",
    failures: Failures | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> pa.Table:
    """Features of every segment of `source`, or of the run's own videos: see `Model.embed`."""
    folder = open_run(run)
    if source is None:
        remedy = f"name the videos to embed: `seehear embed {run} VIDEOS --out FILE.parquet`"
        folder.check_trained(remedy)
        folder.check_clustered(remedy)
    if source is None and every_seconds is None:
        table = pq.read_table(folder.features)
        others = [n for n, m in Model.load(run).modalities.items() if m not in modalities]
        return table.drop_columns([n for n in others if n in table.column_names])
    return Model.load(run).embed(
        Manifest.load(folder.manifest) if source is None else source,
        every_seconds=every_seconds,
        modalities=modalities,
        workers=workers,
        device=device,
        failures=failures,
        progress=progress,
    )


def label(
    run: str | Path,
    source: str | Path | Manifest | None = None,
    *,
    modality: str = "both",
    every_seconds: float | None = None,
    head: Head = 0,
    running: str | Path | None = None,
    workers: int = 0,
    device: str = "cpu",
    failures: Failures | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> pa.Table:
    """Cluster of every segment of `source`, or of the run's own videos.

    `modality` is what the label is computed from: "video", "audio" or "both". Columns: video, start, end
    (seconds), cluster, confidence (0 on the border of two clusters, 1 on a centroid), exemplar_rank (1 for the
    segment closest to its centroid, among those of this table).

    A run of SeLaVi labels by its heads, of which `head` is one, or by "consensus" of all: see `head_rows` and
    `consensus_rows` for the columns, agreement among them. By "both" a new video that has one stream alone is labelled
    by that; the column labelled_by tells. `running` names a file in which the shares of the clusters are followed
    from call to call (see `RunningMarginals`).

    Raises `UsageError` for a modality or head that there is not.
    """
    if modality not in LABELLING_OF:
        raise UsageError(f"there is no modality {modality!r}", f"choose one of {', '.join(LABELLING_OF)}")
    if running is not None:
        check_destination(running)
    folder = open_run(run)
    model, has = Model.load(run), None
    by_heads = model.heads is not None and not model.clusters
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
    if source is None or head == "consensus" or running is not None:
        folder.check_trained(f"`seehear label {run} VIDEOS --out FILE.csv` labels by one head")
    if not by_heads and (head, running) != (0, None):
        raise UsageError("this run has no heads that label", "only --method selavi trains some")
    if running is not None and source is None:
        raise UsageError("running marginals follow new videos, and there are none", f"seehear label {run} VIDEOS ...")
    options: dict[str, Any] = {"every_seconds": every_seconds, "workers": workers, "device": device}
    options |= {"failures": failures, "progress": progress}
    if source is None and every_seconds is None:
        if (head, running) == (0, None):
            return one_modality(pq.read_table(folder.labels), modality)
        features = pq.read_table(folder.features)
    elif source is not None and modality == "both" and model.heads is not None and len(model.heads.sources) > 1:
        features, has = embed_what_there_is(model, source, **options)
    else:
        videos = Manifest.load(folder.manifest) if source is None else source
        features = model.embed(videos, modalities=STREAMS_OF[modality], **options)
    bank = table_bank(features)
    if not by_heads:
        return one_modality(label_table(model, bank), modality)
    own = table_bank(pq.read_table(folder.features)) if head == "consensus" or running is not None else bank
    rows = head_labels(model, own, bank, modality, head, None if running is None else Path(running))
    found = one_modality(_with_refs(bank, {f"{name}_{modality}": pa.array(x) for name, x in rows.items()}), modality)
    return found if has is None else found.append_column("labelled_by", pa.array(has))
