"""One timeline for a file whose clock jumps, such as a recording joined from two.

Transport and program streams carry the clock of whoever sent them: where recordings were joined, or a broadcast was
interrupted, it jumps, for all streams at once. Each continuous stretch is moved to where the one before it ended.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
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
_OVERLAP_SECONDS = 0.25  # so much of a picture may be lost where recordings meet, that the sound has no gap
_HELD_PACKETS = 500  # after a jump, so many wait for all streams to show where they begin


def may_jump(container: InputContainer) -> bool:
    """Whether the format is one whose clock may jump."""
    return bool(container.format.flags & _DISCONTINUOUS)


@dataclass
class _Stream:
    """Where one stream has come to."""

    kind: str
    stretch: int
    """Number of the stretch that its last packet belongs to."""
    due: float
    """When, on the clock of the file, its next packet is due: seconds."""
    end: float = -math.inf
    """When, on the timeline, what it has shown so far ends: seconds."""


class Clock:
    """Puts the packets of a file, from its very beginning and in its order, on one timeline.

    The first stretch stays where it is; the sound of each other follows the sound before it without a gap, or what is
    last shown if the sound ended long before the picture. `jumps` counts how often the clock has jumped so far.
    """

    def __init__(self) -> None:
        self._shifts = [0.0]  # seconds to add in each stretch
        self._streams: dict[int, _Stream] = {}
        self._open: dict[int, float] = {}  # of the newest stretch, while its shift is not known: where each begins
        self._held: list[tuple[av.Packet, int]] = []  # packets that wait for it, with their stretches

    @property
    def jumps(self) -> int:
        return len(self._shifts) - 1

    def straightened(self, packets: Iterable[av.Packet]) -> Iterator[av.Packet]:
        """The same packets, with their time stamps on the timeline."""
        for packet in packets:
            stamp = packet.dts if packet.dts is not None else packet.pts
            if stamp is not None:
                stretch = self._stretch_of(packet, float(stamp * packet.time_base))
                self._held.append((packet, stretch))
            if stamp is None or self._is_settled():
                yield from self._release()
            if stamp is None:
                yield packet
        yield from self._release()

    def _stretch_of(self, packet: av.Packet, seconds: float) -> int:
        """The number of the stretch that a packet belongs to."""
        index = packet.stream_index
        fresh = _Stream(packet.stream.type, self.jumps, seconds)
        stream = self._streams.setdefault(index, fresh)
        if self._jumped(seconds, stream):
            if not self._goes_along(seconds, stream):
                if self._open:
                    self._settle()
                self._shifts.append(0.0)
            stream.stretch = self.jumps
            self._open[index] = seconds
        stream.due = seconds + float((packet.duration or 0) * packet.time_base)
        return stream.stretch

    def _jumped(self, seconds: float, stream: _Stream) -> bool:
        if seconds < stream.due - BACKWARD_SECONDS:
            return True
        # A stream that shows nothing for a while is not a jump: another one has reached that time as well.
        return all(
            seconds > other.due + FORWARD_SECONDS for other in self._streams.values() if other.stretch == stream.stretch
        )

    def _goes_along(self, seconds: float, stream: _Stream) -> bool:
        """Whether another stream has gone to the newest stretch before."""
        return any(
            other.stretch == self.jumps > stream.stretch and abs(seconds - other.due) <= _TOGETHER_SECONDS
            for other in self._streams.values()
        )

    def _is_settled(self) -> bool:
        """Whether nothing has to wait: all streams have come to the newest stretch, or some will not in time."""
        return not self._open or len(self._open) == len(self._streams) or len(self._held) >= _HELD_PACKETS

    def _release(self) -> Iterator[av.Packet]:
        if self._open:
            self._settle()
        for packet, stretch in self._held:
            yield self._moved(packet, stretch)
        self._held = []

    def _settle(self) -> None:
        """Say where the newest stretch lies, by where its streams begin and the ones before it end."""
        newest = self.jumps
        for packet, stretch in self._held:
            if stretch < newest:
                self._note_end(packet, stretch)
        wanted = {i: self._streams[i].end - begins for i, begins in self._open.items()}
        latest = max(one.end for one in self._streams.values()) - min(self._open.values())
        sound = [shift for i, shift in wanted.items() if self._streams[i].kind == "audio"]
        near = bool(sound) and max(wanted.values()) - sound[0] <= _OVERLAP_SECONDS
        self._shifts[newest] = sound[0] if near else latest
        self._open = {}

    def _moved(self, packet: av.Packet, stretch: int) -> av.Packet:
        self._note_end(packet, stretch)
        ticks = round(self._shifts[stretch] / packet.time_base)
        if ticks:
            packet.pts = None if packet.pts is None else packet.pts + ticks
            packet.dts = None if packet.dts is None else packet.dts + ticks
        return packet

    def _note_end(self, packet: av.Packet, stretch: int) -> None:
        stamp = packet.pts if packet.pts is not None else packet.dts
        assert stamp is not None
        ends = float((stamp + (packet.duration or 0)) * packet.time_base) + self._shifts[stretch]
        stream = self._streams[packet.stream_index]
        stream.end = max(stream.end, ends)
