"""The index: made of features, of videos, renewed for what changed, opened at once."""

from __future__ import annotations

import json
import os
import shutil
import time

import numpy as np
import pyarrow.parquet as pq
import pytest

import seehear
from seehear.cli import main
from seehear.data.clips import make_ref
from seehear.errors import DataError, RunError, UsageError
from seehear.features.model import table_bank
from seehear.search.building import build_index
from seehear.search.index import Index
from tests.corpus import make_video
from tests.search.made import copied, kinds, made_index


@pytest.fixture
def run(finished_run, tmp_path):
    return copied(finished_run, tmp_path / "run")


@pytest.fixture
def videos(collection, tmp_path):
    """A folder of six videos of the collection."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for path in sorted((collection.parent / "clips").iterdir())[:6]:
        shutil.copy(path, folder)
    return folder


def contents(index: Index) -> dict[str, object]:
    return {
        "videos": [(v.video_id, v.path, v.identity.fingerprint) for v in index.segments.videos],
        "segments": [
            a.tolist() for a in (index.segments.video, index.segments.start_seconds, index.segments.end_seconds)
        ],
        "features": {n: x.tolist() for n, x in index.features.items()},
        "space": {n: x.tolist() for n, x in index.space.items()},
        "labels": {b: x.cluster.tolist() for b, x in index.labels.items()},
    }


# -- of the run's own clips -----------------------------------------------------------------------------------------


def test_an_index_of_the_runs_own_clips_needs_no_videos(any_run, tmp_path):
    run = copied(any_run, tmp_path / "run")
    with pytest.raises(RunError, match="no index") as raised:
        Index.open(run)
    assert "seehear index" in raised.value.remedy
    index = Index.open_or_make(run)
    bank = table_bank(pq.read_table(run / "features.parquet"))
    row_of = {ref.clip_id: row for row, ref in enumerate(bank.refs)}
    labels = pq.read_table(run / "labels.parquet")
    assert len(index) == len(bank)
    for row in range(len(index)):
        video = index.segments.video_of(row)
        span = index.segments.start_seconds[row], index.segments.end_seconds[row]
        own = row_of[make_ref(video.video_id, *span).clip_id]
        for name in ("video", "audio"):
            assert np.array_equal(index.features[name][row], bank.features[name][own])
        assert index.labels["both"].cluster[row] == labels["cluster_both"][own].as_py()
    assert Index.open_or_make(run).generation == index.generation == Index.open(run).generation


def test_rows_of_the_spaces_have_length_one_and_both_streams_meet(any_run, tmp_path):
    index = Index.open_or_make(copied(any_run, tmp_path / "run"))
    assert set(index.space) == {"video", "audio", "across.video", "across.audio"}
    for rows in index.space.values():
        assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert index.space["across.video"].shape == index.space["across.audio"].shape
    assert index.across


def test_arrays_are_mapped_and_opening_takes_no_time(tmp_path):
    rng = np.random.default_rng(0)
    x = kinds(rng, 20_000, 64, 50)
    made_index(tmp_path, x, x)
    from seehear.search.layout import current_generation, read_generation

    started = time.perf_counter()
    content = read_generation(current_generation(tmp_path / "index"))
    seconds = time.perf_counter() - started
    for array in (*content.features.values(), *content.space.values(), content.start_seconds, content.has["video"]):
        assert isinstance(array, np.memmap)
    assert seconds < 0.5


def test_another_training_makes_the_index_stale(run, gdt_run):
    first = Index.open_or_make(run)
    keys = {by: first.labels_key(by) for by in first.labels}
    for name in ("model", "features.parquet", "labels.parquet"):
        target = run / name
        shutil.rmtree(target) if target.is_dir() else target.unlink()
        copy = shutil.copytree if (gdt_run / name).is_dir() else shutil.copy
        copy(gdt_run / name, target)
    with pytest.raises(RunError, match="another model"):
        Index.open(run)
    second = Index.open_or_make(run)
    assert second.generation != first.generation
    assert all(second.labels_key(by) != key for by, key in keys.items())


def test_a_damaged_index_is_told_and_made_anew(run):
    index = Index.open_or_make(run)
    (index.folder / "space.video.npy").write_bytes(b"nothing")
    with pytest.raises(RunError, match="damaged"):
        Index.open(run)
    (run / "index" / "current.json").write_text("{")
    with pytest.raises(RunError, match="damaged"):
        Index.open(run)
    shutil.rmtree(run / "index")
    assert Index.open_or_make(run).generation == index.generation


def test_a_map_is_made_once_and_kept(run):
    index = Index.open_or_make(run)
    placed = index.map("both")
    assert placed.shape == (len(index), 2)
    assert np.abs(placed).max() == pytest.approx(1, abs=1e-3)
    assert (index.folder / "map.both.npy").exists()
    assert np.array_equal(Index.open(run).map("both"), placed)
    with pytest.raises(UsageError):
        index.map("smell")


def test_a_map_of_many_puts_others_beside_their_like(monkeypatch):
    from seehear.search import maps

    monkeypatch.setattr(maps, "MOST_BY_TSNE", 100)
    x = kinds(np.random.default_rng(0), 400, 16, 4, spread=0.1)
    placed = maps.positions([x])
    middles = np.stack([placed[kind::4].mean(0) for kind in range(4)])
    nearest = ((placed[:, None] - middles) ** 2).sum(2).argmin(1)
    assert (nearest == np.arange(400) % 4).mean() > 0.98
    assert np.abs(placed).max() <= 1 + 1e-6


# -- of videos ------------------------------------------------------------------------------------------------------


def test_segments_and_features_are_those_of_embed(run, videos):
    made = build_index(run, videos, every_seconds=1.0, workers=0)
    index = Index.open(run)
    table = seehear.load(run).embed(videos, every_seconds=1.0)
    assert made["segments"] == table.num_rows == len(index)
    assert [index.segments.video_of(r).video_id for r in range(len(index))] == table["video_id"].to_pylist()
    assert index.segments.start_seconds.tolist() == table["start_seconds"].to_pylist()
    assert index.segments.end_seconds.tolist() == table["end_seconds"].to_pylist()
    for name in ("video", "audio"):
        assert np.allclose(index.features[name], np.stack(table[name].to_pylist()), atol=1e-5)


def test_only_what_is_new_changed_or_gone_is_touched(run, videos, collection):
    first = build_index(run, videos, every_seconds=1.0, workers=0)
    assert (first["embedded"], first["kept"], first["gone"]) == (6, 0, 0)
    same = build_index(run, videos, every_seconds=1.0, workers=0)
    assert (same["embedded"], same["kept"], same["gone"]) == (0, 6, 0)
    assert same["generation"] == first["generation"]
    before = {v.video_id: i for i, v in enumerate(Index.open(run).segments.videos)}
    names = sorted(before)
    clips = sorted((collection.parent / "clips").iterdir())
    (videos / names[0]).unlink()  # gone
    (videos / names[1]).rename(videos / "renamed.mp4")
    shutil.copy(clips[10], videos / names[2])  # changed
    shutil.copy(clips[11], videos / "new.mp4")
    os.utime(videos / names[3])  # touched alone
    old = Index.open(run)
    kept_row = int(np.flatnonzero(old.segments.video == before[names[1]])[0])
    made = build_index(run, videos, every_seconds=1.0, workers=0)
    assert (made["videos"], made["embedded"], made["kept"], made["gone"]) == (6, 2, 4, 2)
    new = Index.open(run)
    ids = [v.video_id for v in new.segments.videos]
    assert names[0] not in ids and {"renamed.mp4", "new.mp4"} <= set(ids)
    row = int(np.flatnonzero(new.segments.video == ids.index("renamed.mp4"))[0])
    assert np.array_equal(new.features["video"][row], old.features["video"][kept_row])
    whole = run.with_name("whole")
    shutil.copytree(run, whole)
    shutil.rmtree(whole / "index")
    build_index(whole, videos, every_seconds=1.0, workers=0)
    undisturbed = Index.open(whole)
    for name in new.features:
        assert np.allclose(new.features[name], undisturbed.features[name], atol=1e-5)
    assert new.segments.start_seconds.tolist() == undisturbed.segments.start_seconds.tolist()


def test_another_length_of_segments_begins_anew_and_one_generation_before_stays(run, videos):
    first = build_index(run, videos, every_seconds=1.0, workers=0)
    second = build_index(run, videos, every_seconds=0.5, workers=0)
    assert second["embedded"] == 6 and second["segments"] > first["segments"]
    opened = Index.open(run)
    third = build_index(run, videos, every_seconds=2.0, workers=0)
    there = {p.name.partition("-")[2] for p in (run / "index").glob("generation-*")}
    assert there == {second["generation"], third["generation"]}
    assert np.isfinite(np.asarray(opened.features["video"])).all()  # who had it open reads on


def test_files_with_one_stream_are_indexed_by_it_and_broken_ones_left_out(run, videos):
    make_video(videos / "mute.mp4", has_audio=False)
    make_video(videos / "dark.m4a", has_video=False)
    make_video(videos / "silent.mp4", wave=np.zeros((1, 60000), np.float32))
    (videos / "torn.mp4").write_bytes(b"no video at all" * 100)
    shutil.copy(next(videos.glob("clip*")), videos / "zz_twin.mp4")
    made = build_index(run, videos, every_seconds=1.0, workers=0)
    assert {r["video_id"]: r["reason"] for r in made["left_out"]} == {
        "torn.mp4": "not_media",
        "zz_twin.mp4": "duplicate",
    }
    index = Index.open(run)
    ids = [v.video_id for v in index.segments.videos]
    for name, streams in (("mute.mp4", (True, False)), ("dark.m4a", (False, True)), ("silent.mp4", (True, False))):
        rows = np.flatnonzero(index.segments.video == ids.index(name))
        assert len(rows)
        for stream, has in zip(("video", "audio"), streams, strict=True):
            assert (index.has[stream][rows] == has).all()
            assert np.isfinite(np.asarray(index.features[stream][rows])).all() == has
            assert (np.asarray(index.space[stream][rows]).any(axis=1) == has).all()
            assert (np.asarray(index.labels[stream].cluster[rows]) >= 0).all() == has
        assert (np.asarray(index.labels["both"].cluster[rows]) >= 0).all()
    again = build_index(run, videos, every_seconds=1.0, workers=0)
    assert again["embedded"] == 0


def test_a_video_that_fails_while_it_is_decoded_is_listed(run, videos):
    table = seehear.scan(videos, min_seconds=1.0)
    victim = videos / sorted(p.name for p in videos.iterdir())[0]
    make_video(victim, seconds=3)  # another content than was scanned
    made = build_index(run, table, every_seconds=1.0, workers=0)
    assert [r["reason"] for r in made["left_out"]] == ["changed"]
    assert made["videos"] == 5


def test_nothing_to_index_is_an_error(run, tmp_path):
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "a.mp4").write_bytes(b"x" * 100)
    with pytest.raises(DataError, match="no usable video"):
        build_index(run, tmp_path / "none", workers=0)
    with pytest.raises(UsageError):
        build_index(run, every_seconds=0)
    with pytest.raises(UsageError, match="--features"):
        build_index(run, column="video", workers=0)


def test_two_builders_do_not_meet(run):
    from seehear.engine.runfolder import RunFolder

    (run / "index").mkdir()
    with RunFolder(run / "index").lock():
        (run / "index" / "run.lock").write_text(
            json.dumps(json.loads((run / "index" / "run.lock").read_text()) | {"pid": os.getppid(), "started": None})
        )
        with pytest.raises(RunError, match="in use"):
            build_index(run, workers=0)


# -- of other encoders ----------------------------------------------------------------------------------------------


def test_features_of_an_array_go_with_the_runs_own_rows(run, tmp_path):
    own = pq.read_table(run / "features.parquet")
    x = np.random.default_rng(0).normal(size=(own.num_rows, 7)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    build_index(run, features=tmp_path / "x.npy")
    index = Index.open(run)
    ids = [index.segments.video_of(row).video_id for row in range(len(index))]
    order = [own["video_id"].to_pylist().index(video_id) for video_id in ids]
    assert np.array_equal(index.features["video"], x[order])
    assert index.encoders == {"video": "video"} and index.across is None
    labels = pq.read_table(run / "labels.parquet")
    assert index.labels["audio"].cluster.tolist() == [labels["cluster_audio"][i].as_py() for i in order]
    np.save(tmp_path / "short.npy", x[:5])
    with pytest.raises(DataError, match="rows"):
        build_index(run, features=tmp_path / "short.npy")


def test_features_of_a_table_bring_their_segments_and_get_clusters_of_their_own(run, videos, tmp_path):
    table = seehear.embed(run, videos, every_seconds=0.5, out=tmp_path / "x.parquet", workers=0)
    made = build_index(run, videos, features=tmp_path / "x.parquet")
    index = Index.open(run)
    assert len(index) == table.num_rows and made["embedded"] == 0
    assert set(index.encoders) == {"video", "audio"} and "linear map" in index.across
    assert list(index.labels) == ["both"]
    assert len(set(index.labels["both"].cluster.tolist())) > 1
    build_index(run, videos, features=tmp_path / "x.parquet", column="audio")
    assert Index.open(run).encoders == {"audio": "audio"}


def test_the_command_says_what_it_did(run, videos, capsys):
    main(["index", str(run), str(videos), "--every", "1", "--workers", "0"])
    text = capsys.readouterr().out
    assert "6 videos" in text and "embedded: 6" in text and "linear map" in text
    main(["index", str(run), str(videos), "--every", "1", "--workers", "0", "--json"])
    assert json.loads(capsys.readouterr().out)["kept"] == 6
