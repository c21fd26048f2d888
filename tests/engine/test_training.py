"""The contract of training: it learns, it resumes to the bit, it survives bad videos, it says what went wrong."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

import seehear
from seehear.data.manifest import Manifest
from seehear.engine.runlog import read_metrics
from seehear.engine.stop import StopRequest
from seehear.engine.trainer import Trainer
from seehear.errors import DataError, Interrupted, RunError, TrainingError, UsageError
from seehear.methods import METHODS
from seehear.pretraining import run as pretraining
from seehear.pretraining.plan import make_config
from seehear.report.content import Content
from seehear.report.gather import gather
from seehear.report.header import header
from seehear.transfer.evaluations import save
from seehear.transfer.table import make_table
from tests.conftest import TINY_SETTINGS
from tests.corpus import make_broken, make_collection

TRAINED = [m for m in METHODS if m != "scratch"]


def weights(run):
    return load_file(Path(run) / "model" / "model.safetensors")


def assert_same_run(one, other):
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys()
    assert [k for k in a if not torch.equal(a[k], b[k])] == []
    for name in ("features.parquet", "labels.parquet"):
        assert pq.read_table(Path(one) / name).equals(pq.read_table(Path(other) / name))
    drop = {"seconds", "clips_per_second", "seconds_data", "seconds_compute", "seconds_validation",
            "seconds_extract", "seconds_cluster", "peak_memory_bytes"}  # fmt: skip
    lines = [
        [
            {k: v for k, v in r.items() if k not in drop}
            for r in read_metrics(Path(run) / "metrics.jsonl")
            if r["kind"] != "prepare"  # once a sitting
        ]
        for run in (one, other)
    ]
    assert lines[0] == lines[1]


def stopped_and_resumed(collection, run, config, stop_after, monkeypatch):
    """A run that stops after so many steps, as Ctrl-C or SIGTERM stop it, and is then resumed to its end."""
    save_or_stop = Trainer.save_or_stop

    def stopping(self):
        if self.state.step == stop_after:
            self.stop.signal = signal.SIGTERM
        save_or_stop(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "save_or_stop", stopping)
        with pytest.raises(Interrupted, match="--resume"):
            pretraining.pretrain(collection, run, config, quiet=True)
    torch.manual_seed(123)  # whatever another process did meanwhile
    return pretraining.pretrain(None, run, config, resume=True, quiet=True)


@pytest.mark.parametrize("method", TRAINED)
def test_the_loss_falls(method, collection, tmp_path):
    # Without jitter: 24 videos are too few to learn from a hundred steps what holds across crops and starts.
    settings = [*TINY_SETTINGS, "rounds=1", "optim.epochs=12", "optim.clips_per_epoch=128",
                "augment.temporal_jitter=false", "augment.flip_probability=0"]  # fmt: skip
    seehear.pretrain(collection, tmp_path / "run", method=method, settings=settings, quiet=True)
    epochs = [r for r in read_metrics(tmp_path / "run" / "metrics.jsonl") if r["kind"] == "epoch"]
    assert len(epochs) == 12
    assert epochs[-1]["train_loss"] < 0.8 * epochs[0]["train_loss"]


def test_weights_that_are_not_there_leave_no_run_behind(collection, tmp_path):
    settings = [*TINY_SETTINGS, "model.video_weights=no.pt"]
    with pytest.raises(DataError, match=r"no\.pt is not a file"):
        seehear.pretrain(collection, tmp_path / "run", settings=settings, quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_run_folder_holds_all_that_a_run_is(finished_run):
    names = {p.name for p in finished_run.iterdir()}
    assert names >= {"config.yaml", "manifest.parquet", "env.json", "statistics.json", "metrics.jsonl", "assignments",
                     "checkpoints", "model", "features.parquet", "labels.parquet", "tensorboard"}  # fmt: skip
    assert "run.lock" not in names
    kinds = [r["kind"] for r in read_metrics(finished_run / "metrics.jsonl")]
    assert kinds.count("round") == 2
    assert kinds.count("epoch") == 6
    assert kinds[-1] == "end"
    rounds = [r for r in read_metrics(finished_run / "metrics.jsonl") if r["kind"] == "round"]
    assert sum(rounds[0]["clusters/video"]["sizes"]) == 24
    assert rounds[0]["clusters/video"]["churn_nmi"] is None
    assert 0 <= rounds[1]["clusters/video"]["churn_nmi"] <= 1
    labels = pq.read_table(finished_run / "labels.parquet")
    assert labels.num_rows == 24
    for modality in ("video", "audio", "both"):
        assert set(labels[f"cluster_{modality}"].to_pylist()) <= {0, 1, 2, 3}
        assert min(labels[f"rank_{modality}"].to_pylist()) == 1


@pytest.mark.parametrize("stop_after", [1, 4, 9])
def test_a_stopped_run_resumes_to_the_bit(stop_after, finished_run, collection, tmp_path, monkeypatch):
    """Stopped after any step, then resumed: the same run as one never stopped."""
    config = make_config(method="xdc", settings=TINY_SETTINGS)
    run = stopped_and_resumed(collection, tmp_path / "run", config, stop_after, monkeypatch)
    assert_same_run(finished_run, run)


def test_a_stopped_run_of_avts_resumes_to_the_bit(collection, tmp_path, monkeypatch):
    """Before hard negatives come, in the step with which they come, and after the last one, before validation."""
    config = make_config(method="avts", settings=[*TINY_SETTINGS, "rounds=1", "avts.gap_seconds=0.2"])
    pretraining.pretrain(collection, tmp_path / "whole", config, quiet=True)
    steps = [r for r in read_metrics(tmp_path / "whole" / "metrics.jsonl") if r["kind"] == "step"]
    a_epoch = len(steps) // 3
    assert a_epoch * 3 == len(steps)
    for stop_after in (1, 2 * a_epoch, 2 * a_epoch + 1, 3 * a_epoch):
        run = stopped_and_resumed(collection, tmp_path / str(stop_after), config, stop_after, monkeypatch)
        assert_same_run(tmp_path / "whole", run)


@pytest.mark.parametrize("labels_from", ["training", "pass"])
def test_a_stopped_run_of_selavi_resumes_to_the_bit(labels_from, collection, tmp_path, monkeypatch):
    """Between two clusterings within an epoch: the features kept, the labels and what is due are part of the state."""
    settings = [*TINY_SETTINGS, "rounds=1", "selavi.heads=2", "selavi.clusterings=6",
                f"selavi.labels_from={labels_from}"]  # fmt: skip
    config = make_config(method="selavi", settings=settings)
    pretraining.pretrain(collection, tmp_path / "whole", config, quiet=True)
    rounds = [r for r in read_metrics(tmp_path / "whole" / "metrics.jsonl") if r["kind"] == "round"]
    assert (rounds[0]["clustering"], rounds[-1]["clustering"]) == (0, 6)
    for stop_after in (1, 4):
        run = stopped_and_resumed(collection, tmp_path / f"run{stop_after}", config, stop_after, monkeypatch)
        assert_same_run(tmp_path / "whole", run)


def test_a_run_stopped_while_it_embeds_for_new_labels_resumes_to_the_bit(collection, tmp_path, monkeypatch):
    watch = Trainer.watch
    settings = [*TINY_SETTINGS, "rounds=1", "selavi.heads=2", "selavi.clusterings=6", "selavi.labels_from=pass"]
    config = make_config(method="selavi", settings=settings)
    pretraining.pretrain(collection, tmp_path / "whole", config, quiet=True)

    def stopping(self, done, total):
        if self.state.step == 3:
            self.stop.signal = signal.SIGTERM
        watch(self, done, total)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "watch", stopping)
        with pytest.raises(Interrupted, match="after step 3"):
            pretraining.pretrain(collection, tmp_path / "run", config, quiet=True)
    pretraining.pretrain(None, tmp_path / "run", config, resume=True, quiet=True)
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def start(arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "seehear", "pretrain", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_steps(process, run, steps):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if sum(r["kind"] == "step" for r in read_metrics(run / "metrics.jsonl")) >= steps:
            return
        time.sleep(0.02)
    raise AssertionError(f"the run did not come to step {steps}:\n{process.communicate()[0]}")


def pretrain_arguments(collection, run):
    return [str(collection), "--out", str(run), *(part for s in TINY_SETTINGS for part in ("--set", s))]


def test_a_killed_process_resumes_to_the_bit(finished_run, collection, tmp_path):
    run = tmp_path / "run"
    arguments = pretrain_arguments(collection, run)
    first = start([*arguments, "--set", "checkpoint_minutes=0.001"])
    wait_for_steps(first, run, 4)
    first.kill()
    first.wait()
    assert not (run / "labels.parquet").exists()
    second = start(["--resume", str(run)])
    output = second.communicate(timeout=180)[0]
    assert second.returncode == 0, output
    assert_same_run(finished_run, run)


def test_sigterm_saves_and_exits_with_75(collection, tmp_path):
    run = tmp_path / "run"
    process = start([*pretrain_arguments(collection, run), "--set", "optim.epochs=200"])
    wait_for_steps(process, run, 3)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 75, output
    assert "--resume" in output
    assert list((run / "checkpoints").glob("step_*"))
    assert not (run / "run.lock").exists()


def test_a_run_in_use_is_refused(collection, tmp_path):
    run = tmp_path / "run"
    process = start([*pretrain_arguments(collection, run), "--set", "optim.epochs=200"])
    try:
        wait_for_steps(process, run, 1)
        with pytest.raises(RunError, match="in use"):
            pretraining.pretrain(None, run, make_config(), resume=True, quiet=True)
    finally:
        process.kill()
        process.communicate()


def test_a_finished_run_resumes_to_nothing(finished_run):
    before = (finished_run / "metrics.jsonl").read_bytes()
    assert pretraining.pretrain(None, finished_run, make_config(), resume=True, quiet=True) == finished_run
    assert (finished_run / "metrics.jsonl").read_bytes() == before


def test_bad_videos_are_left_out_and_listed(tmp_path):
    folder = tmp_path / "videos"
    make_collection(folder, n=40, classes=4)
    broken = make_broken(folder / "broken")
    seehear.pretrain(folder, tmp_path / "run", settings=TINY_SETTINGS, quiet=True)
    rows = {r["video_id"]: r for r in pq.read_table(tmp_path / "run" / "manifest.parquet").to_pylist()}
    rejected = {Path(i).name: r["reason"] for i, r in rows.items() if not r["usable"]}
    assert len(rejected) >= 0.2 * len(rows)
    assert len(set(rejected.values())) >= 10
    assert {name: rejected[name] for name in broken} == broken
    assert pq.read_table(tmp_path / "run" / "labels.parquet").num_rows == 40


@pytest.mark.parametrize("cache_gib", [0, 1])
def test_a_video_that_breaks_after_the_scan_costs_only_itself(cache_gib, tmp_path):
    folder = tmp_path / "videos"
    make_collection(folder, n=20, classes=4)
    manifest = seehear.scan(folder)
    victim = sorted((folder / "clips").iterdir())[3]
    victim.write_bytes(victim.read_bytes()[:300])
    settings = [*TINY_SETTINGS, f"data.cache_gib={cache_gib}", f"data.cache_folder={tmp_path / 'cache'}"]
    seehear.pretrain(manifest, tmp_path / "run", settings=settings, quiet=True)
    failures = [json.loads(line) for line in (tmp_path / "run" / "failures.jsonl").read_text().splitlines()]
    assert {f["video_id"] for f in failures} == {f"clips/{victim.name}"}
    assert all(f["reason"] and f["detail"] for f in failures)
    assert pq.read_table(tmp_path / "run" / "labels.parquet").num_rows == 19


def test_too_many_bad_videos_stop_the_run(tmp_path):
    folder = tmp_path / "videos"
    make_collection(folder, n=12, classes=4)
    manifest = seehear.scan(folder)
    for victim in sorted((folder / "clips").iterdir())[:5]:
        victim.write_bytes(b"")
    settings = [*TINY_SETTINGS, f"data.cache_folder={tmp_path / 'cache'}"]
    with pytest.raises(TrainingError, match=r"5 of 12 videos.*max_failed_share"):
        seehear.pretrain(manifest, tmp_path / "run", settings=settings, quiet=True)


def test_a_loss_that_is_not_finite_stops_the_run(collection, tmp_path):
    settings = [*TINY_SETTINGS, "optim.base_lr=1e20", "optim.epochs=30", "optim.schedule=step",
                    "optim.warmup_epochs=0"]  # fmt: skip
    with pytest.raises(TrainingError, match="not finite"):
        seehear.pretrain(collection, tmp_path / "run", settings=settings, quiet=True)


def test_the_final_stage_trains_longer_clips_on_the_last_labels(collection, tmp_path):
    settings = [*TINY_SETTINGS, "rounds=1", "final.frames=8", "final.optim.epochs=2", "final.optim.batch_size=4"]
    model = seehear.pretrain(collection, tmp_path / "run", settings=settings, quiet=True)
    assert model.config.clip.frames == 8
    records = read_metrics(tmp_path / "run" / "metrics.jsonl")
    final = [r for r in records if r["kind"] == "epoch" and r["round"] == 1]
    assert len(final) == 2
    assert "loss/video<-audio" in final[0]
    assert "loss/audio<-video" not in final[0]
    assert [r["round"] for r in records if r["kind"] == "round"] == [0]


def test_early_stopping_ends_a_round_after_three_rises():
    trainer = Trainer.__new__(Trainer)
    from seehear.engine.schedule import stages
    from seehear.engine.trainer import TrainState

    trainer.state = TrainState()
    stage = stages(make_config(settings=["optim.early_stop_rises=3", "data.validation_share=0.1"]))[0]
    for losses, stops in [([3, 2, 1], False), ([1, 2, 3], False), ([1, 2, 3, 4], True), ([1, 2, 3, 3, 4], False),
                          ([5, 1, 2, 3, 4], True), ([1, 2, 3, 2, 3, 4], False)]:  # fmt: skip
        trainer.state.validation_losses = losses
        assert trainer.should_stop_early(stage) is stops


def test_a_run_learns_from_the_sample_it_was_asked_for(collection, tmp_path):
    settings = [*TINY_SETTINGS, "data.sample=0.5", "cluster.k=2", "rounds=1", "optim.epochs=1"]
    for seed in (0, 1):
        seehear.pretrain(
            collection,
            tmp_path / f"{seed}",
            method="xdc",
            seed=seed,
            settings=settings,
            where=["split=train"],
            quiet=True,
        )
    runs = [Manifest.load(tmp_path / f"{seed}" / "manifest.parquet") for seed in (0, 1)]
    assert [run.info["sample"]["drawn"] for run in runs] == [9, 9]
    assert runs[0].info["sample"]["of"] == 18
    labels = pq.read_table(tmp_path / "0" / "labels.parquet")
    assert set(labels["video_id"].to_pylist()) == set(runs[0].column("video_id")) != set(runs[1].column("video_id"))
    facts = header(Content(gather(tmp_path / "0")))["facts"]
    assert ("Sample", "9 of 18 usable videos") in facts
    # Seeds draw other videos, and are one group all the same.
    for run in (tmp_path / "0", tmp_path / "1"):
        save(run, "knn", {"scores": {"video": {"accuracy": {"value": 0.5}}}}, data="x.csv")
    assert [len(members) for members in make_table([tmp_path / "0", tmp_path / "1"]).runs.values()] == [2]


@pytest.mark.parametrize("value", ["0", "-1", "2.5"])
def test_a_sample_that_cannot_be_is_refused(value):
    with pytest.raises(UsageError, match=r"data\.sample"):
        make_config(settings=[f"data.sample={value}"])


def test_scratch_is_a_run_without_training(collection, tmp_path):
    model = seehear.pretrain(collection, tmp_path / "run", method="scratch", settings=TINY_SETTINGS, quiet=True)
    from seehear.features.frozen import untrained_model

    fresh = dict(untrained_model(model).encoders.named_parameters())
    assert all(torch.equal(v, fresh[k]) for k, v in model.encoders.named_parameters())
    assert pq.read_table(tmp_path / "run" / "labels.parquet").num_rows == 24


def test_streaming_and_caching_lead_to_nearly_the_same_features(collection, tmp_path):
    """The cache may not change what the encoders see: same frames, and sound up to resampling at the edges."""
    runs = []
    for gib in (0, 1):
        settings = [*TINY_SETTINGS, f"data.cache_gib={gib}", f"data.cache_folder={tmp_path / 'cache'}"]
        seehear.pretrain(collection, tmp_path / f"run{gib}", method="scratch", settings=settings, quiet=True)
        runs.append(pq.read_table(tmp_path / f"run{gib}" / "features.parquet").to_pydict())
    for name, tolerance in (("video", 1e-6), ("audio", 2e-2)):
        a, b = (np.array(run[name]) for run in runs)
        assert np.abs(a - b).max() <= tolerance * np.abs(a).max()


def test_a_signal_while_nothing_runs_is_not_caught():
    stop = StopRequest()
    with stop.listening():
        signal.raise_signal(signal.SIGTERM)
        assert stop.name == "SIGTERM"
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_moving_the_videos_does_not_misalign_labels(collection, tmp_path):
    """Pseudo-labels are keyed by clip: a table in another order gives every video the label it had."""
    rows = collection.read_text().splitlines()
    moved = tmp_path / "moved"
    shutil.copytree(collection.parent, moved)
    (moved / "labels.csv").write_text("\n".join([rows[0], *reversed(rows[1:])]))
    found = []
    for source in (collection, moved / "labels.csv"):
        run = tmp_path / f"run{len(found)}"
        # Calibration goes by batches, whose members depend on the order.
        settings = [*TINY_SETTINGS, "cluster.calibrate_batchnorm=never"]
        seehear.pretrain(source, run, method="scratch", settings=settings, quiet=True)
        table = pq.read_table(run / "features.parquet").to_pydict()
        found.append(dict(zip(table["video_id"], map(tuple, table["audio"]), strict=True)))
    assert found[0].keys() == found[1].keys()
    assert all(np.allclose(found[0][i], found[1][i], atol=1e-6) for i in found[0])
