"""The bank of features on disk, and which of them a run needs."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from seehear.config import AugmentConfig, BankConfig, ClipConfig, Config, DataConfig, ModelConfig
from seehear.data.clips import Moments, Video, transformation_requests
from seehear.data.columns import VideosById, cut
from seehear.errors import UsageError
from seehear.features.viewbank import Act, ViewBank, bank_name, banks_folder, draws, keys_of, make_room, view_texts
from seehear.features.viewplan import act_of, acts_of, needed
from seehear.hypotheses.factors import Modalities, Reversal, Rotation, Sample, Speed, View
from seehear.hypotheses.language import parse


def some_keys(count: int, first: int = 0) -> np.ndarray:
    return keys_of(np.array([7], dtype=np.uint64), np.arange(first, first + count)[None] * 40000, ["", "a"]).ravel()


def test_rows_are_found_again_by_any_process(tmp_path: Path) -> None:
    rng, bank = np.random.default_rng(0), ViewBank(tmp_path / "bank", 3)
    assert (bank.find(some_keys(4)) == -1).all() and not len(bank)
    parts = [(some_keys(4), rng.normal(size=(8, 3))), (some_keys(3, 10), rng.normal(size=(6, 3)))]
    for keys, x in parts:
        bank.add(keys, x)
    other = ViewBank(tmp_path / "bank", 3)
    every = np.concatenate([keys for keys, _ in parts])
    order = rng.permutation(len(every))
    expected = np.concatenate([x for _, x in parts]).astype(np.float32)[order]
    np.testing.assert_array_equal(other.take(other.find(every[order])), expected)
    assert (other.find(some_keys(2, 50)) == -1).all() and len(other) == 14


@pytest.mark.parametrize("file", ["features.npy", "index.arrow"])
def test_a_damaged_segment_is_noticed_and_goes(tmp_path: Path, file: str) -> None:
    bank = ViewBank(tmp_path / "bank", 3)
    bank.add(some_keys(2), np.ones((4, 3)))
    bank.add(some_keys(2, 5), np.ones((4, 3)))
    segment = sorted((tmp_path / "bank").glob("segment-*"))[0]
    content = bytearray((segment / file).read_bytes())
    content[-1] ^= 1
    (segment / file).write_bytes(content)
    again = ViewBank(tmp_path / "bank", 3)
    assert again.damaged == [segment.name] and not segment.exists()
    assert (again.find(some_keys(2)) == -1).all() and (again.find(some_keys(2, 5)) >= 0).all()


def test_banks_not_used_for_longest_make_room_and_one_that_cannot_fit_is_refused(tmp_path: Path) -> None:
    config = Config(data=DataConfig(cache_folder=str(tmp_path)), bank=BankConfig(gib=30_000 / 2**30))
    for age, name in enumerate(("new", "old", "own")):
        ViewBank(banks_folder(config) / name, 100).add(some_keys(10), np.ones((20, 100)))
        ViewBank(banks_folder(config) / name, 100)
        os.utime(banks_folder(config) / name / "used", (1e9 - age, 1e9 - age))
    make_room(config, {"own": 0})
    assert len(list(banks_folder(config).iterdir())) == 3  # nothing is needed
    make_room(config, {"own": 10_000})
    assert {path.name for path in banks_folder(config).iterdir()} == {"new", "own"}
    with pytest.raises(UsageError, match=r"bank\.gib"):
        make_room(config, {"own": 25_000})


def test_a_bank_is_named_by_all_that_a_plain_feature_depends_on() -> None:
    config = Config()
    names = {bank_name("x", config, "video"), bank_name("y", config, "video"), bank_name("x", config, "audio")}
    changed = (ClipConfig(frames=9), ClipConfig(stride=2), ClipConfig(crop_px=100), ClipConfig(short_side_px=230))
    names |= {bank_name("x", replace(config, clip=clip), "video") for clip in changed}
    assert len(names) == 7
    apart = replace(config, clip=ClipConfig(audio_seconds=3.0), augment=AugmentConfig(flip_probability=0.1), seed=4)
    assert bank_name("x", apart, "video") == bank_name("x", config, "video")
    assert view_texts(apart, "video", [Act()], 2) != view_texts(config, "video", [Act()], 2)
    assert view_texts(config, "video", [Act()], 2) == [t[:2] for t in view_texts(config, "video", [Act()], 3)]
    assert draws(config, "video") and not draws(config, "audio")


def videos_of(*seconds: float) -> VideosById:
    return VideosById([Video(f"v{i}", f"v{i}.mp4", f"print{i}", 0.0, s, 64, 64) for i, s in enumerate(seconds)])


def small(moments: int = 4, **changes: object) -> Config:
    clip = ClipConfig(frames=4, frame_rate_hz=10, audio_seconds=1.0)
    model = ModelConfig(video_encoder="run:a", audio_encoder="run:a")
    return replace(Config(clip=clip, model=model, bank=BankConfig(moments=moments)), **changes)  # type: ignore[arg-type]


def test_moments_are_the_middles_of_equal_parts_of_all_starts_and_differ() -> None:
    videos = videos_of(9.0, 1.2, 1.0)
    refs = cut(videos.table, small().cluster)
    moments = Moments.kept(small())
    assert moments is not None and moments.streams == ("video", "audio")
    found = [moments.of(ref, videos[ref.video_id], small().clip).tolist() for ref in refs]
    # Starts 0 to 80 are 81: parts of 20.25. A video of 1.2 s has starts 0, 1, 2; one of 1 s has one.
    assert found == [[10, 30, 50, 70], [0, 1, 2], [0]]
    assert moments.of(refs[0], videos["v0"], small().clip, fastest=4).tolist() == [6, 19, 31, 44]
    tuned = small(model=replace(small().model, tune_encoders=True))
    assert Moments.kept(tuned) is None and Moments.kept(Config()) is None


def test_views_of_one_clip_that_begin_apart_have_features_of_their_own(tmp_path: Path) -> None:
    config, spec = small(), parse("time_shift=distinct, reversal=distinct")
    videos = videos_of(5.0, 3.0, 1.1)
    refs = cut(videos.table, config.cluster)
    bank = ViewBank(tmp_path, 2)
    of = {stream: needed(config, stream, bank, refs, videos, [spec]) for stream in ("video", "audio")}
    requests = transformation_requests(
        refs, np.repeat(np.arange(3), 20), videos, config.clip, spec, (0,), moments=Moments.kept(config)
    )
    for place, request in enumerate(requests):
        kept = of["video"].moments[place // 20].tolist()
        starts = [view.start for view in request.views]
        assert set(starts) <= set(kept) and len(set(starts)) == 2  # told apart (lemma 3), and of moments that are there
        assert {view.codes[1] for view in request.views} == set(starts)


def test_acts_are_those_that_change_a_stream() -> None:
    spec = Sample() @ Speed("distinct") @ Rotation("distinct") @ Reversal() @ Modalities()
    video, audio = acts_of([spec], "video"), acts_of([spec], "audio")
    assert len(video) == 2 * 4 * 2 and len(audio) == 2 * 2 and len(set(video)) == 16
    assert video[0] == audio[0] == Act() and acts_of([None, None], "audio") == [Act()] and acts_of([], "video") == []
    turned = View(0, acts=(("rotation", 3), ("reversal", 0)), speed=2)
    assert act_of(turned, "video") == Act(2, (("rotation", 3),)) and act_of(turned, "audio") == Act(2)
    assert len({act.text for act in video}) == 16


def test_methods_share_what_they_need_alike(tmp_path: Path) -> None:
    videos, config = videos_of(5.0, 9.0), small()
    refs = cut(videos.table, config.cluster)
    bank = ViewBank(tmp_path, 2)
    plain = needed(config, "video", bank, refs, videos, [None])
    bank.add(plain.missing(), np.zeros((len(plain.missing()), 2)))
    bank.open()
    shifted = needed(config, "video", bank, refs, videos, [parse("time_shift=distinct")])
    assert not len(shifted.missing()) and shifted.there.all()
    reversed_ = needed(config, "video", bank, refs, videos, [parse("reversal=distinct")])
    assert len(reversed_.missing()) == 2 * 4 * 2  # spans, moments, augmentations: backwards alone
