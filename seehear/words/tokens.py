"""A text as sentences and words, the same for every language that this was tried with.

Nothing here knows a language: a word is a run of letters, marks and digits, and a script that is written without
spaces gives a word for every character.
"""

from __future__ import annotations

import functools
import re
import unicodedata

# After a full stop, question or exclamation mark (with closing quotes and brackets) and a space; those of Chinese and
# Japanese need none. A line's end is one too.
_SENTENCE_END = re.compile(r"(?<=[.!?…])[\"'’”)\]]*\s+|(?<=[。！？])[」』）]*|\s*[\r\n]+\s*")
_ALONE = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
"""Kana and Chinese characters: each is a word."""
_WORD = re.compile(r"[^\s']+(?:'[^\s']+)*")


def sentences(text: str) -> list[str]:
    """The sentences of a text, as they stand but for the space around them; those without a word are left out."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text) if match.end() > match.start() or match.start()]
    parts = [text[a:b].strip() for a, b in zip([0, *ends], [*ends, len(text)], strict=True)]
    return [part for part in parts if words(part)]


def words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation; what is joined by an apostrophe is one ("don't")."""
    text = unicodedata.normalize("NFKC", text).replace("’", "'").lower()
    text = "".join(c if _belongs(c) else " " for c in text)
    return _WORD.findall(_ALONE.sub(lambda found: f" {found[0]} ", text))


@functools.lru_cache(maxsize=65_536)
def _belongs(character: str) -> bool:
    """Whether a character is part of a word: letters, marks (vowels of Indian scripts), digits, the apostrophe."""
    return character == "'" or unicodedata.category(character)[0] in "LMN"
