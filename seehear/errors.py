"""Errors that a person can act on: each says what is wrong and, where there is one, the remedy.

The command line prints `message`, then `remedy`, and exits with `exit_code`:

| code | meaning                                                        |
|------|----------------------------------------------------------------|
| 0    | done                                                           |
| 1    | a fault in seehear itself (a traceback is shown)               |
| 2    | the command or a setting is wrong, or a destination unwritable |
| 3    | the data cannot be used                                        |
| 4    | the run folder cannot be used (locked, damaged, of other data) |
| 5    | training cannot go on (not finite, too many bad videos)        |
| 75   | interrupted; the state is saved and `--resume` goes on from it |
"""

from __future__ import annotations

import errno
import os


class SeehearError(Exception):
    """Base of all errors that seehear raises on purpose."""

    exit_code = 1

    def __init__(self, message: str, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}\n  -> {self.remedy}" if self.remedy else self.message

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.message, self.remedy)


class UsageError(SeehearError):
    """A command, an option or a setting is wrong."""

    exit_code = 2


class ConflictError(UsageError):
    """Someone else's edit came in between: what was to be changed is no longer what was seen."""


class DestinationError(UsageError, OSError):
    """A file or folder cannot be written where it is to be.

    An OSError too, with the cause's `errno`: who can do without the file, or knows more of what a full disk means,
    catches it as one.
    """

    def __init__(self, path: str, code: int, remedy: str | None = None) -> None:
        super().__init__(f"cannot write {path}: {os.strerror(code)}", remedy or _remedy(code))
        self.path = path
        self.errno = code

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.path, self.errno, self.remedy)


def _remedy(code: int) -> str:
    """What helps against an error of the operating system in writing."""
    if code in (errno.ENOSPC, errno.EDQUOT):
        return "make room on that disk, or choose another place"
    if code == errno.ENAMETOOLONG:
        return "choose a shorter name"
    if code == errno.EISDIR:
        return "there is a folder of this name: choose another name"
    if code in (errno.ENOTDIR, errno.EEXIST):
        return "there is a file where a folder should be: choose another place"
    if code == errno.EINVAL:
        return "what is there is neither a file nor a folder: choose another name"
    return "choose a place that may be written to"


class DataError(SeehearError):
    """The given data cannot be used."""

    exit_code = 3


class MediaError(DataError):
    """One media file cannot be used.

    `reason` is one of the short codes of `seehear.data.manifest.REASONS`; `detail` says it in words.
    """

    def __init__(self, path: str, reason: str, detail: str, remedy: str | None = None) -> None:
        super().__init__(f"{path}: {reason}: {detail}", remedy)
        self.path = path
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.path, self.reason, self.detail, self.remedy)


class RunError(SeehearError):
    """A run folder cannot be used."""

    exit_code = 4


class TrainingError(SeehearError):
    """Training cannot go on."""

    exit_code = 5


class DivergedError(TrainingError):
    """Step after step had gradients that are not finite."""


class ProcessError(TrainingError):
    """Another process of the run has failed, is lost, or does not come."""


class Interrupted(SeehearError):
    """A signal asked the run to stop; its state is saved (75 is EX_TEMPFAIL: schedulers may requeue)."""

    exit_code = 75
