"""The workshop and its cache: one making a key, the newest first, nothing half made, no more than fits."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from seehear.app.workshop import Cache, Job, Workshop
from seehear.errors import MediaError


def write(destination, text, folder):
    """Writes the text, and notes that it did."""
    Path(destination).write_text(text)
    (Path(folder) / f"made {text} {time.monotonic_ns()}").touch()


def slowly(destination, text, folder):
    """Takes half a second."""
    time.sleep(0.5)
    write(destination, text, folder)


def fail(destination, folder):
    """Fails after it has written something."""
    Path(destination).write_text("half")
    (Path(folder) / f"tried {time.monotonic_ns()}").touch()
    raise MediaError("x.mp4", "decode_error", "broken")


def hang(destination):
    """Never ends."""
    time.sleep(1000)


@pytest.fixture
def notes(tmp_path):
    folder = tmp_path / "notes"
    folder.mkdir()
    return folder


@pytest.fixture
def workshop(tmp_path):
    made = Workshop(Cache(tmp_path / "cache"), workers=1, timeout_seconds=20)
    yield made
    made.close()


def result(workshop, asked):
    if isinstance(asked, Path):
        return asked
    try:
        return asked.future.result(60)
    finally:
        workshop.leave(asked)


def test_what_is_made_is_kept(workshop, notes):
    path = result(workshop, workshop.ask("key", ".txt", write, "a", str(notes)))
    assert path.read_text() == "a"
    assert workshop.ask("key", ".txt", write, "a", str(notes)) == path
    assert len(list(notes.iterdir())) == 1


def test_what_many_ask_for_is_made_once(workshop, notes):
    jobs = [workshop.ask("key", ".txt", slowly, "a", str(notes)) for _ in range(5)]
    assert len({result(workshop, job) for job in jobs}) == 1
    assert len(list(notes.iterdir())) == 1


def test_what_is_urgent_comes_first_then_the_newest(workshop, notes):
    busy = workshop.ask("busy", ".txt", slowly, "busy", str(notes))
    time.sleep(0.1)
    jobs = [workshop.ask("u", ".txt", write, "u", str(notes), urgent=True)]
    jobs += [workshop.ask(name, ".txt", write, name, str(notes)) for name in "abc"]
    for job in [busy, *jobs]:
        result(workshop, job)
    order = [p.name.split()[1] for p in sorted(notes.iterdir(), key=lambda p: int(p.name.split()[2]))]
    assert order == ["busy", "u", "c", "b", "a"]


def test_what_nobody_waits_for_is_not_made(workshop, notes):
    busy = workshop.ask("busy", ".txt", slowly, "busy", str(notes))
    time.sleep(0.1)
    left, shared, again = (workshop.ask(name, ".txt", write, name, str(notes)) for name in ("left", "shared", "shared"))
    workshop.leave(left)
    workshop.leave(again)  # one of two: the other still waits
    for job in (busy, shared):
        result(workshop, job)
    assert {p.name.split()[1] for p in notes.iterdir()} == {"busy", "shared"}


def test_a_failure_leaves_nothing_and_is_not_tried_again(workshop, notes, tmp_path):
    for _ in range(2):
        with pytest.raises(MediaError, match="broken"):
            result(workshop, workshop.ask("key", ".txt", fail, str(notes)))
    assert len(list(notes.iterdir())) == 1
    assert [p for p in (tmp_path / "cache").rglob("*") if p.is_file()] == []


def test_what_hangs_is_given_up_and_the_next_is_made(tmp_path, notes):
    made = Workshop(Cache(tmp_path / "cache"), workers=1, timeout_seconds=1)
    try:
        with pytest.raises(MediaError) as caught:
            result(made, made.ask("key", ".txt", hang))
        assert caught.value.reason == "timeout"
        assert result(made, made.ask("other", ".txt", write, "a", str(notes))).read_text() == "a"
    finally:
        made.close()


def test_closing_ends_what_is_being_made(tmp_path, notes):
    made = Workshop(Cache(tmp_path / "cache"), workers=1)
    jobs = [made.ask(f"key {n}", ".txt", hang) for n in range(3)]
    time.sleep(0.5)
    began = time.monotonic()
    made.close()
    assert time.monotonic() - began < 10
    assert all(isinstance(job, Job) and job.future.done() for job in jobs)
    assert threading.active_count() < 10


def test_the_longest_unused_goes_first(tmp_path):
    cache = Cache(tmp_path, cap_bytes=2500)
    for number in range(4):
        path = cache.path(str(number), ".bin")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(1000))
        os.utime(path, (1000 + number, 1000 + number))
    assert cache.find(cache.path("0", ".bin"))  # used now
    assert cache.sweep() == 2000
    assert [cache.find(cache.path(str(n), ".bin")) for n in range(4)] == [True, False, False, True]


def test_names_tell_nothing_and_lead_nowhere(tmp_path):
    cache = Cache(tmp_path)
    for key in ("../../x", "a/b", "\0", "é" * 1000, "\udcff"):
        path = cache.path(key, ".jpg")
        assert path.resolve().is_relative_to(tmp_path.resolve())
        assert len(path.name) < 60
