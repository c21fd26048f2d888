"""A search over hypotheses: what is tried, that it goes on after a stop, and what it leaves."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from seehear.cli import main
from seehear.config import Config
from seehear.data.clips import held_out
from seehear.data.manifest import Manifest
from seehear.data.scanning import scan
from seehear.errors import DataError, Interrupted, RunError, UsageError
from seehear.hypotheses import search as module
from seehear.hypotheses.language import parse
from seehear.hypotheses.search import make_search_config, search_hypotheses
from seehear.hypotheses.search_result import Trial, as_csv, as_html, as_text, common_epochs, effects
from seehear.pretraining.run import pretrain
from tests.conftest import TINY_SETTINGS

optuna = pytest.importorskip("optuna")

SETTINGS = (
    *TINY_SETTINGS, "rounds=1", "data.validation_share=0.3", "gdt.dimensions=16", "optim.warmup_epochs=0.5",
    "cluster.k=2", "cluster.restarts=1", "cluster.iterations=2",
)  # fmt: skip


def tiny(epochs: int = 1, *more: str) -> Config:
    return make_search_config(seed=3, settings=[*SETTINGS, f"optim.epochs={epochs}", *more])


def search(videos: Path | Manifest, out: Path, config: Config | None = None, **options: Any) -> dict[str, Any]:
    options = {"factors": ["reversal"], "criterion": "retrieval", **options}
    return search_hypotheses(videos, out, config or tiny(), quiet=True, **options)


@pytest.fixture(scope="module")
def manifest(collection: Path) -> Manifest:
    return scan(collection, workers=1)


@pytest.fixture(scope="module")
def grid(manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("search") / "grid"
    return out, search(manifest, out)


def count_pretrainings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    begun: list[str] = []

    def counted(source: Any, out: Any, *arguments: Any, **options: Any) -> Path:
        begun.append(Path(out).name)
        return pretrain(source, out, *arguments, **options)

    monkeypatch.setattr(module, "pretrain", counted)
    return begun


def test_a_grid_tries_every_specification_that_differs(grid: tuple[Path, dict[str, Any]]) -> None:
    out, result = grid
    assert result["specifications"] == len(result["trials"]) == 4
    assert {t["choices"]["reversal"] for t in result["trials"]} == {"absent", "distinct", "invariant", "ignore"}
    scores = [t["score"] for t in result["trials"]]
    assert scores == sorted(scores, reverse=True) and all(0 <= s <= 1 for s in scores)
    for t in result["trials"]:
        assert (Path(t["run"]) / "labels.parquet").exists() and t["state"] == "complete"
        assert t["chance"] == pytest.approx(1 / result["held_out_clips"])
    study = optuna.load_study(study_name="hypotheses", storage=f"sqlite:///{out / 'study.db'}")
    assert study.best_value == max(scores) and len(study.trials) == 4


def test_results_are_a_table_a_page_and_json(grid: tuple[Path, dict[str, Any]]) -> None:
    out, result = grid
    rows = list(csv.DictReader((out / "results.csv").open()))
    assert [row["reversal"] for row in rows] == [t["choices"]["reversal"] for t in result["trials"]]
    assert [parse(row["specification"]) for row in rows]
    page = (out / "results.html").read_text()
    assert page.count('class="row complete"') == 4 and "<script" not in page and "http://" not in page
    assert json.loads((out / "results.json").read_text())["trials"][0]["score"] == result["trials"][0]["score"]
    assert "reversal distinct" in as_text(result)


def test_called_again_it_trains_nothing_anew(
    grid: tuple[Path, dict[str, Any]], manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, result = grid
    begun = count_pretrainings(monkeypatch)
    again = search(manifest, out)
    assert begun == [] and again["trials"] == result["trials"]
    assert len(optuna.load_study(study_name="hypotheses", storage=f"sqlite:///{out / 'study.db'}").trials) == 4
    with pytest.raises(RunError, match="other options: factors"):
        search(manifest, out, factors=["rotation"])


def test_a_search_that_was_killed_ends_as_one_that_was_not(
    grid: tuple[Path, dict[str, Any]], manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the second trial, then killed before a score is kept, then between a folder and its settings."""
    out, seen = tmp_path / "search", []

    def stopped(source: Any, run: Any, config: Config, **options: Any) -> Path:
        seen.append(Path(run).name)
        if len(seen) == 2:
            options["after_epoch"] = None
            monkeypatch.setattr("seehear.engine.stop.StopRequest.__bool__", lambda self: len(seen) == 2)
        return pretrain(source, run, config, **options)

    monkeypatch.setattr(module, "pretrain", stopped)
    with pytest.raises(Interrupted, match="the search and its trial are saved"):
        search(manifest, out)
    monkeypatch.undo()
    (out / "runs" / "none" / "scores.json").unlink()
    half = out / "runs" / "reversal-ignore"
    half.mkdir()
    (half / "env.json").write_text("{}")
    begun = count_pretrainings(monkeypatch)
    result = search(manifest, out)
    assert begun == ["reversal-distinct", "reversal-invariant", "reversal-ignore"]
    assert [(t["choices"], t["score"], t["details"]) for t in result["trials"]] == [
        (t["choices"], t["score"], t["details"]) for t in grid[1]["trials"]
    ]


