"""Where the folder of a model lies: at a path, or in the hub's cache on this machine; and fetching it, if asked to."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from seehear.errors import DataError, UsageError

_ID = re.compile(r"[\w.-]+/[\w.-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_LICENCE = re.compile(r"^license(?:_name)?:\s*(.+?)\s*$", re.MULTILINE)
_FETCHED = ["*.json", "*.safetensors", "README.md", "LICENSE*"]
"""What is fetched: no code, no pickles."""


def check_installed() -> None:
    """Raise `UsageError` if `transformers`, which brings the hub's library, is not there."""
    if find_spec("transformers") is None:
        raise UsageError("hf: needs the package transformers", "python -m pip install 'seehear[encoders]'")


def located(place: str) -> tuple[Path, dict[str, Any]]:
    """The folder that a path, or an id with or without @REVISION, means, and where it is from. No network is used.

    Raises `UsageError` if there is no such folder, and no such id in the cache.
    """
    if Path(place).is_dir():
        return Path(place), {"from": Path(place).resolve().name, "revision": None}
    name, revision = _id_of(place)
    from huggingface_hub import constants

    cached = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"
    commit: str | None = revision
    if not _COMMIT.fullmatch(revision or ""):
        ref = cached / "refs" / (revision or "main")
        commit = ref.read_text().strip() if ref.is_file() else None
    folder = cached / "snapshots" / (commit or "")
    if commit is None or not folder.is_dir():
        raise UsageError(
            f"hf:{place} is neither a folder nor in the hub's cache on this machine, and nothing is fetched unasked",
            f"seehear encoders fetch hf:{name}@{revision or 'REVISION'}",
        )
    return folder, {"from": name, "revision": commit}


def fetched(place: str) -> dict[str, Any]:
    """Fetch the model of an id into the hub's cache: configurations and weights in safetensors, nothing that runs.

    Returns `spec`, pinned to a commit, `folder` and `bytes`.

    Raises:
        UsageError: the place is no id.
        DataError: the hub has no such model, does not give it, cannot be reached, or has no safetensors of it.
    """
    name, revision = _id_of(place)
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        commit = revision if _COMMIT.fullmatch(revision or "") else HfApi().model_info(name, revision=revision).sha
        folder = Path(snapshot_download(name, revision=commit, allow_patterns=_FETCHED, ignore_patterns=["*/*"]))
    except GatedRepoError as error:
        raise DataError(
            f"the hub gives {name} only to those who accepted its terms",
            "accept them on its page, then `hf auth login`",
        ) from error
    except RevisionNotFoundError as error:
        raise DataError(f"the hub has {name}, but not its revision {revision}", "its page lists them") from error
    except RepositoryNotFoundError as error:
        raise DataError(f"the hub has no model {name}, or does not show it to you", "is the name right?") from error
    except Exception as error:  # of the network, of the hub, of the disk: they have no class in common
        first = " ".join(str(error).split())[:300]
        raise DataError(
            f"{name} cannot be fetched: {first}", "is there a network? HF_ENDPOINT names a mirror of the hub"
        ) from error
    if not any(folder.glob("*.safetensors")):
        raise DataError(
            f"{name} at {commit} has no weights in safetensors, and pickles are not fetched", "take another revision"
        )
    size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    return {"spec": f"hf:{name}@{commit}", "folder": str(folder), "bytes": size}


def licence_of(folder: Path) -> str | None:
    """The licence that the head of a folder's README states."""
    try:
        text = (folder / "README.md").read_text(errors="replace")
    except OSError:
        return None
    head = text.split("---")[1] if text.startswith("---") and text.count("---") > 1 else ""
    found = _LICENCE.findall(head)
    return found[-1].strip("\"'") if found else None


def _id_of(place: str) -> tuple[str, str | None]:
    """The id and the revision of a place."""
    name, _, revision = place.partition("@")
    if not _ID.fullmatch(name):
        raise UsageError(f"there is no folder {place}", "give the folder of a model, or an id of the hub: OWNER/NAME")
    return name, revision or None
