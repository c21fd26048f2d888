"""Small programs whose features can be worked out by hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MeanOfFrames(nn.Module):
    """The mean of every colour, times a weight: frames with the colours on the axis `channels` to (B, 3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.weight = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))

    def forward(self, x: Tensor) -> Tensor:
        return x.movedim(self.channels, 1).flatten(2).mean(2) * self.weight


class MeanOfSamples(nn.Module):
    """Mean and mean square of samples (B, S) or (B, 1, S): (B, 2)."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        return torch.stack([x.mean(1), x.square().mean(1)], dim=1)


def clips(modality: str, batch: int = 2, frames: int = 4, side: int = 32, samples: int = 16000) -> Tensor:
    """Noise as every encoder of a modality is given."""
    generator = torch.Generator().manual_seed(batch)
    if modality == "video":
        return torch.randint(0, 256, (batch, 3, frames, side, side), generator=generator).float() / 255
    return torch.rand(batch, samples, generator=generator) - 0.5
