"""Labels with a number of kinds that is found, through the public function and the command."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import seehear
from seehear.cli import main
from seehear.errors import DataError, UsageError
from seehear.features.bank import FeatureBank
from seehear.labelling.kinds import METADATA, label_kinds
from seehear.types import ClipRef
from tests.cluster.test_kinds import views


def with_features(run: Path, to: Path, sight: np.ndarray, sound: np.ndarray | None) -> Path:
    """A copy of a finished run whose first clips have these features, the others being left out."""
    shutil.copytree(run, to, ignore=shutil.ignore_patterns("checkpoints", "tensorboard"))
    table = pq.read_table(to / "features.parquet").slice(0, len(sight))
    columns = {name: table[name] for name in ("video_id", "start_seconds", "end_seconds")}
    columns["video"] = pa.array(list(sight.astype(np.float32)))
    if sound is not None:
        columns["audio"] = pa.array(list(sound.astype(np.float32)))
    pq.write_table(pa.table(columns), to / "features.parquet")
    return to


@pytest.fixture(scope="module")
def run_of_three(finished_run, tmp_path_factory) -> Path:
    """24 clips of three kinds, eight of each in turn, of which number 1 has the sound of another kind."""
    sight, sound, _ = views([8, 8, 8], spread=0.08, seed=1)
    order = np.argsort(np.tile(np.arange(8), 3), kind="stable")
    sight, sound = sight[order], sound[order]
    sound[1] = -sound[1]
    return with_features(finished_run, tmp_path_factory.mktemp("kinds") / "run", sight.numpy(), sound.numpy())


def test_kinds_are_counted_and_a_clip_of_none_is_doubted(run_of_three, tmp_path, capsys):
    table = seehear.label(run_of_three, clusters="auto", plot=tmp_path / "kinds.svg", out=tmp_path / "labels.csv")
    clusters = table["cluster"].to_pylist()
    of_kind = [{c for i, c in enumerate(clusters) if i % 3 == kind and i != 1} for kind in range(3)]
    assert [len(found) for found in of_kind] == [1, 1, 1]
    assert set.union(*of_kind) == {0, 1, 2} == set(clusters)
    rows = table.to_pylist()
    assert rows[1]["doubt"] > 0.5 > max(row["doubt"] for i, row in enumerate(rows) if i != 1)
    for cluster in set(clusters):
        ranks = sorted(row["exemplar_rank"] for row in rows if row["cluster"] == cluster)
        assert ranks == list(range(1, len(ranks) + 1))
    assert rows[1]["exemplar_rank"] == clusters.count(clusters[1])  # the last of its cluster
    facts = json.loads(table.schema.metadata[METADATA])
    assert (facts["k"], facts["clusters"], facts["doubtful"]) == (3, 3, 1)
    assert (tmp_path / "kinds.svg").read_text().startswith("<svg")
    with (tmp_path / "labels.csv").open() as file:
        assert [int(row["cluster"]) for row in csv.DictReader(file)] == clusters
    main(["label", str(run_of_three), "--clusters", "auto", "--out", str(tmp_path / "again.csv")])
    said = capsys.readouterr().out
    assert "3 kinds" in said
    assert "1 segments are doubtful" in said
    assert "24 segments in 3 clusters" in said


def test_a_given_number_of_clusters_is_kept(run_of_three):
    for modality in ("video", "audio", "both"):
        table = seehear.label(run_of_three, clusters=4, modality=modality)
        assert set(table["cluster"].to_pylist()) == {0, 1, 2, 3}


def test_segments_are_labelled_as_whole_videos_are(finished_run):
    # Real features of a tiny network: there is nothing to find, but every segment is there.
    table = seehear.label(finished_run, clusters=2, every_seconds=1.0)
    assert table.num_rows > 24
    assert set(table["cluster"].to_pylist()) <= {0, 1}


def test_a_run_in_which_sight_and_sound_share_nothing_gets_no_number(finished_run, tmp_path):
    random = np.random.default_rng(0)
    run = with_features(finished_run, tmp_path / "run", random.random((24, 8)), random.random((24, 8)))
    with pytest.raises(DataError, match="no number of kinds"):
        seehear.label(run, clusters="auto")
    if (doubt := seehear.label(run, clusters=2)["doubt"]).null_count:
        assert doubt.null_count == 24


def test_doubts_are_null_where_they_cannot_be_told():
    first, second, _ = views([20, 20, 20])
    refs = [ClipRef(f"{i}#t=0,1", f"{i}", 0.0, 1.0) for i in range(60)]
    shuffled = second[torch.randperm(60, generator=torch.Generator().manual_seed(2))]
    bank = FeatureBank(refs, {"video": first.numpy(), "audio": shuffled.numpy()}, np.ones(60, dtype=bool))
    found = label_kinds(bank, 3, "both")
    assert np.isnan(found.doubt.doubt).all()
    assert set(found.clusters) == {0, 1, 2}
    assert found.facts == {"clusters": 3, "doubtful": 0}


def test_what_does_not_go_together_is_refused(finished_run, run_of_three, collection, tmp_path):
    run = run_of_three
    with pytest.raises(UsageError, match="no other videos"):
        seehear.label(run, collection, clusters="auto")
    with pytest.raises(UsageError, match="no other videos"):
        seehear.label(run, clusters=3, head=1)
    with pytest.raises(UsageError, match="--plot"):
        seehear.label(run, plot=tmp_path / "a.svg")
    with pytest.raises(UsageError, match="--plot"):
        seehear.label(run, clusters=3, plot=tmp_path / "a.svg")
    with pytest.raises(UsageError, match="cannot make 0"):
        seehear.label(run, clusters=0)
    with pytest.raises(UsageError, match="video, audio, both"):
        seehear.label(run, clusters=3, modality="smell")
    with pytest.raises(DataError, match="cannot make 24 clusters"):
        seehear.label(run, clusters=24)
    sight = np.random.default_rng(0).random((24, 8))
    with pytest.raises(UsageError, match="has learnt video"):
        seehear.label(with_features(finished_run, tmp_path / "blind", sight, None), clusters=3)
