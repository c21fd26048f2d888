"""Clips with several classes each: the loss and mAP beside plain loops, and a run that learns them."""

from __future__ import annotations

import csv
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import seehear
from seehear.engine.runlog import read_metrics
from seehear.errors import DataError
from seehear.methods import build_method
from seehear.methods.several import ClassSets, classes_in, indicators_of, multilabel_loss
from seehear.transfer.finetune_rates import best_rates, held_out_score_of_several
from tests.conftest import TINY_SETTINGS
from tests.methods.test_deepcluster import bank_for, inputs_for, tiny

TEXTS = ["Speech|Music", "Music", "Dog|Speech|Bark", "", None, "Music", "Bark"]


def several(method: str = "supervised"):
    config = tiny(method)
    return replace(config, data=replace(config.data, label_separator="|"))


def average_precision_by_hand(truth: list[bool], scores: list[float]) -> float:
    """The mean over a class's clips of the precision among all that score at least as much."""
    found = []
    for i, has in enumerate(truth):
        if has:
            above = [truth[j] for j in range(len(scores)) if scores[j] >= scores[i]]
            found.append(sum(above) / len(above))
    return sum(found) / len(found)


def test_sets_of_classes_are_told_apart_and_named():
    sets = ClassSets(TEXTS, "|")
    assert sets.names == ["Bark", "Dog", "Music", "Speech"]
    assert sets.sets == ["Bark", "Dog|Speech|Bark", "Music", "Speech|Music"]
    assert sets.members.int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 1], [0, 0, 1, 0], [0, 0, 1, 1]]
    assert classes_in(" a | b |", "|") == ["a", "b"]
    assert classes_in("a|b", None) == ["a|b"]
    assert indicators_of(["Dog|Cat", "Music"], sets.names, "|").astype(int).tolist() == [[0, 1, 0, 0], [0, 0, 1, 0]]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_that_of_each_class_by_itself(smoothing):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 4, generator=generator, dtype=torch.float64) * 3
    truth = torch.rand(5, 4, generator=generator) > 0.6
    total = 0.0
    for row in range(5):
        for c in range(4):
            target = (1 - smoothing / 2) if truth[row, c] else smoothing / 2
            p = 1 / (1 + math.exp(-float(logits[row, c])))
            total -= target * math.log(p) + (1 - target) * math.log(1 - p)
    assert multilabel_loss(logits, truth, smoothing).item() == pytest.approx(total / 5, rel=1e-12)


def test_supervised_learns_every_class_of_a_clip():
    classes = {f"v{i}": ["a|b", "b", "c|a"][i % 3] for i in range(40)}
    model = build_method(several(), classes)
    labelling = model.assign(bank_for(model), seed=0)["label"]
    assert labelling.labels.tolist() == [[0, 1, 2][i % 3] for i in range(40)]  # "a|b", "b", "c|a"
    model.start_round({"label": 3}, model.config.optim, torch.Generator().manual_seed(0))
    assert model.heads["video<-label"].out_features == 3
    inputs, numbers = inputs_for(model), torch.arange(6) % 3
    output = model(inputs, {"label": numbers})
    truth = torch.tensor([[1, 1, 0], [0, 1, 0], [1, 0, 1]], dtype=torch.bool)[numbers]
    expected = 0.0
    for name in ("video", "audio"):
        logits = model.heads[f"{name}<-label"](model.encoders[name](inputs[name]))
        loss = multilabel_loss(logits, truth)
        assert output.parts[f"loss/{name}<-label"].item() == pytest.approx(loss.item(), rel=1e-4)
        hits = truth[range(6), logits.argmax(1)].float().mean()
        assert output.parts[f"accuracy/{name}<-label"].item() == pytest.approx(hits.item())
        expected += loss.item()
    assert output.loss.item() == pytest.approx(expected, rel=1e-4)


def test_a_validation_has_the_mean_average_precision_of_all_its_clips():
    classes = {f"v{i}": ["a|b", "b", "c|a"][i % 3] for i in range(40)}
    model = build_method(several(), classes)
    model.start_round({"label": 3}, model.config.optim, torch.Generator().manual_seed(0))
    model(inputs_for(model), {"label": torch.arange(6) % 3})
    model.eval()
    assert model.validated() == {}  # what training saw is no validation
    inputs, scores, truths = inputs_for(model), [], []
    for numbers in (torch.arange(6) % 3, torch.arange(6) % 2):
        with torch.no_grad():
            model(inputs, {"label": numbers})
            scores.append(model.heads["video<-label"](model.encoders["video"](inputs["video"])).numpy())
        truths.append(np.array([[1, 1, 0], [0, 1, 0], [1, 0, 1]], dtype=bool)[numbers.numpy()])
    found, x, y = model.validated(), np.concatenate(scores), np.concatenate(truths)
    by_hand = [average_precision_by_hand(y[:, c].tolist(), x[:, c].tolist()) for c in range(3)]
    assert found["mAP/video<-label"] == pytest.approx(np.mean(by_hand))
    assert set(found) == {"mAP/video<-label", "mAP/audio<-label"}
    assert model.validated() == {}


def test_one_class_in_all_sets_is_refused():
    with pytest.raises(DataError, match="two classes"):
        build_method(several(), {"a": "x", "b": "x|x"})


def test_a_run_learns_several_classes_and_logs_their_map(collection, tmp_path):
    with open(collection, newline="") as file:
        rows = list(csv.DictReader(file))
    table = collection.parent / "several.csv"
    with open(table, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for i, row in enumerate(rows):
            writer.writerow(row | {"label": f"{row['label']}|all" if i % 2 else row["label"]})
    settings = [*TINY_SETTINGS, "rounds=1", "optim.epochs=2", "data.validation_share=0.3", "data.label_separator='|'"]
    seehear.pretrain(table, tmp_path / "run", method="supervised", settings=settings, quiet=True)
    table.unlink()
    epochs = [r for r in read_metrics(tmp_path / "run" / "metrics.jsonl") if r["kind"] == "epoch"]
    assert len(epochs) == 2
    for epoch in epochs:
        assert 0 < epoch["validation_mAP/audio<-label"] <= 1
        assert math.isfinite(epoch["validation_loss"])


def test_audiosets_recipe_takes_all_classes_of_a_clip():
    from seehear.recipes import recipe

    assert recipe("supervised-audioset").data.label_separator == "|"
    assert recipe("supervised-kinetics").data.label_separator is None


def test_what_is_held_out_is_scored_by_map_and_the_loss_of_every_class():
    truth = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0]], dtype=bool)
    p = np.array([[0.9, 0.2, 0.1], [0.4, 0.7, 0.2], [0.6, 0.3, 0.1], [0.1, 0.5, 0.3]])
    found = held_out_score_of_several(p, truth)
    by_hand = [average_precision_by_hand(truth[:, c].tolist(), p[:, c].tolist()) for c in (0, 1)]
    assert found["mAP"] == pytest.approx(np.mean(by_hand))
    loss = -sum(math.log(p[i, c] if truth[i, c] else 1 - p[i, c]) for i in range(4) for c in range(3)) / 4
    assert found["loss"] == pytest.approx(loss)
    tried = [{"base_lr": lr, "video": {"mAP": m, "loss": 1.0}} for lr, m in ((0.1, 0.4), (0.01, 0.6), (0.03, 0.6))]
    assert best_rates(tried, ["video"]) == {"video": 0.01}
