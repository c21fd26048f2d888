"""Frozen features put to the test: what may be known when, the cache, the scores, and each classifier."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

import seehear
from seehear.cli import main
from seehear.data.cache import media_cache
from seehear.data.clips import clip_refs
from seehear.data.manifest import COLUMNS, Manifest
from seehear.data.scanning import scan
from seehear.errors import DataError, MediaError, UsageError
from seehear.features import frozen
from seehear.features.bank import FeatureBank
from seehear.features.frozen import CoarseMap, MaxPooled, Sampling, clip_features, features_key, video_features
from seehear.features.model import Model, make_ref, usable_videos
from seehear.metrics.intervals import bootstrap, score_of
from seehear.transfer import frozen as protocols
from seehear.transfer import scoring
from seehear.transfer import split as split_module
from seehear.transfer.classifiers import (
    Answers,
    FewShot,
    answer,
    draw_orders,
    linear_svm,
    logistic_regression,
    vote_of_neighbours,
)
from seehear.transfer.frozen import evaluate_linear, evaluate_transfer
from seehear.transfer.protocols import PROTOCOL_DEFAULTS, PROTOCOLS, make_predictor
from seehear.transfer.scoring import chance_accuracy, score, score_protocol
from seehear.transfer.split import Split, make_split

every_protocol = pytest.mark.parametrize(
    ("protocol", "windows"), [*((name, False) for name in PROTOCOLS), ("svm", True)]
)
of_every_paper = pytest.mark.parametrize(
    ("protocol", "paper"),
    [*((p, None) for p in PROTOCOLS), *((p, paper) for paper, of in PROTOCOL_DEFAULTS.items() for p in of)],
)


def blobs(count: int, distance: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """`count` rows (count, 12) of four classes around points that lie so far apart, and their classes."""
    rng = np.random.default_rng(seed)
    labels = np.array(list("abcd"))[np.arange(count) % 4]
    centres = np.eye(12)[np.arange(count) % 4] * distance
    return centres + rng.normal(size=(count, 12)), labels


def small_split(protocol_seed: int = 0, permute: bool = False, distance: float = 8.0):
    """Features, a split without test classes, and the test classes of 120 + 80 synthetic videos."""
    x, y = blobs(200, distance, protocol_seed)
    if permute:
        y = np.random.default_rng(protocol_seed).permutation(y)
    ids = [f"{i:03d}.mp4" for i in range(200)]
    missing = {part: {"unusable": 0, "undecodable": 0, "unlabelled": 0} for part in ("train", "test")}
    split = Split(dict(zip(ids[:120], y[:120].tolist(), strict=True)), ids[120:], missing, other=0)
    features = {"trained": {"video": dict(zip(ids, x, strict=True))}}
    return features, split, dict(zip(ids[120:], y[120:].tolist(), strict=True))


# ---------------------------------------------------------------- what may be known when


@every_protocol
def test_test_classes_are_read_when_all_answers_are_there(protocol, windows):
    features, split, classes = small_split()
    predictor, answered = make_predictor(protocol, (1, 5), 2, windows), []

    def recorded(train, labels, test):
        found = predictor(train, labels, test)
        answered.append(found)
        return found

    def sealed():
        assert len(answered) == 2, "test classes were asked for before all answers were given"
        return classes

    both = features["trained"] | {"audio": features["trained"]["video"]}
    result = score_protocol(recorded, {"trained": both}, split, sealed, protocol)
    assert len(answered) == 2
    assert all(s["value"] > 0.4 for scores in result["scores"].values() for s in scores.values())


@of_every_paper
def test_answers_do_not_depend_on_test_classes(protocol, paper, finished_run, collection, monkeypatch):
    """From the command down: other test classes, or ones that cannot be read, leave the answers as they are."""
    given: list[list[Answers]] = []

    def kept(predictor, features, split):
        found = answer(predictor, features, split)
        given.append(list(found.values()))
        return found

    monkeypatch.setattr(scoring, "answer", kept)
    with open(collection, newline="") as file:
        rows = list(csv.DictReader(file))
    other = collection.parent / f"other_{protocol}_{paper}.csv"
    with open(other, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(r | ({"label": "class_9"} if r["split"] == "test" else {}) for r in rows)
    options = {"clips": 2, "shots": (1, 2), "seeds": 2, "paper": paper}
    first = evaluate_transfer(finished_run, collection, protocol, **options)
    second = evaluate_transfer(finished_run, other, protocol, **options)
    other.unlink()
    for one, two in zip(*given, strict=True):
        assert all(np.array_equal(one.classes[s], two.classes[s]) for s in one.classes)
    assert all(s["value"] == 0 for scores in second["scores"].values() for s in scores.values())
    assert any(s["value"] > 0 for scores in first["scores"].values() for s in scores.values())

    class Sealed(Exception):
        pass

    def unreadable(manifest, label_column, split_column, part):
        if part == "test":
            raise Sealed
        return classes_of(manifest, label_column, split_column, part)

    classes_of = split_module.classes_of
    for module in (protocols, split_module):
        monkeypatch.setattr(module, "classes_of", unreadable)
    with pytest.raises(Sealed):
        evaluate_transfer(finished_run, collection, protocol, **options)
    assert len(given) == 3
    assert all(np.array_equal(a.classes[s], b.classes[s]) for a, b in zip(given[0], given[2], strict=True)
               for s in a.classes)  # fmt: skip


@every_protocol
def test_permuted_classes_score_at_chance(protocol, windows):
    """Of four classes: 1 in 4, and for R@k what a random order of the training videos finds."""
    found: dict[str, list[tuple[float, float]]] = {}
    for seed in range(4):
        features, split, classes = small_split(seed, permute=True)
        features["untrained"] = features["trained"]
        predictor = make_predictor(protocol, (1, 5), 3, windows)
        result = score_protocol(predictor, features, split, lambda c=classes: c, protocol)
        for setting, of in result["scores"]["video"].items():
            chance = result["baselines"]["chance"]["video"][setting]["value"]
            found.setdefault(setting, []).append((of["value"], chance))
    for setting, values in found.items():
        value, chance = np.mean(values, axis=0)
        assert value == pytest.approx(chance, abs=0.2 if setting == "d'" else 0.08)  # an AUC of 0.55 is a d' of 0.18


# ---------------------------------------------------------------- the split


def manifest_of(rows: list[tuple[str, bool, str | None, str | None]]) -> Manifest:
    """A manifest of (id, usable, label, split)."""
    columns = {name: pa.array([None] * len(rows), kind) for name, kind in COLUMNS.items()}
    for place, name in enumerate(("video_id", "usable", "label", "split")):
        columns[name] = pa.array([row[place] for row in rows])
    return Manifest(pa.table(columns))


def test_videos_are_sorted_and_those_left_out_are_counted():
    manifest = manifest_of(
        [("b", True, "x", "train"), ("a", True, "y", "train"), ("bad", False, "x", "train"),
         ("none", True, None, "train"), ("t2", True, "x", "test"), ("t1", True, "", "test"),
         ("gone", True, "y", "test"), ("v", True, "x", "val")]
    )  # fmt: skip
    split = make_split(manifest, decoded={"a", "b", "none", "t1", "t2", "v"})
    assert split.train == {"a": "y", "b": "x"}
    assert split.test == ["t1", "t2"]  # whether t1 has a class is not looked at
    assert split.missing == {
        "train": {"unusable": 1, "undecodable": 0, "unlabelled": 1},
        "test": {"unusable": 0, "undecodable": 1, "unlabelled": 0},
    }
    assert split.other == 1
    features = {"trained": {"video": {i: np.eye(2)[n % 2] for n, i in enumerate(["a", "b", "t1", "t2"])}}}
    result = score_protocol(vote_of_neighbours, features, split, lambda: {"t1": "", "t2": "x"}, "knn")
    assert result["test_videos"] == 1
    assert result["missing"]["test"] == {"unusable": 0, "undecodable": 1, "unlabelled": 1}
    assert split.missing["test"]["unlabelled"] == 0


@pytest.mark.parametrize(
    ("rows", "error", "words"),
    [
        ([("a", True, "x", "train"), ("b", True, "y", "train")], DataError, "train and test"),
        ([("a", True, "x", "train"), ("b", True, "x", "train"), ("c", True, "x", "test")], DataError, "same label"),
    ],
)
def test_a_table_that_cannot_be_used_is_explained(rows, error, words):
    with pytest.raises(error, match=words):
        make_split(manifest_of(rows))


def test_a_missing_column_is_named():
    manifest = manifest_of([("a", True, "x", "train"), ("b", True, "y", "test")])
    with pytest.raises(UsageError, match="no column 'fold'"):
        make_split(manifest, split_column="fold")
    with pytest.raises(UsageError, match="no column 'class'"):
        make_split(manifest, label_column="class")


def test_no_test_class_at_all_is_an_error():
    features, split, _ = small_split()
    with pytest.raises(DataError, match="no test video has a class"):
        score_protocol(linear_svm, features, split, lambda: dict.fromkeys(split.test, ""), "svm")


# ---------------------------------------------------------------- scores


def test_scores_worked_by_hand():
    """Two repetitions for four test videos, of which the last has no class."""
    answers = Answers({"accuracy": np.array([["a", "b", "b", "a"], ["a", "a", "a", "a"]])[:, :, None]})
    found = score(answers, np.array(["a", "a", "b", ""]))["accuracy"]
    assert found.value == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert found.sd == 0
    either = score(Answers({"R@2": np.array([[["a", "b"], ["c", "d"]]])}), np.array(["b", "b"]))["R@2"]
    assert (either.value, either.sd) == (0.5, None)
    assert "sd" not in either.as_dict()
    spread = score_of(np.array([[1, 1, 1, 1], [1, 1, 0, 0]], dtype=float))
    assert (spread.value, spread.sd) == (0.75, pytest.approx(0.5 / 2**0.5))


def test_accuracy_is_that_of_scikit_learn():
    from sklearn.metrics import accuracy_score

    rng = np.random.default_rng(0)
    truth, predicted = rng.choice(list("abc"), size=(2, 100))
    found = score(Answers({"accuracy": predicted[None, :, None]}), truth)["accuracy"]
    assert found.value == pytest.approx(accuracy_score(truth, predicted))


def test_the_bootstrap_agrees_with_scipy_and_repeats_itself():
    from scipy.stats import bootstrap as scipy_bootstrap

    values = (np.random.default_rng(0).random(200) < 0.7).astype(float)
    low, high = bootstrap(values)
    expected = scipy_bootstrap((values,), np.mean, n_resamples=1000, method="percentile", rng=np.random.default_rng(1))
    assert (low, high) == pytest.approx(tuple(expected.confidence_interval), abs=0.015)
    assert bootstrap(values) == (low, high)
    assert bootstrap(np.ones(5)) == (1, 1)


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(200):
        low, high = bootstrap((rng.random(150) < 0.7).astype(float), draws=200)
        covered.append(low <= 0.7 <= high)
    assert 0.89 <= np.mean(covered) <= 0.99


def test_chance_worked_by_hand():
    train, truth = np.array(list("aaab")), np.array(["a", "b", "b", "c", ""])
    assert chance_accuracy(train, truth) == pytest.approx(1 / 4)
    assert chance_accuracy(train, truth, uniform=True) == pytest.approx(3 / 4 / 2)


# ---------------------------------------------------------------- classifiers


@pytest.mark.parametrize("classifier", [logistic_regression, linear_svm, vote_of_neighbours, FewShot((3,), 2)])
def test_classifiers_against_a_case_solved_by_eye(classifier):
    x, y = blobs(80, 12)
    for predicted in classifier(x[:60], y[:60], x[60:]).classes.values():
        assert (predicted == y[60:][None, :, None]).all()


def test_the_neighbours_vote_worked_by_hand():
    """Lengths do not matter, only directions: at 1 degree the nearest are a, b, b."""
    angles = np.deg2rad([0.0, 5.0, 6.0, 90.0, 91.0])
    train = np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.array([9, 1, 5, 1, 7])[:, None]
    labels, test = np.array(["a", "b", "b", "c", "c"]), np.array([[np.cos(0.02), np.sin(0.02)]])
    one = vote_of_neighbours(train, labels, test)
    assert one.chosen == {"k": 1, "folds": 2}
    assert one.classes["accuracy"].tolist() == [[["a"]]]


def test_k_is_chosen_within_the_training_part():
    """One label in four is wrong: one neighbour is misled where many are not."""
    rng = np.random.default_rng(0)
    x, y = blobs(300, 4)
    noisy = np.where(rng.random(300) < 0.25, rng.permutation(y), y)
    found = vote_of_neighbours(x[:200], noisy[:200], x[200:])
    assert found.chosen["k"] > 1
    assert (found.classes["accuracy"][0, :, 0] == y[200:]).mean() > 0.95


def test_the_svm_is_scikit_learns():
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    x, y = blobs(120, 2)
    x = x * 10.0 ** np.arange(12)  # without standardising, the last dimension would be all that counts
    found = linear_svm(x[:80], y[:80], x[80:])
    scaler = StandardScaler().fit(x[:80])
    svm = LinearSVC(C=found.chosen["C"], random_state=0, dual="auto", max_iter=10_000)
    expected = svm.fit(scaler.transform(x[:80]), y[:80]).predict(scaler.transform(x[80:]))
    assert found.classes["accuracy"][0, :, 0].tolist() == expected.tolist()
    assert found.chosen["folds"] == 5


@pytest.mark.parametrize("classifier", [logistic_regression, linear_svm, vote_of_neighbours, FewShot((1, 5), 2)])
@pytest.mark.parametrize("labels", ["abcdefgh", "aaaaaaab", "aaabbbcd"])
def test_rare_classes_stop_no_classifier(classifier, labels, recwarn):
    x = np.random.default_rng(0).normal(size=(8, 3)) + 5 * np.eye(8)[:, :3]
    found = classifier(x, np.array(list(labels)), x)
    assert all(set(p.ravel()) <= set(labels) for p in found.classes.values())
    assert not [w for w in recwarn if "least populated" in str(w.message) or "failed" in str(w.message)]


def test_shots_are_drawn_for_every_class_and_fewer_are_among_more():
    labels = np.array(list("aaaabbbbbc"))
    orders = draw_orders(labels, seed=3)
    assert [Counter(labels[o]) for o in orders] == [{"a": 4}, {"b": 5}, {"c": 1}]
    assert all(np.array_equal(o, again) for o, again in zip(orders, draw_orders(labels, seed=3), strict=True))
    draws = {tuple(draw_orders(labels, seed)[1][:2]) for seed in range(20)}
    assert len(draws) > 5


def test_few_shots_count_classes_that_have_fewer():
    x, y = blobs(40, 8)
    keep = np.ones(40, dtype=bool)
    keep[np.flatnonzero(y == "a")[3:]] = False
    found = FewShot((1, 5), 3)(x[keep], y[keep], x)
    assert found.chosen == {"classes_below_5": 1}
    assert list(found.classes) == ["1-NN@1", "1-NN@5", "SVM@1", "SVM@5"]
    assert {p.shape for p in found.classes.values()} == {(3, 40, 1)}


def test_one_shot_is_the_nearest_of_the_drawn_ones():
    x, y = blobs(60, 2)
    found = FewShot((1,), 2)(x[:40], y[:40], x[40:]).classes["1-NN@1"]
    for seed in range(2):
        rows = [order[0] for order in draw_orders(y[:40], seed)]
        drawn = x[rows] / np.linalg.norm(x[rows], axis=1, keepdims=True)
        assert found[seed, :, 0].tolist() == y[:40][rows][(x[40:] @ drawn.T).argmax(axis=1)].tolist()


@pytest.mark.parametrize("options", [{"shots": ()}, {"shots": (0, 1)}, {"seeds": 0}])
def test_few_shots_that_cannot_be_are_refused(options):
    with pytest.raises(UsageError, match="one shot and one seed"):
        make_predictor("few-shot", **options)


def test_an_unknown_protocol_is_named(finished_run, collection):
    with pytest.raises(UsageError, match="retrieval"):
        seehear.evaluate(finished_run, protocol="retreival", data=collection)


# ---------------------------------------------------------------- features and their cache


@pytest.fixture
def run(finished_run, tmp_path) -> Path:
    """A copy of the finished run, to be written into."""
    shutil.copytree(finished_run, tmp_path / "run", ignore=shutil.ignore_patterns("features"))
    return tmp_path / "run"


@pytest.fixture(scope="module")
def manifest(collection) -> Manifest:
    return scan(collection, workers=0)


def test_a_second_protocol_reuses_the_features(run, collection, monkeypatch):
    first = seehear.evaluate(run, protocol="retrieval", data=collection, clips=2, baselines=True)
    assert not first["features_reused"]
    assert len(list((run / "features").glob("*.npz"))) == 2  # the trained encoders' and the untrained ones'
    monkeypatch.setattr(frozen, "extract", None)
    for protocol in ("knn", "few-shot", "svm"):
        result = seehear.evaluate(run, protocol=protocol, data=collection, clips=2, baselines=True)
        assert result["features_reused"]
        assert set(result["scores"]) == set(result["baselines"]["untrained"]) == {"video", "audio", "both"}
        assert (result["train_videos"], result["test_videos"]) == (18, 6)
    assert first["scores"] == seehear.evaluate(run, protocol="retrieval", data=collection, clips=2)["scores"]


def test_what_comes_from_the_cache_is_what_was_put_there(run, manifest):
    model = Model.load(run)
    fresh = clip_features(model, manifest, Sampling(clips=2), cache=run / "features")
    again = clip_features(model, manifest, Sampling(clips=2), cache=run / "features")
    assert (fresh.reused, again.reused) == (False, True)
    assert again.bank.refs == fresh.bank.refs
    assert len(again.bank) == 48
    for name, x in fresh.bank.features.items():
        assert np.array_equal(again.bank.features[name], x)
        assert again.bank.features[name].dtype == np.float32


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "other"])
def test_a_damaged_entry_is_made_anew(damage, run, manifest):
    model, sampling = Model.load(run), Sampling(clips=1)
    fresh = clip_features(model, manifest, sampling, cache=run / "features")
    (entry,) = (run / "features").glob("*.npz")
    content = bytearray(entry.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 255
    entry.write_bytes({"cut": content[:-200], "flip": content, "empty": b"", "other": b"no zip file"}[damage])
    again = clip_features(model, manifest, sampling, cache=run / "features")
    assert not again.reused
    assert all(np.array_equal(again.bank.features[n], x) for n, x in fresh.bank.features.items())
    assert clip_features(model, manifest, sampling, cache=run / "features").reused


def test_an_entry_under_another_name_is_not_taken(run, manifest):
    model = Model.load(run)
    clip_features(model, manifest, Sampling(clips=1), cache=run / "features")
    (entry,) = (run / "features").glob("*.npz")
    entry.rename(entry.with_name(f"{features_key(model, manifest, Sampling(clips=2))}.npz"))
    assert len(clip_features(model, manifest, Sampling(clips=2), cache=run / "features").bank) == 48


def test_the_key_tells_apart_all_that_features_depend_on(run, manifest):
    model, sampling = Model.load(run), Sampling()
    keys = {features_key(model, manifest, s) for s in (sampling, Sampling(clips=3), Sampling(pooling="max"))}
    keys.add(features_key(model, manifest, sampling, "cuda"))
    keys.add(features_key(model, manifest.where("split=train"), sampling))
    assert features_key(Model.load(run), manifest, sampling) in keys
    with torch.no_grad():
        weight = next(model.encoders.parameters())
        weight[(0,) * weight.ndim] += 1e-3
    keys.add(features_key(model, manifest, sampling))
    assert len(keys) == 6


def test_a_run_that_cannot_be_written_can_be_scored(run, manifest):
    (run / "features").write_text("in the way")
    found = clip_features(Model.load(run), manifest, Sampling(clips=1), cache=run / "features")
    assert len(found.bank) == 24


@pytest.mark.parametrize(("reason", "kept"), [("decode_error", True), ("timeout", False)])
def test_videos_that_fail_are_reported_and_those_that_may_not_fail_again_are_tried_again(
    reason, kept, run, manifest, monkeypatch
):
    original = frozen.extract

    def failing(encoders, loader, requests, **options):
        loader.failures.add("clips/clip_0000.mp4", MediaError("clip_0000.mp4", reason, "as the test says"))
        return original(encoders, loader, [r for r in requests if "0000" not in r.ref.video_id], **options)

    monkeypatch.setattr(frozen, "extract", failing)
    result = evaluate_transfer(run, manifest_file(manifest, run.parent), "knn", clips=1)
    assert [f["reason"] for f in result["failures"]] == [reason]
    assert (result["train_videos"], result["missing"]["train"]["undecodable"]) == (17, 1)
    again = evaluate_transfer(run, run.parent / "clips.parquet", "svm", clips=1)
    assert again["features_reused"] == kept
    assert [f["reason"] for f in again["failures"]] == [reason]


def manifest_file(manifest: Manifest, folder: Path) -> Path:
    manifest.save(folder / "clips.parquet")
    return folder / "clips.parquet"


def test_features_that_are_not_finite_are_refused(run, manifest):
    model = Model.load(run)
    with torch.no_grad():
        next(model.encoders["audio"].parameters()).fill_(float("nan"))
    with pytest.raises(DataError, match="not finite"):
        clip_features(model, manifest, Sampling(clips=1), cache=run / "features")
    assert not (run / "features").exists()


def test_max_pooling_takes_the_maximum_of_the_last_map(run, manifest):
    model = Model.load(run)
    for name, x in {"video": torch.randn(2, 3, 4, 32, 32), "audio": torch.randn(2, 1, 16, 50)}.items():
        with torch.inference_mode():
            maps = model.encoders[name].feature_map(x)
            assert torch.equal(MaxPooled(model.encoders[name])(x), maps.amax(dim=tuple(range(2, maps.ndim))))
    pooled = clip_features(model, manifest, Sampling(clips=1, pooling="max")).bank.features
    plain = clip_features(model, manifest, Sampling(clips=1)).bank.features
    assert all((pooled[name] >= plain[name] - 1e-5).all() for name in plain)
    assert any((pooled[name] > plain[name] + 1e-3).any() for name in plain)


def test_max_pooling_by_parts_is_the_releases(run, manifest, collection):
    """MaxPool3d(2) on the last map, flattened (SeLaVi's retrieval), beside a loop."""
    model = Model.load(run)
    with torch.inference_mode():
        x = torch.randn(2, 3, 16, 128, 160)
        maps = model.encoders["video"].feature_map(x)
        pooled = CoarseMap(model.encoders["video"], x.shape[1:])
        found = pooled(x)
    t, h, w = (max(1, size // 2) for size in maps.shape[2:])
    steps = [min(2, size) for size in maps.shape[2:]]
    expected = torch.stack([
        maps[:, :, a * steps[0] : (a + 1) * steps[0], b * steps[1] : (b + 1) * steps[1],
             c * steps[2] : (c + 1) * steps[2]].amax((2, 3, 4))
        for a in range(t) for b in range(h) for c in range(w)
    ], dim=2).flatten(1)  # fmt: skip
    assert min(h, w) > 0 and h * w > 1
    assert torch.equal(found, expected)
    assert pooled.feature_dim == found.shape[1]
    assert min(maps.shape[2:]) > 1
    assert torch.equal(found, torch.nn.MaxPool3d(2, stride=2)(maps).flatten(1))
    of_videos = clip_features(model, manifest, Sampling(clips=1, pooling="max2")).bank.features
    assert set(of_videos) == {"video", "audio"}
    result = seehear.evaluate(run, protocol="retrieval", data=collection, clips=1, pooling="max2")
    assert result["pooling"] == "max2"


@pytest.mark.parametrize("sampling", [Sampling(clips=0), Sampling(pooling="median")])
def test_a_sampling_that_cannot_be_is_refused(sampling, run, manifest):
    with pytest.raises(UsageError):
        clip_features(Model.load(run), manifest, sampling)


def test_a_videos_feature_is_the_mean_over_its_clips():
    refs = [make_ref("a", 0, 1), make_ref("a", 1, 2), make_ref("b", 0, 1)]
    video, audio = np.array([[3.0, 4], [0, 2], [1, 0]]), np.array([[2.0], [1], [-5]])
    found = video_features(FeatureBank(refs, {"video": video, "audio": audio}, np.ones(3, dtype=bool)))
    assert found["video"]["a"].tolist() == [1.5, 3]
    assert found["audio"]["b"].tolist() == [-5]
    assert found["both"]["a"] == pytest.approx([0.3, 0.9, 1])  # each part of each clip of length 1
    assert set(video_features(FeatureBank(refs, {"video": video}, np.ones(3, dtype=bool)))) == {"video"}


def test_linear_is_what_it_was_before_it_shared_its_features(run, collection, manifest):
    """The mean over three parts of the encoders' features, classified; the bare numbers stand beside the scores."""
    result = evaluate_linear(run, collection, baselines=True)
    model, labels, splits = Model.load(run), manifest.by_id("label"), manifest.by_id("split")
    videos = usable_videos(manifest, ("video", "audio"))
    refs = clip_refs(videos, replace(model.config.cluster, clips_per_video=3))
    features = video_features(model.extract(videos, refs, cache=media_cache(model.config)))
    for modality, feature in features.items():
        train, test = (sorted(i for i in feature if splits[i] == part) for part in ("train", "test"))
        x, x_test = (np.stack([feature[i] for i in part]) for part in (train, test))
        predicted = logistic_regression(x, np.array([labels[i] for i in train]), x_test).classes["accuracy"][0, :, 0]
        expected = np.mean(predicted == np.array([labels[i] for i in test]))
        assert result["accuracy"][modality] == result["scores"][modality]["accuracy"]["value"] == expected
    assert result["untrained"].keys() == result["accuracy"].keys()
    assert result["videos_without_label"] == 0


def test_the_python_function_says_what_does_not_go_together(finished_run, collection):
    for options, words in [
        ({"protocol": "knn"}, "needs data"),
        ({"protocol": "knn", "data": collection, "k": 3}, "knn does not take k"),
        ({"data": collection}, "not scored with data"),
        ({"clips": 3}, "clustering does not take clips"),
    ]:
        with pytest.raises(UsageError, match=words):
            seehear.evaluate(finished_run, **options)


def test_a_wrong_table_is_found_out_before_any_video_is_decoded(run, collection, monkeypatch):
    monkeypatch.setattr(frozen, "extract", None)
    with pytest.raises(UsageError, match="no column 'kind'"):
        evaluate_transfer(run, collection, "svm", label_column="kind")


# ---------------------------------------------------------------- the command


def command(capsys, *arguments) -> tuple[int, str]:
    """Exit code and all that a command said."""
    code = 0
    try:
        main([str(a) for a in arguments])
    except SystemExit as end:
        code = int(end.code or 0)
    said = capsys.readouterr()
    return code, said.out + said.err


def test_the_command_prints_protocol_counts_and_intervals(run, collection, capsys):
    code, text = command(capsys, "evaluate", "retrieval", run, "--data", collection, "--clips", 2, "--baselines")
    assert code == 0
    for words in ("cosine similarity", "2 clips a video, mean pooling", "18 training videos, 6 test videos",
                  "95 % interval", "untrained", "chance", "audio R@10"):  # fmt: skip
        assert words in text
    assert "R@20" not in text  # there are 18
    code, text = command(capsys, "evaluate", "few-shot", run, "--data", collection, "--clips", 2, "--shots", "1,9",
                         "--seeds", 2)  # fmt: skip
    assert code == 0
    for words in ("both 1-NN@9", "both SVM@1", " sd ", "classes_below_9=4"):
        assert words in text


def test_the_command_prints_json_and_names_what_is_left_out(run, collection, capsys):
    rows = collection.read_text().splitlines()
    (collection.parent / "holes.csv").write_text("\n".join([*rows[:1], rows[1].replace("class_0", ""), *rows[2:]]))
    holes = collection.parent / "holes.csv"
    arguments = ("evaluate", "knn", run, "--data", holes, "--clips", 1, "--pooling", "max")
    code, text = command(capsys, *arguments, "--json")
    assert code == 0
    result = json.loads(text[text.index("{\n") :])
    assert (result["protocol"], result["pooling"], result["train_videos"]) == ("knn", "max", 17)
    assert set(result["scores"]["both"]["accuracy"]) == {"value", "low", "high"}
    assert "left out of train: 1 unlabelled" in command(capsys, *arguments)[1]
    holes.unlink()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["knn"], "--data"),
        (["svm", "--data", "{data}", "--shots", "1"], "--shots"),
        (["knn", "--data", "{data}", "--k", "3"], "--k"),
        (["few-shot", "--data", "{data}", "--shots", "1;5"], "no list of numbers"),
        (["few-shot", "--data", "{data}", "--shots", "0"], "one shot"),
        (["retrieval", "--data", "{data}", "--clips", "0"], "at least one clip"),
        (["retrieval", "--data", "{data}", "--label-column", "kind"], "besides path it has: label, split"),
    ],
)
def test_a_mistake_is_explained_and_exits_with_2(arguments, words, finished_run, collection, capsys):
    what, *options = (a.format(data=collection) for a in arguments)
    code, text = command(capsys, "evaluate", what, finished_run, *options)
    assert code == 2
    assert words in text
