"""The rows most similar to a query: exactly by blocks, or among the cells of an inverted file (faiss), ranked exactly.

An inverted file parts the rows into cells around centroids and looks into those nearest to the query alone. How many
(`probes`) is chosen when it is built, as the fewest that find `WANTED_RECALL` of the true best 20 of sampled queries;
the recall that they reach is kept and said with every answer.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seehear.search.layout import Content

EXACT_UP_TO = 1_000_000
"""Collections of fewer segments are searched exactly, unless another number is given."""
WANTED_RECALL = 0.97
_CANDIDATES = 8
"""So many times k candidates are ranked exactly."""
_BLOCK_ROWS = 65_536
_PROBES = (4, 8, 16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
_SAMPLED, _AT = 100, 20


def unit(x: np.ndarray) -> np.ndarray:
    """Rows (N, D) of length 1, float32; a row of zeros stays one."""
    lengths = np.sqrt(np.einsum("nd,nd->n", x, x, dtype=np.float64))
    made: np.ndarray = (x / np.maximum(lengths, 1e-12)[:, None]).astype(np.float32)
    return made


@dataclass(frozen=True)
class Part:
    """One summand of a similarity: the inner product of a unit query (D,) with the rows of a space, times a weight."""

    space: str
    query: np.ndarray
    weight: float


def similarities(space: Mapping[str, np.ndarray], parts: Sequence[Part], rows: np.ndarray | slice) -> np.ndarray:
    """The weighted similarity of some rows, float32."""
    found: np.ndarray | None = None
    for part in parts:
        x = np.asarray(space[part.space][rows])
        product = x @ (part.query * np.float32(part.weight))
        found = product if found is None else found + product
    assert found is not None
    return found


def best_rows(
    space: Mapping[str, np.ndarray],
    parts: Sequence[Part],
    k: int,
    *,
    rows: np.ndarray | None = None,
    allowed: Callable[[np.ndarray], np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The k most similar rows, best first, and their similarities; of equally similar ones the earlier first.

    `rows` restricts the search to these; `allowed` says of rows (n,) which count (n,) bool.
    """
    count = len(space[parts[0].space])
    among = None if rows is None else np.unique(np.asarray(rows, dtype=np.int64))
    found_rows, found = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
    for start in range(0, count if among is None else len(among), _BLOCK_ROWS):
        if among is None:
            block: np.ndarray = np.arange(start, min(start + _BLOCK_ROWS, count))
            similarity = similarities(space, parts, slice(start, start + _BLOCK_ROWS))
        else:
            block = among[start : start + _BLOCK_ROWS]
            similarity = similarities(space, parts, block)
        if allowed is not None:
            counts = allowed(block)
            block, similarity = block[counts], similarity[counts]
        found_rows, found = _best(np.concatenate([found_rows, block]), np.concatenate([found, similarity]), k)
    return found_rows, found


