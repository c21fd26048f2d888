"""The pages say what the code does: commands and options, settings, links, examples, codes.

`python tests/test_docs.py` writes the tables of docs/settings.md anew.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import io
import itertools
import json
import os
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from tyro.conf import Positional

import seehear
import seehear.errors
from seehear.cli import main
from seehear.cli.assemble import all_commands
from seehear.config import Config
from seehear.data.datasets import READERS
from seehear.data.manifest import REASONS
from seehear.localization.settings import RECIPES as LOCALIZER_RECIPES
from seehear.localization.settings import localizer_settings
from seehear.media.formats import CONTAINERS
from seehear.methods import METHODS
from seehear.recipes import RECIPES
from seehear.settings import setting_docs, setting_names, with_settings

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
NAV = [
    "index", "quickstart", "app", "concepts", "methods", "gdt", "selavi", "frozen", "encoders", "commands",
    "collection", "transfer", "finetune", "localization", "cluster", "kinds", "search", "weights", "search-hypotheses",
    "studies", "data", "prepare", "streaming", "formats", "settings", "python", "gpu", "multi-gpu", "many-machines",
    "scale",
    "adding-a-method", "adding-a-factor", "adding-a-protocol", "adding-a-data-set", "adding-an-encoder",
    "adding-a-command", "adding-a-page-section",
    "troubleshooting", "architecture", "fidelity", "results", "research/labels",
]  # fmt: skip

FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"(?<![\w./-])seehear[ \t]+(\S.*)")
UNQUOTED_END = re.compile(r"""(?:\s\#|[|;<>]|&&)(?=(?:[^'"]|'[^']*'|"[^"]*")*$)""")
OPTION = re.compile(r"--[a-z][\w-]*")

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)


def blocks(text: str, language: str) -> list[str]:
    return [body for _, name, body in FENCE.findall(text) if name == language]


def code_lines(text: str) -> list[str]:
    """Lines of code blocks (Python apart) and inline code."""
    text = FENCE.sub(lambda m: "" if m[2] == "python" else "".join(f"    {x}\n" for x in m[3].splitlines()), text)
    text = text.replace("\\\n", " ").replace("\\|", "/")  # continued lines; choices within a table
    indented = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    prose = "\n".join(line for line in text.splitlines() if not line.startswith("    "))
    return indented + [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]


def commands(text: str) -> list[list[str]]:
    """Words after `seehear` of every command on a page."""
    found = []
    for line in code_lines(text):
        for match in COMMAND.finditer(line):
            words = shlex.split(re.split(UNQUOTED_END, match[1])[0])
            if words and re.match(r"[a-z-]", words[0]):
                found.append(words)
    return found


@functools.cache
def help_of(*command: str) -> str:
    """What `seehear COMMAND --help` prints."""
    output, columns = io.StringIO(), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "200"
    try:
        with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
            main([*command, "--help"])
    finally:
        os.environ.pop("COLUMNS")
        if columns is not None:
            os.environ["COLUMNS"] = columns
    assert output.getvalue()
    return re.sub(r"\x1b\[[\d;]*m", "", output.getvalue())


def options_of(*command: str) -> set[str]:
    # Options begin two columns in, behind a frame that is drawn where the terminal can; texts begin farther in.
    lines = re.findall(r"^[^\w-] (-.*)", help_of(*command), re.MULTILINE)
    return {name for line in lines for name in OPTION.findall(re.split(r"\s{2,}", line)[0])}


def subcommands() -> set[str]:
    """All that `seehear --help` lists; of two words also the first one alone."""
    names = re.findall(r"^  ([a-z-]+(?: [a-z-]+)?)$", help_of(), re.MULTILINE)
    return {*names, *(name.partition(" ")[0] for name in names)}


def command_of(words: list[str]) -> tuple[str, ...]:
    """The words that name the command, of those that are given."""
    second = [word for word in words[1:] if f"{words[0]} {word}" in subcommands()]
    if second:
        return words[0], second[0]
    return ("hypotheses", "list") if words[0] == "hypotheses" else (words[0],)


