"""The command line. Each command imports what it needs when it runs, so that help appears at once."""

from __future__ import annotations

import json as jsonlib
import os
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, UseAppendAction, arg
from tyro.extras import SubcommandApp

from seehear import __version__
from seehear.errors import DataError, SeehearError, UsageError
from seehear.files import check_destination
from seehear.modalities import STREAMS_OF
from seehear.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from seehear.cluster.stability import Stability
    from seehear.data.loader import Failures
    from seehear.data.manifest import Manifest

app = SubcommandApp()
Modality = Literal["video", "audio", "both"]
Videos = Annotated[Positional[str | None], arg(metavar="[VIDEOS]")]
Run = Annotated[Positional[str], arg(metavar="RUN")]


def main(arguments: list[str] | None = None) -> None:
    """Entry point of `seehear`; exits with the codes of `seehear.errors`."""
    given = sys.argv[1:] if arguments is None else arguments
    if given == ["--version"]:
        print(f"seehear {__version__}")
        return
    try:
        app.cli(
            prog="seehear",
            description="Learn from unlabelled videos that have sound, and put what was learnt to work.",
            args=given,
        )
    except SeehearError as error:
        print(f"seehear: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("seehear: stopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # `seehear ... | head`
        sys.stderr.close()
        sys.exit(141)


@app.command
def scan(
    videos: Annotated[Positional[str], arg(metavar="VIDEOS")],
    /,
    out: str | None = None,
    modality: Modality = "both",
    min_seconds: float = 2.0,
    workers: int | None = None,
    strict: bool = False,
    json: bool = False,
) -> None:
    """Probe every video once: which can be used, and why not the others.

    Args:
        videos: A folder (any depth), a glob, a file, or a CSV or Parquet with a `path` column.
        out: Write the manifest to this Parquet file; a second scan into it probes only what changed.
        modality: Streams without which a file is of no use.
        min_seconds: Videos shorter than this are rejected; the recipes' clips have two seconds of sound.
        workers: Processes; one a core by default.
        strict: Fail if a single file cannot be used.
        json: Print the summary as JSON.
    """
    from seehear.data.manifest import scan as scan_videos

    if out is not None:
        _check_ending(out, ".parquet")
    with Progress() as progress:
        show = progress.shown("scan", "files")
        manifest = scan_videos(
            videos,
            out=out,
            need=STREAMS_OF[modality],
            min_seconds=min_seconds,
            workers=workers,
            strict=strict,
            progress=show,
        )
    if json:
        _print_json(manifest.summary())
    else:
        print(manifest.summary_text())
        print(f"manifest: {out}" if out else "give --out clips.parquet to keep this")


@app.command
def pretrain(
    videos: Videos = None,
    /,
    out: str | None = None,
    method: str | None = None,
    recipe: str | None = None,
    hypotheses: Annotated[str | None, arg(metavar="SPEC")] = None,
    seed: int | None = None,
    clusters: int | None = None,
    heads: int | None = None,
    set: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="SECTION.FIELD=VALUE")] = (),
    where: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="COLUMN=VALUE")] = (),
    video_weights: str | None = None,
    audio_weights: str | None = None,
    resume: str | None = None,
    quiet: bool = False,
) -> None:
    """Learn from videos: a model, labels for every video, and all that the run was.

    Args:
        videos: A folder, glob, CSV or Parquet with a `path` column, or a manifest of `seehear scan`.
        out: Folder of the new run.
        method: What is learnt; see `seehear methods` (default xdc).
        recipe: A named configuration; see `seehear recipes` (default small).
        hypotheses: gdt: what to be distinctive or invariant to; see `seehear hypotheses` (default l).
        seed: Seed of every random choice.
        clusters: Number of clusters; short for --set cluster.k=N.
        heads: Clustering heads of selavi; short for --set selavi.heads=N.
        set: Change a setting; may be given often. `seehear recipes --settings` lists them.
        where: Use only the rows of the table with this value, e.g. split=train; may be given often.
        video_weights: Start the video encoder from this file of published or own weights.
        audio_weights: Start the audio encoder from this file.
        resume: Go on with the run in this folder; needs nothing else.
        quiet: Print nothing but errors.
    """
    from seehear.api import make_config

    if resume is not None:
        given = (
            videos, out, method, recipe, hypotheses, seed, clusters, heads, set, where, video_weights, audio_weights,
        )  # fmt: skip
        if any(x not in (None, ()) for x in given):
            raise UsageError("--resume takes everything from the run folder", f"seehear pretrain --resume {resume}")
        from seehear.tasks.pretrain import pretrain as run

        run(None, resume, make_config(), resume=True, quiet=quiet)
        return
    if videos is None or out is None:
        raise UsageError("pretraining needs videos and --out", "seehear pretrain VIDEOS --out runs/a")
    weights = (("model.video_weights", video_weights), ("model.audio_weights", audio_weights))
    settings = [f"{name}={jsonlib.dumps(value)}" for name, value in weights if value is not None]
    counts = (("cluster.k", clusters), ("selavi.heads", heads))
    settings += [f"{name}={value}" for name, value in counts if value is not None]
    if where:
        settings.append(f"data.where={jsonlib.dumps(list(where))}")
    if hypotheses is not None:
        settings.append(f"gdt.hypotheses={jsonlib.dumps(hypotheses)}")
    config = make_config(method=method, recipe=recipe or "small", seed=seed, settings=[*set, *settings])
    if heads is not None and config.method != "selavi":
        raise UsageError(f"--heads is of selavi, and the method is {config.method}", "add --method selavi")
    if hypotheses is not None and config.method != "gdt":
        raise UsageError(f"--hypotheses is of gdt, not of {config.method}", "add --method gdt")
    if config.method == "gdt":
        from seehear.hypotheses import parse

        parse(config.gdt.hypotheses)
    from seehear.tasks.pretrain import pretrain as run

    run(videos, out, config, quiet=quiet)


