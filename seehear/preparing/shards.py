"""Tar shards of copies: `KEY.json` and `KEY.mp4` of each, one after the other, as the package webdataset reads them.

The same copies in the same order give the same bytes. A shard gets its name when it is whole.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from seehear.errors import DataError
from seehear.files import sync_folder, whole_file, writing
from seehear.media.packed import Packed

_PLAIN = re.compile(r"[\w -]+")


@dataclass(frozen=True)
class Sample:
    """A copy and what is said of it."""

    key: str
    note: bytes
    """JSON."""
    copy: Path
    """The MP4, on disk."""


@dataclass(frozen=True)
class Member:
    """A copy in a shard."""

    key: str
    note: bytes
    place: Packed


def key_of(video_id: str) -> str:
    """The name of a copy without its ending: the id's own where that is plain, else made so and told apart by a hash.

    webdataset takes all up to the first dot of the last part for a sample's name. Raises nothing.
    """
    parts = PurePosixPath(video_id).parts
    stem = parts[-1].removesuffix(".mp4")
    names = [*parts[:-1], stem]
    plain = parts[-1] != stem and all(_PLAIN.fullmatch(name) and len(os.fsencode(name)) <= 200 for name in names)
    if plain:
        return "/".join(names)
    digest = hashlib.blake2b(video_id.encode("utf-8", "surrogateescape"), digest_size=4).hexdigest()
    safe = [re.sub(r"[^\w -]", "_", name) or "_" for name in (*parts[:-1], parts[-1])]
    kept = [name.encode()[:180].decode("utf-8", "ignore") for name in safe]
    return "/".join([*kept[:-1], f"{kept[-1]}-{digest}"])


def write_shard(path: Path, samples: Sequence[Sample]) -> None:
    """Write a shard, whole or not at all. Raises `DestinationError`."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as shard, tarfile.open(fileobj=shard, mode="w", format=tarfile.GNU_FORMAT) as tar:
            for sample in samples:
                tar.addfile(_header(f"{sample.key}.json", len(sample.note)), io.BytesIO(sample.note))
                with open(sample.copy, "rb") as file:
                    tar.addfile(_header(f"{sample.key}.mp4", os.fstat(file.fileno()).st_size), file)
        sync_folder(path.parent)


def _header(name: str, size: int) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.size = size
    return header


def read_shard(path: Path) -> list[Member]:
    """The copies of a shard in their order. Raises `DataError` if it is damaged."""
    found: list[Member] = []
    notes: dict[str, bytes] = {}
    size = path.stat().st_size
    try:
        with tarfile.open(path, "r:") as tar:
            for header in tar:
                key, _, ending = header.name.rpartition(".")
                if header.offset_data + header.size > size:
                    raise tarfile.ReadError("it ends before its last file does")
                if ending == "json":
                    file = tar.extractfile(header)
                    notes[key] = b"" if file is None else file.read()
                elif ending == "mp4":
                    place = Packed(str(path), header.offset_data, header.size, f"{PurePosixPath(key).name}.mp4")
                    found.append(Member(key, notes.pop(key, b""), place))
    except (tarfile.TarError, OSError) as error:
        raise DataError(
            f"the shard {path} is damaged: {error}", "give the same `seehear prepare` command again"
        ) from error
    return found
