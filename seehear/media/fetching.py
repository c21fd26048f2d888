"""Ranges of bytes from a server, by HTTP or from S3: what is lost on the way is asked for again, and then named.

HTTP is spoken by Python itself, which lets every answer be bounded, a redirect be judged, and what was received be kept
when a connection is cut; S3 by s3fs (extra `remote`). Imports no torch.
"""

from __future__ import annotations

import functools
import http.client
import re
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from seehear.errors import UsageError

SCHEMES = ("https", "http", "s3")
_BLOCK = 1 << 16
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.2, 10.0
_STALL_SECONDS = 30.0
"""So long nothing may come before a connection counts as lost."""
_MOST_TRIES = 64
"""Of one range, however much each of them brings."""
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_AGAIN = {408, 425, 429}
"""Answers besides 5xx that another try may change."""


class Refused(Exception):
    """What another try would not change: `reason` is a code of `seehear.data.manifest.REASONS`, `detail` in words."""

    def __init__(self, reason: str, detail: str, remedy: str) -> None:
        super().__init__(detail)
        self.reason, self.detail, self.remedy = reason, detail, remedy


class Lost(Exception):
    """A fault that may pass: a cut connection, a time-out, a server that is busy or away."""


@dataclass
class Answer:
    """What a server says to one question."""

    version: str | None
    """Tells one content of a file from another (its ETag), where the server says."""
    size: int | None
    """Bytes that are to come, where they are known."""
    blocks: Iterator[bytes]


def download(
    url: str,
    file: BinaryIO,
    *,
    start: int = 0,
    size: int | None,
    most: int,
    patience_seconds: float,
    checked: bool,
    sized: Callable[[int], None] = lambda _size: None,
    stop: threading.Event | None = None,
) -> None:
    """Fill a file with `size` bytes from `start` on, or with the whole of what lies at `url`.

    most: bytes that are taken at most where `size` is None
    patience_seconds: a lost connection is tried again until nothing has come for so long
    checked: the caller knows the content's checksum, so that pieces may be joined even where the server does not say
        that they are of one content
    sized: called with the size where it was not known before
    stop: when it is set, no more is tried

    Raises `Refused` or, when the patience is over, `Lost`.
    """
    asked, got, version = size, 0, None
    tries, wait, moved = 0, _FIRST_WAIT_SECONDS, time.monotonic()
    while True:
        tries += 1
        try:
            answer = _ask(url, start + got, None if size is None else size - got, min(_STALL_SECONDS, patience_seconds))
            if got and (answer.version != version or (version is None and not checked)):
                got, version, size = 0, None, asked
                file.seek(0)
                raise Lost("it was replaced while it was fetched")
            version = answer.version
            if size is None:
                size = answer.size
                if size is None or size > most:
                    raise Refused("too_large", f"{size} bytes", f"at most {most} are taken: raise data.stream_gib")
                sized(size)
            for block in answer.blocks:
                block = block[: size - got]
                file.write(block)
                got, moved, wait = got + len(block), time.monotonic(), _FIRST_WAIT_SECONDS
                if got == size or (stop is not None and stop.is_set()):
                    break
            if got == size:
                file.truncate()  # what was replaced meanwhile may have been longer
                return
            raise Lost(f"the connection was cut after {got} of {size} bytes")
        except Lost:
            left = patience_seconds - (time.monotonic() - moved)
            if left <= 0 or tries >= _MOST_TRIES or (stop is not None and stop.is_set()):
                raise
        (stop or threading.Event()).wait(min(wait, left))
        wait = min(2 * wait, _LONGEST_WAIT_SECONDS)


def _ask(url: str, start: int, size: int | None, stall_seconds: float) -> Answer:
    """Ask once for `size` bytes from `start` on, or for the whole. Raises `Refused` or `Lost`."""
    if urllib.parse.urlsplit(url).scheme == "s3":
        return _ask_s3(url, start, size)
    return _ask_http(url, start, size, stall_seconds)


# ---------------------------------------------------------------- HTTP