@app.command
def finetune(
    run: Annotated[Positional[str | None], arg(metavar="[RUN]")] = None,
    /,
    data: str | None = None,
    out: str | None = None,
    split: str = "1",
    protocol: Literal["small", "xdc", "gdt", "gdt-vggsound", "selavi"] | None = None,
    modality: Modality | None = None,
    freeze: bool = False,
    shots: int | None = None,
    seed: int | None = None,
    set: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="SECTION.FIELD=VALUE")] = (),
    label_column: str = "label",
    split_column: str = "split",
    resume: str | None = None,
    quiet: bool = False,
    json: bool = False,
) -> None:
    """Finetune a run's encoders on videos with classes, and score it on the test split.

    Args:
        run: Folder of a run, or untrained:RECIPE or untrained:RUN: new encoders, to compare with.
        data: A table with the columns path, label and split (train, test), or NAME:PATH of a data set.
        out: Folder of the new run.
        split: Number or name of the data's split, or all.
        protocol: Schedule of a paper, or small; by default what suits the run.
        modality: Encoders to finetune, each with a classifier; by default what the run and the data have.
        freeze: Learn the classifier alone, on encoders that stay as they are.
        shots: Use so many training videos of each class.
        seed: Seed of every random choice; the run's by default.
        set: Change a setting; may be given often. optim.base_lr=... saves the search for a learning rate.
        label_column: Column of a table with the classes.
        split_column: Column of a table with train or test.
        resume: Go on with the finetuning in this folder; needs nothing else.
        quiet: Print nothing but the scores and errors.
        json: Print the result as JSON.
    """
    from seehear.tasks.finetune import as_text, resume_finetuning
    from seehear.tasks.finetune import finetune as run_finetuning

    if resume is not None:
        given = (run, data, out, protocol, modality, freeze, shots, seed, set)
        if any(x not in (None, (), False) for x in given):
            raise UsageError("--resume takes everything from its folder", f"seehear finetune --resume {resume}")
        result = resume_finetuning(resume, quiet=quiet)
    else:
        if run is None or data is None or out is None:
            raise UsageError(
                "finetuning needs a run, --data and --out", "seehear finetune RUN --data TABLE.csv --out runs/finetuned"
            )
        result = run_finetuning(
            run, data, out, split=split, protocol=protocol, modality=modality, freeze=freeze, shots=shots, seed=seed,
            settings=set, label_column=label_column, split_column=split_column, quiet=quiet,
        )  # fmt: skip
    if os.environ.get("RANK", "0") != "0":  # one of several processes: the first one prints
        return
    if json:
        _print_json(result)
    else:
        print(as_text(result))


@app.command
def predict(
    run: Run,
    videos: Annotated[Positional[str], arg(metavar="VIDEOS")],
    /,
    *,
    out: str,
    top: int = 5,
    modality: Modality | None = None,
    every: float | None = None,
    clips: int | None = None,
    workers: int | None = None,
    device: str = "auto",
) -> None:
    """Name the likeliest classes of videos by a finetuned run, with their probabilities.

    Args:
        run: Folder of a run that `seehear finetune` made.
        videos: A folder, glob, file, CSV or Parquet with a `path` column, or a manifest of `seehear scan`.
        out: A .csv or .parquet file: video, start, end, class_1, probability_1, class_2, ...
        top: How many classes to name.
        modality: What is looked at; by default all that the run was finetuned on.
        every: Length of a segment in seconds; by default a video is one segment.
        clips: Clips of a segment whose probabilities are averaged; as in the run's test (10) by default.
        workers: Decoding processes; one a core by default.
        device: auto, cpu, cuda or cuda:N.
    """
    from seehear.data.loader import Failures
    from seehear.data.manifest import Manifest, scan
    from seehear.tasks.label import write_table
    from seehear.tasks.predict import load_finetuned
    from seehear.tasks.predict import predict as predict_videos

    _check_ending(out, ".csv", ".parquet")
    model = load_finetuned(run)
    failures = Failures()
    with Progress() as progress:
        if Manifest.is_manifest(videos):
            manifest = Manifest.load(videos)
        else:
            need = tuple(model.classifiers) if modality is None else STREAMS_OF[modality]
            show = progress.shown("scan", "files")
            manifest = scan(videos, need=need, min_seconds=model.config.clip.seconds, workers=workers, progress=show)
        progress.note(manifest.summary_text())
        table = predict_videos(
            run,
            manifest,
            modality=modality,
            top=top,
            every_seconds=every,
            clips=clips,
            workers=_workers(workers),
            device=_device(device),
            failures=failures,
            progress=progress.shown("predict", "clips"),
        )
    write_table(table, Path(out))
    _print_failures(failures)
    print(f"{table.num_rows} segments: {out}")


@app.command
def embed(
    run: Run,
    videos: Videos = None,
    /,
    *,
    out: str,
    every: float | None = None,
    modality: Modality = "both",
    workers: int | None = None,
    device: str = "auto",
) -> None:
    """Features of both modalities for every segment, with its start and end.

    Args:
        run: Folder of a finished run.
        videos: Videos to embed; the run's own by default.
        out: A .parquet file: video_id, start_seconds, end_seconds, video, audio.
        every: Length of a segment in seconds; by default a video is one segment.
        modality: Encoders to use; a video needs only the streams of these.
        workers: Decoding processes; one a core by default.
        device: auto, cpu, cuda or cuda:N.
    """
    from seehear.data.loader import Failures
    from seehear.tasks.label import embed as embed_videos
    from seehear.tasks.label import write_table

    _check_ending(out, ".parquet")
    failures = Failures()
    with Progress() as progress:
        table = embed_videos(
            run,
            _scanned(run, videos, STREAMS_OF[modality], progress),
            every_seconds=every,
            modalities=STREAMS_OF[modality],
            workers=_workers(workers),
            device=_device(device),
            failures=failures,
            progress=progress.shown("embed", "clips"),
        )
    write_table(table, Path(out))
    _print_failures(failures)
    print(f"{table.num_rows} segments: {out}")


