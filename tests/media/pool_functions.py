"""What the tests of the pool run in its children; no test modules are imported there."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time

import numpy as np

from seehear.errors import MediaError, UsageError


def square(x):
    return x * x


def hang(seconds):
    time.sleep(seconds)


def hang_hard():
    """Hangs and heeds no polite signal."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        ctypes.CDLL(None).usleep(100_000)


def leave(code):
    os._exit(code)


def crash():
    ctypes.string_at(0)


def fall():
    raise ValueError("no such thing")


def reject(name):
    raise MediaError(name, "silent", "the sound is silence")


def misuse():
    raise UsageError("a wrong setting")


def eat(size):
    return len(bytearray(size))


def array(size):
    return {"frames": np.full(size, 7, np.uint8), "wave": np.arange(10.0), "none": np.zeros(0)}


def process():
    return os.getpid()


def modules():
    return sorted(set(sys.modules) & {"torch", "multiprocessing.pool", "seehear.media.pool"})


def interrupt_self():
    os.kill(os.getpid(), signal.SIGINT)
    return "still here"


def chatter():
    print("noise on standard output", flush=True)
    return 1


def stop_while_sending(size):
    """Freezes (not ends) while the answer is on its way."""
    import threading

    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGSTOP)).start()
    time.sleep(0.19)
    return np.zeros(size, np.uint8)


def unpicklable():
    return lambda: None


def slow_square(x):
    time.sleep(0.05 * (x % 3))
    return x * x


def call(name, *args):
    return globals()[name](*args)
