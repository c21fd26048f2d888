"""Studies: all runs that a question takes, their scores beside the paper's; stopped, failed and gone on with."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest

import seehear
from seehear.data.manifest import Manifest
from seehear.engine.trainer import Trainer
from seehear.errors import DataError, Interrupted, RunError, TrainingError, UsageError
from seehear.studies import running
from seehear.studies.base import Arm, Curve, Line, Picture, Question, normal, numbers
from seehear.studies.folder import StudyFolder, merged
from seehear.studies.named import STUDIES
from seehear.studies.picture import curves_svg
from seehear.studies.table import as_markdown, make_table
from seehear.transfer.evaluations import load_all
from tests.commands import run as command
from tests.conftest import TINY_SETTINGS

SETTINGS = (*(s for s in TINY_SETTINGS if not s.startswith("cluster.k=")), "rounds=1", "optim.epochs=1")


def cells(folder: Path) -> dict[tuple[str, str], dict[str, str]]:
    """The lines of a study's table.csv by row and column (published ones with their pretraining)."""
    with (folder / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {(r["row"], ", ".join(filter(None, (r["column"], r["pretraining"])))): r for r in rows}


@pytest.fixture(scope="module")
def done(collection, tmp_path_factory) -> SimpleNamespace:
    """A study of two numbers of clusters and one of which there are not as many videos."""
    out = tmp_path_factory.mktemp("study") / "clusters"
    result = seehear.study(
        "clusters", collection, out=out, values=("2", "4", "99"), seeds=(0,), settings=SETTINGS, quiet=True
    )
    return SimpleNamespace(out=out, result=result)


def test_the_table_has_the_scores_of_the_runs_and_the_papers_numbers(done, collection):
    found = cells(done.out)
    for k in (2, 4):
        run = done.out / "runs" / f"k-{k}_0"
        kept = {(e.protocol, e.options.get("k")): e.scores() for e in load_all(run)[0]}
        for modality in ("video", "audio", "both"):
            own = found[f"k = {k}", f"NMI at k, {modality}"]
            assert float(own["mean"]) == kept["clustering", None][modality]["nmi"]["value"]
            at_4 = found[f"k = {k}", f"NMI at 4 classes, {modality}"]
            assert float(at_4["mean"]) == kept["clustering", 4][modality]["nmi"]["value"]
            accuracy = kept["linear", None][modality]["accuracy"]["value"]
            assert float(found[f"k = {k}", f"linear, {modality}"]["mean"]) == accuracy
        # Classes are for scoring, and the test split takes no part in training.
        assert set(Manifest.load(run / "manifest.parquet").column("split")) == {"train"}
        assert f"k: {k}\n" in (run / "config.yaml").read_text()
    # As printed in table 2 of the XDC paper.
    for pretraining, accuracy in (("Kinetics-400", "0.738"), ("AudioSet-240K", "0.774"), ("AudioSet", "0.841")):
        line = found["k = 64", f"paper: ucf101 finetune, video accuracy, {pretraining}"]
        assert (line["mean"], line["source"]) == (accuracy, "XDC, table 2: k = 64, split 1, 8 frames")
    page = (done.out / "table.md").read_text()
    assert page.startswith("# The number of clusters k")
    row = next(line for line in page.splitlines() if line.startswith("| k = 64 |"))
    assert "73.8 (Kinetics-400), 77.4 (AudioSet-240K), 84.1 (AudioSet)" in row
    assert page.count("| k = 4 |") == 1


def test_a_run_that_fails_is_named_and_the_others_go_on(done, capsys, collection):
    (failure,) = done.result["failures"]
    assert (failure["row"], failure["seed"], failure["exit_code"]) == ("k = 99", 0, 2)
    assert "18 spans of video cannot be sorted into 99 clusters" in failure["message"]
    assert "- failed: k = 99, seed 0: 18 spans" in (done.out / "table.md").read_text()
    given = [w for s in SETTINGS for w in ("--set", s)]
    words = ("study", "clusters", collection, "--out", done.out, "--seeds", 0, *given, "--quiet")
    code, output, _ = command(capsys, *words, "--values", "99")
    assert code == 2
    assert f"failed: k = 99, seed 0 ({done.out / 'runs' / 'k-99_0'}): 18 spans" in output
    assert "-> set cluster.k to" in output
    assert "published (XDC, table 2)" in output


def test_what_is_done_is_not_done_again_and_seeds_and_values_may_be_added(done, collection, tmp_path, monkeypatch):
    out = tmp_path / "study"
    shutil.copytree(done.out, out)
    made = []

    def counted(folder, study, question, job, *, quiet):
        made.append(job.name)
        raise TrainingError("it diverged", "another rate")

    monkeypatch.setattr(running, "carry_out", counted)
    options = {"out": out, "settings": SETTINGS, "quiet": True}
    again = seehear.study("clusters", collection, values=("4", "2.0"), seeds=(0,), **options)
    assert (made, again["failures"], again["runs"]) == ([], [], 2)
    before = cells(out)
    more = seehear.study("clusters", collection, values=("4", "3"), seeds=(0, 7), **options)
    assert made == ["k = 3, seed 0", "k = 3, seed 7", "k = 4, seed 7"]
    assert [f["message"] for f in more["failures"]] == ["it diverged"] * 3
    assert cells(out) == before
    assert json.loads((out / "study.json").read_text())["values"] == ["2", "3", "4", "99"]
    with pytest.raises(RunError, match="other options: recipe"):
        seehear.study("clusters", collection, recipe="small-gdt", **options)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").touch()
    with pytest.raises(RunError, match="holds no study"):
        seehear.study("clusters", collection, **options | {"out": tmp_path / "other"})


def assert_same(one: Path, other: Path) -> None:
    """The runs of k = 2 and k = 4 in two studies learnt the same to the bit, and the tables are equal."""
    for name in ("k-2_0", "k-4_0"):
        for file in ("features.parquet", "labels.parquet"):
            assert pq.read_table(one / "runs" / name / file).equals(pq.read_table(other / "runs" / name / file))
    assert cells(one) == cells(other)
    assert (one / "curve.svg").read_text() == (other / "curve.svg").read_text()


def test_a_study_that_was_stopped_goes_on_with_the_same_command(done, collection, tmp_path, monkeypatch):
    save_or_stop = Trainer.save_or_stop

    def stopping(self):
        if self.state.step == 1 and "k-4" in str(self.folder.path):
            signal.raise_signal(signal.SIGINT)
        save_or_stop(self)

    def study():
        return seehear.study(
            "clusters", collection, out=tmp_path / "study", values=("2", "4"), seeds=(0,), settings=SETTINGS, quiet=True
        )

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "save_or_stop", stopping)
        with pytest.raises(Interrupted, match="SIGINT") as caught:
            study()
    assert "same command" in caught.value.remedy
    assert not (tmp_path / "study" / "run.lock").exists()
    # What was done by then is in the table.
    assert ("k = 2", "linear, both") in cells(tmp_path / "study")
    assert ("k = 4", "linear, both") not in cells(tmp_path / "study")
    state = tmp_path / "study" / "runs" / "k-2_0" / "study.json"
    written = state.stat().st_mtime_ns
    assert study()["failures"] == []
    assert state.stat().st_mtime_ns == written
    assert_same(done.out, tmp_path / "study")


