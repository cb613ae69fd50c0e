"""Signs of life between hosts: datagrams from a thread of the core, beside the wire and beside Python."""

from __future__ import annotations

import time
from math import inf
from typing import TYPE_CHECKING, Any

from loosestep import _core
from loosestep.foundation.errors import TimedOut

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loosestep.transports.processes.progress import BlockingCalls
    from loosestep.transports.processes.wire import Wire

FIRST_BEAT = 10.0  # seconds for a heartbeat to come from every other host


class UdpHeartbeat:
    """The heartbeat of this process for those of other hosts. It asks neither the wire nor Python."""

    def __init__(self, wire: Wire) -> None:
        self.pulse = _core.Pulse(wire.rank, wire.size, wire.local)
        self.addresses = ["127.0.0.1"] if wire.local else self.pulse.addresses()

    def open(self, calls: BlockingCalls, others: Sequence[int]) -> None:
        """Send to the ranks of other hosts from now on, and block until each was heard; every rank calls it."""
        pulse = self.pulse
        ends = calls.all_gather_object("heartbeat", lambda: [pulse.key.hex(), self.addresses, pulse.port])()
        for rank in others:
            key, addresses, port = ends[rank]
            pulse.reach(bytes.fromhex(key), addresses, port)
        until = time.monotonic() + FIRST_BEAT
        calls.until("its first heartbeats", lambda: self.all_heard(calls.rank, others, ends, until))

    def all_heard(self, me: int, others: Sequence[int], ends: Sequence[Any], until: float) -> bool:
        """Return whether each was heard; raise TimedOut if one is overdue: a blocked port shows at once."""
        missing = [rank for rank in others if self.pulse.age(rank) == inf]
        if missing and time.monotonic() > until:
            words = [f"one of worker {rank} by UDP (it is at {', '.join(ends[rank][1])})" for rank in missing]
            raise TimedOut(me, "its first heartbeats", words, FIRST_BEAT)
        return not missing

    def last_heard(self, rank: int) -> float:
        """Return when (time.monotonic) the last beat of a rank came; -inf before the first."""
        return time.monotonic() - self.pulse.age(rank)

    def close(self) -> None:
        """Send no more."""
        self.pulse.close()
