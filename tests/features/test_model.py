"""Extraction, the feature bank and the trained model: what goes in comes out, on disk and off."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import seehear
from seehear.data.clips import Video, clip_refs, plain_requests
from seehear.data.loader import ClipLoader
from seehear.errors import DataError, RunError, UsageError
from seehear.features.bank import FeatureBank
from seehear.features.blocks import Embedder
from seehear.features.extract import calibrate_batchnorm, extract
from seehear.features.headlabels import ranked
from seehear.features.model import Clusters, Model, bank_table, cluster_rows, segments, table_bank, usable_videos
from seehear.types import ClipRef
from tests.corpus import make_broken, make_video


@pytest.fixture(scope="module")
def model(finished_run):
    return seehear.load(finished_run)


@pytest.fixture(scope="module")
def videos(collection):
    return usable_videos(seehear.scan(collection, workers=0), ("video", "audio"))


def small_bank(n=6):
    rng = np.random.default_rng(0)
    refs = [ClipRef(f"v{i}#t=0.000,1.000", f"v{i}", 0.0, 1.0) for i in range(n)]
    features = {
        "video": rng.normal(size=(n, 4)).astype(np.float32),
        "audio": rng.normal(size=(n, 3)).astype(np.float32),
    }
    return FeatureBank(refs, features, np.ones(n, dtype=bool))


def test_a_bank_survives_a_table():
    bank = small_bank()
    again = table_bank(bank_table(bank))
    assert again.refs == bank.refs
    assert all(np.array_equal(again.features[n], bank.features[n]) for n in bank.features)


def test_a_large_bank_lives_in_files(tmp_path, monkeypatch):
    monkeypatch.setattr("seehear.features.bank.IN_MEMORY_BYTES", 10)
    bank = FeatureBank.empty(small_bank().refs, {"video": 4}, tmp_path)
    assert isinstance(bank.features["video"], np.memmap)
    bank.features["video"][2] = 7
    assert np.load(tmp_path / "video.npy")[2].tolist() == [7, 7, 7, 7]


def test_extraction_is_the_encoder_on_each_clip_alone(model, videos):
    """Batches, threads and order must not matter: a plain loop over single clips is the oracle."""
    refs = clip_refs(videos, model.config.cluster)
    bank = model.extract(videos, refs)
    assert bank.clip_ids == [r.clip_id for r in refs]
    with ClipLoader(videos, model.config, model.modalities, model.statistics, workers=0, cache=None) as loader:
        for row in (0, 7, 23):
            batch = next(iter(loader.batches(plain_requests([refs[row]], loader.videos, model.config.clip), 1)))
            inputs = loader.to_inputs(batch, torch.device("cpu")).inputs
            for name, encoder in model.encoders.items():
                with torch.no_grad():
                    assert np.allclose(bank.features[name][row], encoder(inputs[name])[0].numpy(), atol=1e-5)


def test_several_clips_of_a_span_are_averaged(model, videos):
    refs = clip_refs(videos[:3], model.config.cluster)
    with ClipLoader(videos, model.config, model.modalities, model.statistics, workers=0, cache=None) as loader:
        requests = plain_requests(refs, loader.videos, model.config.clip, 3)
        encoders = dict(model.encoders.items())
        together = extract(encoders, loader, requests, device=torch.device("cpu"), batch_size=4)
        alone = [extract(encoders, loader, [r], device=torch.device("cpu")).features["video"][0] for r in requests[:3]]
    assert len(together) == 3
    assert np.allclose(together.features["video"][0], np.mean(alone, axis=0), atol=1e-5)


def test_calibration_gives_batchnorm_the_statistics_of_the_data(model, videos):
    encoders = {"audio": model.encoders["audio"]}
    norm = encoders["audio"].bn1
    before = {k: v.clone() for k, v in encoders["audio"].state_dict().items()}
    try:
        with ClipLoader(videos, model.config, {"audio": "audio"}, model.statistics, workers=0, cache=None) as loader:
            requests = plain_requests(clip_refs(videos, model.config.cluster), loader.videos, model.config.clip)
            calibrate_batchnorm(encoders, loader, requests, device=torch.device("cpu"), batch_size=24)
            batch = next(iter(loader.batches(requests, 24)))
            with torch.no_grad():
                x = encoders["audio"].conv1(loader.to_inputs(batch, torch.device("cpu")).inputs["audio"])
        assert torch.allclose(norm.running_mean, x.mean((0, 2, 3)), atol=1e-4)
        assert norm.momentum == model.config.model.bn_momentum
        assert not encoders["audio"].training
    finally:
        encoders["audio"].load_state_dict(before)


def test_a_model_survives_the_disk(model, tmp_path):
    model.save(tmp_path / "m")
    again = Model.load(tmp_path / "m")
    assert again.config == model.config
    assert again.statistics == model.statistics
    assert all(torch.equal(v, again.encoders.state_dict()[k]) for k, v in model.encoders.state_dict().items())
    x = small_bank(5).features["video"]
    wide = np.tile(x, (1, 8))
    for one, other in zip(model.clusters["video"].assign(wide), again.clusters["video"].assign(wide), strict=True):
        assert np.array_equal(one, other)


def test_videos_of_one_clip_have_the_same_bits_in_blocks_of_any_size(finished_run, collection, monkeypatch):
    model = seehear.load(finished_run)
    whole = model.embed(collection)
    calls: list[int] = []
    bank = Embedder.bank
    monkeypatch.setattr(Embedder, "bank", lambda self, rows, *rest: calls.append(len(rows)) or bank(self, rows, *rest))
    monkeypatch.setattr("seehear.features.blocks.LEAST_BATCHES", 1)
    assert model.embed(collection).equals(whole)
    assert calls == [8, 8, 8]  # a batch each


def test_the_embedding_of_the_runs_own_videos_is_what_it_stored(model, finished_run, collection):
    stored = pq.read_table(finished_run / "features.parquet").to_pydict()
    again = model.embed(collection).to_pydict()
    assert again["video_id"] == stored["video_id"]
    for name in ("video", "audio"):
        a, b = np.array(again[name]), np.array(stored[name])
        assert np.abs(a - b).max() < 0.05 * np.abs(b).max()  # the cache holds 16-bit sound


def test_segments_have_starts_and_ends(model, tmp_path):
    make_video(tmp_path / "long.mp4", seconds=6.2)
    table = model.embed(tmp_path, every_seconds=2.0).to_pydict()
    assert table["start_seconds"] == pytest.approx([0, 2, 4], abs=0.05)
    assert table["end_seconds"] == pytest.approx([2, 4, 6.2], abs=0.1)


@pytest.mark.parametrize(
    ("seconds", "every", "edges"),
    [
        (10, 5, [0, 5, 10]),
        (11, 5, [0, 5, 11]),
        (13, 5, [0, 5, 10, 13]),
        (2, 5, [0, 2]),
        (0.4, 0.1, [0, 0.1, 0.2, 0.3, 0.4]),
    ],
)
def test_segments_cover_the_video(seconds, every, edges):
    refs = segments(Video("v", "/v", "f", 0.0, seconds, 4, 3), every)
    assert [refs[0].start_seconds, *(r.end_seconds for r in refs)] == pytest.approx(edges)


def test_segments_need_a_length():
    with pytest.raises(UsageError):
        segments(Video("v", "/v", "f", 0.0, 3.0, 4, 3), 0)


def test_confidence_is_nought_on_the_border_and_one_on_a_centroid():
    transform = FeatureTransformState()
    clusters = Clusters(torch.tensor([[0.0, 0.0], [4.0, 0.0]]), transform)
    labels, distances, confidence = clusters.assign(np.array([[0, 0], [1, 0], [2, 0], [4, 0]], dtype=np.float32))
    assert labels[[0, 1, 3]].tolist() == [0, 0, 1]
    assert distances.tolist() == pytest.approx([0, 1, 2, 0])
    assert confidence.tolist() == pytest.approx([1, 1 - 1 / 3, 0, 1])


def FeatureTransformState():
    from seehear.cluster.preprocess import FeatureTransform

    transform = FeatureTransform(l2=False, pca_dim=None, whiten=False)
    transform.fit(torch.zeros(4, 2))
    return transform.state()


def test_exemplar_ranks_count_from_the_centroid():
    bank = small_bank(5)
    bank.features["video"] = np.array([[0, 0.3], [0, 0.1], [4, 0], [4, 1], [0, 0.2]], dtype=np.float32)
    clusters = Clusters(torch.tensor([[0.0, 0.0], [4.0, 0.0]]), FeatureTransformState())
    rows = ranked(cluster_rows(bank, "video", clusters))
    assert rows["cluster"].tolist() == [0, 0, 1, 1, 0]
    assert rows["rank"].tolist() == [3, 1, 1, 2, 2]


def test_broken_files_are_left_out_of_an_embedding(model, tmp_path):
    make_broken(tmp_path)
    make_video(tmp_path / "good.mp4")
    assert set(model.embed(tmp_path).to_pydict()["video_id"]) == {"good.mp4"}


def test_a_folder_of_nothing_usable_says_why(model, tmp_path):
    make_broken(tmp_path)
    with pytest.raises(DataError, match="no usable video") as caught:
        model.embed(tmp_path)
    assert "truncated" in str(caught.value)


def test_a_video_without_sound_can_be_embedded_by_sight(model, tmp_path):
    make_video(tmp_path / "mute.mp4", has_audio=False)
    table = model.embed(tmp_path, modalities=("video",))
    assert table.column_names == ["video_id", "start_seconds", "end_seconds", "video"]
    assert table.num_rows == 1


def test_a_folder_that_is_no_model_says_what_to_do(tmp_path, finished_run):
    with pytest.raises(RunError, match="holds no trained model"):
        Model.load(tmp_path)
    folder = tmp_path / "model"
    folder.mkdir()
    text = (finished_run / "model" / "config.json").read_text()
    (folder / "config.json").write_text(text[:50])
    with pytest.raises(RunError, match="damaged"):
        Model.load(tmp_path)
    values = json.loads(text)
    (folder / "config.json").write_text(json.dumps(values))
    (folder / "model.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(RunError, match="damaged"):
        Model.load(tmp_path)


def test_an_unknown_modality_is_named(model):
    bare = Model(replace(model.config), {"video": "video"}, {"video": model.encoders["video"]}, model.statistics)
    with pytest.raises(UsageError, match="no encoder of audio"):
        bare.extract([], [], modalities=("audio",))
