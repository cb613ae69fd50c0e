"""Run by every rank: an example of a framework, several times in one process, since frameworks are slow to import.

    loosestep run -n 2 tests/system/framework_job.py lightning FOLDER

One rank alone takes the batches of two workers together. Each run writes to a folder of its own in FOLDER.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import ModuleType

from mpi4py import MPI

import loosestep

EXAMPLES = Path(__file__).parents[2] / "examples"
BATCH = {"huggingface": 8, "lightning": 8, "accelerate": 8, "timm": 4}


def run(name: str, strategy: str, *given: object) -> None:
    """Run an example as a script, with another strategy."""
    file = EXAMPLES / name / "train.py"
    text = file.read_text()
    assert "loosestep.LocalSGD(period=8)" in text
    sys.modules["__main__"] = module = ModuleType("__main__")
    sys.argv = [str(file), *map(str, given)]
    exec(compile(text.replace("LocalSGD(period=8)", strategy), file, "exec"), vars(module))


def resumed(name: str, strategy: str, folder: Path) -> None:
    """Run it whole, and again from the middle on."""
    method = strategy.partition("(")[0]
    whole, parts = folder / f"{method}-whole", folder / f"{method}-parts"
    if name == "huggingface":  # the number of steps decides on the schedule: the last checkpoint is taken away
        run(name, strategy, "--out", whole)
        if MPI.COMM_WORLD.rank == 0:
            shutil.copytree(whole, parts, ignore=shutil.ignore_patterns("checkpoint-48", "trained", "lock"))
        MPI.COMM_WORLD.Barrier()
        run(name, strategy, "--out", parts, "--resume")
    else:
        run(name, strategy, "--out", whole, "--epochs", 4)
        run(name, strategy, "--out", parts, "--epochs", 2)
        run(name, strategy, "--out", parts, "--epochs", 4, "--resume")


def main(name: str, folder: Path) -> None:
    """Run what the tests compare."""
    ranks = loosestep.MPI().size
    if name == "lightning" and ranks == 1:  # let it deal rows in the order that it gives to two
        from loosestep.torch.frameworks.lightning import LoosestepStrategy

        setattr(LoosestepStrategy, "is_distributed", True)  # noqa: B010 - a property, for type checkers
    run(
        name,
        "AllReduceSGD()",
        "--out",
        folder / f"ranks-{ranks}",
        "--dropout",
        0,
        "--batch",
        BATCH[name] * 2 // ranks,
    )
    if ranks > 1:
        for strategy in ("AllReduceSGD()", "LocalSGD(period=6)"):
            resumed(name, strategy, folder)
        run(name, "EASGD(period=4)", "--out", folder / "easgd")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
