"""Import of weights: generated files in each layout, and files that must be refused.

The encoders are narrow: a layout is a matter of names, and the widths of the real files are tested elsewhere.
"""

from __future__ import annotations

import hashlib
import os
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from seehear.errors import DataError
from seehear.models import build_audio_encoder, build_video_encoder
from seehear.models.audio import AudioEncoder
from seehear.models.heads import MLPHead
from seehear.models.pretrained import (
    encoder_settings,
    load_audio_weights,
    load_video_weights,
    published_heads,
    read_checkpoint,
)
from seehear.models.video import VideoEncoder

WIDTH = 4
State = dict[str, Tensor]


def video(name: str = "r2plus1d_18", seed: int = 0, **settings: Any) -> VideoEncoder:
    return build_video_encoder(name, width=WIDTH, generator=torch.Generator().manual_seed(seed), **settings)


def audio(seed: int = 0, name: str = "resnet9") -> AudioEncoder:
    return build_audio_encoder(name, width=WIDTH, generator=torch.Generator().manual_seed(seed))


def classifier(prefix: str = "", classes: int = 5) -> State:
    return {f"{prefix}fc.weight": torch.zeros(classes, 8 * WIDTH), f"{prefix}fc.bias": torch.zeros(classes)}


OUTPUTS = 6


def release_head() -> torch.nn.Sequential:
    """A head as the GDT and SeLaVi releases have it: what has weights is at the places 2, 4 and 8."""
    size = 8 * WIDTH
    return torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Dropout(0.3), torch.nn.Linear(size, size, bias=False), torch.nn.Identity(),
        torch.nn.BatchNorm1d(size), torch.nn.Flatten(), torch.nn.ReLU(), torch.nn.Dropout(0.3),
        torch.nn.Linear(size, OUTPUTS),
    ).eval()  # fmt: skip


def head(name: str) -> State:
    """The weights of a head, always the same for a name."""
    generator = torch.Generator().manual_seed(sum(name.encode()))
    state = {
        key: torch.rand(value.shape, generator=generator) if value.is_floating_point() else torch.tensor(3)
        for key, value in release_head().state_dict().items()
    }
    return {f"{name}.block_forward.{key}": value for key, value in state.items()}


def gdt_model(heads: tuple[str, ...] = ("mlp_v", "mlp_a")) -> State:
    state = {f"video_network.base.{key}": value for key, value in video(seed=1).state_dict().items()}
    state |= {f"audio_network.base.{key}": value for key, value in audio(seed=2).state_dict().items()}
    state |= classifier("audio_network.base.")
    for name in heads:
        state |= head(name)
    return state


def gdt_file(path: Path) -> Path:
    model = {f"module.{key}": value for key, value in gdt_model().items()}
    optimizer = {
        "state": {0: {"momentum_buffer": torch.zeros(2)}},
        "param_groups": [{"lr": 0.1, "params": [0]}],
    }
    arguments = Namespace(lr=0.1, name="gdt", nested=Namespace(flags=[True, None]))
    torch.save({"epoch": 99, "model": model, "optimizer": optimizer, "args": arguments}, path)
    return path


def selavi_file(path: Path) -> Path:
    heads = tuple(f"mlp_{modality}{index}" for modality in "va" for index in range(10))
    model = {f"module.{key}": value for key, value in gdt_model(heads).items()}
    selflabels = torch.zeros(7, 10, dtype=torch.long)
    torch.save({"epoch": 9, "dist": None, "model": model, "optimizer": {}, "selflabels": selflabels}, path)
    return path


def saved(path: Path, payload: object) -> Path:
    torch.save(payload, path)
    return path


def assert_equal(encoder: torch.nn.Module, other: torch.nn.Module) -> None:
    theirs = other.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in encoder.state_dict().items())


def test_xdc(tmp_path: Path) -> None:
    original = video(seed=1, mid_planes="convolution")
    path = saved(tmp_path / "xdc.pth", {**original.state_dict(), **classifier()})
    file = read_checkpoint(path)
    assert (file.layout.name, file.mid_planes, file.modalities) == ("XDC", "convolution", ("video",))
    encoder = video(mid_planes="convolution", bn_eps=1e-3)
    report = load_video_weights(encoder, path)
    assert_equal(encoder, original)
    assert (report.layout, report.modality, report.bn_eps, report.notes) == ("XDC", "video", 1e-3, ())
    assert report.loaded == tuple(original.state_dict())
    assert report.unused == ("fc.weight", "fc.bias")
    assert report.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    facts = report.preprocessing
    assert facts is not None
    assert (facts.crop_pixels, facts.short_side_pixels, facts.clip_frames) == (224, (256, 256), (8, 32))
    assert (facts.pixel_statistics, facts.test_short_side_pixels) == ("kinetics", 256)
    assert (facts.audio_seconds, facts.mel_bins, facts.spectrogram_frames) == (2.0, 40, (100,))


