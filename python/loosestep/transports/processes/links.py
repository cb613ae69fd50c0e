"""How good the links between hosts are: said by the user, or measured when a job's first run on them begins."""

from __future__ import annotations

import time
from functools import partial
from math import inf
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from loosestep.foundation import checks
from loosestep.requests import Exchange
from loosestep.requests.links import Links
from loosestep.transports.matching import check_facts

if TYPE_CHECKING:
    from collections.abc import Callable

    from loosestep.lowering.hierarchical import Hosts
    from loosestep.transports.processes.mailbox import Operation
    from loosestep.transports.processes.progress import BlockingCalls

PINGS, TRIES = 5, 3
SIZES = 32 << 10, 512 << 10  # bytes; the longer one where the shorter takes no longer than
LONG = 0.02  # seconds
MEASURED: dict[Hosts, Links] = {}  # by this process, in an earlier run on the same hosts


def checked(latency: float | None, bandwidth: float | None) -> Links | None:
    """Return what the user says of the links between hosts; None where nothing is said."""
    if (latency is None) != (bandwidth is None):
        raise ValueError(
            "latency and bandwidth are said together, or both are measured: "
            f"got latency={latency}, bandwidth={bandwidth}"
        )
    if latency is None or bandwidth is None:
        return None
    checks.positive("latency", latency, zero=True)
    if bandwidth != inf:
        checks.positive("bandwidth", bandwidth)
    return Links(latency, bandwidth)


def agreed(calls: BlockingCalls, hosts: Hosts, said: Links | None) -> Links:
    """Return the same links on every rank: as said, as all know them from an earlier run, or measured now."""
    known = MEASURED.get(hosts)
    facts = {name: str(said and getattr(said, name)) for name in Links._fields}
    mine = {"facts": facts, "known": known}
    all_ = calls.all_gather_object("links", lambda: mine)()
    check_facts([each["facts"] for each in all_])
    if said is not None:
        return said
    if known is None or any(each["known"] != list(known) for each in all_):
        known = MEASURED[hosts] = measured(calls, hosts)
    return known


def measured(calls: BlockingCalls, hosts: Hosts, clock: Callable[[], float] = time.perf_counter) -> Links:
    """Return the links as they are in a ring of the hosts' first ranks, all of which send at once.

    Latency is half of the shortest of a few round trips, on the host where that is longest; bandwidth likewise, by
    messages of half a megabyte, or shorter ones where those take long.
    """
    leaders = [host[0] for host in hosts]

    def shortest(nbytes: int, count: int) -> float:
        """Return half of the seconds of a round trip, the shortest of `count`, where that is longest."""
        seconds = None
        if calls.rank in leaders:
            place = leaders.index(calls.rank)
            ends = leaders[place - 1], leaders[(place + 1) % len(leaders)]
            seconds = min(round_trip(calls, *ends, nbytes, clock) for _ in range(count)) / 2
        found = calls.all_gather_object(f"links {nbytes}", lambda: seconds)()
        return float(max(each for each in found if each is not None))

    latency = shortest(8, PINGS)
    for nbytes in SIZES:
        beyond = shortest(nbytes, TRIES) - latency
        if beyond > LONG:
            break
    return Links(latency, nbytes / max(beyond, nbytes / 1e12))


def round_trip(calls: BlockingCalls, before: int, after: int, nbytes: int, clock: Callable[[], float]) -> float:
    """Send to the rank after this one and get as many bytes back, as the rank before does with this one.

    What comes back was sent when this rank's message was there, so no rank's delay makes it look short.
    """
    content, room = np.zeros(nbytes, np.uint8), np.empty(nbytes, np.uint8)
    nobody: Any = SimpleNamespace(rank=calls.rank, round=0)  # no worker has begun
    began = clock()
    for to, source in ((after, before), (before, after)):
        operation = calls.engine.begin(Exchange([(to, content)], [(source, room)]), nobody)
        calls.until("measuring the links between hosts", partial(is_done, operation))
    return clock() - began


def is_done(operation: Operation) -> bool:
    """Return whether all parts of an exchange are done."""
    return not operation.left
