"""The collections that choices are made on, and the rules that ours is compared with."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest

from tests.cluster.test_kinds import views
from tests.corpus import make_video

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import shapes  # noqa: E402
from kind_sizes import agreement_of_halves  # noqa: E402
from support.rules_of_k import RULES  # noqa: E402


def test_what_is_held_out_is_what_the_notebook_says():
    told = (BENCHMARKS.parent / "docs" / "research" / "labels.md").read_text()
    assert not set(shapes.DEVELOPMENT) & set(shapes.HELD_OUT)
    assert not {*shapes.DEVELOPMENT_SEEDS, *shapes.KNOWN_SEEDS} & set(shapes.HELD_OUT_SEEDS)
    assert {*shapes.DEVELOPMENT, *shapes.HELD_OUT} == {
        "equal-games", "equal-sounds", *(name for pair in shapes.PAIRS.values() for name in pair)
    }  # fmt: skip
    for names in (shapes.DEVELOPMENT, shapes.HELD_OUT):
        assert " ".join(names) in " ".join(told.split())


def test_sizes_of_kinds():
    assert shapes.sizes_of("equal", 3, 40) == [40, 40, 40]
    assert shapes.sizes_of("mild", 5, 40) == [40, 40, 40, 20, 20]
    tail = shapes.sizes_of("tail", 3, 36)
    assert tail == [36, 12, 4]  # each a third of the one before, the last a ninth of the first
    giant = shapes.sizes_of("giant", 9, 40)
    assert giant[0] == sum(giant[1:]) == 40


def set_of(folder: Path, name: str, classes: int, each: int) -> None:
    rows = [["path", "label", "split"]]
    for label in range(classes):
        for i in range(each):
            path = f"clips/{name}_{label}_{i}.mp4"
            (folder / name / "clips").mkdir(parents=True, exist_ok=True)
            wave = np.full((1, 4800), 0.1 + 0.01 * label, np.float32)
            make_video(folder / name / path, seconds=0.2, size=(32, 32), wave=wave)
            rows.append([path, f"class {label}", "train" if i else "test"])
    with (folder / name / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    set_of(folder, "vizdoom_actions", 3, 4)
    set_of(folder, "photosound", 6, 6)
    return folder


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_tenth_of_the_sounds_change_places_between_classes(data, tmp_path):
    rows = table(shapes.make("swapped-sounds", 0, data, tmp_path))
    assert Counter(row["label"] for row in rows) == {f"class {i}": 5 for i in range(6)}
    changed = [Path(row["path"]) for row in rows if row["swapped"] == "1"]
    assert len(changed) == 3
    for path in changed:
        (_, sight, _), (_, sound, _) = (part.split("_") for part in path.stem.split("+"))
        assert sight != sound
        with (
            av.open(str(path)) as container,
            av.open(str(data / f"photosound/clips/{path.stem.split('+')[0]}.mp4")) as one,
        ):
            assert [s.type for s in container.streams] == ["video", "audio"]
            assert sum(p.size for p in container.demux(video=0)) == sum(p.size for p in one.demux(video=0))
    again = table(shapes.make("swapped-sounds", 0, data, tmp_path))
    assert again == rows
    assert table(shapes.make("swapped-sounds", 1, data, tmp_path)) != rows


def test_a_fifth_of_the_clips_are_of_no_kind(data, tmp_path):
    rows = table(shapes.make("none-sounds", 0, data, tmp_path))
    counts = Counter(row["label"] for row in rows)
    assert counts == {**{f"class {i}": 4 for i in range(6)}, "none": 6}
    made = [Path(row["path"]).stem for row in rows if row["label"] == "none"]
    assert len([name for name in made if name.startswith("drawn")]) == 2
    assert len([name for name in made if name.startswith("vizdoom_actions")]) == 2  # both of the other set
    assert len([name for name in made if name.startswith("photosound") and "+vizdoom_actions" in name]) == 2
    assert all(Path(row["path"]).is_file() for row in rows)


def test_what_is_held_out_is_not_made_by_the_way(data, tmp_path):
    command = [sys.executable, str(BENCHMARKS / "shapes.py"), str(tmp_path), "--shapes", shapes.HELD_OUT[0]]
    environment = {**os.environ, "SEEHEAR_DATA": str(data)}
    refused = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "held out" in refused.stderr


@pytest.mark.parametrize("rule", [name for name in RULES if name not in ("sight and sound", "and sure clips")])
def test_rules_of_others_count_what_is_plain(rule):
    sight, sound, _ = views([20, 20, 20, 20], spread=0.02)
    assert RULES[rule](sight.numpy(), sound.numpy()) == 4


def test_agreement_of_halves_is_whole_for_labels_that_both_modalities_know():
    sight, sound, kinds = views([20, 20, 20])
    assert agreement_of_halves(sight.numpy(), sound.numpy(), kinds, 3) == pytest.approx(1.0)
    torn = np.where(np.random.default_rng(0).random(60) < 0.5, kinds, kinds + 3)  # neither knows which half is which
    assert agreement_of_halves(sight.numpy(), sound.numpy(), torn, 6) < 0.8
