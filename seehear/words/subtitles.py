"""Subtitle files: SubRip (.srt) and WebVTT (.vtt), as they are found, to texts with times.

Times are those of the file, in seconds, and count from the beginning of the video as a player shows it.
"""

from __future__ import annotations

import html
import re
from dataclasses import replace

from seehear.words.cues import Cue
from seehear.words.tokens import words

EXTENSIONS = ("vtt", "srt")
"""How subtitle files end; the first is taken where both are there."""

_TIME = r"(?:(\d+):)?(\d{1,2}):(\d{1,2})(?:[.,](\d{1,3}))?"
_TIMES = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}(?:\s.*)?")
_INLINE = re.compile(rf"<{_TIME}>")
# <i>, </font>, <c.yellow>, <v Fred>, <00:00:01.000> and the commands of SubStation in braces.
_TAG = re.compile(r"</?[A-Za-z][^<>]*>|<[\d:.,]+>|\{\\[^{}]*\}")
_BLOCKS_WITHOUT_TEXT = ("NOTE", "STYLE", "REGION")
_TOUCHING_SECONDS = 0.05


class SubtitleError(ValueError):
    """A file that is no subtitle file, or a line of one that cannot be right."""


def read_subtitles(text: str) -> tuple[Cue, ...]:
    """The cues of a subtitle file in the order of their times; those without a word are left out.

    Understood are numbered cues and such without, hours left out, either decimal mark, markup (left out), entities,
    blocks of notes and styles (left out), cue settings, times within a cue (WebVTT; each word then has its own), cues
    in any order and overlapping ones. Where captions roll, as automatic ones do, a line that the cue before showed
    already is not read again.

    Raises `SubtitleError`, with the line: no cue at all, a time that cannot be read, a cue that ends before it begins.
    """
    shown: list[tuple[Cue, tuple[str, ...]]] = []
    lines = text.lstrip("\ufeff").splitlines()
    number = 0
    while number < len(lines):
        line = lines[number]
        if "-->" not in line:
            number = _past_block(lines, number) if line.split(" ")[0] in _BLOCKS_WITHOUT_TEXT else number + 1
            continue
        start, end = _times(line, number + 1)
        number += 1
        first = number
        # Only a line without even a space ends a cue: automatic captions begin with a line of one.
        while number < len(lines) and lines[number] and "-->" not in lines[number]:
            number += 1
        body = lines[first:number]
        if number < len(lines) and "-->" in lines[number] and body and body[-1].strip().isdecimal():
            body = body[:-1]  # the number of the next cue, which no empty line parts from this one
        if end > start:
            shown.append((Cue(start, end, ""), tuple(line for line in body if line.strip())))
    if not shown and "-->" not in text:
        raise SubtitleError("no line has times like 00:00:01,000 --> 00:00:02,500")
    shown.sort(key=lambda pair: (pair[0].start_seconds, pair[0].end_seconds))
    return tuple(cue for cue in _unrolled(shown) if words(cue.text))


def _past_block(lines: list[str], number: int) -> int:
    while number < len(lines) and lines[number].strip():
        number += 1
    return number


def _times(line: str, number: int) -> tuple[float, float]:
    match = _TIMES.fullmatch(line)
    if match is None:
        raise SubtitleError(f"line {number} has no times like 00:00:01,000 --> 00:00:02,500: {line.strip()[:60]!r}")
    start, end = _seconds(match.groups()[:4]), _seconds(match.groups()[4:])
    if end < start:
        raise SubtitleError(f"line {number}: the cue ends before it begins: {line.strip()[:60]!r}")
    return start, end


def _seconds(groups: tuple[str | None, ...]) -> float:
    hours, minutes, seconds, fraction = groups
    assert minutes is not None and seconds is not None
    whole = int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds)
    return (whole * 1000 + int((fraction or "0").ljust(3, "0"))) / 1000


def _plain(line: str) -> str:
    return " ".join(html.unescape(_TAG.sub("", line)).split())


def _unrolled(shown: list[tuple[Cue, tuple[str, ...]]]) -> list[Cue]:
    """The cues without the lines that the one before them shows already."""
    found: list[Cue] = []
    before: tuple[str, ...] = ()
    until = -1.0
    for cue, lines in shown:
        assert cue.start_seconds is not None and cue.end_seconds is not None
        plain = tuple(text for text in map(_plain, lines) if text)
        rolls = cue.start_seconds <= until + _TOUCHING_SECONDS
        fresh = [line for line in lines if _plain(line) and not (rolls and _plain(line) in before)]
        if fresh:
            found += _timed(cue, fresh)
        elif plain and plain == before and found and cue.end_seconds - cue.start_seconds > _TOUCHING_SECONDS:
            # The same again: the text stays that long.
            found[-1] = replace(found[-1], end_seconds=max(cue.end_seconds, found[-1].end_seconds or 0.0))
        if plain:
            before, until = plain, max(until, cue.end_seconds)
    return found


def _timed(cue: Cue, lines: list[str]) -> list[Cue]:
    """A cue as one text, or where it has times within as one for each of them."""
    text, at = " ".join(lines), cue.start_seconds
    pieces, place = [], 0
    for match in _INLINE.finditer(text):
        pieces.append((at, text[place : match.start()]))
        at, place = _seconds(match.groups()), match.end()
    pieces.append((at, text[place:]))
    pieces = [(start, _plain(piece)) for start, piece in pieces if _plain(piece)]
    ends = [start for start, _ in pieces[1:]] + [cue.end_seconds]
    return [Cue(start, end, piece) for (start, piece), end in zip(pieces, ends, strict=True)]
