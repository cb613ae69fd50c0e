"""Copies that `os.fork` makes of a process whose workers are threads: they end, and nobody else notices."""

from __future__ import annotations

import subprocess
import sys
from itertools import cycle

import pytest

FORKING = """
import os, sys, warnings
import numpy as np
import loosestep as ls
warnings.simplefilter("ignore")
codes = []
def gradient(x, batch):
    if batch == 7:
        pid = os.fork()
        if pid == 0:
            {act}
        else:
            codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    return x - batch
result = ls.run({strategy}, gradient, np.zeros(3), lambda rank, size: iter(range(9 + rank)), on=ls.{on})
print("done", result.steps, sorted(codes), flush=True)
"""
ACTS = {"sys.exit(0)": 0, "sys.exit(3)": 3, "raise SystemExit('boo')": 1, "raise ValueError('boo')": 1, "pass": 1}
STRATEGIES = ["ls.LocalSGD(2)", "ls.EASGD(2)", "ls.CDSGD()"]


@pytest.mark.parametrize(("act", "strategy"), list(zip(ACTS, cycle(STRATEGIES))))
def test_a_copy_of_threads_ends_by_itself(act: str, strategy: str) -> None:
    """Also where it would go on as if it were the worker: the others, whom it would wait for, are not there."""
    text = FORKING.format(act=act, strategy=strategy, on="Threads(3)")
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"done 11 {[ACTS[act]] * 3}\n", done.stderr
    if act == "pass":
        assert "is a copy (os.fork) of that of worker" in done.stderr
    assert "boo" in done.stderr or "boo" not in act
