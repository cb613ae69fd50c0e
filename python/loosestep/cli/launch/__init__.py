"""Starts a program on N ranks: finds MPI, sets what it needs, passes signals on, leaves no process behind."""

from loosestep.cli.launch.job import Job, Limits
from loosestep.cli.launch.mpiexec import NoMpi, alone, find, local

__all__ = ["Job", "Limits", "NoMpi", "find", "launch"]


def launch(program: list[str], ranks: int, hosts: str | None, tag: bool, limits: Limits, wire: str = "mpi") -> int:
    """Run a program on that many ranks, to its end; the exit code is 0 if every rank's was.

    program: a command, the same on every rank.
    hosts: as mpiexec takes them, "one:4,two:4"; None is this machine.
    tag: whether each line of output begins with its rank.
    limits: the deadline, after which the job is ended with exit code 124, and how long ranks outlive one that
        failed: time to notice, to say so and to save (5 s at most if it failed before its run had begun).
    wire: what joins the ranks, "mpi" or "zmq", which starts them on this machine without an mpiexec.

    Raises NoMpi where there is no mpiexec, or one of an unknown kind, or no pyzmq where that is wanted.
    """
    mpi = find() if wire == "mpi" else local()
    command, environment = mpi.command(program, ranks, hosts, tag), mpi.environment(ranks)
    return Job(mpi, command, environment, limits, alone=wire == "zmq" or alone(hosts)).carry_out()
