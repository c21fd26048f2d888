from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from seehear.errors import MediaError, UsageError
from seehear.media.decode import Window, decode
from seehear.media.pool import Outcome, WorkerPool, available_cores
from tests.corpus import make_video
from tests.media import pool_functions as functions


def children(pid=None):
    """Process ids of the pool's children of a process, the living and the undead (Linux)."""
    found = set()
    for listing in Path(f"/proc/{pid or os.getpid()}/task").glob("*/children"):
        for child in listing.read_text().split():
            try:
                command = Path(f"/proc/{child}/cmdline").read_bytes()
            except OSError:
                continue
            if b"_child_main" in command or not command:
                found.add(int(child))
    return found


@pytest.fixture(scope="module")
def pool():
    with WorkerPool(2, timeout_seconds=1.5, memory_limit_bytes=2 << 30) as made:
        yield made


def one(pool, name, *args):
    (outcome,) = pool.imap(functions.call, [("the file", (name, *args))])
    return outcome


def test_results_in_order_and_as_they_come(pool):
    items = [(f"k{i}", (i,)) for i in range(20)]
    assert [(o.key, o.value) for o in pool.imap(functions.slow_square, items)] == [(f"k{i}", i * i) for i in range(20)]
    loose = list(pool.imap(functions.slow_square, items, ordered=False, ahead=20))
    assert sorted(o.value for o in loose) == [i * i for i in range(20)]
    assert list(pool.imap(functions.square, [])) == []


@pytest.mark.parametrize(("name", "args", "reason", "words"), [
    ("hang", (60,), "timeout", "longer than 1.5 s"),
    ("hang_hard", (), "timeout", "longer than 1.5 s"),
    ("stop_while_sending", (50_000_000,), "timeout", "longer than 1.5 s"),
    ("leave", (3,), "crashed", "exit code 3"),
    ("leave", (0,), "crashed", "exit code 0"),
    ("crash", (), "crashed", "SIGSEGV"),
    ("fall", (), "crashed", "ValueError: no such thing (pool_functions.py:"),
    ("eat", (8 << 30,), "too_large", "memory"),
    ("reject", ("x.mp4",), "silent", "the sound is silence"),
])  # fmt: skip
def test_a_bad_task_costs_only_itself(pool, name, args, reason, words):
    items = [(0, ("square", 3)), ("bad.mp4", (name, *args)), *((i, ("square", i)) for i in range(1, 6))]
    outcomes = list(pool.imap(functions.call, items))
    assert [o.value for o in outcomes if o.key != "bad.mp4"] == [9, 1, 4, 9, 16, 25]
    (bad,) = (o for o in outcomes if o.key == "bad.mp4")
    assert isinstance(bad.error, MediaError)
    assert bad.error.reason == reason
    assert words in bad.error.detail
    assert bad.error.path in ("bad.mp4", "x.mp4")
    assert bad.value is None


def test_a_stopped_child_is_replaced_and_reaped(pool):
    before = one(pool, "process").value
    for _ in range(3):
        assert one(pool, "leave", 1).error.reason == "crashed"
    assert one(pool, "process").value != before or len(children()) <= 2
    assert len(children()) <= 2  # no zombies


def test_an_idle_child_that_was_killed_is_replaced(pool):
    assert children()
    for pid in children():
        os.kill(pid, signal.SIGKILL)
    time.sleep(0.1)
    assert one(pool, "square", 5).value == 25


def test_wrong_settings_are_raised_here(pool):
    with pytest.raises(UsageError, match="a wrong setting"):
        one(pool, "misuse")
    with pytest.raises(UsageError, match="cannot be sent"):
        one(pool, "unpicklable")
    with pytest.raises(Exception, match="pickle"):
        list(pool.imap(lambda: 1, [(1, ())]))
    assert one(pool, "square", 2).value == 4


def test_arrays_arrive_whole_and_writable(pool):
    value = one(pool, "array", 30_000_000).value
    assert value["frames"].sum() == 7 * 30_000_000
    value["frames"][0] = 1
    assert value["wave"].tolist() == list(range(10))
    assert value["none"].shape == (0,)


def test_large_results_are_not_slow(pool):
    size = 4_000_000
    list(pool.imap(functions.array, ((i, (10,)) for i in range(4))))
    start = time.perf_counter()
    total = sum(o.value["frames"].nbytes for o in pool.imap(functions.array, ((i, (size,)) for i in range(30))))
    assert total / (time.perf_counter() - start) > 50e6  # bytes a second; 1e9 on an idle machine


