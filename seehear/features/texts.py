"""What a trained model makes of texts: their features, and where they lie in the space that modalities share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from seehear.config import Config
from seehear.errors import UsageError
from seehear.features.extract import evaluation
from seehear.models import build_text_encoder
from seehear.models.heads import MLPHead
from seehear.models.text import TextEncoder
from seehear.words.vocabulary import Vocabulary

_BLOCK_ROWS = 1024


@dataclass(frozen=True)
class Texts:
    """A text encoder, its head into the shared space, and the words that it knows."""

    encoder: TextEncoder
    projection: nn.Module
    vocabulary: Vocabulary
    length: int
    """Words of a text that are read."""

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Features (N, D) float32; `UsageError` for a text without a word."""
        return self._made(self.encoder, texts)

    def project(self, texts: Sequence[str]) -> np.ndarray:
        """Unit rows (N, dimensions) float32 of the shared space; `UsageError` for a text without a word."""
        return self._made(nn.Sequential(self.encoder, self.projection), texts)

    def _made(self, module: nn.Module, texts: Sequence[str]) -> np.ndarray:
        rows = [self.vocabulary.numbers(text, self.length) for text in texts]
        without = next((text for text, row in zip(texts, rows, strict=True) if row is None), None)
        if without is not None:
            raise UsageError(f"there is no word in {without!r}", "write letters or digits")
        x = torch.from_numpy(np.array(rows, dtype=np.int64).reshape(-1, self.length))
        device = self.encoder.embedding.weight.device
        with evaluation({"": module}):
            found = [module(block.to(device)).float().cpu() for block in x.split(_BLOCK_ROWS)]
        return torch.cat(found).numpy()

    def tensors(self) -> dict[str, Tensor]:
        """All weights, by names that begin with `text.`."""
        parts = {"text.encoder": self.encoder, "text.projection": self.projection}
        return {
            f"{name}.{key}": value.detach().cpu().contiguous()
            for name, part in parts.items()
            for key, value in part.state_dict().items()
        }

    def description(self) -> dict[str, Any]:
        """What a model's description notes of it, to be read by `restore`."""
        return {"words": list(self.vocabulary.words), "length": self.length}

    @classmethod
    def restore(
        cls, config: Config, described: Mapping[str, Any] | None, tensors: Mapping[str, Tensor]
    ) -> Texts | None:
        """What `tensors` and `description` are of; None of a model without text. `ValueError` if they are damaged."""
        if described is None:
            return None
        vocabulary = Vocabulary.from_list(described["words"])
        encoder = build_text_encoder(config.model)
        projection = MLPHead(encoder.feature_dim, config.gdt.dimensions, unit=True)
        for name, part in (("text.encoder.", encoder), ("text.projection.", projection)):
            try:
                part.load_state_dict({k.removeprefix(name): v for k, v in tensors.items() if k.startswith(name)})
            except RuntimeError as error:
                raise ValueError(str(error)) from error
        return cls(encoder, projection, vocabulary, int(described["length"]))
