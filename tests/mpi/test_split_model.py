"""The halves of a model in processes give the bits that they give in threads."""

from __future__ import annotations

import os
from pathlib import Path

from tests.mpi.jobs import ended, needs_mpi, script

RANK = """
import loosestep as ls
from tests import split_convnet as net
for hosts in (None, [2, 2]):
    def trained(on):
        return ls.run_split(net.half, net.split(net.start()), net.batches, optimizer=ls.Nesterov(0.05), on=on)
    here, threads = trained(ls.MPI(hosts=hosts)), trained(ls.Threads(4))
    assert [part.tobytes() for part in here.parts] == [part.tobytes() for part in threads.parts]
    assert here.losses.tobytes() == threads.losses.tobytes()
    assert here.gradient_bytes == threads.gradient_bytes
    assert here.exchange_bytes == threads.exchange_bytes
print("the same bits")
"""


@needs_mpi
def test_processes_give_the_bits_of_threads(tmp_path: Path) -> None:
    paths = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    job = ended("-n", 4, script(tmp_path, RANK), environment={**os.environ, "PYTHONPATH": paths})
    assert job.process.returncode == 0, job.out + job.err
    assert job.out.count("the same bits") == 4
