"""Run by every rank: what the same requests and strategies give in processes, against threads in each of them."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.contract.discovery import cases
from tests.contract.problem import Quadratic, start
from tests.contract.scripted import Ask, beginning
from tests.mpi.between import Processes, world

import loosestep as ls
from loosestep import strategies
from loosestep.foundation.errors import LoosestepError, PeerFailed
from loosestep.requests import (
    AllGather,
    AllReduce,
    Barrier,
    Broadcast,
    Exchange,
    Fetch,
    Mix,
    Push,
    Request,
    Start,
    Wait,
    Weights,
)
from loosestep.requests.worker import Worker
from loosestep.runtime import program
from loosestep.runtime.checkpoint.folder import Folder
from loosestep.runtime.checkpoint.resume_point import choose
from loosestep.strategies.base import Strategy
from loosestep.transports.base import Transport

SIZE, RANK = Processes().size, Processes().rank
SHORT = "short" in sys.argv
SPLITS = {3: ([2, 1],), 4: ([2, 2], [3, 1], [1, 1, 2])}.get(SIZE, ())
ROOM = {"latency": 1e-5, "bandwidth": 1.25e9}
"""Links between hosts as the simulator has them: what is sent is the same, byte for byte."""


def apart(latency: float) -> Transport:
    """Each on a host of its own. Without latency vectors are cut; far away they are sent whole."""
    return Processes(hosts=[1] * SIZE, latency=latency, bandwidth=inf)


ONE_LEVEL: list[tuple[Transport, Transport]] = [
    (Processes(), ls.Threads(SIZE)),
    (apart(0.0), ls.Threads(SIZE)),
]
TWO_LEVELS = [(Processes(hosts=hosts, **ROOM), ls.Simulated(SIZE, hosts=hosts, **ROOM)) for hosts in SPLITS]
FAR: list[tuple[Transport, Transport]] = [(apart(1.0), ls.Threads(SIZE))]
PAIRS = ONE_LEVEL * (SIZE < 4) + TWO_LEVELS + FAR * (SIZE == 3)
"""Processes, and what gives the same bits in each of them."""
FEWER = {3: PAIRS[:-1:2], 4: PAIRS[:1]}.get(SIZE, PAIRS)
"""For whole runs, of which there are many: requests are tried on all."""
FORMS = [on for on, _ in FEWER]


def ask(script: Any, size: int, on: Transport) -> list[Any]:
    """The parameters, after a script, of the workers that live here."""

    def first(worker: Worker) -> Iterator[Request]:
        worker.params[:] = beginning(worker.rank, size)
        yield from script(worker)

    zero = lambda x, batch: np.zeros_like(x)  # noqa: E731
    result = ls.run(Ask(first), zero, np.zeros(size), lambda rank, n: iter([0.0]), on=on)
    return [worker.params for worker in result.workers]


# --- requests ----------------------------------------------------------------------------------------------


def reductions(worker: Worker) -> Iterator[Request]:
    for op in ("sum", "mean", "max", "min"):
        yield AllReduce(worker.params, op=op)
        worker.params[:] += worker.rank
    yield AllReduce(worker.params, weight=float(worker.rank))


def groups(worker: Worker) -> Iterator[Request]:
    half = worker.size // 2
    group = tuple(range(half)) if worker.rank < half else tuple(range(half, worker.size))
    yield AllReduce(worker.params, op="sum", group=group)
    yield Broadcast(worker.params, root=group[-1], group=group)
    yield Barrier(group)


def gathering(worker: Worker) -> Iterator[Request]:
    piece, out = worker.params[: worker.params.size // worker.size].copy(), worker.params.copy()
    whole = out[: piece.size * worker.size]
    yield AllGather(piece, whole)
    worker.params[: whole.size] = whole
    yield Broadcast(worker.params, root=worker.size - 1)


def mixing(worker: Worker) -> Iterator[Request]:
    n, me = worker.size, worker.rank
    row = tuple(sorted({((me + step) % n, 1 / 3) for step in (0, 1, n - 1)}))
    yield Mix(worker.params, Weights(row, tuple(sorted({(me + 1) % n, (me - 1) % n} - {me}))))


def messages(worker: Worker) -> Iterator[Request]:
    """Three of one tag to the next worker arrive in order; what is sent is what it was."""
    n, me = worker.size, worker.rank
    sent = [worker.params * scale for scale in (1.0, 2.0, 3.0)]
    come = [np.zeros_like(worker.params) for _ in sent]
    requests = [
        Exchange((((me + 1) % n, buf),), ((((me - 1) % n), into),)) for buf, into in zip(sent, come, strict=True)
    ]
    for request in requests:
        yield Start(request)
    for request in reversed(requests):
        yield Wait(request)
    worker.params[:] = come[0] - come[1] / 4 + come[2] / 9


def started(worker: Worker) -> Iterator[Request]:
    """Two collectives under way at once, waited for in the other order."""
    first, second = worker.params.copy(), worker.params * 2
    one, two = AllReduce(first, op="sum"), AllReduce(second, op="max")
    yield Start(one)
    yield Start(two)
    yield Wait(two)
    yield Wait(one)
    worker.params[:] = first + second


def interleaved(worker: Worker) -> Iterator[Request]:
    """Many collectives under way at once, of unequal sizes and weights, waited for in other orders."""
    parts = np.array_split(worker.params, 12)
    asked: list[Any] = [
        AllReduce(part[: 1 + part.size // place], weight=worker.rank) for place, part in enumerate(parts[:9], 1)
    ]
    asked += [Broadcast(parts[9], root=1), AllReduce(parts[10], op="min"), Barrier()]
    for request in asked:
        yield Start(request)
    for request in asked if worker.rank % 2 else reversed(asked):
        yield Wait(request)
    yield AllReduce(parts[11], weight=0.0)


def untended(worker: Worker) -> Iterator[Request]:
    """What all have started is there before anybody waits, though all are in the user's code."""
    worker.params[:] = worker.rank + 1
    request = AllReduce(worker.params, op="sum")
    yield Start(request)
    until, total = time.monotonic() + 60, worker.size * (worker.size + 1) / 2
    while not (worker.params == total).all():
        assert time.monotonic() < until, "nobody went on with it"
        time.sleep(1e-3)
    yield Wait(request)


