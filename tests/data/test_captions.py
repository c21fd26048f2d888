"""What is said of videos: columns, subtitle files, and every video of which nothing is said with its reason."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

import seehear
from seehear.config import ClusterConfig, DataConfig
from seehear.data.captions import COLUMN, subtitle_files, with_captions
from seehear.data.clips import clip_refs, transformation_requests
from seehear.data.columns import VideosById
from seehear.data.loader import ClipLoader
from seehear.data.manifest import REASONS
from seehear.data.views import Statistics
from seehear.engine.sampling import split
from seehear.errors import UsageError
from seehear.features.model import usable_videos
from seehear.hypotheses.factors import FACTORS
from seehear.hypotheses.language import parse
from seehear.pretraining.plan import make_config
from seehear.words.cues import Cue, from_cell, said, to_cell
from seehear.words.tokens import sentences, words
from seehear.words.vocabulary import Vocabulary
from tests.conftest import TINY_SETTINGS
from tests.corpus import make_video

VTT = "WEBVTT\n\n00:00.500 --> 00:01.500\nA red ball. It rolls.\n\n00:03.000 --> 00:04.000\nNow a blue box falls.\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six videos of 4.5 s."""
    made = tmp_path_factory.mktemp("spoken")
    for i in range(6):
        wave = np.sin(np.arange(36_000) * (0.05 + 0.01 * i)).astype(np.float32)[None] * 0.3
        make_video(made / f"v{i}.mp4", seconds=4.5, fps=8, size=(48, 48), gop=4, wave=wave, rate=8000)
    return made


@pytest.fixture
def manifest(folder):
    return seehear.scan(folder, workers=0)


def reasons(manifest):
    return {row["video_id"]: (row["reason"], row["detail"]) for row in manifest.rejected_rows()}


def write(folder, **files):
    for name, text in files.items():
        path = folder / name.replace("__", ".")
        path.write_bytes(text if isinstance(text, bytes) else text.encode())


@pytest.fixture(autouse=True)
def no_subtitles(folder):
    yield
    for path in folder.iterdir():
        if path.suffix != ".mp4":
            path.unlink()


class TestColumn:
    @pytest.fixture
    def table(self, folder):
        captions = ["A dog barks.", "", " ... ", "Ein Hund, der bellt", "a;b", "犬"]
        path = folder / "table.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            rows = [(f"v{i}.mp4", caption) for i, caption in enumerate(captions)]
            csv.writer(file).writerows([("path", "caption"), *rows, ("gone.mp4", "A ghost.")])
        return seehear.scan(path, workers=0)

    def test_each_video_has_its_caption_and_those_without_are_listed(self, table):
        found = with_captions(table, DataConfig(text_column="caption"))
        assert [from_cell(cell) for cell in found.column(COLUMN)] == [
            (Cue(None, None, "A dog barks."),), (), (), (Cue(None, None, "Ein Hund, der bellt"),),
            (Cue(None, None, "a;b"),), (Cue(None, None, "犬"),), (),
        ]  # fmt: skip
        assert reasons(found)["v1.mp4"] == ("no_text", "the column caption holds no word for it")
        assert {i: code for i, (code, _) in reasons(found).items()} == {
            "v1.mp4": "no_text", "v2.mp4": "no_text", "gone.mp4": "missing"
        }  # fmt: skip
        assert found.summary()["rejected"]["no_text"] == 2
        assert REASONS["no_text"][0] in found.summary_text()
        assert table.column("usable").count(True) == 6  # the one that was given is as it was

    def test_a_column_that_is_not_there_is_named_with_a_close_one(self, table, manifest):
        with pytest.raises(UsageError, match="no column 'captions'") as caught:
            with_captions(table, DataConfig(text_column="captions"))
        assert "did you mean 'caption'" in str(caught.value.remedy)
        with pytest.raises(UsageError, match="no column"):
            with_captions(manifest, DataConfig(text_column="caption"))

    def test_done_again_it_is_the_same(self, table):
        found = with_captions(table, DataConfig(text_column="caption"))
        again = with_captions(found, DataConfig(text_column="caption"))
        assert again.table.equals(found.table)


