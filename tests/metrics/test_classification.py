"""Metrics against scikit-learn, cases worked by hand, and loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, classification_report, roc_auc_score, top_k_accuracy_score

from seehear.errors import UsageError
from seehear.metrics import classification as metrics


def drawn(n: int = 60, c: int = 5, ties: bool = False, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Which of C classes each of N clips has (one or several), and scores that lean towards them."""
    rng = np.random.default_rng(seed)
    truth = rng.random((n, c)) < 0.3
    truth[np.arange(n), rng.integers(c, size=n)] = True
    scores = rng.normal(size=(n, c)) + truth
    return truth, np.round(scores) if ties else scores


def test_average_precision_worked_by_hand():
    """Ranks 1 and 3 are right: (1/1 + 2/3) / 2. A class that no clip has is no number."""
    truth = np.array([[True, False], [False, False], [True, False], [False, False]])
    scores = np.array([[0.9, 0], [0.8, 0], [0.7, 0], [0.1, 0]])
    found = metrics.average_precision(truth, scores)
    assert found[0] == pytest.approx((1 + 2 / 3) / 2)
    assert np.isnan(found[1])


def test_auc_is_the_share_of_pairs_in_the_right_order():
    truth, scores = drawn(ties=True)
    for c, auc in enumerate(metrics.roc_auc(truth, scores)):
        wins = [
            (p > n) + (p == n) / 2 for p in scores[truth[:, c], c] for n in scores[~truth[:, c], c]
        ]  # fmt: skip
        assert auc == pytest.approx(np.mean(wins))


def test_d_prime_is_the_distance_of_two_normals_whose_auc_it_is():
    """Two normal distributions of unit deviation, d apart, have the AUC Phi(d / sqrt 2)."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=20_000), rng.normal(size=20_000) + 1.5
    auc = roc_auc_score(np.repeat([0, 1], 20_000), np.concatenate([a, b]))
    assert metrics.d_prime(auc) == pytest.approx(1.5, abs=0.05)
    assert metrics.d_prime(0.5) == 0
    assert metrics.d_prime(0.975) == pytest.approx(2.772, abs=0.001)
    assert math.isinf(metrics.d_prime(1.0))


@pytest.mark.parametrize("k", [1, 2, 4])
def test_top_k_is_scikit_learns_where_nothing_ties(k):
    rng = np.random.default_rng(1)
    labels, scores = rng.integers(5, size=80), rng.normal(size=(80, 5))
    found = metrics.top_k_accuracy(metrics.indicators(labels.astype(str), list("01234")), scores, k)
    assert found == pytest.approx(top_k_accuracy_score(labels, scores, k=k))


def test_equal_scores_are_hit_as_often_as_by_chance():
    truth = metrics.indicators(["a", "b", "z"], ["a", "b", "c", "d"])
    scores = np.array([[1.0, 1, 1, 1], [2, 1, 1, 0], [5, 0, 0, 0]])
    assert metrics.top_k_hits(truth, scores, 2).tolist() == [0.5, 0.5, 0.0]  # z is none of the classes


def test_top_k_of_several_classes_takes_the_best_of_them():
    truth = np.array([[True, False, True]])
    assert metrics.top_k_accuracy(truth, np.array([[0.1, 0.5, 0.9]]), 1) == 1
    assert metrics.top_k_accuracy(truth, np.array([[0.1, 0.9, 0.5]]), 1) == 0


@pytest.mark.parametrize("ties", [False, True])
def test_means_over_drawn_clips_are_those_of_scikit_learn(ties):
    """The fast path of the bootstrap, draw by draw, against scikit-learn on the clips repeated as drawn."""
    truth, scores = drawn(ties=ties)
    weights = np.random.default_rng(3).multinomial(60, np.full(60, 1 / 60))
    rows = np.repeat(np.arange(60), weights)
    mean_ap, auc = metrics._Drawn(truth, scores).means(weights)
    assert mean_ap == pytest.approx(average_precision_score(truth[rows], scores[rows], average="macro"))
    assert auc == pytest.approx(roc_auc_score(truth[rows], scores[rows], average="macro"))


def test_rankings_have_the_values_of_scikit_learn_within_their_intervals():
    truth, scores = drawn()
    found = metrics.ranking(truth, scores)
    assert list(found) == list(metrics.RANKING)
    assert found["mAP"]["value"] == pytest.approx(average_precision_score(truth, scores, average="macro"))
    assert found["AUC"]["value"] == pytest.approx(roc_auc_score(truth, scores, average="macro"))
    assert found["d'"]["value"] == metrics.d_prime(found["AUC"]["value"])
    assert all(s["low"] < s["value"] < s["high"] for s in found.values())
    assert found == metrics.ranking(truth, scores)


def test_classes_that_cannot_be_ranked_take_no_part():
    truth, scores = drawn(c=3)
    padded = np.column_stack([truth, np.zeros(60, bool), np.ones(60, bool)])
    more = np.column_stack([scores, scores[:, :2]])
    assert metrics.ranking(padded, more) == metrics.ranking(truth, scores)
    assert metrics.ranking(np.zeros((4, 2), bool), np.ones((4, 2))) == {}
    perfect = metrics.ranking(np.eye(4, dtype=bool).repeat(5, axis=0), np.eye(4).repeat(5, axis=0))
    assert (perfect["mAP"]["value"], perfect["AUC"]["value"]) == (1, 1)
    assert "d'" not in perfect


def test_confusions_and_scores_of_classes_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    truth = rng.choice(list("abcd"), 90)
    predicted = np.where(rng.random(90) < 0.5, truth, rng.choice(list("abcx"), 90))
    matrix = metrics.confusion(truth, predicted)
    assert matrix["classes"] == list("abcdx")
    for i, one in enumerate("abcdx"):
        for j, other in enumerate("abcdx"):
            assert matrix["counts"][i][j] == sum((truth == one) & (predicted == other))
    expected = classification_report(truth, predicted, output_dict=True, zero_division=0.0)
    found = metrics.per_class(matrix)
    assert [row["class"] for row in found] == list("abcd")  # no clip is of x
    for row in found:
        of_class = expected[row["class"]]
        assert (row["recall"], row["precision"], row["f1"], row["clips"]) == pytest.approx(
            (of_class["recall"], of_class["precision"], of_class["f1-score"], of_class["support"])
        )


def test_confusions_of_folds_add_up_to_that_of_all_clips():
    rng = np.random.default_rng(0)
    truth, predicted = rng.choice(list("abcd"), (2, 50))
    parts = [metrics.confusion(truth[:20], predicted[:20]), metrics.confusion(truth[20:], predicted[20:])]
    assert metrics.add_confusions(parts) == metrics.confusion(truth, predicted)
    assert metrics.add_confusions([metrics.confusion(["a"], ["a"]), metrics.confusion(["b"], ["a"])]) == {
        "classes": ["a", "b"], "counts": [[1, 0], [1, 0]],
    }  # fmt: skip


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(UsageError, match="two matrices"):
        metrics.average_precision(np.ones((3, 2), bool), np.ones((3, 3)))
