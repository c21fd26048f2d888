"""Runs that learn from frames and words, from end to end: they resume, they are searched, they say what is missing."""

from __future__ import annotations

import csv
import json
import signal

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

import seehear
from seehear.data.captions import COLUMN
from seehear.data.clips import held_out
from seehear.data.manifest import Manifest
from seehear.engine.trainer import Trainer
from seehear.errors import DataError, Interrupted, UsageError
from seehear.features.model import Model, table_bank
from seehear.hypotheses.language import parse
from seehear.methods.gdt import GDT, gdt_nce
from seehear.models import build_text_encoder
from seehear.models.heads import MLPHead
from seehear.pretraining.plan import make_config
from seehear.pretraining.run import pretrain
from seehear.settings import load_config
from seehear.words.vocabulary import Vocabulary
from tests.conftest import TINY_SETTINGS
from tests.engine.test_training import stopped_and_resumed

SETTINGS = (
    *TINY_SETTINGS, "rounds=1", "data.text_column=caption", "model.text_dimensions=8", "model.text_width=32",
    "model.text_layers=1", "model.text_length=12",
)  # fmt: skip
TRANSFORMER = (*SETTINGS, "model.text=transformer")
COLOURS = ("red", "green", "blue", "yellow")


@pytest.fixture(scope="module")
def table(collection, tmp_path_factory):
    """The collection with a caption for all but two of its videos."""
    path = tmp_path_factory.mktemp("told") / "captions.csv"
    with collection.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows):
        kind = int(row["label"].removeprefix("class_"))
        row["caption"] = f"A {COLOURS[kind]} thing. It moves. This is clip {number}, made of {COLOURS[kind]}."
        row["path"] = str(collection.parent / row["path"])
    rows[5]["caption"], rows[-1]["caption"] = "", " ?! "
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def run(table, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "words"
    seehear.pretrain(table, out, method="gdt", hypotheses="video-text-order", settings=TRANSFORMER, quiet=True)
    return out


def test_what_a_run_with_text_leaves(run):
    manifest = Manifest.load(run / "manifest.parquet")
    assert {row["video_id"].rpartition("/")[2]: row["reason"] for row in manifest.rejected_rows()} == {
        "clip_0005.mp4": "no_text", "clip_0023.mp4": "no_text"
    }  # fmt: skip
    kept = json.loads((run / "vocabulary.json").read_text())
    training = [r["video_id"] for r in manifest.usable_rows() if not held_out(r["video_id"], 0.15)]
    captions = manifest.by_id("caption")
    expected = Vocabulary.of([captions[i] for i in training], 20_000)
    assert tuple(kept["words"]) == expected.words
    assert kept["videos"] == 22
    assert (kept["unknown"], kept["read"]) == expected.unknown(
        [captions[r["video_id"]] for r in manifest.usable_rows()]
    )
    assert 0 < kept["unknown"] < 22, "numbers of clips that are held out"
    assert kept["silent_spans"] == []
    assert load_config(run / "config.yaml").model.text_words == len(expected)
    bank = table_bank(pq.read_table(run / "features.parquet"))
    assert set(bank.features) == {"video"}
    assert len(bank) == 22
    assert pq.read_table(run / "labels.parquet").num_rows == 22
    steps = [json.loads(line) for line in (run / "metrics.jsonl").open()]
    epoch = next(r for r in steps if r["kind"] == "epoch")
    # Two sentence orders times two word orders of each of 8 clips: all captions can be changed so.
    assert epoch["texts"] == 32
    assert {"loss/video->text", "loss/text->video", "uniformity/text"} <= set(epoch)


def test_the_model_holds_the_text_encoder_and_its_words(run, tmp_path):
    model = Model.load(run)
    assert model.modalities == {"video": "video"}
    assert model.texts is not None
    tensors = load_file(run / "model" / "model.safetensors")
    encoder = build_text_encoder(model.config.model)
    encoder.load_state_dict({k[13:]: v for k, v in tensors.items() if k.startswith("text.encoder.")})
    head = MLPHead(32, model.config.gdt.dimensions, unit=True)
    head.load_state_dict({k[16:]: v for k, v in tensors.items() if k.startswith("text.projection.")})
    texts = ["a red thing", "zzz unheard", "It moves"]
    with torch.inference_mode():
        numbers = np.stack([model.texts.vocabulary.numbers(text, 12) for text in texts])
        features = encoder.eval()(torch.from_numpy(numbers))
        unit = head.eval()(features)
    assert model.texts.embed(texts) == pytest.approx(features.numpy(), abs=1e-6)
    assert model.texts.project(texts) == pytest.approx(unit.numpy(), abs=1e-6)
    with pytest.raises(UsageError, match="no word"):
        model.texts.embed(["fine", "?!"])
    given = Model.from_pretrained(model.save_pretrained(tmp_path / "given"))
    assert np.array_equal(given.texts.project(texts), model.texts.project(texts))
    assert given.subset("video").texts is not None


@pytest.mark.parametrize("stop_after", [1, 3])
def test_a_stopped_run_resumes_to_the_bit(stop_after, run, table, tmp_path, monkeypatch):
    config = make_config(method="gdt", hypotheses="video-text-order", settings=TRANSFORMER)
    stopped_and_resumed(table, tmp_path / "run", config, stop_after, monkeypatch)
    a, b = (load_file(r / "model" / "model.safetensors") for r in (run, tmp_path / "run"))
    assert a.keys() == b.keys()
    assert [k for k in a if not torch.equal(a[k], b[k])] == []
    for name in ("features.parquet", "labels.parquet"):
        assert pq.read_table(run / name).equals(pq.read_table(tmp_path / "run" / name))
    assert (run / "vocabulary.json").read_bytes() == (tmp_path / "run" / "vocabulary.json").read_bytes()


def test_what_was_said_when_a_run_began_is_what_it_goes_on_with(collection, tmp_path, monkeypatch):
    folder = tmp_path / "videos"
    folder.mkdir()
    for number, path in enumerate(sorted((collection.parent / "clips").iterdir())[:10]):
        (folder / path.name).symlink_to(path)
        said = f"WEBVTT\n\n00:00.200 --> 00:01.200\nred {number} thing\n\n00:01.500 --> 00:02.200\nand more\n"
        (folder / path.with_suffix(".vtt").name).write_text(said)
    config = make_config(
        method="gdt", hypotheses="video-text",
        settings=[s for s in SETTINGS if "text_column" not in s] + ["optim.batch_size=4", "optim.epochs=2"],
    )  # fmt: skip
    pretrain(folder, tmp_path / "whole", config, quiet=True)
    stopped = False

    def once(self):
        nonlocal stopped
        if not stopped:
            stopped, self.stop.signal = True, signal.SIGTERM
        save_or_stop(self)

    save_or_stop = Trainer.save_or_stop
    monkeypatch.setattr(Trainer, "save_or_stop", once)
    with pytest.raises(Interrupted):
        pretrain(folder, tmp_path / "run", config, quiet=True)
    for path in folder.glob("*.vtt"):
        path.write_text("WEBVTT\n\n00:00.200 --> 00:01.200\nquite another\n")
    pretrain(None, tmp_path / "run", config, resume=True, quiet=True)
    a, b = (load_file(tmp_path / r / "model" / "model.safetensors") for r in ("whole", "run"))
    assert [k for k in a if not torch.equal(a[k], b[k])] == []


def test_texts_find_videos_and_videos_texts(run, table):
    found = seehear.evaluate_retrieval(run, table, clips=2)
    assert set(found["cross_modal"]) == set(found["cross_modal_classes"]) == {"text->video", "video->text"}
    assert found["captions"] == {"videos": 5, "without": 1}
    assert found["cross_modal"]["text->video"]["clips"] == 5
    assert found["cross_modal"]["text->video"]["recall"]["R@1"]["chance"] == 0.2
    # The same by hand: mean embeddings of the clips, cosines, ranks.
    model = Model.load(run)
    manifest = Manifest.load(run / "manifest.parquet")
    test = [r for r in manifest.usable_rows() if r["split"] == "test"]
    bank = table_bank(model.embed(manifest.where("split=test"), every_seconds=1.25))
    assert len(bank) == 2 * len(test)
    seen = model.project(bank)["video"]
    means = np.stack(
        [seen[[i for i, ref in enumerate(bank.refs) if ref.video_id == r["video_id"]]].mean(0) for r in test]
    )
    texts = model.texts.project([r["caption"] for r in test])
    similarity = texts @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T
    ranks = [int((row > row[i]).sum()) + 1 for i, row in enumerate(similarity)]
    assert found["cross_modal"]["text->video"]["median_rank"] == np.median(ranks)
    assert found["cross_modal"]["text->video"]["recall"]["R@1"]["value"] == np.mean([r == 1 for r in ranks])


def test_data_without_captions_is_scored_without_them(run, collection):
    found = seehear.evaluate_retrieval(run, collection, clips=2)
    assert "cross_modal" not in found
    assert found["captions"]["videos"] == 0
    assert "no column 'caption'" in found["captions"]["note"]


def test_a_search_by_words_finds_what_the_space_says(run):
    found = seehear.search(run, text="a red thing", k=7)
    model = Model.load(run)
    bank = table_bank(pq.read_table(run / "features.parquet"))
    similarity = model.project(bank)["video"] @ model.texts.project(["a red thing"])[0]
    best = np.argsort(-similarity, kind="stable")[:7]
    assert [hit["video"] for hit in found.hits] == [bank.refs[i].video_id for i in best]
    assert [hit["similarity"] for hit in found.hits] == pytest.approx(similarity[best], abs=1e-3)
    assert found.answer.by == "words"
    low = float(np.median((1 + similarity[best]) / 2))
    assert len(seehear.search(run, text="a red thing", k=7, min_score=low).hits) == 4


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({}, "for a file or stretch, or for words"),
        ({"query": "x.mp4", "text": "x"}, "for a file or stretch, or for words"),
        ({"text": "x", "by": "sound"}, "not of words"),
        ({"text": "x", "start": 1.0}, "not of words"),
        ({"text": "…"}, "no word"),
        ({"text": "x", "k": 0}, "at least 1"),
    ],
)
def test_searches_that_are_none_are_refused(run, asked, why):
    with pytest.raises(UsageError, match=why):
        seehear.search(run, **asked)


