"""One rank of a contestant of `collectives`: `python -m bench.ranks ADDRESS LIBRARY [RANK SIZE PLACE]`.

It connects to the benchmark, does what it is told and sleeps between; an interpreter without loosestep may run it.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Client
from typing import Any

import numpy as np

Step = Callable[[], object]
Task = tuple[Step, Any]
"""What is timed, and where its result is."""
PATIENCE = 120.0
RATE = 0.5
BLOCK = 8192


class Loosestep:
    """Over a mapping; the center in another one, which every rank moves by itself.

    private: vectors are in private memory, and not in the arena, where those of a worker are.
    """

    def __init__(self, rank: int, size: int, place: str, private: bool = False) -> None:
        from loosestep import _core

        self.core, self.rank, self.size, self.place = _core, rank, size, place
        self.host = _core.Host(f"{place}/host{private}", size, rank, False)
        self.arena = _core.HostArena(f"{place}/arena{private}", size, rank, False)
        self.spins, self.private, self.forms = _core.info()["cores"] >= size, private, None

    def zeros(self, n: int) -> Any:
        """So many float32 in the memory of this contestant."""
        made = None if self.private else self.arena.allocate(4 * n)
        return self.core.allocate(4 * n).view(np.float32) if made is None else made.view(np.float32)

    def measure(self) -> None:
        """Choose the forms of collectives as a session does."""
        from loosestep.lowering import host_forms as forms
        from loosestep.transports.processes.collective_slots import blocking_calls

        calls = blocking_calls(self.host, tuple(range(self.size)), PATIENCE)
        use = lambda chosen: self.host.use(self.arena, *chosen, self.spins)  # noqa: E731
        shared = lambda n: self.arena.allocate(4 * n).view(np.float32)  # noqa: E731
        self.forms = forms.Forms()
        if self.spins:
            self.forms, _ = forms.measured(
                lambda request: self.done(calls[type(request)](request)), use, shared, self.size
            )
        use(self.forms)
        if self.rank == 0 and not self.private:
            print(f"{self.size} ranks chose {self.forms}", flush=True)

    def barrier(self) -> None:
        self.done(self.host.barrier(PATIENCE))

    def all_reduce(self, x: Any) -> Task:
        if self.forms is None:
            self.measure()
        return lambda: self.done(self.host.all_reduce(x, "sum", 1.0, PATIENCE)), x

    def elastic(self, x: Any) -> Task:
        center = self.core.HostCenter(f"{self.place}/center{x.size}", x.size, "float32", False)
        return ((lambda: center.elastic(x, RATE, self.rank)) if self.rank else lambda: None), x

    @staticmethod
    def done(said: str) -> None:
        if said != "done":
            raise RuntimeError(f"a collective ended as {said!r}")


class Limit(Loosestep):
    """What a sum over neighbours costs a rank that has all of their vectors already."""

    def mix(self, x: Any) -> Task:
        from loosestep import ops

        out, weights = np.empty_like(x), mixing(self.rank, self.size)
        terms = [x / (self.rank + 1) * (rank + 1) for rank, _ in weights]
        return lambda: ops.weighted_sum(terms, [weight for _, weight in weights], out), out


class Messages:
    """Requests as a strategy makes them, over a wire: what a gossip method does with its neighbours.

    hosts: as of the transport; [1, 1] lets two ranks of one machine reach each other as those of two hosts do.
    """

    def __init__(self, wire: str = "MPI", hosts: list[int] | None = None) -> None:
        import loosestep as ls
        from loosestep.requests import Exchange, Mix, Weights
        from loosestep.requests.worker import Worker

        on = getattr(ls, wire)(hosts=hosts)
        session = on.open()
        (self.rank,), self.size, self.exchange = session.ranks, on.size, Exchange
        endpoint = session.join(Worker(self.rank, self.size, np.zeros(1), session.share))
        self.perform = endpoint.handlers[Exchange]
        self.add_up = endpoint.handlers.get(Mix)
        self.mix_of = lambda x, row, readers: Mix(x, Weights(row, readers))
        others = [rank for rank in range(self.size) if rank != self.rank]
        nothing = [(rank, np.empty(0)) for rank in others]
        self.barrier = lambda: self.perform(Exchange(nothing, nothing))  # quicker than the session's own
        self.close = lambda: session.leave(None)

    def neighbours(self, x: Any) -> Task:
        left, right = ring(self.rank, self.size)
        both = np.empty((2, x.size), x.dtype)
        sends, recvs = [(right, x), (left, x)], [(left, both[0]), (right, both[1])]
        return lambda: self.perform(self.exchange(sends, recvs)), both

    def mix(self, x: Any) -> Task:
        row = mixing(self.rank, self.size)
        request = self.mix_of(x, row, tuple(rank for rank, _ in row if rank != self.rank))
        return lambda: self.add_up(request), x


class MPI:
    """In place, through mpi4py; the center's rank serves the other one."""

    def __init__(self) -> None:
        from mpi4py import MPI

        self.mpi, self.comm = MPI, MPI.COMM_WORLD
        self.rank, self.size = self.comm.Get_rank(), self.comm.Get_size()

    def barrier(self) -> None:
        self.comm.Barrier()

    def all_reduce(self, x: Any) -> Task:
        return lambda: self.comm.Allreduce(self.mpi.IN_PLACE, x, self.mpi.SUM), x

    def neighbours(self, x: Any) -> Task:
        left, right = ring(self.rank, self.size)
        both = np.empty((2, x.size), x.dtype)

        def run() -> None:
            self.comm.Sendrecv(x, right, 0, both[0], left, 0)
            self.comm.Sendrecv(x, left, 0, both[1], right, 0)

        return run, both

    def mix(self, x: Any) -> Task:
        """Exchange, then one fused sum of ours, or numpy's where it is not installed."""
        row = mixing(self.rank, self.size)
        come = {rank: np.empty_like(x) for rank, _ in row if rank != self.rank}
        terms = [come.get(rank, x) for rank, _ in row]
        out, add_up = np.empty_like(x), summing([weight for _, weight in row])

        def run() -> None:
            for distance in {1, self.size - 1}:
                to, source = (self.rank + distance) % self.size, (self.rank - distance) % self.size
                self.comm.Sendrecv(x, to, 0, come[source], source, 0)
            add_up(terms, out)
            x[:] = out

        return run, x

    def elastic(self, x: Any) -> Task:
        return (self.exchange(x) if self.rank else self.serve(np.zeros_like(x))), x

    def exchange(self, x: Any) -> Step:
        def run() -> None:
            self.comm.Send(x, 0)
            self.comm.Recv(x, 0)

        return run

    def serve(self, center: Any) -> Step:
        theirs, move = np.empty_like(center), mover()

        def run() -> None:
            self.comm.Recv(theirs, 1)
            move(theirs, center)
            self.comm.Send(theirs, 1)

        return run


