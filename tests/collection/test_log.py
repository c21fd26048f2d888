"""The log of edits: nothing is lost by processes that write at once, by machines, by kills, by full disks."""

from __future__ import annotations

import contextlib
import hashlib
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from seehear.collection.events import Event, first_link, link, packed, unpacked
from seehear.collection.log import EditLog, this_host
from seehear.errors import DestinationError, RunError
from tests.collection.made import opened
from tests.collection.test_edits import seen


def writer(run, host, author, count):
    command = [sys.executable, "-m", "tests.collection.writing", str(run), host, author, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def ids_of(process):
    return process.communicate(timeout=300)[0].split()


def append(log, text, kind="name"):
    with log.writing("me") as transaction:
        return transaction.append(kind, "both", "base", {"cluster": "0", "name": text, "text": text})


def test_processes_that_write_at_once_lose_nothing(tmp_path):
    processes = [writer(tmp_path, "here", f"author {i}", 150) for i in range(2)]
    written = [ids_of(p) for p in processes]
    assert [len(w) for w in written] == [150, 150]
    log = EditLog(tmp_path, hashlib.blake2b(b"here", digest_size=3).hexdigest())
    assert [e.seq for e in log.events] == list(range(1, 301))
    assert {e.id for e in log.events} == {i for w in written for i in w}
    for number, own in enumerate(written):
        assert [e.id for e in log.events if e.author == f"author {number}"] == own
    assert len({tuple(e.author for e in log.events[i : i + 2]) for i in range(299)}) > 2  # they took turns


def test_machines_on_one_disk_see_the_same_edits_in_the_same_order(tmp_path, monkeypatch):
    processes = [writer(tmp_path, f"machine {i}", f"author {i}", 60) for i in range(3)]
    written = [ids_of(p) for p in processes]
    orders, states = [], []
    for host in ("machine 0", "machine 1", "machine 2", "another"):
        monkeypatch.setenv("SEEHEAR_HOST", host)
        orders.append([e.id for e in EditLog(tmp_path).events])
        states.append(seen(opened(tmp_path)))
    assert len(orders[0]) == 180 and orders.count(orders[0]) == 4 and states.count(states[0]) == 4
    for own in written:
        assert [i for i in orders[0] if i in set(own)] == own
    assert len(list((tmp_path / "edits").glob("*.sqlite"))) == 3


def test_machines_never_make_clusters_of_one_id(tmp_path, monkeypatch):
    monkeypatch.setenv("SEEHEAR_HOST", "one")
    one = opened(tmp_path)
    one.move([0], new=True)
    monkeypatch.setenv("SEEHEAR_HOST", "two")
    two = opened(tmp_path)
    two.move([1], new=True)
    monkeypatch.setenv("SEEHEAR_HOST", "one")
    one.refresh()
    one.split("0")
    assert [i.partition("@")[0] for i in one.ids[4:]] == ["new.1", "new.1", "0.1", "0.2"]
    assert len(set(one.ids)) == len(one.ids)


def test_names_given_at_once_are_a_conflict_and_both_are_kept(tmp_path):
    logs = [EditLog(tmp_path, host) for host in ("aaaaaa", "bbbbbb")]
    base = opened(tmp_path)._base
    for number, log in enumerate(logs):  # neither has read the other's file when it writes
        with log.writing(f"author {number}") as transaction:
            transaction._log.events = []
            transaction.append("name", "both", base, {"cluster": str(number), "name": "saw", "text": "named"})
    collection = opened(tmp_path)
    (conflict,) = collection.conflicts
    assert 'author 1 named cluster 1 "saw", as cluster 0 is already' in conflict.text
    collection.name(1, "other saw")
    assert collection.conflicts == []


def test_a_killed_writer_loses_nothing_that_it_had_written(tmp_path):
    for _ in range(6):
        process = writer(tmp_path, "here", "killed", 10_000)
        known = [process.stdout.readline().strip() for _ in range(12)]
        process.send_signal(signal.SIGKILL)
        known += process.communicate()[0].split()
        log = EditLog(tmp_path, hashlib.blake2b(b"here", digest_size=3).hexdigest())
        there = [e.id for e in log.events]
        # At most the one that it was about to tell of may be there too.
        assert there[: len(there) - 1][-len(known) + 1 :] == known[1:] or there[-len(known) :] == known
        other = EditLog(tmp_path, "ffffff")
        assert [e.id for e in other.events] == there
    assert len(there) >= 6 * 12


def test_a_torn_copy_is_read_again(tmp_path, monkeypatch):
    one, two = EditLog(tmp_path, "aaaaaa"), EditLog(tmp_path, "bbbbbb")
    for number in range(30):
        append(one, f"name {number}")
    copies, copy = [], shutil.copyfile

    def torn(source, target):
        copy(source, target)
        if str(source).endswith(".sqlite") and len(copies) < 3:
            with open(target, "r+b") as file:
                file.truncate(os.path.getsize(target) // 2 // (len(copies) + 1))
        copies.append(source)

    monkeypatch.setattr("seehear.collection.log.shutil.copyfile", torn)
    assert two.refresh()
    assert [e.payload["name"] for e in two.events] == [f"name {i}" for i in range(30)] and len(copies) >= 4


def test_events_once_seen_are_kept_when_a_file_goes_bad(tmp_path):
    one, two = EditLog(tmp_path, "aaaaaa"), EditLog(tmp_path, "bbbbbb")
    append(one, "x")
    two.refresh()
    (tmp_path / "edits" / "aaaaaa.sqlite").write_bytes(b"nonsense" * 1000)
    two.refresh()
    assert [e.payload["name"] for e in two.events] == ["x"]
    with pytest.raises(RunError, match=r"aaaaaa\.sqlite"):
        EditLog(tmp_path, "cccccc")


@pytest.mark.parametrize("damage", ["nonsense", "foreign", "changed", "newer"])
def test_a_damaged_file_is_named_with_a_remedy(damage, tmp_path):
    log = EditLog(tmp_path, "aaaaaa")
    for number in range(5):
        append(log, f"name {number}")
    path = log.path
    if damage == "nonsense":
        path.write_bytes(b"nonsense" * 1000)
    else:
        with sqlite3.connect(path) as connection:
            if damage == "foreign":
                connection.execute("PRAGMA application_id = 1")
            elif damage == "newer":
                connection.execute("PRAGMA user_version = 99")
            else:
                connection.execute("UPDATE events SET author = 'mallory' WHERE seq = 3")
        connection.close()
    for host in ("aaaaaa", "bbbbbb"):
        with pytest.raises(RunError, match=r"aaaaaa\.sqlite") as error:
            EditLog(tmp_path, host)
        assert "copy" in error.value.remedy
    if damage == "changed":
        with pytest.raises(RunError, match="event 3 differs"):
            EditLog(tmp_path, "aaaaaa")


def test_a_full_disk_leaves_no_half_of_an_edit(tmp_path):
    log = EditLog(tmp_path, "aaaaaa")
    append(log, "before")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    kept = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    # No file may grow beyond this: what is written then fails as on a disk that is full.
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, limit[1]))
    try:
        with pytest.raises(DestinationError, match=r"aaaaaa\.sqlite"):
            append(log, os.urandom(60_000).hex())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, kept)
    assert [e.payload["name"] for e in EditLog(tmp_path, "aaaaaa").events] == ["before"]
    append(log, "after")
    assert [e.payload["name"] for e in EditLog(tmp_path, "bbbbbb").events] == ["before", "after"]


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "edits").write_text("in the way")
    with pytest.raises(RunError, match="edits"):
        EditLog(tmp_path, "aaaaaa")


