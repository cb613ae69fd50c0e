"""Splash between processes: the bits of the simulator, and errors that name the sample in every process."""

from __future__ import annotations

import os
from pathlib import Path

from tests.mpi.jobs import ended, needs_mpi, script

ROOT = Path(__file__).parents[2]
RANK = """
import numpy as np
import loosestep as ls
from loosestep import splash
from tests.papers.test_splash import ROWS, TOKENS, TOPICS, broken, document_of, squared

def topics(on, words=300):
    return splash.run(TOPICS.process, TOKENS[:words], TOPICS.variables(), passes=2, rounds=2, group=document_of,
        on=on, loss=TOPICS.loss, every=2)

apart, alike = topics(ls.MPI()), topics(ls.Simulated(2))
assert all((apart.variables[name] == alike.variables[name]).all() for name in ("words", "topics"))
assert [at.metrics for at in apart.history] == [at.metrics for at in alike.history]
mine = {key for key in alike.local if key % 2 == ls.MPI().rank}
assert set(apart.local) == mine and all((apart.local[k]["counts"] == alike.local[k]["counts"]).all() for k in mine)
print("the same bits")
try:
    topics(ls.MPI(), 300 - ls.MPI().rank)
except Exception as error:
    assert "worker 1 has strategy" in str(error) and "samples=299" in str(error), error
    print("they differ")
try:
    splash.run(broken, ROWS, {"w": np.zeros(3)}, on=ls.MPI())
except Exception as error:
    assert "worker 1 failed in round 1, at sample 5: ValueError: 'v' is not declared" in str(error), error
    print("named")
"""


@needs_mpi
def test_processes_give_the_bits_of_virtual_time_and_name_what_failed(tmp_path: Path) -> None:
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    job = ended("-n", 2, script(tmp_path, RANK), environment={**os.environ, "PYTHONPATH": path})
    assert job.process.returncode == 0, job.out + job.err
    assert [job.out.count(words) for words in ("the same bits", "they differ", "named")] == [2, 2, 2]
