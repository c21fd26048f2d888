"""Localisation: where in untrimmed videos actions are, by G-TAD on frozen features.

`annotations` reads ActivityNet's and THUMOS14's forms, `settings` has whole settings by name, `gtad` is the network and
its loss, `localizer` makes targets and detects, `training` trains, `metrics` scores (tIoU, Soft-NMS, mAP), `pictures`
draws, `run` does it from end to end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from seehear.commands import command, plain
from seehear.localization import text
from seehear.options import Device, File, Modality, OutFile, Run, Settings, Videos, option

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

    LocalizerFolder = str | Path
else:
    LocalizerFolder = Annotated[Positional[str], option("Folder that `seehear localize` made.", metavar="LOCALISER")]


@command(
    "localize",
    group="use",
    example="seehear localize runs/a --data annotations.json --out runs/a-loc",
    text=text.of_localizer,
    as_json=plain,
)
def localize(
    run: Run,
    data: File,
    out: File,
    *,
    videos: OutFile = None,
    modality: Modality = "both",
    recipe: str = "small",
    stride: float | None = None,
    epochs: int | None = None,
    seed: int | None = None,
    settings: Annotated[Settings, arg(metavar="FIELD=VALUE")] = (),
    train_subset: str | None = None,
    test_subset: str | None = None,
    baselines: bool = False,
    device: Device = "auto",
) -> dict[str, Any]:
    """Learn where in untrimmed videos actions are (G-TAD on frozen features), and score it on the test subset.

    A file belongs to the video of its name without ending, "v_" before it or not. The folder `out` gets the localiser
    with its encoders and, if there is a test subset, `detections.json`, `scores.json` and `timeline.svg`.

    Returns `scores`: for the modality and each setting ("mAP@0.3", ..., "mAP@0.3:0.7", "mAP@0.5:0.95") a `value` with
    the ends `low` and `high` of a 95 % bootstrap interval over test videos; `chosen`, what was chosen within the
    training subset; counts of videos and segments, `missing` and `failures`. The run keeps it in its `evaluations/`.

    Args:
        data: thumos14:FOLDER with the annotations of THUMOS14, or a JSON file in ActivityNet's form.
        out: Folder of the new localiser: for `seehear detect`, with detections, scores and a picture.
        videos: Folder of the videos, or a manifest of `seehear scan`; by default where the annotations are.
        modality: Whose features are used.
        recipe: The settings to start from: small (for few videos), gtad-thumos or gtad-activitynet (the published
            code).
        stride: Seconds from one feature to the next (small: 0.5); short for --set stride_seconds=S.
        epochs: Passes over the videos at most (small: 20); short for --set epochs=N.
        seed: Seed of every random choice; short for --set seed=N.
        settings: Change a setting of the localiser; may be given often.
        train_subset: Subset to learn from; training of ActivityNet, validation of THUMOS14.
        test_subset: Subset to be scored on; validation of ActivityNet, test of THUMOS14.
        baselines: Score an untrained network, and sliding windows without G-TAD, too.

    Raises:
        UsageError: a recipe, setting, subset or modality that there is not, or something is in `out` already.
        DataError: annotations that cannot be read, or no video of theirs that can be used.
    """
    from seehear.localization.run import localize as learn
    from seehear.localization.settings import localizer_settings
    from seehear.transfer import evaluations

    short = (("stride_seconds", stride), ("epochs", epochs), ("seed", seed))
    chosen = localizer_settings([*settings, *(f"{name}={value}" for name, value in short if value is not None)], recipe)
    result = learn(
        run, data, out, videos=videos, modality=modality, settings=chosen, train_subset=train_subset,
        test_subset=test_subset, baselines=baselines, device=device,
    )  # fmt: skip
    if result["scores"]:
        options = {
            "videos": None if videos is None else evaluations.absolute(videos),
            "modality": None if modality == "both" else modality,
            "recipe": None if recipe == "small" else recipe,
            "stride": stride,
            "epochs": epochs,
            "seed": seed,
            "set": list(settings),
            "train_subset": train_subset,
            "test_subset": test_subset,
        }
        evaluations.save(run, "localization", result, data=data, options=options)
    return result


@command(
    "detect",
    group="use",
    example="seehear detect runs/a-loc VIDEOS --out segments.csv",
    text=text.of_detections,
    python_only=("failures",),
    required=("out",),
)
def detect(
    localizer: LocalizerFolder,
    videos: Videos,
    *,
    out: OutFile = None,
    top: int = 20,
    device: Device = "auto",
    failures: list[dict[str, Any]] | None = None,
) -> pa.Table:
    """Find actions in videos: start, end, class and score of each.

    Args:
        out: A .csv or .parquet file: video, start, end, label, score; or a .json file in ActivityNet's form.
        top: Detections of each video that are kept.
        failures: Takes the reports of videos that fail.

    Raises:
        DataError: no video can be used.
    """
    from seehear.localization.run import detect_and_write

    return detect_and_write(localizer, videos, out=out, top=top, device=device, failures=failures)
