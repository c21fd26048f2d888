"""Localisation: targets, the classifier, what is learnt from synthetic snippets, and the whole way from files."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import seehear
from seehear.data.clips import Video, centred_requests, make_ref
from seehear.errors import DataError, RunError, UsageError
from seehear.features.bank import FeatureBank
from seehear.localization import annotations as annotations_module
from seehear.localization import run as task
from seehear.localization.annotations import Segment
from seehear.localization.localizer import (
    Localizer,
    Snippets,
    candidates,
    contrast,
    fit_classifier,
    make_targets,
    snippets_of,
    span_means,
    window_starts,
)
from seehear.localization.metrics import Detection, mean_average_precision
from seehear.localization.pictures import best_apart, timelines_svg
from seehear.localization.run import detect, find_videos, localize
from seehear.localization.settings import LocalizerSettings, localizer_settings
from seehear.localization.training import SavedTraining, fit_localizer
from seehear.transfer.evaluations import load_all, save
from tests.commands import run
from tests.corpus import _class_frames, _class_wave, make_video

SMALL = LocalizerSettings(
    stride_seconds=0.5, width=32, points=4, epochs=12, learning_rate=0.003, batch_size=2, held_out=0
)


def planted(count: int, seed: int, length: int = 40, noise: float = 0.3) -> tuple[dict, dict]:
    """Snippets of `count` videos with three segments each of classes a and b, which their features show."""
    rng = np.random.default_rng(seed)
    videos, truth = {}, {}
    for v in range(count):
        x = rng.normal(0, noise, (length, 8)).astype(np.float32)
        segments = []
        for part in range(3):
            start = 13 * part + int(rng.integers(1, 5))
            end = start + int(rng.integers(3, 8))
            label = "ab"[rng.integers(2)]
            x[start:end, "ab".index(label)] += 2
            segments.append(Segment(start * 0.5 + 1, end * 0.5 + 1, label))
        videos[f"v{v:02d}"], truth[f"v{v:02d}"] = Snippets(x, 1.0, 0.5), segments
    return videos, truth


# ---------------------------------------------------------------- parts


def test_targets_are_those_of_a_loop():
    spans, length, durations, valid = np.array([[1.2, 4.0], [6.5, 8.0]]), 10, 4, 9
    found = make_targets(spans, length, durations, valid)
    for d in range(durations):
        for t in range(length):
            a, b = t, t + d + 1
            overlaps = []
            for s, e in spans:
                shared = max(0.0, min(b, e) - max(a, s))
                overlaps.append(shared / ((b - a) + (e - s) - shared))
            assert found.overlap[d, t] == pytest.approx(max(overlaps) if b <= valid else -1.0)
    for t in range(length):
        for boundary, near in ((0, found.start), (1, found.end)):
            shares = [max(0.0, min(t + 1, p + 1.5) - max(t, p - 1.5)) for p in spans[:, boundary]]
            assert near[t] == pytest.approx(max(shares))
    assert (make_targets(np.zeros((0, 2)), 5, 2, 5).overlap[0] == 0).all()


@pytest.mark.parametrize(("count", "length"), [(5, 8), (8, 8), (9, 8), (30, 8), (31, 1), (257, 256)])
def test_windows_cover_a_video_and_end_with_it(count, length):
    starts = window_starts(count, length)
    seen = {s for start in starts for s in range(start, min(start + length, count))}
    assert seen == set(range(count))
    assert starts == sorted(set(starts))
    assert all(start + length <= count for start in starts) or starts == [0]
    if length > 1:  # a candidate of half a window's length is in one of them as a whole
        half = length // 2
        assert all(any(a <= t and t + half <= a + length for a in starts) for t in range(count - half + 1))


def test_snippets_are_in_order_and_gaps_are_filled():
    spans = [(1.0, 1.5), (2.5, 3.0), (1.5, 2.0), (3.0, 3.5)]  # the third of five is missing
    refs = [make_ref("a", *span) for span in spans] + [make_ref("b", 0.0, 0.4)]
    bank = FeatureBank(refs, {"video": np.arange(10, dtype=np.float32).reshape(5, 2)}, np.ones(5, dtype=bool))
    found = snippets_of(bank, "video")
    assert found["a"].features[:, 0].tolist() == [0, 4, 4, 2, 6]
    assert (found["a"].start_seconds, found["a"].step_seconds) == (1.0, 0.5)
    assert found["a"].spans([Segment(1.5, 3.0, "x")]).tolist() == [[1.0, 4.0]]
    assert found["a"].seconds(np.array([[1.0, 4.0]])).tolist() == [[1.5, 3.0]]
    assert len(found["b"]) == 1


def test_frames_and_sound_of_a_snippet_have_the_same_middle():
    from seehear.config import ClipConfig

    clip = ClipConfig(frames=8, frame_rate_hz=16.0, stride=1, audio_seconds=2.0)
    videos = {"a": Video("a", "a.mp4", "f", 0.0, 10.0, 64, 48)}
    refs = [make_ref("a", start, start + 1.0) for start in (0.0, 4.0, 9.0)]
    first, middle, last = centred_requests(refs, videos, clip)
    assert (middle.start_seconds + 0.25, middle.audio_start_seconds + 1.0) == (4.5, 4.5)
    assert (first.start_seconds, first.audio_start_seconds) == (0.25, 0.0)
    assert (last.start_seconds, last.audio_start_seconds) == (9.25, 8.0)
    assert middle.seed is None


def test_candidates():
    assert candidates(3, 2).tolist() == [[[0, 1], [1, 2], [2, 3]], [[0, 2], [1, 3], [2, 4]]]


def test_means_and_contrast():
    values = np.array([[0.0, 1.0], [2.0, 1.0], [4.0, 0.0], [6.0, 0.0]])
    found = span_means(values, np.array([[0, 2], [1, 4], [2, 9], [3, 3]]))
    assert found.tolist() == [[1.0, 1.0], [4.0, 1 / 3], [5.0, 0.0], [0.0, 0.0]]
    inside = np.array([0.1, 0.1, 0.9, 0.7, 0.3, 0.1])
    probabilities = np.stack([1 - inside, inside], axis=1)
    # [2, 4] has 0.8 inside, and 0.1 and 0.3 beside it; [0, 2] reaches [2] on one side only.
    assert contrast(probabilities, np.array([[2.0, 4.0], [0.0, 2.0]])) == pytest.approx([0.6, 0.0])


class TestClassifier:
    def test_it_knows_the_classes_and_the_background(self):
        videos, truth = planted(6, seed=0)
        spans = [videos[n].spans(truth[n]) for n in videos]
        labels = [[s.label for s in truth[n]] for n in videos]
        found, chosen = fit_classifier([v.features for v in videos.values()], spans, labels, seed=0)
        assert found.labels == ["a", "b"]
        assert chosen["folds"] == 5
        new, answers = planted(2, seed=1)
        right = []
        for name, snippets in new.items():
            expected = np.zeros(len(snippets), dtype=int)
            for s, (start, end) in zip(answers[name], snippets.spans(answers[name]).astype(int), strict=True):
                expected[start:end] = 1 + "ab".index(s.label)
            probabilities = found.probabilities(snippets.features)
            assert probabilities.sum(axis=1) == pytest.approx(1)
            right.append((probabilities.argmax(axis=1) == expected).mean())
        assert np.mean(right) > 0.95

    def test_one_class_is_enough_and_two_in_one_place_share(self):
        x = [np.repeat([[0.0], [0.1], [9.0], [9.1]], 10, axis=0)] * 2
        spans = [np.array([[20.0, 40.0]])] * 2
        found, _ = fit_classifier(x, spans, [["a"]] * 2, seed=0)
        assert found.probabilities(np.array([[0.0], [9.0]])).argmax(axis=1).tolist() == [0, 1]
        both, _ = fit_classifier(x, [np.array([[20.0, 40.0], [20.0, 40.0]])] * 2, [["a", "b"]] * 2, seed=0)
        a, b = both.probabilities(np.array([[9.0]]))[0, 1:]
        assert a == pytest.approx(b)
        assert a > 0.35

    def test_without_background_or_segments_there_is_nothing_to_learn(self):
        with pytest.raises(DataError, match="same"):
            fit_classifier([np.zeros((3, 2))], [np.zeros((0, 2))], [[]], seed=0)


def test_settings():
    changed = localizer_settings(["epochs=3", "stride_seconds=1", "longest=8", "positive_tiou=0.6"])
    assert (changed.epochs, changed.stride_seconds, changed.longest, changed.positive_tiou) == (3, 1, 8, 0.6)
    for wrong in ("epoch=3", "epochs=x", "epochs=2.5", "epochs=0", "held_out=1", "epochs", "longest=0", "seed=true"):
        with pytest.raises(UsageError):
            localizer_settings([wrong])


def test_every_setting_is_described():
    page = (Path(__file__).parents[2] / "docs" / "localization.md").read_text()
    for name, value in LocalizerSettings().__dict__.items():
        assert f"| `{name}` | {'auto' if value is None else value} |" in page


# ---------------------------------------------------------------- learning


@pytest.fixture(scope="module")
def learnt():
    videos, truth = planted(8, seed=0)
    return fit_localizer(videos, truth, SMALL), videos, truth


class TestLearning:
    def test_planted_segments_are_found_in_new_videos(self, learnt):
        new, truth = planted(6, seed=5)
        found = {n: learnt[0].detect(s) for n, s in new.items()}
        scores = mean_average_precision(found, truth)
        assert scores["mAP@0.5"] > 0.9
        assert scores["mAP@0.3:0.7"] > 0.85
        best = [d.score for d in found["v00"]]
        assert best == sorted(best, reverse=True)
        assert all(1.0 <= d.start_seconds < d.end_seconds <= 21.0 for d in found["v00"])

    def test_noise_is_not_found(self, learnt):
        new, truth = planted(6, seed=5)
        rng = np.random.default_rng(0)
        noise = {n: Snippets(rng.normal(size=s.features.shape).astype(np.float32), 1.0, 0.5) for n, s in new.items()}
        scores = mean_average_precision({n: learnt[0].detect(s) for n, s in noise.items()}, truth)
        assert scores["mAP@0.5"] < 0.4
        assert scores["mAP@0.7"] < 0.2

    def test_segments_of_other_videos_teach_nothing(self):
        videos, truth = planted(6, seed=0)
        rng = np.random.default_rng(1)
        elsewhere = {}
        for n in truth:
            starts = rng.uniform(1, 17, 3)
            elsewhere[n] = [Segment(s, s + 2.5, "ab"[rng.integers(2)]) for s in starts]
        new, answers = planted(6, seed=5)
        localizer = fit_localizer(videos, elsewhere, SMALL)
        scores = mean_average_precision({n: localizer.detect(s) for n, s in new.items()}, answers)
        assert scores["mAP@0.5"] < 0.3

    def test_the_network_matters(self, learnt):
        """Detections of the same localiser with an untrained network are worse."""
        new, truth = planted(6, seed=5)
        blank = fit_localizer(*learnt[1:], replace(SMALL, epochs=1, learning_rate=1e-9))
        assert mean_average_precision({n: blank.detect(s) for n, s in new.items()}, truth)["mAP@0.5"] < 0.5

    def test_sliding_windows(self, learnt):
        new, truth = planted(6, seed=5)
        scores = mean_average_precision({n: learnt[0].slide(s) for n, s in new.items()}, truth)
        assert scores["mAP@0.5"] > 0.5

    def test_a_long_video_is_seen_in_windows(self):
        videos, truth = planted(6, seed=0)
        settings = replace(SMALL, window=20, epochs=8)
        localizer = fit_localizer(videos, truth, settings)
        assert (localizer.length, localizer.durations) == (20, 9)  # segments of 7 snippets at most
        new, answers = planted(4, seed=5)
        found = {n: localizer.detect(s) for n, s in new.items()}
        assert mean_average_precision(found, answers)["mAP@0.5"] > 0.7
        short = localizer.detect(Snippets(next(iter(new.values())).features[:6], 0.0, 0.5))
        assert short
        assert all(d.end_seconds <= 3.0 for d in short)

    def test_it_is_repeatable_and_the_seed_matters(self, learnt):
        videos, truth = planted(4, seed=0)
        short = replace(SMALL, epochs=2)
        first, again = (fit_localizer(videos, truth, short).detect(videos["v00"]) for _ in range(2))
        other = fit_localizer(videos, truth, replace(short, seed=1)).detect(videos["v00"])
        assert first == again
        assert first != other

    def test_epochs_are_chosen_on_held_out_videos(self):
        videos, truth = planted(6, seed=0)
        seen = []
        settings = replace(SMALL, epochs=4, held_out=0.3)
        localizer = fit_localizer(videos, truth, settings, progress=lambda done, total: seen.append((done, total)))
        history = localizer.chosen["held_out"]
        assert [point["epochs"] for point in history] == [1, 2, 3, 4]
        assert localizer.chosen["held_out_videos"] == 2
        best = max(point["mAP@0.3:0.7"] for point in history)
        assert localizer.chosen["epochs"] == min(p["epochs"] for p in history if p["mAP@0.3:0.7"] == best)
        assert seen[-1] == (4 + localizer.chosen["epochs"],) * 2

    @pytest.mark.parametrize("after", [1, 3, 5])
    def test_a_training_that_was_stopped_goes_on_to_the_same_bits(self, after, tmp_path, monkeypatch):
        videos, truth = planted(6, seed=0)
        settings = replace(SMALL, epochs=4, held_out=0.3)
        whole = fit_localizer(videos, truth, settings)
        save, saved = SavedTraining.save, []

        def stopped(self, *state):
            save(self, *state)
            saved.append(self.path.name)
            if len(saved) == after:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(SavedTraining, "save", stopped)
            with pytest.raises(KeyboardInterrupt):
                fit_localizer(videos, truth, settings, keep=tmp_path)
        epochs = []
        again = fit_localizer(videos, truth, settings, keep=tmp_path, progress=lambda done, _: epochs.append(done))
        assert epochs[0] == after + 1
        assert again.chosen == whole.chosen
        for name, weights in whole.network.state_dict().items():
            assert torch.equal(weights, again.network.state_dict()[name])
        # Other things are learnt anew, and so is what a full disk left half written.
        other = replace(settings, seed=1)
        assert fit_localizer(videos, truth, other, keep=tmp_path).chosen == fit_localizer(videos, truth, other).chosen
        (tmp_path / "trial.pt").write_bytes(b"PK")
        assert fit_localizer(videos, truth, settings, keep=tmp_path).chosen == whole.chosen

    def test_a_saved_localiser_detects_the_same(self, learnt, tmp_path):
        localizer, videos, _ = learnt
        localizer.save(tmp_path)
        again = Localizer.load(tmp_path)
        assert again.detect(videos["v00"]) == localizer.detect(videos["v00"])
        assert (again.settings, again.chosen) == (localizer.settings, localizer.chosen)
        (tmp_path / "localizer.safetensors").write_bytes(b"no")
        with pytest.raises(RunError, match="damaged"):
            Localizer.load(tmp_path)
        (tmp_path / "localizer.json").unlink()
        with pytest.raises(RunError, match="holds no localiser"):
            Localizer.load(tmp_path)

    def test_videos_without_segments_are_refused(self):
        videos, _ = planted(2, seed=0)
        with pytest.raises(DataError, match="no segments"):
            fit_localizer(videos, {n: [] for n in videos}, SMALL)


# ---------------------------------------------------------------- pictures


def test_the_picture_shows_the_truth_and_the_best_detections_apart():
    found = [
        Detection(1.0, 3.0, "a", 0.9), Detection(2.0, 2.2, "a", 0.8), Detection(1.0, 3.0, "b<", 0.5),
        Detection(6.0, 8.0, "b<", 0.3), Detection(7.7, 9.7, "a", 0.2),
    ]  # fmt: skip
    assert best_apart(found) == [found[0], found[3], found[4]]
    assert best_apart(found, most=2) == [found[0], found[3]]
    picture = timelines_svg({"v": ([Segment(1.0, 3.2, "a")], found)}, {"v": 10.0})
    assert picture.count("<title>") == 4
    assert "b&lt;: 6.0-8.0 s, score 0.300" in picture


# ---------------------------------------------------------------- from files


@pytest.fixture(scope="module")
def untrimmed(tmp_path_factory) -> Path:
    """Six videos of 8 s: dark and hushed, but for a stretch of a class; the JSON with their segments."""
    folder = tmp_path_factory.mktemp("untrimmed")
    (folder / "videos").mkdir()
    rng = np.random.default_rng(0)
    database = {}
    for v in range(6):
        name, kind, start = f"{'test' if v >= 4 else 'val'}_{v}", v % 2, 1.0 + v % 3
        end = start + 3.0
        count, rate = 8 * 8, 8000
        frames = [np.full((48, 64, 3), 20, np.uint8)] * count
        first, last = int(start * 8), int(end * 8)
        frames = frames[:first] + _class_frames(kind, 2, last - first, (64, 48), rng) + frames[last:]
        wave = rng.normal(0, 0.01, (1, 8 * rate)).astype(np.float32)
        wave[:, int(start * rate) : int(end * rate)] += _class_wave(kind, 2, 3.0, rate, rng)
        path = folder / "videos" / (f"v_{name}.mp4" if v == 0 else f"{name}.mp4")
        make_video(path, seconds=8, fps=8, frames=frames, wave=wave, rate=rate, codec="mpeg4", gop=8)
        database[name] = {
            "subset": "test" if v >= 4 else "validation",
            "annotations": [{"segment": [start, end], "label": f"kind {kind}"}],
        }
    database["val_gone"] = {"subset": "validation", "annotations": []}
    database["val_bad"] = {"subset": "validation", "annotations": []}
    (folder / "videos" / "val_bad.mp4").write_bytes(b"this is no video\n" * 99)
    (folder / "annotations.json").write_text(json.dumps({"database": database}))
    return folder


OPTIONS = ("--set", "width=8", "--set", "points=2", "--epochs", "1")
FILES = LocalizerSettings(width=32, points=4, learning_rate=0.003, epochs=10, batch_size=1)


@pytest.fixture(scope="module")
def localised(untrimmed, finished_run, tmp_path_factory):
    out = tmp_path_factory.mktemp("localised") / "loc"
    result = localize(
        finished_run, untrimmed / "annotations.json", out, settings=FILES, baselines=True,
    )  # fmt: skip
    return result, out


class TestFiles:
    def test_the_result(self, localised):
        result, out = localised
        assert (result["train_videos"], result["test_videos"]) == (4, 2)
        assert (result["train_segments"], result["test_segments"]) == (4, 2)
        assert result["missing"]["train"] == {"no_file": 1, "unusable": 1, "undecodable": 0}
        assert result["subsets"] == {"train": "validation", "test": "test"}
        assert list(result["baselines"]) == ["untrained", "sliding_windows"]
        for scores in (result["scores"], *result["baselines"].values()):
            assert all(0 <= s["low"] <= s["high"] <= 1 for s in scores["both"].values())
        assert result["scores"]["both"]["mAP@0.3"]["value"] > 0.5
        assert not list(out.parent.glob(".*"))
        assert json.loads((out / "scores.json").read_text()) == json.loads(json.dumps(result))
        found = json.loads((out / "detections.json").read_text())["results"]
        assert sorted(found) == ["test_4", "test_5"]
        assert (out / "timeline.svg").read_text().startswith("<svg")

    def test_new_videos_get_the_same_detections(self, localised, untrimmed, tmp_path, capsys):
        _, out = localised
        place = untrimmed / "videos" / "test_4.mp4"
        found = detect(out, place, top=3)
        table = seehear.detect(out, place, top=3)
        assert table.column_names == ["video", "start", "end", "label", "score"]
        assert table["label"].to_pylist() == [d.label for d in found["test_4.mp4"]]
        expected = json.loads((out / "detections.json").read_text())["results"]["test_4"][:3]
        assert [d.label for d in found["test_4.mp4"]] == [e["label"] for e in expected]
        assert [d.score for d in found["test_4.mp4"]] == pytest.approx([e["score"] for e in expected], rel=1e-4)
        code, output, _ = run(capsys, "detect", out, place, "--out", tmp_path / "new" / "a.csv", "--top", 2)
        assert (code, output.strip()) == (0, f"2 detections: {tmp_path / 'new' / 'a.csv'}")
        rows = list(csv.DictReader((tmp_path / "new" / "a.csv").open()))
        assert [float(r["start"]) for r in rows] == [round(d.start_seconds, 3) for d in found["test_4.mp4"][:2]]
        code, _, _ = run(capsys, "detect", out, place, "--out", tmp_path / "a.json")
        assert len(json.loads((tmp_path / "a.json").read_text())["results"]["test_4.mp4"]) == 20

    def test_segments_of_the_test_subset_are_read_when_all_detections_are_there(
        self, untrimmed, finished_run, tmp_path, monkeypatch
    ):
        order = []
        segments, detected = annotations_module.Annotations.segments, Localizer.detect
        monkeypatch.setattr(
            annotations_module.Annotations, "segments", lambda self, s: (order.append(s), segments(self, s))[1]
        )
        monkeypatch.setattr(Localizer, "detect", lambda self, s: (order.append("detect"), detected(self, s))[1])
        settings = LocalizerSettings(width=8, points=2, epochs=1)
        result = localize(finished_run, untrimmed / "annotations.json", tmp_path / "out", settings=settings)
        assert order == ["validation", "detect", "detect", "test"]
        assert "baselines" not in result

    def test_detections_do_not_depend_on_the_test_annotations(self, untrimmed, finished_run, localised, tmp_path):
        changed = json.loads((untrimmed / "annotations.json").read_text())
        for entry in changed["database"].values():
            if entry["subset"] == "test":
                entry["annotations"] = [{"segment": [0, 1], "label": "never seen"}]
        (tmp_path / "a.json").write_text(json.dumps(changed))
        result = localize(
            finished_run, tmp_path / "a.json", tmp_path / "out", videos=untrimmed / "videos", settings=FILES
        )
        same = "detections.json"
        assert (tmp_path / "out" / same).read_text() == (localised[1] / same).read_text()
        assert result["unknown_classes"] == ["never seen"]
        assert result["scores"]["both"]["mAP@0.3"]["value"] == 0

    def test_the_command_and_one_modality(self, untrimmed, finished_run, tmp_path, capsys):
        data = untrimmed / "annotations.json"
        base = ("localize", finished_run, "--data", data, "--modality", "audio", *OPTIONS)
        code, output, errors = run(capsys, *base, "--out", tmp_path / "a")
        assert (code, errors.count("Traceback")) == (0, 0), errors
        assert "learnt from 4 videos with 4 segments" in output
        assert "left out of train: 1 no file, 1 unusable" in output
        assert "mAP@0.3:0.7" in output
        assert json.loads((tmp_path / "a" / "model" / "config.json").read_text())["modalities"] == {"audio": "audio"}
        code, _, errors = run(capsys, *base, "--out", tmp_path / "a")
        assert code == 2
        assert "already" in errors

    def test_scores_are_kept_with_the_run_and_stand_in_the_table(self, untrimmed, finished_run, tmp_path, capsys):
        whole, bare = tmp_path / "run", shutil.ignore_patterns("evaluations")
        shutil.copytree(finished_run, whole, ignore=bare)
        data = untrimmed / "annotations.json"
        words = ("localize", whole, "--data", data, "--modality", "video", "--set", "width=8", "--epochs", "1")
        assert run(capsys, *words, "--out", tmp_path / "a")[0] == 0
        (kept,), _ = load_all(whole)
        assert (kept.protocol, kept.data) == ("localization", untrimmed.name)
        assert kept.options == {"modality": "video", "set": ["width=8"], "epochs": 1}
        again = shlex.split(kept.command("runs/x"))
        assert sorted(again) == sorted(["seehear", *map(str, words), "--out", "runs/x-localized"][:2] + ["runs/x"]
                                       + [str(w) for w in words[2:]] + ["--out", "runs/x-localized"])  # fmt: skip
        assert json.loads((tmp_path / "a" / "scores.json").read_text())["scores"] == kept.scores()
        table = run(capsys, "evaluate", "table", whole)[1]
        assert re.search(rf"^localization · {untrimmed.name} \(epochs 1, modality video, set width=8\) · video", table)
        assert "published" not in table
        # On THUMOS14 the numbers of XDC's table 8 stand below.
        save(whole, "localization", kept.result, data=f"thumos14:{tmp_path}")
        table = run(capsys, "evaluate", "table", whole, "--data", f"thumos14:{tmp_path}")[1]
        line = next(line for line in table.splitlines() if line.startswith("XDC (R(2+1)D-18, IG-Kinetics)"))
        assert line.split()[-5:] == ["51.5", "44.9", "37.2", "28.7", "20.0"]
        page = run(capsys, "report", whole)
        assert page[0] == 0, page[2]
        assert (
            f"localization on {untrimmed.name} (modality video, epochs 1, set width=8)"
            in (whole / "report.html").read_text()
        )

    def test_without_a_test_subset_there_are_no_scores(self, untrimmed, finished_run, tmp_path, capsys):
        code, output, errors = run(
            capsys, "localize", finished_run, "--data", untrimmed / "annotations.json", "--out", tmp_path / "a",
            "--train-subset", "test", "--epochs", 1, "--set", "width=8",
        )  # fmt: skip
        assert code == 0, errors
        assert "nothing is scored" in output
        assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [
            "hashes.json",
            "localizer.json",
            "localizer.safetensors",
            "model",
        ]

    def test_a_failure_leaves_nothing_half_written(self, untrimmed, finished_run, tmp_path, monkeypatch):
        def broken(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(task, "timelines_svg", broken)
        with pytest.raises(KeyboardInterrupt):
            localize(
                finished_run, untrimmed / "annotations.json", tmp_path / "out",
                settings=LocalizerSettings(width=8, points=2, epochs=1),
            )  # fmt: skip
        assert list(tmp_path.iterdir()) == []

    def test_what_cannot_be_is_said(self, untrimmed, finished_run, tmp_path):
        data = untrimmed / "annotations.json"
        with pytest.raises(UsageError, match="modality"):
            localize(finished_run, data, tmp_path / "o", modality="smell")
        with pytest.raises(DataError, match="holds none of the 8"):
            localize(finished_run, data, tmp_path / "o", videos=tmp_path)
        with pytest.raises(DataError, match="neither a folder"):
            localize(finished_run, data, tmp_path / "o", videos=tmp_path / "nowhere")
        with pytest.raises(RunError, match="holds no localiser"):
            detect(finished_run, untrimmed / "videos")
        assert list(tmp_path.iterdir()) == []

    def test_two_files_of_one_name_are_not_guessed_between(self, tmp_path):
        for place in ("a/x.mp4", "b/x.avi", "c/y.txt"):
            (tmp_path / place).parent.mkdir()
            (tmp_path / place).write_bytes(b"")
        with pytest.raises(DataError, match=r"x\.mp4.*x\.avi"):
            find_videos(tmp_path, ["x"])
        (tmp_path / "b/x.avi").unlink()
        assert find_videos(tmp_path, ["x", "y"]) == {"x": str(tmp_path / "a/x.mp4")}