def options_on(words: list[str]) -> set[str]:
    """The options of the command that is meant; of all its subcommands where a shell variable stands for one."""
    if len(words) > 1 and words[1].startswith("$"):
        of = [name.split() for name in subcommands() if name.startswith(f"{words[0]} ")]
        return set().union(*(options_of(*name) for name in of))
    return options_of(*command_of(words))


def test_help_is_read_aright():
    assert {"scan", "pretrain", "label", "doctor"} <= subcommands()
    assert {"--out", "--set", "--resume", "--quiet"} <= options_of("pretrain")
    assert "--settings" not in options_of("pretrain")


def test_commands_are_found():
    text = "`seehear scan X --out y`\n\n    torchrun -m seehear pretrain V \\\n      --out R  # x\n\nseehear learns\n"
    assert sorted(commands(text)) == [["pretrain", "V", "--out", "R"], ["scan", "X", "--out", "y"]]


@every_page
def test_commands_and_options_exist(page):
    wrong = []
    for words in commands(page.read_text()):
        if words[0].startswith("-"):
            wrong += [w for w in words[:1] if w not in {"-h", "--help", "--version"}]
        elif words[0] not in subcommands():
            wrong.append(" ".join(words))
        else:
            given = {w.partition("=")[0] for w in words if OPTION.match(w)}
            wrong += [f"{words[0]} {o}" for o in sorted(given - options_on(words) - {"--help"})]
    assert wrong == []


@every_page
def test_values_of_options_exist(page):
    for words in commands(page.read_text()):
        for option, value in itertools.pairwise(words):
            if not re.match(r"[a-z]", value) or value.startswith("section."):
                continue  # a placeholder
            if option == "--set" and words[0] == "localize":
                localizer_settings([value])
            elif option == "--set" and "..." not in value:
                with_settings(Config(), [value])
            elif option == "--method":
                assert value in METHODS
            elif option == "--recipe":
                assert value in (LOCALIZER_RECIPES if words[0] == "localize" else RECIPES)


@pytest.mark.parametrize("command", sorted(all_commands()))
def test_help_python_and_pages_of_a_command_agree(command):
    """One signature: what the help lists, what Python takes and what docs/commands.md says are the same options."""
    declared = all_commands()[command]
    options = {o for o in options_of(*command.split()) - {"--help"} if not o.startswith("--no-")}
    expected, texts = set(), declared.function.__doc__
    for name, parameter in declared.parameters().items():
        about = getattr(parameter.annotation, "__metadata__", ())
        spelled = next((n for x in about if (n := getattr(x, "name", None))), name)
        if Positional[str].__metadata__[0] not in about:
            expected.add("--" + spelled.replace("_", "-"))
        assert f"\n    {name}: " in texts, f"{name} has no text"
    assert options == expected | ({"--json"} if declared.as_json else set())
    public = getattr(seehear, declared.function.__name__)
    # The packages `seehear.report` and `seehear.search` can be called.
    assert getattr(public, declared.function.__name__, public) is declared.function
    assert f"seehear.{declared.function.__name__}" in (DOCS / "python.md").read_text()
    text = (DOCS / "commands.md").read_text()
    assert [o for o in sorted(options) if not re.search(rf"{o}(?![\w-])", text)] == []


def anchors(page: Path) -> set[str]:
    text = FENCE.sub("", page.read_text())
    headings = [re.sub(r"[`*]|\]\([^)]*\)|\[", "", h) for h in re.findall(r"^#+ (.+)$", text, re.MULTILINE)]
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", h).strip().lower()) for h in headings}


@every_page
def test_links_lead_somewhere(page):
    text = re.sub(r"`[^`\n]*`", "", FENCE.sub("", page.read_text()))
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)[^)]*\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_navigation_lists_every_page():
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    listed = [next(iter(entry.values())) if isinstance(entry, dict) else entry for entry in nav]
    assert listed == [f"{name}.md" for name in NAV]
    assert {p.relative_to(DOCS).as_posix() for p in DOCS.rglob("*.md")} == set(listed)


