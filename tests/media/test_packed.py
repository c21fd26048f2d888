"""Files within shards: read by a range of bytes, as safely as files on disk."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import av
import numpy as np
import pytest

from seehear.app.media import MediaFiles
from seehear.collection.export import exported
from seehear.errors import MediaError, UsageError
from seehear.media.decode import Window, decode
from seehear.media.identity import Identity, file_fingerprint, unchanged
from seehear.media.opening import open_media
from seehear.media.packed import ByteRange, Packed, open_bytes, packed, status_of
from seehear.media.probe import probe
from tests.corpus import frame_number, make_video


def in_shard(folder: Path, *files: Path) -> list[str]:
    """Put files into a shard, one after the other; the paths that name them there."""
    shard = folder / "000000.tar"
    with tarfile.open(shard, "w") as tar:
        for file in files:
            tar.add(file, file.name)
    with tarfile.open(shard) as tar:
        return [Packed(str(shard), h.offset_data, h.size, Path(h.name).name).path for h in tar]


def test_a_range_reads_as_the_bytes_it_stands_for(tmp_path):
    data = np.random.default_rng(0).bytes(5000)
    path = tmp_path / "data"
    path.write_bytes(b"before" + data + b"behind")
    rng = np.random.default_rng(1)
    with ByteRange(path, 6, len(data)) as file:
        assert file.read() == data
        for _ in range(200):
            at, count = int(rng.integers(0, 5200)), int(rng.integers(0, 900))
            assert file.seek(at) == at
            assert file.read(count) == data[at : at + count]
        assert file.seek(-10, os.SEEK_END) == 4990
        assert (file.read(100), file.read(1)) == (data[-10:], b"")
        with pytest.raises(OSError, match="beginning"):
            file.seek(-1)


def test_paths_of_files_on_disk_are_none_within_shards(tmp_path):
    folder = tmp_path / "odd.tar" / "1+2"
    folder.mkdir(parents=True)
    (folder / "x.mp4").write_bytes(b"on disk")
    assert packed(folder / "x.mp4") is None
    assert packed("/a/b.mp4") is None
    assert packed("/a/b.tar") is None
    assert packed("/a/b.tar/1x2/c.mp4") is None
    assert packed("/a/b.tar/12+345/c.mp4") == Packed("/a/b.tar", 12, 345, "c.mp4")
    with open_bytes(folder / "x.mp4") as file:
        assert file.read() == b"on disk"


def test_a_video_in_a_shard_is_what_it_is_on_disk(tmp_path):
    video = make_video(tmp_path / "b.mp4", seconds=4, gop=12)
    _, within = in_shard(tmp_path, make_video(tmp_path / "a.mp4", seconds=2), video)
    windows = [Window(3.0, 4, 15, 0.5), Window(0.2, 2, 15, 0.5)]
    whole, part = (decode(p, windows, short_side_px=None, sample_rate_hz=16000) for p in (video, within))
    for a, b in zip(whole, part, strict=True):
        assert np.array_equal(a.frames, b.frames)
        assert np.array_equal(a.waveform, b.waveform)
    assert frame_number(part[0].frames[0]) == 45
    on_disk, found = probe(video), probe(within)
    for name in ("usable", "container", "size_bytes", "fingerprint", "video_duration_seconds", "audio_rms_dbfs"):
        assert getattr(found, name) == getattr(on_disk, name), name
    assert found.usable
    assert found.modified_ns == (tmp_path / "000000.tar").stat().st_mtime_ns


@pytest.mark.parametrize(
    "text", ["#EXTM3U\n#EXTINF:6,\nsecret.mp4\n#EXT-X-ENDLIST\n", "ffconcat version 1.0\nfile {}\n"]
)
def test_a_playlist_in_a_shard_opens_nothing(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    secret = make_video(tmp_path / "secret.mp4", seconds=6)
    (tmp_path / "list.mp4").write_text(text.format(secret))
    (within,) = in_shard(tmp_path, tmp_path / "list.mp4")
    if text.startswith("ffconcat"):  # the attack is real: without our rules FFmpeg opens the other file
        with open_bytes(within) as file, av.open(file, "r", options={"safe": "0"}) as container:
            assert container.streams.video[0].width == 64
    with pytest.raises(MediaError) as caught, open_media(within):
        pass
    assert caught.value.reason == "unsafe"
    assert probe(within).reason == "unsafe"


def test_what_ails_a_shard_is_named(tmp_path):
    video = make_video(tmp_path / "a.mp4", seconds=2)
    (within,) = in_shard(tmp_path, video)
    shard = tmp_path / "000000.tar"
    identity = Identity(file_fingerprint(within), status_of(within).size, status_of(within).modified_ns)
    content = bytearray(shard.read_bytes())
    place = packed(within)
    content[place.offset + place.size // 2] ^= 255
    shard.write_bytes(content)
    os.utime(shard, ns=(1, 1))
    with pytest.raises(MediaError) as caught, unchanged(within, identity):
        pass
    assert (caught.value.reason, str(shard) in caught.value.path) == ("changed", True)
    shard.write_bytes(content[: place.offset + 100])
    assert probe(within).reason == "truncated"
    assert "shard" in probe(within).detail
    shard.unlink()
    assert (probe(within).reason, probe(within).detail) == ("missing", "its shard is not there")


def test_the_application_sends_a_file_of_a_shard(tmp_path):
    first, second = make_video(tmp_path / "a.mp4", seconds=2), make_video(tmp_path / "b.mp4", seconds=3)
    within = in_shard(tmp_path, first, second)[1]
    status = status_of(within)
    identity = Identity(file_fingerprint(second), status.size, status.modified_ns)
    opened = MediaFiles([]).open(within, identity)
    assert opened.size == second.stat().st_size
    assert b"".join(opened.chunks(0, opened.size)) == second.read_bytes()
    opened = MediaFiles([]).open(within, identity)
    assert b"".join(opened.chunks(100, 50)) == second.read_bytes()[100:150]
    os.utime(tmp_path / "000000.tar", ns=(5, 5))  # touched: the content is compared, and is the same
    MediaFiles([]).check(within, identity)
    with pytest.raises(MediaError, match="content is another"):
        MediaFiles([]).check(within, Identity("0" * 32, status.size, status.modified_ns))


def test_what_players_cannot_open_is_not_exported_for_them():
    class Video:
        path = Path("/data/000000.tar/512+99/a.mp4")

    class Row:
        video, rejected = Video(), False

    for format in ("m3u", "edl", "label-studio", "fiftyone"):
        with pytest.raises(UsageError, match="lie in shards"):
            exported(format, [Row()], {})
