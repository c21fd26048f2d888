"""The video encoder: R(2+1)D, R3D and MC3 residual networks of BasicBlocks.

Tran et al., "A Closer Look at Spatiotemporal Convolutions for Action Recognition", CVPR 2018. Parameter names
and shapes are those of torchvision's `r2plus1d_18`, `r3d_18` and `mc3_18` without their `fc`, so that their
state dicts load with no renaming.

Shapes: B clips, T frames, H x W pixels, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seehear.models.speed import CompiledFeatures, Execution, Run, lay_channels_last, operators, plain

Family = Literal["r2plus1d", "r3d", "mc3"]
MidPlanes = Literal["block", "convolution"]

# How a 3x3x3 convolution is made: "factored" into 1x3x3 then 3x1x1, "full", or "spatial" (1x3x3 only).
_Kind = Literal["factored", "full", "spatial"]
Norm = Callable[[int], nn.Module]

_STAGE_KINDS: dict[Family, tuple[_Kind, _Kind, _Kind, _Kind]] = {
    "r2plus1d": ("factored", "factored", "factored", "factored"),
    "r3d": ("full", "full", "full", "full"),
    "mc3": ("full", "spatial", "spatial", "spatial"),
}


def mid_channels(inputs: int, outputs: int) -> int:
    """Channels between the 1x3x3 and 3x1x1 halves of a factored convolution (Tran et al. 2018, section 3.5).

    It is the largest number with which the two halves have no more parameters than one 3x3x3 convolution.
    """
    return (inputs * outputs * 3 * 3 * 3) // (inputs * 3 * 3 + 3 * outputs)


def initialise(module: nn.Module, generator: torch.Generator | None) -> None:
    """He initialisation as torchvision has it: convolutions normal by fan-out, batch norms 1 and 0.

    Args:
        module: whose convolutions and batch norms are set, in the order of `module.modules()`.
        generator: where the random numbers come from; `None` is torch's global generator.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu", generator=generator)
        elif isinstance(part, nn.BatchNorm2d | nn.BatchNorm3d):
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)


def undisturbed(generator: torch.Generator | None) -> AbstractContextManager[None]:
    """A context in which layers may be constructed without moving the global CPU generator.

    torch's layers draw a first initialisation from the global generator when they are made. If the caller
    brought a generator of their own, that draw is thrown away and must leave no trace.
    """
    return nullcontext() if generator is None else torch.random.fork_rng(devices=[])


def _convolution(kind: _Kind, inputs: int, outputs: int, mid: int, stride: int, norm: Norm) -> nn.Module:
    if kind == "full":
        return nn.Conv3d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    if kind == "spatial":
        return nn.Conv3d(inputs, outputs, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False)
    return nn.Sequential(
        nn.Conv3d(inputs, mid, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False),
        norm(mid),
        nn.ReLU(inplace=True),
        nn.Conv3d(mid, outputs, (3, 1, 1), (stride, 1, 1), (1, 0, 0), bias=False),
    )


class BasicBlock(nn.Module):
    """Two convolutions and a shortcut. The attribute names are torchvision's."""

    def __init__(self, kind: _Kind, inputs: int, planes: int, stride: int, mid_planes: MidPlanes, norm: Norm) -> None:
        super().__init__()
        mid1 = mid_channels(inputs, planes)
        mid2 = mid1 if mid_planes == "block" else mid_channels(planes, planes)
        self.conv1 = nn.Sequential(
            _convolution(kind, inputs, planes, mid1, stride, norm), norm(planes), nn.ReLU(inplace=True)
        )
        self.conv2 = nn.Sequential(_convolution(kind, planes, planes, mid2, 1, norm), norm(planes))
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != planes:
            strides = (1 if kind == "spatial" else stride, stride, stride)
            self.downsample = nn.Sequential(nn.Conv3d(inputs, planes, 1, stride=strides, bias=False), norm(planes))

    def forward(self, x: Tensor, run: Run = plain) -> Tensor:
        """(B, inputs, T, H, W) to (B, planes, T / stride, H / stride, W / stride), rounded up.

        "spatial" convolutions keep T. `run` runs the layers.
        """
        shortcut = x if self.downsample is None else run(x, self.downsample)
        out: Tensor = self.relu(run(x, self.conv1, self.conv2).add_(shortcut))
        return out


def _stage(
    kind: _Kind, blocks: int, inputs: int, planes: int, stride: int, mid_planes: MidPlanes, norm: Norm
) -> nn.Sequential:
    first = BasicBlock(kind, inputs, planes, stride, mid_planes, norm)
    rest = (BasicBlock(kind, planes, planes, 1, mid_planes, norm) for _ in range(blocks - 1))
    return nn.Sequential(first, *rest)