def test_a_batch_norm_eps_that_differs_is_noted(tmp_path: Path) -> None:
    path = saved(tmp_path / "xdc.pth", video(mid_planes="convolution").state_dict())
    (note,) = load_video_weights(video(mid_planes="convolution"), path).notes
    assert "0.001" in note
    assert "--set model.bn_eps=0.001" in note


@pytest.mark.parametrize(("name", "family"), [("r2plus1d_18", "r2plus1d"), ("r3d_18", "r3d"), ("mc3_18", "mc3")])
@pytest.mark.parametrize("suffix", [".pth", ".legacy.pth", ".safetensors"])
def test_torchvision(tmp_path: Path, name: str, family: str, suffix: str) -> None:
    original = video(name, seed=1)
    state = {**original.state_dict(), **classifier(classes=400)}
    path = tmp_path / f"{name}{suffix}"
    if suffix == ".safetensors":
        save_file(state, path)
    else:  # the published torchvision files are older than torch's zip format
        torch.save(state, path, _use_new_zipfile_serialization=suffix == ".pth")
    encoder = video(name)
    report = load_video_weights(encoder, path)
    assert_equal(encoder, original)
    assert encoder.family == family
    assert (report.layout, report.bn_eps, report.notes) == ("torchvision", 1e-5, ())
    assert sorted(report.unused) == ["fc.bias", "fc.weight"]
    assert report.preprocessing is not None
    assert (report.preprocessing.clip_frames, report.preprocessing.frame_rate_hz) == ((16,), 15.0)


def test_gdt(tmp_path: Path) -> None:
    file = read_checkpoint(gdt_file(tmp_path / "gdt.pth"))
    assert (file.layout.name, file.mid_planes, file.modalities) == ("GDT", "block", ("video", "audio"))
    picture, sound = video(), audio()
    seen = load_video_weights(picture, file)
    heard = load_audio_weights(sound, file)
    assert_equal(picture, video(seed=1))
    assert_equal(sound, audio(seed=2))
    assert set(seen.unused) == {key for key in file.tensors if not key.startswith("video_network.")} | {
        "epoch",
        "optimizer",
        "args",
    }
    assert {"audio_network.base.fc.weight", "mlp_a.block_forward.8.bias"} <= set(heard.unused)
    assert all(key.startswith("audio_network.base.") for key in heard.loaded)
    assert seen.preprocessing is not None
    assert (seen.preprocessing.pixel_statistics, seen.preprocessing.test_short_side_pixels) == ("gdt", 112)
    assert seen.preprocessing.spectrogram_frames == (99, 199)
    assert (seen.preprocessing.spectrogram_mean, seen.preprocessing.spectrogram_std) == (1.93, 17.89)


class Warmup(torch.optim.lr_scheduler.LRScheduler):
    """A schedule that holds the one that follows it, as GDT's does; `state_dict` has that one whole."""

    def __init__(self, optimizer: torch.optim.Optimizer, after: torch.optim.lr_scheduler.LRScheduler) -> None:
        self.after_scheduler, self.multiplier, self.total_epoch, self.finished = after, 16, 10, False
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        return [rate * (1 + 15 * self.last_epoch / self.total_epoch) for rate in self.base_lrs]


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("after", [
    lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [150, 175]),
    lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 200),
])  # fmt: skip
def test_gdt_as_its_training_saves_it(tmp_path: Path, after: Any, zipped: bool) -> None:
    """With the optimiser, and the schedule of learning rates with the whole of what follows the warm-up."""
    encoder = video(seed=1)
    optimizer = torch.optim.SGD(encoder.parameters(), lr=0.01, momentum=0.9)
    schedule = Warmup(optimizer, after(optimizer))
    encoder(torch.zeros(2, 3, 4, 32, 32)).sum().backward()
    optimizer.step()
    encoder = video(seed=1)
    path = tmp_path / "gdt.pth"
    payload = {
        "model": gdt_model(), "optimizer": optimizer.state_dict(), "lr_scheduler": schedule.state_dict(), "epoch": 1,
        "args": Namespace(z_normalize=True, dataset="kinetics"),
    }  # fmt: skip
    torch.save(payload, path, _use_new_zipfile_serialization=zipped)
    picture = video()
    assert "lr_scheduler" in load_video_weights(picture, path).unused
    assert_equal(picture, encoder)


