"""One timeline for a file whose clock jumps, such as a recording joined from two.

Transport and program streams carry the clock of whoever sent them: where recordings were joined, or a broadcast was
interrupted, it jumps, for all streams at once. Each continuous stretch is moved to where the one before it ended.
"""

from __future__ import annotations

from dataclasses import dataclass

import av
from av.container import InputContainer
from av.format import Flags

FORWARD_SECONDS = 3.0
"""A clock that runs ahead by more has jumped, if all streams do; one stream alone has only nothing to show."""

BACKWARD_SECONDS = 0.5
"""A clock that falls back by more has jumped: time stamps of one stream do not decrease."""

_DISCONTINUOUS: int = Flags.ts_discont.value  # type: ignore[assignment]
_TOGETHER_SECONDS = 30.0  # streams of one recording begin no farther apart


def may_jump(container: InputContainer) -> bool:
    """Whether the format is one whose clock may jump."""
    return bool(container.format.flags & _DISCONTINUOUS)


@dataclass
class _Stream:
    """Where one stream has come to."""

    stretch: int
    """Number of the stretch that its last packet belongs to."""
    due: float
    """When, on the clock of the file, its next packet is due: seconds."""


class Clock:
    """Moves the time stamps of packets, given in the order of the file from its very beginning.

    The first stretch stays where it is. `jumps` counts how often the clock has jumped so far.
    """

    def __init__(self) -> None:
        self._shifts = [0.0]  # seconds to add in each stretch
        self._streams: dict[int, _Stream] = {}

    @property
    def jumps(self) -> int:
        return len(self._shifts) - 1

    def correct(self, packet: av.Packet) -> None:
        """Put a packet's time stamps on the timeline."""
        stamp = packet.dts if packet.dts is not None else packet.pts
        if stamp is None:
            return
        base = packet.time_base
        seconds = float(stamp * base)
        stream = self._streams.setdefault(packet.stream_index, _Stream(self.jumps, seconds))
        if self._jumped(seconds, packet.stream_index):
            stream.stretch = self._stretch_of(seconds, packet.stream_index)
        stream.due = seconds + float((packet.duration or 0) * base)
        ticks = round(self._shifts[stream.stretch] / base)
        if ticks:
            packet.pts = None if packet.pts is None else packet.pts + ticks
            packet.dts = None if packet.dts is None else packet.dts + ticks

    def _jumped(self, seconds: float, index: int) -> bool:
        stream = self._streams[index]
        if seconds < stream.due - BACKWARD_SECONDS:
            return True
        # A stream that shows nothing for a while is not a jump: another one has reached that time as well.
        return all(
            seconds > other.due + FORWARD_SECONDS
            for other in self._streams.values()
            if other is stream or other.stretch == stream.stretch
        )

    def _stretch_of(self, seconds: float, index: int) -> int:
        """The newest stretch, if another stream has gone there before, else a new one."""
        newest = self.jumps
        for other in self._streams.values():
            if other.stretch == newest > self._streams[index].stretch and abs(seconds - other.due) <= _TOGETHER_SECONDS:
                return newest
        end = max(one.due + self._shifts[one.stretch] for one in self._streams.values())
        self._shifts.append(end - seconds)
        return self.jumps
