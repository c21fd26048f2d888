from __future__ import annotations

import itertools
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seehear.data.manifest import COLUMNS, Manifest
from seehear.data.scanning import scan
from seehear.errors import DataError, DestinationError, UsageError
from tests.commands import run
from tests.corpus import make_broken, make_collection


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    make_collection(folder, n=8, classes=4, seed=1)
    return folder


def test_save_and_load(videos, tmp_path):
    manifest = scan(videos / "labels.csv", workers=0)
    path = tmp_path / "deep" / "m.parquet"
    manifest.save(path)
    again = Manifest.load(path)
    assert again.table.equals(manifest.table)
    assert dict(again.info) == dict(manifest.info)
    assert again.fingerprint() == manifest.fingerprint()
    assert [p.name for p in path.parent.iterdir()] == ["m.parquet"]
    with pytest.raises(DestinationError, match="cannot write"):
        manifest.save(path / "below a file" / "m.parquet")


def test_a_failed_save_leaves_the_old_one(videos, tmp_path, monkeypatch):
    path = tmp_path / "m.parquet"
    manifest = scan(videos, workers=0)
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


def test_where(videos):
    manifest = scan(videos / "labels.csv", workers=0)
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


def test_a_sample_is_drawn_by_seed_and_content(videos, tmp_path):
    shutil.copytree(videos, tmp_path / "moved" / "videos")
    whole = scan(videos, workers=0)
    half, moved = whole.sample(0.5, seed=3), scan(tmp_path / "moved", workers=0).sample(0.5, seed=3)
    assert len(half) == 4
    assert sorted(half.column("fingerprint")) == sorted(moved.column("fingerprint"))
    assert half.info["sample"] == {"of": 8, "drawn": 4, "fingerprint": whole.fingerprint()}
    assert "4 drawn at random from 8 usable" in half.summary_text()
    # A smaller part lies within a larger one; other seeds draw others; each video has the same chance.
    parts = [set(whole.sample(n, seed=3).column("video_id")) for n in (2, 4, 6, 8.0, 99)]
    assert [len(part) for part in parts] == [2, 4, 6, 8, 8]
    assert all(a <= b for a, b in itertools.pairwise(parts))
    counts = dict.fromkeys(whole.column("video_id"), 0)
    for seed in range(400):
        for video_id in whole.sample(0.25, seed).column("video_id"):
            counts[video_id] += 1
    assert sum(counts.values()) == 800
    assert all(65 <= count <= 135 for count in counts.values())  # 100 expected, deviation 8.7


def test_a_sample_keeps_what_cannot_be_used(tmp_path):
    make_collection(tmp_path, n=3, classes=3)
    (tmp_path / "clips" / "empty.mp4").write_bytes(b"")
    found = scan(tmp_path / "clips", workers=0).sample(1 / 3, seed=0)
    assert [row["reason"] for row in found.rejected_rows()] == ["empty"]
    assert len(found.usable_rows()) == 1


def test_fingerprint_names_the_content(videos, tmp_path):
    manifest = scan(videos, workers=0)
    moved = tmp_path / "elsewhere"
    shutil.copytree(videos, moved)
    assert scan(moved, workers=0).fingerprint() == manifest.fingerprint()
    (moved / "clips/clip_0002.mp4").unlink()
    assert scan(moved, workers=0).fingerprint() != manifest.fingerprint()


# ------------------------------------------------------------ edited by hand


