"""Progress away from a terminal: plain lines now and then, with rate and time left; nothing when quiet."""

from __future__ import annotations

from seehear import progress
from seehear.progress import Progress


def test_plain_lines_tell_rate_and_time_left(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with Progress() as shown:
        shown.start("decode", 100, "videos")
        for done in range(1, 31):
            now[0] += 1.0
            shown.update(done)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "decode: 10/100 videos 1.0 videos/s, 1 min 30 s left",
        "decode: 20/100 videos 1.0 videos/s, 1 min 20 s left",
        "decode: 30/100 videos 1.0 videos/s, 1 min 10 s left",
    ]


def test_many_short_tasks_are_heard_of_too(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with Progress() as shown:
        for epoch in range(10):
            shown.start(f"epoch {epoch}", 4, "clips")
            for done in range(1, 5):
                now[0] += 1.0
                shown.update(done, note="loss 1.0")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert lines[0] == "epoch 2: 2/4 clips 1.0 clips/s, 2 s left loss 1.0"


def test_quiet_is_quiet(capsys):
    with Progress(quiet=True) as shown:
        shown.start("x", 2, "y")
        shown.update(1)
        shown.note("z")
    assert capsys.readouterr().err == ""
