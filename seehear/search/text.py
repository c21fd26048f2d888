"""Results of the search room in words, for a terminal. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seehear.search.duplicates import Duplicates
    from seehear.search.found import Found


def of_index(made: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """What is in the index now, what was done for it, and what was left out."""
    if given["part"] is not None:
        done = f"{made['segments']} segments of {made['videos']} videos"
        return f"{done}: part {made['part']} is done; when all are: seehear join {given['run']}/index"
    every = "" if made["every_seconds"] is None else f" of {made['every_seconds']:g} s"
    lines = [
        f"{made['segments']} segments{every} of {made['videos']} videos in {given['run']}/index",
        f"videos embedded: {made['embedded']}, known before: {made['kept']}, gone: {made['gone']}",
    ]
    if made["across"] is None:
        lines.append("sight and sound cannot be compared: searches across are not possible")
    else:
        lines.append(f"across sight and sound: {made['across']}")
    if made["recall"] is not None:
        lines.append(f"so many are searched approximately: {made['recall']:.1%} of the best are found")
    lines += _left_out(made["left_out"])
    return "\n".join(lines)


def of_found(found: Found, given: Mapping[str, Any]) -> str:
    """A line a hit, after what was compared and whether anything is like the query at all."""
    answer = found.answer
    lines = [f"compared: {answer.through}"]
    if not answer.exact:
        lines.append(f"the likeliest segments alone: {answer.recall:.1%} of the best are found")
    lines += answer.notes
    if answer.nothing_like_it:
        lines.append(f"nothing like it here: no segment scores {answer.cut_off:g} or more")
    hits = found.hits
    if not hits:
        return "\n".join([*lines, "no segments"])
    width = max(len(hit["video"]) for hit in hits)
    lines.append(f"{'score':>5}  {'video':<{width}}  {'from':>9} {'to':>9}  cluster")
    for hit in hits:
        times = f"{hit['start']:>9.2f} {hit['end']:>9.2f}"
        lines.append(f"{hit['score']:>5.2f}  {hit['video']:<{width}}  {times}  {hit['cluster']:>7}")
    return "\n".join(lines)


def of_duplicates(found: Duplicates, given: Mapping[str, Any]) -> str:
    """The groups of copies, a line a video."""
    if not found.groups:
        return "\n".join([f"no copies among {found.compared} videos", *_left_out(found.left_out)])
    copies = sum(len(group) - 1 for group in found.groups)
    lines = [f"{copies} copies of {len(found.groups)} videos, among {found.compared}"]
    for number, group in enumerate(found.groups, 1):
        lines.append(f"{number}.")
        for copy in group:
            same = "" if copy.indexed else "  (the same bytes; not indexed)"
            lines.append(f"   {copy.video_id}{same}")
    return "\n".join([*lines, *_left_out(found.left_out)])


def _left_out(reports: list[dict[str, Any]]) -> list[str]:
    if not reports:
        return []
    lines = [f"left out: {len(reports)}"]
    lines += [f"  {r['video_id']}: {r['reason']}: {r['detail']}" for r in reports[:10]]
    return lines + ([f"  and {len(reports) - 10} more (--json lists all)"] if len(reports) > 10 else [])
