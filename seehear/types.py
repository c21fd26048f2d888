"""Values that travel between the rooms of the house."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor

from seehear.copies import to_device
from seehear.errors import RunError
from seehear.files import write_atomic

_TEXTS_AT_ONCE = 1 << 16
_HALF, _LOWER = np.uint64(32), np.uint64(0xFFFFFFFF)
_ORDER = "order of the ids"


@dataclass(frozen=True)
class ClipRef:
    """A stretch of a video that is embedded and labelled as one.

    Training draws a clip anywhere in the span; extraction takes the one in its middle.
    """

    clip_id: str
    """`video_id#t=start,end` (a media fragment): the key of its pseudo-labels."""
    video_id: str
    start_seconds: float
    end_seconds: float


@dataclass
class Batch:
    """What a training step sees. A clip that could not be decoded has no row; without a clip there are no inputs."""

    clip_ids: list[str]
    inputs: dict[str, Tensor]
    """For each encoder its input: (B, 3, T, H, W) for video, (B, 1, Q, P) for audio."""
    codes: dict[str, Tensor] = field(default_factory=dict)
    """With generalised transformations: for each modality the values of the factors of each row of its input,
    (rows, factors) int64. Each clip then has several rows."""

    def __len__(self) -> int:
        return len(self.clip_ids)

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        inputs = {k: to_device(v, device) for k, v in self.inputs.items()}
        return Batch(self.clip_ids, inputs, {k: to_device(v, device) for k, v in self.codes.items()})


@dataclass
class StepOutput:
    """What a method makes of a batch."""

    loss: Tensor
    """Scalar to be minimised."""
    parts: dict[str, Tensor] = field(default_factory=dict)
    """Scalars for the log, e.g. `loss/video<-audio`, `accuracy/video<-audio`."""
    features: dict[str, Tensor] = field(default_factory=dict)
    """Features (B, D) of the batch's clips that the engine may keep for the next labels: by encoder, and as
    `encoder@1` those of a second view. Empty where none are wanted."""


@dataclass(frozen=True)
class Labelling:
    """One clustering of all clips.

    Shapes: `labels` (N,), `distances` (N,), `centroids` (k, D) in the space of `transform`.
    """

    labels: np.ndarray
    distances: np.ndarray
    """Euclidean distance of each clip's transformed feature to its centroid."""
    centroids: Tensor
    transform: dict[str, Tensor]
    """State of the `FeatureTransform` that led to the clustered space."""
    objective: float
    reseeded: int
    """Clusters that ran empty and were seeded anew."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What else is to be logged of it, by name."""
    watched: bool = True
    """Whether it is logged and watched for collapse; False for the further ones of many alike."""

    @property
    def k(self) -> int:
        return len(self.centroids)

    @property
    def sizes(self) -> np.ndarray:
        """Clips in each cluster, (k,)."""
        return np.bincount(self.labels, minlength=self.k)


