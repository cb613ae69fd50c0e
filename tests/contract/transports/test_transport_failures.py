"""What goes wrong on a transport: bad requests, workers that raise or hang, deadlocks."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tests.contract.scripted import Ask, Primitive, ask
from tests.contract.transports.transports import MANY, each, nobody_is_left

import loosestep as ls
from loosestep.foundation.errors import Deadlock, Mismatch, TimedOut, WorkerFailed
from loosestep.requests import (
    AllReduce,
    Barrier,
    Broadcast,
    Exchange,
    Gradient,
    Mix,
    Request,
    Start,
    Wait,
)
from loosestep.requests.worker import Worker
from loosestep.transports.base import Transport


@each(2, 4)
@pytest.mark.parametrize("wrong", ["size", "dtype", "op", "kind"])
def test_a_mismatch_names_ranks_and_round(on: Transport, wrong: str) -> None:
    def script(worker: Worker) -> Iterator[Request]:
        buf, op, odd = np.ones(64), "sum", worker.rank == 1 and worker.round == 2
        if odd and wrong == "kind":
            yield Broadcast(np.ones(100), root=1)
            return
        if odd:
            buf = np.ones(80) if wrong == "size" else buf.astype(np.float32) if wrong == "dtype" else buf
            op = "max" if wrong == "op" else op
        yield AllReduce(buf, op=op)

    if isinstance(on, Primitive) and not on.on.virtual and wrong in ("op", "kind"):
        pytest.skip("messages that never match are waited for until the deadline")
    with pytest.raises((Mismatch, Deadlock), match=r"(rank|worker) \d.*(rank|worker) \d.*in round 2"):
        ask(script, on, rounds=2)
    nobody_is_left()


@each(1, 2, 4)
@pytest.mark.parametrize("at", ["start", "later"])
def test_a_worker_that_raises_stops_all(on: Transport, at: str) -> None:
    def script(worker: Worker) -> Iterator[Request]:
        yield Barrier()
        if worker.rank == on.size - 1 and worker.round == (1 if at == "start" else 3):
            raise OverflowError("too much")
        yield AllReduce(worker.params)
        yield Start(mix := Mix(worker.params, ls.Ring().weights(worker.rank, worker.size)))
        yield Wait(mix)

    sentence = f"^worker {on.size - 1} failed in round .*OverflowError: too much$"
    with pytest.raises(WorkerFailed, match=sentence) as caught:
        ask(script, on, rounds=5)
    assert isinstance(caught.value.__cause__, OverflowError)
    assert caught.value.rank == on.size - 1
    assert caught.value.round == (1 if at == "start" else 3)
    nobody_is_left()


@each(1, 3)
def test_what_is_no_request_is_refused(on: Transport) -> None:
    def script(worker: Worker) -> Iterator[Request]:
        yield "AllReduce"  # type: ignore[misc]

    with pytest.raises(WorkerFailed, match="asked for 'AllReduce', which is not a request"):
        ask(script, on)


WAITING = {
    "barrier": lambda worker: Barrier(),
    "all reduce": lambda worker: AllReduce(worker.params),
    "message": lambda worker: Exchange(recvs=[(1, np.empty(3))]),
}


@pytest.mark.parametrize("kind", [kind for kind in MANY if not kind.virtual])
@pytest.mark.parametrize("waiting", WAITING)
def test_a_worker_that_hangs_ends_the_job(kind: Any, waiting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()

    def gradient(x: Any, batch: Any) -> Any:
        if batch == 1:
            never.wait()
        return np.zeros_like(x)

    def script(worker: Worker) -> Iterator[Request]:
        yield Gradient()
        yield WAITING[waiting](worker)

    monkeypatch.setattr("loosestep.transports.threads.PATIENCE", 0.5)
    began = time.monotonic()
    try:
        with pytest.raises(TimedOut, match=r"^worker [02] waited 1 s at .* for worker 1, which is at Gradient"):
            ls.run(Ask(script), gradient, np.zeros(3), lambda rank, n: iter([rank]), on=kind(3, deadline=1.0))
        assert time.monotonic() - began < 20
    finally:
        never.set()
    until = time.monotonic() + 10
    while time.monotonic() < until and any(t.name.startswith("worker ") for t in threading.enumerate()):
        time.sleep(0.01)
    nobody_is_left()


@pytest.mark.parametrize("kind", [kind for kind in MANY if not kind.virtual])
def test_a_message_that_nobody_sends_ends_the_job(kind: Any) -> None:
    def script(worker: Worker) -> Iterator[Request]:
        if worker.rank == 0:
            yield Exchange(recvs=[(1, np.empty(3))])

    alone, asked = (
        r"^worker 0 waited 1 s at Exchange\(.* for worker 1, ",
        r"^worker 1 waited 1 s at .* worker 0, .* at Exchange",
    )
    with pytest.raises(TimedOut, match=f"{alone}|{asked}"):
        ask(script, kind(2, deadline=1.0))
    nobody_is_left()


@pytest.mark.parametrize("kind", [kind for kind in MANY if not kind.virtual])
def test_a_slow_worker_that_lives_is_waited_for(kind: Any) -> None:
    def script(worker: Worker) -> Iterator[Request]:
        if worker.rank == 1:
            for _ in range(15):
                time.sleep(0.1)
                yield Gradient()
        yield Barrier()

    ask(script, kind(2, deadline=0.8))


@pytest.mark.parametrize("kind", [kind for kind in MANY if kind.virtual])
def test_a_deadlock_is_reported_with_rank_round_and_request(kind: Any) -> None:
    def script(worker: Worker) -> Iterator[Request]:
        if worker.round < 3:
            yield Barrier()
        elif worker.rank != 2:
            yield Exchange(recvs=[(2, np.empty(3))])

    with pytest.raises(Deadlock) as caught:
        ask(script, kind(3), rounds=4)
    for words in (
        "worker 0 in round 3 at Exchange(sends to [], receives from [2])",
        "worker 1 in round 3 at Exchange(sends to [], receives from [2])",
        "worker 2 in round",
    ):
        assert words in str(caught.value)
