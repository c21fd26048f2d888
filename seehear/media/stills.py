"""What a process of the pool reads of a file that is a query: still pictures, and what kind of file it is.

Imports no torch.
"""

from __future__ import annotations

import os

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from seehear.errors import MediaError
from seehear.media.decode import MAX_FRAME_PIXELS
from seehear.media.frames import scaled_size
from seehear.media.probe import ProbeResult, probe

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
"""What is read, whatever a file is called."""
MOST_BYTES = 256 << 20
_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM")


def is_picture(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as a picture of one of `FORMATS` does; False if it cannot be read."""
    try:
        with open(path, "rb") as file:
            begins = file.read(12)
    except OSError:
        return False
    return begins.startswith(_BEGINNINGS) or (begins[:4] == b"RIFF" and begins[8:] == b"WEBP")


def read_picture(path: str, short_side_px: int) -> np.ndarray:
    """A picture (H, W, 3) uint8, turned upright as its EXIF says, its shorter side scaled as frames of videos are.

    Raises `MediaError`: too_large for more than `MAX_FRAME_PIXELS` pixels or `MOST_BYTES`, not_media, truncated or
    decode_error.
    """
    if os.path.getsize(path) > MOST_BYTES:
        raise MediaError(path, "too_large", f"a picture of more than {MOST_BYTES >> 20} MiB")
    try:
        with Image.open(path, formats=FORMATS) as picture:
            width, height = picture.size
            if width * height > MAX_FRAME_PIXELS:
                raise MediaError(path, "too_large", f"a picture of {width}x{height} pixels")
            picture.load()
            upright = ImageOps.exif_transpose(picture).convert("RGB")
    except UnidentifiedImageError:
        raise MediaError(path, "not_media", "no picture was recognised") from None
    except Image.DecompressionBombError as error:
        raise MediaError(path, "too_large", str(error)) from None
    except (OSError, ValueError, SyntaxError) as error:  # what Pillow raises of files that are cut or damaged
        reason = "truncated" if "truncated" in str(error) else "decode_error"
        raise MediaError(path, reason, f"the picture does not decode: {error}") from None
    size = scaled_size(upright.width, upright.height, None, short_side_px)
    return np.asarray(upright.resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0))


def look(
    path: str, need: tuple[str, ...], min_seconds: float, silence_dbfs: float, audio_track: int | None
) -> ProbeResult:
    """`seehear.media.probe.probe`, its options by position."""
    return probe(path, need=need, min_seconds=min_seconds, silence_dbfs=silence_dbfs, audio_track=audio_track)
