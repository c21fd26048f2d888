"""Labels of a bank of features: which cluster every segment belongs to, how surely, and how good an example it is."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.csv

from seehear.cluster.doubt import Companions, Doubt
from seehear.errors import UsageError
from seehear.features.bank import FeatureBank
from seehear.features.headlabels import ranked
from seehear.features.kinds import both_modalities
from seehear.features.model import LABELLING_OF, Model
from seehear.metrics.clustering import prevailing_cluster


def label_table(model: Model, bank: FeatureBank, head: int = 0) -> pa.Table:
    """Labels of a bank by every labelling of the model, by one of its heads if it has heads.

    Columns: video_id, start_seconds, end_seconds and, for each m of video, audio and both that there is,
    cluster_m, confidence_m, distance_m and rank_m (see `cluster_rows`), by heads also agreement_m (`head_rows`).
    """
    labels = LabelsOfBlocks(model, head)
    labels.add(bank)
    return labels.table()


class LabelsOfBlocks:
    """`label_table` of a bank whose rows are there a block at a time."""

    def __init__(self, model: Model, head: int = 0, companions: Companions | None = None) -> None:
        """With `companions` there is a column doubt too, and a doubtful row comes last among its cluster's examples."""
        self.model, self.head, self.companions = model, head, companions
        self._doubts: list[Doubt] = []
        self._keys: list[pa.Table] = []
        self._rows: dict[str, dict[str, list[np.ndarray]]] = {}

    def add(self, bank: FeatureBank) -> None:
        """Label the next rows."""
        self._keys.append(with_refs(bank, {}))
        for modality, labelling in LABELLING_OF.items():
            for name, x in (self.model.label_rows(bank, labelling, self.head) or {}).items():
                self._rows.setdefault(modality, {}).setdefault(name, []).append(x)
        if self.companions is not None:
            self._doubts.append(self.companions.doubt(*both_modalities(bank, "the run")))

    def table(self) -> pa.Table:
        """The labels of all rows, with what is said of a row among all."""
        labels = pa.concat_tables(self._keys).combine_chunks()
        outliers = np.concatenate([d.outliers for d in self._doubts]) if self._doubts else None
        for modality, parts in self._rows.items():
            for name, x in ranked({name: np.concatenate(x) for name, x in parts.items()}, outliers).items():
                labels = labels.append_column(f"{name}_{modality}", pa.array(x))
        if self._doubts:
            doubt = np.concatenate([d.doubt for d in self._doubts])
            labels = labels.append_column("doubt", pa.array(doubt, from_pandas=True))
        return labels


def with_refs(bank: FeatureBank, columns: dict[str, pa.Array]) -> pa.Table:
    """A table of the bank's segments with these columns."""
    refs = {
        "video_id": pa.array([r.video_id for r in bank.refs]),
        "start_seconds": pa.array([r.start_seconds for r in bank.refs], pa.float64()),
        "end_seconds": pa.array([r.end_seconds for r in bank.refs], pa.float64()),
    }
    return pa.table(refs | columns)


def one_modality(table: pa.Table, modality: str) -> pa.Table:
    """The labels of one modality under plain names: video, start, end, cluster, confidence, exemplar_rank.

    Labels of a head have the column agreement too, and those of a run that has counted kinds doubt, null where nothing
    can be said.
    """
    if f"cluster_{modality}" not in table.column_names:
        there = [n.removeprefix("cluster_") for n in table.column_names if n.startswith("cluster_")]
        remedy = f"add --modality {there[0]}" if there else "this run labels by both together: leave --modality out"
        raise UsageError(f"there are no labels by {modality!r}", remedy)
    more = {}
    if f"agreement_{modality}" in table.column_names:
        more["agreement"] = np.round(table[f"agreement_{modality}"].to_numpy(), 4)
    if "doubt" in table.column_names:
        more["doubt"] = pa.array(np.round(table["doubt"].to_numpy(), 4), from_pandas=True)
    return pa.table(
        {
            "video": table["video_id"],
            "start": table["start_seconds"],
            "end": table["end_seconds"],
            "cluster": table[f"cluster_{modality}"],
            "confidence": np.round(table[f"confidence_{modality}"].to_numpy(), 4),
            "exemplar_rank": table[f"rank_{modality}"],
            **more,
        }
    )


def video_labels(table: pa.Table, modality: str) -> dict[str, int]:
    """One cluster for each video: that of most of its segments, the longest time deciding."""
    if f"cluster_{modality}" not in table.column_names:
        raise UsageError(f"this run has no labels by {modality!r}")
    columns = ("video_id", f"cluster_{modality}", "start_seconds", "end_seconds")
    ids, clusters, starts, ends = (table[c].to_pylist() for c in columns)
    return prevailing_cluster(ids, clusters, [end - start for start, end in zip(starts, ends, strict=True)])
