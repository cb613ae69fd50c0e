"""Buffers of a GPU meet others through mirrors: what is copied when, for every communication of buffers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from itertools import count, repeat
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from loosestep import requests
from loosestep.lowering import staging
from loosestep.lowering.requests import Drain, Drained, RollCall
from loosestep.lowering.staging import Staging
from loosestep.requests import (
    AllGather,
    AllReduce,
    Broadcast,
    Bucket,
    Buffer,
    Communication,
    Elastic,
    Exchange,
    Fetch,
    Mix,
    Push,
    Ready,
    Request,
    Shared,
    Start,
    Wait,
    Weights,
)
from loosestep.requests.worker import Worker

SHARED = Shared("center", 4, np.dtype(np.float32), None)
log: list[str] = []


class OnGpu:
    """Memory that says that it is a GPU's, and notes what is copied."""

    def __init__(self, name: str, held: NDArray[Any]) -> None:
        self.name, self.held = name, held
        self.size, self.dtype, self.itemsize, self.nbytes = held.size, held.dtype, held.itemsize, held.nbytes

    def __getitem__(self, part: slice) -> OnGpu:
        return OnGpu(f"{self.name}[{part.start}:]", self.held[part])

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return self.held.__array_interface__

    def like(self, size: int) -> OnGpu:
        return OnGpu("other", np.zeros(size, self.dtype))

    def mirror(self) -> Mirror:
        return Mirror(self.held)


class Mirror:
    """Copies happen when somebody waits for them: whoever does not wait sees nothing."""

    made = 0

    def __init__(self, like: NDArray[Any]) -> None:
        Mirror.made += 1
        self.number = Mirror.made
        self.array = np.full_like(like, np.nan)
        self.to_do: list[Callable[[], None]] = []

    def bring(self, source: Any) -> None:
        log.append(f"bring {source.name}")
        self.to_do.append(lambda: np.copyto(self.array, source.held))

    def send(self, to: Any) -> None:
        log.append(f"send {to.name}")
        np.copyto(to.held, self.array)

    def done(self) -> bool:
        return False

    def wait_for_device(self) -> None: ...

    def wait(self) -> None:
        for copy in self.to_do:
            copy()
        self.to_do.clear()


def on_device(name: str, *values: float) -> Any:
    return OnGpu(name, np.array(values, np.float32))


def staged(worker_size: int, *given: Request, step: int = 1 << 20) -> list[Request]:
    """Requests as the transport gets them; each multiplies by ten what it may write."""
    log.clear()
    stage = made(worker_size)
    seen = []
    for request in stage.rewrite(given):
        log.append(type(request).__name__)
        seen.append(request)
        for buffer in written(request):
            buffer *= 10
    return seen


def made(size: int, clock: Iterator[float] | None = None, waited: Callable[[float], None] = float) -> Staging:
    worker = Worker(0, size, cast("Buffer", on_device("params", 1)), lambda name, like: SHARED)
    return Staging(worker, lambda: next(clock or repeat(0.0)), waited)


def written(request: Any) -> list[Buffer]:
    """What a transport writes, of requests that it performs at once or completes."""
    inner = request.request if isinstance(request, (Wait, Drain)) else request
    buffers = [getattr(inner, name, None) for name in ("buf", "into", "out")]
    return [buffer for buffer in buffers if buffer is not None] + [b for _, b in getattr(inner, "recvs", ())]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "CHUNK", 4)  # two float32 of two workers


def test_chunks_follow_each_other() -> None:
    x = on_device("x", 1, 2, 3, 4, 5)
    first, second, third = staged(2, AllReduce(x, op="sum", weight=3.0))
    assert log == [
        *("bring x[0:]", "bring x[2:]", "bring x[4:]"),
        *("AllReduce", "send x[0:]", "AllReduce", "send x[2:]", "AllReduce", "send x[4:]"),
    ]
    assert x.held.tolist() == [10, 20, 30, 40, 50]
    for part in (first, second, third):
        assert isinstance(part, AllReduce)
        assert (part.op, part.weight, type(part.buf)) == ("sum", 3.0, np.ndarray)


@pytest.mark.parametrize("end", ["Wait", "Drain"])
def test_what_is_started_comes_back_when_it_is_waited_for(end: str) -> None:
    x = on_device("x", 1, 2, 3)
    request = AllReduce(x)
    last = Wait(request) if end == "Wait" else Drain(request, Drained())
    seen = staged(2, Start(request), RollCall(1, present=True), last, Wait(Drained()))
    assert log == [
        *("bring x[0:]", "bring x[2:]", "Start", "Start", "RollCall"),
        *(end, "send x[0:]", end, "send x[2:]", "Wait"),
    ]
    assert [cast("Any", each).request for each in seen[:2]] == [cast("Any", each).request for each in seen[3:5]]
    assert x.held.tolist() == [10, 20, 30]


def test_a_broadcast_is_copied_one_way() -> None:
    staged(2, Broadcast(on_device("x", 1), root=0))
    assert log == ["bring x[0:]", "Broadcast"]
    staged(2, Broadcast(on_device("x", 1), root=1))
    assert log == ["Broadcast", "send x[0:]"]


