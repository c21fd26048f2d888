"""Frames by torchcodec instead of PyAV, where it is installed."""

from __future__ import annotations

import os

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from seehear.errors import UsageError
from seehear.media.frames import scaled_size, to_rgb
from seehear.media.packed import open_bytes, packed
from seehear.media.timeline import Slot, Streams


def use_torchcodec(backend: str) -> bool:
    """Whether a back end's name means torchcodec: `auto` does where it loads."""
    if backend == "pyav":
        return False
    try:
        from torchcodec.decoders import VideoDecoder  # noqa: F401
    except (ImportError, RuntimeError, OSError) as error:
        if backend == "auto":
            return False
        raise UsageError(
            f"the torchcodec back end does not load: {str(error).splitlines()[0]}",
            "install torchcodec beside an FFmpeg that it knows, or use the pyav back end",
        ) from error
    return True


def torchcodec_frames(name: str, streams: Streams, slots: list[Slot], short_side_px: int | None) -> None:
    """Fill the slots' frames with torchcodec. The file was opened by `open_media` before, so it is safe."""
    from torchcodec.decoders import VideoDecoder

    assert streams.video is not None
    source = os.path.abspath(name) if packed(name) is None else open_bytes(name)
    decoder = VideoDecoder(source, stream_index=streams.video.index, dimension_order="NHWC", num_ffmpeg_threads=1)
    reformatter = VideoReformatter()
    first = decoder.metadata.begin_stream_seconds or 0.0
    end = decoder.metadata.end_stream_seconds
    for slot in slots:
        due = [slot.start + streams.zero + i / slot.window.frame_rate_hz for i in range(slot.window.frame_count)]
        inside = [min(max(time, first), end - 1e-6) for time in due]
        shown = decoder.get_frames_played_at(inside)
        starts, lengths = shown.pts_seconds, shown.duration_seconds
        # torchcodec gives the frame on show; the nearest may be the one after it.
        nearest = [
            float(start + 1.5 * length) if time - start > length / 2 and start + length < end - 1e-6 else time
            for time, start, length in zip(inside, starts.tolist(), lengths.tolist(), strict=True)
        ]
        batch = decoder.get_frames_played_at([min(time, end - 1e-6) for time in nearest])
        slot.pts = batch.pts_seconds.numpy().astype(np.float64) - streams.zero
        pictures = []
        for picture in batch.data.numpy():
            high, wide = picture.shape[:2]
            size = scaled_size(wide, high, None, short_side_px)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            pictures.append(to_rgb(frame, size, reformatter))
        slot.frames = np.stack(pictures)
