"""The media that the server hands out: by ids that are no paths, only of the index, only as they were scanned."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from seehear.errors import MediaError
from seehear.media.formats import extension_of
from seehear.media.identity import Identity
from seehear.media.packed import open_bytes, packed
from seehear.search.segments import IndexedVideo

CHUNK_BYTES = 1 << 18

PLAYED: dict[str, tuple[frozenset[str], frozenset[str], str]] = {
    "mp4": (frozenset({"h264", "av1", "vp9"}), frozenset({"aac", "mp3", "opus", "flac"}), "mp4"),
    "mov": (frozenset({"h264"}), frozenset({"aac", "mp3"}), "mp4"),
    "webm": (frozenset({"vp8", "vp9", "av1"}), frozenset({"opus", "vorbis"}), "webm"),
    "matroska": (frozenset({"vp8", "vp9", "av1"}), frozenset({"opus", "vorbis"}), "webm"),
    "mp3": (frozenset(), frozenset({"mp3"}), "mpeg"),
    "wav": (frozenset(), frozenset({"pcm_s16le", "pcm_u8"}), "wav"),
    "flac": (frozenset(), frozenset({"flac"}), "flac"),
    "ogg": (frozenset(), frozenset({"opus", "vorbis"}), "ogg"),
}
"""What Chromium, Firefox and Safari play themselves: container -> (codecs of pictures, of sound, media type)."""


def media_id(video_id: str, fingerprint: str | None) -> str:
    """The name of a video in addresses: of its content and its id, the same at every start, and no path."""
    named = f"{fingerprint or ''}\0{video_id}".encode("utf-8", "surrogateescape")
    return hashlib.blake2b(named, digest_size=10, person=b"seehear.media").hexdigest()


def container_of(video: IndexedVideo) -> str:
    """The container by one of the names in `PLAYED`, or as the scan named it.

    FFmpeg reads MP4 and QuickTime by one demuxer: the file's ending tells them apart.
    """
    if video.container in ("mov", "m4a"):
        return "mov" if extension_of(str(video.path)) in ("mov", "qt") else "mp4"
    return video.container


def why_not_playable(video: IndexedVideo) -> str | None:
    """Why browsers cannot play this file itself, in words; None if they can."""
    container = container_of(video)
    if container not in PLAYED:
        return f"browsers do not play {video.container} files"
    pictures, sounds, _ = PLAYED[container]
    if video.video_codec is not None and video.video_codec not in pictures:
        return f"browsers do not play {video.video_codec} in {container}"
    if video.audio_codec is not None and video.audio_codec not in sounds:
        return f"browsers do not play {video.audio_codec} in {container}"
    if video.audio_track:
        return f"browsers play the first sound track, and number {video.audio_track} is the one that was used"
    if video.clock_jumps:
        return "the file's clock jumps, so that a browser would not find the moment"
    return None


def media_type(video: IndexedVideo) -> str:
    """The media type of a file that browsers play."""
    kind = "video" if video.video_codec is not None else "audio"
    return f"{kind}/{PLAYED[container_of(video)][2]}"


@dataclass(frozen=True)
class OpenFile:
    """A file that was found to be what was scanned, open for reading."""

    file: BinaryIO
    size: int
    modified: float
    etag: str
    offset: int = 0
    """Where in the open file it begins: a copy in a shard lies behind others."""

    def chunks(self, first: int, length: int) -> Iterator[bytes]:
        """`length` bytes from `first` on; closes the file."""
        with self.file:
            self.file.seek(self.offset + first)
            while length > 0 and (data := self.file.read(min(CHUNK_BYTES, length))):
                length -= len(data)
                yield data


class MediaFiles:
    """The files of the index by their ids."""

    def __init__(self, videos: Sequence[IndexedVideo]) -> None:
        self.videos = videos
        # By columns where there are any: of very many videos the objects are made only as they are needed.
        column = getattr(videos, "column", None)
        self.titles: list[str] = column("video_id") if column else [video.video_id for video in videos]
        prints = column("fingerprint") if column else [video.identity.fingerprint for video in videos]
        self.ids = [media_id(name, content) for name, content in zip(self.titles, prints, strict=True)]
        self.index = {name: place for place, name in enumerate(self.ids)}
        self._fingerprints: dict[tuple[int, int, int, int, int], str] = {}
        """By device, inode, place, size and time: a file that was touched is read whole once, not for every request."""

    def get(self, name: str) -> IndexedVideo | None:
        """The video of an id, if there is one."""
        place = self.index.get(name)
        return None if place is None else self.videos[place]

    def open(self, path: str, identity: Identity) -> OpenFile:
        """Open a video's file if it is what was scanned.

        What is looked at is the open file, so that nothing can be put in its place after the look. Raises `MediaError`
        with reason missing, permission, unreadable, not_media (no regular file) or changed.
        """
        within = packed(path)
        if within is not None and within.remote is not None:  # fetched and looked at, or MediaError
            return OpenFile(open_bytes(path), within.size, 0.0, f'"{within.checksum}"', 0)
        place = path if within is None else within.shard
        file = _open_regular(place)
        try:
            status = os.fstat(file.fileno())
            offset, size = (0, status.st_size) if within is None else (within.offset, within.size)
            if offset + size > status.st_size:
                raise MediaError(path, "changed", "its shard ends before the file does", "put the shard back")
            self._check_content(file, path, place, identity, offset, size)
        except BaseException:
            file.close()
            raise
        name = identity.fingerprint or f"{status.st_mtime_ns:x}"
        return OpenFile(file, size, status.st_mtime, f'"{name}-{size:x}"', offset)

    def check(self, path: str, identity: Identity) -> None:
        """Raise what `open` raises, and leave nothing open."""
        self.open(path, identity).file.close()

    def _check_content(self, file: BinaryIO, path: str, place: str, identity: Identity, offset: int, size: int) -> None:
        """Raise `MediaError` (changed) unless the open file, or this part of it, has the content that was scanned."""
        status = os.fstat(file.fileno())
        linked = os.path.realpath(place) != os.path.abspath(place)
        remedy = "run `seehear index` again, or put the file back"
        if identity.fingerprint is None:
            if linked:  # nothing would tell what it leads to from what was scanned
                raise MediaError(
                    path, "changed", "a link stands where the file was scanned without a fingerprint", remedy
                )
            return
        # Links are as good as the files that they lead to, whose content is what counts: size and time prove little of
        # a file outside the collection, so the content itself is read.
        same = (size, status.st_mtime_ns) == (identity.size_bytes, identity.modified_ns)
        if same and not linked:
            return
        if identity.size_bytes is not None and size != identity.size_bytes:
            what = f"it had {identity.size_bytes} bytes and has {size}"
            raise MediaError(path, "changed", f"this is not the file that was scanned: {what}", remedy)
        state = (status.st_dev, status.st_ino, offset, size, status.st_mtime_ns)
        if state not in self._fingerprints:
            self._fingerprints[state] = _fingerprint_of(file, offset, size)
        if self._fingerprints[state] != identity.fingerprint:
            raise MediaError(path, "changed", "this is not the file that was scanned: its content is another", remedy)


def _open_regular(path: str) -> BinaryIO:
    """Open a file; never a pipe or a device, which might wait for ever or do something when they are opened."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise MediaError(path, "missing", "the file is gone", "put it back, or run `seehear index`") from error
    except PermissionError as error:
        raise MediaError(path, "permission", "the file may not be read by this user") from error
    except (OSError, ValueError) as error:
        raise MediaError(path, "unreadable", str(error)) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise MediaError(path, "changed", "there is no regular file any more", "put the file back")
    return open(descriptor, "rb")


def _fingerprint_of(file: BinaryIO, offset: int, size: int) -> str:
    """As `seehear.media.identity.file_fingerprint`, of `size` bytes of an open file."""
    digest = hashlib.blake2b(digest_size=16)
    file.seek(offset)
    while block := file.read(min(1 << 20, size)):
        digest.update(block)
        size -= len(block)
    return digest.hexdigest()