@app.command
def label(
    run: Run,
    videos: Videos = None,
    /,
    *,
    out: str,
    modality: Modality = "both",
    every: float | None = None,
    head: str = "0",
    running: Annotated[str | None, arg(metavar="FILE.json")] = None,
    workers: int | None = None,
    device: str = "auto",
) -> None:
    """Label videos: cluster, confidence and exemplar rank of every segment.

    Args:
        run: Folder of a finished run.
        videos: Videos to label; the run's own by default.
        out: A .csv or .parquet file: video, start, end, cluster, confidence, exemplar_rank.
        modality: What the labels are computed from.
        every: Length of a segment in seconds; by default a video is one segment.
        head: The clustering head of a run of selavi that labels, or consensus: all of them.
        running: selavi: follow in this file how common the clusters are among new videos, from call to call.
        workers: Decoding processes; one a core by default.
        device: auto, cpu, cuda or cuda:N.
    """
    from seehear.data.loader import Failures
    from seehear.tasks.label import label as label_videos
    from seehear.tasks.label import write_table

    _check_ending(out, ".csv", ".parquet")
    if head != "consensus" and not head.isdecimal():
        raise UsageError(f"{head!r} is no head", "give its number, from 0 on, or consensus")
    failures = Failures()
    with Progress() as progress:
        table = label_videos(
            run,
            _scanned(run, videos, STREAMS_OF[modality], progress),
            modality=modality,
            every_seconds=every,
            head="consensus" if head == "consensus" else int(head),
            running=running,
            workers=_workers(workers),
            device=_device(device),
            failures=failures,
            progress=progress.shown("label", "clips"),
        )
    write_table(table, Path(out))
    _print_failures(failures)
    clusters = len(set(table["cluster"].to_pylist()))
    if "labelled_by" in table.column_names:
        by = table["labelled_by"].to_pylist()
        for modality, sense in (("video", "sight"), ("audio", "sound")):
            if modality in by:
                print(f"by {sense} alone, for want of the other: {by.count(modality)} segments (column labelled_by)")
    print(f"{table.num_rows} segments in {clusters} clusters: {out}")