def sharing(worker: Worker) -> Iterator[Request]:
    """No addition is lost."""
    center = worker.shared("total", np.zeros_like(worker.params))
    for _ in range(5):
        yield Push("axpy", (center,), (np.ones_like(worker.params),), (1.0,))
    yield Barrier()
    yield Fetch(center, into=worker.params)
    worker.params[:] = np.minimum(
        worker.params, 5 * worker.size
    )  # others may still be adding: their own are there
    yield Barrier()
    yield Fetch(center, into=worker.params)


def pushing(worker: Worker) -> Iterator[Request]:
    """A rule at two variables at once, by one worker after the other; moves are numbered wherever pieces are."""
    n, x = worker.size, worker.params
    c, v = (worker.shared(name, np.zeros_like(x)) for name in "cv")
    for turn in range(2 * n):
        if turn % n == worker.rank:
            yield Push("nesterov", (c, v), (x,), (0.1 / 3, 0.9), arrived=True)
        yield Barrier()
    for _ in range(3):
        yield Push("add_if_recent", (v,), (np.ones_like(x),), (0.0, 2.0 * n + 5), arrived=True)
    yield Barrier()
    first, second, seen = np.empty_like(x), np.empty_like(x), np.empty(1)
    yield Fetch(c, into=first)
    yield Fetch(v, into=second, version=seen)
    assert seen[0] == 5 * n, (seen, n)
    worker.params[:] = first / 7 - second


SCRIPTS = [reductions, groups, gathering, mixing, messages, started, interleaved]


def requests_agree() -> None:
    for on, same in PAIRS:
        for size in (4099,) if SHORT else (SIZE, 4099, 400_000) if on is PAIRS[0][0] else (SIZE, 4099):
            cases = [(script, size, same) for script in SCRIPTS]
            cases += [
                (script, size, ls.Threads(SIZE)) for script in (sharing, pushing)
            ]  # in virtual time they last
            agree(on, cases)
    for on, _ in PAIRS:
        agree(on, [(pushing, 2, ls.Threads(SIZE))])  # most pieces are empty


def started_ones_go_on() -> None:
    for on in (Processes(), *FORMS):
        for size in (SIZE, 2_000_000):
            (got,) = ask(untended, size, on)
            assert (got == SIZE * (SIZE + 1) / 2).all(), (on, size)


