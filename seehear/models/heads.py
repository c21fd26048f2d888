"""Projection heads: from an encoder's feature to the space where a loss compares or classifies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seehear.config import Config
from seehear.models.video import undisturbed


def precise(x: Tensor) -> Tensor:
    """What is rounded to halves, as under autocast, in float32; float64 stays. For losses and what leads to them."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class MLPHead(nn.Module):
    """Two linear layers with batch normalisation and ReLU between them (GDT, appendix A.6): (B, D) to (B, out).

    Args:
        inputs: D, and the hidden width unless `hidden` is given.
        outputs: dimensions of the result.
        dropout: chance of zeroing an entry before each linear layer (0.3 in the published code, none in the paper).
        unit: scale the result to unit length.
        generator: source of the initial weights; `None` is torch's global one.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        hidden: int | None = None,
        dropout: float = 0.0,
        unit: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        width = hidden or inputs
        self.unit = unit
        with undisturbed(generator):
            self.layers = nn.Sequential(
                nn.Dropout(dropout),
                nn.Linear(inputs, width),
                nn.BatchNorm1d(width),
                nn.ReLU(inplace=True),
                nn.Dropout(dropout),
                nn.Linear(width, outputs),
            )
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                bound = layer.in_features**-0.5  # as torch's own, but drawn from `generator`
                nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
                nn.init.uniform_(layer.bias, -bound, bound, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """Project features (B, D); the last step is in float32, as far as they are not float64."""
        y: Tensor = precise(self.layers(x))
        return F.normalize(y, dim=1) if self.unit else y


def _joint_norm(x: Tensor, norms: Sequence[nn.BatchNorm1d]) -> Tensor:
    """Batch norms side by side as one: of x (B, H D) each has D columns. Their statistics move as by themselves."""
    own = {name: [getattr(norm, name) for norm in norms] for name in ("weight", "bias", "running_mean", "running_var")}
    joint = {name: torch.cat(each) for name, each in own.items()}
    whole = norms[0]
    y: Tensor = torch.func.functional_call(whole, joint, (x,))
    if whole.training:
        with torch.no_grad():
            for name in ("running_mean", "running_var"):
                torch._foreach_copy_(own[name], list(joint[name].split(whole.num_features)))
            if len(norms) > 1:
                torch._foreach_add_([cast(Tensor, norm.num_batches_tracked) for norm in norms[1:]], 1)
    return y


class ClusterHeads(nn.Module):
    """Clustering functions side by side: for each source of features H heads to K clusters (SeLaVi, section 3.3).

    A source is an encoder's name, or `a+b` for the features of two, each scaled to unit length and joined. Head h
    of every source numbers its clusters alike, so that their answers can be averaged.

    Args:
        dims: for each source the length of its features.
        clusters: K.
        heads: H.
        dropout: see `MLPHead`.
        generator: source of the initial weights.
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        clusters: int,
        heads: int,
        *,
        dropout: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.clusters, self.count = clusters, heads
        self.of = nn.ModuleDict(
            {
                source: nn.ModuleList(
                    [MLPHead(dim, clusters, hidden=dim, dropout=dropout, generator=generator) for _ in range(heads)]
                )
                for source, dim in dims.items()
            }
        )

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the sources."""
        return tuple(self.of)

    def inputs(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the heads of each source see, from the encoders' features; sources that lack one are left out."""
        found = {}
        for source in self.of:
            parts = [features[name] for name in source.split("+") if name in features]
            if len(parts) == 1 and "+" not in source:
                found[source] = parts[0]
            elif len(parts) == len(source.split("+")):
                found[source] = torch.cat([F.normalize(precise(x), dim=1) for x in parts], 1)
        return found

    def logits(self, source: str, x: Tensor, head: int) -> Tensor:
        """Answers (B, K) of one head of a source to its input (B, D)."""
        answer: Tensor = self._heads(source)[head](x)
        return answer

    def all_logits(self, source: str, x: Tensor) -> Tensor:
        """Answers (H, B, K) of all heads of a source to its input (B, D): those of `logits` but for rounding.

        All heads' first layers are one product, their norms one norm and their last layers one batched product. With
        dropout the entries that are left out are drawn for all heads at once.
        """
        heads = self._heads(source)
        first, norms, last = ([cast(Any, head.layers[i]) for head in heads] for i in (1, 2, 5))
        drop = heads[0].layers[0]
        assert isinstance(drop, nn.Dropout)
        weight, bias = torch.cat([layer.weight for layer in first]), torch.cat([layer.bias for layer in first])
        if drop.p and drop.training:
            each = drop(x.expand(self.count, *x.shape))  # (H, B, D): every head loses others of x
            y = torch.baddbmm(bias.view(self.count, 1, -1), each, weight.view(self.count, -1, x.shape[1]).mT)
            y = y.transpose(0, 1).flatten(1)
        else:
            y = F.linear(x, weight, bias)
        y = _joint_norm(y, norms).relu_().unflatten(1, (self.count, -1)).transpose(0, 1)
        weight = torch.stack([layer.weight for layer in last])
        bias = torch.stack([layer.bias for layer in last])
        return precise(torch.baddbmm(bias[:, None], drop(y), weight.mT))

    def _heads(self, source: str) -> list[MLPHead]:
        return list(self.of[source])  # type: ignore[call-overload]

    def log_p(self, inputs: Mapping[str, Tensor], head: int) -> Tensor:
        """Eq. 6: log softmax of one head, averaged over the sources that have an input; (B, K) float32."""
        found = [F.log_softmax(self.logits(source, x, head), dim=1) for source, x in inputs.items()]
        return torch.stack(found).mean(0)


def cluster_heads(
    config: Config, dims: Mapping[str, int], generator: torch.Generator | None = None, clusters: int | None = None
) -> ClusterHeads:
    """The heads that `config.selavi` asks for, to `clusters` (by default `cluster.k`).

    `dims` are the lengths of the encoders' features by name.
    """
    sources = {s: sum(dims[name] for name in s.split("+")) for s in config.selavi.sources}
    settings = config.selavi
    k = clusters or config.cluster.k
    return ClusterHeads(sources, k, settings.heads, dropout=settings.dropout, generator=generator)
