"""The deep-clustering family against plain loops: who is supervised by whom, and with which loss."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from seehear.config import ClusterConfig, Config, ModelConfig
from seehear.errors import DataError, UsageError
from seehear.features.bank import FeatureBank
from seehear.methods import METHODS, build_method, check_method
from seehear.methods.deepcluster import VARIANTS
from seehear.types import ClipRef

TINY = Config(
    model=ModelConfig(video="r2plus1d_10", video_width=4, video_stem_pool=True, audio="resnet9", audio_width=4),
    cluster=ClusterConfig(k=3, k_audio=5, iterations=10),
)
FAMILY = sorted(VARIANTS)


def tiny(method):
    return replace(TINY, method=method)


def inputs_for(model, batch=6):
    generator = torch.Generator().manual_seed(0)
    shapes = {"video": (batch, 3, 4, 32, 32), "audio": (batch, 1, 16, 20)}
    return {name: torch.randn(shapes[m], generator=generator) for name, m in model.modalities.items()}


def bank_for(model, n=40):
    rng = np.random.default_rng(0)
    refs = [ClipRef(f"v{i}#t=0,1", f"v{i}", 0.0, 1.0) for i in range(n)]
    features = {name: rng.normal(size=(n, 32)).astype(np.float32) for name in model.modalities}
    return FeatureBank(refs, features, np.ones(n, dtype=bool))


# The papers' figure 1, written out by hand: encoder <- labelling.
EXPECTED = {
    "sdc": {("video", "video"), ("audio", "audio")},
    "mdc": {("video", "video"), ("video", "audio"), ("audio", "audio"), ("audio", "video")},
    "cdc": {("video", "video+audio"), ("audio", "video+audio")},
    "xdc": {("video", "audio"), ("audio", "video")},
    "same-modality-video": {("video", "video2"), ("video2", "video")},
    "same-modality-audio": {("audio", "audio2"), ("audio2", "audio")},
    "same-modality": {("video", "video2"), ("video2", "video"), ("audio", "audio2"), ("audio2", "audio")},
}


@pytest.mark.parametrize("method", FAMILY)
def test_the_loss_is_a_sum_of_cross_entropies_over_the_right_pairs(method):
    model = build_method(tiny(method))
    classes = {name: 3 + i for i, name in enumerate(model.labellings)}
    model.start_round(classes, model.config.optim, torch.Generator().manual_seed(0))
    model.eval()
    inputs = inputs_for(model)
    targets = {name: torch.arange(6) % k for name, k in classes.items()}
    output = model(inputs, targets)
    expected = torch.zeros(())
    for encoder, labelling in EXPECTED[method]:
        head = model.heads[f"{encoder}<-{labelling}"]
        features = model.encoders[encoder](inputs[encoder])
        for row in range(6):
            logits = features[row] @ head.weight.T + head.bias
            expected += -torch.log_softmax(logits, 0)[targets[labelling][row]] / 6
    assert output.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    pairs = {tuple(name.removeprefix("loss/").split("<-")) for name in output.parts if name.startswith("loss/")}
    assert pairs == EXPECTED[method]


@pytest.mark.parametrize("method", FAMILY)
def test_labels_of_one_labelling_move_only_the_encoders_that_learn_it(method):
    model = build_method(tiny(method))
    classes = dict.fromkeys(model.labellings, 3)
    model.start_round(classes, model.config.optim, torch.Generator().manual_seed(0))
    inputs = inputs_for(model)
    targets = {name: torch.arange(6) % 3 for name in classes}
    for changed in classes:
        grads = []
        for shift in (0, 1):
            model.zero_grad()
            model(inputs, {n: (t + shift) % 3 if n == changed else t for n, t in targets.items()}).loss.backward()
            grads.append({n: e.state_dict(keep_vars=True) for n, e in model.encoders.items()})
            grads[-1] = {
                n: torch.cat([p.grad.flatten() for p in model.encoders[n].parameters()]) for n in model.encoders
            }
        moved = {n for n in model.encoders if not torch.allclose(grads[0][n], grads[1][n])}
        assert moved == {encoder for encoder, labelling in EXPECTED[method] if labelling == changed}


def test_mdc_is_sdc_plus_xdc():
    """With equal weights the loss of MDC is that of SDC and that of XDC added up (paper, figure 1)."""
    models = {name: build_method(tiny(name)) for name in ("sdc", "xdc", "mdc")}
    for model in models.values():
        model.start_round({"video": 4, "audio": 4}, model.config.optim, torch.Generator().manual_seed(0))
    mdc = models["mdc"]
    for name in ("sdc", "xdc"):
        models[name].encoders.load_state_dict(mdc.encoders.state_dict())
        for head, module in models[name].heads.items():
            module.load_state_dict(mdc.heads[head].state_dict())
    targets = {"video": torch.tensor([0, 1, 2, 3, 0, 1]), "audio": torch.tensor([3, 3, 2, 2, 1, 1])}
    losses = {n: float(m.eval()(inputs_for(m), targets).loss) for n, m in models.items()}
    assert losses["mdc"] == pytest.approx(losses["sdc"] + losses["xdc"], rel=1e-5)


def test_heads_are_new_every_round_and_encoders_carry_over():
    model = build_method(tiny("xdc"))
    before = {k: v.clone() for k, v in model.encoders.state_dict().items()}
    model.start_round({"video": 3, "audio": 5}, model.config.optim, torch.Generator().manual_seed(0))
    first = model.heads["video<-audio"].weight.clone()
    assert first.shape == (5, 32)
    model.start_round({"video": 3, "audio": 7}, model.config.optim, torch.Generator().manual_seed(1))
    assert model.heads["video<-audio"].weight.shape == (7, 32)
    assert all(torch.equal(v, before[k]) for k, v in model.encoders.state_dict().items())


def test_k_may_differ_between_the_modalities():
    model = build_method(tiny("xdc"))
    assignment = model.assign(bank_for(model), seed=0)
    assert {name: labelling.k for name, labelling in assignment.items()} == {"audio": 5, "video": 3}


def test_cdc_clusters_the_joined_unit_vectors():
    model = build_method(tiny("cdc"))
    bank = bank_for(model)
    labelling = model.assign(bank, seed=0)["video+audio"]
    joined = np.concatenate(
        [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (bank.features["video"], bank.features["audio"])], axis=1
    )
    joined /= np.sqrt(2)  # l2: the joined vector is scaled to unit length again
    centroids = labelling.centroids.numpy()
    nearest = ((joined[:, None] - centroids[None]) ** 2).sum(-1).argmin(1)
    assert np.array_equal(nearest, labelling.labels)


def test_label_smoothing_is_for_training_alone():
    config = replace(tiny("xdc"), optim=replace(TINY.optim, label_smoothing=0.3))
    model = build_method(config)
    model.start_round({"video": 3, "audio": 3}, model.config.optim, torch.Generator().manual_seed(0))
    inputs, targets = inputs_for(model), {n: torch.arange(6) % 3 for n in ("video", "audio")}
    output = model.eval()(inputs, targets)
    logits = model.heads["video<-audio"](model.encoders["video"](inputs["video"]))
    assert float(output.parts["loss/video<-audio"]) == pytest.approx(float(F.cross_entropy(logits, targets["audio"])))


def test_the_two_encoders_of_same_modality_start_apart():
    model = build_method(tiny("same-modality-video"))
    a, b = (model.encoders[n].state_dict()["stem.0.weight"] for n in ("video", "video2"))
    assert not torch.allclose(a, b)


def test_initial_weights_depend_on_the_seed_alone():
    first = build_method(tiny("xdc")).encoders.state_dict()
    torch.manual_seed(99)
    again = build_method(tiny("xdc")).encoders.state_dict()
    other = build_method(replace(tiny("xdc"), seed=1)).encoders.state_dict()
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first["video.stem.0.weight"], other["video.stem.0.weight"])


def test_supervised_learns_the_given_classes():
    classes = {f"v{i}": "abc"[i % 3] for i in range(40)}
    model = build_method(tiny("supervised"), classes)
    labelling = model.assign(bank_for(model), seed=0)["label"]
    assert labelling.k == 3
    assert labelling.labels.tolist() == [i % 3 for i in range(40)]
    model.start_round({"label": 3}, model.config.optim, torch.Generator().manual_seed(0))
    output = model(inputs_for(model), {"label": torch.arange(6) % 3})
    assert {n for n in output.parts if n.startswith("loss/")} == {"loss/video<-label", "loss/audio<-label"}


def test_supervised_needs_classes():
    with pytest.raises(DataError, match="two classes"):
        build_method(tiny("supervised"), {"a": "x", "b": "x"})


def test_every_method_can_be_built():
    for name in METHODS:
        model = build_method(tiny(name), {"a": "x", "b": "y"})
        assert set(model.encoders) == set(model.modalities)


def test_an_unknown_method_suggests_one():
    with pytest.raises(UsageError, match="xdc"):
        check_method("xcd")


def test_features_that_are_not_there_are_named():
    with pytest.raises(UsageError, match="audio2"):
        bank_for(build_method(tiny("xdc"))).joined("video+audio2")
