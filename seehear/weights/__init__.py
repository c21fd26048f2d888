"""Weights: published encoders made into runs, and a run's encoders written for use elsewhere.

`reading` makes a model of files, `description` puts a model in plain values, `showing`, `importing` and `exporting` are
the commands, `formats` the files that are written, `modelcard` the README of a hub folder.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, UseAppendAction, arg

from seehear.commands import command, plain
from seehear.options import File, Modality, OutFile, Settings, Workers, option
from seehear.weights import text

Format = Literal["safetensors", "hub", "torchvision", "torch-export", "onnx"]

if TYPE_CHECKING:
    from seehear.data.manifest import Manifest

    Source = str | Path
    Statistics = str | Path | Manifest | None
    Ignore = Iterable[str]
else:
    Source = Annotated[Positional[str], option("A checkpoint file, a model folder or a run.", metavar="FILE|RUN")]
    Statistics = Annotated[str | None, arg(metavar="VIDEOS")]
    Ignore = Annotated[
        UseAppendAction[tuple[str, ...]],
        option("A key that the file may hold beyond its layout (with *); may be given often.", metavar="KEY"),
    ]

AudioWeights = Annotated[OutFile, option("Take the audio encoder from this file.")]


@command(
    "weights show",
    group="use",
    example="seehear weights show xdc.pth",
    text=lambda told, _: text.weights_text(told),
    as_json=plain,
)
def show_weights(source: Source, *, audio_weights: AudioWeights = None, ignore: Ignore = ()) -> dict[str, Any]:
    """Say what a file of weights, a model folder or a run holds.

    Raises:
        DataError: a file is damaged, unknown, or does not fit its layout; the message names every key.
    """
    from seehear.weights.showing import show_weights as show

    return show(source, audio_weights=audio_weights, ignore=tuple(ignore))


@command(
    "weights import",
    group="use",
    example="seehear weights import xdc.pth --out runs/xdc",
    text=text.of_import,
    as_json=plain,
)
def import_weights(
    source: Source,
    out: File,
    *,
    modality: Modality = "both",
    audio_weights: AudioWeights = None,
    statistics: Statistics = None,
    settings: Annotated[
        Settings, option("Change the preprocessing, such as clip.frames=8; may be given often.", name="set")
    ] = (),
    ignore: Ignore = (),
    workers: Workers = None,
) -> dict[str, Any]:
    """Make published or exported weights into a folder that commands take as a run; it appears whole or not at all.

    Returns what `show_weights` says of the folder.

    Args:
        out: The new folder.
        modality: Import the encoder of this modality alone.
        statistics: Videos to measure the normalisation on that the settings leave open, or a statistics.json.

    Raises:
        DataError: as `show_weights`, and if no video can be used.
        UsageError: what is asked for is not in the file; a setting is wrong, or asks for `statistics`.
        RunError: there is something in `out`.
    """
    from seehear.data.loader import worker_count
    from seehear.progress import Progress
    from seehear.weights.importing import import_weights as import_them

    with Progress(quiet=None) as progress:
        return import_them(
            source, out, audio_weights=audio_weights, modality=modality, statistics=statistics,
            settings=tuple(settings), ignore=tuple(ignore), workers=worker_count(workers),
            progress=progress.shown("scan", "files"),
        )  # fmt: skip


@command(
    "weights export",
    group="use",
    example="seehear weights export runs/a --format onnx --modality video --out video.onnx",
    text=text.of_export,
    as_json=plain,
)
def export_weights(
    source: Source, out: File, *, format: Format, modality: Literal["video", "audio"] | None = None
) -> dict[str, Any]:
    """Write a run's model, or one of its encoders, for use elsewhere, and compare it with its source.

    Returns `format`, `out`, `encoders` (their names), `max_difference` of the features from those of the source, and
    for a single encoder `input` and `output`, their shapes.

    Args:
        out: The file or folder to write; it must not exist.
        format: safetensors or hub (a folder), torchvision, torch-export or onnx (a file).
        modality: Export the encoder of this modality, or for a folder what this modality alone needs.

    Raises:
        RunError: the run is not finished.
        UsageError: the encoder cannot be had in this format, it is not clear which one is meant, or `out` exists.
    """
    from seehear.weights.exporting import export_weights as export

    return export(source, out, format=format, modality=modality)
