"""Clustering scores on cases worked by hand, purity tables, and the join of truth and predictions."""

import json
from math import log
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from seehear.data.truth import load_truth, match
from seehear.errors import DataError
from seehear.metrics.clustering import clustering_scores, mean_and_deviation, nmi, purity_table, table_as_text


def test_equal_up_to_names() -> None:
    scores = clustering_scores(["dog", "dog", "cat", "bird"], [7, 7, 0, 3])
    assert scores.as_dict() == pytest.approx(
        {"nmi": 1, "ari": 1, "accuracy": 1, "mean_entropy_nats": 0, "mean_max_purity": 1}
        | {"n": 4, "k": 3, "classes": 3}
    )


def test_worked_by_hand() -> None:
    """Clusters {a a a b} and {b b}: one of six items is wrong."""
    scores = clustering_scores(list("aaabbb"), [0, 0, 0, 0, 1, 1])
    h_true, h_pred = log(2), -(4 / 6 * log(4 / 6) + 2 / 6 * log(2 / 6))
    mutual = 3 / 6 * log((3 / 6) / (3 / 6 * 4 / 6)) + 1 / 6 * log((1 / 6) / (3 / 6 * 4 / 6))
    mutual += 2 / 6 * log((2 / 6) / (3 / 6 * 2 / 6))
    assert scores.nmi == pytest.approx(mutual / ((h_true + h_pred) / 2))
    # Pairs: 4 together in both; 6 by label, 7 by cluster, 15 in all.
    assert scores.ari == pytest.approx((4 - 6 * 7 / 15) / ((6 + 7) / 2 - 6 * 7 / 15))
    assert scores.accuracy == pytest.approx(5 / 6)
    # Clusters weigh the same, whatever their size.
    assert scores.mean_entropy_nats == pytest.approx((-(3 / 4 * log(3 / 4) + 1 / 4 * log(1 / 4)) + 0) / 2)
    assert scores.mean_max_purity == pytest.approx((3 / 4 + 1) / 2)


def test_more_clusters_than_classes_and_fewer() -> None:
    split = clustering_scores(list("aaaabb"), [0, 0, 1, 1, 2, 2])
    assert split.accuracy == pytest.approx(4 / 6)  # one half of a is left over
    assert (split.k, split.classes, split.mean_max_purity) == (3, 2, 1)
    merged = clustering_scores(list("aabbcc"), [0, 0, 0, 0, 1, 1])
    assert merged.accuracy == pytest.approx(4 / 6)
    assert "rectangular" in merged.as_text()


def test_one_cluster_says_nothing() -> None:
    scores = clustering_scores(list("abcd") * 3, np.zeros(12, dtype=int))
    assert (scores.nmi, scores.ari) == (0, 0)
    assert scores.mean_entropy_nats == pytest.approx(log(4))
    assert scores.mean_max_purity == pytest.approx(1 / 4)


def test_permuted_labels_score_as_chance() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(10, size=4000)
    scores = clustering_scores(labels, random.permutation(labels))
    assert abs(scores.ari) < 0.01
    assert scores.nmi < 0.02
    assert scores.accuracy < 0.14


def test_nmi_is_symmetric_and_ignores_names() -> None:
    random = np.random.default_rng(0)
    a, b = random.integers(5, size=200), random.integers(8, size=200)
    assert nmi(a, b) == pytest.approx(nmi(b, a))
    assert nmi(a, (a * 3 + 1) % 5) == pytest.approx(1)


@pytest.mark.parametrize(("true", "predicted"), [([], []), (["a"], [0, 1])])
def test_nothing_to_compare(true: list, predicted: list) -> None:
    with pytest.raises(DataError, match="cannot be compared"):
        clustering_scores(true, predicted)


def test_mean_and_deviation_over_heads() -> None:
    heads = [clustering_scores(list("aabb"), labels) for labels in ([0, 0, 1, 1], [0, 0, 0, 1])]
    assert mean_and_deviation(heads)["accuracy"] == pytest.approx((0.875, 0.125 * 2**0.5))
    assert mean_and_deviation(heads[:1])["accuracy"] == (1, 0)


