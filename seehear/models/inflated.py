"""A video encoder that begins as a network of single images: the weights of a 2-D ResNet, inflated over time.

Carreira and Zisserman, "Quo vadis, action recognition?" (CVPR 2017) repeat a filter over time and divide by its length,
which padding in time spoils at a clip's ends. Here a filter stands at its middle frame and is zero at the others: of a
still clip every frame then has the 2-D network's activations, and so has the feature.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from seehear.errors import DataError
from seehear.models.video import BasicBlock, VideoEncoder

DEVIATIONS = 30.0
"""By so many deviations values are raised to pass the ReLU within a factored convolution untouched."""
_PIXEL_LIMIT = 3.0  # no normalised pixel is farther from zero
_NORM = ("weight", "bias", "running_mean", "running_var")


def is_image_network(tensors: Mapping[str, Tensor]) -> bool:
    """Whether these are the weights of a ResNet for images, by torchvision's names."""
    first = tensors.get("conv1.weight")
    return first is not None and first.ndim == 4 and first.shape[1] == 3 and "layer1.0.conv1.weight" in tensors


def inflated_state(tensors: Mapping[str, Tensor], encoder: VideoEncoder) -> tuple[dict[str, Tensor], list[str]]:
    """The state of `encoder` that does on still clips what a 2-D ResNet of BasicBlocks does on their image.

    R3D and MC3 take every filter as it is. In R(2+1)D each spatial half takes the filters, raised by `DEVIATIONS`
    deviations so that its ReLU cuts nothing, and the temporal half passes them on; channels that are left over keep
    their own first weights and are not listened to yet. Its stem has fewer channels between its halves than filters
    and takes their best approximation of so low a rank: it alone is not exact.

    Args:
        tensors: torchvision's names and shapes; a classifier `fc` is left aside.
        encoder: of the same width and blocks. With `stem_pool` it has the pooling that ResNets have after the stem.

    Returns:
        The state, and what a person should know.

    Raises:
        DataError: the file's network has other blocks or widths.
    """
    mine = encoder.state_dict()
    state = {key: value.clone() for key, value in mine.items()}
    left = {key for key in tensors if not key.startswith("fc.")}
    inflate = _Inflation(tensors, state, left)
    notes = inflate.stem(encoder)
    for stage in ("layer1", "layer2", "layer3", "layer4"):
        blocks = getattr(encoder, stage)
        for i, block in enumerate(blocks):
            assert isinstance(block, BasicBlock)
            inflate.block(f"{stage}.{i}", block)
    faults = inflate.faults + ([f"left over: {', '.join(sorted(left)[:6])}"] if left else [])
    if faults:
        raise DataError(
            "the image network does not fit the video encoder:\n  " + "\n  ".join(faults[:8]),
            "a ResNet-18 fits r3d_18, mc3_18 and r2plus1d_18 of width 64",
        )
    if not encoder.stem_pool:
        notes.append("a ResNet pools after its stem: with model.video_stem_pool=true features are those of its image")
    return state, notes


