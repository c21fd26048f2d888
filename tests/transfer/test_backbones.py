"""Transfer on data sets: official splits and folds with their mean, and what can be put to the test besides runs."""

from __future__ import annotations

import csv
import json
import shutil
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import seehear
from seehear import recipes
from seehear.errors import DataError, UsageError
from seehear.models import build_encoders
from seehear.pretraining.plan import make_config
from seehear.transfer import frozen
from seehear.transfer.backbones import GivenFeatures, Network, open_backbone
from seehear.transfer.frozen import evaluate_transfer
from seehear.transfer.scoring import mean_over_splits
from tests.commands import run as command
from tests.conftest import TINY_SETTINGS
from tests.corpus import make_video, tone

FOLDS = 3


@pytest.fixture
def run(finished_run, tmp_path) -> Path:
    """The finished run, without features that other tests left in it."""
    return Path(shutil.copytree(finished_run, tmp_path / "run", ignore=shutil.ignore_patterns("features")))


@pytest.fixture
def videos(collection) -> list[tuple[Path, str, int]]:
    """Path, class and fold (1 to 3, of equal parts of each class) of the 24 videos."""
    with open(collection, newline="") as file:
        rows = list(csv.DictReader(file))
    return [(collection.parent / r["path"], r["label"], 1 + i // 4 % FOLDS) for i, r in enumerate(rows)]


def table(file: Path, header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> Path:
    with open(file, "w", newline="") as opened:
        csv.writer(opened).writerows([header, *rows])
    return file


def never(*_given: object, **_named: object) -> None:
    raise AssertionError("a video was looked at")


# ---------------------------------------------------------------- folds and splits


def test_folds_are_scored_one_by_one_on_features_extracted_once(run, videos, tmp_path, monkeypatch):
    folds = table(tmp_path / "folds.csv", ("path", "label", "fold"), videos)
    extractions = []
    extract = frozen.clip_features
    monkeypatch.setattr(frozen, "clip_features", lambda *a, **k: extractions.append(1) or extract(*a, **k))
    result = evaluate_transfer(run, folds, "knn", clips=1, baselines=True)
    assert len(extractions) == 2  # trained and untrained, for all folds
    assert list(result["splits"]) == ["fold1", "fold2", "fold3"]

    with monkeypatch.context() as sealed:
        sealed.setattr("seehear.data.scanning.probe", never)  # the scan was kept too
        alone = evaluate_transfer(run, folds, "knn", clips=1, baselines=True, folds="2")
    rows = [(p, label, "test" if f == 2 else "train") for p, label, f in videos]
    plain = table(tmp_path / "plain.csv", ("path", "label", "split"), rows)
    oracle = evaluate_transfer(run, plain, "knn", clips=1, baselines=True)
    of_fold = result["splits"]["fold2"]
    for key in ("scores", "baselines", "chosen", "train_videos", "test_videos"):
        assert of_fold[key] == alone[key] == oracle[key]
    assert (alone["split"], oracle["split"]) == ("fold2", "split")
    assert "low" in of_fold["scores"]["both"]["accuracy"]

    for group in (None, "untrained", "chance"):
        means = result["scores"] if group is None else result["baselines"][group]
        for modality in ("video", "audio", "both"):
            found = [
                (r["scores"] if group is None else r["baselines"][group])[modality]["accuracy"]["value"]
                for r in result["splits"].values()
            ]
            assert means[modality]["accuracy"] == pytest.approx(
                {"value": statistics.mean(found), "sd": statistics.stdev(found)}
            )


def test_a_setting_that_a_split_lacks_has_no_mean():
    def result(**scores: float) -> dict[str, Any]:
        return {"scores": {"video": {name: {"value": v} for name, v in scores.items()}}}

    found = mean_over_splits({"a": result(one=0.2, two=0.9), "b": result(one=0.6)})
    assert found["scores"] == {"video": {"one": pytest.approx({"value": 0.4, "sd": 0.08**0.5})}}
    assert set(found) == {"scores", "splits"}


def miniature_ucf101(root: Path, videos: list[tuple[Path, str, int]]) -> Path:
    """The 24 videos as UCF101: split n tests on fold n. One video is named by the lists and is not there."""
    names = {}
    for number, (path, label, fold) in enumerate(videos):
        name = f"{label}/v_{label}_g{number:02d}_c01.mp4"
        (root / label).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / name)
        names[name] = fold
    names["class_0/v_class_0_g99_c01.mp4"] = 2
    (root / "ucfTrainTestlist").mkdir()
    for n in range(1, FOLDS + 1):
        (root / f"ucfTrainTestlist/trainlist0{n}.txt").write_text(
            "".join(f"{v} 1\n" for v, f in names.items() if f != n)
        )
        (root / f"ucfTrainTestlist/testlist0{n}.txt").write_text("".join(f"{v}\n" for v, f in names.items() if f == n))
    return root


def test_ucf101_from_its_folder_to_the_mean_of_its_splits(run, videos, tmp_path, capsys):
    data = f"ucf101:{miniature_ucf101(tmp_path / 'UCF-101', videos)}"
    code, out, err = command(capsys, "evaluate", "svm", run, "--data", data, "--clips", "1")
    assert code == 0, err
    assert "split1: 16 training videos, 8 test videos" in out
    assert "split1: left out of train: 1 not on disk" in out and "split2: left out of test: 1 not on disk" in out
    head, line = next(
        (a, b) for a, b in zip(out.splitlines(), out.splitlines()[1:], strict=False) if a.split()[:1] == ["mean"]
    )
    assert head.split() == ["mean", "sd", "split1", "split2", "split3"]
    values = [float(x) for x in line.split()[2:]]
    assert values[0] == pytest.approx(statistics.mean(values[2:]), abs=1e-3)
    assert values[1] == pytest.approx(statistics.stdev(values[2:]), abs=2e-3)
    assert not any(row.startswith(("audio ", "both ")) for row in out.splitlines())  # its videos are often silent

    code, out, _ = command(capsys, "evaluate", "svm", run, "--data", data, "--clips", "1", "--split", "2", "--json")
    result = json.loads(out)
    assert code == 0 and result["split"] == "split2" and result["features_reused"]
    assert set(result["scores"]) == {"video"} and result["data_set"] == "ucf101"
    assert result["scores"]["video"]["accuracy"]["value"] == pytest.approx(values[3], abs=1e-3)
    assert result["missing"]["test"]["not_on_disk"] == 1


def test_sound_alone(run, tmp_path, capsys):
    for number in range(12):
        place = tmp_path / "sounds" / ("test" if number > 7 else "train") / f"class_{number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        wave = tone(1.5, 8000, hz=(300, 2000)[number % 2], level=0.1 + 0.02 * number)
        make_video(place / f"{number}.wav", wave=wave, rate=8000, has_video=False)
    data = f"folder:{tmp_path / 'sounds'}"
    result = evaluate_transfer(run, data, "knn", clips=1, modality="audio")
    assert set(result["scores"]) == {"audio"} and (result["train_videos"], result["test_videos"]) == (8, 4)
    code, _, err = command(capsys, "evaluate", "knn", run, "--data", data)
    assert code == 3 and "no_video" in err and "--modality audio" in err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--split", "1", "--folds", "1"), "same choice"),
        (("--folds", "all"), "no column 'fold'"),
        (("--split", "2"), "it has: split"),
        (("--column", "mine"), "--column is of a file of features"),
    ],
)
def test_choices_that_there_are_not(options, said, finished_run, collection, capsys):
    code, _, err = command(capsys, "evaluate", "knn", finished_run, "--data", collection, *options)
    assert code == 2 and said in err


