"""The command line. Each command imports what it needs when it runs, so that help appears at once."""

from __future__ import annotations

import json as jsonlib
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, UseAppendAction, arg
from tyro.extras import SubcommandApp

from seehear import __version__
from seehear.errors import SeehearError, UsageError
from seehear.progress import Progress

if TYPE_CHECKING:
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
        show = _shown(progress, "scan", "files")
        manifest = scan_videos(
            videos,
            out=out,
            need=_streams(modality),
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
    seed: int | None = None,
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
        seed: Seed of every random choice.
        set: Change a setting; may be given often. `seehear recipes --settings` lists them.
        where: Use only the rows of the table with this value, e.g. split=train; may be given often.
        video_weights: Start the video encoder from this file of published or own weights.
        audio_weights: Start the audio encoder from this file.
        resume: Go on with the run in this folder; needs nothing else.
        quiet: Print nothing but errors.
    """
    from seehear.api import make_config

    if resume is not None:
        if any(
            x not in (None, ()) for x in (videos, out, method, recipe, seed, set, where, video_weights, audio_weights)
        ):
            raise UsageError("--resume takes everything from the run folder", f"seehear pretrain --resume {resume}")
        from seehear.tasks.pretrain import pretrain as run

        run(None, resume, make_config(), resume=True, quiet=quiet)
        return
    if videos is None or out is None:
        raise UsageError("pretraining needs videos and --out", "seehear pretrain VIDEOS --out runs/a")
    weights = (("model.video_weights", video_weights), ("model.audio_weights", audio_weights))
    settings = [f"{name}={jsonlib.dumps(value)}" for name, value in weights if value is not None]
    if where:
        settings.append(f"data.where={jsonlib.dumps(list(where))}")
    config = make_config(method=method, recipe=recipe or "small", seed=seed, settings=[*set, *settings])
    from seehear.tasks.pretrain import pretrain as run

    run(videos, out, config, quiet=quiet)


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
            _scanned(run, videos, _streams(modality), progress),
            every_seconds=every,
            modalities=_streams(modality),
            workers=_workers(workers),
            device=_device(device),
            failures=failures,
            progress=_shown(progress, "embed", "clips"),
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
        workers: Decoding processes; one a core by default.
        device: auto, cpu, cuda or cuda:N.
    """
    from seehear.data.loader import Failures
    from seehear.tasks.label import label as label_videos
    from seehear.tasks.label import write_table

    _check_ending(out, ".csv", ".parquet")
    failures = Failures()
    with Progress() as progress:
        table = label_videos(
            run,
            _scanned(run, videos, _streams(modality), progress),
            modality=modality,
            every_seconds=every,
            workers=_workers(workers),
            device=_device(device),
            failures=failures,
            progress=_shown(progress, "label", "clips"),
        )
    write_table(table, Path(out))
    _print_failures(failures)
    clusters = len(set(table["cluster"].to_pylist()))
    print(f"{table.num_rows} segments in {clusters} clusters: {out}")


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
        tasks: dict[str, Any] = {}

        def show(task: str, done: int, total: int) -> None:
            tasks.setdefault(task, _shown(progress, task, "done"))(done, total)

        page = build_report(run, truth=labels, out=out, progress=show)
    print(page)


@app.command
def evaluate(
    what: Annotated[Positional[Literal["clustering", "linear"]], arg(metavar="{clustering,linear}")],
    run: Run,
    /,
    labels: str | None = None,
    data: str | None = None,
    k: int | None = None,
    purity: bool = False,
    baselines: bool = False,
    json: bool = False,
) -> None:
    """Score a finished run against known classes.

    `clustering` compares the run's clusters with classes. `linear` trains a linear classifier on frozen
    features of the training split of --data and tests it on the test split.

    Args:
        what: clustering or linear.
        run: Folder of a finished run.
        labels: clustering: CSV or Parquet with the columns path and label; by default the run's label column.
        data: linear: CSV or Parquet with the columns path, label and split (train, test).
        k: clustering: cluster the run's features anew into so many clusters.
        purity: clustering: list the clusters too, purest first, with their most frequent classes.
        baselines: Score an untrained network too (and, for clusters, raw pixels and spectrograms, and chance).
        json: Print JSON.
    """
    from seehear.tasks.evaluate import evaluate_clustering, evaluate_linear

    if what == "clustering":
        result = evaluate_clustering(run, labels, k=k, baselines=baselines)
        text = _clustering_text(result) + (_purity_text(result) if purity else "")
    else:
        if data is None:
            raise UsageError("a linear classifier needs --data", "give a CSV with the columns path, label and split")
        with Progress() as progress:
            result = evaluate_linear(run, data, baselines=baselines, progress=_shown(progress, "embed", "clips"))
        text = _linear_text(result)
    if json:
        _print_json(result)
    else:
        print(text)


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
    from seehear.tasks.label import open_run

    config = open_run(run).load_config()
    if videos is None:
        return None
    if Manifest.is_manifest(videos):
        return Manifest.load(videos)
    manifest = scan(videos, need=need, min_seconds=config.clip.seconds, progress=_shown(progress, "scan", "files"))
    progress.note(manifest.summary_text())
    return manifest


def _streams(modality: Modality) -> tuple[str, ...]:
    return ("video", "audio") if modality == "both" else (modality,)


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


def _shown(progress: Progress, description: str, unit: str) -> Any:
    """A callback (done, total) that shows a task; the task begins at its first call."""
    begun = False

    def show(done: int, total: int) -> None:
        nonlocal begun
        if not begun:
            progress.start(description, total, unit)
            begun = True
        progress.update(done, total)

    return show


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
    for group, scores in groups.items():
        for modality, score in scores.items():
            cells = "".join(
                f"{score[key]:>10}" if isinstance(score[key], int) else f"{score[key]:>10.3f}" for key, _ in _COLUMNS
            )
            lines.append(f"{(group + ' ' + modality).strip():<20}{cells}")
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


def _linear_text(result: dict[str, Any]) -> str:
    lines = [
        f"linear classifier on frozen features: {result['train_videos']} training videos, {result['test_videos']} "
        f"test videos, {result['clips']} clips a video"
    ]
    lines.append(f"{'':<20}{'accuracy':>10}" + (f"{'untrained':>12}" if "untrained" in result else ""))
    for modality, accuracy in result["accuracy"].items():
        untrained = f"{result['untrained'][modality]:>12.3f}" if "untrained" in result else ""
        lines.append(f"{modality:<20}{accuracy:>10.3f}{untrained}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