@app.command
def cluster(
    *,
    features: str,
    k: Annotated[int | None, arg(aliases=("-k",))] = None,
    out: str | None = None,
    algorithm: Literal["kmeans", "sinkhorn"] = "kmeans",
    marginals: Literal["uniform", "gaussian", "zipf"] | None = None,
    column: str | None = None,
    l2: bool = True,
    pca: int | None = None,
    whiten: bool = False,
    seed: int = 0,
    labels: str | None = None,
    choose_k: Annotated[str | None, arg(metavar="FROM-TO")] = None,
    plot: str | None = None,
    json: bool = False,
) -> None:
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
        json: Print JSON.
    """
    from seehear.tasks import posthoc
    from seehear.tasks.label import write_table

    if (k is None) == (choose_k is None):
        raise UsageError("give either a number of clusters or numbers to choose from", "-k 10, or --choose-k 2-20")
    if choose_k is None and plot is not None:
        raise UsageError("--plot draws what --choose-k found", "--choose-k 2-20 --plot FILE.svg")
    if out is not None:
        _check_ending(out, ".csv", ".parquet")
    elif choose_k is None and labels is None:
        raise UsageError("nothing to do with the labels", "write them with --out labels.csv, or compare: --labels FILE")
    if plot is not None:
        _check_ending(plot, ".svg")
    ks = None if choose_k is None else _span(choose_k)
    read = posthoc.read_features(features, column)
    options: dict[str, Any] = {
        "algorithm": algorithm, "marginals": marginals, "seed": seed,
        "preparation": posthoc.Preparation(l2, pca, whiten),
    }  # fmt: skip
    result: dict[str, Any] = {}
    lines: list[str] = []
    if ks is not None:
        from seehear.files import write_result
        from seehear.tasks.stability_picture import stability_svg

        with Progress() as progress:
            estimate = posthoc.choose_k(read, ks, progress=progress.shown("compare", "labellings"), **options)
        k, result["estimate"] = estimate.k, estimate.as_dict()
        lines += [_estimate_text(estimate.table), estimate.as_text()]
        if plot is not None:
            write_result(Path(plot), stability_svg(estimate))
            lines.append(plot)
    if k is not None and (out is not None or labels is not None):
        found = posthoc.cluster_features(read, k, **options)
        result |= found.facts
        sizes = sorted(found.facts["sizes"])
        lines.append(f"{len(read.x)} rows in {k} clusters of {sizes[0]} to {sizes[-1]}" + (f": {out}" if out else ""))
        if not found.facts.get("converged", True):
            lines.append("the labels had not come to rest when the iterations ended")
        if out is not None:
            write_table(found.table, Path(out))
            result["out"] = out
        if labels is not None:
            scored = posthoc.score_labels(found.table, labels)
            result |= scored
            lines.append(_clustering_text(scored))
    if json:
        _print_json(result)
    else:
        print("\n".join(lines))
    if k is None and (out is not None or labels is not None):
        raise DataError("no number of clusters could be estimated, so there are no labels", "choose one: -k 10")


@app.command
def report(
    run: Run,
    /,
    labels: str | None = None,
    out: str | None = None,
) -> None:
    """Write one page to look at: clusters with moving thumbnails and sound, curves, health, a map, filters.

    Args:
        run: Folder of a run; one that is not finished gives a page without clusters.
        labels: CSV or Parquet with known classes (columns path and label): adds purity and top concepts.
        out: The page; RUN/report.html by default.
    """
    from seehear.report import build_report

    with Progress() as progress:
        page = build_report(run, truth=labels, out=out, progress=_tasks_shown(progress))
    print(page)


@app.command
def evaluate(
    what: Annotated[
        Positional[
            Literal["clustering", "linear", "retrieval", "knn", "few-shot", "svm", "audio-linear", "finetune", "table"]
        ],
        arg(metavar="{clustering,linear,retrieval,knn,few-shot,svm,audio-linear,finetune,table}"),
    ],
    runs: Annotated[Positional[tuple[str, ...]], arg(metavar="RUN")],
    /,
    labels: str | None = None,
    data: str | None = None,
    split: str | None = None,
    folds: str | None = None,
    label_column: str = "label",
    split_column: str = "split",
    modality: Modality | None = None,
    column: str | None = None,
    k: int | None = None,
    purity: bool = False,
    degrade: Annotated[str | None, arg(metavar="FACTOR,FACTOR")] = None,
    clips: int | None = None,
    pooling: Literal["mean", "max"] | None = None,
    protocol: Literal["xdc", "gdt", "selavi"] | None = None,
    window: float | None = None,
    shots: str | None = None,
    seeds: int | None = None,
    device: str = "cpu",
    baselines: bool = False,
    format: Literal["text", "csv", "html", "latex"] | None = None,
    out: str | None = None,
    json: bool = False,
) -> None:
    """Score a finished run against known classes.

    `clustering` compares the run's clusters with classes. The others put frozen features to the test: they
    learn from the training split of --data and are tested on the test split. Results are kept in the run's folder
    evaluations/; `table` puts those of several runs side by side.

    Args:
        what: clustering; linear (logistic regression); retrieval (R@k); knn; few-shot; svm; audio-linear; finetune
            (in the run's folder; `seehear finetune` has more options); table.
        runs: Folder of a finished run (table: one or more); for the protocols on --data also untrained:RECIPE, or
            features in a .parquet or .npz file.
        labels: clustering: CSV or Parquet with the columns path and label; by default the run's label column.
        data: the others: NAME:PATH of a data set (ucf101, hmdb51, esc50, folder, ...; see the documentation), CSV or
            Parquet with the columns path, label and split (train, test) or fold, or a manifest.
        split: Of several official splits this one (1, 2, ...), or all (default): scores and their mean.
        folds: The same for folds: each is the test part in turn; of a table those in the column fold.
        label_column: Column of --data with the classes.
        split_column: Column of --data with train or test, or with the numbers of folds.
        modality: Encoders to use; by default those that the data set is for (ucf101: video, esc50: audio).
        column: Column of a file of features, if there are several.
        k: clustering: cluster the run's features anew into so many clusters.
        purity: clustering: list the clusters too, purest first, with their most frequent classes.
        degrade: clustering: label frames of less resolution too, by these factors, such as 1,4,8,16.
        clips: Clips of a video whose features are averaged; 10 by default (linear: 3 parts).
        pooling: mean: the encoders' own features (default); max: the maximum of their last maps.
        protocol: Clips, pooling and classifier as this paper has them; what is given besides wins.
        window: audio-linear, and svm with --protocol xdc: seconds of a window of sound.
        shots: few-shot: numbers of training videos a class (default 1,5,20).
        seeds: few-shot: how often they are drawn (default 10).
        device: auto, cpu, cuda or cuda:N.
        baselines: Score an untrained network and chance too (and, for clusters, raw pixels and spectrograms).
        format: table: text (default), csv, html or latex.
        out: table: write it to this file.
        json: Print JSON.
    """
    from seehear.tasks import evaluations
    from seehear.tasks.evaluate import evaluate_clustering, evaluate_linear, evaluate_transfer

    if what == "table":
        given = (labels, split, folds, modality, column, k, degrade, clips, pooling, protocol, window, shots, seeds)
        if any(x is not None for x in given) or purity or baselines or json:
            raise UsageError("a table is of evaluations that are there", "it takes --data, --format and --out")
        _evaluation_table(runs, data, format or "text", out)
        return
    if len(runs) != 1:
        raise UsageError(f"{what} is of one run, not of {len(runs)}", "call it for each, then `seehear evaluate table`")
    if (format, out) != (None, None):
        raise UsageError(f"--format and --out are of table, not of {what}")
    (run,) = runs
    if what != "few-shot" and (shots, seeds) != (None, None):
        raise UsageError(f"--shots and --seeds are of few-shot, not of {what}")
    if what != "clustering" and (labels, k, purity, degrade) != (None, None, False, None):
        raise UsageError(f"--labels, --k, --purity and --degrade are of clustering, not of {what}")
    if what == "clustering" and any(x is not None for x in (split, folds, modality, column, protocol, window)):
        raise UsageError(
            "--split, --folds, --modality, --column, --protocol and --window are of the protocols on --data, not of "
            "clustering"
        )
    if what == "finetune":
        if data is None or baselines or any(x is not None for x in (folds, column, clips, pooling, window)):
            raise UsageError(
                "evaluate finetune takes --data, --split, --protocol, --modality and the names of columns",
                f"seehear finetune {run} --data DATA --out FOLDER has all options",
            )
        from seehear.tasks.finetune import as_text, evaluate_finetune

        result = evaluate_finetune(
            run, data, split=split, protocol=protocol, modality=modality, label_column=label_column,
            split_column=split_column, quiet=json,
        )  # fmt: skip
        if json:
            _print_json(result)
        else:
            print(as_text(result))
        return
    if what == "clustering":
        with Progress() as progress:
            result = evaluate_clustering(
                run,
                labels,
                k=k,
                baselines=baselines,
                degrade=() if degrade is None else _numbers(degrade),
                device=_device(device),
                progress=progress.shown("embed", "clips"),
            )
        text = _clustering_text(result) + (_purity_text(result) if purity else "")
        kept = evaluations.save(
            run, what, result, data=labels, options={"k": k, "degrade": degrade, "baselines": baselines}
        )
    else:
        if data is None:
            raise UsageError(f"{what} needs --data", "give a CSV with the columns path, label and split, or NAME:PATH")
        options: dict[str, Any] = {
            "split": split, "folds": folds, "label_column": label_column, "split_column": split_column,
            "modality": modality, "column": column, "baselines": baselines, "clips": clips, "pooling": pooling,
            "paper": protocol, "window_seconds": window,
        }  # fmt: skip
        with Progress() as progress:
            options |= {
                "device": _device(device),
                "scan_progress": progress.shown("scan", "files"),
                "progress": progress.shown("embed", "clips"),
            }
            if what == "linear":
                result = evaluate_linear(run, data, **options)
            else:
                options |= {"shots": _numbers(shots or "1,5,20"), "seeds": 10 if seeds is None else seeds}
                result = evaluate_transfer(run, data, what, **options)
        text = _transfer_text(result)
        kept = evaluations.save(run, what, result, data=data, options=options)
    if json:
        _print_json(result)
    else:
        print(text)
        if kept is not None:
            print(f"kept: {kept}")


@app.command
def localize(
    run: Run,
    /,
    *,
    data: str,
    out: str,
    videos: str | None = None,
    modality: Modality = "both",
    stride: float | None = None,
    epochs: int | None = None,
    seed: int | None = None,
    set: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="FIELD=VALUE")] = (),
    train_subset: str | None = None,
    test_subset: str | None = None,
    baselines: bool = False,
    device: str = "auto",
    json: bool = False,
) -> None:
    """Learn where in untrimmed videos actions are (G-TAD on frozen features), and score it on the test subset.

    Args:
        run: Folder of a finished run.
        data: thumos14:FOLDER with the annotations of THUMOS14, or a JSON file in ActivityNet's form.
        out: Folder of the new localiser: for `seehear detect`, with detections, scores and a picture.
        videos: Folder of the videos, or a manifest of `seehear scan`; by default where the annotations are.
        modality: Whose features are used.
        stride: Seconds from one feature to the next (default 0.5); short for --set stride_seconds=S.
        epochs: Passes over the videos at most (default 20); short for --set epochs=N.
        seed: Seed of every random choice; short for --set seed=N.
        set: Change a setting of the localiser; may be given often.
        train_subset: Subset to learn from; training of ActivityNet, validation of THUMOS14.
        test_subset: Subset to be scored on; validation of ActivityNet, test of THUMOS14.
        baselines: Score an untrained network, and sliding windows without G-TAD, too.
        device: auto, cpu, cuda or cuda:N.
        json: Print JSON.
    """
    from seehear.tasks.localize import localize as learn
    from seehear.tasks.localizer import localizer_settings

    short = (("stride_seconds", stride), ("epochs", epochs), ("seed", seed))
    settings = localizer_settings([*set, *(f"{name}={value}" for name, value in short if value is not None)])
    with Progress() as progress:
        result = learn(
            run, data, out, videos=videos, modality=modality, settings=settings, train_subset=train_subset,
            test_subset=test_subset, baselines=baselines, device=_device(device), progress=_tasks_shown(progress),
        )  # fmt: skip
    if json:
        _print_json(result)
    else:
        print(_localization_text(result))
        print(f"localiser: {out}")


@app.command
def detect(
    localizer: Annotated[Positional[str], arg(metavar="LOCALISER")],
    videos: Annotated[Positional[str], arg(metavar="VIDEOS")],
    /,
    *,
    out: str,
    top: int = 20,
    device: str = "auto",
) -> None:
    """Find actions in videos: start, end, class and score of each.

    Args:
        localizer: Folder that `seehear localize` made.
        videos: Videos to look at.
        out: A .csv or .parquet file: video, start, end, label, score; or a .json file in ActivityNet's form.
        top: Detections of each video that are kept.
        device: auto, cpu, cuda or cuda:N.
    """
    from seehear.files import write_result
    from seehear.tasks.label import write_table
    from seehear.tasks.localize import detect as find
    from seehear.tasks.localize import detections_json, detections_table

    _check_ending(out, ".csv", ".parquet", ".json")
    failures: list[dict[str, Any]] = []
    with Progress() as progress:
        found = find(
            localizer, videos, top=top, device=_device(device), failures=failures, progress=_tasks_shown(progress)
        )
    if out.endswith(".json"):
        write_result(Path(out), detections_json(found))
    else:
        write_table(detections_table(found), Path(out))
    print("\n".join([*_failures_text({"failures": failures}), f"{sum(map(len, found.values()))} detections: {out}"]))


@app.command
def methods(json: bool = False) -> None:
    """List the methods.

    Args:
        json: Print JSON.
    """
    from seehear.methods import METHODS

    _print_table(METHODS, json)


@app.command
def recipes(
    name: Annotated[Positional[str | None], arg(metavar="[NAME]")] = None,
    /,
    settings: bool = False,
    json: bool = False,
) -> None:
    """List the recipes, show one, or list every setting.

    Args:
        name: Show all settings of this recipe as YAML.
        settings: List every setting with its default and meaning.
        json: Print JSON.
    """
    from seehear import config as configuration
    from seehear.recipes import RECIPES
    from seehear.recipes import recipe as named

    if name is not None:
        values = configuration.to_dict(named(name))
        if json:
            _print_json(values)
        else:
            import yaml

            print(yaml.safe_dump(values, sort_keys=False), end="")
    elif settings:
        _print_table(configuration.setting_docs(), json)
    else:
        _print_table({n: (f.__doc__ or "").strip() for n, f in RECIPES.items()}, json)


@app.command
def hypotheses(
    what: Annotated[Positional[Literal["list", "show"]], arg(metavar="[show]")] = "list",
    specification: Annotated[Positional[str | None], arg(metavar="[SPEC]")] = None,
    /,
    svg: str | None = None,
    json: bool = False,
) -> None:
    """List the named specifications of gdt, or show what one samples and compares.

    Args:
        what: list, or show with a specification.
        specification: A name from the list, or "factor=hypothesis, ...".
        svg: show: write the sampling tree and the pairs as a picture to this .svg file too.
        json: Print JSON.
    """
    from seehear import hypotheses_picture as picture
    from seehear.hypotheses import NAMED, parse

    if what == "list":
        if (specification, svg) != (None, None):
            raise UsageError("the list takes no specification and no --svg", "seehear hypotheses show SPEC")
        specs = {name: parse(name) for name in NAMED}
        if json:
            _print_json({name: picture.summary(spec, NAMED[name]) for name, spec in specs.items()})
        else:
            print(picture.listed({name: (spec, NAMED[name]) for name, spec in specs.items()}))
        return
    if specification is None:
        raise UsageError("show needs a specification", 'seehear hypotheses show l, or "sample=distinct, ..."')
    if svg is not None:
        _check_ending(svg, ".svg")
    spec, named = parse(specification), NAMED.get(specification.strip())
    if svg is not None:
        from seehear.files import write_result

        write_result(Path(svg), picture.as_svg(spec, named))
    if json:
        _print_json(picture.as_data(spec, named))
    else:
        print(picture.as_text(spec, named))


@app.command(name="search-hypotheses")
def search_hypotheses(
    videos: Annotated[Positional[str], arg(metavar="VIDEOS")],
    /,
    *,
    out: str,
    criterion: Literal["retrieval", "labels"],
    factors: str = "time_shift,reversal",
    sampler: Literal["grid", "tpe", "halving"] = "grid",
    budget: int | None = None,
    epochs: int | None = None,
    recipe: str = "small",
    seed: int | None = None,
    set: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="SECTION.FIELD=VALUE")] = (),
    where: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="COLUMN=VALUE")] = (),
    label_column: str = "label",
    split_column: str = "split",
    quiet: bool = False,
    json: bool = False,
) -> None:
    """Try short pretrainings of gdt over every valid combination of some factors, and rank them.

    Started again with the same options it goes on where it stood.

    Args:
        videos: As for pretrain.
        out: Folder of the search; its runs lie in runs/.
        criterion: retrieval: how often held-out sound finds its frames first; labels: a linear classifier.
        factors: Which to state as distinct, invariant or ignore, or leave out.
        sampler: grid tries all; tpe proposes what looks best (Optuna); halving stops the worse half early.
        budget: How many specifications at most; by default all that differ.
        epochs: Of each pretraining; warm-up and decay shrink with it. The recipe's by default.
        recipe: A named configuration of gdt.
        seed: Seed of every random choice, the same for each pretraining.
        set: Change a setting; may be given often.
        where: Use only the rows of the table with this value, e.g. split=train; may be given often.
        label_column: labels: column with the classes.
        split_column: labels: only rows with train in this column are looked at, if there is one.
        quiet: Print nothing but the result.
        json: Print the result as JSON.
    """
    from seehear.tasks.search_hypotheses import as_text, make_search_config
    from seehear.tasks.search_hypotheses import search_hypotheses as search

    config = make_search_config(recipe=recipe, seed=seed, epochs=epochs, settings=set, where=where)
    result = search(
        videos,
        out,
        config,
        factors=tuple(part.strip() for part in factors.split(",") if part.strip()),
        criterion=criterion,
        sampler=sampler,
        budget=budget,
        label_column=label_column,
        split_column=split_column,
        quiet=quiet,
    )
    if json:
        _print_json(result)
    else:
        print(as_text(result))
        print(f"picture: {Path(out) / 'results.html'}")


@app.command
def weights(
    what: Annotated[Positional[Literal["show", "import", "export"]], arg(metavar="{show,import,export}")],
    source: Annotated[Positional[str], arg(metavar="FILE|RUN")],
    /,
    out: str | None = None,
    format: Literal["safetensors", "hub", "torchvision", "torch-export", "onnx"] | None = None,
    modality: Literal["video", "audio"] | None = None,
    audio_weights: str | None = None,
    statistics: Annotated[str | None, arg(metavar="VIDEOS")] = None,
    set: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="SECTION.FIELD=VALUE")] = (),
    ignore: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="KEY")] = (),
    workers: int | None = None,
    json: bool = False,
) -> None:
    """Look at weights, make published ones into a run, or write a run's encoders for use elsewhere.

    Args:
        what: show; import (published or exported weights to a folder that commands take as RUN); export.
        source: show, import: a checkpoint file or a model folder; show, export: a run.
        out: import: the new folder; export: the file or folder to write.
        format: export: safetensors or hub (a folder), torchvision, torch-export or onnx (a file).
        modality: Import or export this encoder alone.
        audio_weights: show, import: take the audio encoder from this file.
        statistics: import: videos to measure the normalisation on that a file does not state, or a statistics.json.
        set: import: change the preprocessing, such as clip.frames=8; may be given often.
        ignore: show, import: a key that the file may hold beyond its layout (with *); may be given often.
        workers: import: decoding processes; one a core by default.
        json: Print JSON.
    """
    from seehear.tasks import weights as tasks

    given = {
        "--out": out, "--format": format, "--modality": modality, "--audio-weights": audio_weights,
        "--statistics": statistics, "--set": set or None, "--ignore": ignore or None, "--workers": workers,
    }  # fmt: skip
    taken = {
        "show": {"--audio-weights", "--ignore"},
        "import": given.keys() - {"--format"},
        "export": {"--out", "--format", "--modality"},
    }[what]
    if wrong := [option for option, value in given.items() if value is not None and option not in taken]:
        raise UsageError(f"weights {what} does not take {', '.join(wrong)}", f"it takes {', '.join(sorted(taken))}")
    if what == "show":
        told = tasks.show_weights(source, audio_weights=audio_weights, ignore=ignore)
    elif out is None:
        raise UsageError(f"weights {what} needs --out", f"seehear weights {what} {source} --out ...")
    elif what == "import":
        with Progress() as progress:
            told = tasks.import_weights(
                source, out, audio_weights=audio_weights, modality=modality or "both", statistics=statistics,
                settings=set, ignore=ignore, workers=_workers(workers), progress=progress.shown("scan", "files"),
            )  # fmt: skip
    elif format is None:
        raise UsageError("weights export needs --format", f"one of {', '.join(tasks.FORMATS)}")
    else:
        told = tasks.export_weights(source, out, format=format, modality=modality)
    if json:
        _print_json(told)
    elif what == "export":
        print(f"{', '.join(told['encoders'])}: {out}")
        if "input" in told:
            print(f"input {told['input']}, output {told['output']}")
        print(f"largest difference from the source: {told['max_difference']:.3g}")
    else:
        print(tasks.as_text(told))
        if what == "import":
            print(f"run: {out}")


@app.command
def doctor(json: bool = False) -> None:
    """Say what this machine has, what it lacks and what that means.

    Args:
        json: Print JSON.
    """
    from seehear.doctor import examine

    checks = examine()
    if json:
        _print_json([{f.name: getattr(c, f.name) for f in fields(c)} for c in checks])
    else:
        for check in checks:
            print(
                f"{check.status:<7} {check.name}: {check.found}"
                + (f"\n        -> {check.remedy}" if check.remedy else "")
            )
    if any(c.status == "missing" for c in checks):
        sys.exit(3)


def _scanned(run: str, videos: str | None, need: tuple[str, ...], progress: Progress) -> Manifest | None:
    """The manifest of new videos for a finished run, with a word on those that cannot be used."""
    from seehear.data.manifest import Manifest, scan
    from seehear.features.model import Model
    from seehear.modalities import streams_of
    from seehear.tasks.label import open_run

    config = open_run(run).load_config()
    if videos is None:
        return None
    if Manifest.is_manifest(videos):
        return Manifest.load(videos)
    # A model of one modality asks no more of the videos than it looks at.
    need = tuple(stream for stream in streams_of(tuple(Model.load(run).modalities.values())) if stream in need) or need
    manifest = scan(videos, need=need, min_seconds=config.clip.seconds, progress=progress.shown("scan", "files"))
    progress.note(manifest.summary_text())
    return manifest


def _workers(workers: int | None) -> int:
    from seehear.media.pool import available_cores

    return available_cores() if workers is None else workers


def _device(name: str) -> str:
    from seehear.tasks.pretrain import choose_device

    return str(choose_device(name))


def _check_ending(out: str, *endings: str) -> None:
    """Before any work is done: can the result be written?"""
    if not out.endswith(endings):
        raise UsageError(f"cannot write {out}: its ending must be {' or '.join(endings)}")
    check_destination(out)


def _tasks_shown(progress: Progress) -> Any:
    """A callback (task, done, total) that shows each task under its name."""
    tasks: dict[str, Any] = {}

    def show(task: str, done: int, total: int) -> None:
        tasks.setdefault(task, progress.shown(task, "done"))(done, total)

    return show


def _numbers(text: str) -> tuple[int, ...]:
    """Numbers parted by commas."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{text!r} is no list of numbers", "write it like 1,5,20") from None


