"""The command line as a person uses it: right, mistyped, and in pipes."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from tests.commands import run
from tests.conftest import TINY_SETTINGS
from tests.corpus import make_broken, make_collection, make_video

SET = [part for s in TINY_SETTINGS for part in ("--set", s)]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    make_collection(folder, n=12, classes=3)
    make_broken(folder / "broken")
    return folder


def test_scan_says_how_many_and_why(videos, tmp_path, capsys):
    code, out, _ = run(capsys, "scan", videos, "--out", tmp_path / "clips.parquet")
    assert code == 0
    assert "12 usable" in out
    assert "truncated" in out
    rows = pq.read_table(tmp_path / "clips.parquet").to_pylist()
    assert sum(r["usable"] for r in rows) == 12
    code, out, _ = run(capsys, "scan", videos, "--json")
    assert json.loads(out)["usable"] == 12


def test_strict_scan_fails(videos, capsys):
    code, _, err = run(capsys, "scan", videos, "--strict")
    assert code == 3
    assert "cut_at_60.mp4" in err


def test_the_main_job_from_videos_to_labels_and_scores(videos, tmp_path, capsys):
    assert run(capsys, "scan", videos, "--out", tmp_path / "clips.parquet")[0] == 0
    out = tmp_path / "run"
    code, _, err = run(capsys, "pretrain", tmp_path / "clips.parquet", "--out", out, "--seed", 3, *SET)
    assert code == 0, err
    assert "rejected" in err
    code, text, _ = run(capsys, "label", out, "--modality", "video", "--out", tmp_path / "labels.csv")
    assert code == 0
    assert "12 segments" in text
    with open(tmp_path / "labels.csv") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["video", "start", "end", "cluster", "confidence", "exemplar_rank"]
    code, text, _ = run(capsys, "embed", out, "--out", tmp_path / "features.parquet")
    assert code == 0
    assert pq.read_table(tmp_path / "features.parquet").column_names == ["video_id", "start_seconds", "end_seconds",
                                                                         "video", "audio"]  # fmt: skip
    code, text, _ = run(
        capsys, "evaluate", "clustering", out, "--labels", videos / "labels.csv", "--baselines", "--purity"
    )
    assert code == 0
    assert "NMI" in text
    assert "video clusters by purity" in text
    assert "class_0(" in text
    assert "chance audio" in text
    code, text, _ = run(capsys, "evaluate", "linear", out, "--data", videos / "labels.csv", "--json")
    assert code == 0
    assert json.loads(text)["test_videos"] == 3
    code, text, _ = run(capsys, "report", out, "--labels", videos / "labels.csv")
    assert code == 0
    assert (out / "report.html").stat().st_size > 10_000


def test_new_videos_are_embedded_by_segment(finished_run, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    make_video(tmp_path / "in" / "long.mp4", seconds=5)
    (tmp_path / "in" / "bad.mp4").write_bytes(b"no")
    code, out, err = run(
        capsys,
        "embed",
        finished_run,
        tmp_path / "in",
        "--out",
        tmp_path / "f.parquet",
        "--every",
        2.5,
        "--modality",
        "audio",
    )
    assert code == 0
    assert "2 segments" in out
    assert "1 rejected" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pretrain", "{videos}", "--out", "{tmp}/r", "--set", "cluster.kk=3"], "did you mean"),
        (["pretrain", "{videos}", "--out", "{tmp}/r", "--method", "xcd"], "did you mean"),
        (["pretrain", "{videos}", "--out", "{tmp}/r", "--recipe", "smal"], "did you mean small"),
        (["pretrain", "{videos}", "--out", "{tmp}/r", "--sett", "k=3"], "--set"),
        (["pretrain", "{videos}"], "--out"),
        (["pretrain", "--resume", "{tmp}", "--seed", "1"], "--resume takes everything"),
        (["label", "{run}", "--out", "labels.xlsx"], ".csv"),
        (["evaluate", "linear", "{run}"], "--data"),
        (["lable", "{run}"], "label"),
        (["recipes", "xdc-kinetic"], "xdc-kinetics"),
    ],
)
def test_a_mistake_is_explained_and_exits_with_2(arguments, words, videos, finished_run, tmp_path, capsys):
    places = {"videos": videos, "tmp": tmp_path, "run": finished_run}
    code, out, err = run(capsys, *(a.format(**places) for a in arguments))
    assert code == 2
    assert words in out + err
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("model.video=r2plus1d_19", "r2plus1d_18"),
        ("spectrogram.frames=20", "frames"),
        ("optim.momentum=0", "nesterov"),
        ("threads=-1", "threads"),
        ("cluster.restarts=0", "restarts"),
        ("cluster.k=99", "12 spans"),
        ("device=cuda:7", "GPU"),
        ("device=abacus", "abacus"),
        ("final.optim.epochs=0", "final.optim.epochs"),
    ],
)
def test_a_setting_that_cannot_work_leaves_no_run_behind(setting, words, videos, tmp_path, capsys):
    code, _, err = run(capsys, "pretrain", videos, "--out", tmp_path / "r", *SET, "--set", setting)
    assert code == 2
    assert words in err
    assert not (tmp_path / "r").exists()


def test_a_failed_scan_leaves_no_run_behind(videos, tmp_path, capsys):
    assert run(capsys, "pretrain", videos / "broken", "--out", tmp_path / "r", *SET)[0] == 3
    assert run(capsys, "pretrain", videos, "--out", tmp_path / "r", "--method", "scratch", "--quiet", *SET)[0] == 0


def test_videos_without_a_needed_stream_are_left_out(videos, tmp_path, capsys):
    out = tmp_path / "heard.parquet"
    assert run(capsys, "scan", videos, "--modality", "audio", "--min-seconds", "1", "--out", out)[0] == 0
    assert sum(r["usable"] for r in pq.read_table(out).to_pylist()) > 12
    code, _, err = run(capsys, "pretrain", out, "--out", tmp_path / "r", "--method", "scratch", *SET)
    assert code == 0, err
    assert pq.read_table(tmp_path / "r" / "labels.parquet").num_rows == 12


def test_a_scan_is_written_as_parquet_or_not_at_all(videos, tmp_path, capsys):
    code, _, err = run(capsys, "scan", videos, "--out", tmp_path / "clips.csv")
    assert code == 2
    assert ".parquet" in err


def test_missing_videos_exit_with_3(tmp_path, capsys):
    code, _, err = run(capsys, "pretrain", tmp_path / "nowhere", "--out", tmp_path / "r")
    assert code == 3
    assert "nowhere" in err


def test_a_folder_without_videos_exits_with_3(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("none")
    code, _, err = run(capsys, "pretrain", tmp_path / "in", "--out", tmp_path / "r")
    assert code == 3
    assert err.startswith("seehear: ")


def test_no_run_exits_with_4(tmp_path, capsys):
    assert run(capsys, "label", tmp_path, "--out", tmp_path / "l.csv")[0] == 4
    assert run(capsys, "pretrain", "--resume", tmp_path)[0] == 4


def test_supervised_takes_a_column_and_where_a_split(collection, tmp_path, capsys):
    arguments = ["pretrain", collection, "--out", tmp_path / "r", "--method", "supervised", "--where", "split=train",
                 "--where", "label!=class_3", *SET]  # fmt: skip
    code, _, err = run(capsys, *arguments)
    assert code == 0, err
    rows = pq.read_table(tmp_path / "r" / "manifest.parquet").to_pylist()
    assert {r["split"] for r in rows} == {"train"}
    assert {r["label"] for r in rows} == {"class_0", "class_1", "class_2"}


@pytest.mark.parametrize("command", ["methods", "recipes", "doctor"])
def test_lists_are_for_people_and_for_scripts(command, capsys):
    code, out, _ = run(capsys, command)
    assert code == 0
    assert out.strip()
    code, out, _ = run(capsys, command, "--json")
    assert json.loads(out)


def test_a_recipe_can_be_read_and_used_again(capsys):
    import yaml

    from seehear.recipes import recipe
    from seehear.settings import from_dict

    _, out, _ = run(capsys, "recipes", "xdc-ig")
    assert from_dict(yaml.safe_load(out)) == recipe("xdc-ig")


def test_help_needs_no_torch():
    code = "import sys; sys.argv=['seehear','--help']\nfrom seehear.cli import main\n"
    code += "try: main()\nexcept SystemExit: pass\n"
    code += "assert not {'torch', 'av', 'pyarrow', 'numpy'} & set(sys.modules), sys.modules.keys()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "pretrain" in done.stdout


def test_a_closed_pipe_is_no_traceback():
    command = [sys.executable, "-m", "seehear", "recipes", "--settings"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert "Traceback" not in process.stderr.read()
    assert process.wait() != 0


def test_the_version_is_the_packages(capsys):
    from seehear import __version__

    assert run(capsys, "--version")[1].strip() == f"seehear {__version__}"


@pytest.mark.parametrize(
    ("words", "inner", "left"),
    [
        ("scan V --out M.parquet", "data.scanning.scan", "nothing was written: give the same command again"),
        (
            "scan V --out M.parquet --part 1/2",
            "data.scan_parts.scan_in_parts",
            "finished blocks are kept: the same command goes on",
        ),
        ("prepare V --out P", "preparing.run.prepare", "copies that are made are kept: the same command goes on"),
        ("label R --out L.csv", "labelling.labels.label_videos", "nothing was written: give the same command again"),
        (
            "embed R --out F.parquet",
            "labelling.labels.embed_videos",
            "nothing was written: give the same command again",
        ),
        ("index R", "search.building.build_index", "what is embedded is kept: the same command goes on"),
        ("join F", "parts.PartFolder.open", "the parts are still there: give the same command again"),
        ("report R", "report.build.build_report", "give the same command again"),
    ],
)
def test_ctrl_c_says_what_is_kept_and_what_to_do(words, inner, left, tmp_path, monkeypatch, capsys):
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    (tmp_path / "V").mkdir()
    monkeypatch.setattr(f"seehear.{inner}", stopped)
    assert run(capsys, *words.split()) == (130, "", f"seehear: stopped; {left}\n")
