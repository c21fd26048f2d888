"""The words that an encoder knows, each with a number."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from seehear.errors import RunError
from seehear.words.tokens import words

PADDING, UNKNOWN = 0, 1
"""Numbers of what fills up a short text, and of every word that is not known."""
FIRST = 2
"""The number of the first word."""


@dataclass(frozen=True)
class Vocabulary:
    """Known words, the most frequent first: the first has the number `FIRST`, and so on."""

    words: tuple[str, ...]
    _number: dict[str, int] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._number.update({word: number for number, word in enumerate(self.words, FIRST)})
        if len(self._number) != len(self.words):
            raise ValueError("a word stands twice in a vocabulary")

    def __len__(self) -> int:
        return len(self.words)

    @classmethod
    def of(cls, texts: Iterable[str], most: int) -> Vocabulary:
        """The `most` most frequent words of some texts; of equally frequent ones the first in the alphabet."""
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(words(text))
        ranked = sorted(counts, key=lambda word: (-counts[word], word))
        return cls(tuple(ranked[:most]))

    def numbers(self, text: str, length: int) -> np.ndarray | None:
        """The numbers of the words of a text, see `row`; None without a word."""
        found = words(text)
        return self.row(found, length) if found else None

    def row(self, found: Sequence[str], length: int) -> np.ndarray:
        """The numbers of the first `length` of some words, (length,) int64, then `PADDING`."""
        row = np.full(length, PADDING, dtype=np.int64)
        row[: len(found)] = [self._number.get(word, UNKNOWN) for word in found[:length]]
        return row

    def unknown(self, texts: Iterable[str]) -> tuple[int, int]:
        """How many words of some texts are not known, of how many."""
        found = [word for text in texts for word in words(text)]
        return sum(word not in self._number for word in found), len(found)

    def to_json(self, **facts: Any) -> str:
        """As a text, with further facts."""
        return json.dumps({"format": "seehear-vocabulary", "version": 1, "words": self.words, **facts}, indent=1)

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Read what `to_json` made; `RunError` if it is something else."""
        try:
            return cls.from_list(json.loads(path.read_text(encoding="utf-8"))["words"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{path} holds no vocabulary: {error}", "was it changed? start the run anew") from error

    @classmethod
    def from_list(cls, found: Sequence[str]) -> Vocabulary:
        """Of words in their order; `ValueError` if they are none."""
        if not isinstance(found, (list, tuple)) or not all(isinstance(word, str) for word in found):
            raise ValueError("words are texts")
        return cls(tuple(found))
