"""A media file is opened here and nowhere else: safely, and with every failure as a `MediaError`."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

import av
from av.container import InputContainer

from seehear.errors import MediaError
from seehear.media.formats import DEMUXERS

# Containers only: no playlist or script format (hls, dash, concat, ...) can ever be opened, whatever the
# file is called, since those make FFmpeg open other files.
_OPEN_OPTIONS = {"format_whitelist": DEMUXERS, "protocol_whitelist": "file"}
_PLAYLIST_MARKS = (
    b"#extm3u", b"ffconcat", b"<mpd", b"<smil", b"[playlist]", b"<asx", b"[reference]", b"<compositionplaylist",
)  # fmt: skip


@contextmanager
def open_media(path: str | os.PathLike[str]) -> Iterator[InputContainer]:
    """Open a file for reading, safely, and turn every failure inside the block into a `MediaError`.

    Only container formats and only this very file can be opened; playlists are refused (reason unsafe).
    """
    name = os.fspath(path)
    _check_file(name)
    try:
        # An absolute path cannot be taken for a protocol ("concat:a|b").
        container = av.open(os.path.abspath(name), container_options=dict(_OPEN_OPTIONS), metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError, MemoryError) as error:
        raise _open_error(name, error) from error
    try:
        with container:
            yield container
    except MediaError:
        raise
    except MemoryError as error:
        raise MediaError(name, "too_large", "decoding needs more memory than a worker may take") from error
    except av.FFmpegError as error:
        raise MediaError(name, "decode_error", words(error)) from error


def _check_file(name: str) -> None:
    try:
        status = os.stat(name)
        if not stat.S_ISREG(status.st_mode):
            raise MediaError(name, "not_media", "not a regular file")
        if status.st_size == 0:
            raise MediaError(name, "empty", "the file has no bytes")
        with open(name, "rb"):
            pass
    except FileNotFoundError as error:
        raise MediaError(name, "missing", "no such file") from error
    except PermissionError as error:
        raise MediaError(name, "permission", "the file may not be read by this user") from error
    except (OSError, ValueError) as error:
        raise MediaError(name, "unreadable", str(error)) from error


def _open_error(name: str, error: BaseException) -> MediaError:
    with open(name, "rb") as file:
        head = file.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if any(mark in head[:512] for mark in _PLAYLIST_MARKS):
        return MediaError(name, "unsafe", "a playlist, which would open other files", "give the media itself")
    if isinstance(error, MemoryError):
        return MediaError(name, "too_large", "opening needs more memory than a worker may take")
    if b"ftyp" in head[:16] and b"moov" not in head:
        # The index of a recording stands at its end and was never written, or was cut off.
        return MediaError(name, "truncated", "the file ends before its index (moov)", "copy it again")
    if isinstance(error, OSError) and not isinstance(error, av.FFmpegError):
        return MediaError(name, "unreadable", str(error))
    return MediaError(name, "not_media", f"no video or audio container was recognised ({words(error)})")


def words(error: BaseException) -> str:
    """What an error of FFmpeg or of the system says, without its number and path."""
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
