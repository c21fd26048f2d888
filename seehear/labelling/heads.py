"""Labels of new videos by a model's clustering heads (SeLaVi): of one head or of all, by what each video has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from torch import Tensor

from seehear.data.manifest import Manifest
from seehear.data.scanning import scan
from seehear.data.sources import FileList
from seehear.errors import DataError, UsageError
from seehear.features.bank import FeatureBank
from seehear.features.model import LABELLING_OF, Model, weights_sha256
from seehear.labelling.running import RunningMarginals

Head = int | Literal["consensus"]


def head_labels(
    model: Model, own: FeatureBank, bank: FeatureBank, modality: str, head: Head = 0, running: Path | None = None
) -> dict[str, np.ndarray]:
    """Labels of every row of a bank; `own` are the features of the run's own clips.

    The consensus is that of the heads on `own`. `running` is a file of `RunningMarginals`, begun with `own` if it is
    not there; it is written when all rows are labelled. See `head_rows` and `consensus_rows` for what is returned.
    """
    how: dict[str, Any] = {"head": 0 if head == "consensus" else head}
    if head == "consensus":
        how["names"] = model.consensus_names(own)
    if running is None:
        return _labels(model, bank, modality, how)
    of = f"head {head} by {modality} of the weights {weights_sha256(model.encoders)[:16]}"
    marginals = RunningMarginals.load(running, of) if running.exists() else None
    if marginals is None:
        seen: list[Tensor] = []

        def look(p: Tensor) -> Tensor:
            seen.append(p)
            return p

        _labels(model, own, modality, how | {"adapt": look})
        marginals = RunningMarginals.begin(seen[0], of)
    found = _labels(model, bank, modality, how | {"adapt": marginals.update})
    marginals.save(running)
    return found


def _labels(model: Model, bank: FeatureBank, modality: str, how: dict[str, Any]) -> dict[str, np.ndarray]:
    found = model.labels(bank, LABELLING_OF[modality], **how)
    if found is None:
        raise no_labels(model, bank, modality)
    return found


def no_labels(model: Model, bank: FeatureBank, modality: str) -> UsageError:
    """What to say where a model has no labelling by this modality."""
    there = [name for name, labelling in LABELLING_OF.items() if model.label_rows(bank, labelling) is not None]
    remedy = f"add --modality {there[0]}" if there else "this run labels by both together: leave --modality out"
    return UsageError(f"there are no labels by {modality!r}", remedy)


def embed_what_there_is(
    model: Model, manifest: Manifest, *, every_seconds: float | None = None, workers: int = 0, **options: Any
) -> Iterator[tuple[pa.Table, str]]:
    """Features of every video that has a picture, a sound or both, block by block, and which of these the block has.

    Files that cannot be used for both are looked at again for one; copies of others are not. Where an encoder has
    nothing to look at, its feature is not a number. Options and columns are those of `Model.embed`.
    """
    found = 0
    for modality, streams in (("both", ("video", "audio")), ("video", ("video",)), ("audio", ("audio",))):
        if modality != "both":
            again = seen_again(manifest)
            if again is None:
                if found:
                    return
                raise DataError(f"no usable video\n{manifest.summary_text()}", "see the reasons above")
            manifest = scan(
                again, need=streams, min_seconds=model.config.clip.seconds, workers=workers,
                audio_track=manifest.info.get("audio_track"),
            )  # fmt: skip
        if not manifest.usable_rows() and (found or modality != "audio"):
            continue
        for table in model.embed_blocks(
            manifest, every_seconds=every_seconds, modalities=streams, workers=workers, **options
        ):
            found += table.num_rows
            yield _with_blanks(model, table, streams), modality
    if not found:
        raise DataError("not one clip could be decoded")


def seen_again(manifest: Manifest) -> FileList | None:
    """The files of a manifest that could not be used for both streams and may be for one; None if there is none."""
    rows = [{"path": str(row["path"])} for row in manifest.rejected_rows() if row["reason"] != "duplicate"]
    return FileList(str(manifest.info["root"]), rows, str(manifest.info["source"])) if rows else None


def _with_blanks(model: Model, table: pa.Table, streams: Sequence[str]) -> pa.Table:
    """The table with a column for every encoder, not a number where it had nothing to look at."""
    for name in sorted(set(model.encoders) - set(streams)):
        width = int(model.encoders[name].feature_dim)  # type: ignore[arg-type]
        blank = np.full(table.num_rows * width, np.nan, dtype=np.float32)
        table = table.append_column(name, pa.FixedSizeListArray.from_arrays(pa.array(blank), width))
    return table.select([*table.column_names[:3], *sorted(model.encoders)])
