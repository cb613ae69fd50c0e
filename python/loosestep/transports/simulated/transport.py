"""A simulated cluster as a value: its workers, links and steps, and what messages cost."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import cycle
from math import inf
from os import PathLike
from typing import ClassVar, Literal, cast

import numpy as np

from loosestep.foundation import checks
from loosestep.lowering import hierarchical
from loosestep.transports.base import Session, Transport
from loosestep.transports.simulated.network import Network, PerLink, within
from loosestep.transports.simulated.prices import Prices
from loosestep.transports.simulated.probe import Probe
from loosestep.transports.simulated.session import SimulatedSession
from loosestep.transports.simulated.stragglers import Constant, Measured, Speed, Stragglers

MEMORY_LATENCY, MEMORY_BANDWIDTH = 1e-6, 1e10  # of links within a host
MOST, MOST_ON_HOSTS = 1_000_000, 4096  # workers; on hosts a link has a place in an n x n table


@dataclass(frozen=True, repr=False)
class Simulated(Transport):
    """n simulated workers on a virtual clock; bit for bit reproducible from its seed.

    n: workers.
    step_time, sample_time: seconds of one gradient step, and what each sample of its batch adds.
    latency, bandwidth: seconds a message, bytes a second; a number, or an n x n table (sender, receiver).
    center_bandwidth: bytes a second of the center's own link, each way (by default the largest of the links);
        pushes and pulls queue there in the order in which they arrive.
    stragglers: the distribution of step durations, from `loosestep.stragglers`: Constant() by default.
    seed: of the durations (by default the run's).
    hosts: how many workers live on each host, in rank order; collectives are then two-level (each host folds,
        then the hosts do), with the bits of `MPI` on such hosts. By default every worker has its own.
    host_latency, host_bandwidth: of links within a host, 1e-6 and 1e10 by default: its memory. With hosts, numbers
        for `latency` and `bandwidth` are of links between hosts; tables hold both, and need nothing else. Workers
        of a host share its link to others.
    prices: what messages and updates cost besides, `loosestep.Prices()` by default: nothing.
    center: where shared variables are: 'apart', on a machine of their own; or 'shards', a part with each worker,
        as `MPI` and `ZMQ` keep them between hosts: a worker's changes of one variable then wait for each other.

    A message takes latency + bytes/bandwidth, and a worker sends one at a time; updates take no time. From when
    the last worker asks an allreduce takes latency + (n-1) bytes/bandwidth where that is less (whole vectors, of
    up to 4 MiB to each worker), else 2 latency + 2 (n-1)/n bytes/bandwidth; from 16 workers on up to 5% more on
    narrow links. Where links differ, the slowest decide.
    """

    virtual: ClassVar[bool] = True
    n: int
    step_time: float = 1e-3
    latency: PerLink = 1e-5
    bandwidth: PerLink = 1.25e9
    center_bandwidth: float | None = None
    stragglers: Stragglers = field(default_factory=Constant)
    seed: int | None = None
    hosts: tuple[int, ...] | None = None
    host_latency: float | None = None
    host_bandwidth: float | None = None
    sample_time: float = 0.0
    prices: Prices = field(default_factory=Prices)
    center: Literal["apart", "shards"] = "apart"

    @classmethod
    def example(cls) -> Simulated:
        return cls(4)

    @classmethod
    def like(cls, probe: Probe | str | PathLike[str]) -> Simulated:
        """Return the cluster that `loosestep.probe` has measured, or that a file of `loosestep probe` describes.

        Its links, prices and steps are the measured ones; a worker's steps are drawn again from its own.

        >>> import loosestep as ls
        >>> cluster = ls.Simulated(2, step_time=0.01, latency=0.005, bandwidth=1.25e7)
        >>> ls.Simulated.like(ls.probe(cluster)).scaled(64).n
        64
        """
        found = probe if isinstance(probe, Probe) else Probe.read(probe)
        alone = len(found.hosts) == 1 or len(found.hosts) == found.n  # all on one, or each on its own
        step_time = found.step_time
        factors = tuple(
            tuple(round(each / step_time, 4) if step_time else 1.0 for each in mine) for mine in found.steps
        )
        return cls(
            found.n,
            step_time=step_time,
            latency=found.latency,
            bandwidth=found.bandwidth,
            stragglers=Measured(factors) if any(len(set(mine)) > 1 for mine in factors) else Constant(),
            hosts=None if alone else found.hosts,
            host_latency=None if alone else found.host_latency,
            host_bandwidth=None if alone else found.host_bandwidth,
            prices=found.prices,
            center=found.center,
        )

    def scaled(self, n: int) -> Simulated:
        """Return a cluster of n workers of the same kind: the same links and prices, and hosts of the same sizes.

        Raises ValueError where links are said one by one, in a table.
        """
        if np.ndim(self.latency) or np.ndim(self.bandwidth):
            raise ValueError("links that are said one by one, in a table, have no larger cluster of their kind")
        hosts: tuple[int, ...] | None = None
        if self.hosts is not None:
            left, sizes = checks.integer("n", n), cycle(self.hosts)
            hosts = ()
            while left:
                hosts += (min(left, next(sizes)),)
                left -= hosts[-1]
        return replace(self, n=n, hosts=hosts)

    def __post_init__(self) -> None:
        checks.integer("n", self.n)
        checks.at_most(
            "n" if self.hosts is None else "n, with hosts,", self.n, MOST if self.hosts is None else MOST_ON_HOSTS
        )
        checks.instance("stragglers", self.stragglers, Stragglers)
        if self.seed is not None:
            checks.integer("seed", self.seed, 0)
        for name in ("step_time", "sample_time"):
            checks.positive(name, getattr(self, name), zero=True)
        if self.center_bandwidth is not None and self.center_bandwidth != inf:
            checks.positive("center_bandwidth", self.center_bandwidth)
        checks.instance("prices", self.prices, Prices)
        checks.one_of("center", self.center, ("apart", "shards"))
        if self.hosts is not None:
            object.__setattr__(self, "hosts", hierarchical.checked(self.hosts))
        self.network()

    @property
    def size(self) -> int:
        return self.n

    def network(self) -> Network:
        """Return a new, idle network."""
        latency = within("latency", self.latency, self.host_latency, MEMORY_LATENCY, self.groups())
        bandwidth = within("bandwidth", self.bandwidth, self.host_bandwidth, MEMORY_BANDWIDTH, self.groups())
        elsewhere = self.hosts is not None and not np.ndim(self.bandwidth)  # the center, on no worker's host
        outside = float(cast("float", self.bandwidth)) if elsewhere else None
        return Network(self.n, latency, bandwidth, self.center_bandwidth, outside, self.prices, self.groups())

    def groups(self) -> hierarchical.Hosts:
        """Return the ranks of every host."""
        return () if self.hosts is None else hierarchical.split(self.hosts, self.n)

    def open(self, seed: int = 0) -> Session:
        used = seed if self.seed is None else self.seed
        speeds = [Speed(self.stragglers, rank, used) for rank in range(self.n)]
        price, sharded = (self.step_time, self.sample_time), self.center == "shards"
        return SimulatedSession(self.network(), speeds, price, self.prices, hosts=self.groups(), sharded=sharded)
