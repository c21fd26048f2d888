"""The doubt of any clips by what goes with what among a run's own (`seehear.cluster.doubt`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from seehear.cluster.doubt import Companions
from seehear.engine.runfolder import RunFolder
from seehear.features import kinds
from seehear.features.bank import FeatureBank
from seehear.features.kinds import bank_companions, both_modalities, evenly
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
    chosen = evenly(file.metadata.num_rows, most)
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
