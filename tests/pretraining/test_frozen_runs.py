"""Runs on encoders of others: frozen on the bank of their features, and tuned."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

import seehear
from seehear.data.clips import ClipRequest
from seehear.data.loader import ClipLoader
from seehear.data.views import Statistics
from seehear.encoders import open_encoder
from seehear.engine.trainer import Trainer
from seehear.errors import DestinationError, Interrupted, RunError, UsageError
from seehear.features.bank import FeatureBank
from seehear.features.frozen import Sampling, clip_features
from seehear.features.model import Model, table_bank
from seehear.features.viewbank import ViewBank
from seehear.features.viewloader import ViewLoader
from seehear.methods.deepcluster import cluster_features
from seehear.models.adapter import OnBackbone
from seehear.pretraining.plan import make_config
from seehear.pretraining.run import pretrain
from seehear.weights import export_weights, show_weights
from tests.conftest import TINY_SETTINGS
from tests.corpus import make_collection
from tests.engine.test_distributed import launch

FAST = (
    "threads=1", "rounds=2", "log_steps=1", "cluster.k=4", "cluster.restarts=2", "cluster.averaged_clips=2",
    "bank.moments=2", "optim.epochs=2", "optim.warmup_epochs=1", "optim.batch_size=8", "data.workers=0",
    "data.validation_share=0.15", "selavi.heads=2", "selavi.clusterings=2", "gdt.dimensions=16", "avts.dimensions=16",
)  # fmt: skip


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_collection(tmp_path_factory.mktemp("frozen"), n=16, classes=4)


@pytest.fixture(scope="module")
def encoders(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose encoders others build on."""
    out = tmp_path_factory.mktemp("frozen_base") / "base"
    pretrain(table, out, make_config(method="scratch", settings=TINY_SETTINGS), quiet=True)
    return out


def config_on(encoders: Path | str, method: str = "xdc", settings: tuple[str, ...] = (), **options: object):
    given = {"video_encoder": f"run:{encoders}", "audio_encoder": f"run:{encoders}"} | options
    return make_config(method=method, settings=[*FAST, *settings], **given)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def frozen(table: Path, encoders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("frozen_runs") / "xdc"
    return pretrain(table, out, config_on(encoders), quiet=True)


def assert_same_run(one: Path, other: Path) -> None:
    for file in ("model/model.safetensors", *(f"model/encoders/{n}/weights.safetensors" for n in ("video", "audio"))):
        a, b = load_file(one / file), load_file(other / file)
        assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a), file
    assert pq.read_table(one / "labels.parquet").equals(pq.read_table(other / "labels.parquet"))


