"""Parts, plans, and the folder of blocks: what is cut, what is refused."""

from __future__ import annotations

import itertools
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seehear.errors import DataError, UsageError
from seehear.files import ROWS_AT_ONCE, write_tables
from seehear.parts import Part, PartFolder, Plan, cut, digest_of, part_asked, parts_of

PLAN = Plan("embed", digest_of({"a": 1}, ["x", "y", "z"]), (0, 2, 3, 7, 8, 9), {"modality": "both"})


def filled(tmp_path, plan=PLAN):
    """A folder of all blocks of a plan; block b has the numbers of its items."""
    folder = PartFolder.begin(tmp_path / "out.parquet", plan)
    for block in range(plan.count):
        folder.write(block, pa.table({"item": list(plan.block(block))}), [{"video_id": str(block)}])
    return folder


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "1/0", "a/b", "-1/3", "1/3/3", ""])
def test_parts_that_there_are_not_are_refused(text):
    with pytest.raises(UsageError, match="no part"):
        Part.parse(text)


@pytest.mark.parametrize("parts", [1, 2, 3, 7, 40])
def test_the_blocks_of_all_parts_are_all_blocks_once(parts):
    blocks = [list(Part(i, parts).blocks(23)) for i in range(1, parts + 1)]
    assert sorted(itertools.chain.from_iterable(blocks)) == list(range(23))
    assert max(map(len, blocks)) - min(map(len, blocks)) <= 1


@pytest.mark.parametrize("seed", range(20))
def test_a_block_ends_with_the_item_that_fills_it(seed):
    rng = np.random.default_rng(seed)
    weights, most = rng.integers(1, 12, size=rng.integers(1, 60)).astype(float), float(rng.integers(1, 30))
    edges, weight = [0], 0.0
    for item, own in enumerate(weights, 1):  # as one would by hand
        weight += own
        if weight >= most or item == len(weights):
            edges.append(item)
            weight = 0.0
    assert cut(weights, most) == tuple(edges)


def test_whole_files_of_weight_one_are_cut_evenly():
    assert cut(np.ones(10), 4) == (0, 4, 8, 10)
    assert cut(np.empty(0), 4) == (0, 0)


def test_a_digest_tells_order_settings_and_columns_apart():
    digests = {
        digest_of({"a": 1}, ["x", "y"]), digest_of({"a": 1}, ["y", "x"]), digest_of({"a": 2}, ["x", "y"]),
        digest_of({"a": 1}, ["x"], ["y"]), digest_of({"a": 1}, ["xy"]),
    }  # fmt: skip
    assert len(digests) == 5
    assert digest_of({"a": 1, "b": 2}, ["x"]) == digest_of({"b": 2, "a": 1}, iter(["x"]))


def test_blocks_come_back_in_order_with_their_reports(tmp_path):
    folder = filled(tmp_path)
    opened = PartFolder.open(tmp_path / "out.parquet")
    opened.check()
    assert opened.plan == folder.plan
    assert opened.rows() == 9
    tables = list(opened.blocks())
    assert pa.concat_tables([table for table, _ in tables])["item"].to_pylist() == list(range(9))
    assert [reports for _, reports in tables] == [[{"video_id": str(block)}] for block in range(5)]


def test_missing_blocks_are_named_with_the_part_that_has_them(tmp_path):
    folder = filled(tmp_path)
    for block in Part(2, 2).blocks(5):
        folder.file_of(block).unlink()
    assert [folder.has(block) for block in range(5)] == [True, False, True, False, True]
    with pytest.raises(DataError, match=r"2 of 5 blocks missing: 1, 3") as raised:
        folder.check()
    assert "part 2/2" in raised.value.remedy
    folder.write(1, pa.table({"item": [2]}))
    with pytest.raises(DataError, match=r"1 of 5 blocks missing: 3"):
        folder.check()


def test_a_block_under_the_name_of_another_is_named(tmp_path):
    folder = filled(tmp_path)
    shutil.copy(folder.file_of(1), folder.file_of(3))
    assert not folder.has(3)
    with pytest.raises(DataError, match=r"twice.*block-000003\.parquet is block 1"):
        folder.check()
    folder = filled(tmp_path)
    shutil.copy(folder.file_of(1), folder.path / "block-000001 (copy).parquet")
    with pytest.raises(DataError, match=r"twice.*block-000001 \(copy\)\.parquet is block 1"):
        folder.check()


