"""Tables that people bring: text or Parquet, told apart by content.

A text table may be separated by commas, semicolons or tabs (a spreadsheet writes what its country is used to), in
UTF-8, UTF-16 or UTF-32 with or without a byte order mark, else in Windows-1252, with the line ends of any system.
"""

from __future__ import annotations

import codecs
import csv
import io
import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from seehear.errors import DataError
from seehear.media.formats import extension_of

TABLE_EXTENSIONS = frozenset({"csv", "tsv", "tab", "txt", "parquet"})
"""What a file is called that is taken for a table where media files are expected as well."""

_SEPARATORS = {",": "a comma", ";": "a semicolon", "\t": "a tab"}
_MARKS = (  # that of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_FORM = "save it as CSV in UTF-8 with the names of the columns in the first line"

Record = tuple[int, dict[str, str | None]]
"""The number of a row and its cells by column. In a text it is the number of the line, as an editor shows it."""


@dataclass(frozen=True)
class Table:
    """A table with named columns whose cells are texts, as they stand; None where Parquet holds no value or NaN."""

    source: str
    names: list[str]
    records: list[Record]
    note: str = ""
    """What a reader had to guess, "" for nothing."""

    def column(self, name: str) -> list[str | None]:
        """The cells of one column, in the order of the rows."""
        return [record[name] for _, record in self.records]


def read_table(source: str | os.PathLike[str]) -> Table:
    """Read a table with a header.

    Empty lines are left out, as are empty rows at the end and empty columns without a name.

    Raises `DataError` with the file and, where it is one, the row for what is no table: a file that cannot be read,
    bytes that are no text, a row with more or fewer cells than the header, two columns of one name.
    """
    name = os.fspath(source)
    content = _content(name, _FORM)
    if content.startswith(b"PAR1") or extension_of(name) == "parquet":
        return _read_parquet(name)
    text, note = _decoded(name, content, _FORM)
    text, skipped, declared = _without_declaration(text)
    separator = declared or separator_of(text, "\t" if extension_of(name) in ("tsv", "tab") else ",")
    rows: list[tuple[int, list[str]]] = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        rows += ((reader.line_num + skipped, cells) for cells in reader if cells)
    except csv.Error as error:
        raise DataError(f"{name}: line {reader.line_num + skipped} cannot be read as a row: {error}", _FORM) from None
    while rows and not any(rows[-1][1]):  # a spreadsheet may write them for cells that were emptied
        rows.pop()
    names = [cell.strip() for cell in rows[0][1]] if rows else []
    for number, cells in rows[1:]:
        if len(cells) != len(names):
            raise DataError(
                f"{name}: line {number} has {len(cells)} fields, the header has {len(names)}",
                f"put quotes around cells that hold {_SEPARATORS.get(separator, separator)}, which parts the cells",
            )
    kept = [i for i, column in enumerate(names) if column or any(cells[i] for _, cells in rows[1:])]
    _check_names(name, [names[i] for i in kept])
    records: list[Record] = [(number, {names[i]: cells[i] for i in kept}) for number, cells in rows[1:]]
    return Table(name, [names[i] for i in kept], records, note)


def read_text(source: str | os.PathLike[str], remedy: str) -> tuple[str, str]:
    """The text of a file in any of the encodings that tables may have, and a note where it had to be guessed.

    Raises `DataError` with the remedy for a file that cannot be read and for bytes that are no text.
    """
    name = os.fspath(source)
    return _decoded(name, _content(name, remedy), remedy)


def separator_of(text: str, preferred: str = ",") -> str:
    """What parts the cells of a text: a comma, a semicolon or a tab.

    Of those that part the first row, the one by which all rows have as many cells as the first, and of several such
    the one with most cells, or else `preferred`. So a decimal comma in a table of semicolons parts nothing, nor does
    anything within quotes. Where nothing parts the first row, it is one column.
    """
    order = [preferred, *(mark for mark in _SEPARATORS if mark != preferred)]
    heads = {mark: next(iter(_widths(text, mark)), 0) for mark in order}
    able = [mark for mark in order if heads[mark] > 1] or order
    if len(able) > 1:
        even = [mark for mark in able if all(width == heads[mark] for width in _widths(text, mark))]
        able = even or able
    return max(able, key=lambda mark: heads[mark])  # the first of equals


def _widths(text: str, separator: str) -> Iterable[int]:
    """The number of cells of each row; -1 where the text breaks the rules of quoting."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        for cells in reader:
            if cells:
                yield len(cells)
    except csv.Error:
        yield -1


def _without_declaration(text: str) -> tuple[str, int, str | None]:
    """The text without a first line such as `sep=;`, how many lines that was, and the separator it names."""
    match = re.match(r"\"?sep=([^\r\n])\"?(\r\n|\r|\n)", text, re.IGNORECASE)
    return (text[match.end() :], 1, match[1]) if match else (text, 0, None)


def _check_names(source: str, names: Sequence[str]) -> None:
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise DataError(f"{source}: two columns have the same name, {twice!r}", "rename or remove one of them")


# ---------------------------------------------------------------- bytes


def _content(source: str, remedy: str) -> bytes:
    try:
        with open(source, "rb") as file:
            return file.read()
    except OSError as error:
        raise DataError(f"{source} cannot be read: {error}", remedy) from error


def _decoded(source: str, content: bytes, remedy: str) -> tuple[str, str]:
    if content.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise DataError(f"{source} is no text, but a workbook or an archive", remedy)
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), None) or _wide(content)
    note = ""
    try:
        text = content.decode(encoding or "utf-8")
    except UnicodeDecodeError as error:
        if encoding or _mostly_utf8(content):
            line = content[: error.start].count(b"\n") + 1
            name = (encoding or "utf-8").upper().removesuffix("-SIG")
            raise DataError(f"{source} cannot be read: line {line} is not valid {name}", remedy) from None
        text, note = _decoded_western(content), "read as Windows-1252, since it is not UTF-8"
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise DataError(f"{source} is no text: line {line} holds a zero byte", remedy)
    return text, note


def _wide(content: bytes) -> str | None:
    """UTF-16 without a mark: of most characters that people write every second byte is zero."""
    head = content[:4096]
    even, odd = (head[first::2].count(0) * 2 / max(1, len(head)) for first in (0, 1))
    if max(even, odd) < 0.4 or min(even, odd) > 0.05:
        return None
    return "utf-16-le" if odd > even else "utf-16-be"


def _mostly_utf8(content: bytes) -> bool:
    """Whether a text that is not UTF-8 is a damaged one: other encodings rarely look like it."""
    text = content.decode("utf-8", "replace")
    wrong = text.count("\ufffd")
    return sum(character > "\x7f" for character in text) - wrong > wrong


def _decoded_western(content: bytes) -> str:
    try:
        return content.decode("cp1252")
    except UnicodeDecodeError:  # five bytes mean nothing there
        return content.decode("latin-1")


# ---------------------------------------------------------------- Parquet


def _read_parquet(source: str) -> Table:
    try:
        # The file's own columns: a path such as label=dog/t.parquet names no further one.
        table = pq.read_table(source, partitioning=None)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{source} cannot be read as a Parquet table: {error}", "write it anew") from error
    _check_names(source, table.column_names)
    records: list[Record] = [
        (number, {name: _text(value) for name, value in row.items()}) for number, row in enumerate(table.to_pylist(), 1)
    ]
    return Table(source, table.column_names, records)


def _text(value: Any) -> str | None:
    """A cell as a text; None for no value and for NaN, by which pandas means the same."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    return str(value)
