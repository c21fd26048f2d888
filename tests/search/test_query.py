"""Queries: against plain loops, by files of every kind, and what they say of themselves."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image

import seehear
from seehear.cli import main
from seehear.errors import DataError, MediaError, UsageError
from seehear.search.building import build_index
from seehear.search.calibration import Scale, fit_scale
from seehear.search.index import Index
from seehear.search.nearest import Part, best_rows
from seehear.search.query import Query, Searcher
from tests.corpus import make_broken, make_video, tone
from tests.search.made import copied, kinds, made_index, unit_rows

SIGHT, SOUND = "video", "audio"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An index of 300 generated segments, of which some lack a stream."""
    rng = np.random.default_rng(0)
    video, audio = kinds(rng, 300, 12, 6), kinds(rng, 300, 12, 6)
    video[[5, 77]] = 0
    audio[[6, 120, 121]] = 0
    return made_index(tmp_path_factory.mktemp("made"), video, audio)


@pytest.fixture(scope="module")
def searchable(finished_run, tmp_path_factory):
    """A searcher of a run's collection in segments of half a second."""
    run = copied(finished_run, tmp_path_factory.mktemp("searchable") / "run")
    build_index(run, every_seconds=0.5, workers=0)
    searcher = Searcher(Index.open(run), run)
    yield searcher
    searcher.close()


def plain(index, row, by, weight, k, skip_same_video=False, among=None):
    """The search of a segment by a loop over all others."""
    found = []
    shares = {"sight": {SIGHT: 1.0}, "sound": {SOUND: 1.0}, "both": {SIGHT: 1 - weight, SOUND: weight}}[by]
    for other in range(len(index)):
        if other == row or (among is not None and other not in among):
            continue
        if skip_same_video and index.segments.video[other] == index.segments.video[row]:
            continue
        if any(not index.space[s][other].any() for s, w in shares.items() if w):
            continue
        similarity = sum(w * float(index.space[s][row] @ index.space[s][other]) for s, w in shares.items())
        found.append((-similarity, other))
    return [(row, -negative) for negative, row in sorted(found)[:k]]


# -- exact ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["sight", "sound", "both"])
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_a_search_is_what_a_loop_over_all_segments_finds(made, by, weight):
    searcher = Searcher(made)
    for row in (0, 11, 299):
        answer = searcher.like_segment(row, by=by, sound_weight=weight, k=15)
        expected = plain(made, row, by, weight, 15)
        assert [hit.row for hit in answer.hits] == [r for r, _ in expected]
        assert np.allclose([hit.similarity for hit in answer.hits], [s for _, s in expected], atol=1e-5)
        assert answer.exact and answer.recall is None and answer.by == by
        scores = [hit.score for hit in answer.hits]
        assert scores == sorted(scores, reverse=True) and all(0 <= s <= 1 for s in scores)


def test_a_search_can_be_kept_to_some_rows_and_to_other_videos(made):
    searcher, among = Searcher(made), np.array([200, 3, 4, 8, 17, 90, 91, 5])
    answer = searcher.like_segment(2, by="sight", k=5, rows=among, skip_same_video=True)
    expected = plain(made, 2, "sight", 0, 5, True, set(among.tolist()))
    assert [hit.row for hit in answer.hits] == [r for r, _ in expected]
    assert not searcher.like_segment(2, rows=np.array([], dtype=int)).hits
    assert searcher.like_segment(2, rows=np.array([], dtype=int)).nothing_like_it


def test_a_minimum_score_leaves_out_the_others(made):
    searcher = Searcher(made)
    every = searcher.like_segment(0, k=200).hits
    some = searcher.like_segment(0, k=200, min_score=0.6).hits
    assert [h.row for h in some] == [h.row for h in every if h.score >= 0.6]
    assert 0 < len(some) < len(every)


def test_blocks_and_ties_do_not_change_the_order(monkeypatch):
    monkeypatch.setattr("seehear.search.nearest._BLOCK_ROWS", 7)
    rows = unit_rows(np.repeat(np.random.default_rng(0).normal(size=(10, 4)), 5, axis=0))
    found, similarity = best_rows({"x": rows}, [Part("x", rows[12], 1.0)], 8)
    expected = sorted(range(50), key=lambda r: (-float(rows[r] @ rows[12]), r))[:8]
    assert found.tolist() == expected
    assert (np.diff(similarity) <= 0).all()