def test_options_of_the_protocols_are_not_of_clustering(finished_run, capsys):
    code, _, err = command(capsys, "evaluate", "clustering", finished_run, "--folds", "all")
    assert code == 2 and "--folds" in err


def test_folds_are_asked_of_a_data_set_that_has_none(finished_run, videos, tmp_path):
    data = f"ucf101:{miniature_ucf101(tmp_path / 'ucf', videos)}"
    with pytest.raises(UsageError, match="has no folds"):
        evaluate_transfer(finished_run, data, "knn", folds="all")


def test_several_classes_a_video_are_refused_before_any_work(finished_run, tmp_path):
    (tmp_path / "class_labels_indices.csv").write_text("index,mid,display_name\n0,/m/1,Dog\n1,/m/2,Cat\n")
    for name, video in (("balanced_train", "aaaaaaaaaaa"), ("eval", "bbbbbbbbbbb")):
        (tmp_path / f"{name}_segments.csv").write_text(f'{video}, 0.000, 10.000, "/m/1,/m/2"\n')
        (tmp_path / f"{video}.mp4").touch()
    with pytest.raises(UsageError, match="have several"):
        evaluate_transfer(finished_run, f"audioset:{tmp_path}", "knn")


# ---------------------------------------------------------------- features of anyone's model


