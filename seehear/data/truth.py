"""Known classes of videos: read from a table, and joined with what is predicted of the same videos."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from seehear.data.tables import read_table
from seehear.errors import DataError


def load_truth(
    path: str | Path,
    *,
    label_column: str = "label",
    id_columns: Sequence[str] = ("video_id", "video", "path"),
) -> dict[str, str]:
    """Labels by video from a table with a header: .csv, .tsv or .parquet.

    The first of `id_columns` that the table has identifies videos. Rows without a label are passed over.

    Raises:
        DataError: the file can't be read, lacks a column, has no labels, or gives one video two labels.
    """
    path = Path(path)
    columns = _read_columns(path)
    id_column = next((name for name in id_columns if name in columns), None)
    if id_column is None or label_column not in columns:
        wanted = label_column if id_column else " or ".join(id_columns)
        raise DataError(
            f"{path}: no column {wanted}; there are: {', '.join(columns) or 'none'}",
            "name the columns in the first line, e.g. `path,label`, or say which columns to take",
        )
    truth: dict[str, str] = {}
    clashes = []
    for key, label in zip(columns[id_column], columns[label_column], strict=True):
        if key in (None, "") or label in (None, ""):
            continue
        if truth.setdefault(str(key), str(label)) != str(label):
            clashes.append(f"{key} ({truth[str(key)]}, {label})")
    if clashes:
        raise DataError(
            f"{path}: {len(clashes)} videos have two labels: {_examples(clashes)}", "keep one line per video"
        )
    if not truth:
        raise DataError(f"{path}: no row has both a {id_column} and a {label_column}", "fill in the labels")
    return truth


def load_truth_of_rows(path: str | Path, rows: int, *, label_column: str = "label") -> dict[str, str]:
    """Labels by number of row ("0", "1", ...) for features that have no ids.

    The table names its rows in a column `row`, or it has exactly as many lines as there are rows, in their order.

    Raises:
        DataError: neither is so, or what `load_truth` raises.
    """
    path = Path(path)
    columns = _read_columns(path)
    if "row" in columns:
        return load_truth(path, label_column=label_column, id_columns=("row",))
    if label_column not in columns:
        raise DataError(
            f"{path}: no column {label_column}; there are: {', '.join(columns) or 'none'}",
            "name the columns in the first line, e.g. `row,label`",
        )
    if len(columns[label_column]) != rows:
        raise DataError(
            f"{path}: {len(columns[label_column])} lines for {rows} rows of features that have no ids",
            "give one line for each row in their order, or a column `row` with their numbers from 0",
        )
    truth = {str(row): str(label) for row, label in enumerate(columns[label_column]) if label not in (None, "")}
    if not truth:
        raise DataError(f"{path}: no row has a {label_column}", "fill in the labels")
    return truth


@dataclass(frozen=True)
class Match:
    """Predictions and truth of the videos that both sides know."""

    ids: list[str]
    """Ids as the predictions spell them, in their order."""
    y_true: list[str]
    y_pred: list[Any]
    unmatched_truth: list[str]
    unmatched_predictions: list[str]
    by: dict[str, int] = field(default_factory=dict)
    """How many videos were matched by `id`, and by which end of the path, with its extension or without."""

    def as_text(self) -> str:
        """What was matched and what was not, with examples."""
        lines = [f"{len(self.ids)} videos matched (" + ", ".join(f"{n} by {how}" for how, n in self.by.items()) + ")"]
        for side, left in (("truth", self.unmatched_truth), ("predictions", self.unmatched_predictions)):
            if left:
                lines.append(f"{len(left)} only in the {side}: {_examples(left)}")
        return "\n".join(lines)


def match(truth: Mapping[str, str], predictions: Mapping[str, Any]) -> Match:
    """Join labels and predictions by video id.

    First by equal ids. What is left is matched by the ends of the two paths, from the longest to the bare
    file name, with and then without the extension, and only where that end occurs once among all ids on
    either side: an ambiguous name matches nothing.

    Raises:
        DataError: nothing matches; the message shows ids of both sides.
    """
    pairs = {key: key for key in predictions if key in truth}
    by = Counter({"id": len(pairs)} if pairs else {})
    depth = max((len(_parts(key)) for key in [*truth, *predictions]), default=0)
    taken = set(pairs)
    for parts in range(depth, 0, -1):
        for extension in (True, False):
            if len(pairs) == len(predictions):
                break
            theirs, ours = _unique_ends(truth, parts, extension), _unique_ends(predictions, parts, extension)
            name = "file name" if parts == 1 else f"last {parts} parts of the path"
            for end, key in ours.items():
                if key is None or key in pairs or (other := theirs.get(end)) is None or other in taken:
                    continue
                pairs[key] = other
                taken.add(other)
                by[name if extension else f"{name} without extension"] += 1
    if not pairs:
        raise DataError(
            f"no video is in both truth ({_examples(truth)}) and predictions ({_examples(predictions)})",
            "give the truth by video id, path or file name",
        )
    ids = [key for key in predictions if key in pairs]
    return Match(
        ids=ids,
        y_true=[truth[pairs[key]] for key in ids],
        y_pred=[predictions[key] for key in ids],
        unmatched_truth=[key for key in truth if key not in taken],
        unmatched_predictions=[key for key in predictions if key not in pairs],
        by=dict(by),
    )


def _parts(key: str) -> tuple[str, ...]:
    return PurePosixPath(key.replace("\\", "/")).parts


def _unique_ends(keys: Iterable[str], parts: int, extension: bool) -> dict[tuple[str, ...], str | None]:
    """The id for each end of a path; None for an end that several ids share."""
    found: dict[tuple[str, ...], str | None] = {}
    for key in keys:
        end = _parts(key)
        if len(end) < parts:
            continue
        end = end[-parts:] if extension else (*end[-parts:-1], PurePosixPath(end[-1]).stem)
        found[end] = None if end in found else key
    return found


def _examples(keys: Iterable[str], count: int = 3) -> str:
    keys = list(keys)
    return ", ".join(keys[:count]) + (", ..." if len(keys) > count else "")


def _read_columns(path: Path) -> dict[str, list[str | None]]:
    """Columns of a table by name, without the spaces around its cells."""
    table = read_table(path)
    return {name: [cell and cell.strip() for cell in table.column(name)] for name in table.names}