def stop_at_second_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Ctrl-C stops it, once."""
    original, count = Trainer.save_or_stop, [0]

    def stopping(self: Trainer) -> None:
        count[0] += 1
        if count[0] == 2:
            self.stop.signal = 15
        original(self)

    monkeypatch.setattr(Trainer, "save_or_stop", stopping)


def note_decoding(monkeypatch: pytest.MonkeyPatch, decoded: list[str]) -> None:
    """Add the id of every video that is decoded from now on, once for each span."""
    original = ClipLoader.media

    def media(self: ClipLoader, requests: list[ClipRequest], streams: object = None) -> object:
        decoded.extend(r.ref.video_id for r in requests)
        return original(self, requests, streams)  # type: ignore[arg-type]

    monkeypatch.setattr(ClipLoader, "media", media)


def logged(run: Path, kind: str) -> list[dict]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


def test_features_and_labels_of_the_run_are_those_of_its_model_on_the_same_videos(frozen: Path, table: Path) -> None:
    kept = pq.read_table(frozen / "features.parquet")
    a, b = table_bank(kept), table_bank(Model.load(frozen).embed(table))
    order = [b.clip_ids.index(i) for i in a.clip_ids]
    for encoder in a.features:
        np.testing.assert_allclose(a.features[encoder], b.features[encoder][order], atol=1e-5)
    labels = seehear.label(frozen, table)
    kept = pq.read_table(frozen / "labels.parquet")
    mine = dict(zip(kept["video_id"].to_pylist(), kept["cluster_both"].to_pylist(), strict=True))
    assert (
        dict(zip(labels["video"].to_pylist(), labels["cluster"].to_pylist(), strict=True)) == mine and len(mine) == 16
    )


def test_the_first_round_clusters_what_k_means_on_the_features_would(frozen: Path, encoders: Path, table: Path) -> None:
    config = config_on(encoders)
    run = pretrain(table, frozen.parent / "first", config_on(encoders, settings=("rounds=1",)), quiet=True)
    found = pq.read_table(run / "assignments" / "round_000.parquet")
    model = Model.load(run)
    for encoder in model.encoders.values():
        assert isinstance(encoder, OnBackbone)
        encoder.adapter.reset()
    bank = table_bank(model.embed(table))
    order = [bank.clip_ids.index(i) for i in found["clip_id"].to_pylist()]
    raw = FeatureBank([bank.refs[i] for i in order], {n: x[order] for n, x in bank.features.items()}, np.ones(16, bool))
    for name in ("video", "audio"):
        made = cluster_features(raw, name, 4, config.cluster, config.seed * 7919)
        assert np.array_equal(made.labels, found[name].to_numpy())


def test_rows_of_the_bank_are_what_the_encoder_makes_of_the_decoded_clips(
    frozen: Path, table: Path, encoders: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An oracle by another way: every request that training made, decoded live and augmented with the row's draw."""
    seen: list[tuple[ViewLoader, list[ClipRequest]]] = []
    original = ViewLoader._batch
    monkeypatch.setattr(ViewLoader, "_batch", lambda self, r: (seen.append((self, list(r))), original(self, r))[1])
    settings = ("augment.flip_probability=0", "augment.crop=centre", "augment.volume_jitter=0", "rounds=1")
    config = config_on(encoders, settings=settings)
    pretrain(table, tmp_path / "run", config, quiet=True)
    loader = seen[0][0]
    requests = [request for _, group in seen for request in group][:40]
    assert any(r.seed is None for r in requests) and any(r.seed is not None for r in requests)
    assert len({r.start_seconds for r in requests if r.seed}) > 1
    got = original(loader, [r for r in requests if r.seed])
    live = [ClipRequest(r.ref, r.start_seconds, r.audio_start_seconds, None) for r in requests if r.seed]
    with (
        ClipLoader(
            loader.videos.table, config, loader.views, Statistics.stated(config), workers=0, cache=None
        ) as clips,
        torch.inference_mode(),
    ):
        batch = clips.to_inputs(next(iter(clips.batches(live, len(live)))), torch.device("cpu"))
        assert batch.clip_ids == got.clip_ids
        for name in ("video", "audio"):
            expected = open_encoder(f"run:{encoders}", name)(batch.inputs[name])
            torch.testing.assert_close(got.inputs[name], expected, rtol=1e-4, atol=1e-5)


