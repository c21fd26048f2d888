"""Two processes: the same labels and weights on both, and those of one process where that is defined."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

import seehear
from seehear.data.clips import held_out
from seehear.engine.runlog import read_metrics
from seehear.types import Assignment
from tests.conftest import TINY_SETTINGS


def launch(processes, command, timeout=240):
    """What torchrun does for one machine, without its start-up time. One that hangs is killed, and the test fails."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    children = []
    for rank in range(processes):
        environment = os.environ | {
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes),
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        }  # fmt: skip
        children.append(
            subprocess.Popen(
                [sys.executable, *map(str, command)], env=environment, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )
        )  # fmt: skip
    try:
        outputs = [child.communicate(timeout=timeout)[0] for child in children]
    finally:
        for child in children:
            child.kill()
    assert [child.returncode for child in children] == [0] * processes, "\n".join(outputs)


def torchrun(processes, arguments, timeout=240):
    launch(processes, ["-m", "seehear", *arguments], timeout)


def test_two_processes_make_one_run(collection, tmp_path):
    # 2 x 4 clips a step are the same 8 clips that one process takes.
    settings = [*TINY_SETTINGS, "rounds=1", "optim.batch_size=4", "cluster.calibrate_batchnorm=never"]
    arguments = ["pretrain", collection, "--out", tmp_path / "two", *(p for s in settings for p in ("--set", s))]
    torchrun(2, arguments)
    seehear.pretrain(collection, tmp_path / "one", settings=[*settings, "optim.batch_size=8"], quiet=True)

    # The first clustering sees equal features: both find the same clusters of the same clips.
    one, two = (Assignment.load(tmp_path / n / "assignments" / "round_000.parquet") for n in ("one", "two"))
    assert one.clip_ids.equals(two.clip_ids)
    for name in ("video", "audio"):
        assert np.array_equal(one.of(name, one.clip_ids), two.of(name, one.clip_ids))

    # Training differs in batch normalisation alone (each process has its own), so the losses stay close.
    losses = [
        [r["train_loss"] for r in read_metrics(tmp_path / n / "metrics.jsonl") if r["kind"] == "epoch"]
        for n in ("one", "two")
    ]
    assert len(losses[0]) == len(losses[1]) == 3
    assert np.allclose(losses[0], losses[1], rtol=0.25)

    labels = pq.read_table(tmp_path / "two" / "labels.parquet")
    assert sorted(labels["video_id"].to_pylist()) == sorted(
        pq.read_table(tmp_path / "one" / "labels.parquet")["video_id"].to_pylist()
    )
    assert all(torch.isfinite(v).all() for v in load_file(tmp_path / "two" / "model" / "model.safetensors").values())


def test_averaged_gradients_are_those_of_the_whole_batch(tmp_path):
    """Without batch normalisation two half batches must give the gradient of the whole one (plain oracle)."""
    script = tmp_path / "ranks.py"
    script.write_text(
        "import torch, sys\n"
        "from torch import nn\n"
        "from seehear import dist\n"
        "dist.init_from_environment()\n"
        "torch.manual_seed(0)\n"
        "model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))\n"
        "x, y = torch.randn(8, 5), torch.arange(8) % 3\n"
        "wrapped = dist.average_gradients(model, torch.device('cpu'))\n"
        "half = slice(dist.rank() * 4, dist.rank() * 4 + 4)\n"
        "nn.functional.cross_entropy(wrapped(x[half]), y[half]).backward()\n"
        "averaged = [p.grad.clone() for p in model.parameters()]\n"
        "model.zero_grad()\n"
        "nn.functional.cross_entropy(model(x), y).backward()\n"
        "assert all(torch.allclose(a, p.grad, atol=1e-6) for a, p in zip(averaged, model.parameters()))\n"
        "dist.shutdown()\n"
    )
    launch(2, [script])


def test_two_processes_label_together_by_optimal_transport(collection, tmp_path):
    settings = [*TINY_SETTINGS, "rounds=1", "optim.epochs=2", "optim.batch_size=4", "selavi.heads=2",
                "selavi.clusterings=3", "cluster.calibrate_batchnorm=never"]  # fmt: skip
    arguments = ["pretrain", collection, "--method", "selavi", "--out", tmp_path / "two"]
    torchrun(2, [*arguments, *(p for s in settings for p in ("--set", s))])
    settings += ["optim.batch_size=8", "optim.epochs=1", "selavi.clusterings=1"]
    seehear.pretrain(collection, tmp_path / "one", method="selavi", settings=settings, quiet=True)
    one, two = (
        [r for r in read_metrics(tmp_path / n / "metrics.jsonl") if r["kind"] == "round"] for n in ("one", "two")
    )
    # The first clustering sees equal features: the heads are aligned and the clips labelled alike.
    a, b = one[0]["clusters/head0"], two[0]["clusters/head0"]
    assert a["sizes"] == b["sizes"]
    assert np.isclose(a["objective"], b["objective"], rtol=1e-5)
    assert np.allclose(a["alignment_cost_after"], b["alignment_cost_after"], rtol=1e-4)
    # Later ones are made from a pass over all clips, shared by the processes.
    assert two[-1]["clustering"] == 3
    assert all(sum(r["clusters/head0"]["sizes"]) == 24 and r["seconds_extract"] > 0.01 for r in two)
    assert seehear.label(tmp_path / "two", modality="audio").num_rows == 24


