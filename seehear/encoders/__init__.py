"""Encoders of others: any network that makes features of frames or of sound, as an encoder that methods build on.

A specification names one: `KIND:PLACE`. A kind is one file with one class (`base.ForeignEncoder`).
"""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, cast

from seehear.errors import RunError, UsageError

if TYPE_CHECKING:
    from seehear.encoders.base import ForeignEncoder

# Kind: the module and the class that opens it, imported when it is asked for.
_KINDS = {
    "run": ("seehear.encoders.of_run", "RunEncoder"),
}
KINDS = tuple(_KINDS)


def split_spec(spec: str) -> tuple[str, str]:
    """The kind and the place of a specification.

    Raises `UsageError` if it is none.
    """
    kind, colon, place = spec.partition(":")
    if not colon or kind not in _KINDS or not place:
        raise UsageError(
            f"{spec!r} names no encoder", f"write KIND:PLACE, as in run:runs/a; kinds are {', '.join(KINDS)}"
        )
    return kind, place


def without_place(spec: str | None) -> str | None:
    """A specification that says nothing of a machine: of a path its last part alone."""
    if spec is None:
        return None
    kind, _, place = spec.partition(":")
    return f"{kind}:{Path(place).name if Path(place).exists() or Path(place).is_absolute() else place}"


def open_encoder(spec: str, modality: str) -> ForeignEncoder:
    """The encoder that a specification names, in evaluation mode.

    Raises:
        UsageError: the specification names none, or a package that its kind needs is not installed.
        DataError: what it names is no encoder of this modality.
    """
    kind, place = split_spec(spec)
    encoder = _class_of(kind).open(place, modality)
    return encoder.eval()


def read_encoder(folder: Path) -> ForeignEncoder:
    """The encoder that `ForeignEncoder.write` wrote into a folder, in evaluation mode.

    Raises `RunError` if there is none.
    """
    from seehear.encoders.base import ENCODER

    try:
        description = json.loads((folder / ENCODER).read_text())
        kind = _class_of(description["kind"])
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"{folder} holds no encoder: {error}", "take the run from a copy, or train it anew") from error
    return kind.restore(folder, description).eval()


def _class_of(kind: str) -> type[ForeignEncoder]:
    module, name = _KINDS[kind]
    return cast("type[ForeignEncoder]", getattr(import_module(module), name))
