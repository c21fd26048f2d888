from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seehear.data.manifest import COLUMNS, Manifest
from seehear.data.scanning import scan
from seehear.errors import DataError
from tests.corpus import make_collection, make_video


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    folder = tmp_path_factory.mktemp("collection")
    make_collection(folder, n=8, classes=4, seed=1)
    return folder


def rows_by_id(manifest):
    return {row["video_id"]: row for row in manifest.rows()}


def write_table(path, rows, header=("path", "label")):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


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


def test_a_parquet_table_that_is_none(tmp_path):
    (tmp_path / "t.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match="Parquet"):
        scan(tmp_path / "t.parquet", workers=0)


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
