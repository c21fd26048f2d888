"""A file that is replaced, touched or deleted between the scan and its use, or while it is used."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest

import seehear
from seehear.data.cache import MediaCache
from seehear.data.clips import Video, clip_refs, plain_requests
from seehear.data.loader import ClipLoader
from seehear.data.manifest import Manifest
from seehear.data.views import Statistics
from seehear.errors import MediaError
from seehear.features.model import usable_videos
from seehear.media import identity as identity_module
from seehear.media import probe as probe_module
from seehear.media import reading as reading_module
from seehear.media.identity import Identity, file_fingerprint, unchanged
from seehear.pretraining.plan import make_config
from seehear.report import thumbnails
from tests.conftest import TINY_SETTINGS
from tests.corpus import make_collection

STREAMS = ("video", "audio")
BOTH = {"video": "video", "audio": "audio"}


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """Folder of four videos of two classes."""
    return make_collection(tmp_path_factory.mktemp("originals"), n=4, classes=2).parent / "clips"


@pytest.fixture
def folder(originals, tmp_path):
    """A copy of them that a test may change."""
    shutil.copytree(originals, tmp_path / "clips")
    return tmp_path / "clips"


@pytest.fixture
def videos(folder):
    return usable_videos(seehear.scan(folder, workers=0), STREAMS)


@pytest.fixture
def config():
    return make_config(settings=TINY_SETTINGS)


def replace_first(folder):
    """Another video under the name of the first."""
    shutil.copy(folder / "clip_0001.mp4", folder / "clip_0000.mp4")


def rewrite_first(folder):
    """Another content of the same length under the name of the first."""
    path = folder / "clip_0000.mp4"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    os.utime(path, ns=(1, 1))


def load(videos, config, cache=None, workers=0):
    """The frames of each video's middle clip, by id, and why the others have none."""
    with ClipLoader(videos, config, BOTH, Statistics(), workers=workers, cache=cache) as loader:
        loader.fill_cache()
        requests = plain_requests(clip_refs(videos, config.cluster), loader.videos, config.clip)
        frames = {request.ref.video_id: frames for request, frames, _ in loader.clips(requests)}
    reports = loader.failures.reports
    return frames, {report["video_id"]: report["reason"] for report in reports}


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("change", [replace_first, rewrite_first])
def test_a_replaced_file_is_left_out_as_changed(change, workers, folder, videos, config):
    change(folder)
    frames, failed = load(videos, config, workers=workers)
    assert failed == {"clip_0000.mp4": "changed"}
    assert sorted(frames) == ["clip_0001.mp4", "clip_0002.mp4", "clip_0003.mp4"]


@pytest.mark.parametrize("cached", [False, True])
def test_a_touched_file_is_the_same(cached, folder, videos, config, tmp_path):
    expected, _ = load(videos, config)
    os.utime(folder / "clip_0000.mp4", ns=(1, 1))
    frames, failed = load(videos, config, MediaCache(tmp_path / "cache", 2**30) if cached else None)
    assert failed == {}
    assert all(np.array_equal(frames[name], expected[name]) for name in expected)


def test_a_touched_file_is_hashed_once(folder, videos, config, monkeypatch):
    hashed = []

    def counted(path):
        hashed.append(path)
        return file_fingerprint(path)

    monkeypatch.setattr(identity_module, "file_fingerprint", counted)
    os.utime(folder / "clip_0000.mp4", ns=(1, 1))
    for _ in range(3):
        load(videos, config)
    assert hashed == [str(folder / "clip_0000.mp4")]


def test_a_deleted_file_is_missing(folder, videos, config):
    (folder / "clip_0000.mp4").unlink()
    frames, failed = load(videos, config)
    assert failed == {"clip_0000.mp4": "missing"}
    assert len(frames) == 3


def test_a_replaced_file_leaves_nothing_in_the_cache(folder, videos, originals, config, tmp_path):
    expected, _ = load(videos, config)
    cache = MediaCache(tmp_path / "cache", 2**30)
    replace_first(folder)
    _, failed = load(videos, config, cache)
    assert failed == {"clip_0000.mp4": "changed"}
    shutil.copy(originals / "clip_0000.mp4", folder / "clip_0000.mp4")
    with ClipLoader(videos, config, BOTH, Statistics(), workers=0, cache=cache) as loader:
        assert loader.fill_cache() == {"cached": 4, "streamed": 0}
    frames, failed = load(videos, config, cache)
    assert failed == {}
    assert all(np.array_equal(frames[name], expected[name]) for name in expected)


