"""Assignments: labels of clips by their ids, held in columns."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from seehear import types
from seehear.types import Assignment

RNG = np.random.default_rng(0)
IDS = [f"video {i}#t=0.000,{i}.500" for i in RNG.permutation(500)]
LABELS = RNG.integers(0, 7, 500)


@pytest.fixture(params=[False, True], ids=["", "colliding"])
def assignment(request):
    """One whose ids have checksums of their own, or share three of them."""
    plain = types._checksums
    with mock.patch.object(
        types, "_checksums", lambda texts: plain(texts) % np.uint64(3) if request.param else plain(texts)
    ):
        yield Assignment(IDS, {"video": LABELS, "audio": LABELS[::-1]}, {"video": 7, "audio": 7})


def test_labels_are_found_by_id(assignment):
    row_of = {clip_id: row for row, clip_id in enumerate(IDS)}
    asked = [IDS[i] for i in RNG.integers(0, 500, 80)]
    expected = [row_of[clip_id] for clip_id in asked]
    assert assignment.rows(asked).tolist() == expected
    assert assignment.of("video", asked).tolist() == LABELS[expected].tolist()
    assert assignment.of("video", asked).dtype == np.int64
    targets = assignment.targets(asked, torch.device("cpu"))
    assert targets["audio"].tolist() == LABELS[::-1][expected].tolist()
    assert targets["audio"].dtype == torch.int64
    assert IDS[3] in assignment and "another" not in assignment
    assert assignment.rows(["another", IDS[3]]).tolist() == [-1, 3]
    assert assignment.rows([]).tolist() == []
    with pytest.raises(KeyError, match="another"):
        assignment.of("video", [IDS[0], "another"])


def test_ids_must_be_unique(assignment):
    with pytest.raises(ValueError, match="unique"):
        Assignment([*IDS, IDS[7]], {"video": np.zeros(501)}, {"video": 7})


def test_new_labels_lie_over_old_ones(assignment):
    new = Assignment([IDS[4], "another", IDS[0]], {"video": np.array([9, 9, 8])}, {"video": 10})
    over = new.over(assignment)
    assert over.of("video", IDS).tolist() == [8, *LABELS[1:4], 9, *LABELS[5:]]
    assert assignment.of("video", IDS).tolist() == LABELS.tolist()


def test_columns_are_taken_without_a_copy(assignment):
    columns = assignment.columns()
    again = Assignment.of_columns(columns)
    assert again.classes == assignment.classes and again.clip_ids.to_pylist() == IDS
    assert again.of("audio", IDS).tolist() == assignment.of("audio", IDS).tolist()
    assert np.shares_memory(again.labels["video"], columns["video"].to_numpy())
    assert np.shares_memory(again._keys.order, columns["order of the ids"].to_numpy())
    assert again.clip_ids.chunk(0).buffers()[2].address == columns["clip_id"].chunk(0).buffers()[2].address


def test_the_file_is_that_of_earlier_versions(assignment, tmp_path):
    assignment.save(tmp_path / "round.parquet")
    table = pq.read_table(tmp_path / "round.parquet")
    assert table.schema.field("clip_id").type == pa.string() and table.schema.field("video").type == pa.int32()
    assert table["clip_id"].to_pylist() == IDS
    loaded = Assignment.load(tmp_path / "round.parquet")
    assert loaded.classes == assignment.classes
    assert loaded.of("audio", IDS).tolist() == assignment.of("audio", IDS).tolist()


def test_there_may_be_none():
    nothing = Assignment([], {"video": np.zeros(0)}, {"video": 2})
    assert "a" not in nothing and nothing.rows(["a"]).tolist() == [-1]