class TestSubtitles:
    def test_they_are_read_from_beside_the_videos(self, folder, manifest):
        write(
            folder, v0__vtt=VTT, v1__en__vtt=VTT.encode("utf-16"),
            v2__SRT="\ufeff1\r\n00:00:01,000 --> 00:00:02,000\r\nHi",
            v3__vtt="no subtitles", v4__en__vtt=VTT, v4__de__vtt=VTT,
        )  # fmt: skip
        found = with_captions(manifest, DataConfig())
        cues = [from_cell(cell) for cell in found.column(COLUMN)]
        assert cues[0] == cues[1] == (Cue(0.5, 1.5, "A red ball. It rolls."), Cue(3.0, 4.0, "Now a blue box falls."))
        assert cues[2] == (Cue(1.0, 2.0, "Hi"),)
        told = reasons(found)
        assert set(told) == {"v3.mp4", "v4.mp4", "v5.mp4"}
        assert told["v3.mp4"][0] == "bad_text"
        assert told["v3.mp4"][1].startswith("v3.vtt: no line has times")
        assert told["v4.mp4"] == (
            "no_text", "several subtitle files (v4.de.vtt, v4.en.vtt), and data.subtitle_language does not say which"
        )  # fmt: skip
        assert told["v5.mp4"] == ("no_text", "there is no v5.vtt nor v5.srt beside it")
        assert all(REASONS[code][1] for code, _ in told.values())

    def test_a_language_may_be_asked_for(self, folder, manifest):
        write(folder, v0__en__vtt=VTT, v0__de__srt="1\n00:00:01,000 --> 00:00:02,000\nHallo", v1__vtt=VTT)
        found = with_captions(manifest, DataConfig(subtitle_language="de"))
        assert from_cell(found.column(COLUMN)[0]) == (Cue(1.0, 2.0, "Hallo"),)
        assert reasons(found)["v1.mp4"] == ("no_text", "there is no v1.de.vtt nor v1.de.srt beside it")

    @pytest.mark.parametrize(
        ("names", "language", "found"),
        [
            (["a.vtt", "a.srt", "a.en.vtt"], None, ["a.vtt"]),
            (["a.srt", "a.en.vtt"], None, ["a.srt"]),
            (["a.EN.Vtt"], "en", ["a.EN.Vtt"]),
            (["a.en.vtt", "a.en.srt"], None, ["a.en.vtt"]),
            (["a.en.vtt", "a.de.srt"], None, ["a.de.srt", "a.en.vtt"]),
            (["ab.vtt", "a.txt", "a", "a.x.y.vtt"], None, []),
            (["a.b.mp4", "a.b.vtt"], None, []),
            (["a.vtt"], "en", []),
        ],
    )
    def test_which_files_are_those_of_a_video(self, tmp_path, names, language, found):
        for name in (*names, "a.mp4"):
            (tmp_path / name).touch()
        expected = [str(tmp_path / name) for name in found]
        assert subtitle_files(str(tmp_path / "a.mp4"), language) == expected


PLAIN = ("augment.drop_words=0",)


def config_with(spec, *settings):
    return make_config(
        method="gdt", hypotheses=spec, settings=[*TINY_SETTINGS, *PLAIN, "model.text=transformer", *settings]
    )


def batch_of(manifest, config, vocabulary, seed=(0, 0)):
    """Requests and the only batch of all videos."""
    videos = usable_videos(manifest, ("video",))
    views = {name: name for name in parse(config.gdt.hypotheses).encoded}
    with ClipLoader(videos, config, views, Statistics(), workers=0, cache=None, vocabulary=vocabulary) as loader:
        refs = clip_refs(videos, ClusterConfig())
        spec = parse(config.gdt.hypotheses)
        requests = transformation_requests(refs, np.arange(len(refs)), loader.videos, config.clip, spec, seed)
        (batch,) = loader.batches(requests, len(requests))
    return requests, batch, {v.video_id: v for v in videos}


def test_a_clip_reads_what_is_said_while_it_lasts(folder, manifest):
    write(folder, **{f"v{i}__vtt": VTT for i in range(6)})
    spoken = with_captions(manifest, DataConfig())
    known = Vocabulary.of([VTT], 99)
    config = config_with("time_shift=invariant*3, modality=invariant:video+text", "model.text_length=6")
    for seed in range(3):
        requests, batch, videos = batch_of(spoken, config, known, (seed, 0))
        rows = []
        for request in requests:
            for view in (v for v in request.views if v.modality == "text"):
                start = view.start / config.clip.frame_rate_hz
                cues = videos[request.ref.video_id].cues
                read = [c.text for c in cues if c.start_seconds < start + config.clip.seconds and start < c.end_seconds]
                assert read, "starts are drawn where something is said"
                rows.append(known.numbers(" ".join(read), 6).tolist())
        assert batch.inputs["text"].tolist() == rows
        assert batch.inputs["text"].dtype == torch.int64
        assert batch.codes["text"].shape == (18, len(parse(config.gdt.hypotheses).factors))
        assert len(batch.inputs["video"]) == 18


def test_starts_are_all_those_at_which_something_is_said(folder, manifest):
    write(folder, **{f"v{i}__vtt": VTT for i in range(6)})
    config = config_with("video-text")
    videos = usable_videos(with_captions(manifest, DataConfig()), ("video",))[:1]
    refs = clip_refs(videos, ClusterConfig()) * 600
    spec = parse("video-text")
    of = {v.video_id: v for v in videos}
    drawn = transformation_requests(refs, np.arange(len(refs)), of, config.clip, spec, (0,))
    rate, seconds = config.clip.frame_rate_hz, config.clip.seconds
    last = int((videos[0].end_seconds - seconds) * rate + 1e-6)
    expected = {s for s in range(last + 1) if said(videos[0].cues, s / rate, s / rate + seconds)}
    assert {round(r.start_seconds * rate) for r in drawn} == expected
    assert expected < set(range(last + 1))


