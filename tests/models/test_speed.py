"""Every way of executing an encoder against torch's modules as they stand, layer by layer, in float64 and float32."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from seehear.models import build_audio_encoder, build_encoder, build_video_encoder
from seehear.models.audio import AudioEncoder
from seehear.models.speed import (
    CompiledFeatures,
    Operators,
    lay_channels_last,
    normalise,
    operators,
    plain,
    prepare_encoders,
)
from seehear.models.video import VideoEncoder
from seehear.recipes import small

FAST = Operators(views=True, multiple=8)
Encoder = VideoEncoder | AudioEncoder
# Widths of which neither the stages' nor the middle channels are multiples of 8, one where all stages' are, and pairs
# of settings that change strides.
ENCODERS = [
    ("r2plus1d_18", {"width": 5}),
    ("r2plus1d_10", {"width": 16, "stem_pool": True}),
    ("r2plus1d_10", {"width": 6, "mid_planes": "convolution", "stem_stride": 4}),
    ("r3d_10", {"width": 6}),
    ("mc3_18", {"width": 3}),
    ("resnet18", {"width": 5}),
    ("resnet9", {"width": 8}),
]


def make(name: str, settings: dict[str, object], execution: str) -> tuple[Encoder, Tensor]:
    """An encoder with statistics that are not those of its making, and an input of odd sizes."""
    random = torch.Generator().manual_seed(3)
    encoder: Encoder
    if name.startswith("resnet"):
        encoder = build_audio_encoder(name, generator=random, **settings)  # type: ignore[arg-type]
        x = torch.randn(3, 1, 21, 34, generator=random)
    else:
        encoder = build_video_encoder(name, generator=random, **settings)  # type: ignore[arg-type]
        x = torch.randn(3, 3, 5, 17, 22, generator=random)
    for norm in encoder.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            ranges = ((norm.weight, 0.5, 1.5), (norm.bias, -0.5, 0.5))
            statistics = ((norm.running_mean, -0.3, 0.3), (norm.running_var, 0.5, 2.0))
            for value, low, high in ranges + statistics:
                assert isinstance(value, Tensor)
                nn.init.uniform_(value, low, high, generator=random)
    encoder.execution = execution  # type: ignore[assignment]
    return encoder, x


def passed(encoder: Encoder, x: Tensor) -> dict[str, Tensor]:
    """All that a step computes: features, gradients of inputs and parameters, and the norms' statistics after it."""
    x = x.clone().requires_grad_()
    features = encoder(x)
    weights = torch.linspace(-1, 1, features.numel(), dtype=features.dtype).view_as(features)
    (features * weights).sum().backward()
    gradients = {f"gradient {n}": p.grad for n, p in encoder.named_parameters()}
    return {"features": features.detach(), "input": x.grad, **gradients, **dict(encoder.named_buffers())}  # type: ignore[dict-item]


def largest_difference(a: Tensor, b: Tensor) -> float:
    """Beside the largest entry."""
    return float((a.double() - b.double()).abs().max() / b.double().abs().max().clamp_min(1e-30))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("name", "settings"), ENCODERS)
def test_fast_is_plain_in_features_gradients_and_statistics(
    name: str, settings: dict[str, object], training: bool
) -> None:
    """float64: the same but for rounding."""
    results = []
    for execution in ("fast", "plain"):
        encoder, x = make(name, settings, execution)
        results.append(passed(encoder.double().train(training), x.double()))
    fast, expected = results
    assert fast.keys() == expected.keys()
    assert {n: d for n in expected if (d := largest_difference(fast[n], expected[n])) > 1e-10} == {}


@pytest.mark.parametrize("execution", ["fast", "auto"])
@pytest.mark.parametrize(("name", "settings"), ENCODERS)
def test_without_gradients_norms_folded_into_convolutions_give_the_same_map(
    name: str, settings: dict[str, object], execution: str
) -> None:
    maps = []
    for each in (execution, "plain"):
        encoder, x = make(name, settings, each)
        encoder.double().eval()
        with torch.inference_mode():
            maps.append(encoder.feature_map(x.double()))
    assert maps[0].shape == maps[1].shape
    assert largest_difference(*maps) < 1e-12


