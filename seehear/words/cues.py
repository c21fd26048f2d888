"""Texts with the time at which they are said or shown, and which of them fall into a stretch of time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from seehear.words.tokens import words


@dataclass(frozen=True)
class Cue:
    """A text and its time in seconds; a caption of the whole video has none (None)."""

    start_seconds: float | None
    end_seconds: float | None
    text: str

    def overlaps(self, start: float, end: float) -> bool:
        """Whether some of its time lies between two times."""
        if self.start_seconds is None or self.end_seconds is None:
            return True
        return self.start_seconds < end and start < self.end_seconds


def said(cues: Iterable[Cue], start: float, end: float) -> str:
    """The texts of all cues that overlap a stretch of time, one after the other; "" for none."""
    return " ".join(cue.text for cue in cues if cue.overlaps(start, end))


def with_words(cues: Iterable[Cue]) -> tuple[Cue, ...]:
    """The cues that have a word at all."""
    return tuple(cue for cue in cues if words(cue.text))


def to_cell(cues: Sequence[Cue]) -> str:
    """Cues as a cell of a table."""
    return json.dumps([[cue.start_seconds, cue.end_seconds, cue.text] for cue in cues], ensure_ascii=False)


def from_cell(cell: str | None) -> tuple[Cue, ...]:
    """Inverse of `to_cell`; nothing for an empty cell. Raises `ValueError` for what is no such cell."""
    if not cell:
        return ()
    try:
        return tuple(Cue(start, end, str(text)) for start, end, text in json.loads(cell))
    except TypeError as error:
        raise ValueError(str(error)) from error
