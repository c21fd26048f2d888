"""Videos with several classes each, as those of AudioSet: which has which, and the loss of a classifier of them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


class ClassSets:
    """The sets of classes that occur, numbered, so that a clip's label is one number as everywhere else.

    Attributes:
        names: the classes, sorted.
        sets: the texts that occur, sorted; each names classes with `separator` between them.
        members: which classes each set has, (sets, classes) bool.
    """

    def __init__(self, texts: Iterable[str | None], separator: str) -> None:
        self.separator = separator
        self.sets = sorted({text for text in texts if text})
        self.names = sorted({name for text in self.sets for name in classes_in(text, separator)})
        place = {name: i for i, name in enumerate(self.names)}
        self.members = torch.zeros(len(self.sets), len(self.names), dtype=torch.bool)
        for row, text in enumerate(self.sets):
            self.members[row, [place[name] for name in classes_in(text, separator)]] = True


def classes_in(text: str, separator: str | None) -> list[str]:
    """The classes that a text names, in its order; the text itself without a separator."""
    if separator is None:
        return [text] if text else []
    return [name.strip() for name in text.split(separator) if name.strip()]


def indicators_of(texts: Iterable[str], classes: Iterable[str], separator: str | None) -> np.ndarray:
    """Which of `classes` each text names, (texts, classes) bool."""
    place = {name: i for i, name in enumerate(classes)}
    rows = list(texts)
    found = np.zeros((len(rows), len(place)), dtype=bool)
    for row, text in enumerate(rows):
        found[row, [place[name] for name in classes_in(text, separator) if name in place]] = True
    return found


def multilabel_loss(logits: Tensor, truth: Tensor, smoothing: float = 0.0) -> Tensor:
    """Binary cross-entropy of every class by itself, summed over classes and averaged over clips.

    Of the logits (B, C) each is the log-odds of a class; `truth` (B, C) is True where a clip has it. Summed, the
    gradient of a class is as large as in the cross-entropy of one class a clip, and so are learning rates. With
    `smoothing` s the targets are s/2 and 1 - s/2.
    """
    target = truth.to(logits.dtype) * (1 - smoothing) + smoothing / 2
    return F.binary_cross_entropy_with_logits(logits, target, reduction="sum") / max(len(logits), 1)