class Keys:
    """Texts, each once, that are found by their checksums: beside its text one takes 8 bytes.

    `order` (N,) uint64 is all that is kept: in the upper half a text's checksum, in the lower its place, sorted. It is
    the same in every process, and may be one that another has sorted.
    """

    def __init__(self, texts: Sequence[str] | pa.ChunkedArray, order: np.ndarray | None = None) -> None:
        """Raises `ValueError` if a text stands there twice, which is not looked for where an `order` is given."""
        self.texts = text_column(texts)
        if order is not None:
            self.order = order
            return
        self.order = _checksums(self.texts) << _HALF
        self.order |= np.arange(len(self.texts), dtype=np.uint64)
        self.order.sort()
        same = np.diff(self.order >> _HALF) == 0
        shared = np.flatnonzero(np.append(same, False) | np.append(False, same))  # few, if texts are not twice there
        places = (self.order[shared] & _LOWER).astype(np.int64)
        for start in range(0, len(places), _TEXTS_AT_ONCE):
            part = places[start : start + _TEXTS_AT_ONCE]
            if not np.array_equal(self.rows(self.texts.take(part)), part):
                raise ValueError("texts must be unique")

    def __len__(self) -> int:
        return len(self.texts)

    def row(self, text: str) -> int:
        """Where a text stands; -1 if it is not there."""
        checksum = zlib.crc32(text.encode("utf-8", "surrogateescape"))
        for place in range(int(self.order.searchsorted(np.uint64(checksum << 32))), len(self.order)):
            key = int(self.order[place])
            if key >> 32 != checksum:
                break
            if self.texts[found := key & 0xFFFFFFFF].as_py() == text:
                return found
        return -1

    def rows(self, texts: Sequence[str] | pa.ChunkedArray) -> np.ndarray:
        """Where the given texts stand, (len(texts),) int64; -1 for one that is not there."""
        asked = text_column(texts)
        rows = np.full(len(asked), -1, dtype=np.int64)
        for start in range(0, len(asked), _TEXTS_AT_ONCE):
            self._find(asked.slice(start, _TEXTS_AT_ONCE), rows[start : start + _TEXTS_AT_ONCE])
        return rows

    def _find(self, asked: pa.ChunkedArray, rows: np.ndarray) -> None:
        checksums = _checksums(asked)
        place = self.order.searchsorted(checksums << _HALF)
        open_ = np.arange(len(asked))
        # Once, but for texts that share a checksum: those stand side by side, and the text decides.
        while len(open_):
            open_ = open_[place[open_] < len(self.order)]
            keys = self.order[place[open_]]
            alike = keys >> _HALF == checksums[open_]
            open_, found = open_[alike], (keys[alike] & _LOWER).astype(np.int64)
            same = pc.equal(self.texts.take(found), asked.take(open_)).to_numpy()
            rows[open_[same]] = found[same]
            open_ = open_[~same]
            place[open_] += 1


