"""Which clips the steps of an epoch have, whatever the number of processes and wherever it changes."""

from __future__ import annotations

import dataclasses
from collections import Counter
from unittest import mock

import numpy as np
import pytest

from seehear import dist
from seehear.config import Config
from seehear.data.clips import Video, clip_refs, epoch_order, training_requests
from seehear.engine.sampling import epoch_steps
from seehear.engine.schedule import stages
from seehear.errors import DataError

CONFIG = Config()
VIDEOS = [Video(f"v{i}", f"v{i}.mp4", f"v{i}", 0.0, 9.0, 64, 48) for i in range(47)]
REFS = clip_refs(VIDEOS, CONFIG.cluster)
BY_ID = {v.video_id: v for v in VIDEOS}


def steps(processes, batch_size, done=0, fewest=1, **changes):
    """The requests of all processes for every step left of an epoch, and where they begin and end."""
    optim = dataclasses.replace(CONFIG.optim, batch_size=batch_size, **changes)
    stage = stages(dataclasses.replace(CONFIG, optim=optim))[0]
    shares = []
    with mock.patch.object(dist, "world_size", return_value=processes):
        for rank in range(processes):
            with mock.patch.object(dist, "rank", return_value=rank):
                found = epoch_steps(stage, REFS, BY_ID, None, None, 3, done, fewest)
                shares.append(list(found.requests(found.begin, found.end)))
    return [[r for share in step for r in share] for step in zip(*shares, strict=True)], found


def in_order(count):
    """The oracle: the first requests of the epoch as one list."""
    order = epoch_order(len(REFS), len(REFS), (CONFIG.seed, 0, 3))
    return training_requests(REFS, order[:count], BY_ID, CONFIG.clip, CONFIG.augment, (CONFIG.seed, 0, 3))


@pytest.mark.parametrize(("processes", "batch_size"), [(1, 8), (2, 4), (4, 2), (8, 1)])
def test_a_step_is_the_same_however_many_share_it(processes, batch_size):
    found, _ = steps(processes, batch_size)
    assert [len(step) for step in found] == [8] * 5
    assert [r for step in found for r in step] == in_order(40)


def test_the_number_of_processes_may_change_within_an_epoch():
    """Every clip once, in the one order, wherever a run was stopped: 3, then 1, 5 and 2 processes."""
    taken, done = [], 0
    for processes, count in ((3, 2), (1, 3), (5, 1), (2, 99)):
        found, plan = steps(processes, 3, done)
        assert plan.begin == done and plan.size == 3 * processes
        for step in found[:count]:
            taken += step
            done += plan.size
    assert done == plan.end == 9 * 2 + 3 * 3 + 15
    assert taken == in_order(done)
    rest, plan = steps(4, 3, done)
    assert rest == [] and plan.end == done


def test_fewer_clips_than_a_step_takes_are_one_step():
    found, plan = steps(5, 16)
    assert [len(step) for step in found] == [45]
    assert (plan.last, plan.end) == (0, 45)
    assert steps(5, 16, done=45)[0] == []


def test_few_clips_come_several_times_in_an_epoch():
    found, plan = steps(2, 5, least_clips_per_epoch=100)
    count = Counter(request.ref.video_id for step in found for request in step)
    assert plan.end == 100 and set(count.values()) == {2, 3} and len(count) == 47  # twice, and six once more
    assert sum(n == 3 for n in count.values()) == 6
    assert len({r.start_seconds for step in found for r in step}) > 47  # each time another moment
    assert steps(1, 5, least_clips_per_epoch=40)[1].end == 45  # there are more than that
    assert steps(1, 5, least_clips_per_epoch=100, clips_per_epoch=20)[1].end == 20


def test_steps_that_are_too_small_are_refused():
    with pytest.raises(DataError, match="48 processes"):
        steps(48, 1)
    with pytest.raises(DataError, match="they need 2"):
        steps(24, 4, fewest=2)
    assert np.sum([len(s) for s in steps(23, 4, fewest=2)[0]]) == 46
