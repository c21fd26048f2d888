"""Retrieval: neighbours against scikit-learn, recall worked by hand, ties, chance, and one modality by another."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from seehear.errors import UsageError
from seehear.transfer.retrieval import (
    class_chance,
    cross_modal_class_recall,
    cross_modal_neighbours,
    cross_modal_recall,
    neighbours,
    retrieve,
)
from seehear.transfer.scoring import score


def directions(*degrees: float) -> np.ndarray:
    """Rows (N, 2) of several lengths that point so many degrees from the first axis."""
    angles = np.deg2rad(np.array(degrees))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.arange(1, len(degrees) + 1)[:, None]


def test_neighbours_are_those_of_scikit_learn():
    from sklearn.neighbors import NearestNeighbors

    rng = np.random.default_rng(0)
    queries, gallery = rng.normal(size=(1500, 8)), rng.normal(size=(90, 8))  # more queries than a block has rows
    expected = NearestNeighbors(n_neighbors=7, metric="cosine").fit(gallery).kneighbors(queries, return_distance=False)
    assert np.array_equal(neighbours(queries, gallery, 7), expected)


def test_each_leaves_itself_out():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1100, 4))
    assert np.array_equal(neighbours(x, x, 1)[:, 0], np.arange(len(x)))
    assert np.array_equal(neighbours(x, x, 3, leave_out_own=True), neighbours(x, x, 4)[:, 1:])


def test_more_neighbours_than_there_are_rows_are_refused():
    x = directions(0, 10, 20)
    with pytest.raises(UsageError, match="4 neighbours"):
        neighbours(x, x, 4)
    with pytest.raises(UsageError, match="3 neighbours"):
        neighbours(x, x, 3, leave_out_own=True)


def test_recall_worked_by_hand(monkeypatch):
    """Training videos at 0 (a), 10 (b), 20 (a), 90 (c) degrees, test videos at 4, 12 and 60."""
    monkeypatch.setattr("seehear.transfer.retrieval.RECALL_AT", (1, 2, 3, 50))
    answers = retrieve(directions(0, 10, 20, 90), np.array(list("abac")), directions(4, 12, 60))
    assert answers.classes["R@2"][0].tolist() == [["a", "b"], ["b", "a"], ["c", "a"]]
    assert list(answers.classes) == ["R@1", "R@2", "R@3"]  # there are no 50
    found = {setting: s.value for setting, s in score(answers, np.array(list("aab"))).items()}
    assert found == pytest.approx({"R@1": 1 / 3, "R@2": 2 / 3, "R@3": 1})


def test_features_that_are_all_alike_find_at_chance():
    """A gallery sorted by class must not let its first class win."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.array(list("abcd")), 25)
    nearest = neighbours(np.ones((4, 3)), np.ones((100, 3)), 20)
    assert set(labels[nearest[0]]) == set("abcd")
    found = retrieve(np.ones((100, 3)), labels, np.ones((400, 3)))
    truth = rng.permutation(np.repeat(np.array(list("abcd")), 100))
    assert score(found, truth)["R@1"].value == pytest.approx(0.25)


def test_chance_against_every_order():
    gallery, queries = np.array(list("aabc")), np.array(list("abx"))
    for k in (1, 2, 3, 4):
        hits = [any(q == g for g in order[:k]) for q in queries for order in itertools.permutations(gallery)]
        assert class_chance(gallery, queries, k) == pytest.approx(np.mean(hits))


def test_chance_without_oneself_against_every_order():
    labels = np.array(list("aaabb"))
    for k in (1, 2, 4):
        hits = [
            any(labels[i] == labels[j] for j in order[:k])
            for i in range(5)
            for order in itertools.permutations([j for j in range(5) if j != i])
        ]
        assert class_chance(labels, labels, k, own=True) == pytest.approx(np.mean(hits))


