"""The loader: cached and streamed clips agree, batches line up with their ids, bad videos cost themselves alone."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

import seehear
from seehear.config import ClusterConfig
from seehear.data.cache import MediaCache
from seehear.data.clips import clip_refs, plain_requests, training_requests
from seehear.data.loader import ClipLoader, prefetch
from seehear.data.statistics import measure_statistics
from seehear.data.views import Statistics
from seehear.errors import MediaError
from seehear.features.model import usable_videos
from seehear.media import opening
from seehear.media import reading as reading_module
from seehear.pretraining.plan import make_config
from tests.conftest import TINY_SETTINGS
from tests.corpus import make_collection

BOTH = {"video": "video", "audio": "audio"}


@pytest.fixture(scope="module")
def videos(collection):
    return usable_videos(seehear.scan(collection, workers=0), ("video", "audio"))


@pytest.fixture
def config():
    return make_config(settings=TINY_SETTINGS)


STARTS = [(), ("augment.independent_jitter=true",), ("clip.stride=2", "clip.frames=3")]


def loader_for(videos, config, cache=None, views=BOTH, workers=0):
    return ClipLoader(videos, config, views, Statistics(), workers=workers, cache=cache)


def requests_for(loader, config, jitter=True):
    refs = clip_refs(list(loader.videos.values()), ClusterConfig())
    order = np.arange(len(refs))
    return training_requests(
        refs, order, loader.videos, config.clip, replace(config.augment, temporal_jitter=jitter), (0, 0)
    )


@pytest.mark.parametrize("starts", STARTS)
def test_cached_clips_are_the_streamed_ones(starts, videos, tmp_path):
    # At this frame rate clips start on whole samples; elsewhere the cache is up to half a sample off.
    config = make_config(settings=[*TINY_SETTINGS, "clip.frame_rate_hz=8", *starts])
    cache = MediaCache(tmp_path, 2**30)
    with loader_for(videos, config) as streaming, loader_for(videos, config, cache) as caching:
        assert caching.fill_cache() == {"cached": 24, "streamed": 0}
        for (_, frames, sound), (_, cached_frames, cached_sound) in zip(
            streaming.clips(requests_for(streaming, config)), caching.clips(requests_for(caching, config)), strict=True
        ):
            assert np.array_equal(frames, cached_frames)
            assert sound.shape == cached_sound.shape == (8000,)
            # AAC decoded from a seek point differs a little from one decoded from the start.
            assert np.corrcoef(sound, cached_sound)[0, 1] > 0.99


def test_the_cache_is_filled_once_and_shared(videos, config, tmp_path):
    cache = MediaCache(tmp_path, 2**30)
    seen = []
    for _ in range(2):
        with loader_for(videos, config, cache) as loader:
            loader.fill_cache(lambda done, total: seen.append(total))
    assert seen == [24] * 24


def test_a_damaged_cache_entry_is_decoded_again(videos, config, tmp_path):
    cache = MediaCache(tmp_path, 2**30)
    with loader_for(videos, config, cache) as loader:
        loader.fill_cache()
    entry = next(tmp_path.glob("*/*.video.npy"))
    entry.write_bytes(entry.read_bytes()[:200])
    seen = []
    with loader_for(videos, config, MediaCache(tmp_path, 2**30)) as loader:
        loader.fill_cache(lambda done, total: seen.append(total))
    assert seen == [1]


def test_what_does_not_fit_the_cache_is_streamed(videos, config, tmp_path):
    entry = MediaCache(tmp_path, 0).entry_bytes(videos[0], config.clip, ("video", "audio"))
    with loader_for(videos, config, MediaCache(tmp_path, 5 * entry + entry // 2)) as loader:
        assert loader.fill_cache() == {"cached": 5, "streamed": 19}
        assert sum(1 for _ in loader.clips(requests_for(loader, config))) == 24


def test_the_oldest_entries_make_room(videos, config, tmp_path):
    import os

    cache = MediaCache(tmp_path, 2**30)
    with loader_for(videos[:6], config, cache) as loader:
        loader.fill_cache()
    keys = [cache.key(v, config.clip, ("video", "audio")) for v in videos[:6]]
    for age, key in enumerate(keys):
        for path in tmp_path.glob(f"*/{key}.*"):
            os.utime(path, (1_000_000 + age, 1_000_000 + age))
    size = sum(p.stat().st_size for p in tmp_path.glob("*/*.npy"))
    small = MediaCache(tmp_path, size)
    small.make_room(size // 6, keep={keys[0]})
    left = {p.name.partition(".")[0] for p in tmp_path.glob("*/*.npy")}
    assert keys[0] in left
    assert keys[1] not in left
    assert keys[5] in left


def test_batches_carry_their_ids_whatever_the_order(videos, config):
    with loader_for(videos, config) as loader:
        requests = requests_for(loader, config, jitter=False)
        forward = {
            i: x for b in loader.batches(requests, 5) for i, x in zip(b.clip_ids, b.inputs["audio"], strict=True)
        }
        backward = {
            i: x for b in loader.batches(requests[::-1], 7) for i, x in zip(b.clip_ids, b.inputs["audio"], strict=True)
        }
    assert len(forward) == 24
    assert all(torch.allclose(forward[i], backward[i], atol=1e-5) for i in forward)


def test_inputs_have_the_shapes_that_encoders_want(videos, config):
    with loader_for(videos, config) as loader:
        batch = next(iter(loader.batches(requests_for(loader, config), 5)))
        assert batch.inputs["video"].dtype == torch.uint8
        inputs = loader.to_inputs(batch, torch.device("cpu")).inputs
    assert inputs["video"].shape == (5, 3, 4, 32, 32)
    assert inputs["video"].is_contiguous(memory_format=torch.channels_last_3d)
    assert inputs["audio"].shape == (5, 1, 16, 50)


def test_two_views_of_a_modality_are_drawn_independently(videos, config):
    with loader_for(videos, config, views={"video": "video", "video2": "video"}) as loader:
        batch = next(iter(loader.batches(requests_for(loader, config), 24)))
    assert not torch.equal(batch.inputs["video"], batch.inputs["video2"])


def test_the_same_request_gives_the_same_view(videos, config):
    with loader_for(videos, config) as loader:
        first = next(iter(loader.batches(requests_for(loader, config), 24)))
        again = next(iter(loader.batches(requests_for(loader, config), 24)))
    assert all(torch.equal(first.inputs[n], again.inputs[n]) for n in BOTH)


def test_workers_and_the_process_itself_decode_alike(videos, config):
    with loader_for(videos, config) as here, loader_for(videos, config, workers=2) as there:
        pairs = zip(here.clips(requests_for(here, config)), there.clips(requests_for(there, config)), strict=True)
        for (a, frames_a, sound_a), (b, frames_b, sound_b) in pairs:
            assert a == b
            assert np.array_equal(frames_a, frames_b)
            assert np.array_equal(sound_a, sound_b)


def test_a_bad_video_leaves_its_rows_out_and_is_tried_twice(config, tmp_path):
    table = make_collection(tmp_path, n=8)
    videos = usable_videos(seehear.scan(table, workers=0), ("video", "audio"))
    (tmp_path / videos[2].video_id).write_bytes(b"gone")
    with loader_for(videos, config) as loader:
        for attempt in (1, 2, 2):
            batches = list(loader.batches(requests_for(loader, config), 4))
            assert [len(b) for b in batches] == [3, 4]
            assert loader.failures.counts == {videos[2].video_id: attempt}
        assert len(loader.failures.reports) == 2


def test_statistics_are_the_mean_and_deviation_of_the_centre_clips(videos, config):
    config = replace(config, clip=replace(config.clip, pixel_statistics="measured"))
    with loader_for(videos, config) as loader:
        refs = clip_refs(videos, config.cluster)
        found = measure_statistics(loader, refs)
        batch = next(iter(loader.batches(plain_requests(refs, loader.videos, config.clip), 24)))
        pixels = batch.inputs["video"].reshape(-1, 3).double() / 255
        assert found.pixel_mean == pytest.approx(pixels.mean(0).tolist())
        assert found.pixel_std == pytest.approx(pixels.std(0, correction=0).tolist())
        sounds = batch.inputs["audio"]
        assert found.spectrogram_mean == pytest.approx(float(sounds.mean()), rel=1e-4)
        assert found.spectrogram_std == pytest.approx(float(sounds.std(correction=0)), rel=1e-4)
        loader.set_statistics(found)
        batch = next(iter(loader.batches(plain_requests(refs, loader.videos, config.clip), 24)))
        assert float(batch.inputs["audio"].mean()) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("pixels", ["kinetics", "measured"])
def test_statistics_are_measured_on_what_they_need_of_a_drawn_sample(pixels, videos, config, monkeypatch):
    config = replace(config, clip=replace(config.clip, pixel_statistics=pixels))
    refs = clip_refs(videos, config.cluster)
    with loader_for(videos, config) as loader:
        everything = list(loader.clips(plain_requests(refs, loader.videos, config.clip)))
        asked = []

        def clips(self, requests, streams=None):
            asked.append(([r.ref for r in requests], tuple(streams)))
            return (c for c in everything if c[0].ref in {r.ref for r in requests})

        whole = measure_statistics(loader, refs)
        monkeypatch.setattr(ClipLoader, "clips", clips)
        # Sound that is decoded without its frames is the same sound.
        if pixels == "measured":
            assert measure_statistics(loader, refs) == whole
        drawn = [measure_statistics(loader, refs, limit=7) for _ in range(2)]
        assert drawn[0] == drawn[1] != whole
        other = replace(config, seed=1)
        loader.config = other
        assert measure_statistics(loader, refs, limit=7) != drawn[0]
        loader.config = config
        assert measure_statistics(loader, refs, limit=24).spectrogram_mean == pytest.approx(whole.spectrogram_mean)
    chosen, streams = asked[-3]
    assert len(chosen) == len(set(chosen)) == 7
    assert chosen == [r for r in refs if r in set(chosen)]
    assert streams == (("video", "audio") if pixels == "measured" else ("audio",))


def test_sound_decoded_without_its_frames_is_the_same_sound(videos, config):
    with loader_for(videos, config) as loader:
        requests = plain_requests(clip_refs(videos, config.cluster), loader.videos, config.clip)
        for (_, _, sound), (_, frames, alone) in zip(
            loader.clips(requests), loader.clips(requests, ["audio"]), strict=True
        ):
            assert frames is None
            assert np.array_equal(sound, alone)


def test_prefetching_passes_errors_on_and_ends_its_thread():
    def failing():
        yield 1
        raise ValueError("boom")

    items = prefetch(failing(), 2)
    assert next(items) == 1
    with pytest.raises(ValueError, match="boom"):
        next(items)
    before = threading.active_count()
    endless = prefetch(iter(int, 1), 2)
    next(endless)
    endless.close()
    assert threading.active_count() <= before


def count_openings(monkeypatch) -> list[str]:
    """The files that are opened from now on, in this process."""
    opened: list[str] = []
    original = opening.av.open

    def counted(file, *arguments, **options):
        opened.append(str(file))
        return original(file, *arguments, **options)

    monkeypatch.setattr(opening.av, "open", counted)
    return opened


def test_ten_clips_of_a_video_cost_one_opening(videos, config, monkeypatch):
    with loader_for(videos[:3], config) as loader:
        refs = clip_refs(videos[:3], ClusterConfig(clips_per_video=10))
        requests = plain_requests(refs, loader.videos, config.clip)
        alone = [next(iter(loader.clips([request]))) for request in requests]
        opened = count_openings(monkeypatch)
        together = list(loader.clips(requests))
        assert len(together) == 30
        assert sorted(opened) == sorted(v.path for v in videos[:3])
        for (one, frames, sound), (other, frames_again, sound_again) in zip(alone, together, strict=True):
            assert one is other
            assert np.array_equal(frames, frames_again)
            # AAC decoded from a seek point differs a little from one that was read on.
            assert np.corrcoef(sound, sound_again)[0, 1] > 0.99
        opened.clear()
        list(loader.clips(training_requests(refs, np.arange(30), loader.videos, config.clip, config.augment, (0, 0))))
        assert len(opened) == 30


def test_clips_that_share_an_opening_fail_alone(videos, config, monkeypatch):
    """If one of several clips cannot be decoded, the others of its video are there all the same."""
    with loader_for(videos[:2], config) as loader:
        refs = clip_refs(videos[:2], ClusterConfig(clips_per_video=4))
        requests = plain_requests(refs, loader.videos, config.clip)
        bad = requests[2].start_seconds
        original = reading_module.decode

        def failing(path, windows, **options):
            if path == videos[0].path and any(w.start_seconds == bad for w in windows):
                raise MediaError(path, "decode_error", "as the test says")
            return original(path, windows, **options)

        monkeypatch.setattr(reading_module, "decode", failing)
        found = [request for request, _, _ in loader.clips(requests)]
        assert found == [r for i, r in enumerate(requests) if i != 2]
        assert [report["reason"] for report in loader.failures.reports] == ["decode_error"]
