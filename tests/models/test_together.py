"""Encoders side by side against the same encoders one after another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from seehear.models import build_audio_encoder, build_video_encoder
from seehear.models.together import side_by_side


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def encoders() -> nn.ModuleDict:
    random = torch.Generator().manual_seed(0)
    video = build_video_encoder("r2plus1d_10", width=4, generator=random)
    return nn.ModuleDict({"video": video, "audio": build_audio_encoder("resnet9", width=4, generator=random)})


def inputs() -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(1)
    return {
        "video": torch.randn(4, 3, 4, 16, 16, generator=random),
        "audio": torch.randn(4, 1, 20, 30, generator=random),
    }


def step(modules: nn.ModuleDict, together: bool) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Features and gradients of a loss that joins the encoders, after two steps whose gradients add up."""
    x = inputs()
    for _ in range(2):
        work = {name: partial(module, x[name]) for name, module in modules.items()}
        found = side_by_side(work, list(modules.values())) if together else {n: f() for n, f in work.items()}
        (found["video"] * found["audio"]).sum().backward()
    gradients = [p.grad for p in modules.parameters()]
    assert all(g is not None for g in gradients)
    return {n: f.detach() for n, f in found.items()}, gradients  # type: ignore[return-value]


def test_features_and_gradients_are_those_of_one_after_another_to_the_bit() -> None:
    """Each encoder has one of the two threads; so have those it is compared with."""
    one, other = encoders(), encoders()
    found, gradients = step(one, together=True)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    expected, own = step(other, together=False)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert all(torch.equal(a, b) for a, b in zip(gradients, own, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(one.buffers(), other.buffers(), strict=True))


def threads_of(modules: nn.ModuleDict) -> list[str]:
    seen: list[str] = []

    def named(name: str) -> Callable[[], Tensor]:
        def work() -> Tensor:
            seen.append(threading.current_thread().name)
            return modules[name](inputs()[name])  # type: ignore[no-any-return]

        return work

    side_by_side({name: named(name) for name in modules}, list(modules.values()))
    return seen


def test_each_has_a_thread_of_its_own_where_that_pays() -> None:
    modules = encoders()
    main = threading.current_thread().name
    assert main not in threads_of(modules)
    with torch.autocast("cpu", torch.bfloat16):
        assert threads_of(modules) == [main, main]
    torch.set_num_threads(1)
    assert threads_of(modules) == [main, main]
    torch.set_num_threads(2)
    modules["large"] = build_video_encoder("r2plus1d_10", width=48)
    work = {name: partial(lambda: torch.zeros(())) for name in modules}
    assert set(side_by_side(work, list(modules.values()))) == set(modules)
    del modules["audio"], modules["video"]
    assert threads_of(nn.ModuleDict({"video": modules["large"]})) == [main]


def test_modes_are_those_of_the_caller() -> None:
    modules = encoders().eval()
    work = {name: partial(module, inputs()[name]) for name, module in modules.items()}
    with torch.no_grad():
        assert not any(x.requires_grad for x in side_by_side(work, list(modules.values())).values())
    with torch.inference_mode():
        assert all(x.is_inference() for x in side_by_side(work, list(modules.values())).values())
    assert all(x.requires_grad for x in side_by_side(work, list(modules.values())).values())


def test_errors_come_out_of_both_passes() -> None:
    def fails() -> Tensor:
        raise ValueError("in the forward pass")

    class Fails(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: object, *gradient: Tensor) -> Tensor:
            raise ValueError("in the backward pass")

    modules = list(encoders().values())
    weight = torch.ones(2, requires_grad=True)
    with pytest.raises(ValueError, match="in the forward pass"):
        side_by_side({"a": fails, "b": lambda: weight * 2}, modules)
    found = side_by_side({"a": lambda: weight * 2, "b": lambda: Fails.apply(weight * 2)}, modules)
    with pytest.raises(ValueError, match="in the backward pass"):
        (found["a"] + found["b"]).sum().backward()
