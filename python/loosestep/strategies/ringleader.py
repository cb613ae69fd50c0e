"""Ringleader: asynchronous SGD in which every worker counts alike, however slow it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from loosestep import ops
from loosestep.foundation import buffers, checks
from loosestep.requests import Fetch, Local, Push
from loosestep.strategies.base import State, Strategy, pull

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from loosestep.requests import Buffer, Request
    from loosestep.requests.worker import Worker

ENDED = 2.0**53
"""A cycle that none comes to: whose data has ended is waited for in none."""


@dataclass(frozen=True, repr=False)
class Ringleader(Strategy):
    """A table has an entry for every worker: the mean of the steps D = what it pulled - x that it has made in this
    cycle. Once every worker has one, each of them moves the center once, when it next comes with a step:

    T_i <- mean_j D_ij, c <- c - r mean_i T_i, x_i <- c.

    A worker that comes before the table is full adds to its entry and begins again at c. One that has moved the
    center is in the next cycle, which has a table of its own. So a cycle has n moves, all n workers weigh the same
    in each of them, no step is lost while all have data, and none is more than 2 n - 2 moves old: with unlike data
    a center of `Downpour`'s kind would lean to the fast workers instead. However many steps a worker makes before
    the table is full, they are one entry: who runs first, as a thread may, waits for nobody and moves nothing.

    There is no server: a worker keeps its own entry, and where the center is kept there are the means of the
    tables of even and of odd cycles, and the cycle in which each worker has an entry. When two workers fill a
    table at one time both move the center at once. A worker whose data has ended leaves the tables, with its
    entry, even if that has not moved the center yet: the mean is that of the others.

    rate: r.
    period: local steps between two pushes; 1 in the paper.

    A round sends d values in 1 message, n numbers where it is the first of its cycle, and an empty message where
    it moves the center; it receives n numbers and d values.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 400)
    >>> result = ls.run(ls.Ringleader(), lambda x, b: x - b, np.zeros(3), batches, on=ls.Simulated(2))
    >>> bool(abs(result.params - 1.5).max() < 0.1)
    True

    Reference: A. Maranjyan, P. Richtarik, Ringleader ASGD: The First Asynchronous SGD with Optimal Time Complexity
    under Data Heterogeneity, arXiv:2509.22860, algorithm 1 (from memory; that no server decides is this
    library's).
    """

    course_depends_on_values: ClassVar[bool] = True
    synchronous: ClassVar[bool] = False
    consensus_is: ClassVar[Literal["collective", "one-sided"]] = "one-sided"
    consensus_in: ClassVar[str] = "state.center"
    rate: float = 1.0
    period: int = 1

    @classmethod
    def example(cls) -> Ringleader:
        return cls(rate=0.5, period=10)

    def __post_init__(self) -> None:
        checks.positive("rate", self.rate)
        checks.integer("period", self.period)

    def init(self, worker: Worker) -> State:
        rest = buffers.like(worker.params)
        return State(
            center=worker.shared("center", like=worker.params),
            means=State(**{name: worker.shared(f"mean of {name} cycles", like=rest) for name in ("even", "odd")}),
            cycles=worker.shared("cycles", like=buffers.zeros(worker.size, float)),
            mine=State(even=rest, odd=buffers.like(rest)),
            pulled=worker.copy_of_params(),
            cycle=1,
            steps=0,  # in this cycle
            ended=False,
        )

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        yield Local(self.period)
        if state.ended:  # a resumed run, with more data
            yield from self.come_back(worker, state)
        name = "odd" if state.cycle % 2 else "even"
        yield from self.enter(worker, state, name)
        cycles = yield from self.board(worker, state)
        if min(cycles) >= state.cycle:
            there = sum(cycle < ENDED for cycle in cycles)
            scalars = (-self.rate * worker.size / there,)
            yield Push("axpy", (state.center, getattr(state.means, name)), (), scalars, arrived=True)
            state.cycle, state.steps = state.cycle + 1, 0
        yield from pull(worker, state, state.center)

    def enter(self, worker: Worker, state: State, name: str) -> Iterator[Request]:
        """Let this worker's entry, and the mean of the table, have the step; the first of a cycle replaces it."""
        change, mine = state.pulled, getattr(state.mine, name)
        ops.subtract(state.pulled, worker.params, change)
        ops.subtract(change, mine, change)
        state.steps += 1
        ops.axpy(mine, change, 1 / state.steps)
        scalars = (1 / (state.steps * worker.size),)
        yield Push("axpy", (getattr(state.means, name),), (change,), scalars, arrived=True)
        if state.steps == 1:
            yield from self.tell(worker, state, state.cycle)

    def tell(self, worker: Worker, state: State, cycle: float) -> Iterator[Request]:
        """Let all know in which cycle this worker has an entry; nobody else changes its number."""
        known = yield from self.board(worker, state)
        difference = worker.workspace("cycle", worker.size, "float64")
        difference.fill(0)
        difference[worker.rank] = cycle - known[worker.rank]
        yield Push("axpy", (state.cycles,), (difference,), (1.0,), arrived=True)

    def board(self, worker: Worker, state: State) -> Generator[Request, None, Buffer]:
        """Fetch and return the cycles in which workers have an entry."""
        cycles = worker.workspace("cycles", worker.size, "float64")
        yield Fetch(state.cycles, into=cycles)
        return cycles

    def come_back(self, worker: Worker, state: State) -> Iterator[Request]:
        """Go on in the cycle in which the others are."""
        cycles = yield from self.board(worker, state)
        state.cycle = int(max((cycle for cycle in cycles if cycle < ENDED), default=state.cycle))
        state.ended, state.steps = False, 0

    def data_ended(self, worker: Worker, state: State) -> Iterator[Request]:
        """Leave the tables."""
        if state.ended:
            return
        state.ended, state.steps = True, 0
        for name in ("even", "odd"):
            mine = getattr(state.mine, name)
            yield Push("axpy", (getattr(state.means, name),), (mine,), (-1 / worker.size,), arrived=True)
            mine.fill(0)
        yield from self.tell(worker, state, ENDED)

    def consensus(self, worker: Worker, state: State, out: Buffer) -> Iterator[Request]:
        """Fetch the center."""
        yield Fetch(state.center, into=out)
