"""Projection heads: from an encoder's feature to the space where a loss compares or classifies."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seehear.config import Config
from seehear.models.video import undisturbed


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
        """Project features (B, D); the last step is in float32."""
        y: Tensor = self.layers(x).float()
        return F.normalize(y, dim=1) if self.unit else y


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
                found[source] = torch.cat([F.normalize(x.float(), dim=1) for x in parts], 1)
        return found

    def logits(self, source: str, x: Tensor, head: int) -> Tensor:
        """Answers (B, K) of one head of a source to its input (B, D)."""
        heads = self.of[source]
        assert isinstance(heads, nn.ModuleList)
        answer: Tensor = heads[head](x)
        return answer

    def log_p(self, inputs: Mapping[str, Tensor], head: int) -> Tensor:
        """Eq. 6: log softmax of one head, averaged over the sources that have an input; (B, K) float32."""
        found = [F.log_softmax(self.logits(source, x, head), dim=1) for source, x in inputs.items()]
        return torch.stack(found).mean(0)


def cluster_heads(config: Config, dims: Mapping[str, int], generator: torch.Generator | None = None) -> ClusterHeads:
    """The heads that `config.selavi` asks for; `dims` are the lengths of the encoders' features by name."""
    sources = {s: sum(dims[name] for name in s.split("+")) for s in config.selavi.sources}
    settings = config.selavi
    return ClusterHeads(sources, config.cluster.k, settings.heads, dropout=settings.dropout, generator=generator)
