from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seehear.data import manifest as module
from seehear.data.manifest import COLUMNS, REASONS, Manifest, scan
from seehear.errors import DataError, UsageError
from seehear.media.probe import ProbeResult, probe
from tests.corpus import make_broken, make_collection, make_video


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    folder = tmp_path_factory.mktemp("collection")
    make_collection(folder, n=8, classes=4, seed=1)
    return folder


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


# ------------------------------------------------------------ sources


def test_a_folder(collection):
    manifest = scan(collection, workers=0)
    assert len(manifest) == 8
    assert manifest.table.column_names == list(COLUMNS)
    assert manifest.column("video_id") == [f"clips/clip_{i:04d}.mp4" for i in range(8)]
    assert all(manifest.column("usable"))
    assert manifest.column("path")[0] == str(collection / "clips/clip_0000.mp4")
    facts = manifest.summary()
    assert facts["found"] == facts["usable"] == 8
    assert facts["ignored"] == {".csv": 1}
    assert facts["rejected"] == {}
    assert facts["hours"] == pytest.approx(8 * 2.53 / 3600, rel=0.02)
    assert "8 media files found, 8 usable" in manifest.summary_text()


@pytest.mark.parametrize("kind", ["csv", "parquet", "tsv"])
def test_a_table_keeps_its_other_columns(collection, tmp_path, kind):
    source = collection / "labels.csv"
    if kind != "csv":
        rows = list(csv.DictReader(source.open()))
        source = tmp_path / f"t.{kind}"
        for row in rows:
            row["path"] = os.path.relpath(collection / row["path"], tmp_path)
        if kind == "parquet":
            pq.write_table(pa.Table.from_pylist([row | {"fold": 3} for row in rows]), source)
        else:
            source.write_text("\n".join("\t".join(r) for r in [rows[0].keys(), *(row.values() for row in rows)]))
    manifest = scan(source, workers=0)
    assert len(manifest) == 8
    assert manifest.extra_columns == ["label", "split"] + (["fold"] if kind == "parquet" else [])
    assert manifest.column("label")[:5] == ["class_0", "class_1", "class_2", "class_3", "class_0"]
    assert len(manifest.where("split=test")) == 2
    assert all(manifest.column("usable"))
    if kind == "csv":
        assert manifest.column("video_id")[0] == "clips/clip_0000.mp4"


def test_one_file_and_a_glob(collection):
    manifest = scan(collection / "clips/clip_0003.mp4", workers=0)
    assert manifest.column("video_id") == ["clip_0003.mp4"]
    manifest = scan(f"{collection}/**/clip_000[12].*", workers=0)
    assert manifest.column("video_id") == ["clips/clip_0001.mp4", "clips/clip_0002.mp4"]


@pytest.mark.parametrize(("text", "words"), [
    ("file,label\na.mp4,x\n", "no column 'path'.*file.*rename the column 'file' to path"),
    ("path,label\na.mp4,x\nb.mp4,y\n./a.mp4,z\n", "rows 2 and 4 name the same file, ./a.mp4"),
    ("path,label\na.mp4,x\n,y\n", "path in row 3 is empty"),
    ("path,label\na.mp4,x,y\n", "line 2 has 3 fields, the header has 2"),
    ("path,path\na.mp4,x\n", "same name"),
    ("path,label\n", "no rows"),
    ("", "no column 'path'"),
])  # fmt: skip
def test_bad_tables_say_what_and_where(tmp_path, text, words):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=f"(?s)t.csv.*{words}"):
        scan(tmp_path / "t.csv", workers=0)


