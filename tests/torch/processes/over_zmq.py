"""One rank of a job under mpiexec whose optimizers are joined by ZeroMQ; MPI compares what came.

mpiexec -n 2 python over_zmq.py ADDRESS [HOSTS]
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from mpi4py import MPI
from tests.torch.processes import ranks_several

import loosestep as ls
from loosestep.torch import setup, wrap

if __name__ == "__main__":
    address, hosts, *cases = sys.argv[1:]
    place = {"RANK": MPI.COMM_WORLD.rank, "RANKS": MPI.COMM_WORLD.size, "ADDRESS": address, "KEY": "a secret"}
    os.environ.update({f"LOOSESTEP_{name}": str(value) for name, value in place.items()})
    on = ls.ZMQ(hosts=tuple(map(int, hosts.split(",")))) if hosts else ls.ZMQ()
    assert isinstance(setup.launched(), ls.ZMQ)
    setattr(wrap, "launched", lambda: on)  # noqa: B010 - what `on=` means where it is left out
    for name in cases or ranks_several.CASES:
        print(f"rank {ranks_several.CASES[name]()}: {name} ok", flush=True)
