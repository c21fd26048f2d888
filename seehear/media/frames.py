"""The picture: frames picked by their time, scaled and turned upright."""

from __future__ import annotations

import bisect
import math
from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from seehear.errors import MediaError
from seehear.media.opening import words
from seehear.media.timeline import MISMATCH_SECONDS, Job, Missed, Slot

_AVI_CHUNK_HEAD_BYTES = 8  # a chunk's name and its length; the index counts from them, a packet from what follows


class FramePicker:
    """Picks, from frames in presentation order, the one nearest to each due time."""

    def __init__(self, job: Job, slots: list[Slot], from_start: bool, careful: bool) -> None:
        assert job.streams.video is not None
        self.job, self.stream = job, job.streams.video
        self.from_start, self.careful = from_start, careful
        self.keyless = not from_start and not careful  # no key frame was met since the seek
        self.due = sorted(
            (slot.start + i / slot.window.frame_rate_hz, i, index)
            for index, slot in enumerate(slots)
            for i in range(slot.window.frame_count)
        )
        self.slots = slots
        self.next = 0
        self.previous: av.VideoFrame | None = None
        self.previous_pts = -math.inf
        self.picture: np.ndarray | None = None  # the previous frame, converted once for all who want it
        self.held: list[av.Packet] = []
        self.end = -math.inf
        self.reformatter = VideoReformatter()
        self.size: tuple[int, int] | None = None
        self.failed = ""
        self.bad: list[float] = []  # times of packets that did not decode
        self.lag: int | None = None if job.container.format.name == "avi" else 0  # ticks, known from the first packet

    @property
    def done(self) -> bool:
        return self.next >= len(self.due)

    def feed(self, packet: av.Packet) -> None:
        """Take one packet. Packets are held back as long as a later key frame may make them needless."""
        if not packet.size and packet.pts is None and packet.dts is None:
            self.flush()
            return
        self._correct(packet)
        if self.keyless and not packet.is_keyframe:
            return  # what it builds on was not read
        self.keyless = False
        target = self.due[self.next][0]
        shown = self._seconds(packet.pts)
        if packet.is_keyframe and self.held and not self.careful and shown is not None and shown <= target:
            self.held.clear()
            self.stream.codec_context.flush_buffers()
            self.previous, self.previous_pts, self.from_start = None, -math.inf, False
        self.held.append(packet)
        decoded = self._seconds(packet.dts)
        now = decoded if decoded is not None else shown
        if now is None or now >= target or self.careful:
            self._decode_held()

    def _correct(self, packet: av.Packet) -> None:
        """Take back by how much the time stamps of an AVI are off after a seek.

        In an AVI an empty chunk repeats the frame before it. Those that lie between the sound and the key frame of the
        place sought are counted twice by FFmpeg, so all that follows seems late. The index says where a packet belongs.
        """
        if self.lag is None and packet.dts is not None:
            self.lag = 0
            index, place = self.stream.index_entries, (packet.pos or 0) - _AVI_CHUNK_HEAD_BYTES
            found = bisect.bisect_left(index, place, key=lambda entry: entry.pos)
            if found < len(index) and index[found].pos == place:
                self.lag = packet.dts - index[found].timestamp
        if self.lag:
            packet.dts = None if packet.dts is None else packet.dts - self.lag
            packet.pts = None if packet.pts is None else packet.pts - self.lag

    def flush(self) -> None:
        """Decode all that is left: no packet follows."""
        self._decode_held()
        if not self.done:
            self._decode(None)

    def finish(self) -> None:
        """The stream has ended: the last frame is the nearest to all that is still due."""
        span = self.job.spans[0]
        assert span is not None
        if self.previous is None:
            if not self.careful:
                raise Missed
            raise MediaError(self.job.name, "decode_error", self.failed or "no frame of the picture could be decoded")
        if span.falls_short(self.end):
            raise MediaError(
                self.job.name,
                "truncated",
                f"the picture should last {span.stated_end:.2f} s and ends at {self.end:.2f} s",
            )
        span.end = self.end
        self._give(math.inf)

    def _seconds(self, stamp: int | None) -> float | None:
        if stamp is None or self.stream.time_base is None:
            return None
        return float(stamp * self.stream.time_base) - self.job.streams.zero

    def _decode_held(self) -> None:
        held, self.held = self.held, []
        for packet in held:
            self._decode(packet)
            if self.done:
                return

    def _decode(self, packet: av.Packet | None) -> None:
        if packet is not None and not packet.size:
            self._repeat(packet)
            return
        try:
            frames = self.stream.decode(packet)
        except av.error.EOFError:
            return
        except av.FFmpegError as error:
            self._bad(packet, error)
            return
        for frame in frames:
            self._take(frame)
            if self.done:
                return

    def _bad(self, packet: av.Packet | None, error: av.FFmpegError) -> None:
        """A bad packet costs its own frames, and the windows for which no other frame is near (see `_give`)."""
        self.failed = words(error)
        at = None if packet is None else self._seconds(packet.pts if packet.pts is not None else packet.dts)
        if at is not None:
            self.bad.append(at)

    def _repeat(self, packet: av.Packet) -> None:
        """An empty packet shows the frame before it once more.

        Where frames are reordered, the one before it may not be out yet: then that frame just stays.
        """
        pts = self._seconds(packet.pts if packet.pts is not None else packet.dts)
        if self.previous is not None and pts is not None and not self.stream.codec_context.has_b_frames:
            self._show(self.previous, pts, packet.duration or 0)

    def _take(self, frame: av.VideoFrame) -> None:
        stamp = frame.pts if frame.pts is not None else frame.dts
        pts = self._seconds(stamp)
        if pts is None:
            pts = 0.0 if self.previous is None else self.previous_pts + 1 / float(self.stream.guessed_rate or 25)
        self._show(frame, pts, frame.duration)

    def _show(self, frame: av.VideoFrame, pts: float, duration: int) -> None:
        """A frame is shown from `pts` seconds for `duration` ticks."""
        if pts <= self.previous_pts:
            return  # never shown
        if self.previous is None:
            if self.from_start or self.careful:
                span = self.job.spans[0]
                assert span is not None
                span.begins(pts)
            elif pts > self.due[self.next][0] + 1e-6:
                raise Missed
        else:
            self._give((self.previous_pts + pts) / 2 + 1e-6)  # rounding must not decide a tie
        if frame is not self.previous:
            self.picture = None
        self.previous, self.previous_pts = frame, pts
        lasts = float(duration * (self.stream.time_base or 0)) or 1 / float(self.stream.guessed_rate or 25)
        self.end = max(self.end, pts + lasts)

    def _give(self, until: float) -> None:
        """The previous frame is the nearest for all that is due up to `until`."""
        while not self.done and self.due[self.next][0] <= until:
            due, i, index = self.due[self.next]
            if self._is_lost(due):
                raise MediaError(self.job.name, "decode_error", f"picture near {due:.3f} s: {self.failed}")
            slot = self.slots[index]
            if self.picture is None:
                self.picture = self._convert()
            if slot.frames is None or slot.pts is None:
                slot.frames = np.empty((slot.window.frame_count, *self.picture.shape), np.uint8)
                slot.pts = np.empty(slot.window.frame_count, np.float64)
            slot.frames[i], slot.pts[i] = self.picture, self.previous_pts
            self.next += 1

    def _is_lost(self, due: float) -> bool:
        """Whether no frame lies near a time because packets in between did not decode."""
        span = self.job.spans[0]
        assert span is not None
        low, high = sorted((due, self.previous_pts))
        # What did not decode before the first frame is no part of the stream.
        return high - low > MISMATCH_SECONDS and any(max(low, span.start) <= at <= high for at in self.bad)

    def _convert(self) -> np.ndarray:
        frame = self.previous
        assert frame is not None
        if frame.width * frame.height > self.job.max_frame_pixels:
            raise MediaError(self.job.name, "too_large", f"frames of {frame.width}x{frame.height} pixels")
        if self.size is None:  # the first frame's size is the size of all, should it change on the way
            self.size = scaled_size(frame.width, frame.height, self.stream.sample_aspect_ratio, self.job.short_side_px)
        return to_rgb(frame, self.size, self.reformatter)


def to_rgb(frame: av.VideoFrame, size: tuple[int, int], reformatter: VideoReformatter) -> np.ndarray:
    """A frame scaled to (width, height), then turned upright, as (H, W, 3) uint8."""
    smaller = size[0] * size[1] < frame.width * frame.height
    rgb = reformatter.reformat(
        frame,
        width=size[0],
        height=size[1],
        format="rgb24",
        interpolation=Interpolation.AREA if smaller else Interpolation.BICUBIC,
        threads=1,
    ).to_ndarray()
    turns = round(frame.rotation / 90) % 4
    return np.rot90(rgb, turns) if turns else rgb


def scaled_size(width: int, height: int, pixel_aspect: Fraction | None, short_side_px: int | None) -> tuple[int, int]:
    """(width, height) with the shorter side `short_side_px` and square pixels; the stored size for None."""
    if short_side_px is None:
        return width, height
    shape = float(pixel_aspect) if pixel_aspect else 1.0
    if not 0.25 <= shape <= 4:  # nonsense in the header
        shape = 1.0
    shown = width * shape
    if shown <= height:
        return short_side_px, max(1, round(short_side_px * height / shown))
    return max(1, round(short_side_px * shown / height)), short_side_px
