"""Places that a person names and that cannot be written: each command says so, most before any work is done."""

from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from seehear.data.cache import MediaCache
from seehear.errors import DestinationError, UsageError
from seehear.files import check_destination, new_folder, write_atomic, write_result
from seehear.media.decode import Decoded
from tests.commands import run as command

# The arguments of each command, the option that names a destination, and the ending of a file (None: a folder).
COMMANDS = (
    ("scan {videos}", "--out", ".parquet"),
    ("prepare {videos}", "--out", None),
    ("pretrain {videos} --quiet", "--out", None),
    ("explore {videos} --no-open", "--out", None),
    ("finetune {run} --data {labels} --quiet", "--out", None),
    ("predict {run} {videos}", "--out", ".csv"),
    ("embed {run}", "--out", ".parquet"),
    ("label {run}", "--out", ".csv"),
    ("label {run} {videos} --out {folder}/labels.csv", "--running", ".json"),
    ("label {run} --clusters 2 --out {folder}/labels.csv", "--plot", ".svg"),
    ("cluster --features {features} -k 2", "--out", ".csv"),
    ("cluster --features {features} --choose-k 2-3", "--plot", ".svg"),
    ("export {run} --format csv", "--out", ".csv"),
    ("sample {run} -n 3", "--out", ".jsonl"),
    ("report {run}", "--out", ".html"),
    ("evaluate table {run}", "--out", ".txt"),
    ("study clusters {labels} --quiet", "--out", None),
    ("localize {run} --data {annotations} --videos {videos}", "--out", None),
    ("detect {run} {videos}", "--out", ".json"),
    ("hypotheses show l", "--svg", ".svg"),
    ("search-hypotheses {videos} --criterion retrieval --quiet", "--out", None),
    ("weights import {run}/model", "--out", None),
    ("weights export {run} --format safetensors", "--out", None),
    ("weights export {run} --format torch-export --modality audio", "--out", ".pt2"),
)
NAMES = [" ".join(re.findall(r"^[a-z-]+(?: (?:table|show|import|export))?", c)) + " " + o for c, o, _ in COMMANDS]
WRITTEN_AT_ONCE = (
    "embed {run}",
    "label {run}",
    "cluster --features {features} -k 2",
    "cluster --features {features} --choose-k 2-3",
    "hypotheses show l",
    "weights export {run} --format safetensors",
    "weights export {run} --format torch-export --modality audio",
)


@pytest.fixture(scope="module")
def places(collection, finished_run, tmp_path_factory):
    """What the arguments of the commands stand for."""
    folder = tmp_path_factory.mktemp("places")
    np.save(folder / "features.npy", np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32))
    span = {"segment": [0.5, 1.5], "label": "one"}
    database = {"clip_0000": {"subset": "training", "duration": 2.5, "annotations": [span]}}
    (folder / "annotations.json").write_text(json.dumps({"database": database}))
    return {
        "videos": collection.parent / "clips",
        "labels": collection,
        "run": finished_run,
        "features": folder / "features.npy",
        "annotations": folder / "annotations.json",
        "folder": folder,
    }


def call(capsys, places, arguments, option, destination):
    return command(capsys, *(part.format(**places) for part in arguments.split()), option, destination)


