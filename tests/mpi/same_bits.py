"""A job that any launcher starts: prints what two strategies come to, as a digest. `on=` is left out.

python same_bits.py, or `python same_bits.py spawn PORT` and `launch`, which start two processes by themselves; the
first by torch.multiprocessing.spawn where torch is there.
"""

from __future__ import annotations

import hashlib
import importlib.util
import multiprocessing
import os
import sys
from typing import Any

import numpy as np

import loosestep as ls


def digest() -> str:
    """Return what all ranks come to."""
    found = hashlib.sha256()
    for strategy in (ls.LocalSGD(4), ls.AllReduceSGD()):

        def batches(rank: int, size: int) -> Any:
            assert size == 2
            random = np.random.default_rng(rank)
            return (random.standard_normal((3, 5000)) for _ in range(30))

        result = ls.run(
            strategy, lambda x, rows: x - rows.mean(axis=0), np.ones(5000), batches, optimizer=ls.Nesterov(0.1)
        )
        found.update(result.params.tobytes())
    return found.hexdigest()


def spawned(rank: int, port: str) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    print("bits", digest(), flush=True)


def main() -> None:
    how = sys.argv[1] if len(sys.argv) > 1 else ""
    if how == "spawn":
        if importlib.util.find_spec("torch"):
            importlib.import_module("torch.multiprocessing").spawn(spawned, args=(sys.argv[2],), nprocs=2)
            return
        context = multiprocessing.get_context("spawn")
        processes = [context.Process(target=spawned, args=(rank, sys.argv[2])) for rank in range(2)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
    elif how == "launch":
        print(*(f"bits {each}" for each in ls.launch(digest, 2)), sep="\n")
    else:
        print("bits", digest(), flush=True)


if __name__ == "__main__":
    main()
