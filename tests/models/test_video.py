"""The video encoders against torchvision's names and shapes, and against a loop written out in NumPy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from seehear.models import VIDEO_ENCODERS, build_video_encoder
from seehear.models.video import VideoEncoder, mid_channels

Shape = tuple[int, ...]

# Channels inside a factored convolution, as the published files have them: of (64 -> 64), (64 -> 128), ...
MID = {(64, 64): 144, (64, 128): 230, (128, 128): 288, (128, 256): 460, (256, 256): 576, (256, 512): 921}
MID[512, 512] = 1152


def batch_norm(name: str, channels: int) -> dict[str, Shape]:
    vectors = {f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}
    return {**vectors, f"{name}.num_batches_tracked": ()}


def expected_shapes(family: str, blocks: int, mid_planes: str = "block") -> dict[str, Shape]:
    """torchvision's state dict without `fc`, from its rules, independently of the code under test."""
    table: dict[str, Shape] = {}
    if family == "r2plus1d":
        table |= {"stem.0.weight": (45, 3, 1, 7, 7), **batch_norm("stem.1", 45)}
        table |= {"stem.3.weight": (64, 45, 3, 1, 1), **batch_norm("stem.4", 64)}
    else:
        table |= {"stem.0.weight": (64, 3, 3, 7, 7), **batch_norm("stem.1", 64)}
    inputs = 64
    for stage, planes in enumerate((64, 128, 256, 512), start=1):
        for index in range(blocks):
            block = f"layer{stage}.{index}"
            block_mid = MID[inputs, planes]
            for conv, channels in ((1, inputs), (2, planes)):
                name = f"{block}.conv{conv}"
                mid = MID[channels, planes] if mid_planes == "convolution" else block_mid
                if family == "r2plus1d":
                    table[f"{name}.0.0.weight"] = (mid, channels, 1, 3, 3)
                    table |= batch_norm(f"{name}.0.1", mid)
                    table[f"{name}.0.3.weight"] = (planes, mid, 3, 1, 1)
                else:
                    time = 1 if family == "mc3" and stage > 1 else 3
                    table[f"{name}.0.weight"] = (planes, channels, time, 3, 3)
                table |= batch_norm(f"{name}.1", planes)
            if inputs != planes:
                table[f"{block}.downsample.0.weight"] = (planes, inputs, 1, 1, 1)
                table |= batch_norm(f"{block}.downsample.1", planes)
            inputs = planes
    return table


def shapes(encoder: nn.Module) -> dict[str, Shape]:
    return {name: tuple(value.shape) for name, value in encoder.state_dict().items()}