def test_runs_side_by_side_stop_at_a_signal_and_go_on(done, collection, tmp_path):
    out = tmp_path / "study"
    given = [w for s in SETTINGS for w in ("--set", s)]
    words = [sys.executable, "-m", "seehear", "study", "clusters", collection, "--out", out, "--values", "2", "4",
             "--seeds", "0", "--jobs", "2", "--quiet", *given]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    first = subprocess.Popen(list(map(str, words)), env=environment, stderr=subprocess.PIPE, text=True)
    runs = [out / "runs" / f"k-{k}_0" for k in (2, 4)]
    limit = time.monotonic() + 240
    while not any((run / "manifest.parquet").exists() for run in runs):
        assert time.monotonic() < limit and first.poll() is None, first.stderr.read()
        time.sleep(0.05)
    first.send_signal(signal.SIGTERM)
    errors = first.communicate(timeout=240)[1]
    assert first.returncode == 75, errors
    assert "run the same command again" in errors
    assert not any((run / "run.lock").exists() for run in runs)
    second = subprocess.run(list(map(str, words)), env=environment, capture_output=True, text=True, timeout=240)
    assert second.returncode == 0, second.stderr
    assert_same(done.out, out)


def test_a_process_of_its_own_says_why_it_failed(done, collection, tmp_path):
    out = tmp_path / "study"
    shutil.copytree(done.out, out)
    result = seehear.study(
        "clusters", collection, out=out, values=("99",), seeds=(0,), settings=SETTINGS, jobs=2, quiet=True
    )
    (failure,) = result["failures"]
    assert (failure["row"], failure["exit_code"]) == ("k = 99", 2)
    assert failure["message"] == done.result["failures"][0]["message"]
    assert failure["remedy"] == done.result["failures"][0]["remedy"]


