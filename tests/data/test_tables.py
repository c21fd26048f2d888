from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seehear.data.datasets import open_data
from seehear.data.scanning import scan
from seehear.data.tables import read_table, separator_of
from seehear.data.truth import load_truth
from seehear.errors import DataError
from seehear.localization.annotations import read_annotations

ROWS = [["path", "label", "split"], ["ä, 1.mp4", "Hündchen; müde", "train"], ["b.mp4", "Katze", "test"]]
SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t"}
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"]


def written(path, rows, separator=",", encoding="utf-8", end="\n"):
    """A table as a spreadsheet saves it: cells that hold something special are in quotes."""
    lines = [separator.join(f'"{c}"' if set(c) & set(',;\t"\n') else c for c in row) + end for row in rows]
    path.write_bytes("".join(lines).encode(encoding))
    return path


@pytest.fixture(params=ENCODINGS)
def encoding(request):
    return request.param


@pytest.fixture(params=SEPARATORS.values(), ids=SEPARATORS)
def separator(request):
    return request.param


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["unix", "windows", "old mac"])
def test_separator_encoding_and_line_ends_are_told_by_content(tmp_path, encoding, separator, end):
    table = read_table(written(tmp_path / "t.csv", ROWS, separator, encoding, end))
    assert table.names == ROWS[0]
    assert [list(cells.values()) for _, cells in table.records] == ROWS[1:]
    assert [number for number, _ in table.records] == [2, 3]
    assert ("Windows-1252" in table.note) == (encoding == "cp1252")


def test_every_reader_of_tables_takes_every_form(tmp_path, encoding, separator):
    path = written(tmp_path / "t.csv", ROWS, separator, encoding, "\r\n")
    manifest = scan(path, workers=0)
    assert manifest.column("video_id") == ["ä, 1.mp4", "b.mp4"]
    assert manifest.column("label") == ["Hündchen; müde", "Katze"]
    assert "row 2 of t.csv" in manifest.column("detail")[0]
    assert ("Windows-1252" in manifest.summary_text()) == (encoding == "cp1252")
    data = open_data(path)
    assert [row["label"] for row in data.rows] == ["Hündchen; müde", "Katze"]
    assert ("Windows-1252" in data.note) == (encoding == "cp1252")
    assert load_truth(path) == {"ä, 1.mp4": "Hündchen; müde", "b.mp4": "Katze"}


def test_official_lists_may_have_been_saved_anew(tmp_path, encoding, separator):
    (tmp_path / "audio").mkdir()
    (tmp_path / "meta").mkdir()
    rows = [["filename", "fold", "category", "esc10"]]
    for fold in (1, 2):
        (tmp_path / f"audio/é{fold}.wav").touch()
        rows.append([f"é{fold}.wav", str(fold), "rain, light", "False"])
    written(tmp_path / "meta/esc50.csv", rows, separator, encoding, "\r\n")
    assert {row["label"] for row in open_data(f"esc50:{tmp_path}").rows} == {"rain, light"}


def test_annotations_of_other_encodings(tmp_path, encoding):
    path = tmp_path / "a.json"
    path.write_bytes('{"database": {"é": {"subset": "training", "annotations": []}}}'.encode(encoding))
    assert read_annotations(path).subsets == {"training": ["é"]}


@pytest.mark.parametrize(("text", "separator"), [
    ("path,label\na.mp4,x\n", ","),
    ("path;start\na.mp4;1,5\nb.mp4;2,25\n", ";"),  # decimal commas
    ("start;end\n1,5;2,5\n3,5;4,5\n", ";"),
    ('path,label\n"a;b.mp4",x\n', ","),
    ('path;label\n"a,b.mp4";"x,y"\n', ";"),
    ("path\tlabel\na,b;c.mp4\tx\n", "\t"),
    ("path,label;note\na,b;c\nd,e;f\n", ","),  # either would do: a comma is the rule
    ("path;label, if any\na.mp4;x\nb.mp4;y\n", ";"),
    ("path;label\na,b;c,d\n", ";"),
    ('path,label\n"many\nlines",x\n', ","),
])  # fmt: skip
def test_the_separator_gives_every_row_as_many_cells(text, separator):
    assert separator_of(text) == separator


def test_one_column_is_a_table_too(tmp_path):
    (tmp_path / "t.csv").write_text("path\nholiday, 2019.mp4\nb.mp4\n")
    assert read_table(tmp_path / "t.csv").column("path") == ["holiday, 2019.mp4", "b.mp4"]
    (tmp_path / "t.csv").write_text('path\r\n"holiday, 2019.mp4"\r\n"b;c.mp4"\r\n')
    assert read_table(tmp_path / "t.csv").column("path") == ["holiday, 2019.mp4", "b;c.mp4"]


def test_what_spreadsheets_leave_behind(tmp_path):
    (tmp_path / "t.csv").write_text("sep=;\r\n path ;label;;\r\na.mp4;x;;\r\n\r\nb.mp4;;;\r\n;;;\r\n;;;\r\n")
    table = read_table(tmp_path / "t.csv")
    assert table.names == ["path", "label"]
    assert table.records == [(3, {"path": "a.mp4", "label": "x"}), (5, {"path": "b.mp4", "label": ""})]


def test_a_parquet_table_is_known_by_its_content(tmp_path):
    table = pa.table({"path": ["a.mp4", None], "fold": [1, 2], "score": [float("nan"), 0.5]})
    pq.write_table(table, tmp_path / "t.csv")
    found = read_table(tmp_path / "t.csv")
    assert found.records == [
        (1, {"path": "a.mp4", "fold": "1", "score": None}),
        (2, {"path": None, "fold": "2", "score": "0.5"}),
    ]
    with pytest.raises(DataError, match="the path in row 2 is empty"):
        scan(tmp_path / "t.csv", workers=0)


@pytest.mark.parametrize(("content", "words"), [
    (b"path;label\na.mp4;x\nb.mp4;y;z\n", "line 3 has 3 fields, the header has 2.*hold a semicolon"),
    (b"path,label\na.mp4\n", "line 2 has 1 fields, the header has 2"),
    (b'path,label\na.mp4,"x\n', "line 2 cannot be read as a row"),
    (b"path,label,label\na.mp4,x,y\n", "same name, 'label'"),
    (b"PK\x03\x04 a workbook", "a workbook or an archive.*save it as CSV"),
    (b"path,label\na.mp4,\0\n", "line 2 holds a zero byte"),
    ("path,label\nä.mp4,ü\nö.mp4,".encode() + b"\xc3\n", "line 3 is not valid UTF-8"),
    (b"\xff\xfep\0a\0t\0h\0\n\0\0\xd8\n\0", "not valid UTF-16"),
])  # fmt: skip
def test_what_is_no_table_is_refused_with_the_row(tmp_path, content, words):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    for reader in (read_table, load_truth):
        with pytest.raises(DataError, match=f"(?s)t.csv.*{words}") as error:
            reader(path)
        assert error.value.remedy
    with pytest.raises(DataError, match=f"(?s)t.csv.*{words}"):
        scan(path, workers=0)
    with pytest.raises(DataError, match=f"(?s)t.csv.*{words}"):
        open_data(path)


def test_a_missing_table_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"none.csv.*No such file"):
        read_table(tmp_path / "none.csv")