def on_meta(name: str, **settings: object) -> VideoEncoder:
    """The encoder without memory or initialisation: enough for names and shapes."""
    with torch.device("meta"):
        return build_video_encoder(name, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", VIDEO_ENCODERS)
def test_names_shapes_and_their_order_are_torchvisions(name: str) -> None:
    family, depth = name.split("_")
    table = expected_shapes(family, 2 if depth == "18" else 1)
    assert list(shapes(on_meta(name)).items()) == list(table.items())


@pytest.mark.parametrize(
    ("name", "with_fc"), [("r2plus1d_18", 31_505_325), ("r3d_18", 33_371_472), ("mc3_18", 11_695_440)]
)
def test_number_of_parameters(name: str, with_fc: int) -> None:
    fc = 512 * 400 + 400
    assert sum(p.numel() for p in on_meta(name).parameters()) == with_fc - fc


def test_mid_planes_per_convolution_are_those_of_the_xdc_release() -> None:
    found = shapes(on_meta("r2plus1d_18", mid_planes="convolution"))
    assert found == expected_shapes("r2plus1d", 2, "convolution")
    assert [found[f"layer{i}.0.conv2.0.0.weight"][0] for i in (2, 3, 4)] == [288, 576, 1152]


def test_mid_channels_do_not_exceed_the_parameters_of_a_full_convolution() -> None:
    for inputs, outputs in itertools.product((1, 3, 16, 64, 128), repeat=2):
        per_mid = 9 * inputs + 3 * outputs
        full = 27 * inputs * outputs
        assert mid_channels(inputs, outputs) * per_mid <= full < (mid_channels(inputs, outputs) + 1) * per_mid


def convolve(x: np.ndarray, weight: np.ndarray, stride: Shape, padding: Shape) -> np.ndarray:
    """A 3D convolution of one clip (C, T, H, W), output by output."""
    x = np.pad(x, [(0, 0), *((p, p) for p in padding)])
    size = [(n - k) // s + 1 for n, k, s in zip(x.shape[1:], weight.shape[2:], stride, strict=True)]
    out = np.zeros((weight.shape[0], *size))
    for position in itertools.product(*map(range, size)):
        window = tuple(slice(p * s, p * s + k) for p, s, k in zip(position, stride, weight.shape[2:], strict=True))
        patch = x[(slice(None), *window)]
        for channel in range(weight.shape[0]):
            out[(channel, *position)] = (weight[channel] * patch).sum()
    return out


class Reference:
    """The network in evaluation mode, as a plain function of a state dict."""

    def __init__(self, encoder: VideoEncoder, eps: float) -> None:
        self.weights = {name: value.double().numpy() for name, value in encoder.state_dict().items()}
        self.family, self.eps = encoder.family, eps

    def norm(self, x: np.ndarray, name: str) -> np.ndarray:
        weight, bias, mean, variance = (
            self.weights[f"{name}.{part}"][:, None, None, None]
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        out: np.ndarray = (x - mean) / np.sqrt(variance + self.eps) * weight + bias
        return out

    def convolution(self, x: np.ndarray, name: str, stage: int, stride: int) -> np.ndarray:
        if self.family == "r2plus1d":
            x = convolve(x, self.weights[f"{name}.0.weight"], (1, stride, stride), (0, 1, 1))
            x = np.maximum(self.norm(x, f"{name}.1"), 0)
            return convolve(x, self.weights[f"{name}.3.weight"], (stride, 1, 1), (1, 0, 0))
        if self.family == "mc3" and stage > 1:
            return convolve(x, self.weights[f"{name}.weight"], (1, stride, stride), (0, 1, 1))
        return convolve(x, self.weights[f"{name}.weight"], (stride, stride, stride), (1, 1, 1))

    def __call__(self, x: np.ndarray, stem_pool: bool) -> np.ndarray:
        if self.family == "r2plus1d":
            x = convolve(x, self.weights["stem.0.weight"], (1, 2, 2), (0, 3, 3))
            x = np.maximum(self.norm(x, "stem.1"), 0)
            x = convolve(x, self.weights["stem.3.weight"], (1, 1, 1), (1, 0, 0))
            x = np.maximum(self.norm(x, "stem.4"), 0)
        else:
            x = convolve(x, self.weights["stem.0.weight"], (1, 2, 2), (1, 3, 3))
            x = np.maximum(self.norm(x, "stem.1"), 0)
        if stem_pool:
            rows, columns = (range(0, n, 2) for n in x.shape[2:])
            x = np.stack(
                [
                    np.stack(
                        [x[:, :, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2].max(axis=(2, 3)) for j in columns],
                        -1,
                    )
                    for i in rows
                ],
                -2,
            )
        for stage in (1, 2, 3, 4):
            stride = 1 if stage == 1 else 2
            block = f"layer{stage}.0"
            y = self.norm(self.convolution(x, f"{block}.conv1.0", stage, stride), f"{block}.conv1.1")
            y = self.convolution(np.maximum(y, 0), f"{block}.conv2.0", stage, 1)
            y = self.norm(y, f"{block}.conv2.1")
            if stage > 1:
                time = 1 if self.family == "mc3" else stride
                x = convolve(x, self.weights[f"{block}.downsample.0.weight"], (time, stride, stride), (0, 0, 0))
                x = self.norm(x, f"{block}.downsample.1")
            x = np.maximum(x + y, 0)
        return x


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("r2plus1d_10", {}),
        ("r2plus1d_10", {"mid_planes": "convolution", "bn_eps": 1e-3}),
        ("r3d_10", {"stem_pool": True}),
        ("mc3_10", {}),
    ],
)
def test_forward_is_the_written_out_loop(name: str, settings: dict[str, object]) -> None:
    generator = torch.Generator().manual_seed(0)
    encoder = build_video_encoder(name, width=2, generator=generator, **settings)  # type: ignore[arg-type]
    encoder = encoder.double().eval()
    for part in encoder.modules():  # statistics and affine parts that are not the trivial ones
        if isinstance(part, nn.BatchNorm3d):
            for values in (part.weight.data, part.running_var):
                assert values is not None
                values.uniform_(0.5, 2, generator=generator)
            for values in (part.bias.data, part.running_mean):
                assert values is not None
                values.normal_(generator=generator)
    clip = torch.randn(1, 3, 5, 18, 14, generator=generator, dtype=torch.float64)
    expected = Reference(encoder, float(settings.get("bn_eps", 1e-5)))(  # type: ignore[arg-type]
        clip[0].numpy(), bool(settings.get("stem_pool"))
    )
    with torch.no_grad():
        np.testing.assert_allclose(encoder.feature_map(clip)[0].numpy(), expected, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(encoder(clip)[0].numpy(), expected.mean(axis=(1, 2, 3)), rtol=1e-9)


@pytest.mark.parametrize(
    ("name", "stem_pool", "size"),
    [
        ("r2plus1d_10", False, (1, 3, 3)),
        ("r3d_10", False, (1, 3, 3)),
        ("mc3_10", False, (8, 3, 3)),
        ("r2plus1d_18", True, (1, 2, 2)),
    ],
)
def test_size_of_the_feature_map(name: str, stem_pool: bool, size: Shape) -> None:
    encoder = on_meta(name, width=4, stem_pool=stem_pool)
    assert encoder.feature_dim == 32
    clips = torch.empty(2, 3, 8, 48, 48, device="meta")
    assert encoder.feature_map(clips).shape == (2, 32, *size)
    assert encoder(clips).shape == (2, 32)


def test_stem_pool_takes_the_largest_of_each_frame() -> None:
    # No mixing of frames: a clip of one repeated frame, with one frame changed, changes in that frame only.
    encoder = VideoEncoder("mc3", blocks=(1, 1, 1, 1), width=2, stem_pool=True).eval()
    encoder.stem = nn.Sequential(nn.Identity())  # the pool sees the clip itself
    encoder.layer1 = encoder.layer2 = encoder.layer3 = encoder.layer4 = nn.Sequential()
    clip = torch.randn(2, 3, 4, 7, 6)
    expected = nn.functional.max_pool3d(clip, (1, 3, 3), (1, 2, 2), (0, 1, 1))
    torch.testing.assert_close(encoder.feature_map(clip), expected, rtol=0, atol=0)


def test_stem_stride() -> None:
    with torch.device("meta"):
        encoder = VideoEncoder("r2plus1d", blocks=(1, 1, 1, 1), width=4, stem_stride=(2, 4, 4))
    assert encoder.feature_map(torch.empty(1, 3, 32, 64, 64, device="meta")).shape[2:] == (2, 2, 2)


def test_width_scales_the_stem() -> None:
    assert shapes(on_meta("r2plus1d_10", width=16))["stem.0.weight"] == (11, 3, 1, 7, 7)
    assert shapes(on_meta("r2plus1d_10", width=1))["stem.0.weight"] == (1, 3, 1, 7, 7)


@pytest.mark.parametrize("name", VIDEO_ENCODERS)
def test_gradients_reach_every_parameter(name: str) -> None:
    encoder = build_video_encoder(name, width=4, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(2)
    clips = torch.randn(2, 3, 9, 40, 40, generator=generator)
    (encoder(clips) * torch.randn(2, 32, generator=generator)).sum().backward()
    dead = [n for n, p in encoder.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert dead == []


@pytest.mark.parametrize("stem_pool", [False, True])
def test_channels_last_gives_the_same_features(stem_pool: bool) -> None:
    encoder = build_video_encoder("r2plus1d_10", width=4, stem_pool=stem_pool).eval()
    clips = torch.randn(2, 3, 4, 32, 32)
    with torch.no_grad():
        expected = encoder(clips)
        torch.testing.assert_close(encoder(clips.contiguous(memory_format=torch.channels_last_3d)), expected)
        encoder.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        torch.testing.assert_close(encoder(clips.contiguous(memory_format=torch.channels_last_3d)), expected)


def test_generator_decides_the_weights_and_the_global_one_is_left_alone() -> None:
    def build(seed: int) -> dict[str, torch.Tensor]:
        return build_video_encoder("mc3_10", width=4, generator=torch.Generator().manual_seed(seed)).state_dict()

    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = build(7)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    again, other = build(7), build(8)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["stem.0.weight"], other["stem.0.weight"])


def test_without_a_generator_the_global_one_decides() -> None:
    torch.manual_seed(3)
    first = build_video_encoder("r3d_10", width=2).state_dict()
    torch.manual_seed(3)
    again = build_video_encoder("r3d_10", width=2).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_initial_scale_is_he_by_fan_out() -> None:
    encoder = build_video_encoder("r2plus1d_10", width=64, generator=torch.Generator().manual_seed(0))
    for name, parameter in encoder.named_parameters():
        if parameter.ndim == 5 and parameter.numel() > 20_000:
            fan_out = parameter.shape[0] * parameter[0, 0].numel()
            assert parameter.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05), name
    norms = [part for part in encoder.modules() if isinstance(part, nn.BatchNorm3d)]
    assert all((norm.weight == 1).all() and (norm.bias == 0).all() for norm in norms)


def test_batch_norm_settings_reach_every_layer() -> None:
    encoder = on_meta("r2plus1d_18", bn_eps=1e-3, bn_momentum=0.2)
    norms = [part for part in encoder.modules() if isinstance(part, nn.BatchNorm3d)]
    assert len(norms) == 2 + 16 * 2 + 3
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.2)}


def test_unknown_name_names_close_ones() -> None:
    with pytest.raises(ValueError, match="did you mean r2plus1d_18"):
        build_video_encoder("r2plus1d18")
    with pytest.raises(ValueError, match=r"known ones: r2plus1d_18, .*mc3_10"):
        build_video_encoder("zzz")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"family": "c3d"}, "family"),
        ({"blocks": (1, 1, 1)}, "blocks"),
        ({"blocks": (1, 0, 1, 1)}, "blocks"),
        ({"width": 0}, "width"),
        ({"mid_planes": "each"}, "mid_planes"),
        ({"family": "r3d", "mid_planes": "convolution"}, "no effect in r3d"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VideoEncoder(**settings)  # type: ignore[arg-type]


def test_wrong_shape_is_refused() -> None:
    encoder = build_video_encoder("r3d_10", width=2)
    for shape in ((3, 4, 8, 8), (1, 1, 4, 8, 8)):
        with pytest.raises(ValueError, match=r"\(B, 3, T, H, W\)"):
            encoder(torch.zeros(shape))
