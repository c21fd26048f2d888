"""A media file is opened here and nowhere else: safely, and with every failure as a `MediaError`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import BinaryIO

import av
from av.container import InputContainer

from seehear.errors import MediaError
from seehear.media.formats import DEMUXERS
from seehear.media.packed import open_bytes, packed, status_of

# Containers only: no playlist or script format (hls, dash, concat, ...) can ever be opened, whatever the
# file is called, since those make FFmpeg open other files.
_OPEN_OPTIONS = {"format_whitelist": DEMUXERS, "protocol_whitelist": "file"}
# What lies in a shard is read by us: FFmpeg itself has nothing to open.
_PACKED_OPTIONS = {"format_whitelist": DEMUXERS, "protocol_whitelist": "none"}
_PLAYLIST_MARKS = (
    b"#extm3u", b"ffconcat", b"<mpd", b"<smil", b"[playlist]", b"<asx", b"[reference]", b"<compositionplaylist",
)  # fmt: skip


@contextmanager
def open_media(path: str | os.PathLike[str]) -> Iterator[InputContainer]:
    """Open a file for reading, safely, and turn every failure inside the block into a `MediaError`.

    Only container formats and only this very file can be opened; playlists are refused (reason unsafe). A file within a
    shard (`seehear.media.packed`) is read by its range of bytes, under the same rules.
    """
    name = os.fspath(path)
    _check_file(name)
    with ExitStack() as held:
        # An absolute path cannot be taken for a protocol ("concat:a|b").
        file: str | BinaryIO = os.path.abspath(name)
        options = _OPEN_OPTIONS
        try:
            if packed(name) is not None:
                file, options = held.enter_context(open_bytes(name)), _PACKED_OPTIONS
            opened = av.open(file, "r", container_options=dict(options), metadata_errors="replace")
            container = held.enter_context(opened)
        except (av.FFmpegError, OSError, ValueError, MemoryError) as error:
            raise _open_error(name, error) from error
        yield from _used(name, container)


def _used(name: str, container: InputContainer) -> Iterator[InputContainer]:
    """Hand out an open container; what fails while it is used is a `MediaError`."""
    try:
        yield container
    except MediaError:
        raise
    except MemoryError as error:
        raise MediaError(name, "too_large", "decoding needs more memory than a worker may take") from error
    except av.FFmpegError as error:
        raise MediaError(name, "decode_error", words(error)) from error


def _check_file(name: str) -> None:
    try:
        status = status_of(name)
        if not status.regular:
            raise MediaError(name, "not_media", "not a regular file")
        if status.size == 0:
            raise MediaError(name, "empty", "the file has no bytes")
        if not status.whole:
            raise MediaError(name, "truncated", "its shard ends before the file does", "copy the shard again")
        with open_bytes(name):
            pass
    except FileNotFoundError as error:
        what = "no such file" if packed(name) is None else "its shard is not there"
        raise MediaError(name, "missing", what) from error
    except PermissionError as error:
        raise MediaError(name, "permission", "the file may not be read by this user") from error
    except (OSError, ValueError) as error:
        raise MediaError(name, "unreadable", str(error)) from error


def _open_error(name: str, error: BaseException) -> MediaError:
    with open_bytes(name) as file:
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
