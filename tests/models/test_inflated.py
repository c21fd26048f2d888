"""Video encoders that begin as a network of single images, against that network written out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from seehear.errors import DataError
from seehear.features.model import Model
from seehear.models import build_video_encoder
from seehear.models.inflated import inflated_state
from seehear.models.pretrained import encoder_settings, load_video_weights, read_checkpoint
from seehear.pretraining.plan import make_config
from seehear.pretraining.run import pretrain
from tests.conftest import TINY_SETTINGS

WIDTH = 8
State = dict[str, Tensor]


def image_network(blocks: tuple[int, ...] = (2, 2, 2, 2), width: int = WIDTH, rank: int | None = None) -> State:
    """Weights of a ResNet of BasicBlocks by torchvision's names; the stem's filters of no higher a rank than given."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    state: State = {
        "conv1.weight": normal(width, 3, 7, 7) / 12,
        "fc.weight": normal(5, 8 * width),
        "fc.bias": normal(5),
    }
    if rank is not None:
        state["conv1.weight"] = (normal(width, rank) @ normal(rank, 147) / 30).reshape(width, 3, 7, 7)

    def norm(name: str, size: int) -> None:
        state[f"{name}.weight"], state[f"{name}.bias"] = 1 + 0.2 * normal(size), 0.2 * normal(size)
        state[f"{name}.running_mean"], state[f"{name}.running_var"] = 0.3 * normal(size), normal(size).square() + 0.3
        state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    norm("bn1", width)
    inputs = width
    for stage, count in enumerate(blocks, start=1):
        planes = width * 2 ** (stage - 1)
        for i in range(count):
            name = f"layer{stage}.{i}"
            for part, size in ((1, inputs), (2, planes)):
                state[f"{name}.conv{part}.weight"] = normal(planes, size, 3, 3) / (9 * size) ** 0.5
                norm(f"{name}.bn{part}", planes)
            if inputs != planes:
                state[f"{name}.downsample.0.weight"] = normal(planes, inputs, 1, 1) / inputs**0.5
                norm(f"{name}.downsample.1", planes)
            inputs = planes
    return state


def image_features(x: Tensor, state: State, blocks: tuple[int, ...] = (2, 2, 2, 2), pool: bool = True) -> Tensor:
    """What that network says of images (B, 3, H, W): (B, 8 * width)."""

    def norm(x: Tensor, name: str) -> Tensor:
        parts = (state[f"{name}.{p}"].to(x) for p in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *parts, eps=1e-5)

    def convolved(x: Tensor, name: str, stride: int, padding: int) -> Tensor:
        return F.conv2d(x, state[f"{name}.weight"].to(x), stride=stride, padding=padding)

    x = norm(convolved(x, "conv1", 2, 3), "bn1").relu()
    if pool:
        x = F.max_pool2d(x, 3, 2, 1)
    for stage, count in enumerate(blocks, start=1):
        for i in range(count):
            name, stride = f"layer{stage}.{i}", 2 if stage > 1 and i == 0 else 1
            y = norm(convolved(x, f"{name}.conv1", stride, 1), f"{name}.bn1").relu()
            y = norm(convolved(y, f"{name}.conv2", 1, 1), f"{name}.bn2")
            if f"{name}.downsample.0.weight" in state:
                x = norm(convolved(x, f"{name}.downsample.0", stride, 0), f"{name}.downsample.1")
            x = (x + y).relu()
    return x.mean((2, 3))


def images(count: int = 2, side: int = 64) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(3)).clamp(-3, 3).double()


def still(x: Tensor, frames: int) -> Tensor:
    return x[:, :, None].expand(-1, -1, frames, -1, -1)


def saved(path: Path, state: State) -> Path:
    torch.save(state, path)
    return path


CASES = [
    ("r3d_18", "block", None),
    ("mc3_18", "block", None),
    ("r2plus1d_18", "block", 5),  # its stem has 5 channels for the 8 filters
    ("r2plus1d_18", "convolution", 5),
]