def test_a_signal_while_a_trial_is_scored_stops_the_search(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module._Search, "_train", lambda self, *arguments: self._watch())
    monkeypatch.setattr(module, "_model_of", lambda folder: folder.path.mkdir(parents=True))
    scored: list[int] = []

    def score(self: Any, model: Any, progress: Any) -> dict[str, float]:
        scored.append(1)
        os.kill(os.getpid(), signal.SIGTERM)
        return {"value": 0.5, "low": 0.4, "high": 0.6, "chance": 0.1}

    monkeypatch.setattr(module._Scorer, "score", score)
    for count in (1, 2):
        with pytest.raises(Interrupted, match="stopped by SIGTERM; the search and its trial are saved"):
            search(manifest, tmp_path / "s")
        assert len(scored) == count


def test_halving_stops_the_worse_half_early_and_the_others_end_as_without_stops(
    grid: tuple[Path, dict[str, Any]], manifest: Manifest, tmp_path: Path
) -> None:
    out, config = tmp_path / "halving", tiny(4)
    result = search(manifest, out, config, sampler="halving")
    assert [(t["epochs"], t["state"]) for t in result["trials"]] == [
        (4, "complete"), (2, "pruned"), (1, "pruned"), (1, "pruned")
    ]  # fmt: skip
    first = [t["by_epochs"][1] for t in result["trials"]]
    assert min(first[:2]) >= max(first[2:])
    winner = result["trials"][0]
    alone = tmp_path / "alone"
    spec = module.replace(config, gdt=module.replace(config.gdt, hypotheses=winner["specification"]))
    pretrain(manifest, alone, spec, quiet=True)
    weights = "model/model.safetensors"
    assert (alone / weights).read_bytes() == (Path(winner["run"]) / weights).read_bytes()
    study = optuna.load_study(study_name="hypotheses", storage=f"sqlite:///{out / 'study.db'}")
    assert sorted(t.state.name for t in study.trials) == ["COMPLETE", "PRUNED", "PRUNED", "PRUNED"]
    assert search(manifest, out, config, sampler="halving")["trials"] == result["trials"]


