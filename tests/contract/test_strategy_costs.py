"""What every strategy asks for, and what a round sends: by its `cost`, in the banner, and as it is metered."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pytest
from tests.contract.discovery import discover
from tests.contract.parametrize import (
    ALL,
    EXAMPLES,
    MANY,
    every_strategy,
    every_virtual,
    go,
    near,
)
from tests.contract.problem import SIZE, Quadratic

import loosestep as ls
from loosestep import codecs
from loosestep.codecs.base import Codec
from loosestep.foundation import buffers
from loosestep.requests import Request, Shared
from loosestep.requests.worker import Worker
from loosestep.runtime import banner
from loosestep.strategies.base import Cost, Strategy
from loosestep.transports.base import Transport

CODECS = [kind.example() for kind in discover(codecs, Codec)]
CODED = [each for each in EXAMPLES if "codec" in {item.name for item in fields(each)}]


@pytest.mark.parametrize("strategy", [case for case in ALL if case.values[0].cost(2, SIZE) is not None])
@pytest.mark.parametrize("kind", MANY)
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8])
def test_a_round_sends_what_its_cost_says(strategy: Strategy, kind: type[Transport], n: int) -> None:
    check(metered(strategy, near(kind, n)), strategy, n)


def test_where_latency_decides_a_mean_of_few_values_is_fewer_messages_and_more_bytes() -> None:
    sent = metered(ls.AllReduceSGD(), ls.Simulated(4, latency=1e-3))
    assert sent == Cost(0, 3, 3 * SIZE * 4)


@every_strategy
@every_virtual
def test_no_round_sends_more_than_the_largest_cost(strategy: Strategy, virtual: type[Transport]) -> None:
    sent, most = metered(strategy, near(virtual, 4), rounds=9), strategy.largest_cost(4, SIZE)
    if most is not None:
        assert sent.nbytes <= most.total(4) + 1e-6
        assert sent.messages <= most.messages + 1e-6


@pytest.mark.parametrize("codec", CODECS, ids=repr)
@pytest.mark.parametrize("strategy", CODED, ids=repr)
@pytest.mark.parametrize("n", [2, 3, 4])
def test_a_codec_sends_the_words_that_it_says(strategy: Strategy, codec: Codec, n: int) -> None:
    coded = replace(strategy, codec=codec)
    check(metered(coded, near(ls.Simulated, n)), coded, n)


def metered(strategy: Strategy, on: Transport, rounds: int = 3) -> Cost:
    """Return what a worker sent in a round of float32 parameters, the mean over workers and rounds."""
    steps = rounds * getattr(strategy, "period", 1)
    data = Quadratic([steps] * on.size)
    result = go(strategy, data, on, np.float32, every=2, evaluate=lambda x: 0.0)
    nbytes, messages = (
        sum(getattr(worker, name) for worker in result.workers) for name in ("bytes_sent", "messages")
    )
    return Cost(0, messages / (rounds * on.size), nbytes / (rounds * on.size))


def check(sent: Cost, strategy: Strategy, n: int) -> None:
    """Compare with what the first rounds sent."""
    least, most = strategy.cost(n, SIZE), strategy.largest_cost(n, SIZE)
    assert least is not None
    assert most is not None
    assert least.total(4) - 1e-6 <= sent.nbytes
    assert least.messages - 1e-6 <= sent.messages
    if strategy.synchronous:  # else it is a matter of time who sends more in which round
        most = least
    assert sent.nbytes <= most.total(4) + 1e-6
    assert sent.messages <= most.messages + 1e-6


@every_strategy
@pytest.mark.parametrize("n", [1, 2, 6])
def test_the_banner_says_what_a_round_sends(strategy: Strategy, n: int) -> None:
    asked = banner.dry_runs(strategy, n, itemsize=4)
    assert len(asked) == n
    assert {each.steps for each in asked} == {getattr(strategy, "period", 1)}
    cost = strategy.cost(n, 16 * n)
    if cost is not None:
        sent = sum(each.sent for each in asked) / n * 4 * 16 * n
        assert sent == pytest.approx(cost.total(4), rel=0.05), "buckets need not divide evenly"


def test_costs_tell_methods_apart() -> None:
    costs = {strategy.cost(3, 30) for strategy in EXAMPLES}
    assert costs >= {(40, 4, 0), (60, 2, 0), (30, 1, 0), (0, 0, 0)}


def test_a_cost_that_is_wrong_is_found() -> None:
    @dataclass(frozen=True, repr=False)
    class Cheap(ls.Downpour):
        def cost(self, n: int, d: int) -> Cost:
            return Cost(d / 2, 1)

    with pytest.raises(AssertionError):
        check(metered(Cheap(), ls.Threads(2)), Cheap(), 2)


def alone(strategy: Strategy) -> tuple[Worker, ls.State]:
    def share(name: str, like: Any) -> Shared:
        return Shared(name, like.size, like.dtype, like.copy())

    params = buffers.zeros(SIZE, np.float64)
    params[:] = 1.5
    worker = Worker(1, 4, params, share, (buffers.like(params),))
    return worker, strategy.init(worker)


@every_strategy
def test_it_asks_in_the_vocabulary_and_performs_nothing_before(strategy: Strategy) -> None:
    worker, state = alone(strategy)
    before = [buf.copy() for buf in (worker.params, worker.grad, *worker.moments)]
    asked = strategy.round(worker, state)
    for buf, old in zip((worker.params, worker.grad, *worker.moments), before, strict=True):
        assert (buf == old).all(), "making the round's generator must change nothing"
    requests = list(asked)
    assert requests
    assert all(isinstance(request, Request) for request in requests)
    assert all(
        isinstance(request, Request) for request in strategy.consensus(worker, state, worker.copy_of_params())
    )
    assert worker.clock == 0
    assert all(str(request) for request in requests)