class _Redirects(urllib.request.HTTPRedirectHandler):
    """To another place by HTTP, and never from an encrypted connection to a plain one."""

    max_redirections = 5

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        before, after = (urllib.parse.urlsplit(u).scheme for u in (req.full_url, newurl))
        if after not in ("http", "https") or (before == "https" and after == "http"):
            raise Refused(
                "unsafe", f"the server sends on to {newurl[:200]}", "give the address of the files themselves"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@functools.cache
def _opener() -> urllib.request.OpenerDirector:
    """What speaks HTTP and nothing else: no file:, ftp: or data: can be opened by it."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(), urllib.request.HTTPHandler(), urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(), _Redirects(), urllib.request.HTTPErrorProcessor(),
    ):  # fmt: skip
        opener.add_handler(handler)
    return opener


def _ask_http(url: str, start: int, size: int | None, stall_seconds: float) -> Answer:
    headers = {"Accept-Encoding": "identity", "User-Agent": "seehear"}
    if size is not None or start:
        headers["Range"] = f"bytes={start}-" + ("" if size is None else str(start + size - 1))
    quoted = urllib.parse.quote(url, safe=":/%[]@!$&'()*+,;=~-._")
    try:
        answer = _opener().open(urllib.request.Request(quoted, headers=headers), timeout=stall_seconds)
    except urllib.error.HTTPError as error:
        with error:
            raise _refusal(error.code, error.reason) from error
    except (OSError, http.client.HTTPException) as error:
        raise _lost(error) from error
    if answer is None:
        raise Refused("unsafe", "no address by http or https", "give one")
    try:
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            raise Refused(
                "unreadable", "the server changes the bytes (Content-Encoding)", "have it send them as they are"
            )
        if "Range" in headers:
            _check_range(answer, start, size)
        length = answer.headers.get("Content-Length")
        whole = int(length) if length is not None and length.isdecimal() else None
    except BaseException:
        answer.close()
        raise
    return Answer(answer.headers.get("ETag"), size if size is not None else whole, _blocks(answer))


def _check_range(answer: Any, start: int, size: int | None) -> None:
    said = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    if answer.status != 206 or said is None or int(said[1]) != start:
        raise Refused(
            "unreadable", "the server does not send ranges of a file", "use one that honours Range, as most do, and S3"
        )
    if size is not None and int(said[2]) < start + size - 1:
        raise Refused("truncated", f"the file there ends after {said[3]} bytes", "copy it there again")


def _blocks(answer: Any) -> Iterator[bytes]:
    with answer:
        while True:
            try:
                block = answer.read1(_BLOCK)
            except (OSError, http.client.HTTPException) as error:
                raise _lost(error) from error
            if not block:
                return
            yield block


def _refusal(code: int, words: str) -> Refused | Lost:
    said = f"the server answers {code} {words}".rstrip()
    if code >= 500 or code in _AGAIN:
        return Lost(said)
    if 300 <= code < 400:
        return Refused("unsafe", f"{said[:300]}", "give the address of the files themselves")
    if code in (404, 410):
        return Refused("missing", said, "correct the address, or copy the file there")
    if code in (401, 403, 407):
        return Refused("permission", said, "have the server let this machine read it")
    if code == 416:
        return Refused("truncated", f"{said}: the file there is too short", "copy it there again")
    return Refused("unreadable", said, "correct the address")


def _lost(error: BaseException) -> Refused | Lost:
    cause = getattr(error, "reason", None)
    cause = cause if isinstance(cause, BaseException) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return Refused("unreadable", f"the server's certificate does not hold: {cause.verify_message}", "mend it")
    if isinstance(cause, TimeoutError):
        return Lost("nothing came in time")
    said = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    return Lost(f"the connection failed: {said}")


# ---------------------------------------------------------------- S3


@functools.cache
def s3() -> Any:
    """The file system of S3, with the credentials of the environment. Raises `UsageError` without s3fs."""
    try:
        import fsspec
        import s3fs  # noqa: F401 - fsspec finds it by its name
    except ImportError as error:
        raise UsageError("reading from s3:// needs the package s3fs", "pip install 'seehear[remote]'") from error
    return fsspec.filesystem("s3")


def _ask_s3(url: str, start: int, size: int | None) -> Answer:
    store = s3()
    try:
        about = store.info(url) if size is None else {}
        end = int(about["size"]) if size is None else start + size
        version = about.get("ETag")

        def blocks() -> Iterator[bytes]:
            at = start
            while at < end:
                block = _s3_range(store, url, at, min(at + (1 << 23), end))
                yield block
                at += len(block)

        return Answer(version, end - start, blocks())
    except Exception as error:
        raise _s3_fault(error) from error


def _s3_range(store: Any, url: str, start: int, end: int) -> bytes:
    try:
        block = bytes(store.cat_file(url, start=start, end=end))
    except Exception as error:
        raise _s3_fault(error) from error
    if len(block) < end - start:
        raise Refused("truncated", f"the object ends after {start + len(block)} bytes", "copy it there again")
    return block


def _s3_fault(error: Exception) -> Exception:
    if isinstance(error, FileNotFoundError):
        return Refused("missing", "there is no such object", "correct the address, or copy the file there")
    if isinstance(error, PermissionError) or type(error).__name__ == "NoCredentialsError":
        return Refused("permission", str(error) or "it may not be read", "set the credentials that s3fs reads")
    return Lost(f"{type(error).__name__}: {error}")