def test_gdt_of_video_and_text(tmp_path: Path) -> None:
    model = {key: value for key, value in gdt_model(("mlp_v", "mlp_t")).items() if not key.startswith("audio_network")}
    model |= {f"text_network.{key}": torch.zeros(3) for key in ("word_embd.weight", "fc1.weight", "fc1.bias")}
    said = Namespace(dataset="ht100m", sample_rate=2, clip_len=30, target_fps=30, train_crop_size=112, z_normalize=True)
    file = read_checkpoint(saved(tmp_path / "gdt.pth", {"epoch": 1, "model": model, "args": said}))
    assert file.modalities == ("video",)
    picture = video()
    assert {"text_network.fc1.bias", "mlp_t.block_forward.8.bias"} <= set(load_video_weights(picture, file).unused)
    assert_equal(picture, video(seed=1))
    assert set(published_heads(file)) == {"video"}
    facts = file.preprocessing
    assert facts is not None
    # 32 frames a second, of which every second one: the release asks FFmpeg for 16.
    assert (facts.frame_rate_hz / facts.stride, facts.stride, facts.clip_frames) == (16.0, 2, (30,))
    assert facts.pixel_statistics == "none"


def test_every_nth_frame_of_a_gdt_file_is_taken(tmp_path: Path) -> None:
    said = Namespace(dataset="kinetics", sample_rate=2, clip_len=30, target_fps=30)
    facts = read_checkpoint(saved(tmp_path / "gdt.pth", {"model": gdt_model(), "args": said})).preprocessing
    assert facts is not None
    assert (facts.frame_rate_hz, facts.stride) == (30.0, 2)


def test_gdt_that_never_was_distributed(tmp_path: Path) -> None:
    path = saved(tmp_path / "gdt.pth", {"epoch": 1, "model": gdt_model()})
    assert load_audio_weights(audio(), path).layout == "GDT"


def test_selavi(tmp_path: Path) -> None:
    path = selavi_file(tmp_path / "selavi.pth")
    picture, sound = video(), audio()
    report = load_video_weights(picture, path)
    load_audio_weights(sound, path)
    assert_equal(picture, video(seed=1))
    assert_equal(sound, audio(seed=2))
    assert report.layout == "SeLaVi"
    assert {"selflabels", "dist", "mlp_v9.block_forward.8.weight"} <= set(report.unused)


def test_our_own(tmp_path: Path) -> None:
    state = {f"encoders.video.{key}": value for key, value in video(seed=1).state_dict().items()}
    state |= {f"encoders.audio.{key}": value for key, value in audio(seed=2).state_dict().items()}
    state |= {"encoders.flow.stem.0.weight": torch.zeros(1), "heads.video.weight": torch.zeros(3, 8 * WIDTH)}
    path = tmp_path / "model.safetensors"
    save_file(state, path)
    picture, sound = video(), audio()
    report = load_video_weights(picture, path)
    load_audio_weights(sound, path)
    assert_equal(picture, video(seed=1))
    assert_equal(sound, audio(seed=2))
    assert (report.layout, report.bn_eps, report.preprocessing, report.notes) == ("seehear", None, None, ())
    assert {"heads.video.weight", "encoders.flow.stem.0.weight"} <= set(report.unused)
    with pytest.raises(DataError, match="not a file") as caught:
        read_checkpoint(tmp_path)
    assert str(path) in str(caught.value.remedy)


def test_every_misfitting_key_is_named_and_nothing_is_loaded(tmp_path: Path) -> None:
    state = video(seed=1).state_dict()
    del state["layer1.0.conv1.0.0.weight"], state["layer4.1.conv2.1.num_batches_tracked"]
    state["layer1.0.conv1.0.0.weights"] = torch.zeros(1)
    state["layer9.bias"] = torch.zeros(1)
    state["stem.1.bias"] = torch.zeros(77)
    path = saved(tmp_path / "weights.pth", state)
    encoder = video()
    with pytest.raises(DataError) as caught:
        load_video_weights(encoder, path)
    message = caught.value.message
    assert "missing (2): layer1.0.conv1.0.0.weight, layer4.1.conv2.1.num_batches_tracked" in message
    assert "left over (2): layer1.0.conv1.0.0.weights, layer9.bias" in message
    assert "wrong shape (1): stem.1.bias (file (77,), encoder (2,))" in message
    assert_equal(encoder, video())


