"""What every strategy promises. None is named here: a new file is found, and its class says what differs."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, dataclass, field, fields
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.contract.discovery import discover
from tests.contract.every import (
    EXAMPLES,
    IDENTITIES,
    MANY,
    dtypes,
    every_strategy,
    every_synchronous,
    every_virtual,
    go,
)
from tests.contract.problem import SIZE, Quadratic, facts, start

import loosestep as ls
from loosestep import optimizers
from loosestep.foundation import buffers
from loosestep.foundation.errors import WorkerFailed
from loosestep.optimizers import Optimizer
from loosestep.requests import AllReduce, Request, Shared, Start
from loosestep.requests.worker import Worker
from loosestep.runtime import banner
from loosestep.strategies.base import Strategy
from loosestep.transports.base import Session, Transport
from loosestep.transports.wrapper import WrappedSession


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for the disk is tested with checkpoints; here it would only take time."""
    monkeypatch.setattr("os.fsync", lambda file: None)


# --- what it computes --------------------------------------------------------------------------------------


@every_strategy
@dtypes
@pytest.mark.parametrize("kind", MANY)
def test_reaches_the_minimum_of_a_quadratic(strategy: Strategy, dtype: type, kind: type[Transport]) -> None:
    alike = not (strategy.synchronous or kind.virtual)  # threads may run one after the other
    data = Quadratic([500] * 4, alike=alike)
    result = go(strategy, data, kind(4), dtype, optimizer=ls.SGD(0.05))
    assert result.params.dtype == dtype
    assert np.abs(result.params - data.minimum()).max() < 0.12, "of a start at distance 3"


@pytest.mark.parametrize("strategy", IDENTITIES)
@pytest.mark.parametrize("optimizer", [kind.example() for kind in discover(optimizers, Optimizer)], ids=repr)
@dtypes
def test_alone_it_is_the_plain_local_optimizer(strategy: Strategy, optimizer: Optimizer, dtype: type) -> None:
    data = Quadratic([37], noise=1.0)
    x = start(dtype)
    moments = optimizer.init(x)
    for step, batch in enumerate(data.batches(0, 1)):
        optimizer.update(x, data.gradient(x, batch)[1], moments, step, step + 1)
    for on in (ls.Serial(), *(kind(1) for kind in MANY)):
        result = go(strategy, data, on, dtype, optimizer=optimizer)
        assert result.workers[0].params.tobytes() == x.tobytes(), on
        assert result.params.tobytes() == x.tobytes(), on


@every_synchronous
@pytest.mark.parametrize("n", [1, 2, 3, 4, 7])
@dtypes
def test_the_same_bits_on_every_transport(strategy: Strategy, n: int, dtype: type) -> None:
    data = Quadratic([9 + 3 * (rank % 3) for rank in range(n)], [1 + rank % 4 for rank in range(n)], noise=1.0)
    options = {"optimizer": ls.Nesterov(0.05), "every": 5, "evaluate": lambda x: float(x[0])}
    first, *rest = [facts(go(strategy, data, kind(n), dtype, **options)) for kind in MANY]
    for other in rest:
        assert other == first


@every_strategy
@every_virtual
def test_a_seed_gives_the_same_bits_twice(strategy: Strategy, virtual: type[Transport]) -> None:
    on = virtual(4, stragglers=ls.stragglers.LogNormal())
    data = Quadratic([12, 15, 9, 13], noise=1.0)
    first, second = (go(strategy, data, on, seed=3) for _ in range(2))
    assert facts(first) == facts(second)
    assert first.seconds == second.seconds
    assert go(strategy, data, on, seed=4).seconds != first.seconds


# --- unequal data, unequal speed ---------------------------------------------------------------------------


@every_strategy
@every_virtual
def test_no_deadlock_under_random_delays(strategy: Strategy, virtual: type[Transport]) -> None:
    on = ls.Delayed(virtual(4), seconds=2e-3, pattern="random")
    data = Quadratic([5, 3, 0, 4])
    for seed in range(200):
        assert go(strategy, data, on, seed=seed).steps == 5


@every_strategy
@pytest.mark.parametrize("kind", MANY)
@pytest.mark.parametrize("counts", [[11, 3, 7], [0, 5, 2], [4, 0, 0], [1, 1, 12]], ids=str)
def test_workers_whose_data_ends_early_stay(strategy: Strategy, kind: type[Transport], counts: list[int]) -> None:
    samples = [1, 4, 2]
    data = Quadratic(counts, samples)
    result = go(strategy, data, kind(3), every=2)
    assert [worker.steps for worker in result.workers] == counts
    assert [worker.samples for worker in result.workers] == [c * s for c, s in zip(counts, samples, strict=True)]
    assert result.steps == max(counts)
    assert np.isfinite(result.params).all()


