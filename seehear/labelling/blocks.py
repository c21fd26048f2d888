"""Labels block by block: what each row has by itself, and what is said of it among all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from seehear.cluster.doubt import THRESHOLD, Companions
from seehear.engine.runfolder import RunFolder
from seehear.errors import DataError
from seehear.features.headlabels import ranked
from seehear.features.labels import one_modality
from seehear.features.model import LABELLING_OF, Model, table_bank
from seehear.labelling.doubting import doubt_of, run_companions
from seehear.labelling.heads import Head, no_labels

_KEYS = ("video_id", "start_seconds", "end_seconds")


@dataclass(frozen=True)
class BlockLabels:
    """How the rows of a block are labelled, by one modality."""

    model: Model
    modality: str
    how: dict[str, Any]
    companions: Companions | None
    """By which rows are doubted; None: the run has no doubts."""

    @classmethod
    def of(cls, folder: RunFolder, model: Model, modality: str, head: Head | None) -> BlockLabels:
        """By one head of a model, its centroids where it has none, or the consensus of all on the run's clips."""
        how: dict[str, Any] = {"head": 0 if head is None or head == "consensus" else head}
        if head == "consensus":
            how["names"] = model.consensus_names(table_bank(pq.read_table(folder.features)))
        return cls(model, modality, how, run_companions(folder))

    def rows(self, features: pa.Table) -> pa.Table:
        """What each row of features (see `seehear.features.model.bank_table`) has by itself: see `labels_of_blocks`.

        Without rows there are the keys alone. Raises `UsageError` if the model has no labels by this modality, or no
        such head.
        """
        if not features.num_rows:
            return features.select(list(_KEYS))
        bank = table_bank(features)
        found = self.model.label_rows(bank, LABELLING_OF[self.modality], **self.how)
        if found is None:
            raise no_labels(self.model, bank, self.modality)
        table = features.select(list(_KEYS))
        for name, x in found.items():
            column = pa.array(x) if x.ndim == 1 else pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), x.shape[1])
            table = table.append_column(name, column)
        if self.companions is not None:
            table = table.append_column("doubt", pa.array(doubt_of(self.companions, bank)))
        return table


def labels_of_blocks(tables: Iterable[pa.Table], modality: str) -> pa.Table:
    """The labels of all rows, as `seehear.label` gives them, of what `BlockLabels.rows` made of their blocks.

    Columns of these: video_id, start_seconds, end_seconds, cluster, distance, confidence and, of heads, agreement or
    the labels of the others (a list a row), from which the agreement follows once all rows are there; of a run that
    has counted kinds doubt.

    Raises `DataError` if there are no rows.
    """
    filled = [table for table in tables if table.num_rows]
    if not filled:
        raise DataError("not one clip could be decoded")
    table = pa.concat_tables(filled)
    rows: dict[str, np.ndarray] = {}
    for name in table.column_names[len(_KEYS) :]:
        column = table[name].combine_chunks()
        if pa.types.is_fixed_size_list(column.type):
            rows[name] = column.flatten().to_numpy().reshape(len(column), column.type.list_size)
        else:
            rows[name] = column.to_numpy()
    labels = table.select(list(_KEYS))
    doubt = rows.pop("doubt", None)
    for name, x in ranked(rows, None if doubt is None else doubt >= THRESHOLD).items():
        labels = labels.append_column(f"{name}_{modality}", pa.array(x))
    if doubt is not None:
        labels = labels.append_column("doubt", pa.array(doubt, from_pandas=True))
    return one_modality(labels, modality)
