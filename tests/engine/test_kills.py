"""A job that is killed at every file that it leaves ends with the bits of one that is left alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file

from seehear.pretraining.plan import make_config
from seehear.pretraining.run import pretrain
from seehear.transfer.finetuning import finetune
from tests.conftest import TINY_SETTINGS
from tests.corpus import make_collection
from tests.kills import RESUMED

PRETRAIN = [*TINY_SETTINGS, "rounds=1", "optim.epochs=1", "cluster.k=2", "cluster.restarts=1"]
FINETUNE = ["optim.epochs=1", "optim.warmup_epochs=0", "finetune.test_clips=1", "finetune.clips_per_video=1",
            "finetune.rates=[0.03,0.1]"]  # fmt: skip


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return make_collection(tmp_path_factory.mktemp("kills"), n=16, classes=2)


@pytest.fixture(scope="module")
def pretrained(table, tmp_path_factory):
    run = tmp_path_factory.mktemp("kills_run") / "run"
    return pretrain(table, run, make_config(method="xdc", settings=PRETRAIN), quiet=True)


def killed(tmp_path, **job):
    """What the children of `tests.kills` came to, and the paths at which they were killed, within the run folder."""
    out = tmp_path / "killed"
    (tmp_path / "job.json").write_text(json.dumps({"out": str(out), **job}))
    done = subprocess.run(
        [sys.executable, "-m", "tests.kills", tmp_path / "job.json"], capture_output=True, text=True, timeout=500,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    paths = [Path(p).relative_to(out).as_posix() for p in found["paths"] if Path(p).is_relative_to(out)]
    assert [codes[-1] for codes in found["codes"]] == [-9] * len(found["paths"]) + [0], done.stderr
    assert all(codes[:-1] in ([], [4]) for codes in found["codes"])
    assert found[RESUMED] == 0, done.stderr  # once more when all is done
    return out, paths


def assert_same_bits(one, other):
    a, b = (load_file(run / "model" / "model.safetensors") for run in (one, other))
    assert a.keys() == b.keys()
    assert all(np.array_equal(a[name], b[name]) for name in a)
    assert not list(other.rglob(".*.tmp")), "what killed processes were writing stays"


def test_a_pretraining_killed_at_every_rename_ends_with_the_same_bits(table, pretrained, tmp_path):
    out, paths = killed(tmp_path, command="pretrain", method="xdc", source=str(table), run=str(tmp_path / "none"),
                        settings=PRETRAIN)  # fmt: skip
    assert {"env.json", "config.yaml", "manifest.parquet", "statistics.json", "model", "labels.parquet"} <= set(paths)
    assert_same_bits(pretrained, out)
    assert pq.read_table(out / "labels.parquet").equals(pq.read_table(pretrained / "labels.parquet"))


def test_a_finetuning_killed_at_every_rename_ends_with_the_same_bits(table, pretrained, tmp_path):
    whole = tmp_path / "whole"
    expected = finetune(pretrained, table, whole, settings=FINETUNE, quiet=True)
    out, paths = killed(tmp_path, command="finetune", source=str(table), run=str(pretrained), split="1",
                        settings=FINETUNE)  # fmt: skip
    assert {"env.json", "config.yaml", "start", "manifest.parquet", "search.json", "model", "result.json"} <= set(paths)
    assert_same_bits(whole, out)
    assert json.loads((out / "result.json").read_text())["scores"] == expected["scores"]
    # The command that made it answers with the result that is there.
    again = finetune(pretrained, table, out, settings=FINETUNE, quiet=True)
    assert again["scores"] == expected["scores"]
