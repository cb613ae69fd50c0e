"""A run is saved after any step, under every strategy, and goes on from there to the bits of one that went on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from tests.contract.discovery import discover  # noqa: E402
from tests.torch.training import batches, left_behind, loss_of, mlp, momentum  # noqa: E402
from tests.unit.in_threads import together  # noqa: E402

import loosestep as ls  # noqa: E402
import loosestep.torch  # noqa: E402
from loosestep import strategies  # noqa: E402
from loosestep.runtime.user_loop import SUPPORTED_NEEDS  # noqa: E402
from loosestep.strategies.base import Strategy  # noqa: E402

STEPS = 13
IN_A_ROUND = (
    *(ls.StreamingDiLoCo(8, fragments=2), ls.StreamingDiLoCo(4, fragments=2, delay=3, codec=ls.E3M0())),
    *(ls.DaSGD(8, delay=3), ls.DaSGD(4, delay=4, merge="correct"), ls.CoCoDSGD(4), ls.OverlapLocalSGD(5)),
    *(ls.EASGD(4, order="published"), ls.SyncEASGD(4, order="published"), ls.PartiallySynchronous(5)),
    *(ls.DecoupledDiLoCo(period=5, fragments=2), ls.SSP(3)),
)
RACY = {"Hogwild": ls.Hogwild(adds="racy")}
"""In place of an example that torch's optimizers cannot keep."""

EXAMPLES = [RACY.get(kind.__name__, kind.example()) for kind in discover(strategies, Strategy)]
EVERY = [strategy for strategy in (*EXAMPLES, *IN_A_ROUND) if not strategy.needs - SUPPORTED_NEEDS]
each = pytest.mark.parametrize("strategy", EVERY, ids=repr)
MEASURED = ("DBS", "AsyncLocalSGD", "AdaptiveLocalSGD")  # what they do depends on the time that steps take


@dataclass
class Job:
    """One worker's training, which can begin where another's stood."""

    strategy: ls.Strategy
    on: ls.Transport

    def __post_init__(self) -> None:
        self.net = mlp()
        with torch.no_grad():
            for param in self.net.parameters():
                param.copy_(torch.linspace(-0.5, 0.5, param.numel()).reshape(param.shape))
        self.inner = momentum(self.net.parameters())
        self.optimizer = loosestep.torch.parallel(self.net, self.inner, self.strategy, self.on, steps_per_epoch=5)
        self.sampler = iter(self.optimizer.shard(2_000, 8, shuffle=False))  # under `DBS` it chooses the rows

    def steps(self, first: int, last: int) -> None:
        """Make the steps of these numbers, on data that depends on the number and the worker alone."""
        for x, y in list(batches(last))[first:]:
            rows = len(next(self.sampler)) if self.strategy.needs else len(x)
            self.optimizer.zero_grad()
            loss_of(self.net, x[:rows] + self.optimizer.rank, y[:rows]).backward()
            self.optimizer.step()

    def saved(self) -> Any:
        kept = {name: value.clone() for name, value in self.net.state_dict().items()}
        whole = self.optimizer.state_dict()
        inner = {
            index: {name: torch.clone(value) if torch.is_tensor(value) else value for name, value in state.items()}
            for index, state in whole["optimizer"]["state"].items()
        }
        return kept, {**whole, "optimizer": {**whole["optimizer"], "state": inner}}

    def load(self, saved: Any) -> None:
        self.net.load_state_dict(saved[0])
        self.optimizer.load_state_dict(saved[1])

    def bits(self) -> list[Any]:
        return [tensor.tolist() for tensor in left_behind(self.net, self.inner)]


def unbroken(strategy: ls.Strategy, on: Any) -> Any:
    job = Job(strategy, on)
    with job.optimizer:
        job.steps(0, STEPS)
        return job.bits()


def saving_everywhere(strategy: ls.Strategy, on: Any) -> Any:
    """What is left behind, and what was saved after every step."""
    job, saved = Job(strategy, on), []
    with job.optimizer:
        for step in range(STEPS):
            saved.append(job.saved())
            job.steps(step, step + 1)
        return job.bits(), saved


def resumed(strategy: ls.Strategy, on: Any, saved: Any, first: int) -> Any:
    """The bits right after loading, and those at the end."""
    job = Job(strategy, on)
    with job.optimizer:
        job.load(saved)
        assert job.optimizer.worker.clock == first
        there = [tensor.tolist() for tensor in job.net.state_dict().values()]
        assert there == [tensor.tolist() for tensor in saved[0].values()]
        job.steps(first, STEPS)
        return job.bits()


@each
def test_one_worker_goes_on_to_the_same_bits_from_any_step(strategy: ls.Strategy) -> None:
    """Alone everything happens in one order: so this holds for those that do not march, too."""
    bits, saved = saving_everywhere(strategy, ls.Serial())
    assert bits == unbroken(strategy, ls.Serial())
    for first in range(STEPS) if strategy in IN_A_ROUND else (0, 3, 4, 9):
        assert resumed(strategy, ls.Serial(), saved[first], first) == bits, first


@each
def test_two_workers_go_on_to_the_same_bits_from_any_step(strategy: ls.Strategy) -> None:
    """Of those that march; saving does not change what they reach. Of the others what was saved is there again."""
    if strategy.shared_buffers:
        pytest.skip("its optimizers live in processes")
    found = together(2, lambda on: saving_everywhere(strategy, on))
    same = strategy.synchronous and type(strategy).__name__ not in MEASURED
    if same:
        assert [bits for bits, _ in found] == together(2, lambda on: unbroken(strategy, on))
    for first in (1, 3, 6, 7, 10) if strategy in IN_A_ROUND else (7,):
        again = together(2, lambda on, first=first: resumed(strategy, on, found[on.rank][1][first], first))
        assert not same or again == [bits for bits, _ in found], first
