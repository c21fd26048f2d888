"""Parts of a file over HTTP, as RFC 9110 (sections 13 and 14) has it: what players need to seek."""

from __future__ import annotations

import email.utils
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

_ONE = re.compile(r"\s*(?:(?P<first>\d+)\s*-\s*(?P<last>\d*)|-\s*(?P<suffix>\d+))\s*")


@dataclass(frozen=True)
class Part:
    """What to answer: status 200 (all), 206 (bytes `first` to `last`, both included), 304 or 416 (no bytes)."""

    status: int
    first: int
    last: int
    size: int
    """Of the whole."""

    @property
    def length(self) -> int:
        """Bytes in the body."""
        return self.last - self.first + 1 if self.status in (200, 206) else 0

    @property
    def headers(self) -> dict[str, str]:
        """Headers about the part and its length."""
        found = {"accept-ranges": "bytes"}
        if self.status == 206:
            found["content-range"] = f"bytes {self.first}-{self.last}/{self.size}"
        if self.status == 416:
            found["content-range"] = f"bytes */{self.size}"
        if self.status != 304:
            found["content-length"] = str(self.length)
        return found


def part_of(method: str, headers: Mapping[str, str], size: int, etag: str, modified: float) -> Part:
    """What of a file of `size` bytes a request wants.

    headers: of the request, by lower-case names
    etag: the file's strong entity tag, with its quotes
    modified: time of its last change, in seconds since 1970

    A range that is not understood, several ranges and ranges of another version of the file (`If-Range`) give the
    whole, as does every range of a HEAD request, for which none is defined.
    """
    whole = Part(200, 0, size - 1, size)
    if _known_already(headers, etag, modified):
        return Part(304, 0, -1, size)
    asked = headers.get("range", "")
    unit, _, ranges = asked.partition("=")
    if method != "GET" or unit.strip().lower() != "bytes" or not _still_same(headers.get("if-range"), etag, modified):
        return whole
    parts = [part for part in ranges.split(",") if part.strip()]
    if len(parts) != 1 or (match := _ONE.fullmatch(parts[0])) is None:
        return whole
    if match["suffix"] is not None:
        first, last = max(0, size - int(match["suffix"])), size - 1
    else:
        first, last = int(match["first"]), int(match["last"] or size - 1)
        if match["last"] and last < first:
            return whole  # no valid range: to be ignored
    if first >= size:
        return Part(416, 0, -1, size)
    return Part(206, first, min(last, size - 1), size)


def http_date(seconds: float) -> str:
    """A time as HTTP writes it, to the second."""
    return email.utils.format_datetime(datetime.fromtimestamp(int(seconds), UTC), usegmt=True)


def _known_already(headers: Mapping[str, str], etag: str, modified: float) -> bool:
    """Whether the client has this very version; entity tags tell alone where both are given."""
    if "if-none-match" in headers:
        tags = [tag.strip().removeprefix("W/") for tag in headers["if-none-match"].split(",")]
        return "*" in tags or etag in tags
    if "if-modified-since" in headers:
        since = _seconds(headers["if-modified-since"])
        return since is not None and int(modified) <= since
    return False


def _still_same(condition: str | None, etag: str, modified: float) -> bool:
    """`If-Range`: compared strictly, so a weak tag or another time does not hold."""
    if condition is None:
        return True
    if condition.strip().startswith(('"', "W/")):
        return condition.strip() == etag
    return _seconds(condition) == int(modified)


def _seconds(date: str) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(date.strip()).timestamp()
    except (ValueError, TypeError):
        return None