def test_what_a_segment_lacks_is_said_or_refused(made):
    searcher = Searcher(made)
    answer = searcher.like_segment(5, by="both")
    assert answer.by == "sound" and "by sound alone" in answer.notes[0]
    with pytest.raises(UsageError, match="by sight"):
        searcher.like_segment(5, by="sight")
    for wrong in ({"k": 0}, {"sound_weight": 1.5}, {"by": "smell"}, {"by": "across", "across_from": "smell"}):
        with pytest.raises(UsageError):
            searcher.like_segment(0, **wrong)
    with pytest.raises(UsageError, match="no segment 300"):
        searcher.like_segment(300)
    with pytest.raises(UsageError, match="features in elsewhere"):
        searcher.like_file("any.mp4")


def test_a_stretch_is_the_mean_of_its_segments_which_are_not_among_the_hits(made):
    searcher = Searcher(made)
    answer = searcher.like_stretch("v3.mp4", 2.0, 6.2, by="sight", k=300)
    rows = [13, 14]  # 2..4 and 4..6 of the four segments of v3; 6..8 is touched
    mean = unit_rows(np.asarray(made.space[SIGHT][rows]).mean(0, keepdims=True))[0]
    assert not {13, 14, 15} & {hit.row for hit in answer.hits}
    for hit in answer.hits[:20]:
        assert hit.similarity == pytest.approx(float(mean @ made.space[SIGHT][hit.row]), abs=1e-5)
    tiny = searcher.like_stretch("v3.mp4", 4.1, 4.3, by="sight", k=1)  # of the segment that it lies in
    assert tiny.hits[0].row == searcher.like_segment(14, by="sight", k=1, skip_same_video=False).hits[0].row
    with pytest.raises(UsageError, match="nothing from"):
        searcher.like_stretch("v3.mp4", 20, 30)
    with pytest.raises(UsageError, match="no video"):
        searcher.like_stretch("nothing.mp4", 0, 1)


# -- what a score means ---------------------------------------------------------------------------------------------


def test_a_query_unlike_anything_is_told_and_a_known_one_is_not(made):
    searcher, rng = Searcher(made), np.random.default_rng(9)
    told = [
        searcher.search(Query({SIGHT: unit_rows(rng.normal(size=(1, 12)))[0]}), by="sight").nothing_like_it
        for _ in range(50)
    ]
    known = [searcher.like_segment(row, by="sight", skip_same_video=True).nothing_like_it for row in range(20, 70)]
    assert np.mean(told) > 0.5
    assert np.mean(known) < 0.15


def test_a_scale_has_its_half_where_alike_and_unlike_are_equally_likely_or_at_the_last_alike():
    rng = np.random.default_rng(0)
    alike, unlike = rng.normal(0.8, 0.1, 4000), rng.normal(0.2, 0.1, 9000)
    scale = fit_scale(alike, unlike)
    assert scale.score(np.array([scale.similarity(0.5)]))[0] == pytest.approx(0.5)
    assert scale.similarity(0.5) == pytest.approx(np.quantile(alike, 0.05), abs=1e-3)
    near = fit_scale(rng.normal(0.6, 0.2, 9000), rng.normal(0.4, 0.2, 3000))
    assert near.similarity(0.5) == pytest.approx(0.5, abs=0.02)
    assert fit_scale(np.full(50, 0.5), np.full(50, 0.5)).slope > 0
    assert Scale(3.0, 1.0).similarity(float(Scale(3.0, 1.0).score(np.array([0.3]))[0])) == pytest.approx(0.3)


def test_a_handful_of_segments_says_that_scores_mean_nothing_yet(tmp_path):
    x = kinds(np.random.default_rng(0), 6, 5, 2)
    answer = Searcher(made_index(tmp_path, x, x, rows_a_video=2)).like_segment(0, by="sight")
    assert not answer.nothing_like_it and "too small" in answer.notes[0]
    assert answer.hits[0].score == pytest.approx((1 + answer.hits[0].similarity) / 2)


# -- approximately --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    pytest.importorskip("faiss")
    rng = np.random.default_rng(3)
    return made_index(
        tmp_path_factory.mktemp("large"), kinds(rng, 8000, 16, 200), kinds(rng, 8000, 16, 200), large=True
    )


@pytest.mark.parametrize("by", ["sight", "sound", "both", "across"])
def test_many_segments_are_searched_approximately_and_ranked_exactly(large, by):
    searcher = Searcher(large)
    shares = []
    for row in range(0, 8000, 400):
        answer = searcher.like_segment(row, by=by, k=10, skip_same_video=True)
        assert not answer.exact and answer.recall >= 0.95
        if by == "across":
            continue
        expected = plain(large, row, by, 0.5, 10, skip_same_video=True)
        shares.append(len({hit.row for hit in answer.hits} & {r for r, _ in expected}) / 10)
        for hit in answer.hits:  # whatever is found has its true similarity
            true = dict(plain(large, row, by, 0.5, 1, among={hit.row}))
            assert hit.similarity == pytest.approx(true[hit.row], abs=1e-5)
    assert by == "across" or np.mean(shares) > 0.95


