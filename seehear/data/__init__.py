"""From a folder to batches: the table of videos, clips and their views, data sets, the cache, the loader."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seehear.commands import command
from seehear.options import MediaSource, Modality, OutFile, Workers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from seehear.data.manifest import Manifest


def _text(manifest: Manifest, given: Mapping[str, Any]) -> str:
    out = given["out"]
    return f"{manifest.summary_text()}\n" + (f"manifest: {out}" if out else "give --out clips.parquet to keep this")


@command(
    "scan",
    group="start",
    example="seehear scan VIDEOS --out clips.parquet",
    text=_text,
    as_json=lambda manifest: manifest.summary(),
)
def scan(
    videos: MediaSource,
    *,
    out: OutFile = None,
    modality: Modality = "both",
    min_seconds: float = 2.0,
    audio_track: int | None = None,
    workers: Workers = None,
    strict: bool = False,
) -> Manifest:
    """Probe every video once: which can be used, and why not the others.

    Args:
        out: Write the manifest to this Parquet file; a second scan into it probes only what changed.
        modality: Streams without which a file is of no use.
        min_seconds: Videos shorter than this are rejected; the recipes' clips have two seconds of sound.
        audio_track: Number of the sound track to take of every file, from 0; by default the one marked as default, or
            the first, unless it is silent and another is not.
        strict: Fail if a single file cannot be used.

    Raises:
        DataError: the source cannot be read or names no media file; with `strict`, a file that cannot be used.
    """
    from seehear.data.scanning import scan as look
    from seehear.files import check_ending
    from seehear.modalities import STREAMS_OF
    from seehear.progress import Progress

    check_ending(out, ".parquet")
    with Progress(quiet=None) as progress:
        return look(
            videos, out=out, need=STREAMS_OF[modality], min_seconds=min_seconds, workers=workers, strict=strict,
            audio_track=audio_track, progress=progress.shown("scan", "files"),
        )  # fmt: skip