def test_left_over_keys_of_each_kind_are_refused_unless_named(tmp_path: Path) -> None:
    model = {
        **gdt_model(),
        "video_network.base.fc.bias": torch.zeros(1),
        "mlp_v.block_forward.3.bias": torch.zeros(1),
    }
    path = saved(tmp_path / "gdt.pth", {"epoch": 1, "model": model, "scheduler": {}})
    extra = ("video_network.base.fc.bias", "mlp_v.block_forward.3.bias", "scheduler")
    with pytest.raises(DataError) as caught:
        load_video_weights(video(), path)
    assert f"left over (3): {', '.join(extra)}" in caught.value.message
    assert "missing" not in caught.value.message
    assert "ignore=" in str(caught.value.remedy)
    report = load_video_weights(video(), path, ignore=("scheduler", "*fc.bias", "mlp_v.block_forward.3.*"))
    assert set(extra) <= set(report.unused)


@pytest.mark.parametrize(("file", "encoder"), [("convolution", "block"), ("block", "convolution")])
def test_other_mid_planes_are_explained(tmp_path: Path, file: Any, encoder: Any) -> None:
    path = saved(tmp_path / "weights.pth", video(mid_planes=file).state_dict())
    with pytest.raises(DataError, match=f"mid-planes are per {file}, the encoder's per {encoder}") as caught:
        load_video_weights(video(mid_planes=encoder), path)
    assert caught.value.remedy == f"--set model.video_mid_planes={file}"
    assert "layer2.0.conv2.0.0.weight" in caught.value.message


def test_the_encoder_is_read_off_the_file(tmp_path: Path) -> None:
    for name, mid_planes in (("r2plus1d_18", "convolution"), ("r2plus1d_10", "block"), ("r3d_18", "block"),
                             ("mc3_10", "block")):  # fmt: skip
        settings = {"mid_planes": mid_planes} if mid_planes == "convolution" else {}
        file = read_checkpoint(saved(tmp_path / f"{name}.pth", video(name, **settings).state_dict()))
        eps = 1e-3 if mid_planes == "convolution" else 1e-5
        assert encoder_settings(file, "video") == {
            "video": name, "video_width": WIDTH, "video_mid_planes": mid_planes, "bn_eps": eps,
        }  # fmt: skip
    file = read_checkpoint(gdt_file(tmp_path / "gdt.pth"))
    assert encoder_settings(file, "audio") == {"audio": "resnet9", "audio_width": WIDTH, "audio_bn_eps": 1e-5}
    deep = dict(video("r3d_18").state_dict()) | {"layer1.2.conv1.0.weight": torch.zeros(1)}
    with pytest.raises(DataError, match=r"with \[3, 2, 2, 2\] blocks in its stages, is none"):
        encoder_settings(read_checkpoint(saved(tmp_path / "r3d_34.pth", deep)), "video")
    with pytest.raises(DataError, match="holds no audio encoder"):
        encoder_settings(read_checkpoint(tmp_path / "mc3_10.pth"), "audio")


def test_published_heads_answer_as_ours(tmp_path: Path) -> None:
    (state,) = published_heads(read_checkpoint(gdt_file(tmp_path / "gdt.pth")))["audio"]
    ours, theirs = MLPHead(8 * WIDTH, OUTPUTS).eval(), release_head()
    ours.load_state_dict(state)
    prefix = "mlp_a.block_forward."
    theirs.load_state_dict({key.removeprefix(prefix): value for key, value in head("mlp_a").items()})
    x = torch.randn(5, 8 * WIDTH)
    assert torch.allclose(ours(x), theirs(x), atol=1e-6)
    found = published_heads(read_checkpoint(selavi_file(tmp_path / "selavi.pth")))
    assert {name: len(states) for name, states in found.items()} == {"video": 10, "audio": 10}
    assert torch.equal(found["video"][7]["layers.5.weight"], head("mlp_v7")["mlp_v7.block_forward.8.weight"])


