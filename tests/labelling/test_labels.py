"""Labels and their scores, through the public functions."""

from __future__ import annotations

import csv
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import seehear
from seehear.errors import RunError, UsageError
from seehear.features.labels import video_labels
from seehear.files import write_table
from seehear.transfer.frozen import evaluate_linear
from tests.corpus import make_broken, make_video


@pytest.mark.parametrize("modality", ["video", "audio", "both"])
def test_the_runs_own_videos_are_labelled(finished_run, modality):
    table = seehear.label(finished_run, modality=modality)
    assert table.column_names == ["video", "start", "end", "cluster", "confidence", "exemplar_rank"]
    rows = table.to_pydict()
    assert len(set(rows["video"])) == 24
    assert all(0 <= c <= 1 for c in rows["confidence"])
    for cluster in set(rows["cluster"]):
        ranks = [r for c, r in zip(rows["cluster"], rows["exemplar_rank"], strict=True) if c == cluster]
        assert sorted(ranks) == list(range(1, len(ranks) + 1))


def test_labelling_the_same_videos_again_gives_the_same_clusters(finished_run, collection):
    stored = seehear.label(finished_run, modality="both").to_pydict()
    again = seehear.label(finished_run, collection, modality="both").to_pydict()
    assert again["video"] == stored["video"]
    agree = np.mean(np.array(again["cluster"]) == np.array(stored["cluster"]))
    assert agree >= 22 / 24  # the cache's 16-bit sound may move a clip that lies on a border


def test_new_videos_are_labelled_segment_by_segment(finished_run, tmp_path):
    make_video(tmp_path / "long.mp4", seconds=8)
    make_broken(tmp_path)
    rows = seehear.label(finished_run, tmp_path, modality="both", every_seconds=2).to_pydict()
    assert rows["video"] == ["long.mp4"] * 4
    assert rows["start"] == pytest.approx([0, 2, 4, 6], abs=0.05)
    heard = seehear.label(finished_run, tmp_path, modality="audio").to_pydict()["video"]
    assert "no_picture.m4a" in heard  # sound is all that is needed
    assert "silent.mp4" not in heard


def test_a_wrong_modality_is_refused(finished_run):
    with pytest.raises(UsageError, match="video, audio, both"):
        seehear.label(finished_run, modality="smell")


def test_an_unfinished_run_cannot_label(finished_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    (run / "labels.parquet").unlink()
    with pytest.raises(RunError, match="--resume"):
        seehear.label(run)


def test_a_video_takes_the_cluster_of_most_of_its_time():
    table = pa.table({"video_id": ["a", "a", "a", "b"], "start_seconds": [0.0, 1.0, 2.0, 0.0],
                      "end_seconds": [1.0, 2.0, 5.0, 1.0], "cluster_video": [3, 3, 1, 2]})  # fmt: skip
    assert video_labels(table, "video") == {"a": 1, "b": 2}


def test_tables_are_written_as_their_ending_says(finished_run, tmp_path):
    table = seehear.label(finished_run)
    write_table(table, tmp_path / "deep" / "labels.csv")
    with open(tmp_path / "deep" / "labels.csv") as file:
        assert [row["video"] for row in csv.DictReader(file)] == table["video"].to_pylist()
    write_table(table, tmp_path / "labels.parquet")
    assert pq.read_table(tmp_path / "labels.parquet").equals(table)
    with pytest.raises(UsageError, match="neither"):
        write_table(table, tmp_path / "labels.xlsx")


def test_clusters_are_scored_against_the_runs_own_column_or_a_file(finished_run, collection):
    own = seehear.evaluate(finished_run)
    given = seehear.evaluate(finished_run, collection, baselines=True)
    assert own["scores"] == given["scores"]
    assert own["videos"] == 24
    assert set(own["scores"]) == {"video", "audio", "both"}
    assert all(0 <= s["nmi"] <= 1 for s in own["scores"].values())
    assert sum(row["size"] for row in own["purity"]["video"]) == 24
    assert set(given["baselines"]) == {"untrained", "raw", "chance"}
    assert abs(given["baselines"]["chance"]["audio"]["ari"]) < 0.3
    # The collection's classes are plain to the eye: mean frames alone tell the colours apart.
    assert given["baselines"]["raw"]["video"]["nmi"] > 0.5


def test_without_classes_there_is_nothing_to_score(finished_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    table = pq.read_table(run / "manifest.parquet")
    pq.write_table(table.drop_columns(["label"]), run / "manifest.parquet")
    with pytest.raises(UsageError, match="--labels"):
        seehear.evaluate(run)


def test_a_linear_classifier_learns_from_train_and_is_tested_on_test(finished_run, collection):
    result = evaluate_linear(finished_run, collection, baselines=True, clips=2)
    assert (result["train_videos"], result["test_videos"]) == (18, 6)
    for accuracies in (result["accuracy"], result["untrained"]):
        assert set(accuracies) == {"video", "audio", "both"}
        assert all(0 <= a <= 1 for a in accuracies.values())