def _span(text: str) -> list[int]:
    """The numbers of clusters of "2-20" or "2,4,8"."""
    first, dash, last = text.partition("-")
    if dash and first.isdecimal() and last.isdecimal() and int(first) <= int(last):
        return list(range(int(first), int(last) + 1))
    if dash:
        raise UsageError(f"{text!r} is no range of numbers", "write it like 2-20 or 2,4,8")
    return list(_numbers(text))


def _print_failures(failures: Failures) -> None:
    for failure in failures.reports:
        print(f"left out: {failure['path']}: {failure['reason']}: {failure['detail']}", file=sys.stderr)


def _print_json(value: Any) -> None:
    print(jsonlib.dumps(value, indent=1, ensure_ascii=False))


def _print_table(rows: dict[str, str], as_json: bool) -> None:
    if as_json:
        _print_json(rows)
        return
    width = max(map(len, rows))
    for name, text in rows.items():
        print(f"{name:<{width}}  {text}")


_COLUMNS = (("nmi", "NMI"), ("ari", "ARI"), ("accuracy", "accuracy"), ("mean_entropy_nats", "entropy"),
            ("mean_max_purity", "purity"), ("k", "clusters"))  # fmt: skip


def _clustering_text(result: dict[str, Any]) -> str:
    lines = [f"{result['videos']} videos with a known class"]
    unmatched = result["unmatched"]
    if any(unmatched.values()):
        lines[0] += f" ({unmatched['truth']} classes without a video, {unmatched['run']} videos without a class)"
    lines.append(f"{'':<20}" + "".join(f"{title:>10}" for _, title in _COLUMNS))
    groups = {"": result["scores"], **result.get("baselines", {})}
    degraded = result.get("degraded", {"scores": {}, "failures": []})
    groups |= {f"1/{factor}": scores for factor, scores in degraded["scores"].items()}
    for group, scores in groups.items():
        for modality, score in scores.items():
            cells = "".join(
                f"{score[key]:>10}" if isinstance(score[key], int) else f"{score[key]:>10.3f}" for key, _ in _COLUMNS
            )
            lines.append(f"{(group + ' ' + modality).strip():<20}{cells}")
    for modality, of_heads in result.get("heads", {}).items():
        for part, title in (("mean", "heads' mean"), ("sd", "heads' sd")):
            cells = "".join(f"{of_heads[key][part]:>10.3f}" for key, _ in _COLUMNS if key in of_heads)
            lines.append(f"{modality + ', ' + title:<20}{cells}")
    lines += [f"left out: {f['path']}: {f['reason']}: {f['detail']}" for f in degraded["failures"]]
    return "\n".join(lines)


