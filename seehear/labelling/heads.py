"""Labels of new videos by a model's clustering heads (SeLaVi): of one head or of all, by what each video has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from torch import Tensor

from seehear.data.manifest import Manifest
from seehear.data.scanning import scan
from seehear.data.sources import FileList
from seehear.errors import UsageError
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
        there = [name for name, labelling in LABELLING_OF.items() if model.labels(bank, labelling) is not None]
        remedy = f"add --modality {there[0]}" if there else "this run labels by both together: leave --modality out"
        raise UsageError(f"there are no labels by {modality!r}", remedy)
    return found


def embed_what_there_is(
    model: Model, source: str | Path | Manifest, *, every_seconds: float | None = None, workers: int = 0, **options: Any
) -> tuple[pa.Table, list[str]]:
    """Features of every video that has a picture, a sound or both, and which of these each row has.

    Files that cannot be used for both are looked at again for one. Where an encoder has nothing to look at, its
    feature is not a number. `options` are those of `Model.embed`, whose columns the table has.
    """
    manifest = source if isinstance(source, Manifest) else model.scan(source, ("video", "audio"))
    tables: list[pa.Table] = []
    has: list[str] = []
    for modality, streams in (("both", ("video", "audio")), ("video", ("video",)), ("audio", ("audio",))):
        if modality != "both":
            manifest = _rejected(manifest, streams, model.config.clip.seconds, workers)
        if not manifest.usable_rows() and (tables or modality != "audio"):
            continue
        table = model.embed(manifest, every_seconds=every_seconds, modalities=streams, workers=workers, **options)
        for name in sorted(set(model.encoders) - set(streams)):
            blank = np.full(table.num_rows * int(model.encoders[name].feature_dim), np.nan, dtype=np.float32)  # type: ignore[arg-type]
            width = len(blank) // table.num_rows
            table = table.append_column(name, pa.FixedSizeListArray.from_arrays(pa.array(blank), width))
        tables.append(table.select([*table.column_names[:3], *sorted(model.encoders)]))
        has += [modality] * table.num_rows
    return pa.concat_tables(tables), has


def _rejected(manifest: Manifest, need: Sequence[str], min_seconds: float, workers: int) -> Manifest:
    """The files that could not be used, looked at again for fewer streams."""
    rows = [{"path": str(row["path"])} for row in manifest.rejected_rows()]
    again = FileList(str(manifest.info["root"]), rows, str(manifest.info["source"]))
    track = manifest.info.get("audio_track")
    return scan(again, need=need, min_seconds=min_seconds, workers=workers, audio_track=track)