@pytest.mark.parametrize("frames", [1, 4, 9])
@pytest.mark.parametrize(("name", "mid_planes", "rank"), CASES)
def test_a_still_clip_has_the_features_of_its_image(name, mid_planes, rank, frames, tmp_path):
    state = image_network(rank=rank)
    encoder = build_video_encoder(name, width=WIDTH, stem_pool=True, mid_planes=mid_planes)
    report = load_video_weights(encoder, saved(tmp_path / "resnet18.pth", state))
    assert (report.layout, report.unused) == ("ResNet of images", ("fc.weight", "fc.bias"))
    assert set(report.loaded) == set(state) - {"fc.weight", "fc.bias"}
    encoder = encoder.double().eval()
    with torch.no_grad():
        found = encoder(still(images(), frames))
        moving = encoder(torch.randn(1, 3, 9, 64, 64, dtype=torch.float64))
    expected = image_features(images(), state)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5), (found - expected).abs().max()
    assert torch.isfinite(moving).all()


@pytest.mark.parametrize(("name", "mid_planes", "rank"), CASES)
def test_every_weight_can_learn(name, mid_planes, rank):
    """Nothing is at a point where a gradient is zero for good: what is zero over time, and what is not listened to."""
    encoder = build_video_encoder(name, width=WIDTH, stem_pool=True, mid_planes=mid_planes)
    encoder.load_state_dict(inflated_state(image_network(rank=rank), encoder)[0])
    optimiser = torch.optim.SGD(encoder.parameters(), lr=0.01)
    x = torch.randn(4, 3, 8, 48, 48, generator=torch.Generator().manual_seed(0))
    for _ in range(2):
        optimiser.zero_grad()
        encoder.train()(x).square().sum().backward()
        optimiser.step()
    assert [n for n, p in encoder.named_parameters() if not p.grad.abs().sum()] == []


def test_without_room_in_the_stem_it_is_approximated_and_said_how_well(tmp_path):
    state = image_network()
    encoder = build_video_encoder("r2plus1d_18", width=WIDTH, stem_pool=True)
    report = load_video_weights(encoder, saved(tmp_path / "resnet18.pth", state))
    (note,) = report.notes
    singular = torch.linalg.svdvals(state["conv1.weight"].flatten(1)).square()
    assert (
        note == f"the stem's 8 filters are approximated by 5: {singular[:5].sum() / singular.sum():.1%} of their energy"
    )
    x = images()
    with torch.no_grad():
        found = encoder.double().eval()(still(x, 4))
    best = {**state}
    u, s, v = torch.linalg.svd(state["conv1.weight"].flatten(1), full_matrices=False)
    best["conv1.weight"] = (u[:, :5] * s[:5] @ v[:5]).reshape(WIDTH, 3, 7, 7)
    assert torch.allclose(found, image_features(x, best), rtol=1e-4, atol=1e-5)


def test_without_the_pooling_of_resnets_that_is_said(tmp_path):
    state = image_network()
    encoder = build_video_encoder("r3d_18", width=WIDTH, bn_eps=1e-3)
    report = load_video_weights(encoder, saved(tmp_path / "resnet18.pth", state))
    assert [("video_stem_pool" in n, "1e-05" in n) for n in report.notes] == [(True, False), (False, True)]


def test_what_does_not_fit_is_named_and_changes_nothing(tmp_path):
    encoder = build_video_encoder("r3d_18", width=WIDTH)
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    for state, fault in (
        (image_network(blocks=(3, 4, 6, 3)), r"left over: layer1\.2"),
        (image_network(width=4), r"conv1\.weight is of shape \(4, 3, 7, 7\)"),
        ({k: v for k, v in image_network().items() if "layer3.1.bn2" not in k}, r"layer3\.1\.bn2\.weight is missing"),
    ):
        with pytest.raises(DataError, match=fault):
            load_video_weights(encoder, saved(tmp_path / "resnet.pth", state))
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())
    with pytest.raises(DataError, match="network of single images"):
        encoder_settings(read_checkpoint(saved(tmp_path / "resnet.pth", image_network())), "video")


def test_a_run_starts_from_it(collection, tmp_path, capsys):
    path = saved(tmp_path / "resnet.pth", image_network(blocks=(1, 1, 1, 1), width=4))
    settings = [
        *TINY_SETTINGS,
        "model.video=r3d_10",
        "cluster.calibrate_batchnorm=never",
        f"model.video_weights={path}",
    ]
    pretrain(collection, tmp_path / "run", make_config(method="scratch", settings=settings))
    assert "ResNet of images" in capsys.readouterr().err
    encoder = Model.load(tmp_path / "run").encoders["video"].double().eval()
    x = images(side=32)
    with torch.no_grad():
        found = encoder(still(x, 4))
    assert torch.allclose(found, image_features(x, image_network((1, 1, 1, 1), 4), (1, 1, 1, 1)), rtol=1e-4, atol=1e-5)
