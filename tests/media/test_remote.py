"""Copies on a server: fetched by ranges, checked, kept within a bound; and every fault named."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from seehear.errors import DataError, DestinationError, MediaError, UsageError
from seehear.media import fetching, remote
from seehear.media.decode import Window, decode
from seehear.media.nearby import Nearby
from seehear.media.opening import open_media
from seehear.media.packed import Packed, full_path, open_bytes, packed, remote_copy, status_of
from seehear.media.remote import Copy, Streaming, brought, checked_address, opened
from tests.corpus import make_video
from tests.servers import serving, watching

DATA = np.random.default_rng(0).bytes(300_000)


@pytest.fixture(autouse=True)
def kept(tmp_path):
    """A folder of its own for what is fetched, and little patience."""
    before = remote.streaming()
    remote.use(Streaming(str(tmp_path / "kept"), 1 << 20, 1.0))
    yield tmp_path / "kept"
    remote.use(before)


@pytest.fixture
def server(tmp_path):
    (tmp_path / "there" / "shards").mkdir(parents=True)
    (tmp_path / "there" / "shards" / "000000.tar").write_bytes(DATA)
    with serving(tmp_path / "there") as found:
        yield found


def digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def a_copy(server, first: int, size: int, checksum: str | None = None) -> Copy:
    """What a path names that stands for these bytes of the shard."""
    place = Packed(
        f"{server.url}/shards/000000.tar", first, size, "a.mp4", checksum or digest(DATA[first : first + size])
    )
    found = remote_copy(place.path)
    assert found is not None
    return found


def read(copy: Copy) -> bytes:
    with open_bytes(copy.path) as file:
        return file.read()


def failure(copy: Copy) -> MediaError:
    with pytest.raises(MediaError) as caught:
        opened(copy)
    return caught.value


def test_addresses_name_ranges_and_paths_on_disk_do_not(tmp_path):
    sum_ = "0123456789abcdef" * 2
    path = f"https://host/p/shards/000000.tar/512+77+{sum_}/a b.mp4"
    place = packed(path)
    assert place == Packed("https://host/p/shards/000000.tar", 512, 77, "a b.mp4", sum_) and place.path == path
    assert packed(Path(path)) == place  # which has lost a slash
    assert full_path(path) == full_path(Path(path)) == path
    assert (status_of(path).size, status_of(path).regular, status_of(path).whole) == (77, True, True)
    assert remote_copy("/a/b.tar/512+77/a.mp4") is None
    assert packed(f"/a/b.tar/512+77+{sum_}/a.mp4") is None
    assert packed("file:///a/b.tar/512+77/a.mp4").remote is None
    for wrong in ("https://me:secret@host/p", "https://host/p?token=secret", "https://host/p#secret"):
        with pytest.raises(UsageError) as caught:
            checked_address(wrong)
        assert "secret" not in str(caught.value)


def test_ranges_come_once_and_are_the_bytes_of_the_shard(server):
    rng = np.random.default_rng(1)
    for first, size in zip(rng.integers(0, 200_000, 12).tolist(), rng.integers(1, 9_000, 12).tolist(), strict=True):
        copy = a_copy(server, first, size)
        assert read(copy) == DATA[first : first + size]
        assert read(copy) == DATA[first : first + size]
    assert len(server.requests) == 12
    assert all(wanted is not None for _, wanted in server.requests)


def test_what_is_cut_goes_on_where_it_was_cut(server):
    server.cut_every, server.busy_every = 2, 5
    copy = a_copy(server, 1000, 200_000)
    next(server._count)  # so that the first answer is cut
    assert read(copy) == DATA[1000:201_000]
    assert server.cuts >= 1
    first, second = (wanted for _, wanted in server.requests[:2])
    assert first == "bytes=1000-200999"
    assert second == "bytes=101000-200999"


def test_a_server_that_restarts_is_waited_for(server):
    remote.use(replace(remote.streaming(), patience_seconds=20.0))
    server.restart(0.6)
    assert read(a_copy(server, 0, 5000)) == DATA[:5000]


def test_a_server_that_is_gone_is_named_and_ends_the_work(server):
    server.stop()
    error = failure(a_copy(server, 0, 5000))
    assert error.reason == "unreadable" and "tried again for 1 s" in error.detail and error.remedy is not None
    assert f"{server.url}/shards/000000.tar/0+5000" in str(error)
    copies = [a_copy(server, i, 100) for i in range(6)]
    verdicts = brought([*copies[:1], None, *copies[1:]])
    found = [next(verdicts), next(verdicts), next(verdicts)]
    assert [e.reason if e else None for e in found] == ["unreadable", None, "unreadable"]
    with pytest.raises(DataError, match=rf"(?s){server.url} gives no more files: 3 in a row.*--resume") as caught:
        list(verdicts)
    assert "the connection failed" in str(caught.value)


def test_other_bytes_than_the_index_says_are_named_and_not_kept(server, kept):
    error = failure(a_copy(server, 0, 5000, digest(b"others")))
    assert error.reason == "changed" and "bytes 0 to 4999" in error.detail
    assert len(server.requests) == 2  # the way may have damaged them
    assert [p for p in kept.rglob("*") if p.is_file() and p.name != ".bytes"] == []
    assert failure(a_copy(server, 299_000, 5000, digest(b"x"))).reason == "truncated"
    assert failure(a_copy(server, 900_000, 5000, digest(b"x"))).reason == "truncated"


@pytest.mark.parametrize(
    ("code", "reason"), [(404, "missing"), (403, "permission"), (503, "unreadable"), (400, "unreadable")]
)
def test_what_the_server_answers_is_named(server, code, reason):
    server.code = code
    error = failure(a_copy(server, 0, 100))
    assert error.reason == reason and str(code) in error.detail
    assert len(server.requests) == 1 or code == 503


def test_redirects_to_other_schemes_and_servers_without_ranges_are_refused(server, tmp_path):
    secret = tmp_path / "secret"
    (secret / "shards").mkdir(parents=True)
    (secret / "shards" / "000000.tar").write_bytes(DATA)
    for target in (f"file://{secret}", "ftp://127.0.0.1", "data:text/plain,"):
        server.redirect = target
        assert failure(a_copy(server, 0, 100)).reason == "unsafe"
    with serving(secret) as other:
        server.redirect = other.url
        assert read(a_copy(server, 0, 100)) == DATA[:100]
    server.redirect, server.ranges = None, False
    assert "ranges" in failure(a_copy(server, 7, 100)).detail


def test_never_more_is_kept_than_the_bound_and_what_was_used_last_stays(server, kept):
    remote.use(replace(remote.streaming(), budget_bytes=64_000))
    copies = [a_copy(server, i * 10_000, 10_000) for i in range(12)]
    with watching(kept) as most:
        assert all(error is None for error in brought(copies[:6]))
        read(copies[0])  # used again: others go first
        assert all(error is None for error in brought(copies[6:9]))
        before = len(server.requests)
        assert read(copies[0]) == DATA[:10_000] and len(server.requests) == before
        assert [read(copy) for copy in copies] == [DATA[i * 10_000 : (i + 1) * 10_000] for i in range(12)]
    assert 40_000 <= max(most) <= 64_000
    assert failure(a_copy(server, 0, 70_000)).reason == "too_large"


def test_room_counts_what_is_on_its_way_and_what_others_keep(tmp_path):
    one, two = Nearby(tmp_path, 1000), Nearby(tmp_path, 1000)
    one.add("aa", 400, lambda file: file.write(b"a" * 400))
    inside = []

    def fill(file) -> None:
        inside.append(sorted(p.stat().st_size for p in tmp_path.glob("*/*") if p.is_file()))
        file.write(b"b" * 700)

    two.add("bb", 700, fill)
    assert inside == [[700]]  # the other one went before the first byte came
    assert not one.has("aa", 400) and one.has("bb", 700)

    def failing(file) -> None:
        raise fetching.Lost("cut")

    with pytest.raises(fetching.Lost):
        one.add("cc", 300, failing)
    assert sorted(p.name for p in tmp_path.glob("*/*")) == ["bb"]
    with pytest.raises(DestinationError, match=r"data\.stream_gib"):
        one.add("dd", 1001, failing)


def test_decoding_sees_the_file_that_was_fetched_under_the_same_rules(server, tmp_path):
    video = make_video(tmp_path / "v.mp4", seconds=2)
    whole = video.read_bytes()
    shard = tmp_path / "there" / "shards" / "000001.tar"
    playlist = b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1/x.ts\n"
    shard.write_bytes(b"before" + whole + playlist)
    url = f"{server.url}/shards/000001.tar"
    path = Packed(url, 6, len(whole), "v.mp4", digest(whole)).path
    there, here = (
        decode(p, [Window(0.5, 4, 8.0, 0.5)], short_side_px=32, sample_rate_hz=8000)[0] for p in (path, video)
    )
    assert np.array_equal(there.frames, here.frames) and np.array_equal(there.waveform, here.waveform)
    before = len(server.requests)
    bad = Packed(url, 6 + len(whole), len(playlist), "v.mp4", digest(playlist)).path
    with pytest.raises(MediaError) as caught, open_media(bad):
        pass
    assert caught.value.reason == "unsafe"
    assert len(server.requests) == before + 1  # and nothing that it names


def test_s3_is_read_by_ranges_of_the_file_system_of_fsspec(monkeypatch):
    fsspec = pytest.importorskip("fsspec")

    class Memory(fsspec.get_filesystem_class("memory")):
        """Its objects as those of S3; without a server this is as far as it can be tried."""

        protocol = ("s3",)
        asked: list[tuple[int, int]] = []  # noqa: RUF012
        lost = 2

        def cat_file(self, path, start=None, end=None, **kwargs):
            if Memory.lost:
                Memory.lost -= 1
                raise ConnectionError("reset")
            self.asked.append((start, end))
            return super().cat_file(path, start=start, end=end, **kwargs)

    store = Memory()
    store.pipe_file("s3://bucket/p/shards/000000.tar", DATA)
    monkeypatch.setattr(fetching, "s3", lambda: store)
    path = Packed("s3://bucket/p/shards/000000.tar", 100, 5000, "a.mp4", digest(DATA[100:5100])).path
    with open_bytes(path) as file:
        assert file.read() == DATA[100:5100]
    assert store.asked == [(100, 5100)]
    with pytest.raises(MediaError) as caught:
        open_bytes(Packed("s3://bucket/none.tar", 0, 10, "a.mp4", digest(b"x")).path)
    assert caught.value.reason == "missing"