def left_by(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*"))


@pytest.mark.parametrize("kind", ["below a file", "wrong kind", "not to be written", "too long"])
@pytest.mark.parametrize(("arguments", "option", "ending"), COMMANDS, ids=NAMES)
def test_no_work_is_done_for_a_place_that_cannot_be_written(
    arguments, option, ending, kind, places, capsys, tmp_path, monkeypatch
):
    name = f"x{ending or ''}"
    (tmp_path / "file").write_text("kept")
    if kind == "below a file":
        destination = tmp_path / "file" / name
    elif kind == "wrong kind":
        destination = tmp_path / name
        if ending is None:
            destination.write_text("kept")
        else:
            destination.mkdir()
    elif kind == "not to be written":
        destination = Path("/proc") / name  # not even by root
    else:
        destination = tmp_path / f"{'x' * 300}{name}"
    before = left_by(tmp_path)
    code, out, err = call(capsys, places, arguments, option, destination)
    assert code == 2, err
    assert out == ""
    assert re.search(r"(cannot write|there is something in) .*/", err)
    assert "->" in err or "no such folder" in err
    assert "Traceback" not in err
    assert left_by(tmp_path) == before
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize(
    ("arguments", "option", "ending"),
    [c for c in COMMANDS if c[0] in WRITTEN_AT_ONCE],
    ids=[n for n, c in zip(NAMES, COMMANDS, strict=True) if c[0] in WRITTEN_AT_ONCE],
)
def test_a_disk_that_is_full_leaves_what_was_there(arguments, option, ending, places, capsys, tmp_path, monkeypatch):
    destination = tmp_path / f"x{ending or ''}"
    if ending is not None and ending != ".pt2":
        destination.write_text("kept")
    before = left_by(tmp_path)

    def full(_descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    code, _, err = call(capsys, places, arguments, option, destination)
    assert code == 2, err
    assert f"cannot write {destination}: No space left on device" in err
    assert "make room" in err
    assert left_by(tmp_path) == before
    assert not destination.exists() or destination.read_text() == "kept"


def test_a_full_disk_ends_a_pretraining_as_one_that_can_be_resumed(places, capsys, tmp_path, monkeypatch):
    import seehear.pretraining.run as module

    def full(*_):
        raise DestinationError(str(tmp_path / "run" / "statistics.json"), errno.ENOSPC)

    monkeypatch.setattr(module, "_run", full)
    code, _, err = command(capsys, "pretrain", places["videos"], "--out", tmp_path / "run", "--quiet")
    assert code == 4
    assert "the disk is full: cannot write" in err
    assert err.count("->") == 1


def test_every_option_that_names_a_destination_is_tried():
    text = (Path(__file__).parent.parent / "docs" / "commands.md").read_text(encoding="utf-8")
    documented = {
        (title, option)
        for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]
        for title in [section.partition("\n")[0]]
        for option in re.findall(r"^\| `(--(?:out|svg|plot|running))\b", section, flags=re.MULTILINE)
    }
    assert documented == {(arguments.split()[0], option) for arguments, option, _ in COMMANDS}


def test_errors_are_of_the_operating_system_too(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot write") as caught:
        write_atomic(tmp_path / "file" / "below", "text")
    assert isinstance(caught.value, UsageError)
    assert caught.value.errno == errno.ENOTDIR


def test_the_longest_names_can_be_written(tmp_path):
    for name in ("n" * 255, "é" * 127):
        check_destination(tmp_path / "new" / name)
        write_result(tmp_path / "new" / name, "text")
        assert (tmp_path / "new" / name).read_text() == "text"


def test_a_device_is_not_replaced_by_a_file(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for write in (check_destination, lambda path: write_atomic(path, "text")):
        with pytest.raises(DestinationError, match="cannot write"):
            write(pipe)
    assert pipe.is_fifo()


def test_a_new_folder_is_named_by_the_error_not_what_it_was_made_under(tmp_path, monkeypatch):
    def full(_descriptor):
        raise OSError(errno.ENOSPC, "")

    def fill():
        with new_folder(tmp_path / "new") as folder:
            monkeypatch.setattr(os, "fsync", full)
            write_atomic(folder / "file", "text")

    with pytest.raises(DestinationError, match=rf"cannot write {tmp_path}/new: No space"):
        fill()
    assert not list(tmp_path.iterdir())


def test_a_cache_folder_that_cannot_be_written_is_named_with_the_settings(tmp_path):
    (tmp_path / "file").write_text("")
    cache = MediaCache(tmp_path / "file", 2**20)
    with pytest.raises(DestinationError, match=r"data\.cache_folder"):
        cache.put("0" * 32, Decoded(np.zeros((1, 2, 2, 3), np.uint8), None, None, 8000, None, 0.0))
