"""The audio encoders against torchvision's names and shapes, and against a function written out."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seehear.models import AUDIO_ENCODERS, build_audio_encoder
from seehear.models.audio import AudioEncoder


def batch_norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    vectors = {f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}
    return {**vectors, f"{name}.num_batches_tracked": ()}


def expected_shapes(blocks: int) -> dict[str, tuple[int, ...]]:
    """torchvision's `resnet18` without `fc` and with one input channel, from its rules."""
    table: dict[str, tuple[int, ...]] = {"conv1.weight": (64, 1, 7, 7), **batch_norm("bn1", 64)}
    inputs = 64
    for stage, planes in enumerate((64, 128, 256, 512), start=1):
        for index in range(blocks):
            block = f"layer{stage}.{index}"
            table |= {f"{block}.conv1.weight": (planes, inputs, 3, 3), **batch_norm(f"{block}.bn1", planes)}
            table |= {f"{block}.conv2.weight": (planes, planes, 3, 3), **batch_norm(f"{block}.bn2", planes)}
            if inputs != planes:
                table[f"{block}.downsample.0.weight"] = (planes, inputs, 1, 1)
                table |= batch_norm(f"{block}.downsample.1", planes)
            inputs = planes
    return table


@pytest.mark.parametrize(("name", "blocks"), [("resnet18", 2), ("resnet9", 1)])
def test_names_shapes_and_their_order_are_torchvisions(name: str, blocks: int) -> None:
    with torch.device("meta"):
        found = build_audio_encoder(name).state_dict()
    assert [(key, tuple(value.shape)) for key, value in found.items()] == list(expected_shapes(blocks).items())


def test_number_of_parameters() -> None:
    # torchvision's resnet18 has 11,689,512 with its 1000-class fc and three input channels.
    with torch.device("meta"):
        count = sum(p.numel() for p in build_audio_encoder("resnet18").parameters())
    assert count == 11_689_512 - (512 * 1000 + 1000) - 2 * 64 * 7 * 7


@pytest.mark.parametrize(("name", "blocks"), [("resnet18", 2), ("resnet9", 1)])
def test_forward_is_the_written_out_function(name: str, blocks: int) -> None:
    generator = torch.Generator().manual_seed(0)
    encoder = build_audio_encoder(name, width=3, generator=generator).double().eval()
    for part in encoder.modules():
        if isinstance(part, nn.BatchNorm2d):
            assert part.running_mean is not None
            assert part.running_var is not None
            part.running_mean.normal_(generator=generator)
            part.running_var.uniform_(0.5, 2, generator=generator)
    state = encoder.state_dict()

    def norm(x: Tensor, name: str) -> Tensor:
        mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        x = (x - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt()
        x = x * state[f"{name}.weight"][:, None, None] + state[f"{name}.bias"][:, None, None]
        return x

    spectrograms = torch.randn(2, 1, 40, 100, generator=generator, dtype=torch.float64)
    x = F.conv2d(spectrograms, state["conv1.weight"], stride=2, padding=3)
    x = F.max_pool2d(norm(x, "bn1").relu(), 3, stride=2, padding=1)
    for stage in (1, 2, 3, 4):
        for index in range(blocks):
            stride = 2 if stage > 1 and index == 0 else 1
            block = f"layer{stage}.{index}"
            y = F.conv2d(x, state[f"{block}.conv1.weight"], stride=stride, padding=1)
            y = F.conv2d(norm(y, f"{block}.bn1").relu(), state[f"{block}.conv2.weight"], padding=1)
            if stride == 2:
                x = F.conv2d(x, state[f"{block}.downsample.0.weight"], stride=2)
                x = norm(x, f"{block}.downsample.1")
            x = (norm(y, f"{block}.bn2") + x).relu()
    with torch.no_grad():
        torch.testing.assert_close(encoder.feature_map(spectrograms), x)
        torch.testing.assert_close(encoder(spectrograms), x.mean(dim=(2, 3)))
    assert x.shape == (2, encoder.feature_dim, 2, 4)


@pytest.mark.parametrize("name", AUDIO_ENCODERS)
def test_gradients_reach_every_parameter(name: str) -> None:
    encoder = build_audio_encoder(name, width=4, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(2)
    spectrograms = torch.randn(3, 1, 40, 100, generator=generator)
    (encoder(spectrograms) * torch.randn(3, 32, generator=generator)).sum().backward()
    dead = [n for n, p in encoder.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert dead == []


def test_channels_last_gives_the_same_features() -> None:
    encoder = build_audio_encoder("resnet9", width=4).eval()
    spectrograms = torch.randn(2, 1, 40, 100)
    with torch.no_grad():
        expected = encoder(spectrograms)
        encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        found = encoder(spectrograms.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected)


def test_generator_decides_the_weights_and_the_global_one_is_left_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = build_audio_encoder("resnet9", width=4, generator=torch.Generator().manual_seed(7)).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    again = build_audio_encoder("resnet9", width=4, generator=torch.Generator().manual_seed(7)).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_batch_norm_settings_reach_every_layer() -> None:
    with torch.device("meta"):
        encoder = build_audio_encoder("resnet18", bn_eps=1e-3, bn_momentum=0.2)
    norms = [part for part in encoder.modules() if isinstance(part, nn.BatchNorm2d)]
    assert len(norms) == 1 + 16 + 3
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.2)}


def test_unknown_name_names_close_ones() -> None:
    with pytest.raises(ValueError, match="did you mean resnet18"):
        build_audio_encoder("resnet-18")


@pytest.mark.parametrize("settings", [{"blocks": (1,)}, {"width": 0}])
def test_bad_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        AudioEncoder(**settings)  # type: ignore[arg-type]


def test_wrong_shape_is_refused() -> None:
    encoder = build_audio_encoder("resnet9", width=2)
    with pytest.raises(ValueError, match=r"\(B, 1, Q, P\)"):
        encoder(torch.zeros(2, 40, 100))


def test_names_can_be_had_without_torch() -> None:
    code = "import sys, seehear.models as m; assert m.AUDIO_ENCODERS; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
