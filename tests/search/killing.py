"""Kill a build of an index again and again: run as `python -m tests.search.killing RUN VIDEOS`.

As `tests.kills`: every child ends itself by SIGKILL at the first rename, within the index, at which none has died
before; the next one goes on by the same command. What each came to is printed as JSON.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import torch

from seehear.search import embedding
from seehear.search.building import build_index
from tests.kills import MOST_CHILDREN, in_child


def main(run: str, videos: str) -> None:
    torch.set_num_threads(1)
    embedding.PART_VIDEOS = 5
    seen = Path(run).with_name("seen.txt")
    codes: list[int] = []
    while len(codes) < MOST_CHILDREN and (not codes or codes[-1] == -signal.SIGKILL):
        codes.append(in_child(lambda: build_index(run, videos, every_seconds=0.5, workers=0), [f"{run}/index"], seen))
    print(json.dumps({"codes": codes, "paths": seen.read_text().splitlines()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
