"""Finetuning as a method: its loss by hand, what freezing leaves alone, rates, and independence of the encoders."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from seehear.config import Config
from seehear.features.bank import FeatureBank
from seehear.methods.finetune import Finetune, Probabilities
from seehear.pretraining.plan import make_config
from seehear.types import ClipRef
from tests.conftest import TINY_SETTINGS

NAMES = ["drum", "piano", "saw"]
BOTH = {"video": "video", "audio": "audio"}


def tiny(*settings: str) -> Config:
    return replace(make_config(settings=[*TINY_SETTINGS, *settings]), method="finetune")


def made(config: Config, modalities: dict[str, str] | None = None, seed: int = 0) -> Finetune:
    torch.manual_seed(seed)
    method = Finetune(config, modalities or BOTH, NAMES, {})
    method.start_round({"label": len(NAMES)}, config.optim, torch.Generator().manual_seed(seed))
    for encoder in method.modalities:  # larger than they start, so that classes differ
        torch.nn.init.normal_(method.classifier(encoder).weight, std=0.5, generator=torch.Generator().manual_seed(1))
    return method


def batch(size: int = 6) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(3)
    inputs = {
        "video": torch.randn(size, 3, 4, 32, 32, generator=generator),
        "audio": torch.randn(size, 1, 16, 50, generator=generator),
    }
    return inputs, {"label": torch.arange(size) % len(NAMES)}


def test_the_loss_is_the_sum_of_both_cross_entropies_as_a_plain_loop_has_it():
    method = made(tiny()).eval()
    inputs, targets = batch()
    found = method(inputs, targets)
    total = 0.0
    for encoder in BOTH:
        layer = method.classifier(encoder)
        weight, bias = layer.weight.tolist(), layer.bias.tolist()
        losses, right = [], 0
        for feature, target in zip(method.encoders[encoder](inputs[encoder]).tolist(), targets["label"], strict=True):
            logits = [sum(w * x for w, x in zip(row, feature, strict=True)) + b
                      for row, b in zip(weight, bias, strict=True)]  # fmt: skip
            losses.append(math.log(sum(math.exp(z) for z in logits)) - logits[target])
            right += logits.index(max(logits)) == target
        assert float(found.parts[f"loss/{encoder}<-label"]) == pytest.approx(sum(losses) / 6, rel=1e-5)
        assert float(found.parts[f"accuracy/{encoder}<-label"]) == pytest.approx(right / 6)
        total += sum(losses) / 6
    assert found.loss.item() == pytest.approx(total, rel=1e-5)


def step(method: Finetune, config: Config) -> None:
    """One step of the training loop: its optimiser, its modes."""
    optimiser = torch.optim.SGD(method.parameter_groups(), lr=0.0, momentum=0.9, weight_decay=0.01)
    for group in optimiser.param_groups:
        group["lr"] = config.optim.base_lr * group["lr_factor"]
    method.train()
    inputs, targets = batch()
    method(inputs, targets).loss.backward()
    optimiser.step()


@pytest.mark.parametrize("freeze", [True, False])
def test_frozen_encoders_keep_every_bit_and_their_running_statistics(freeze):
    config = tiny(f"finetune.freeze={str(freeze).lower()}")
    method = made(config)
    before = {k: v.clone() for k, v in method.state_dict().items()}
    step(method, config)
    after = method.state_dict()
    changed = {k for k in after if not torch.equal(before[k], after[k])}
    assert {f"heads.{e}<-label.{part}" for e in BOTH for part in ("weight", "bias")} <= changed
    of_encoders = {k for k in changed if k.startswith("encoders.")}
    if freeze:
        assert of_encoders == set()
        assert all(p.grad is None for p in method.encoders.parameters())
        assert not any(m.training for m in method.encoders.modules())
    else:
        assert any("running_mean" in k for k in of_encoders)
        assert len(of_encoders) == sum(k.startswith("encoders.") for k in after)


def test_an_encoder_learns_the_same_whether_another_learns_beside_it_or_not():
    config = tiny("optim.base_lr=0.1")
    together, alone = made(config), made(config, {"video": "video"})
    step(together, config)
    step(alone, config)
    for name, value in alone.state_dict().items():
        assert torch.equal(value, together.state_dict()[name]), name


def test_sound_learns_at_its_own_rate():
    plain, own = tiny("optim.base_lr=0.1"), tiny("optim.base_lr=0.1", "finetune.audio_lr=0.025")
    moved = {}
    for config in (plain, own):
        method = made(config)
        before = {k: v.clone() for k, v in method.state_dict().items()}
        step(method, config)
        moved[config.finetune.audio_lr] = {k: v - before[k] for k, v in method.state_dict().items()}
    for name, _ in made(plain).named_parameters():
        factor = 0.25 if name.startswith(("encoders.audio.", "heads.audio")) else 1.0
        assert moved[None][name].abs().max() > 0
        assert torch.allclose(moved[0.025][name], factor * moved[None][name], rtol=1e-3, atol=1e-7), name


def test_a_classifier_learns_at_its_own_rate():
    method = made(tiny("optim.base_lr=0.1", "finetune.classifier_lr=1.0", "finetune.audio_lr=0.05"))
    names = {id(p): name for name, p in method.named_parameters()}
    factors = {names[id(p)]: g["lr_factor"] for g in method.parameter_groups() for p in g["params"]}
    assert factors.keys() == set(names.values())
    assert {name: f for name, f in factors.items() if name.startswith("heads.")} == {
        f"heads.{encoder}<-label.{part}": 10.0 for encoder in BOTH for part in ("weight", "bias")
    }
    assert {f for name, f in factors.items() if name.startswith("encoders.video")} == {1.0}
    assert {f for name, f in factors.items() if name.startswith("encoders.audio")} == {0.5}


def test_dropout_is_of_training_alone_and_leaves_the_rest_scaled():
    method = made(tiny("finetune.dropout=0.5"))
    inputs, _ = batch()
    method.eval()
    plain = method.features("audio", inputs["audio"])
    assert torch.equal(plain, method.encoders["audio"](inputs["audio"]))
    method.train()
    method.encoders.eval()
    dropped = method.seen_by_heads(method.features("audio", inputs["audio"]))
    kept = dropped != 0
    assert 0.3 < kept.float().mean() < 0.7
    assert torch.allclose(dropped[kept], 2 * plain[kept])


def test_given_classes_are_numbered_by_name_whatever_the_order_of_clips():
    config = tiny()
    method = Finetune(config, BOTH, NAMES, {"a": "saw", "b": "drum"})
    refs = [ClipRef(f"{v}#t=0,1", v, 0.0, 1.0) for v in ("b", "a", "b")]
    labelling = method.assign(FeatureBank.empty(refs, {}), seed=0)["label"]
    assert labelling.labels.tolist() == [0, 2, 0]
    assert labelling.k == 3


def test_probabilities_sum_to_one_and_follow_the_logits():
    method = made(tiny()).eval()
    inputs, _ = batch()
    module = Probabilities(method.encoders["audio"], method.classifier("audio"), 3)
    p = module(inputs["audio"])
    logits = method.classifier("audio")(method.encoders["audio"](inputs["audio"]))
    assert module.feature_dim == p.shape[1] == 3
    assert torch.allclose(p.sum(1), torch.ones(6))
    assert torch.allclose(p.log() - p.log()[:, :1], logits - logits[:, :1], atol=1e-5)
