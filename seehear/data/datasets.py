"""Data sets with classes and official splits, read in the layouts in which they are distributed.

`open_data` takes `NAME:PATH` for the data sets of `READERS`, or a table. What the official files name and the disk
lacks (videos vanish from the web) is counted for each split: a score on what is left is a score on another test set.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from seehear.data.manifest import COLUMNS, Manifest
from seehear.data.scanning import scan, unprobed
from seehear.data.sources import FileList, table_of
from seehear.data.tables import read_text, separator_of
from seehear.errors import DataError, UsageError
from seehear.media.formats import VIDEO_EXTENSIONS, extension_of, is_media

TRAIN, TEST = "train", "test"
SEPARATOR = "|"
"""What stands between the classes of a row that has several."""
TEST_SHARE = 0.2
"""Share of each class that a folder without splits keeps for testing."""


@dataclass(frozen=True)
class DataSet:
    """The files of a data set with their classes and splits; nothing has been opened yet."""

    name: str
    """One of `READERS`, or "table"."""
    path: Path
    rows: tuple[dict[str, str], ...]
    """Each has "path" (absolute), "label" and for every column of `splits` "train", "test" or ""."""
    splits: tuple[str, ...]
    """Names of columns: ("split1", "split2", "split3"), ("fold1", ..., "fold5") or one alone."""
    missing: dict[str, dict[str, int]]
    """For each split how many "train" and "test" files its official lists name that are not on disk."""
    missing_paths: tuple[str, ...] = ()
    """Their names, without the ending."""
    multilabel: bool = False
    """A row's label is several, joined by `SEPARATOR`."""
    note: str = ""
    """What one who reads a score on it should know."""
    streams: tuple[str, ...] = ("video", "audio")
    """What of its files is looked at: of action recognition the picture (many of these videos have no sound)."""

    def chosen(self, which: str) -> tuple[str, ...]:
        """The columns meant by "all", a number from 1 on, or a column's name."""
        if which == "all":
            return self.splits
        if which in self.splits:
            return (which,)
        if which.isdecimal() and 1 <= int(which) <= len(self.splits):
            return (self.splits[int(which) - 1],)
        raise UsageError(
            f"{self.name} has no split {which!r}", f"it has: {', '.join(self.splits)}; a number or 'all' do as well"
        )

    def manifest(
        self,
        *,
        need: Sequence[str],
        min_seconds: float,
        workers: int | None = None,
        audio_track: int | None = None,
        progress: Callable[[int, int], None] | None = None,
        previous: Manifest | None = None,
    ) -> Manifest:
        """Look at every file (see `seehear.data.scanning.scan`); the columns `label` and `splits` come with it.

        A table that is a manifest itself is taken as it is. Files of equal content stay, each in its official
        split, except in a table or a folder, where the first is kept as in every scan. Of `previous`, an earlier
        manifest of these files, is taken what has not changed.
        """
        if self.name == "table" and Manifest.is_manifest(self.path):
            return self._with_columns(Manifest.load(self.path))
        listed = self.path if self.name == "table" else self._listed()
        found = scan(
            listed, need=need, min_seconds=min_seconds, workers=workers, progress=progress, previous=previous,
            keep_duplicates=self.name not in ("table", "folder"), audio_track=audio_track,
        )  # fmt: skip
        return self._with_columns(found)

    def unprobed(self) -> Manifest:
        """The manifest without looking at any file, for features that somebody else made of them."""
        return unprobed(self._listed())

    def _listed(self) -> FileList:
        folder = self.path.parent if self.name == "table" else self.path
        return FileList(os.path.abspath(folder), self.rows, str(self.path))

    def _with_columns(self, found: Manifest) -> Manifest:
        """A manifest of the same rows with the columns `label` and `splits` of this data set."""
        table = found.table
        for column in ("label", *self.splits):
            values = pa.array([row[column] for row in self.rows], pa.string())
            if column in table.column_names:
                table = table.set_column(table.column_names.index(column), column, values)
            else:
                table = table.append_column(column, values)
        return Manifest(table, found.info)


