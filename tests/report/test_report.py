"""The report of a miniature run: what is on the page, and that nothing on it can do harm."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from seehear.cluster.kinds import Kinds, Shared
from seehear.errors import RunError
from seehear.features.kinds import FinalKinds, kinds_of_facts
from seehear.report import figures
from seehear.report import thumbnails as thumbs
from seehear.report.build import build_report
from seehear.report.gather import gather, read_metrics

EVIL = "<script>alert(1)</script>.mp4"
VOID = {"meta", "input", "img", "br", "hr", "link"}


class Page(HTMLParser):
    """Every element with its attributes and the text in it; also checks that tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.raw: dict[str, str] = {}
        self.text = ""
        self._open: list[str] = []
        self._at = ""
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {k: v or "" for k, v in attrs}
        self.elements.append((tag, found))
        if tag not in VOID:
            self._open.append(tag)
        self._at = found.get("id", tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {k: v or "" for k, v in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in ("script", "style"):
            self.raw[self._at] = self.raw.get(self._at, "") + data
        else:
            self.text += data

    def all(self, tag: str, **attrs: str) -> list[dict[str, str]]:
        """Elements of a tag whose attributes have these values (a class is one of the classes)."""
        wanted = {k.rstrip("_").replace("_", "-"): v for k, v in attrs.items()}
        return [
            a
            for t, a in self.elements
            if t == tag and all(v in a.get(k, "").split() if k == "class" else a.get(k) == v for k, v in wanted.items())
        ]

    def json(self, name: str) -> Any:
        return json.loads(self.raw[name])


def write_video(path: Path, tone: float, sound: bool = True) -> None:
    quality = thumbs.Quality(48, 10.0, 34, 24000, 16000)
    grid = np.linspace(0, 255, 48)
    frames = np.stack([np.add.outer(grid * tone, grid * i / 20) / 2 for i in range(20)]).clip(0, 255)
    wave = 0.3 * np.sin(2 * np.pi * (200 + 800 * tone) * np.arange(32000) / 16000) if sound else np.zeros(0)
    data, _ = thumbs.encode_mp4(np.repeat(frames[..., None], 3, axis=3).astype(np.uint8), wave, quality)
    path.write_bytes(data)


def metrics_lines() -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = [{"kind": "a kind of the future", "x": 1}]
    for r in range(2):
        entry = {"k": 3, "sizes": [6, 4, 2], "entropy": 1.0, "empty": 0, "reseeded": 0, "objective": 0.5}
        lines.append(
            {"kind": "round", "round": r, "step": r * 5, "seconds_extract": 1.0, "seconds_cluster": 0.5}
            | {f"clusters/{m}": entry | {"churn_nmi": None if r == 0 else 0.7} for m in ("video", "audio")}
            | {"effective_rank/video": 4.0 + r, "effective_rank/audio": 5.0}
        )
        for s in range(5):
            heads = ("video<-audio", "audio<-video")
            lines.append(
                {"kind": "step", "step": r * 5 + s, "round": r, "epoch": 0, "loss": 2.0 - s / 5}
                | {f"loss/{h}": 1.0 - s / 10 for h in heads}
                | {f"accuracy/{h}": 0.4 + s / 10 for h in heads}
                | {"learning_rate": 0.1, "gradient_norm": math.nan if s == 2 else 1.0, "seconds": float(s)}
            )
        lines.append({"kind": "epoch", "round": r, "epoch": 0, "step": r * 5 + 5, "validation_loss": 1.5,
                      "seconds_data": 1.0, "seconds_compute": 3.0})  # fmt: skip
    lines.append({"kind": "end", "seconds": 12.0, "steps": 10, "rounds": 2, "clips_seen": 80})
    return lines


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    # The "/" of a closing tag makes a folder of what stands before it.
    names = [f"clip{i}.mp4" for i in range(10)] + ["</script><img src=x onerror=alert(1)>&amp;.mp4"]
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_video(folder / name, i / 10, sound=i != 3)
    (folder / "junk.mp4").write_bytes(b"not a video")
    return folder


@pytest.fixture
def make_run(tmp_path: Path, media: Path) -> Callable[..., Path]:
    def make(labels: bool = True, features: bool = True, lines: list[dict[str, Any]] | None = None) -> Path:
        run = tmp_path / "a <b>run"
        run.mkdir()
        files = [*sorted(media.rglob("*.mp4")), media / "gone.mp4"]
        ids = [f"id{i}" for i in range(len(files))]
        rows = [
            {
                "video_id": v,
                "path": str(p),
                "usable": True,
                "reason": "",
                "detail": "",
                "video_duration_seconds": 2.0,
            }
            for v, p in zip(ids, files, strict=True)
        ]
        bad = {
            "usable": False,
            "reason": "no_audio",
            "detail": "<i>silent</i>",
            "video_duration_seconds": 1.0,
        }
        rows.append({"video_id": "bad", "path": EVIL} | bad)
        pq.write_table(pa.Table.from_pylist(rows), run / "manifest.parquet")
        settings = {"method": "xdc", "recipe": "</code><script>x</script>", "seed": 1, "cluster": {"k": 3}}
        (run / "config.yaml").write_text(yaml.safe_dump(settings))
        env = {
            "seehear_version": "0.1",
            "commit": None,
            "cpu": "some <cpu>",
            "command": ["seehear", "pretrain", "a b"],
        }
        (run / "env.json").write_text(json.dumps(env))
        written = "\n".join(json.dumps(line) for line in (metrics_lines() if lines is None else lines))
        (run / "metrics.jsonl").write_text(written + '\n{"kind": "step", "ste')
        failure = {
            "video_id": "id0",
            "path": "x",
            "reason": "decode_error",
            "detail": "d",
            "round": 1,
            "epoch": 0,
        }
        (run / "failures.jsonl").write_text(json.dumps(failure) + "\n")
        n = len(ids)
        table: dict[str, Any] = {"video_id": ids, "start_seconds": [0.0] * n, "end_seconds": [2.0] * n}
        generator = np.random.default_rng(0)
        if features:
            columns = dict(table)
            for m in ("video", "audio"):
                flat = pa.array(generator.normal(size=n * 6).astype(np.float32))
                columns[m] = pa.FixedSizeListArray.from_arrays(flat, 6)
            pq.write_table(pa.table(columns), run / "features.parquet")
        if labels:
            for m in ("video", "audio", "both"):
                table[f"cluster_{m}"] = pa.array([i % 3 for i in range(n)], pa.int32())
                table[f"confidence_{m}"] = pa.array([0.5 + i / 40 for i in range(n)], pa.float32())
                table[f"distance_{m}"] = pa.array([1.0 + i for i in range(n)], pa.float32())
                table[f"rank_{m}"] = pa.array([i // 3 + 1 for i in range(n)], pa.int32())
            pq.write_table(pa.table(table), run / "labels.parquet")
        return run

    return make


def report(run: Path, **options: Any) -> tuple[Page, str]:
    text = build_report(run, **options).read_text(encoding="utf-8")
    return Page(text), text


def test_page_of_a_whole_run(make_run: Callable[..., Path]) -> None:
    run = make_run()
    told: list[str] = []
    page, text = report(run, exemplars=5, progress=lambda what, done, total: told.append(what))
    assert sorted({"thumbnails", "maps"}) == sorted(set(told))
    assert [a["id"] for a in page.all("section")] == [
        "clusters", "relations", "map", "training", "health", "files", "settings"
    ]  # fmt: skip
    assert "too short to judge: 10 steps of training" in page.text
    assert len(page.all("article", class_="card")) == 9
    places = page.all("button", class_="thumb")
    assert {len(page.all("video")), len(places)} == {len(places)}
    videos = page.json("thumbs")
    assert {p["data-clip"] for p in places} == set(videos)
    gone = page.all("span", class_="gone")
    assert gone and any("file is gone" in g["aria-label"] for g in gone)
    assert any("cannot be read" in g["aria-label"] for g in gone)
    assert "a half" not in text
    assert page.json("data")["files"]
    # The same input gives the same page.
    assert build_report(run, exemplars=5).read_text(encoding="utf-8") == text
    assert not list(run.glob(".report*"))


def with_kinds(run: Path, k: int | None = 3, table: bool = True) -> Path:
    """The run as one that has counted kinds, and whose clips 4 and 10 are doubtful."""
    rows = [Shared(n, 0.5, 0.9, 0.6, 0.2 - 0.1 * abs(n - 3), 0.1 * abs(n - 3), 0.05) for n in (2, 3, 4)]
    kinds = Kinds(k, k and 2, k and 4, 0.01, tuple(rows), 12, 8)
    facts = FinalKinds(kinds if table else None, None, None).facts(3)
    (run / "kinds.json").write_text(json.dumps(facts))
    assert kinds_of_facts(json.loads((run / "kinds.json").read_text())) == (kinds if table else None)
    labels = pq.read_table(run / "labels.parquet")
    doubt = [i / 8 if i in (4, 10) else None if i == 1 else 0.1 for i in range(len(labels))]
    pq.write_table(labels.append_column("doubt", pa.array(doubt, pa.float32())), run / "labels.parquet")
    return run


def test_kinds_and_doubtful_clips_are_told_marked_and_listed(make_run: Callable[..., Path]) -> None:
    page, text = report(with_kinds(make_run()))
    told = "It counted 3 kinds (it may be 2 to 4, or more). 2 clips may belong to no kind."
    assert told in " ".join(page.text.split())
    assert [a["id"] for a in page.all("section")][:2] == ["clusters", "kinds"]
    assert "it may be 2 to 4, or more." in page.text and "The labels have" not in page.text
    (picture,) = [a for a in page.all("img") if a["src"].startswith("data:image/svg+xml;base64,")]
    svg = ElementTree.fromstring(base64.b64decode(picture["src"].partition(",")[2]))
    assert len(svg.findall(".//{*}circle")) == 3 and picture["alt"].startswith("3 kinds")
    assert ("option", {"value": "doubtful"}) in page.elements
    *cards, doubted = page.all("article", class_="card")
    assert doubted["aria-label"] == "The most doubtful clips" and "2 clips may belong to no kind: what" in page.text
    assert [a["data-doubtful"] for a in cards if a["data-cluster"] == "1"] == ["2"] * 3  # clips 4 and 10
    assert {a["data-doubtful"] for a in cards if a["data-cluster"] != "1"} == {"0"}
    assert text.count("2 doubtful</span>") == 3
    marked = page.all("button", class_="doubtful")
    assert {a["data-clip"] for a in marked} == {"4", "10"}
    assert [a["data-clip"] for a in marked][-2:] == ["10", "4"]  # the most doubtful first
    assert all("may belong to no kind" in a["title"] for a in marked)
    data = page.json("data")
    assert [key for key, one in zip(data["keys"], data["doubtful"], strict=True) if one] == [4, 10]


@pytest.mark.parametrize(
    ("given", "told", "section"),
    [({"k": None}, "could not tell how many kinds", True), ({"k": None, "table": False}, "could not tell", False)],
)
def test_a_run_that_could_not_count_kinds_says_so(
    make_run: Callable[..., Path], given: dict[str, Any], told: str, section: bool
) -> None:
    page, _ = report(with_kinds(make_run(), **given))
    assert told in page.text
    assert bool(page.all("section", id="kinds")) == section
    assert ("no number can be told" in page.text) == section


def test_a_run_that_has_not_counted_kinds_says_nothing_of_them(make_run: Callable[..., Path]) -> None:
    page, text = report(make_run())
    assert not page.all("section", id="kinds") and not any(page.json("data")["doubtful"])
    assert "no kind" not in page.text and "with doubtful clips" not in text


def test_thumbnails_are_h264_with_sound(make_run: Callable[..., Path], media: Path) -> None:
    import io

    page, _ = report(make_run(), exemplars=2)
    silent = 0
    for data in page.json("thumbs").values():
        with av.open(io.BytesIO(base64.b64decode(data))) as container:
            assert container.streams.video[0].codec_context.name == "h264"
            assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"
            silent += not container.streams.audio
            assert sum(1 for _ in container.decode(video=0)) >= 10
    assert silent <= 1
    still = thumbs.make_thumbnail(thumbs.Source(media / "clip3.mp4", 0.0, 2.0), thumbs.QUALITIES[1])
    assert still.base64 and not still.has_sound


def test_nothing_leaves_the_page_and_names_stay_text(make_run: Callable[..., Path]) -> None:
    page, text = report(make_run())
    assert EVIL in page.text
    assert "<img src=x" not in text and "<b>run" not in text and "<i>silent" not in text
    assert len(page.all("script")) == 3
    assert any("</script><img" in name for name in page.json("data")["files"]) or any(
        "script>" in name for name in page.json("data")["files"]
    )
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv"))
    assert "default-src 'none'" in policy and "connect-src" not in policy and "sha256-" in policy
    outside = [
        (tag, key, value)
        for tag, attrs in page.elements
        for key, value in attrs.items()
        if key in ("src", "href", "poster", "action", "srcset") and not value.startswith(("#", "data:image/"))
    ]
    assert outside == []
    assert not re.search(r"url\(|@import|https?://", text)
    assert not any(key.startswith("on") for _, attrs in page.elements for key in attrs)


def test_script_hash_is_that_of_the_script(make_run: Callable[..., Path]) -> None:
    import base64
    import hashlib

    page, text = report(make_run(labels=False, features=False))
    script = text.rsplit("<script>", 1)[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert digest in next(a["content"] for a in page.all("meta") if a.get("http-equiv"))


def test_keyboard_and_labels(make_run: Callable[..., Path]) -> None:
    page, _ = report(make_run(), exemplars=1)
    tabs = page.all("button", role="tab")
    assert [t["tabindex"] for t in tabs] == ["0", "-1", "-1"]
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    for tab in tabs:
        assert tab["aria-controls"] in ids
    assert all("aria-label" in b for b in page.all("button", class_="thumb"))
    assert all(s.get("aria-label") and s["tabindex"] == "0" for s in page.all("svg") if "data-chart" in s)
    assert all(i.get("alt") for i in page.all("img"))
    assert page.all("button", class_="open") and page.all("dialog", aria_labelledby="members-title")
    assert page.all("html", lang="en")


@pytest.mark.parametrize("budget", [150_000, 110_000, 1])
def test_size_budget(make_run: Callable[..., Path], budget: int) -> None:
    run = make_run()
    target = build_report(run, size_budget_bytes=budget)
    page = Page(target.read_text(encoding="utf-8"))
    if budget > 1:
        assert target.stat().st_size <= budget
        assert "were left out to keep the page under" in page.text
    else:  # what cannot be left out stays, without pictures
        assert page.json("thumbs") == {} and page.all("article", class_="card")


def test_thumbnails_drop_the_last_first(media: Path) -> None:
    sources = [(i, thumbs.Source(media / f"clip{i}.mp4", 0.0, 2.0)) for i in range(8)]
    whole = thumbs.make_thumbnails(sources, 10**9)
    assert whole.quality == thumbs.QUALITIES[0] and list(whole.items) == list(range(8)) and not whole.dropped
    smallest = sum(len(thumbs.make_thumbnail(s, thumbs.QUALITIES[-1]).base64) for _, s in sources[:3])
    some = thumbs.make_thumbnails(sources, smallest)
    assert list(some.items) == [0, 1, 2] and some.dropped == 5 and some.size <= smallest


def test_run_without_labels_shows_curves(make_run: Callable[..., Path]) -> None:
    page, _ = report(make_run(labels=False, features=False, lines=metrics_lines()[:-1]))
    assert [a["id"] for a in page.all("section")] == ["training", "health", "files", "settings"]
    assert "not finished" in page.text


def test_run_of_a_method_without_clusters(make_run: Callable[..., Path]) -> None:
    lines = [{"kind": "step", "step": i, "loss": 3.0 - i / 100, "learning_rate": 0.1} for i in range(120)]
    page, _ = report(make_run(labels=False, lines=[*lines, {"kind": "end", "seconds": 1.0}]))
    assert [a["id"] for a in page.all("section")] == ["map", "training", "files", "settings"]
    assert "cluster_" not in page.text and "healthy" in page.text


def contrast_lines(epochs: int = 4) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    for e in range(epochs):
        record: dict[str, Any] = {"kind": "epoch", "round": 0, "epoch": e, "step": 5 * (e + 1), "validation_loss": 2.0}
        for part in ("", "validation_"):
            for pair in ("audio->video", "video->audio"):
                record |= {f"{part}loss/{pair}": 3.0 - e / 10, f"{part}accuracy/{pair}": 0.25 + e / 10}
                record |= {f"{part}alignment/{pair}": 2.0 - e / 5}
            record |= {f"{part}uniformity/{name}": -1.0 - e for name in ("audio", "video")}
        lines.append({"kind": "step", "step": 5 * e + 1, "loss": 3.0, "loss/video->audio": 3.0, "learning_rate": 0.1})
        lines.append(record)
    return [*lines, {"kind": "end", "seconds": 1.0}]


def as_gdt(run: Path, specification: str) -> Path:
    settings = {"method": "gdt", "recipe": "small-gdt", "seed": 1, "gdt": {"hypotheses": specification}}
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    return run


def test_a_contrastive_run_shows_its_pairs_over_epochs(make_run: Callable[..., Path]) -> None:
    run = as_gdt(make_run(features=False, lines=contrast_lines()), "l")
    page, _ = report(run, exemplars=0)
    assert [a["id"] for a in page.all("section")] == [
        "clusters", "relations", "hypotheses", "retrieval", "training", "files", "settings"
    ]  # fmt: skip
    charts = {a["aria-label"].split(".")[0]: json.loads(a["data-chart"]) for a in page.all("svg") if "data-chart" in a}
    assert {"Loss by pair of modalities", "Top-1 accuracy", "Alignment", "Uniformity", "Learning rate"} == set(charts)
    for title in ("Loss by pair of modalities", "Top-1 accuracy", "Alignment"):
        chart = charts[title]
        names = [f"{pair}{held}" for held in ("", ", held out") for pair in ("audio → video", "video → audio")]
        assert [s["name"] for s in chart["series"]] == names and chart["x_label"] == "epoch"
        assert [s["tone"] for s in chart["series"]] == ["tone-audio", "tone-video"] * 2
        assert [p[2] for p in chart["series"][0]["points"]] == ["1", "2", "3", "4"]
    assert [s["name"] for s in charts["Uniformity"]["series"]] == [
        "audio", "video", "audio, held out", "video, held out"
    ]  # fmt: skip
    (picture,) = page.all("img")
    assert picture["src"].startswith("data:image/svg+xml;base64,") and "attract" in picture["alt"]
    assert "audio → video55.0 %" in page.text and "pseudo-labels" not in page.text


@pytest.mark.parametrize(
    ("specification", "told"),
    [
        ("l", ["Specification l: ", "seen as 4 transformations (video and audio)", "of different modalities",
               "reversaltime runs forwards or backwardsdistinct: is told apart"]),
        ("sample=distinct, reversal=ignore, modality=invariant",
         ["reversal", "ignore: is left open: what differs in it is not compared"]),
        ("simclr-video", ["seen as 2 transformations (video)", "pairs of video were compared"]),
        ("warp=<i>, sample=distinct", ["Learnt by the specification warp=<i>, sample=distinct"]),
    ],
)  # fmt: skip
def test_a_specification_is_told_in_words(make_run: Callable[..., Path], specification: str, told: list[str]) -> None:
    run = as_gdt(make_run(labels=False, features=False, lines=contrast_lines(1)), specification)
    page, text = report(run, exemplars=0)
    assert [words for words in told if words not in page.text] == [] and "<i>," not in text


def test_a_contrastive_run_without_an_epoch_yet_shows_its_steps(make_run: Callable[..., Path]) -> None:
    run = as_gdt(make_run(labels=False, features=False, lines=contrast_lines()[:1]), "l")
    page, _ = report(run)
    assert [a["id"] for a in page.all("section")] == ["hypotheses", "training", "files", "settings"]


def test_collapse_is_said_first(make_run: Callable[..., Path]) -> None:
    warning = {"kind": "warning", "message": "collapse: one <cluster> holds all", "round": 1, "step": 7}
    page, text = report(make_run(labels=False, features=False, lines=[*metrics_lines(), warning]))
    assert page.all("p", class_="bad") and "collapse: one <cluster> holds all" in page.text
    assert "healthy" not in page.text and "<cluster>" not in text


def test_truth_gives_purities_and_concepts(make_run: Callable[..., Path], tmp_path: Path) -> None:
    run = make_run()
    rows = [f"{name},{'cat & <dog>' if i % 3 else 'bell'}" for i, name in enumerate(gather(run).paths)]
    truth = tmp_path / "truth.csv"
    truth.write_text("\n".join(["video_id,label", *rows[:-1]]) + "\n")
    page, text = report(run, truth=truth, exemplars=1)
    assert page.all("article", data_purity="1.0000")
    assert "cat & <dog> (1.00)" in page.text and "<dog>" not in text
    assert page.json("data")["classes"] == ["bell", "cat & <dog>"]
    assert "Classes × video clusters" in page.text
    assert next(o["value"] for o in page.all("option")) == "purity"


def test_the_page_scores_clusters_as_the_command_does(make_run: Callable[..., Path], tmp_path: Path) -> None:
    """Mean purity is unweighted over clusters, and a video with several clips counts once, for most of its time."""
    from seehear.metrics.clustering import clustering_scores
    from seehear.report.gather import Clip
    from seehear.report.truth import Truth, score

    run = gather(make_run())
    table = [("a", 0, 9, 0), ("a", 9, 12, 1), ("a", 12, 15, 1), ("b", 0, 2, 0), ("c", 0, 2, 0), ("d", 0, 2, 1)]
    run.clips = [Clip(video, start, end) for video, start, end, _ in table]
    clusters = np.array([cluster for *_, cluster in table])
    labelling = replace(run.labellings["video"], cluster=clusters)
    truth = Truth({"a": "x", "b": "x", "c": "y", "d": "y"}, "here")
    found = score(run, labelling, truth)
    assert found is not None
    same = clustering_scores(["x", "x", "y", "y"], [0, 0, 0, 1])
    assert (found.nmi, found.accuracy, found.purity) == (same.nmi, same.accuracy, same.mean_max_purity)
    assert found.purity == pytest.approx((2 / 3 + 1) / 2)  # weighted by size it would be 3/4, by clips 5/6
    assert [found.rows[c].size for c in (0, 1)] == [3, 1]


def test_the_page_of_a_run_has_the_scores_of_the_command(finished_run: Path, collection: Path, tmp_path: Path) -> None:
    from seehear.transfer.clustering import score_clusters

    page = Page(build_report(finished_run, truth=collection, out=tmp_path / "page.html").read_text(encoding="utf-8"))
    for name, scores in score_clusters(finished_run, collection)["scores"].items():
        named = "joint" if name == "both" else name
        told = f"{named} clusters reach NMI {scores['nmi']:.2f} and mean purity {scores['mean_max_purity']:.2f}"
        assert told in page.text
    assert "unweighted, as in seehear evaluate clustering" in page.text


def shrink(run: Path, clips: int, clusters: int, alike: bool) -> None:
    """Leave so many clips and clusters of a run, with features that differ by rounding alone if they are `alike`."""
    labels = pq.read_table(run / "labels.parquet").slice(0, clips)
    for name in ("video", "audio", "both"):
        column = labels.column_names.index(f"cluster_{name}")
        labels = labels.set_column(
            column, f"cluster_{name}", pa.array([i % clusters for i in range(clips)], pa.int32())
        )
    pq.write_table(labels, run / "labels.parquet")
    features = pq.read_table(run / "features.parquet").slice(0, clips)
    if alike:
        rounding = 1 + 1e-7 * (np.arange(clips * 6) // 6 % 2)
        flat = pa.array((1.9e12 * rounding).astype(np.float32))
        for name in ("video", "audio"):
            column = features.column_names.index(name)
            features = features.set_column(column, name, pa.FixedSizeListArray.from_arrays(flat, 6))
    pq.write_table(features, run / "features.parquet")


@pytest.mark.parametrize(
    ("clips", "clusters", "alike"), [(1, 1, False), (2, 2, False), (2, 1, True), (13, 1, False), (13, 3, True)]
)
def test_degenerate_collections_give_a_page(
    make_run: Callable[..., Path], tmp_path: Path, clips: int, clusters: int, alike: bool
) -> None:
    run = make_run()
    shrink(run, clips, clusters, alike)
    truth = tmp_path / "truth.csv"
    truth.write_text("video_id,label\n" + "".join(f"id{i},same\n" for i in range(clips)))
    page, _ = report(run, truth=truth, exemplars=1)
    assert len(page.all("article", class_="card")) == 3 * clusters
    assert {"clusters", "relations"} <= {a["id"] for a in page.all("section")}
    assert ({"map"} <= {a["id"] for a in page.all("section")}) == (clips >= 3)
    if alike and clips >= 3:
        assert set(page.json("data")["maps"]["video"]["x"]) == {500}


def test_black_videos_with_one_tone_give_a_page(tmp_path: Path) -> None:
    """They ended the process: an encoder gives nearly the same features for all of them."""
    import seehear
    from tests.conftest import TINY_SETTINGS
    from tests.corpus import flash_frames, make_video

    for i in range(14):  # a frame longer each, or they would be one video
        make_video(tmp_path / f"{i}.mp4", seconds=2.5 + i / 15, frames=flash_frames((64, 48), [], 15))
    settings = [*TINY_SETTINGS, "rounds=1", "optim.epochs=1"]
    seehear.pretrain(tmp_path, tmp_path / "run", method="xdc", settings=settings, quiet=True)
    page, _ = report(tmp_path / "run", exemplars=1)
    assert len(page.all("canvas")) == 2 and set(page.json("data")["maps"]) == {"video", "audio"}
    assert "healthy" not in page.text


def test_stem_filters(make_run: Callable[..., Path]) -> None:
    import torch
    from safetensors.torch import save_file

    run = make_run(labels=False, features=False)
    (run / "model").mkdir()
    weights = {
        "encoders.video.stem.0.weight": torch.rand(5, 3, 1, 7, 7),
        "encoders.video.stem.3.weight": torch.rand(4, 5, 3, 1, 1),
        "encoders.audio.conv1.weight": torch.rand(6, 1, 7, 7),
    }
    save_file(weights, run / "model" / "model.safetensors")
    page, _ = report(run)
    assert [a["alt"].rsplit(": ", 1)[1] for a in page.all("img")] == ["6 tiles", "5 tiles", "4 tiles"]


def test_not_a_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a folder"):
        build_report(tmp_path / "none")
    with pytest.raises(RunError, match="is not a run folder"):
        build_report(tmp_path)
    (tmp_path / "config.yaml").write_text("method: xdc\n")
    with pytest.raises(RunError, match="nothing to show yet"):
        build_report(tmp_path)


def test_metrics_pass_over_a_broken_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"kind": "step", "step": 1}\nnonsense\n[1]\n{"kind": "st')
    assert read_metrics(path).steps == [{"kind": "step", "step": 1}]


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.0, 0.0), (3.2, 3.7), (-5.0, 1e6), (1e-7, 2e-7)])
def test_ticks_span_the_values(low: float, high: float) -> None:
    found = figures.ticks(low, high)
    assert found[0] <= low and found[-1] >= high and 2 <= len(found) <= 8


def test_thin_keeps_the_ends_and_the_mean() -> None:
    x, y = figures.thin(range(10_000), np.arange(10_000.0))
    assert len(x) == figures.MAX_POINTS and np.mean(y) == pytest.approx(4999.5, rel=1e-2)


def test_columns_are_matched_to_the_diagonal() -> None:
    counts = np.array([[0, 9, 1, 0], [8, 0, 0, 1], [0, 1, 7, 5]])
    assert figures.match_columns(counts).tolist()[:2] == [1, 0]


def test_flat_map_is_the_same_each_time_and_takes_what_comes() -> None:
    x = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    first, name = figures.flat_map(x)
    assert name == "t-SNE" and (first == figures.flat_map(x)[0]).all()
    assert first.min() >= 0 and first.max() <= 1000
    assert figures.flat_map(x, limit=10)[1] == "PCA"
    assert (figures.flat_map(np.zeros((20, 4)))[0] == 500).all()
    assert figures.flat_map(np.ones((5, 1)))[0].shape == (5, 2)


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e12, 3e38])
def test_features_that_are_all_alike_lie_in_the_middle(size: float) -> None:
    """t-SNE would be given places that are not numbers, and end the process."""
    rounding = 1 + 1e-7 * np.random.default_rng(0).integers(0, 2, (14, 32))
    points, _ = figures.flat_map((size * rounding).astype(np.float32))
    assert (points == 500).all()


@pytest.mark.parametrize("size", [1e-30, 1e12, 3e37])
def test_features_of_any_size_are_mapped_as_those_of_moderate_size_are(size: float) -> None:
    x = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    points, name = figures.flat_map(x * np.float32(size))
    assert name == "t-SNE" and points.min() >= 0 and points.max() <= 1000
    assert len(np.unique(points, axis=0)) > 30


def test_few_different_features_and_values_that_are_no_numbers_are_mapped() -> None:
    two = np.repeat(np.eye(2, 6, dtype=np.float32), 7, axis=0)
    points, _ = figures.flat_map(two)
    assert np.isfinite(points).all() and (points[0] != points[-1]).any()
    two[3], two[4, 0] = np.nan, np.inf
    assert np.isfinite(figures.flat_map(two)[0]).all()


def test_the_function_of_the_same_name_can_be_called_after_the_package_was_imported(finished_run, tmp_path):
    import seehear

    for name in ("one.html", "two.html"):
        assert seehear.report(finished_run, out=tmp_path / name).exists()