def test_tables_of_other_encodings_and_forms(tmp_path):
    (tmp_path / "t.csv").write_bytes("path,label\nä.mp4,ü\n".encode("latin-1"))
    with pytest.raises(DataError, match="UTF-8"):
        scan(tmp_path / "t.csv", workers=0)
    make_video(tmp_path / "ä.mp4", seconds=1.2)
    (tmp_path / "t.csv").write_bytes("path,label\nä.mp4,ü\n".encode("utf-8-sig"))
    assert scan(tmp_path / "t.csv", workers=0).column("label") == ["ü"]
    (tmp_path / "t.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match="Parquet"):
        scan(tmp_path / "t.parquet", workers=0)


def test_a_missing_file_of_a_table_names_its_row(collection):
    path = write_table(collection / "more.csv", [("clips/clip_0000.mp4", "a"), ("clips/none.mp4", "b")])
    row = rows_by_id(scan(path, workers=0))["clips/none.mp4"]
    path.unlink()
    assert (row["usable"], row["reason"], row["label"]) == (False, "missing", "b")
    assert "row 3 of more.csv" in row["detail"]


def test_columns_with_the_manifest_s_names_are_renamed(collection):
    path = write_table(collection / "w.csv", [("clips/clip_0000.mp4", "7", "x")], ("path", "width", "reason"))
    manifest = scan(path, workers=0)
    path.unlink()
    assert manifest.extra_columns == ["given_width", "given_reason"]
    assert manifest.rows()[0]["given_width"] == "7"
    assert manifest.rows()[0]["width"] == 64


def test_a_manifest_is_a_source_too(collection, tmp_path):
    scan(collection / "labels.csv", out=tmp_path / "m.parquet", workers=0)
    again = scan(tmp_path / "m.parquet", workers=0)
    assert again.extra_columns == ["label", "split"]
    assert again.column("path") == scan(collection, workers=0).column("path")


@pytest.mark.parametrize("make", [lambda p: p / "none", lambda p: p, lambda p: p / "*.mp4"])
def test_nothing_to_scan(tmp_path, make):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"no file or folder|no media files"):
        scan(make(tmp_path), workers=0)


# ------------------------------------------------------------ folders as they come


def test_names_links_and_hidden_files(tmp_path):
    inner = tmp_path / "z real" / "tief"
    inner.mkdir(parents=True)
    names = ["ünï çødé 日本.mp4", "with space.mp4", "quote'\"$.mp4", "line\nbreak.MP4"]
    for number, name in enumerate(names):
        make_video(inner / name, seconds=1.2, fps=10 + number)
    (tmp_path / "a link").symlink_to(tmp_path / "z real")  # sorted before the real folder
    (inner / "loop").symlink_to(tmp_path)
    (inner / "self").symlink_to(inner / "self")
    (tmp_path / ".hidden.mp4").write_bytes(b"x")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache/x.mp4").write_bytes(b"x")
    (tmp_path / "README").write_text("x")
    (tmp_path / "film.mp4.part").write_text("x")
    manifest = scan(tmp_path, workers=0)
    assert sorted(manifest.column("video_id")) == sorted(f"z real/tief/{name}" for name in names)
    assert all(manifest.column("usable"))
    assert manifest.summary()["ignored"] == {"(none)": 2, ".part": 1}


def test_a_name_that_is_not_unicode_is_reported(tmp_path):
    make_video(tmp_path / "good.mp4", seconds=1.2)
    bad = os.fsencode(tmp_path) + b"/caf\xe9.mp4"
    try:
        shutil.copy(os.fsencode(tmp_path / "good.mp4"), bad)
    except OSError:
        pytest.skip("this file system wants Unicode names")
    manifest = scan(tmp_path, workers=0, out=tmp_path / "m.parquet")
    row = rows_by_id(manifest)["caf\\xe9.mp4"]
    assert (row["usable"], row["reason"]) == (False, "unreadable")
    assert "rename" in row["detail"]
    assert len(Manifest.load(tmp_path / "m.parquet")) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_folders_and_files_that_may_not_be_read(tmp_path):
    make_video(tmp_path / "a.mp4", seconds=1.2)
    make_video(tmp_path / "b.mp4", seconds=1.3).chmod(0)
    (tmp_path / "closed").mkdir(mode=0)
    try:
        manifest = scan(tmp_path, workers=0)
    finally:
        (tmp_path / "closed").chmod(0o700)
    assert rows_by_id(manifest)["b.mp4"]["reason"] == "permission"
    assert "closed" in manifest.summary_text()


