from __future__ import annotations

import csv
import os
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seehear.data import scanning as module
from seehear.data.manifest import REASONS, Manifest
from seehear.data.scanning import scan
from seehear.errors import DataError, UsageError
from seehear.media.probe import ProbeResult, probe
from tests.corpus import make_broken, make_video


@pytest.fixture
def looked(monkeypatch):
    """The files that were really looked at."""
    paths: list[str] = []

    def spy(path, **settings):
        paths.append(os.path.basename(path))
        return probe(path, **settings)

    monkeypatch.setattr(module, "probe", spy)
    return paths


def rows_by_id(manifest):
    return {row["video_id"]: row for row in manifest.rows()}


def write_table(path, rows, header=("path", "label")):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def test_broken_files_with_workers_and_strict(tmp_path):
    expected = make_broken(tmp_path)
    make_video(tmp_path / "good.mp4", seconds=1.2)
    seen = []
    manifest = scan(tmp_path, workers=2, progress=lambda done, total: seen.append((done, total)))
    rows = rows_by_id(manifest)
    assert {name: rows[name]["reason"] for name in expected} == expected
    assert rows["good.mp4"]["usable"]
    assert seen == [(i, len(manifest)) for i in range(len(manifest) + 1)]
    facts = manifest.summary()
    assert facts["usable"] == 1
    assert sum(facts["rejected"].values()) == len(expected)
    assert set(facts["rejected"]) <= set(REASONS)
    assert all(reason in manifest.summary_text() for reason in facts["rejected"])
    assert [row["video_id"] for row in manifest.usable_rows()] == ["good.mp4"]
    with pytest.raises(
        DataError, match=f"(?s){len(expected)} of {len(manifest)} files cannot be used.*and . more"
    ) as e:
        scan(tmp_path, workers=2, strict=True)
    assert "apart.mp4: too_short:" in e.value.message


def test_a_hang_and_a_crash_are_rows(tmp_path, monkeypatch):
    for number, name in enumerate(("a.mp4", "b.mp4", "hang.mp4", "crash.mp4")):
        make_video(tmp_path / name, seconds=1.2, fps=10 + number)
    monkeypatch.setattr(module, "_probe_one", faulty_probe)
    manifest = scan(tmp_path, workers=2, timeout_seconds=3)
    rows = rows_by_id(manifest)
    assert {name: row["reason"] for name, row in rows.items()} == {
        "a.mp4": None, "b.mp4": None, "hang.mp4": "timeout", "crash.mp4": "crashed"}  # fmt: skip
    assert rows["hang.mp4"]["size_bytes"] > 0
    monkeypatch.undo()
    again = scan(tmp_path, workers=1, previous=manifest)
    assert all(again.column("usable"))  # such faults get another chance


def faulty_probe(path, *settings) -> ProbeResult:
    import time

    name = os.path.basename(path)
    if "hang" in name:
        time.sleep(60)
    if "crash" in name:
        os._exit(11)
    return probe(path, need=settings[0], min_seconds=settings[1])


def test_duplicates(tmp_path):
    make_video(tmp_path / "b.mp4", seconds=1.2)
    make_video(tmp_path / "c.mp4", seconds=1.4)
    shutil.copy(tmp_path / "b.mp4", tmp_path / "a.mp4")
    (tmp_path / "d.mp4").symlink_to("c.mp4")
    manifest = scan(tmp_path, workers=0)
    rows = rows_by_id(manifest)
    assert rows["a.mp4"]["usable"]
    assert (rows["b.mp4"]["reason"], rows["b.mp4"]["duplicate_of"]) == ("duplicate", "a.mp4")
    assert (rows["d.mp4"]["reason"], rows["d.mp4"]["duplicate_of"]) == ("duplicate", "c.mp4")
    assert manifest.summary()["duplicates"] == 2
    (tmp_path / "a.mp4").unlink()  # then the other one serves, though it is not looked at again
    again = rows_by_id(scan(tmp_path, workers=0, previous=manifest))
    assert again["b.mp4"]["usable"]
    assert again["b.mp4"]["duplicate_of"] is None
    table = write_table(tmp_path / "t.csv", [("c.mp4", "cat"), ("d.mp4", "dog")])
    rows = rows_by_id(scan(table, workers=0))
    assert rows["c.mp4"]["usable"]
    assert rows["d.mp4"]["detail"] == "the same content as c.mp4, but with another label"


def test_only_changes_are_looked_at_again(tmp_path, looked):
    make_video(tmp_path / "a.mp4", seconds=1.2)
    make_video(tmp_path / "b.mp4", seconds=1.3)
    (tmp_path / "c.mp4").write_bytes(b"broken" * 100)
    out = tmp_path / "m.parquet"
    first = scan(tmp_path, out=out, workers=0)
    assert looked == ["a.mp4", "b.mp4", "c.mp4"]
    looked.clear()
    assert scan(tmp_path, out=out, workers=0).table.equals(first.table)
    assert looked == []
    make_video(tmp_path / "b.mp4", seconds=1.5)
    make_video(tmp_path / "d.mp4", seconds=1.6)
    (tmp_path / "a.mp4").unlink()
    third = scan(tmp_path, out=out, workers=0)
    assert looked == ["b.mp4", "d.mp4"]
    assert third.column("video_id") == ["b.mp4", "c.mp4", "d.mp4"]
    assert third.table.equals(Manifest.load(out).table)
    looked.clear()
    scan(tmp_path, previous=third, min_seconds=2, workers=0)
    assert looked == ["b.mp4", "c.mp4", "d.mp4"]  # with other settings nothing can be taken over
    looked.clear()
    os.utime(tmp_path / "d.mp4", ns=(1, 1))
    scan(tmp_path, previous=third, workers=0)
    assert looked == ["d.mp4"]


def test_out_is_not_overwritten_when_it_is_no_manifest(tmp_path):
    make_video(tmp_path / "a.mp4", seconds=1.2)
    out = tmp_path / "precious.parquet"
    pq.write_table(pa.table({"x": [1]}), out)
    with pytest.raises(DataError, match="not a manifest"):
        scan(tmp_path, out=out, workers=0)
    assert pq.read_table(out).to_pydict() == {"x": [1]}


def test_wrong_settings(tmp_path):
    with pytest.raises(UsageError, match="need must be"):
        scan(tmp_path, need=["smell"])
    with pytest.raises(UsageError, match="need must be"):
        scan(tmp_path, need=[])
