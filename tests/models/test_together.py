"""Encoders side by side against the same encoders one after another."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from seehear.models import build_audio_encoder, build_video_encoder
from seehear.models.together import at_once, side_by_side


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


def test_gradients_of_weights_come_from_any_thread_and_leave_it_as_the_weights_lie() -> None:
    """Strides and paddings given and not given, a bias, a frozen weight, a weight used twice: as autograd has it."""

    class Odd(nn.Module):
        def __init__(self, seed: int) -> None:
            super().__init__()
            torch.manual_seed(seed)
            self.first = nn.Conv2d(1, 6, 3, bias=False)
            self.twice = nn.Conv2d(6, 6, 3, stride=2, padding=1, bias=False)
            self.frozen = nn.Conv2d(6, 6, 1, bias=False).requires_grad_(False)
            self.biased = nn.Conv2d(6, 4, 1)
            self.twice.weight.data = self.twice.weight.data.contiguous(memory_format=torch.channels_last)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.conv2d(self.frozen(torch.conv2d(x, self.first.weight, None)), self.twice.weight, None, 1, "same")
            return self.biased(self.twice(x)).mean((2, 3))

    def gradients(modules: nn.ModuleDict, together: bool) -> list[Tensor | None]:
        x = inputs()["audio"]
        work = {name: partial(module, x) for name, module in modules.items()}
        found = side_by_side(work, modules.values()) if together else {n: f() for n, f in work.items()}
        (found["a"] * found["b"]).sum().backward()
        return [p.grad for p in modules.parameters()]

    one, other = (nn.ModuleDict({"a": Odd(0), "b": Odd(1)}) for _ in range(2))
    found = gradients(one, together=True)
    torch.set_num_threads(1)
    expected = gradients(other, together=False)
    assert [g is None for g in found] == [p is one["a"].frozen.weight or p is one["b"].frozen.weight
                                          for p in one.parameters()]  # fmt: skip
    for a, b in zip(found, expected, strict=True):
        if a is not None and b is not None:
            assert torch.equal(a, b) and a.stride() == b.stride()


def test_items_go_through_several_threads_and_come_out_in_their_order() -> None:
    seen: set[str] = set()

    def slow_first(item: int) -> int:
        seen.add(threading.current_thread().name)
        assert not torch.is_grad_enabled() and torch.get_num_threads() == 1
        time.sleep(0.05 if item % 2 == 0 else 0)
        return item * item

    modules = list(encoders().values())
    assert list(at_once(slow_first, range(7), modules)) == [i * i for i in range(7)]
    assert len(seen) == 2 and threading.current_thread().name not in seen


def test_where_it_does_not_pay_items_are_taken_one_after_another() -> None:
    modules = [build_video_encoder("r2plus1d_10", width=48)]
    names = set(at_once(lambda _: threading.current_thread().name, range(3), modules))
    assert names == {threading.current_thread().name}
    assert set(at_once(lambda _: threading.current_thread().name, range(3), [nn.Identity()])) == names


def test_closed_early_nothing_is_under_way_any_more() -> None:
    begun, ended = [], []

    def work(item: int) -> int:
        begun.append(item)
        time.sleep(0.05)
        ended.append(item)
        return item

    results = at_once(work, range(100), list(encoders().values()))
    assert next(results) == 0
    results.close()
    assert sorted(begun) == sorted(ended) and len(begun) < 10

    def fails(item: int) -> int:
        raise ValueError(f"item {item}")

    with pytest.raises(ValueError, match="item 0"):
        list(at_once(fails, range(100), list(encoders().values())))
