"""Files of weights, read without running anything that is in them."""

from __future__ import annotations

import re
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from seehear.errors import DataError
from seehear.hashes import sha256_of


def read_weight_file(path: Path) -> object:
    """What a `.safetensors` file holds, or one written by `torch.save`; `DataError` if it cannot be read safely."""
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)


def verified_sha256(path: Path) -> str:
    """The SHA-256 of a file; `DataError` if its name states another: see `read_checkpoint`."""
    digest = sha256_of(path)
    stated = re.search(r"-([0-9a-f]{8,64})$", path.stem)
    if stated and not digest.startswith(stated[1]):
        raise DataError(
            f"{path}: the SHA-256 should start with {stated[1]}, as the name says, and is {digest}",
            "download the file again; if the end of its name is not a checksum, rename it",
        )
    return digest


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise DataError(f"{path} is not a readable safetensors file: {error}") from error


class SetAside:
    """Stands for an object of a checkpoint that nothing is made of: keeps what it was given, and does nothing."""

    def __init__(self, *given: object) -> None:
        self.given = given


# A GDT file holds the state of its learning-rate schedule, and in it the schedule that follows the warm-up, whole, with
# its optimiser. None of these classes is loaded: an inert object takes the place of each.
_SET_ASIDE = (
    "torch.optim.lr_scheduler.MultiStepLR",
    "torch.optim.lr_scheduler.CosineAnnealingLR",
    "torch.optim.sgd.SGD",
    "torch.optim.adam.Adam",
)


def _plain_dict(*_: object) -> dict[Any, Any]:
    """In place of a `defaultdict`, which calls what it was given."""
    return {}


def _read_pickle(path: Path) -> object:
    # GDT keeps its command line in the file. A Namespace only holds values, so it can do no harm, nor can `dict`.
    allowed: list[Any] = [Namespace, dict, (_plain_dict, "collections.defaultdict")]
    allowed += [(SetAside, name) for name in _SET_ASIDE]
    try:
        with torch.serialization.safe_globals(allowed):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes the readers raise almost anything
        # torch's own message is left out: it advises to load the file without the guard.
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if refused:
            raise DataError(
                f"{path} asks for {refused[1]}: more than tensors and plain values, refused and not run",
                "save its state dict alone, or as safetensors, where the file is trusted",
            ) from error
        raise DataError(f"{path} is damaged or no checkpoint ({type(error).__name__})") from error
