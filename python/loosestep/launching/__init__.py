"""Starts a program on N ranks: finds the MPI, gives it what it needs, passes signals on, leaves no orphan."""

from loosestep.launching.job import Job
from loosestep.launching.mpiexec import NoMpi, find

__all__ = ["Job", "NoMpi", "find", "launch"]


def launch(program: list[str], ranks: int, hosts: str | None, deadline: float | None, tag: bool) -> int:
    """Run a program on that many ranks, to its end; the exit code is 0 if every rank's was.

    program: a command, the same on every rank.
    hosts: as mpiexec takes them, "one:4,two:4"; None is this machine.
    deadline: seconds after which the job is ended, with exit code 124; None is no limit.
    tag: whether each line of output begins with its rank.

    Raises NoMpi where there is no mpiexec, or one of an unknown kind.
    """
    mpi = find()
    return Job(mpi, mpi.command(program, ranks, hosts, tag), mpi.environment(ranks), deadline).carry_out()