def test_an_edit_that_fails_writes_nothing(tmp_path):
    log = EditLog(tmp_path, "aaaaaa")

    def failing():
        with log.writing("me") as transaction:
            transaction.append("name", "both", "base", {"cluster": "0", "name": "x"})
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        failing()
    assert EditLog(tmp_path, "aaaaaa").events == []


def test_after_every_edit_the_main_file_alone_is_complete(tmp_path):
    log = EditLog(tmp_path, "aaaaaa")
    for number in range(5):
        append(log, f"name {number}")
        copy = tmp_path / f"copy{number}" / "edits"
        copy.mkdir(parents=True)
        shutil.copy(log.path, copy)
        assert len(EditLog(copy.parent, "bbbbbb").events) == number + 1


def test_what_only_the_wal_holds_yet_is_read_by_other_machines(tmp_path):
    log = EditLog(tmp_path, "aaaaaa")
    append(log, "x")
    with contextlib.closing(sqlite3.connect(log.path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM events").fetchone()  # the main file may not change under it
        append(log, "y")
        copy = tmp_path / "main alone" / "edits"
        copy.mkdir(parents=True)
        shutil.copy(log.path, copy)
        assert [e.payload["name"] for e in EditLog(copy.parent, "bbbbbb").events] == ["x"]
        assert [e.payload["name"] for e in EditLog(tmp_path, "bbbbbb").events] == ["x", "y"]
        reader.execute("ROLLBACK")
    append(log, "z")
    assert [e.payload["name"] for e in EditLog(tmp_path, "cccccc").events] == ["x", "y", "z"]


def test_a_read_only_log_can_be_read(tmp_path, monkeypatch):
    log = EditLog(tmp_path, "aaaaaa")
    append(log, "x")

    def refused(*_, **__):
        error = sqlite3.OperationalError("unable to open database file")
        error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
        raise error

    connect = sqlite3.connect
    monkeypatch.setattr(
        "seehear.collection.log.sqlite3.connect",
        lambda place, **options: refused() if options.get("uri") else connect(place, **options),
    )
    again = EditLog(tmp_path, "aaaaaa")
    assert [e.payload["name"] for e in again.events] == ["x"]
    with pytest.raises(DestinationError, match="aaaaaa"):
        append(again, "y")


def test_what_is_written_is_read(tmp_path):
    event = Event("aaaaaa", 1, 1, "2026-01-01T00:00:00+00:00", "me", "name", "both", "b", {})
    for payload in ({}, {"name": "日本語 🎧 \ud800"}, {"long": list(range(5000))}):
        assert unpacked(packed(payload)) == payload
    assert len(packed({"long": [1] * 5000})) < 200
    chained = link(first_link("aaaaaa"), event, b"{}")
    assert chained == link(first_link("aaaaaa"), event, b"{}") != link(first_link("aaaaaa"), event, b"{ }")
    assert len(this_host()) == 6


def test_a_change_within_one_tick_of_the_clock_is_seen(tmp_path):
    one, two = EditLog(tmp_path, "aaaaaa"), EditLog(tmp_path, "bbbbbb")
    append(one, "x")
    status = one.path.stat()
    two.refresh()
    append(one, "y")
    os.utime(one.path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert two.refresh() and len(two.events) == 2
    started = time.perf_counter()
    for _ in range(20):
        assert not two.refresh()
    assert time.perf_counter() - started < 5
