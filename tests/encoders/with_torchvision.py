"""torchvision as an oracle, where it is installed: it is no dependency, and its wheels fit one build of torch each.

Beside another build of the same version it does not import, for the operators of detection that its library cannot
register. Nothing here needs them: they are declared, and the rest imports. It must be done before `transformers` is
imported, which looks for torchvision once.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch

_KEPT = []  # declarations last as long as their library object


def available() -> bool:
    """Whether torchvision can be used."""
    if find_spec("torchvision") is None:
        return False
    if not hasattr(torch.ops.torchvision, "nms"):
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEPT.append(library)
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):
        return False
    return True


TORCHVISION = available()
