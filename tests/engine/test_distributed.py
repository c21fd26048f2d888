"""Two processes: the same labels and weights on both, and those of one process where that is defined."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file

import seehear
from seehear.engine.runlog import read_metrics
from seehear.types import Assignment
from tests.conftest import TINY_SETTINGS


def torchrun(processes, arguments):
    """What torchrun does for one machine, without its start-up time."""
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
                [sys.executable, "-m", "seehear", *map(str, arguments)], env=environment, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )
        )  # fmt: skip
    outputs = [child.communicate(timeout=240)[0] for child in children]
    assert [child.returncode for child in children] == [0] * processes, "\n".join(outputs)


def test_two_processes_make_one_run(collection, tmp_path):
    # 2 x 4 clips a step are the same 8 clips that one process takes.
    settings = [*TINY_SETTINGS, "rounds=1", "optim.batch_size=4", "cluster.calibrate_batchnorm=never"]
    arguments = ["pretrain", collection, "--out", tmp_path / "two", *(p for s in settings for p in ("--set", s))]
    torchrun(2, arguments)
    seehear.pretrain(collection, tmp_path / "one", settings=[*settings, "optim.batch_size=8"], quiet=True)

    # The first clustering sees equal features: both find the same clusters of the same clips.
    one, two = (Assignment.load(tmp_path / n / "assignments" / "round_000.parquet") for n in ("one", "two"))
    assert sorted(one.clip_ids) == sorted(two.clip_ids)
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
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    base = os.environ | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    children = [
        subprocess.Popen([sys.executable, str(script)], env=base | {"RANK": str(r), "LOCAL_RANK": str(r)})
        for r in range(2)
    ]
    assert [child.wait(timeout=120) for child in children] == [0, 0]


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