READERS: dict[str, str] = {
    "ucf101": "UCF101: CLASS/v_*.avi and ucfTrainTestlist/ with trainlist0N.txt, testlist0N.txt; 3 splits",
    "hmdb51": "HMDB51: CLASS/*.avi and testTrainMulti_7030_splits/CLASS_test_splitN.txt; 3 splits",
    "esc50": "ESC-50: audio/*.wav and meta/esc50.csv; 5 folds",
    "esc10": "ESC-10: the ten classes of ESC-50 that meta/esc50.csv marks so; 5 folds",
    "dcase2014": "DCASE acoustic scenes (Stowell et al., 2015): scenes_stereo/*.wav, scenes_stereo_testset/*.wav",
    "kinetics400": "Kinetics-400: train.csv, val.csv (validate.csv) and files ID or ID_START_END in any folders",
    "kinetics-sounds": "the 32 classes of Kinetics-400 that can be seen and heard; laid out as kinetics400",
    "vggsound": "VGG-Sound: vggsound.csv and files ID_START in any folders",
    "audioset": "AudioSet (several labels a clip): balanced_train_segments.csv, eval_segments.csv, "
    "class_labels_indices.csv or ontology.json, and files ID or ID_START in any folders",
    "ave": "AVE: trainSet.txt, valSet.txt, testSet.txt and AVE/ID.mp4",
    "folder": "a folder for each class: train/CLASS/*, test/CLASS/*, or CLASS/* with a fifth of each for testing",
}
"""What `open_data` reads as NAME:PATH, and the layout it expects."""


def open_data(
    spec: str | Path, *, label_column: str = "label", split_column: str = "split", folds: bool = False
) -> DataSet:
    """Open `NAME:PATH` (see `READERS`), or the path of a CSV, TSV or Parquet table or a manifest.

    A table has the columns path, `label_column` and `split_column`. If the latter holds whole numbers, they are
    folds: split foldN tests on fold N and trains on the others. A table without a column split may have such a
    column fold; with `folds` it is taken even beside a split. A spec that exists as a path is always one.

    Raises `UsageError` for an unknown name or column or if there are no folds where they are asked for, `DataError`
    for a file of the layout that is missing or damaged and for a split of which nothing is there to train or to
    test on.
    """
    name, path = _parse(spec)
    if name == "table":
        if folds and split_column == "split":
            split_column = "fold"
        data = _read_split_table(path, label_column, split_column)
    else:
        if (label_column, split_column) != ("label", "split"):
            raise UsageError(f"{name} has its own classes and splits", "columns are named for a table alone")
        if not path.is_dir():
            raise DataError(f"{name}: there is no folder {path}", f"expected is {READERS[name]}")
        data = _READ[name](path)
    if folds and not data.splits[0].startswith("fold"):
        raise UsageError(f"{spec} has no folds", f"it has: {', '.join(data.splits)}")
    return _checked(data)


def _parse(spec: str | Path) -> tuple[str, Path]:
    text = os.fspath(spec)
    if os.path.exists(text):
        if os.path.isdir(text):
            raise UsageError(
                f"{text} is a folder, and its layout has to be named",
                f"folder:{text} for a folder for each class, or one of {', '.join(list(READERS)[:-1])}",
            )
        return "table", Path(text)
    name, colon, path = text.partition(":")
    if not colon or len(name) == 1 or not re.fullmatch(r"[\w-]+", name):  # one letter: a drive of Windows
        return "table", Path(text)
    if name not in READERS:
        near = difflib.get_close_matches(name.lower(), READERS, 1, cutoff=0.5)
        raise UsageError(
            f"there is no data set {name!r}, and no file {text}",
            (f"did you mean {near[0]}:{path}? " if near else "") + f"there are: {', '.join(READERS)}",
        )
    return name, Path(path).expanduser()