def test_what_is_extracted_once_serves_all_and_new_videos_cost_themselves_alone(
    frozen: Path, encoders: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[str] = []
    note_decoding(monkeypatch, decoded)
    for method in ("selavi", "gdt", "sdc"):
        more = {"hypotheses": "k"} if method == "gdt" else {}
        pretrain(table, tmp_path / method, config_on(encoders, method, **more), quiet=True)
    assert not decoded
    shutil.copytree(table.parent, tmp_path / "more")
    other = make_collection(tmp_path / "other", n=19, classes=4)
    rows = (tmp_path / "more" / table.name).read_text().splitlines()
    for line in other.read_text().splitlines()[-3:]:
        path = line.split(",")[0]
        shutil.copy(other.parent / path, tmp_path / "more" / f"new_{Path(path).name}")
        rows.append(line.replace(path, f"new_{Path(path).name}"))
    (tmp_path / "more" / table.name).write_text("\n".join(rows) + "\n")
    run = pretrain(tmp_path / "more" / table.name, tmp_path / "grown", config_on(encoders), quiet=True)
    assert sorted(decoded) == sorted(
        f"new_{Path(line.split(',')[0]).name}" for line in other.read_text().splitlines()[-3:]
    )
    assert logged(run, "prepare")[0]["extracted"] == 3
    decoded.clear()
    pretrain(table, tmp_path / "reversed", config_on(encoders, "gdt", hypotheses="l"), quiet=True)
    assert len(decoded) == 16  # backwards is a view that no method before it had asked for


@pytest.mark.parametrize(
    ("method", "tuned"),
    # Tuned, the family of XDC is one code; frozen, every method has requests of its own to be answered.
    [*((method, False) for method in ("xdc", "cdc", "selavi", "gdt", "avts", "supervised", "rotation")),
     *((method, True) for method in ("xdc", "selavi", "gdt"))],
)  # fmt: skip
def test_every_method_trains_and_resumes_to_the_bit(
    method: str, tuned: bool, encoders: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ("bank.augmentations=1", "rounds=1", "cluster.averaged_clips=1", "optim.batch_size=4")
    config = config_on(encoders, method, settings, tune_encoders=tuned)
    whole = pretrain(table, tmp_path / "whole", config, quiet=True)
    steps = logged(whole, "end")[0]["steps"]
    assert steps > 2
    stop_at_second_step(monkeypatch)
    with pytest.raises(Interrupted):
        pretrain(table, tmp_path / "stopped", config, quiet=True)
    pretrain(None, tmp_path / "stopped", config, resume=True, quiet=True)
    if method == "rotation":
        a, b = (load_file(tmp_path / r / "model" / "model.safetensors") for r in ("whole", "stopped"))
        assert all(torch.equal(a[name], b[name]) for name in a)
    else:
        assert_same_run(whole, tmp_path / "stopped")
    model = Model.load(whole)
    first = open_encoder(f"run:{encoders}", "video").state_dict()
    kept = model.encoders["video"].backbone.state_dict()
    assert all(torch.equal(first[k], kept[k]) for k in first) == (not tuned)
    assert any(
        x.abs().sum() > 0 for n, x in model.encoders["video"].adapter.state_dict().items() if n == "outer.weight"
    )


def test_a_run_needs_nothing_outside_its_folder(encoders: Path, table: Path, tmp_path: Path) -> None:
    shutil.copytree(encoders, tmp_path / "gone")
    run = pretrain(table, tmp_path / "run", config_on(tmp_path / "gone"), quiet=True)
    shutil.rmtree(tmp_path / "gone")
    assert not (run / "encoders").exists()
    hashes = json.loads((run / "model" / "hashes.json").read_text())
    assert {f"encoders/{n}/{f}" for n in ("video", "audio") for f in ("encoder.json", "weights.safetensors")} <= set(
        hashes
    )
    given = Model.load(run).save_pretrained(tmp_path / "given")
    assert str(tmp_path) not in "".join(p.read_text() for p in given.rglob("*.json"))
    assert len(Model.load(given).embed(table)) == 16
    weights = run / "model" / "encoders" / "video" / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(RunError, match="damaged"):
        Model.load(run)


def test_encoders_of_two_runs_and_one_of_our_own(encoders: Path, table: Path, frozen: Path, tmp_path: Path) -> None:
    own = [text for text in TINY_SETTINGS if text.startswith(("model.", "spectrogram.", "clip.audio", "clip.sample"))]
    run = pretrain(table, tmp_path / "mixed", config_on(encoders, settings=tuple(own), audio_encoder=None), quiet=True)
    model = Model.load(run)
    assert isinstance(model.encoders["video"], OnBackbone) and not isinstance(model.encoders["audio"], OnBackbone)
    assert model.config.clip.pixel_statistics == "none" and model.config.spectrogram.kind == "logmel"
    assert model.statistics.spectrogram_std != 1
    a, b = table_bank(pq.read_table(run / "features.parquet")), table_bank(model.embed(table))
    for name in a.features:
        rows = [b.clip_ids.index(i) for i in a.clip_ids]
        # The run decodes the sound for its own encoder by way of a cache of 16 bits.
        tolerance = 1e-5 if name == "video" else 0.05
        np.testing.assert_allclose(a.features[name], b.features[name][rows], atol=tolerance)
    pair = config_on(encoders, audio_encoder=f"run:{run}")
    both = Model.load(pretrain(table, tmp_path / "pair", pair, quiet=True))
    assert both.encoders["audio"].backbone.content() == open_encoder(f"run:{run}", "audio").content()
    assert both.encoders["audio"].backbone.content() != open_encoder(f"run:{encoders}", "audio").content()


def test_what_encoders_cannot_be_had_with_is_said_before_any_work(encoders: Path, table: Path, tmp_path: Path,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    from seehear.encoders.of_run import RunEncoder

    for settings, options, said in (
        (("clip.frames=9",), {}, "clip.frames is 9, and run:.* wants 4"),
        (("clip.pixel_statistics=kinetics",), {}, "wants none"),
        (("spectrogram.kind=logmel", "spectrogram.frames=50"), {}, "wants waveform"),
        (("final.frames=8",), {}, "final stage"),
        (("bank.moments=1",), {"method": "avts"}, "of one moment"),
        (("model.video_weights=a.pth",), {}, "leave one of the two out"),
        (("augment.time_mask_frames=3",), {}, "masks"),
    ):
        with pytest.raises(UsageError, match=said):
            pretrain(table, tmp_path / "run", config_on(encoders, settings=settings, **options), quiet=True)  # type: ignore[arg-type]
        assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match="text goes with"):
        pretrain(table, tmp_path / "run", config_on(encoders, "gdt", hypotheses="video-text"), quiet=True)
    monkeypatch.setattr(RunEncoder, "trainable", False)
    with pytest.raises(UsageError, match=r"run:.* cannot be trained"):
        pretrain(table, tmp_path / "run", config_on(encoders, tune_encoders=True), quiet=True)
    with pytest.raises(UsageError, match="tune_encoders is of encoders of others"):
        make_config(settings=["model.tune_encoders=true"])
    assert not (tmp_path / "run").exists()


def test_a_video_that_cannot_be_decoded_costs_itself_alone(encoders: Path, tmp_path: Path) -> None:
    table = make_collection(tmp_path / "some", n=12, classes=3)
    manifest = seehear.scan(table)
    broken = Path(manifest.usable_rows()[0]["path"])
    broken = broken if broken.is_absolute() else table.parent / broken
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 3])
    config = config_on(encoders, settings=("cluster.k=3", f"data.cache_folder={tmp_path / 'cache'}"))
    run = pretrain(manifest, tmp_path / "run", config, quiet=True)
    assert pq.read_table(run / "features.parquet").num_rows == 11
    failures = [json.loads(line) for line in (run / "failures.jsonl").read_text().splitlines()]
    assert {f["video_id"] for f in failures} == {manifest.usable_rows()[0]["video_id"]}
    assert (tmp_path / "cache" / "banks").is_dir()


