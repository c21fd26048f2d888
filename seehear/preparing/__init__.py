"""Small copies of videos that decode fast, as files or in shards; training from them is training from a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from seehear.commands import command
from seehear.errors import UsageError
from seehear.options import EngineName, Modality, PartOf, Videos, Where, Workers, option
from seehear.preparing.text import as_text

if TYPE_CHECKING:
    from pathlib import Path

    from seehear.parts import Written
    from seehear.preparing.run import Preparation

    Out = str | Path
else:
    Out = Annotated[str, option("Folder of the copies; the same command goes on with one that was stopped.")]

SHARD_MB = 512
"""Size of a shard where none is given."""


@command(
    "prepare",
    group="start",
    example="seehear prepare VIDEOS --out prepared/ --short-side 128",
    text=as_text,
    as_json=lambda preparation: preparation.summary(),
    stopped="copies that are made are kept: the same command goes on",
)
def prepare(
    videos: Videos,
    *,
    out: Out,
    short_side: int = 128,
    fps: float = 30.0,
    keyframes: int = 30,
    audio_rate: int = 24000,
    modality: Modality = "both",
    shards: bool = False,
    shard_mb: int | None = None,
    where: Where = (),
    min_seconds: float = 2.0,
    audio_track: int | None = None,
    workers: Workers = None,
    timeout: float = 3600.0,
    verify: bool = False,
    part: PartOf = None,
    engine: EngineName = "local",
) -> Preparation | Written:
    """Copy videos once, small and quick to decode (H.264 and mono AAC in MP4), and say what became of each.

    Give the folder of copies to every other command in place of the videos; the copies keep the ids of their originals,
    and the columns of a table. Stopped at any time, the same command goes on. Over many machines, by parts or an
    engine: that needs a manifest of the videos.

    Args:
        short_side: Pixels of the shorter side, an even number: at least the recipe's clip.short_side_px. Nothing is
            made larger than it is.
        fps: The most frames a second; a video with a lower constant rate keeps it.
        keyframes: A keyframe at least every so many frames: where decoding can begin.
        audio_rate: Samples of sound a second: the recipe's clip.sample_rate_hz.
        modality: Streams that are kept, and without which a file is of no use.
        shards: Gather the copies in tar shards, which webdataset reads too, with an index.
        shard_mb: Megabytes of copies in a shard (default 512).
        min_seconds: Videos shorter than this are rejected, as by `seehear scan`.
        audio_track: Number of the sound track to take of every file, from 0; see `seehear scan`.
        timeout: Seconds after which a video is given up.
        verify: Read all copies that are there, also those whose size and time are as they were left.

    Raises:
        UsageError: an option is wrong, or `out` holds something else.
        DataError: the source cannot be read, or nothing of it can be prepared.
    """
    from seehear.media.recoding import Recoding
    from seehear.modalities import STREAMS_OF
    from seehear.parts import part_asked
    from seehear.preparing.run import prepare as run
    from seehear.progress import Progress

    if shard_mb is not None and not shards:
        raise UsageError("--shard-mb is the size of shards, and none are made", "add --shards")
    shard_bytes = (SHARD_MB if shard_mb is None else shard_mb) * 1_000_000 if shards else None
    recoding = Recoding(short_side, fps, keyframes, audio_rate, tuple(STREAMS_OF[modality]))
    asked = part_asked(part, engine, out)
    with Progress(quiet=None) as progress:
        if asked is not None or engine == "ray":
            from seehear.preparing.in_parts import prepare_in_parts

            return prepare_in_parts(
                videos, out, recoding, part=asked, engine=engine, shard_bytes=shard_bytes, where=list(where),
                workers=workers, timeout_seconds=timeout, verify=verify, shown=progress.tasks("files"),
            )  # fmt: skip
        return run(
            videos, out, recoding, shard_bytes=shard_bytes, where=list(where), min_seconds=min_seconds,
            audio_track=audio_track, workers=workers,
            timeout_seconds=timeout, verify=verify, shown=progress.tasks("files"),
        )  # fmt: skip