def _stem(family: Family, width: int, stride: tuple[int, int, int], norm: Norm) -> nn.Sequential:
    time, height, breadth = stride
    if family != "r2plus1d":
        return nn.Sequential(
            nn.Conv3d(3, width, (3, 7, 7), stride, (1, 3, 3), bias=False), norm(width), nn.ReLU(inplace=True)
        )
    mid = max(1, 45 * width // 64)
    return nn.Sequential(
        nn.Conv3d(3, mid, (1, 7, 7), (1, height, breadth), (0, 3, 3), bias=False),
        norm(mid),
        nn.ReLU(inplace=True),
        nn.Conv3d(mid, width, (3, 1, 1), (time, 1, 1), (1, 0, 0), bias=False),
        norm(width),
        nn.ReLU(inplace=True),
    )


class VideoEncoder(nn.Module):
    """A 3D residual network without a classifier: clips (B, 3, T, H, W) to features (B, D), D = 8 x width.

    With `blocks` (2, 2, 2, 2) and `width` 64 the state dict has exactly torchvision's names and shapes, `fc`
    left out. Other blocks and widths are smaller members of the same families, for machines without a GPU;
    they, `stem_stride` and `stem_pool` are ours and not of any paper.

    Args:
        family: `r2plus1d` (every 3x3x3 convolution factored), `r3d` (none) or `mc3` (stage 1 is 3x3x3, stages
            2-4 are 1x3x3 and keep the number of frames).
        blocks: BasicBlocks in each of the four stages.
        width: channels of the stem and of stage 1; the stages have width x (1, 2, 4, 8). The R(2+1)D stem has
            45 channels between its two convolutions at width 64, and floor(45 x width / 64) at others.
        stem_stride: strides of the stem over time, height and width.
        stem_pool: a 3x3 spatial max-pool of stride 2 after the stem: the stages then cost a quarter.
        mid_planes: channels inside a factored convolution, computed once per "block" from its inputs and
            outputs (torchvision, GDT, SeLaVi) or for each "convolution" (VMZ, the XDC release). R(2+1)D only.
        bn_eps, bn_momentum: of every batch norm. The XDC release needs eps 1e-3.
        generator: source of the initial weights (a CPU generator); `None` is torch's global one. With a
            generator the global one is neither read nor moved.

    Attributes:
        feature_dim: D.
        execution: by which operators it runs, see `seehear.models.speed`.
        compiled: takes the place of `features` if set, see `seehear.models.speed.prepare_encoders`.

    Raises:
        ValueError: a setting is out of range or has no effect in this family.
    """

    def __init__(
        self,
        family: Family = "r2plus1d",
        *,
        blocks: Sequence[int] = (2, 2, 2, 2),
        width: int = 64,
        stem_stride: tuple[int, int, int] = (1, 2, 2),
        stem_pool: bool = False,
        mid_planes: MidPlanes = "block",
        bn_eps: float = 1e-5,
        bn_momentum: float = 0.1,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if family not in _STAGE_KINDS:
            raise ValueError(f"family is one of {', '.join(_STAGE_KINDS)}, not {family!r}")
        if len(blocks) != 4 or min(blocks) < 1:
            raise ValueError(f"blocks has four positive numbers, not {tuple(blocks)}")
        if width < 1:
            raise ValueError(f"width is at least 1, not {width}")
        if mid_planes not in ("block", "convolution"):
            raise ValueError(f"mid_planes is 'block' or 'convolution', not {mid_planes!r}")
        if mid_planes == "convolution" and family != "r2plus1d":
            raise ValueError(f"mid_planes='convolution' has no effect in {family}, which has no mid-planes")
        self.family: Family = family
        self.mid_planes: MidPlanes = mid_planes
        self.bn_eps = bn_eps
        self.feature_dim = 8 * width
        self.stem_pool = stem_pool
        self.execution: Execution = "auto"
        self.compiled: CompiledFeatures | None = None
        norm = partial(nn.BatchNorm3d, eps=bn_eps, momentum=bn_momentum)
        with undisturbed(generator):
            self.stem = _stem(family, width, stem_stride, norm)
            kinds = _STAGE_KINDS[family]
            self.layer1 = _stage(kinds[0], blocks[0], width, width, 1, mid_planes, norm)
            self.layer2 = _stage(kinds[1], blocks[1], width, 2 * width, 2, mid_planes, norm)
            self.layer3 = _stage(kinds[2], blocks[2], 2 * width, 4 * width, 2, mid_planes, norm)
            self.layer4 = _stage(kinds[3], blocks[3], 4 * width, 8 * width, 2, mid_planes, norm)
        initialise(self, generator)
        lay_channels_last(self)

    def feature_map(self, x: Tensor) -> Tensor:
        """The last convolutional map.

        Args:
            x: clips of shape (B, 3, T, H, W), float, pixels normalised.

        Returns:
            Shape (B, D, T', H', W'). With the default stem H' = H/16 and W' = W/16 (H/32 and W/32 with
            `stem_pool`), and T' = T/8 (T in MC3), all rounded up.

        Raises:
            ValueError: `x` has another shape.
        """
        if x.ndim != 5 or x.shape[1] != 3:
            raise ValueError(f"clips have the shape (B, 3, T, H, W), not {tuple(x.shape)}")
        # Channels last in memory: convolutions are a third faster so, on CPUs and in bfloat16 on GPUs.
        run = operators(self.execution, x)
        x = run(x.contiguous(memory_format=torch.channels_last_3d), self.stem)
        if self.stem_pool:
            # Frame by frame with the 2D operator: the 3D one's backward pass is not deterministic on CUDA.
            pooled = F.max_pool2d(x.transpose(1, 2).flatten(0, 1), 3, stride=2, padding=1)
            x = pooled.unflatten(0, (x.shape[0], -1)).transpose(1, 2)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            for block in stage:
                x = block(x, run)
        return x[:, : self.feature_dim]

    def forward(self, x: Tensor) -> Tensor:
        """Features: the map of `feature_map` averaged over time and space, (B, 3, T, H, W) to (B, D)."""
        return self.features(x) if self.compiled is None else self.compiled(x)

    def features(self, x: Tensor) -> Tensor:
        """What `forward` returns, never compiled."""
        # A mean and not AdaptiveAvgPool3d, whose backward pass is not deterministic on CUDA.
        x = self.feature_map(x)
        # Half precision would round features; float64 stays.
        return x.mean(dim=(2, 3, 4), dtype=torch.promote_types(x.dtype, torch.float32))