def test_one_alone_agrees_with_itself() -> None:
    x = on_device("x", 1, 2, 3)
    request = AllReduce(x)
    seen = staged(1, AllReduce(x), Broadcast(x), Start(request), Wait(request), AllReduce(x, group=(0,)))
    assert log == ["AllReduce", "Broadcast", "Start", "Wait", "AllReduce"]
    assert all(getattr(each, "request", each).buf.size == 0 for each in seen)  # type: ignore[attr-defined]
    assert x.held.tolist() == [1, 2, 3]


def test_what_is_started_begins_when_its_values_are_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """In order, and all of it before any other communication; computing goes on meanwhile."""
    x, y, z = (on_device(name, 1) for name in "xyz")
    ready = Ready(Bucket(0, 1, np.ones(1), 1.0))
    first, second, third = AllReduce(x), AllReduce(y), AllReduce(z)
    here = {1: False, 2: False}
    monkeypatch.setattr(Mirror, "done", lambda mirror: here.get(mirror.number, False))
    stage = made(2)

    def asked() -> Iterator[Request]:
        yield Start(first)
        yield Start(second)
        yield ready
        here[1] = True
        yield ready
        yield Start(third)
        yield Wait(first)

    log.clear()
    Mirror.made = 0
    seen = [type(request).__name__ for request in stage.rewrite(asked())]
    assert seen == ["Ready", "Start", "Ready", "Start", "Start", "Wait"]
    assert log == ["bring x[0:]", "bring y[0:]", "bring z[0:]", "send x[0:]"]


def test_mirrors_serve_again() -> None:
    stage = made(2)
    for _ in range(3):
        list(stage.rewrite([AllReduce(on_device("x", 1, 2, 3)), Elastic(on_device("y", 1, 2), SHARED, 0.5)]))
    assert {size: len(free) for (size, _), free in stage.free.items()} == {2: 1, 1: 1}


def test_the_meter_is_told_of_copies_but_not_between_steps() -> None:
    told: list[float] = []
    stage = made(2, count(0.0, 0.25), told.append)
    list(stage.rewrite([AllReduce(on_device("x", 1, 2, 3))]))
    stage.worker.unmetered = True
    list(stage.rewrite([Elastic(on_device("x", 1), SHARED, 0.5)]))
    assert told == [0.25, 0.25]
    assert stage.worker.computing == 0.5


def test_other_requests() -> None:
    x, y, version = on_device("x", 1, 2, 3), on_device("y", 4, 5, 6), np.zeros(1)
    weights = Weights(((0, 0.5), (1, 0.5)), (1,))
    notes: dict[int, float] = {}
    cases: list[tuple[Communication, list[str]]] = [
        (Mix(x, weights), ["bring x[0:]", "bring x[2:]", "Mix", "send x[0:]", "Mix", "send x[2:]"]),
        (Elastic(x, SHARED, 0.5), ["bring x", "Elastic", "send x"]),
        (Fetch(SHARED, x, version), ["Fetch", "send x"]),
        (Push("axpy", (SHARED,), (on_device("four", 1, 2, 3, 4),), (1.0,)), ["bring four", "Push"]),
        (AllGather(x, y), ["bring x", "AllGather", "send y"]),
        (AllGather(np.ones(3, np.float32), y), ["AllGather", "send y"]),
        (Exchange([(1, x)], [(1, y)], 2.0, notes, 7), ["bring x", "Exchange", "send y"]),
    ]
    for request, wanted in cases:
        given = staged(2, request)
        assert log == wanted
        assert not any(staging.touches(each) for each in given)
    last = given[-1]
    assert isinstance(last, Exchange)
    assert (last.sends[0][0], last.note, last.notes, last.tag) == (1, 2.0, notes, 7)
    assert last.notes is notes


def test_what_names_no_buffer_of_a_gpu_passes_untouched() -> None:
    given = [AllReduce(np.ones(3)), RollCall(1, present=True), Ready(Bucket(0, 1, np.ones(1), 1.0))]
    assert staged(2, *given) == given
    assert not log or log == ["AllReduce", "RollCall", "Ready"]


def test_a_wrong_push_is_refused_when_it_is_sent() -> None:
    push = Push("axpy", (SHARED,), (on_device("x", 1, 2),), (1.0,))
    with pytest.raises(ValueError, match=r"values\[0\] must be of 4 elements \(as the center\), got 2"):
        staged(2, push)


def test_every_communication_of_buffers_is_known() -> None:
    """What holds a buffer is staged; others hold requests, which are asked for on their way, or nothing."""
    known = made(1).cut
    kinds = [each for each in vars(requests).values() if isinstance(each, type) and is_dataclass(each)]
    for kind in kinds:
        holds = any("Buffer" in str(field.type) for field in fields(cast("Any", kind)))
        assert (kind in known) == (holds and issubclass(kind, Communication)), kind
