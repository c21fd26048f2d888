"""Classifiers of windows of sound against loops, torch's own layers and scikit-learn; windows of other lengths."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from torch import nn

import seehear
from seehear.data.clips import clip_refs, plain_requests
from seehear.data.loader import ClipLoader
from seehear.data.scanning import scan
from seehear.errors import UsageError
from seehear.features.bank import FeatureBank
from seehear.features.frozen import PooledMap, Sampling, clip_features, window_features
from seehear.features.model import Model, make_ref, usable_videos
from seehear.models.audio import AudioEncoder
from seehear.transfer.audio_linear import AudioLinear, _held_out, mean_of_windows, svm_of_windows, windows_of
from seehear.transfer.protocols import (
    OF_THE_ENCODER,
    OURS,
    PROTOCOL_DEFAULTS,
    PROTOCOLS,
    defaults_of,
    hearing,
    make_plan,
)


def recordings(count: int, windows: int = 4, distance: float = 3.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Windows (count, W, 6) of three classes around points so far apart, and their classes."""
    rng = np.random.default_rng(seed)
    labels = np.array(list("abc"))[np.arange(count) % 3]
    return np.eye(6)[np.arange(count) % 3][:, None] * distance + rng.normal(size=(count, windows, 6)), labels


# ---------------------------------------------------------------- windows


def test_windows_of_a_recording_stay_with_it_and_gaps_are_passed_over():
    x = np.arange(24, dtype=float).reshape(3, 4, 2)
    x[1, 2:] = np.nan
    rows, of = windows_of(x)
    assert of.tolist() == [0, 0, 0, 0, 1, 1, 2, 2, 2, 2]
    assert rows[5].tolist() == [10, 11]
    assert windows_of(x[:, 0])[1].tolist() == [0, 1, 2]


def test_scores_of_windows_are_averaged():
    scores = np.array([[1.0, 0], [3, 4], [5, 6]])
    assert mean_of_windows(scores, np.array([2, 0, 2]), 3).tolist() == [[3, 4], [0, 0], [3, 3]]


def test_features_of_windows_are_those_of_the_bank_with_gaps_marked():
    refs = [make_ref("a", 0, 1), make_ref("b", 0, 1), make_ref("a", 1, 2)]
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    found = window_features(FeatureBank(refs, {"audio": x}, np.ones(3, dtype=bool)))["audio"]
    assert found["a"].tolist() == [[0, 1], [4, 5]]
    assert found["b"][0].tolist() == [2, 3]
    assert np.isnan(found["b"][1]).all()


def test_the_last_map_is_pooled_as_by_torchs_own_layer():
    """(1, 3) in steps of (1, 2): a map of 7 places in time has 3, one of 2 has 1."""
    encoder = AudioEncoder(blocks=(1, 1, 1, 1), width=4).eval()
    for frames, places in ((199, 3), (50, 1)):
        pooled = PooledMap(encoder, 40, frames)
        x = torch.randn(2, 1, 40, frames)
        with torch.inference_mode():
            maps = encoder.feature_map(x)
            kernel = min(3, maps.shape[3])
            expected = nn.MaxPool2d((1, kernel), stride=(1, 2), padding=0)(maps)
            assert expected.shape == (2, 32, 2, places)
            assert torch.equal(pooled(x), expected.flatten(1))
        assert pooled.feature_dim == 32 * 2 * places


# ---------------------------------------------------------------- classifiers


def test_the_layer_is_torchs_linear_layer_trained_by_adam():
    """One batch a step, so that the order of the windows makes no difference: the steps are plain Adam's."""
    x, labels = recordings(31)  # of balanced classes the first gradient of the bias would be rounding alone
    settings = AudioLinear(learning_rate=0.01, check_steps=5, max_steps=20, patience=3)
    found = settings(x, labels, x)
    steps = found.chosen["steps"]
    assert steps % 5 == 0
    layer = nn.Linear(6, 3)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    adam = torch.optim.Adam(layer.parameters(), lr=0.01, weight_decay=5e-4)
    rows = torch.from_numpy(x.reshape(-1, 6)).float()
    targets = torch.from_numpy(np.unique(labels, return_inverse=True)[1].repeat(4))
    for _ in range(steps):
        adam.zero_grad()
        nn.functional.cross_entropy(layer(rows), targets).backward()
        adam.step()
    expected = layer(rows).softmax(1).detach().numpy().reshape(31, 4, 3).mean(axis=1)
    assert found.scores[0] == pytest.approx(expected, abs=1e-5)
    assert (found.classes["accuracy"][0, :, 0] == np.array(list("abc"))[expected.argmax(axis=1)]).all()


