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
PATIENCE = 120.0
RATE = 0.5
BLOCK = 8192


class Loosestep:
    """Over a mapping; the center in another one, which every rank moves by itself."""

    def __init__(self, rank: int, size: int, place: str) -> None:
        from loosestep import _core

        self.core, self.rank, self.size, self.place = _core, rank, size, place
        self.host = _core.Host(f"{place}/host", size, rank, False)

    def barrier(self) -> None:
        self.done(self.host.barrier(PATIENCE))

    def all_reduce(self, x: Any) -> Step:
        return lambda: self.done(self.host.all_reduce(x, "sum", 1.0, PATIENCE))

    def elastic(self, x: Any) -> Step:
        center = self.core.HostCenter(f"{self.place}/center{x.size}", x.size, "float32", False)
        return (lambda: center.elastic(x, RATE, self.rank)) if self.rank else lambda: None

    @staticmethod
    def done(said: str) -> None:
        if said != "done":
            raise RuntimeError(f"a collective ended as {said!r}")


class MPI:
    """In place, through mpi4py; the center's rank serves the other one."""

    def __init__(self) -> None:
        from mpi4py import MPI

        self.mpi, self.comm = MPI, MPI.COMM_WORLD
        self.rank, self.size = self.comm.Get_rank(), self.comm.Get_size()

    def barrier(self) -> None:
        self.comm.Barrier()

    def all_reduce(self, x: Any) -> Step:
        return lambda: self.comm.Allreduce(self.mpi.IN_PLACE, x, self.mpi.SUM)

    def elastic(self, x: Any) -> Step:
        return self.exchange(x) if self.rank else self.serve(np.zeros_like(x))

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

    def all_reduce(self, x: Any) -> Step:
        tensor = self.torch.from_numpy(x)
        return lambda: self.dist.all_reduce(tensor)


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
    x = pattern * (library.rank + 1)
    step = getattr(library, kind)(x)
    library.barrier()
    step()
    want = pattern * sum(range(1, library.size + 1))
    if kind == "elastic":
        want = x if library.rank == 0 else pattern * (1 - RATE) * 2
    wrong = (
        "" if np.array_equal(x, want) else f"rank {library.rank}: {kind} of {n} gave {x[:5]}, wanted {want[:5]}"
    )
    x[:] = 0
    return step, wrong


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


def main() -> None:
    address, name, *own = sys.argv[1:]
    library: Any = (
        MPI() if name == "mpi" else {"loosestep": Loosestep, "gloo": Gloo}[name](int(own[0]), int(own[1]), own[2])
    )
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


if __name__ == "__main__":
    main()
