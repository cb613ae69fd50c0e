"""Bad input to `run`: one clear sentence each, and no thread left behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import loosestep as ls
from loosestep.foundation.errors import Diverged, WorkerFailed
from loosestep.transports.base import Transport

MANY = [ls.Threads(3), ls.Simulated(3)]
A_STRATEGY = f"must be a Strategy, got {ls.LocalSGD!r}"
A_TRANSPORT = f"must be a Transport, got {ls.Threads!r}"
A_WORD = "must be one of 'keep', 'reset', 'average'"
A_PATTERN = "must be one of 'constant', 'random'"
A_RANK = "must be below 2, the number of workers, got 2"
every_carrier = pytest.mark.parametrize("on", [ls.Serial(), *MANY], ids=repr)


@pytest.fixture(autouse=True)
def nobody_is_left() -> Iterator[None]:
    yield
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("worker ")]


def plain(x: Any, batch: Any) -> Any:
    return x - batch


def ones(rank: int, size: int) -> Iterator[Any]:
    return iter([np.ones(3)] * 4)


def go(**options: Any) -> ls.Result:
    options = {"strategy": ls.LocalSGD(), "gradient": plain, "x0": np.zeros(3), "batches": ones, **options}
    return ls.run(**options)


def sentences(table: list[Any]) -> list[str]:
    """The last column names a case."""
    return [row[-1] for row in table]


BAD_OPTIONS = [
    ({"strategy": ls.LocalSGD}, TypeError, f"strategy {A_STRATEGY}, did you mean LocalSGD()?"),
    ({"strategy": "LocalSGD"}, TypeError, "strategy must be a Strategy, got 'LocalSGD'"),
    ({"strategy": ls.SGD()}, TypeError, "strategy must be a Strategy, got SGD()"),
    ({"optimizer": ls.SGD}, TypeError, f"optimizer must be an Optimizer, got {ls.SGD!r}, did you mean SGD()?"),
    ({"optimizer": 0.1}, TypeError, "optimizer must be an Optimizer, got 0.1"),
    ({"on": ls.Threads}, TypeError, f"on {A_TRANSPORT}, did you mean Threads()?"),
    ({"on": 4}, TypeError, "on must be a Transport, got 4"),
    ({"gradient": None}, TypeError, "gradient must be a function of (x, batch), got None"),
    ({"batches": [1, 2]}, TypeError, "batches must be a function of (rank, size), got [1, 2]"),
    ({"x0": np.zeros(3, int)}, TypeError, "x0 must be a float32 or float64 array, got int64 array"),
    ({"x0": np.zeros(3, np.float16)}, TypeError, "x0 must be a float32 or float64 array, got float16 array"),
    ({"x0": [0.0, 0.0]}, TypeError, "x0 must be a float32 or float64 array, got 'list'"),
    ({"x0": np.zeros(0)}, ValueError, "x0 has no values"),
    ({"x0": np.array([0.0, np.nan])}, ValueError, "x0 holds values that are not finite"),
    ({"x0": np.array([0.0, np.inf])}, ValueError, "x0 holds values that are not finite"),
    ({"steps": 0}, ValueError, "steps must be at least 1, got 0"),
    ({"steps": 2.5}, TypeError, "steps must be an integer, got 2.5"),
    ({"steps": True}, TypeError, "steps must be an integer, got True"),
    ({"every": 0}, ValueError, "every must be at least 1, got 0"),
    ({"every": "5"}, TypeError, "every must be an integer, got '5'"),
    ({"checkpoint": "nowhere", "checkpoint_every": -1}, ValueError, "checkpoint_every must be at least 1, got -1"),
    ({"checkpoint_every": 5}, ValueError, "checkpoint_every and resume need checkpoint, the folder to write to"),
    ({"resume": True}, ValueError, "checkpoint_every and resume need checkpoint, the folder to write to"),
    ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
    ({"seed": 1.5}, TypeError, "seed must be an integer, got 1.5"),
    ({"evaluate": 3}, TypeError, "evaluate must be a function, got 3"),
    ({"callback": "print"}, TypeError, "callback must be a function, got 'print'"),
    ({"stop": True}, TypeError, "stop must be a function, got True"),
    ({"batches": lambda rank, size: iter([])}, ValueError, "the data is empty: no worker got a single batch"),
    ({"epochs": 3}, TypeError, "run() got an unexpected keyword argument 'epochs'"),
]


@pytest.mark.parametrize(("options", "kind", "sentence"), BAD_OPTIONS, ids=sentences(BAD_OPTIONS))
def test_run_refuses_in_one_sentence(options: dict[str, Any], kind: type[Exception], sentence: str) -> None:
    with pytest.raises(kind) as caught:
        go(**options)
    assert str(caught.value) == sentence


BAD_VALUES = [
    (lambda: ls.LocalSGD(period=0), ValueError, "period must be at least 1, got 0"),
    (lambda: ls.EASGD(period=0), ValueError, "period must be at least 1, got 0"),
    (lambda: ls.EASGD(moving_rate=-0.1), ValueError, "moving_rate must be at least 0 and finite, got -0.1"),
    (lambda: ls.EASGD(order="before"), ValueError, "order must be one of 'after', 'published', got 'before'"),
    (lambda: ls.LocalSGD(momentum="sum"), ValueError, f"momentum {A_WORD}, got 'sum'"),
    (lambda: ls.Hogwild(adds="fast"), ValueError, "adds must be one of 'exact', 'racy', got 'fast'"),
    (lambda: ls.CDSGD(topology="ring"), TypeError, "topology must be a Topology, got 'ring'"),
    (lambda: ls.CDSGD(ls.Ring), TypeError, f"topology must be a Topology, got {ls.Ring!r}, did you mean Ring()?"),
    (lambda: ls.Simulated(2, stragglers="slow"), TypeError, "stragglers must be a Stragglers, got 'slow'"),
    (lambda: ls.Metered(ls.Threads), TypeError, f"on {A_TRANSPORT}, did you mean Threads()?"),
    (lambda: ls.DaSGD(keep=1.5), ValueError, "keep must be at most 1, got 1.5"),
    (lambda: ls.DaSGD(period=4, delay=5), ValueError, "delay must be in 0 .. 4, got 5"),
    (lambda: ls.StreamingDiLoCo(period=4, delay=-1), ValueError, "delay must be in 0 .. 4, got -1"),
    (lambda: ls.OverlapLocalSGD(pull=2.0), ValueError, "pull must be at most 1, got 2.0"),
    (lambda: ls.SlowMo(slow_momentum=-0.1), ValueError, "slow_momentum must be at least 0 and finite, got -0.1"),
    (lambda: ls.BMUF(rate=0.0), ValueError, "rate must be above 0 and finite, got 0.0"),
    (lambda: ls.BMUF(form="neither"), ValueError, "form must be one of 'classical', 'nesterov', got 'neither'"),
    (lambda: ls.FedAvg(fraction=0.0), ValueError, "fraction must be above 0 and finite, got 0.0"),
    (lambda: ls.PostLocalSGD(switch=-1), ValueError, "switch must be at least 0, got -1"),
    (lambda: ls.Delayed(4), TypeError, "on must be a Transport, got 4"),
    (lambda: ls.Delayed(ls.Threads(2), ranks=(2,)), ValueError, f"ranks {A_RANK}"),
    (lambda: ls.Delayed(pattern="normal"), ValueError, f"pattern {A_PATTERN}, got 'normal'"),
    (lambda: ls.Failing(ls.Threads(2), rank=2), ValueError, f"rank {A_RANK}"),
    (lambda: ls.Threads(2, deadline=0), ValueError, "deadline must be above 0 and finite, got 0"),
    (lambda: ls.SGD(rate="fast"), TypeError, "rate must be a number, got 'fast'"),
    (lambda: ls.SGD(-0.1), ValueError, "rate must be at least 0 and finite, got -0.1"),
]


@pytest.mark.parametrize(("make", "kind", "sentence"), BAD_VALUES, ids=sentences(BAD_VALUES))
def test_a_value_refuses_in_one_sentence(make: Any, kind: type[Exception], sentence: str) -> None:
    with pytest.raises(kind) as caught:
        make()
    assert str(caught.value) == sentence


def test_numpys_numbers_are_numbers() -> None:
    assert repr(ls.LocalSGD(period=np.int64(4))) == repr(ls.LocalSGD(period=4))
    assert repr(ls.SGD(np.float32(0.5))) == "SGD(rate=0.5)"
    given = {"steps": np.int64(3), "every": np.int32(1), "seed": np.uint8(7), "on": ls.Threads(np.int64(2))}
    assert go(strategy=ls.LocalSGD(np.int64(2)), **given).history[-1].step == 3
    for value in (np.float64(2.0), np.bool_(True)):
        with pytest.raises(TypeError, match="steps must be an integer"):
            go(steps=value)


BAD_GRADIENTS = [
    (lambda x, b: None, "ValueError: gradient must return an array of 3 values like x0, got None"),
    (lambda x, b: x[:2], "ValueError: gradient must return an array of 3 values like x0, got shape (2,)"),
    (
        lambda x, b: [0.0] * 3,
        "ValueError: gradient must return an array of 3 values like x0, got a list: of several tensors it is a "
        "list, for shapes",
    ),
    (lambda x, b: (0.5, None), "ValueError: gradient must return an array of 3 values like x0, got None"),
    (lambda x, b: x.astype(complex), "TypeError: gradient must return real numbers, got complex128"),
    (lambda x, b: ("loss", x), "ValueError: could not convert string to float: 'loss'"),
    (lambda x, b: x.fill(0), "ValueError: assignment destination is read-only"),
]


@every_carrier
@pytest.mark.parametrize(("gradient", "sentence"), BAD_GRADIENTS, ids=sentences(BAD_GRADIENTS))
def test_what_a_gradient_returns_is_checked(gradient: Any, sentence: str, on: Transport) -> None:
    with pytest.raises(WorkerFailed) as caught:
        go(gradient=gradient, on=on)
    text = str(caught.value)
    assert text.startswith("worker ")
    assert " failed in round 1, at " in text
    assert text.endswith(f": {sentence}")


@every_carrier
def test_a_float64_gradient_of_float32_parameters_is_rounded(on: Transport) -> None:
    result = go(gradient=lambda x, b: np.ones(3), x0=np.zeros(3, np.float32), on=on)
    assert result.params.dtype == np.float32
    assert result.params == pytest.approx(np.full(3, -0.4), rel=1e-6)


@pytest.mark.parametrize("on", MANY, ids=repr)
def test_a_gradient_that_raises_in_one_worker(on: Transport) -> None:
    def batches(rank: int, size: int) -> Iterator[Any]:
        return iter([rank] * 20)

    def gradient(x: Any, batch: Any) -> Any:
        if batch == 1:
            raise ZeroDivisionError("no such sample")
        return x

    with pytest.raises(WorkerFailed) as caught:
        go(gradient=gradient, batches=batches, on=on)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert caught.value.rank == 1
    assert str(caught.value).startswith("worker 1 failed in round 1, at ")
    assert str(caught.value).endswith(": ZeroDivisionError: no such sample")


@pytest.mark.parametrize("on", MANY, ids=repr)
def test_data_that_raises_in_one_worker(on: Transport) -> None:
    def batches(rank: int, size: int) -> Iterator[Any]:
        yield np.ones(3)
        yield np.ones(3)
        if rank == 2:
            raise OSError("the file is gone")

    with pytest.raises(WorkerFailed, match=r"^worker 2 failed in round 1.*: OSError: the file is gone$"):
        go(batches=batches, on=on)


@every_carrier
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_is_not_finite(bad: float, on: Transport) -> None:
    def batches(rank: int, size: int) -> Iterator[Any]:
        return iter([np.ones(3), np.full(3, bad)])

    with pytest.raises(Diverged, match=r"^the loss of worker \d is (nan|-inf) at step 2: the run diverged \("):
        go(gradient=lambda x, b: (float(np.sum(x - b)), x - b), batches=batches, on=on)


@every_carrier
def test_x0_is_not_changed_and_keeps_its_shape(on: Transport) -> None:
    x0 = np.zeros((3, 1), order="F")
    result = go(gradient=lambda x, b: x - b.reshape(3, 1), x0=x0, on=on)
    assert result.params.shape == (3, 1)
    assert not x0.any()
