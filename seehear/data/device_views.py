"""Views made on the device: what `seehear.data.views` makes of a clip on a CPU, of a whole batch on a GPU.

The loader's thread draws what is random, with the generators of the CPU's path and in their order, and lays the cropped
frames and the sound into page-locked memory. All else happens on the device. Crops, flips, scaling and masks have the
bits of the CPU's path; colours may differ by one of 255 levels, spectrograms by the rounding of float32.

Frames are scaled by PyTorch's antialiased filter for bytes, whose arithmetic is that of whole numbers (it is Pillow's):
two products with weights of 16 bits, along rows first, each rounded to a byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from seehear.copies import to_device
from seehear.data.views import FrameDraw, SpectrogramView, coloured, degraded
from seehear.types import Batch


@dataclass
class RawFrames:
    """Cropped frames of a batch and what is to be done to them."""

    pixels: Tensor
    """(B, T, S, S, 3) uint8: each clip's square in the upper left corner, of which S is the largest."""
    flips: Tensor
    """(B,) bool."""
    colours: list[tuple[float, float, float] | None]
    sides: Tensor
    """(B,) int64: how large each square is."""
    weights: Tensor | None = None
    """(B, crop, S) int16: how rows and columns are scaled; None where every square has the size of the crop."""
    bits: Tensor | None = None
    """(B,) int64: the weights are multiples of two to minus this."""

    def made(self, device: torch.device, degradation: int) -> Tensor:
        """The views (B, T, crop, crop, 3) uint8 on the device."""
        x, flips = to_device(self.pixels, device), to_device(self.flips, device)
        if self.weights is not None and self.bits is not None:
            weights, bits, sides = (to_device(x, device) for x in (self.weights, self.bits, self.sides))
            x = scaled(x, weights, bits, sides, flips)
        else:
            x = torch.where(flips[:, None, None, None, None], x.flip(3), x)
        for view, factors in zip(x, self.colours, strict=True):
            if factors is not None:
                view.copy_(coloured(view, factors))
        return degraded(x, degradation)


@dataclass
class RawSound:
    """Waveforms of a batch, (B, S) float32, and what was drawn for them (`SpectrogramView.drawn`)."""

    waveforms: Tensor
    volumes: Tensor | None
    masks: Tensor | None

    def made(self, device: torch.device, spectrogram: SpectrogramView) -> Tensor:
        """The spectrograms (B, 1, Q, P) on the device, where `spectrogram` is."""
        drawn = (None if x is None else to_device(x, device) for x in (self.volumes, self.masks))
        return spectrogram.apply(to_device(self.waveforms, device), *drawn)


@dataclass
class RawBatch(Batch):
    """A batch whose inputs are still to be made, on the device."""

    raw: dict[str, RawFrames | RawSound] = field(default_factory=dict)


def raw_frames(arrays: Sequence[np.ndarray], draws: Sequence[FrameDraw], crop_px: int, *, pinned: bool) -> RawFrames:
    """What is drawn of clips (T, H, W, 3) uint8, laid side by side into (page-locked) memory."""
    side = max(draw.side for draw in draws)
    pixels = torch.empty((len(arrays), len(arrays[0]), side, side, 3), dtype=torch.uint8, pin_memory=pinned)
    into = pixels.numpy()
    for row, (array, draw) in enumerate(zip(arrays, draws, strict=True)):
        into[row, :, : draw.side, : draw.side] = draw.crop(array)
    flips, sides = torch.tensor([draw.flip for draw in draws]), torch.tensor([draw.side for draw in draws])
    raw = RawFrames(pixels, flips, [draw.colours for draw in draws], sides)
    if any(draw.side != crop_px for draw in draws):
        raw.weights = torch.zeros((len(draws), crop_px, side), dtype=torch.int16)
        raw.bits = torch.empty(len(draws), dtype=torch.int64)
        for row, draw in enumerate(draws):
            raw.weights[row, :, : draw.side], raw.bits[row] = filter_weights(draw.side, crop_px)
    return raw


def raw_sound(arrays: Sequence[np.ndarray], volumes: Tensor | None, masks: Tensor | None, *, pinned: bool) -> RawSound:
    """Waveforms (S,) laid below each other into (page-locked) memory, with what was drawn for them."""
    waveforms = torch.empty((len(arrays), len(arrays[0])), pin_memory=pinned)
    np.stack(arrays, out=waveforms.numpy())
    return RawSound(waveforms, volumes, masks)


@lru_cache(maxsize=1024)
def filter_weights(size: int, out: int) -> tuple[Tensor, int]:
    """PyTorch's antialiased bilinear filter from so many places to `out`, in whole numbers: (out, size) int16, bits.

    The weights are multiples of 2**-bits, with the most bits that leave the largest within 15.
    """
    places = torch.eye(size, dtype=torch.float64)[None, None]
    exact = F.interpolate(places, size=(out, size), mode="bilinear", antialias=True)[0, 0]
    largest, bits = float(exact.max()), 0
    while bits < 21 and int(0.5 + largest * 2 ** (bits + 1)) < 2**15:
        bits += 1
    return (exact * 2**bits + 0.5).floor().to(torch.int16), bits


def scaled(pixels: Tensor, weights: Tensor, bits: Tensor, sides: Tensor, flips: Tensor) -> Tensor:
    """Squares of so many `sides` (B,) in (B, T, S, S, 3) uint8, mirrored where `flips` (B,), then scaled.

    `weights` (B, crop, S) and `bits` (B,) are those of `filter_weights`, with zeros beyond each clip's side.

    In float64, which holds the whole numbers exactly, whatever products of float32 are made of.
    """
    w, one = weights.double(), (2.0 ** bits.double())[:, None, None, None, None]
    # To mirror the columns of the weights within a clip's square is to mirror the square.
    places = torch.arange(w.shape[2], device=w.device)
    mirrored = torch.where(flips[:, None] & (places < sides[:, None]), sides[:, None] - 1 - places, places)
    along_rows = w.gather(2, mirrored[:, None].expand_as(w))
    x = torch.einsum("bos,bthsc->bthoc", along_rows, pixels.double())
    x = ((x + one / 2) / one).floor_().clamp_(0, 255)
    x = torch.einsum("bos,btswc->btowc", w, x)
    return ((x + one / 2) / one).floor_().clamp_(0, 255).to(torch.uint8, memory_format=torch.contiguous_format)
