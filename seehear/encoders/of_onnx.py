"""`onnx:FILE`: an encoder in an ONNX file, run by ONNX Runtime on the processor."""

from __future__ import annotations

import hashlib
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seehear.encoders import place_alone
from seehear.encoders.stated import Given, StatedEncoder, blank, feature_of, given_by, in_turns, split_options
from seehear.errors import DataError, UsageError
from seehear.files import copy_file
from seehear.hashes import sha256_of

_FILE = "encoder.onnx"


class OnnxEncoder(StatedEncoder):
    """A program of ONNX. It is run as it is: no gradient passes through it, and it cannot be tuned."""

    kind = "onnx"
    trainable = False

    def __init__(self, file: Path, given: Given, output: str | None, pool: str | None, origin: str) -> None:
        super().__init__()
        self.file, self.given, self.output, self.pool, self.origin = file, given, output, pool, origin
        self.modality = given.modality  # type: ignore[assignment]
        self.wanted = given.wanted
        self._session: Any = None
        self.feature_dim = self(blank(given, 1)).shape[-1]

    @classmethod
    def open(cls, place: str, modality: str) -> OnnxEncoder:
        """The encoder of a modality in a file, with what its specification states.

        Raises:
            UsageError: ONNX Runtime is not installed, there is no such file, or something must be stated.
            DataError: the file is no ONNX model, or of another modality.
        """
        _check_installed()
        path, options = split_options(place, "onnx")
        source = f"onnx:{path}"
        session = _session(path)
        inputs = session.get_inputs()
        if len(inputs) != 1 or inputs[0].type != "tensor(float)":
            raise DataError(
                f"{source} takes {', '.join(f'{i.name} ({i.type})' for i in inputs)}, not one input of float32",
                "export the part that sees or hears, with one input",
            )
        names = [output.name for output in session.get_outputs()]
        output = options.get("output", names[0])
        if output not in names:
            raise UsageError(f"{source} has no output {output!r}", f"its outputs are {', '.join(names)}")
        facts = session.get_modelmeta().custom_metadata_map.get("seehear")
        shape = [size if isinstance(size, int) else None for size in inputs[0].shape]
        given = given_by(None if facts is None else json.loads(facts), options, modality, shape, source)
        return cls(path, given, output, options.get("pool"), place_alone("onnx", place))

    def run(self, x: Tensor) -> Tensor:
        session = self._opened()
        name, fixed = session.get_inputs()[0].name, session.get_inputs()[0].shape[0]

        def features_of(part: Tensor) -> Tensor:
            (found,) = session.run([self.output], {name: part.contiguous().numpy()})
            return feature_of(torch.from_numpy(found), self.pool, f"onnx:{self.origin}")

        return in_turns(x.detach().float().cpu(), fixed if isinstance(fixed, int) else None, features_of).to(x.device)

    def _opened(self) -> Any:
        """The session, with as many threads as torch has now."""
        threads = torch.get_num_threads()
        if self._session is None or self._session[0] != threads:
            self._session = threads, _session(self.file)
        return self._session[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_session": None}  # a session is no value: a copy opens its own

    def preprocessing(self) -> dict[str, Any]:
        return {**self.given.to_dict(), "output": self.output, "pool": self.pool}

    def weights_digest(self) -> str:
        digest = hashlib.sha256()
        for file in (self.file, *_beside(self.file)):
            digest.update(sha256_of(file).encode())
        return digest.hexdigest()

    def description(self) -> dict[str, Any]:
        return {"from": self.origin, "given": self.given.to_dict(), "output": self.output, "pool": self.pool}

    def write_files(self, folder: Path) -> None:
        copy_file(self.file, folder / _FILE)
        for file in _beside(self.file):  # the program names them: they keep their names
            target = folder / file.relative_to(self.file.parent)
            target.parent.mkdir(parents=True, exist_ok=True)
            copy_file(file, target)

    @classmethod
    def restore(cls, folder: Path, description: dict[str, Any]) -> OnnxEncoder:
        _check_installed()
        given = Given.from_dict(description["given"])
        return cls(folder / _FILE, given, description["output"], description["pool"], description["from"])


def _check_installed() -> None:
    missing = [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise UsageError(f"onnx: needs {' and '.join(missing)}", "python -m pip install 'seehear[onnx]'")


def _session(path: Path) -> Any:
    """A file opened by ONNX Runtime. Raises `DataError` if it is no model."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        first = str(error).strip().partition("\n")[0]
        raise DataError(f"onnx:{path} is no model that ONNX Runtime can open: {first}") from error


def _beside(path: Path) -> list[Path]:
    """Files beside a model that hold weights of it. Raises `DataError` if one lies elsewhere or is missing."""
    import onnx
    from onnx.external_data_helper import uses_external_data

    model = onnx.load(path, load_external_data=False)
    names = {
        entry.value
        for tensor in _tensors(model.graph)
        if uses_external_data(tensor)
        for entry in tensor.external_data
        if entry.key == "location"
    }
    files = [path.parent / name for name in sorted(names)]
    for file in files:
        if path.parent.resolve() not in file.resolve().parents or not file.is_file():
            raise DataError(
                f"onnx:{path} has weights in {file}, which is not beside it", "export it again, in one file"
            )
    return files


def _tensors(graph: Any) -> list[Any]:
    """The tensors of a graph and of the graphs within it."""
    found = list(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                found.append(attribute.t)
            for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                found += _tensors(inner)
    return found
