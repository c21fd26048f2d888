"""Finetuning as a job: it resumes to the bit, tests once and blindly, averages clips, and names what it left out."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import average_precision_score

import seehear
from seehear.cli import main
from seehear.config import Config
from seehear.data.clips import ClipRequest, clip_refs, plain_requests
from seehear.data.datasets import open_data
from seehear.data.loader import ClipLoader
from seehear.data.manifest import Manifest
from seehear.engine.schedule import learning_rate
from seehear.engine.trainer import Trainer
from seehear.errors import DataError, Interrupted, RunError, TrainingError, UsageError
from seehear.features.frozen import untrained_model
from seehear.features.model import Model, usable_videos
from seehear.pretraining.plan import make_config
from seehear.recipes import recipe
from seehear.settings import with_settings
from seehear.transfer import finetune_config as configs
from seehear.transfer import finetuning
from seehear.transfer.finetune_rates import best_rates, few, held_out_score, hold_out, recordings
from seehear.transfer.finetuning import finetune, finetune_within, resume_finetuning
from seehear.transfer.prediction import class_probabilities, predict
from seehear.transfer.recipes import finetune_recipe
from seehear.transfer.text import finetuning_table
from tests.commands import run as command
from tests.corpus import make_collection, make_video

SHORT = ["optim.epochs=3", "optim.warmup_epochs=1", "optim.batch_size=8", "finetune.test_clips=3"]
SETTINGS = [*SHORT, "finetune.rates=[0.03,0.1]"]
BOTH_RATES = ["--set", "optim.base_lr=0.1", "--set", "finetune.rates=[0.1,0.2]"]
ONE_RATE = [*SHORT, "optim.base_lr=0.1"]


def rows_of(table: Path) -> list[dict[str, str]]:
    with open(table, newline="") as file:
        return list(csv.DictReader(file))


def write_rows(table: Path, rows: list[dict[str, str]]) -> Path:
    with open(table, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return table


@pytest.fixture(scope="module")
def finetuned(finished_run, collection, tmp_path_factory):
    """A finetuning of both encoders with a search of two rates: its folder and its result."""
    out = tmp_path_factory.mktemp("finetuned") / "run"
    return out, finetune(finished_run, collection, out, settings=SETTINGS, quiet=True)


def assert_same(one: Path, other: Path) -> None:
    for name in ("result.json", "search.json"):
        assert json.loads((one / name).read_text()) == json.loads((other / name).read_text())
    assert pq.read_table(one / "predictions.parquet").equals(pq.read_table(other / "predictions.parquet"))
    a, b = (load_file(run / "model" / "model.safetensors") for run in (one, other))
    assert a.keys() == b.keys()
    assert [k for k in a if not torch.equal(a[k], b[k])] == []


# ---------------------------------------------------------------- what a finetuning is


def test_a_finetuning_gives_scores_and_what_they_rest_on(finetuned):
    out, result = finetuned
    assert result == json.loads((out / "result.json").read_text())
    assert (result["protocol"], result["train_videos"], result["test_videos"], result["classes"]) == (
        "finetune", 18, 6, 4,
    )  # fmt: skip
    assert result["scores"].keys() == {"video", "audio", "both"}
    for scores in result["scores"].values():
        assert scores["accuracy"]["low"] <= scores["accuracy"]["value"] <= scores["accuracy"]["high"]
    assert set(result["chosen"]) == {"video", "audio"}
    assert [entry["base_lr"] for entry in result["search"]["tried"]] == [0.03, 0.1]
    assert result["search"]["training_videos"] + result["search"]["held_out_videos"] == 18
    held = json.loads((out / "search.json").read_text())["held_out"]
    tests = {row["video_id"] for row in pq.read_table(out / "manifest.parquet").to_pylist() if row["split"] == "test"}
    assert len(held) >= 4 and not tests & set(held)
    predictions = pq.read_table(out / "predictions.parquet")
    assert set(predictions["video_id"].to_pylist()) == tests
    assert list((out / "checkpoints").iterdir())
    assert not list((out / "search").glob("*/checkpoints"))


def test_the_chosen_rate_is_the_best_that_was_tried(finetuned):
    out, result = finetuned
    for name, chosen in result["chosen"].items():
        tried = result["search"]["tried"]
        best = max(entry[name]["accuracy"] for entry in tried)
        assert next(e for e in tried if e["base_lr"] == chosen["base_lr"])[name]["accuracy"] == best
    config = Model.load(out).config
    assert config.optim.base_lr == result["chosen"]["video"]["base_lr"]
    assert config.finetune.audio_lr == result["chosen"]["audio"]["base_lr"]


def test_a_rate_that_is_given_is_not_searched_for_and_encoders_stay_when_frozen(finished_run, collection, tmp_path):
    result = finetune(
        finished_run, collection, tmp_path / "run", modality="audio", freeze=True, settings=ONE_RATE, quiet=True
    )
    assert result["search"] is None and not (tmp_path / "run" / "search").exists()
    assert result["chosen"] == {"audio": {"base_lr": 0.1}}
    before, after = Model.load(finished_run), Model.load(tmp_path / "run")
    assert set(after.encoders) == {"audio"}
    weights = before.encoders["audio"].state_dict()
    assert all(torch.equal(value, weights[key]) for key, value in after.encoders["audio"].state_dict().items())
    assert after.statistics == before.statistics
    assert after.classifiers["audio"].weight.abs().max() > 0.02


def test_untrained_encoders_are_those_that_the_seed_draws(finished_run, collection, tmp_path):
    fresh = untrained_model(Model.load(finished_run))
    result = finetune(
        f"untrained:{finished_run}", collection, tmp_path / "run", modality="video", freeze=True, settings=ONE_RATE,
        quiet=True,
    )  # fmt: skip
    found = Model.load(tmp_path / "run").encoders["video"].state_dict()
    expected = fresh.encoders["video"].state_dict()
    assert all(torch.equal(expected[key], value) for key, value in found.items())
    assert result["run"].startswith("untrained:")
    assert not (tmp_path / "run" / "start").exists()


# ---------------------------------------------------------------- resuming


def stop_at(monkeypatch_context, steps: int) -> None:
    """A signal after so many steps of all trainings together."""
    save_or_stop, done = Trainer.save_or_stop, [0]

    def stopping(self):
        done[0] += 1
        if done[0] == steps:
            self.stop.signal = signal.SIGTERM
        save_or_stop(self)

    monkeypatch_context.setattr(Trainer, "save_or_stop", stopping)


@pytest.mark.parametrize("steps", [2, 5, 9])  # in the first and the second trial of 3, and amid the final one's epoch
def test_a_stopped_finetuning_resumes_to_the_bit(steps, finetuned, finished_run, collection, tmp_path, monkeypatch):
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_at(patch, steps)
        with pytest.raises(Interrupted, match=f"seehear finetune --resume {run}"):
            finetune(finished_run, collection, run, settings=SETTINGS, quiet=True)
    assert not (run / "result.json").exists()
    torch.manual_seed(123)
    resume_finetuning(run, quiet=True)
    assert_same(finetuned[0], run)


def test_a_stopped_finetuning_by_adam_resumes_to_the_bit(finished_run, collection, tmp_path, monkeypatch):
    options = {"protocol": "gdt-vggsound", "quiet": True}
    settings = [*SHORT, "optim.base_lr=0.001", "finetune.dropout=0.2"]
    finetune(finished_run, collection, tmp_path / "whole", settings=settings, **options)
    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        with pytest.raises(Interrupted):
            finetune(finished_run, collection, tmp_path / "run", settings=settings, **options)
    torch.manual_seed(123)
    resume_finetuning(tmp_path / "run", quiet=True)
    a, b = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "run"))
    assert set(Model.load(tmp_path / "run").encoders) == {"audio"}
    assert all(torch.equal(a[k], b[k]) for k in a)
    kinds = torch.load(sorted((tmp_path / "run" / "checkpoints").glob("*/state.pt"))[-1], weights_only=True)
    assert "exp_avg_sq" in kinds["optimiser"]["state"][0]


def test_a_finetuning_stopped_while_it_tests_resumes_to_the_bit(
    finetuned, finished_run, collection, tmp_path, monkeypatch
):
    run = tmp_path / "run"
    with monkeypatch.context() as patch:

        def interrupted(*_args, **_options):
            raise Interrupted("stopped by SIGTERM", "go on")

        patch.setattr(finetuning, "_test", interrupted)
        with pytest.raises(Interrupted):
            finetune(finished_run, collection, run, settings=SETTINGS, quiet=True)
    resume_finetuning(run, quiet=True)
    assert_same(finetuned[0], run)
    before = (run / "metrics.jsonl").read_bytes()
    assert resume_finetuning(run, quiet=True)["scores"]  # finished: nothing is done again
    assert (run / "metrics.jsonl").read_bytes() == before


def test_a_killed_finetuning_resumes_to_the_bit_without_the_run_it_came_from(
    finetuned, finished_run, collection, tmp_path
):
    source, run = tmp_path / "source", tmp_path / "run"
    shutil.copytree(finished_run, source)
    arguments = [str(source), "--data", str(collection), "--out", str(run)]
    # The process ends itself as kill -9 would, in its fifth step: no signal that could be missed.
    code = (
        "import os, sys; from seehear.engine.trainer import Trainer; from seehear.cli import main; done = [0]\n"
        "def save_or_stop(self, old=Trainer.save_or_stop):\n"
        "    old(self); done[0] += 1\n"
        "    if done[0] == 5: os.kill(os.getpid(), 9)\n"
        "Trainer.save_or_stop = save_or_stop\n"
        "main(sys.argv[1:])"
    )
    settings = [part for s in (*SETTINGS, "checkpoint_minutes=0.0001") for part in ("--set", s)]
    ended = subprocess.run([sys.executable, "-c", code, "finetune", *arguments, *settings], capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    shutil.rmtree(source)
    resume_finetuning(run, quiet=True)
    one, other = (load_file(r / "model" / "model.safetensors") for r in (finetuned[0], run))
    assert all(torch.equal(one[k], other[k]) for k in one)


# ---------------------------------------------------------------- what may be known when


def test_test_classes_are_not_read_before_the_end(finetuned, finished_run, collection, tmp_path):
    """Other classes, or none, in the rows of the test split leave weights and probabilities as they are, to the bit."""
    rows = rows_of(collection)
    garbage = iter(["", "no such class", "class_0", "class_0", "7", ";"])
    other = write_rows(
        collection.parent / "garbage.csv",
        [r | ({"label": next(garbage)} if r["split"] == "test" else {}) for r in rows],
    )
    result = finetune(finished_run, other, tmp_path / "run", settings=SETTINGS, quiet=True)
    other.unlink()
    one, two = finetuned[0], tmp_path / "run"
    assert pq.read_table(one / "predictions.parquet").equals(pq.read_table(two / "predictions.parquet"))
    a, b = (load_file(r / "model" / "model.safetensors") for r in (one, two))
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert json.loads((one / "search.json").read_text()) == json.loads((two / "search.json").read_text())
    assert result["missing"]["test"]["unlabelled"] == 1 and result["test_videos"] == 5
    assert result["test_classes_not_trained"] == ["7", ";", "no such class"]


def test_true_classes_are_learnt_and_permuted_ones_leave_chance(finished_run, tmp_path):
    table = make_collection(tmp_path / "videos", n=72, classes=4, seed=5, split=0.5)
    rows = rows_of(table)
    shuffled = np.random.default_rng(0).permutation([r["label"] for r in rows])
    permuted = write_rows(
        table.parent / "permuted.csv", [r | {"label": c} for r, c in zip(rows, shuffled.tolist(), strict=True)]
    )
    settings = ["optim.epochs=8", "optim.base_lr=0.2", "finetune.test_clips=2", "finetune.clips_per_video=2"]
    found = {}
    for name, data in (("true", table), ("permuted", permuted)):
        result = finetune(finished_run, data, tmp_path / name, modality="audio", settings=settings, quiet=True)
        found[name] = result["scores"]["audio"]["accuracy"]["value"]
    assert found["true"] >= 0.8
    # 36 test videos of 4 classes: more than 19 right by chance is a matter of 1 in 3000.
    assert found["permuted"] <= 19 / 36


# ---------------------------------------------------------------- clips and probabilities


def test_probabilities_are_means_over_clips_as_a_plain_loop_has_them(finetuned, collection):
    out, _ = finetuned
    model, manifest = Model.load(out), Manifest.load(out / "manifest.parquet")
    videos = usable_videos(manifest.where("split=test"), ("video", "audio"))[:3]
    table = pq.read_table(out / "predictions.parquet").to_pydict()
    spans = {r.video_id: r for r in clip_refs(videos, model.config.cluster)}
    with ClipLoader(videos, model.config, model.modalities, model.statistics, workers=0, cache=None) as loader:
        for video in videos:
            clip, sums = model.config.clip, {"video": np.zeros(4), "audio": np.zeros(4)}
            for i in range(3):
                # The middles of the clips divide the video evenly; starts are on the grid of frames.
                middle = video.start_seconds + (i + 0.5) * video.seconds / 3
                latest = int((video.end_seconds - clip.seconds) * clip.frame_rate_hz + 1e-6)
                first = int(np.ceil(video.start_seconds * clip.frame_rate_hz - 1e-6))
                frame = min(max(round((middle - clip.seconds / 2) * clip.frame_rate_hz), first), latest)
                start = frame / clip.frame_rate_hz
                request = ClipRequest(spans[video.video_id], start, start, None)
                inputs = loader.to_inputs(next(loader.batches([request], 1)), torch.device("cpu")).inputs
                for name in sums:
                    with torch.no_grad():
                        logits = model.classifiers[name](model.encoders[name](inputs[name]))[0].double().numpy()
                    sums[name] += np.exp(logits) / np.exp(logits).sum()
            row = table["video_id"].index(video.video_id)
            assert np.allclose(table["video"][row], sums["video"] / 3, atol=1e-5)
            assert np.allclose(table["audio"][row], sums["audio"] / 3, atol=2e-2)  # cached sound: edges of resampling


def test_three_crops_are_averaged(finetuned, tmp_path):
    """Those at the left, in the centre and at the right of a wide video, beside a loop."""
    out, _ = finetuned
    make_video(tmp_path / "wide.mp4", seconds=2, size=(160, 64))
    model = Model.load(out)
    tuned = replace(model.config.finetune, test_crops=3)
    model.config = replace(model.config, finetune=tuned)
    videos = usable_videos(seehear.scan(tmp_path / "wide.mp4", workers=0), ("video", "audio"))
    refs = clip_refs(videos, model.config.cluster)
    with ClipLoader(videos, model.config, model.modalities, model.statistics, workers=0, cache=None) as loader:
        bank = class_probabilities(model, loader, refs, clips=1)
        model.config = replace(model.config, finetune=replace(tuned, test_crops=1))
        plain = class_probabilities(model, loader, refs, clips=1)
        (request,) = plain_requests(refs, loader.videos, model.config.clip)
        ((_, frames, _),) = loader.clips([request])
    clip = model.config.clip
    top, sums = (frames.shape[1] - clip.crop_px) // 2, []
    for left in (0, (frames.shape[2] - clip.crop_px) // 2, frames.shape[2] - clip.crop_px):
        crop = frames[:, top : top + clip.crop_px, left : left + clip.crop_px].astype(np.float64) / 255
        crop = (crop - np.array(model.statistics.pixel_mean)) / np.array(model.statistics.pixel_std)
        x = torch.from_numpy(crop.astype(np.float32)).permute(3, 0, 1, 2)[None]
        with torch.no_grad():
            sums.append(model.classifiers["video"].eval()(model.encoders["video"].eval()(x)).softmax(1).numpy()[0])
    assert np.allclose(plain.features["video"][0], sums[1], atol=1e-5)
    assert np.allclose(bank.features["video"][0], np.mean(sums, axis=0), atol=1e-5)
    assert np.array_equal(bank.features["audio"], plain.features["audio"])
    with pytest.raises(UsageError, match="test_crops must be 1 or 3"):
        with_settings(model.config, ["finetune.test_crops=2"]).check()


def test_both_is_the_mean_of_the_two_and_scores_follow(finetuned, collection):
    out, result = finetuned
    table = pq.read_table(out / "predictions.parquet")
    p = {m: np.array(table[m].to_pylist()) for m in ("video", "audio")}
    p["both"] = (p["video"] + p["audio"]) / 2
    truth = {r["path"]: r["label"] for r in rows_of(collection)}
    names = Model.load(out).class_names
    for modality, of in p.items():
        right = [names[int(row.argmax())] == truth[i] for row, i in zip(of, table["video_id"].to_pylist(), strict=True)]
        assert result["scores"][modality]["accuracy"]["value"] == pytest.approx(np.mean(right))


# ---------------------------------------------------------------- what is left out


def test_a_test_video_that_cannot_be_decoded_is_counted_and_listed(finished_run, collection, tmp_path):
    folder = tmp_path / "videos"
    shutil.copytree(collection.parent, folder)
    seehear.scan(folder / "labels.csv", out=folder / "manifest.parquet", workers=0)
    victims = [folder / r["path"] for r in rows_of(folder / "labels.csv")]
    for victim in (victims[-1], victims[0]):
        victim.write_bytes(victim.read_bytes()[:300])
    settings = [*ONE_RATE, "data.cache_gib=0"]
    result = finetune(finished_run, folder / "manifest.parquet", tmp_path / "run", settings=settings, quiet=True)
    assert result["missing"]["test"]["undecodable"] == 1
    assert result["missing"]["train"]["undecodable"] == 1
    assert (result["train_videos"], result["test_videos"]) == (17, 5)
    assert [Path(f["path"]).name for f in result["failures"]] == [victims[-1].name]
    listed = [json.loads(line) for line in (tmp_path / "run" / "failures.jsonl").read_text().splitlines()]
    assert {Path(f["path"]).name for f in listed} == {victims[0].name, victims[-1].name}


def test_sound_is_not_asked_of_what_is_only_seen(finished_run, collection, tmp_path):
    """A manifest of all files, one of them without sound: it is left out by sight and sound, and used by sight."""
    manifest = seehear.scan(collection, workers=0)
    table = manifest.table
    for name in ("audio_start_seconds", "audio_duration_seconds"):
        column = pa.array([*table.column(name).to_pylist()[:-1], None], pa.float64())
        table = table.set_column(table.column_names.index(name), name, column)
    Manifest(table, manifest.info | {"need": ["video"]}).save(tmp_path / "all.parquet")
    counts = {}
    for modality in ("video", "both"):
        result = finetune(
            finished_run, tmp_path / "all.parquet", tmp_path / modality, modality=modality,
            settings=[*ONE_RATE, "optim.epochs=1", "optim.warmup_epochs=0"], quiet=True,
        )  # fmt: skip
        counts[modality] = (result["test_videos"], result["missing"]["test"]["unusable"])
    assert counts == {"video": (6, 0), "both": (5, 1)}
    assert Model.load(tmp_path / "video").config.clip.seconds < Model.load(tmp_path / "both").config.clip.seconds


def test_several_classes_a_video_are_learnt_each_by_itself(finished_run, collection, tmp_path):
    """Probabilities are of each class, the rate is chosen by mAP, and scores are those of scikit-learn."""
    rows = [r | {"label": f"{r['label']}|odd" if i % 2 else r["label"]} for i, r in enumerate(rows_of(collection))]
    table = write_rows(collection.parent / "several_tuned.csv", rows)
    settings = [*SETTINGS, "data.label_separator='|'"]
    result = finetune(finished_run, table, tmp_path / "run", modality="audio", settings=settings, quiet=True)
    with pytest.raises(UsageError, match="one class a video"):
        finetune(finished_run, table, tmp_path / "few", shots=2, settings=settings, quiet=True)
    table.unlink()
    tried = json.loads((tmp_path / "run" / "search.json").read_text())["tried"]
    assert all(0 < entry["audio"]["mAP"] <= 1 for entry in tried)
    best = max(tried, key=lambda e: (e["audio"]["mAP"], -e["audio"]["loss"], -e["base_lr"]))
    assert result["chosen"]["audio"]["base_lr"] == best["base_lr"]
    model = Model.load(tmp_path / "run")
    assert model.class_names == ["class_0", "class_1", "class_2", "class_3", "odd"]
    found = pq.read_table(tmp_path / "run" / "predictions.parquet").to_pydict()
    scores = np.array(found["audio"])
    assert np.abs(scores.sum(axis=1) - 1).max() > 1e-3
    label_of = {Path(r["path"]).name: r["label"] for r in rows}
    labels = [label_of[Path(v).name].split("|") for v in found["video_id"]]
    truth = np.array([[name in names for name in model.class_names] for names in labels])
    there = truth.any(axis=0) & ~truth.all(axis=0)
    expected = np.mean([average_precision_score(truth[:, c], scores[:, c]) for c in np.flatnonzero(there)])
    assert result["scores"]["audio"]["mAP"]["value"] == pytest.approx(expected)
    hits = truth[range(len(truth)), scores.argmax(axis=1)]
    assert result["scores"]["audio"]["accuracy"]["value"] == pytest.approx(hits.mean())
    assert result["confusion"] == {} and result["classes"] == 5
    told = predict(tmp_path / "run", collection, top=5).to_pydict()
    assert abs(sum(told[f"probability_{i}"][0] for i in range(1, 6)) - 1) > 1e-3
    shared = Model.load(tmp_path / "run").shareable()
    assert shared.config.data.label_separator == "|"


def test_a_data_set_of_several_classes_brings_its_separator(finished_run, collection):
    several = replace(open_data(collection), multilabel=True)
    start = configs.open_start(finished_run)
    assert configs.finetune_config(start, several, run="x").data.label_separator == "|"
    assert configs.finetune_config(start, open_data(collection), run="x").data.label_separator is None


# ---------------------------------------------------------------- splits, shots, what is held out


def test_all_splits_are_finetuned_and_averaged(finished_run, collection, tmp_path):
    rows = rows_of(collection)
    folds = write_rows(
        collection.parent / "folds.csv",
        [{"path": r["path"], "label": r["label"], "fold": str(1 + i // 4 % 2)} for i, r in enumerate(rows)],
    )
    settings = [*ONE_RATE, "optim.epochs=2"]
    out = tmp_path / "run"
    result = finetune(finished_run, folds, out, split="all", modality="audio", settings=settings, quiet=True)
    folds.unlink()
    values = [json.loads((out / f"fold{n}" / "result.json").read_text())["scores"]["audio"] for n in (1, 2)]
    accuracies = [v["accuracy"]["value"] for v in values]
    mean = result["scores"]["audio"]["accuracy"]
    assert mean["value"] == pytest.approx(sum(accuracies) / 2)
    assert mean["sd"] == pytest.approx(abs(accuracies[0] - accuracies[1]) / 2**0.5)
    assert result == resume_finetuning(out, quiet=True) == json.loads((out / "result.json").read_text())
    tested = [set(pq.read_table(out / f"fold{n}" / "predictions.parquet")["video_id"].to_pylist()) for n in (1, 2)]
    assert len(tested[0]) == len(tested[1]) == 12 and not tested[0] & tested[1]
    assert "mean over 2 splits" in finetuning_table(result)
    (kept,) = (finished_run / "evaluations").glob("finetune-folds-*.json")  # among the evaluations of the run itself
    record = json.loads(kept.read_text())
    assert record["options"] == {"protocol": "small", "split": "all", "modality": "audio", "set": settings}
    assert record["result"]["scores"] == result["scores"]
    assert np.array(record["confusion"]["audio"]["counts"]).sum() == 24
    with pytest.raises(RunError, match=r"several splits(.|\n)*fold1"):
        predict(out, collection)


def test_a_run_is_evaluated_by_finetuning_it_in_its_own_folder_once(finished_run, collection, tmp_path, capsys):
    run = shutil.copytree(finished_run, tmp_path / "run")
    result = finetune_within(run, collection, settings=ONE_RATE, quiet=True)
    (out,) = (run / "finetuned").iterdir()
    other = finetune(finished_run, collection, tmp_path / "other", settings=ONE_RATE, quiet=True)
    assert result["scores"] == other["scores"]
    made = (out / "model" / "model.safetensors").stat().st_mtime_ns
    assert finetune_within(run, collection, settings=ONE_RATE, quiet=True) == result
    assert (out / "model" / "model.safetensors").stat().st_mtime_ns == made
    assert list((run / "evaluations").glob("finetune-*.json"))
    with pytest.raises(UsageError, match="--out"):
        finetune_within("untrained:small", collection)
    code, _, err = command(capsys, "evaluate", "finetune", run, "--data", collection, "--clips", 3)
    assert code == 2
    assert "--clips" in err


def test_few_shots_are_few_of_each_class_and_nested():
    classes = {f"{i:03d}": "abc"[i % 3] for i in range(60)} | {"rare": "d"}
    drawn = {n: few(classes, n, seed=4) for n in (1, 5, 100)}
    assert Counter(drawn[5].values()) == {"a": 5, "b": 5, "c": 5, "d": 1}
    assert set(drawn[1]) <= set(drawn[5]) <= set(classes) == set(drawn[100])
    assert all(classes[i] == c for i, c in drawn[5].items())
    assert few(classes, 5, seed=4) == drawn[5] != few(classes, 5, seed=5)


def test_recordings_are_told_by_the_names_of_the_sets(collection):
    names = ["Bowling/v_Bowling_g01_c01.avi", "Bowling/v_Bowling_g01_c02.avi", "Bowling/v_Bowling_g02_c01.avi",
             "audio/1-100032-A-0.wav", "audio/1-100032-B-0.wav", "audio/2-100032-A-0.wav", "x.mp4"]  # fmt: skip
    manifest = seehear.scan(collection, workers=0)
    found = recordings(manifest, names)
    groups = [sorted(n for n in names if found[n] == g) for g in dict.fromkeys(found.values())]
    assert groups == [names[:2], [names[2]], names[3:5], [names[5]], ["x.mp4"]]
    column = pa.array([f"map{i % 2}" for i in range(len(manifest))])
    grouped = Manifest(manifest.table.append_column("group", column), manifest.info)
    assert set(recordings(grouped, manifest.column("video_id")).values()) == {"map0", "map1"}


@pytest.mark.parametrize("grouped", [True, False])
def test_what_is_held_out_is_whole_recordings_of_each_class(grouped):
    classes = {f"c{c}_g{g:02d}_{i}": f"c{c}" for c in range(6) for g in range(10) for i in range(4)}
    groups = {i: i.rsplit("_", 1)[0] if grouped else i for i in classes}
    held = hold_out(classes, groups, 0.2, seed=1)
    assert Counter(classes[i] for i in held) == dict.fromkeys({f"c{c}" for c in range(6)}, 8)
    kept = {groups[i] for i in classes if i not in held}
    assert not kept & {groups[i] for i in held}
    assert held == hold_out(classes, groups, 0.2, seed=1) != hold_out(classes, groups, 0.2, seed=2)


def test_a_class_keeps_a_recording_to_train_on():
    classes = {f"{c}{i}": c for c in "ab" for i in range(5)} | {"single": "c"}
    for seed in range(20):
        held = hold_out(classes, {i: i for i in classes}, 0.2, seed)
        assert "single" not in held and {classes[i] for i in held} <= {"a", "b"}
    # A recording of two classes, one of which has no other: it goes back as a whole.
    shared = {f"{c}{i}": c for c in "ab" for i in range(10)} | {"c0": "c"}
    of = {i: "shared" if i in ("a0", "c0") else i for i in shared}
    for seed in range(20):
        assert not {"a0", "c0"} & set(hold_out(shared, of, 0.2, seed))
    pairs = {"a1": "a", "a2": "a", "b1": "b", "b2": "b"}
    assert Counter(pairs[i] for i in hold_out(pairs, {i: i for i in pairs}, 0.2, 0)) == {"a": 1, "b": 1}
    with pytest.raises(DataError, match="set the rate"):
        hold_out({"a": "a", "b": "b"}, {"a": "1", "b": "2"}, 0.2, 0)


def test_rates_are_compared_by_accuracy_then_loss_then_size():
    def tried(rate, accuracy, loss):
        return {"base_lr": rate, "video": {"accuracy": accuracy, "loss": loss}}

    entries = [tried(0.1, 0.5, 1.0), tried(0.01, 0.6, 2.0), tried(0.03, 0.6, 1.5), {"base_lr": 1.0, "diverged": True}]
    assert best_rates(entries, ["video"]) == {"video": 0.03}
    assert best_rates([tried(0.1, 0.5, 1.0), tried(0.03, 0.5, 1.0)], ["video"]) == {"video": 0.03}
    with pytest.raises(TrainingError, match="every learning rate"):
        best_rates([{"base_lr": 1.0, "diverged": True}], ["video"])
    p = np.array([[0.7, 0.3], [0.4, 0.6], [0.5, 0.5]])
    score = held_out_score(p, np.array([0, 0, 1]))
    assert score["accuracy"] == pytest.approx(1 / 3)
    assert score["loss"] == pytest.approx(-np.log([0.7, 0.4, 0.5]).mean())


def test_a_rate_at_which_training_diverges_is_not_taken(finished_run, collection, tmp_path):
    settings = [*SETTINGS, "finetune.rates=[1e20,0.1]", "optim.epochs=12", "optim.clips_per_epoch=32"]
    result = finetune(finished_run, collection, tmp_path / "run", modality="audio", settings=settings, quiet=True)
    assert result["search"]["tried"][0] == {"base_lr": 1e20, "diverged": True}
    assert result["chosen"] == {"audio": {"base_lr": 0.1}}


# ---------------------------------------------------------------- protocols


def rates(config: Config, epochs: list[float]) -> list[float]:
    return [learning_rate(config.optim, epoch, config.optim.batch_size) for epoch in epochs]


def test_the_schedule_of_gdt_is_the_papers():
    for protocol in ("gdt", "selavi"):
        config = finetune_recipe(recipe("gdt-kinetics"), protocol)
        assert (config.clip.frames, config.optim.batch_size, config.optim.epochs) == (32, 32, 12)
        assert (config.optim.weight_decay, config.optim.momentum, config.finetune.clips_per_video) == (5e-3, 0.9, 10)
        expected = [0.0025, 0.01125, 0.02, 0.02, 0.001, 0.001, 5e-5, 5e-5]
        assert rates(config, [0, 1, 2, 5.9, 6, 9.9, 10, 11.9]) == pytest.approx(expected)
        assert config.finetune.test_clips == 10
        config.check()


def test_gdts_release_gives_the_encoder_a_tenth_of_the_heads_rate():
    paper, release = (finetune_recipe(recipe("gdt-kinetics"), name) for name in ("gdt", "gdt-release"))
    assert release.optim == replace(paper.optim, base_lr=0.002)
    assert (release.finetune.classifier_lr, release.finetune.test_crops, paper.finetune.test_crops) == (0.02, 3, 1)
    assert (release.clip.short_side_px, release.clip.crop_px, release.augment.colour_jitter) == (128, 128, 0.4)
    release.check()


def test_the_schedule_of_gdt_on_vggsound_is_the_papers():
    config = finetune_recipe(recipe("gdt-vggsound"), "gdt-vggsound")
    optim = config.optim
    assert (optim.algorithm, optim.batch_size, optim.epochs, optim.weight_decay) == ("adam", 128, 30, 1e-5)
    assert rates(config, [0, 9.9, 10, 20]) == pytest.approx([1e-4, 1e-4, 1e-5, 1e-6])
    assert config.finetune.classifier_lr == 10 * optim.base_lr
    config.check()


def test_the_schedule_of_xdc_is_the_papers():
    config = finetune_recipe(recipe("xdc-kinetics"), None, data="ucf101")
    assert (config.clip.frames, config.optim.batch_size, config.optim.epochs) == (8, 32, 8)
    assert (config.optim.clips_per_epoch, config.optim.weight_decay) == (106_000, 0.005)
    assert config.finetune.rates == (0.001, 0.002, 0.004, 0.006, 0.008, 0.01)
    assert rates(config, [1, 2, 4, 6]) == pytest.approx([0.005, 0.01, 1e-4, 1e-6])
    frozen = finetune_recipe(recipe("xdc-kinetics"), "xdc", freeze=True, data="hmdb51")
    assert frozen.finetune.rates[-2:] == (0.02, 0.04) and frozen.optim.clips_per_epoch == 40_000
    long = recipe("xdc-kinetics")
    longer = finetune_recipe(replace(long, clip=replace(long.clip, frames=32)), "xdc")
    assert longer.optim.batch_size == 8
    assert rates(longer, [2]) == pytest.approx([0.01 / 4])


@pytest.mark.parametrize(
    ("of", "protocol"), [("small", "small"), ("small-gdt", "small"), ("xdc-ig", "xdc"), ("gdt-ig65m", "gdt"),
                         ("selavi-ave", "selavi"), ("supervised-kinetics", "xdc")],
)  # fmt: skip
def test_the_protocol_suits_the_run(of, protocol):
    assert finetune_recipe(recipe(of)).finetune.protocol == protocol


# ---------------------------------------------------------------- prediction


def test_predictions_are_those_of_the_test(finetuned, collection):
    out, _ = finetuned
    kept = pq.read_table(out / "predictions.parquet").to_pydict()
    names = Model.load(out).class_names
    for modality in ("video", "both"):
        table = predict(out, collection, modality=modality, top=4).to_pylist()
        assert len(table) == 24
        for row in table:
            p = {row[f"class_{i}"]: row[f"probability_{i}"] for i in range(1, 5)}
            assert sum(p.values()) == pytest.approx(1, abs=1e-5)
            assert list(p.values()) == sorted(p.values(), reverse=True)
            if row["video"] in kept["video_id"]:
                at = kept["video_id"].index(row["video"])
                expected = np.array(kept["video"][at])
                if modality == "both":
                    expected = (expected + np.array(kept["audio"][at])) / 2
                assert np.allclose([p[n] for n in names], expected, atol=2e-2 if modality == "both" else 1e-5)


def test_segments_are_predicted_one_by_one(finetuned, collection):
    table = predict(finetuned[0], collection, every_seconds=1.25, clips=1, top=1)
    assert table.column_names == ["video", "start", "end", "class_1", "probability_1"]
    assert table.num_rows == 48
    assert table["start"].to_pylist()[:2] == [0.0, 1.25]


@pytest.mark.parametrize(
    ("options", "words"), [({"top": 0}, "one class"), ({"clips": 0}, "one clip"), ({"modality": "smell"}, "smell")]
)
def test_what_cannot_be_predicted_is_refused(options, words, finetuned, collection):
    with pytest.raises(UsageError, match=words):
        predict(finetuned[0], collection, **options)


def test_a_run_that_is_not_finetuned_says_how_to_finetune_it(finished_run, collection):
    with pytest.raises(RunError, match=r"no classifier(.|\n)*seehear finetune"):
        predict(finished_run, collection)


def test_a_finetuned_run_has_no_clusters_and_is_resumed_by_its_own_command(finetuned, collection, tmp_path):
    out, _ = finetuned
    with pytest.raises(UsageError, match=r"finetuned(.|\n)*seehear predict"):
        seehear.label(out, collection)
    with pytest.raises(RunError, match="finetuned run"):
        seehear.evaluate(out, collection)
    scores = seehear.evaluate(out, protocol="knn", data=collection, clips=1)["scores"]  # its features serve as any
    assert scores["audio"]["accuracy"]["value"] > 0
    with pytest.raises(RunError, match=f"holds a run already(.|\n)*seehear finetune --resume {out}"):
        finetune(out, collection, out, settings=ONE_RATE, quiet=True)
    (tmp_path / "config.yaml").write_bytes((out / "config.yaml").read_bytes())
    with pytest.raises(RunError, match=f"seehear finetune --resume {tmp_path}"):
        seehear.load(tmp_path)


# ---------------------------------------------------------------- the command


def test_the_command_finetunes_resumes_and_predicts(finished_run, collection, tmp_path, capsys):
    settings = [part for s in ONE_RATE for part in ("--set", s)]
    out = tmp_path / "run"
    code, text, err = command(
        capsys, "finetune", finished_run, "--data", collection, "--out", out, "--modality", "audio", "--shots", 2,
        "--seed", 3, "--freeze", *settings,
    )  # fmt: skip
    assert code == 0, err
    assert "audio accuracy" in text and "8 training videos, 6 test videos, 4 classes" in text
    assert "learning rate: audio 0.1" in text and "the classifier alone" in text
    code, text, _ = command(capsys, "finetune", "--resume", out, "--json", "--quiet")
    assert code == 0 and json.loads(text)["train_videos"] == 8
    code, text, _ = command(capsys, "predict", out, collection, "--out", tmp_path / "p.csv", "--top", 2)
    assert code == 0 and "24 segments" in text
    rows = rows_of(tmp_path / "p.csv")
    assert list(rows[0]) == ["video", "start", "end", "class_1", "probability_1", "class_2", "probability_2"]
    assert {r["class_1"] for r in rows} <= {f"class_{i}" for i in range(4)}
    code, text, _ = command(capsys, "report", out)
    assert code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["finetune", "{run}", "--data", "{data}"], 2, "--out"),
        (["finetune", "--resume", "{tmp}", "--freeze"], 2, "--resume takes everything"),
        (["finetune", "--resume", "{run}"], 4, "is not a finetuning"),
        (["finetune", "{run}", "--data", "{data}", "--out", "{tmp}/o", "--split", "7"], 2, "no split '7'"),
        (["finetune", "{run}", "--data", "{data}", "--out", "{tmp}/o", "--set", "model.video_width=8"], 2, "shape"),
        (["finetune", "{run}", "--data", "{data}", "--out", "{tmp}/o", "--set", "optim.epochs=0"], 2, "at least 1"),
        (["finetune", "{run}", "--data", "{data}", "--out", "{tmp}/o", "--set", "finetune.freeze=true"], 2, "own"),
        (["finetune", "{run}", "--data", "{data}", "--out", "{tmp}/o", *BOTH_RATES], 2, "one of the two"),
        (["finetune", "{run}", "--data", "{data}", "--out", "{tmp}/o", "--shots", "1"], 3, "optim.base_lr"),
        (["finetune", "untrained:smal", "--data", "{data}", "--out", "{tmp}/o"], 2, "did you mean small"),
        (["finetune", "{tmp}", "--data", "{data}", "--out", "{tmp}/o"], 4, "no trained model"),
        (["predict", "{run}", "{data}", "--out", "{tmp}/p.txt"], 2, ".csv"),
        (["predict", "{run}", "{data}", "--out", "{tmp}/p.csv"], 4, "seehear finetune"),
    ],
)
def test_a_mistake_is_explained(arguments, code, words, finished_run, collection, tmp_path, capsys):
    places = {"run": finished_run, "data": collection, "tmp": tmp_path}
    found, out, err = command(capsys, *(a.format(**places) for a in arguments))
    assert found == code, err
    assert words in out + err
    assert not (tmp_path / "o").exists()


def test_pretraining_leaves_a_finetuning_alone(finetuned, collection, tmp_path, capsys):
    code, _, err = command(capsys, "pretrain", collection, "--out", tmp_path / "r", "--method", "finetune")
    assert code == 2 and "seehear finetune" in err
    shutil.copytree(finetuned[0], tmp_path / "stopped")
    (tmp_path / "stopped" / "result.json").unlink()
    code, _, err = command(capsys, "pretrain", "--resume", tmp_path / "stopped")
    assert code == 2 and "seehear finetune" in err


def test_help_says_what_there_is():
    assert make_config().finetune.protocol == "small"
    with pytest.raises(SystemExit):
        main(["finetune", "--help"])


def test_audio_files_alone_are_heard_alone(finished_run, tmp_path):
    rows = [{"path": str(tmp_path / f"{i}.wav"), "label": "ab"[i % 2], "split": ["train", "test"][i // 2 % 2]}
            for i in range(4)]  # fmt: skip
    dataset = open_data(write_rows(tmp_path / "t.csv", rows))
    start = configs.open_start(finished_run)
    assert configs.choose_encoders(start, dataset, None) == ("audio",)
    assert configs.choose_encoders(start, dataset, "both") == ("video", "audio")
    config = configs.finetune_config(start, dataset, run="a")
    assert config.clip.seconds == config.clip.audio_seconds