@pytest.fixture(scope="module")
def saved(videos, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "m.parquet"
    scan(videos / "labels.csv", out=path, workers=0)
    return path


def edited(saved, target, columns):
    """A copy of a saved manifest with other values in some columns, which keeps its note."""
    table = pq.read_table(saved)
    for name, change in columns.items():
        values = change(table.column(name).to_pylist())
        # As pandas does it: a column of numbers with a gap holds floats.
        array = np.array(values) if any(isinstance(v, float) for v in values) and None not in values else values
        table = table.set_column(table.column_names.index(name), name, pa.array(array))
    pq.write_table(table, target)
    return target


def with_cell(value, row=2):
    return lambda values: [*values[:row], value, *values[row + 1 :]]


NEEDED = ["video_id", "path", "usable", "fingerprint", "size_bytes", "modified_ns", "video_start_seconds",
          "video_duration_seconds", "audio_start_seconds", "audio_duration_seconds"]  # fmt: skip


@pytest.mark.parametrize("name", NEEDED)
@pytest.mark.parametrize("gap", ["null", "empty"])
def test_an_empty_cell_is_refused_with_its_row_and_column(saved, tmp_path, name, gap):
    kind = COLUMNS[name]
    value = None if gap == "null" else "" if kind == pa.string() else float("nan")
    values = (
        with_cell(value) if kind != pa.bool_() or gap == "null" else lambda v: with_cell(value)([float(x) for x in v])
    )
    path = edited(saved, tmp_path / "m.parquet", {name: values})
    with pytest.raises(DataError, match=rf"m.parquet: row 3 .*has no value in the column {name}") as error:
        Manifest.load(path)
    assert error.value.remedy


@pytest.mark.parametrize(("name", "value", "words"), [
    ("video_duration_seconds", -1.0, "a negative time"),
    ("audio_start_seconds", float("inf"), "has no time"),
    ("frame_count", 2.5, "row 3 has 2.5 in the column frame_count, which holds int64"),
    ("video_id", "clips/clip_0000.mp4", "two rows have the video_id clips/clip_0000.mp4"),
])  # fmt: skip
def test_a_cell_that_cannot_be_is_refused(saved, tmp_path, name, value, words):
    path = edited(saved, tmp_path / "m.parquet", {name: with_cell(value)})
    with pytest.raises(DataError, match=f"m.parquet: .*{words}"):
        Manifest.load(path)


def test_a_word_where_a_number_belongs_is_refused(saved, tmp_path):
    path = edited(saved, tmp_path / "m.parquet", {"width": lambda v: with_cell("wide")([str(x) for x in v])})
    with pytest.raises(DataError, match="row 3 has 'wide' in the column width, which holds int32"):
        Manifest.load(path)


def test_cells_of_rows_that_are_not_used_may_be_empty(saved, tmp_path):
    gaps = {"usable": with_cell(False), "fingerprint": with_cell(None), "video_start_seconds": with_cell(None)}
    path = edited(saved, tmp_path / "m.parquet", gaps)
    assert len(Manifest.load(path).usable()) == 7


def test_types_that_other_tools_change_are_restored(saved, tmp_path):
    def floats(values):
        return [float(v) for v in values]

    def numbers(values):
        return [*range(len(values) - 1), None]

    path = edited(saved, tmp_path / "m.parquet", {
        "usable": floats, "size_bytes": floats, "width": lambda v: [str(x) for x in v], "rotation_degrees": floats,
        "audio_peak_dbfs": with_cell(float("nan")), "split": numbers,
    })  # fmt: skip
    manifest, before = Manifest.load(path), Manifest.load(saved)
    same = [name for name in COLUMNS if name not in ("audio_peak_dbfs", "split")]
    assert manifest.table.select(same).equals(before.table.select(same))
    assert manifest.column("audio_peak_dbfs")[2] is None
    assert manifest.column("split") == ["0", "1", "2", "3", "4", "5", "6", None]  # as of every source table


def test_a_manifest_that_lost_its_note_says_how_to_go_on(saved, tmp_path):
    pq.write_table(pq.read_table(saved).replace_schema_metadata(None), tmp_path / "m.parquet")
    with pytest.raises(DataError, match=r"seehear scan .*m.parquet --out"):
        Manifest.load(tmp_path / "m.parquet")


def test_an_edited_manifest_ends_a_run_with_the_row(saved, tmp_path, finished_run, capsys):
    path = edited(saved, tmp_path / "m.parquet", {"video_start_seconds": with_cell(None)})
    code, _, said = run(capsys, "pretrain", path, "--out", tmp_path / "run")
    assert (code, "m.parquet: row 3 (clips/clip_0002.mp4) has no value" in said) == (3, True)
    resumed = tmp_path / "resumed"
    shutil.copytree(finished_run, resumed)
    (resumed / "labels.parquet").unlink()
    gap = {"audio_duration_seconds": with_cell(float("nan"))}
    edited(finished_run / "manifest.parquet", resumed / "manifest.parquet", gap)
    code, _, said = run(capsys, "pretrain", "--resume", resumed)
    assert (code, "manifest.parquet: row 3 (clips/clip_0002.mp4) has no value" in said) == (3, True)


def test_the_summary_names_rejected_files(tmp_path):
    make_broken(tmp_path)
    lines = [line.strip() for line in scan(tmp_path, workers=0).summary_text().splitlines()]
    assert "short_sound.mp4: 0.400 s of sound, 1 s are needed" in lines
    assert "concat.mp4, dash.mp4, hls.mp4" in lines
    assert "cut_at_50.mkv, cut_at_60.mp4, cut_at_85.mp4 and 2 more" in lines
