"""What is said of each video: captions from a column of a table, or subtitle files beside the videos.

They become a column of the manifest, so that a run keeps what it read, and a video of which nothing is said is listed
with a reason like any other that cannot be used.
"""

from __future__ import annotations

import bisect
import difflib
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa

from seehear.config import DataConfig
from seehear.data.manifest import Manifest
from seehear.data.tables import read_text
from seehear.errors import DataError, UsageError
from seehear.media.formats import is_media
from seehear.words.cues import Cue, to_cell, with_words
from seehear.words.subtitles import EXTENSIONS, SubtitleError, read_subtitles

COLUMN = "text_cues"
"""The manifest's column of texts with their times (`seehear.words.cues.to_cell`)."""
_REMEDY = "save it as SubRip (.srt) or WebVTT (.vtt) in UTF-8"


def with_captions(manifest: Manifest, data: DataConfig) -> Manifest:
    """The manifest with what is said of each video in `COLUMN`.

    Texts are those of the column `data.text_column`, or without one of the subtitle file beside each video. A usable
    video without a word is not usable any more, as `no_text`, and neither is one whose subtitle file cannot be read, as
    `bad_text`. Raises `UsageError` if the manifest has no such column.
    """
    column, table = data.text_column, manifest.table
    if column is not None and column not in manifest.extra_columns:
        near = difflib.get_close_matches(column, manifest.extra_columns, 1)
        known = ", ".join(manifest.extra_columns) or "none but those of a scan: give a table with captions"
        raise UsageError(
            f"there is no column {column!r} with captions",
            f"did you mean {near[0]!r}?" if near else f"there are: {known}",
        )
    changed = {name: table.column(name).to_pylist() for name in ("usable", "reason", "detail")}
    cells: list[str | None] = []
    listings: dict[str, list[str]] = {}
    for number, row in enumerate(table.to_pylist()):
        cues: tuple[Cue, ...] = ()
        why: tuple[str, str] | None = None
        if row["usable"]:
            found = _of_column(row, column) if column is not None else _beside(row["path"], data, listings)
            cues, why = found
        if why is not None:
            changed["usable"][number], changed["reason"][number], changed["detail"][number] = False, *why
        cells.append(to_cell(cues) if cues else None)
    for name, values in changed.items():
        place = table.column_names.index(name)
        table = table.set_column(place, name, pa.array(values, table.schema.field(name).type))
    if COLUMN in table.column_names:
        table = table.drop_columns([COLUMN])
    return replace(manifest, table=table.append_column(COLUMN, pa.array(cells, pa.string())))


_Found = tuple[tuple[Cue, ...], tuple[str, str] | None]
"""The texts of a video; without any why: a code of `REASONS` and the detail."""


def _of_column(row: Mapping[str, Any], column: str) -> _Found:
    cues = with_words([Cue(None, None, str(row[column] or ""))])
    return cues, None if cues else ("no_text", f"the column {column} holds no word for it")


def _beside(path: str, data: DataConfig, listings: dict[str, list[str]]) -> _Found:
    """The texts of the subtitle file beside a video."""
    language = data.subtitle_language
    found = subtitle_files(path, language, listings)
    stem = os.path.splitext(os.path.basename(path))[0]
    if not found:
        wanted = f"{stem}.{language}.vtt" if language else f"{stem}.vtt"
        return (), ("no_text", f"there is no {wanted} nor {wanted[:-4]}.srt beside it")
    if len(found) > 1:
        names = ", ".join(os.path.basename(name) for name in found)
        return (), ("no_text", f"several subtitle files ({names}), and data.subtitle_language does not say which")
    name = os.path.basename(found[0])
    try:
        cues = read_subtitles(read_text(found[0], _REMEDY)[0])
    except SubtitleError as error:
        return (), ("bad_text", f"{name}: {error}")
    except DataError as error:
        return (), ("bad_text", error.message)
    return cues, None if cues else ("no_text", f"{name} holds no word")


def subtitle_files(path: str, language: str | None, listings: dict[str, list[str]] | None = None) -> list[str]:
    """The subtitle files of a video: for `a.mp4` `a.vtt` or `a.srt`, or such with a language, as `a.en.vtt`.

    With a `language` those of that alone. Of one name with both endings the first of `EXTENSIONS` counts. Without a
    language the file without one comes before all others; several others are all returned, in the order of their names.
    `listings` keeps what is in which folder from call to call.
    """
    folder, name = os.path.split(path)
    listings = {} if listings is None else listings
    if folder not in listings:
        try:
            listings[folder] = sorted(os.listdir(folder or "."))
        except OSError:
            listings[folder] = []
    stem = os.path.splitext(name)[0]
    by_language: dict[str, str] = {}
    for extension in EXTENSIONS:
        for entry in _starting_with(listings[folder], f"{stem}."):
            middle, _, ending = entry[len(stem) + 1 :].rpartition(".")
            # a.b.vtt is of a.mp4 in a language b, unless there is an a.b.mp4.
            own = middle and _of_another(listings[folder], f"{stem}.{middle}")
            if ending.lower() == extension and "." not in middle and not own:
                by_language.setdefault(middle.lower(), os.path.join(folder, entry))
    if language is not None:
        return [by_language[language.lower()]] if language.lower() in by_language else []
    return [by_language[""]] if "" in by_language else [by_language[key] for key in sorted(by_language)]


def _of_another(entries: list[str], stem: str) -> bool:
    return any(is_media(name) for name in _starting_with(entries, f"{stem}.") if name.count(".") == stem.count(".") + 1)


def _starting_with(entries: list[str], prefix: str) -> list[str]:
    """Those of sorted names that begin so."""
    first = bisect.bisect_left(entries, prefix)
    found = []
    for entry in entries[first:]:
        if not entry.startswith(prefix):
            break
        found.append(entry)
    return found
