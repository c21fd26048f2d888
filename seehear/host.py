"""How a process uses the machine: threads that sleep when they wait, and memory that is used again. No number changes.

Small encoders are hundreds of operations of a fraction of a millisecond. What a runtime does between two of them then
costs as much as they do.
"""

from __future__ import annotations

import ctypes
import functools
import os

# The parameters of glibc's `mallopt` (malloc.h).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 1 << 29
"""Freed memory that the process keeps to itself; what is free beyond it goes back to the system."""
LARGE_BYTES = 1 << 25
"""Blocks from this size on are taken from the system and given back each by itself (glibc takes no higher limit)."""


def sleep_while_waiting() -> None:
    """Let OpenMP's threads sleep until there is work, unless the environment says otherwise (`OMP_WAIT_POLICY`).

    By default they spin, and with few cores take the time of those that work: of the threads of other encoders, of the
    loader, of other programs. The runtime reads this once, when torch is loaded: call it before.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@functools.cache
def keep_freed_memory() -> bool:
    """Have the C library keep the memory of tensors that are freed, for those that come next; whether it does.

    As it is, glibc gives it back to the system after each step, and each page of the next step's tensors is taken,
    zeroed and mapped anew: thousands a step. Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    # A threshold that is set no longer moves by itself, so the second one has to be set, too.
    return bool(mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)) and bool(mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES))