def _evaluation_table(
    runs: Sequence[str], data: str | None, format: Literal["text", "csv", "html", "latex"], out: str | None
) -> None:
    from seehear.files import write_atomic
    from seehear.tasks.evaluation_table import make_table, render

    if not runs:
        raise UsageError("a table needs runs", "seehear evaluate table RUN RUN ...")
    if out is not None:
        check_destination(out)
    text = render(make_table(runs, data), format)
    if out is None:
        print(text)
        return
    if not Path(out).absolute().parent.is_dir():
        raise UsageError(f"cannot write {out}: there is no such folder")
    write_atomic(Path(out), text + "\n")
    print(f"table: {out}")


def _estimate_text(table: Sequence[Stability]) -> str:
    lines = [f"{'clusters':>8}{'stability':>11}{'without clusters':>18}{'steadier':>10}{'p':>7}"]
    for s in table:
        reference = f"{s.reference:.3f} ± {s.reference_sd:.3f}"
        lines.append(f"{s.k:>8}{s.stability:>11.3f}{reference:>18}{s.steadier:>9.1f}x{s.p_value:>7.2f}")
    return "\n".join(lines)


def _purity_text(result: dict[str, Any]) -> str:
    """Clusters ranked by purity, as in tables 6, 14 and 15 of the XDC paper."""
    lines = []
    for modality, rows in result["purity"].items():
        lines.append(f"\n{modality} clusters by purity")
        for row in rows:
            concepts = ", ".join(f"{name}({share:.2f})" for name, share in row["concepts"])
            lines.append(f"{row['rank']:>4}  cluster {row['cluster']:<4} {row['size']:>5} videos  {concepts}")
    return "\n" + "\n".join(lines)


