"""The bases of methods that mix with neighbours on a graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loosestep.foundation import checks
from loosestep.strategies.base import Cost, State, Strategy
from loosestep.topologies.base import LARGEST, Topology

if TYPE_CHECKING:
    from loosestep.requests import Weights
    from loosestep.requests.worker import Worker


class GraphStrategy(Strategy):
    """Base of methods on a graph that conserves the plain mean: a subclass has the field `topology`, the graph."""

    topology: Topology

    def weigh(self, worker: Worker) -> float:
        """Return 1: mixing conserves the plain mean."""
        return 1.0

    def warnings(self, size: int) -> list[str]:
        return self.topology.faults(size)


class PushSumStrategy(GraphStrategy):
    """Base of methods that push sums: columns of P sum to 1, and a weight w corrects for who is read more."""

    def check_topology(self) -> None:
        """Refuse what is no doubly or column-stochastic topology."""
        checks.instance("topology", self.topology, Topology)
        if self.topology.stochastic == "row":
            raise ValueError(f"topology must be doubly or column-stochastic, to push sums, got {self.topology!r}")

    @property
    def pushes(self) -> bool:
        """Return whether w changes, so that it is sent."""
        return self.topology.stochastic != "doubly"

    def cost(self, n: int, d: int) -> Cost:
        degree = self.topology.degree(n, 0)
        return Cost(degree * (d + self.pushes), degree)


class GossipStrategy(GraphStrategy):
    """Base of methods that mix with neighbours: a subclass has the field `topology`, the graph.

    Mixing conserves the plain mean of the replicas, which is the consensus; weights stay as they are when a
    worker's data ends, and it then adds no gradient.
    """

    def check_topology(self) -> None:
        """Refuse what is no doubly stochastic topology."""
        checks.instance("topology", self.topology, Topology)
        if self.topology.stochastic != "doubly":
            raise ValueError(f"topology must be doubly stochastic, to conserve the mean, got {self.topology!r}")

    def check_undirected(self) -> None:
        """Refuse what is no doubly stochastic topology whose matrices are symmetric."""
        self.check_topology()
        if not self.topology.symmetric:
            raise ValueError(f"topology must be symmetric: whoever reads is read, got {self.topology!r}")

    def cost(self, n: int, d: int) -> Cost:
        degree = self.topology.degree(n, 0)
        return Cost(degree * d, degree)

    def largest_cost(self, n: int, d: int) -> Cost:
        first, steps = self.cost(n, d), range(self.topology.period(n) or 1)
        degrees = [self.topology.degree(n, step) for step in steps]
        most = max(degrees) / degrees[0] if degrees[0] else 1.0
        return Cost(first.values * most, first.messages * most, first.nbytes * most)

    def init(self, worker: Worker) -> State:
        self.topology.check_size(worker.size)
        return State()

    def elastic_faults(self, size: int, rate: float | None) -> list[str]:
        """Return a warning if x <- x - rate L x drives workers of the first graph apart."""
        if rate is None or size > LARGEST or not self.topology.serves(size):
            return []
        most = self.topology.elastic_limit(size)
        if rate < most:
            return []
        return [
            f"moving_rate must be below {most:.3g} for {size} workers, and is {rate:g}: workers do not come "
            "together, at any learning rate"
        ]

    def weights(self, worker: Worker) -> Weights:
        """Return the worker's row of the W of this round."""
        return self.topology.weights(worker.rank, worker.size, worker.round - 1)
