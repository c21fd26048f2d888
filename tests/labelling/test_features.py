"""Labels from the features of any encoder: what is read, what is refused, what is written and how it scores."""

from __future__ import annotations

import csv
import json
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import seehear
from seehear.errors import DataError, UsageError
from seehear.features.files import read_features
from seehear.labelling.features import Preparation, choose_k, cluster_features, score_labels
from tests.cluster.test_balanced import blobs
from tests.commands import run


@pytest.fixture(scope="module")
def three():
    """Features (90, 16) of three groups, and the groups."""
    x, groups = blobs([49, 25, 16])
    return x.numpy(), groups


@pytest.fixture
def files(three, tmp_path):
    """The features as features.npy and features.parquet (with ids), the groups as truth.csv."""
    x, groups = three
    np.save(tmp_path / "features.npy", x)
    ids = [f"clips/{i:03}.mp4" for i in range(len(x))]
    table = {"video_id": ids, "start_seconds": np.zeros(len(x)), "end_seconds": np.ones(len(x)), "video": list(x)}
    pq.write_table(pa.table(table), tmp_path / "features.parquet")
    with open(tmp_path / "truth.csv", "w") as file:
        file.write("path,label\n" + "".join(f"{i},group {g}\n" for i, g in zip(ids, groups, strict=True)))
    return tmp_path


@pytest.mark.parametrize("options", [["--algorithm", "kmeans"], ["--algorithm", "sinkhorn", "--marginals", "zipf"]])
@pytest.mark.parametrize("name", ["features.npy", "features.parquet"])
def test_a_table_of_numbers_gets_labels_and_scores(files, capsys, name, options):
    out, truth = files / "labels.csv", files / "truth.csv"
    command = ("cluster", "--features", files / name, "-k", 3, "--out", out, "--labels", truth, *options)
    code, text, err = run(capsys, *command)
    assert code == 0, err
    assert "90 rows in 3 clusters of" in text
    assert "NMI" in text
    with open(out) as file:
        rows = list(csv.DictReader(file))
    keys = ["row"] if name.endswith("npy") else ["video", "start", "end"]
    assert list(rows[0]) == [*keys, "cluster", "confidence", "exemplar_rank"]
    assert all(0 <= float(row["confidence"]) <= 1 for row in rows)
    for cluster in {row["cluster"] for row in rows}:
        ranks = sorted(int(row["exemplar_rank"]) for row in rows if row["cluster"] == cluster)
        assert ranks == list(range(1, len(ranks) + 1))
    code, text, _ = run(capsys, *command, "--json")
    result = json.loads(text)
    assert result["scores"]["features"]["ari"] > 0.9
    assert (result["k"], sum(result["sizes"]), result["rows"], result["dimensions"]) == (3, 90, 90, 16)


def test_the_features_of_a_run_are_clustered_as_the_run_clusters_them(finished_run, collection):
    found = cluster_features(finished_run / "features.parquet", 4)
    assert found.facts["column"] == "video+audio"
    scores = score_labels(found.table, collection)
    again = seehear.evaluate(finished_run, k=4)
    assert scores["videos"] == 24
    assert scores["scores"]["features"]["nmi"] == pytest.approx(again["scores"]["both"]["nmi"], abs=0.2)
    table = pq.read_table(finished_run / "features.parquet")
    assert seehear.cluster_features(table, 4).equals(found.table)
    sound = seehear.cluster_features(table, 4, column="audio", algorithm="sinkhorn")
    assert np.bincount(sound["cluster"].to_numpy()).tolist() == pytest.approx([6] * 4, abs=1)


def test_the_same_seed_gives_the_same_labels(three):
    a, b = (cluster_features(three[0], 3, seed=4).table for _ in range(2))
    assert a.equals(b)


def test_length_counts_only_without_l2():
    directions = np.array([[1.0, 0.0]] * 20 + [[10.0, 0.1]] * 20 + [[0.0, 1.0]] * 20 + [[0.1, 10.0]] * 20)
    by_direction = cluster_features(directions, 2).table["cluster"].to_numpy()
    assert len(set(by_direction[:40])) == len(set(by_direction[40:])) == 1
    by_length = cluster_features(directions, 4, preparation=Preparation(l2=False)).table["cluster"].to_numpy()
    assert [len(set(part)) for part in (by_length[:20], by_length[20:40], by_length)] == [1, 1, 4]
    assert Preparation(pca_dim=1, whiten=True).apply(read_features(directions)).shape == (80, 1)


