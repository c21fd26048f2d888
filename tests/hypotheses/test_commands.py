"""`seehear hypotheses`, its pictures, and `seehear pretrain --hypotheses`."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest

from seehear.errors import UsageError
from seehear.hypotheses.language import NAMED, parse
from seehear.hypotheses.pictures import as_data, as_svg, as_text, in_words, matrix, tree
from tests.commands import run


def test_the_list_names_every_specification(capsys):
    code, out, _ = run(capsys, "hypotheses")
    assert code == 0
    lines = {line.split()[0]: line for line in out.splitlines() if line}
    for name, named in NAMED.items():
        assert named.meaning in lines[name]
        assert f" {parse(name).transformations_per_sample} " in lines[name]
    assert lines["m"].split()[1:4] == ["8", "60.0", "47.8"]
    assert run(capsys, "hypotheses", "list")[1] == out


def test_the_list_is_for_scripts_too(capsys):
    _, out, _ = run(capsys, "hypotheses", "--json")
    found = json.loads(out)
    assert list(found) == list(NAMED)
    assert found["k"] == {
        "specification": "sample=distinct, time_shift=distinct, modality=invariant, augment=invariant",
        "meaning": "tells moments of a video apart",
        "transformations_per_sample": 4,
        "hmdb_accuracy": 58.0,
        "hmdb_recall_at_5": 50.2,
    }
    assert found["motion"]["hmdb_accuracy"] is None


SHOWN = """
                 1 2 3 4   5 6 7 8
clip 1
├─ forwards
│  ├─ video   1  · 1 · 0   · 0 · 0
│  └─ audio   2  1 · 0 ·   0 · 0 ·
└─ backwards
   ├─ video   3  · 0 · 1   · 0 · 0
   └─ audio   4  0 · 1 ·   0 · 0 ·
clip 2
├─ forwards
│  ├─ video   5  · 0 · 0   · 1 · 0
│  └─ audio   6  0 · 0 ·   1 · 0 ·
└─ backwards
   ├─ video   7  · 0 · 0   · 0 · 1
   └─ audio   8  0 · 0 ·   0 · 1 ·

