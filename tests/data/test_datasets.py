"""Data sets in miniatures of the layouts in which they are distributed; files are empty where no reader opens them."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from seehear.data.datasets import KINETICS_SOUNDS, READERS, DataSet, open_data
from seehear.data.scanning import scan
from seehear.errors import DataError, UsageError
from tests.corpus import make_video


def put(root: Path, names: Iterable[str]) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def write(file: Path, lines: Iterable[str]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n")
    return file


def parts(data: DataSet, column: str) -> dict[str, tuple[str, str]]:
    """Name of the file -> (label, part)."""
    return {Path(row["path"]).name: (row["label"], row[column]) for row in data.rows}


# ---------------------------------------------------------------- miniatures, each with one video missing


def ucf101(root: Path) -> str:
    videos = [f"{c}/v_{c}_g{g:02d}_c01" for c in ("Archery", "Biking") for g in range(1, 7)]
    put(root, [f"UCF-101/{v}.avi" for v in videos if v != "Biking/v_Biking_g02_c01"])
    write(root / "ucfTrainTestlist/classInd.txt", ["1 Archery", "2 Biking"])
    for n in (1, 2, 3):
        tested = [v for v in videos if int(v[-6:-4]) in (2 * n - 1, 2 * n)]
        trained = [f"{v}.avi {1 + v.startswith('B')}" for v in videos if v not in tested]
        write(root / f"ucfTrainTestlist/trainlist0{n}.txt", trained)
        write(root / f"ucfTrainTestlist/testlist0{n}.txt", [f"{v}.avi" for v in tested])
    return "Biking/v_Biking_g02_c01"


def hmdb51(root: Path) -> str:
    for label in ("brush_hair", "wave"):
        names = [f"{label}_#{i}_(2)_{label}_u_nm_np1_ba_med_{i}.avi" for i in range(5)]
        put(root, [f"hmdb51_org/{label}/{n}" for n in names if not (label == "wave" and n == names[4])])
        for n in (1, 2, 3):
            uses = ["1", "1", "2", "0", "2"]
            lines = [f"{name} {uses[(i + n - 1) % 5]} " for i, name in enumerate(names)]
            write(root / f"testTrainMulti_7030_splits/{label}_test_split{n}.txt", lines)
    return "wave/wave_#4_(2)_wave_u_nm_np1_ba_med_4"


def esc50(root: Path) -> str:
    rows = []
    for fold in range(1, 6):
        for number, (category, small) in enumerate((("dog", True), ("rain", True), ("mouse_click", False))):
            name = f"{fold}-{1000 + number}-A-{number}.wav"
            rows.append(f"{name},{fold},{number},{category},{small},{1000 + number},A")
            if name != "2-1001-A-1.wav":
                put(root, [f"audio/{name}"])
    write(root / "meta/esc50.csv", ["filename,fold,target,category,esc10,src_file,take", *rows])
    return "2-1001-A-1"


def kinetics(root: Path) -> str:
    # The names of three ways of downloading, and one class that is not of Kinetics-Sounds.
    put(root, ["train/bowling/AAAAAAAAAAA_000010_000020.mp4", "train/tap_dancing/BBBBBBBBBB-.mkv",
               "train/abseiling/CCCCCCCCCCC_5_15.mp4", "val/bowling/DDDDDDDDDDD_000000_000010.mp4",
               "val/abseiling/EEEEEEEEEEE_000001.webm"])  # fmt: skip
    head = "label,youtube_id,time_start,time_end,split,is_cc"
    write(root / "annotations/train.csv", [
        head, "bowling,AAAAAAAAAAA,10,20,train,0", "tap dancing,BBBBBBBBBB-,7,17,train,0",
        "abseiling,CCCCCCCCCCC,5,15,train,0", '"tap dancing",FFFFFFFFFFF,1,11,train,0',
    ])  # fmt: skip
    write(root / "annotations/val.csv", [head, "bowling,DDDDDDDDDDD,0,10,val,0", "abseiling,EEEEEEEEEEE,1,11,val,0"])
    return "FFFFFFFFFFF_000001_000011"


def vggsound(root: Path) -> str:
    put(root, ["video/---g-f_I2yQ_000001.mp4", "audio/---g-f_I2yQ_000001.wav", "audio/--0PQM4-hqg_000030.wav",
               "video/0Cfc0r3l5Ww_000017.mp4", "video/0Cfc0r3l5Ww_46.mp4"])  # fmt: skip
    write(root / "vggsound.csv", [
        "---g-f_I2yQ,1,people marching,test", "--0PQM4-hqg,30,waterfall burbling,train",
        '0Cfc0r3l5Ww,17,"ice cream truck, ice cream van",train', "0Cfc0r3l5Ww,46,people marching,train",
        "zzzzzzzzzzz,0,people marching,test",
    ])  # fmt: skip
    return "zzzzzzzzzzz_000000_000010"


def audioset(root: Path) -> str:
    note = ["# Segments csv created Sun Mar  5 10:54:31 2017", "# num_ytids=2, num_segs=2, num_unique_labels=2",
            "# YTID, start_seconds, end_seconds, positive_labels"]  # fmt: skip
    write(root / "balanced_train_segments.csv", [
        *note, '--4gqARaEJE, 0.000, 10.000, "/m/068hy,/m/07q6cd_"', 'zzzzzzzzzzz, 30.000, 40.000, "/m/068hy"',
    ])  # fmt: skip
    write(root / "eval_segments.csv", [*note, '-0RWZT-miFs, 420.000, 430.000, "/m/07q6cd_"'])
    write(root / "class_labels_indices.csv", [
        "index,mid,display_name", "0,/m/068hy,Domestic animals", '1,/m/07q6cd_,"Squeak, creak"',
    ])  # fmt: skip
    put(root, ["balanced/Y--4gqARaEJE.wav", "eval/-0RWZT-miFs_420.000_430.000.mp4"])
    return "zzzzzzzzzzz_000030_000040"


def ave(root: Path) -> str:
    write(root / "Annotations.txt", ["Category&VideoID&Quality&StartTime&EndTime", "Church bell&RUhOCu3LNXM&good&0&10"])
    write(root / "trainSet.txt", ["Church bell&RUhOCu3LNXM&good&0&10", "Male speech, man speaking&0giAfYq9oVM&good&3&9",
                                  "Bark&RUhOCu3LNXM&good&0&10"])  # fmt: skip
    write(root / "valSet.txt", ["Bark&3jS8tWfLJxI&good&7&9"])
    write(root / "testSet.txt", ["Bark&E_1Asfq8it4&good&0&3", "Bark&zzzzzzzzzzz&good&0&3"])
    put(root, [f"AVE/{i}.mp4" for i in ("RUhOCu3LNXM", "0giAfYq9oVM", "3jS8tWfLJxI", "E_1Asfq8it4")])
    return "zzzzzzzzzzz"


LISTED: dict[str, Callable[[Path], str]] = {
    "ucf101": ucf101, "hmdb51": hmdb51, "esc50": esc50, "esc10": esc50, "kinetics400": kinetics,
    "kinetics-sounds": kinetics, "vggsound": vggsound, "audioset": audioset, "ave": ave,
}  # fmt: skip
every_listed = pytest.mark.parametrize("name", LISTED)


# ---------------------------------------------------------------- what they read


def test_ucf101(tmp_path):
    ucf101(tmp_path)
    for place in (tmp_path, tmp_path / "UCF-101"):  # the lists lie in the folder, or beside it
        data = open_data(f"ucf101:{place}")
        assert data.splits == ("split1", "split2", "split3")
        assert len(data.rows) == 11 and all(Path(row["path"]).is_absolute() for row in data.rows)
        assert parts(data, "split1")["v_Archery_g01_c01.avi"] == ("Archery", "test")
        assert parts(data, "split2")["v_Archery_g01_c01.avi"] == ("Archery", "train")
        assert parts(data, "split3")["v_Biking_g06_c01.avi"] == ("Biking", "test")
        # Group 2 is tested in split 1 and trained on in the others.
        assert data.missing == {
            "split1": {"train": 0, "test": 1}, "split2": {"train": 1, "test": 0}, "split3": {"train": 1, "test": 0},
        }  # fmt: skip


def test_ucf101_converted_to_another_container(tmp_path):
    ucf101(tmp_path)
    for file in (tmp_path / "UCF-101").glob("*/*.avi"):
        file.rename(file.with_suffix(".mp4"))
    assert len(open_data(f"ucf101:{tmp_path}").rows) == 11


def test_hmdb51(tmp_path):
    hmdb51(tmp_path)
    data = open_data(f"hmdb51:{tmp_path}")
    first = parts(data, "split1")
    assert [first[f"wave_#{i}_(2)_wave_u_nm_np1_ba_med_{i}.avi"] for i in range(4)] == [
        ("wave", "train"), ("wave", "train"), ("wave", "test"), ("wave", ""),
    ]  # fmt: skip
    assert data.missing["split1"] == {"train": 0, "test": 1} and data.missing["split2"] == {"train": 1, "test": 0}
    assert open_data(f"hmdb51:{tmp_path / 'hmdb51_org'}").rows == data.rows


def test_esc50_and_esc10(tmp_path):
    esc50(tmp_path)
    data, small = open_data(f"esc50:{tmp_path}"), open_data(f"esc10:{tmp_path}")
    assert data.splits == small.splits == tuple(f"fold{n}" for n in range(1, 6))
    assert len(data.rows) == 14 and len(small.rows) == 9
    assert {row["label"] for row in small.rows} == {"dog", "rain"}
    for fold in range(1, 6):
        tested = {n for n, (_, part) in parts(data, f"fold{fold}").items() if part == "test"}
        assert tested == {n for n in parts(data, "fold1") if n.startswith(f"{fold}-")}
    assert data.missing["fold2"] == {"train": 0, "test": 1} and data.missing["fold3"] == {"train": 1, "test": 0}


def test_dcase2014(tmp_path):
    put(tmp_path, ["scenes_stereo/bus01.wav", "scenes_stereo/busystreet03.wav", "scenes_stereo/tubestation10.wav",
                   "scenes_stereo/readme.txt", "scenes_stereo_testset/bus01.wav"])  # fmt: skip
    data = open_data(f"dcase2014:{tmp_path}")
    found = [(row["label"], row["split"]) for row in data.rows]
    assert found == [("bus", "train"), ("busystreet", "train"), ("tubestation", "train"), ("bus", "test")]
    put(tmp_path, ["scenes_stereo/office_hum.wav"])
    with pytest.raises(DataError, match="office_hum"):
        open_data(f"dcase2014:{tmp_path}")
    shutil.rmtree(tmp_path / "scenes_stereo_testset")
    with pytest.raises(DataError, match=r"(?s)scenes_stereo_testset.*archive\.org") as error:
        open_data(f"dcase2014:{tmp_path}")
    assert str(tmp_path / "scenes_stereo_testset") in str(error.value)


def test_kinetics_by_any_downloaders_names(tmp_path):
    kinetics(tmp_path)
    assert parts(open_data(f"kinetics400:{tmp_path}"), "split") == {
        "AAAAAAAAAAA_000010_000020.mp4": ("bowling", "train"), "BBBBBBBBBB-.mkv": ("tap dancing", "train"),
        "CCCCCCCCCCC_5_15.mp4": ("abseiling", "train"), "DDDDDDDDDDD_000000_000010.mp4": ("bowling", "test"),
        "EEEEEEEEEEE_000001.webm": ("abseiling", "test"),
    }  # fmt: skip
    sounds = open_data(f"kinetics-sounds:{tmp_path}")
    assert [Path(row["path"]).name[0] for row in sounds.rows] == ["A", "B", "D"]
    assert len(KINETICS_SOUNDS) == 32  # SeLaVi's K of Kinetics-Sounds


def test_vggsound_prefers_the_video_and_tells_two_clips_of_one_video_apart(tmp_path):
    vggsound(tmp_path)
    data = open_data(f"vggsound:{tmp_path}")
    assert parts(data, "split") == {
        "---g-f_I2yQ_000001.mp4": ("people marching", "test"),
        "--0PQM4-hqg_000030.wav": ("waterfall burbling", "train"),
        "0Cfc0r3l5Ww_000017.mp4": ("ice cream truck, ice cream van", "train"),
        "0Cfc0r3l5Ww_46.mp4": ("people marching", "train"),
    }  # fmt: skip


def test_audioset_has_several_labels_by_name(tmp_path):
    audioset(tmp_path)
    data = open_data(f"audioset:{tmp_path}")
    assert data.multilabel
    expected = {
        "Y--4gqARaEJE.wav": ("Domestic animals|Squeak, creak", "train"),
        "-0RWZT-miFs_420.000_430.000.mp4": ("Squeak, creak", "test"),
    }
    assert parts(data, "split") == expected
    (tmp_path / "class_labels_indices.csv").unlink()
    with pytest.raises(DataError, match=r"class_labels_indices\.csv or ontology\.json"):
        open_data(f"audioset:{tmp_path}")
    ontology = [{"id": "/m/068hy", "name": "Domestic animals"}, {"id": "/m/07q6cd_", "name": "Squeak, creak"}]
    (tmp_path / "ontology.json").write_text(json.dumps(ontology))
    assert parts(open_data(f"audioset:{tmp_path}"), "split") == expected


def test_ave(tmp_path):
    ave(tmp_path)
    data = open_data(f"ave:{tmp_path}")
    assert parts(data, "split") == {
        "RUhOCu3LNXM.mp4": ("Church bell", "train"), "0giAfYq9oVM.mp4": ("Male speech, man speaking", "train"),
        "3jS8tWfLJxI.mp4": ("Bark", ""), "E_1Asfq8it4.mp4": ("Bark", "test"),
    }  # fmt: skip
    assert "1 files are listed more than once" in data.note and "valSet" in data.note


@every_listed
def test_a_missing_video_is_counted_and_named(name, tmp_path):
    gone = LISTED[name](tmp_path)
    data = open_data(f"{name}:{tmp_path}")
    assert data.missing_paths == (gone,)
    assert all(sum(counts.values()) == 1 for counts in data.missing.values())


OFFICIAL = {  # a file of the layout, and a line of it with its fault
    "ucf101": ("ucfTrainTestlist/trainlist02.txt", "Archery v_Archery_g01_c01.avi", "line 1 "),
    "hmdb51": ("testTrainMulti_7030_splits/wave_test_split3.txt", "wave_1.avi 3", "line 1 "),
    "esc50": ("meta/esc50.csv", "1-1-A-1.wav,one,1,dog,True,1,A", "line 2 "),
    "esc10": ("meta/esc50.csv", "1-1-A-1.wav,1,1", "line 2 "),
    "kinetics400": ("annotations/val.csv", "bowling,DDDDDDDDDDD,x,10,val,0", "line 2 "),
    "kinetics-sounds": ("annotations/train.csv", "bowling,AAAAAAAAAAA", "line 2 "),
    "vggsound": ("vggsound.csv", "---g-f_I2yQ,1,people marching", "line 1 "),
    "audioset": ("eval_segments.csv", '-0RWZT-miFs, 420.000, 430.000, "/m/none"', "line 4 "),
    "ave": ("testSet.txt", "Bark&E_1Asfq8it4&good", "line 1 "),
}


@every_listed
def test_a_malformed_line_is_named(name, tmp_path):
    LISTED[name](tmp_path)
    file, line, where = OFFICIAL[name]
    number = int(re.sub(r"\D", "", where))
    lines = (tmp_path / file).read_text().splitlines()
    write(tmp_path / file, [*lines[: number - 1], line, *lines[number - 1 :]])
    with pytest.raises(DataError) as error:
        open_data(f"{name}:{tmp_path}")
    assert str(tmp_path / file) in str(error.value) and where in str(error.value)


@every_listed
def test_a_missing_split_file_is_named_with_its_place_and_source(name, tmp_path):
    LISTED[name](tmp_path)
    file = tmp_path / OFFICIAL[name][0]
    file.unlink()
    with pytest.raises(DataError) as error:
        open_data(f"{name}:{tmp_path}")
    assert file.name in error.value.message and "https://" in str(error.value.remedy)


@every_listed
def test_no_video_at_all_is_an_error(name, tmp_path):
    LISTED[name](tmp_path)
    for file in tmp_path.rglob("*"):
        if file.suffix in (".avi", ".mp4", ".wav", ".mkv", ".webm"):
            file.unlink()
    with pytest.raises(DataError, match="none of the"):
        open_data(f"{name}:{tmp_path}")


def test_a_split_of_which_all_is_missing_is_an_error(tmp_path):
    kinetics(tmp_path)
    shutil.rmtree(tmp_path / "val")
    with pytest.raises(DataError, match="no videos with split test: all 2 are missing"):
        open_data(f"kinetics400:{tmp_path}")


# ---------------------------------------------------------------- folders and tables


def test_a_folder_with_parts(tmp_path):
    put(tmp_path, ["train/a/1.mp4", "train/b/deep/2.wav", "test/a/3.mp4", "test/b/4.mp4", "test/b/notes.txt"])
    data = open_data(f"folder:{tmp_path}")
    assert parts(data, "split") == {
        "1.mp4": ("a", "train"), "2.wav": ("b", "train"), "3.mp4": ("a", "test"), "4.mp4": ("b", "test"),
    }  # fmt: skip
    shutil.rmtree(tmp_path / "test")
    with pytest.raises(DataError, match=str(tmp_path / "test")):
        open_data(f"folder:{tmp_path}")


def test_a_folder_without_parts_is_dealt_by_class_and_the_same_wherever_it_lies(tmp_path):
    names = [f"{c}/{i:02d}.mp4" for c, count in (("a", 20), ("b", 7), ("c", 1)) for i in range(count)]
    put(tmp_path / "one", names)
    put(tmp_path / "two", names)
    data = open_data(f"folder:{tmp_path / 'one'}")
    counts = Counter((row["label"], row["split"]) for row in data.rows)
    assert counts == {("a", "train"): 16, ("a", "test"): 4, ("b", "train"): 6, ("b", "test"): 1, ("c", "train"): 1}
    assert "no official split" in data.note and "20%" in data.note
    other = open_data(f"folder:{tmp_path / 'two'}")
    assert [row["split"] for row in other.rows] == [row["split"] for row in data.rows]
    put(tmp_path / "two", ["train/1.mp4", "train/2.mp4"])  # a class may be called so
    assert {row["label"] for row in open_data(f"folder:{tmp_path / 'two'}").rows} == {"a", "b", "c", "train"}
    tests = [Path(row["path"]).stem for row in data.rows if row["label"] == "a" and row["split"] == "test"]
    assert tests != ["00", "01", "02", "03"]  # drawn, not cut off


def table(folder: Path, header: str, *lines: str) -> Path:
    return write(folder / "table.csv", [header, *lines])


def test_a_table_with_a_split(tmp_path):
    file = table(tmp_path, "path,label,split,who", "a.mp4,x,train,1", "b.mp4,y,test,2", "c.mp4,,validation,3")
    data = open_data(file)
    assert (data.name, data.splits, data.multilabel) == ("table", ("split",), False)
    assert data.rows[0] == {"path": str(tmp_path / "a.mp4"), "label": "x", "split": "train"}
    assert data.rows[2] == {"path": str(tmp_path / "c.mp4"), "label": "", "split": ""}
    assert data.missing == {"split": {"train": 0, "test": 0}}
    other = open_data(table(tmp_path, "path,kind,part", "a.mp4,x,train", "b.mp4,y,test"),
                      label_column="kind", split_column="part")  # fmt: skip
    assert other.rows[1] == {"path": str(tmp_path / "b.mp4"), "label": "y", "part": "test"}


def test_a_table_with_folds(tmp_path):
    file = table(tmp_path, "path,label,fold", *[f"{i}.wav,x{i % 2},{1 + i % 3}" for i in range(6)], "6.wav,x0,")
    data = open_data(file)
    assert data.splits == ("fold1", "fold2", "fold3")
    assert [row["fold2"] for row in data.rows] == ["train", "test", "train", "train", "test", "train", ""]
    assert data.chosen("all") == data.splits
    assert data.chosen("2") == data.chosen("fold2") == ("fold2",)
    with pytest.raises(UsageError, match="fold1, fold2, fold3"):
        data.chosen("4")
    # With both columns the split comes first, and folds by name.
    both = table(tmp_path, "path,label,split,fold", "a.wav,x,train,1", "b.wav,x,test,2", "c.wav,y,train,2")
    assert open_data(both).splits == ("split",)
    assert open_data(both, split_column="fold").splits == ("fold1", "fold2")


def test_a_table_that_cannot_be_used(tmp_path):
    with pytest.raises(DataError, match="there is no file"):
        open_data(tmp_path / "none.csv")
    file = table(tmp_path, "path,label,split", "a.mp4,x,train", "b.mp4,y,train")
    with pytest.raises(DataError, match="no videos with split test"):
        open_data(file)
    for column in ("label_column", "split_column"):
        with pytest.raises(UsageError, match="no column 'kind'"):
            open_data(file, **{column: "kind"})
    (tmp_path / "clip.mp4").write_bytes(b"\0\0\0\x20ftypisom" * 20)
    with pytest.raises(DataError, match=r"clip.mp4 is no text"):
        open_data(tmp_path / "clip.mp4")


# ---------------------------------------------------------------- names and paths


def test_an_unknown_name_suggests_the_closest(tmp_path):
    with pytest.raises(UsageError, match=r"did you mean ucf101:") as error:
        open_data(f"UCF-101:{tmp_path}")
    assert all(name in str(error.value) for name in READERS)
    with pytest.raises(UsageError, match="layout has to be named"):
        open_data(tmp_path)
    with pytest.raises(DataError, match="no folder"):
        open_data(f"ucf101:{tmp_path / 'none'}")
    with pytest.raises(UsageError, match="its own classes"):
        open_data(f"ucf101:{tmp_path}", split_column="fold")


def test_a_path_with_a_colon_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = table(tmp_path, "path,label,split", "a.mp4,x,train", "b.mp4,y,test")
    file.rename(tmp_path / "esc50:1.csv")
    assert open_data("esc50:1.csv").name == "table"
    assert open_data(tmp_path / "esc50:1.csv").rows[0]["path"] == str(tmp_path / "a.mp4")
    with pytest.raises(DataError, match="there is no file"):
        open_data("C:\\data\\table.csv")


def test_reading_a_split_loads_no_torch():
    code = "import sys, seehear.data.datasets; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---------------------------------------------------------------- manifests


def test_a_manifest_of_a_data_set(tmp_path):
    """Real sound; two files of the same content stay both, as the official folds have them."""
    esc50(tmp_path)
    for file in sorted((tmp_path / "audio").iterdir()):
        if file.name != "5-1002-A-2.wav":  # stays empty: one bad file is a row with its reason
            make_video(file, seconds=1.0, rate=8000, has_video=False)
    data = open_data(f"esc50:{tmp_path}")
    seen: list[tuple[int, int]] = []
    manifest = data.manifest(need=("audio",), min_seconds=0.5, workers=0, progress=lambda *p: seen.append(p))
    assert seen[-1] == (14, 14)
    assert manifest.extra_columns == ["label", *data.splits]
    assert [row["reason"] for row in manifest.rejected_rows()] == ["empty"]
    assert len(manifest.usable()) == 13  # all of the same tone
    assert manifest.by_id("label")["audio/1-1000-A-0.wav"] == "dog"
    assert manifest.by_id("fold3")["audio/3-1000-A-0.wav"] == "test"
    again = data.manifest(need=("audio",), min_seconds=0.5, workers=0, previous=manifest)
    assert again.rows() == manifest.rows()


def test_a_manifest_of_a_table_renames_and_spares_probing(tmp_path, collection, monkeypatch):
    with open(collection, newline="") as file:
        rows = [(r["path"], r["label"], i % 3) for i, r in enumerate(csv.DictReader(file))]
    folds = collection.parent / "folds.csv"
    with open(folds, "w", newline="") as file:
        csv.writer(file).writerows([("path", "kind", "fold"), *rows])
    given = {"label_column": "kind", "split_column": "fold"}
    try:
        direct = open_data(folds, **given).manifest(need=("video", "audio"), min_seconds=1.0, workers=0)
        scan(folds, out=tmp_path / "scanned.parquet", min_seconds=1.0, workers=0)
    finally:
        folds.unlink()

    def never(*_args: object, **_named: object) -> None:
        raise AssertionError("a file was probed")

    monkeypatch.setattr("seehear.data.scanning.probe", never)
    spared = open_data(tmp_path / "scanned.parquet", **given)
    manifest = spared.manifest(need=("video", "audio"), min_seconds=1.0)
    assert spared.splits == ("fold0", "fold1", "fold2")
    for one in (direct, manifest):
        assert one.column("label") == [label for _, label, _ in rows]
        assert one.column("fold1") == ["test" if fold == 1 else "train" for *_, fold in rows]
        assert one.column("kind") == one.column("label")