def test_runs_that_share_a_cache_get_the_content_that_each_scanned(folder, videos, config, tmp_path):
    cache = MediaCache(tmp_path / "cache", 2**30)
    first, _ = load(videos, config, cache)
    replace_first(folder)
    shutil.copy(folder / "clip_0002.mp4", folder / "clip_0001.mp4")  # else it would be a duplicate
    (folder / "clip_0002.mp4").unlink()
    now = usable_videos(seehear.scan(folder, workers=0), STREAMS)
    second, failed = load(now, config, cache)
    assert failed == {}
    assert np.array_equal(second["clip_0000.mp4"], first["clip_0001.mp4"])
    assert np.array_equal(second["clip_0001.mp4"], first["clip_0002.mp4"])
    again, failed = load(videos, config, cache)  # what was scanned is in the cache, whatever the files are now
    assert failed == {}
    assert np.array_equal(again["clip_0000.mp4"], first["clip_0000.mp4"])


def test_a_file_replaced_while_it_is_decoded_is_changed(folder, videos, config, monkeypatch, tmp_path):
    original = reading_module.decode

    def meddling(path, *args, **options):
        if path.endswith("clip_0000.mp4"):
            replace_first(folder)
        return original(path, *args, **options)

    monkeypatch.setattr(reading_module, "decode", meddling)
    cache = MediaCache(tmp_path / "cache", 2**30)
    _, failed = load(videos, config, cache)
    assert failed == {"clip_0000.mp4": "changed"}
    first = next(v for v in videos if v.video_id == "clip_0000.mp4")
    assert cache.get(first, config.clip, STREAMS) is None


def test_a_failure_of_a_file_that_was_replaced_meanwhile_is_a_change(folder, videos):
    first = videos[0]

    def read():
        with unchanged(first.path, first.identity):
            replace_first(folder)
            raise MediaError(first.path, "decode_error", "half of a packet")

    with pytest.raises(MediaError) as caught:
        read()
    assert caught.value.reason == "changed"


def test_manifests_without_size_and_time_go_by_the_content(folder, videos, config):
    bare = [Video(**{**vars(v), "size_bytes": None, "modified_ns": None}) for v in videos]
    assert load(bare, config)[1] == {}
    replace_first(folder)
    assert load(bare, config)[1] == {"clip_0000.mp4": "changed"}


def test_without_a_fingerprint_every_content_passes(folder):
    with unchanged(str(folder / "clip_0000.mp4"), Identity(None, 1, 1)):
        replace_first(folder)


def test_a_file_written_to_while_it_is_scanned_is_changed(folder, monkeypatch):
    fingerprint = probe_module.file_fingerprint

    def meddling(path):
        found = fingerprint(path)
        if str(path).endswith("clip_0000.mp4"):
            replace_first(folder)
        return found

    monkeypatch.setattr(probe_module, "file_fingerprint", meddling)
    manifest = seehear.scan(folder, out=folder.parent / "m.parquet", workers=0)
    assert manifest.by_id("reason")["clip_0000.mp4"] == "changed"
    monkeypatch.undo()
    again = seehear.scan(folder, out=folder.parent / "m.parquet", workers=0)
    assert again.by_id("reason")["clip_0000.mp4"] is None
    assert again.by_id("reason")["clip_0001.mp4"] == "duplicate"


def test_thumbnails_of_a_replaced_file_say_so(folder, videos):
    source = thumbnails.Source(folder / "clip_0000.mp4", 0.0, 2.0, videos[0].identity)
    assert thumbnails.make_thumbnail(source, thumbnails.QUALITIES[-1]).base64
    replace_first(folder)
    assert thumbnails.make_thumbnail(source, thumbnails.QUALITIES[-1]).problem == "file has changed"


def test_pretraining_reports_what_changed_and_labels_the_rest(tmp_path):
    # Of its own seed: what the media cache holds of other tests needs no decoding.
    folder = make_collection(tmp_path / "collection", n=10, classes=2, seed=12).parent / "clips"
    seehear.scan(folder, out=tmp_path / "scanned.parquet", workers=0)
    replace_first(folder)
    settings = [*TINY_SETTINGS, "rounds=1", "optim.epochs=1", "optim.warmup_epochs=0", "cluster.k=2"]
    run = tmp_path / "run"
    seehear.pretrain(tmp_path / "scanned.parquet", run, settings=settings, quiet=True)
    reports = [json.loads(line) for line in (run / "failures.jsonl").read_text().splitlines()]
    assert {(r["video_id"], r["reason"]) for r in reports} == {("clip_0000.mp4", "changed")}
    labels = seehear.label(run)
    assert len(Manifest.load(run / "manifest.parquet").usable()) == 10
    assert sorted(set(labels["video"].to_pylist())) == [f"clip_{i:04d}.mp4" for i in range(1, 10)]