@pytest.mark.parametrize(("name", "settings"), ENCODERS)
def test_in_float32_each_layer_is_within_rounding(name: str, settings: dict[str, object]) -> None:
    """Layer by layer on the same inputs, so that no layer's rounding is another's input: 1e-5 of the largest entry."""
    encoder, x = make(name, settings, "plain")
    seen: list[tuple[str, nn.Module, Tensor, Tensor]] = []

    def keep(layer: str) -> object:
        return lambda module, inputs, output: seen.append((layer, module, inputs[0].clone(), output.clone()))

    kinds = (nn.Conv2d, nn.Conv3d, nn.modules.batchnorm._BatchNorm)
    with torch.no_grad():
        for layer, module in encoder.named_modules():
            if isinstance(module, kinds):
                module.register_forward_hook(keep(layer))  # type: ignore[arg-type]
        encoder(x)
        for module in encoder.modules():
            module._forward_hooks.clear()
        wrong = {}
        for layer, module, given, found in seen:
            again = FAST(given, module)
            own = again[:, : found.shape[1]]
            assert not again[:, found.shape[1] :].any()
            if (difference := largest_difference(own, found)) > 1e-5:
                wrong[layer] = difference
    assert len(seen) == sum(isinstance(m, kinds) for m in encoder.modules())
    assert wrong == {}


def test_a_convolution_in_space_copies_no_channels_last_input() -> None:
    x = torch.randn(2, 8, 4, 6, 6).to(memory_format=torch.channels_last_3d)
    space = nn.Conv3d(8, 8, (1, 3, 3), padding=(0, 1, 1), bias=False)
    time = nn.Conv3d(8, 8, (3, 1, 1), padding=(1, 0, 0), bias=False)
    lay_channels_last(nn.Sequential(space, time))
    with torch.profiler.profile() as profile:
        y = FAST(x, space, time)
    copied = [e for e in profile.key_averages() if e.key in ("aten::copy_", "aten::clone", "aten::contiguous")]
    assert copied == []
    assert y.is_contiguous(memory_format=torch.channels_last_3d)


