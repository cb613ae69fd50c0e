"""What is native passes, all else becomes what is; tags tell apart what runs at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.messages import Mail
from tests.unit.values import beginnings, bits, drawn, reduced, workers

from loosestep.lowering.lowering import Lowering
from loosestep.lowering.requests import Drain, Drained, IntraHost, Script
from loosestep.requests import (
    AllReduce,
    Barrier,
    Broadcast,
    Elastic,
    Exchange,
    Fetch,
    Gradient,
    Local,
    Mix,
    Proximal,
    Push,
    Ready,
    Request,
    Shared,
    Start,
    Update,
    Wait,
    Weights,
)
from loosestep.requests.worker import Worker

PRIMITIVES: frozenset[type[Request]] = frozenset({Exchange, Fetch, Push, Ready, Update, Script})


def lowering(rank: int = 0, size: int = 2, *more: type[Request], **options: Any) -> Lowering:
    return Lowering(PRIMITIVES | set(more), workers(size)[rank], **options)


def test_what_is_native_passes_untouched() -> None:
    asked = [Exchange(), AllReduce(np.zeros(2)), Update()]
    assert list(lowering(0, 2, AllReduce).lower(asked)) == asked


def test_local_steps_are_gradients_and_updates() -> None:
    proximal = Proximal(np.zeros(2), 0.1, np.zeros(2), 0.9)
    seen: list[Any] = list(lowering(0, 2, Gradient).lower([Local(3, proximal)]))
    assert [type(each) for each in seen] == [Gradient, Update] * 3
    assert all(each.local and each.proximal is proximal for each in seen[1::2])


def test_a_gradient_is_one_bucket_of_all() -> None:
    (ready,) = lowering().lower([Gradient()])
    assert isinstance(ready, Ready)
    assert (ready.bucket.count, ready.bucket.grad.size, ready.bucket.share) == (1, 2, 1.0)


def test_an_elastic_move_is_the_difference_added_here_and_taken_there() -> None:
    shared = Shared("c", 2, np.dtype(np.float64), None)
    worker = Worker(0, 1, np.zeros(2), lambda name, like: shared)
    buf, center = np.array([3.0, 5.0]), np.array([1.0, 1.0])
    stream = Lowering(PRIMITIVES, worker).lower([Elastic(buf, shared, 0.25)])
    fetch = next(stream)
    assert isinstance(fetch, Fetch)
    fetch.into[:] = center
    push = next(stream)
    assert isinstance(push, Push)
    assert push.rule == "axpy"
    assert push.scalars == (1.0,)
    assert push.values[0].tolist() == [0.5, 1.0]
    assert buf.tolist() == [2.5, 4.0]
    assert next(stream, None) is None


def test_what_nobody_knows_is_refused() -> None:
    class Dream(Request):
        pass

    with pytest.raises(TypeError, match=r"worker 1 asked for .*, which is not a request"):
        list(lowering(1).lower([Dream()]))
    (start,) = lowering(1).lower([Start(Dream())])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"worker 1 asked for .*, which is not a request"):
        list(start.request.requests)  # type: ignore[attr-defined]


def test_a_group_is_lowered_where_native_collectives_take_none() -> None:
    whole, group = Broadcast(np.zeros(4)), Broadcast(np.zeros(4), group=(0, 1))
    free, tied = lowering(0, 3, Broadcast), lowering(0, 3, Broadcast, grouped=False)
    assert list(free.lower([whole, group])) == [whole, group]
    first, *others = tied.lower([whole, group])
    assert first is whole
    assert {type(each) for each in others} == {Exchange}


def test_while_unmetered_a_collective_without_a_price_passes() -> None:
    one = lowering(0, 2, unpriced=frozenset({Broadcast}))
    asked = Broadcast(np.zeros(4))
    assert {type(each) for each in one.lower([asked])} == {Exchange}
    one.worker.unmetered = True
    assert list(one.lower([asked])) == [asked]


def test_tags_differ_between_collectives_and_agree_between_workers() -> None:
    asked = [AllReduce(np.zeros(2)), AllReduce(np.zeros(2), "sum"), Broadcast(np.zeros(2)), Barrier(), Barrier()]
    asked += [AllReduce(np.zeros(2), group=(0, 1)), AllReduce(np.zeros(2))]
    one, other = lowering(0, 3), lowering(1, 3)
    mine, yours = ([each.tag(request) for request in asked] for each in (one, other))
    assert mine == yours
    assert len(set(mine)) == len(mine)
    assert all(0 <= tag < 2**64 for tag in mine), "a header has 64 bits for it"


# --- overlap -------------------------------------------------------------------------------------------------


@drawn
@given(st.integers(1, 5), st.integers(1, 4), st.data(), st.integers(0, 2**32))
def test_what_was_started_may_be_waited_for_in_any_order(
    n: int, count: int, data: st.DataObject, seed: int
) -> None:
    """Several at once, of several kinds; each worker waits in an order of its own."""
    kinds = data.draw(st.lists(st.sampled_from(["sum", "mean", "max", "root"]), min_size=count, max_size=count))
    orders = [data.draw(st.permutations(range(count))) for _ in range(n)]
    bufs = [beginnings(n, 4 + each) for each in range(count)]
    wanted = [bufs[k][0].copy() if op == "root" else reduced(op, bufs[k]) for k, op in enumerate(kinds)]

    def script(rank: int) -> Any:
        asked = [
            Broadcast(bufs[k][rank]) if op == "root" else AllReduce(bufs[k][rank], op)  # type: ignore[arg-type]
            for k, op in enumerate(kinds)
        ]
        stream = [*map(Start, asked), *(Wait(asked[k]) for k in orders[rank])]
        return lowering(rank, n).lower(stream)

    Mail([script(rank) for rank in range(n)], seed).play()
    assert [bits(each) for each in bufs] == [bits([total] * n) for total in wanted]


def test_a_mix_that_was_started_changes_its_buffer_when_it_is_waited_for() -> None:
    buf = np.array([1.0, 2.0])
    asked = Mix(buf, Weights(((0, 0.5), (1, 0.5)), (1,)))
    stream = lowering(0, 2).lower([Start(asked), Wait(asked)])
    start: Any = next(stream)
    exchange = start.request
    assert isinstance(exchange, Exchange)
    exchange.recvs[0][1][:] = [3.0, 6.0]
    wait: Any = next(stream)
    assert wait.request is exchange
    assert buf.tolist() == [1.0, 2.0]
    assert next(stream, None) is None
    assert buf.tolist() == [2.0, 4.0]


def test_waiting_for_what_was_not_started_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"^worker 1 waits for AllReduce\(.*\), which it did not start$"):
        list(lowering(1).lower([Wait(AllReduce(np.zeros(2)))]))


@pytest.mark.parametrize("timed", [False, True])
def test_settling_is_waiting_where_time_is_real(timed: bool) -> None:
    asked, drained = AllReduce(np.zeros(2)), Drained()
    one = lowering(0, 2, *((Drain,) if timed else ()))
    start, settle, *rest = one.lower([Start(asked), Drain(asked, drained), Wait(drained)])
    assert type(start) is Start
    assert type(settle) is (Drain if timed else Wait)
    assert settle.request is start.request  # type: ignore[attr-defined]
    assert [type(each) for each in rest] == ([Wait] if timed else [])


def test_memory_of_a_host_is_messages_where_nobody_shares_any() -> None:
    bufs = beginnings(2)
    wanted = reduced("sum", bufs)
    scripts = [
        lowering(rank, 2).lower([IntraHost(0, 0, 9, iter([AllReduce(bufs[rank], "sum"), Barrier()]))])
        for rank in range(2)
    ]
    Mail(scripts).play()
    assert bits(bufs) == bits([wanted] * 2)
