"""Strategies that ask for whatever a test wants, and transports that perform less than they could."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import loosestep as ls
from loosestep import ops
from loosestep.lowering.requests import RollCall
from loosestep.requests import Buffer, Exchange, Fetch, Gradient, Push, Request, Sleep, Start, Wait
from loosestep.requests.worker import Worker
from loosestep.transports.base import Session, Transport
from loosestep.transports.wrapper import WrappedSession

Script = Callable[[Worker], Iterator[Request]]
PRIMITIVES = frozenset({Exchange, Fetch, Push, RollCall, Sleep, Start, Wait})


@dataclass(frozen=True, repr=False)
class Ask(ls.Strategy):
    """A round is whatever `script` yields, then a gradient, which uses up a batch."""

    script: Script
    marching: bool = True

    @property
    def synchronous(self) -> bool:  # type: ignore[override]
        return self.marching

    def round(self, worker: Worker, state: ls.State) -> Iterator[Request]:
        yield from self.script(worker)
        yield Gradient()

    def consensus(self, worker: Worker, state: ls.State, out: Buffer) -> Iterator[Request]:
        ops.copy(worker.params, out)
        yield from ()


def ask(script: Script, on: Transport, size: int = 6, dtype: type = np.float64, rounds: int = 1) -> list[Any]:
    """Every worker's parameters after `rounds` of a script; they begin at `beginning(rank)`."""

    def first(worker: Worker) -> Iterator[Request]:
        if worker.round == 1:
            worker.params[:] = beginning(worker.rank, size, dtype)
        yield from script(worker)

    result = ls.run(
        Ask(first),
        lambda x, batch: np.zeros_like(x),
        np.zeros(size, dtype),
        lambda rank, n: iter([0.0] * rounds),
        on=on,
    )
    return [worker.params for worker in result.workers]


def beginning(rank: int, size: int = 6, dtype: type = np.float64) -> Any:
    """Where a worker's parameters begin: nothing that sums without rounding."""
    return np.random.default_rng(rank).standard_normal(size).astype(dtype) * 10.0 ** (rank % 5)


@dataclass(frozen=True, repr=False)
class Primitive(Transport):
    """Performs the primitives only, so that all else is lowered."""

    on: Transport

    @property
    def size(self) -> int:
        return self.on.size

    def open(self, seed: int = 0) -> Session:
        session = PrimitiveSession(self.on.open(seed))
        session.native &= PRIMITIVES
        return session


class PrimitiveSession(WrappedSession):
    def rewrite(self, worker: Worker, requests: Iterator[Request]) -> Iterator[Request]:
        return requests
