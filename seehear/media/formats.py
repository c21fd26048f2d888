"""The media files that are known, by the endings of their names."""

from __future__ import annotations

import os

VIDEO_EXTENSIONS = frozenset(
    {"3g2", "3gp", "asf", "avi", "f4v", "flv", "m2ts", "m4v", "mkv", "mov",
     "mp4", "mpeg", "mpg", "mts", "ogv", "ts", "vob", "webm", "wmv"}
)  # fmt: skip
AUDIO_EXTENSIONS = frozenset(
    {"aac", "aif", "aiff", "amr", "au", "caf", "flac", "m4a",
     "mka", "mp3", "oga", "ogg", "opus", "w64", "wav", "wma"}
)  # fmt: skip


def extension_of(path: str) -> str:
    """The ending of a file's name in lower case, without the dot; "" without one."""
    return os.path.splitext(path)[1].lstrip(".").lower()


def is_media(path: str) -> bool:
    """Whether a file's name has the ending of a video or of sound."""
    return extension_of(path) in VIDEO_EXTENSIONS | AUDIO_EXTENSIONS
