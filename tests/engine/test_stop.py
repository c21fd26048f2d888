"""Work that shows its progress and heeds signals."""

from __future__ import annotations

import signal

import pytest

from seehear.engine.stop import StopRequest
from seehear.errors import Interrupted
from seehear.progress import Progress


def test_work_that_is_shown_heeds_a_signal_and_says_where_it_was():
    stop, progress = StopRequest(), Progress(quiet=True)
    show = stop.shown(progress, "scan", "files", "run it again")
    assert progress.task == ""
    show(1, 3)
    assert progress.task == "scan"
    stop.signal = signal.SIGTERM
    with pytest.raises(Interrupted, match=r"stopped by SIGTERM \(scan: 2 of 3 files\)") as caught:
        show(2, 3)
    assert caught.value.remedy == "run it again"
