"""A preparation from end to end: originals in, a folder of copies and the table of what became of each out.

A copy is one unit of work: it appears whole, and a line of the journal says so. Whatever stops the process, the same
command finds what is done, makes the rest, and leaves what one that was never stopped leaves, to the last byte of the
shards. Original and copy are known by their contents.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from seehear.data import prepared
from seehear.data.manifest import Manifest
from seehear.data.scanning import TRANSIENT, scan
from seehear.errors import DataError, DestinationError, UsageError
from seehear.files import check_destination, remove_leftovers, writing
from seehear.media.identity import file_fingerprint
from seehear.media.packed import status_of
from seehear.media.pool import Outcome, WorkerPool, available_cores
from seehear.media.recoding import AAC_RATES_HZ, VERSION, Copied, Original, Recoding, recode
from seehear.preparing.journal import Done, Journal
from seehear.preparing.packing import Packer
from seehear.preparing.shards import key_of

ORIGINALS = "originals.parquet"
"""The manifest of the originals, in the folder of copies."""
_REMEDY = "make room, then give the same command again: it goes on where it stopped"

Shown = Callable[[str, int, int], None]
"""Called with a task, how much of it is done and how much there is."""


@dataclass(frozen=True)
class Preparation:
    """A finished preparation: its folder, and the rows of its table."""

    folder: Path
    rows: list[dict[str, Any]]
    made: int
    """Copies that were made now; the others were there."""

    def summary(self) -> dict[str, Any]:
        """Counts by outcome and by reason, bytes of originals and copies, and what making all copies took."""
        done = [row for row in self.rows if row["outcome"] == prepared.PREPARED]
        reasons: dict[str, int] = {}
        for row in self.rows:
            if row["outcome"] != prepared.PREPARED:
                reasons[row["reason"]] = reasons.get(row["reason"], 0) + 1
        counts = {
            name: sum(row["outcome"] == name for row in self.rows)
            for name in (prepared.PREPARED, prepared.REJECTED, prepared.FAILED)
        }
        return {
            "folder": str(self.folder),
            **counts,
            "made_now": self.made,
            "reasons": dict(sorted(reasons.items(), key=lambda pair: -pair[1])),
            "original_bytes": sum(row["original_bytes"] or 0 for row in done),
            "prepared_bytes": sum(row["prepared_bytes"] for row in done),
            "cpu_seconds": sum(row["cpu_seconds"] for row in done),
        }


def prepare(
    source: str | os.PathLike[str] | Manifest,
    out: str | os.PathLike[str],
    recoding: Recoding,
    *,
    shard_bytes: int | None = None,
    where: Sequence[str] = (),
    min_seconds: float = 2.0,
    audio_track: int | None = None,
    workers: int | None = None,
    timeout_seconds: float = 3600.0,
    verify: bool = False,
    shown: Shown = lambda _task, _done, _total: None,
) -> Preparation:
    """Copy what can be used of `source` into `out`, or go on with it. See `seehear.preparing.prepare`.

    shard_bytes: gather the copies in tar shards of about so many bytes; None: leave them as files
    timeout_seconds: an original that takes longer fails
    verify: read copies that are there also where their size and time are those that the last preparation left

    Raises `UsageError`, `DataError` and `DestinationError`.
    """
    check_settings(recoding, shard_bytes, timeout_seconds)
    folder = Path(out)
    check_folder(folder, source)
    try:
        with _locked(folder):
            remove_leftovers(folder)
            originals = _scanned(source, folder, recoding, min_seconds, audio_track, workers, shown)
            for condition in where:
                originals = originals.where(condition)
            job = _Job(folder, originals, recoding, shard_bytes, shown)
            job.find_done(verify)
            job.make(available_cores() if workers is None else workers, timeout_seconds)
            return job.finish()
    except DestinationError as error:
        remedy = _REMEDY if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else error.remedy
        raise DestinationError(error.path, error.errno or errno.EIO, remedy) from error


def check_settings(recoding: Recoding, shard_bytes: int | None, timeout_seconds: float) -> None:
    side, rate, keys = recoding.short_side_px, recoding.frame_rate_hz, recoding.keyframe_frames
    if side < 16 or side % 2:
        raise UsageError(f"a copy cannot have a short side of {side} pixels", "give an even number from 16 on")
    if not 0 < rate <= 240 or keys < 1:
        raise UsageError(f"copies cannot have {rate:g} frames a second with a keyframe every {keys}", "e.g. 30 and 30")
    if recoding.sample_rate_hz not in AAC_RATES_HZ:
        known = ", ".join(map(str, AAC_RATES_HZ))
        raise UsageError(f"copies cannot hold {recoding.sample_rate_hz} samples a second", f"AAC knows {known}")
    if shard_bytes is not None and shard_bytes < 1_000_000:
        raise UsageError("a shard holds a megabyte at least", "give --shard-mb 1 or more")
    if not timeout_seconds > 0:
        raise UsageError("the time for an original must be above 0")


def check_folder(folder: Path, source: Any) -> None:
    with writing(folder):
        foreign = folder.exists() and (
            not folder.is_dir()
            or (any(p.name[0] != "." for p in folder.iterdir()) and not (folder / prepared.JOURNAL).exists())
        )
    if foreign:
        raise UsageError(f"there is something in {folder} already, and no preparation", "choose another --out")
    if not isinstance(source, Manifest) and os.path.isdir(source):
        inner, outer = os.path.realpath(folder), os.path.realpath(source)
        if os.path.commonpath([inner, outer]) in (inner, outer):
            raise UsageError(
                f"{folder} and {os.fspath(source)} lie within each other: copies would be taken for originals",
                "choose an --out elsewhere",
            )
    check_destination(folder, folder=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One preparation at a time works in a folder. The lock goes with its process, however that ends."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"another process prepares into {folder}", "wait for it, or choose another --out"
            ) from None
        with writing(folder):
            (folder / prepared.JOURNAL).touch()
        yield
    finally:
        os.close(descriptor)


def _scanned(
    source: str | os.PathLike[str] | Manifest,
    folder: Path,
    recoding: Recoding,
    min_seconds: float,
    audio_track: int | None,
    workers: int | None,
    shown: Shown,
) -> Manifest:
    """The manifest of the originals. One that is given is taken as it is; else only what changed is looked at again."""
    if not isinstance(source, Manifest) and Manifest.is_manifest(source):
        source = Manifest.load(source)
    if isinstance(source, Manifest):
        source.save(folder / ORIGINALS)
        return source
    return scan(
        source, out=folder / ORIGINALS, need=recoding.streams, min_seconds=min_seconds, workers=workers,
        audio_track=audio_track, progress=lambda done, total: shown("scan", done, total),
    )  # fmt: skip


def settings_of(recoding: Recoding) -> str:
    """Names what copies are like."""
    settings = {"version": VERSION, **asdict(recoding)}
    return hashlib.blake2b(json.dumps(settings).encode(), digest_size=8).hexdigest()


def done_of(row: Mapping[str, Any], outcome: Outcome, settings: str) -> Done:
    """What became of an original, a row of a manifest, of which `recode` made a copy or said why not."""
    if outcome.error is not None:
        error = outcome.error
        return Done(row["video_id"], content_of(row), settings, prepared.FAILED, error.reason, error.detail)
    copied: Copied = outcome.value
    start, end = _span(copied)
    return Done(
        row["video_id"], content_of(row), settings, prepared.PREPARED, None, None, copied.probe.size_bytes,
        copied.probe.fingerprint, start, end, copied.seconds, copied.cpu_seconds,
    )  # fmt: skip


class _Job:
    """The originals, what became of each so far, and where the copies lie."""

    def __init__(
        self, folder: Path, originals: Manifest, recoding: Recoding, shard_bytes: int | None, shown: Shown
    ) -> None:
        self.folder, self.recoding, self.shown = folder, recoding, shown
        self.rows = originals.rows()
        self.extra = originals.extra_columns
        self.usable = {row["video_id"]: row for row in self.rows if row["usable"]}
        if not self.usable:
            raise DataError("no usable video", f"the reasons:\n{originals.summary_text()}")
        self.settings = settings_of(recoding)
        self.journal = Journal(folder / prepared.JOURNAL)
        self.done: dict[str, Done] = {}
        self.packer = Packer(folder, list(self.usable), self._note, shard_bytes)
        self.made = 0

    def _note(self, video_id: str) -> bytes:
        """What a shard says of a copy, as JSON."""
        row, done = self.usable[video_id], self.done[video_id]
        said = {
            "video_id": video_id,
            "original_path": row["path"],
            "fingerprint": done.fingerprint,
            "start_seconds": done.start_seconds,
            "end_seconds": done.end_seconds,
            **{prepared.own_column(name): row[name] for name in self.extra},
        }
        return json.dumps(said, ensure_ascii=False).encode()

    def find_done(self, verify: bool) -> None:
        """Take from the journal what still holds: the same original, the same settings, and the copy itself."""
        known = self.journal.read()
        places = self.packer.places()
        count = 0
        for video_id, row in self.usable.items():
            count += 1
            self.shown("check", count, len(self.usable))
            done = known.get(video_id)
            if done is None or (done.source, done.settings) != (content_of(row), self.settings):
                continue
            if done.outcome == prepared.PREPARED:
                place = next((p for p in places.get(key_of(video_id), ()) if _holds(p, done, verify)), None)
                if place is None:
                    continue
            elif done.reason in TRANSIENT:  # it may have been the machine's fault
                continue
            self.done[video_id] = done
        # From here on the folder is being worked on: half a set is never taken for a whole one.
        for name in (prepared.TABLE, prepared.TABLE_CSV, prepared.INDEX):
            (self.folder / name).unlink(missing_ok=True)
        self.packer.open(self.done)

    def make(self, workers: int, timeout_seconds: float) -> None:
        """Make the copies that are missing, several at once, and pack them as they come."""
        todo = [row for video_id, row in self.usable.items() if video_id not in self.done]
        items = (
            (row["video_id"], (str(self.packer.loose(row["video_id"])), Original.from_row(row), self.recoding))
            for row in todo
        )
        count = len(self.usable) - len(todo)
        self.shown("prepare", count, len(self.usable))
        with WorkerPool(min(workers, len(todo)), timeout_seconds=timeout_seconds) as pool:
            for outcome in pool.imap(recode, items, ordered=False):
                self._add(outcome)
                self.packer.advance(self.done)
                count += 1
                self.shown("prepare", count, len(self.usable))
        self.packer.advance(self.done, last=True)

    def _add(self, outcome: Outcome) -> None:
        done = done_of(self.usable[str(outcome.key)], outcome, self.settings)
        self.made += outcome.error is None
        self.journal.add(done)
        self.done[done.video_id] = done

    def finish(self) -> Preparation:
        """Write the tables, last of all, and clear away copies of what is no original any more."""
        places = self.packer.finish(self.done)
        rows = [self._outcome(row, places) for row in self.rows]
        if not any(row["outcome"] == prepared.PREPARED for row in rows):
            example = next(row for row in rows if row["outcome"] == prepared.FAILED)
            raise DataError(
                f"not one original could be prepared; {example['video_id']}: {example['reason']}: {example['detail']}"
            )
        times = {video_id: status_of(self.folder / place).modified_ns for video_id, place in places.items()}
        self.journal.rewrite(replace(done, modified_ns=times.get(done.video_id)) for done in self.done.values())
        self.packer.write_index(self.done, places)
        prepared.save(self.folder, rows, self.extra, asdict(self.recoding))
        return Preparation(self.folder, rows, self.made)

    def _outcome(self, row: Mapping[str, Any], places: Mapping[str, str]) -> dict[str, Any]:
        video_id = row["video_id"]
        found = {
            "video_id": video_id,
            "outcome": prepared.REJECTED,
            "reason": row["reason"],
            "detail": row["detail"],
            "original_path": row["path"],
            "original_bytes": row["size_bytes"],
            "original_fingerprint": row["fingerprint"],
            **{name: row[name] for name in self.extra},
        }
        done = self.done.get(video_id) if row["usable"] else None
        if done is None:
            return found
        return found | {
            "outcome": done.outcome,
            "reason": done.reason,
            "detail": done.detail,
            "prepared_path": places.get(video_id),
            "prepared_bytes": done.bytes,
            "prepared_fingerprint": done.fingerprint,
            "start_seconds": done.start_seconds,
            "end_seconds": done.end_seconds,
            "seconds": done.seconds,
            "cpu_seconds": done.cpu_seconds,
        }


def content_of(row: Mapping[str, Any]) -> str:
    """Names what is copied: the content of the file, and its sound track."""
    return f"{row['fingerprint']}/{row['audio_track'] or 0}"


def _holds(path: str, done: Done, verify: bool) -> bool:
    """Whether a copy is there with the content that it had when it was made; read if its time does not say so."""
    try:
        status = status_of(path)
        if not verify and status.modified_ns == done.modified_ns:
            return status.size == done.bytes and status.whole
        return status.size == done.bytes and file_fingerprint(path) == done.fingerprint
    except (OSError, ValueError):
        return False


def _span(copied: Copied) -> tuple[float, float]:
    """From when to when all streams of a copy are there, in seconds."""
    found = copied.probe
    streams = [
        (start, start + seconds)
        for start, seconds in (
            (found.video_start_seconds, found.video_duration_seconds),
            (found.audio_start_seconds, found.audio_duration_seconds),
        )
        if start is not None and seconds is not None
    ]
    return max(start for start, _ in streams), min(end for _, end in streams)
