"""The public functions of seehear: what the command line does, for Python."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from seehear.config import Config, with_settings
from seehear.errors import UsageError
from seehear.recipes import recipe as named_recipe

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from seehear.cluster.stability import Estimate
    from seehear.data.manifest import Manifest
    from seehear.features.model import Model
    from seehear.tasks.weights import Format


def scan(source: str | Path, *, out: str | Path | None = None, **options: Any) -> Manifest:
    """Probe every video of a folder, glob or table: see `seehear.data.scanning.scan`."""
    from seehear.data.scanning import scan as scan_videos

    return scan_videos(source, out=out, **options)


def make_config(
    *, method: str | None = None, recipe: str = "small", seed: int | None = None, settings: Iterable[str] = ()
) -> Config:
    """A recipe with changes; `settings` are texts such as "cluster.k=32". Raises `UsageError`."""
    from seehear.methods import check_method

    changes = [f"method={method}"] if method else []
    changes += [f"seed={seed}"] if seed is not None else []
    config = with_settings(named_recipe(recipe, method), [*changes, *settings])
    check_method(config.method)
    config.check()
    return config


def pretrain(
    source: str | Path | Manifest,
    out: str | Path,
    *,
    config: Config | None = None,
    method: str | None = None,
    recipe: str = "small",
    seed: int | None = None,
    settings: Iterable[str] = (),
    quiet: bool = False,
) -> Model:
    """Learn from videos and leave a run in the folder `out`; see `seehear.tasks.pretrain.pretrain`.

    Give a whole `config`, or a `recipe` with changes. Returns the trained model.
    """
    from seehear.tasks.pretrain import pretrain as run

    if config is None:
        config = make_config(method=method, recipe=recipe, seed=seed, settings=settings)
    return load(run(source, out, config, quiet=quiet))


def load(run: str | Path) -> Model:
    """The trained model of a run folder: see `seehear.features.model.Model`."""
    from seehear.features.model import Model

    return Model.load(run)


def label(
    run: str | Path,
    source: str | Path | Manifest | None = None,
    *,
    modality: str = "both",
    every_seconds: float | None = None,
    **options: Any,
) -> pa.Table:
    """Cluster, confidence and exemplar rank of every segment: see `seehear.tasks.label.label`."""
    from seehear.tasks.label import label as label_videos

    return label_videos(run, source, modality=modality, every_seconds=every_seconds, **options)


def cluster_features(
    features: str | Path | np.ndarray | pa.Table, k: int, *, column: str | None = None, seed: int = 0, **options: Any
) -> pa.Table:
    """Cluster, confidence and exemplar rank of every row of any encoder's features.

    `features` is a .npy or .parquet file, an array (N, D) or a table, such as that of `Model.embed`. Options: see
    `seehear.tasks.posthoc.cluster_features`.
    """
    from seehear.tasks.posthoc import cluster_features as cluster

    return cluster(features, k, column=column, seed=seed, **options).table


def choose_k(
    features: str | Path | np.ndarray | pa.Table,
    ks: Iterable[int],
    *,
    column: str | None = None,
    seed: int = 0,
    **options: Any,
) -> Estimate:
    """Estimate, without labels, how many clusters features fall into: see `seehear.tasks.posthoc.choose_k`."""
    from seehear.tasks.posthoc import choose_k as choose

    return choose(features, list(ks), column=column, seed=seed, **options)


def evaluate(
    run: str | Path,
    labels: str | Path | None = None,
    *,
    protocol: str = "clustering",
    data: str | Path | None = None,
    k: int | None = None,
    baselines: bool = False,
    seed: int = 0,
    degrade: Sequence[int] = (),
    **options: Any,
) -> dict[str, Any]:
    """Score a run against known classes.

    Its clusters ("clustering", with `labels`, `k`, `seed` and `degrade`): see
    `seehear.tasks.evaluate.evaluate_clustering`.
    Its frozen features on `data`, a table or NAME:PATH of a data set ("linear", "retrieval", "knn", "few-shot", "svm",
    "audio-linear"), with the `options` of `seehear.tasks.evaluate.evaluate_linear` and `evaluate_transfer`. The result
    is kept in the run's folder `evaluations/`. Raises `UsageError` for what does not go together.
    """
    from seehear.tasks import evaluations
    from seehear.tasks.evaluate import evaluate_clustering, evaluate_linear, evaluate_transfer

    if protocol == "clustering":
        if data is not None or options:
            given = ", ".join(["data"] * (data is not None) + sorted(options))
            raise UsageError(f"clusters are not scored with {given}", "name a protocol, such as protocol='retrieval'")
        result = evaluate_clustering(run, labels, k=k, baselines=baselines, seed=seed, degrade=degrade)
        choices = {"k": k, "seed": seed or None, "degrade": degrade, "baselines": baselines}
        evaluations.save(run, protocol, result, data=labels, options=choices)
        return result
    if data is None:
        raise UsageError(f"{protocol} needs data", "give a table with the columns path, label and split")
    if labels is not None or k is not None or degrade:
        raise UsageError(
            f"labels, k and degrade are of clustering, not of {protocol}", "the classes are a column of data"
        )
    if protocol == "linear":
        result = evaluate_linear(run, data, baselines=baselines, **options)
    else:
        result = evaluate_transfer(run, data, protocol, baselines=baselines, **options)
    evaluations.save(run, protocol, result, data=data, options={"baselines": baselines, **options})
    return result


def finetune(run: str | Path, data: str | Path, out: str | Path, **options: Any) -> dict[str, Any]:
    """Finetune a run on labelled videos, leave a finetuned run in `out`, and return its scores.

    Options: see `seehear.tasks.finetune.finetune`.
    """
    from seehear.tasks.finetune import finetune as run_finetuning

    return run_finetuning(run, data, out, **options)


def predict(
    run: str | Path,
    source: str | Path | Manifest,
    *,
    modality: str | None = None,
    top: int = 5,
    every_seconds: float | None = None,
    **options: Any,
) -> pa.Table:
    """The likeliest classes of every video or segment by a finetuned run: see `seehear.tasks.predict.predict`."""
    from seehear.tasks.predict import predict as predict_videos

    return predict_videos(run, source, modality=modality, top=top, every_seconds=every_seconds, **options)


def localize(run: str | Path, data: str | Path, out: str | Path, **options: Any) -> dict[str, Any]:
    """Learn where in untrimmed videos actions are, leave a localiser in `out`, and return its scores.

    Options: see `seehear.tasks.localize.localize`; its settings are `seehear.tasks.localizer.LocalizerSettings`.
    """
    from seehear.tasks.localize import localize as learn

    return learn(run, data, out, **options)


def detect(localizer: str | Path, source: str | Path | Manifest, *, top: int = 20, **options: Any) -> pa.Table:
    """Actions in videos by a localiser: video, start, end, label, score; see `seehear.tasks.localize.detect`."""
    from seehear.tasks.localize import detect as find
    from seehear.tasks.localize import detections_table

    return detections_table(find(localizer, source, top=top, **options))


def show_weights(path: str | Path, **options: Any) -> dict[str, Any]:
    """What a file of weights, a run or a model folder holds: see `seehear.tasks.weights.show_weights`."""
    from seehear.tasks.weights import show_weights as show

    return show(path, **options)


def import_weights(path: str | Path, out: str | Path, **options: Any) -> dict[str, Any]:
    """Make published or exported weights into a folder that is taken as a run.

    See `seehear.tasks.weights.import_weights`.
    """
    from seehear.tasks.weights import import_weights as import_them

    return import_them(path, out, **options)


def export_weights(
    run: str | Path, out: str | Path, *, format: Format, modality: Literal["video", "audio"] | None = None
) -> dict[str, Any]:
    """Write a run's model or one of its encoders for use elsewhere: see `seehear.tasks.weights.export_weights`."""
    from seehear.tasks.weights import export_weights as export

    return export(run, out, format=format, modality=modality)


def report(
    run: str | Path,
    *,
    labels: str | Path | None = None,
    out: str | Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Path:
    """Write the page of a run and return its path: see `seehear.report.build_report`."""
    from seehear.report import build_report

    return build_report(run, truth=labels, out=out, progress=progress)
