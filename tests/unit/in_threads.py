"""Workers of a user's loop in threads of one process: all but MPI is what a job of processes has."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.mpi import wires
from tests.unit.wire import Net

from loosestep.transports import matching
from loosestep.transports.base import ProcessTransport, Session
from loosestep.transports.processes.session import open_session

source, one_at_a_time = matching.source, threading.Lock()


def source_in_turn(code: Any) -> str:
    """What `inspect.getsource` gives; in Python 3.11 two threads must not parse at once."""
    with one_at_a_time:
        return source(code)


matching.source = source_in_turn


@dataclass(frozen=True, repr=False)
class InThread(ProcessTransport):
    """One worker of them, for one run."""

    wire: Any = field(compare=False)
    hosts: tuple[tuple[int, ...], ...]

    @property
    def size(self) -> int:
        return int(self.wire.size)

    @property
    def rank(self) -> int:
        return int(self.wire.rank)

    @property
    def local_rank(self) -> int:
        return next(host.index(self.rank) for host in self.hosts if self.rank in host)

    def open(self, seed: int = 0) -> Session:
        return open_session(self.wire, self.hosts, 10.0, 60.0)


def transports(size: int, hosts: tuple[tuple[int, ...], ...] | None = None) -> list[InThread]:
    """One for each worker of a run; on one host unless others are said."""
    net = Net(size, inline=1 << 30, clock=wires.MachineClock())
    return [InThread(end, hosts or (tuple(range(size)),)) for end in net.ends]


def together(size: int, action: Callable[[Any], Any], *, errors: bool = False, **how: Any) -> list[Any]:
    """What `action(on)` returns on every worker, in rank order, or with `errors` what it raises."""
    found = wires.together([lambda on=on: action(on) for on in transports(size, **how)], 20)
    failed = [each for each in found if isinstance(each, BaseException)]
    if failed and not errors:
        raise failed[0]
    return found