@pytest.mark.parametrize("other", [Plan("label", PLAN.digest, PLAN.edges), Plan("embed", "0" * 32, PLAN.edges)])
def test_blocks_of_something_else_are_named_and_done_again(other, tmp_path):
    folder = filled(tmp_path)
    foreign = filled(tmp_path / "other", other)
    shutil.copy(foreign.file_of(2), folder.file_of(2))
    assert not folder.has(2)
    with pytest.raises(DataError, match=r"other files or other settings: block-000002\.parquet"):
        folder.check()
    folder.write(2, pa.table({"item": [3, 4, 5, 6]}))
    folder.check()


def test_damaged_blocks_are_named_and_done_again(tmp_path):
    folder = filled(tmp_path)
    content = folder.file_of(4).read_bytes()
    folder.file_of(4).write_bytes(content[: len(content) // 2])
    assert not folder.has(4)
    with pytest.raises(DataError, match=r"cannot be read: block-000004\.parquet"):
        folder.check()


def test_a_changed_bit_in_a_block_is_noticed(tmp_path):
    folder = PartFolder.begin(tmp_path / "out.parquet", Plan("embed", "d", (0, 1)))
    folder.write(0, pa.table({"x": np.random.default_rng(0).normal(size=1000)}))
    content = bytearray(folder.file_of(0).read_bytes())
    content[len(content) // 2] ^= 1
    folder.file_of(0).write_bytes(bytes(content))
    with pytest.raises(DataError, match="damaged"):
        folder.read(0)


def test_a_folder_of_another_plan_is_not_gone_on_with(tmp_path):
    filled(tmp_path)
    more = Plan("embed", digest_of({"a": 1}, ["x", "y", "z", "new"]), (0, 2, 3, 7, 8, 10))
    with pytest.raises(DataError, match=r"other files.*9 items then, 10 now") as raised:
        PartFolder.begin(tmp_path / "out.parquet", more)
    assert "table" in raised.value.remedy
    with pytest.raises(DataError, match="parts of `seehear embed`, not of `scan`"):
        PartFolder.begin(tmp_path / "out.parquet", Plan("scan", PLAN.digest, PLAN.edges))
    assert PartFolder.begin(tmp_path / "out.parquet", PLAN).plan == PLAN


def test_without_parts_there_is_nothing_to_join(tmp_path):
    with pytest.raises(DataError, match="no parts") as raised:
        PartFolder.open(tmp_path / "out.parquet")
    assert "--part" in raised.value.remedy
    (tmp_path / "out.parquet").touch()
    with pytest.raises(DataError, match="no parts") as raised:
        PartFolder.open(tmp_path / "out.parquet")
    assert "already" in raised.value.remedy
    folder = filled(tmp_path)
    (folder.path / "plan.json").write_text("{")
    with pytest.raises(DataError, match="damaged"):
        PartFolder.open(tmp_path / "out.parquet")


def test_what_does_not_go_together_is_refused(tmp_path):
    assert part_asked(None, "local", None) is None
    assert part_asked("2/3", "local", "out") == Part(2, 3)
    assert parts_of(tmp_path / "a.parquet") == tmp_path / "a.parquet.parts"
    with pytest.raises(UsageError, match="a part is what one process does"):
        part_asked("1/2", "ray", "out")
    with pytest.raises(UsageError, match="beside the result"):
        part_asked("1/2", "local", None)
    with pytest.raises(UsageError, match="no engine"):
        part_asked(None, "spark", "out")


@pytest.mark.parametrize("cuts", [[], [1], [3, 3, ROWS_AT_ONCE], [ROWS_AT_ONCE], [100, ROWS_AT_ONCE + 7]])
def test_a_file_of_several_tables_has_the_bytes_of_that_of_one(cuts, tmp_path):
    rows = ROWS_AT_ONCE + 1000
    rng = np.random.default_rng(0)
    whole = pa.table({
        "id": [f"video {i // 3}" for i in range(rows)],
        "x": pa.FixedSizeListArray.from_arrays(pa.array(rng.normal(size=rows * 2).astype(np.float32)), 2),
    })  # fmt: skip
    edges = [0, *cuts, rows]
    assert write_tables([whole], tmp_path / "one.parquet") == rows
    pieces = (whole.slice(a, b - a) for a, b in itertools.pairwise(edges))
    assert write_tables(pieces, tmp_path / "many.parquet") == rows
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "many.parquet").read_bytes()
    assert pq.read_table(tmp_path / "many.parquet").equals(whole)
    assert pq.ParquetFile(tmp_path / "many.parquet").num_row_groups == 2


def test_a_writer_that_fails_leaves_what_was_there(tmp_path):
    (tmp_path / "out.parquet").write_text("before")

    def tables():
        yield pa.table({"x": [1]})
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError):
        write_tables(tables(), tmp_path / "out.parquet")
    assert (tmp_path / "out.parquet").read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["out.parquet"]
