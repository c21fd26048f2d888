"""Writes edits as another process does: `python -m tests.collection.writing RUN HOST AUTHOR COUNT`.

Prints the id of each edit once it is written, so that whoever kills this process knows what must not be lost.
"""

from __future__ import annotations

import os
import sys


def main(run: str, host: str, author: str, count: int) -> None:
    os.environ["SEEHEAR_HOST"] = host
    from tests.collection.made import opened

    collection = opened(run, author=author)
    for number in range(count):
        edit = collection.name(number % 4, f"{author} {number}") if number % 3 else collection.move([number % 90], 1)
        print(edit.id, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