@dataclass(frozen=True, repr=False)
class Overheard(Transport):
    """Notes the requests of every worker as they pass, and how many samples it had then."""

    on: Transport
    heard: list[tuple[Request, int]] = field(default_factory=list, compare=False)

    @property
    def size(self) -> int:
        return self.on.size

    def open(self, seed: int = 0) -> Session:
        return OverheardSession(self.on.open(seed), self.heard)


class OverheardSession(WrappedSession):
    def __init__(self, inner: Session, heard: list[tuple[Request, int]]) -> None:
        super().__init__(inner)
        self.heard = heard

    def rewrite(self, worker: Worker, requests: Iterator[Request]) -> Iterator[Request]:
        for request in requests:
            if not worker.unmetered:
                self.heard.append((request, worker.samples))
            yield request


@every_synchronous
def test_means_are_weighted_by_samples(strategy: Strategy) -> None:
    on = Overheard(ls.Threads(3))
    go(strategy, Quadratic([11, 0, 7], [1, 4, 2]), on)
    asked = [
        (request.request if isinstance(request, Start) else request, samples) for request, samples in on.heard
    ]
    means = [(request.weight, samples) for request, samples in asked if isinstance(request, AllReduce)]
    assert all(weight == samples for weight, samples in means)


@every_strategy
@pytest.mark.parametrize("kind", MANY)
@pytest.mark.parametrize("steps", [1, 7, 13])
def test_a_limit_on_steps_holds_inside_a_round(strategy: Strategy, kind: type[Transport], steps: int) -> None:
    result = go(strategy, Quadratic([50] * 3), kind(3), steps=steps)
    assert [worker.steps for worker in result.workers] == [steps] * 3
    assert result.history[-1].step == steps


# --- what it asks ------------------------------------------------------------------------------------------


def degree(strategy: Strategy, n: int) -> float:
    """Neighbours of a worker, on average."""
    topology = next(
        value for item in fields(strategy) if isinstance(value := getattr(strategy, item.name), ls.Topology)
    )
    return sum(len(topology.readers(rank, n, 0)) for rank in range(n)) / n


def wrapped(strategy: Strategy) -> Strategy:
    """The strategy in another."""
    inner: Strategy = getattr(strategy, "strategy", None) or strategy.stages[0][0]
    return inner


def groups(strategy: Strategy, n: int) -> tuple[float, float]:
    """In the group of the first level, (d values, messages) of a worker, on average."""
    count = min(n, strategy.levels[0][1])
    sizes = [min(count, n - rank + rank % count) for rank in range(n)]
    return sum(2 * (k - 1) / k for k in sizes) / n, sum(2 * (k - 1) for k in sizes) / n


SENTENCES = {
    r"sends 2 \(n-1\)/n d values a worker in 2 \(n-1\) messages, and then one": lambda strategy, n, size: (
        2 * (n - 1) / n * (1 + 1 / size),
        4 * (n - 1),
    ),
    r"sends 2 \(n-1\)/n d values a worker,? in 2 \(n-1\) messages(?!, and then)": lambda strategy, n, size: (
        2 * (n - 1) / n,
        2 * (n - 1),
    ),
    r"sends 2 \(n-1\)/n d/fragments values a worker in 2 \(n-1\) messages": lambda strategy, n, size: (
        2 * (n - 1) / n / strategy.fragments,
        2 * (n - 1),
    ),
    r"sends 2 \(k-1\)/k d values a worker in 2 \(k-1\) messages, k being the": lambda strategy, n, size: groups(
        strategy, n
    ),
    r"sends d/fragments \+ n \+ 1 values in 2 messages;": lambda strategy, n, size: (
        1 / strategy.fragments + (n + 1) / size,
        2,
    ),
    r"sends d values to each neighbour, one message each": lambda strategy, n, size: (degree(strategy, n),) * 2,
    r"sends d values in 1 message\b(?!, and)": lambda strategy, n, size: (1, 1),
    r"sends d values in 1 message, and ceil\(log2 n\) empty ones": lambda strategy, n, size: (
        1,
        1 + (n - 1).bit_length(),
    ),
    r"sends period d values in period messages, and ceil\(log2 n\) empty ones": lambda strategy, n, size: (
        strategy.period,
        strategy.period + (n - 1).bit_length(),
    ),
    r"No messages": lambda strategy, n, size: (0, 0),
    r"sends what a round of its strategy sends": lambda strategy, n, size: stated(wrapped(strategy), n, size),
}
"""What a docstring may say that a round sends, as (d values, messages) a worker."""

