"""A linear classifier of videos with several classes, beside scikit-learn and loops."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.preprocessing import StandardScaler

import seehear
from seehear.errors import UsageError
from seehear.transfer.classifiers import LINEAR_STRENGTHS, logistic_of_several
from seehear.transfer.scoring import chance_accuracy, ranking_chance, score


def made(count: int = 120, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features (N, 8), which of three classes each row has, and its label; a class shifts two of the features."""
    rng = np.random.default_rng(seed)
    truth = rng.random((count, 3)) > [0.5, 0.7, 0.6]
    truth[~truth.any(axis=1), 0] = True
    x = rng.normal(size=(count, 8))
    x[:, :6] += np.repeat(truth, 2, axis=1) * 1.2
    return x, truth, np.array(["|".join(np.array(["a", "b", "c"])[row]) for row in truth])


def test_each_class_is_logistic_regression_by_itself_with_one_strength():
    x, truth, labels = made()
    test = made(60, 1)[0]
    found = logistic_of_several("|")(x, labels, test)
    assert found.ranked.tolist() == ["a", "b", "c"]
    assert found.chosen["C"] in LINEAR_STRENGTHS and found.chosen["folds"] == 5
    scaler = StandardScaler().fit(x)
    for c in range(3):
        by_itself = LogisticRegression(C=found.chosen["C"], max_iter=5000, tol=1e-10).fit(
            scaler.transform(x), truth[:, c]
        )
        expected = by_itself.predict_proba(scaler.transform(test))[:, 1]
        assert np.abs(found.scores[0, :, c] - expected).max() < 1e-4
    assert found.classes["accuracy"][0, :, 0].tolist() == found.ranked[found.scores[0].argmax(1)].tolist()


def test_scores_are_the_metrics_of_several_classes():
    x, _, labels = made()
    test, truth, of_test = made(60, 1)
    answers = logistic_of_several("|")(x, labels, test)
    found = score(answers, of_test, "|")
    by_class = [average_precision_score(truth[:, c], answers.scores[0, :, c]) for c in range(3)]
    assert found["mAP"].value == pytest.approx(np.mean(by_class))
    assert found["mAP"].value > 0.75
    hits = [row[s.argmax()] for row, s in zip(truth, answers.scores[0], strict=True)]
    assert found["accuracy"].value == pytest.approx(np.mean(hits))
    assert {"AUC", "d'"} <= set(found)
    commonest = "abc"[int(made()[1].sum(axis=0).argmax())]
    assert chance_accuracy(labels, of_test, separator="|") == np.mean([commonest in text for text in of_test])
    assert ranking_chance(labels, of_test, "|")["mAP"] == pytest.approx(truth.mean(axis=0).mean())


def test_a_class_that_no_training_video_has_is_never_answered():
    x, _, labels = made()
    answers = logistic_of_several("|")(x, labels, x[:4])
    found = score(answers, np.array(["z", "z|a", "", "b"]), "|")
    assert 0 <= found["accuracy"].value <= 1
    assert "z" not in answers.ranked


def test_one_tables_videos_may_have_several(finished_run, collection, tmp_path):
    with open(collection, newline="") as file:
        rows = list(csv.DictReader(file))
    table = collection.parent / "several_linear.csv"
    with open(table, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(r | {"label": f"{r['label']}|odd" if i % 2 else r["label"]} for i, r in enumerate(rows))
    try:
        result = seehear.evaluate(
            finished_run, protocol="linear", data=table, label_separator="|", baselines=True, modality="audio"
        )
        with pytest.raises(UsageError, match="linear knows several"):
            seehear.evaluate(finished_run, protocol="knn", data=table, label_separator="|")
        plain = seehear.evaluate(finished_run, protocol="linear", data=table, modality="audio")
    finally:
        table.unlink()
    scores = result["scores"]["audio"]
    assert {"accuracy", "mAP", "AUC"} <= set(scores)
    assert scores["mAP"]["value"] > result["baselines"]["chance"]["audio"]["mAP"]["value"]
    assert "confusion" not in result and "confusion" in plain
