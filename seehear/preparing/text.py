"""A preparation in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seehear.parts import Written
    from seehear.preparing.run import Preparation


def as_text(preparation: Preparation | Written, given: Mapping[str, Any]) -> str:
    """How many copies there are, how large they are, and what became of the other files."""
    from seehear.preparing.run import Preparation

    if not isinstance(preparation, Preparation):
        failed = f", {len(preparation.left_out)} of them failed" if preparation.left_out else ""
        done = f"{preparation.items} files looked at{failed}: part {given['part']} is done"
        return f"{done}; when all are: seehear join {given['out']}"
    from seehear.data.manifest import REASONS
    from seehear.data.prepared import FAILED, PREPARED, REJECTED, TABLE_CSV

    facts = preparation.summary()
    before, after = (f"{facts[name] / 1e6:.1f} MB" for name in ("original_bytes", "prepared_bytes"))
    of_all = f"{facts[PREPARED]} of {len(preparation.rows)} files prepared, {facts['made_now']} of them now"
    lines = [f"{of_all}: {before} became {after} in {facts['cpu_seconds']:.0f} CPU seconds"]
    for name in (REJECTED, FAILED):
        rows = [row for row in preparation.rows if row["outcome"] == name]
        for reason in dict.fromkeys(row["reason"] for row in rows):
            own = [row for row in rows if row["reason"] == reason]
            meaning, remedy = REASONS.get(reason, (reason, ""))
            lines.append(f"  {len(own):6d} {name}: {reason}: {meaning}" + (f" -> {remedy}" if remedy else ""))
            lines.append(f"         {own[0]['video_id']}: {own[0]['detail']}" + (", ..." if len(own) > 1 else ""))
    folder = facts["folder"]
    lines += [f"what became of each: {preparation.folder / TABLE_CSV}", f"next: seehear pretrain {folder} --out runs/a"]
    return "\n".join(lines)