def test_purity_table() -> None:
    true = ["cello"] * 3 + ["harp"] + ["golf"] * 2 + ["yoga", "tai chi", "ballet", "ballet"]
    rows = purity_table(true, [5, 5, 5, 5, 2, 2, 9, 9, 9, 9], top=2)
    assert [(r.rank, r.cluster, r.size, r.purity) for r in rows] == [
        (1, 2, 2, 1),
        (2, 5, 4, 0.75),
        (3, 9, 4, 0.5),
    ]
    assert rows[1].concepts == [("cello", 0.75), ("harp", 0.25)]
    assert rows[2].concepts == [("ballet", 0.5), ("tai chi", 0.25)]  # alphabetical among equals
    assert rows[1].as_text() == "cello(0.75), harp(0.25)"
    assert json.loads(json.dumps(rows[0].as_dict())) == {
        "rank": 1,
        "cluster": 2,
        "size": 2,
        "purity": 1.0,
        "concepts": [["golf", 1.0]],
    }
    assert [r.cluster for r in purity_table(true, [5, 5, 5, 5, 2, 2, 9, 9, 9, 9], min_size=3)] == [5, 9]


def test_purity_table_as_text() -> None:
    rows = purity_table(list("aabbccdd"), [0, 0, 1, 1, 2, 2, 3, 3])
    assert len(table_as_text(rows).splitlines()) == 5
    lines = table_as_text(rows, ends=1).splitlines()
    assert [line.split()[0] for line in lines] == ["#", "1", "...", "4"]


def test_load_truth(tmp_path: Path) -> None:
    expected = {"a.mp4": "dog, barking", "b.mp4": "cat"}
    (tmp_path / "t.csv").write_text('\ufeffpath,label\na.mp4,"dog, barking"\nb.mp4,cat\nc.mp4,\n', "utf-8")
    (tmp_path / "t.tsv").write_text("path\tlabel\na.mp4\tdog, barking\nb.mp4\tcat\n", "utf-8")
    table = pa.table({"video_id": list(expected), "path": ["x", "y"], "label": list(expected.values())})
    parquet.write_table(table, tmp_path / "t.parquet")
    for name in ("t.csv", "t.tsv", "t.parquet"):
        assert load_truth(tmp_path / name) == expected
    assert load_truth(tmp_path / "t.csv", label_column="path", id_columns=("label",))["cat"] == "b.mp4"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "No such file"),
        ("", "no column video_id or video or path"),
        ("path,class\na,b\n", "no column label; there are: path, class"),
        ("path,label\na,b\na,c\n", r"1 videos have two labels: a \(b, c\)"),
        ("path,label\na,\n", "no row has both"),
        ("path,label\na,b,c\n", "line 2 has 3 fields"),
    ],
)
def test_truth_that_cannot_be_used(text: str | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=said):
        load_truth(path)
    (tmp_path / "t.parquet").write_text("no")
    with pytest.raises(DataError, match="as a Parquet table"):
        load_truth(tmp_path / "t.parquet")


def test_match_by_id_name_and_stem() -> None:
    truth = {"a": "1", "x/b.mp4": "2", "c.mp4": "3", "d": "4", "lost": "5"}
    predictions = {"a": 10, "y/b.mp4": 20, "clips/c.mkv": 30, "deep/down/d.mp4": 40, "new.mp4": 50}
    found = match(truth, predictions)
    assert found.ids == ["a", "y/b.mp4", "clips/c.mkv", "deep/down/d.mp4"]
    assert found.y_true == ["1", "2", "3", "4"]
    assert found.y_pred == [10, 20, 30, 40]
    assert (found.unmatched_truth, found.unmatched_predictions) == (["lost"], ["new.mp4"])
    assert found.by == {"id": 1, "file name": 1, "file name without extension": 2}
    assert "1 only in the truth: lost" in found.as_text()


def test_ambiguous_names_match_nothing_but_longer_ends_do() -> None:
    truth = {"cat/1.mp4": "cat", "dog/1.mp4": "dog"}
    found = match(truth, {"/data/cat/1.mp4": 0, "/data/dog/1.mp4": 1})
    assert found.y_true == ["cat", "dog"]
    assert found.by == {"last 2 parts of the path": 2}
    with pytest.raises(DataError, match=r"cat/1\.mp4, dog/1\.mp4.*predictions \(1\.mp4\)"):
        match(truth, {"1.mp4": 0})


def test_no_match_shows_both_sides() -> None:
    with pytest.raises(DataError, match=r"truth \(a, b, c, \.\.\.\) and predictions \(z\)"):
        match(dict.fromkeys("abcd", "l"), {"z": 1})