def one_hot(videos: list[tuple[Path, str, int]], noise: float = 0.05) -> np.ndarray:
    """Features (24, 4) by which the classes are told apart without fail."""
    rng = np.random.default_rng(0)
    return np.eye(4)[[int(label[-1]) for _, label, _ in videos]] + noise * rng.normal(size=(len(videos), 4))


def test_given_features_are_scored_without_looking_at_a_video(videos, collection, tmp_path, monkeypatch):
    """Rows are known by file names without their ending; two clips of a video are averaged; two videos lack one."""
    monkeypatch.setattr("seehear.data.scanning.probe", never)
    monkeypatch.setattr("seehear.data.loader.ClipLoader.__init__", never)
    x, names = one_hot(videos), [path.stem for path, *_ in videos]
    far = 100 * np.ones_like(x)
    clips = np.concatenate([x + far, x - far])[:, None].repeat(1, axis=1).reshape(-1, 4)  # of no use unless averaged
    kept = [i for i in range(48) if i % 24 not in (0, 23)]
    file = tmp_path / "mine.npz"
    np.savez(file, video=np.array(names * 2)[kept], vectors=clips[kept].astype(np.float32))
    result = evaluate_transfer(file, collection, "knn", baselines=True)
    assert result["scores"]["vectors"]["accuracy"]["value"] == 1.0
    assert set(result["baselines"]) == {"chance"} and result["features"] == str(file)
    assert [result["missing"][part]["without_features"] for part in ("train", "test")] == [1, 1]
    assert result["train_videos"] + result["test_videos"] == 22


def test_what_embed_writes_is_scored_by_sight_by_sound_and_by_both(videos, tmp_path):
    x = one_hot(videos)
    ids = pa.array([str(path) for path, *_ in videos])
    noise = np.random.default_rng(1).normal(size=(24, 6)).astype(np.float32)
    columns = {"video_id": ids, "video": pa.array(list(x.astype(np.float32))), "audio": pa.array(list(noise))}
    pq.write_table(pa.table(columns), tmp_path / "embedded.parquet")
    folds = table(tmp_path / "folds.csv", ("path", "label", "fold"), videos)
    scores = evaluate_transfer(tmp_path / "embedded.parquet", folds, "knn")["scores"]
    assert set(scores) == {"video", "audio", "both"}
    assert scores["video"]["accuracy"] == {"value": 1.0, "sd": 0.0} and scores["audio"]["accuracy"]["value"] < 0.7
    joined = evaluate_transfer(tmp_path / "embedded.parquet", folds, "knn", column="video+audio")["scores"]
    assert joined == {"video+audio": scores["both"]}