def _best(rows: np.ndarray, similarity: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    if len(rows) > k:
        # Whatever ties with the last one stays, so that the order below decides and not the partition.
        least = np.partition(similarity, len(similarity) - k)[len(similarity) - k]
        kept = similarity >= least
        rows, similarity = rows[kept], similarity[kept]
    order = np.lexsort((rows, -similarity))[:k]
    return rows[order], similarity[order]


# -- approximately ---------------------------------------------------------------------------------------------------


def faiss_there() -> bool:
    """Whether the package for large collections (extra `large`) is installed."""
    try:
        import faiss  # noqa: F401
    except ImportError:
        return False
    return True


def spaces_of(content_space: Mapping[str, np.ndarray]) -> dict[str, tuple[str, ...]]:
    """What inverted files there are, by name, and the spaces whose rows each joins."""
    made: dict[str, tuple[str, ...]] = {name: (name,) for name in content_space}
    if {"video", "audio"} <= set(content_space):
        made["both"] = ("video", "audio")
    return made


def write_inverted_files(folder: Path, content: Content) -> dict[str, Any]:
    """Build one for every space and write it into a folder; by name its `probes`, `cells` and `recall`."""
    return {
        name: _write_one(folder / f"nearest.{name}.faiss", content.space, spaces)
        for name, spaces in spaces_of(content.space).items()
    }


def _write_one(path: Path, space: Mapping[str, np.ndarray], names: Sequence[str]) -> dict[str, Any]:
    import faiss

    count = len(space[names[0]])
    dimensions = sum(space[name].shape[1] for name in names)
    cells = int(2 ** np.clip(np.round(np.log2(4 * count**0.5)), 2, 16))
    cells = max(1, min(cells, count // 39))
    rng = np.random.default_rng(0)
    drawn = np.sort(rng.choice(count, min(count, 40 * cells), replace=False))
    quantizer = faiss.IndexFlatIP(dimensions)
    made = faiss.IndexIVFScalarQuantizer(
        quantizer, dimensions, cells, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
    )
    made.cp.niter = 10
    made.train(_joined(space, names, drawn))
    for start in range(0, count, _BLOCK_ROWS):
        made.add(_joined(space, names, slice(start, start + _BLOCK_ROWS)))
    probes, recall = _choose_probes(made, space, names, rng.choice(count, min(_SAMPLED, count), replace=False))
    faiss.write_index(made, str(path))
    with open(path, "rb") as file:
        os.fsync(file.fileno())
    return {"probes": probes, "cells": cells, "recall": recall}


def _joined(space: Mapping[str, np.ndarray], names: Sequence[str], rows: np.ndarray | slice) -> np.ndarray:
    parts = [np.asarray(space[name][rows], dtype=np.float32) for name in names]
    return np.ascontiguousarray(parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1))


def _choose_probes(
    made: Any, space: Mapping[str, np.ndarray], names: Sequence[str], sampled: np.ndarray
) -> tuple[int, float]:
    """The fewest probes with the wanted recall of the best rows besides the query itself, and that recall."""
    true = []
    for row in sampled:
        parts = [Part(name, np.asarray(space[name][row]), 1 / len(names)) for name in names]
        true.append({int(r) for r in best_rows(space, parts, _AT + 1)[0] if r != row})
    probes, recall = 1, 0.0
    for probes in _PROBES:
        made.nprobe = min(probes, made.nlist)
        shares = []
        for row, best in zip(sampled, true, strict=True):
            parts = [Part(name, np.asarray(space[name][row]), 1 / len(names)) for name in names]
            found = {int(r) for r in _ranked(made, space, parts, _AT + 1, None)[0] if r != row}
            shares.append(len(best & found) / max(1, len(best)))
        recall = float(np.mean(shares))
        if recall >= WANTED_RECALL or probes >= made.nlist:
            break
    return min(probes, made.nlist), round(recall, 4)


def _ranked(
    made: Any,
    space: Mapping[str, np.ndarray],
    parts: Sequence[Part],
    k: int,
    allowed: Callable[[np.ndarray], np.ndarray] | None,
) -> tuple[np.ndarray, np.ndarray]:
    query = np.concatenate([part.query * np.float32(part.weight) for part in parts])[None]
    _, rows = made.search(np.ascontiguousarray(query, dtype=np.float32), _CANDIDATES * k)
    candidates = rows[0][rows[0] >= 0]
    return best_rows(space, parts, k, rows=candidates, allowed=allowed)


class InvertedFiles:
    """The inverted files of a generation, opened when they are needed."""

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        self._folder, self._facts = folder, facts
        self._opened: dict[str, Any] = {}

    def search(
        self,
        space: Mapping[str, np.ndarray],
        parts: Sequence[Part],
        k: int,
        allowed: Callable[[np.ndarray], np.ndarray] | None,
    ) -> tuple[np.ndarray, np.ndarray, float] | None:
        """What `best_rows` gives, and the recall that was measured; None where there is no such file."""
        name = "both" if len(parts) > 1 else parts[0].space
        facts = self._facts.get(name)
        path = self._folder / f"nearest.{name}.faiss"
        # The file is gone where two later generations have been made since this one was opened.
        if facts is None or not faiss_there() or (name not in self._opened and not path.exists()):
            return None
        if name not in self._opened:
            import faiss

            made: Any = faiss.read_index(str(path), faiss.IO_FLAG_MMAP)
            made.nprobe = int(facts["probes"])
            self._opened[name] = made
        rows, similarity = _ranked(self._opened[name], space, parts, k, allowed)
        return rows, similarity, float(facts["recall"])