def agree(on: Transport, cases: list[Any]) -> None:
    for (script, size, _), wanted in zip(cases, made_by_one([partial(ask, *case) for case in cases]), strict=True):
        (got,) = ask(script, size, on)
        assert got.tobytes() == wanted.tobytes(), (script.__name__, size, on, got[:4], wanted[:4])


def made_by_one(runs: list[Callable[[], list[Any]]]) -> list[Any]:
    """Of what each run gives for all ranks, this rank's; each run is made by one rank, which tells the others."""
    mine = {number: run() for number, run in enumerate(runs) if number % SIZE == RANK}
    return [world().scatter(mine.get(number), root=number % SIZE) for number in range(len(runs))]


# --- strategies --------------------------------------------------------------------------------------------


def go(strategy: Strategy, on: Transport, counts: list[int], **options: Any) -> ls.Result:
    data = Quadratic(counts)
    batches = data.together if ls.Need.GLOBAL_BATCHES in strategy.needs else data.batches
    options = {"optimizer": ls.Nesterov(0.1), "steps_per_epoch": 5, **options}
    return ls.run(strategy, data.gradient, start(), batches, on=on, **options)


def strategies_agree() -> None:
    """Synchronous ones bit for bit, with workers whose data ends early; byte for byte too."""
    counts = [30, 17, 24, 9, 28][:SIZE]
    found = [case.values[0] for case in cases(strategies, Strategy)]
    found = [
        strategy for strategy in found if not strategy.shared_buffers
    ]  # else no two runs are alike: see below
    for on, oracle in FEWER:
        runs = [partial(everywhere, strategy, oracle, counts) for strategy in found]
        for strategy, wanted in zip(found, made_by_one(runs), strict=True):
            got = go(strategy, on, counts, every=7)
            assert got.samples == wanted.samples, (strategy, on)
            if strategy.synchronous:
                same(got, wanted, (strategy, on))


def everywhere(strategy: Strategy, on: Transport, counts: list[int]) -> list[ls.Result]:
    return [go(strategy, on, counts, every=7)] * SIZE


def same(got: ls.Result, wanted: ls.Result, where: object) -> None:
    assert got.params.tobytes() == wanted.params.tobytes(), where
    assert got.workers[0].params.tobytes() == wanted.workers[RANK].params.tobytes(), where
    assert abs(got.consensus_distance - wanted.consensus_distance) <= 1e-12 * wanted.consensus_distance, where
    assert (got.bytes_sent, got.messages) == (wanted.bytes_sent, wanted.messages), where
    steps = [(seen.step, seen.samples, seen.loss) for seen in got.history]
    assert steps == [(seen.step, seen.samples, seen.loss) for seen in wanted.history], where


def asynchronous_ones_arrive() -> None:
    data = Quadratic([400] * SIZE, alike=True)
    for cls in (case.values[0] for case in cases(strategies, Strategy) if not case.values[0].synchronous):
        for on in FORMS:
            if not (cls.shared_buffers and on.hosts):
                end = ls.run(cls, data.gradient, start(), data.batches, optimizer=ls.SGD(0.1), on=on).params
                assert abs(end - data.minimum()).max() < 0.05, (cls, on, end, data.minimum())


def count(on: Transport) -> ls.Result:
    """Every step of every worker adds one."""
    rise = lambda x, batch: np.full_like(x, -1)  # noqa: E731
    steps = lambda rank, size: iter([0.0] * 500)  # noqa: E731
    return ls.run(ls.Hogwild("exact"), rise, np.zeros((7, 300)), steps, optimizer=ls.SGD(1.0), on=on)


def hogwild_shares_its_parameters() -> None:
    """No update is lost; after the run each has parameters of its own; on several hosts it is refused."""
    result = count(Processes())
    mine = result.workers[0].params
    assert (result.params == 500 * SIZE).all(), result.params
    assert result.consensus_distance == 0, result.consensus_distance
    for turn in range(20):
        mine[:] = RANK
        world().Barrier()
        assert (mine == RANK).all(), (turn, mine)
    refused = ValueError, PeerFailed  # one's own, or another's that was heard before
    words = rf"workers that share memory, which those of {Processes.__name__}.hosts=\(1, .* do not"
    with pytest.raises(refused, match=words):
        count(Processes(hosts=[1] * SIZE))


