"""What joins the processes that a launcher started: the transport that `on=` means where it is left out."""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING

from loosestep.transports.mpi import MPI
from loosestep.transports.processes.launchers import OF_MPI, check_alone, number, started_by_mpi
from loosestep.transports.serial import Serial
from loosestep.transports.zmq import ZMQ
from loosestep.transports.zmq.place import by_loosestep, told

if TYPE_CHECKING:
    from collections.abc import Callable

    from loosestep.transports.base import ProcessTransport


def joined() -> ProcessTransport | None:
    """Return what joins this process with those that its launcher started beside it; None where there are none.

    An MPI's launcher means MPI, if mpi4py is there; torchrun, srun and their like mean ZeroMQ, if pyzmq is. Raises
    RuntimeError where several were started and cannot be joined.
    """
    environment = os.environ
    if by_loosestep(environment) is not None:
        return ZMQ()
    known = [number(environment, name) for name in OF_MPI if name in environment]
    place, by_mpi = told(environment), started_by_mpi() and (not known or max(known) > 1)
    if by_mpi and (place is None or is_there("mpi4py")):
        return MPI()
    if place is not None and is_there("zmq"):
        return ZMQ()
    check_alone("nothing joins it with the others")
    return None


def launched(check_others: Callable[[], None] = lambda: None) -> ProcessTransport:
    """Return what joins this process with those started beside it, Serial() if it is meant to be alone.

    check_others: raises for what else may have started this process as one of several.
    """
    found = joined()
    if found is not None:
        return found
    if started_by_mpi():
        return MPI()
    check_others()
    return Serial()


def is_there(package: str) -> bool:
    """Return whether a package can be imported."""
    return importlib.util.find_spec(package) is not None
