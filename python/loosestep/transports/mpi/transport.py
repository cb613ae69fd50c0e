"""The transport of the processes that an MPI launcher started."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loosestep.foundation import checks
from loosestep.lowering import hierarchical
from loosestep.transports.mpi.channel import MPIChannel
from loosestep.transports.mpi.membership import checked_world, this_process
from loosestep.transports.processes import links
from loosestep.transports.processes.launchers import local_rank, tell_guard
from loosestep.transports.processes.session import WiredTransport

if TYPE_CHECKING:
    from loosestep.transports.processes.session import Joined


@dataclass(frozen=True, repr=False)
class MPI(WiredTransport):
    """The processes that `mpiexec -n N` or `loosestep run -n N` started, one worker each.

    deadline: seconds for which a worker may compute while others wait for it, before its run begins too.
    heartbeat_timeout: seconds without any sign of life after which a worker counts as dead.
    hosts: how many workers live on each host, in rank order, as [2, 2]: those of one share memory. By default this
        is found out; said, it splits one machine, so that what happens between hosts can be tried there.
    latency, bandwidth: seconds of a message between hosts, and bytes a second, by which collectives choose their
        form. By default they are measured when the first run on several hosts begins.
    """

    deadline: float = 600.0
    heartbeat_timeout: float = 10.0
    hosts: tuple[int, ...] | None = None
    latency: float | None = None
    bandwidth: float | None = None

    def __post_init__(self) -> None:
        checks.positive("deadline", self.deadline)
        checks.positive("heartbeat_timeout", self.heartbeat_timeout)
        if self.hosts is not None:
            object.__setattr__(self, "hosts", hierarchical.checked(self.hosts))
        links.checked(self.latency, self.bandwidth)

    @property
    def size(self) -> int:
        return int(checked_world().size)

    @property
    def rank(self) -> int:
        return int(checked_world().rank)

    @property
    def local_rank(self) -> int:
        """Return the place of this process among those of its host, as `hosts` or its launcher says it."""
        if self.hosts is not None:
            return hierarchical.place(self.hosts, self.size, self.rank)
        return local_rank(os.environ) if self.size > 1 else 0

    def wire(self) -> Joined:
        forced = None if self.hosts is None else hierarchical.split(self.hosts, self.size)
        checked_world()
        channel = MPIChannel(this_process(), self.deadline)
        tell_guard("begun")  # from now on this rank's failure is heard by the others
        return channel, forced or channel.hosts
