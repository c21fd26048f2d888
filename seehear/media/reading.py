"""What decoding processes run: windows and clips of a file, if it is still the one that was scanned.

Imports no torch, so neither do the processes. Options go by position, as the pool sends them.
"""

from __future__ import annotations

from seehear.errors import MediaError
from seehear.media.decode import Backend, Decoded, Window, decode
from seehear.media.identity import Identity, unchanged


def read_windows(
    path: str,
    identity: Identity,
    windows: list[Window],
    short_side_px: int | None,
    sample_rate_hz: int,
    decoder: Backend,
    clock_jumps: bool,
    audio_track: int,
) -> list[Decoded]:
    """`decode` of the file that `identity` names. Raises `MediaError`, with reason `changed` if it is another."""
    with unchanged(path, identity):
        return decode(
            path, windows, short_side_px=short_side_px, sample_rate_hz=sample_rate_hz, backend=decoder,
            clock_jumps=clock_jumps, audio_track=audio_track,
        )  # fmt: skip


def read_clips(
    path: str,
    identity: Identity,
    clips: list[list[Window]],
    short_side_px: int | None,
    sample_rate_hz: int,
    decoder: Backend,
    clock_jumps: bool,
    audio_track: int,
) -> list[list[Decoded] | MediaError]:
    """The windows of several clips of one file, in one opening; if that fails, each clip by itself."""
    settings = short_side_px, sample_rate_hz, decoder, clock_jumps, audio_track
    try:
        decoded = iter(read_windows(path, identity, [window for windows in clips for window in windows], *settings))
        return [[next(decoded) for _ in windows] for windows in clips]
    except MediaError as error:
        if len(clips) == 1 or error.reason == "changed":
            raise
    found: list[list[Decoded] | MediaError] = []
    for windows in clips:
        try:
            found.append(read_windows(path, identity, windows, *settings))
        except MediaError as error:
            found.append(error)
    return found