# ---------------------------------------------------------------- what is asked


def test_without_a_name_the_studies_are_listed(capsys):
    code, output, _ = command(capsys, "study")
    assert code == 0
    listed = json.loads(command(capsys, "study", "--json")[1])
    assert list(listed) == list(STUDIES)
    for about in listed.values():
        assert about["summary"] in output
        assert about["paper"] in output


def test_what_cannot_be_asked_is_said_with_a_remedy(collection, tmp_path, capsys):
    out = tmp_path / "out"
    with pytest.raises(UsageError, match="did you mean clusters"):
        seehear.study("cluster", collection, out=out)
    with pytest.raises(UsageError, match="needs videos with classes and --out"):
        seehear.study("clusters")
    with pytest.raises(UsageError, match="--uncurated VIDEOS"):
        seehear.study("curation", collection, out=out)
    with pytest.raises(UsageError, match="it is of curation"):
        seehear.study("clusters", collection, out=out, uncurated=collection)
    with pytest.raises(UsageError, match="chooses its methods"):
        seehear.study("methods", collection, out=out, method="xdc")
    for setting in ("cluster.k=3", "seed=4", "data.where=[split=test]"):
        with pytest.raises(UsageError, match=r"sets .* itself"):
            seehear.study("clusters", collection, out=out, settings=[setting])
    with pytest.raises(UsageError, match="numbers of clusters"):
        seehear.study("clusters", collection, out=out, values=["few"])
    with pytest.raises(UsageError, match="there are: xdc"):
        seehear.study("methods", collection, out=out, values=["xdc", "dino"])
    with pytest.raises(UsageError, match="each seed once"):
        seehear.study("clusters", collection, out=out, seeds=(1, 1))
    with pytest.raises(UsageError, match=r"optim\.base_lr"):
        seehear.study("clusters", collection, out=out, settings=["optim.lr=1"])
    (tmp_path / "bare.csv").write_text("path,split\na.mp4,train\nb.mp4,test\n")
    code, _, errors = command(capsys, "study", "clusters", tmp_path / "bare.csv", "--out", out)
    assert code == 2
    assert "a study needs classes to be scored against" in errors
    assert "path, label and split" in errors
    one = (collection.read_text().splitlines())[:1] + [
        f"{collection.parent}/clips/clip_00{i:02d}.mp4,same,{'test' if i > 2 else 'train'}" for i in range(4)
    ]
    (tmp_path / "one.csv").write_text("\n".join(one) + "\n")
    with pytest.raises(DataError, match="have 1 classes"):
        seehear.study("clusters", tmp_path / "one.csv", out=out)


