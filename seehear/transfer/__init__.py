"""Transfer: what a run has learnt, put to the test on videos with classes, and to use.

| to | modules |
|---|---|
| finetune encoders and name classes | `finetuning` with `finetune_*` and `recipes`; `prediction` |
| score frozen features | `frozen`, `options`, `protocols`, `backbones`, `split`, `scoring` |
| classify and retrieve | `classifiers`, `retrieval`, `audio_linear` |
| score clusters | `clustering` |
| keep results and set runs side by side | `evaluations`, `table` |
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from seehear.commands import command, plain
from seehear.errors import UsageError
from seehear.options import (
    Backbone,
    Device,
    Every,
    LabelColumn,
    Modality,
    NumberList,
    OutFile,
    Quiet,
    Run,
    Runs,
    Seed,
    Settings,
    SplitColumn,
    Videos,
    Workers,
    option,
)
from seehear.transfer import text
from seehear.transfer.options import FrozenOptions, Paper

if TYPE_CHECKING:
    import pyarrow as pa

    from seehear.data.loader import Failures

    Data = str | Path
    Start = str | Path | None
else:
    Data = Annotated[
        str,
        option(
            "NAME:PATH of a data set (ucf101, hmdb51, esc50, folder, ...; see the documentation), CSV or Parquet with "
            "the columns path, label and split (train, test) or fold, or a manifest."
        ),
    ]
    Start = Annotated[
        Positional[str | None],
        option(
            "Folder of a run, or untrained:RECIPE or untrained:RUN: new encoders, to compare with.", metavar="[RUN]"
        ),
    ]


@command(
    "finetune",
    group="use",
    example="seehear finetune runs/a --data table.csv --out runs/a-classes",
    text=text.of_finetuning,
    as_json=plain,
)
def finetune(
    run: Start = None,
    data: Annotated[OutFile, arg()] = None,
    out: OutFile = None,
    *,
    split: str = "1",
    protocol: Literal["small", "xdc", "gdt", "gdt-release", "gdt-vggsound", "selavi"] | None = None,
    modality: Modality | None = None,
    freeze: bool = False,
    shots: int | None = None,
    seed: Seed = None,
    settings: Settings = (),
    label_column: LabelColumn = "label",
    split_column: SplitColumn = "split",
    resume: OutFile = None,
    quiet: Quiet = False,
) -> dict[str, Any]:
    """Finetune a run's encoders on videos with classes, and score it on the test split.

    Each encoder gets a classifier of its own; "both" is the mean of their probabilities. Returns for one split
    `scores` by modality and setting, `chosen`, `train_videos`, `test_videos`, `missing`, `failures`, chance in
    `baselines`, and `search`, the learning rates that were tried; for "all" the means over splits with their sample
    deviations `sd` in `scores`, and the results by split in `splits`.

    Args:
        data: A table with the columns path, label and split (train, test), or NAME:PATH of a data set.
        out: Folder of the new run; for several splits they lie in it, each a run of its own.
        split: Number or name of the data's split, or all.
        protocol: Schedule of a paper, or small; by default what suits the run.
        modality: Encoders to finetune, each with a classifier; by default what the run and the data have.
        freeze: Learn the classifier alone, on encoders that stay as they are.
        shots: Use so many training videos of each class.
        seed: Seed of every random choice; the run's by default.
        settings: Change a setting; may be given often. optim.base_lr=... saves the search for a learning rate.
        resume: Go on with the finetuning in this folder; needs nothing else.

    Raises:
        UsageError: an option or setting is wrong.
        DataError: the data has no usable training and test videos, or several classes a video.
        RunError: `run` is no trained run, `out` holds one already or is in use, or the disk is full.
        TrainingError: training cannot go on.
        Interrupted: a signal came; the state is saved.
    """
    from seehear.transfer.finetuning import finetune as tune
    from seehear.transfer.finetuning import resume_finetuning

    if resume is not None:
        given = (run, data, out, protocol, modality, freeze, shots, seed, tuple(settings))
        if any(x not in (None, (), False) for x in given):
            raise UsageError("--resume takes everything from its folder", f"seehear finetune --resume {resume}")
        return resume_finetuning(resume, quiet=quiet)
    if run is None or data is None or out is None:
        raise UsageError(
            "finetuning needs a run, --data and --out", "seehear finetune RUN --data TABLE.csv --out runs/finetuned"
        )
    return tune(
        run, data, out, split=split, protocol=protocol, modality=modality, freeze=freeze, shots=shots, seed=seed,
        settings=settings, label_column=label_column, split_column=split_column, quiet=quiet,
    )  # fmt: skip


@command(
    "predict",
    group="use",
    example="seehear predict runs/a-classes VIDEOS --out predictions.csv",
    text=text.of_predictions,
    python_only=("failures",),
    required=("out",),
)
def predict(
    run: Run,
    videos: Videos,
    *,
    out: OutFile = None,
    top: int = 5,
    modality: Modality | None = None,
    every_seconds: Every = None,
    clips: int | None = None,
    workers: Workers = None,
    device: Device = "auto",
    failures: Failures | None = None,
) -> pa.Table:
    """Name the likeliest classes of videos by a finetuned run, with their probabilities.

    Args:
        run: Folder of a run that `seehear finetune` made.
        out: A .csv or .parquet file: video, start, end, class_1, probability_1, class_2, ...
        top: How many classes to name.
        modality: What is looked at; by default all that the run was finetuned on.
        clips: Clips of a segment whose probabilities are averaged; as in the run's test (10) by default.
        failures: Takes the reports of videos that fail.

    Raises:
        RunError: the run is not finetuned.
        UsageError: it has no classifier of this modality.
        DataError: nothing is left to predict.
    """
    from seehear.data.loader import Failures
    from seehear.transfer.prediction import predict_and_write

    return predict_and_write(
        run, videos, out=out, top=top, modality=modality, every_seconds=every_seconds, clips=clips, workers=workers,
        device=device, failures=Failures() if failures is None else failures,
    )  # fmt: skip


@command(
    "evaluate clustering",
    group="compare",
    example="seehear evaluate clustering runs/a --labels truth.csv --baselines",
    text=text.of_clustering,
    as_json=text.without_place,
)
def evaluate_clustering(
    run: Run,
    *,
    labels: OutFile = None,
    k: int | None = None,
    purity: bool = False,
    degrade: Annotated[NumberList, arg(metavar="FACTOR,FACTOR")] = (),
    baselines: bool = False,
    seed: int = 0,
    device: Device = "cpu",
) -> dict[str, Any]:
    """Score a run's clusters against known classes: NMI, ARI, accuracy, entropy, purity.

    A video has the cluster of most of its time. Returns `scores` for video, audio and both, and `purity`, the clusters
    by falling purity; see `seehear.transfer.clustering.score_clusters`. The result is kept in the run's folder
    `evaluations/`.

    Args:
        labels: CSV or Parquet with the columns path and label; by default the run's label column.
        k: Cluster the run's features anew into so many clusters; NMI depends on k, so compare at equal k.
        purity: List the clusters too, purest first, with their most frequent classes.
        degrade: Label frames of less resolution too, by these factors, such as 1,4,8,16.
        baselines: Score an untrained network, raw pixels and spectrograms, and chance too.
        seed: Seed of what is clustered anew.

    Raises:
        UsageError: no classes to compare with, or factors that are none.
        RunError: the run has no clusters.
    """
    from seehear.transfer import evaluations
    from seehear.transfer.clustering import score_clusters

    result = score_clusters(run, labels, k=k, baselines=baselines, seed=seed, degrade=degrade, device=device)
    choices = {"k": k, "seed": seed or None, "degrade": tuple(degrade), "baselines": baselines}
    return evaluations.kept(run, "clustering", result, data=labels, options=choices)


def _on_frozen_features(protocol: str, run: str | Path, data: str | Path, options: dict[str, Any]) -> dict[str, Any]:
    """Score by one protocol, and keep the result."""
    from seehear.transfer import evaluations
    from seehear.transfer.frozen import evaluate_linear, evaluate_transfer

    if protocol == "linear":
        result = evaluate_linear(run, data, **options)
    else:
        result = evaluate_transfer(run, data, protocol, **options)
    return evaluations.kept(run, protocol, result, data=data, options=options)


def _frozen(protocol: str, example: str) -> Any:
    return command(
        f"evaluate {protocol}",
        group="compare",
        example=example,
        text=text.of_transfer,
        as_json=text.without_place,
        options=FrozenOptions,
    )


@_frozen("linear", "seehear evaluate linear runs/a --data table.csv --baselines")
def evaluate_linear(run: Backbone, data: Data, **options: Any) -> dict[str, Any]:
    """Score frozen features by logistic regression, its strength cross-validated within the training split.

    Returns `scores`, `chosen`, counts of videos and, with baselines, the scores of an untrained network and of chance;
    see `seehear.transfer.frozen.evaluate_transfer`. The result is kept in the run's folder `evaluations/`.
    """
    return _on_frozen_features("linear", run, data, options)


@_frozen("retrieval", "seehear evaluate retrieval runs/a --data table.csv")
def evaluate_retrieval(run: Backbone, data: Data, **options: Any) -> dict[str, Any]:
    """Score frozen features by retrieval: test videos query training videos, R@1 to R@50.

    Returns what `evaluate_linear` does, and across modalities where the run has a joint space.
    """
    return _on_frozen_features("retrieval", run, data, options)


@_frozen("knn", "seehear evaluate knn runs/a --data table.csv")
def evaluate_knn(run: Backbone, data: Data, **options: Any) -> dict[str, Any]:
    """Score frozen features by the vote of the nearest training videos, their number cross-validated.

    Returns what `evaluate_linear` does.
    """
    return _on_frozen_features("knn", run, data, options)


@_frozen("few-shot", "seehear evaluate few-shot runs/a --data table.csv --shots 1,5 --seeds 20")
def evaluate_few_shot(
    run: Backbone,
    data: Data,
    *,
    shots: NumberList = (1, 5, 20),
    seeds: int = 10,
    **options: Any,
) -> dict[str, Any]:
    """Score frozen features with a few training videos a class, by 1-NN and a linear SVM.

    Returns what `evaluate_linear` does, with deviations over seeds.

    Args:
        shots: Numbers of training videos a class.
        seeds: How often they are drawn.
    """
    return _on_frozen_features("few-shot", run, data, {**options, "shots": tuple(shots), "seeds": seeds})


@_frozen("svm", "seehear evaluate svm runs/a --data ucf101:UCF-101 --split all")
def evaluate_svm(run: Backbone, data: Data, **options: Any) -> dict[str, Any]:
    """Score frozen features by a linear SVM, C cross-validated within the training split.

    Returns what `evaluate_linear` does.
    """
    return _on_frozen_features("svm", run, data, options)


@_frozen("audio-linear", "seehear evaluate audio-linear runs/a --data esc50:ESC-50 --protocol gdt")
def evaluate_audio_linear(run: Backbone, data: Data, **options: Any) -> dict[str, Any]:
    """Score the audio encoder by a linear layer on windows of sound, as GDT does.

    Returns what `evaluate_linear` does.
    """
    return _on_frozen_features("audio-linear", run, data, options)


@command(
    "evaluate finetune",
    group="compare",
    example="seehear evaluate finetune runs/a --data table.csv",
    text=text.of_finetuning,
    as_json=plain,
    python_only=("settings", "quiet"),
)
def evaluate_finetune(
    run: Run,
    data: Data,
    *,
    split: str | None = None,
    protocol: Paper | None = None,
    modality: Modality | None = None,
    settings: Settings = (),
    label_column: LabelColumn = "label",
    split_column: SplitColumn = "split",
    quiet: bool | None = None,
) -> dict[str, Any]:
    """Finetune within the run's own folder, in finetuned/, all splits by default, and score it.

    What is there already is not done again, and what was interrupted goes on. `seehear finetune` has more options.

    Args:
        split: Number or name of the data's split, or all (default).
        protocol: Schedule of a paper; by default what suits the run.
        modality: Encoders to finetune; by default what the run and the data have.
        settings: Changes such as "optim.epochs=3".
        quiet: Show no progress.
    """
    from seehear.transfer.finetuning import finetune_within

    return finetune_within(
        run, data, split=split, protocol=protocol, modality=modality, settings=settings, label_column=label_column,
        split_column=split_column, quiet=quiet,
    )  # fmt: skip


@command(
    "evaluate table",
    group="compare",
    example="seehear evaluate table runs/a runs/b --format csv --out table.csv",
    text=text.of_table,
)
def evaluate_table(
    runs: Runs,
    *,
    data: OutFile = None,
    format: Literal["text", "csv", "html", "latex"] = "text",
    out: OutFile = None,
) -> str:
    """Put the kept evaluations of several runs side by side, seeds averaged, with the papers' numbers.

    Args:
        data: Only evaluations on this data.
        format: How the table is written.
        out: Write it to this file instead.
    """
    from seehear.transfer.table import write_table

    return write_table(list(runs), data, format, out)


_PROTOCOLS = {
    "clustering": evaluate_clustering,
    "linear": evaluate_linear,
    "retrieval": evaluate_retrieval,
    "knn": evaluate_knn,
    "few-shot": evaluate_few_shot,
    "svm": evaluate_svm,
    "audio-linear": evaluate_audio_linear,
    "finetune": evaluate_finetune,
}


def evaluate(
    run: str | Path,
    labels: str | Path | None = None,
    *,
    protocol: str = "clustering",
    data: str | Path | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Score a run by the protocol of this name: the same as the function `evaluate_...`, whose options it takes.

    "clustering" compares the run's clusters with `labels`; the others take `data`. Raises `UsageError` for what does
    not go together.
    """
    if protocol not in _PROTOCOLS:
        raise UsageError(f"there is no protocol {protocol!r}", f"choose one of {', '.join(_PROTOCOLS)}")
    score: Any = _PROTOCOLS[protocol]
    taken = set(score.command.parameters()) | score.command.python_only
    if wrong := sorted(options.keys() - taken):
        raise UsageError(f"{protocol} does not take {', '.join(wrong)}", f"it takes {', '.join(sorted(taken))}")
    result: dict[str, Any]
    if protocol == "clustering":
        if data is not None:
            raise UsageError("clusters are not scored with data", "name a protocol, such as protocol='retrieval'")
        result = score(run, labels=labels, **options)
    else:
        if data is None:
            raise UsageError(f"{protocol} needs data", "give a table with the columns path, label and split")
        if labels is not None:
            raise UsageError(f"labels are of clustering, not of {protocol}", "the classes are a column of data")
        result = score(run, data, **options)
    return result
