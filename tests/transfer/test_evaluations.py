"""Saved evaluations and the table over runs: what is kept, grouped, averaged, marked, and printed how."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy.stats import ttest_ind
from sklearn.metrics import confusion_matrix

import seehear
from seehear.cli import main
from seehear.data.datasets import READERS
from seehear.errors import DataError, RunError
from seehear.hypotheses.language import NAMED
from seehear.hypotheses.language import rows as rows_of_table_1
from seehear.localization.metrics import SETTINGS
from seehear.metrics.clustering import METRICS
from seehear.transfer import evaluations
from seehear.transfer.evaluations import data_name, load_all, save
from seehear.transfer.protocols import PROTOCOLS
from seehear.transfer.table import Block, Cell, Table, make_table, published, render
from tests.commands import run as command


@pytest.fixture
def make_run(finished_run, tmp_path):
    """Copies of the finished run's settings and videos, with other settings; nothing else is in them."""

    def make(name: str, **changes: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        shutil.copy(finished_run / "manifest.parquet", folder)
        config = yaml.safe_load((finished_run / "config.yaml").read_text())
        for key, value in changes.items():
            section, _, field = key.rpartition("__")
            (config[section] if section else config)[field] = value
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        return folder

    return make


def scores(**values: float) -> dict[str, Any]:
    """A result with these video scores, their intervals 0.02 to either side."""
    return {"scores": {"video": {n: {"value": v, "low": v - 0.02, "high": v + 0.02} for n, v in values.items()}}}


# ---------------------------------------------------------------- saving


@pytest.fixture(scope="module")
def saved(finished_run, collection, tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    """A run with one evaluation, made by the command, and what the command printed as JSON."""
    run = tmp_path_factory.mktemp("saved") / "run"
    shutil.copytree(finished_run, run, ignore=shutil.ignore_patterns("evaluations"))
    result = seehear.evaluate(run, protocol="svm", data=collection, clips=2)
    return run, result


def test_an_evaluation_is_kept_with_all_that_tells_what_it_is(saved, collection):
    run, result = saved
    ((evaluation,), damaged) = load_all(run)
    assert not damaged
    assert re.fullmatch(rf"svm-{collection.parent.name}-[0-9a-f]{{8}}\.json", evaluation.path.name)
    record = evaluation.record
    assert (record["protocol"], record["data"]["path"]) == ("svm", str(collection))
    assert record["options"] == {"clips": 2}
    assert record["run"] == {"path": str(run), "method": "xdc", "recipe": "small", "seed": 0}
    assert {"seehear_version", "torch", "scikit-learn", "command"} <= record["environment"].keys()
    assert record["result"]["scores"] == evaluation.scores() == result["scores"]
    assert record["result"]["missing"] == result["missing"]
    assert record["result"]["chosen"] == result["chosen"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", record["date_utc"])


def test_the_confusion_matrix_agrees_with_the_accuracy(saved):
    run, result = saved
    record = load_all(run)[0][0].record
    for modality, matrix in record["confusion"].items():
        counts = np.array(matrix["counts"])
        assert counts.sum() == result["test_videos"] == 6
        accuracy = result["scores"][modality]["accuracy"]["value"]
        assert np.trace(counts) / counts.sum() == pytest.approx(accuracy)
        recalls = {row["class"]: row["recall"] for row in record["per_class"][modality]}
        for i, name in enumerate(matrix["classes"]):
            if counts[i].any():
                assert recalls[name] == pytest.approx(counts[i, i] / counts[i].sum())


def test_the_same_evaluation_replaces_itself_and_another_stands_beside_it(make_run):
    run = make_run("run")
    first = save(run, "knn", scores(accuracy=0.5), data="splits.csv", options={"clips": 3})
    again = save(run, "knn", scores(accuracy=0.6), data="splits.csv", options={"clips": 3, "baselines": True})
    other = save(run, "knn", scores(accuracy=0.7), data="splits.csv", options={"clips": 5})
    assert first == again != other
    found, _ = load_all(run)
    assert sorted(e.scores()["video"]["accuracy"]["value"] for e in found) == [0.6, 0.7]


def test_defaults_given_or_not_are_the_same_evaluation(make_run):
    run = make_run("run")
    options = {"label_column": "label", "shots": (1, 5, 20), "seeds": 10, "clips": None, "progress": print}
    assert save(run, "few-shot", scores(), data="a.csv") == save(
        run, "few-shot", scores(), data="a.csv", options=options
    )
    assert load_all(run)[0][0].options == {}


def test_a_seed_that_is_not_the_runs_own_is_a_choice(make_run):
    run = make_run("run", seed=3)
    save(
        run, "finetune", scores(accuracy=0.5), data="a.csv", options={"seed": 0, "set": ["optim.epochs=2", "rounds=1"]}
    )
    words = load_all(run)[0][0].command("runs/x")
    path = Path("a.csv").absolute()
    changes = "--set optim.epochs=2 --set rounds=1"
    assert words == f"seehear finetune runs/x --data {path} --seed 0 {changes} --out runs/x-finetuned"


@pytest.mark.parametrize("kind", ["fold", "split"])
def test_confusions_of_folds_are_summed_and_those_of_official_splits_are_not(kind, make_run):
    rng = np.random.default_rng(0)
    truth, predicted = rng.choice(list("abc"), (2, 40))
    parts = [
        {
            "confusion": {
                "video": {"classes": list("abc"), "counts": confusion_matrix(t, p, labels=list("abc")).tolist()}
            }
        }
        for t, p in ((truth[:15], predicted[:15]), (truth[15:], predicted[15:]))
    ]
    run = make_run("run")
    save(
        run,
        "svm",
        scores(accuracy=0.4) | {"splits": {f"{kind}1": parts[0], f"{kind}2": parts[1]}},
        data="x.csv",
    )
    record = load_all(run)[0][0].record
    assert [record["result"]["splits"][f"{kind}{i + 1}"]["confusion"] for i in (0, 1)] == [
        p["confusion"] for p in parts
    ]
    if kind == "split":  # a video may be tested in several
        assert record["confusion"] == record["per_class"] == {}
    else:
        assert record["confusion"]["video"]["counts"] == confusion_matrix(truth, predicted).tolist()


def test_numbers_that_json_does_not_have_are_null(make_run):
    path = save(make_run("run"), "knn", scores(accuracy=0.5) | {"x": float("nan"), "y": np.arange(2)}, data="a.csv")
    assert json.loads(path.read_text())["result"]["x"] is None
    assert json.loads(path.read_text())["result"]["y"] == [0, 1]


def test_a_crash_leaves_the_old_file(make_run, monkeypatch):
    run = make_run("run")
    path = save(run, "knn", scores(accuracy=0.5), data="a.csv")
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "no space left on device")

    monkeypatch.setattr("seehear.files.os.replace", full)
    assert save(run, "knn", scores(accuracy=0.9), data="a.csv") is None
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_what_has_no_run_folder_is_not_kept(tmp_path):
    assert save(tmp_path, "knn", scores(accuracy=0.5), data="a.csv") is None
    assert save("untrained:small", "knn", scores(accuracy=0.5), data="a.csv") is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", ["cut", "list", "version", "scores"])
def test_a_file_that_holds_no_evaluation_is_named_and_passed_over(damage, make_run):
    run = make_run("run")
    save(run, "knn", scores(accuracy=0.5), data="a.csv")
    bad = save(run, "svm", scores(accuracy=0.5), data="a.csv")
    record = json.loads(bad.read_text())
    content: Any = {
        "cut": bad.read_text()[:50], "list": "[]", "version": json.dumps(record | {"version": 9}),
        "scores": json.dumps(record | {"result": {"scores": {"video": {"accuracy": {"value": "high"}}}}}),
    }[damage]  # fmt: skip
    bad.write_text(content)
    found, damaged = load_all(run)
    assert [e.protocol for e in found] == ["knn"]
    assert damaged == [bad]
    assert any(str(bad) in note for note in make_table([run]).notes)


@pytest.mark.parametrize(
    ("spec", "name"),
    [("ESC50:/data/esc", "esc50"), ("/data/vizdoom/manifest.csv", "vizdoom"), ("hard.parquet", "hard"),
     ("C:/x/drums.csv", "drums")],
)  # fmt: skip
def test_data_is_called_by_what_tells_most(spec, name):
    assert data_name(spec) == name


# ---------------------------------------------------------------- the table


def test_runs_that_differ_in_their_seed_alone_are_averaged(make_run):
    values = {"a": 0.5, "b": 0.6, "c": 0.7}
    runs = [make_run(name, seed=seed) for seed, name in enumerate(values)]
    runs.append(make_run("gdt", method="gdt"))
    for run in runs:
        save(run, "retrieval", scores(**{"R@1": values.get(run.name, 0.1)}), data="ucf101:/data/ucf")
    table = make_table(runs)
    assert list(table.runs.values()) == [tuple(map(str, runs[:3])), (str(runs[3]),)]
    cell = table.blocks[0].cells["xdc small", "video", "R@1"]
    assert (cell.mean, cell.sd) == (pytest.approx(0.6), pytest.approx(0.1))
    text = render(table, "text")
    assert re.search(r"xdc small +3 +60\.0 ± 10\.0\n", text)
    assert re.search(r"gdt small +1 +10\.0 \[8\.0, 12\.0\]\n", text)


def test_machinery_does_not_part_a_group_and_settings_do(make_run):
    runs = [
        make_run("a", seed=0), make_run("b", seed=1, threads=4, data__workers=1), make_run("c", seed=2, cluster__k=9),
    ]  # fmt: skip
    for run in runs:
        save(run, "knn", scores(accuracy=0.5), data="a.csv")
    assert make_table(runs).runs == {
        "xdc small, cluster.k=4": (str(runs[0]), str(runs[1])), "xdc small, cluster.k=9": (str(runs[2]),)
    }  # fmt: skip


def test_a_seed_counts_once(make_run):
    runs = [make_run("a"), make_run("b")]
    for run, value in zip(runs, (0.5, 0.9), strict=True):
        save(run, "knn", scores(accuracy=value), data="a.csv")
    table = make_table([*runs, runs[0]])
    assert table.blocks[0].cells["xdc small", "video", "accuracy"].values == (0.5,)
    assert any("b is left out" in note for note in table.notes)


def test_what_a_run_lacks_is_named_with_a_command_that_works(make_run, capsys):
    runs = [make_run("a"), make_run("b", seed=1)]
    options = {"clips": 4, "paper": "gdt", "shots": (1, 2)}
    save(runs[0], "few-shot", scores(**{"1-NN@1": 0.5}), data="it's.csv", options=options)
    (note,) = make_table(runs).notes
    words = shlex.split(note.partition(": ")[2])
    expected = ["evaluate", "few-shot", str(runs[1]), "--data", str(Path("it's.csv").absolute())]
    assert words == ["seehear", *expected, "--clips", "4", "--protocol", "gdt", "--shots", "1,2"]
    with pytest.raises(SystemExit) as end:  # the options are the command's: it gets as far as the missing data
        main(words[1:])
    assert end.value.code == 3
    assert "it's.csv" in capsys.readouterr().err


def test_without_evaluations_the_commands_that_make_them_are_shown(make_run):
    run = make_run("a")
    with pytest.raises(DataError, match=r"no saved evaluations on esc50:/x") as error:
        make_table([run], "esc50:/x")
    assert f"seehear evaluate linear {run} --data esc50:/x" in str(error.value)
    with pytest.raises(RunError, match="not a run folder"):
        make_table([run.parent / "nothing"])


def test_other_options_and_data_are_other_blocks(make_run):
    run = make_run("a")
    save(run, "knn", scores(accuracy=0.1), data="a.csv")
    save(run, "knn", scores(accuracy=0.2), data="a.csv", options={"clips": 3, "pooling": "max"})
    save(run, "knn", scores(accuracy=0.3), data="b.csv")
    save(run, "clustering", {"scores": {"both": {"nmi": 0.5, "mean_entropy_nats": 1.2, "n": 9, "k": 4}}})
    table = make_table([run])
    titles = ["knn · a (clips 3, pooling max)", "knn · a (no options)", "knn · b", "clustering · the runs' own classes"]
    assert sorted(b.title for b in table.blocks) == sorted(titles)
    clusters = next(b for b in table.blocks if b.protocol == "clustering")
    assert clusters.columns == (("both", "nmi"), ("both", "mean_entropy_nats"))  # counts are no scores
    assert "1.20" in render(table, "text")
    assert [b.data for b in make_table([run], "x/b.csv").blocks] == ["b"]


def block(*groups: tuple[float, ...], metric: str = "accuracy", half: float = 0.0) -> Block:
    cells = {
        (f"g{i}", "video", metric): Cell(v, tuple(x - half for x in v), tuple(x + half for x in v))
        for i, v in enumerate(groups)
    }
    return Block("svm", "a", "", (("video", metric),), cells)


@pytest.mark.parametrize(
    ("groups", "half", "best"),
    [
        (((0.9, 0.91, 0.92), (0.5, 0.52, 0.51)), 0.05, "g0"),
        (((0.5, 0.52, 0.51), (0.9, 0.91, 0.92)), 0.05, "g1"),
        (((0.9, 0.5, 0.7), (0.5, 0.6, 0.4)), 0.0, None),  # the seeds scatter
        (((0.9, 0.91, 0.92), (0.85, 0.86, 0.87)), 0.1, None),  # the test videos are few
        (((0.9,), (0.5, 0.5, 0.5)), 0.0, None),  # one seed says nothing of seeds
        (((0.9, 0.91, 0.92), (0.5, 0.52, 0.51), (0.9, 0.91, 0.93)), 0.0, None),  # one of three is as good
        (((0.9, 0.91, 0.92),), 0.0, None),
    ],
)
def test_only_what_is_beyond_noise_stands_out(groups, half, best):
    assert block(*groups, half=half).standing_out("video", "accuracy") == best


def test_less_entropy_is_better():
    found = block((1.0, 1.01, 0.99), (2.0, 2.01, 1.99), metric="mean_entropy_nats")
    assert found.standing_out("video", "mean_entropy_nats") == "g0"


def test_noise_over_seeds_is_judged_by_welchs_test():
    rng = np.random.default_rng(0)
    judged = []
    for _ in range(60):
        a, b = rng.normal(0.56, 0.03, 4), rng.normal(0.5, 0.05, 3)
        better = a.mean() > b.mean()
        expected = ttest_ind(a, b, equal_var=False).pvalue < 0.05
        judged.append(expected)
        assert block(tuple(a), tuple(b)).standing_out("video", "accuracy") == (
            ("g0" if better else "g1") if expected else None
        )
    assert 0 < sum(judged) < 60


# ---------------------------------------------------------------- published numbers and formats


def test_published_numbers_are_shares_with_a_source_in_the_papers():
    rows = published()
    assert len({(p.row, p.data, p.protocol, p.modality, p.metric, p.source) for p in rows}) == len(rows)
    for p in rows:
        assert 0 < p.percent <= 100
        assert re.match(r"(XDC|GDT|SeLaVi), (table|section) ", p.source)
        assert p.protocol in (*PROTOCOLS, "finetune", "fc-only", "clustering", "localization")
        assert p.modality in ("video", "audio", "both")
        assert p.data in (*READERS, "thumos14")
        if p.protocol == "clustering":
            assert p.metric in METRICS
        if p.protocol == "localization":
            assert p.metric in SETTINGS


# How many numbers each table has, not counting "NA": rows times columns as printed.
PRINTED = {
    "XDC, table 1": 3 * 6 + 3, "XDC, table 2": 9 * 5, "XDC, table 3": 10 * 3 - 1, "XDC, table 4": 3 * 6,
    "XDC, table 8": 3 * 5, "XDC, table 13": 3 * 3, "GDT, table 1": 13 * 2, "GDT, table A.1": 2 * 4,
    "SeLaVi, table 3": 7 * 2, "SeLaVi, table 5(a)": 6 * 5, "SeLaVi, table 5(b)": 6 * 5, "SeLaVi, table 5(c)": 6 * 5,
    "SeLaVi, table 5(d)": 6 * 5, "SeLaVi, table A.2": 4 * 5,
}  # fmt: skip


@pytest.mark.parametrize("table", PRINTED)
def test_a_published_table_is_there_as_a_whole(table):
    found = [p for p in published() if re.match(rf"{re.escape(table)}(?![\d.])", p.source)]
    assert len(found) == PRINTED[table]


@pytest.mark.parametrize(
    ("row", "data", "metric", "source", "percent"),
    [  # a number of every table, read off its page once more
        ("XDC (R(2+1)D-18, AudioSet-240K)", "hmdb51", "accuracy", "XDC, table 2: k = 128, split 1, 8 frames", 42.6),
        ("XDC (ResNet-18, Kinetics-400)", "esc50", "accuracy", "XDC, table 2: k = 1024, fold 1", 71.5),
        ("supervised (ResNet-18, AudioSet)", "esc50", "accuracy", "XDC, table 3: fold 1", 90.3),
        ("XDC (R(2+1)D-18, IG-Random)", "ucf101", "accuracy", "XDC, table 4: 16M videos, split 1, 8 frames", 84.1),
        ("AVTS (R(2+1)D-18, AudioSet)", "ucf101", "accuracy", "XDC, table 7(a): all splits", 89.1),
        ("XDC (R(2+1)D-18, IG-Kinetics)", "thumos14", "mAP@0.5", "XDC, table 8: G-TAD", 37.2),
        ("XDC (ResNet3D-18, Kinetics-400)", "hmdb51", "accuracy", "XDC, table 13: split 1, 8 frames", 36.3),
        ("GDT (R(2+1)D-18, Kinetics-400)", "hmdb51", "R@5", "GDT, table 1(m): 100 epochs, split 1", 47.8),
        ("3DRot (pretraining not stated)", "ucf101", "SVM@20", "GDT, table 2", 47.1),
        (
            "GDT (R(2+1)D-18, Kinetics-400)", "ucf101", "accuracy", "GDT, table A.1: within-modal, 50 epochs, split 1",
            68.3,
        ),
        ("SeLa (R(2+1)D-18, VGG-Sound)", "vggsound", "nmi", "SeLaVi, table 3(a): frames alone, 100 epochs", 20.1),
        ("SeLaVi (R(2+1)D-18, ResNet-9, VGG-Sound, AVE)", "ave", "ari", "SeLaVi, table 5(b)", 43.0),
        (
            "supervised (R(2+1)D-18, Kinetics-400)", "kinetics400", "mean_entropy_nats", "SeLaVi, table 5(c), k-means",
            1.6,
        ),
        ("MIL-NCE (S3D, HowTo100M)", "kinetics-sounds", "accuracy", "SeLaVi, table 5(d), k-means", 37.8),
        ("SeLaVi (R(2+1)D-18, ResNet-9, VGG-Sound)", "vggsound", "accuracy", "SeLaVi, table A.2: K = 1024", 9.6),
    ],
)  # fmt: skip
def test_published_numbers_are_as_printed(row, data, metric, source, percent):
    found = [p.percent for p in published() if (p.row, p.data, p.metric, p.source) == (row, data, metric, source)]
    assert found == [percent]


def test_rows_of_gdts_table_1_are_those_of_the_specifications():
    for name in rows_of_table_1():
        source = f"GDT, table 1({name}): 100 epochs, split 1"
        found = {p.metric: p.percent for p in published() if p.source == source}
        assert found == {"accuracy": NAMED[name].accuracy, "R@5": NAMED[name].recall5}


def test_published_rows_stand_below_matching_data_alone(make_run):
    run = make_run("a")
    save(run, "retrieval", scores(**{"R@1": 0.5, "R@7": 0.5}), data="hmdb51:/data")
    save(run, "knn", scores(accuracy=0.5), data="hmdb51:/data")
    save(run, "retrieval", scores(**{"R@1": 0.5}), data="own.csv")
    blocks = {(b.protocol, b.data): b for b in make_table([run]).blocks}
    assert {p.metric for p in blocks["retrieval", "hmdb51"].published} == {"R@1"}
    assert not blocks["knn", "hmdb51"].published
    assert not blocks["retrieval", "own"].published
    text = render(make_table([run]), "text")
    line = next(line for line in text.splitlines() if line.startswith("SeLaVi"))
    assert re.fullmatch(
        r"SeLaVi \(R\(2\+1\)D-18, pretraining not stated\); SeLaVi, table 4: split 1 +published +24\.8", line
    )


class Cells(HTMLParser):
    """Texts of the cells of a page, and of those that are bold."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.bold: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open):
            self.cells.append(data)
        if "b" in self.open:
            self.bold.append(data)


@pytest.fixture
def table() -> Table:
    cells = {
        ("a_b & <c>", "video", "accuracy"): Cell((0.9, 0.91, 0.92)),
        ("x", "video", "accuracy"): Cell((0.5, 0.52, 0.51)),
        ("x", "audio", "mAP"): Cell((0.25,), (0.2,), (0.3,)),
    }
    of_paper = tuple(p for p in published() if (p.data, p.protocol) == ("hmdb51", "fc-only"))
    made = Block("fc-only", "hmdb51", "", (("video", "accuracy"), ("audio", "mAP")), cells, of_paper)
    return Table((made,), {}, ("a 100% note",))


def test_every_format_has_the_same_numbers(table):
    numbers = ("91.0 ± 1.0", "51.0 ± 1.0", "25.0 [20.0, 30.0]")
    text = render(table, "text")
    assert all(n in text for n in numbers)
    assert "91.0 ± 1.0 *" in text
    assert "51.0 ± 1.0 *" not in text
    page = Cells(render(table, "html"))
    assert set(numbers) <= set(page.cells)
    assert page.bold == ["91.0 ± 1.0"]
    assert "a_b & <c>" in page.cells
    tex = render(table, "latex")
    assert r"a\_b \& \textless{}c\textgreater{} & 3 & \textbf{91.0 $\pm$ 1.0} \\" in tex
    assert tex.count(r"\textbf") == 1
    bodies = re.findall(r"\\begin\{tabular\}\{(\w+)\}(.*?)\\end\{tabular\}", tex, re.DOTALL)
    assert [len(columns) for columns, _ in bodies] == [3, 3]  # sight and sound
    assert all(row.count(" & ") == 2 for _, body in bodies for row in re.findall(r"(.*)\\\\", body))
    rows = list(csv.DictReader(io.StringIO(render(table, "csv"))))
    first = rows[0]
    assert (first["group"], float(first["mean"]), first["seeds"], first["stands_out"]) == ("a_b & <c>", 0.91, "3", "1")
    assert float(first["sd"]) == pytest.approx(0.01)
    assert [(r["low"], r["high"]) for r in rows if r["metric"] == "mAP"] == [("0.2", "0.3")]
    printed = {r["source"]: float(r["mean"]) for r in rows if r["source"]}
    assert printed["GDT, table A.3: all splits"] == 0.551


def test_nothing_is_marked_where_there_is_one_seed(make_run):
    runs = [make_run("a"), make_run("b", method="gdt")]
    for run, value in zip(runs, (0.2, 0.9), strict=True):
        save(run, "knn", scores(accuracy=value), data="a.csv")
    table = make_table(runs)
    assert " *" not in render(table, "text")
    assert "<b>" not in render(table, "html")
    assert "one seed" in render(table, "text")


def test_the_command_prints_and_writes_tables(saved, tmp_path, capsys):
    run, result = saved
    code, out, _ = command(capsys, "evaluate", "table", run)
    assert code == 0
    value = result["scores"]["audio"]["accuracy"]["value"]
    assert f"{100 * value:.1f} [" in out
    code, out, _ = command(capsys, "evaluate", "table", run, "--format", "csv", "--out", tmp_path / "t.csv")
    assert (code, out) == (0, f"table: {tmp_path / 't.csv'}\n")
    assert {r["protocol"] for r in csv.DictReader((tmp_path / "t.csv").open())} == {"svm"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["table"], "needs runs"),
        (["table", "{run}", "--clips", "3"], "--clips"),
        (["svm", "{run}", "{run}", "--data", "x.csv"], "Unrecognized"),
        (["svm", "{run}", "--data", "x.csv", "--format", "csv"], "--format"),
    ],
)
def test_mistakes_of_the_command_are_explained(arguments, words, saved, capsys):
    code, _, said = command(capsys, "evaluate", *(a.format(run=saved[0]) for a in arguments))
    assert code == 2
    assert words in said


def test_the_command_keeps_what_it_scored(saved, collection, capsys):
    run, _ = saved
    code, out, _ = command(capsys, "evaluate", "clustering", run)
    assert code == 0
    kept = Path(re.search(r"kept: (.*)", out)[1])
    assert kept.parent == run / evaluations.FOLDER
    assert set(json.loads(kept.read_text())["result"]["scores"]) == {"video", "audio", "both"}
    kept.unlink()
