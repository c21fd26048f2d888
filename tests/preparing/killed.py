"""Kill a preparation again and again: run as `python -m tests.preparing.killed SOURCE OUT`, by `test_preparing.py`.

It forks before anything has run. Each child works in its own process alone and ends itself by SIGKILL at the first
rename to a name at which none was killed before; the next one is given the same command. What each came to is printed
as JSON, with the names.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from tests.kills import in_child


def main(source: str, out: str) -> None:
    def work() -> None:
        from seehear.media.recoding import Recoding
        from seehear.preparing.run import prepare

        prepare(source, out, Recoding(32, 15.0, 10, 8000, ("video", "audio")), shard_bytes=1_000_000, workers=0)

    seen = Path(f"{out}.seen")
    codes: list[int] = []
    while len(codes) < 50 and (not codes or codes[-1] == -signal.SIGKILL):
        codes.append(in_child(work, [out], seen))
    print(json.dumps({"codes": codes, "paths": [os.path.relpath(p, out) for p in seen.read_text().splitlines()]}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
