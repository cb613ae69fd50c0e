"""Workers in processes, over ZeroMQ (pyzmq): no MPI is needed, and any launcher that numbers processes will do."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from loosestep.foundation import checks
from loosestep.lowering import hierarchical
from loosestep.transports.processes import links
from loosestep.transports.processes.launchers import local_rank, tell_guard
from loosestep.transports.processes.session import WiredTransport
from loosestep.transports.zmq.place import explicit, found

if TYPE_CHECKING:
    from loosestep.lowering.hierarchical import Hosts
    from loosestep.transports.processes.wire import Wire
    from loosestep.transports.zmq.place import Place


@dataclass(frozen=True, repr=False, init=False)
class ZMQ(WiredTransport):
    """Processes that find each other by the address of rank 0, one worker each.

    rank, size, address: which process this is, of how many, and where rank 0 can be met ("host:port"). By default
        this is found out: from `loosestep run --wire zmq`, `loosestep.launch`, RANK, WORLD_SIZE, MASTER_ADDR and
        MASTER_PORT (torchrun and its like), or SLURM's variables.
    key: a secret text, the same in all processes: they then encrypt what they send and refuse everybody else. By
        default LOOSESTEP_KEY, which `loosestep run` and `launch` set; without one nothing is encrypted.
    deadline: seconds for which a worker may compute while others wait for it, before its run begins too.
    heartbeat_timeout: seconds without any sign of life after which a worker counts as dead.
    hosts, latency, bandwidth: as for `MPI`.
    """

    deadline: float = 600.0
    heartbeat_timeout: float = 10.0
    hosts: tuple[int, ...] | None = None
    place: Place | None = field(default=None, repr=False)
    key: str | None = field(default=None, repr=False)
    latency: float | None = None
    bandwidth: float | None = None

    def __init__(
        self, *, rank: int | None = None, size: int | None = None, address: str | None = None,
        key: str | None = None, deadline: float = 600.0, heartbeat_timeout: float = 10.0,
        hosts: tuple[int, ...] | None = None, latency: float | None = None, bandwidth: float | None = None,
    ) -> None:  # fmt: skip
        checks.positive("deadline", deadline)
        checks.positive("heartbeat_timeout", heartbeat_timeout)
        hosts = None if hosts is None else hierarchical.checked(hosts)
        links.checked(latency, bandwidth)
        values = (deadline, heartbeat_timeout, hosts, explicit(rank, size, address), key, latency, bandwidth)
        for name, value in zip(self.__dataclass_fields__, values, strict=True):
            object.__setattr__(self, name, value)

    @property
    def size(self) -> int:
        return (self.place or found()).size

    @property
    def rank(self) -> int:
        """Return the rank of this process."""
        return (self.place or found()).rank

    @property
    def local_rank(self) -> int:
        """Return the place of this process among those of its host, as `hosts` or its launcher says it."""
        place = self.place or found()
        if self.hosts is not None:
            return hierarchical.place(self.hosts, place.size, place.rank)
        return place.rank if place.local or place.size == 1 else local_rank(os.environ)

    def wire(self) -> tuple[Wire, Hosts]:
        forced = None if self.hosts is None else hierarchical.split(self.hosts, self.size)
        try:
            from loosestep.transports.zmq.channel import ZMQChannel
        except ImportError as error:
            raise ImportError(f"on=ZMQ() needs pyzmq: pip install 'loosestep[zmq]' ({error})") from error
        channel = ZMQChannel.of_this_process(self.place or found(), self.key, self.deadline)
        tell_guard("begun")  # from now on this rank's failure is heard by the others
        return channel, forced or channel.hosts