def test_gdts_optimiser_is_the_default():
    settings = AudioLinear()
    assert (settings.learning_rate, settings.weight_decay, settings.batch_size) == (1e-4, 5e-4, 512)


def test_training_ends_where_held_out_recordings_are_told_best():
    """Labels at random: what is learnt of them does not hold for others, and the search stops early."""
    x, labels = recordings(60, distance=0)
    rng = np.random.default_rng(1)
    quick = AudioLinear(learning_rate=0.05, check_steps=10, patience=3, max_steps=2000)
    assert quick(x, rng.permutation(labels), x).chosen["steps"] <= 100
    clear, labels = recordings(60, distance=3)
    assert quick(clear, labels, clear).chosen["steps"] > 100


def test_a_tenth_of_every_class_is_held_out_and_one_at_least():
    codes = np.repeat([0, 1, 2], [40, 5, 2])
    assert np.bincount(codes[_held_out(codes)]).tolist() == [4, 1, 1]
    assert _held_out(np.array([0, 0, 1])) is None


def test_a_class_of_one_recording_stops_nothing():
    x, labels = recordings(7)
    found = AudioLinear(unheld_steps=50)(x[:5], np.array(list("abcab")), x[5:])
    assert found.chosen == {"steps": 50, "held_out": 0}
    assert svm_of_windows(x[:3], labels[:3], x[3:]).chosen == {"C": 1.0, "folds": 0}


def test_the_svm_of_windows_is_scikit_learns_with_margins_averaged():
    x, labels = recordings(40, distance=1.0)
    found = svm_of_windows(x[:30], labels[:30], x[30:])
    assert found.chosen["folds"] == 5
    rows = x[:30].reshape(-1, 6).astype(np.float32)
    scaler = StandardScaler().fit(rows)
    svm = LinearSVC(C=found.chosen["C"], random_state=0, dual="auto", max_iter=10_000)
    svm.fit(scaler.transform(rows), labels[:30].repeat(4))
    margins = [svm.decision_function(scaler.transform(of.astype(np.float32))).mean(axis=0) for of in x[30:]]
    assert found.scores[0] == pytest.approx(np.array(margins), abs=1e-6)
    assert found.classes["accuracy"][0, :, 0].tolist() == [svm.classes_[m.argmax()] for m in margins]


@pytest.mark.parametrize("classifier", [AudioLinear(learning_rate=0.01, max_steps=300), svm_of_windows])
def test_averaging_windows_helps_and_missing_ones_do_no_harm(classifier):
    x, labels = recordings(120, windows=9, distance=1.5)
    one = classifier(x[:60, :1], labels[:60], x[60:, :1]).classes["accuracy"][0, :, 0] == labels[60:]
    x[::4, 5:] = np.nan
    all_ = classifier(x[:60], labels[:60], x[60:]).classes["accuracy"][0, :, 0] == labels[60:]
    assert all_.mean() > one.mean() + 0.1
    assert all_.mean() > 0.95


# ---------------------------------------------------------------- protocols


def test_papers_do_as_they_say():
    """XDC, section 6; GDT, appendix A.10; SeLaVi, appendix A.7."""
    said = {
        ("xdc", "svm", "dcase2014:x"): (60, OF_THE_ENCODER, "mean"),
        ("gdt", "audio-linear", "esc50:x"): (10, 2.0, "map"),
        ("gdt", "audio-linear", "DCASE2014:x"): (60, 1.0, "map"), ("gdt", "retrieval", "ucf101:x"): (10, None, "max"),
        ("gdt", "few-shot", "ucf101:x"): (10, None, "mean"), ("selavi", "retrieval", "hmdb51:x"): (10, None, "max"),
    }  # fmt: skip
    for (paper, protocol, data), expected in said.items():
        found = defaults_of(protocol, paper, data)
        assert (found.clips, found.window_seconds, found.pooling) == expected
    assert {p for of in PROTOCOL_DEFAULTS.values() for p in of} <= set(PROTOCOLS) == set(OURS)


@pytest.fixture(scope="module")
def model(finished_run) -> Model:
    return Model.load(finished_run)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"protocol": "svm", "paper": "selavi"}, "svm is of xdc"),
        ({"protocol": "svm", "paper": "avts"}, "no paper"),
        ({"protocol": "linearr"}, "no protocol"),
        ({"protocol": "knn", "window_seconds": 1.0}, "no windows"),
        ({"protocol": "audio-linear", "pooling": "max"}, "the last map itself"),
        ({"protocol": "audio-linear", "window_seconds": 0.0}, "not one frame"),
        ({"protocol": "retrieval", "clips": 0}, "at least one clip"),
    ],
)
def test_what_cannot_be_is_refused(options, words, model):
    with pytest.raises(UsageError, match=words):
        make_plan(model, **options)


