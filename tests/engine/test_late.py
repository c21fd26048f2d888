"""What a GPU is given to do without being waited for, run on a CPU: it ends as the plain path does."""

from __future__ import annotations

import copy
import signal
from functools import partial, partialmethod

import pytest
import torch
from torch import nn

from seehear.config import OptimConfig
from seehear.copies import LateReader, beside, to_device
from seehear.data.loader import ClipLoader
from seehear.engine import optimiser as optimisers
from seehear.engine import trainer as trainers
from seehear.engine.optimiser import clip_gradients, load_state, make_optimiser, set_rate, step_if_finite
from seehear.engine.runlog import read_metrics
from seehear.engine.trainer import Trainer
from seehear.errors import DivergedError, Interrupted
from seehear.features import extract as extraction
from seehear.pretraining import run as pretraining
from seehear.pretraining.plan import make_config
from tests.conftest import TINY_SETTINGS
from tests.engine.test_training import assert_same_run, weights

CPU = torch.device("cpu")
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")),
]
SGD = OptimConfig(momentum=0.9, weight_decay=0.01, nesterov=True)
PLAIN_SGD = OptimConfig(momentum=0.0)
ADAM = OptimConfig(algorithm="adam", weight_decay=0.01)


# -- reading late -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("late", [False, True])
def test_values_are_read_in_order_one_call_late_and_to_the_end(late, device):
    seen = []
    reader = LateReader(torch.device(device), late=late)
    x = torch.zeros(3, device=device)

    def keep(step, found, others):
        seen.append((step, found["x"].tolist(), others))

    for step in range(4):
        x += 1
        reader.read(partial(keep, step), {"x": x}, {})
        assert len(seen) == (step if late else step + 1)
    reader.flush()
    reader.flush()
    # Values as they were when they were asked for, whatever became of the tensor afterwards.
    assert seen == [(step, [step + 1.0] * 3, {}) for step in range(4)]
    assert not reader.busy


def test_what_reading_raises_is_raised_by_the_call_that_reads():
    def fail(found):
        raise ValueError("boom")

    reader = LateReader(CPU, late=True)
    reader.read(fail, {})
    with pytest.raises(ValueError, match="boom"):
        reader.flush()
    reader.flush()  # it is read once


@pytest.mark.parametrize("device", DEVICES)
def test_copies_and_what_is_made_beside_arrive_whole(device):
    device = torch.device(device)
    x = torch.arange(1_000_000)
    for _ in range(3):
        with beside(device) as made:
            y = to_device(x, device) * 2
            made.append(y)
        assert y.device.type == device.type
        assert int(y.sum()) == 999_999 * 1_000_000
        del y


# -- steps that are left out --------------------------------------------------------------------------------------


def net(device=CPU):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 3)).to(device)


def give_gradients(model, seed, bad=None):
    generator = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=generator).to(p.device)
    if bad is not None:
        next(model.parameters()).grad[1, 2] = bad


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("optim", [SGD, PLAIN_SGD, ADAM], ids=["sgd", "no momentum", "adam"])
@pytest.mark.parametrize("bad_steps", [(), (0,), (1, 2), (0, 1, 4)])
def test_a_fused_optimiser_leaves_out_the_steps_that_the_host_would(bad_steps, optim, device):
    models = {False: net(), True: net(device)}
    made = {fused: make_optimiser([{"params": list(m.parameters()), "lr_factor": 0.5}], optim, fused=fused)
            for fused, m in models.items()}  # fmt: skip
    for step in range(6):
        before = [p.detach().clone() for p in models[True].parameters()]
        for fused, model in models.items():
            give_gradients(model, step, [float("nan"), float("inf")][step % 2] if step in bad_steps else None)
            set_rate(made[fused], 0.1)
            norm = clip_gradients(model.parameters(), None)
            assert bool(norm.isfinite()) == (step not in bad_steps)
            step_if_finite(made[fused], norm)
        if step in bad_steps:
            assert all(torch.equal(a, b) for a, b in zip(before, models[True].parameters(), strict=True))
        for a, b in zip(models[False].parameters(), models[True].parameters(), strict=True):
            assert torch.allclose(a, b.cpu(), rtol=1e-6, atol=1e-7)


def test_a_first_step_left_out_needs_the_momentum_that_is_begun():
    """The test above would not see a fault if the memory of a new buffer happened to be zero."""
    model = net()
    optimiser = make_optimiser([{"params": list(model.parameters())}], SGD, fused=True)
    assert all(not optimiser.state[p]["momentum_buffer"].any() for p in model.parameters())
    plain = make_optimiser([{"params": list(model.parameters())}], SGD, fused=False)
    assert not plain.state


@pytest.mark.parametrize("optim", [SGD, ADAM], ids=["sgd", "adam"])
@pytest.mark.parametrize(("saved", "resumed"), [(False, True), (True, False), (True, True)])
def test_a_state_saved_by_one_kind_of_optimiser_is_gone_on_from_by_the_other(saved, resumed, optim):
    model = net()
    first = make_optimiser([{"params": list(model.parameters()), "lr_factor": 1.0}], optim, fused=saved)
    for step in range(2):
        give_gradients(model, step)
        set_rate(first, 0.1)
        step_if_finite(first, clip_gradients(model.parameters(), None))
    other = copy.deepcopy(model)
    second = make_optimiser([{"params": list(other.parameters()), "lr_factor": 1.0}], optim, fused=resumed)
    load_state(second, copy.deepcopy(first.state_dict()))
    for step in range(2, 4):
        for m, o in ((model, first), (other, second)):
            give_gradients(m, step, float("nan") if step == 2 else None)
            set_rate(o, 0.1)
            step_if_finite(o, clip_gradients(m.parameters(), None))
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("limit", [None, 0.5, 1e9])
def test_gradients_are_clipped_to_the_bits_of_pytorchs_function(limit):
    one, other = net(), net()
    give_gradients(one, 0)
    give_gradients(other, 0)
    expected = nn.utils.clip_grad_norm_(other.parameters(), limit or float("inf"))
    assert torch.equal(clip_gradients(one.parameters(), limit), expected)
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(one.parameters(), other.parameters(), strict=True))


