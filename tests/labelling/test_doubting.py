"""Doubt in labels: of the run's own clips as they are stored, of new ones by what goes with what among those."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import seehear
from seehear.cli import main
from seehear.cluster.doubt import companions, doubts
from seehear.data.clips import make_ref
from seehear.engine.runfolder import RunFolder
from seehear.features import kinds
from seehear.features.bank import FeatureBank
from seehear.features.model import table_bank
from seehear.labelling import doubting
from seehear.labelling.doubting import doubt_of, run_companions
from tests.cluster.test_kinds import views
from tests.labelling.test_label_kinds import with_features

DOUBT = [0.9 if i in (2, 7) else None if i == 5 else i / 100 for i in range(24)]


def bank_of(sight: torch.Tensor, sound: torch.Tensor) -> FeatureBank:
    refs = [make_ref(f"{i}.mp4", 0.0, 1.0) for i in range(len(sight))]
    return FeatureBank(refs, {"video": sight.numpy(), "audio": sound.numpy()}, np.ones(len(sight), bool))


@pytest.fixture(scope="module")
def counted(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has counted kinds: its clips' features are of three kinds, as wide as its encoders make them."""
    model = seehear.load(finished_run)
    narrow = views([8, 8, 8], spread=0.08, seed=1)[:2]
    wide = [
        torch.nn.functional.pad(x, (0, model.encoders[name].feature_dim - x.shape[1])).numpy()
        for name, x in zip(("video", "audio"), narrow, strict=True)
    ]
    run = with_features(finished_run, tmp_path_factory.mktemp("counted") / "run", *wide)
    (run / "kinds.json").write_text("{}")
    labels = pq.read_table(run / "labels.parquet")
    pq.write_table(labels.append_column("doubt", pa.array(DOUBT, pa.float32())), run / "labels.parquet")
    return run


def test_the_stored_doubt_is_in_the_labels_and_the_doubtful_are_counted(counted, tmp_path, capsys):
    for modality in ("video", "audio", "both"):
        assert seehear.label(counted, modality=modality)["doubt"].to_pylist() == pytest.approx(DOUBT)
    main(["label", str(counted), "--out", str(tmp_path / "labels.csv")])
    assert "2 segments are doubtful" in capsys.readouterr().out
    with (tmp_path / "labels.csv").open() as file:
        told = [row["doubt"] for row in csv.DictReader(file)]
    assert [None if x == "" else float(x) for x in told] == pytest.approx(DOUBT)
    main(["label", str(counted), "--out", str(tmp_path / "labels.parquet")])
    assert pq.read_table(tmp_path / "labels.parquet")["doubt"].null_count == 1


def test_a_run_that_has_not_counted_kinds_says_nothing_of_doubt(finished_run, collection):
    assert run_companions(RunFolder(finished_run)) is None
    for source in (None, collection):
        assert "doubt" not in seehear.label(finished_run, source).column_names


def test_new_clips_are_doubted_by_the_runs_own(counted, collection, tmp_path, capsys):
    """Against a loop over the features that `embed` gives."""
    found = seehear.label(counted, collection)
    own, new = table_bank(pq.read_table(counted / "features.parquet")), table_bank(seehear.embed(counted, collection))
    a, b = (unit(own.features[n]) for n in ("video", "audio"))
    of = companions(torch.from_numpy(a).float(), torch.from_numpy(b).float())
    wanted = []
    for x, y in zip(unit(new.features["video"]), unit(new.features["audio"]), strict=True):
        apart = (
            np.linalg.norm(z - of_row, axis=1) / s for z, of_row, s in ((a, x, of.scales[0]), (b, y, of.scales[1]))
        )
        wanted.append((np.sort(np.hypot(*apart))[:3].mean() - of.usual) / (of.strange - of.usual))
    assert found["doubt"].to_pylist() == pytest.approx(wanted, abs=2e-3)
    doubtful = np.array(found["doubt"].to_pylist()) >= 0.5
    assert doubtful.any()
    for cluster in set(found["cluster"].to_pylist()):
        rows = [row for row in found.to_pylist() if row["cluster"] == cluster]
        rows.sort(key=lambda row: row["exemplar_rank"])
        assert [row["exemplar_rank"] for row in rows] == list(range(1, len(rows) + 1))
        assert sorted(rows, key=lambda row: row["doubt"] >= 0.5) == rows  # the doubtful ones are last


def unit(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_of_many_clips_those_are_read_that_training_took(counted, monkeypatch):
    monkeypatch.setattr(kinds, "MOST_COMPANIONS", 13)
    monkeypatch.setattr(doubting, "_ROWS_AT_ONCE", 5)
    read = run_companions(RunFolder(counted))
    taken = kinds.bank_companions(table_bank(pq.read_table(counted / "features.parquet")), 0)
    assert len(read.first) == 13
    assert torch.equal(read.first, taken.first) and torch.equal(read.second, taken.second)
    assert (read.usual, read.strange) == (taken.usual, taken.strange)


def test_parts_say_the_same_of_doubt_as_one_process(counted, tmp_path):
    whole = seehear.label(counted, every_seconds=1.0, workers=0)
    out = tmp_path / "labels.parquet"
    for part in ("1/2", "2/2"):
        seehear.label(counted, every_seconds=1.0, workers=0, out=out, part=part)
    main(["join", str(out)])
    assert pq.read_table(out).to_pydict() == whole.to_pydict()
    assert whole["doubt"].null_count == 0


def test_what_has_one_stream_is_not_doubted(counted, collection):
    heard = seehear.label(counted, collection, modality="audio")
    assert heard["doubt"].null_count == heard.num_rows > 0
    sight, sound, _ = views([8, 8, 8])
    of = companions(sight, sound)
    torn = sound.clone()
    torn[3] = torch.nan
    found = doubt_of(of, bank_of(sight, torn))
    assert np.flatnonzero(np.isnan(found)).tolist() == [3]
    np.testing.assert_allclose(np.delete(found, 3), np.delete(doubts(sight, sound).doubt, 3), atol=1e-6)
    assert np.isnan(doubt_of(of, bank_of(sight[:2], torch.full_like(sound[:2], torch.nan)))).all()


def test_a_clip_of_the_run_decoded_anew_is_no_neighbour_of_its_own():
    sight, sound, _ = views([8, 8, 8])
    sound[1] = -sound[1]
    of, stored = companions(sight, sound), doubts(sight, sound).doubt
    noise = torch.Generator().manual_seed(0)
    again = [
        torch.nn.functional.normalize(x + 3e-4 * torch.randn(x.shape, generator=noise), dim=1) for x in (sight, sound)
    ]
    np.testing.assert_allclose(doubt_of(of, bank_of(*again)), stored, atol=2e-3)
