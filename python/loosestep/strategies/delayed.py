"""Bases of methods that communicate while they compute."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from loosestep import ops
from loosestep.foundation import buffers, checks
from loosestep.requests import AllReduce, Local, Start, Wait
from loosestep.strategies.base import State, Strategy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Communication, Request
    from loosestep.requests.worker import Worker


class LateStrategy(Strategy):
    """Base of methods that communicate while they compute: what the end of a round starts, the next one merges.

    A subclass has the fields `period` and `delay`, the local steps of a round and from start to merge (None: half
    of them); `send` gives the communication, `receive` merges its result, and `coming` in the state is None at
    first. With delay 0 a round merges what it started.
    """

    period: int
    delay: int | None

    def check_delay(self, *, keeps: bool = True) -> None:
        """Refuse one longer than a round; and one of a whole round, where a merge keeps no step."""
        if self.delay is not None:
            checks.integer("delay", self.delay, 0, self.period)
        if self.delay == self.period and not keeps:
            raise ValueError(f"delay must be below period={self.period} where a merge keeps no step, got {self!r}")

    @property
    def steps_late(self) -> int:
        """Return the delay in local steps."""
        return self.period // 2 if self.delay is None else self.delay

    @abstractmethod
    def send(self, worker: Worker, state: State) -> Communication:
        """Return the communication to start, of the parameters as they are; its result belongs to the state."""

    @abstractmethod
    def receive(self, worker: Worker, state: State) -> None:
        """Merge the result, which has arrived."""

    def exchange(self, worker: Worker, state: State) -> Communication:
        """Receive and send where a result arrives when the next is to start; override to do it in one pass."""
        self.receive(worker, state)
        return self.send(worker, state)

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        """Yield steps, the merge of what the last round sent, the rest of the steps; then send."""
        early = self.steps_late if state.coming is not None else 0
        if early == self.period:
            yield Local(early)
            yield Wait(state.coming)
            state.coming = self.exchange(worker, state)
        else:
            yield from self.steps(worker, state, early)
            state.coming = self.send(worker, state)
        yield Start(state.coming)
        if not self.steps_late:
            yield from self.arrive(worker, state)

    def steps(self, worker: Worker, state: State, early: int) -> Iterator[Request]:
        """Yield the steps of a round, and merge what the last round sent after so many of them."""
        if early:
            yield Local(early)
            yield from self.arrive(worker, state)
        yield Local(self.period - early, after=early)  # a round without anything in flight makes all steps at once

    def arrive(self, worker: Worker, state: State) -> Iterator[Request]:
        """Wait for the communication in flight, and merge it."""
        yield Wait(state.coming)
        state.coming = None
        self.receive(worker, state)


class LateAverage(LateStrategy):
    """Base of those that average the parameters and keep what a worker did since it sent s: x <- a + (x - s).

    One that merges by a rule of its own, without s, says that it does not correct.
    """

    @property
    def corrects(self) -> bool:
        return True

    def init(self, worker: Worker) -> State:
        state = State(average=buffers.like(worker.params), coming=None)
        if self.corrects:
            state.snapshot = buffers.like(worker.params)
        return state

    def send(self, worker: Worker, state: State) -> Communication:
        ops.copy(worker.params, state.average)
        if self.corrects:
            ops.copy(worker.params, state.snapshot)
        return self.mean(worker, state)

    def receive(self, worker: Worker, state: State) -> None:
        ops.correct(worker.params, state.snapshot, state.average)

    def exchange(self, worker: Worker, state: State) -> Communication:
        if not self.corrects:
            return super().exchange(worker, state)
        ops.correct_and_copy(worker.params, state.snapshot, state.average)
        return self.mean(worker, state)

    def mean(self, worker: Worker, state: State) -> Communication:
        """Return the mean, weighted by the samples that each worker used in the round."""
        return AllReduce(state.average, op="mean", weight=worker.samples)