# -- whole runs ---------------------------------------------------------------------------------------------------


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Values read late, a fused optimiser, views made by the device: all that a GPU does otherwise, on the CPU."""
    monkeypatch.setattr(trainers, "LateReader", partial(LateReader, late=True))
    monkeypatch.setattr(extraction, "LateReader", partial(LateReader, late=True))
    monkeypatch.setattr(trainers, "make_optimiser", lambda groups, optim, fused: optimisers.make_optimiser(
        groups, optim, fused=True))  # fmt: skip
    monkeypatch.setattr(ClipLoader, "__init__", partialmethod(ClipLoader.__init__, device_views=True))


def steps_of(run):
    return [r for r in read_metrics(run / "metrics.jsonl") if r["kind"] == "step"]


def test_a_run_as_on_a_gpu_learns_what_one_on_a_cpu_does(as_on_a_gpu, finished_run, collection, tmp_path):
    config = make_config(method="xdc", settings=TINY_SETTINGS)
    pretraining.pretrain(collection, tmp_path / "run", config, quiet=True)
    found, expected = steps_of(tmp_path / "run"), steps_of(finished_run)
    assert [r["step"] for r in found] == [r["step"] for r in expected]
    assert [list(r) for r in found] == [list(r) for r in expected]
    # A fused step rounds otherwise; until the first clusters of such features differ, losses are nearly the same.
    for a, b in list(zip(found, expected, strict=True))[:6]:
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-3)
        assert a["gradient_norm"] == pytest.approx(b["gradient_norm"], rel=1e-2)


@pytest.mark.parametrize(
    ("method", "settings"), [("xdc", ()), ("selavi", ("rounds=1", "selavi.heads=2", "selavi.clusterings=6"))]
)
def test_a_run_as_on_a_gpu_resumes_to_the_bit(method, settings, as_on_a_gpu, collection, tmp_path, monkeypatch):
    """What is still to be read when a run stops is read before it saves: features kept, lines of the log."""
    config = make_config(method=method, settings=[*TINY_SETTINGS, *settings])
    pretraining.pretrain(collection, tmp_path / "whole", config, quiet=True)
    save_or_stop = Trainer.save_or_stop

    def stopping(self):
        if self.state.step == 4:
            self.stop.signal = signal.SIGTERM
        save_or_stop(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "save_or_stop", stopping)
        with pytest.raises(Interrupted):
            pretraining.pretrain(collection, tmp_path / "run", config, quiet=True)
    pretraining.pretrain(None, tmp_path / "run", config, resume=True, quiet=True)
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def poisoned(steps):
    """`clip_gradients` as it is where some steps, counted from 1, have a gradient that is not finite."""
    count = 0

    def clip(parameters, limit):
        nonlocal count
        count += 1
        parameters = list(parameters)
        if count in steps:
            grad = next(p.grad for p in parameters if p.grad is not None)
            grad[(0,) * grad.ndim] = float("nan")
        return clip_gradients(parameters, limit)

    return clip


@pytest.mark.parametrize("on_a_gpu", [False, True])
def test_steps_without_finite_gradients_are_left_out_and_named(on_a_gpu, request, collection, tmp_path, monkeypatch):
    if on_a_gpu:
        request.getfixturevalue("as_on_a_gpu")
    monkeypatch.setattr(trainers, "clip_gradients", poisoned({1, 3, 4}))
    config = make_config(method="xdc", settings=[*TINY_SETTINGS, "rounds=1", "optim.epochs=2"])
    pretraining.pretrain(collection, tmp_path / "run", config, quiet=True)
    records = read_metrics(tmp_path / "run" / "metrics.jsonl")
    warned = [r for r in records if r["kind"] == "warning" and "left out" in r["message"]]
    assert [r["message"] for r in warned] == [f"step {n} left out: its gradients are not finite" for n in (1, 3, 4)]
    assert [r["step"] for r in warned] == [0, 2, 3]
    assert [r["step"] for r in steps_of(tmp_path / "run") if r["gradient_norm"] is None] == [1, 3, 4]
    assert all(bool(x.isfinite().all()) for x in weights(tmp_path / "run").values())


@pytest.mark.parametrize("on_a_gpu", [False, True])
def test_ten_such_steps_running_end_the_run(on_a_gpu, request, collection, tmp_path, monkeypatch):
    if on_a_gpu:
        request.getfixturevalue("as_on_a_gpu")
    monkeypatch.setattr(trainers, "clip_gradients", poisoned({2, *range(4, 50)}))
    config = make_config(method="xdc", settings=[*TINY_SETTINGS, "rounds=1", "optim.epochs=10"])
    with pytest.raises(DivergedError, match="10 steps running"):
        pretraining.pretrain(collection, tmp_path / "run", config, quiet=True)
    records = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert sum(r["kind"] == "warning" and "left out" in r["message"] for r in records) == 11
