"""The stages of a `Stages` strategy: where each ends, and how the next one begins."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

from loosestep import ops
from loosestep.foundation import buffers
from loosestep.requests import AllReduce, Fetch, Push, Shared
from loosestep.strategies.base import leaves

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from loosestep.requests import Buffer, Request
    from loosestep.requests.worker import Worker
    from loosestep.strategies.base import State, Strategy


def ends(strategy: Strategy, steps_per_epoch: int | None) -> tuple[int | None, ...]:
    """Return the step at which each stage ends; None for the last."""
    epochs = [length for _, length in strategy.stages if length is not None]
    if epochs and steps_per_epoch is None:
        raise ValueError(f"{strategy!r} counts epochs: say steps_per_epoch, how many local steps one has")
    return (*(round(epoch * (steps_per_epoch or 1)) for epoch in accumulate(epochs)), None)


def begin(strategy: Strategy, worker: Worker, made: State) -> Generator[Request, None, State]:
    """Return the state with which a stage begins at the worker's parameters; shared variables exist already."""
    there = {value.name: value for *_, value in leaves(made) if isinstance(value, Shared)}
    wanted: list[tuple[Shared, Buffer]] = []

    def share(name: str, like: Buffer) -> Shared:
        wanted.append((there[name], buffers.copy_of(like)))
        return there[name]

    state = strategy.init(worker.sharing(share))
    if worker.rank == 0:
        for shared, values in wanted:
            yield from store(shared, values)
    return state


def store(shared: Shared, values: Buffer) -> Iterator[Request]:
    """Set a shared variable while nobody else touches it: c - c is 0, and 0 + v is v, to the bit."""
    seen = buffers.like(values)
    yield Fetch(shared, into=seen)
    ops.scale(seen, -1.0)
    yield Push("axpy", (shared,), (seen,), (1.0,))
    yield Push("axpy", (shared,), (values,), (1.0,))
    yield Fetch(shared, into=seen)  # an answer comes after what was pushed before


def gather(strategy: Strategy, worker: Worker, state: State, out: Buffer, *, between: bool) -> Iterator[Request]:
    """Set all workers to the consensus, optimizer buffers to their mean. `between`: not inside a round."""
    if not (between and strategy.replicas_agree and strategy.consensus_in == "params"):
        yield from strategy.consensus(worker, state, out)
        ops.copy(out, worker.params)
    for moment in worker.moments:
        yield AllReduce(moment, op="mean")
