"""SD-FEEL: clusters of clients whose servers gossip."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from loosestep import ops
from loosestep.foundation import buffers, checks
from loosestep.requests import AllReduce, Broadcast, Fetch, Local, Mix, Push, Weights
from loosestep.strategies.base import Cost, State, Strategy, numbered
from loosestep.topologies.base import Topology
from loosestep.topologies.ring import Ring

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from loosestep.requests import Buffer, Request, Shared
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class SDFEEL(Strategy):
    """Clusters average often, their servers gossip seldom: y_d <- mean of cluster d, then y_d <- sum_e p_de y_e.

    P^T = I - 2 / (l_1 + l_(D-1)) L diag(m)^-1, L being the Laplacian of the servers' graph, m_d the clusters'
    shares of the data and l the eigenvalues of L diag(m)^-1 in decreasing order: sum_d m_d y_d, which is the
    consensus, is conserved, and P^k comes to it. Entries of P may be negative. A cluster is so many workers in
    rank order, the last may be smaller, and its first worker is its server. The mean of a cluster is weighted by
    the samples that each worker used since the last. One cluster is `FedAvg`; clusters of equal shares on a
    complete graph are `HierarchicalLocalSGD`.

    Asynchronous, clusters do not wait for each other: a server leaves y_d where others find it, and mixes what it
    finds, p_de = f(s_e) m_e over the sum of these for itself and its neighbours, f(s) = 1 / (2 (s + 1)), where s_e
    is by how many rounds of gossip e is behind.

    topology: the graph of the servers, symmetric; its weights do not count.
    clients: workers in a cluster.
    period: local steps between two averages of a cluster (tau_1).
    rounds: averages of a cluster between two rounds of gossip (tau_2).
    gossip: how often servers mix then (alpha); an asynchronous server mixes once.
    shares: of the data, one number for each cluster; by default as it has workers.
    mode: whether clusters meet in every round.

    A round sends 2 (k-1)/k d values a worker in 2 (k-1) messages in a cluster of k; one with gossip d values more
    from each server to each neighbour, `gossip` times, and d values to each other worker of a cluster.
    Asynchronous, a server leaves d values in 1 message in every round, and gossip is D numbers in 1 message and d
    values to each other worker.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 400)
    >>> result = ls.run(ls.SDFEEL(), lambda x, b: x - b, np.zeros(3), batches, on=ls.Simulated(4))
    >>> bool(abs(result.params - 2.5).max() < 1e-3)
    True

    Reference: Y. Sun, J. Shao, Y. Mao, J. H. Wang, J. Zhang, Semi-Decentralized Federated Edge Learning with Data
    and Device Heterogeneity, arXiv:2112.10313; asynchronous: arXiv:2112.04737 (both rules after secondary
    sources).
    """

    topology: Topology = field(default_factory=Ring)
    clients: int = 2
    period: int = 1
    rounds: int = 4
    gossip: int = 1
    shares: tuple[float, ...] | None = None
    mode: Literal["synchronous", "asynchronous"] = "synchronous"

    def __post_init__(self) -> None:
        checks.instance("topology", self.topology, Topology)
        if not self.topology.symmetric:
            raise ValueError(f"topology must be symmetric: whoever reads is read, got {self.topology!r}")
        for name in ("clients", "period", "rounds", "gossip"):
            checks.integer(name, getattr(self, name))
        for share in self.shares or ():
            checks.positive("every share", share)
        checks.one_of("mode", self.mode, ("synchronous", "asynchronous"))

    @property
    def synchronous(self) -> bool:  # type: ignore[override]
        """Return whether clusters meet."""
        return self.mode == "synchronous"

    @property
    def consensus_is(self) -> Literal["collective", "one-sided"]:  # type: ignore[override]
        """Return whether all take part: of clusters that do not meet, what servers have left is read."""
        return "collective" if self.synchronous else "one-sided"

    @property
    def consensus_in(self) -> str:  # type: ignore[override]
        """Return where the consensus lies in a checkpoint."""
        return "params" if self.synchronous else "state.left"

    @property
    def attends(self) -> bool:  # type: ignore[override]
        """Return whether the workers of a cluster wait for each other though clusters do not."""
        return self.mode == "asynchronous"

    def clusters(self, size: int) -> list[tuple[int, ...]]:
        """Return the ranks of each cluster."""
        return [tuple(range(first, min(first + self.clients, size))) for first in range(0, size, self.clients)]

    def shares_of(self, size: int) -> list[float]:
        """Return each cluster's share of the data; they sum to 1."""
        shares = self.shares or [len(ranks) / size for ranks in self.clusters(size)]
        return [share / sum(shares) for share in shares]

    def weigh(self, worker: Worker) -> float:
        """Return the worker's share of the data."""
        cluster = worker.rank // self.clients
        return self.shares_of(worker.size)[cluster] / len(self.clusters(worker.size)[cluster])

    def weigh_part(self, part: int, size: int) -> float:
        return self.shares_of(size)[part]

    def warnings(self, size: int) -> list[str]:
        return self.topology.faults(len(self.clusters(size)))

    def cost(self, n: int, d: int) -> Cost:
        sizes = [len(ranks) for ranks in self.clusters(n)]
        left = 0 if self.synchronous else len(sizes)
        values, messages = sum(2 * (k - 1) for k in sizes), sum(2 * (k - 1) * k for k in sizes)
        within = Cost((values + left) / n * d, (messages + left) / n)
        return within if self.rounds > 1 else self.largest_cost(n, d)

    def largest_cost(self, n: int, d: int) -> Cost:
        sizes = [len(ranks) for ranks in self.clusters(n)]
        servers = len(sizes)
        numbers = 0.0 if self.synchronous else 8.0 * servers * servers
        given = self.gossip * self.topology.degree(servers, 0) * servers if self.synchronous else servers
        messages = given if self.synchronous else 2 * servers
        down = n - servers
        return Cost(
            (sum(2 * (k - 1) for k in sizes) + given + down) / n * d,
            (sum(2 * (k - 1) * k for k in sizes) + messages + down) / n,
            numbers / n,
        )

    def init(self, worker: Worker) -> State:
        count = len(self.clusters(worker.size))
        self.topology.check_size(count)
        if self.shares is not None and len(self.shares) != count:
            raise ValueError(f"shares must be of {count} clusters, got {len(self.shares)}")
        if self.synchronous:
            return State()
        x = worker.params
        left = {numbered(place): worker.shared(f"left {place}", like=x) for place in range(count)}
        return State(left=State(**left), clocks=worker.shared("clocks", like=buffers.zeros(count, float)))

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        cluster = self.clusters(worker.size)[worker.rank // self.clients]
        yield Local(self.period)
        yield AllReduce(worker.params, op="mean", weight=worker.samples, group=cluster)
        meets, serves = worker.round % self.rounds == 0, worker.rank == cluster[0]
        if meets and self.synchronous:
            for _ in range(self.gossip):
                yield Mix(worker.params, self.weights(worker, cluster))
        if serves and not self.synchronous:
            yield from self.mix_what_is_there(worker, state) if meets else ()
            here = self.left(state, worker.rank // self.clients)
            yield Push("blend", (here,), (worker.params,), (0.0,), arrived=True)
        if meets:
            yield Broadcast(worker.params, root=cluster[0], group=cluster)

    def weights(self, worker: Worker, cluster: tuple[int, ...]) -> Weights:
        """Return the server's row of P, over ranks; the other workers only keep what they have."""
        if worker.rank != cluster[0]:
            return Weights(((worker.rank, 1.0),), ())
        shares = self.shares_of(worker.size)
        place = worker.rank // self.clients
        row = self.topology.share_weighted(len(shares), tuple(shares))[place]
        readers = self.topology.readers(place, len(shares), 0)
        return Weights(
            tuple((self.clients * other, row[other]) for other in sorted((*readers, place))),
            tuple(self.clients * other for other in readers),
        )

    def mix_what_is_there(self, worker: Worker, state: State) -> Iterator[Request]:
        """Mix the cluster's mean with what the neighbours' servers have left."""
        place, shares = worker.rank // self.clients, self.shares_of(worker.size)
        clocks = worker.workspace("clocks", len(shares), "float64")
        clocks[:] = 0
        clocks[place] = 1
        yield Push("axpy", (state.clocks,), (clocks,), (1.0,), arrived=True)
        yield Fetch(state.clocks, into=clocks)
        others = self.topology.readers(place, len(shares), 0)
        weights = self.of_staleness(place, others, clocks.tolist(), shares)
        found = worker.scratch("found", like=worker.params)
        ops.scale(worker.params, weights[0])
        for other, weight in zip(others, weights[1:], strict=True):
            yield Fetch(self.left(state, other), into=found)
            ops.axpy(worker.params, found, weight)

    @staticmethod
    def of_staleness(
        place: int, others: Sequence[int], clocks: Sequence[float], shares: Sequence[float]
    ) -> list[float]:
        """Return the weights of a server and its neighbours: they sum to 1."""
        behind = [max(0.0, clocks[place] - clocks[other]) for other in (place, *others)]
        weights = [shares[each] / (2 * (late + 1)) for each, late in zip((place, *others), behind, strict=True)]
        return [weight / sum(weights) for weight in weights]

    @staticmethod
    def left(state: State, place: int) -> Shared:
        """Return what a cluster's server has left."""
        shared: Shared = getattr(state.left, numbered(place))
        return shared

    def consensus(self, worker: Worker, state: State, out: Buffer) -> Iterator[Request]:
        """Yield the mean by shares; of clusters that do not meet, of what their servers have left."""
        if self.synchronous:
            yield from super().consensus(worker, state, out)
            return
        found, (total, *shares) = worker.scratch("found", like=out), self.shares_of(worker.size)
        yield Fetch(self.left(state, 0), into=out)
        for place, share in enumerate(shares, 1):
            yield Fetch(self.left(state, place), into=found)
            total += share
            ops.lerp(out, found, share / total)
