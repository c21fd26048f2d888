"""Every edit against a plain dictionary of segments, also many at random with undo and redo among them."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from seehear.errors import ConflictError, UsageError
from tests.collection.made import opened, small_index


class Plain:
    """What a collection should be, in dictionaries, each edit of which makes a new one of the whole."""

    def __init__(self, collection: Any) -> None:
        ids = collection.ids
        self.now: dict[str, Any] = {
            "cluster": {row: ids[c] for row, c in enumerate(collection.cluster_of)},
            "name": {},
            "rejected": set(),
            "confirmed": set(),
        }
        self.past: list[dict[str, Any]] = []
        self.future: list[dict[str, Any]] = []

    def changed(self) -> dict[str, Any]:
        self.past.append(self.now)
        self.future = []
        self.now = {
            "cluster": dict(self.now["cluster"]),
            "name": dict(self.now["name"]),
            "rejected": set(self.now["rejected"]),
            "confirmed": set(self.now["confirmed"]),
        }
        return self.now

    def name(self, cluster: str, text: str) -> None:
        self.changed()["name"][cluster] = text

    def merge(self, others: list[str], into: str) -> None:
        now = self.changed()
        for row, cluster in now["cluster"].items():
            now["cluster"][row] = into if cluster in others else cluster
        for other in others:
            given = now["name"].pop(other, None)
            if given is not None:
                now["name"].setdefault(into, given)

    def move(self, rows: list[int], to: str) -> None:
        now = self.changed()
        for row in rows:
            now["cluster"][row] = to
            now["confirmed"].add(row)
            now["rejected"].discard(row)

    def reject(self, rows: list[int]) -> None:
        self.changed()["rejected"].update(rows)

    def restore(self, rows: list[int]) -> None:
        self.changed()["rejected"].difference_update(rows)

    def undo(self) -> None:
        self.future.append(self.now)
        self.now = self.past.pop()

    def redo(self) -> None:
        self.past.append(self.now)
        self.now = self.future.pop()


def seen(collection: Any) -> dict[str, Any]:
    """The collection in the words of `Plain`."""
    ids = collection.ids
    return {
        "cluster": {row: ids[c] for row, c in enumerate(collection.cluster_of)},
        "name": {i: n for i, n in zip(ids, collection.names, strict=True) if n is not None},
        "rejected": set(collection.rejected.tolist()),
        "confirmed": set(np.flatnonzero(collection.confirmed).tolist()),
    }


def shown(plain: Plain) -> dict[str, Any]:
    return plain.now | {"confirmed": plain.now["confirmed"] - plain.now["rejected"]}


def test_names_are_given_taken_and_unique(tmp_path):
    collection = opened(tmp_path)
    edit = collection.name(1, "  chainsaw ")
    assert edit.text == 'named cluster 1 "chainsaw"'
    assert collection.cluster("CHAINSAW").id == "1"
    with pytest.raises(UsageError, match='called "chainsaw" already') as clash:
        collection.name(2, "Chainsaw")
    assert "merge" in clash.value.remedy
    collection.name("chainsaw", "saw")
    collection.name("saw", None)
    assert collection.cluster(1).name is None
    for wrong in ("a\nb", "x" * 201, "\x00", "\u202eabc"):
        with pytest.raises(UsageError):
            collection.name(1, wrong)
    assert [e.kind for e in collection.history()] == ["name"] * 3


def test_a_mistyped_cluster_is_guessed(tmp_path):
    collection = opened(tmp_path)
    collection.name(1, "chainsaw")
    with pytest.raises(UsageError) as wrong:
        collection.name("chiansaw", "x")
    assert "chainsaw" in wrong.value.remedy


def test_a_merge_keeps_the_name_of_the_target(tmp_path):
    collection = opened(tmp_path)
    collection.name(0, "pistol")
    collection.name(1, "chainsaw")
    sizes = {c.id: c.size for c in collection.clusters}
    edit = collection.merge([0, 1, 2], into="chainsaw")
    assert edit.text == 'merged "pistol" and cluster 2 into "chainsaw"'
    assert collection.cluster("chainsaw").size == sizes["0"] + sizes["1"] + sizes["2"]
    assert [c.id for c in collection.clusters] == ["1", "3"]
    with pytest.raises(UsageError, match='merged into "chainsaw"'):
        collection.name(0, "x")
    collection.undo()
    assert {c.id: c.size for c in collection.clusters} == sizes
    collection.merge([2, 3])
    with pytest.raises(UsageError):
        collection.merge([2, 2])


def test_a_split_parts_what_lies_apart_and_keeps_the_name_with_what_people_placed(tmp_path):
    index = small_index()
    index.labels["both"].cluster[:] //= 2  # two true classes in each cluster
    collection = opened(tmp_path, index)
    truth = np.asarray(index.segments.video) % 4
    collection.name(0, "zero")
    mine = np.flatnonzero(truth == 0)[:2]
    collection.move(mine.tolist(), "zero")
    collection.split("zero")
    parts = {c.id: c for c in collection.clusters}
    assert {"0.1", "0.2"} < set(parts) and "0" not in parts
    assert sorted(len(np.unique(truth[parts[i].rows])) for i in ("0.1", "0.2")) == [1, 1]
    assert set(mine.tolist()) <= set(collection.cluster("zero").rows.tolist())
    collection.split(collection.cluster("zero").id, 3)
    assert collection.cluster("zero").id.startswith(("0.1.", "0.2."))
    with pytest.raises(UsageError, match="2 to 20"):
        collection.split(1, 1)


def test_moves_make_new_clusters_and_confirm(tmp_path):
    collection = opened(tmp_path)
    edit = collection.move([1, 2, 3], "quiet", new=True)
    assert edit.text == 'moved 3 segments to a new cluster "quiet"'
    quiet = collection.cluster("quiet")
    assert (quiet.id, quiet.size, quiet.confirmed) == ("new.1", 3, 3)
    collection.move([4], new=True)
    assert collection.cluster("new.2").name is None
    for wrong in ([], [-1], [10_000], ["x"]):
        with pytest.raises(UsageError):
            collection.move(wrong, 0)
    with pytest.raises(UsageError):
        collection.move([1])


def test_rejected_segments_leave_and_come_back(tmp_path):
    collection = opened(tmp_path)
    size = collection.cluster(0).size
    rows = collection.cluster(0).rows[:3].tolist()
    collection.reject(rows)
    assert collection.cluster(0).size == size - 3 and set(collection.rejected) == set(rows)
    with pytest.raises(UsageError, match="already"):
        collection.reject(rows)
    collection.restore(rows[:1])
    assert collection.cluster(0).size == size - 2


def test_answers_confirm_or_send_elsewhere(tmp_path):
    collection = opened(tmp_path)
    collection.name(0, "a")
    collection.name(1, "b")
    row = int(collection.cluster("a").rows[0])
    collection.answer(row, "a", True)
    assert collection.confirmed[row]
    collection.answer(row, "a", False)
    assert collection.ids[collection.cluster_of[row]] == "1" and not collection.confirmed[row]
    collection.answer(row, "b", False)
    assert collection.ids[collection.cluster_of[row]] in ("2", "3")
    ids, p = collection.predictions()
    assert p[row, ids.index("0")] == 0 and p[row, ids.index("1")] == 0
    collection.answer(row, "a", True)
    assert collection.ids[collection.cluster_of[row]] == "0"
    ids, p = collection.predictions()
    assert p[row, ids.index("0")] == 1


def test_undo_names_what_it_takes_back_and_guards_against_others(tmp_path):
    collection, other = opened(tmp_path), opened(tmp_path, author="someone else")
    mine = collection.name(0, "a")
    other.refresh()
    theirs = other.name(1, "b")
    with pytest.raises(ConflictError, match=r'someone else: named cluster 1 "b"'):
        collection.undo(expected=mine.id)
    assert collection.cluster(1).name == "b"
    assert collection.undo(expected=theirs.id).text == 'took back: named cluster 1 "b"'
    assert collection.redoable.id == theirs.id and collection.undoable.id == mine.id
    collection.redo(expected=theirs.id)
    with pytest.raises(UsageError, match="nothing to redo"):
        collection.redo()
    collection.undo()
    collection.undo()
    with pytest.raises(UsageError, match="nothing to undo"):
        collection.undo()
    collection.name(2, "c")
    assert collection.redoable is None
    assert [e.active for e in collection.history() if e.kind == "name"] == [True, False, False]


def test_labellings_have_edits_of_their_own(tmp_path):
    both, sight = opened(tmp_path), opened(tmp_path, by="video")
    both.name(0, "a")
    assert sight.refresh() and sight.revision == 1
    assert sight.undoable is None and sight.cluster(0).name is None


@pytest.mark.parametrize("seed", range(6))
def test_random_edits_equal_a_plain_dictionary(seed, tmp_path):
    rng = random.Random(seed)
    collection = opened(tmp_path)
    plain, count = Plain(collection), len(collection.index.segments)
    for number in range(120):
        there = sorted(set(plain.now["cluster"].values()) | set(plain.now["name"]))
        rows = sorted(rng.sample(range(count), rng.randint(1, 8)))
        kind = rng.choice(["name", "merge", "move", "move", "new", "reject", "restore", "undo", "undo", "redo"])
        if kind == "name":
            cluster = rng.choice(there)
            collection.name(cluster, f"name {number}")
            plain.name(cluster, f"name {number}")
        elif kind == "merge" and len(there) > 2:
            into, *others = rng.sample(there, 2)
            collection.merge([into, *others], into=into)
            plain.merge(others, into)
        elif kind == "move":
            to = rng.choice(there)
            collection.move(rows, to)
            plain.move(rows, to)
        elif kind == "new":
            collection.move(rows, new=True)
            plain.move(rows, collection.ids[collection.cluster_of[rows[0]]])
        elif kind == "reject" and not set(rows) <= plain.now["rejected"]:
            collection.reject(rows)
            plain.reject(rows)
        elif kind == "restore" and set(rows) & plain.now["rejected"]:
            collection.restore(rows)
            plain.restore(rows)
        elif kind == "undo" and plain.past:
            collection.undo()
            plain.undo()
        elif kind == "redo" and plain.future:
            collection.redo()
            plain.redo()
        assert seen(collection) == shown(plain), (number, kind)
    again = opened(tmp_path)
    assert seen(again) == shown(plain)
    assert again.revision == collection.revision
    for cluster in again.clusters:
        rows = [r for r, c in plain.now["cluster"].items() if c == cluster.id and r not in plain.now["rejected"]]
        assert sorted(cluster.rows.tolist()) == rows
        assert cluster.name == plain.now["name"].get(cluster.id)
        assert cluster.seconds == pytest.approx(2.0 * len(rows))
        assert cluster.confirmed == len(plain.now["confirmed"] & set(rows))