1 attract   0 repel   · not compared
"""


def test_what_is_shown_of_a_row(capsys):
    code, out, _ = run(capsys, "hypotheses", "show", "l")
    assert code == 0
    assert out.endswith(SHOWN)
    assert out.startswith("sample=distinct, reversal=distinct, modality=invariant, augment=invariant\n")
    for words in ("tells forwards from backwards", "accuracy 58.2 %", "recall at 5 50.2 %", "time runs forwards",
                  "K = 2 · 2 = 4 transformations a clip; 128 in a batch of 32 clips"):  # fmt: skip
        assert words in out


def test_a_specification_of_ones_own_is_shown(capsys):
    code, out, _ = run(capsys, "hypotheses", "show", "sample=distinct, speed=distinct*3, reversal=ignore")
    assert code == 0
    assert "│  │  └─ audio" in out
    assert "4×" in out
    assert "in the paper" not in out
    assert "K = 3 · 2 · 2 = 12 transformations a clip; 384" in out


def test_what_is_shown_is_for_scripts_too(capsys):
    found = json.loads(run(capsys, "hypotheses", "show", "rotnet", "--json")[1])
    assert found["transformations_per_sample"] == 8
    assert found["transformations"][3] == ["clip 1", "90°", "label"]
    assert found["matrix"][0] == "·1·0·0·0········"
    assert [f["name"] for f in found["factors"]] == ["sample", "rotation", "modality", "augment"]


@pytest.mark.parametrize("name", NAMED)
def test_the_matrix_is_the_loss_s(name):
    spec = parse(name)
    _, codes = spec.example()
    rows = matrix(spec)
    for i, j in itertools.product(range(len(codes)), repeat=2):
        compared = i != j and spec.compared(codes[i : i + 1], codes[j : j + 1])[0, 0]
        attracts = spec.contrast(codes[i : i + 1], codes[j : j + 1])[0, 0]
        assert rows[i][j] == ("·" if not compared else "1" if attracts else "0")
    data = as_data(spec, NAMED[name])
    assert len(data["transformations"]) == len(rows) == 2 * spec.transformations_per_sample
    assert len({tuple(t) for t in data["transformations"]}) == len(rows)
    assert [(n.first, n.last) for n in tree(spec)] == [(0, len(rows) // 2 - 1), (len(rows) // 2, len(rows) - 1)]


def test_words_say_what_is_compared():
    said = in_words(parse("sample=distinct, time_shift=distinct, reversal=ignore, pairs=all"))
    assert said[0].startswith("Two transformations attract if they agree in sample and time_shift, whatever")
    assert said[1] == "Compared are transformations of any two modalities and of equal reversal."
    assert in_words(parse("a"))[1] == "Compared are all."
    assert "of different modalities and of equal sample" in in_words(parse("rotnet"))[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "sample=distinct, rotation=distinct"], "lemma 3"),
        (["show", "sample=distinct, modality=invariant:video"], "no transformation has a positive"),
        (["show", "sample=invariant"], "a constant representation is perfect"),
        (["show", "arow-of-time"], "did you mean arrow-of-time"),
        (["show", "sample=distinct, time_shft=invariant"], "did you mean time_shift"),
        (["show"], "SPEC"),
        (["list", "l"], "Unrecognized"),
        (["show", "l", "--svg", "{tmp}/l.png"], ".svg"),
        (["show", "m", "l"], "l"),
        (["shwo", "l"], "show"),
    ],
)
def test_what_cannot_be_shown_is_explained_and_exits_with_2(arguments, words, tmp_path, capsys):
    code, out, err = run(capsys, "hypotheses", *(a.format(tmp=tmp_path) for a in arguments))
    assert code == 2
    assert words in out + err
    assert list(tmp_path.iterdir()) == []


def test_the_picture_is_written(tmp_path, capsys):
    path = tmp_path / "new" / "m.svg"
    code, out, _ = run(capsys, "hypotheses", "show", "m", "--svg", path)
    assert code == 0
    assert "backwards" in out
    assert path.read_text(encoding="utf-8") == as_svg(parse("m"), NAMED["m"])


@pytest.mark.parametrize("name", NAMED)
def test_a_picture_holds_tree_matrix_and_both_schemes(name):
    spec = parse(name)
    svg = as_svg(spec, NAMED[name])
    root = ET.fromstring(svg)
    space = "{http://www.w3.org/2000/svg}"
    width, height = float(root.get("width")), float(root.get("height"))
    rows = matrix(spec)
    cells = [r for r in root.iter(f"{space}rect") if (r.get("class") or "").startswith("cell")]
    assert len(cells) == len(rows) ** 2
    kinds = {"1": "c1", "0": "c0", "·": "cx"}
    assert [r.get("class") for r in cells] == [f"cell {kinds[mark]}" for row in rows for mark in row]
    for element in root.iter():
        for side, most in (("x", width), ("y", height)):
            assert 0 <= float(element.get(side) or 0) < most
    for text in root.iter(f"{space}text"):
        if "middle" not in (text.get("class") or ""):
            assert float(text.get("x")) + 6.5 * len(text.text) < width  # no line is cut off
    said = [text.text for text in root.iter(f"{space}text")]
    assert said.count("clip 1") == said.count("clip 2") == 1
    assert {"attract", "repel", "not compared"} <= set(said)
    assert "prefers-color-scheme: dark" in svg
    assert "http" not in svg.replace("http://www.w3.org/2000/svg", "")


def test_what_is_too_large_to_draw_is_said_so(capsys, tmp_path):
    text = "sample=distinct, time_shift=distinct*9, reversal=distinct"
    assert "72 transformations of 2 clips are too many to draw" in as_text(parse(text))
    with pytest.raises(UsageError, match="72 transformations"):
        as_svg(parse(text))
    assert run(capsys, "hypotheses", "show", text, "--svg", tmp_path / "x.svg")[0] == 2
    assert len(as_data(parse(text))["matrix"]) == 72


def test_names_cannot_break_the_picture():
    spec = parse("l")
    svg = as_svg(spec, type(NAMED["l"])("l", "<b>&\"'"))
    assert "&lt;b&gt;&amp;" in svg
    ET.fromstring(svg)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--hypotheses", "l"], "--hypotheses is of gdt, not of xdc"),
        (["--method", "sdc", "--hypotheses", "l"], "not of sdc"),
        (["--method", "gdt", "--hypotheses", "sample=distinct, rotation=distinct"], "lemma 3"),
        (["--method", "gdt", "--set", "gdt.hypotheses=z"], "no specification 'z'"),
        (["--recipe", "gdt-kinetics", "--hypotheses", "simclr-vide"], "simclr-video"),
    ],
)
def test_pretraining_takes_hypotheses_for_gdt_alone(arguments, words, tmp_path, capsys):
    code, _, err = run(capsys, "pretrain", tmp_path, "--out", tmp_path / "r", *arguments)
    assert code == 2
    assert words in err
    assert not (tmp_path / "r").exists()


def test_hypotheses_are_a_shorthand_for_the_setting(tmp_path, capsys, monkeypatch):
    configs = []
    monkeypatch.setattr("seehear.pretraining.run.pretrain", lambda *given, **_: configs.append(given[2]))
    monkeypatch.setattr("seehear.features.model.Model.load", lambda folder: folder)
    text = "sample=distinct, time_shift=distinct*3, modality=invariant"
    for options in (["--hypotheses", text], ["--set", f"gdt.hypotheses={text}"]):
        assert run(capsys, "pretrain", tmp_path, "--out", tmp_path / "r", "--method", "gdt", *options)[0] == 0
    assert configs[0] == configs[1]
    assert configs[0].gdt.hypotheses == text
    code, _, err = run(capsys, "pretrain", "--resume", tmp_path, "--hypotheses", "l")
    assert code == 2
    assert "--resume takes everything" in err


def test_no_torch_is_needed(tmp_path):
    code = (
        "import sys\nfrom seehear.cli import main\n"
        f"main(['hypotheses'])\nmain(['hypotheses', 'show', 'l', '--svg', {str(tmp_path / 'l.svg')!r}])\n"
        "assert not {'torch', 'av', 'pyarrow', 'PIL'} & set(sys.modules), sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
