"""SeLaVi against plain loops: its loss, its views, its schedule, its clusterings, and the labels it gives."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import normalized_mutual_info_score

import seehear
from seehear.cli import main
from seehear.cluster.alignment import alignment_cost
from seehear.config import ClusterConfig, Config, FinalConfig, LabellingConfig, ModelConfig
from seehear.data.views import Statistics
from seehear.engine.health import mean_pairwise_nmi
from seehear.engine.runlog import read_metrics
from seehear.errors import TrainingError, UsageError
from seehear.features.bank import FeatureBank, view_name
from seehear.features.headlabels import head_rows, ranked
from seehear.features.model import Model
from seehear.hypotheses.factors import Span
from seehear.methods.selavi import SeLaVi, two_views
from seehear.pretraining.plan import make_config
from seehear.recipes import RECIPES
from seehear.types import Assignment, ClipRef
from tests.conftest import TINY_SETTINGS
from tests.corpus import make_broken

K, HEADS = 5, 4
TINY = Config(
    method="selavi",
    model=ModelConfig(video="r2plus1d_10", video_width=4, video_stem_pool=True, audio="resnet9", audio_width=4),
    cluster=ClusterConfig(k=K),
    selavi=LabellingConfig(heads=HEADS),
)


def selavi(**settings):
    return SeLaVi(replace(TINY, selavi=replace(TINY.selavi, **settings)))


def inputs_for(model, clips=6):
    generator = torch.Generator().manual_seed(0)
    rows = clips * model.config.selavi.views
    shapes = {"video": (rows, 3, 4, 32, 32), "audio": (rows, 1, 16, 20)}
    return {name: torch.randn(shapes[m], generator=generator) for name, m in model.modalities.items()}


def targets_for(model, clips=6):
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randint(K, (clips,), generator=generator) for name in model.labellings}


def bank_for(model, n=300, views=1, groups=K):
    """Features in groups of unequal size that both modalities share."""
    rng = np.random.default_rng(0)
    group = np.sort(rng.choice(groups, n, p=np.arange(1, groups + 1) / sum(range(1, groups + 1))))
    refs = [ClipRef(f"v{i}#t=0,1", f"v{i}", 0.0, 1.0) for i in range(n)]
    features = {}
    for name in model.encoders:
        centres = rng.normal(size=(groups, 32)) * 2
        for view in range(views):
            features[view_name(name, view)] = (centres[group] + rng.normal(size=(n, 32)) * 0.3).astype(np.float32)
    return FeatureBank(refs, features, np.ones(n, dtype=bool))


def entropy_of(p):
    return float(-(p * p.log()).sum())


@pytest.mark.parametrize("variant", ["multimodal", "frames", "concatenation"])
@pytest.mark.parametrize("decorrelated", [True, False])
def test_the_loss_is_the_mean_over_sources_heads_views_and_clips(variant, decorrelated):
    model = selavi(variant=variant, decorrelated=decorrelated).eval()
    inputs, targets = inputs_for(model), targets_for(model)
    found = model(inputs, targets)
    views = 2 if decorrelated else 1
    features = {name: model.encoders[name](x) for name, x in inputs.items()}
    if variant == "concatenation":
        features = {"video+audio": torch.cat([F.normalize(x, dim=1) for x in features.values()], 1)}
    assert list(features) == list(model.heads.sources)
    terms = []
    for source, x in features.items():
        for head in range(HEADS):
            for row in range(len(x)):
                # In evaluation mode a row's answer depends on that row alone.
                logits = model.heads.of[source][head](x[row : row + 1])[0]
                terms.append(-logits.log_softmax(0)[targets[f"head{head}"][row // views]])
    assert torch.allclose(found.loss, torch.stack(terms).mean(), atol=1e-5)
    assert set(found.parts) == {f"{what}/{source}" for what in ("loss", "accuracy") for source in features}


def test_every_head_learns_its_own_labels():
    model = selavi()
    targets = targets_for(model)
    for head in range(HEADS):
        only = selavi().eval()
        only(inputs_for(only), targets).loss.backward()
        changed = selavi().eval()
        other = {**targets, f"head{head}": (targets[f"head{head}"] + 1) % K}
        changed(inputs_for(changed), other).loss.backward()
        for source, of in itertools.product(("video", "audio"), range(HEADS)):
            a, b = (m.heads.of[source][of].layers[-1].bias.grad for m in (only, changed))
            assert torch.equal(a, b) is (of != head)


def test_the_final_stage_can_train_the_video_encoder_alone():
    model = selavi()
    found = model({"video": inputs_for(model)["video"]}, targets_for(model))
    assert set(found.parts) == {"loss/video", "accuracy/video"}
    with pytest.raises(UsageError, match="final stage"):
        SeLaVi(replace(TINY, final=FinalConfig(), selavi=LabellingConfig(variant="concatenation")))


def test_features_of_training_are_those_of_each_view():
    model = selavi().eval()
    inputs = inputs_for(model)
    kept = model(inputs, targets_for(model)).features
    assert set(kept) == {"video", "video@1", "audio", "audio@1"}
    assert torch.equal(kept["video@1"], model.encoders["video"](inputs["video"])[1::2])
    assert not selavi(labels_from="pass")(inputs, targets_for(model)).features


def test_two_views_of_a_clip_follow_each_other():
    for jitter in (True, False):
        spec = two_views(("video", "audio"), jitter)
        views = spec.views("a", 5, Span(0, 100, 30.0), np.random.default_rng(0))
        assert [v.modality for v in views if v.modality == "video"] == ["video", "video"]
        assert len(views) == spec.transformations_per_sample == 4
        starts = [[v.start for v in views if v.modality == m] for m in ("video", "audio")]
        assert starts[0] == starts[1]
        assert (starts[0][0] != starts[0][1]) is jitter
    assert selavi(decorrelated=False).hypotheses is None
    assert selavi(heads=1).hypotheses is None


def test_clusterings_are_most_frequent_in_the_first_epochs_and_the_last_lies_at_the_end():
    times = selavi(clusterings=100, power=2.0).relabel_epochs(200)
    assert len(times) == 100
    assert times[-1] == 200
    assert times == sorted(times)
    assert times[9] == pytest.approx(200 * 0.1**2)
    assert sum(t <= 50 for t in times) == 50


def test_equation_6_averages_log_probabilities_over_the_sources():
    model = selavi().eval()
    bank = bank_for(model)
    with torch.no_grad():
        found = model.log_p(bank, head=2)
        logits = [model.heads.of[s][2](torch.from_numpy(bank.features[s])) for s in ("video", "audio")]
    assert torch.allclose(found, sum(x.log_softmax(1) for x in logits) / 2, atol=1e-5)


def test_a_clustering_gives_every_cluster_its_share():
    model = selavi(marginals="zipf", decorrelated=False)
    made = model.assign(bank_for(model, n=2000, groups=1), seed=0)
    assert list(made) == ["head0", "head1", "head2", "head3"]
    for head, labelling in enumerate(made.values()):
        shares = labelling.sizes / labelling.sizes.sum()
        assert np.abs(shares - model.marginals[head].numpy()).max() < 0.03
        assert labelling.watched is (head == 0)
    assert all(made["head0"].facts["sinkhorn_converged"])


def test_the_largest_clusters_get_the_largest_marginals():
    model = selavi(marginals="zipf", decorrelated=False)
    bank = bank_for(model, n=1000)
    for _ in range(2):
        model.assign(bank, seed=0)
    model.eval()
    for head in range(HEADS):
        before = model.marginals[head].clone()
        with torch.no_grad():
            masses = (20 * model.log_p(bank, head)).softmax(1).mean(0)
        assert torch.equal(before.argsort(), masses.argsort())
        assert torch.equal(before.sort().values, (lambda z: z / z.sum())(1 / torch.arange(K, 0, -1).double()))


def test_marginals_are_drawn_once_and_are_part_of_the_state():
    assert torch.equal(selavi().marginals, selavi().marginals)
    assert len({tuple(row.tolist()) for row in selavi().marginals}) == HEADS
    assert {"marginals", "clusterings"} <= set(selavi().state_dict())
    assert torch.equal(selavi(marginals="uniform").marginals, torch.full((HEADS, K), 1 / K, dtype=torch.float64))


def test_shares_can_be_given():
    model = SeLaVi(replace(TINY, selavi=replace(TINY.selavi, shares=(1.0, 2.0, 3.0, 4.0, 10.0))))
    assert model.marginals[0].tolist() == pytest.approx([0.05, 0.1, 0.15, 0.2, 0.5])
    for shares in ((1.0, 2.0), (1.0, 1.0, 1.0, 1.0, 0.0)):
        with pytest.raises(UsageError, match="shares"):
            replace(TINY, selavi=replace(TINY.selavi, shares=shares)).check()


def test_marginals_follow_the_clusters_own_masses_part_of_the_way():
    model = selavi(marginals="uniform", decorrelated=False, follow=0.6)
    bank = bank_for(model, n=2000, groups=1)
    labelling = model.assign(bank, seed=0)["head0"]
    model.eval()
    with torch.no_grad():
        masses = (20 * model.log_p(bank, 0)).softmax(1).double().mean(0).numpy()
    asked = 0.4 / K + 0.6 * masses
    assert labelling.facts["marginals"] == pytest.approx(asked, abs=1e-4)
    assert np.abs(labelling.sizes / labelling.sizes.sum() - asked).max() < 0.03
    assert np.abs(asked - 1 / K).max() > 0.05  # what follows differs from what it began with
    assert torch.equal(model.marginals, torch.full((HEADS, K), 1 / K, dtype=torch.float64))
    for follow in (-0.1, 1.0):
        with pytest.raises(UsageError, match="follow"):
            replace(TINY, selavi=replace(TINY.selavi, follow=follow)).check()


@pytest.mark.parametrize("method", ["hungarian", "greedy"])
def test_the_first_clustering_aligns_the_audio_heads(method):
    model = selavi(alignment=method)
    bank = bank_for(model)
    facts = model.assign(bank, seed=0)["head0"].facts
    assert all(b <= a for a, b in zip(facts["alignment_cost_before"], facts["alignment_cost_after"], strict=True))
    assert sum(facts["alignment_cost_after"]) < sum(facts["alignment_cost_before"])
    model.eval()
    x = {name: torch.from_numpy(bank.features[name]) for name in ("video", "audio")}
    for head in range(HEADS):
        with torch.no_grad():
            p, q = (model.heads.of[name][head](x[name]).softmax(1) for name in ("audio", "video"))
        assert float(alignment_cost(p, q).trace()) == pytest.approx(facts["alignment_cost_after"][head], rel=1e-4)
    assert "alignment_cost_before" not in model.assign(bank, seed=1)["head0"].facts
    assert "alignment_cost_before" not in selavi(alignment="none").assign(bank, seed=0)["head0"].facts


def test_the_first_clustering_measures_the_statistics_of_the_heads():
    model = selavi()
    bank = bank_for(model)
    model.assign(bank, seed=0)
    head = model.heads.of["audio"][3]
    with torch.no_grad():
        hidden = head.layers[1](torch.from_numpy(bank.features["audio"]))
    assert torch.allclose(head.layers[2].running_mean, hidden.mean(0), atol=1e-4)
    assert torch.allclose(head.layers[2].running_var, hidden.var(0, unbiased=False), rtol=1e-3, atol=1e-5)


def test_half_of_the_heads_see_each_view():
    model = selavi()
    bank = bank_for(model, views=2)
    views = model.views_of_heads(bank, torch.Generator().manual_seed(3))
    assert sorted(views) == [0, 0, 1, 1]
    drawn = {tuple(model.views_of_heads(bank, torch.Generator().manual_seed(s))) for s in range(30)}
    assert len(drawn) == math.comb(4, 2)
    # Only the heads that see the second view are moved by it.
    other = FeatureBank(bank.refs, {**bank.features}, bank.present)
    for name in ("video", "audio"):
        other.features[view_name(name, 1)] = bank.features[view_name(name, 1)][::-1].copy()
    settled = selavi(alignment="none")
    settled.assign(bank_for(model), seed=0)
    state = {name: x.clone() for name, x in settled.state_dict().items()}
    one = settled.assign(bank, seed=5)
    settled.load_state_dict(state)
    two = settled.assign(other, seed=5)
    seen = settled.views_of_heads(bank, torch.Generator().manual_seed(5))
    same = [np.array_equal(one[f"head{h}"].labels, two[f"head{h}"].labels) for h in range(HEADS)]
    assert same == [view == 0 for view in seen]
    assert model.views_of_heads(bank_for(model), torch.Generator()) == [0] * HEADS


def test_features_that_are_not_finite_are_refused():
    model = selavi()
    bank = bank_for(model)
    bank.features["audio"][3, 2] = np.nan
    with pytest.raises(TrainingError, match="cannot be labelled"):
        model.assign(bank, seed=0)


def test_heads_carry_over_into_a_round():
    model = selavi()
    before = {name: x.clone() for name, x in model.state_dict().items()}
    model.start_round(dict.fromkeys(model.labellings, K), model.config.optim, torch.Generator())
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())


# -- labels -------------------------------------------------------------------------------------------------------


def model_of(method):
    return Model(
        method.config, method.modalities, dict(method.encoders.items()), Statistics(), heads=method.cluster_heads
    )


def test_labels_are_the_largest_averaged_log_probability_of_what_is_there(tmp_path):
    method = selavi().eval()
    bank = bank_for(method, n=50)
    model_of(method).save(tmp_path)
    model = Model.load(tmp_path)
    with torch.no_grad():
        p = {
            name: method.heads.of[name][2](torch.from_numpy(bank.features[name])).log_softmax(1)
            for name in ("video", "audio")
        }
    for labelling, log_p in {**p, "video+audio": (p["video"] + p["audio"]) / 2}.items():
        rows = model.labels(bank, labelling, head=2)
        assert rows is not None
        assert np.array_equal(rows["cluster"], log_p.argmax(1).numpy())
        posterior = log_p.softmax(1)
        assert np.allclose(rows["confidence"], [1 - entropy_of(x) / math.log(K) for x in posterior], atol=1e-5)
        assert np.allclose(rows["distance"], -posterior.max(1).values.log(), atol=1e-5)
        assert ((rows["agreement"] >= 0) & (rows["agreement"] <= 1)).all()
    # A bank that has one modality alone is labelled by it.
    silent = FeatureBank(bank.refs, {"video": bank.features["video"]}, bank.present)
    assert np.array_equal(model.labels(silent, "video")["cluster"], model.labels(bank, "video")["cluster"])
    assert model.labels(silent, "video+audio") is None
    with pytest.raises(UsageError, match="no head 4"):
        model.labels(bank, "video", head=4)


def test_heads_that_group_alike_agree_whatever_their_numbering():
    method = selavi(heads=3).eval()
    bank = bank_for(method, n=50)
    x = {"video": torch.from_numpy(bank.features["video"])}
    first = method.heads.of["video"][0].state_dict()
    for head in (1, 2):
        method.heads.of["video"][head].load_state_dict(first)
    last = method.heads.of["video"][1].layers[-1]
    with torch.no_grad():
        order = torch.tensor([3, 0, 4, 1, 2])
        last.weight.copy_(last.weight[order])
        last.bias.copy_(last.bias[order])
    assert (ranked(head_rows(method.heads, x))["agreement"] == 1).all()


def test_new_labels_lie_over_the_old_ones_by_clip():
    before = Assignment(["a", "b", "c"], {"head0": np.array([0, 1, 2])}, {"head0": 3})
    made = Assignment(["c", "x", "a"], {"head0": np.array([1, 1, 2])}, {"head0": 3})
    found = made.over(before)
    assert found.clip_ids.to_pylist() == ["a", "b", "c"]
    assert found.labels["head0"].tolist() == [2, 1, 1]


def test_a_bank_is_updated_by_clip():
    bank = FeatureBank([ClipRef(c, c, 0, 1) for c in "abc"], {"video": np.zeros((3, 2), np.float32)}, np.ones(3, bool))
    bank.update(["c", "x", "a"], {"video": np.array([[1, 1], [2, 2], [3, 3]], np.float32)})
    assert bank.features["video"].tolist() == [[3, 3], [0, 0], [1, 1]]


def test_the_mean_nmi_over_pairs_of_heads_is_that_of_a_plain_loop():
    rng = np.random.default_rng(0)
    labellings = [rng.integers(k, size=200) for k in (3, 5, 5, 2)]
    labellings[1][:150] = labellings[2][:150]
    plain = np.mean([normalized_mutual_info_score(a, b) for a, b in itertools.combinations(labellings, 2)])
    assert mean_pairwise_nmi(labellings) == pytest.approx(plain)
    assert mean_pairwise_nmi([labellings[0]] * 2) == pytest.approx(1)


def test_the_papers_recipes_have_its_numbers():
    config = RECIPES["selavi-vggsound"]()
    settings = config.selavi
    assert (settings.heads, settings.strength, settings.power) == (10, 20.0, 2.0)
    # 100 clusterings in all: t_0 = 0 and 99 more, the last at the end.
    times = [0.0, *SeLaVi(replace(TINY, selavi=config.selavi)).relabel_epochs(200)]
    assert len(times) == 100
    assert times == pytest.approx([200 * (j / 99) ** 2 for j in range(100)])
    # Two views are drawn for clusterings alone, which take a pass over all clips (section 3.3).
    assert (settings.labels_from, settings.views, settings.labelling_views) == ("pass", 1, 2)
    assert config.optim.base_lr * config.optim.batch_size / 32 == pytest.approx(0.01)
    assert [RECIPES[f"selavi-{n}"]().cluster.k for n in ("vggsound", "kinetics", "ave", "kinetics-sound")] == [
        309, 400, 28, 32,
    ]  # fmt: skip
    for name in RECIPES:
        RECIPES[name]().check()


@pytest.mark.parametrize("field", ["heads=0", "clusterings=0", "strength=0", "power=-1", "tolerance=0"])
def test_settings_out_of_range_are_refused(field):
    with pytest.raises(UsageError, match=field.partition("=")[0]):
        make_config(method="selavi", settings=[f"selavi.{field}"])


def test_the_releases_schedule_is_of_its_160_times_those_that_fall_in_training():
    config = RECIPES["selavi-release"]()
    found = [0.0, *SeLaVi(replace(TINY, selavi=config.selavi)).relabel_epochs(200)][:-1]
    assert found == pytest.approx((200 * np.linspace(0, 1, 160) ** 1.5)[:-1].tolist())
    assert config.spectrogram.kind == "logfbank"


def test_one_view_in_training_needs_a_pass_for_two():
    with pytest.raises(UsageError, match="labels_from=pass"):
        make_config(method="selavi", settings=["selavi.training_views=1"])
    make_config(method="selavi", settings=["selavi.training_views=1", "selavi.decorrelated=false"])


# -- whole runs ---------------------------------------------------------------------------------------------------

SHORT = (*TINY_SETTINGS, "rounds=1", "selavi.heads=2", "selavi.clusterings=5")


@pytest.mark.parametrize("variant", ["frames", "concatenation"])
def test_the_ablations_run_from_end_to_end(variant, collection, tmp_path):
    settings = [*SHORT, "optim.epochs=2", f"selavi.variant={variant}", "selavi.heads=1"]
    model = seehear.pretrain(collection, tmp_path / "run", method="selavi", settings=settings, quiet=True)
    modality = "video" if variant == "frames" else "both"
    found = seehear.label(tmp_path / "run", modality=modality)
    assert found.num_rows == 24
    assert model.heads is not None
    assert model.heads.sources == (("video",) if variant == "frames" else ("video+audio",))
    with pytest.raises(UsageError, match="no labels by 'audio'"):
        seehear.label(tmp_path / "run", modality="audio")
    assert set(seehear.evaluate(tmp_path / "run", collection)["scores"]) == {modality}


def test_training_sees_one_view_and_clusterings_two(collection, tmp_path, monkeypatch):
    """As the paper has it: in each round of clustering two augmentations are drawn of all clips."""
    steps, banks = [], []
    forward, assign = SeLaVi.forward, SeLaVi.assign

    def watched_forward(self, inputs, targets):
        if self.training:
            steps.append((len(inputs["video"]), len(targets["head0"])))
        return forward(self, inputs, targets)

    def watched_assign(self, bank, seed):
        banks.append({name: np.array(x) for name, x in bank.features.items()})
        return assign(self, bank, seed)

    monkeypatch.setattr(SeLaVi, "forward", watched_forward)
    monkeypatch.setattr(SeLaVi, "assign", watched_assign)
    settings = [*SHORT, "optim.epochs=2", "selavi.training_views=1", "selavi.labels_from=pass"]
    seehear.pretrain(collection, tmp_path / "run", method="selavi", settings=settings, quiet=True)
    assert steps and all(rows == clips for rows, clips in steps)
    assert len(banks) > 2
    for bank in banks:
        assert set(bank) == {"video", "video@1", "audio", "audio@1"}
        assert len(bank["video"]) == 24
        assert not np.allclose(bank["video"], bank["video@1"])


@pytest.fixture(scope="module")
def run(collection, tmp_path_factory):
    """A finished run of two heads on the collection."""
    out = tmp_path_factory.mktemp("selavi") / "run"
    seehear.pretrain(collection, out, method="selavi", settings=[*SHORT, "optim.epochs=2"], quiet=True)
    return out


def test_the_log_tells_each_clustering_and_what_it_cost(run):
    records = read_metrics(run / "metrics.jsonl")
    found = [r for r in records if r["kind"] == "round"]
    assert found[0]["clustering"] == 0
    assert found[-1]["clustering"] == 5
    assert found[-1]["step"] == records[-1]["steps"]
    for record in found:
        head = record["clusters/head0"]
        assert sum(head["sizes"]) == 24
        assert sum(head["marginals"]) == pytest.approx(1, abs=1e-4)
        assert [24 * m for m in head["masses"]] == pytest.approx(head["sizes"], abs=1e-3)
        assert len(head["sinkhorn_iterations"]) == len(head["sinkhorn_converged"]) == 2
        assert 0 <= record["nmi_between_heads"] <= 1
        assert head["mass_entropy"] <= math.log(4) + 1e-6
        assert "clusters/head1" not in record
    assert [r["clusters/head0"]["churn_nmi"] is None for r in found] == [True] + [False] * (len(found) - 1)
    spent = sum(r["seconds_extract"] + r["seconds_cluster"] for r in found)
    assert 0 < spent < records[-1]["seconds"]
    saved = Assignment.load(run / "assignments" / "round_000.parquet")
    assert set(saved.labels) == {"head0", "head1"}


@pytest.mark.parametrize("modality", ["video", "audio", "both"])
def test_the_runs_videos_are_labelled_by_any_head(run, collection, modality):
    stored = seehear.label(run, modality=modality).to_pydict()
    again = seehear.label(run, collection, modality=modality).to_pydict()
    assert stored["cluster"] == again["cluster"]
    assert set(stored) == {"video", "start", "end", "cluster", "confidence", "exemplar_rank", "agreement"}
    other = seehear.label(run, modality=modality, head=1).to_pydict()
    assert other["video"] == stored["video"]
    assert other["cluster"] == seehear.label(run, collection, modality=modality, head=1).to_pydict()["cluster"]
    for head in (2, -1):
        with pytest.raises(UsageError, match=f"no head {head}"):
            seehear.label(run, modality=modality, head=head)


def test_a_video_is_labelled_from_the_stream_that_it_has(run, tmp_path):
    make_broken(tmp_path)
    seen, heard = (seehear.label(run, tmp_path, modality=m).to_pydict()["video"] for m in ("video", "audio"))
    assert "no_sound.mp4" in seen
    assert "no_sound.mp4" not in heard
    assert "no_picture.m4a" in heard


def test_a_run_of_another_method_has_no_heads(finished_run):
    with pytest.raises(UsageError, match="selavi"):
        seehear.label(finished_run, head=1)


def test_clusters_are_scored_beside_baselines_and_can_be_made_anew(run, collection):
    scored = seehear.evaluate(run, collection, baselines=True)
    assert set(scored["scores"]) == {"video", "audio", "both"}
    assert {m: s["k"] for m, s in scored["baselines"]["untrained"].items()}.keys() == scored["scores"].keys()
    assert seehear.evaluate(run, collection, k=3)["scores"]["both"]["k"] == 3


def test_the_report_shows_a_run_labelled_by_heads(run, tmp_path):
    page = seehear.report(run, out=tmp_path / "page.html").read_text()
    assert "surest of it" in page
    assert "as read off the sound alone" in page
    assert "Energy of the labels" in page
    for title in ("Marginals and what was assigned", "Agreement between heads", "Heads that agree"):
        assert title in page


def test_the_command_line_has_shorthands_for_clusters_and_heads(collection, tmp_path, monkeypatch, capsys):
    seen = []
    monkeypatch.setattr("seehear.pretraining.run.pretrain", lambda source, out, config, **_: seen.append(config))
    monkeypatch.setattr("seehear.features.model.Model.load", lambda folder: folder)
    main(["pretrain", str(collection), "--out", "x", "--method", "selavi", "--clusters", "9", "--heads", "3"])
    assert (seen[0].cluster.k, seen[0].selavi.heads, seen[0].recipe) == (9, 3, "small-selavi")
    with pytest.raises(SystemExit):
        main(["pretrain", str(collection), "--out", "x", "--method", "xdc", "--heads", "3"])
    assert "--heads is of selavi" in capsys.readouterr().err