def settings_rows() -> dict[str, str]:
    """A table row for every setting: name, meaning, default."""
    rows = {}
    for name, text in setting_docs().items():
        meaning, _, default = text.rpartition(" [")
        meaning = " ".join(meaning.split()).replace("|", "\\|")
        rows[name] = f"| `{name}` | {meaning} | `{default.removesuffix(']')}` |"
    return rows


def test_every_setting_stands_there_with_its_current_text():
    lines = (DOCS / "settings.md").read_text().splitlines()
    rows = settings_rows()
    assert rows.keys() == set(setting_names())
    written = [line for line in lines if line.startswith("| `")]
    assert written == list(rows.values()), "run `python tests/test_docs.py`"


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_is_explained(reason):
    assert f"`{reason}`" in (DOCS / "formats.md").read_text()


def test_every_container_is_named():
    page = (DOCS / "data.md").read_text()
    for name, container in CONTAINERS.items():
        row = "|".join(["", *(f" {cell} " if cell else " " for cell in (name, container.video, container.audio)), ""])
        assert row in page


def exit_codes() -> set[int]:
    classes = [c for c in vars(seehear.errors).values() if isinstance(c, type)]
    return {0} | {c.exit_code for c in classes if issubclass(c, seehear.errors.SeehearError)}


@pytest.mark.parametrize("code", sorted(exit_codes()))
def test_every_exit_code_is_explained(code):
    assert re.search(rf"^[|\s*`-]*{code}\b", (DOCS / "commands.md").read_text(), re.MULTILINE)


@every_page
def test_examples_compile_and_name_what_exists(page):
    for block in blocks(page.read_text(), "python"):
        tree = ast.parse(block, filename=str(page))
        compile(tree, str(page), "exec")
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("seehear"):
                module = importlib.import_module(str(node.module))
                assert [a.name for a in node.names if not hasattr(module, a.name)] == []
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "seehear":
                assert hasattr(seehear, node.attr), node.attr


def test_the_method_shown_can_be_added(finished_run, tmp_path, monkeypatch):
    """The example of adding-a-method.md trains and labels, given no more than a name."""
    from tests.conftest import TINY_SETTINGS  # not above: this file is also run as a script

    (source,) = blocks((DOCS / "adding-a-method.md").read_text(), "python")
    space: dict[str, Any] = {"__name__": "the_example"}
    exec(compile(source, "adding-a-method.md", "exec"), space)
    monkeypatch.setitem(METHODS, "audio-teacher", "both encoders learn the audio clusters")
    monkeypatch.setattr(
        "seehear.pretraining.run.build_method",
        lambda config, classes_of, encoders: space["AudioTeacher"](config, encoders),
    )
    settings = [*TINY_SETTINGS, "rounds=1", "optim.epochs=1"]
    seehear.pretrain(
        finished_run / "manifest.parquet", tmp_path / "run", method="audio-teacher", settings=settings, quiet=True
    )
    assert (tmp_path / "run" / "labels.parquet").exists()


