"""Collections from which nothing can be learnt, through every command: a result, or an error that says why.

All clips alike, silence, one video or two, one class, fewer videos than clusters, all videos held out.
"""

from __future__ import annotations

import csv
import json
import math
import re

import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import seehear
from seehear.data.manifest import Manifest
from seehear.errors import DataError, TrainingError
from seehear.features.bank import FeatureBank
from seehear.features.model import Model
from seehear.types import ClipRef
from tests.commands import run as command
from tests.conftest import TINY_SETTINGS
from tests.corpus import make_collection, make_video

QUICK = (*TINY_SETTINGS, "rounds=1", "optim.epochs=1", "optim.warmup_epochs=0", "selavi.heads=2")
METHODS = ("xdc", "gdt", "selavi")
# Without it these methods run away where all clips are alike, and say so: see below.
CLIPPED = "optim.clip_gradient_norm=5"
PROTOCOLS = ("linear", "retrieval", "knn", "few-shot", "svm", "audio-linear")


def make_alike(folder, count=14, wave=None):
    """Black videos with one tone, whose files differ in their keyframes alone; the path of their table."""
    (folder / "clips").mkdir(parents=True)
    rows = []
    for i in range(count):
        path = f"clips/black_{i:02d}.mp4"
        make_video(folder / path, frames=[np.zeros((48, 64, 3), np.uint8)] * 38, gop=5 + i, wave=wave)
        rows.append((path, f"class_{i % 2}", "test" if i >= count - 4 else "train"))
    with open(folder / "labels.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "label", "split"), *rows])
    return folder / "labels.csv"


@pytest.fixture(scope="session")
def collections(tmp_path_factory):
    """The tables of the collections, by name."""
    root = tmp_path_factory.mktemp("degenerate")
    silence = np.zeros((1, 60000), np.float32)
    return {
        "alike": make_alike(root / "alike"),
        "silent": make_alike(root / "silent", 6, silence),
        "one video": make_collection(root / "one", n=1, classes=1),
        "two videos": make_collection(root / "two", n=2, classes=2, split=0.5),
        "one class": make_collection(root / "class", n=10, classes=1),
    }


@pytest.fixture(scope="session")
def manifest_of(collections, tmp_path_factory):
    """Files of their manifests, by name; commands that take one need not start processes to scan."""
    root = tmp_path_factory.mktemp("degenerate manifests")
    files = {name: root / f"{name}.parquet" for name in collections if name != "silent"}
    for name, file in files.items():
        seehear.scan(collections[name], out=file, workers=0)
    return files


@pytest.fixture(scope="session")
def run_of(manifest_of, tmp_path_factory):
    """Finished runs by collection and method, each made when it is first asked for."""
    root = tmp_path_factory.mktemp("degenerate runs")
    enough = {"one video": ("cluster.clips_per_video=4", "cluster.k=2"), "two videos": ("cluster.k=2",)}
    made = {}

    def make(name, method):
        if (name, method) not in made:
            out = root / f"{name} {method}"
            settings = [*QUICK, CLIPPED, *enough.get(name, ())]
            seehear.pretrain(manifest_of[name], out, method=method, settings=settings, quiet=True)
            made[name, method] = out
        return made[name, method]

    return make


def check(capsys, *arguments):
    """Run a command that must end with a result free of NaN, or with an error and a remedy; the exit code."""
    code, out, err = command(capsys, *arguments)
    assert code in (0, 2, 3, 5), err
    assert "Traceback" not in err
    assert not re.search(r"\b(nan|inf|infinity)\b", out, re.IGNORECASE), out
    if code:
        assert "seehear: " in err and "\n  -> " in err
    return code


def assert_finite(path):
    """No number of a table is NaN or infinite."""
    table = pq.read_table(path) if path.suffix == ".parquet" else pyarrow.csv.read_csv(path)
    for name, column in zip(table.column_names, table.columns, strict=True):
        values = [v for row in column.to_pylist() for v in (row if isinstance(row, list) else [row])]
        assert all(not isinstance(v, float) or math.isfinite(v) for v in values), name


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["alike", "one video", "two videos", "one class"])
def test_pretraining_and_labels(name, method, manifest_of, run_of, capsys, tmp_path):
    run, videos = run_of(name, method), manifest_of[name]
    assert check(capsys, "label", run, "--out", tmp_path / "labels.csv") == 0
    assert check(capsys, "label", run, videos, "--workers", "0", "--out", tmp_path / "new.csv") == 0
    assert check(capsys, "embed", run, "--out", tmp_path / "features.parquet") == 0
    for path in (*tmp_path.iterdir(), run / "labels.parquet", run / "features.parquet"):
        assert_finite(path)
    assert "NaN" not in (run / "metrics.jsonl").read_text()


@pytest.mark.parametrize("algorithm", ["kmeans", "sinkhorn"])
@pytest.mark.parametrize("name", ["alike", "one video", "two videos", "one class"])
def test_clusters_of_features(name, algorithm, collections, run_of, capsys, tmp_path):
    features, labels = run_of(name, "xdc") / "features.parquet", collections[name]
    given = ("cluster", "--features", features, "--algorithm", algorithm)
    for options in (("-k", "2"), ("-k", "3"), ("-k", "2", "--pca", "1", "--whiten"), ("-k", "2", "--no-l2")):
        code = check(capsys, *given, *options, "--out", tmp_path / "labels.csv", "--labels", labels)
        assert code == (3 if (name, options) == ("two videos", ("-k", "3")) else 0)
        assert_finite(tmp_path / "labels.csv")
    if name in ("alike", "two videos"):  # the others are no special case here
        code = check(capsys, *given, "--choose-k", "2-3", "--plot", tmp_path / "plot.svg", "--json")
        assert code == (3 if name == "two videos" else 0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["alike", "one video", "two videos", "one class"])
