"""From a folder to batches: the table of videos, clips and their views, data sets, the cache, the loader."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seehear.commands import command
from seehear.options import EngineName, MediaSource, Modality, OutFile, PartOf, Workers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from seehear.data.manifest import Manifest


def _text(manifest: Manifest, given: Mapping[str, Any]) -> str:
    out, part = given["out"], given["part"]
    if part is not None:
        return f"{manifest.summary_text()}\npart {part} is done; when all are: seehear join {out}"
    return f"{manifest.summary_text()}\n" + (f"manifest: {out}" if out else "give --out clips.parquet to keep this")


@command(
    "scan",
    group="start",
    example="seehear scan VIDEOS --out clips.parquet",
    text=_text,
    as_json=lambda manifest: manifest.summary(),
    stopped="nothing was written: give the same command again",
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
    part: PartOf = None,
    engine: EngineName = "local",
) -> Manifest:
    """Probe every video once: which can be used, and why not the others.

    Over many machines: by parts, or by an engine. The manifest of a part is that of its files, copies not yet marked.

    Args:
        out: Write the manifest to this Parquet file; a second scan into it probes only what changed.
        modality: Streams without which a file is of no use.
        min_seconds: Videos shorter than this are rejected; the recipes' clips have two seconds of sound.
        audio_track: Number of the sound track to take of every file, from 0; by default the one marked as default, or
            the first, unless it is silent and another is not.
        strict: Fail if a single file cannot be used.

    Raises:
        DataError: the source cannot be read or names no media file; with `strict`, a file that cannot be used; parts of
            other files or settings are there.
    """
    from seehear.data.scan_parts import scan_in_parts
    from seehear.data.scanning import scan as look
    from seehear.files import check_ending
    from seehear.modalities import STREAMS_OF
    from seehear.parts import part_asked
    from seehear.progress import Progress

    check_ending(out, ".parquet")
    asked = part_asked(part, engine, out)
    with Progress(quiet=None) as progress:
        options: dict[str, Any] = {
            "need": STREAMS_OF[modality], "min_seconds": min_seconds, "workers": workers, "strict": strict,
            "audio_track": audio_track, "progress": progress.shown("scan", "files"),
        }  # fmt: skip
        if asked is None and engine == "local":
            return look(videos, out=out, **options)
        assert out is not None
        return scan_in_parts(videos, out, part=asked, engine=engine, **options)