def _transfer_text(result: dict[str, Any]) -> str:
    """What was done with which videos, then a table: a row a modality and setting, a column what was scored."""
    lines = [f"{result['protocol']}: {result['description']}", _features_text(result)]
    if "note" in result:
        lines.append(result["note"])
    groups = result.get("baselines", {})
    if "splits" in result:
        for name, of_split in result["splits"].items():
            lines += _videos_text(of_split, f"{name}: ")
        lines.append(f"{'':<20}{'mean':>8}{'sd':>8}" + "".join(f"{name:>11}" for name in (*result["splits"], *groups)))
        for modality, scores in result["scores"].items():
            for setting, score in scores.items():
                found = [s["scores"] for s in result["splits"].values()] + list(groups.values())
                values = [scores[modality].get(setting) for scores in found]
                cells = "".join(f"{'':>11}" if of is None else f"{of['value']:>11.3f}" for of in values)
                lines.append(f"{modality + ' ' + setting:<20}{score['value']:>8.3f}{score['sd']:>8.3f}{cells}")
        return "\n".join(lines + _failures_text(result))
    lines += _videos_text(result)
    deviates = any("sd" in score for scores in result["scores"].values() for score in scores.values())
    head = f"{'':<20}{'score':>8}" + (f"{'sd':>8}" if deviates else "") + f"{'95 % interval':>16}"
    lines.append(head + "".join(f"{group:>11}" for group in groups))
    for modality, scores in result["scores"].items():
        for setting, score in scores.items():
            cells = f"{score['value']:>8.3f}"
            if deviates:
                cells += f"{score['sd']:>8.3f}" if "sd" in score else f"{'':>8}"
            cells += f"{score['low']:>10.3f}-{score['high']:.3f}"
            others = [group[modality].get(setting) for group in groups.values()]
            cells += "".join(f"{'':>11}" if of is None else f"{of['value']:>11.3f}" for of in others)
            lines.append(f"{modality + ' ' + setting:<20}{cells}")
    chosen = (f"{modality} " + " ".join(f"{k}={v}" for k, v in c.items()) for modality, c in result["chosen"].items())
    if result["chosen"]:
        lines.append("within the training split: " + "; ".join(chosen))
    if "cross_modal" in result:
        lines.append(f"{'across modalities':<36}{'own clip':>8}{'chance':>8}{'its class':>12}{'chance':>8}")
        for direction, found in result["cross_modal"].items():
            for setting, own in found["recall"].items():
                cells = f"{direction + ' ' + setting:<36}{own['value']:>8.3f}{own['chance']:>8.3f}"
                if of_class := result["cross_modal_classes"][direction].get(setting):
                    cells += f"{of_class['value']:>12.3f}{of_class['chance']:>8.3f}"
                lines.append(cells)
    return "\n".join(lines + _failures_text(result))


