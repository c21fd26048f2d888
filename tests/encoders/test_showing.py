"""What `seehear encoders` says."""

from __future__ import annotations

from pathlib import Path

import pytest

import seehear
from seehear.encoders import KINDS, split_spec, without_place
from seehear.errors import DataError, UsageError
from tests.commands import run
from tests.encoders.test_of_run import tiny_run


def test_every_kind_is_listed_with_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = {kind["kind"]: kind for kind in seehear.list_encoders()}
    assert tuple(told) == KINDS
    assert told["run"]["needs"] == {}
    monkeypatch.setattr("seehear.encoders.showing._version", lambda package: None)
    missing = {kind["kind"]: kind for kind in seehear.list_encoders()}
    assert missing["hf"]["needs"] == {"transformers": None}
    assert missing["hf"]["remedy"] == "python -m pip install 'seehear[encoders]'"
    assert {network["modality"] for network in told["hf"]["networks"]} == {"video", "audio"}
    _, said, _ = run(capsys, "encoders")
    assert "hf: a model of Hugging Face" in said and "HuBERT" in said


def test_a_run_is_shown_with_both_of_its_encoders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("seehear.encoders.showing.TIMED_SECONDS", 0.1)
    model, _ = tiny_run(tmp_path / "model")
    video, audio = seehear.show_encoder(f"run:{tmp_path / 'model'}")
    assert (video["modality"], audio["modality"]) == ("video", "audio")
    own = model.encoders["video"]
    assert video["parameters"] == sum(p.numel() for p in own.parameters())
    assert video["wanted"]["crop_px"] == 64 and video["clips_per_second"] is None
    (timed,) = seehear.show_encoder(f"run:{tmp_path / 'model'}", modality="audio", time=True)
    assert timed["clips_per_second"] > 0 and timed["peak_bytes"] > timed["weights_bytes"]
    _, said, _ = run(capsys, "encoders", "show", f"run:{tmp_path / 'model'}")
    assert "sees:       4 frames at 4.375 a second, 64 px square" in said
    assert "hears:      2 s at 24000 samples a second" in said


def test_a_mistake_is_answered_with_what_was_meant(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean onnx:a"):
        split_spec("onx:a")
    with pytest.raises(UsageError, match="kinds are run, hf, onnx"):
        split_spec("runs/a")
    with pytest.raises(DataError, match="holds no trained model"):
        seehear.show_encoder(f"run:{tmp_path}")


def test_a_specification_can_be_told_without_a_machine_s_paths(tmp_path: Path) -> None:
    (tmp_path / "a?b.onnx").touch()
    for spec, told in (
        (f"run:{tmp_path}", f"run:{tmp_path.name}"),
        ("hf:openai/clip@main", "hf:openai/clip@main"),
        (f"hf:{tmp_path}", f"hf:{tmp_path.name}"),
        ("onnx:/home/me/a.onnx?mean=0&std=1", "onnx:a.onnx?mean=0&std=1"),
        ("torchvision:r3d_18:/home/me/r3d.pth?rate=15", "torchvision:r3d_18:r3d.pth?rate=15"),
        ("export:a.pt2", "export:a.pt2"),
    ):
        assert without_place(spec) == told
    assert without_place(None) is None
