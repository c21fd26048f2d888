"""Joining parts: what `seehear scan`, `prepare`, `embed`, `label` and `index` did in parts becomes one result."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional

from seehear.commands import command, plain
from seehear.options import option

if TYPE_CHECKING:
    Result = str | Path
else:
    Result = Annotated[
        Positional[str], option("What was given as --out when the parts were made, or RUN/index.", metavar="OUT")
    ]


def _text(made: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    lines = [f"{made['rows']} {made['unit']} of {made['parts']} blocks: {made['out']}"]
    lines += [f"left out: {len(made['left_out'])}"] if made["left_out"] else []
    return "\n".join(lines)


@command(
    "join",
    group="start",
    example="seehear join features.parquet",
    text=_text,
    as_json=plain,
    stopped="the parts are still there: give the same command again",
)
def join_parts(result: Result) -> dict[str, Any]:
    """Join the parts that other commands made with --part into what one process would have made.

    For `scan`, `prepare`, `embed`, `label` and `index`. Every part has to be there, whole and of the same files and
    settings; then they are deleted.

    Returns out, kind (the command), parts (blocks joined), rows, unit (what a row is) and left_out (reports of files).

    Raises:
        DataError: parts are missing, damaged, there twice or of something else; it names them.
    """
    from seehear.parts import PartFolder
    from seehear.progress import Progress

    folder, out = PartFolder.open(result), Path(result)
    kind, unit, left_out = folder.plan.kind, "segments", []
    if kind == "scan":
        from seehear.data.scan_parts import finish as finish_scan

        rows, unit = len(finish_scan(folder, out)), "files"
    elif kind == "prepare":
        from seehear.preparing.in_parts import finish as finish_preparing

        with Progress(quiet=None) as progress:
            preparation = finish_preparing(folder, out.absolute(), progress.tasks("files"))
        rows, unit = len(preparation.rows), "files"
        left_out = [row for row in preparation.rows if row["outcome"] == "failed"]
    elif kind == "index":
        from seehear.search.building import join_index

        made = join_index(out.parent)
        rows, left_out = made["segments"], made["left_out"]
    else:
        from seehear.labelling.in_parts import finish

        with Progress(quiet=None) as progress:
            written = finish(folder, out, progress)
        rows, left_out = written.num_rows, list(written.left_out)
    return {
        "out": str(result), "kind": kind, "parts": folder.plan.count, "rows": rows, "unit": unit, "left_out": left_out,
    }  # fmt: skip