def _checked(data: DataSet) -> DataSet:
    for column in data.splits:
        for part in (TRAIN, TEST):
            if not any(row[column] == part for row in data.rows):
                gone = data.missing[column][part]
                raise DataError(
                    f"{data.path}: no videos with {column} {part}" + (f": all {gone} are missing" if gone else ""),
                    "add such a column, or name it" if data.name == "table" else f"expected is {READERS[data.name]}",
                )
    return data


# ---------------------------------------------------------------- tables and folders


def _read_split_table(path: Path, label_column: str, split_column: str) -> DataSet:
    if not path.exists():
        raise DataError(f"there is no file {path}", "give a table, or NAME:PATH for a data set")
    table = table_of(path)
    names, records = table.names, table.records
    if split_column == "split" and "split" not in names and "fold" in names:
        split_column = "fold"
    for column in (split_column, label_column):
        if column not in names or column in COLUMNS:
            others = ", ".join(n for n in names if n not in COLUMNS) or "no other"
            raise UsageError(f"{path}: the table has no column {column!r}", f"besides path it has: {others}")
    values = [record[split_column] or "" for _, record in records]
    if folds := _folds(values):
        parts = {f"fold{n}": [_part_of_fold(value, n) for value in values] for n in folds}
    else:
        parts = {split_column: [value if value in (TRAIN, TEST) else "" for value in values]}
    root = os.path.dirname(os.path.abspath(path))
    rows = tuple(
        {
            "path": os.path.abspath(os.path.join(root, record.get("path") or "")),
            "label": record[label_column] or "",
            **{column: parts[column][i] for column in parts},
        }
        for i, (_, record) in enumerate(records)
    )
    note = f"the table was {table.note}" if table.note else ""
    return DataSet("table", path, rows, tuple(parts), _none_missing(parts), note=note)


def _folds(values: Iterable[str]) -> list[int]:
    """The folds of a column that holds whole numbers alone (and gaps), two at least; else none."""
    found = {value.strip() for value in values} - {""}
    if not all(value.isdecimal() for value in found):
        return []
    return sorted({int(value) for value in found}) if len(found) > 1 else []


def _part_of_fold(value: str, fold: int) -> str:
    if not value.strip():
        return ""
    return TEST if int(value) == fold else TRAIN


def _none_missing(splits: Iterable[str]) -> dict[str, dict[str, int]]:
    return {column: {TRAIN: 0, TEST: 0} for column in splits}


def _folder(path: Path) -> DataSet:
    given = {part: of for part in (TRAIN, TEST) if (of := _by_class(path / part))}
    if given:
        if lacking := {TRAIN, TEST} - set(given):
            part = lacking.pop()
            raise DataError(f"folder: there are no classes in {path / part}", f"expected is {READERS['folder']}")
        rows = [(file, label, part) for part, classes in given.items() for label, fs in classes.items() for file in fs]
        note = ""
    else:
        rows = [(f, c, part) for c, files in _by_class(path).items() for f, part in _dealt(files, path)]
        note = (
            f"no official split: of each class a share of {TEST_SHARE:.0%} is for testing, drawn by a hash of the path"
        )
    listed = tuple({"path": file, "label": label, "split": part} for file, label, part in rows)
    return DataSet("folder", path, listed, ("split",), _none_missing(["split"]), note=note)


def _by_class(folder: Path) -> dict[str, list[str]]:
    """The media files below each folder in `folder`, by that folder's name."""
    folders = sorted(f for f in folder.iterdir() if f.is_dir() and f.name[0] != ".") if folder.is_dir() else []
    classes = {f.name: sorted(_media_below(f)) for f in folders}
    return {label: files for label, files in classes.items() if files}


