"""GoSGD: asynchronous push-sum between random pairs."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, ClassVar, Literal

from loosestep import ops
from loosestep.foundation import buffers, checks
from loosestep.foundation.buffers import here
from loosestep.requests import Fetch, Local, Push
from loosestep.strategies.base import State, Strategy, numbered
from loosestep.topologies.base import Topology
from loosestep.topologies.complete import Complete

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Buffer, Request, Shared
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class GoSGD(Strategy):
    """Now and then a worker gives half of its weight to another: a_i <- a_i / 2, (x_i, a_i) goes to a random j.

    That merges it after its next local step: x_j <- (a_j x_j + a_i x_i) / (a_j + a_i), a_j <- a_j + a_i. a begins
    at 1/n. Nobody waits, and sum a and sum a x are conserved, what is on its way included. Every worker has an
    inbox, a shared variable to which the others add (a x, a), and two counters beside it, of messages that were
    begun and that are whole; an inbox is read when the counters agree before and after, and else at the next step.
    So no message is merged in part, and no lock is held. Inboxes are part of a checkpoint. Any replica stands for
    all, so worker 0's is evaluated and returned, and with another number of workers all begin there.

    topology: to whom a worker sends, by default anybody; weights do not count.
    chance: of sending after a step (p).
    seed: of the draw of times and partners.

    A round sends, where a worker sends, d + 1 values and 4 numbers in 3 messages, and where it merges d + 1 values
    in 1; it receives 2 numbers in every step.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.5] * 400)
    >>> result = ls.run(ls.GoSGD(), lambda x, b: x - b, np.zeros(3), batches, on=ls.Simulated(2))
    >>> bool(abs(result.params - 1.5).max() < 1e-3)
    True

    Reference: M. Blot, D. Picard, M. Cord, N. Thome, Gossip Training for Deep Learning, arXiv:1611.09726.
    """

    course_depends_on_values: ClassVar[bool] = True
    synchronous: ClassVar[bool] = False
    wants_like_data: ClassVar[bool] = True
    consensus_is: ClassVar[Literal["collective", "one-sided"]] = "one-sided"
    chance: float = 0.1
    seed: int = 1
    topology: Topology = field(default_factory=Complete)

    @classmethod
    def example(cls) -> GoSGD:
        return cls(chance=0.5)

    def __post_init__(self) -> None:
        checks.fraction("chance", self.chance)
        checks.integer("seed", self.seed)
        checks.instance("topology", self.topology, Topology)

    def weigh(self, worker: Worker) -> float:
        """Return 1 for worker 0, whose replica stands for all, else 0."""
        return float(worker.rank == 0)

    def warnings(self, size: int) -> list[str]:
        return self.topology.faults(size)

    def init(self, worker: Worker) -> State:
        self.topology.check_size(worker.size)
        room, none = buffers.zeros(worker.params.size + 1, worker.params.dtype), buffers.zeros(2, float)
        ranks = range(worker.size)
        return State(
            weight=1 / worker.size,
            merged=0,  # messages
            inbox=State(**{numbered(rank): worker.shared(f"inbox {rank}", like=room) for rank in ranks}),
            count=State(**{numbered(rank): worker.shared(f"count {rank}", like=none) for rank in ranks}),
        )

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        yield Local(1)
        yield from self.receive(worker, state)
        draw = Random(f"gossip {self.seed}, {worker.rank}, {worker.round}")
        others = self.topology.readers(worker.rank, worker.size, worker.round - 1)
        if others and draw.random() < self.chance:
            yield from self.send(worker, state, draw.choice(others))

    def receive(self, worker: Worker, state: State) -> Iterator[Request]:
        """Merge what is in the inbox, unless a message is being written."""
        d, count, inbox = worker.params.size, of(state.count, worker.rank), of(state.inbox, worker.rank)
        before, after = (worker.workspace(name, 2, "float64") for name in ("before", "after"))
        yield Fetch(count, into=before)
        if before[1] == state.merged:
            return
        came = worker.workspace("came", d + 1)
        yield Fetch(inbox, into=came)
        yield Fetch(count, into=after)
        if after[0] > before[1]:
            return
        weight = float(here(came[d:])[0])
        ops.scale(worker.params, state.weight / (state.weight + weight))
        ops.axpy(worker.params, came[:d], 1 / (state.weight + weight))
        state.weight, state.merged = state.weight + weight, int(before[1])
        yield Push("axpy", (inbox,), (came,), (-1.0,), arrived=True)

    def send(self, worker: Worker, state: State, other: int) -> Iterator[Request]:
        """Give half of the weight away."""
        d, count = worker.params.size, of(state.count, other)
        state.weight /= 2
        sent = worker.workspace("sent", d + 1)
        ops.copy(worker.params, sent[:d])
        ops.scale(sent[:d], state.weight)
        sent[d:].fill(state.weight)
        one = worker.workspace("one", 2, "float64")
        one[:] = 1.0, 0.0
        yield Push("axpy", (count,), (one,), (1.0,), arrived=True)
        yield Push("axpy", (of(state.inbox, other),), (sent,), (1.0,), arrived=True)
        one[:] = 0.0, 1.0
        yield Push("axpy", (count,), (one,), (1.0,), arrived=True)

    def consensus(self, worker: Worker, state: State, out: Buffer) -> Iterator[Request]:
        """Copy the replica of the worker that asks, which is worker 0."""
        ops.copy(worker.params, out)
        yield from ()


def of(state: State, rank: int) -> Shared:
    """Return a worker's variable."""
    shared: Shared = getattr(state, numbered(rank))
    return shared
