"""From a folder of unlabelled videos to named clusters: the main job of seehear, through its own command line.

    make demo                      records real gameplay with sound, then learns from it
    make demo VIDEOS=my/folder     learns from videos of your own
    python examples/demo.py --help

Every command is printed before it runs, so that it can be copied. Run it again after an interruption and
it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import record_gameplay

from seehear.cli import main as main_of_seehear
from seehear.errors import Interrupted

STOPPED, INTERRUPTED = 130, Interrupted.exit_code
"""With what a command ends at Ctrl-C, and one that has saved its state then."""
SCORES = {"nmi": "NMI", "ari": "ARI", "accuracy": "accuracy"}
ROWS = {"video": "video", "audio": "audio", "both": "video + audio"}


class Failed(Exception):
    """A command ended with an error; holds its exit code."""

    def __init__(self, command: list[str], code: int) -> None:
        super().__init__(f"failed with exit code {code}: {shlex.join(command)}")
        self.code = code


@dataclass
class Stopwatch:
    """How long each part took."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = time.monotonic() - began


def seehear(*arguments: str | Path, capture: bool = False) -> str:
    """Print and run `seehear ...`, its output going to the terminal; with `capture`, standard output is returned.

    It is run in this process, where what the command before it loaded lies ready: that is seconds for each.
    """
    command = ["seehear", *map(str, arguments)]
    print(f"\n$ {shlex.join(command)}", flush=True)
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output) if capture else contextlib.nullcontext():
            main_of_seehear(command[1:])
    except SystemExit as end:
        if end.code in (STOPPED, INTERRUPTED):
            raise KeyboardInterrupt from None
        if end.code:
            raise Failed(command, int(end.code)) from None
    return output.getvalue()


def command_of(*arguments: str | Path) -> str:
    """A command as it can be typed here."""
    program = Path(sys.executable).with_name("seehear")
    name = os.path.relpath(program) if program.exists() else "seehear"
    return shlex.join([name, *map(str, arguments)])


def get_videos(given: argparse.Namespace) -> tuple[Path, Path | None]:
    """The folder of the videos and, where they are known, their classes."""
    if given.videos is not None:
        if not given.videos.exists():
            raise SystemExit(f"demo: there is no {given.videos}")
        return given.videos, given.labels
    store = record_gameplay.cache_folder(given.clips, given.seconds, given.seed, with_broken=given.with_broken)
    count = given.clips * len(record_gameplay.WEAPONS)
    print(f"\nRecording {count} clips of {given.seconds:g} s, or taking them from {store} ...", flush=True)
    ticker = record_gameplay.Ticker(sys.stdout)
    footage = record_gameplay.record(
        store, given.clips, given.seconds, given.seed, ticker, with_broken=given.with_broken
    )
    return footage, store / "truth.csv"


def introduce(given: argparse.Namespace) -> None:
    """Say what is going to happen, and with what."""
    print("seehear learns from videos with sound, without labels: what is heard supervises what is seen, and back.\n")
    if given.videos is None:
        print(
            "Input: real footage, made here and now. A game engine plays levels of Freedoom and renders picture\n"
            f"and sound together; each clip of {given.seconds:g} s shows one of {len(record_gameplay.WEAPONS)} weapons "
            "in use. Neither the file names nor\nanything else that seehear sees says which one; the truth is kept "
            "aside to score the result."
        )
    else:
        print(f"Input: the videos in {given.videos}.")
    print(
        "\nSteps: scan the files, pretrain, label every video, "
        f"{'score, ' if given.videos is None or given.labels else ''}make an index, write a page to look at."
    )


