"""`export:FILE.pt2`: an encoder as a program of `torch.export`."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from safetensors.torch import save as safetensors_bytes
from torch import Tensor, nn

from seehear.encoders import place_alone
from seehear.encoders.stated import Given, StatedEncoder, blank, feature_of, given_by, in_turns, split_options
from seehear.errors import DataError, RunError, UsageError
from seehear.files import copy_file, write_atomic
from seehear.progress import without_remarks

_FILE, _TUNED = "encoder.pt2", "tuned.safetensors"
_RUNNING = ("custom_obj_", "opaque_obj_")  # what torch unpickles without any check, by the names of its files


class ProgramEncoder(StatedEncoder):
    """A program of `torch.export`. It can be tuned if gradients pass through it.

    It was traced once and for all, as a rule for inference: its dropout and batch norm stay as they were then, in
    training too.
    """

    kind = "export"

    def __init__(self, file: Path, program: Any, given: Given, pool: str | None, origin: str) -> None:
        super().__init__()
        self.file, self.given, self.pool, self.origin = file, given, pool, origin
        self.modality = given.modality  # type: ignore[assignment]
        self.wanted = given.wanted
        self.batch = _inputs(program)[0][0]
        self.network = _as_traced(program.module())
        with torch.no_grad():
            self.feature_dim = self(blank(given, 1)).shape[-1]
        self.trainable = self._passes_gradients()
        self.requires_grad_(self.trainable)
        self._opened_with = self.weights_digest()

    @classmethod
    def open(cls, place: str, modality: str) -> ProgramEncoder:
        """The encoder of a modality in a file, with what its specification states.

        Raises:
            UsageError: there is no such file, or something must be stated.
            DataError: the file is no program with one input and one output, could run code, or is of another modality.
        """
        path, options = split_options(place, "export")
        source = f"export:{path}"
        if "output" in options:
            raise UsageError(f"output cannot be stated of {source}", "export the part that makes the feature")
        program, facts = _loaded(path)
        shape, outputs = _inputs(program)
        if outputs != 1:
            raise DataError(f"{source} has {outputs} outputs, not one", "export the part that makes the feature")
        given = given_by(facts, options, modality, shape, source)
        return cls(path, program, given, options.get("pool"), place_alone("export", place))

    def _passes_gradients(self) -> bool:
        """Whether a gradient reaches a weight."""
        parameters = [p.requires_grad_() for p in self.network.parameters()]
        with torch.inference_mode(False), torch.enable_grad():
            made = self(blank(self.given, 1) + 0.5)
        if not parameters or not made.requires_grad:
            return False
        found = torch.autograd.grad(made.square().sum(), parameters, allow_unused=True)
        return any(grad is not None for grad in found)

    def run(self, x: Tensor) -> Tensor:
        def features_of(part: Tensor) -> Tensor:
            found = self.network(part)
            found = found[0] if isinstance(found, (tuple, list)) else found
            return feature_of(found, self.pool, f"export:{self.origin}")

        return in_turns(x, self.batch, features_of)

    def preprocessing(self) -> dict[str, Any]:
        return {**self.given.to_dict(), "pool": self.pool}

    def description(self) -> dict[str, Any]:
        return {"from": self.origin, "given": self.given.to_dict(), "pool": self.pool}

    def write_files(self, folder: Path) -> None:
        copy_file(self.file, folder / _FILE)
        (folder / _TUNED).unlink(missing_ok=True)
        if self.weights_digest() != self._opened_with:
            tensors = {name: x.detach().cpu().contiguous() for name, x in self.network.state_dict().items()}
            write_atomic(folder / _TUNED, safetensors_bytes(tensors))

    @classmethod
    def restore(cls, folder: Path, description: dict[str, Any]) -> ProgramEncoder:
        program, _ = _loaded(folder / _FILE)
        given = Given.from_dict(description["given"])
        encoder = cls(folder / _FILE, program, given, description["pool"], description["from"])
        if (folder / _TUNED).exists():
            try:
                encoder.network.load_state_dict(load_file(folder / _TUNED))
            except (OSError, RuntimeError) as error:
                raise RunError(f"{folder / _TUNED} does not fit its program: {error}") from error
        return encoder


def _loaded(path: Path) -> tuple[Any, dict[str, Any] | None]:
    """The program of a file, and what seehear wrote into it. Raises `DataError` if it is none or could run code."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if not any(name.endswith("/archive_format") for name in names):
                raise DataError(f"export:{path} is of an early kind", "export it again with torch 2.8 or newer")
            _check_harmless(archive, path)
            facts = next((archive.read(name) for name in names if name.endswith("/extra/seehear.json")), None)
        with without_remarks("torch.export"):
            program = torch.export.load(path)
    except (OSError, zipfile.BadZipFile, RuntimeError, KeyError, ValueError) as error:
        first = str(error).strip().partition("\n")[0]
        raise DataError(f"export:{path} is no program of torch.export that can be read: {first}") from error
    return program, None if facts is None else json.loads(facts)


def _check_harmless(archive: zipfile.ZipFile, path: Path) -> None:
    """`torch.export.load` unpickles some of what it finds: all of that must be what `weights_only` lets through."""
    names = archive.namelist()
    if len(set(names)) != len(names):  # which of two is read depends on who reads
        raise DataError(f"export:{path} holds two files of one name", "do not use it")
    pickled = {name for name in names if name.endswith(".pt")}
    for config in [name for name in names if name.endswith("_config.json")]:
        for entry in json.loads(archive.read(config))["config"].values():
            file = str(entry["path_name"])
            if file.startswith(_RUNNING):
                raise DataError(
                    f"export:{path} holds an object that runs code when it is read ({file})", "do not use it"
                )
            if entry.get("use_pickle"):
                pickled |= {name for name in names if name.endswith(f"/{file}")}
    for name in pickled:
        try:
            torch.load(io.BytesIO(archive.read(name)), weights_only=True, map_location="cpu")
        except Exception as error:
            raise DataError(
                f"export:{path} holds pickled objects that could run code ({name})", "do not use it"
            ) from error


def _inputs(program: Any) -> tuple[list[int | None], int]:
    """The shape of a program's one input, None where any size will do, and the number of its outputs."""
    names = set(program.graph_signature.user_inputs)
    nodes = [node for node in program.graph.nodes if node.op == "placeholder" and node.name in names]
    if len(nodes) != 1 or "val" not in nodes[0].meta:
        raise DataError(f"the program has {len(nodes)} inputs, not one", "export the part that sees or hears")
    shape = [size if isinstance(size, int) else None for size in nodes[0].meta["val"].shape]
    return shape, len(program.graph_signature.user_outputs)


def _as_traced(module: nn.Module) -> nn.Module:
    """A traced module knows no modes, and refuses to be asked: it stays as it is when the encoder around it changes."""
    module.train = lambda mode=True: module  # type: ignore[method-assign]
    return module