class _Inflation:
    """Fills the state of a video encoder from that of an image network, and notes what does not fit."""

    def __init__(self, tensors: Mapping[str, Tensor], state: dict[str, Tensor], left: set[str]) -> None:
        self.tensors, self.state, self.left = tensors, state, left
        self.faults: list[str] = []

    def take(self, key: str, shape: tuple[int, ...]) -> Tensor | None:
        """A tensor of the image network in this shape."""
        self.left.discard(key)
        found = self.tensors.get(key)
        if found is None or tuple(found.shape) != shape:
            what = "missing" if found is None else f"of shape {tuple(found.shape)}"
            self.faults.append(f"{key} is {what}, and should be {shape}")
            return None
        return found.float()

    def norm(self, source: str, width: int) -> dict[str, Tensor] | None:
        """A batch norm of the image network."""
        parts = {part: self.take(f"{source}.{part}", (width,)) for part in _NORM}
        self.left.discard(f"{source}.num_batches_tracked")
        found = {part: value for part, value in parts.items() if value is not None}
        return found if len(found) == len(_NORM) else None

    def put_norm(self, target: str, norm: Mapping[str, Tensor]) -> None:
        self.state.update({f"{target}.{part}": norm[part] for part in _NORM})

    def stem(self, encoder: VideoEncoder) -> list[str]:
        convolution = encoder.stem[0]
        assert isinstance(convolution, nn.Conv3d)
        if encoder.family != "r2plus1d":
            self.full("conv1", "bn1", "stem.0", "stem.1", convolution)
            return []
        last = encoder.stem[3]
        assert isinstance(last, nn.Conv3d)
        mid, width = convolution.out_channels, last.out_channels
        weight, norm = self.take("conv1.weight", (width, 3, 7, 7)), self.norm("bn1", width)
        if weight is None or norm is None:
            return []
        u, s, v = torch.linalg.svd(weight.flatten(1).double(), full_matrices=False)
        rank = min(mid, len(s))
        filters = torch.zeros(mid, v.shape[1], dtype=torch.float64)
        filters[:rank] = v[:rank]
        shift = _PIXEL_LIMIT * filters.abs().sum(1)
        # What batches will show: pictures whose pixels resemble their neighbours.
        variance = ((filters @ _covariance_of_pictures(3, 7)) * filters).sum(1).clamp_min(1e-6)
        mix = torch.zeros(width, mid, dtype=torch.float64)
        mix[:, :rank] = u[:, :rank] * s[:rank]
        self.state["stem.0.weight"] = filters.reshape(mid, 3, 1, 7, 7).float()
        self.raised("stem.1", torch.zeros(mid), variance.float(), shift.float(), encoder.bn_eps)
        self.state["stem.3.weight"] = _at_the_middle(mix.float()[:, :, None, None, None], 3)
        self.put_norm("stem.4", {**norm, "running_mean": norm["running_mean"] + (mix @ shift).float()})
        kept = float(s[:rank].square().sum() / s.square().sum())
        return (
            []
            if rank == len(s)
            else [f"the stem's {width} filters are approximated by {mid}: {kept:.1%} of their energy"]
        )

    def block(self, name: str, block: BasicBlock) -> None:
        for part in ("conv1", "conv2"):
            layers = getattr(block, part)
            target = f"{name}.{part}"
            source, norm = f"{name}.{part}", f"{name}.{part.replace('conv', 'bn')}"
            if isinstance(layers[0], nn.Conv3d):
                self.full(source, norm, f"{target}.0", f"{target}.1", layers[0])
            else:
                self.factored(source, norm, target, layers[0], layers[1])
        if block.downsample is not None:
            assert isinstance(block.downsample, nn.Sequential)
            first = block.downsample[0]
            assert isinstance(first, nn.Conv3d)
            self.full(
                f"{name}.downsample.0", f"{name}.downsample.1", f"{name}.downsample.0", f"{name}.downsample.1", first
            )

    def full(self, source: str, norm: str, target: str, target_norm: str, convolution: nn.Conv3d) -> None:
        """A convolution over space and time, or over space alone."""
        time, *side = convolution.kernel_size
        weight = self.take(f"{source}.weight", (convolution.out_channels, convolution.in_channels, *side))
        values = self.norm(norm, convolution.out_channels)
        if weight is not None and values is not None:
            self.state[f"{target}.weight"] = _at_the_middle(weight[:, :, None], time)
            self.put_norm(target_norm, values)

    def factored(self, source: str, norm: str, target: str, convolution: nn.Module, outer: nn.Module) -> None:
        """A convolution over space, batch norm and ReLU, then one over time, and its batch norm."""
        assert isinstance(convolution, nn.Sequential)
        space, inner, time = convolution[0], convolution[1], convolution[3]
        assert isinstance(space, nn.Conv3d) and isinstance(inner, nn.BatchNorm3d) and isinstance(time, nn.Conv3d)
        planes, mid = time.out_channels, space.out_channels
        weight = self.take(f"{source}.weight", (planes, space.in_channels, 3, 3))
        values = self.norm(norm, planes)
        if weight is None or values is None:
            return
        if mid < planes:
            self.faults.append(f"{target} has {mid} channels between its halves, too few for {planes} filters")
            return
        mean, variance = values["running_mean"], values["running_var"]
        shift = DEVIATIONS * (variance + inner.eps).sqrt()
        self.state[f"{target}.0.0.weight"][:planes, :, 0] = weight
        self.raised(f"{target}.0.1", mean, variance, shift, inner.eps)
        passed = torch.zeros(planes, mid, 1, 1, 1)
        passed[torch.arange(planes), torch.arange(planes)] = 1
        self.state[f"{target}.0.3.weight"] = _at_the_middle(passed, 3)
        self.put_norm(f"{target}.1", {**values, "running_mean": shift})

    def raised(self, target: str, mean: Tensor, variance: Tensor, shift: Tensor, eps: float) -> None:
        """A batch norm that takes a channel's mean away and adds `shift`; of the first channels alone."""
        values = {"weight": (variance + eps).sqrt(), "bias": shift, "running_mean": mean, "running_var": variance}
        for part, value in values.items():
            self.state[f"{target}.{part}"][: len(value)] = value


def _at_the_middle(weight: Tensor, length: int) -> Tensor:
    """A filter (O, I, 1, H, W) in the middle of so many frames, with zeros at the others."""
    found = weight.new_zeros(*weight.shape[:2], length, *weight.shape[3:])
    found[:, :, length // 2] = weight[:, :, 0]
    return found


def _covariance_of_pictures(channels: int, side: int) -> Tensor:
    """Covariances of the pixels of a patch, (channels side^2, the same), if their variance is 1.

    Correlations fall with distance to 0.95 a pixel, and are 0.9 between colours: a common model of natural images.
    """
    at = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij"), dim=-1).reshape(-1, 2)
    of_places = torch.exp(math.log(0.95) * torch.cdist(at.double(), at.double()))
    of_colours = torch.full((channels, channels), 0.9, dtype=torch.float64).fill_diagonal_(1.0)
    return torch.kron(of_colours, of_places)
