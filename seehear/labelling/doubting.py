"""The doubt of any clips by what goes with what among a run's own (`seehear.cluster.doubt`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from seehear.cluster.doubt import THRESHOLD, Companions
from seehear.engine.runfolder import RunFolder
from seehear.features import kinds
from seehear.features.bank import FeatureBank
from seehear.features.headlabels import ranked
from seehear.features.kinds import bank_companions, both_modalities
from seehear.features.model import table_bank

_ROWS_AT_ONCE = 2048


def run_companions(folder: RunFolder) -> Companions | None:
    """The clips of a run by which others are doubted, from its features.

    None: the run has not counted kinds, its features are gone, or it has too few clips.
    """
    if not folder.kinds.exists() or not folder.features.exists():
        return None
    return bank_companions(table_bank(_thinned(folder.features, kinds.MOST_COMPANIONS)), folder.load_config().seed)


def _thinned(path: Path, most: int) -> pa.Table:
    """At most so many rows of a table, evenly over all, read a part at a time: the features of many clips are large."""
    file = pq.ParquetFile(path)
    rows = file.metadata.num_rows
    chosen = np.linspace(0, rows - 1, min(most, rows)).round().astype(int)
    parts, first = [file.schema_arrow.empty_table()], 0
    for batch in file.iter_batches(_ROWS_AT_ONCE):
        inside = chosen[(chosen >= first) & (chosen < first + len(batch))] - first
        parts.append(pa.Table.from_batches([batch]).take(pa.array(inside)))
        first += len(batch)
    return pa.concat_tables(parts)


def doubt_of(companions: Companions, bank: FeatureBank) -> np.ndarray:
    """The doubt of every row of a bank, (N,) float32; NaN where a row lacks sight or sound."""
    doubt = np.full(len(bank), np.nan, dtype=np.float32)
    if {"video", "audio"} <= bank.features.keys():
        whole = np.all([np.isfinite(x).all(axis=1) for x in bank.features.values()], axis=0)
        rows = np.flatnonzero(whole)
        doubt[rows] = companions.doubt(*both_modalities(bank.take(rows), "the run")).doubt
    return doubt


def ranks_with_doubt(cluster: np.ndarray, distance: np.ndarray, doubt: np.ndarray) -> np.ndarray:
    """Exemplar ranks (N,) int32 of rows, the doubtful ones of a cluster last."""
    return ranked({"cluster": cluster, "distance": distance}, doubt >= THRESHOLD)["rank"]


def doubt_column(doubt: np.ndarray) -> pa.Array:
    """The column doubt of a table of labels: float32, null where nothing can be said."""
    return pa.array(doubt.astype(np.float32), from_pandas=True)
