"""Where copies lie: as files below `videos`, or in shards, packed in the order of their originals.

Which copies share a shard follows from their order and sizes alone, not from the order in which they are made, from how
often the work was stopped, or from what was in the folder before. A shard is written from files that go only when it
has its name; one that no longer holds what it should is taken apart into files again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from seehear.data import prepared
from seehear.errors import DataError
from seehear.files import whole_file, write_table, writing
from seehear.media.packed import open_bytes
from seehear.preparing.journal import Done
from seehear.preparing.shards import Member, Sample, key_of, read_shard, write_shard


def loose_copy(folder: Path, video_id: str) -> Path:
    """Where the copy of an original lies as a file, in a folder of copies."""
    return folder / prepared.VIDEOS / f"{key_of(video_id)}.mp4"


class Packer:
    """The copies of a folder.

    order: ids of all originals that can be copied
    note: what a shard says of a copy
    shard_bytes: about the size of a shard; None: copies stay files
    """

    def __init__(
        self, folder: Path, order: Sequence[str], note: Callable[[str], bytes], shard_bytes: int | None
    ) -> None:
        self.folder, self.order, self.note, self.shard_bytes = folder, order, note, shard_bytes
        self.shards: list[list[Member]] = []
        self._damaged: list[Path] = []
        # The shard that is being filled, and how far in the order that has come.
        self._at, self._size = 0, 0
        self._group: list[str] = []
        self._full: list[list[str]] = []

    def loose(self, video_id: str) -> Path:
        """Where a copy lies as a file."""
        return loose_copy(self.folder, video_id)

    def shard(self, number: int) -> Path:
        """Where a shard lies."""
        return self.folder / prepared.SHARDS / f"{number:06d}.tar"

    # ------------------------------------------------------------ what there is

    def places(self) -> dict[str, list[str]]:
        """The paths at which copies lie, by their keys; read from the shards themselves."""
        found: dict[str, list[str]] = {}
        for video_id in self.order:
            if (path := self.loose(video_id)).is_file():
                found.setdefault(key_of(video_id), []).append(str(path))
        for path in self._shard_files():
            try:
                members = read_shard(path)
            except DataError:
                self._damaged.append(path)
                continue
            self.shards.append(members)
            for member in members:
                found.setdefault(member.key, []).append(member.place.path)
        return found

    def _shard_files(self) -> list[Path]:
        return sorted((self.folder / prepared.SHARDS).glob("[0-9]*.tar"))

    # ------------------------------------------------------------ packing

    def open(self, done: Mapping[str, Done]) -> None:
        """Keep the shards that are as they should be, and take the others apart."""
        self._fill(done, last=all(video_id in done for video_id in self.order))
        kept = 0
        for members, group in zip(self.shards, self._full, strict=False):
            named = bool(members) and Path(members[0].place.shard) == self.shard(kept)
            if self._damaged or not named or not self._same(members, group, done):
                break
            kept += 1
        self._full = self._full[kept:]
        wanted = {key_of(video_id): done[video_id] for video_id in self.order if video_id in done}
        for members in self.shards[kept:]:
            for member in members:
                if member.key in wanted:
                    self._take_out(member, wanted[member.key])
        for path in self._shard_files()[kept:]:
            path.unlink()
        self.shards = self.shards[:kept]
        for members in self.shards:
            self._clear(members)

    def _same(self, members: Sequence[Member], group: Sequence[str], done: Mapping[str, Done]) -> bool:
        there = [(m.key, m.note, m.place.size) for m in members]
        return there == [(key_of(v), self.note(v), done[v].bytes) for v in group]

    def _take_out(self, member: Member, done: Done) -> None:
        target = self.loose(done.video_id)
        if target.is_file() and target.stat().st_size == done.bytes:
            return
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            with open_bytes(member.place.path) as source, whole_file(target) as file:
                shutil.copyfileobj(source, file, 1 << 20)

    def _fill(self, done: Mapping[str, Done], last: bool) -> None:
        """Settle which copies share a shard, up to the first original of which nothing is known yet.

        last: nothing more will become known, so that what is left is a shard too
        """
        if self.shard_bytes is None:
            return
        while self._at < len(self.order) and (one := done.get(self.order[self._at])) is not None:
            self._at += 1
            if one.outcome != prepared.PREPARED:
                continue
            assert one.bytes is not None
            if self._group and self._size + one.bytes > self.shard_bytes:
                self._full.append(self._group)
                self._group, self._size = [], 0
            self._group.append(one.video_id)
            self._size += one.bytes
        if last and self._group:
            self._full.append(self._group)
            self._group = []

    def advance(self, done: Mapping[str, Done], last: bool = False) -> None:
        """Write the shards that have become full; with `last` the rest too."""
        self._fill(done, last)
        while self._full:
            path = self.shard(len(self.shards))
            write_shard(path, [Sample(key_of(v), self.note(v), self.loose(v)) for v in self._full.pop(0)])
            members = read_shard(path)
            self.shards.append(members)
            self._clear(members)

    def _clear(self, members: Sequence[Member]) -> None:
        """Delete the files of copies that a shard holds."""
        for member in members:
            (self.folder / prepared.VIDEOS / f"{member.key}.mp4").unlink(missing_ok=True)

    # ------------------------------------------------------------ the end

    def finish(self, done: Mapping[str, Done]) -> dict[str, str]:
        """Where each copy lies, relative to the folder; files of no copy, and empty folders, are deleted."""
        places = {}
        if self.shard_bytes is None:
            places = {v: str(self.loose(v).relative_to(self.folder)) for v in self.order if _prepared(done, v)}
        ids = {key_of(video_id): video_id for video_id in self.order}
        for members in self.shards:
            for member in members:
                places[ids[member.key]] = os.path.relpath(member.place.path, self.folder)
        videos = self.folder / prepared.VIDEOS
        wanted = {self.folder / place for place in places.values()}
        for path in sorted(videos.rglob("*"), reverse=True):
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
            elif path.suffix == ".mp4" and path.is_file() and path not in wanted:
                path.unlink()
        for empty in (videos, self.folder / prepared.SHARDS):
            if empty.is_dir() and not any(empty.iterdir()):
                empty.rmdir()
        return places

    def write_index(self, done: Mapping[str, Done], places: Mapping[str, str]) -> None:
        """Write where in the shards each copy lies (see `seehear.data.prepared.PLACES`), if there are any."""
        if not self.shards:
            return
        ids = {key_of(video_id): video_id for video_id in places}
        rows = []
        for members in self.shards:
            for member in members:
                one, place = done[ids[member.key]], member.place
                shard = os.path.relpath(place.shard, self.folder)
                rows.append({
                    "video_id": one.video_id, "key": member.key, "shard": shard, "offset": place.offset,
                    "size": place.size, "checksum": one.fingerprint, "start_seconds": one.start_seconds,
                    "end_seconds": one.end_seconds,
                })  # fmt: skip
        table = pa.Table.from_pylist(rows, pa.schema(list(prepared.PLACES.items())))
        write_table(table, self.folder / prepared.INDEX)


def _prepared(done: Mapping[str, Done], video_id: str) -> bool:
    return video_id in done and done[video_id].outcome == prepared.PREPARED
