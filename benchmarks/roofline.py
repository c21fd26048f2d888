"""What a card could reach: bytes and operations of every layer of a training step of R(2+1)D-18, from shapes alone.

    python benchmarks/roofline.py                 # an H100 as measured: matrix products 798 TFLOP/s, copies 3.0 TB/s
    python benchmarks/roofline.py --flops 1500 --bandwidth 4.8 --layers

A layer takes at least its operations at the speed of matrix products and at least its bytes at the speed of copies,
whichever is more. In bfloat16 with float32 sums a step of a layer moves

    convolution      forward: input, output; backward: twice the output's gradient, input, the input's gradient
    normalisation    forward: input twice (statistics, then normalise with ReLU and sum fused), output;
                     backward: input and the output's gradient twice, the input's gradient
    sum              the shortcut forward, and the second gradient of a block's input backward
    weights          two copies in bfloat16, and gradient, momentum and weight in float32

and a convolution does 2 operations a multiplication forward and 4 backward (2 in the first layer, whose input needs no
gradient). `all layers` is the bound where ReLU and sum are fused into normalisation, which needs one pass for its
statistics and one for the rest; `convolutions` is that of convolutions alone, as if all else were free.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seehear.models import build_video_encoder
from seehear.models.video import BasicBlock

RESULTS = Path(__file__).parent / "results" / "roofline.json"
CLIPS = {"8x224²": (8, 224), "30x112²": (30, 112), "32x224²": (32, 224)}
MEASURED = {"8x224²": (236, 384), "30x112²": (212, None), "32x224²": (58.7, None)}
"""Clips a second of the modules as they stood, and of the best trial; measured 2026-11-26 on one H100, bfloat16."""
TARGETS = {"8x224²": 575, "30x112²": 600, "32x224²": 143}
BYTES = 2


@dataclass(frozen=True)
class Layer:
    """One layer of a training step, for one clip; the bytes of its weights are for the whole batch."""

    name: str
    kind: str
    channels: tuple[int, int]
    output: tuple[int, ...]
    operations: int
    bytes_moved: int
    weight_bytes: int

    def seconds(self, clips: int, flops: float, bandwidth: float) -> float:
        """The least time for a batch of so many clips."""
        moved = clips * self.bytes_moved + self.weight_bytes
        return max(clips * self.operations / flops, moved / bandwidth)


def layers_of(frames: int, side: int, multiple: int = 8) -> list[Layer]:
    """Convolutions and batch norms of R(2+1)D-18, channels rounded up to multiples as they run on a card."""
    with torch.device("meta"):
        encoder = build_video_encoder("r2plus1d_18").eval()
    encoder.execution = "plain"
    found: list[Layer] = []

    def padded(channels: int) -> int:
        return channels if channels == 3 else -(-channels // multiple) * multiple

    def look(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            _, c_in, *space_in = inputs[0].shape
            _, c_out, *space_out = output.shape
            size_in = padded(c_in) * torch.Size(space_in).numel()
            size_out = padded(c_out) * torch.Size(space_out).numel()
            shape = (c_out, *space_out)
            if isinstance(module, nn.Conv3d):
                first = c_in == 3
                weights = padded(c_in) * padded(c_out) * torch.Size(module.kernel_size).numel()
                products = weights * torch.Size(space_out).numel()
                moved = size_in + size_out + 2 * size_out + size_in + (0 if first else size_in)
                operations = 2 * products * (2 if first else 3)
                # bfloat16 copies of the weights twice; gradient, momentum and weight read, the last two written.
                weight_bytes = weights * (2 * BYTES + 5 * 4)
                found.append(Layer(name, "convolution", (c_in, c_out), shape, operations, moved * BYTES, weight_bytes))
            elif isinstance(module, BasicBlock):
                found.append(Layer(name, "sum", (c_out, c_out), shape, 0, (size_out + size_in) * BYTES, 0))
            else:
                moved = 2 * size_in + size_out + 2 * (size_in + size_out) + size_in
                found.append(Layer(name, "norm", (c_in, c_out), shape, 0, moved * BYTES, 0))

        return hook

    for name, module in encoder.named_modules():
        if isinstance(module, nn.Conv3d | nn.BatchNorm3d | BasicBlock):
            module.register_forward_hook(look(name))
    with torch.no_grad():
        encoder(torch.empty(1, 3, frames, side, side, device="meta"))
    return found


def bounds(layers: list[Layer], clips: int, flops: float, bandwidth: float) -> dict[str, float]:
    """Clips a second at most."""
    convolutions = [x for x in layers if x.kind == "convolution"]
    operations = sum(x.operations for x in layers)
    return {
        "operations alone": flops / operations,
        "bytes alone": clips / sum((clips * x.bytes_moved + x.weight_bytes) / bandwidth for x in layers),
        "convolutions": clips / sum(x.seconds(clips, flops, bandwidth) for x in convolutions),
        "all layers": clips / sum(x.seconds(clips, flops, bandwidth) for x in layers),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flops", type=float, default=798, help="TFLOP/s of bfloat16 matrix products (798)")
    parser.add_argument("--bandwidth", type=float, default=3.0, help="TB/s of copies, read and written (3.0)")
    parser.add_argument("--clips", type=int, default=32, help="clips a batch (32)")
    parser.add_argument("--layers", action="store_true", help="a line for every layer, too")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    flops, bandwidth = options.flops * 1e12, options.bandwidth * 1e12
    result: dict[str, Any] = {"flops": flops, "bandwidth": bandwidth, "clips": options.clips, "of": {}}
    print(
        "clips/s at most by       operations  bytes  convolutions  all layers  share  measured (before, best), target"
    )
    for name, (frames, side) in CLIPS.items():
        layers = layers_of(frames, side)
        found = bounds(layers, options.clips, flops, bandwidth)
        operations = sum(x.operations for x in layers)
        share = found["all layers"] * operations / flops
        measured = ", ".join("" if m is None else f"{m:g}" for m in MEASURED[name])
        print(
            f"{name:<10} {operations / 1e9:6.0f} GFLOP {found['operations alone']:10.0f} {found['bytes alone']:6.0f} "
            f"{found['convolutions']:13.0f} {found['all layers']:11.0f} {share:6.3f}  {measured}, {TARGETS[name]}"
        )
        if options.layers:
            for x in layers:
                limit = "operations" if x.operations / flops > x.bytes_moved / bandwidth else "bytes"
                micros = 1e6 * x.seconds(options.clips, flops, bandwidth)
                print(f"    {x.name:<26}{x.kind:<12}{x.channels!s:<13}{x.output!s:<22}{x.operations / 1e9:8.2f} GFLOP"
                      f"{x.bytes_moved / 1e6:8.1f} MB {micros:8.0f} us  {limit}")  # fmt: skip
        result["of"][name] = {
            "gflop_a_clip": operations / 1e9, "clips_a_second_at_most": found, "share_of_peak_at_most": share,
            "measured_2026_11_26": MEASURED[name], "target": TARGETS[name], "layers": [asdict(x) for x in layers],
        }  # fmt: skip
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
