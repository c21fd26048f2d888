"""How encoders are executed: the same numbers by other operators, chosen by the device.

An encoder is a tree of torch's own modules, whose names and shapes make its state dict. `forms` says which operators
run them: the modules as they stand, or

- convolutions over one frame at a time (1, k, k) and over time alone (k, 1, 1) as 2-D convolutions, over views of
  channels-last memory: B x T pictures of H x W, or B pictures of T x (H x W). Nothing is copied.
- channels rounded up to a multiple of 8 by zeros, which tensor cores need: 45 -> 48, 230 -> 232 ... The additional
  filters are zero, so the additional channels are zero after convolution, normalisation (whose additional weights and
  biases are zero), ReLU and sum, and nothing reads them. Weights are padded on the way: parameters keep their shapes.
- without gradients, batch normalisation by running statistics folded into the convolution before it.

The results differ from those of the modules by rounding alone.

Shapes: B clips, T frames, H x W pixels, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Execution = Literal["auto", "plain", "fast"]
_MULTIPLE = 8
"""Tensor cores take 16-bit channels by eights."""
COMPILED_PARAMETERS = 4_000_000
"""What `compile=auto` takes for an encoder whose step is worth a minute of compiling."""


class Run(Protocol):
    """Runs layers one after another on an input."""

    def __call__(self, x: Tensor, *layers: nn.Module) -> Tensor: ...


def plain(x: Tensor, *layers: nn.Module) -> Tensor:
    """The layers as they stand."""
    for layer in layers:
        x = layer(x)
    return x


@dataclass(frozen=True)
class Operators:
    """A `Run` by other operators than the modules' own."""

    views: bool
    """Convolutions in space and in time alone as 2-D ones."""
    multiple: int
    """Channels are rounded up to multiples of this; the output has the additional ones, too."""

    def __call__(self, x: Tensor, *layers: nn.Module) -> Tensor:
        """Layers are convolutions, batch norms, ReLUs and sequences of these; others are called as they are."""
        flat = _flat(layers)
        folding = not torch.is_grad_enabled()
        while flat:
            layer = flat.pop(0)
            if isinstance(layer, nn.Conv2d | nn.Conv3d):
                norm = flat.pop(0) if folding and flat and _is_fixed(flat[0]) else None
                x = self.convolve(x, layer, norm)
            elif isinstance(layer, _BatchNorm):
                x = normalise(x, layer)
            else:
                x = layer(x)
        return x

    def convolve(self, x: Tensor, layer: nn.Conv2d | nn.Conv3d, norm: nn.Module | None = None) -> Tensor:
        """A convolution of x (B, C', [T,] H, W), whose channels beyond the layer's are zero, and then `norm`."""
        weight, bias = layer.weight, layer.bias
        if norm is not None:
            weight, bias = _folded(weight, bias, norm)
        more_in = x.shape[1] - layer.in_channels
        more_out = -layer.out_channels % self.multiple
        if more_in or more_out:
            weight = F.pad(weight, (0, 0) * len(layer.kernel_size) + (0, more_in, 0, more_out))
            bias = None if bias is None else F.pad(bias, (0, more_out))
        stride, padding = layer.stride, layer.padding
        assert not isinstance(padding, str)
        if isinstance(layer, nn.Conv2d):
            return F.conv2d(x, weight, bias, stride, padding)
        if not self.views or (layer.kernel_size[0] > 1 and layer.kernel_size[1:] != (1, 1)):
            return F.conv3d(x, weight, bias, stride, padding)
        if layer.kernel_size[0] > 1:
            return _over_time(x[..., :: stride[1], :: stride[2]], weight, bias, stride[0], padding[0])
        return _over_space(x[:, :, :: stride[0]], weight, bias, stride[1:], padding[1:])


def _over_space(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any) -> Tensor:
    """A (1, k, k) convolution: every frame a picture of its own."""
    b, c, _, h, w = x.shape
    pictures = x.permute(0, 2, 3, 4, 1).reshape(-1, h, w, c).permute(0, 3, 1, 2)
    y = F.conv2d(pictures, weight[:, :, 0], bias, stride, padding)
    return y.permute(0, 2, 3, 1).unflatten(0, (b, -1)).permute(0, 4, 1, 2, 3)