def hogwild_shares_its_moments(folder: Path) -> None:
    """With mu = 1 the velocity is the sum of all gradients, whole numbers here; and all updates are counted."""
    rise = lambda x, batch: np.full_like(x, -1)  # noqa: E731
    steps = lambda rank, size: iter([0.0] * 100)  # noqa: E731
    optimizer = ls.Momentum(1.0, 1.0)
    ls.run(ls.Hogwild(), rise, np.zeros(257), steps, optimizer=optimizer, on=Processes(), checkpoint=folder)
    found = Folder(folder, {"workers": SIZE}, resume=True)
    assert choose(found, range(SIZE), lambda mine: [mine]) is not None
    for rank in range(SIZE):
        tensors, facts = found.read(rank)
        assert facts["worker"]["updates"] == 100 * SIZE
        assert set(tensors) == ({"params", "moment.0"} if rank == 0 else set())
        if rank == 0:
            assert (tensors["moment.0"] == 100 * SIZE).all()


# --- halting, checkpoints ----------------------------------------------------------------------------------


def stops_together() -> None:
    """At 12 where all march; where they do not, long before the end, since a step takes time."""
    data = Quadratic([1000] * SIZE)

    def slow(x: Any, batch: Any) -> Any:
        time.sleep(0.002)
        return data.gradient(x, batch)

    for strategy in (ls.LocalSGD(3), ls.EASGD(period=3)):
        for on in FORMS:
            stop = lambda seen: seen.step >= 12  # noqa: E731
            end = ls.run(strategy, slow, start(), data.batches, on=on, every=6, stop=stop)
            assert end.steps == 12 if strategy.synchronous else 12 <= end.steps < 1000, (strategy, on, end.steps)


def resumes(folder: Path) -> None:
    """Killed in the middle and resumed: the bits of a run that was not."""
    counts = [30] * SIZE
    kinds = (ls.AllReduceSGD(), ls.LocalSGD(4), ls.CoCoDSGD(4))  # the last one with an average under way
    for number, (strategy, on) in enumerate((s, on) for s in kinds for on in FORMS):
        here = folder / str(number)
        whole = go(strategy, on, counts, checkpoint=here / "whole", checkpoint_every=5)
        try:
            go(strategy, ls.Failing(on, at_request=60), counts, checkpoint=here / "cut", checkpoint_every=5)
            raise AssertionError("it should have failed")
        except LoosestepError:
            pass
        again = go(strategy, on, counts, checkpoint=here / "cut", checkpoint_every=5, resume=True)
        assert again.params.tobytes() == whole.params.tobytes(), (strategy, on)


def counts_moves_across_a_resume(folder: Path) -> None:
    """Of pushes of ones, in whatever order, centers are 0, 1, ... K, whose mean is K / 2 if all were counted."""
    ones = lambda x, batch: np.full_like(x, -1)  # noqa: E731
    batches = lambda rank, size: iter([0.0] * 20)  # noqa: E731
    for number, on in enumerate(FORMS):
        options = {"optimizer": ls.SGD(1.0), "checkpoint": folder / f"counts {number}", "on": on}
        ls.run(ls.AveragedDownpour(), ones, np.zeros(70), batches, steps=9, **options)
        end = ls.run(ls.AveragedDownpour(), ones, np.zeros(70), batches, resume=True, **options)
        np.testing.assert_allclose(end.params, 10.0 * SIZE, rtol=1e-12, err_msg=f"{on}")


def main() -> None:
    shared = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp())
    requests_agree()
    started_ones_go_on()
    if SHORT:
        hogwild_shares_its_parameters()
        resumes(shared)
        print(f"rank {RANK} of {SIZE}: all agrees", flush=True)
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "PIECE", start().size * 2 // 3)  # the mean at the end is taken in two
        strategies_agree()
    asynchronous_ones_arrive()
    hogwild_shares_its_parameters()
    stops_together()
    hogwild_shares_its_moments(shared / "moments")
    resumes(shared)
    counts_moves_across_a_resume(shared)
    print(f"rank {RANK} of {SIZE}: all agrees", flush=True)


if __name__ == "__main__":
    main()
