"""A changed file of a model is named, wherever it is read; a folder without hashes is taken as it is."""

from __future__ import annotations

import json
import os
import shutil

import pytest
import torch

from seehear import hashes
from seehear.config import Config
from seehear.data.views import Statistics
from seehear.errors import RunError, UsageError
from seehear.features.model import Model, weights_sha256
from seehear.hashes import check_hashes, write_hashes
from seehear.localization.annotations import Segment
from seehear.localization.localizer import Localizer, Snippets
from seehear.localization.settings import LocalizerSettings
from seehear.localization.training import fit_localizer
from seehear.models import build_encoders
from seehear.models.pretrained import read_checkpoint
from seehear.progress import shown
from seehear.settings import with_settings
from seehear.weights.reading import read_weights
from tests.conftest import TINY_SETTINGS


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    config = with_settings(Config(), TINY_SETTINGS)
    modalities = {"video": "video", "audio": "audio"}
    folder = tmp_path_factory.mktemp("hashes") / "model"
    Model(config, modalities, build_encoders(config.model, modalities, 0), Statistics()).save(folder)
    return folder


@pytest.fixture
def model(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "run" / "model")


def flip(path, place):
    """One bit of a file, without a trace in its size and times."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


READERS = {
    "model": lambda folder: Model.load(folder),
    "run": lambda folder: Model.load(folder.parent),
    "weights": lambda folder: read_weights(folder.parent),
    "video weights": lambda folder: read_checkpoint(folder / "model.safetensors"),
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_a_flipped_bit_is_found_wherever_weights_are_read(read, model):
    read(model)
    flip(model / "model.safetensors", -1000)
    with pytest.raises(RunError, match=r"model\.safetensors is damaged") as caught:
        read(model)
    assert str(model) in caught.value.remedy and "copy" in caught.value.remedy


def test_a_changed_description_is_found(model):
    description = model / "config.json"
    description.write_text(description.read_text().replace('"seed": 0', '"seed": 1', 1))
    with pytest.raises(RunError, match=r"config\.json is damaged"):
        Model.load(model)


def test_hashes_that_are_damaged_themselves_are_named(model):
    (model / "hashes.json").write_text('{"model.safetensors": ')
    with pytest.raises(RunError, match=r"hashes\.json is damaged"):
        Model.load(model)


def test_a_model_of_an_earlier_version_is_taken_as_it_is(model):
    expected = weights_sha256(Model.load(model).encoders)
    (model / "hashes.json").unlink()
    assert weights_sha256(Model.load(model).encoders) == expected


def test_a_model_replaces_an_earlier_one_and_nothing_else(model):
    again = Model.load(model)
    with torch.no_grad():
        next(again.encoders.parameters()).add_(1)
    again.save(model)
    assert {p.name for p in model.iterdir()} == {"config.json", "model.safetensors", "hashes.json"}
    assert weights_sha256(Model.load(model).encoders) == weights_sha256(again.encoders)
    (model / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="there is something in"):
        again.save(model)
    assert (model / "notes.txt").read_text() == "mine"
    assert [p.name for p in model.parent.iterdir()] == ["model"]


def test_a_flipped_bit_of_a_localiser_is_found(tmp_path):
    generator = torch.Generator().manual_seed(0)
    snippets = {f"v{i}": Snippets(torch.randn(24, 4, generator=generator).numpy(), 0.0, 1.0) for i in range(4)}
    truth = {name: [Segment(4.0, 9.0, "a"), Segment(15.0, 20.0, "b")] for name in snippets}
    settings = LocalizerSettings(epochs=1, window=24, width=8, stride_seconds=1.0, held_out=0.0)
    fit_localizer(snippets, truth, settings).save(tmp_path)
    Localizer.load(tmp_path)
    flip(tmp_path / "localizer.safetensors", -10)
    with pytest.raises(RunError, match=r"localizer\.safetensors is damaged"):
        Localizer.load(tmp_path)


def test_the_verdict_on_a_large_file_is_kept_while_it_is_not_touched(tmp_path, monkeypatch):
    monkeypatch.setattr(hashes, "REMEMBERED_BYTES", 1000)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    read = []
    monkeypatch.setattr(hashes, "sha256_of", lambda path, of=hashes.sha256_of: read.append(path.name) or of(path))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "large").write_bytes(bytes(1000))
    (folder / "small").write_bytes(bytes(999))
    write_hashes(folder, ["large", "small"])
    read.clear()
    check_hashes(folder)
    check_hashes(folder)
    assert read == ["large", "small", "small"]
    content = bytearray(1000)
    content[5] = 1
    (folder / "large").write_bytes(content)  # its times change
    for _ in range(2):  # a bad verdict is not kept
        with pytest.raises(RunError, match="large is damaged"):
            check_hashes(folder)
    (folder / "large").write_bytes(bytes(1000))
    check_hashes(folder)
    assert len(list((tmp_path / "cache" / "seehear" / "checked").iterdir())) == 1


def test_it_checks_without_a_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(hashes, "REMEMBERED_BYTES", 0)
    (tmp_path / "taken").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "taken"))
    (tmp_path / "a").write_bytes(b"a")
    write_hashes(tmp_path, ["a"])
    assert json.loads((tmp_path / "hashes.json").read_text()) == {
        "a": "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
    }
    check_hashes(tmp_path)


def test_it_says_that_it_is_checking_when_it_takes_long(tmp_path, monkeypatch, capsys):
    (tmp_path / "a").write_bytes(b"a")
    with shown():
        hashes.sha256_of(tmp_path / "a")
        assert capsys.readouterr().err == ""
        monkeypatch.setattr(hashes, "PATIENCE_SECONDS", -1.0)
        hashes.sha256_of(tmp_path / "a")
    assert capsys.readouterr().err == f"checking {tmp_path / 'a'} (0.0 GiB)\n"