def test_a_run_without_text_cannot_be_searched_by_words(finished_run):
    with pytest.raises(UsageError, match="no text encoder"):
        seehear.search(finished_run, text="red")


def test_without_any_caption_nothing_is_begun(collection, tmp_path):
    with pytest.raises(DataError, match="nothing is said of any video") as caught:
        seehear.pretrain(
            collection.parent / "clips", tmp_path / "run", method="gdt", hypotheses="video-text",
            settings=[s for s in SETTINGS if "text_column" not in s], quiet=True,
        )  # fmt: skip
    assert "no_text" in str(caught.value) or "nothing is said of it" in str(caught.value)
    assert not (tmp_path / "run").exists()


class TestWordVectors:
    def test_words_start_from_them_and_may_stay(self, table, tmp_path):
        path = tmp_path / "glove.txt"
        path.write_text(
            "red " + " ".join(["0.5"] * 8) + "\nthing " + " ".join(["-1"] * 8) + "\nwolf " + "1 " * 7 + "1\n"
        )
        settings = (*SETTINGS, f"model.text_vectors={path}", "model.text_fixed=true", "optim.epochs=1")
        seehear.pretrain(table, tmp_path / "run", method="gdt", hypotheses="video-text", settings=settings, quiet=True)
        texts = Model.load(tmp_path / "run").texts
        row = dict(zip(texts.vocabulary.words, texts.encoder.embedding.weight[2:].tolist(), strict=True))
        assert row["red"] == [0.5] * 8
        assert row["thing"] == [-1.0] * 8

    def test_of_another_length_they_are_refused_before_anything_is_made(self, table, tmp_path):
        path = tmp_path / "glove.txt"
        path.write_text("red 1 2 3\n")
        with pytest.raises(UsageError, match="3 numbers") as caught:
            seehear.pretrain(
                table, tmp_path / "run", method="gdt", hypotheses="video-text",
                settings=[*SETTINGS, f"model.text_vectors={path}"], quiet=True,
            )  # fmt: skip
        assert "text_dimensions=3" in str(caught.value.remedy)
        assert not (tmp_path / "run").exists()


