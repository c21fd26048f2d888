"""SHA-256 of the files of a folder, kept beside them, so that a changed one is not used without a word.

`hashes.json` maps names of files to 64 hexadecimal digits. A folder without one, as earlier versions wrote them, is
taken as it is. Small files are hashed whenever they are read. A large one that was found right is not read again while
its size, its times and its inode stay the same: the verdict lies in the user's cache folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path

from seehear.errors import RunError
from seehear.files import user_cache_folder, write_atomic
from seehear.progress import Progress

HASHES = "hashes.json"
REMEMBERED_BYTES = 64 * 2**20
"""Verdicts on files from this size on are kept: hashing them takes more than a moment."""
PATIENCE_SECONDS = 1.0
_CHUNK_BYTES = 8 * 2**20


def sha256_of(path: Path) -> str:
    """SHA-256 of a file in hexadecimal. Once it takes `PATIENCE_SECONDS`, it is said what is being done."""
    digest, started, said = hashlib.sha256(), time.monotonic(), False
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            if not said and time.monotonic() - started > PATIENCE_SECONDS:
                gib = path.stat().st_size / 2**30
                Progress(quiet=None).note(f"checking {path} ({gib:.1f} GiB)")
                said = True
    return digest.hexdigest()


def write_hashes(folder: Path, names: Iterable[str]) -> None:
    """Write `hashes.json` for these files of a folder, once they are durable."""
    hashes = {}
    for name in names:
        with open(folder / name, "rb") as file:
            os.fsync(file.fileno())
        hashes[name] = sha256_of(folder / name)
    write_atomic(folder / HASHES, json.dumps(hashes, indent=1))


def check_hashes(folder: Path, names: Iterable[str] | None = None) -> None:
    """Compare the files of a folder, or those of these `names`, with its `hashes.json`, if there is one.

    A file that is missing is left to who reads it.

    Raises:
        RunError: a file is not the one that was written, or `hashes.json` itself is damaged.
    """
    path = folder / HASHES
    if not path.is_file():
        return
    remedy = (
        f"take {folder} from a copy, or make it again (train, import or export); "
        f"if you changed it on purpose, delete {path}"
    )
    try:
        stated = {str(name): str(digest) for name, digest in json.loads(path.read_bytes()).items()}
    except (OSError, ValueError, AttributeError) as error:
        raise RunError(f"{path} is damaged: {error}", remedy) from error
    for name, digest in stated.items():
        if (names is not None and name not in names) or not (folder / name).is_file():
            continue
        if not _is(folder / name, digest):
            raise RunError(
                f"{folder / name} is damaged: its content is not what was written (SHA-256, {path.name})", remedy
            )


def _is(path: Path, digest: str) -> bool:
    """Whether a file has this SHA-256; a large one that had it and has not been touched since is not read."""
    status = path.stat()
    if status.st_size < REMEMBERED_BYTES:
        return sha256_of(path) == digest
    state = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev, digest]
    name = hashlib.blake2b(os.fsencode(path.resolve()), digest_size=16).hexdigest()
    verdict = user_cache_folder() / "checked" / f"{name}.json"
    with contextlib.suppress(OSError, ValueError):
        if json.loads(verdict.read_bytes()) == state:
            return True
    right = sha256_of(path) == digest
    if right:
        with contextlib.suppress(OSError):  # no place to keep it: it is checked again the next time
            verdict.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(verdict, json.dumps(state))
    return right
