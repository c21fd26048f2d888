"""Labels of new videos by clustering heads: one head or the consensus, missing streams, running marginals."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import seehear
from seehear.cli import main
from seehear.cluster.doubt import companions, doubts
from seehear.errors import DataError, UsageError
from seehear.features.bank import FeatureBank
from seehear.features.headlabels import consensus_names, consensus_rows, head_rows, log_p
from seehear.features.model import table_bank
from seehear.labelling.running import RunningMarginals
from seehear.models.heads import ClusterHeads
from tests.conftest import TINY_SETTINGS
from tests.corpus import make_video

K = 4


@pytest.fixture(scope="module")
def run(collection, tmp_path_factory):
    """A finished run of three heads on the collection."""
    out = tmp_path_factory.mktemp("heads") / "run"
    settings = [*TINY_SETTINGS, "rounds=1", "cluster.k=4", "selavi.heads=3", "selavi.clusterings=3", "optim.epochs=2"]
    seehear.pretrain(collection, out, method="selavi", settings=settings, quiet=True)
    return out


def heads_for(count: int = 3, seed: int = 0) -> ClusterHeads:
    generator = torch.Generator().manual_seed(seed)
    return ClusterHeads({"video": 6, "audio": 5}, K, count, generator=generator).eval()


def inputs_for(heads: ClusterHeads, n: int = 40) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {"video": torch.randn(n, 6, generator=generator), "audio": torch.randn(n, 5, generator=generator)}


# -- the consensus ------------------------------------------------------------------------------------------------


def test_heads_that_differ_in_numbering_alone_agree_in_all():
    heads = heads_for()
    x = {"video": inputs_for(heads, 400)["video"]}
    with torch.no_grad():
        heads.of["video"][0].layers[-1].weight.sub_(heads.of["video"][0].layers[-1].weight.mean(1, keepdim=True))
    first = heads.of["video"][0].state_dict()
    for head, order in ((1, [2, 0, 3, 1]), (2, [1, 2, 3, 0])):
        heads.of["video"][head].load_state_dict(first)
        last = heads.of["video"][head].layers[-1]
        with torch.no_grad():
            last.weight.copy_(last.weight[order])
            last.bias.copy_(last.bias[order])
    names = consensus_names(heads, x)
    assert all(sorted(row) == list(range(K)) for row in names.tolist())
    rows = consensus_rows(heads, x, names)
    own = head_rows(heads, x, 0)
    assert len(set(own["cluster"].tolist())) >= K - 1  # of one that is empty the name is known
    assert (rows["agreement"] == 1).all()
    assert np.array_equal(rows["cluster"], names[0][own["cluster"]])
    assert np.allclose(rows["confidence"], own["confidence"], atol=1e-5)


def test_the_consensus_is_the_mean_of_the_renamed_probabilities():
    heads = heads_for()
    x = inputs_for(heads)
    names = np.array([[0, 1, 2, 3], [1, 0, 3, 2], [3, 2, 1, 0]])
    rows = consensus_rows(heads, x, names)
    for i in range(10):
        mean = np.zeros(K)
        for head in range(3):
            p = torch.softmax(heads.log_p({n: a[i : i + 1] for n, a in x.items()}, head)[0].detach(), 0)
            for k in range(K):
                mean[names[head][k]] += float(p[k]) / 3
        assert rows["cluster"][i] == mean.argmax()
        assert rows["distance"][i] == pytest.approx(-np.log(mean.max()), abs=1e-4)
        entropy = -(mean * np.log(mean)).sum()
        assert rows["confidence"][i] == pytest.approx(1 - entropy / np.log(K), abs=1e-4)


def test_a_run_labels_by_consensus(run, collection, tmp_path):
    stored = seehear.label(run, head="consensus").to_pydict()
    again = seehear.label(run, collection, head="consensus").to_pydict()
    assert stored["cluster"] == again["cluster"]
    assert all(0 <= a <= 1 for a in stored["agreement"])
    main(["label", str(run), "--head", "consensus", "--out", str(tmp_path / "labels.csv")])
    assert len((tmp_path / "labels.csv").read_text().splitlines()) == 1 + len(stored["video"])


def test_a_head_that_is_none_is_refused(run, finished_run, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["label", str(run), "--head", "all", "--out", str(tmp_path / "labels.csv")])
    assert "consensus" in capsys.readouterr().err
    with pytest.raises(UsageError, match="no heads"):
        seehear.label(finished_run, head="consensus")


# -- what a video lacks -------------------------------------------------------------------------------------------


def test_a_row_without_one_stream_counts_the_other_alone():
    heads = heads_for()
    x = inputs_for(heads)
    x["audio"][3] = float("nan")
    x["video"][5] = float("nan")
    found = log_p(heads, x, 1)
    video = heads.logits("video", x["video"], 1).log_softmax(1)
    audio = heads.logits("audio", x["audio"], 1).log_softmax(1)
    assert torch.allclose(found[3], video[3], atol=1e-6)
    assert torch.allclose(found[5], audio[5], atol=1e-6)
    assert torch.allclose(found[0], (video[0] + audio[0]) / 2, atol=1e-6)


def test_silent_and_blind_videos_are_labelled_by_what_they_have_and_marked(run, tmp_path):
    make_video(tmp_path / "both.mp4")
    make_video(tmp_path / "mute.mp4", has_audio=False)
    make_video(tmp_path / "dark.m4a", has_video=False)
    (tmp_path / "torn.mp4").write_bytes(b"no video at all")
    both = seehear.label(run, tmp_path, workers=1).to_pydict()
    by = dict(zip(both["video"], both["labelled_by"], strict=True))
    assert by == {"both.mp4": "both", "mute.mp4": "video", "dark.m4a": "audio"}
    clusters = dict(zip(both["video"], both["cluster"], strict=True))
    for modality, name in (("video", "mute.mp4"), ("audio", "dark.m4a")):
        alone = seehear.label(run, tmp_path, modality=modality, workers=1).to_pydict()
        assert clusters[name] == dict(zip(alone["video"], alone["cluster"], strict=True))[name]


def test_heads_doubt_what_is_seen_and_heard(run, tmp_path):
    counted = shutil.copytree(run, tmp_path / "run")
    (counted / "kinds.json").write_text("{}")
    bank = table_bank(pq.read_table(run / "features.parquet"))
    sight, sound = (
        torch.nn.functional.normalize(torch.from_numpy(bank.features[n]), dim=1) for n in ("video", "audio")
    )
    told = companions(sight, sound)
    told = doubts(sight, sound).doubt if told.telling else np.full(len(sight), np.nan)
    own = seehear.label(counted, head="consensus")
    assert own["doubt"].to_numpy() == pytest.approx(told, abs=1e-4, nan_ok=True)
    videos = tmp_path / "videos"
    videos.mkdir()
    make_video(videos / "both.mp4")
    make_video(videos / "mute.mp4", has_audio=False)
    for running in (None, tmp_path / "running.json"):
        found = seehear.label(counted, videos, workers=1, running=running)
        assert found.column_names[-2:] == ["doubt", "labelled_by"]
        doubt = dict(zip(found["video"].to_pylist(), found["doubt"].to_pylist(), strict=True))
        assert doubt["mute.mp4"] is None
        assert (doubt["both.mp4"] is None) == bool(np.isnan(told).all())


def test_a_folder_of_silent_videos_alone_is_labelled(run, tmp_path):
    make_video(tmp_path / "mute.mp4", has_audio=False)
    assert seehear.label(run, tmp_path, workers=1).to_pydict()["labelled_by"] == ["video"]


def test_a_folder_of_nothing_usable_says_why(run, tmp_path):
    (tmp_path / "torn.mp4").write_bytes(b"no video at all")
    with pytest.raises(DataError, match="no usable video"):
        seehear.label(run, tmp_path, workers=1)


# -- running marginals --------------------------------------------------------------------------------------------


def mixture(shares: list[float], n: int, rng: np.random.Generator) -> tuple[np.ndarray, torch.Tensor]:
    """Classes of n points of three overlapping normals, and the exact posterior for equal shares."""
    truth = rng.choice(3, size=n, p=shares)
    x = rng.normal(size=(n, 2)) + 2 * np.array([[0, 0], [1, 0], [0, 1]])[truth]
    density = np.exp(-0.5 * ((x[:, None] - 2 * np.array([[0, 0], [1, 0], [0, 1]])) ** 2).sum(2))
    return truth, torch.from_numpy(density / density.sum(1, keepdims=True)).float()


def test_new_shares_are_found_and_labels_gain():
    rng = np.random.default_rng(0)
    _, own = mixture([1 / 3] * 3, 300, rng)
    marginals = RunningMarginals.begin(own, "test")
    right = before = total = 0
    for _ in range(20):
        truth, p = mixture([0.8, 0.15, 0.05], 500, rng)
        adapted = marginals.update(p)
        right += int((adapted.argmax(1).numpy() == truth).sum())
        before += int((p.argmax(1).numpy() == truth).sum())
        total += len(truth)
    assert right > before + 0.02 * total
    assert marginals.shares.numpy() == pytest.approx([0.8, 0.15, 0.05], abs=0.04)


def test_the_update_is_expectation_maximisation():
    rng = np.random.default_rng(1)
    _, own = mixture([1 / 3] * 3, 50, rng)
    _, p = mixture([0.6, 0.2, 0.2], 70, rng)
    marginals = RunningMarginals.begin(own, "test")
    adapted = marginals.update(p)
    trained = own.double().numpy().mean(0)
    shares = trained
    for _ in range(2000):
        q = np.zeros((70, 3))
        for i in range(70):
            for k in range(3):
                q[i, k] = float(p[i, k]) * shares[k] / trained[k]
            q[i] /= q[i].sum()
        shares = (50 * trained + q.sum(0)) / 120
    assert adapted.numpy() == pytest.approx(q, abs=1e-5)
    assert marginals.shares.numpy() == pytest.approx(shares, abs=1e-6)


def test_videos_like_the_runs_own_keep_its_labels_and_are_counted(run, collection, tmp_path):
    collection = seehear.scan(collection, workers=1)
    state = tmp_path / "state.json"
    plain = seehear.label(run, collection, workers=1).to_pydict()
    first = seehear.label(run, collection, workers=1, running=state).to_pydict()
    assert np.mean(np.array(plain["cluster"]) == first["cluster"]) > 0.9
    kept = json.loads(state.read_text())
    assert kept["weight"] == len(plain["video"])
    assert sum(kept["shares"]) == pytest.approx(1)
    assert kept["shares"] != kept["trained"]
    seehear.label(run, collection, workers=1, running=state)
    again = json.loads(state.read_text())
    assert again["trained"] == kept["trained"]
    assert again["shares"] != kept["shares"]
    with pytest.raises(UsageError, match="by both"):
        seehear.label(run, collection, workers=1, modality="audio", running=state)
    with pytest.raises(UsageError, match="new videos"):
        seehear.label(run, running=tmp_path / "other.json")
    state.write_text("{}")
    with pytest.raises(DataError, match=r"state\.json"):
        seehear.label(run, collection, workers=1, running=state)


def test_scores_come_with_their_spread_over_heads(run, capsys, collection):
    from seehear.metrics.clustering import clustering_scores

    main(["evaluate", "clustering", str(run), "--labels", str(collection), "--json"])
    heads = json.loads(capsys.readouterr().out)["heads"]
    import csv

    with open(collection, newline="") as file:
        truth = {row["path"]: row["label"] for row in csv.DictReader(file)}
    nmi = []
    for head in range(3):
        table = seehear.label(run, modality="audio", head=head).to_pydict()
        nmi.append(clustering_scores([truth[v] for v in table["video"]], table["cluster"]).nmi)
    assert heads["audio"]["nmi"]["mean"] == pytest.approx(np.mean(nmi))
    assert heads["audio"]["nmi"]["sd"] == pytest.approx(np.std(nmi, ddof=1))


def test_the_bank_of_a_run_has_both_streams(run):
    bank = FeatureBank([], {}, np.zeros(0, dtype=bool))
    with pytest.raises(UsageError):
        seehear.load(run).consensus_names(bank)
