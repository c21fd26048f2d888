"""Runs that count kinds as they train (`cluster.auto`): from end to end, stopped and resumed, by two processes."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import seehear
from seehear.cli import main
from seehear.config import ClusterConfig, Config
from seehear.engine.runlog import read_metrics
from seehear.errors import UsageError
from seehear.features.kinds import clusters_to_begin
from seehear.features.model import Model
from seehear.methods.deepcluster import DeepClustering, cluster_features
from seehear.methods.selavi import SeLaVi
from seehear.pretraining.plan import make_config
from tests.cluster.test_kinds import views
from tests.conftest import TINY_SETTINGS
from tests.engine.test_distributed import torchrun
from tests.engine.test_training import assert_same_run, stopped_and_resumed
from tests.features.test_kinds_of_banks import bank_of
from tests.methods.test_selavi import TINY, bank_for, inputs_for, selavi, targets_for

SELAVI = [*TINY_SETTINGS, "rounds=2", "optim.epochs=2", "selavi.heads=3", "selavi.clusterings=3"]


def counting(method: str, settings=TINY_SETTINGS) -> Config:
    return make_config(method=method, clusters="auto", settings=settings)


@pytest.fixture(scope="module")
def counted(collection, tmp_path_factory):
    """A SeLaVi run that counted."""
    out = tmp_path_factory.mktemp("counted") / "selavi"
    seehear.pretrain(collection, out, config=counting("selavi", SELAVI), quiet=True)
    return out


def check_run(run):
    """The numbers of kinds.json, the labels and the model are one; doubt stands in the labels."""
    facts = json.loads((run / "kinds.json").read_text())
    labels, model = pq.read_table(run / "labels.parquet"), Model.load(run)
    assert labels["doubt"].type == "float"
    assert set(model.cluster_counts.values()) == {facts["clusters"]} == {model.config.cluster.k}
    for by in ("video", "audio", "both"):
        assert max(labels[f"cluster_{by}"].to_pylist()) < facts["clusters"]
    return facts, labels


@pytest.mark.parametrize("method", ["xdc", "gdt"])
def test_a_run_ends_with_as_many_clusters_as_kinds_are_counted(method, collection, tmp_path, capsys):
    settings = [s for s in TINY_SETTINGS if not s.startswith("rounds")] + ["rounds=1"] * (method == "gdt")
    options = [x for s in settings for x in ("--set", s)]
    run = tmp_path / method
    main(["pretrain", str(collection), "--out", str(run), "--method", method, "--clusters", "auto", *options])
    facts, labels = check_run(run)
    assert facts["k"] in (None, facts["clusters"])
    said = capsys.readouterr()
    assert "kinds" in said.out + said.err
    # Doubtful clips are the last examples of their clusters.
    rows = labels.to_pylist()
    doubtful = [row for row in rows if (row["doubt"] or 0) >= 0.5]
    for row in doubtful:
        of_cluster = [r["rank_both"] for r in rows if r["cluster_both"] == row["cluster_both"] and r not in doubtful]
        assert row["rank_both"] > max(of_cluster, default=0)


def test_new_heads_begin_each_round_and_transport_comes_in_the_last(counted):
    facts, _ = check_run(counted)
    rounds = [r for r in read_metrics(counted / "metrics.jsonl") if r["kind"] == "round"]
    assert [r["round"] for r in rounds] == [0, 1, 1, 1, 1]
    assert len(rounds[0]["clusters/head0"]["sizes"]) == clusters_to_begin(24)
    assert "marginals" not in rounds[1]["clusters/head0"]
    assert all(len(r["clusters/head0"]["marginals"]) == facts["clusters"] for r in rounds[2:])


def test_a_stopped_run_that_counts_resumes_to_the_bit(counted, collection, tmp_path, monkeypatch):
    """In the first round, and between two transports of the second, whose heads have another number of clusters."""
    steps = [r["step"] for r in read_metrics(counted / "metrics.jsonl") if r["kind"] == "step"]
    for stop_after in (2, len(steps) // 2 + 2):
        config = counting("selavi", SELAVI)
        run = stopped_and_resumed(collection, tmp_path / str(stop_after), config, stop_after, monkeypatch)
        assert_same_run(counted, run)
        assert (run / "kinds.json").read_text() == (counted / "kinds.json").read_text()


def test_two_processes_count_alike(collection, tmp_path):
    arguments = ["pretrain", collection, "--method", "selavi", "--clusters", "auto", "--out", tmp_path / "two"]
    torchrun(2, [*arguments, *(p for s in [*SELAVI, "optim.batch_size=4"] for p in ("--set", s))])
    _, labels = check_run(tmp_path / "two")
    assert labels.num_rows == 24


def test_deep_clustering_trains_with_clusters_to_spare_and_counts():
    config = replace(TINY, method="xdc", rounds=3, cluster=ClusterConfig(k=20, auto=True, restarts=5))
    method = DeepClustering(config)
    bank = bank_of(*views([30, 25, 20, 15])[:2])
    found = method.first_labels(bank, seed=0, left=2)
    assert {name: labelling.k for name, labelling in found.items()} == {"audio": 20, "video": 20}
    assert method.count.told().k == 4
    assert "count.numbers" in method.state_dict()
    assert not any(
        "count" in name for name in DeepClustering(replace(config, cluster=ClusterConfig(k=20))).state_dict()
    )


def test_selavi_begins_with_clusters_of_the_other_modality_and_ends_with_the_kinds_that_both_know():
    model = SeLaVi(replace(TINY, rounds=2, cluster=ClusterConfig(k=12, auto=True, restarts=5)))
    bank = bank_for(model, n=200, groups=4)
    before = model.first_labels(bank, seed=0, left=1)
    assert {labels.k for labels in before.values()} == {12}
    alone = (
        cluster_features(bank, "audio", 12, model.config.cluster, 0),
        cluster_features(bank, "video", 12, model.config.cluster, 1),
    )
    for head, expected in enumerate(alone):
        np.testing.assert_array_equal(before[f"head{head}"].labels, expected.labels)
    model.start_round({"head0": 12}, model.config.optim, torch.Generator().manual_seed(0))
    # Labels of even heads (the sound's) move the video encoder alone, those of odd heads the audio encoder alone.
    inputs, targets = inputs_for(model), targets_for(model)
    for head, moved in ((0, "video"), (1, "audio")):
        parts = [model(inputs, t).parts for t in (targets, targets | {f"head{head}": (targets[f"head{head}"] + 1) % 5})]
        changed = {s for s in ("video", "audio") if parts[0][f"loss/{s}"] != parts[1][f"loss/{s}"]}
        assert changed == {moved}

    last = model.first_labels(bank, seed=0, left=0)
    assert {labels.k for labels in last.values()} == {4}
    assert {labels.centroids.shape[1] for labels in last.values()} == {64}
    model.start_round({"head0": 4}, model.config.optim, torch.Generator().manual_seed(0))
    assert model.heads.clusters == 4
    assert not model.crossed
    sizes = np.bincount(last["head0"].labels)
    shares = model.marginals[0].numpy()
    assert np.all(np.diff(shares[np.argsort(sizes)]) >= 0)  # the larger the cluster, the larger its share
    assert shares.sum() == pytest.approx(1)
    assert np.abs(shares - 0.25).sum() < np.abs(sizes / 200 - 0.25).sum()  # shrunk


def test_transports_lie_in_the_last_round_after_a_tenth_of_it():
    model = selavi(clusterings=2, power=1.0)
    assert model.relabel_epochs(10, left=3) == [5.0, 10.0]
    model.config = replace(model.config, cluster=ClusterConfig(k=5, auto=True))
    assert model.relabel_epochs(10, left=3) == []
    assert model.relabel_epochs(10, left=0) == [pytest.approx(5.5), pytest.approx(10)]


def test_a_recipe_of_one_round_gets_short_ones_in_which_to_count():
    config = make_config(method="selavi", recipe="small-selavi", clusters="auto")
    plain = make_config(method="selavi", recipe="small-selavi")
    assert (plain.rounds, plain.last_round) == (1, None)
    assert config.rounds == 7
    assert 6 * config.optim.epochs + config.last_round.epochs == plain.optim.epochs
    given = make_config(method="selavi", clusters="auto", settings=["last_round.epochs=9", "last_round.base_lr=0.2"])
    assert (given.rounds, given.optim, given.last_round.epochs) == (7, config.optim, 9)
    assert given.last_round.base_lr == 0.2


@pytest.mark.parametrize(
    ("method", "settings", "said"),
    [
        ("rotation", (), "does not learn from both"),
        ("same-modality", (), "does not learn from both"),
        ("selavi", ("selavi.variant=frames",), "does not learn from both"),
        ("xdc", ("cluster.k_video=3",), "k_video"),
        ("selavi", ("selavi.shares=[0.5,0.5]", "cluster.k=2"), "their shares"),
    ],
)
def test_what_cannot_be_counted_is_refused(method, settings, said):
    with pytest.raises(UsageError, match=said):
        make_config(method=method, clusters="auto", settings=settings)
