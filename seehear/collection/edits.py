"""Edits as they are asked for: checked against the state of now, and put as payloads of events.

Every function raises `UsageError` for what cannot be. A payload names clusters by id and segments by content and time,
and has a line of text for people, in the words that hold at the time of the edit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from seehear.collection.state import State, checked_name
from seehear.collection.text import counted
from seehear.errors import UsageError

Payload = dict[str, Any]
MOST_PARTS = 20
_MOST_CLUSTERED = 10_000
"""Members of a cluster that k-means looks at to split it; the others go to the closest part."""


def checked_rows(state: State, rows: Iterable[int]) -> np.ndarray:
    """Rows, ascending and each once."""
    try:
        found = np.unique(np.array(list(rows), dtype=np.int64))
    except (TypeError, ValueError, OverflowError):
        raise UsageError("segments are given by their rows: whole numbers") from None
    if not len(found):
        raise UsageError("no segment is given")
    if found[0] < 0 or found[-1] >= len(state.timeline):
        wrong = found[0] if found[0] < 0 else found[-1]
        raise UsageError(f"there is no segment {wrong}", f"they are numbered from 0 to {len(state.timeline) - 1}")
    return found


def naming(state: State, cluster: str | int, text: str | None) -> Payload:
    """Name a cluster, or take its name away."""
    place, name = state.find(cluster), checked_name(text)
    before, before_text = state.names[place], state.label(place)
    _check_free(state, name, place)
    if name is None and before is None:
        raise UsageError(f"cluster {state.ids[place]} has no name")
    told = f"took the name of {before_text} away" if name is None else f'named {before_text} "{name}"'
    return {"cluster": state.ids[place], "name": name, "text": told}


def _check_free(state: State, name: str | None, place: int | None) -> None:
    """Raise `UsageError` if another cluster has this name."""
    other = None if name is None else state.of_name(name)
    if other is not None and other != place:
        raise UsageError(
            f'cluster {state.ids[other]} is called "{state.names[other]}" already',
            "merge the two clusters, or choose another name",
        )


def merging(state: State, clusters: Sequence[str | int], into: str | int | None) -> Payload:
    """Put clusters together; by default into the largest of those that have a name, or else the largest."""
    places = list(dict.fromkeys(state.find(c) for c in clusters))
    sizes = np.bincount(state.cluster, minlength=len(state.ids))
    if into is not None:
        target = state.find(into)
    elif places:
        target = max(places, key=lambda p: (state.names[p] is not None, sizes[p], -p))
    others = [p for p in places if p != target] if places else []
    if not others:
        raise UsageError("a merge needs two clusters that are not the same")
    told = f"merged {_listed([state.label(p) for p in others])} into {state.label(target)}"
    return {"clusters": [state.ids[p] for p in others], "into": state.ids[target], "text": told}


def splitting(state: State, cluster: str | int, parts: int, x: np.ndarray, suffix: str) -> Payload:
    """Part the members of a cluster by k-means on features x (N, d); the largest part is the first."""
    place = state.find(cluster)
    rows = state.members(place)
    if not 2 <= parts <= MOST_PARTS:
        raise UsageError(f"a cluster is split into 2 to {MOST_PARTS} parts, not {parts}")
    if len(rows) < parts:
        raise UsageError(f"{state.label(place)} has {_segments(len(rows))}, too few for {parts} parts")
    which = _parted(x[rows], parts)
    sizes = np.bincount(which, minlength=parts)
    if (sizes == 0).any():
        raise UsageError(f"the segments of {state.label(place)} cannot be told apart", "move some of them by hand")
    confirmed = state.confirmed[rows]
    named = int(np.argmax(np.bincount(which[confirmed], minlength=parts) * len(rows) + sizes))
    if state.names[place] is not None:
        which[confirmed] = named  # a person said that they are what the name says
    order = np.argsort(-np.bincount(which, minlength=parts), kind="stable")
    order = order[np.bincount(which, minlength=parts)[order] > 0]
    if len(order) < 2:
        raise UsageError(f"people placed what is in {state.label(place)} there", "move what should leave it")
    ids = state.new_ids(state.ids[place], len(order), suffix)
    made = [
        {"id": i, "segments": state.timeline.stretches.take(rows[which == p]).as_json()}
        for i, p in zip(ids, order.tolist(), strict=True)
    ]
    told = f"split {state.label(place)} into {len(made)} parts"
    return {"cluster": state.ids[place], "parts": made, "named": order.tolist().index(named), "text": told}


def _parted(x: np.ndarray, parts: int) -> np.ndarray:
    """The part of each row of x (n, d), (n,) from 0; equal for equal rows."""
    import warnings

    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    model = KMeans(parts, n_init=10, random_state=0)
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different rows than parts: told of by empty parts
        model.fit(x[:: max(1, len(x) // _MOST_CLUSTERED)].astype(np.float64))
        found: np.ndarray = model.predict(x.astype(np.float64))
    return found


def moving(state: State, rows: Iterable[int], to: str | int | None, new: bool, suffix: str) -> Payload:
    """Say that segments belong to a cluster, or to a new one, of which `to` is the name if it is to have one."""
    found = checked_rows(state, rows)
    payload: Payload = {"segments": state.timeline.stretches.take(found).as_json()}
    if new:
        name = checked_name(None if to is None else str(to))
        _check_free(state, name, None)
        payload |= {"to": state.new_ids("new", 1, suffix)[0], "name": name}
        where = "a new cluster" if name is None else f'a new cluster "{name}"'
    else:
        if to is None:
            raise UsageError("where to is missing", "name a cluster")
        place = state.find(to)
        payload["to"] = state.ids[place]
        where = state.label(place)
    return payload | {"text": f"moved {_segments(len(found))} to {where}"}


def rejecting(state: State, rows: Iterable[int], reject: bool) -> Payload:
    """Take segments out of all clusters, or put them back where they were."""
    found = checked_rows(state, rows)
    changed = found[state.rejected[found] != reject]
    if not len(changed):
        raise UsageError(f"nothing to do: {_segments(len(found))} {'rejected' if reject else 'in place'} already")
    told = f"{'rejected' if reject else 'put back'} {_segments(len(changed))}"
    return {"segments": state.timeline.stretches.take(changed).as_json(), "text": told}


def answering(
    state: State, row: int, cluster: str | int, yes: bool, next_best: Callable[[int, int], tuple[int, float] | None]
) -> Payload:
    """Answer whether a segment is of a cluster. After a no it goes to the `next_best` (row, cluster not meant)."""
    found = checked_rows(state, [row])
    place = state.find(cluster)
    payload: Payload = {
        "segments": state.timeline.stretches.take(found).as_json(), "cluster": state.ids[place], "yes": bool(yes),
        "text": f"said that a segment is {'' if yes else 'not '}{state.label(place)}",
    }  # fmt: skip
    if yes:
        return payload
    payload |= {"to": None, "probability": 0.0}
    if int(state.cluster[found[0]]) == place:
        best = next_best(int(found[0]), place)
        if best is None:
            raise UsageError("there is no other cluster where it could go", "move it to a new one, or reject it")
        payload |= {"to": state.ids[best[0]], "probability": round(best[1], 4)}
    return payload


def propagating(state: State, places: Sequence[int], p: np.ndarray, least: float) -> Payload:
    """Move what nobody decided to the cluster, one of `places`, that it is likeliest of; `p` is (N, places)."""
    if not 0 <= least <= 1:
        raise UsageError(f"a probability lies between 0 and 1, not at {least}")
    target = np.array(places, dtype=np.int32)[p.argmax(axis=1)]
    best = p.max(axis=1)
    rows = np.flatnonzero((best >= least) & (target != state.cluster) & ~state.confirmed & ~state.rejected)
    if not len(rows):
        raise UsageError(
            f"no segment is likelier than {least:g} of another cluster", "answer some questions, or ask for less"
        )
    moves = []
    for place in np.unique(target[rows]).tolist():
        of = rows[target[rows] == place]
        stretches = state.timeline.stretches.take(of)
        sure = np.round(best[of][stretches.json_order()].astype(float), 4)
        moves.append({"to": state.ids[place], "segments": stretches.as_json(), "probability": sure.tolist()})
    return {"moves": moves, "text": f"moved {_segments(len(rows))} by what was learnt from names and answers"}


def _segments(count: int) -> str:
    return counted(count, "segment")


def _listed(texts: Sequence[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"