class Doubled(nn.BatchNorm3d):
    """A norm of another's making, as one that synchronises processes is."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


@pytest.mark.parametrize("kind", [nn.BatchNorm3d, Doubled])
def test_a_norm_of_fewer_channels_than_its_input_leaves_zeros_zero(kind: type[nn.BatchNorm3d]) -> None:
    norm, own = kind(5), kind(5)
    x = torch.randn(4, 5, 2, 3, 3)
    found = normalise(nn.functional.pad(x, (0, 0) * 3 + (0, 3)), norm)
    torch.testing.assert_close(found[:, :5], own(x), rtol=1e-6, atol=1e-6)
    assert not found[:, 5:].any()
    torch.testing.assert_close(dict(norm.named_buffers()), dict(own.named_buffers()), rtol=1e-6, atol=1e-7)
    assert norm.running_mean is not None and norm.running_mean.shape == (5,)


def test_norms_that_count_cumulatively_do_so_when_padded() -> None:
    """As batch normalisation is calibrated: no momentum, but the mean over batches."""
    norm, own = nn.BatchNorm3d(5, momentum=None), nn.BatchNorm3d(5, momentum=None)
    for _ in range(3):
        x = torch.randn(4, 5, 2, 3, 3)
        normalise(nn.functional.pad(x, (0, 0) * 3 + (0, 3)), norm)
        own(x)
    torch.testing.assert_close(dict(norm.named_buffers()), dict(own.named_buffers()))


def test_synchronised_norms_take_the_place_of_norms() -> None:
    """`SyncBatchNorm` runs on CUDA alone; in evaluation it is a batch norm, on padded channels, too."""
    encoder, x = make("r2plus1d_10", {"width": 5}, "fast")
    expected, _ = make("r2plus1d_10", {"width": 5}, "plain")
    synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(encoder).double().eval()
    assert any(isinstance(m, nn.SyncBatchNorm) for m in synchronised.modules())
    assert largest_difference(synchronised(x.double()).detach(), expected.double().eval()(x.double()).detach()) < 1e-12


def test_weights_load_whatever_their_layout_and_keep_names_and_shapes() -> None:
    encoder, x = make("r2plus1d_10", {"width": 5}, "fast")
    other = build_video_encoder("r2plus1d_10", width=5)
    state = {name: value.clone(memory_format=torch.contiguous_format) for name, value in encoder.state_dict().items()}
    assert all(value.is_contiguous() for value in encoder.state_dict().values())
    other.load_state_dict(state)
    assert all(torch.equal(v, state[n]) for n, v in other.state_dict().items())
    weight = other.layer2[0].conv1[0][0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last_3d) and not weight.is_contiguous()
    other.execution = "fast"
    assert torch.equal(encoder.eval()(x), other.eval()(x))


def test_settings_choose_the_operators() -> None:
    x = torch.zeros(1)
    assert operators("plain", x) is plain
    assert operators("fast", x) == FAST
    assert operators("auto", x) == Operators(views=False, multiple=1)
    config = small()
    assert build_encoder("video", config.model, torch.Generator()).execution == "auto"


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def test_one_size_of_training_batches_is_compiled_and_gives_the_same(fresh_compiler: None) -> None:
    """With the tracing half of the compiler, which is what could go wrong in Python."""
    traced: list[tuple[int, ...]] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> object:
        traced.append(tuple(next(i.shape for i in inputs if i.ndim == 4 and i.shape[1:] == (1, 20, 30))))
        return graph

    said: list[str] = []
    random = torch.Generator().manual_seed(0)
    encoder = build_audio_encoder("resnet9", width=5, generator=random)
    own = build_audio_encoder("resnet9", width=5, generator=torch.Generator().manual_seed(0))
    encoder.execution = own.execution = "fast"
    encoder.compiled = CompiledFeatures(encoder, "audio", said.append, backend=backend)  # type: ignore[arg-type]
    for rows in (3, 4, 4, 4, 2, 4, 5, 5, 4):
        x = torch.randn(rows, 1, 20, 30, generator=random)
        found, expected = encoder(x), own(x)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
        found.sum().backward()
        expected.sum().backward()
    encoder.eval()
    with torch.no_grad():
        encoder(torch.randn(4, 1, 20, 30))
    assert set(traced) == {(4, 1, 20, 30)} and len(traced) == 1
    assert len(said) == 1 and "batches of 4" in said[0]
    for (name, a), b in zip(encoder.named_parameters(), own.parameters(), strict=True):
        assert largest_difference(a.grad, b.grad) < 1e-5, name  # type: ignore[arg-type]
    torch.testing.assert_close(dict(encoder.named_buffers()), dict(own.named_buffers()), rtol=1e-5, atol=1e-6)
    assert list(encoder.state_dict()) == list(own.state_dict())


def test_what_is_compiled_follows_the_setting_the_device_and_the_size() -> None:
    def compiled(width: int, device: str, setting: object) -> bool:
        with torch.device("meta"):
            encoder = build_video_encoder("r2plus1d_18", width=width)
        prepare_encoders({"video": encoder}, torch.device(device), compile=setting, say=print)  # type: ignore[arg-type]
        return encoder.compiled is not None

    assert compiled(64, "cuda", "auto")
    assert not compiled(16, "cuda", "auto")
    assert not compiled(64, "cpu", "auto")
    assert compiled(16, "cpu", True)
    assert not compiled(64, "cuda", False)