def test_heads_of_another_kind_are_left(tmp_path: Path) -> None:
    model = gdt_model()
    model["mlp_v.block_forward.8.weight"] = torch.zeros(OUTPUTS)
    del model["mlp_a.block_forward.4.running_var"]
    assert published_heads(read_checkpoint(saved(tmp_path / "gdt.pth", {"epoch": 1, "model": model}))) == {}


@pytest.mark.parametrize("name", ["r2plus1d_18", "r3d_18", "mc3_18"])
def test_another_family_is_explained(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path / "weights.pth", video(name).state_dict())
    other = "r3d_18" if name == "mc3_18" else "mc3_18"
    with pytest.raises(DataError, match=f"family is {name[:-3]}, the encoder's {other[:-3]}"):
        load_video_weights(video(other), path)


def test_another_depth_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "weights.pth", video("r3d_18").state_dict())
    with pytest.raises(DataError, match=r"left over \(\d+\): layer1.1.conv1.0.weight"):
        load_video_weights(video("r3d_10"), path)
    model = {"epoch": 1, "model": gdt_model()}
    with pytest.raises(DataError, match=r"missing \(\d+\): audio_network.base.layer1.1.conv1.weight"):
        load_audio_weights(audio(name="resnet18"), saved(tmp_path / "gdt.pth", model))


def test_no_encoder_of_the_modality(tmp_path: Path) -> None:
    path = saved(tmp_path / "weights.pth", video().state_dict())
    with pytest.raises(DataError, match="holds no audio encoder") as caught:
        load_audio_weights(audio(), path)
    assert caught.value.remedy == "it holds: video"


def test_checksum_in_the_name(tmp_path: Path) -> None:
    path = saved(tmp_path / "weights.pth", video().state_dict())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    good = path.rename(tmp_path / f"r3d_18-{digest[:8]}.pth")
    assert read_checkpoint(good).sha256 == digest
    bad = good.rename(tmp_path / "r2plus1d_18_xdc_ig65m_kinetics-f24f6ffb.pth")
    with pytest.raises(DataError, match=f"should start with f24f6ffb.* is {digest}"):
        read_checkpoint(bad)
    assert read_checkpoint(bad.rename(tmp_path / "my-weights.pth")).sha256 == digest


class Malicious:
    """Creates a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("hidden", [False, True])
def test_malicious_pickle_is_refused_and_not_run(tmp_path: Path, zipped: bool, hidden: bool) -> None:
    mark = tmp_path / "executed"
    attack = Malicious(mark)
    payload = {"model": gdt_model(), "args": Namespace(lr=attack)} if hidden else {"fc.weight": attack}
    path = tmp_path / "weights.pth"
    torch.save(payload, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(DataError, match=r"asks for \w+\.mkdir") as caught:
        read_checkpoint(path)
    assert "weights_only" not in str(caught.value)
    assert not mark.exists()
    torch.load(path, weights_only=False)  # the attack is a real one
    assert mark.exists()


def test_the_allow_list_does_not_outlive_the_import(tmp_path: Path) -> None:
    before = set(torch.serialization.get_safe_globals())
    assert Namespace not in before
    read_checkpoint(gdt_file(tmp_path / "gdt.pth"))
    assert set(torch.serialization.get_safe_globals()) == before


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"<html>404</html>", "truncated"])
def test_damaged_files_are_refused(tmp_path: Path, suffix: str, content: bytes | str) -> None:
    path = tmp_path / f"weights{suffix}"
    if isinstance(content, str):
        state = video().state_dict()
        if suffix == ".pth":
            torch.save(state, path)
        else:
            save_file(state, path)
        content = path.read_bytes()[:-5000]
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"weights\.(pth is damaged|safetensors is not a readable)"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ([torch.zeros(1)], "holds a list"),
        ({}, r"unknown layout; its first keys are \(none\)"),
        ({"conv1.weight": torch.zeros(1)}, "its first keys are conv1.weight"),
        ({"model": {"module.backbone.weight": torch.zeros(1)}}, "its first keys are backbone.weight"),
        ({"stem.0.weight": torch.zeros(1), "epoch": 3}, "not named tensors: epoch"),
        ({"state_dict": {"stem.0.weight": torch.zeros(1)}}, "not named tensors: state_dict"),
    ],
)
def test_unknown_layouts_are_refused(tmp_path: Path, payload: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_checkpoint(saved(tmp_path / "weights.pth", payload))


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a file"):
        read_checkpoint(tmp_path / "nothing.pth")
