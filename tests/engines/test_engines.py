"""Tasks done by this process, and what is said where Ray cannot."""

from __future__ import annotations

import sys

import pytest

from seehear.engines import Task, Work, nearest_seen, run
from seehear.errors import DataError, UsageError
from tests.engines import ray_work


def tasks(folder, names, what="is done"):
    return [Task(name, 2, (name, what), str(folder)) for name in names]


def test_all_tasks_are_done_by_what_is_opened_once(tmp_path):
    seen: list[tuple[int, int]] = []
    work = Work(ray_work.opened, (str(tmp_path),), (), 0)
    run(work, iter(tasks(tmp_path, "abc")), "local", 8, 2, lambda done, of: seen.append((done, of)))
    assert sorted(p.name for p in tmp_path.glob("done.*")) == ["done.a", "done.b", "done.c"]
    assert len(list(tmp_path.glob("opened.*"))) == 1
    assert seen == sorted(seen) and (seen[0], seen[-1]) == ((2, 8), (8, 8))


def test_what_a_task_raises_is_raised(tmp_path):
    work = Work(ray_work.opened, (str(tmp_path),), (), 0)
    with pytest.raises(DataError, match="a cannot be used"):
        run(work, tasks(tmp_path, "ab", "fails"), "local", 4, 0, lambda *_: None)
    assert not list(tmp_path.glob("begun.b.*"))


def test_a_machine_that_does_not_see_the_videos_takes_none_for_missing(tmp_path):
    work = Work(ray_work.opened, (str(tmp_path),), (), 0)
    with pytest.raises(UsageError, match=r"the machine .* does not see .*/nowhere") as raised:
        run(work, [Task("a", 2, ("a", "is done"), str(tmp_path / "nowhere"))], "local", 2, 0, lambda *_: None)
    assert "same" in raised.value.remedy
    assert not list(tmp_path.glob("begun.*"))


def test_without_ray_it_is_said_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match="needs Ray") as raised:
        run(Work(ray_work.opened, (str(tmp_path),), (), 0), tasks(tmp_path, "a"), "ray", 2, 0, lambda *_: None)
    assert "seehear[ray]" in raised.value.remedy


def test_the_nearest_thing_to_be_seen_of_a_path(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "film.mp4").touch()
    assert nearest_seen(str(tmp_path / "a" / "film.mp4")) == str(tmp_path / "a" / "film.mp4")
    assert nearest_seen(str(tmp_path / "a" / "gone" / "film.mp4")) == str(tmp_path / "a")