def test_evaluation(name, method, collections, manifest_of, run_of, capsys):
    run, labels = run_of(name, method), collections[name]
    assert check(capsys, "evaluate", "clustering", run, "--labels", labels, "--purity") == 0
    assert check(capsys, "evaluate", "clustering", run, "--labels", labels, "--k", "2", "--json") == 0
    for protocol in PROTOCOLS if method == "xdc" else ("linear", "retrieval"):
        assert check(capsys, "evaluate", protocol, run, "--data", manifest_of[name]) == (0 if name == "alike" else 3)
    assert check(capsys, "evaluate", "table", run) == 0


@pytest.mark.parametrize("name", ["alike", "one class"])
def test_finetuning(name, manifest_of, run_of, capsys, tmp_path):
    run, data = run_of(name, "xdc"), manifest_of[name]
    settings = ("--set", "optim.base_lr=0.01", "--set", "optim.epochs=1", "--set", "data.workers=0")
    code = check(capsys, "finetune", run, "--data", data, "--out", tmp_path / "run", "--quiet", *settings)
    assert code == (0 if name == "alike" else 3)
    if code == 0:
        out = tmp_path / "classes.csv"
        assert check(capsys, "predict", tmp_path / "run", data, "--workers", "0", "--out", out) == 0
        assert_finite(out)
        assert_finite(tmp_path / "run" / "predictions.parquet")


@pytest.mark.parametrize("name", ["alike", "two videos"])
def test_localization(name, collections, run_of, capsys, tmp_path):
    clips = sorted((collections[name].parent / "clips").iterdir())
    span = {"segment": [0.5, 1.5], "label": "one"}
    database = {
        path.stem: {"subset": "validation" if i % 2 else "training", "duration": 2.5, "annotations": [span]}
        for i, path in enumerate(clips)
    }
    (tmp_path / "a.json").write_text(json.dumps({"database": database}))
    out = tmp_path / "localizer"
    given = ("--data", tmp_path / "a.json", "--videos", clips[0].parent, "--epochs", "1")
    assert check(capsys, "localize", run_of(name, "xdc"), *given, "--out", out) == 0
    assert check(capsys, "detect", out, clips[0].parent, "--out", tmp_path / "found.csv") == 0
    assert_finite(tmp_path / "found.csv")
    json.loads((out / "scores.json").read_text(), parse_constant=pytest.fail)


@pytest.mark.parametrize("method", METHODS)
def test_too_few_videos_for_what_is_asked(method, collections, capsys, tmp_path):
    settings = [part for setting in QUICK for part in ("--set", setting)]
    given = ("--out", tmp_path / "run", "--method", method, "--quiet", *settings)
    assert check(capsys, "pretrain", collections["two videos"], *given) == 2  # fewer spans than clusters
    assert check(capsys, "pretrain", collections["silent"], *given) == 3  # no usable video
    assert not (tmp_path / "run").exists()
    assert check(capsys, "pretrain", collections["one class"], *given, "--set", "data.validation_share=0.9999") == 3


def test_a_constant_spectrogram(collections, capsys, tmp_path):
    # A manifest that asked for no sound holds silent videos too: their spectrograms have no deviation at all.
    seehear.scan(collections["silent"], out=tmp_path / "m.parquet", modality="video", workers=0)
    run = tmp_path / "run"
    seehear.pretrain(tmp_path / "m.parquet", run, settings=[*QUICK, "cluster.k=2"], quiet=True)
    assert json.loads((run / "statistics.json").read_text())["spectrogram_std"] == 1
    assert_finite(run / "labels.parquet")
    for protocol in ("linear", "retrieval"):
        assert check(capsys, "evaluate", protocol, run, "--data", tmp_path / "m.parquet") == 0
    code, _, err = command(
        capsys, "finetune", run, "--data", collections["silent"], "--out", tmp_path / "none", "--quiet"
    )
    assert code == 3
    assert "not one video with split train can be used: 2 unusable" in err


@pytest.mark.parametrize("method", ["gdt", "selavi"])
def test_weights_that_run_away_are_told_as_that(method, manifest_of, tmp_path):
    # Batch normalisation of clips that are all alike divides by next to nothing: gradients are finite but huge.
    run = tmp_path / "run"
    with pytest.raises(TrainingError, match="the training has diverged: features are not finite"):
        seehear.pretrain(manifest_of["alike"], run, method=method, settings=QUICK, quiet=True)
    for line in (run / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)


def test_a_model_whose_features_are_not_finite_embeds_nothing(manifest_of, run_of):
    model = Model.load(run_of("alike", "xdc"))
    next(model.encoders["video"].parameters()).data.fill_(float("nan"))
    with pytest.raises(DataError, match="not finite"):
        model.embed(Manifest.load(manifest_of["alike"]))


def test_clips_that_are_not_finite_are_counted_by_encoder():
    x = np.zeros((4, 3), np.float32)
    x[0, 1], x[2, 2], x[3, 0] = np.nan, np.inf, 1e30
    refs = [ClipRef(str(i), str(i), 0.0, 1.0) for i in range(4)]
    bank = FeatureBank(refs, {"video": x, "audio": np.ones((4, 3), np.float32)}, np.ones(4, bool))
    assert bank.not_finite() == {"video": 3}
