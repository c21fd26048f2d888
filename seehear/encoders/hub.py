"""Where the folder of a model lies: at a path, or in the hub's cache on this machine. Nothing is fetched unasked."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from seehear.errors import UsageError

_ID = re.compile(r"[\w.-]+/[\w.-]+")
REVISION = re.compile(r"[0-9a-f]{40}")
_LICENCE = re.compile(r"^license:\s*(.+?)\s*$", re.MULTILINE)


def located(place: str) -> tuple[Path, dict[str, Any]]:
    """The folder that a path, or an id with or without @REVISION, means, and where it is from.

    Raises `UsageError` if there is no such folder, and no such id in the cache.
    """
    if Path(place).is_dir():
        return Path(place), {"from": place, "revision": None}
    name, _, revision = place.partition("@")
    if not _ID.fullmatch(name):
        raise UsageError(f"there is no folder {place}", "give the folder of a model, or an id as in hf:google/vit@main")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, revision=revision or None, local_files_only=True))
    except (LocalEntryNotFoundError, HfHubHTTPError, ValueError, OSError) as error:
        raise UsageError(
            f"hf:{place} is neither a folder nor in the hub's cache on this machine, and nothing is fetched unasked",
            f"seehear encoders fetch hf:{name}@{revision or 'REVISION'}",
        ) from error
    return folder, {"from": name, "revision": folder.name}


def licence_of(folder: Path) -> str | None:
    """The licence that the head of a folder's README states."""
    try:
        text = (folder / "README.md").read_text(errors="replace")
    except OSError:
        return None
    head = text.split("---")[1] if text.startswith("---") and text.count("---") > 1 else ""
    found = _LICENCE.search(head)
    return found.group(1).strip("\"'") if found else None