def test_what_is_given_wins_over_a_paper(model):
    plan = make_plan(model, "retrieval", paper="gdt", clips=3, pooling="mean")
    assert plan.sampling == Sampling(3, pooling="mean")
    assert make_plan(model, "retrieval", paper="gdt").sampling == Sampling(10, pooling="max")


def test_xdcs_windows_are_as_long_as_the_clips_that_the_encoder_heard(model):
    two = replace(model.config.clip, audio_seconds=2.0)
    longer = replace(model.config, clip=two, spectrogram=replace(model.config.spectrogram, frames=100))
    heard = Model(longer, model.modalities, model.encoders, model.statistics)
    for of, seconds in ((model, 1.0), (heard, 2.0)):
        plan = make_plan(of, "svm", paper="xdc")
        assert plan.about()["window_seconds"] == plan.model.config.clip.audio_seconds == seconds
        assert plan.model.config.spectrogram == of.config.spectrogram
    assert make_plan(heard, "svm", paper="xdc", window_seconds=1.0).about()["window_seconds"] == 1.0


def test_a_model_that_does_not_hear_has_no_windows(model):
    blind = Model(model.config, {"video": "video"}, {"video": model.encoders["video"]}, model.statistics)
    with pytest.raises(UsageError, match="hears"):
        make_plan(blind, "audio-linear")


@pytest.mark.parametrize("seconds", [0.5, 1.0, 1.5])
def test_a_window_of_another_length_is_the_same_spectrogram_cut_shorter_or_longer(seconds, model, collection):
    """The run's clips have 1 s of sound in 50 frames. What windows share of the sound, they share of the picture."""
    videos = usable_videos(scan(collection, workers=0), ("audio",))[:1]
    ours = hearing(model, seconds)
    frames = round(50 * seconds)
    assert ours.config.spectrogram.frames == frames
    assert list(ours.encoders) == ["audio"]
    seen = {}
    for name, config in (("window", ours.config), ("whole", hearing(model, 2.0).config)):
        with ClipLoader(videos, config, ours.modalities, ours.statistics, workers=0, cache=None) as loader:
            refs = clip_refs(videos, replace(config.cluster, clips_per_video=1))
            (request,) = plain_requests(refs, loader.videos, config.clip)
            request = replace(request, start_seconds=0.4, audio_start_seconds=0.4)
            seen[name] = next(loader.batches([request], 1)).inputs["audio"]
    assert seen["window"].shape == (1, 1, 16, frames)
    # The first frame and the last ones reach past the window's ends.
    assert torch.allclose(seen["window"][..., 2 : frames - 4], seen["whole"][..., 2 : frames - 4], atol=0.05)


def test_audio_linear_embeds_windows_of_sound_alone(model, collection):
    plan = make_plan(model, "audio-linear", clips=3, window_seconds=0.5)
    bank = clip_features(plan.model, scan(collection, workers=0), plan.sampling).bank
    assert len(bank) == 24 * 3
    maps = model.encoders["audio"].feature_map(torch.zeros(1, 1, 16, 25))
    assert bank.features["audio"].shape[1] == PooledMap(plan.model.encoders["audio"], 16, 25).feature_dim
    assert bank.features["audio"].shape[1] <= maps[0].numel()
    assert {x.shape for x in plan.features(bank)["audio"].values()} == {(3, bank.features["audio"].shape[1])}
    assert not model.encoders.training
    assert not model.encoders["audio"].layer4.training  # it is left in the mode in which it was found


def test_classes_of_sound_are_told_by_both_papers_protocols(finished_run, collection):
    """Each class of the collection has a pitch of its own: windows of sound tell it."""
    for protocol, paper, chosen in (("svm", "xdc", "C"), ("audio-linear", "gdt", "steps")):
        result = seehear.evaluate(finished_run, protocol=protocol, paper=paper, data=collection, clips=4)
        assert set(result["scores"]) == {"audio"}
        assert result["scores"]["audio"]["accuracy"]["value"] > 0.8
        assert chosen in result["chosen"]["audio"]
        assert result["window_seconds"] == {"xdc": 1.0, "gdt": 2.0}[paper]
        assert result["source"].lower().startswith(paper)
