"""What every transport promises: each request against numpy, in its native and in its lowered form."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.contract.asking import Ask, Primitive, ask, beginning
from tests.contract.discovery import discover, is_installed, is_many, is_wrapper

import loosestep as ls
from loosestep import transports
from loosestep.errors import Deadlock, LoosestepError, Mismatch, TimedOut, WorkerFailed
from loosestep.requests import (
    Add,
    AllGather,
    AllReduce,
    Barrier,
    Broadcast,
    Elastic,
    Exchange,
    Fetch,
    Gradient,
    Mix,
    Request,
    Start,
    Wait,
    Weights,
)
from loosestep.transport import Transport
from loosestep.worker import Worker

KINDS = [kind for kind in discover(transports, Transport) if is_installed(kind)]
MANY = [kind for kind in KINDS if is_many(kind)]
WRAPPERS = [kind for kind in KINDS if is_wrapper(kind)]


def carriers(n: int) -> list[Transport]:
    """Everything that can carry n workers: plain, lowered, wrapped, and those of one worker if n is 1."""
    plain = [kind(n) for kind in MANY]
    if n == 1:
        plain += [kind.example() for kind in KINDS if not is_many(kind) and not is_wrapper(kind)]
    wrapped = [replace(kind.example(), on=inner) for kind in WRAPPERS for inner in plain]
    return [*plain, *(Primitive(inner) for inner in plain), *wrapped]


def each(*sizes: int) -> Any:
    """Parametrize over carriers of so many workers."""
    found = [pytest.param(on, id=f"{on!r} of {n}") for n in sizes for on in carriers(n)]
    return pytest.mark.parametrize("on", found)


def beginnings(n: int, size: int = 6, dtype: type = np.float64) -> list[Any]:
    return [beginning(rank, size, dtype) for rank in range(n)]


def check(got: list[Any], wanted: list[Any]) -> None:
    assert len(got) == len(wanted)
    for mine, right in zip(got, wanted, strict=True):
        assert mine.dtype == right.dtype
        assert mine.tobytes() == right.tobytes()


def fold(function: Any, parts: list[Any]) -> Any:
    """From left to right."""
    total = parts[0]
    for part in parts[1:]:
        total = function(total, part)
    return total


# --- collectives -------------------------------------------------------------------------------------------

FOLDS = {
    "mean": lambda parts: fold(np.add, parts) / parts[0].dtype.type(len(parts)),
    "sum": lambda parts: fold(np.add, parts),
    "max": lambda parts: fold(np.maximum, parts),
    "min": lambda parts: fold(np.minimum, parts),
}


@each(1, 2, 3, 4, 7)
@pytest.mark.parametrize("op", FOLDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 5, 4099])
def test_all_reduce(on: Transport, op: Any, dtype: type, size: int) -> None:
    def script(worker: Worker) -> Iterator[Request]:
        yield AllReduce(worker.params, op=op)

    check(ask(script, on, size, dtype), [FOLDS[op](beginnings(on.size, size, dtype))] * on.size)


WEIGHTS = [[2, 2, 2, 2, 2], [1, 3, 0, 2, 5], [0, 4, 0, 0, 0], [0.5, 0.25, 3, 1, 1]]


@each(2, 3, 5)
@pytest.mark.parametrize("weights", WEIGHTS, ids=str)
def test_a_weighted_mean_does_not_read_those_without_weight(on: Transport, weights: list[float]) -> None:
    used = weights[: on.size]

    def script(worker: Worker) -> Iterator[Request]:
        if used[worker.rank] == 0:
            worker.params.fill(np.nan)
        yield AllReduce(worker.params, op="mean", weight=used[worker.rank])

    kept = [(w, x) for w, x in zip(used, beginnings(on.size), strict=True) if w]
    plain = len(set(used)) == 1
    total = fold(np.add, [x if plain else w * x for w, x in kept])
    check(ask(script, on), [total / (len(kept) if plain else float(sum(w for w, _ in kept)))] * on.size)


@each(1, 2, 3, 5)
def test_a_mean_of_no_weight_at_all_changes_nothing(on: Transport) -> None:
    def script(worker: Worker) -> Iterator[Request]:
        yield AllReduce(worker.params, op="mean", weight=0)

    check(ask(script, on), beginnings(on.size))


@each(1, 2, 3, 5)
@pytest.mark.parametrize("op", ["sum", "max", "min"])
def test_a_nan_shows(on: Transport, op: Any) -> None:
    def script(worker: Worker) -> Iterator[Request]:
        if worker.rank == on.size - 1:
            worker.params[0] = np.nan
        yield AllReduce(worker.params, op=op)

    assert np.isnan([params[0] for params in ask(script, on)]).all()


@each(1, 2, 3, 5)
@pytest.mark.parametrize("size", [0, 1, 6])
def test_all_gather(on: Transport, size: int) -> None:
    got: dict[int, Any] = {}

    def script(worker: Worker) -> Iterator[Request]:
        out = np.empty(worker.size * size)
        yield AllGather(worker.params[:size].copy(), out)
        got[worker.rank] = out

    ask(script, on)
    gathered = np.concatenate([x[:size] for x in beginnings(on.size)])
    check([got[rank] for rank in range(on.size)], [gathered] * on.size)


@each(1, 2, 3, 5)
@pytest.mark.parametrize("place", [0, 1, -1])
def test_broadcast_from_every_root(on: Transport, place: int) -> None:
    root = place % on.size

    def script(worker: Worker) -> Iterator[Request]:
        yield Broadcast(worker.params, root)

    check(ask(script, on), [beginning(root)] * on.size)


@each(1, 2, 3, 5)
def test_nobody_passes_a_barrier_before_all_have_come(on: Transport) -> None:
    came: list[int] = []
    seen: list[int] = []

    def script(worker: Worker) -> Iterator[Request]:
        came.append(worker.rank)
        yield Barrier()
        seen.append(len(came))

    ask(script, on)
    assert seen == [on.size] * on.size


@each(1, 2, 3, 5)
def test_mix_is_a_row_of_the_mixing_matrix(on: Transport) -> None:
    ring = ls.Ring()

    def script(worker: Worker) -> Iterator[Request]:
        yield Mix(worker.params, ring.weights(worker.rank, worker.size))

    xs = beginnings(on.size)
    rows = [ring.weights(rank, on.size).row for rank in range(on.size)]
    check(ask(script, on), [fold(np.add, [w * xs[other] for other, w in row]) for row in rows])


@each(3, 5)
def test_mix_in_a_directed_graph(on: Transport) -> None:
    """Everyone reads the next worker, and worker 0 itself alone."""
    n = on.size

    def script(worker: Worker) -> Iterator[Request]:
        me = worker.rank
        row = ((0, 1.0),) if me == 0 else tuple(sorted([(me, 0.25), ((me + 1) % n, 0.75)]))
        readers = tuple(rank for rank in ((me - 1) % n,) if rank != 0)
        yield Mix(worker.params, Weights(row, readers))

    xs = beginnings(n)
    wanted = [xs[0]]
    for me in range(1, n):
        row = sorted([(me, 0.25), ((me + 1) % n, 0.75)])
        wanted.append(fold(np.add, [w * xs[other] for other, w in row]))
    check(ask(script, on), wanted)


@each(4, 7)
def test_groups_do_not_mix(on: Transport) -> None:
    even, odd = tuple(range(0, on.size, 2)), tuple(range(on.size - 1 - on.size % 2, 0, -2))

    def script(worker: Worker) -> Iterator[Request]:
        mine = even if worker.rank % 2 == 0 else odd
        for _ in range(worker.rank % 2):  # the groups ask differently often
            yield Barrier(group=mine)
        yield AllReduce(worker.params, op="sum", group=mine)
        out = np.empty(len(mine) * 2)
        yield AllGather(worker.params[:2].copy(), out, group=mine)
        worker.params[2:4] = out[-2:]
        yield Broadcast(worker.params, root=mine[-1], group=mine)
        yield AllReduce(worker.params[:1], op="max")

    xs = beginnings(on.size)
    sums = {group: fold(np.add, [xs[rank] for rank in group]) for group in (even, odd)}
    top = max(total[0] for total in sums.values())
    wanted = []
    for rank in range(on.size):
        total = sums[odd if rank % 2 else even].copy()
        total[2:4] = total[:2]
        total[0] = top
        wanted.append(total)
    check(ask(script, on), wanted)


@each(4)
def test_a_group_folds_in_its_own_order_and_weighs(on: Transport) -> None:
    group = (3, 1, 2)

    def script(worker: Worker) -> Iterator[Request]:
        if worker.rank in group:
            yield AllReduce(worker.params, op="mean", weight=worker.rank, group=group)

    xs = beginnings(4)
    mean = ((3.0 * xs[3] + 1.0 * xs[1]) + 2.0 * xs[2]) / 6.0
    check(ask(script, on), [xs[0], mean, mean, mean])


# --- messages and shared variables -------------------------------------------------------------------------


@each(2, 3, 5)
def test_exchange_sends_to_all_and_keeps_the_order_of_a_tag(on: Transport) -> None:
    n = on.size
    got: dict[int, Any] = {}

    def script(worker: Worker) -> Iterator[Request]:
        others = [rank for rank in range(n) if rank != worker.rank]
        for tag in (7, 8):
            for number in (1.0, 2.0):
                yield Exchange(sends=[(to, np.array([worker.rank, tag, number])) for to in others], tag=tag)
        rows = []
        for tag in (8, 7):
            for _ in range(2):
                room = {source: np.empty(3) for source in others}
                yield Exchange(recvs=list(room.items()), tag=tag)
                rows.append([room[source].tolist() for source in others])
        got[worker.rank] = rows

    ask(script, on)
    for rank in range(n):
        others = [other for other in range(n) if other != rank]
        assert got[rank] == [[[other, tag, number] for other in others] for tag in (8, 7) for number in (1.0, 2.0)]


@each(2, 3, 5)
def test_what_is_sent_is_what_it_was_when_it_was_sent(on: Transport) -> None:
    n = on.size

    def script(worker: Worker) -> Iterator[Request]:
        mine, room = worker.params.copy(), np.empty_like(worker.params)
        yield Exchange(sends=[((worker.rank + 1) % n, mine)])
        mine.fill(np.nan)
        yield Exchange(recvs=[((worker.rank - 1) % n, room)])
        worker.params[:] = room

    check(ask(script, on), [beginning((rank - 1) % n) for rank in range(n)])


@each(1, 2, 3, 5)
def test_a_shared_variable_keeps_every_addition(on: Transport) -> None:
    def script(worker: Worker) -> Iterator[Request]:
        shared = worker.shared("sum", like=np.zeros(6))
        yield Add(shared, np.full(6, 1.0 + worker.rank))
        yield Barrier()
        yield Add(shared, np.full(6, 10.0))
        yield Barrier()
        yield from settle(worker)
        yield Fetch(shared, into=worker.params)

    total = sum(11.0 + rank for rank in range(on.size))
    check(ask(script, on), [np.full(6, total)] * on.size)


def settle(worker: Worker) -> Iterator[Request]:
    """Let what was added arrive, where time is virtual."""
    for _ in range(3):
        yield Gradient()


@each(1, 2, 3, 5)
def test_elastic_conserves_the_sum_and_moves_both(on: Transport) -> None:
    shareds: list[Any] = []

    def script(worker: Worker) -> Iterator[Request]:
        center = worker.shared("center", like=np.full(6, 2.0))
        yield Elastic(worker.params, center, 0.25)
        yield Barrier()
        yield from settle(worker)
        got = np.empty(6)
        yield Fetch(center, into=got)
        shareds.append(got)

    replicas = ask(script, on)
    before = np.sum(beginnings(on.size), axis=0) + 2.0
    assert np.allclose(np.sum(replicas, axis=0) + shareds[0], before)
    if on.size == 1:
        check(replicas, [beginning(0) - 0.25 * (beginning(0) - 2.0)])


def only_overlapping(on: Transport) -> None:
    """In real time, transports overlap what they perform themselves."""
    if isinstance(on, Primitive) and not on.on.virtual:
        pytest.skip("collectives made of messages do not overlap in real time")


# --- overlap -----------------------------------------------------------------------------------------------


@each(1, 2, 3, 5)
def test_started_requests_may_be_waited_for_in_another_order(on: Transport) -> None:
    only_overlapping(on)
    n = on.size

    def script(worker: Worker) -> Iterator[Request]:
        first, second, third = (worker.params[part : part + 2] for part in (0, 2, 4))
        ring = ls.Ring().weights(worker.rank, n)
        asked = [AllReduce(first, op="sum"), Mix(second, ring), Broadcast(third, root=n - 1)]
        for request in asked:
            yield Start(request)
        for place in (2, 0, 1) if worker.rank % 2 else (1, 2, 0):
            yield Wait(asked[place])

    xs = beginnings(n)
    wanted = []
    for rank in range(n):
        mixed = fold(np.add, [w * xs[other][2:4] for other, w in ls.Ring().weights(rank, n).row])
        wanted.append(np.concatenate([fold(np.add, xs)[:2], mixed, xs[n - 1][4:]]))
    check(ask(script, on), wanted)


@each(1, 3)
def test_a_hundred_requests_may_be_under_way(on: Transport) -> None:
    only_overlapping(on)

    def script(worker: Worker) -> Iterator[Request]:
        asked = [AllReduce(worker.params[place : place + 1], op="sum") for place in range(100)]
        for request in asked:
            yield Start(request)
        for request in reversed(asked):
            yield Wait(request)

    check(ask(script, on, size=100, rounds=2), [on.size * fold(np.add, beginnings(on.size, 100))] * on.size)


@each(1, 3)
def test_waiting_for_what_was_not_started_is_an_error(on: Transport) -> None:
    def script(worker: Worker) -> Iterator[Request]:
        yield Wait(AllReduce(worker.params))

    with pytest.raises(WorkerFailed, match=r"waits for .*(what|which it) .*not start"):
        ask(script, on)


# --- bad requests, failures --------------------------------------------------------------------------------


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


def nobody_is_left() -> None:
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("worker ")]


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


# --- values ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_transport_is_a_value_that_prints_as_it_was_written(kind: type[Transport]) -> None:
    on = kind.example()
    assert eval(repr(on), vars(ls).copy()) == on
    assert pickle.loads(pickle.dumps(on)) == on
    assert on.size >= 1


@pytest.mark.parametrize("kind", MANY)
@pytest.mark.parametrize(
    ("n", "error", "sentence"),
    [
        (0, ValueError, "n must be at least 1, got 0"),
        (2.0, TypeError, "n must be an integer, got 2.0"),
        (True, TypeError, "n must be an integer, got True"),
    ],
)
def test_the_number_of_workers_is_checked(kind: Any, n: Any, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=f"^{sentence}$"):
        kind(n)


@pytest.mark.parametrize("kind", WRAPPERS)
def test_a_wrapper_keeps_what_it_wraps(kind: Any) -> None:
    for inner in (many(3) for many in MANY):
        on = replace(kind.example(), on=inner)
        assert (on.size, on.virtual) == (3, inner.virtual)
    assert issubclass(TimedOut, LoosestepError)
