"""Encoders for use elsewhere: torchvision's names, `torch.export` programs and ONNX, each compared with its source.

Every function writes its file whole or not at all and returns the largest absolute difference between the features
of the encoder and of what was written.
"""

from __future__ import annotations

import copy
import io
import json
import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from seehear.errors import SeehearError, UsageError
from seehear.files import sync_folder, write_atomic, writing
from seehear.models import video_encoder_name
from seehear.models.audio import AudioEncoder
from seehear.models.pretrained import load_video_weights
from seehear.models.video import VideoEncoder
from seehear.progress import without_remarks

Encoder = VideoEncoder | AudioEncoder
TOLERANCE = 1e-4
"""Largest difference of a feature that passes, as a share of the largest feature (or of 1)."""
ONNX_PACKAGES = ("onnx", "onnxruntime", "onnxscript")
TORCHVISION_MODELS = ("r2plus1d_18", "r3d_18", "mc3_18")
_TORCHVISION_EPS = 1e-5
_TRACED_BATCH = 2  # a batch of one would be taken for a constant
_CHECKED_BATCHES = (1, 3)


def example_inputs(shape: tuple[int, ...], batch: int) -> Tensor:
    """Normal noise (batch, *shape), always the same."""
    return torch.randn(batch, *shape, generator=torch.Generator().manual_seed(batch))


def torchvision_name(encoder: Encoder) -> str:
    """Which of torchvision's video models has this encoder's names, shapes and outputs.

    Raises `UsageError` that says what is different if none has.
    """
    if not isinstance(encoder, VideoEncoder):
        raise UsageError("torchvision has no audio encoder", "export --modality video, or --format safetensors")
    stages = (encoder.layer1, encoder.layer2, encoder.layer3, encoder.layer4)
    name = video_encoder_name(encoder.family, [len(stage) for stage in stages])
    first = encoder.stem[0]
    assert isinstance(first, torch.nn.Conv3d)
    differences = {
        f"{sum(len(stage) for stage in stages)} blocks (torchvision 8)": name not in TORCHVISION_MODELS,
        f"width {encoder.feature_dim // 8} (torchvision 64)": encoder.feature_dim != 512,
        f"stem stride {first.stride[-1]} (torchvision 2)": first.stride[-1] != 2,
        "a pool after the stem": encoder.stem_pool,
        "mid-planes per convolution (torchvision per block)": encoder.mid_planes != "block",
        f"batch norm eps {encoder.bn_eps:g} (torchvision {_TORCHVISION_EPS:g})": encoder.bn_eps != _TORCHVISION_EPS,
    }
    found = [what for what, differs in differences.items() if differs]
    if found or name is None:
        raise UsageError(
            f"this video encoder is none of torchvision's: {'; '.join(found)}",
            "--format safetensors, hub, torch-export or onnx takes any encoder",
        )
    return name


def write_torchvision(encoder: Encoder, path: Path, shape: tuple[int, ...], metadata: Mapping[str, Any]) -> float:
    """A state dict with the names of torchvision's model, without `fc`: .pth (`torch.save`) or .safetensors.

    What goes with it stands in the header of a .safetensors file, and beside a .pth file in PATH.json. It is read
    again as a torchvision file and compared.
    """
    torchvision_name(encoder)
    assert isinstance(encoder, VideoEncoder)
    state = {key: value.detach().cpu().contiguous() for key, value in encoder.state_dict().items()}
    text = json.dumps(metadata, indent=1)
    if path.suffix == ".safetensors":
        content = safetensors_bytes(state, {"seehear": text})
    else:
        buffer = io.BytesIO()
        torch.save(state, buffer)
        content = buffer.getvalue()

    def reopen(file: Path) -> Encoder:
        again = _still(encoder)
        assert isinstance(again, VideoEncoder)
        for value in again.state_dict().values():
            value.zero_()
        load_video_weights(again, file)
        return again

    difference = _write_checked(path, content, reopen, encoder, shape)
    if path.suffix != ".safetensors":
        write_atomic(path.with_name(f"{path.name}.json"), text)
    return difference