def test_the_factor_shown_can_be_added(collection, monkeypatch):
    """The example of adding-a-factor.md is sampled, checked, drawn and trained on once it is listed where it says."""
    import numpy as np
    import torch

    from seehear.data.clips import clip_refs, transformation_requests
    from seehear.data.loader import ClipLoader
    from seehear.data.views import Statistics
    from seehear.features.model import usable_videos
    from seehear.hypotheses import factors, language
    from seehear.methods import build_method
    from seehear.pretraining.plan import make_config
    from tests.conftest import TINY_SETTINGS

    page = (DOCS / "adding-a-factor.md").read_text()
    (source,) = blocks(page, "python")
    space: dict[str, Any] = {"__name__": "the_example"}
    exec(compile(source, "adding-a-factor.md", "exec"), space)
    (order,) = re.findall(r"^    \((\w+(?:, \w+)+)\)$", page, re.MULTILINE)
    kinds = [space.get(name) or getattr(factors, name) for name in order.split(", ")]
    for module in ("hypotheses.factors", "hypotheses.language", "data.loader"):
        monkeypatch.setattr(f"seehear.{module}.FACTORS", {kind.name: kind for kind in kinds})

    shown, refused = [words[2] for words in commands(page) if words[:2] == ["hypotheses", "show"]]
    main(["hypotheses", "show", shown])
    with pytest.raises(seehear.errors.UsageError, match="mirror does not change audio"):
        language.parse(refused)
    (text,) = [words[words.index("--hypotheses") + 1] for words in commands(page) if "--hypotheses" in words]
    spec = language.parse(text)
    settings = [*TINY_SETTINGS, "gdt.dimensions=8", "augment.flip_probability=0", "clip.crop_px=36"]
    config = make_config(method="gdt", settings=[*settings, f"gdt.hypotheses={text}"])
    videos = usable_videos(seehear.scan(collection, workers=0), ("video",))[:4]
    refs = clip_refs(videos, config.cluster)
    with ClipLoader(videos, config, {"video": "video"}, Statistics(), workers=0, cache=None) as loader:
        requests = transformation_requests(refs, np.arange(4), loader.videos, config.clip, spec, (0,))
        for request, media in loader.media(requests):
            frames = media["video", request.start_seconds, 1]
            assert np.array_equal(space["Mirror"].act(frames, None, 1)[0], frames[:, :, ::-1])
        batch = loader.to_inputs(next(iter(loader.batches(requests, 4))), torch.device("cpu"))
    assert batch.codes["video"][:, spec.column("mirror")].tolist() == [0, 1] * 4
    build_method(config)(batch.inputs, batch.codes).loss.backward()


def example_of(page: str) -> dict[str, Any]:
    """What the Python of an adding-... page defines; its indented lines of entries are not run."""
    (source,) = blocks((DOCS / page).read_text(), "python")
    space: dict[str, Any] = {"__name__": "the_example"}
    exec(compile(source, page, "exec"), space)
    return space


def test_the_command_shown_can_be_added(collection, monkeypatch, capsys):
    """The example of adding-a-command.md is listed, explained, called and refused like any other."""
    census = example_of("adding-a-command.md")["census"]
    monkeypatch.setattr("seehear.cli.assemble.all_commands", lambda: {"census": census.command})
    monkeypatch.setattr("seehear.cli.help.all_commands", lambda: {"census": census.command})
    main(["--help"])
    assert "seehear census table.csv" in capsys.readouterr().out
    main(["census", str(collection), "--least", "2", "--workers", "1", "--json"])
    assert sum(json.loads(capsys.readouterr().out).values()) == 24
    main(["census", str(collection), "--workers", "1"])
    assert capsys.readouterr().out.count("\n") == 4
    with pytest.raises(SystemExit) as end:
        main(["census", str(collection), "--leest", "2"])
    assert end.value.code == 2
    assert "Decoding processes" in census.__doc__


def test_the_protocol_shown_can_be_added(finished_run, collection, monkeypatch):
    """The example of adding-a-protocol.md answers as scikit-learn's classifier does, and scores a run."""
    import numpy as np
    from sklearn.neighbors import NearestCentroid

    from seehear.transfer import protocols
    from seehear.transfer.frozen import evaluate_transfer

    page = (DOCS / "adding-a-protocol.md").read_text()
    space = example_of("adding-a-protocol.md")
    entries = re.findall(r"^    ((?:PROTOCOLS|PREDICTORS|OURS)\[.*)$", page, re.MULTILINE)
    tables = {name: dict(getattr(protocols, name)) for name in ("PROTOCOLS", "PREDICTORS", "OURS")}
    exec("\n".join(entries), space | tables | {"Defaults": protocols.Defaults})
    for name, table in tables.items():
        monkeypatch.setattr(protocols, name, table)
        assert "centroid" in table
    monkeypatch.setattr("seehear.transfer.frozen.PROTOCOLS", tables["PROTOCOLS"])

    rng = np.random.default_rng(0)
    labels, x = np.repeat(list("abc"), 10), rng.normal(size=(30, 5)) + np.repeat(np.eye(5)[:3] * 3, 10, axis=0)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    answers = space["nearest_centroid"](x, labels, x).classes["accuracy"][0, :, 0]
    assert (answers == NearestCentroid().fit(unit, labels).predict(unit)).mean() > 0.9
    result = evaluate_transfer(finished_run, collection, "centroid", clips=1, baselines=True)
    assert 0 <= result["scores"]["audio"]["accuracy"]["value"] <= 1
    assert result["baselines"]["chance"]["audio"]["accuracy"]["value"] < 0.5


