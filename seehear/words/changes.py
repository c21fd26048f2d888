"""Changes of a text: another order of its sentences, some words in each other's place, some words left out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from seehear.words.tokens import sentences, words

SWAP_SHARE = 0.1
"""Swaps for each word of a text (alpha of Wei and Zou, 2019, who recommend 0.1)."""


def shuffle_sentences(text: str, rng: np.random.Generator) -> str:
    """The sentences of a text in another order, drawn uniformly from all orders but its own.

    A text of one sentence stays, and so does one whose sentences are all alike.
    """
    parts = sentences(text)
    if len(set(parts)) < 2:
        return text
    order = parts
    while order == parts:
        order = [parts[i] for i in rng.permutation(len(parts))]
    return " ".join(order)


def drop_words(found: Sequence[str], most: float, rng: np.random.Generator) -> list[str]:
    """The words without some of them: random deletion of Wei and Zou, where one is left out with a chance alpha.

    Here alpha is drawn for each text, uniformly from 0 to `most`, so that texts of all lengths come of it. If all would
    go, one that is drawn stays.
    """
    share = rng.uniform(0, most)
    kept = [word for word in found if rng.random() >= share]
    return kept or [found[int(rng.integers(len(found)))]]


def swap_words(text: str, rng: np.random.Generator, share: float = SWAP_SHARE) -> str:
    """A text of the same words with pairs of them swapped: random swap of Wei and Zou, "EDA", EMNLP 2019, section 2.

    n = share times the number of words, rounded, and at least 1, times two different places are drawn and what stands
    there is swapped. Within a sentence alone, so that sentences keep their words: a sentence is drawn with a chance
    that grows with its length, then two of its places. A sentence of one word stays.
    The result has no punctuation but a full stop after each sentence.
    """
    parts = [words(part) for part in sentences(text)]
    lengths = np.array([len(part) if len(part) > 1 else 0 for part in parts])
    if not lengths.sum():
        return text
    for _ in range(max(1, round(share * sum(len(part) for part in parts)))):
        part = parts[rng.choice(len(parts), p=lengths / lengths.sum())]
        i, j = rng.choice(len(part), 2, replace=False)
        part[i], part[j] = part[j], part[i]
    return " ".join(f"{' '.join(part)}." for part in parts)