def test_without_the_package_the_search_is_exact_and_says_what_would_help(large, monkeypatch):
    monkeypatch.setattr("seehear.search.nearest.faiss_there", lambda: False)
    monkeypatch.setattr("seehear.search.query.faiss_there", lambda: False)
    answer = Searcher(large).like_segment(0, by="sight", k=10)
    assert answer.exact and "seehear[large]" in answer.notes[0]
    assert [hit.row for hit in answer.hits] == [r for r, _ in plain(large, 0, "sight", 0, 10)]


def test_rows_restrict_an_approximate_index_exactly(large):
    among = np.arange(100, 160)
    answer = Searcher(large).like_segment(0, by="sound", k=5, rows=among)
    assert answer.exact
    assert [h.row for h in answer.hits] == [r for r, _ in plain(large, 0, "sound", 1, 5, among=set(among.tolist()))]


# -- files ----------------------------------------------------------------------------------------------------------


def test_a_file_of_the_collection_finds_itself(searchable, collection):
    index = searchable.index
    for number in (0, 7, 13):
        name = f"clips/clip_{number:04d}.mp4"
        for by in ("sight", "sound", "both"):
            best = searchable.like_file(collection.parent / name, start=1.0, end=1.5, by=by, k=1).hits[0]
            assert index.segments.video_of(best.row).video_id == name
            assert index.segments.start_seconds[best.row] == 1.0
            assert best.similarity > 0.999


def test_a_file_has_the_features_that_embed_gives_it(searchable, collection):
    path = collection.parent / "clips" / "clip_0003.mp4"
    table = seehear.load(searchable.run).embed(path, every_seconds=0.5)
    files, _ = searchable._embedder()
    found = files.embed_file(path, every_seconds=0.5)
    for name in ("video", "audio"):
        assert np.allclose(found[name], np.stack(table[name].to_pylist()).mean(0), atol=1e-5)


def test_silent_videos_sounds_and_pictures_are_searched_by_what_they_have(searchable, collection, tmp_path):
    mute = make_video(tmp_path / "mute.mp4", has_audio=False)
    sound = make_video(tmp_path / "sound.wav", has_video=False, wave=tone(2.0, 24000))
    song = make_video(tmp_path / "song.mp3", has_video=False, wave=tone(2.0, 24000), audio_codec="mp3")
    assert searchable.like_file(mute).by == "sight"
    assert searchable.like_file(sound).by == "sound"
    near = [searchable.like_file(f, k=5).hits[0].row for f in (sound, song)]
    assert near[0] == near[1]
    for query, words in ((mute, "sounds, by what is seen"), (sound, "pictures, by what is heard")):
        answer = searchable.like_file(query, by="across", k=3)
        assert answer.by == "across" and words in answer.through and "linear map" in answer.through
        assert len(answer.hits) == 3
    with pytest.raises(UsageError):
        searchable.like_file(mute, by="sound")
    with pytest.raises(UsageError):
        searchable.like_file(sound, by="across", across_from="sight")


def test_a_picture_is_a_clip_that_does_not_move(searchable, collection, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    pixels = np.asarray(Image.fromarray(pixels).resize((8, 6)).resize((64, 48), Image.Resampling.BICUBIC))
    still = make_video(tmp_path / "still.mp4", frames=[pixels] * 40, video_options={"crf": "1"})
    Image.fromarray(pixels).save(tmp_path / "still.png")
    Image.fromarray(pixels).save(tmp_path / "still.jpg", quality=95)
    turned = Image.fromarray(pixels).rotate(90, expand=True)
    turned.save(tmp_path / "turned.jpg", quality=95, exif=_exif(turned, 6))
    files, spaces = searchable._embedder()
    moving = spaces.rows("video", files.embed_file(still)["video"][None])[0]
    for name in ("still.png", "still.jpg", "turned.jpg"):
        picture = spaces.rows("video", files.embed_file(tmp_path / name)["video"][None])[0]
        assert float(picture @ moving) > 0.95, name
    assert searchable.like_file(tmp_path / "still.png").by == "sight"
    with pytest.raises(UsageError, match="picture"):
        searchable.like_file(tmp_path / "still.png", start=1.0)


def _exif(picture: Image.Image, orientation: int) -> Image.Exif:
    exif = picture.getexif()
    exif[0x0112] = orientation
    return exif


def test_broken_queries_say_why(searchable, tmp_path):
    reasons = make_broken(tmp_path)
    for name, reason in reasons.items():
        # Of the last, picture and sound do not meet, and each alone will do.
        if reason in ("no_video", "no_audio", "silent", "audio_too_short") or name == "apart.mp4":
            assert searchable.like_file(tmp_path / name, k=1).by in ("sight", "sound")
            continue
        with pytest.raises(MediaError) as raised:
            searchable.like_file(tmp_path / name)
        assert raised.value.reason == reason, name
    Image.new("RGB", (40, 40)).save(tmp_path / "cut.png")
    whole = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "fake.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(500))
    for name in ("cut.png", "fake.png"):
        with pytest.raises(MediaError) as raised:
            searchable.like_file(tmp_path / name)
        assert raised.value.reason in ("truncated", "decode_error", "not_media"), name


def test_a_picture_of_absurd_size_is_refused(searchable, tmp_path):
    import struct
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )
    (tmp_path / "bomb.png").write_bytes(bomb)
    with pytest.raises(MediaError) as raised:
        searchable.like_file(tmp_path / "bomb.png")
    assert raised.value.reason == "too_large"