def test_the_encoder_shown_can_be_added(tmp_path, monkeypatch):
    """The example of adding-an-encoder.md counts levels, and is kept and read again."""
    import sys
    from types import ModuleType

    import torch

    from seehear import encoders

    module = ModuleType("the_example_of_an_encoder")
    vars(module).update(example_of("adding-an-encoder.md"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(encoders._KINDS, "colours", (module.__name__, "ColoursEncoder"))
    encoder = encoders.open_encoder("colours:2", "video")
    x = torch.rand(2, 3, 4, 8, 8)
    light = (x >= 0.5).float().mean((2, 3, 4))
    torch.testing.assert_close(encoder(x), torch.stack([1 - light, light], dim=2).flatten(1))
    encoder.write(tmp_path)
    again = encoders.read_encoder(tmp_path)
    assert again.content() == encoder.content() != encoders.open_encoder("colours:3", "video").content()
    assert again.wanted.settings()["frames"] == 4 and not again.fixed


def test_the_data_set_shown_can_be_added(collection, tmp_path, monkeypatch):
    """The example of adding-a-data-set.md is opened by name, counts what is missing, and names what it lacks."""
    from seehear.data import datasets

    monkeypatch.setitem(datasets.READERS, "pairs", "pairs: train.txt and test.txt")
    monkeypatch.setitem(datasets._READ, "pairs", example_of("adding-a-data-set.md")["read_pairs"])
    files = sorted(collection.parent.rglob("*.mp4"))[:4]
    (tmp_path / "train.txt").write_text("".join(f"c{i % 2} {file}\n" for i, file in enumerate(files[:3])))
    with pytest.raises(seehear.errors.DataError, match=r"test\.txt"):
        datasets.open_data(f"pairs:{tmp_path}")
    (tmp_path / "test.txt").write_text(f"c0 {files[3]}\nc1 gone.mp4\n")
    opened = datasets.open_data(f"pairs:{tmp_path}")
    assert [row["split"] for row in opened.rows] == ["train"] * 3 + ["test"]
    assert (opened.missing, opened.missing_paths) == ({"split": {"train": 0, "test": 1}}, ("gone",))


def test_the_page_section_shown_can_be_added(finished_run, tmp_path, monkeypatch):
    """The example of adding-a-page-section.md stands on a run's page once its files lie where it says."""
    import jinja2

    from seehear.report import page, sections
    from seehear.report.content import Content
    from seehear.report.gather import Run, gather
    from seehear.report.templates import environment
    from tests.report.test_report import Page

    text = (DOCS / "adding-a-page-section.md").read_text()
    (source,), (template,) = blocks(text, "python"), blocks(text, "html")
    module, shown_at = re.findall(r"^`(seehear/report/sections/\w+\.\w+)`:$", text, re.MULTILINE)
    space: dict[str, Any] = {"__name__": "the_example"}
    exec(compile(source, module, "exec"), space)
    added = space["SECTION"]
    assert [Path(module).name, Path(shown_at).name] == [f"{added.key}.py", f"{added.key}.html"]
    loader = jinja2.ChoiceLoader([environment().loader, jinja2.DictLoader({Path(shown_at).name: template})])
    monkeypatch.setattr(environment(), "loader", loader)

    # Between the sections that the line of step 3 names.
    (before, own, after) = re.findall(r"(\w+)\.SECTION", text.partition("SECTIONS = (")[2].partition("\n")[0])
    keys = [section.key for section in sections.SECTIONS]
    assert own == added.key and keys.index(after) == keys.index(before) + 1
    place = keys.index(after)
    listed = (*sections.SECTIONS[:place], added, *sections.SECTIONS[place:])
    run = gather(finished_run)
    made = Page(page.render(Content(run), listed))
    there = [a["id"] for a in made.all("section")]
    assert there[there.index(own) - 1 : there.index(own) + 2] == [before, own, after]
    assert {"href": f"#{own}"} in made.all("a")
    assert "The videos that were used last" in made.text and "The shortest (10 videos)" in made.text
    assert any(a["aria-label"].startswith("Length of the videos") for a in made.all("svg") if "data-chart" in a)
    assert added.gather(Content(Run(tmp_path))) is None


def test_the_rows_of_gdt_stand_there_as_the_code_has_them():
    from seehear.hypotheses.language import NAMED, parse, rows
    from seehear.hypotheses.pictures import as_svg

    page = (DOCS / "gdt.md").read_text()
    letters = {"distinct": "v", "invariant": "i"}
    for name in rows():
        spec, named = parse(name), NAMED[name]
        stated = [letters[spec[f].hypothesis] if f in spec else "·" for f in ("sample", "reversal", "time_shift")]
        cells = [f"`{name}`", *stated, ", ".join(spec.modalities), spec.transformations_per_sample, named.accuracy,
                 named.recall5]  # fmt: skip
        assert f"| {' | '.join(map(str, cells))} |" in page
    assert [name for name in NAMED if f"`{name}`" not in page] == []
    picture = (DOCS / "images" / "gdt-m.svg").read_text(encoding="utf-8")
    assert picture == as_svg(parse("m"), NAMED["m"]), "seehear hypotheses show m --svg docs/images/gdt-m.svg"
    for block in blocks(page, "python"):
        exec(compile(block, "gdt.md", "exec"), {})


def test_every_factor_is_described():
    from seehear.hypotheses.factors import FACTORS

    page = (DOCS / "gdt.md").read_text()
    assert [n for n, f in FACTORS.items() if not re.search(rf"^\| `{n}` \| {f.letter} \|", page, re.MULTILINE)] == []


def test_every_data_set_is_described():
    page = (DOCS / "transfer.md").read_text()
    assert all(f"| `{name}` |" in page for name in READERS)


def test_every_method_and_recipe_is_described():
    text = (DOCS / "methods.md").read_text()
    assert [name for name in (*METHODS, *RECIPES) if f"`{name}`" not in text] == []


def test_every_dependency_has_its_reason():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]
    names = {re.split(r"[^\w.-]", requirement)[0] for requirement in required}
    text = (DOCS / "architecture.md").read_text()
    assert sorted(name for name in names if f"`{name}`" not in text) == []


def test_every_room_is_described():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(c["layers"] for c in contracts if c["type"] == "layers")
    names = {name for layer in layers for name in re.findall(r"\w+", layer)}
    text = (DOCS / "architecture.md").read_text()
    assert sorted(name for name in names if f"`{name}`" not in text) == []


def write_settings() -> None:
    """Write every table of docs/settings.md anew; what stands between the tables is kept."""
    page, rows = DOCS / "settings.md", settings_rows()
    sections: dict[str, list[str]] = {}
    for name, row in rows.items():
        sections.setdefault(name.partition(".")[0] if "." in name else "", []).append(row)
    lines, section = [], ""
    for line in page.read_text().splitlines():
        if line.startswith("## "):
            found = re.fullmatch(r"## `(\w+)`", line)
            section = found[1] if found else ""
        if not line.startswith("| `"):
            lines.append(line)
        if line == "|---|---|---|":
            lines += sections.pop(section)
    assert not sections, f"docs/settings.md has no section for {', '.join(sections)}"
    page.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    write_settings()