def _dealt(files: Sequence[str], root: Path) -> Iterator[tuple[str, str]]:
    """Each file of a class with its part: those whose hashed paths come first are for testing, one of two or more."""
    order = sorted(
        files, key=lambda f: hashlib.sha256(Path(f).relative_to(root.absolute()).as_posix().encode()).digest()
    )
    tests = set(order[: max(round(TEST_SHARE * len(files)), int(len(files) > 1))])
    return ((file, TEST if file in tests else TRAIN) for file in files)


# ---------------------------------------------------------------- what the readers share


@dataclass(frozen=True)
class _Entry:
    """One file that an official list names."""

    names: tuple[str, ...]
    """What it may be called on disk, without the ending: "ID_000010_000020", or "CLASS/v_x_g01_c01"."""
    label: str
    parts: Mapping[str, str]


class _Files:
    """The media below a folder by name without the ending, alone or (`parents`) after the name of its folder.

    Of several with one name the first video in the order of paths is taken, or else the first sound.
    """

    def __init__(self, folder: Path, parents: bool = False) -> None:
        self.found: dict[str, str] = {}
        for file in sorted(_media_below(folder), key=lambda f: (extension_of(f) not in VIDEO_EXTENSIONS, f)):
            place, name = os.path.split(os.path.splitext(file)[0])
            self.found.setdefault(f"{os.path.basename(place)}/{name}" if parents else name, file)

    def find(self, names: Iterable[str]) -> str | None:
        return next((self.found[name] for name in names if name in self.found), None)


def _media_below(folder: Path) -> Iterator[str]:
    for place, folders, files in os.walk(os.path.abspath(folder), followlinks=True):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for name in files:
            if not name.startswith(".") and is_media(name):
                yield os.path.join(place, name)


def _collected(
    name: str, path: Path, splits: Sequence[str], entries: Sequence[_Entry], files: _Files, *,
    multilabel: bool = False, note: str = "", streams: tuple[str, ...] = ("video", "audio"),
) -> DataSet:  # fmt: skip
    """The entries that are on disk as rows, the others counted."""
    rows: dict[str, dict[str, str]] = {}
    missing, missing_paths, again = _none_missing(splits), [], 0
    for entry in entries:
        file = files.find(entry.names)
        if file is None:
            missing_paths.append(entry.names[0])
            for column, part in entry.parts.items():
                if part:
                    missing[column][part] += 1
        elif file in rows:
            again += 1
        else:
            rows[file] = {"path": file, "label": entry.label} | {c: entry.parts.get(c, "") for c in splits}
    if not rows:
        first = f", such as {entries[0].names[0]}" if entries else ""
        raise DataError(
            f"{name}: none of the {len(entries)} files that its lists name is below {path}{first}",
            f"expected is {READERS[name]}",
        )
    if again:
        note = "; ".join(filter(None, [note, f"{again} files are listed more than once: the first entry holds"]))
    return DataSet(
        name, path, tuple(rows.values()), tuple(splits), missing, tuple(missing_paths), multilabel, note, streams
    )


def _official(name: str, path: Path, wanted: Sequence[str], source: str, beside: bool = False) -> Path:
    """A file or folder of the layout by one of its names: in `path`, a folder in it, or (`beside`) next to it."""
    places = [path, *sorted(f for f in path.iterdir() if f.is_dir()), *([path.absolute().parent] if beside else [])]
    for place in places:
        for file in wanted:
            if (place / file).exists():
                return place / file
    raise DataError(
        f"{name}: {' or '.join(wanted)} is missing in {path}",
        f"expected at {path / wanted[0]}; it is distributed at {source}",
    )


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not empty, with their numbers."""
    text, _ = read_text(file, "get it again where the data set is distributed")
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        if line.strip():
            yield number, line.strip()


def _cells(file: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows of a table of text without comments (#), with the numbers of their lines."""
    numbered = [(n, line) for n, line in _lines(file) if not line.startswith("#")]
    # A space follows the commas of some lists, and hides the quotes behind it.
    separator = separator_of("\n".join(re.sub(r'(?<=[,;\t]) +(?=")', "", line) for _, line in numbered))
    for number, line in numbered:
        try:
            yield number, next(csv.reader([line], delimiter=separator, skipinitialspace=True, strict=True))
        except csv.Error:
            raise _malformed(file, number, line, "comma-separated values") from None


