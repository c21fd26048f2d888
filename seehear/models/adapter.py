"""What is learnt on top of an encoder of others: a residual correction of its features, nothing at the start.

Bottleneck adapters of this kind are Houlsby et al., "Parameter-Efficient Transfer Learning for NLP", ICML 2019, who
begin near the identity for the same reason: what the encoder knows is not lost on the way.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from seehear.models.video import undisturbed

LEAST_DEVIATION = 1e-6


class ResidualAdapter(nn.Module):
    """Features (B, D) to features (B, D): z + W2 relu(norm(W1 z)) with z = (x - mean) / std.

    W2 is zero at the start, so that the first features are z itself. The norm is over the D entries of a row
    (LayerNorm): what a row becomes depends on no other, in training or not.

    Args:
        dim: D.
        generator: source of W1; `None` is torch's global one.

    Attributes:
        feature_dim: D.
        mean, std: (D,) buffers, 0 and 1 until `standardise`.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, dim: int, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.feature_dim = dim
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))
        with undisturbed(generator):
            self.inner, self.norm, self.outer = nn.Linear(dim, dim), nn.LayerNorm(dim), nn.Linear(dim, dim)
        bound = dim**-0.5  # as torch's own, but drawn from `generator`
        nn.init.uniform_(self.inner.weight, -bound, bound, generator=generator)
        nn.init.uniform_(self.inner.bias, -bound, bound, generator=generator)
        self.reset()

    def reset(self) -> None:
        """Back to giving z itself."""
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    @torch.no_grad()
    def standardise(self, mean: Tensor, std: Tensor) -> None:
        """Take (D,) statistics of features; a dimension that does not vary is centred and no more."""
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > LEAST_DEVIATION, std, torch.ones_like(std)))

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, D), or (..., D), of an encoder to those that a method learns with."""
        z = (x - self.mean) / self.std
        found: Tensor = z + self.outer(torch.relu(self.norm(self.inner(z))))
        return found


class OnBackbone(nn.Module):
    """An encoder of others with the adapter on top: what it sees of clips to features (B, D).

    Args:
        backbone: with a `feature_dim`.
        adapter: of that many dimensions.
        tuned: whether the backbone is trained. If not it is always in evaluation mode and has no gradients.
    """

    def __init__(self, backbone: nn.Module, adapter: ResidualAdapter, *, tuned: bool) -> None:
        super().__init__()
        self.backbone, self.adapter = backbone, adapter
        self.feature_dim = adapter.feature_dim
        self.tune(tuned)

    def tune(self, tuned: bool) -> None:
        """Train the backbone from now on, or leave it as it is."""
        self.tuned = tuned
        self.backbone.requires_grad_(tuned)
        self.train(self.training)

    def train(self, mode: bool = True) -> OnBackbone:
        """Training or evaluation mode; a backbone that stays as it is remains in the latter."""
        super().train(mode)
        if not self.tuned:
            self.backbone.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """What the backbone takes, (B, ...), to features (B, D) float32."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.tuned):
            features = self.backbone(x)
        return cast(Tensor, self.adapter(features))


def adapter_of(encoder: nn.Module) -> ResidualAdapter | None:
    """The adapter that an encoder of a method is, or has; None of one of our own."""
    if isinstance(encoder, OnBackbone):
        return encoder.adapter
    return encoder if isinstance(encoder, ResidualAdapter) else None