def test_values_are_compared_in_one_form():
    assert [normal(v) for v in ("4", "4.0", "0.50", "1e3", "xdc", "inf")] == ["4", "4", "0.5", "1000", "xdc", "inf"]
    assert merged(["16", "2"], ["4", "2"]) == ("2", "4", "16")
    assert merged(["xdc", "sdc"], ["cdc", "sdc"]) == ("xdc", "sdc", "cdc")


def test_arms_have_folders_of_their_own():
    question = Question(Path("x"), 4, ())
    for study in STUDIES.values():
        if not study.needs_uncurated:
            arms = study.arms(Question(Path("x"), 4, study.values))
            assert len({arm.folder for arm in arms}) == len(arms)
            for arm in arms:
                config = arm.config(question, 5)
                assert (config.seed, config.threads, config.data.where) == (5, 1, ("split=train",))
    long = [Arm(f"sample=distinct, {'time_shift=distinct*2, ' * 9}{last}").folder for last in "ab"]
    assert len(set(long)) == 2
    assert all(len(name) < 100 for name in long)


# ---------------------------------------------------------------- each study


@pytest.fixture(scope="module")
def finished(finished_run, collection, tmp_path_factory) -> SimpleNamespace:
    """A run of XDC on the training split's likes, and the manifest of the labelled collection."""
    folder = tmp_path_factory.mktemp("scored")
    shutil.copytree(finished_run, folder / "run", ignore=shutil.ignore_patterns("evaluations"))
    seehear.scan(collection, out=folder / "data.parquet", workers=0)
    return SimpleNamespace(run=folder / "run", data=folder / "data.parquet")


@pytest.mark.parametrize(
    ("name", "values", "arm", "line", "columns"),
    [
        ("methods", ("xdc",), "xdc", "xdc", 9),
        ("labelling", ("xdc",), "xdc", "xdc, both", 5),
        ("degraded", ("1", "8"), "xdc", "xdc, 1/8", 4),
        ("shots", ("1", "2"), "xdc", "xdc", 6),
        ("hypotheses", ("e",), "e", "e", 5),
    ],
)
def test_a_study_scores_a_run_and_makes_lines_of_it(finished, name, values, arm, line, columns):
    study = STUDIES[name]
    question = Question(finished.data, 4, values, method="xdc" if study.takes_method else None)
    asked = next(a for a in study.arms(question) if a.name == arm)
    scores = json.loads(json.dumps(study.score(finished.run, question, asked)))
    lines = {found.name: found for found in study.lines(question, {arm: [scores, scores]})}
    assert sum(len(v) == 2 for v in lines[line].values) == columns
    assert lines[line].seeds == 2
    table = make_table(study, question, list(lines.values()))
    text = as_markdown(table, ["a note"])
    assert f"| {line} | 2 |" in text
    assert "± 0.000" in text
    picture = study.picture(question, list(lines.values()))
    if picture is not None:
        assert all(len(curve.points) == 2 for curve in picture.curves)
    if name in ("methods", "labelling", "shots", "hypotheses"):
        assert any(found.startswith("chance") for found in lines)
    # The same numbers stand in what the run kept.
    kept = [s["value"] for e in load_all(finished.run)[0] for of in e.scores().values() for s in of.values()]
    assert name == "degraded" or all(v[0] in kept for v in lines[line].values if v)
    if name == "degraded":
        plain = lines["xdc, 1/1"].values[0][0]
        assert plain == pytest.approx(scores["clusters"]["scores"]["video"]["nmi"])
        assert lines[line].values[0][0] != plain


