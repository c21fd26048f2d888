"""Folders that appear whole or not at all."""

from __future__ import annotations

import pytest

from seehear.errors import UsageError
from seehear.files import new_folder


def test_a_new_folder_appears_when_it_is_full(tmp_path):
    path = tmp_path / "deep" / "new"
    with new_folder(path) as temporary:
        (temporary / "inner").mkdir()
        (temporary / "inner" / "file").write_text("text")
        assert not path.exists()
    assert (path / "inner" / "file").read_text() == "text"
    assert [p.name for p in path.parent.iterdir()] == ["new"]


def fill_and_fail(path):
    with new_folder(path) as temporary:
        (temporary / "file").write_text("text")
        raise ZeroDivisionError


def test_a_failure_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError):
        fill_and_fail(tmp_path / "new")
    assert not list(tmp_path.iterdir())


def test_what_is_there_stays(tmp_path):
    (tmp_path / "empty").mkdir()
    with new_folder(tmp_path / "empty") as temporary:
        (temporary / "file").write_text("new")
    for taken in (tmp_path / "empty", tmp_path / "empty" / "file"):
        with pytest.raises(UsageError, match="there is something in"), new_folder(taken):
            pass
    assert (tmp_path / "empty" / "file").read_text() == "new"