def test_an_unreadable_folder_is_reported(tmp_path, monkeypatch):
    make_video(tmp_path / "a.mp4", seconds=1.2)
    (tmp_path / "closed").mkdir()
    real = os.scandir

    def scandir(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    manifest = scan(tmp_path, workers=0)
    assert len(manifest) == 1
    assert manifest.summary()["unreadable_folders"] == [f"{tmp_path}/closed (Permission denied)"]
    assert "could not read the folder" in manifest.summary_text()


# ------------------------------------------------------------ what is wrong with files


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


# ------------------------------------------------------------ scanning again


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


# ------------------------------------------------------------ the manifest itself


def test_save_and_load(collection, tmp_path):
    manifest = scan(collection / "labels.csv", workers=0)
    path = tmp_path / "deep" / "m.parquet"
    manifest.save(path)
    again = Manifest.load(path)
    assert again.table.equals(manifest.table)
    assert dict(again.info) == dict(manifest.info)
    assert again.fingerprint() == manifest.fingerprint()
    assert [p.name for p in path.parent.iterdir()] == ["m.parquet"]
    with pytest.raises(DataError, match="cannot write"):
        manifest.save(path / "below a file" / "m.parquet")


def test_a_failed_save_leaves_the_old_one(collection, tmp_path, monkeypatch):
    path = tmp_path / "m.parquet"
    manifest = scan(collection, workers=0)
    manifest.save(path)
    before = path.read_bytes()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(pq, "write_table", fail)
    with pytest.raises(OSError, match="disk full"):
        manifest.save(path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_loading_something_else(tmp_path):
    with pytest.raises(DataError, match="no manifest at"):
        Manifest.load(tmp_path / "none.parquet")
    (tmp_path / "t.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(DataError, match="is not a manifest"):
        Manifest.load(tmp_path / "t.parquet")
    with pytest.raises(DataError, match="columns video_id"):
        Manifest(pa.table({"x": [1]}))


def test_where(collection):
    manifest = scan(collection / "labels.csv", workers=0)
    assert len(manifest.where("label=class_1")) == 2
    assert len(manifest.where("label != class_1")) == 6
    assert len(manifest.where("width>=64").where("video_duration_seconds < 3")) == 8
    assert len(manifest.where("usable=true")) == 8
    assert len(manifest.where("reason=missing")) == 0
    assert manifest.where("split=train").extra_columns == ["label", "split"]
    with pytest.raises(UsageError, match="did you mean 'label'"):
        manifest.where("labels=x")
    with pytest.raises(UsageError, match="no such condition"):
        manifest.where("label")
    with pytest.raises(UsageError, match="is no int32"):
        manifest.where("width=wide")


def test_fingerprint_names_the_content(collection, tmp_path):
    manifest = scan(collection, workers=0)
    moved = tmp_path / "elsewhere"
    shutil.copytree(collection, moved)
    assert scan(moved, workers=0).fingerprint() == manifest.fingerprint()
    (moved / "clips/clip_0002.mp4").unlink()
    assert scan(moved, workers=0).fingerprint() != manifest.fingerprint()


def test_wrong_settings(collection):
    with pytest.raises(UsageError, match="need must be"):
        scan(collection, need=["smell"])
    with pytest.raises(UsageError, match="need must be"):
        scan(collection, need=[])


def test_the_summary_names_rejected_files(tmp_path):
    make_broken(tmp_path)
    lines = [line.strip() for line in scan(tmp_path, workers=0).summary_text().splitlines()]
    assert "short_sound.mp4: 0.400 s of sound, 1 s are needed" in lines
    assert "concat.mp4, dash.mp4, hls.mp4" in lines
    assert "cut_at_50.mkv, cut_at_60.mp4, cut_at_85.mp4 and 2 more" in lines