@pytest.mark.parametrize(
    ("name", "method", "row", "column", "cell"),
    [
        ("methods", None, "xdc", "ucf101 finetune, video accuracy", "74.2"),
        ("methods", None, "same-modality", "esc50 finetune, audio accuracy", "66.0"),
        ("clusters", "selavi", "k = 256", "vggsound clustering, both ari", "24.3"),
        ("clusters", None, "k = 1024", "esc50 finetune, audio accuracy", "71.5 (Kinetics-400)"),
        ("curation", None, "curated, 16M videos (IG-Kinetics)", "hmdb51 finetune, video accuracy", "57.3"),
        ("labelling", None, "concatenation, both", "vggsound clustering, both nmi", "24.7"),
        ("labelling", None, "xdc, audio", "vggsound clustering, audio nmi", "14.0"),
        ("degraded", None, "selavi, 1/1", "vggsound clustering, video nmi", "52.8"),
        ("hypotheses", None, "a", "hmdb51 retrieval, video R@5", "32.5"),
        ("hypotheses", None, "within-modal", "ucf101 finetune, video accuracy", "72.2"),
        ("shots", None, "rotation", "ucf101 few-shot, video SVM@20", "47.1"),
    ],
)
def test_published_numbers_stand_beside_the_right_line(name, method, row, column, cell):
    study = STUDIES[name]
    question = Question(Path("x"), 9, study.values, method=method)
    ours = Line(row, tuple((0.5,) for _ in study.columns(question)), 1)
    text = as_markdown(make_table(study, question, [ours]), [])
    head, _, *rows = [[c.strip() for c in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    line = next(r for r in rows if r[0] == row)
    assert cell in line[head.index(f"paper: {column}")]
    assert line[2] == "0.500"  # ours and theirs are one line


def test_curation_learns_from_as_many_of_both(finished, tmp_path, collection):
    whole = Manifest.load(finished.data)
    Manifest(whole.table.slice(0, 10)).save(tmp_path / "other.parquet")
    question = Question(finished.data, 4, ("0.5", "1", "7"), uncurated=tmp_path / "other.parquet")
    arms = STUDIES["curation"].arms(question)
    sizes = [(arm.uncurated, arm.config(question, 0).data.sample) for arm in arms]
    assert sizes == [(False, 5), (True, 5), (False, 10), (True, 10), (False, 7), (True, 7)]
    assert arms[1].config(question, 0).data.where == ()
    assert arms[0].config(question, 0).data.where == ("split=train",)


def test_a_curve_is_drawn_where_its_points_are():
    curves = (
        Curve("a <b>", ((2.0, (0.2, 0.4)), (4.0, (0.5, 0.5)), (8.0, (1.0, 1.0)))),
        Curve("c", ((2.0, (0.0,)), (8.0, (0.5,)))),
    )
    text = curves_svg(Picture("How <many>", "k", "NMI", curves, logarithmic=True))
    root = ElementTree.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    points = [(float(c.get("cx")), float(c.get("cy")), c[0].text) for c in root.iter(f"{space}circle")]
    assert [p[2] for p in points[:2]] == ["a <b>, 2: 0.300 ± 0.141", "a <b>, 4: 0.500"]
    # 2, 4 and 8 are evenly spaced; a score of 0.5 lies in the middle between 0 and 1.
    assert points[1][0] - points[0][0] == pytest.approx(points[2][0] - points[1][0], abs=0.2)
    assert points[1][1] == pytest.approx((points[2][1] + points[3][1]) / 2, abs=0.2)
    assert sum(path.get("class") == "spread" for path in root.iter(f"{space}path")) == 1


def test_numbers_are_found_at_their_path():
    runs = [{"a": {"b": {"value": 0.5, "low": 0}}}, {"a": {"b": 1}}, {"a": {}}, {}]
    assert numbers(runs, ("a", "b")) == (0.5, 1.0)
    assert np.isnan(numbers([{"a": float("nan")}], ("a",))[0])


def test_a_study_in_use_is_refused(done, collection):
    from seehear.engine.runfolder import RunFolder

    folder = StudyFolder(done.out)
    lock = folder.path / "run.lock"
    with RunFolder(folder.path).lock():
        holder = json.loads(lock.read_text()) | {"pid": os.getppid(), "started": None}
        lock.write_text(json.dumps(holder))
        with pytest.raises(RunError, match="in use"):
            seehear.study(
                "clusters", collection, out=done.out, values=("2",), seeds=(0,), settings=SETTINGS, quiet=True
            )