def test_a_video_of_several_segments_has_the_cluster_of_most_of_its_time(tmp_path):
    table = pa.table({"video": ["a", "a", "b"], "start": [0.0, 1.0, 0.0], "end": [1.0, 5.0, 1.0], "cluster": [0, 1, 0]})
    (tmp_path / "truth.csv").write_text("path,label\na,x\nb,y\n")
    assert score_labels(table, tmp_path / "truth.csv")["scores"]["features"]["accuracy"] == 1


def test_rows_without_ids_are_scored_by_number_or_by_order(three, tmp_path):
    x, groups = three
    table = cluster_features(x, 3).table
    order = np.random.default_rng(0).permutation(len(x))
    numbered = "row,label\n" + "".join(f"{i},{groups[i]}\n" for i in order)
    (tmp_path / "numbered.csv").write_text(numbered)
    (tmp_path / "ordered.csv").write_text("label\n" + "".join(f"{g}\n" for g in groups))
    (tmp_path / "short.csv").write_text("label\n1\n2\n")
    assert score_labels(table, tmp_path / "numbered.csv") == score_labels(table, tmp_path / "ordered.csv")
    with pytest.raises(DataError, match="2 lines for 90 rows"):
        score_labels(table, tmp_path / "short.csv")
    (tmp_path / "none.csv").write_text("name\nx\n")
    with pytest.raises(DataError, match="no column label"):
        score_labels(table, tmp_path / "none.csv")


class Trap:
    """Unpickling one leaves a trace."""

    def __reduce__(self):
        return exec, ("import builtins; builtins.trap_was_sprung = True",)


def test_pickled_objects_are_never_read(tmp_path):
    import builtins

    np.save(tmp_path / "trap.npy", np.array([[Trap()]], dtype=object), allow_pickle=True)
    (tmp_path / "bare.npy").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(DataError, match=r"trap\.npy: it holds pickled Python objects"):
        read_features(tmp_path / "trap.npy")
    with pytest.raises(DataError, match=r"bare\.npy: not a \.npy file"):
        read_features(tmp_path / "bare.npy")
    assert not hasattr(builtins, "trap_was_sprung")


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (np.full((5, 2), np.nan), "5 of 5 rows have NaN"),
        (np.array([[1.0, 2.0], [np.inf, 0.0]]), r"1 of 2 rows have NaN, infinity .* \(from 0: 1\)"),
        (np.full((3, 2), 1e300), "beyond float32"),
        (np.zeros(5), r"shape \(N, D\), not \(5,\)"),
        (np.zeros((5, 2, 2)), r"not \(5, 2, 2\)"),
        (np.zeros((0, 2)), "no rows"),
        (np.zeros((5, 2), dtype=complex), "real numbers, not complex128"),
        (np.array([["a", "b"]]), "real numbers"),
    ],
)
def test_arrays_that_cannot_be_clustered_are_refused_with_their_file(tmp_path, x, said):
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(DataError, match=rf"x\.npy: .*{said}") as error:
        read_features(tmp_path / "x.npy")
    assert error.value.remedy


@pytest.mark.parametrize(
    ("columns", "column", "said"),
    [
        ({"video_id": ["a"]}, None, "no column of lists of numbers; there are: video_id"),
        ({"x": [[1.0]], "y": [[2.0]]}, None, "several features: x, y"),
        ({"x": [[1.0]]}, "z", "no features in a column 'z'"),
        ({"x": [[1.0]]}, "x+z", "no features in a column 'z'"),
        ({"x": [[1.0], [1.0, 2.0]]}, None, "column x: lists of 1 to 2 numbers"),
        ({"x": [[1.0], None]}, None, "column x: 1 rows have gaps"),
        ({"x": [[1.0, None]]}, None, "column x: some rows have gaps"),
        ({"x": [[1.0], [float("nan")]]}, None, "column x: 1 of 2 rows have NaN"),
        ({"video_id": ["a", None], "x": [[1.0], [2.0]]}, None, "1 rows have no id"),
    ],
)
def test_tables_that_cannot_be_clustered_are_refused_with_their_file(tmp_path, columns, column, said):
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    with pytest.raises((DataError, UsageError), match=rf"x\.parquet.*{said}") as error:
        read_features(tmp_path / "x.parquet", column)
    assert error.value.remedy