def test_features_of_a_run_score_as_the_run_itself(run, collection, tmp_path):
    """The clip in the middle of each video, once by `seehear embed` and once within the evaluation."""
    pq.write_table(seehear.load(run).embed(collection), tmp_path / "own.parquet")
    given = evaluate_transfer(tmp_path / "own.parquet", collection, "retrieval")["scores"]
    assert given == evaluate_transfer(run, collection, "retrieval", clips=1)["scores"]


def savez(**arrays: Any) -> Callable[[Path], None]:
    return lambda file: np.savez(file, **arrays)


FAULTS: Mapping[str, tuple[Callable[[Path], object], str]] = {
    "nothing": (lambda file: None, "there is no file"),
    "no archive": (lambda file: file.write_bytes(b"PK\x03\x04 and then nothing"), "cannot be read"),
    "pickled": (savez(path=np.array(["a"], object), x=np.ones((1, 2))), "pickled"),
    "no ids": (savez(x=np.ones((2, 2))), "name no videos"),
    "two features": (savez(path=np.array(["a"]), x=np.ones((1, 2)), y=np.ones((1, 2))), "several features: x, y"),
    "not finite": (savez(path=np.array(["a"]), x=np.full((1, 2), np.nan)), "NaN"),
    "unequal": (savez(path=np.array(["a", "b"]), x=np.ones((3, 2))), "rows"),
    "of other videos": (savez(path=np.array(["z.mp4"]), x=np.ones((1, 2))), "no row is of a video"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_files_of_features_that_cannot_be_used(fault, collection, tmp_path):
    make, said = FAULTS[fault]
    make(tmp_path / "x.npz")
    with pytest.raises((DataError, UsageError), match=said) as error:
        evaluate_transfer(tmp_path / "x.npz", collection, "knn")
    assert str(tmp_path / "x.npz") in error.value.message


def test_options_of_encoders_are_refused(collection, tmp_path):
    savez(path=np.array(["clip_0000"]), x=np.ones((1, 2)))(tmp_path / "x.npz")
    with pytest.raises(UsageError, match="no encoder looks"):
        evaluate_transfer(tmp_path / "x.npz", collection, "knn", clips=3)


# ---------------------------------------------------------------- untrained networks


def test_an_untrained_network_of_a_recipe(collection, monkeypatch):
    config = make_config(settings=[*TINY_SETTINGS, "seed=5"])
    monkeypatch.setitem(recipes.RECIPES, "tiny", lambda: config)
    backbone = open_backbone("untrained:tiny")
    assert isinstance(backbone, Network) and not backbone.trained and backbone.cache is None
    drawn = build_encoders(config.model, {"video": "video", "audio": "audio"}, 5)
    for name, encoder in backbone.model.encoders.items():
        assert all(torch.equal(a, b) for a, b in zip(encoder.state_dict().values(), drawn[name].state_dict().values(),
                                                     strict=True))  # fmt: skip
    seen = []
    extract = frozen.clip_features

    def recorded(model, *given, **named):
        seen.append(model.statistics)
        return extract(model, *given, **named)

    monkeypatch.setattr(frozen, "clip_features", recorded)
    result = evaluate_transfer("untrained:tiny", collection, "knn", clips=1, baselines=True)
    assert set(result["baselines"]) == {"chance"} and set(result["scores"]) == {"video", "audio", "both"}
    (measured,) = seen  # a run on these videos would normalise by the same
    assert measured.spectrogram_mean < -1 and measured.spectrogram_std != 1
    with pytest.raises(UsageError, match="recipe"):
        open_backbone("untrained:none")


def test_a_run_is_opened_as_ever(finished_run):
    backbone = open_backbone(finished_run)
    assert isinstance(backbone, Network) and backbone.trained and backbone.cache == finished_run / "features"
    assert not isinstance(backbone, GivenFeatures)
    assert list(backbone.restricted(["audio"]).encoders) == ["audio"]
    with pytest.raises(UsageError, match="--modality"):
        Network(backbone.restricted(["audio"])).restricted(["video"])