def _records(file: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a table of text with a header that has these columns."""
    rows = _cells(file)
    header = next(rows, (1, []))[1]
    if lacking := [column for column in columns if column not in header]:
        raise DataError(f"{file}: the column {lacking[0]} is missing", f"expected are {', '.join(columns)}")
    for number, cells in rows:
        if len(cells) != len(header):
            raise _malformed(file, number, ",".join(cells), f"{len(header)} values")
        yield number, dict(zip(header, cells, strict=True))


def _malformed(file: Path, number: int, line: str, expected: str) -> DataError:
    shown = line if len(line) <= 80 else f"{line[:80]}..."
    return DataError(
        f"{file}: line {number} is not as it should be: {shown!r}",
        f"expected is {expected}; get the file again where the data set is distributed",
    )


def _clip_names(video: str, start: float, end: float) -> tuple[str, ...]:
    """What downloaders call seconds `start` to `end` of a video of YouTube."""
    s, e = round(start), round(end)
    plain = (
        f"{video}_{s:06d}_{e:06d}", f"{video}_{s:06d}", f"{video}_{s}_{e}", f"{video}_{s}",
        f"{video}_{s * 1000}_{e * 1000}", f"{video}_{start:.3f}_{end:.3f}", f"{video}_{start:.1f}_{end:.1f}", video,
    )  # fmt: skip
    return plain + tuple(f"Y{name}" for name in plain)  # as AudioSet's own tools do: some identifiers begin with -


# ---------------------------------------------------------------- the readers

_UCF101 = "https://www.crcv.ucf.edu/data/UCF101.php"
_HMDB51 = "https://serre-lab.clps.brown.edu/resource/hmdb-a-large-human-motion-database/"
_ESC50 = "https://github.com/karolpiczak/ESC-50"
_DCASE = {
    "scenes_stereo": "https://archive.org/details/dcase2013_scene_classification",
    "scenes_stereo_testset": "https://archive.org/details/dcase2013_scene_classification_testset",
}
_DCASE_CLASSES = frozenset(
    {"bus", "busystreet", "office", "openairmarket", "park",
     "quietstreet", "restaurant", "supermarket", "tube", "tubestation"}
)  # fmt: skip
_KINETICS = "https://github.com/cvdfoundation/kinetics-dataset"
_VGGSOUND = "https://www.robots.ox.ac.uk/~vgg/data/vggsound/"
_AUDIOSET = "https://research.google.com/audioset/download.html"
_AVE = "https://github.com/YapengTian/AVE-ECCV18"

KINETICS_SOUNDS = frozenset(
    {"blowing nose", "blowing out candles", "bowling", "chopping wood", "dribbling basketball", "laughing",
     "mowing lawn", "playing accordion", "playing bagpipes", "playing bass guitar", "playing clarinet",
     "playing drums", "playing guitar", "playing harmonica", "playing keyboard", "playing organ", "playing piano",
     "playing saxophone", "playing trombone", "playing trumpet", "playing violin", "playing xylophone",
     "ripping paper", "shoveling snow", "shuffling cards", "singing", "stomping grapes", "strumming guitar",
     "tap dancing", "tapping guitar", "tapping pen", "tickling"}
)  # fmt: skip
"""Classes of Kinetics-400 in Kinetics-Sounds (Arandjelovic and Zisserman, 2017): of the 34 that were chosen in a
draft of Kinetics the 32 that SeLaVi's published code clusters."""


def _ucf101(path: Path) -> DataSet:
    lists = _official("ucf101", path, ["ucfTrainTestlist"], _UCF101, beside=True)
    parts: dict[str, dict[str, str]] = {}
    splits = ("split1", "split2", "split3")
    for split in splits:
        for part in (TRAIN, TEST):
            file = _official("ucf101", lists, [f"{part}list0{split[-1]}.txt"], _UCF101)
            for number, line in _lines(file):
                match = re.fullmatch(r"(\w+/\w+)\.\w+(\s+\d+)?", line)
                if match is None:
                    raise _malformed(file, number, line, "CLASS/v_CLASS_gNN_cNN.avi and, to train, the class's number")
                parts.setdefault(match[1], {})[split] = part
    entries = [_Entry((name,), name.partition("/")[0], of) for name, of in parts.items()]
    return _collected("ucf101", path, splits, entries, _Files(path, parents=True), streams=("video",))


def _hmdb51(path: Path) -> DataSet:
    folder = _official("hmdb51", path, ["testTrainMulti_7030_splits"], _HMDB51, beside=True)
    meaning = {"0": "", "1": TRAIN, "2": TEST}
    splits = ("split1", "split2", "split3")
    classes = sorted({f.name[: -len("_test_split1.txt")] for f in folder.glob("*_test_split[123].txt")})
    parts: dict[str, dict[str, str]] = {}
    for label in classes or ["CLASS"]:
        for split in splits:
            file = _official("hmdb51", folder, [f"{label}_test_{split}.txt"], _HMDB51)
            for number, line in _lines(file):
                name, _, use = line.rpartition(" ")
                if not name or use not in meaning:
                    raise _malformed(file, number, line, "NAME.avi and 0 (unused), 1 (train) or 2 (test)")
                parts.setdefault(f"{label}/{os.path.splitext(name.strip())[0]}", {})[split] = meaning[use]
    entries = [_Entry((name,), name.partition("/")[0], of) for name, of in parts.items()]
    return _collected("hmdb51", path, splits, entries, _Files(path, parents=True), streams=("video",))


def _esc(name: str, path: Path) -> DataSet:
    file = _official(name, path, ["meta/esc50.csv", "esc50.csv"], _ESC50)
    records = list(_records(file, ("filename", "fold", "category", "esc10")))
    for number, record in records:
        if not record["fold"].isdecimal():
            raise _malformed(file, number, ",".join(record.values()), "a fold from 1 to 5")
    folds = sorted({int(record["fold"]) for _, record in records})
    entries = [
        _Entry(
            (os.path.splitext(record["filename"])[0],),
            record["category"],
            {f"fold{n}": _part_of_fold(record["fold"], n) for n in folds},
        )
        for _, record in records
        if name == "esc50" or record["esc10"] == "True"
    ]
    return _collected(name, path, [f"fold{n}" for n in folds], entries, _Files(path), streams=("audio",))


def _dcase2014(path: Path) -> DataSet:
    folders = [_official("dcase2014", path, [folder], source, beside=True) for folder, source in _DCASE.items()]
    rows = []
    for part, folder in zip((TRAIN, TEST), folders, strict=True):
        for file in sorted(_media_below(folder)):
            label = re.sub(r"\d+$", "", os.path.splitext(os.path.basename(file))[0])
            if label not in _DCASE_CLASSES:
                known = ", ".join(sorted(_DCASE_CLASSES))
                raise DataError(f"dcase2014: {file} names no class", f"files are named CLASSNN.wav, of {known}")
            rows.append({"path": file, "label": label, "split": part})
    return DataSet("dcase2014", path, tuple(rows), ("split",), _none_missing(["split"]), streams=("audio",))


def _kinetics(name: str, path: Path) -> DataSet:
    entries = []
    for part, names in ((TRAIN, ["train.csv"]), (TEST, ["val.csv", "validate.csv"])):
        file = _official(name, path, names, _KINETICS)
        for number, record in _records(file, ("label", "youtube_id", "time_start", "time_end")):
            if name == "kinetics-sounds" and record["label"] not in KINETICS_SOUNDS:
                continue
            times = _seconds(file, number, record["time_start"], record["time_end"])
            entries.append(_Entry(_clip_names(record["youtube_id"], *times), record["label"], {"split": part}))
    note = "the official validation split is what is tested on, as in the papers"
    return _collected(name, path, ["split"], entries, _Files(path), note=note)


def _seconds(file: Path, number: int, *cells: str) -> list[float]:
    try:
        return [float(cell) for cell in cells]
    except ValueError:
        raise _malformed(file, number, ", ".join(cells), "times in seconds") from None


def _vggsound(path: Path) -> DataSet:
    file = _official("vggsound", path, ["vggsound.csv"], _VGGSOUND)
    entries = []
    for number, cells in _cells(file):
        if len(cells) != 4 or cells[3] not in (TRAIN, TEST):
            raise _malformed(file, number, ",".join(cells), "ID, start in seconds, label, train or test")
        (start,) = _seconds(file, number, cells[1])
        entries.append(_Entry(_clip_names(cells[0], start, start + 10), cells[2], {"split": cells[3]}))
    return _collected("vggsound", path, ["split"], entries, _Files(path))


def _audioset(path: Path) -> DataSet:
    classes = _audioset_classes(_official(
        "audioset", path, ["class_labels_indices.csv", "ontology.json"], _AUDIOSET
    ))  # fmt: skip
    entries = []
    for part, name in ((TRAIN, "balanced_train_segments.csv"), (TEST, "eval_segments.csv")):
        file = _official("audioset", path, [name], _AUDIOSET)
        for number, cells in _cells(file):
            if len(cells) != 4 or not cells[3]:
                raise _malformed(file, number, ",".join(cells), "ID, start, end, labels in quotes")
            start, end = _seconds(file, number, cells[1], cells[2])
            ids = cells[3].split(",")
            if unknown := [i for i in ids if i not in classes]:
                raise _malformed(file, number, ",".join(cells), f"labels of the ontology, which has no {unknown[0]}")
            label = SEPARATOR.join(classes[i] for i in ids)
            entries.append(_Entry(_clip_names(cells[0], start, end), label, {"split": part}))
    return _collected("audioset", path, ["split"], entries, _Files(path), multilabel=True)


def _audioset_classes(file: Path) -> dict[str, str]:
    """Names of the classes by their identifiers, such as /m/09x0r."""
    if file.suffix == ".csv":
        return {record["mid"]: record["display_name"] for _, record in _records(file, ("mid", "display_name"))}
    remedy = f"get it again from {_AUDIOSET}"
    try:
        return {entry["id"]: entry["name"] for entry in json.loads(read_text(file, remedy)[0])}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} cannot be read: {error}", remedy) from error


def _ave(path: Path) -> DataSet:
    entries = []
    for part, name in ((TRAIN, "trainSet.txt"), ("", "valSet.txt"), (TEST, "testSet.txt")):
        file = _official("ave", path, [name], _AVE)
        for number, line in _lines(file):
            cells = line.split("&")
            if number == 1 and cells[0] == "Category":
                continue
            if len(cells) != 5:
                raise _malformed(file, number, line, "CATEGORY&ID&QUALITY&START&END")
            entries.append(_Entry((cells[1],), cells[0], {"split": part}))
    note = "the videos of valSet.txt take no part"
    return _collected("ave", path, ["split"], entries, _Files(path), note=note)


_READ: dict[str, Callable[[Path], DataSet]] = {
    "ucf101": _ucf101,
    "hmdb51": _hmdb51,
    "esc50": lambda path: _esc("esc50", path),
    "esc10": lambda path: _esc("esc10", path),
    "dcase2014": _dcase2014,
    "kinetics400": lambda path: _kinetics("kinetics400", path),
    "kinetics-sounds": lambda path: _kinetics("kinetics-sounds", path),
    "vggsound": _vggsound,
    "audioset": _audioset,
    "ave": _ave,
    "folder": _folder,
}
