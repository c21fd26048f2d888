"""Word vectors in the text form of GloVe and word2vec: a word and its numbers on every line."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator

import numpy as np

from seehear.errors import DataError

_REMEDY = "give a text file with a word and its numbers on each line, as GloVe and word2vec (text form) have"


def vector_length(path: str | os.PathLike[str]) -> int:
    """The number of dimensions of the vectors in a file; `DataError` if it holds none."""
    for _, _, parts in _lines(path):
        return len(parts) - 1
    raise DataError(f"{os.fspath(path)} holds no word vectors", _REMEDY)


def read_vectors(path: str | os.PathLike[str], wanted: Collection[str]) -> dict[str, np.ndarray]:
    """The vectors (D,) float32 of those of some words that a file has; of a word that stands twice the first.

    A first line with two whole numbers (word2vec) says how many words and dimensions there are. Words that hold a space
    are understood. Raises `DataError`, with the line, for a file that cannot be read or a line that has other numbers.
    """
    name, wanted = os.fspath(path), set(wanted)
    found: dict[str, np.ndarray] = {}
    length = vector_length(path)
    for number, line, _ in _lines(path):
        parts = line.rsplit(" ", length)
        if len(parts) != length + 1:
            raise DataError(f"{name}: line {number} has {len(parts) - 1} numbers, the first has {length}", _REMEDY)
        word = parts[0]
        if word not in wanted or word in found:
            continue
        try:
            vector = np.array([float(value) for value in parts[1:]], dtype=np.float32)
        except ValueError:
            raise DataError(
                f"{name}: line {number} holds something else than numbers behind its word", _REMEDY
            ) from None
        if not np.isfinite(vector).all():
            raise DataError(f"{name}: line {number} holds a number that is not finite", _REMEDY)
        found[word] = vector
    return found


def _lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, str, list[str]]]:
    """Line number, line and its parts, without a head line and empty lines."""
    name = os.fspath(path)
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                line = line.rstrip().replace("\t", " ")
                parts = line.split(" ")
                if not line or (number == 1 and len(parts) == 2 and all(part.isdecimal() for part in parts)):
                    continue
                if len(parts) < 2:
                    raise DataError(f"{name}: line {number} has a word and no numbers", _REMEDY)
                yield number, line, parts
    except OSError as error:
        raise DataError(f"{name} cannot be read: {error}", "check the path of model.text_vectors") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{name} is not UTF-8 text: {error}", _REMEDY) from error
