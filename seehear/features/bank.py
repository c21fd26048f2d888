"""The feature bank: one feature of every clip and encoder, in memory or on disk; and what its shares join to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from seehear import dist
from seehear.errors import UsageError
from seehear.types import Assignment, ClipRef, Labelling

# Above this a bank lives in a file: it need not fit beside the model.
IN_MEMORY_BYTES = 2 << 30


def view_name(encoder: str, view: int) -> str:
    """The name under which a bank keeps the features of so many-th augmentation of each clip."""
    return f"{encoder}@{view}" if view else encoder


def mean_by_video(video_ids: Sequence[str], x: np.ndarray) -> dict[str, np.ndarray]:
    """The mean (D,) of the rows (N, D) of each video, by its id."""
    rows: dict[str, list[int]] = {}
    for row, video_id in enumerate(video_ids):
        rows.setdefault(video_id, []).append(row)
    return {video_id: x[of].mean(axis=0) for video_id, of in rows.items()}


@dataclass
class FeatureBank:
    """Features of the clips `refs` (this process's share of the collection), one array for each encoder.

    `features[encoder]` has shape (len(refs), D), float32. `present` (len(refs),) is False for clips that
    could not be decoded; their rows are zero and `drop_absent` removes them. Features of further
    augmentations of the same clips stand under `view_name`.
    """

    refs: list[ClipRef]
    features: dict[str, np.ndarray]
    present: np.ndarray
    _row: dict[str, int] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def empty(cls, refs: Sequence[ClipRef], dims: dict[str, int], folder: Path | None = None) -> FeatureBank:
        """A bank of zeros; in files within `folder` when it is large and a folder is given."""
        features: dict[str, np.ndarray] = {}
        for name, dim in dims.items():
            shape = (len(refs), dim)
            if folder is not None and len(refs) * dim * 4 > IN_MEMORY_BYTES:
                folder.mkdir(parents=True, exist_ok=True)
                features[name] = np.lib.format.open_memmap(
                    folder / f"{name}.npy", mode="w+", dtype=np.float32, shape=shape
                )
            else:
                features[name] = np.zeros(shape, dtype=np.float32)
        return cls(list(refs), features, np.zeros(len(refs), dtype=bool))

    def __len__(self) -> int:
        return len(self.refs)

    @property
    def clip_ids(self) -> list[str]:
        return [r.clip_id for r in self.refs]

    def update(self, clip_ids: Sequence[str], features: Mapping[str, np.ndarray]) -> None:
        """Replace the features of these clips; those that the bank does not hold are passed over."""
        if not self._row:
            self._row = {ref.clip_id: row for row, ref in enumerate(self.refs)}
        known = [i for i, clip_id in enumerate(clip_ids) if clip_id in self._row]
        rows = [self._row[clip_ids[i]] for i in known]
        for name, x in features.items():
            self.features[name][rows] = x[known]

    def joined(self, labelling: str) -> np.ndarray:
        """The features that a labelling clusters, (N, D).

        `labelling` names an encoder, or several as `a+b`: then each one's features are scaled to unit length
        and they are joined (CDC; XDC paper, section 3.2). Raises `UsageError` for an encoder that has none.
        """
        names = labelling.split("+")
        for name in names:
            if name not in self.features:
                raise UsageError(f"there are no features of {name!r}", f"there are those of {', '.join(self.features)}")
        if len(names) == 1:
            return self.features[names[0]]
        unit = [x / np.linalg.norm(x, axis=1, keepdims=True).clip(1e-12) for x in (self.features[n] for n in names)]
        return np.concatenate(unit, axis=1)

    def not_finite(self) -> dict[str, int]:
        """For each encoder that has any, how many clips have NaN, infinity or numbers too large to be squared."""
        counts: dict[str, int] = {}
        for name, x in self.features.items():
            # Row by row: a bank may be larger than what fits beside it in memory.
            squares = np.einsum("nd,nd->n", x, x)
            if bad := len(x) - int(np.isfinite(squares).sum()):
                counts[name] = bad
        return counts

    def take(self, rows: np.ndarray) -> FeatureBank:
        """The bank of these rows alone, given by their numbers."""
        features = {name: x[rows] for name, x in self.features.items()}
        return FeatureBank([self.refs[i] for i in rows], features, self.present[rows])

    def drop_absent(self) -> FeatureBank:
        """The bank without the clips that could not be decoded."""
        if self.present.all():
            return self
        return self.take(np.flatnonzero(self.present))


def gather_bank(share: FeatureBank) -> FeatureBank:
    """The shares of all processes as one bank, which every process has; not for all clips of a collection."""
    if dist.world_size() == 1:
        return share
    fields = ("clip_id", "video_id", "start_seconds", "end_seconds")
    types = (pa.large_string(), pa.large_string(), pa.float64(), pa.float64())
    columns = {f: pa.array([getattr(r, f) for r in share.refs], t) for f, t in zip(fields, types, strict=True)}
    table = pa.table(columns | {"present": pa.array(share.present)})
    features = {n: dist.all_gather_rows(torch.from_numpy(np.asarray(x))).numpy() for n, x in share.features.items()}
    table = dist.all_gather_table(table)
    refs = [ClipRef(*row) for row in zip(*(table[f].to_pylist() for f in fields), strict=True)]
    return FeatureBank(refs, features, table["present"].to_numpy())


def gather_assignment(bank: FeatureBank, labellings: Mapping[str, Labelling]) -> Assignment:
    """The labels of all processes' clips, in the same order on each; there once a machine."""
    columns = {"clip_id": pa.array(bank.clip_ids, pa.large_string())}
    columns |= {name: pa.array(labelling.labels.astype(np.int32)) for name, labelling in labellings.items()}

    def sorted_too(table: pa.Table) -> pa.Table:
        labels = {name: table[name].to_numpy() for name in labellings}
        classes = {name: labelling.k for name, labelling in labellings.items()}
        return Assignment(table["clip_id"], labels, classes).columns()

    return Assignment.of_columns(dist.table_of_all("the labels of all clips", pa.table(columns), sorted_too))


def shared_assignment(make: Callable[[], Assignment]) -> Assignment:
    """Labels that one process of each machine makes, and that are there once a machine."""
    return Assignment.of_columns(dist.once_a_machine("the labels of all clips", lambda: make().columns()))
