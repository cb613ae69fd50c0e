"""The launcher's variables, which frameworks take as a command to join processes themselves."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

STARTS = ("OMPI_", "PMIX_", "PMI_", "MV2_", "MPI_", "SLURM_", "TORCHELASTIC_")
NAMES = frozenset(("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))


@contextmanager
def hidden_launcher() -> Iterator[None]:
    """Hide what MPI's launchers, SLURM and torchrun say of other processes in the environment, inside the block.

    Make a framework's own objects in it, after `parallel`: each then believes to be one process alone, and does
    not wrap the model in DDP.

    >>> import os
    >>> os.environ["OMPI_COMM_WORLD_SIZE"] = "2"
    >>> with hidden_launcher():
    ...     "OMPI_COMM_WORLD_SIZE" in os.environ
    False
    >>> os.environ.pop("OMPI_COMM_WORLD_SIZE")
    '2'
    """
    kept = {name: value for name, value in os.environ.items() if name in NAMES or name.startswith(STARTS)}
    for name in kept:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(kept)
