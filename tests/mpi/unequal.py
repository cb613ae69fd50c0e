"""A job on two hosts of two workers, of whom one asks for something else: python unequal.py WHAT RANK."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
from tests.contract.scripted import Ask
from tests.mpi.between import Processes

import loosestep as ls
from loosestep.requests import AllReduce, Barrier, Broadcast, Request
from loosestep.requests.worker import Worker

what, who = sys.argv[1], int(sys.argv[2])


def script(worker: Worker) -> Iterator[Request]:
    odd = worker.rank == who
    yield AllReduce(worker.params)
    if what == "size":
        yield AllReduce(worker.params[: 5 if odd else 6])
    if what == "op":
        yield AllReduce(worker.params, op="max" if odd else "sum")
    if what == "kind":
        yield Broadcast(worker.params) if odd else AllReduce(worker.params)
    if what == "number" and not odd:
        yield Barrier()


zero = lambda x, batch: np.zeros_like(x)  # noqa: E731
ls.run(Ask(script), zero, np.zeros(6), lambda rank, n: iter([0.0]), on=Processes(hosts=[2, 2]))
print("done")