def test_a_contrastive_run_goes_on_where_fewer_clips_are_held_out_than_there_are_processes(collection, tmp_path):
    """A process without a clip to validate must still come to the gathering within the loss of the others."""
    settings = [*TINY_SETTINGS, "rounds=1", "optim.epochs=1", "optim.batch_size=2", "data.validation_share=0.05"]
    arguments = ["pretrain", collection, "--method", "gdt", "--out", tmp_path / "run"]
    torchrun(4, [*arguments, *(p for s in settings for p in ("--set", s))], timeout=150)
    epochs = [r for r in read_metrics(tmp_path / "run" / "metrics.jsonl") if r["kind"] == "epoch"]
    held = [i for i in seehear.scan(collection).by_id("path") if held_out(i, 0.05)]
    assert 1 <= len(held) < 4
    assert np.isfinite(epochs[0]["validation_loss"])


VALIDATE = """
import dataclasses, json, sys
from pathlib import Path
import torch
from seehear import dist
from seehear.data.columns import cut
from seehear.data.loader import ClipLoader
from seehear.data.manifest import Manifest
from seehear.data.views import Statistics
from seehear.engine import checkpoint
from seehear.engine.runfolder import RunFolder
from seehear.engine.runlog import RunLog
from seehear.engine.schedule import stages
from seehear.engine.stop import StopRequest
from seehear.engine.trainer import Trainer
from seehear.features.model import usable_videos
from seehear.methods import build_method
from seehear.progress import Progress
from seehear.types import Assignment


def validate(folder, clips, clips_a_step, broken):
    config = folder.load_config()
    batch_size = clips_a_step // dist.world_size()
    config = dataclasses.replace(config, optim=dataclasses.replace(config.optim, batch_size=batch_size))
    videos = usable_videos(Manifest.load(folder.manifest), ("video", "audio"))
    method = build_method(config)
    statistics = Statistics.from_dict(json.loads(folder.statistics.read_text()))
    with ClipLoader(videos, config, method.modalities, statistics, workers=0, cache=None) as loader:
        if broken is not None:  # as a video that has failed twice
            loader.failures.counts[videos[broken].video_id] = 9
        trainer = Trainer(
            method, videos, lambda _: loader, folder, RunLog(folder, write=False), Progress(quiet=True), StopRequest(),
            device=torch.device("cpu"), bfloat16=False,
        )
        state, labels = checkpoint.load_newest(folder.checkpoints)
        if labels is not None:
            trainer.assignment = Assignment.load(labels)
            trainer.prepare(stages(config)[0])
        method.load_state_dict(state["method"])
        found = trainer.validate(stages(config)[0], loader, cut(trainer.videos.table, config.cluster)[:clips])
    found.pop("seconds_validation")
    return found


run, out, cases = sys.argv[1:]
dist.init_from_environment()
torch.set_num_threads(1)
found = [validate(RunFolder(Path(run)), *case) for case in json.loads(cases)]
Path(f"{out}.{dist.rank()}").write_text(json.dumps(found))
dist.barrier()
dist.shutdown()
"""


def validated(processes, run, cases, tmp_path):
    """What each process found by validating: for each case on so many clips of a run, so many a step of all."""
    script, out = tmp_path / "validate.py", tmp_path / f"found-{processes}"
    script.write_text(VALIDATE)
    launch(processes, [script, run, out, json.dumps(cases)], timeout=150)
    return [json.loads(Path(f"{out}.{rank}").read_text()) for rank in range(processes)]


@pytest.mark.parametrize("method", ["gdt", "avts", "xdc"])
def test_validation_by_several_processes_gives_the_numbers_of_one(method, collection, tmp_path):
    """A step of several processes is the step of one with all their clips, however few each has."""
    run = tmp_path / "run"
    settings = [*TINY_SETTINGS, "rounds=1", "optim.epochs=1"]
    seehear.pretrain(collection, run, method=method, settings=settings, quiet=True)
    cases = [
        (13, 12, None),  # GDT: one whole step and a clip too many, XDC: a second step of one clip
        (2, 12, None),  # a process has no clip at all
        (3, 3, 1),  # a process has one that cannot be decoded
    ]
    several = validated(3, run, cases, tmp_path)
    (one,) = validated(1, run, cases, tmp_path)
    assert all(of_one["validation_loss"] > 0 for of_one in one)
    for of_rank in several:
        for found, of_one in zip(of_rank, one, strict=True):
            assert found.keys() == of_one.keys()
            assert np.allclose(list(found.values()), list(of_one.values()), rtol=1e-4, atol=1e-5), (found, of_one)


def test_a_step_for_which_a_process_has_no_clip_is_left_out_by_all(collection, tmp_path):
    """One video that breaks after the scan, in batches of one clip: the others must not wait for its process."""
    folder = tmp_path / "videos"
    shutil.copytree(collection.parent, folder)
    manifest = seehear.scan(folder)
    manifest.save(tmp_path / "manifest.parquet")
    victim = sorted((folder / "clips").iterdir())[3]
    victim.write_bytes(victim.read_bytes()[:300])
    settings = [*TINY_SETTINGS, "rounds=1", "optim.epochs=1", "optim.batch_size=1", "data.validation_share=0",
                "data.cache_gib=0", "optim.base_lr=0.001"]  # fmt: skip
    arguments = ["pretrain", tmp_path / "manifest.parquet", "--method", "gdt", "--out", tmp_path / "run"]
    torchrun(2, [*arguments, *(p for s in settings for p in ("--set", s))], timeout=150)
    records = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert records[-1]["kind"] == "end"
    assert records[-1]["steps"] == 24 // 2 - 1


def test_more_processes_than_clips_are_refused(collection, tmp_path):
    settings = [*TINY_SETTINGS, "optim.clips_per_epoch=1"]
    arguments = ["pretrain", collection, "--out", tmp_path / "run", *(p for s in settings for p in ("--set", s))]
    with pytest.raises(AssertionError, match="fewer processes"):
        torchrun(2, arguments)
