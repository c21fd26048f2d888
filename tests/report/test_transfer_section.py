"""The report's section on saved evaluations: scores with intervals, confusions, classes; nothing of it can do harm."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from seehear.metrics.classification import confusion
from seehear.report.content import Content
from seehear.report.gather import gather
from seehear.report.page import render, render_section
from seehear.report.sections.transfer import LARGEST_CONFUSION, SECTION
from seehear.transfer.evaluations import save
from tests.report.test_report import Page

EVIL = "<script>alert(1)</script>"


@pytest.fixture
def run(finished_run, tmp_path) -> Path:
    shutil.copytree(
        finished_run, tmp_path / "run", ignore=shutil.ignore_patterns("evaluations", "features", "checkpoints")
    )
    return tmp_path / "run"


def result(classes: list[str], wrong: int = 1) -> dict:
    """Three test videos of each class, so many of which were taken for the first."""
    truth = np.repeat(classes, 3)
    predicted = truth.copy().reshape(-1, 3)
    predicted[1:, :wrong] = classes[0]
    share = float((predicted.ravel() == truth).mean())
    score = {"value": share, "low": share - 0.1, "high": share + 0.1}
    return {
        "description": "a classifier", "clips": 4, "train_videos": 1200, "test_videos": len(truth),
        "missing": {"train": {"unusable": 0}, "test": {"undecodable": 2, "not_on_disk": 5}},
        "scores": {"audio": {"accuracy": score, "d'": {"value": 2.5, "low": 2.0, "high": 3.0}}},
        "baselines": {"chance": {"audio": {"accuracy": {"value": 0.25}}}},
        "confusion": {"audio": confusion(truth, predicted.ravel())},
    }  # fmt: skip


def section(run: Path) -> Page:
    found = render_section(SECTION, Content(gather(run)))
    assert found is not None
    return Page(found.body)


def test_a_run_without_evaluations_has_no_such_section(run):
    assert SECTION.gather(Content(gather(run))) is None
    assert not Page(render(Content(gather(run)))).all("section", id="transfer")


def test_scores_stand_with_their_intervals_baselines_and_counts(run):
    save(run, "svm", result(list("abcd")), data="ucf101:/data", options={"clips": 4})
    page = section(run)
    for text in ("svm on ucf101 (clips 4)", "a classifier; 4 clips a video; 1,200 training and 12 test videos",
                 "left out of test: 2 undecodable, 5 not on disk", "75.0 %", "65.0 to 85.0", "25.0",
                 "2.50", "2.00 to 3.00"):  # fmt: skip
        assert text in page.text, text
    whole = Page(render(Content(gather(run))))
    assert whole.all("section", id="transfer")
    assert {"href": "#transfer"} in whole.all("a")


def test_confusions_are_drawn_with_their_counts_and_the_least_found_class_comes_first(run):
    save(run, "svm", result(list("abcd"), wrong=2), data="a.csv")
    page = section(run)
    (heat,) = [json.loads(a["data-heat"]) for a in page.all("svg") if "data-heat" in a]
    assert heat["counts"] == [[3, 0, 0, 0], [2, 1, 0, 0], [2, 0, 1, 0], [2, 0, 0, 1]]
    assert heat["unit"] == "video"
    assert (heat["rows"][1], heat["columns"][0]) == ("audio class b", "prediction a")
    rows = "".join(page.text.partition("F1")[2].split())
    assert rows.startswith("b333.3100.050.0")  # 3 videos, recall 1/3, precision 1, F1 1/2
    assert rows.endswith("a3100.033.350.0")


def save_splits(run: Path, kind: str) -> Page:
    """Two splits or folds, in the second of which no answer is wrong."""
    parts = {f"{kind}1": result(list("abcd")), f"{kind}2": result(list("abcd"), wrong=0)}
    mean = {"audio": {"accuracy": {"value": 0.875, "sd": 0.177}}}
    save(run, "svm", {"description": "a classifier", "scores": mean, "splits": parts}, data="ucf101:/data")
    return section(run)


def heats(page: Page) -> list[dict]:
    return [json.loads(a["data-heat"]) for a in page.all("svg") if "data-heat" in a]


def test_folds_stand_side_by_side_and_their_confusions_are_summed(run):
    page = save_splits(run, "fold")
    for text in ("87.5 %", "± 17.7", "fold1", "75.0", "100.0", "fold2: 1,200 training and 12 test", "are summed"):
        assert text in page.text, text
    (heat,) = heats(page)
    assert np.sum(heat["counts"]) == 24


def test_each_official_split_has_its_own_confusions(run):
    """They test some videos several times: a sum would count these more, and the page claims none."""
    page = save_splits(run, "split")
    assert "are summed" not in page.text and "confusions are those of each split" in page.text
    wrong, right = (np.array(heat["counts"]) for heat in heats(page))
    assert wrong.tolist() == [[3, 0, 0, 0], [1, 2, 0, 0], [1, 0, 2, 0], [1, 0, 0, 2]]
    assert right.tolist() == (3 * np.eye(4, dtype=int)).tolist()
    titles = [f"{split}, audio: confusion matrix" for split in ("split1", "split2")]
    assert [title for title in titles if title not in page.text] == []
    assert "split1, audio: scores of each class" in page.text
    assert len(page.all("details", class_="table")) == 2


def test_a_split_without_a_known_class_has_no_confusions(run):
    parts = {"split1": result(list("ab")), "split2": result(list("ab"))}
    parts["split2"]["confusion"]["audio"] = confusion(np.array([], dtype=str), np.array([], dtype=str))
    save(run, "svm", {"scores": {"audio": {"accuracy": {"value": 0.5}}}, "splits": parts}, data="ucf101:/data")
    page = section(run)
    assert len(heats(page)) == len(page.all("details", class_="table")) == 1


def test_a_matrix_too_large_to_read_is_left_out_and_its_classes_are_not(run):
    save(run, "svm", result([f"c{i}" for i in range(LARGEST_CONFUSION + 1)]), data="a.csv")
    page = section(run)
    assert not page.all("svg")
    assert "c400" in page.text


def test_evaluations_of_clusters_and_damaged_files_are_passed_over(run):
    save(run, "clustering", {"scores": {"both": {"nmi": 0.5}}})
    bad = save(run, "svm", result(list("ab")), data="a.csv")
    bad.write_text("{")
    assert SECTION.gather(Content(gather(run))) is None


def test_names_cannot_do_harm(run):
    scripts = len(Page(render(Content(gather(run)))).all("script"))
    save(run, "svm", result([EVIL, "b"]), data=f"/data/{EVIL.replace('/', '')}.csv", options={"label_column": EVIL})
    text = render(Content(gather(run)))
    assert EVIL not in text
    page = Page(text)
    assert EVIL in page.text
    assert len(page.all("script")) == scripts