def test_the_own_clip_is_found_by_hand():
    a, b = directions(0, 40, 80), directions(5, 90, 70)
    found = cross_modal_recall(a, b, (1, 2, 3, 10), names=("video", "audio"))
    # Ranks of the own row: 0 -> 5 is 1st; 40 -> 90 comes after 70 and 5; 80 -> 70 ties with 90 in angle.
    recall = found["video->audio"]["recall"]
    assert [recall[f"R@{k}"]["value"] for k in (1, 2, 3)] == pytest.approx([(1 + 0 + 0.5) / 3, 2 / 3, 1])
    assert found["video->audio"]["median_rank"] == 1.5
    # 5 -> 0 is 1st; 90 -> 40 comes after 80; 70 -> 80 is 1st.
    recall = found["audio->video"]["recall"]
    assert [recall[f"R@{k}"]["value"] for k in (1, 2, 3)] == pytest.approx([2 / 3, 1, 1])
    assert found["audio->video"]["median_rank"] == 1
    assert [recall[f"R@{k}"]["chance"] for k in (1, 2, 3)] == pytest.approx([1 / 3, 2 / 3, 1])
    assert "R@10" not in recall


def test_equal_matrices_find_themselves_and_unrelated_ones_do_at_chance():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 1200, 16))
    same = cross_modal_recall(x, 3 * x)["a->b"]
    assert (same["recall"]["R@1"]["value"], same["median_rank"]) == (1, 1)
    other = cross_modal_recall(x, y)
    for direction in other.values():
        assert all(s["low"] <= s["chance"] <= s["high"] for s in direction["recall"].values())
        assert direction["median_rank"] == pytest.approx(600.5, abs=60)


@pytest.mark.parametrize("b", [np.ones((64, 8)), np.zeros((64, 8))])
def test_collapsed_embeddings_find_their_own_clip_at_chance(b):
    rng = np.random.default_rng(0)
    found = cross_modal_recall(rng.normal(size=(64, 8)), b, (1, 10))
    for direction in found.values():
        assert direction["recall"]["R@1"]["value"] == pytest.approx(1 / 64)
        assert direction["recall"]["R@10"]["value"] == pytest.approx(10 / 64)
        assert direction["median_rank"] == pytest.approx(32.5)


@pytest.mark.parametrize("b", [np.ones((3, 4)), np.ones((4, 3)), np.ones(3)])
def test_matrices_of_different_shapes_are_refused(b):
    for function in (cross_modal_recall, lambda x, y: cross_modal_neighbours(x, y, 1)):
        with pytest.raises(UsageError, match="one shape"):
            function(np.ones((3, 3)), b)


def test_classes_across_modalities_do_not_count_the_own_clip():
    x = directions(0, 10, 50, 60)
    nearest = cross_modal_neighbours(x, x, 2, names=("video", "audio"))
    assert nearest["video->audio"].tolist() == [[1, 2], [0, 2], [3, 1], [2, 1]]
    together = cross_modal_class_recall(nearest, np.array(list("aabb")), (1, 2, 50))["video->audio"]
    assert {k: v["value"] for k, v in together.items()} == {"R@1": 1, "R@2": 1}
    assert together["R@1"]["chance"] == pytest.approx(1 / 3)
    apart = cross_modal_class_recall(nearest, np.array(list("abab")), (1, 2))["audio->video"]
    assert [apart[f"R@{k}"]["value"] for k in (1, 2)] == [0, 0.5]
    partly = cross_modal_class_recall(nearest, np.array(["a", "a", "", ""]), (1,))
    assert partly["video->audio"]["R@1"]["value"] == 1


def test_permuted_classes_across_modalities_score_at_chance():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 8))
    nearest = cross_modal_neighbours(x, x + 0.1, 10)
    found = cross_modal_class_recall(nearest, rng.permutation(np.repeat(np.array(list("abcd")), 150)), (1, 5, 10))
    for recall in found.values():
        for share in recall.values():
            assert share["value"] == pytest.approx(share["chance"], abs=0.08)