def test_files_of_another_kind_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 2)))
    (tmp_path / "x.npz").rename(tmp_path / "archive.npy")
    (tmp_path / "x.parquet").write_text("no")
    (tmp_path / "x.txt").write_text("no")
    for name, said in (("archive.npy", "archive of arrays"), ("x.parquet", "not a Parquet"), ("gone.npy", "no such")):
        with pytest.raises(DataError, match=said):
            read_features(tmp_path / name)
    with pytest.raises(UsageError, match=r"\.npy and \.parquet"):
        read_features(tmp_path / "x.txt")
    np.save(tmp_path / "cut.npy", np.zeros((50, 8)))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:500])
    with pytest.raises(DataError, match="cannot be read"):
        read_features(tmp_path / "cut.npy")


def test_what_does_not_go_together_is_refused(three):
    x, _ = three
    with pytest.raises(DataError, match="90 rows cannot make 91 clusters"):
        cluster_features(x, 91)
    with pytest.raises(UsageError, match="0 clusters"):
        cluster_features(x, 0)
    with pytest.raises(UsageError, match="cannot keep marginals"):
        cluster_features(x, 3, marginals="zipf")
    with pytest.raises(UsageError, match="no columns"):
        cluster_features(x, 3, column="video")
    with pytest.raises(DataError, match="set pca_dim"):
        cluster_features(x, 3, preparation=Preparation(pca_dim=17))
    with pytest.raises(UsageError, match="2 or more"):
        choose_k(x, [1, 2])


def test_the_number_of_clusters_is_estimated_drawn_and_used(files, capsys, monkeypatch):
    from seehear.labelling import features as posthoc

    slow = posthoc.choose_k
    monkeypatch.setattr(posthoc, "choose_k", lambda *a, **o: slow(*a, **o, subsamples=4))
    plot, out = files / "plot.svg", files / "labels.parquet"
    features = ("cluster", "--features", files / "features.npy")
    code, text, err = run(capsys, *features, "--choose-k", "2-4", "--plot", plot, "--out", out)
    assert code == 0, err
    assert "estimate: 3 clusters" in text
    assert plot.read_text().startswith("<svg")
    assert len(set(pq.read_table(out)["cluster"].to_pylist())) == 3
    np.save(files / "features.npy", np.random.default_rng(0).normal(size=(60, 8)))
    code, text, err = run(capsys, *features, "--choose-k", "2,3", "--out", files / "none.csv")
    assert code == 3
    assert "no estimate" in text
    assert "-k 10" in err
    assert not (files / "none.csv").exists()
    code, text, _ = run(capsys, *features, "--choose-k", "2,3", "--json")
    assert code == 0
    assert json.loads(text)["estimate"]["k"] is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "-k 10, or --choose-k"),
        (["-k", "3", "--choose-k", "2-4"], "-k 10, or --choose-k"),
        (["-k", "3"], "--out labels.csv"),
        (["-k", "3", "--plot", "x.svg", "--out", "x.csv"], "--choose-k 2-20"),
        (["-k", "3", "--out", "x.txt"], "ending"),
        (["--choose-k", "5-2"], "2-20"),
        (["--choose-k", "2-4", "--plot", "x.png"], "ending"),
    ],
)
def test_mistyped_commands_get_a_remedy(files, capsys, options, said):
    code, _, err = run(capsys, "cluster", "--features", files / "features.npy", *options)
    assert code == 2
    assert said in err


def test_degraded_frames_are_scored_by_the_same_clusters(finished_run, capsys):
    whole = seehear.evaluate(finished_run, degrade=(1, 16))
    assert set(whole["degraded"]["scores"]) == {"1", "16"}
    for modality in ("video", "both"):
        plain, same = whole["scores"][modality], whole["degraded"]["scores"]["1"][modality]
        assert same["nmi"] == pytest.approx(plain["nmi"], abs=0.1)
        assert whole["degraded"]["scores"]["16"][modality]["n"] == 24
    assert whole["degraded"]["failures"] == []
    code, text, _ = run(capsys, "evaluate", "clustering", finished_run, "--degrade", "1,4")
    assert code == 0
    assert "1/4 video" in text
    assert "1/4 both" in text
    assert "1/4 audio" not in text
    with pytest.raises(UsageError, match="whole factors"):
        seehear.evaluate(finished_run, degrade=[0])
    with pytest.raises(UsageError, match="degrade"):
        seehear.evaluate(finished_run, protocol="knn", data="x.csv", degrade=[4])
