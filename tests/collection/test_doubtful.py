"""Doubtful segments among clusters: counted until a person decides, and told in exports."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seehear.collection.collection import Collection
from seehear.collection.export import COLUMNS
from tests.collection.made import MadeIndex, opened, small_index

DOUBTFUL = (3, 8, 40)
UNKNOWN = (0, 8 + 1)


@pytest.fixture
def index() -> MadeIndex:
    made = small_index()
    doubt = np.linspace(-1, 0.49, len(made.segments)).astype(np.float32)
    doubt[list(DOUBTFUL)] = (0.5, 1.4, 0.7)
    doubt[list(UNKNOWN)] = np.nan
    return replace(made, doubt=doubt)


@pytest.fixture
def collection(index, tmp_path) -> Collection:
    return opened(tmp_path, index)


def doubtful(collection: Collection) -> list[int]:
    return np.flatnonzero(collection.doubtful).tolist()


def test_what_a_person_decides_is_doubtful_no_more(collection, index):
    assert doubtful(collection) == list(DOUBTFUL)
    np.testing.assert_array_equal(collection.doubt, index.doubt)
    own = collection.ids[collection.cluster_of[3]]
    collection.answer(3, own, True)
    assert doubtful(collection) == [8, 40] and collection.doubt[3] == 0
    collection.move([8], new=True)
    assert doubtful(collection) == [40] and collection.doubt[8] == 0
    collection.reject([40])
    assert doubtful(collection) == []
    assert collection.doubt[40] == np.float32(0.7)  # taken out, not decided on
    collection.restore([40])
    assert doubtful(collection) == [40]
    for _ in range(4):
        collection.undo()
    assert doubtful(collection) == list(DOUBTFUL)


def test_a_no_leaves_a_segment_in_doubt(collection):
    collection.answer(3, collection.ids[collection.cluster_of[3]], False)
    assert 3 in doubtful(collection)


def test_clusters_count_theirs(collection):
    for cluster in collection.clusters:
        assert cluster.doubtful == len(set(cluster.rows.tolist()) & set(DOUBTFUL))
    collection.reject([40])
    assert sum(c.doubtful for c in collection.clusters) == 2


def test_a_run_without_doubts_has_none(tmp_path):
    made = opened(tmp_path)
    assert made.doubt is None and not made.doubtful.any()
    assert {c.doubtful for c in made.clusters} == {0}
    for format, first in (("csv", ",".join(COLUMNS)), ("fiftyone", "{")):
        content, _ = made.exported(format)
        assert content.decode().splitlines()[0] == first and b"doubt" not in content


def test_exports_have_a_doubt_for_every_segment(collection, index):
    collection.move([8], new=True)
    collection.reject([40])
    wanted = [None if np.isnan(d) else round(float(d), 4) for d in collection.doubt]
    assert wanted[8] == 0 and wanted[40] == 0.7 and wanted[9] is None
    rows = list(csv.DictReader(io.StringIO(collection.exported("csv")[0].decode(), newline="")))
    assert [None if r["doubt"] == "" else float(r["doubt"]) for r in rows] == wanted
    table = pq.read_table(pa.BufferReader(collection.exported("parquet")[0]))
    assert table["doubt"].to_pylist() == wanted and table.schema.field("doubt").type == pa.float64()
    assert tuple(table.column_names) == (*COLUMNS, "doubt")
    lines = [json.loads(line) for line in collection.exported("jsonl")[0].splitlines()]
    assert [line["doubt"] for line in lines] == wanted
    labels = json.loads(collection.exported("fiftyone")[0])["labels"]
    told = [one["attributes"].get("doubt") for video in labels.values() for one in video]
    assert told == [d for row, d in enumerate(wanted) if row != 40]
    assert [row["doubt"] for row in collection.write_sample(np.array([3, 9]), None)] == [0.5, None]
