"""The simulated network: what a message costs. A worker sends one message at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from loosestep import _core
from loosestep.foundation import checks
from loosestep.lowering import forms
from loosestep.requests.links import Links
from loosestep.transports.simulated.prices import Prices

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


class Network(_core.Network):
    """Latency in seconds and bandwidth in bytes a second per link; the center's link is finite both ways.

    worker_bandwidth: of each worker's link to the center; by default the largest of its links.
    center_bandwidth: of the center's; by default the largest of those.
    prices: what messages cost besides. hosts: the ranks of each, whose messages to others share one link.
    """

    def __init__(
        self,
        size: int,
        latency: PerLink,
        bandwidth: PerLink,
        center_bandwidth: float | None = None,
        worker_bandwidth: float | None = None,
        prices: Prices | None = None,
        hosts: Sequence[Sequence[int]] = (),
    ) -> None:
        delay = per_link("latency", latency, size, zero=True)
        speed = per_link("bandwidth", bandwidth, size, zero=False)
        own = farthest(speed) if worker_bandwidth is None else [worker_bandwidth] * size
        self.to_center = farthest(delay)  # a table's center is as far as the farthest peer
        host_of = [place for place, host in enumerate(hosts) for _ in host]
        small = (prices or Prices()).native(host_of)
        super().__init__(delay, speed, self.to_center, own, center_bandwidth or max(own), **small)
        self.size, self.latency, self.bandwidth, self.worker_bandwidth = size, delay, speed, own

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

    def average(self, count: int, itemsize: int, hosts: Sequence[Sequence[int]] = ()) -> float:
        """Return the seconds of an allreduce that all workers ask for at once; 0 for one worker."""
        links = self.links(hosts)
        if links is None:
            return 0.0
        form = forms.of_all_reduce(self.size, count * itemsize, links)
        nothing = [0.0] * self.size
        ranks = range(self.size)
        return max(self.all_reduce(count, itemsize, ranks, nothing, whole=form.whole, at_once=form.at_once))


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