MORE = {
    r"; who merges, d/fragments \+ 2 fragments more in 3": lambda strategy, size: (
        1 / strategy.fragments + 2 * strategy.fragments / size,
        3,
    ),
}
"""What it may say that some workers send besides, in some rounds."""


def more(strategy: Strategy) -> tuple[float, float]:
    """At most, besides."""
    text = " ".join((type(strategy).__doc__ or "").split())
    found = [count(strategy, SIZE) for sentence, count in MORE.items() if re.search(sentence, text)]
    return found[0] if found else (0, 0)


def stated(strategy: Strategy, n: int, size: int = SIZE) -> tuple[float, float]:
    """What a round sends of a model of that size, as the docstring says."""
    text = " ".join((type(strategy).__doc__ or "").split())
    found = [count(strategy, n, size) for sentence, count in SENTENCES.items() if re.search(sentence, text)]
    assert len(found) == 1, "the docstring must say what a round sends, in one of the known sentences"
    values, messages = found[0]
    largest, first = (getattr(strategy, name, 1 << 30) for name in ("bucket_bytes", "first_bytes"))
    parts = 1 + ceil(max(0, SIZE * 8 - min(first, largest)) / largest)
    return values, messages * (parts if "messages a bucket" in text else 1)


@every_strategy
@pytest.mark.parametrize("kind", MANY)
@pytest.mark.parametrize("n", [2, 4, 5])
def test_a_round_sends_what_the_docstring_says(strategy: Strategy, kind: type[Transport], n: int) -> None:
    rounds = 3
    values, messages = stated(strategy, n)
    steps = rounds * getattr(strategy, "period", 1)
    result = go(strategy, Quadratic([steps] * n), kind(n), every=2, evaluate=lambda x: 0.0)
    total = sum(worker.bytes_sent for worker in result.workers) / (rounds * SIZE * 8 * n)
    more_values, more_messages = more(strategy)
    assert values - 1e-9 <= total <= values + more_values + 1e-9, "all workers together"
    total = sum(worker.messages for worker in result.workers) / (rounds * n)
    assert messages - 1e-9 <= total <= messages + more_messages + 1e-9


@every_strategy
@pytest.mark.parametrize("n", [2, 6])
def test_the_opening_says_what_a_round_sends(strategy: Strategy, n: int) -> None:
    values, _ = stated(strategy, n, 16 * n)
    asked = banner.asked_in_a_round(strategy, n)
    assert len(asked) == n
    assert {each.steps for each in asked} == {getattr(strategy, "period", 1)}
    share = sum(each.sent for each in asked) / n
    assert share == pytest.approx(values, rel=0.05), "buckets need not divide evenly"


def test_the_sentences_tell_methods_apart() -> None:
    assert {stated(strategy, 3) for strategy in EXAMPLES} >= {(4 / 3, 4), (2, 2), (1, 1), (0, 0)}


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


# --- evaluation --------------------------------------------------------------------------------------------


@every_strategy
@pytest.mark.parametrize("kind", MANY)
def test_evaluations_come_every_so_many_steps_and_at_the_end(strategy: Strategy, kind: type[Transport]) -> None:
    seen: list[ls.Progress] = []
    result = go(
        strategy, Quadratic([20] * 3), kind(3), every=5, evaluate=lambda x: {"first": x[0]}, callback=seen.append
    )
    steps = [progress.step for progress in seen]
    assert tuple(seen) == result.history
    assert steps == sorted(set(steps)), "no step twice"
    assert result.steps == 20 <= steps[-1], "a synchronous round goes on without data"
    assert len(steps) >= 2
    assert all(set(progress.metrics) == {"first"} for progress in seen)
    assert result.metrics == {"first": result.params[0]}
    assert np.isfinite([progress.loss for progress in seen]).all()