class Gloo:
    """torch.distributed over loopback."""

    def __init__(self, rank: int, size: int, place: str) -> None:
        import torch
        import torch.distributed as dist

        torch.set_num_threads(1)
        dist.init_process_group("gloo", init_method=f"file://{place}/gloo", rank=rank, world_size=size)
        self.torch, self.dist, self.rank, self.size = torch, dist, rank, size

    def barrier(self) -> None:
        self.dist.barrier()

    def all_reduce(self, x: Any) -> Task:
        tensor = self.torch.from_numpy(x)
        return lambda: self.dist.all_reduce(tensor), x


def ring(rank: int, size: int) -> tuple[int, int]:
    """The neighbours of a rank, left and right."""
    return (rank - 1) % size, (rank + 1) % size


def mixing(rank: int, size: int) -> tuple[tuple[int, float], ...]:
    """The weights of a rank and its neighbours in a ring: half its own, in rank order."""
    others = sorted({*ring(rank, size)} - {rank})
    return tuple(sorted([(rank, 0.5), *((other, 0.5 / len(others)) for other in others)]))


def summing(weights: list[float]) -> Callable[[Any, Any], None]:
    """out <- the weighted sum of terms: ours where it is installed, else numpy's."""
    try:
        from loosestep import ops
    except ImportError:

        def by_numpy(terms: Any, out: Any) -> None:
            np.multiply(terms[0], weights[0], out=out)
            for weight, term in zip(weights[1:], terms[1:], strict=True):
                out += weight * term

        return by_numpy
    return lambda terms, out: ops.weighted_sum(terms, weights, out)