def pretrain(given: argparse.Namespace, manifest: Path, run: Path, source: Path) -> None:
    """Learn; go on with an interrupted run, and keep a finished one of the same input."""
    identity = {
        "videos": str(source.resolve()), "method": given.method, "recipe": given.recipe, "settings": given.set
    }  # fmt: skip
    made_of = run.with_name("run.json")
    if run.exists():
        if not made_of.exists() or json.loads(made_of.read_text()) != identity:
            raise SystemExit(f"demo: {run} holds a run of other videos or settings; remove it or choose another --out")
        if (run / "labels.parquet").exists():
            print(f"\n{run} holds a finished run; remove it to train anew.")
            return
        if (run / "config.yaml").exists():
            seehear("pretrain", "--resume", run)
            return
        shutil.rmtree(run)  # stopped before there was anything to go on with
    made_of.write_text(json.dumps(identity, indent=1))
    settings = [part for setting in given.set for part in ("--set", setting)]
    seehear("pretrain", manifest, "--method", given.method, "--recipe", given.recipe, "--out", run, *settings)


def print_scores(result: dict[str, Any]) -> None:
    """The run's agreement with the true classes beside that of what was not trained."""
    groups = {"trained": result["scores"], **result.get("baselines", {})}
    print(f"\nAgreement of the clusters with the true classes of {result['videos']} videos (1 is perfect)")
    print(f"\n  {'':<24}" + "".join(f"{title:>10}" for title in SCORES.values()))
    for group, scores in groups.items():
        for modality, title in ROWS.items():
            if modality in scores:
                cells = "".join(f"{scores[modality][key]:>10.3f}" for key in SCORES)
                print(f"  {group:<10}{title:<14}{cells}")


def run_demo(given: argparse.Namespace) -> None:
    """All steps, one after another."""
    out: Path = given.out
    out.mkdir(parents=True, exist_ok=True)
    manifest, run, labels = out / "clips.parquet", out / "run", out / "labels.csv"
    watch = Stopwatch()
    introduce(given)
    with watch.part("record" if given.videos is None else "find"):
        videos, truth = get_videos(given)
    with watch.part("scan"):
        seehear("scan", videos, "--out", manifest)
    with watch.part("pretrain"):
        pretrain(given, manifest, run, videos)
    with watch.part("label"):
        seehear("label", run, "--out", labels)
    result = None
    if truth is not None:
        with watch.part("evaluate"):
            text = seehear("evaluate", "clustering", run, "--labels", truth, "--baselines", "--json", capture=True)
        (out / "scores.json").write_text(text)
        result = json.loads(text)
    with watch.part("index"):
        seehear("index", run)
    with watch.part("report"):
        known: list[str | Path] = [] if truth is None else ["--labels", truth]
        seehear("report", run, *known)
    if result is not None:
        print_scores(result)
    print("\nTime: " + ", ".join(f"{name} {seconds:.0f} s" for name, seconds in watch.seconds.items()))
    print(f"Labels of all videos: {labels}")
    print(f"The page to look at:  {(run / 'report.html').resolve()}")
    print(f"\nName the clusters and search them in the browser:\n\n    {command_of('serve', run)}\n")


def main(arguments: list[str] | None = None) -> int:
    """Command line of the demo."""
    parser = argparse.ArgumentParser(description="From unlabelled videos with sound to clusters, a page and scores.")
    parser.add_argument("--videos", type=Path, help="folder of your own videos instead of recorded footage")
    parser.add_argument("--labels", type=Path, help="CSV (path,label) with their classes, to score the result")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="where the results go (demo)")
    parser.add_argument("--method", default="xdc")
    parser.add_argument("--recipe", default="small")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.FIELD=VALUE", help="for pretrain")
    parser.add_argument("--clips", type=int, default=40, metavar="N", help="recorded clips of each class (40)")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a recorded clip (3)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the recording")
    parser.add_argument("--with-broken", action="store_true", help="add files that cannot be used to the footage")
    given = parser.parse_args(arguments)
    if given.clips < 1 or given.seconds <= 0:
        parser.error("--clips and --seconds must be positive")
    if given.labels is not None and given.videos is None:
        parser.error("--labels goes with --videos")
    try:
        run_demo(given)
    except record_gameplay.RecordError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except Failed as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        print("\ndemo: stopped; run it again to go on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
