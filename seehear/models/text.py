"""Text encoders: numbers of words to features.

`mlp` is that of Miech et al. ("HowTo100M", ICCV 2019; "End-to-End Learning of Visual Representations from Uncurated
Instructional Videos", CVPR 2020): word embeddings, one layer with ReLU, and the maximum over words; it does not see
their order. `transformer` is that of Vaswani et al. (2017) with normalisation before each part, and sees it. GDT names
both (appendix A.2.1). The layers from the feature to the space that modalities share are the method's, as for all.

Shapes: B texts, L words, E dimensions of an embedding, D features.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seehear.models.video import undisturbed
from seehear.words.vocabulary import FIRST, PADDING, Vocabulary

Kind = Literal["mlp", "transformer"]
_HEAD_WIDTH = 32


class TextEncoder(nn.Module):
    """Numbers of words (B, L) int64 to features (B, D).

    Args:
        kind: "mlp" or "transformer".
        words: known words; there are two more embeddings, of what fills up a text and of unknown words.
        dimensions: E.
        width: D; of a transformer a multiple of 32, the width of one of its heads.
        layers: blocks of the transformer.
        fixed: leave the embeddings as they are.
        generator: source of the initial weights (a CPU generator); `None` is torch's global one. With a generator the
            global one is neither read nor moved.

    Attributes:
        feature_dim: D.

    Raises:
        ValueError: a setting is out of range.
    """

    def __init__(
        self,
        kind: Kind = "mlp",
        *,
        words: int,
        dimensions: int = 300,
        width: int = 2048,
        layers: int = 2,
        fixed: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if min(words, dimensions, width, layers) < 1:
            raise ValueError("words, dimensions, width and layers of a text encoder are at least 1")
        if kind == "transformer" and width % _HEAD_WIDTH:
            raise ValueError(f"the width of a transformer is a multiple of {_HEAD_WIDTH}, not {width}")
        self.kind, self.feature_dim = kind, width
        with undisturbed(generator):
            self.embedding = nn.Embedding(FIRST + words, dimensions)
            self.inputs = nn.Linear(dimensions, width)
            self.blocks = nn.ModuleList(Block(width) for _ in range(layers if kind == "transformer" else 0))
            self.norm = nn.LayerNorm(width) if kind == "transformer" else nn.Identity()
        self._initialise(generator)
        self.embedding.weight.requires_grad_(not fixed)

    def _initialise(self, generator: torch.Generator | None) -> None:
        """As torch has it, but drawn from `generator`."""
        nn.init.normal_(self.embedding.weight, generator=generator)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                bound = module.in_features**-0.5
                nn.init.uniform_(module.weight, -bound, bound, generator=generator)
                nn.init.uniform_(module.bias, -bound, bound, generator=generator)
        with torch.no_grad():
            self.embedding.weight[PADDING] = 0

    def forward(self, x: Tensor) -> Tensor:
        """(B, L) int64 to (B, D) float32; what is `PADDING` has no part in it, so each text needs another number.

        Raises:
            ValueError: `x` has another shape or type.
        """
        if x.ndim != 2 or x.dtype != torch.int64:
            raise ValueError(f"texts have the shape (B, L) and are int64, not {tuple(x.shape)} and {x.dtype}")
        there = x != PADDING
        y = self.inputs(self.embedding(x))
        if self.kind == "mlp":
            y = F.relu(y).masked_fill(~there[:, :, None], 0).amax(1)  # nothing is less than 0
            return y.to(torch.promote_types(y.dtype, torch.float32))
        y = y + positions(x.shape[1], y.shape[2]).to(y)
        for block in self.blocks:
            y = block(y, there)
        y = self.norm(y).masked_fill(~there[:, :, None], 0)
        y = y.sum(1, dtype=torch.promote_types(y.dtype, torch.float32))
        return y / there.sum(1, keepdim=True).clamp_min(1)

    @torch.no_grad()
    def set_vectors(self, vocabulary: Vocabulary, vectors: Mapping[str, np.ndarray]) -> None:
        """Take embeddings (E,) of words from elsewhere; words without one keep theirs."""
        for number, word in enumerate(vocabulary.words, FIRST):
            if word in vectors:
                self.embedding.weight[number] = torch.from_numpy(vectors[word]).to(self.embedding.weight)


class Block(nn.Module):
    """Attention and two layers with GELU, each after a normalisation and added to what comes in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // _HEAD_WIDTH
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend, self.join = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        """(B, L, D) and which words there are, (B, L) bool, to (B, L, D); every text has one."""
        batch, length, width = x.shape
        parts = self.attend(self.norm1(x)).view(batch, length, 3, self.heads, _HEAD_WIDTH).permute(2, 0, 3, 1, 4)
        found = F.scaled_dot_product_attention(parts[0], parts[1], parts[2], attn_mask=there[:, None, None, :])
        x = x + self.join(found.transpose(1, 2).reshape(batch, length, width))
        out: Tensor = x + self.narrow(F.gelu(self.widen(self.norm2(x))))
        return out


def positions(length: int, width: int) -> Tensor:
    """Sines and cosines of places, (length, width) (Vaswani et al., section 3.5)."""
    place = torch.arange(length, dtype=torch.float32)[:, None]
    step = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    return torch.stack([torch.sin(place * step), torch.cos(place * step)], dim=2).flatten(1)[:, :width]