class TestLoss:
    @pytest.fixture
    def method(self):
        settings = [s for s in TRANSFORMER if "threads" not in s]
        return GDT(make_config(method="gdt", hypotheses="video-text-order", settings=[*settings, "model.text_words=9"]))

    def inputs(self, clips, seed=0):
        generator = torch.Generator().manual_seed(seed)
        spec = parse("video-text-order")
        views = [v for i in range(clips) for v in spec.views(f"v{i}", 0, _span(), np.random.default_rng(seed + i))]
        codes = {m: torch.tensor([v.codes for v in views if v.modality == m]) for m in ("video", "text")}
        texts = torch.randint(1, 11, (len(codes["text"]), 12), generator=generator)
        return {"video": torch.randn(clips, 3, 4, 32, 32, generator=generator), "text": texts}, codes

    def test_it_is_equation_1_over_the_rows_that_there_are(self, method):
        x, codes = self.inputs(5)
        kept = torch.arange(len(codes["text"]))[torch.arange(20) % 7 != 3]  # rows without words are not there
        x["text"], codes["text"] = x["text"][kept], codes["text"][kept]
        method.eval()
        found = method(x, codes)
        with torch.no_grad():
            rows = torch.cat([method.projections[m](method.encoders[m](x[m])) for m in ("video", "text")]).double()
        every = torch.cat([codes["video"], codes["text"]]).tolist()
        spec, rho = method.spec, method.config.gdt.temperature
        modality, order = spec.column("modality"), [spec.column("sentence_order"), spec.column("word_order")]
        total, pairs = 0.0, 0
        for t, a in enumerate(every):
            compared = [u for u, b in enumerate(every) if b[modality] != a[modality]]
            below = sum(np.exp(float(rows[t] @ rows[u]) / rho) for u in compared)
            for u in compared:
                b = every[u]
                if a[0] == b[0] and all(a[o] == b[o] for o in order):
                    total -= float(rows[t] @ rows[u]) / rho - np.log(below)
                    pairs += 1
        assert pairs == 2 * sum(not any(row[o] for o in order) for row in codes["text"].tolist())
        assert found.loss.item() == pytest.approx(total / pairs, rel=1e-5)
        assert float(found.parts["texts"]) == len(kept)

    def test_a_text_out_of_order_pushes_its_video_away(self, method):
        codes = self.inputs(3)[1]
        texts = torch.randn(12, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        videos = torch.eye(3, 8, dtype=torch.float64)  # at right angles: what another video does to a text is no matter
        rows = torch.cat([videos, torch.nn.functional.normalize(texts, dim=1)]).requires_grad_()
        every = torch.cat([codes["video"], codes["text"]])
        gdt_nce(rows, every, method.spec, 0.3)[0].backward()
        for clip in range(3):
            for changed in range(1, 4):
                # A step down the gradient takes the text out of order away from its own video.
                assert rows[clip].detach() @ -rows.grad[3 + 4 * clip + changed] < 0

    @pytest.mark.parametrize("count", [0, 1])
    def test_next_to_no_text_is_no_fault(self, method, count):
        x, codes = self.inputs(4)
        x["text"], codes["text"] = x["text"][:count], codes["text"][:count]
        method.train()
        found = method(x, codes)
        found.loss.backward()
        assert found.loss.item() == 0
        assert all(p.grad is None or torch.isfinite(p.grad).all() for p in method.parameters())


def _span():
    from seehear.hypotheses.factors import Span

    return Span(0, 100, 7.5)


def test_text_joins_frames_and_sound(table, tmp_path):
    settings = (*SETTINGS, "optim.epochs=1")
    spec = "modality=invariant:video+audio+text"
    seehear.pretrain(table, tmp_path / "run", method="gdt", hypotheses=spec, settings=settings, quiet=True)
    found = seehear.evaluate_retrieval(tmp_path / "run", table, clips=2)
    assert set(found["cross_modal"]) == {
        "video->audio", "audio->video", "text->video", "video->text", "text->audio", "audio->text"
    }  # fmt: skip
    assert Manifest.load(tmp_path / "run" / "manifest.parquet").column(COLUMN).count(None) == 2