def test_a_table_that_is_given_as_a_query_names_no_files(searchable, collection, tmp_path):
    (tmp_path / "query.csv").write_text(f"path\n{collection.parent / 'clips' / 'clip_0000.mp4'}\n")
    with pytest.raises(MediaError):
        searchable.like_file(tmp_path / "query.csv")


def test_a_stretch_that_is_shorter_than_the_segments_is_embedded_anew(finished_run, tmp_path):
    run = copied(finished_run, tmp_path / "run")
    searcher = Searcher(Index.open_or_make(run), run)  # whole videos of 2.5 s
    short = searcher.like_stretch("clips/clip_0002.mp4", 0.2, 0.9, by="sight", k=3)
    files, spaces = searcher._embedder()
    video = searcher.index.segments.videos[searcher.index.place_of("clips/clip_0002.mp4")]
    anew = spaces.rows("video", files.embed_indexed(video, 0.2, 0.9)["video"][None])[0]
    assert short.hits[0].similarity == pytest.approx(
        float(anew @ searcher.index.space[SIGHT][short.hits[0].row]), abs=1e-5
    )
    searcher.close()


# -- across, by every method ----------------------------------------------------------------------------------------


def test_across_finds_the_own_moment_better_than_chance(any_run, tmp_path):
    run = copied(any_run, tmp_path / "run")
    searcher = Searcher(Index.open_or_make(run), run)
    index = searcher.index
    ranks = []
    for row in range(len(index)):
        for start, stream, other in (("sight", "video", "audio"), ("sound", "audio", "video")):
            answer = searcher.like_segment(row, by="across", across_from=start, k=len(index))
            query, rows = index.space[f"across.{stream}"][row], index.space[f"across.{other}"]
            assert [h.row for h in answer.hits] == sorted(range(len(index)), key=lambda r: (-float(rows[r] @ query), r))
            ranks.append([h.row for h in answer.hits].index(row) + 1)
    assert np.mean(ranks) < (len(index) + 1) / 2


# -- the command ----------------------------------------------------------------------------------------------------


def test_the_command_finds_and_says_how(finished_run, collection, tmp_path, capsys):
    run = copied(finished_run, tmp_path / "run")
    query = shutil.copy(collection.parent / "clips" / "clip_0004.mp4", tmp_path / "query.mp4")
    main(["search", str(run), str(query), "-k", "3"])
    out, err = capsys.readouterr()
    assert "one of the run's own clips" in err and "clips/clip_0004.mp4" in out and "compared: " in out
    main(["search", str(run), "clips/clip_0004.mp4#t=0,2", "--by", "across", "--json", "-k", "2"])
    found = json.loads(capsys.readouterr().out)
    assert found["by"] == "across" and "linear map" in found["through"] and len(found["hits"]) == 2
    assert {"video", "path", "start", "end", "score", "similarity", "cluster", "row"} <= set(found["hits"][0])
    main(["search", str(run), "clips/clip_0004.mp4", "--from", "1", "--to", "2", "--min-score", "1.1"])
    assert "no segments" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(["search", str(run), "nowhere.mp4"])
    assert ended.value.code == DataError.exit_code
    with pytest.raises(SystemExit) as ended:
        main(["search", str(run), "clips/clip_0004.mp4#t=0,2", "--from", "1"])
    assert ended.value.code == UsageError.exit_code
