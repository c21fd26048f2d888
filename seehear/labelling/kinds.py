"""Labels of a run's own videos anew: so many clusters as are given or found, and clips that are in doubt."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from seehear.cluster.doubt import FEWEST_NEIGHBOURS, Doubt, doubts
from seehear.cluster.kinds import Kinds, estimate_kinds
from seehear.cluster.kmeans import kmeans
from seehear.data.loader import Failures
from seehear.engine.runfolder import open_run
from seehear.errors import DataError, UsageError
from seehear.features.bank import FeatureBank
from seehear.features.headlabels import exemplar_ranks
from seehear.features.kinds import both_modalities
from seehear.features.labels import with_refs
from seehear.features.model import LABELLING_OF, nearest_centroids, table_bank
from seehear.files import check_ending, write_result, write_table
from seehear.labelling.kinds_picture import kinds_svg
from seehear.labelling.labels import embed_videos
from seehear.progress import Progress

NumberOf = int | Literal["auto"]
METADATA = b"seehear.kinds"
"""Key of the schema's metadata under which a table of labels has `KindLabels.facts` as JSON."""


@dataclass(frozen=True)
class KindLabels:
    """What was found of a bank of features."""

    clusters: np.ndarray
    """(N,) int32."""
    confidence: np.ndarray
    """(N,) float32."""
    ranks: np.ndarray
    """(N,) int32."""
    doubt: Doubt
    kinds: Kinds | None
    """None: the number was given."""

    @property
    def facts(self) -> dict[str, Any]:
        """For JSON: clusters, doubtful, and of a number that was found k, low, high, agreement and a sentence."""
        facts: dict[str, Any] = {
            "clusters": int(self.clusters.max()) + 1, "doubtful": int(self.doubt.outliers.sum()),
        }  # fmt: skip
        if self.kinds is not None:
            best = next(s for s in self.kinds.table if s.k == self.kinds.k)
            facts |= {"k": self.kinds.k, "low": self.kinds.low, "high": self.kinds.high}
            facts |= {"more": self.kinds.more}
            facts |= {"agreement": round(best.agreement, 4), "text": self.kinds.as_text()}
        return facts


def label_kinds(
    bank: FeatureBank, clusters: NumberOf, modality: str, *, seed: int = 0, of: str = "the bank", progress: Any = None
) -> KindLabels:
    """Label a bank of features that has both modalities.

    Clips that have not even a few others like them are left out first (`seehear.cluster.doubt`), as they would count as
    kinds and pull at centroids. Of the others the number of kinds is estimated, unless it is given
    (`seehear.cluster.kinds`), and the features of `modality` are clustered by k-means. Every clip gets the cluster of
    the nearest centroid, and its doubt beside it. The confidence is 1 − d₁/d₂ as `seehear label` has it.

    Raises:
        UsageError: a modality is missing.
        DataError: too few clips, or sight and sound share nothing and no number is given.
    """
    sight, sound = both_modalities(bank, of)
    doubt = doubts(sight, sound, seed=seed)
    closest = doubts(sight, sound, neighbours=FEWEST_NEIGHBOURS, seed=seed)
    sure = torch.from_numpy(np.flatnonzero(~closest.outliers))
    kinds = None
    if clusters == "auto":
        kinds = estimate_kinds(sight[sure], sound[sure], seed=seed, progress=progress)
        if kinds.k is None:
            raise DataError(f"{of}: {kinds.as_text()}", "choose a number: --clusters 10; or train for longer")
        clusters = kinds.k
    x = {"video": sight, "audio": sound, "both": torch.cat([sight, sound], dim=1)}[modality]
    x = torch.nn.functional.normalize(x, dim=1)
    if not 1 <= clusters <= len(sure):
        raise DataError(
            f"{of}: {len(sure)} clips that are not doubtful cannot make {clusters} clusters", "ask for fewer clusters"
        )
    found = kmeans(x[sure], clusters, restarts=10, seed=seed)
    labels, distances, confidence = nearest_centroids(x, found.centroids)
    ranks = exemplar_ranks(labels, distances, doubt.outliers)
    return KindLabels(labels.astype(np.int32), confidence, ranks, doubt, kinds)


def label_run_by_kinds(
    run: str | Path,
    clusters: NumberOf,
    *,
    out: str | Path | None,
    plot: str | Path | None,
    modality: str,
    every_seconds: float | None,
    workers: int | None,
    device: str,
    failures: Failures,
    seed: int = 0,
) -> pa.Table:
    """What `seehear.label` does with `clusters`; arguments as there."""
    check_ending(out, ".csv", ".parquet")
    check_ending(plot, ".svg")
    if modality not in LABELLING_OF:
        raise UsageError(f"there is no modality {modality!r}", f"choose one of {', '.join(LABELLING_OF)}")
    if clusters != "auto" and clusters < 1:
        raise UsageError(f"cannot make {clusters} clusters", "--clusters auto, or a number from 1")
    if plot is not None and clusters != "auto":
        raise UsageError("--plot draws what --clusters auto found", "--clusters auto --plot FILE.svg")
    folder = open_run(run)
    remedy = "name a run that has features of its own videos"
    folder.check_trained(remedy)
    folder.check_clustered(remedy)
    if every_seconds is None:
        features = pq.read_table(folder.features)
    else:
        features = embed_videos(
            run, None, out=None, every_seconds=every_seconds, modality="both", workers=workers, device=device,
            failures=failures,
        )  # fmt: skip
    bank = table_bank(features)
    with Progress(quiet=None) as progress:
        shown = progress.shown("compare", "numbers of kinds")
        found = label_kinds(bank, clusters, modality, seed=seed, of=str(run), progress=shown)
    if plot is not None and found.kinds is not None:
        write_result(Path(plot), kinds_svg(found.kinds))
    table = with_refs(bank, {}).rename_columns(["video", "start", "end"])
    columns = {
        "cluster": pa.array(found.clusters),
        "confidence": pa.array(np.round(found.confidence, 4)),
        "exemplar_rank": pa.array(found.ranks),
        "doubt": pa.array(np.round(found.doubt.doubt, 4), from_pandas=True),
    }
    for name, column in columns.items():
        table = table.append_column(name, column)
    table = table.replace_schema_metadata({METADATA: json.dumps(found.facts)})
    if out is not None:
        write_table(table, Path(out))
    return table