def test_children_are_light_and_quiet(pool, capfd):
    assert one(pool, "modules").value == ["seehear.media.pool"]
    assert one(pool, "interrupt_self").value == "still here"
    assert one(pool, "chatter").value == 1
    assert "noise" not in capfd.readouterr().out


def test_ahead_bounds_what_is_taken_and_stopping_early_is_fine(pool):
    taken = []

    def items():
        for i in range(1000):
            taken.append(i)
            yield i, (i,)

    stream = pool.imap(functions.square, items(), ahead=5)
    assert [next(stream).value for _ in range(3)] == [0, 1, 4]
    time.sleep(0.1)
    assert len(taken) <= 8
    stream.close()
    assert one(pool, "square", 7).value == 49


def test_two_streams_share_a_pool(pool):
    first = pool.imap(functions.square, ((i, (i,)) for i in range(10)))
    second = pool.imap(functions.square, ((i, (-i,)) for i in range(10)))
    assert [(a.value, b.value) for a, b in zip(first, second, strict=True)] == [(i * i, i * i) for i in range(10)]


def test_results_wait_while_the_caller_is_busy():
    with WorkerPool(1, timeout_seconds=5) as pool:
        stream = pool.imap(functions.slow_square, ((i, (2,)) for i in range(6)), ahead=6)
        next(stream)
        time.sleep(1.2)  # the others are worked on meanwhile
        start = time.perf_counter()
        assert len(list(stream)) == 5
        assert time.perf_counter() - start < 0.3


def test_close_leaves_nothing_behind():
    threads, others = threading.active_count(), children()
    start = time.perf_counter()
    with WorkerPool(2, timeout_seconds=30) as pool:
        stream = pool.imap(functions.call, [(0, ("square", 1)), (1, ("hang", 25)), (2, ("hang", 25))])
        assert next(stream).value == 1
        time.sleep(0.3)
        mine = children() - others
    assert time.perf_counter() - start < 10
    assert mine
    assert not mine & children()
    assert threading.active_count() == threads
    with pytest.raises(UsageError, match="closed"):
        next(stream)
    with pytest.raises(UsageError, match="closed"):
        list(pool.imap(functions.square, [(1, (1,))]))


def test_without_workers_it_runs_here():
    with WorkerPool(0, timeout_seconds=1) as pool:
        assert one(pool, "process").value == os.getpid()
        assert one(pool, "fall").error.reason == "crashed"
        assert one(pool, "reject", "x").error.reason == "silent"
        with pytest.raises(UsageError):
            one(pool, "misuse")


def test_wrong_use():
    with pytest.raises(UsageError):
        WorkerPool(-1, timeout_seconds=1)
    with pytest.raises(UsageError):
        WorkerPool(1, timeout_seconds=0)
    assert available_cores() >= 1
    assert Outcome("k").error is None


def test_children_die_with_a_killed_parent(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        "import time\nfrom seehear.media.pool import WorkerPool\n"
        "from tests.media import pool_functions as f\n"
        "p = WorkerPool(2, timeout_seconds=60)\n"
        "s = p.imap(f.call, [(0, ('square', 1)), (1, ('hang_hard',)), (2, ('hang_hard',))], ahead=3)\n"
        "next(s); time.sleep(.3); print('up', flush=True); time.sleep(60)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, env=environment, text=True)
    assert parent.stdout.readline() == "up\n"
    orphans = children(parent.pid)
    assert len(orphans) == 2
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and any(
        Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes() for pid in orphans
    ):
        time.sleep(0.05)  # fmt: skip
    assert time.monotonic() < deadline


def test_functions_of_main_are_refused(tmp_path):
    code = (
        "from seehear.media.pool import WorkerPool\nfrom seehear.errors import UsageError\n"
        "def f(x): return x\n"
        "with WorkerPool(1, timeout_seconds=5) as p:\n"
        "    try: list(p.imap(f, [(1, (1,))]))\n"
        "    except UsageError as e: print('refused', '__main__' in str(e))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert out.stdout.split() == ["refused", "True"], out.stderr


def test_decoding_in_a_pool(tmp_path):
    make_video(tmp_path / "g.mp4", seconds=1.5)
    with WorkerPool(1, timeout_seconds=20) as pool:
        items = [(name, (str(tmp_path / name),)) for name in ("g.mp4", "none.mp4")]
        outcomes = list(pool.imap(_decode_clip, items))
    assert outcomes[0].value[0].frames.shape == (4, 32, 43, 3)
    assert np.abs(outcomes[0].value[0].waveform).max() > 0.1
    assert outcomes[1].error.reason == "missing"


def _decode_clip(path):
    return decode(path, [Window(0.2, 4, 15, 1.0)], short_side_px=32, sample_rate_hz=16000)