KILLED = """
import os, sys
from seehear.features import viewfill, viewbank
from seehear.pretraining.run import pretrain
from seehear.pretraining.plan import make_config
viewfill.FLUSH_SECONDS = 0.0
original, count = viewbank.ViewBank.add, [0]
def add(self, keys, x):
    count[0] += 1
    if count[0] == 9:
        os.kill(os.getpid(), 9)
    original(self, keys, x)
viewbank.ViewBank.add = add
pretrain(sys.argv[1], sys.argv[2], make_config(method="xdc", video_encoder=sys.argv[3], audio_encoder=sys.argv[3],
         settings=sys.argv[4:]), quiet=True)
"""


def test_a_run_killed_while_it_extracts_goes_on_to_the_bit(
    frozen: Path, encoders: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = (*FAST, f"data.cache_folder={tmp_path / 'cache'}")
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(table), str(tmp_path / "run"), f"run:{encoders}", *settings],
        cwd=Path(__file__).parents[2], timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == -9
    decoded: list[str] = []
    note_decoding(monkeypatch, decoded)
    pretrain(None, tmp_path / "run", make_config(), resume=True, quiet=True)
    assert 0 < len(decoded) < 16  # what was extracted before is kept
    assert_same_run(frozen, tmp_path / "run")


def test_an_onnx_export_of_a_run_taken_back_in_gives_the_labels_of_the_run(table: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
    pytest.importorskip("onnxscript", reason="the extra `onnx` is not installed")
    own = pretrain(
        table, tmp_path / "own", make_config(method="xdc", settings=[*TINY_SETTINGS, "data.cache_gib=0"]), quiet=True
    )
    export_weights(own, tmp_path / "video.onnx", format="onnx", modality="video")
    specs = {"video_encoder": f"onnx:{tmp_path / 'video.onnx'}", "audio_encoder": f"run:{own}"}
    settings = ("cluster.averaged_clips=1",)
    back = pretrain(table, tmp_path / "back", config_on("", "scratch", settings, **specs), quiet=True)
    (tmp_path / "video.onnx").unlink()
    # The clusters of the run itself, asked of what the export makes of the same videos.
    model, bank = Model.load(back), table_bank(pq.read_table(back / "features.parquet"))
    for name, x in bank.features.items():
        adapter = model.encoders[name].adapter
        bank.features[name] = x * adapter.std.numpy() + adapter.mean.numpy()
    kept = pq.read_table(own / "labels.parquet")
    order = [kept["video_id"].to_pylist().index(ref.video_id) for ref in bank.refs]
    for modality, labelling in (("video", "video"), ("audio", "audio"), ("both", "video+audio")):
        rows = Model.load(own).labels(bank, labelling)
        assert rows is not None
        np.testing.assert_array_equal(rows["cluster"], kept[f"cluster_{modality}"].to_numpy()[order])
    # New videos are labelled with the files of the export gone, and as on the run itself.
    assert seehear.label(back, table).num_rows == 16
    on_run = pretrain(table, tmp_path / "on_run", config_on(own, "scratch", settings), quiet=True)
    one, other = (pq.read_table(run / "labels.parquet") for run in (back, on_run))
    assert all(one[f"cluster_{m}"].equals(other[f"cluster_{m}"]) for m in ("video", "audio", "both"))


@pytest.mark.parametrize(("method", "tuned"), [("xdc", False), ("gdt", True)])
def test_networks_of_transformers_train_resume_and_label(
    method: str, tuned: bool, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers", reason="the extra `hf` is not installed")
    from tests.encoders.tiny import saved

    specs = {"video_encoder": f"hf:{saved('videomae', tmp_path)}", "audio_encoder": f"hf:{saved('ast', tmp_path)}"}
    settings = ("rounds=1", "cluster.averaged_clips=1", "optim.batch_size=4", "clip.audio_seconds=1.0",
                "clip.frame_rate_hz=7.5")  # fmt: skip
    config = config_on("", method, settings, tune_encoders=tuned, **specs)
    assert config.clip.frames == 4 and config.clip.crop_px == 32 and config.clip.sample_rate_hz == 16000
    whole = pretrain(table, tmp_path / "whole", config, quiet=True)
    stop_at_second_step(monkeypatch)
    with pytest.raises(Interrupted):
        pretrain(table, tmp_path / "stopped", config, quiet=True)
    shutil.rmtree(tmp_path / "videomae")
    pretrain(None, tmp_path / "stopped", config, resume=True, quiet=True)
    one, other = (pq.read_table(tmp_path / run / "labels.parquet") for run in ("whole", "stopped"))
    assert one.equals(other)
    a, b = (load_file(tmp_path / run / "model" / "model.safetensors") for run in ("whole", "stopped"))
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    labels = seehear.label(whole, table)
    kept = dict(zip(one["video_id"].to_pylist(), one["cluster_both"].to_pylist(), strict=True))
    again = dict(zip(labels["video"].to_pylist(), labels["cluster"].to_pylist(), strict=True))
    assert sum(kept[video] != cluster for video, cluster in again.items()) <= (2 if tuned else 0)


def test_two_processes_extract_a_share_each_and_learn_what_one_learns(
    encoders: Path, table: Path, tmp_path: Path
) -> None:
    settings = [*FAST, "rounds=1", "optim.batch_size=4", f"data.cache_folder={tmp_path / 'cache'}"]
    given = ["--video-encoder", f"run:{encoders}", "--audio-encoder", f"run:{encoders}"]
    changes = [word for text in settings for word in ("--set", text)]
    launch(2, ["-m", "seehear", "pretrain", table, "--out", tmp_path / "two", *given, *changes])
    segments = list((tmp_path / "cache" / "banks").glob("*/segment-*"))
    assert len({path.name.rpartition("-")[2] for path in segments}) == 2  # by the numbers of the processes
    one = pretrain(table, tmp_path / "one", config_on(encoders, settings=(*settings, "optim.batch_size=8")), quiet=True)
    assert logged(one, "prepare")[0]["extracted"] == 0
    a, b = (pq.read_table(run / "labels.parquet") for run in (one, tmp_path / "two"))
    order = [b["video_id"].to_pylist().index(i) for i in a["video_id"].to_pylist()]
    for modality in ("video", "audio"):
        pairs = set(
            zip(a[f"cluster_{modality}"].to_pylist(), b[f"cluster_{modality}"].take(order).to_pylist(), strict=True)
        )
        assert len(pairs) == len({x for x, _ in pairs}) == len({y for _, y in pairs})


def test_what_a_run_on_encoders_of_others_cannot_do_is_said(
    frozen: Path, encoders: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="last map"):
        clip_features(Model.load(frozen), seehear.scan(table), Sampling(pooling="max"))
    with pytest.raises(UsageError, match="safetensors or hub"):
        export_weights(frozen, tmp_path / "a.onnx", format="onnx", modality="video")
    with pytest.raises(UsageError, match="sees each clip once"):
        seehear.profile(table, settings=[f"model.video_encoder=run:{encoders}"])
    told = show_weights(frozen)
    assert told["encoders"]["video"]["encoder"].startswith("run:") and told["preprocessing"]["audio"]["seconds"] == 1.0

    def full(self: ViewBank, keys: np.ndarray, features: np.ndarray) -> None:
        raise DestinationError(str(self.folder), errno.ENOSPC)

    monkeypatch.setattr(ViewBank, "add", full)
    config = config_on(encoders, settings=(f"data.cache_folder={tmp_path / 'cache'}",))
    with pytest.raises(RunError, match="the disk is full"):
        pretrain(table, tmp_path / "run", config, quiet=True)


def test_a_run_on_the_encoders_of_a_run_on_encoders_of_others(frozen: Path, table: Path, tmp_path: Path) -> None:
    """Its features are those that the run between gives, adapter and all, and no place of a machine is in it."""
    shutil.copytree(frozen, tmp_path / "between")
    settings = ("rounds=1", "cluster.averaged_clips=2")
    run = pretrain(table, tmp_path / "run", config_on(tmp_path / "between", "scratch", settings), quiet=True)
    shutil.rmtree(tmp_path / "between")
    model = Model.load(run)
    found, expected = table_bank(model.embed(table)), table_bank(pq.read_table(frozen / "features.parquet"))
    order = [found.clip_ids.index(i) for i in expected.clip_ids]
    for name, x in expected.features.items():
        adapter = model.encoders[name].adapter
        raw = found.features[name] * adapter.std.numpy() + adapter.mean.numpy()
        np.testing.assert_allclose(raw[order], x, atol=1e-4)
    given = model.save_pretrained(tmp_path / "given")
    described = json.loads((given / "encoders" / "video" / "encoder.json").read_text())
    assert "/" not in described["config"]["model"]["video_encoder"]
    assert Model.load(given).encoders["video"].backbone.content() == model.encoders["video"].backbone.content()


@pytest.mark.parametrize("tuned", [False, True])
def test_finetuning_leaves_the_encoder_as_the_run_did_unless_it_is_asked_to(
    tuned: bool, frozen: Path, table: Path, tmp_path: Path
) -> None:
    changes = ["threads=1", "optim.epochs=1", "optim.base_lr=0.1", "optim.warmup_epochs=0", "optim.batch_size=4",
               "finetune.test_clips=1", "finetune.clips_per_video=1"]  # fmt: skip
    changes += ["model.tune_encoders=true"] if tuned else []
    seehear.finetune(frozen, data=table, out=tmp_path / "classes", settings=changes)
    before, after = Model.load(frozen).encoders["video"], Model.load(tmp_path / "classes").encoders["video"]
    assert (before.backbone.content() == after.backbone.content()) == (not tuned)
    assert not torch.equal(before.adapter.outer.weight, after.adapter.outer.weight)