def test_tpe_tries_different_ones_and_goes_on_after_a_kill(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = iter(range(100))

    def trained(self: Any, trial: Trial, epochs: int) -> None:
        trial.score = trial.low = trial.high = 0.5 + 0.1 * (trial.choices["reversal"] == "distinct")
        trial.chance, trial.epochs, trial.by_epochs = 0.1, epochs, {epochs: trial.score}
        if next(scored) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(module._Search, "reach", trained)
    options = {"factors": ["reversal", "time_shift"], "sampler": "tpe"}
    with pytest.raises(KeyboardInterrupt):
        search(manifest, tmp_path / "s", budget=6, **options)
    result = search(manifest, tmp_path / "s", budget=6, **options)
    assert len({t["run"] for t in result["trials"]}) == 6 and result["specifications"] == 13
    study = optuna.load_study(study_name="hypotheses", storage=f"sqlite:///{tmp_path / 's' / 'study.db'}")
    states = [t.state.name for t in study.trials]
    assert states == ["COMPLETE"] * 6
    every = search(manifest, tmp_path / "s", **options)
    assert len(every["trials"]) == 13 and every["trials"][0]["choices"]["reversal"] == "distinct"


def test_labels_are_those_of_the_training_split_alone(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[set[str]] = []
    real = module.logistic_regression

    def watched(train: Any, labels: Any, test: Any) -> Any:
        asked.append(set(labels))
        return real(train, labels, test)

    monkeypatch.setattr(module, "logistic_regression", watched)
    result = search(manifest, tmp_path / "s", criterion="labels", budget=1)
    assert len(asked) == 1 and 0 <= result["trials"][0]["score"] <= 1
    scorer = module._Scorer(manifest, tiny(), "labels", "label", "split")
    splits = manifest.by_id("split")
    assert {splits[v.video_id] for v in scorer.videos} == {"train"} and "test" in splits.values()
    assert scorer.held == {v.video_id for v in scorer.videos if held_out(v.video_id, 0.3)} and scorer.clips >= 2


def test_what_is_wrong_is_said_before_anything_is_trained(manifest: Manifest, tmp_path: Path) -> None:
    for options, words in (
        ({"criterion": "taste"}, "no criterion"),
        ({"sampler": "dice"}, "no sampler"),
        ({"factors": ["warp"]}, "no such factor"),
        ({"factors": []}, "name each factor"),
        ({"budget": 0}, "budget"),
        ({"config": tiny(1, "data.validation_share=0")}, "nothing is held out"),
        ({"criterion": "labels", "label_column": "mood"}, "no column 'mood'"),
    ):
        with pytest.raises(UsageError, match=words):
            search(manifest, tmp_path / words.replace(" ", "_"), **options)
    with pytest.raises(DataError, match="clips are held out"):
        search(manifest, tmp_path / "few", tiny(1, "data.validation_share=0.001"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").write_text("a")
    with pytest.raises(RunError, match="holds no search"):
        search(manifest, tmp_path / "full")


def test_without_optuna_the_remedy_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(SystemExit) as end:
        main(["search-hypotheses", str(tmp_path), "--criterion", "retrieval", "--out", str(tmp_path / "s")])
    assert end.value.code == 2 and "pip install 'seehear[search]'" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


def test_the_command_prints_a_table(grid: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    settings = [word for s in (*SETTINGS, "optim.epochs=1") for word in ("--set", s)]
    command = ["search-hypotheses", str(grid[0] / "manifest.parquet"), "--criterion", "retrieval", "--seed", "3"]
    main([*command, "--factors", "reversal", "--out", str(grid[0]), "--quiet", *settings])
    assert "reversal distinct" in capsys.readouterr().out
    main([*command, "--factors", "reversal", "--out", str(grid[0]), "--quiet", "--json", *settings])
    assert json.loads(capsys.readouterr().out)["trials"] == json.loads(json.dumps(grid[1]["trials"]))


def made(choices: dict[str, str], score: float, **more: Any) -> Trial:
    return Trial("sample=distinct", choices, "runs/<a>", "complete", 4, score, score, score, 0.1, {4: score}, **more)


def test_effects_compare_what_is_equal_but_for_one_factor() -> None:
    a, b = "time_shift", "reversal"
    trials = [
        made({a: "absent", b: "absent"}, 0.2), made({a: "distinct", b: "absent"}, 0.4),
        made({a: "absent", b: "distinct"}, 0.3), made({a: "distinct", b: "distinct"}, 0.7),
        made({a: "invariant", b: "ignore"}, 0.9),
    ]  # fmt: skip
    found = effects(trials, [a, b])
    assert found[a]["distinct"] == pytest.approx({"mean": 0.55, "trials": 2, "against_absent": 0.3, "pairs": 2})
    assert found[a]["invariant"] == {"mean": 0.9, "trials": 1} and "ignore" not in found[a]
    assert effects([], [a]) == {}


def test_effects_use_the_epochs_that_all_trials_have() -> None:
    whole = made({"reversal": "distinct"}, 0.8)
    whole.by_epochs = {1: 0.1, 4: 0.8}
    short = made({"reversal": "absent"}, 0.3)
    short.by_epochs = {1: 0.3}
    assert common_epochs([whole, short]) == 1
    assert effects([whole, short], ["reversal"])["reversal"]["distinct"]["against_absent"] == pytest.approx(-0.2)


def test_names_stay_text() -> None:
    trial = made({"<b>": "distinct"}, 0.5, details={"median_rank": 2.0})
    result = {
        "trials": [asdict(trial)], "effects": effects([trial], ["<b>"]), "effects_epochs": 4,
        "criterion": "retrieval", "sampler": "grid",
        "held_out_clips": 9, "epochs": 4, "specifications": 1, "factors": ["<b>"],
    }  # fmt: skip
    assert "<b> distinct" not in as_html(result) and "&lt;b&gt; distinct" in as_html(result)
    assert as_csv([trial], ["<b>"]).splitlines()[1].startswith("1,distinct,0.5")
    assert math.isnan(Trial("", {}, "").score) and Trial("", {"a": "absent"}, "").name == "none of them"


def test_a_shorter_search_shrinks_the_schedule_with_it() -> None:
    whole, short = make_search_config(), make_search_config(epochs=8, settings=["optim.batch_size=4"], where=["a=b"])
    assert short.method == "gdt" and short.recipe == "small-gdt" and short.data.where == ("a=b",)
    assert short.optim.warmup_epochs / short.optim.epochs == whole.optim.warmup_epochs / whole.optim.epochs


def test_a_search_that_cannot_begin_leaves_no_folder(manifest: Manifest, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no column 'kind'"):
        search(manifest, tmp_path / "search", criterion="labels", label_column="kind")
    assert not (tmp_path / "search").exists()