def _over_time(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
    """A (k, 1, 1) convolution: every clip a picture of T rows, its pixels side by side."""
    b, c, t, h, w = x.shape
    pictures = x.permute(0, 2, 3, 4, 1).reshape(b, t, h * w, c).permute(0, 3, 1, 2)
    y = F.conv2d(pictures, weight[..., 0], bias, (stride, 1), (padding, 0))
    return y.permute(0, 2, 3, 1).unflatten(2, (h, w)).permute(0, 4, 1, 2, 3)


def normalise(x: Tensor, norm: _BatchNorm) -> Tensor:
    """Batch normalisation of x, of which channels beyond those of `norm` are zero and remain so.

    `norm` may also be one that synchronises processes. Its running statistics move as they do without such channels.
    """
    more = x.shape[1] - norm.num_features
    if not more:
        result: Tensor = norm(x)
        return result
    own = dict(norm.named_parameters()) | dict(norm.named_buffers())
    padded = {name: F.pad(value, (0, more)) for name, value in own.items() if value.ndim}
    result = torch.func.functional_call(norm, padded, (x,))
    if norm.training and norm.track_running_stats:
        for name in ("running_mean", "running_var"):
            own[name].copy_(padded[name][: norm.num_features])
    return result


def _flat(layers: Iterable[nn.Module]) -> list[nn.Module]:
    found: list[nn.Module] = []
    for layer in layers:
        found += _flat(layer) if isinstance(layer, nn.Sequential) else [layer]
    return found


def _is_fixed(layer: nn.Module) -> bool:
    """Whether it is a batch norm that uses its running statistics."""
    return isinstance(layer, _BatchNorm) and not layer.training and layer.running_mean is not None


def _folded(weight: Tensor, bias: Tensor | None, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight and bias of the convolution that does what these and then a batch norm with fixed statistics do."""
    assert isinstance(norm, _BatchNorm) and norm.running_mean is not None and norm.running_var is not None
    scale = (norm.running_var + norm.eps).rsqrt()
    if norm.affine:
        scale = scale * norm.weight
    mean = norm.running_mean if bias is None else norm.running_mean - bias
    shift = -mean * scale + (norm.bias if norm.affine else 0)
    return weight * scale.view(-1, *[1] * (weight.ndim - 1)), shift


_ON_CUDA = Operators(views=True, multiple=_MULTIPLE)
# Measured (benchmarks/step.py): on a CPU 2-D views are no faster, and padding costs what it adds.
_ON_CPU = Operators(views=False, multiple=1)


def operators(execution: Execution, x: Tensor) -> Run:
    """How an encoder that is executed so runs its layers on this input."""
    if execution == "plain" or torch.compiler.is_exporting():  # others read an exported graph: it has the modules
        return plain
    return _ON_CUDA if execution == "fast" or x.is_cuda else _ON_CPU


def lay_channels_last(encoder: nn.Module) -> None:
    """Keep the filters of an encoder channels-last in memory, and its state dict as if they were not.

    Convolutions else put them in order at each step. Files and other libraries take tensors in their natural order.
    """
    for parameter in encoder.parameters():
        if parameter.ndim in (4, 5):
            layout = torch.channels_last if parameter.ndim == 4 else torch.channels_last_3d
            parameter.data = parameter.data.contiguous(memory_format=layout)
    encoder.register_state_dict_post_hook(_in_natural_order)


def _in_natural_order(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    for name, value in state.items():
        # With `keep_vars` the parameters themselves are asked for.
        if name.startswith(prefix) and isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
            state[name] = value.contiguous()


# -- compilation ------------------------------------------------------------------------------------------------------


class CompiledFeatures:
    """An encoder's `features`, compiled for the one size of a full training batch.

    A compiler's second size is a recompilation, minutes in the middle of an epoch. So the last, smaller batch of an
    epoch, batches that lack a clip, evaluation and extraction run as they did before. What a full batch is shows when
    two training batches running are of one size; the second is the one that takes a minute or two, and `say` is told.
    Clips of another length or size of picture (a final stage) are compiled anew, once.
    """

    def __init__(self, encoder: nn.Module, name: str, say: Callable[[str], None], *, backend: str = "inductor") -> None:
        self._eager: Callable[[Tensor], Tensor] = encoder.features  # type: ignore[assignment]
        self._compiled = torch.compile(self._eager, dynamic=False, backend=backend)
        self._encoder, self._name, self._say = encoder, name, say
        self._before: tuple[int, ...] = ()
        self._rows: dict[tuple[int, ...], int] = {}
        """By the shape of a clip: rows of a batch that is compiled."""

    def __call__(self, x: Tensor) -> Tensor:
        """Inputs to features."""
        if not (self._encoder.training and torch.is_grad_enabled()):
            return self._eager(x)
        shape = tuple(x.shape)
        if shape[1:] not in self._rows and shape == self._before:
            self._rows[shape[1:]] = shape[0]
            self._say(f"{self._name}: compiling for batches of {shape[0]}; this step takes a minute or more, once")
        self._before = shape
        if self._rows.get(shape[1:]) != shape[0]:
            return self._eager(x)
        # One layout in memory: another would be another program.
        layout = torch.channels_last_3d if x.ndim == 5 else torch.channels_last
        return self._compiled(x.contiguous(memory_format=layout))


def prepare_encoders(
    encoders: Mapping[str, nn.Module],
    device: torch.device,
    *,
    compile: bool | Literal["auto"] = "auto",
    say: Callable[[str], None],
) -> None:
    """Make encoders that lie on their device ready to be trained fast. Call it once, after weights are loaded.

    Args:
        encoders: by name; `VideoEncoder` and `AudioEncoder` stay what they are, also in their state dicts, others
            are left alone.
        compile: whether to compile; "auto" does so on CUDA for encoders of `COMPILED_PARAMETERS` and more, whose step
            is bound by memory and not by launches.
        say: told when a compilation begins.
    """
    for name, encoder in encoders.items():
        if not hasattr(encoder, "compiled"):  # of texts: a table and two layers
            continue
        big = sum(p.numel() for p in encoder.parameters()) >= COMPILED_PARAMETERS
        if compile is True or (compile == "auto" and device.type == "cuda" and big):
            encoder.compiled = CompiledFeatures(encoder, name, say)  # type: ignore[assignment]