@dataclass
class Assignment:
    """Pseudo-labels of every clip, keyed by clip id and never by position.

    Held in columns: beside its id a clip takes 4 bytes a labelling and 8 to be found by.
    """

    clip_ids: pa.ChunkedArray
    """A column of texts; may be given as any sequence of them."""
    labels: dict[str, np.ndarray]
    """For each labelling (`video`, `audio`, `video+audio`, `label`) the cluster of each clip, (N,) int32."""
    classes: dict[str, int]
    """For each labelling the number of clusters."""
    order: InitVar[np.ndarray | None] = None
    """That of the ids' `Keys`, if it is known."""

    def __post_init__(self, order: np.ndarray | None) -> None:
        self.labels = {name: np.asarray(labels, dtype=np.int32) for name, labels in self.labels.items()}
        try:
            self._keys = Keys(self.clip_ids, order)
        except ValueError as error:
            raise ValueError("clip ids of an assignment must be unique") from error
        self.clip_ids = self._keys.texts
        for name, labels in self.labels.items():
            if labels.shape != (len(self.clip_ids),):
                raise ValueError(f"labelling {name!r} has {labels.shape} labels for {len(self.clip_ids)} clips")

    def __len__(self) -> int:
        return len(self.clip_ids)

    def __contains__(self, clip_id: str) -> bool:
        return bool(self.rows([clip_id])[0] >= 0)

    def rows(self, clip_ids: Sequence[str] | pa.ChunkedArray) -> np.ndarray:
        """Where the given clips stand, (len(clip_ids),) int64; -1 for one that has no labels."""
        return self._keys.rows(clip_ids)

    def of(self, labelling: str, clip_ids: Sequence[str] | pa.ChunkedArray) -> np.ndarray:
        """Labels of the given clips, (len(clip_ids),) int64; `KeyError` for a clip that has none."""
        return self.labels[labelling][self._known(clip_ids)].astype(np.int64)

    def _known(self, clip_ids: Sequence[str] | pa.ChunkedArray) -> np.ndarray:
        rows = self.rows(clip_ids)
        if len(rows) and rows.min() < 0:
            raise KeyError(str(clip_ids[int(rows.argmin())]))
        return rows

    def over(self, before: Assignment) -> Assignment:
        """The clips of `before` with these labels where they have any; others keep theirs."""
        rows = self.rows(before.clip_ids)
        labels = {name: before.labels[name].copy() for name in self.labels}
        for name, values in labels.items():
            values[rows >= 0] = self.labels[name][rows[rows >= 0]]
        return Assignment(before.clip_ids, labels, self.classes)

    def targets(self, clip_ids: Sequence[str], device: torch.device) -> dict[str, Tensor]:
        """Every labelling of the given clips as tensors of shape (B,)."""
        rows = self._known(clip_ids)
        return {
            name: to_device(torch.from_numpy(labels[rows].astype(np.int64)), device)
            for name, labels in self.labels.items()
        }

    def columns(self) -> pa.Table:
        """All of it as a table, which `of_columns` takes without a copy and without sorting anew."""
        labels = {name: pa.array(labels) for name, labels in self.labels.items()}
        table = pa.table({"clip_id": self.clip_ids, _ORDER: pa.array(self._keys.order)} | labels)
        return table.replace_schema_metadata(self._metadata())

    @classmethod
    def of_columns(cls, table: pa.Table) -> Assignment:
        """Inverse of `columns`; the order of the ids is made where there is none. `KeyError` of another table."""
        metadata: Mapping[bytes, bytes] = table.schema.metadata or {}
        names = [n for n in table.column_names if n not in ("clip_id", _ORDER)]
        return cls(
            clip_ids=table["clip_id"],
            labels={n: table[n].to_numpy() for n in names},
            classes={n: int(metadata[f"classes.{n}".encode()]) for n in names},
            order=table[_ORDER].to_numpy() if _ORDER in table.column_names else None,
        )

    def _metadata(self) -> dict[str, str]:
        return {f"classes.{name}": str(k) for name, k in self.classes.items()}

    def save(self, path: Path) -> None:
        """Write as Parquet: `clip_id` and a column for each labelling."""
        ids = self.clip_ids
        if ids.nbytes < 2**31:  # which a column of the smaller type can hold
            ids = ids.cast(pa.string())
        columns = {"clip_id": ids} | {name: pa.array(labels) for name, labels in self.labels.items()}
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(columns).replace_schema_metadata(self._metadata()), sink)
        write_atomic(path, sink.getvalue().to_pybytes())

    @classmethod
    def load(cls, path: Path) -> Assignment:
        """Read what `save` wrote; `RunError` if it is something else."""
        try:
            return cls.of_columns(pq.read_table(path))
        except (OSError, KeyError, pa.ArrowInvalid) as error:
            raise RunError(f"{path} is not an assignment of clips to clusters: {error}") from error


def text_column(texts: Any) -> pa.ChunkedArray:
    """Texts as one chunk of a column whose size has no limit."""
    if isinstance(texts, pa.ChunkedArray | pa.Array):
        texts = texts if texts.type == pa.large_string() else texts.cast(pa.large_string())
    else:
        texts = pa.array(texts, pa.large_string())
    return pa.chunked_array([one_piece(texts) if isinstance(texts, pa.ChunkedArray) else texts])


def one_piece(column: pa.ChunkedArray) -> pa.Array:
    """A column as one chunk; without a copy if it is, which Arrow's own `combine_chunks` makes even so."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _checksums(texts: pa.ChunkedArray) -> np.ndarray:
    """The CRC-32 of each text, (N,) uint64: the same in every process, and seldom that of another text."""
    result = np.empty(len(texts), dtype=np.uint64)
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        part = texts.slice(start, _TEXTS_AT_ONCE).cast(pa.large_binary()).to_pylist()
        result[start : start + len(part)] = np.fromiter(map(zlib.crc32, part), np.uint64, len(part))
    return result
