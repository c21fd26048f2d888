"""Encoders in ONNX files: a run's own export taken back, and programs of others with what must be stated."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seehear.encoders import open_encoder, read_encoder
from seehear.errors import DataError, UsageError
from seehear.weights import export_weights
from tests.encoders.test_of_run import tiny_run
from tests.encoders.tiny_programs import clips

onnx = pytest.importorskip("onnx", reason="the extra `onnx` is not installed")
pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")


Shape = tuple[int | str, ...]


def save(path: Path, shape: Shape, nodes: list[Any], weights: dict[str, np.ndarray], **options: Any) -> Path:
    """A graph from `clips` of a shape, where names are sizes that are free, to `features`, made without a framework."""
    of, real = onnx.helper, onnx.TensorProto.FLOAT
    kept = [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()]
    made = of.make_tensor_value_info("features", real, ["batch", "dim"])
    graph = of.make_graph(nodes, "tiny", [of.make_tensor_value_info("clips", real, shape)], [made], kept)
    onnx.save(of.make_model(graph, opset_imports=[of.make_opsetid("", 20)], ir_version=10), path, **options)
    return path


def mean_of_frames(path: Path, shape: Shape) -> Path:
    """The mean of every colour, times 1, 2 and 3. The axis of size 3 is that of colours."""
    axes = np.array([axis for axis, size in enumerate(shape) if axis and size != 3], dtype=np.int64)
    nodes = [
        onnx.helper.make_node("ReduceMean", ["clips", "axes"], ["means"], keepdims=0),
        onnx.helper.make_node("Mul", ["means", "weight"], ["features"]),
    ]
    return save(path, shape, nodes, {"axes": axes, "weight": np.array([1, 2, 3], dtype=np.float32)})


def mean_of_samples(path: Path, shape: Shape) -> Path:
    """Mean and mean square."""
    nodes = [
        onnx.helper.make_node("Reshape", ["clips", "flat"], ["samples"]),
        onnx.helper.make_node("Mul", ["samples", "samples"], ["squares"]),
        onnx.helper.make_node("ReduceMean", ["samples", "last"], ["mean"]),
        onnx.helper.make_node("ReduceMean", ["squares", "last"], ["square"]),
        onnx.helper.make_node("Concat", ["mean", "square"], ["features"], axis=1),
    ]
    return save(path, shape, nodes, {"flat": np.array([0, -1]), "last": np.array([1])})


@pytest.mark.parametrize("modality", ["video", "audio"])
def test_an_export_taken_back_gives_the_features_of_the_run(tmp_path: Path, modality: str) -> None:
    tiny_run(tmp_path / "run" / "model")
    export_weights(tmp_path / "run" / "model", tmp_path / "a.onnx", format="onnx", modality=modality)  # type: ignore[arg-type]
    own = open_encoder(f"run:{tmp_path / 'run'}", modality)
    foreign = open_encoder(f"onnx:{tmp_path / 'a.onnx'}", modality)
    given = clips(modality, batch=3, side=64, samples=48000)
    with torch.inference_mode():
        torch.testing.assert_close(foreign(given), own(given), rtol=1e-5, atol=1e-5)
    assert foreign.wanted == own.wanted and foreign.feature_dim == own.feature_dim and not foreign.trainable
    (tmp_path / "kept").mkdir()
    foreign.write(tmp_path / "kept")
    (tmp_path / "a.onnx").rename(tmp_path / "b.onnx")
    again = read_encoder(tmp_path / "kept")
    assert torch.equal(again(given), copy.deepcopy(again)(given))
    torch.testing.assert_close(again(given), own(given).detach(), rtol=1e-5, atol=1e-5)
    with pytest.raises(DataError, match=f"is an encoder of {modality}"):
        open_encoder(f"onnx:{tmp_path / 'b.onnx'}", "audio" if modality == "video" else "video")


def test_frames_of_others_are_given_as_stated(tmp_path: Path) -> None:
    """In each order of axes, the mean of every colour after the normalisation, worked out by hand."""
    x = clips("video", batch=3)
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 0.25, 1.0])
    expected = (x.mean((2, 3, 4)) - mean) / std * torch.tensor([1.0, 2.0, 3.0])
    stated = "?mean=0.1,0.2,0.3&std=0.5,0.25,1&rate=7.5"
    for shape in (
        ("n", 3, 4, 32, 32),
        ("n", 4, 3, 32, 32),
        ("n", 3, 32, 32),
        (2, 3, 4, 32, 32),
        ("n", 3, "t", "h", "h"),
    ):
        file = mean_of_frames(tmp_path / "a.onnx", shape)
        free = "&frames=4&crop=32" if "t" in shape else ""
        encoder = open_encoder(f"onnx:{file}{stated}{free}", "video")
        torch.testing.assert_close(encoder(x), expected, rtol=1e-5, atol=1e-5)
        assert encoder.feature_dim == 3
        assert encoder.wanted.settings() == {
            "frames": 4, "frame_rate_hz": 7.5, "stride": 1, "short_side_px": 32, "crop_px": 32
        }  # fmt: skip
    levels = open_encoder(f"onnx:{file}?mean=0&std=1&range=255{free}", "video")
    torch.testing.assert_close(levels(x), x.mean((2, 3, 4)) * 255 * torch.tensor([1.0, 2.0, 3.0]))
    assert levels.content() != encoder.content()
    file = mean_of_frames(tmp_path / "b.onnx", ("n", 4, 3, 32, 32))
    assert open_encoder(f"onnx:{file}{stated}", "video").weights_digest() != encoder.weights_digest()


def test_sound_of_others_is_given_as_stated(tmp_path: Path) -> None:
    x = clips("audio", samples=8000) + 0.25
    for shape in (("n", 8000), ("n", 1, 8000)):
        file = mean_of_samples(tmp_path / "a.onnx", shape)
        encoder = open_encoder(f"onnx:{file}?rate=16000", "audio")
        torch.testing.assert_close(encoder(x), torch.stack([x.mean(1), x.square().mean(1)], 1))
        assert encoder.wanted.settings() == {"audio_seconds": 0.5, "sample_rate_hz": 16000}
    normalised = open_encoder(f"onnx:{file}?rate=16000&normalise=clip", "audio")
    torch.testing.assert_close(normalised(x), torch.tensor([[0.0, 1.0]] * 2), rtol=1e-4, atol=1e-4)
    with pytest.raises(DataError, match=r"hears clips of 0\.5 s, not 1 s"):
        encoder(clips("audio"))


def test_what_must_be_stated_is_said(tmp_path: Path) -> None:
    file = mean_of_frames(tmp_path / "a.onnx", ("n", 3, 4, 32, 32))
    for options, modality, said in (
        ("", "video", "how its pixels are normalised"),
        ("?mean=0&std=1&frame=3", "video", "did you mean frames"),
        ("?mean=0&std=1&frames=8", "video", "has frames of 4, not 8"),
        ("?mean=0&std=0", "video", "does not fit three channels"),
        ("?mean=0&std=1&layout=BTCHW", "video", "which is not BTCHW"),
        ("?mean=0&std=1&output=x", "video", "has no output 'x'"),
        ("?mean", "video", "states nothing"),
        ("?rate=16000", "audio", "those of sound take samples"),
        ("?mean=0", "audio", "cannot be stated of an encoder of audio"),
    ):
        with pytest.raises(UsageError, match=said):
            open_encoder(f"onnx:{file}{options}", modality)
    with pytest.raises(UsageError, match="is no file"):
        open_encoder(f"onnx:{tmp_path / 'b.onnx'}", "video")
    (tmp_path / "b.onnx").write_bytes(b"no model")
    with pytest.raises(DataError, match="no model that ONNX Runtime can open"):
        open_encoder(f"onnx:{tmp_path / 'b.onnx'}", "video")


def test_weights_beside_a_model_go_with_it(tmp_path: Path) -> None:
    file = tmp_path / "a.onnx"
    matrix = np.random.default_rng(0).normal(size=(3 * 4 * 32 * 32, 8)).astype(np.float32)
    nodes = [onnx.helper.make_node("Flatten", ["clips"], ["flat"])]
    nodes.append(onnx.helper.make_node("MatMul", ["flat", "matrix"], ["features"]))
    save(file, ("n", 3, 4, 32, 32), nodes, {"matrix": matrix}, save_as_external_data=True, location="a.onnx.data")
    assert (tmp_path / "a.onnx.data").exists()
    encoder = open_encoder(f"onnx:{file}?mean=0&std=1", "video")
    x = clips("video")
    expected = x.flatten(1) @ torch.from_numpy(matrix)
    torch.testing.assert_close(encoder(x), expected, rtol=1e-4, atol=1e-3)
    (tmp_path / "kept").mkdir()
    encoder.write(tmp_path / "kept")
    content = encoder.content()
    with open(tmp_path / "a.onnx.data", "r+b") as weights:
        weights.write(b"\0\0\0\0")
    assert encoder.content() != content
    again = read_encoder(tmp_path / "kept")
    torch.testing.assert_close(again(x), expected, rtol=1e-4, atol=1e-3)
    assert again.content() == content