def test_a_span_in_which_nothing_is_said_is_not_trained_on(folder, manifest):
    write(folder, **{f"v{i}__vtt": VTT for i in range(5)}, v5__vtt="00:00.000 --> 00:00.400\nearly\n")
    videos = usable_videos(with_captions(manifest, DataConfig()), ("video",))
    config = config_with("video-text", "cluster.clips_per_video=3", "data.validation_share=0.3")
    _, train, validation = split(VideosById(videos), config, None)
    used = {r.clip_id for r in [*train, *validation]}
    spans = clip_refs(videos, config.cluster)
    assert {r.video_id for r in spans} == {f"v{i}.mp4" for i in range(6)}
    # In the others nothing is said from 1.5 to 3 s, which is their second span to the millisecond.
    silent = {r.clip_id for r in spans if (r.start_seconds > 0 if r.video_id == "v5.mp4" else r.start_seconds == 1.5)}
    assert len(silent) == 7
    assert {r.clip_id for r in spans} - used == silent


def test_changed_texts_are_what_the_views_say_and_those_that_cannot_change_have_no_row(folder, manifest):
    texts = ["One dog barks. Two cats sleep there.", "Only one sentence here.", "Word", "A. B. C.", "a b", "x y. z w."]
    cues = [(Cue(None, None, text),) for text in texts]
    known = Vocabulary.of(texts, 99)
    spoken = replace(manifest, table=manifest.table.append_column(COLUMN, pa.array([to_cell(c) for c in cues])))
    for spec in ("video-text-order", "video-text-any-order"):
        requests, batch, _ = batch_of(spoken, config_with(spec), known)
        rows, codes, left_out = [], [], set()
        for number, request in enumerate(requests):
            for view in (v for v in request.views if v.modality == "text"):
                text = texts[number]
                alike = False
                for name, value in view.acts:
                    changed = FACTORS[name].act_on_text(text, value)
                    alike |= words(changed) == words(text)
                    text = changed
                if alike:
                    left_out.add((number, tuple(name for name, _ in view.acts)))
                    continue
                rows.append(known.numbers(text, 32).tolist())
                codes.append(list(view.codes))
        assert batch.inputs["text"].tolist() == rows
        assert batch.codes["text"].tolist() == codes
        shuffled, swapped = ("sentence_order",), ("word_order",)
        assert left_out == {
            (n, a) for n in (1, 2, 4) for a in (shuffled, (*shuffled, *swapped))
        } | {(2, swapped), (3, swapped), (3, (*shuffled, *swapped))}  # fmt: skip
        assert len(sentences(texts[0])) == 2


def test_words_are_left_out_by_the_draw_of_each_view(folder, manifest):
    write(folder, **{f"v{i}__vtt": VTT.replace("red", "red green yellow pink brown grey") for i in range(6)})
    spoken = with_captions(manifest, DataConfig())
    known = Vocabulary.of([VTT, "green yellow pink brown grey"], 99)
    spec = "augment=invariant*2, modality=invariant:video+text"
    whole = batch_of(spoken, config_with(spec), known)[1].inputs["text"]
    some = batch_of(spoken, config_with(spec, "augment.drop_words=0.9"), known)[1].inputs["text"]
    again = batch_of(spoken, config_with(spec, "augment.drop_words=0.9"), known)[1].inputs["text"]
    assert torch.equal(some, again)
    lengths = (some != 0).sum(1)
    assert (lengths <= (whole != 0).sum(1)).all()
    assert len(set(lengths.tolist())) > 3
    assert not torch.equal(some[::2], some[1::2])  # the two draws of a clip
    for row, kept in zip(whole.tolist(), some.tolist(), strict=True):
        left = iter(row)
        assert all(number in left for number in kept if number)  # in their order


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (["data.text_column=caption", "gdt.hypotheses=e"], "which this run does not look at"),
        (["data.subtitle_language=en", "gdt.hypotheses=l"], "which this run does not look at"),
        (["data.text_column=c", "data.subtitle_language=en", "gdt.hypotheses=video-text"], "two sources"),
        (["gdt.hypotheses=video-text-order"], "mlp does not see the order"),
        (["gdt.hypotheses=word_order=invariant, modality=invariant:video+text"], "mlp does not see the order"),
        (
            ["data.text_column=c", "gdt.hypotheses=time_shift=distinct, modality=invariant:video+text"],
            "says the same of every moment",
        ),
        (["gdt.hypotheses=video-text", "model.text=transformer", "model.text_width=33"], "multiple of 32"),
        (["gdt.hypotheses=video-text", "augment.drop_words=2"], "from 0 to 1"),
        (["gdt.hypotheses=video-text", "model.text_words=0"], "at least 1"),
    ],
)
def test_settings_that_contradict_the_hypotheses_are_refused(settings, why):
    with pytest.raises(UsageError, match=why):
        make_config(method="gdt", settings=settings)
