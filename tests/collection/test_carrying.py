"""What people said survives moved files, an index at another step, and a second training; what can't is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from seehear.collection.stretches import Stretches, Timeline, of_segments, pack, unpack
from seehear.errors import UsageError
from tests.collection.made import cut, made_index, opened, small_index, videos
from tests.collection.test_edits import seen


def trained_again(cluster, every=2.0, count=20, of=None, key="second"):
    """An index of the same videos with other clusters, by a function from video to cluster."""
    segments = cut(videos(count) if of is None else of, every)
    truth = (np.asarray(segments.video) % 4).astype(np.int32)
    labels = np.array([cluster(int(v)) for v in segments.video], dtype=np.int32)
    return made_index(segments, truth, labels, key=key, generation=key)


def names(collection):
    return {c.id: c.name for c in collection.clusters if c.name is not None}


def test_moved_and_renamed_files_keep_their_names_and_decisions(tmp_path):
    collection = opened(tmp_path)
    collection.name(0, "a")
    collection.move([3, 4], "b", new=True)
    collection.reject([7])
    moved = [replace(v, video_id=f"elsewhere/{i}.mkv", path=Path(f"/other/{i}.mkv")) for i, v in enumerate(videos(20))][
        ::-1
    ]
    segments = cut(moved, 2.0)
    truth = (np.arange(20)[::-1] % 4).astype(np.int32)[np.asarray(segments.video)]
    again = opened(tmp_path, made_index(segments, truth))
    assert names(again) == {"0": "a", "new.1": "b"}
    fingerprints = [moved[v].identity.fingerprint for v in np.asarray(segments.video)[again.cluster("b").rows]]
    assert set(fingerprints) == {f"{0:032x}"} and sorted(segments.start_seconds[again.cluster("b").rows]) == [6.0, 8.0]
    (row,) = again.rejected
    assert moved[segments.video[row]].identity.fingerprint == f"{1:032x}" and segments.start_seconds[row] == 4.0


@pytest.mark.parametrize(("every", "rows"), [(1.0, 10), (2.0, 5), (5.0, 2), (2.5, 4)])
def test_an_index_at_another_step_keeps_decisions_by_half(every, rows, tmp_path):
    collection = opened(tmp_path)
    collection.move(range(5), "all of it", new=True)  # the first video
    collection.move([6], 3)  # 2 to 4 s of the second
    segments = cut(videos(20), every)
    truth = (np.asarray(segments.video) % 4).astype(np.int32)
    again = opened(tmp_path, made_index(segments, truth, generation="another step"))
    whole = again.cluster("all of it").rows
    assert len(whole) == rows and set(np.asarray(segments.video)[whole]) == {0}
    second = [r for r in again.cluster(3).rows if segments.video[r] == 1]
    inside = [
        r
        for r in range(len(segments))
        if segments.video[r] == 1
        and min(4.0, segments.end_seconds[r]) - max(2.0, segments.start_seconds[r]) >= every / 2
    ]
    assert sorted(second) == inside


def test_names_follow_their_segments_into_clusters_of_a_second_training(tmp_path):
    collection = opened(tmp_path)
    for cluster, name in enumerate(("zero", "one", "two")):
        collection.name(cluster, name)
    collection.reject([0, 1])
    row = int(collection.cluster("one").rows[0])
    collection.move([row], "zero")
    again = opened(tmp_path, trained_again(lambda v: (v % 4 + 2) % 4, every=2.5))
    assert names(again) == {"2": "zero", "3": "one", "0": "two"}
    assert again.conflicts == []
    assert len(again.rejected) == 2  # of 0 to 4 s those of 0 to 2.5 and of 2.5 to 5 s lie in by half
    placed = np.flatnonzero(again.confirmed)
    assert len(placed) and set(again.cluster_of[placed]) == {again.ids.index("2")}
    assert again.undoable.text.startswith("moved 1 segment to")
    again.undo()
    assert not again.confirmed.any()
    again.redo()
    again.name("two", "deux")
    assert names(again) == {"2": "zero", "3": "one", "0": "deux"}
    # And on to a third one, which gets what was said of both.
    third = opened(tmp_path, trained_again(lambda v: (v % 4 + 1) % 4, key="third"))
    assert names(third) == {"1": "zero", "2": "one", "3": "deux"}
    # The first labelling is as it was, with what came later.
    assert names(opened(tmp_path))["0"] == "zero"


def test_two_names_that_claim_one_cluster_are_a_conflict_until_it_is_settled(tmp_path):
    collection = opened(tmp_path)
    collection.name(0, "many")
    collection.name(1, "few")
    again = opened(tmp_path, trained_again(lambda v: 5 if v % 4 == 0 or (v % 4 == 1 and v > 6) else v % 4))
    assert names(again) == {"5": "many"}
    (conflict,) = again.conflicts
    assert '"few" lies in cluster 5 now, of which "many" has more' in conflict.text
    assert [c.text for c in opened(tmp_path, again.index).conflicts] == [conflict.text]
    again.name(1, "few")  # where the rest of it is
    assert again.conflicts == []
    again.undo()
    assert [c.text for c in again.conflicts] == [conflict.text]
    again.name(5, "many")  # it is what it is called
    assert again.conflicts == []


def test_a_torn_name_is_a_conflict_and_what_people_placed_keeps_it(tmp_path):
    collection = opened(tmp_path)
    collection.name(0, "torn")
    torn = trained_again(lambda v: 10 + v // 4 % 4 if v % 4 == 0 else v % 4)
    again = opened(tmp_path, torn)
    assert names(again) == {}
    (conflict,) = again.conflicts
    assert '"torn" is torn in pieces: most of it is in cluster 10 (40%)' in conflict.text
    rows = collection.cluster("torn").rows[:3].tolist()
    collection.move(rows, "torn")
    again.refresh()
    assert sorted(again.cluster("torn").rows.tolist()) == sorted(rows)
    (conflict,) = again.conflicts
    assert "stands in a cluster of its own" in conflict.text
    again.merge(["torn", "10", "11", "12", "13"], into="10")
    assert again.conflicts == [] and again.cluster("torn").size == 25


def test_clusters_within_a_merged_one_are_merged_again(tmp_path):
    index = trained_again(lambda v: v, key="first")  # a cluster a video
    collection = opened(tmp_path, index)
    for c in range(4):
        collection.merge([str(v) for v in range(c, 20, 4)], into=str(c))
        collection.name(str(c), f"class {c}")
    again = opened(tmp_path, trained_again(lambda v: v % 4 + 4 * (v // 4 % 2)))
    assert sorted((c.name, c.size) for c in again.clusters) == [(f"class {c}", 25) for c in range(4)]
    assert again.conflicts == []


def test_a_name_of_segments_that_are_gone_is_kept(tmp_path):
    collection = opened(tmp_path)
    collection.name(0, "gone")
    others = [replace(v, identity=replace(v.identity, fingerprint=f"f{i}")) for i, v in enumerate(videos(20))]
    again = opened(tmp_path, trained_again(lambda v: v % 4, of=others))
    (conflict,) = again.conflicts
    assert '"gone" was the name of segments of which none is here' in conflict.text


def test_answers_that_something_is_not_are_carried(tmp_path):
    collection = opened(tmp_path)
    collection.name(0, "zero")
    collection.name(1, "one")
    row = int(collection.cluster("zero").rows[0])
    collection.answer(row, "zero", False)
    again = opened(tmp_path, trained_again(lambda v: (v % 4 + 2) % 4))
    ids, p = again.predictions()
    assert p[row, ids.index("2")] == 0


def test_names_of_another_run_are_brought_over(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    second.mkdir()
    source = opened(first)
    source.name(0, "zero")
    source.name(1, "wrong")
    source.undo()
    source.split("2")
    source.move([5], "zero")
    target = opened(second, trained_again(lambda v: 3 - v % 4))
    target.name("0", "mine")
    edit = target.adopt(first)
    assert edit.text == "brought 3 edits over from a"
    assert names(target) == {"0": "mine", "3": "zero"}
    assert target.confirmed[5] and target.ids[target.cluster_of[5]] == "3"
    reopened = opened(second, target.index)
    assert seen(reopened) == seen(target)
    target.undo()
    assert names(target) == {"0": "mine"}
    target.redo()
    target.adopt(first)
    assert names(target) == {"0": "mine", "3": "zero"}
    with pytest.raises(UsageError, match="nobody has edited"):
        target.adopt(tmp_path)


def test_names_of_a_copy_are_brought_over_with_all_clusters(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    second.mkdir()
    source = opened(first)
    source.split("2")
    source.name("2.1", "half")
    source.name("2.2", "other half")
    source.move([9], "mine", new=True)
    target = opened(second)
    target.adopt(first)
    assert seen(target) == seen(source)
    assert target.conflicts == []


def test_overlaps_equal_those_of_every_pair():
    rng = np.random.default_rng(0)

    def drawn(count, videos):
        start = rng.integers(0, 50, count) * 100
        return Stretches(videos, rng.integers(0, len(videos), count), start, start + rng.integers(1, 30, count) * 100)

    for _ in range(20):
        own, others = drawn(40, ["a", "b", "c"]), drawn(30, ["c", "x", "a", "a"])
        expected = set()
        for i in range(len(others)):
            for j in range(len(own)):
                same = others.videos[others.video[i]] == own.videos[own.video[j]]
                shared = min(others.end_ms[i], own.end_ms[j]) - max(others.start_ms[i], own.start_ms[j])
                if same and shared > 0:
                    expected.add((i, j, int(shared)))
        found = Timeline(own).overlaps(others)
        assert set(zip(*(x.tolist() for x in found), strict=True)) == expected


def test_a_clustering_is_packed_and_unpacked():
    stretches = of_segments(small_index().segments)
    cluster = np.arange(len(stretches)) % 7 - 1
    packed = pack(stretches, cluster)
    again, labels = unpack(packed)
    assert again.as_json() == stretches.as_json() and (labels == cluster).all() and len(packed) < 1200
    with pytest.raises(ValueError, match="incorrect header"):
        unpack(b"nonsense")
    back = Stretches.from_json(stretches.as_json())
    assert (back.start_ms == stretches.start_ms[stretches.json_order()]).all()
