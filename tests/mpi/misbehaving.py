"""A job in which rank 1 misbehaves at its 20th step: python misbehaving.py HOW FOLDER STEPS [HOSTS]."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import loosestep as ls
from loosestep.requests import AllReduce

how, folder, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
hosts = [int(word) for word in sys.argv[4].split(",")] if len(sys.argv) > 4 else None
WIDTH, AT, STEP = 64, 20, 0.01
rank, done = -1, 0


def stop_for_a_while() -> None:
    me = os.getpid()
    bare = {"PATH": os.environ["PATH"]}  # it outlives a job that does not wait, and is no process of it
    subprocess.Popen(["sh", "-c", f"sleep 20; kill -CONT {me}"], env=bare)
    os.kill(me, signal.SIGSTOP)


def fail() -> None:
    raise ArithmeticError("boo")


def allocate_too_much() -> None:
    np.ones(1 << 60, np.uint8)


def exhaust_memory() -> None:
    """As much as ulimit -v allows; where the kernel itself ends a process, it is by SIGKILL: the row `killed`."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), resource.RLIM_INFINITY))
    kept = [np.ones(1 << 20) for _ in range(1000)]
    raise AssertionError(f"there is no limit to {len(kept)} blocks")


@dataclass(frozen=True, repr=False)
class Skipping(ls.LocalSGD):
    """Rank 1 leaves out the fifth average."""

    def round(self, worker: Any, state: Any) -> Any:
        for request in super().round(worker, state):
            if not (how == "skips" and worker.rank == 1 and worker.round == 5 and isinstance(request, AllReduce)):
                yield request


def stay_away() -> None:
    time.sleep(float(os.environ.get("BUSY", "15")))


def hold_python() -> None:
    """Native code that does not give the interpreter back."""
    ctypes.PyDLL(None).sleep(13)


ACTS = {
    "held": hold_python,
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "stopped": stop_for_a_while,
    "busy": stay_away,
    "late": stay_away,
    "raises": fail,
    "exits": lambda: sys.exit(3),
    "no memory": allocate_too_much,
    "little memory": exhaust_memory,
}


def batches(mine: int, size: int) -> Any:
    global rank
    rank = mine
    random = np.random.default_rng(rank)
    return (random.standard_normal((2, WIDTH + (how == "longer" and rank == 1))) for _ in range(steps))


def gradient(x: Any, batch: Any) -> Any:
    global done
    done += 1
    time.sleep(STEP)
    if done == 1:
        print("going", flush=True)
    if rank == 1 and done == AT and how in ACTS:
        ACTS[how]()
    return x - batch.mean(axis=0)


def forget_the_launcher() -> None:
    """Every process is a world of its own, as when mpiexec and mpi4py belong to different MPIs."""
    for name in [name for name in os.environ if name.startswith(("OMPI_", "PMI", "PRTE_", "HYDRA_", "MPIR_"))]:
        del os.environ[name]


def is_rank_1() -> bool:
    names = ("LOOSESTEP_RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK")
    return next((os.environ[name] for name in names if name in os.environ), None) == "1"


Processes = ls.ZMQ if "LOOSESTEP_ADDRESS" in os.environ else ls.MPI  # of whatever has started this process
odd = is_rank_1()
if how == "alone":
    forget_the_launcher()
start = np.ones(WIDTH + (how == "longer" and odd), np.float32 if how == "other type" and odd else np.float64)
period = 5 if how == "other strategy" and odd else 4
late = "LATE" in os.environ  # an average is under way while they compute
result = ls.run(
    ls.CoCoDSGD(period) if late else Skipping(period), gradient, start, batches, optimizer=ls.SGD(0.05),
    on=Processes(heartbeat_timeout=10, deadline=5 if how == "late" else 600, hosts=hosts),
    checkpoint=folder, checkpoint_every=8, resume=True,
)  # fmt: skip
print("done", result.steps, flush=True)
