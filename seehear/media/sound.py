"""The sound: mono samples cut out by their time and resampled."""

from __future__ import annotations

import math
from fractions import Fraction

import av
import numpy as np

from seehear.errors import MediaError
from seehear.media.opening import words
from seehear.media.timeline import CLOCK_SECONDS, Job, Missed, Slot, covers, place

_DRIFT_SECONDS = 0.04  # smaller steps between audio timestamps are rounding, larger ones real gaps
_PREROLL_SECONDS = 0.25  # audio codecs need some packets before the first sample that is right (Opus: 80 ms)


class SoundPicker:
    """Collects decoded sound by its timestamps and cuts the windows out of it."""

    def __init__(self, job: Job, slots: list[Slot], from_start: bool, careful: bool) -> None:
        assert job.streams.audio is not None
        self.job, self.stream = job, job.streams.audio
        self.from_start, self.careful = from_start, careful
        self.open = sorted(slots, key=lambda slot: slot.start)
        self.rate = 0  # of the source, known from its first frame
        self.chunks: list[tuple[int, np.ndarray]] = []  # (number of its first sample after time zero, samples)
        self.next_sample: int | None = None
        self.first_sample: int | None = None
        self.skipped = False
        self.skipped_end = -math.inf  # seconds
        self.failed = ""

    @property
    def done(self) -> bool:
        return not self.open

    def feed(self, packet: av.Packet) -> None:
        if not packet.size:
            if packet.pts is None and packet.dts is None:
                self.flush()
            return
        base = self.stream.time_base
        if packet.pts is not None and base is not None and not self.careful:
            end = float((packet.pts + (packet.duration or 0)) * base) - self.job.streams.zero
            if end < self.open[0].start - _PREROLL_SECONDS:
                self.skipped, self.skipped_end = True, max(self.skipped_end, end)
                return
        if self.skipped:
            self.skipped, self.next_sample, self.from_start = False, None, False
            self.first_sample = None
            self.stream.codec_context.flush_buffers()
        self._decode(packet)

    def flush(self) -> None:
        """Decode all that is left: no packet follows."""
        if not self.done:
            self._decode(None)

    def finish(self) -> None:
        """The track has ended: what is still open gets what there is, if that is enough."""
        span = self.job.spans[1]
        assert span is not None
        end = self.skipped_end
        if self.rate and self.next_sample is not None:
            end = max(end, self.next_sample / self.rate)
        if end == -math.inf:
            if not self.careful:
                raise Missed
            raise MediaError(self.job.name, "decode_error", self.failed or "no sound of the track could be decoded")
        if span.falls_short(end):
            raise MediaError(
                self.job.name,
                "truncated",
                f"the sound should last {span.stated_end:.2f} s and ends at {end:.2f} s",
            )
        span.end = end
        for slot in self.open:
            shift = slot.start - place(self.job.name, slot.window, *self.job.spans)
            if self.rate and abs(shift) < slot.may_shift:
                self._cut(slot)  # the others are read again where they fit
        self.open = []

    def _decode(self, packet: av.Packet | None) -> None:
        try:
            frames = self.stream.decode(packet)
        except av.error.EOFError:
            return
        except av.FFmpegError as error:
            self.failed = words(error)
            return  # the hole it leaves is found when a window over it is cut
        for frame in frames:
            self._take(frame)

    def _take(self, frame: av.AudioFrame) -> None:
        if not self.rate:
            self.rate = frame.sample_rate
        elif frame.sample_rate != self.rate:
            raise MediaError(self.job.name, "decode_error", "the sample rate changes within the track")
        samples = mono(frame)
        first = self.next_sample
        if frame.pts is not None and frame.time_base is not None:
            stamp = round((float(frame.pts * frame.time_base) - self.job.streams.zero) * self.rate)
            # Coarse time bases round every timestamp: run on over small steps, follow large ones.
            if first is None or abs(stamp - first) > _DRIFT_SECONDS * self.rate:
                first = stamp
        if first is None:
            first = 0
        if self.first_sample is None:
            self.first_sample = first
            if self.from_start or self.careful:
                self._begin(first / self.rate)
            elif first / self.rate > self.open[0].start + 1e-3:
                raise Missed
        self.chunks.append((first, samples))
        self.next_sample = first + len(samples)
        margin = self._margin()
        while self.open:
            slot = self.open[0]
            if self.next_sample < round((slot.start + slot.window.audio_seconds) * self.rate) + margin:
                # Windows are sorted by their start, not by their end: a later one may be complete already.
                break
            self._cut(slot)
            self.open.pop(0)
        keep = round(self.open[0].start * self.rate) - margin if self.open else math.inf
        while self.chunks and self.chunks[0][0] + len(self.chunks[0][1]) < keep:
            self.chunks.pop(0)

    def _begin(self, seconds: float) -> None:
        """The track begins here: windows that lie before it are read again where they fit."""
        span = self.job.spans[1]
        assert span is not None
        span.begins(seconds)
        self.open = [slot for slot in self.open if not span.is_before(slot.start)]

    def _margin(self) -> int:
        """Source samples on either side that the resampling filter sees, a whole number of output samples."""
        if self.rate == self.job.rate:
            return 0
        step = self.rate // math.gcd(self.rate, self.job.rate)
        reach = 64 * max(1.0, self.rate / self.job.rate)
        return step * math.ceil(reach / step)

    def _cut(self, slot: Slot) -> None:
        rate, out_rate = self.rate, self.job.rate
        wanted = round(slot.window.audio_seconds * out_rate)
        margin = self._margin()
        first = round(slot.start * rate)
        inner = math.ceil(wanted * rate / out_rate)
        wave = np.zeros(inner + 2 * margin, np.float32)
        heard = np.zeros(inner, bool)
        for start, samples in self.chunks:
            low = max(start, first - margin)
            high = min(start + len(samples), first + inner + margin)
            if low >= high:
                continue
            at = low - first + margin
            wave[at : at + high - low] = samples[low - start : high - start]
            heard[max(0, low - first) : max(0, high - first)] = True
        hole = (inner - int(heard.sum())) / rate
        if not covers(CLOCK_SECONDS - hole, 0.0):
            why = f" ({self.failed})" if self.failed else ""
            raise MediaError(
                self.job.name,
                "audio_too_short" if not self.failed else "decode_error",
                f"{hole:.3f} s of the sound from {slot.start:.3f} s are missing{why}",
            )
        resampled = resample(wave, rate, out_rate)[margin * out_rate // rate :][:wanted]
        if len(resampled) < wanted:
            resampled = np.pad(resampled, (0, wanted - len(resampled)))
        slot.waveform = np.clip(resampled, -1, 1, out=np.ascontiguousarray(resampled))
        slot.audio_start = first / rate


def mono(frame: av.AudioFrame) -> np.ndarray:
    """Mean of a frame's channels, of shape (samples,), float32 in [-1, 1] for any sample format."""
    data = frame.to_ndarray()
    kind = frame.format.name.removesuffix("p")
    if not frame.format.is_planar:
        data = data.reshape(-1, len(frame.layout.channels)).T
    if kind == "u8":
        data = (data.astype(np.float32) - 128) / 128
    elif kind in ("s16", "s32", "s64"):
        data = (data / float(2 ** (int(kind[1:]) - 1))).astype(np.float32)
    else:
        data = np.nan_to_num(data.astype(np.float32, copy=False))
    return data[0] if len(data) == 1 else data.mean(axis=0, dtype=np.float32)


def resample(wave: np.ndarray, rate_hz: int, new_rate_hz: int) -> np.ndarray:
    """Resample (S,) float32 with libswresample; sample 0 stays at the same moment."""
    if rate_hz == new_rate_hz or not len(wave):
        return wave
    # 64 taps instead of 32: aliases stay below 1e-5 instead of 4e-3, at little cost.
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=new_rate_hz, options={"filter_size": "64"})
    frame = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
    frame.sample_rate, frame.time_base, frame.pts = rate_hz, Fraction(1, rate_hz), 0
    parts = [part.to_ndarray()[0] for part in (*resampler.resample(frame), *resampler.resample(None))]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)
