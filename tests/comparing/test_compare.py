"""Runs ranked without labels: in the order in which their features were spoiled."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import seehear
from seehear.cli import main
from seehear.comparing.criteria import criteria, held_out_prediction
from seehear.errors import DataError, UsageError
from tests.cluster.test_kinds import views
from tests.labelling.test_label_kinds import with_features


@pytest.fixture(scope="module")
def runs(finished_run, tmp_path_factory) -> dict[str, Path]:
    """Three runs on 24 clips of three kinds: clear, of which every third clip has another's sound, and of chance."""
    folder = tmp_path_factory.mktemp("compared")
    sight, sound, _ = views([8, 8, 8], spread=0.05, seed=1)
    worse = sound.clone()
    worse[::3] = sound[::3][torch.randperm(8, generator=torch.Generator().manual_seed(0))]
    random = np.random.default_rng(0)
    return {
        "clear": with_features(finished_run, folder / "clear", sight.numpy(), sound.numpy()),
        "worse": with_features(finished_run, folder / "worse", sight.numpy(), worse.numpy()),
        "chance": with_features(finished_run, folder / "chance", random.random((24, 8)), random.random((24, 8))),
    }


@pytest.fixture(scope="module")
def truth(runs, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("truth") / "truth.csv"
    ids = pq.read_table(runs["clear"] / "features.parquet")["video_id"].to_pylist()
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["path", "label"], *((name, f"kind {i // 8}") for i, name in enumerate(ids))])
    return path


def test_runs_stand_in_the_order_of_what_sight_and_sound_share(runs, truth):
    found = seehear.compare([runs["chance"], runs["worse"], runs["clear"]], labels=truth)
    assert [Path(r.run).name for r in found.runs] == ["clear", "worse", "chance"]
    clear, worse, chance = (r.found for r in found.runs)
    assert (clear.k, clear.agreement) == (3, pytest.approx(1.0))
    # Nineteen clips in three equal parts hold log2 3 bits, less what they share by chance.
    assert 1.3 < clear.shared_bits < np.log2(3)
    assert clear.predicted == pytest.approx(1.0)
    assert clear.stability == pytest.approx(1.0)
    assert clear.of_a_kind == 1.0
    assert worse.shared_bits < clear.shared_bits
    assert chance.shared_bits < worse.shared_bits
    assert found.runs[0].nmi == pytest.approx(1.0)
    assert found.rank_correlation is not None
    assert found.rank_correlation > 0.4
    assert (found.clips, found.labelled) == (24, 24)


def test_the_command_prints_a_line_a_run_and_json(runs, truth, capsys):
    asked = ["compare", str(runs["chance"]), str(runs["clear"])]
    main(asked)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["run", "method", "kinds", "shared", "agree", "predicted", "stable", "fit"]
    assert lines[1].split()[:3] == [str(runs["clear"]), "xdc", "3"]
    main([*asked, "--labels", str(truth), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert [Path(r["run"]).name for r in told["runs"]] == ["clear", "chance"]
    assert told["runs"][0]["nmi"] == pytest.approx(1.0)
    assert told["rank_correlation"] is None  # two runs have no ranks to speak of


def test_prediction_in_held_out_clips_is_all_or_nothing():
    first, second, _ = views([30, 30, 30])
    assert held_out_prediction(first, second, 3, np.random.default_rng(0)) == pytest.approx(1.0)
    shuffled = second[torch.randperm(90, generator=torch.Generator().manual_seed(0))]
    assert abs(held_out_prediction(first, shuffled, 3, np.random.default_rng(0))) < 0.1


def test_modalities_that_share_nothing_get_zeros():
    random = torch.Generator().manual_seed(3)
    found = criteria(torch.randn(60, 6, generator=random), torch.randn(60, 6, generator=random))
    assert found.k is None
    assert found.shared_bits == found.stability == 0.0


def test_runs_that_cannot_be_compared_are_refused(runs, finished_run, tmp_path):
    with pytest.raises(UsageError, match="nothing to be compared"):
        seehear.compare([runs["clear"]])
    sight = np.random.default_rng(0).random((24, 8))
    with pytest.raises(UsageError, match="has learnt video"):
        seehear.compare([runs["clear"], with_features(finished_run, tmp_path / "blind", sight, None)])
    few = with_features(finished_run, tmp_path / "few", sight[:12], sight[:12])
    with pytest.raises(DataError, match="12 clips in common"):
        seehear.compare([runs["clear"], few])
