"""What every strategy promises. None is named here: a new file is found, and its class says what differs."""

from __future__ import annotations

import copy
import pickle
import time
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, dataclass, field, fields, replace
from typing import Any

import numpy as np
import pytest
from tests.contract.discovery import discover, optimizers_alone
from tests.contract.parametrize import (
    EXAMPLES,
    IDENTITIES,
    MANY,
    dtypes,
    every_strategy,
    every_synchronous,
    every_virtual,
    go,
    near,
)
from tests.contract.problem import Quadratic, facts, start

import loosestep as ls
from loosestep import topologies
from loosestep.optimizers import Optimizer
from loosestep.requests import AllReduce, Request, Start
from loosestep.requests.worker import Worker
from loosestep.strategies.base import Strategy
from loosestep.topologies.base import Topology
from loosestep.transports.base import Session, Transport
from loosestep.transports.wrapper import WrappedSession

GRAPHS = [kind.example() for kind in discover(topologies, Topology)]
ON_GRAPHS = [replace(kind.example(), topology=graph) for kind in (ls.CDSGD, ls.SGP) for graph in GRAPHS]
"""Mixing, and pushing: what methods differ in besides does not depend on the graph."""


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for the disk is tested with checkpoints; here it would only take time."""
    monkeypatch.setattr("os.fsync", lambda file: None)


class Polite(Quadratic):
    """Workers that let others run at each step: some methods move when all have come."""

    @staticmethod
    def gradient(x: Any, batch: Any) -> tuple[float, Any]:
        time.sleep(0)
        return Quadratic.gradient(x, batch)


# --- what it computes --------------------------------------------------------------------------------------


@every_strategy
@pytest.mark.parametrize(("kind", "dtype"), list(zip(MANY, [np.float32, np.float64], strict=True)))
def test_reaches_the_minimum_of_a_quadratic(strategy: Strategy, dtype: type, kind: type[Transport]) -> None:
    threads = not (strategy.synchronous or kind.virtual)  # which may run one after the other
    data = (Polite if threads else Quadratic)([500] * 4, alike=threads or strategy.wants_like_data)
    result = go(strategy, data, kind(4), dtype, optimizer=ls.SGD(0.05))
    assert result.params.dtype == dtype
    assert np.abs(result.params - data.minimum()).max() < 0.12, "of a start at distance 3"


@pytest.mark.parametrize("strategy", IDENTITIES)
@pytest.mark.parametrize("optimizer", [kind.example() for kind in optimizers_alone()], ids=repr)
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
    first, *rest = [facts(go(strategy, data, near(kind, n), dtype, **options)) for kind in MANY]
    for other in rest:
        assert other == first
    if n == 3:  # other messages, whose bytes and number are theirs
        far = facts(go(strategy, data, ls.Simulated(n, latency=1.0), dtype, **options))
        assert far[:5] + far[6:] == first[:5] + first[6:]


@every_strategy
@every_virtual
def test_a_seed_gives_the_same_bits_twice(strategy: Strategy, virtual: type[Transport]) -> None:
    on = virtual(4, stragglers=ls.stragglers.LogNormal())
    data = Quadratic([12, 15, 9, 13], noise=1.0)
    first, second = (go(strategy, data, on, seed=3) for _ in range(2))
    assert facts(first) == facts(second)
    assert first.seconds == second.seconds
    assert go(strategy, data, on, seed=4).seconds != first.seconds


@pytest.mark.parametrize("strategy", ON_GRAPHS, ids=repr)
@pytest.mark.parametrize("n", [1, 2, 4, 8, 9])
def test_on_every_graph_bits_are_the_same_and_on_one_of_some_sizes_it_runs_there_alone(
    strategy: Strategy, n: int
) -> None:
    data = Quadratic([9] * n, noise=1.0)
    graph = next(value for value in vars(strategy).values() if isinstance(value, Topology))
    if not graph.serves(n):
        with pytest.raises(ValueError, match=f"serves {graph.sizes}, got {n}$"):
            go(strategy, data, ls.Threads(n))
    else:
        first, *rest = [facts(go(strategy, data, kind(n))) for kind in MANY]
        assert all(other == first for other in rest)


# --- unequal data, unequal speed ---------------------------------------------------------------------------


@every_strategy
@every_virtual
def test_no_deadlock_under_random_delays(strategy: Strategy, virtual: type[Transport]) -> None:
    on = ls.Delayed(virtual(4), seconds=2e-3, pattern="random")
    data = Quadratic([5, 3, 0, 4])
    for seed in range(0, 200, 10):
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
