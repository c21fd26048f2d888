"""The audio encoder: a residual network over a log-mel spectrogram, seen as a picture of one channel.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016. XDC uses 18 layers, GDT and SeLaVi 9
(one BasicBlock per stage). Parameter names are those of torchvision's `resnet18` without its `fc`.

Shapes: B spectrograms, Q mel bins, P spectrogram frames, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from seehear.models.speed import CompiledFeatures, Execution, Run, lay_channels_last, operators, plain
from seehear.models.video import Norm, initialise, undisturbed


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut. The attribute names are torchvision's."""

    def __init__(self, inputs: int, planes: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride=stride, padding=1, bias=False)
        self.bn1 = norm(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = norm(planes)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != planes:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, planes, 1, stride=stride, bias=False), norm(planes))

    def forward(self, x: Tensor, run: Run = plain) -> Tensor:
        """(B, inputs, Q, P) to (B, planes, Q / stride, P / stride), rounded up. `run` runs the layers."""
        shortcut = x if self.downsample is None else run(x, self.downsample)
        x = run(x, self.conv1, self.bn1, self.relu, self.conv2, self.bn2)
        out: Tensor = self.relu(x.add_(shortcut))
        return out


def _stage(blocks: int, inputs: int, planes: int, stride: int, norm: Norm) -> nn.Sequential:
    first = BasicBlock(inputs, planes, stride, norm)
    return nn.Sequential(first, *(BasicBlock(planes, planes, 1, norm) for _ in range(blocks - 1)))


class AudioEncoder(nn.Module):
    """A residual network without a classifier: spectrograms (B, 1, Q, P) to features (B, D), D = 8 x width.

    Args:
        blocks: BasicBlocks in each of the four stages: (2, 2, 2, 2) is ResNet-18, (1, 1, 1, 1) ResNet-9.
        width: channels of the first convolution; the stages have width x (1, 2, 4, 8). The papers have 64.
        bn_eps, bn_momentum: of every batch norm.
        generator: source of the initial weights (a CPU generator); `None` is torch's global one. With a
            generator the global one is neither read nor moved.

    Attributes:
        feature_dim: D.
        execution: by which operators it runs, see `seehear.models.speed`.
        compiled: takes the place of `features` if set, see `seehear.models.speed.prepare_encoders`.

    Raises:
        ValueError: a setting is out of range.
    """

    def __init__(
        self,
        *,
        blocks: Sequence[int] = (2, 2, 2, 2),
        width: int = 64,
        bn_eps: float = 1e-5,
        bn_momentum: float = 0.1,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if len(blocks) != 4 or min(blocks) < 1:
            raise ValueError(f"blocks has four positive numbers, not {tuple(blocks)}")
        if width < 1:
            raise ValueError(f"width is at least 1, not {width}")
        self.bn_eps = bn_eps
        self.execution: Execution = "auto"
        self.compiled: CompiledFeatures | None = None
        self.feature_dim = 8 * width
        norm = partial(nn.BatchNorm2d, eps=bn_eps, momentum=bn_momentum)
        with undisturbed(generator):
            self.conv1 = nn.Conv2d(1, width, 7, stride=2, padding=3, bias=False)
            self.bn1 = norm(width)
            self.relu = nn.ReLU(inplace=True)
            self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
            self.layer1 = _stage(blocks[0], width, width, 1, norm)
            self.layer2 = _stage(blocks[1], width, 2 * width, 2, norm)
            self.layer3 = _stage(blocks[2], 2 * width, 4 * width, 2, norm)
            self.layer4 = _stage(blocks[3], 4 * width, 8 * width, 2, norm)
        initialise(self, generator)
        lay_channels_last(self)

    def feature_map(self, x: Tensor) -> Tensor:
        """The last convolutional map.

        Args:
            x: spectrograms of shape (B, 1, Q, P), float, normalised.

        Returns:
            Shape (B, D, Q', P') with Q' = Q/32 and P' = P/32, rounded up.

        Raises:
            ValueError: `x` has another shape.
        """
        if x.ndim != 4 or x.shape[1] != 1:
            raise ValueError(f"spectrograms have the shape (B, 1, Q, P), not {tuple(x.shape)}")
        run = operators(self.execution, x)
        # Channels last in memory, as in the video encoder. What a single channel's layout is cannot be told from its
        # tensor: the weights and the first convolution's output have to say it.
        x = run(x, self.conv1, self.bn1, self.relu).contiguous(memory_format=torch.channels_last)
        x = self.maxpool(x)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            for block in stage:
                x = block(x, run)
        return x[:, : self.feature_dim]

    def forward(self, x: Tensor) -> Tensor:
        """Features: the map of `feature_map` averaged over both axes, (B, 1, Q, P) to (B, D)."""
        return self.features(x) if self.compiled is None else self.compiled(x)

    def features(self, x: Tensor) -> Tensor:
        """What `forward` returns, never compiled."""
        x = self.feature_map(x)
        # Half precision would round features; float64 stays.
        return x.mean(dim=(2, 3), dtype=torch.promote_types(x.dtype, torch.float32))
