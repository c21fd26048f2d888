"""Labelling: clusters and features of videos by a finished run, and labels for the features of any encoder.

`labels` reads or makes them (`heads` and `running` for the clustering heads of SeLaVi), `features` clusters what other
encoders have made and estimates how many clusters there are (`stability_picture` draws that), `kinds` finds the number
of kinds and doubtful clips in a run (`kinds_picture`), `doubting` doubts new videos, `text` words results.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from tyro.conf import arg

from seehear.commands import command
from seehear.labelling import text
from seehear.options import Device, EngineName, Every, Modality, OutFile, OwnOrNewVideos, PartOf, Run, Workers

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from seehear.cluster.stability import Estimate
    from seehear.data.loader import Failures
    from seehear.labelling.features import LabelledFeatures
    from seehear.parts import Written

    FeatureSource: TypeAlias = str | Path | np.ndarray | pa.Table
    Numbers = str | Iterable[int] | None
else:
    FeatureSource = str
    Numbers = Annotated[str | None, arg(metavar="FROM-TO")]


@command(
    "label",
    group="look",
    example="seehear label runs/a --out labels.csv",
    text=text.of_labels,
    python_only=("failures",),
    required=("out",),
    stopped="nothing was written: give the same command again",
)
def label(
    run: Run,
    videos: OwnOrNewVideos = None,
    *,
    out: OutFile = None,
    modality: Modality = "both",
    every_seconds: Every = None,
    clusters: Annotated[int | Literal["auto"] | None, arg(metavar="N|auto")] = None,
    plot: Annotated[OutFile, arg(metavar="FILE.svg")] = None,
    head: Annotated[int | Literal["consensus"] | None, arg(metavar="N|consensus")] = None,
    running: Annotated[OutFile, arg(metavar="FILE.json")] = None,
    workers: Workers = None,
    device: Device = "auto",
    part: PartOf = None,
    engine: EngineName = "local",
    failures: Failures | None = None,
) -> pa.Table | Written:
    """Label videos: cluster, confidence and exemplar rank of every segment.

    Columns: video, start, end (seconds), cluster, confidence (0 on the border of two clusters, 1 on a centroid),
    exemplar_rank (1 for the segment closest to its centroid, among those of this table); of a run of selavi also
    agreement among its heads and, for new videos, labelled_by. Of a run that has counted kinds, and with `clusters`, by
    which the run's own videos are clustered anew, also doubt: 0 for a usual clip, 1 for one whose sound has nothing to
    do with its sight, from 0.5 on doubtful; null where that cannot be told.

    Over many machines, by parts or an engine: that needs a manifest of the videos, and the table is written, not
    returned.

    Args:
        out: A .csv or .parquet file: video, start, end, cluster, confidence, exemplar_rank, where there is one doubt.
        modality: What the labels are computed from.
        clusters: Cluster the run's own videos anew: into so many, or auto: the number of kinds that sight and sound
            agree on.
        plot: clusters auto: draw how the number was found into this .svg file.
        head: The clustering head of a run of selavi that labels (default 0), or consensus: all of them.
        running: selavi: follow in this file how common the clusters are among new videos, from call to call.
        failures: Takes the reports of videos that fail.

    Raises:
        UsageError: a modality or head that there is not.
        RunError: the run is not finished.
        DataError: nothing is left to label, or `clusters` finds no kinds.
    """
    from seehear.data.loader import Failures
    from seehear.labelling.labels import label_videos
    from seehear.parts import part_asked

    asked = part_asked(part, engine, out)
    if clusters is not None or plot is not None:
        from seehear.errors import UsageError
        from seehear.labelling.kinds import label_run_by_kinds

        if clusters is None:
            raise UsageError("--plot draws what --clusters auto found", "--clusters auto --plot FILE.svg")
        if videos is not None or head is not None or running is not None or asked is not None or engine == "ray":
            raise UsageError(
                "--clusters labels the run's own videos by their features: no other videos, heads, parts or engines",
                f"seehear label {run} --clusters {clusters} --out FILE.csv",
            )
        return label_run_by_kinds(
            run, clusters, out=out, plot=plot, modality=modality, every_seconds=every_seconds, workers=workers,
            device=device, failures=Failures() if failures is None else failures,
        )  # fmt: skip
    if asked is not None or engine == "ray":
        from seehear.labelling.in_parts import label_in_parts

        assert out is not None
        written = label_in_parts(
            run, videos, out, part=asked, engine=engine, modality=modality, every_seconds=every_seconds, head=head,
            running=running, workers=workers, device=device,
        )  # fmt: skip
        if failures is not None:
            failures.reports += written.left_out
        return written
    return label_videos(
        run, videos, out=out, modality=modality, every_seconds=every_seconds, head=head, running=running,
        workers=workers, device=device, failures=Failures() if failures is None else failures,
    )  # fmt: skip


@command(
    "embed",
    group="look",
    example="seehear embed runs/a VIDEOS --every 2 --out features.parquet",
    text=text.of_segments,
    python_only=("failures",),
    required=("out",),
    stopped="nothing was written: give the same command again",
)
def embed(
    run: Run,
    videos: OwnOrNewVideos = None,
    *,
    out: OutFile = None,
    every_seconds: Every = None,
    modality: Modality = "both",
    workers: Workers = None,
    device: Device = "auto",
    part: PartOf = None,
    engine: EngineName = "local",
    failures: Failures | None = None,
) -> pa.Table | Written:
    """Features of both modalities for every segment, with its start and end.

    Over many machines, by parts or an engine: that needs a manifest of the videos, and the table is written, not
    returned.

    Args:
        out: A .parquet file: video_id, start_seconds, end_seconds, video, audio.
        modality: Encoders to use; a video needs only the streams of these.
        failures: Takes the reports of videos that fail.

    Raises:
        UsageError: the run has no such encoder.
        RunError: the run is not finished.
        DataError: nothing is left to embed.
    """
    from seehear.data.loader import Failures
    from seehear.labelling.labels import embed_videos
    from seehear.parts import part_asked

    asked = part_asked(part, engine, out)
    if asked is not None or engine == "ray":
        from seehear.labelling.in_parts import embed_in_parts

        assert out is not None
        written = embed_in_parts(
            run, videos, out, part=asked, engine=engine, every_seconds=every_seconds, modality=modality,
            workers=workers, device=device,
        )  # fmt: skip
        if failures is not None:
            failures.reports += written.left_out
        return written
    return embed_videos(
        run, videos, out=out, every_seconds=every_seconds, modality=modality, workers=workers, device=device,
        failures=Failures() if failures is None else failures,
    )  # fmt: skip


@command(
    "cluster",
    group="look",
    example="seehear cluster --features features.parquet -k 10 --out labels.csv",
    text=text.of_features,
    as_json=lambda result: result.as_dict(),
    exit_code=text.check_labelled,
    required=("features",),
)
def label_features(
    features: FeatureSource,
    k: Annotated[int | None, arg(aliases=("-k",))] = None,
    *,
    out: OutFile = None,
    algorithm: Literal["kmeans", "sinkhorn"] = "kmeans",
    marginals: Literal["uniform", "gaussian", "zipf"] | None = None,
    column: str | None = None,
    l2: bool = True,
    pca: int | None = None,
    whiten: bool = False,
    seed: int = 0,
    labels: OutFile = None,
    choose_k: Numbers = None,
    plot: OutFile = None,
) -> LabelledFeatures:
    """Label the features of any encoder: cluster, confidence and exemplar rank of every row.

    Args:
        features: A .parquet file (of `seehear embed`, or with a column of lists) or a .npy file of shape (N, D).
        k: Number of clusters.
        out: A .csv or .parquet file: video, start, end (or row), cluster, confidence, exemplar_rank.
        algorithm: kmeans, or sinkhorn: clusters of given shares by optimal transport.
        marginals: sinkhorn: shares of the clusters (uniform by default).
        column: Column of the table with the features; a+b joins two.
        l2: Scale features to length 1 before they are clustered.
        pca: Reduce features to so many dimensions first.
        whiten: Give the PCA dimensions unit variance.
        seed: Seed of every random choice.
        labels: CSV or Parquet with known classes to compare with (columns path, or row, and label).
        choose_k: Estimate the number of clusters among these, such as 2-20, from the data alone.
        plot: choose-k: draw the estimate into this .svg file.

    Raises:
        UsageError: options that do not go together.
        DataError: features that cannot be used.
    """
    from seehear.labelling.features import label_and_compare

    return label_and_compare(
        features, k, out=out, algorithm=algorithm, marginals=marginals, column=column, l2=l2, pca=pca, whiten=whiten,
        seed=seed, labels=labels, among=choose_k, plot=plot,
    )  # fmt: skip


def cluster_features(
    features: str | Path | np.ndarray | pa.Table, k: int, *, column: str | None = None, seed: int = 0, **options: Any
) -> pa.Table:
    """The table of labels alone: see `seehear.labelling.features.cluster_features` for it and the `options`."""
    from seehear.labelling.features import cluster_features as cluster

    return cluster(features, k, column=column, seed=seed, **options).table


def choose_k(
    features: str | Path | np.ndarray | pa.Table,
    ks: Sequence[int],
    *,
    column: str | None = None,
    seed: int = 0,
    **options: Any,
) -> Estimate:
    """The estimate of a number of clusters alone: see `seehear.labelling.features.choose_k`."""
    from seehear.labelling.features import choose_k as choose

    return choose(features, list(ks), column=column, seed=seed, **options)
