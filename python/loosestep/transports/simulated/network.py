"""The simulated network: what a message costs. A worker sends one message at a time; receiving is not limited."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from loosestep.foundation import checks
from loosestep.lowering import forms
from loosestep.lowering.forms import Form
from loosestep.requests.links import Links

if TYPE_CHECKING:
    from loosestep.requests import Buffer

PerLink: TypeAlias = "float | Sequence[Sequence[float]]"


def per_link(name: str, value: Any, size: int, *, zero: bool) -> NDArray[np.float64]:
    """Return a number, or an n x n table (row: sender, column: receiver), as a table without copies."""
    table = np.asarray(value, np.float64)
    if table.ndim == 0 and not np.isinf(table):
        checks.positive(name, float(table), zero=zero)
    if table.ndim not in (0, 2) or (table.ndim == 2 and table.shape != (size, size)):
        raise ValueError(f"{name} must be a number or a {size} x {size} table, got shape {table.shape}")
    if np.isnan(table).any() or (table < 0).any() or (not zero and (table == 0).any()):
        raise ValueError(f"{name} must be {'at least' if zero else 'above'} 0 on every link")
    return np.broadcast_to(table, (size, size))


def farthest(links: NDArray[np.float64]) -> list[float]:
    """Return the largest value of each worker's links, without a look-up of n x n where all are one number."""
    if not any(links.strides):
        return [float(links[0, 0])] * len(links)
    largest: list[float] = links.max(axis=1).tolist()
    return largest


class Network:
    """Latency in seconds and bandwidth in bytes a second per link; the center's link is finite both ways."""

    def __init__(self, size: int, latency: PerLink, bandwidth: PerLink, center_bandwidth: float) -> None:
        self.size = size
        self.latency = per_link("latency", latency, size, zero=True)
        self.bandwidth = per_link("bandwidth", bandwidth, size, zero=False)
        self.to_center = farthest(self.latency)  # a table's center is as far as the farthest peer
        self.center_bandwidth = center_bandwidth
        self.worker_bandwidth = farthest(self.bandwidth)
        self.free = array("d", bytes(8 * size))  # when a worker's own link is free again
        self.center_in = self.center_out = 0.0
        self.delivered = array("d", bytes(8 * size))  # when what a worker pushed last is at the center

    def push(self, source: int, nbytes: int, now: float) -> tuple[float, float]:
        """Send from a worker to the center; return (when the worker is done, when the center has it all)."""
        begin = max(now, self.free[source])
        sent = self.free[source] = begin + nbytes / self.worker_bandwidth[source]
        latency = self.to_center[source]
        whole = max(self.center_in, begin + latency) + nbytes / self.center_bandwidth
        self.center_in = self.delivered[source] = max(whole, sent + latency)
        return sent, self.center_in

    def asked(self, source: int, now: float) -> float:
        """Return when a worker's request is at the center: not before what it has pushed."""
        there: float = now + self.to_center[source]
        return max(there, self.delivered[source])

    def pull(self, nbytes: int, now: float) -> tuple[float, float]:
        """Answer a request at the center that arrives now; return (when it reads the value, when all has left)."""
        begin = max(now, self.center_out)
        self.center_out = begin + nbytes / self.center_bandwidth
        return begin, self.center_out

    def links(self, hosts: Sequence[Sequence[int]] = ()) -> Links | None:
        """Return the largest latency and the smallest bandwidth of links between hosts; None without any."""
        if self.size < 2 or len(hosts) == 1:
            return None
        if not any(self.latency.strides) and not any(self.bandwidth.strides):
            return Links(float(self.latency[0, 0]), float(self.bandwidth[0, 0]))
        host_of = (
            np.repeat(np.arange(len(hosts)), [len(host) for host in hosts]) if hosts else np.arange(self.size)
        )
        between = host_of[:, None] != host_of[None, :]
        return Links(float(self.latency[between].max()), float(self.bandwidth[between].min()))

    def all_reduce(
        self, bufs: Sequence[Buffer], ranks: Sequence[int], arrivals: Sequence[float], form: Form
    ) -> NDArray[np.float64]:
        """Return when each of `ranks` has the result, by the recursion of the messages of a form.

        Hop k of a phase: member i sends to i + k and receives from i - k. It goes on when all hops that are made
        at once are done. What a worker still has to send of an earlier one goes first (in the event form the two
        take turns).
        """
        n, rank = len(ranks), np.asarray(ranks)
        edges = np.array([bufs[0].size * part // n for part in range(n + 1)])
        chunk = np.diff(edges) * float(bufs[0].itemsize)
        at, me = np.maximum(np.array(arrivals, np.float64), [self.free[one] for one in ranks]), np.arange(n)
        free = at.copy()
        if form is Form.WHOLE:
            chunk = np.full(n, float(bufs[0].nbytes))
        for gathering in [False] if form is Form.WHOLE else [False, True]:
            for hops in forms.hops(n, form):
                sent = whole = at
                for hop in hops:
                    to, source = (me + hop) % n, (me - hop) % n
                    busy = (chunk if gathering else chunk[to]) / self.bandwidth[rank, rank[to]]
                    sent, free = sent + busy, free + busy
                    whole = np.maximum(whole, sent[source] + self.latency[rank[source], rank])
                at = np.maximum(sent, whole)
        for one, until in zip(ranks, free.tolist(), strict=True):
            self.free[one] = until
        return at


def within(
    name: str, between: PerLink, inside: float | None, default: float, hosts: Sequence[Sequence[int]]
) -> PerLink:
    """Return a table of a number for links between hosts and another for links within a host."""
    if inside is not None:
        checks.positive(f"host_{name}", inside)
        if not hosts or np.ndim(between):
            raise ValueError(f"host_{name} needs hosts, and one number for {name} between them")
    if not hosts or np.ndim(between):
        return between
    of_rank = np.repeat(np.arange(len(hosts)), [len(host) for host in hosts])
    same = of_rank[:, None] == of_rank[None, :]
    table: PerLink = np.where(same, default if inside is None else inside, between).tolist()
    return table
