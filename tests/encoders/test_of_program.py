"""Encoders as programs of torch.export: a run's own export taken back, and programs of others."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from seehear.encoders import open_encoder, read_encoder
from seehear.errors import DataError, UsageError
from seehear.weights import export_weights
from tests.encoders.test_of_run import tiny_run
from tests.encoders.tiny_programs import MeanOfFrames, MeanOfSamples, clips

STATED = "?mean=0.1,0.2,0.3&std=0.5,0.25,1&rate=7.5"


def write(program: nn.Module, shape: tuple[int, ...], path: Path, *, batch: int | None = None) -> Path:
    """A program that takes (B, *shape); `batch` fixes B."""
    dims = None if batch else ({0: torch.export.Dim("batch")},)
    exported = torch.export.export(program.eval(), (torch.zeros(batch or 2, *shape),), dynamic_shapes=dims)
    torch.export.save(exported, path)
    return path


def test_an_export_taken_back_gives_the_features_of_the_run(tmp_path: Path) -> None:
    tiny_run(tmp_path / "run" / "model")
    export_weights(tmp_path / "run" / "model", tmp_path / "a.pt2", format="torch-export", modality="audio")
    own = open_encoder(f"run:{tmp_path / 'run'}", "audio")
    foreign = open_encoder(f"export:{tmp_path / 'a.pt2'}", "audio")
    given = clips("audio", batch=3, samples=48000)
    with torch.inference_mode():
        torch.testing.assert_close(foreign(given), own(given), rtol=1e-5, atol=1e-5)
    assert foreign.wanted == own.wanted and foreign.feature_dim == own.feature_dim
    with pytest.raises(UsageError, match="says itself what it is given"):
        open_encoder(f"export:{tmp_path / 'a.pt2'}?rate=16000", "audio")
    with pytest.raises(DataError, match="is an encoder of audio"):
        open_encoder(f"export:{tmp_path / 'a.pt2'}", "video")


def test_programs_of_others_are_given_what_is_stated_and_can_be_tuned(tmp_path: Path) -> None:
    x = clips("video", batch=3)
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 0.25, 1.0])
    weights = torch.tensor([1.0, 2.0, 3.0])
    for shape, channels, batch in (
        ((3, 4, 32, 32), 1, None), ((4, 3, 32, 32), 2, None), ((3, 32, 32), 1, None), ((3, 4, 32, 32), 1, 2),
    ):  # fmt: skip
        file = write(MeanOfFrames(channels), shape, tmp_path / "a.pt2", batch=batch)
        encoder = open_encoder(f"export:{file}{STATED}", "video")
        torch.testing.assert_close(encoder(x), (x.mean((2, 3, 4)) - mean) / std * weights, rtol=1e-5, atol=1e-5)
    assert encoder.trainable and encoder.feature_dim == 3
    before = encoder.content()
    encoder.train()
    torch.optim.SGD(encoder.parameters(), lr=0.1)
    encoder(x).sum().backward()
    with torch.no_grad():
        for parameter in encoder.parameters():
            torch.testing.assert_close(parameter.grad, ((x.mean((2, 3, 4)) - mean) / std).sum(0), rtol=1e-4, atol=1e-4)
            parameter -= 0.1 * parameter.grad  # type: ignore[operator]
    assert encoder.content() != before
    encoder.eval().write(tmp_path)
    again = read_encoder(tmp_path)
    assert torch.equal(again(x), encoder(x)) and again.content() == encoder.content()


def test_sound_of_others_and_what_cannot_be_tuned(tmp_path: Path) -> None:
    x = clips("audio", samples=8000) + 0.25
    encoder = open_encoder(f"export:{write(MeanOfSamples(), (8000,), tmp_path / 'a.pt2')}?rate=16000", "audio")
    torch.testing.assert_close(encoder(x), torch.stack([x.mean(1), x.square().mean(1)], 1))
    assert not encoder.trainable, "it has no weights"
    encoder.write(tmp_path)
    assert torch.equal(read_encoder(tmp_path)(x), encoder(x))


class Fires:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    "place", ["data/sample_inputs/model.pt", "data/weights/weight_0", "data/constants/custom_obj_0"]
)
def test_a_file_that_could_run_code_is_refused_unread(tmp_path: Path, place: str) -> None:
    file = write(MeanOfFrames(1), (3, 4, 32, 32), tmp_path / "a.pt2")
    torch.save(Fires(tmp_path / "fired"), tmp_path / "saved")
    evil = (tmp_path / "saved").read_bytes() if place.endswith(".pt") else pickle.dumps(Fires(tmp_path / "fired"))
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(tmp_path / "b.pt2", "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith("weights_config.json") and "weights" in place:
                content = content.replace(b'"use_pickle": false', b'"use_pickle": true')
            if name.endswith("constants_config.json") and "constants" in place:
                content = b'{"config": {"a": {"path_name": "custom_obj_0", "use_pickle": true, "is_param": false}}}'
            new.writestr(name, evil if name.endswith(place) else content)
        if "constants" in place:
            new.writestr(f"a/{place}", evil)
    with pytest.raises(DataError, match="run"):
        open_encoder(f"export:{tmp_path / 'b.pt2'}{STATED}", "video")
    assert not (tmp_path / "fired").exists()


def test_what_is_no_program_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.pt2").write_bytes(b"no program")
    with pytest.raises(DataError, match=r"no program of torch\.export"):
        open_encoder(f"export:{tmp_path / 'a.pt2'}", "video")
    with zipfile.ZipFile(tmp_path / "b.pt2", "w") as archive:
        archive.writestr("version", "1")
    with pytest.raises(DataError, match="of an early kind"):
        open_encoder(f"export:{tmp_path / 'b.pt2'}", "video")