def write_torch_export(encoder: Encoder, path: Path, shape: tuple[int, ...], metadata: Mapping[str, Any]) -> float:
    """A program that `torch.export.load` reads: inputs (B, *shape) float32 to features (B, D), for any B.

    `metadata` is its extra file `seehear.json`.
    """
    program = torch.export.export(
        _still(encoder), (example_inputs(shape, _TRACED_BATCH),), dynamic_shapes=({0: _any_batch()},)
    )
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={"seehear.json": json.dumps(metadata, indent=1)})
    return _write_checked(path, buffer.getvalue(), lambda file: torch.export.load(file).module(), encoder, shape)


def write_onnx(encoder: Encoder, path: Path, shape: tuple[int, ...], metadata: Mapping[str, Any]) -> float:
    """An ONNX model with the input `clips` (batch, *shape) float32 and the output `features` (batch, D).

    `metadata` is JSON in its property `seehear`. It is run by ONNX Runtime and compared. Raises `UsageError` if the
    packages of the extra `onnx` are not installed.
    """
    missing = [name for name in ONNX_PACKAGES if find_spec(name) is None]
    if missing:
        raise UsageError(f"ONNX needs {', '.join(missing)}", "python -m pip install 'seehear[onnx]'")
    import onnxruntime

    with without_remarks("torch.onnx"):  # on itself, such as that torchvision is not installed
        exported = torch.onnx.export(
            _still(encoder), (example_inputs(shape, _TRACED_BATCH),), dynamo=True, verbose=False,
            input_names=["clips"], output_names=["features"], dynamic_shapes=({0: _any_batch()},),
        )  # fmt: skip
    assert exported is not None
    proto = exported.model_proto
    entry = proto.metadata_props.add()
    entry.key, entry.value = "seehear", json.dumps(metadata)

    def reopen(file: Path) -> Callable[[Tensor], Tensor]:
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        return lambda x: torch.from_numpy(session.run(["features"], {"clips": x.numpy()})[0])

    return _write_checked(path, proto.SerializeToString(), reopen, encoder, shape)


def _still(encoder: Encoder) -> Encoder:
    """A copy for inference on the CPU."""
    return copy.deepcopy(encoder).cpu().eval().requires_grad_(False)


def _any_batch() -> torch.export.Dim:
    return torch.export.Dim("batch", min=1)


def _difference(encoder: Encoder, other: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> float:
    """The largest absolute difference of features; `SeehearError` if it is not explained by rounding."""
    source, largest = _still(encoder), 0.0
    with torch.inference_mode():
        for batch in _CHECKED_BATCHES:
            x = example_inputs(shape, batch)
            expected = source(x)
            found = other(x.clone())
            if found.shape != expected.shape:
                raise SeehearError(f"the export gives {tuple(found.shape)}, the encoder {tuple(expected.shape)}")
            difference = float((found - expected).abs().max())
            if not difference <= TOLERANCE * max(1.0, float(expected.abs().max())):
                raise SeehearError(
                    f"the export differs from the encoder by {difference:.3g}: nothing was written",
                    "please report it, with the versions that `seehear doctor` prints",
                )
            largest = max(largest, difference)
    return largest


def _write_checked(
    path: Path,
    content: bytes,
    reopen: Callable[[Path], Callable[[Tensor], Tensor]],
    encoder: Encoder,
    shape: tuple[int, ...],
) -> float:
    """Write a file, read it again and compare, and only then give it its name. Returns the largest difference."""
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        with writing(path), open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        difference = _difference(encoder, reopen(temporary), shape)
        with writing(path):
            temporary.replace(path)
            sync_folder(path.parent)
    finally:
        with writing(path):
            temporary.unlink(missing_ok=True)
    return difference