def mover() -> Callable[[Any, Any], None]:
    """x, c <- x - d, c + d with d = RATE (x - c): ours where it is installed, else numpy in blocks."""
    try:
        from loosestep import ops
    except ImportError:
        return numpy_move
    return lambda x, c: ops.elastic(x, c, RATE)


def numpy_move(x: Any, c: Any) -> None:
    d = np.empty(BLOCK, x.dtype)
    for low in range(0, x.size, BLOCK):
        cut = slice(low, low + BLOCK)
        part = d[: x[cut].size]
        np.subtract(x[cut], c[cut], out=part)
        np.multiply(part, RATE, out=part)
        np.subtract(x[cut], part, out=x[cut])
        np.add(c[cut], part, out=c[cut])


def prepared(library: Any, kind: str, n: int) -> tuple[Step, str]:
    """The step, and what was wrong with its first result; from then on it works on zeros, which stay zeros."""
    pattern = (np.arange(n) % 1000).astype(np.float32)
    x = getattr(library, "zeros", lambda n: np.empty(n, np.float32))(n)
    np.multiply(pattern, library.rank + 1, out=x)
    step, result = made(library, kind, x)
    library.barrier()
    step()
    want, found = wanted(kind, pattern, library.rank, library.size), f"{result.flat[0]} ... {result.flat[n - 1]}"
    wrong = "" if np.array_equal(result, want) else f"rank {library.rank}: {kind} of {n} gave {found}"
    x[:] = 0
    return step, wrong


def made(library: Any, kind: str, x: Any) -> Task:
    """What is timed. Of `written` the vector is written before each sum, as a worker does it."""
    if kind != "written":
        task: Task = getattr(library, kind)(x)
        return task
    step, result = library.all_reduce(x)

    def run() -> None:
        np.multiply(x, 1.0, out=x)
        step()

    return run, result


def wanted(kind: str, pattern: Any, rank: int, size: int) -> Any:
    """The result where rank r begins with (r + 1) times the pattern, and the center with zeros."""
    if kind == "neighbours":
        return np.stack([pattern * (other + 1) for other in ring(rank, size)])
    if kind == "mix":
        return pattern * sum(weight * (other + 1) for other, weight in mixing(rank, size))
    if kind == "elastic":
        return pattern * (1 if rank == 0 else (1 - RATE) * 2)
    return pattern * sum(range(1, size + 1))


def sampled(library: Any, step: Step, repeats: int) -> tuple[float, float]:
    """Seconds of one call, and of processor time altogether."""
    busy = processor()
    library.barrier()
    start = time.perf_counter()
    for _ in range(repeats):
        step()
    seconds = (time.perf_counter() - start) / repeats
    return seconds, processor() - busy


def processor() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def settle(rank: int) -> None:
    """Rank r on the r-th core, whatever the library: nobody is moved in the middle."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[rank % len(cores)]})


LIBRARIES: dict[str, Callable[..., Any]] = {
    "loosestep": lambda rank, size, place: Loosestep(int(rank), int(size), place),
    "loosestep, private memory": lambda rank, size, place: Loosestep(int(rank), int(size), place, True),
    "Gloo": lambda rank, size, place: Gloo(int(rank), int(size), place),
    "limit": lambda rank, size, place: Limit(int(rank), int(size), place),
    "MPI": MPI,
    "messages": Messages,
    "messages over ZeroMQ": lambda rank, size, place: Messages("ZMQ"),
    "MPI between hosts": lambda: Messages("MPI", [1, 1]),
    "ZeroMQ between hosts": lambda rank, size, place: Messages("ZMQ", [1, 1]),
}


def main() -> None:
    address, name, *own = sys.argv[1:]
    library = LIBRARIES[name](*own)
    settle(library.rank)
    step: Step = lambda: None  # noqa: E731
    with Client(address) as pipe:
        pipe.send(library.rank)
        while (told := pipe.recv()) is not None:
            if told[0] == "prepare":
                step, wrong = prepared(library, *told[1:])
                pipe.send(wrong)
            else:
                pipe.send(sampled(library, step, told[1]))
    getattr(library, "close", lambda: None)()


if __name__ == "__main__":
    main()