@every_strategy
@pytest.mark.parametrize("kind", MANY)
def test_evaluating_changes_nothing(strategy: Strategy, kind: type[Transport]) -> None:
    if not strategy.synchronous and not kind.virtual:
        pytest.skip("asynchronous in real time: no two runs are alike")
    data = Quadratic([20, 14, 17], noise=1.0)
    plain = go(strategy, data, kind(3))
    watched = go(strategy, data, kind(3), every=3, evaluate=lambda x: 0.0)
    assert watched.params.tobytes() == plain.params.tobytes()
    assert watched.bytes_sent == plain.bytes_sent


@every_synchronous
@every_virtual
def test_checkpoints_take_no_virtual_time(strategy: Strategy, virtual: type[Transport], tmp_path: Path) -> None:
    """An asynchronous method with a center must wait until all has arrived there."""
    on = virtual(4, stragglers=ls.stragglers.LogNormal(0.5))
    data = Quadratic([24] * 4)
    plain, saved = go(strategy, data, on), go(strategy, data, on, checkpoint=tmp_path, checkpoint_every=3)
    assert saved.seconds == plain.seconds
    assert facts(saved) == facts(plain)


@pytest.mark.parametrize("strategy", EXAMPLES, ids=repr)
@every_virtual
def test_a_thousand_imaginary_workers(strategy: Strategy, virtual: type[Transport]) -> None:
    if any(len(value.row(0, 1024, 0)) > 10 for value in vars(strategy).values() if isinstance(value, ls.Topology)):
        pytest.skip("a million messages a round")
    assert go(strategy, Quadratic([3] * 1024), virtual(1024), seed=7).steps == 3
    few = Quadratic([3] * 128)  # all at the same times: ties, too, are the same each time
    first, second = (facts(go(strategy, few, virtual(128), seed=7)) for _ in range(2))
    assert first == second


@every_strategy
@every_virtual
def test_evaluating_takes_no_virtual_time(strategy: Strategy, virtual: type[Transport]) -> None:
    on = virtual(4, stragglers=ls.stragglers.LogNormal(0.5))
    data = Quadratic([24] * 4)
    plain = go(strategy, data, on)
    watched = go(strategy, data, on, every=1, evaluate=lambda x: 0.0)
    assert watched.seconds == plain.seconds
    assert [worker.waiting for worker in watched.workers] == [worker.waiting for worker in plain.workers]


@every_strategy
@pytest.mark.parametrize("kind", MANY)
def test_stop_ends_all_workers_at_one_step(strategy: Strategy, kind: type[Transport]) -> None:
    result = go(strategy, Quadratic([200] * 3), kind(3), every=4, stop=lambda progress: progress.step >= 8)
    if strategy.synchronous or kind.virtual:  # else the others may be through before rank 0 looks
        assert max(worker.steps for worker in result.workers) < 200
    if strategy.synchronous:
        assert len({worker.steps for worker in result.workers}) == 1
    assert result.history[-1].step == result.steps


@every_strategy
@pytest.mark.parametrize("kind", MANY)
def test_what_the_user_gives_raises_in_the_users_words(strategy: Strategy, kind: type[Transport]) -> None:
    def bad(x: Any) -> float:
        raise KeyError("accuracy")

    with pytest.raises(WorkerFailed, match=r"worker 0 failed in round .* KeyError: 'accuracy'") as caught:
        go(strategy, Quadratic([10] * 3), kind(3), every=2, evaluate=bad)
    assert isinstance(caught.value.__cause__, KeyError)


# --- a value -----------------------------------------------------------------------------------------------


@every_strategy
def test_it_is_a_frozen_value_that_prints_as_it_was_written(strategy: Strategy) -> None:
    assert eval(repr(strategy), vars(ls).copy()) == strategy
    assert pickle.loads(pickle.dumps(strategy)) == strategy
    assert copy.deepcopy(strategy) == strategy
    assert hash(strategy) == hash(copy.deepcopy(strategy))
    for item in fields(strategy):
        with pytest.raises(FrozenInstanceError):
            setattr(strategy, item.name, None)


@pytest.mark.parametrize("strategy", EXAMPLES, ids=repr)
def test_whole_numbers_are_checked(strategy: Strategy) -> None:
    for item in fields(strategy):
        if item.type == "int":
            with pytest.raises(ValueError, match=f"^{item.name} must be at least 1, got 0$"):
                type(strategy)(**{item.name: 0})
            with pytest.raises(TypeError, match=f"^{item.name} must be an integer, got 2.5$"):
                type(strategy)(**{item.name: 2.5})
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'perid'"):
        type(strategy)(perid=3)