def _features_text(result: dict[str, Any]) -> str:
    if "features" in result:
        return f"features of {result['features']}"
    clips = f"{result['clips']}" + (f" x {result['averaged_clips']}" if result["averaged_clips"] > 1 else "")
    return f"frozen features: {clips} clips a video, {result['pooling']} pooling"


def _videos_text(result: dict[str, Any], begin: str = "") -> list[str]:
    """How many videos a split has, and how many it lacks."""
    lines = [f"{begin}{result['train_videos']} training videos, {result['test_videos']} test videos"]
    for part, counts in result["missing"].items():
        if any(counts.values()):
            left_out = (f"{n} {why.replace('_', ' ')}" for why, n in counts.items() if n)
            lines.append(f"{begin}left out of {part}: " + ", ".join(left_out))
    if result["videos_of_other_splits"]:
        lines.append(f"{begin}of other splits: {result['videos_of_other_splits']}")
    return lines


def _localization_text(result: dict[str, Any]) -> str:
    """What was done with which videos, then a row for each setting."""
    modality, missing = result["modality"], result["missing"]
    chosen = result["chosen"][modality]
    lines = [
        f"{result['protocol']}: {result['description']} ({modality}, every {result['stride_seconds']:g} s at most)",
        f"learnt from {result['train_videos']} videos with {result['train_segments']} segments in "
        f"{chosen['epochs']} epochs",
    ]
    lines += [
        f"left out of {part}: " + ", ".join(f"{n} {why.replace('_', ' ')}" for why, n in counts.items() if n)
        for part, counts in missing.items()
        if any(counts.values())
    ]
    if result["scores"]:
        groups = result.get("baselines", {})
        lines.append(f"tested once on {result['test_videos']} videos with {result['test_segments']} segments")
        head = "".join(f"{group.replace('_', ' '):>18}" for group in groups)
        lines.append(f"{'':<14}{'score':>8}{'95 % interval':>16}{head}")
        for setting, score in result["scores"][modality].items():
            cells = f"{setting:<14}{score['value']:>8.3f}{score['low']:>10.3f}-{score['high']:.3f}"
            lines.append(cells + "".join(f"{g[modality][setting]['value']:>18.3f}" for g in groups.values()))
        if result["unknown_classes"]:
            lines.append(f"classes of the test subset never learnt: {', '.join(result['unknown_classes'])}")
    else:
        lines.append("no test subset, so nothing is scored")
    return "\n".join(lines + _failures_text(result))


def _failures_text(result: dict[str, Any]) -> list[str]:
    return [f"left out: {f['path']}: {f['reason']}: {f['detail']}" for f in result.get("failures", [])]


if __name__ == "__main__":
    main()
