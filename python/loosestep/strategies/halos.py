"""HALoS: a center for every cluster, and one for all clusters, which nobody waits for either."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from loosestep import ops
from loosestep.foundation import buffers, checks
from loosestep.requests import Fetch, Local, Push
from loosestep.strategies.base import Cost, State, Strategy, outer_cautions, pull
from loosestep.strategies.clusters import check_clusters, place_in, ranks_of

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from loosestep.requests import Buffer, Request, Shared
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class HALoS(Strategy):
    """Asynchronous local SGD in two levels. A worker makes local steps, pushes D = what it pulled - x to the
    center l of its cluster, and pulls l; every K-th push to l also sends E = a - l to the center c of all
    clusters, a being l as it was after the last time. Both centers make delayed Nesterov steps, N pushes of a
    vector D being one step on their mean:

    l <- l - r D / N, and with every N-th push: m <- mu m + mean of the last N D's, l <- l - r mu m; c by E
    likewise then l <- (1 - w) l + w c, a <- l.

    There are no servers: the worker whose push is the K-th does what a local server would, and others go on
    meanwhile. Pushes are counted all along, those that come while an exchange is under way too; what they
    moved l by stays in l, and no E has it. An exchange counts as one of the N of l, with D = 0.

    Centers lie where the transport keeps shared variables. On several hosts that is in shards on all ranks, and in
    `Simulated` behind one link, so that a cluster's center is no nearer to its workers than that of all.

    clusters: workers of a cluster, in rank order (the last may be smaller); or pairs (name, workers) of clusters
        of different sizes.
    period: local steps between two pushes of a worker (8 in the release).
    exchange: K, pushes to the center of a cluster between two exchanges with that of all (32).
    rate: r of a cluster (0.2 N = 3.2).
    momentum: mu of a cluster (0.9).
    delay: N of a cluster (16); by default the number of its workers.
    outer_rate: r of all (0.15 N = 0.3).
    outer_momentum: mu of all (0.5).
    outer_delay: N of all (2); by default the number of clusters.
    weight: w, how far the center of a cluster goes to that of all (0.25). The help text of the release says the
        opposite of what its code does.

    With the defaults, which have no momentum, N pushes together move l to the mean of where workers came.

    A round sends d values in 1 message and receives d values and a number; one with an exchange sends 2 d values
    and two numbers in 5 messages more.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 800)
    >>> strategy = ls.HALoS(clusters=2, exchange=4, weight=0.5)
    >>> result = ls.run(strategy, lambda x, b: x - b, np.zeros(3), batches, on=ls.Simulated(4))
    >>> bool(abs(result.params - 2.5).max() < 0.2)
    True

    Reference: G. Kim, J. Li et al., HALoS: Hierarchical Asynchronous Local SGD over Slow Networks for
    Geo-Distributed Large Language Model Training, ICML 2025, as released in utnslab/halos (there pushes are
    counted from the return of the last exchange).
    """

    course_depends_on_values: ClassVar[bool] = True
    synchronous: ClassVar[bool] = False
    consensus_is: ClassVar[Literal["collective", "one-sided"]] = "one-sided"
    consensus_in: ClassVar[str] = "state.center"
    clusters: int | tuple[tuple[str, int], ...] = 4
    period: int = 8
    exchange: int = 8
    rate: float = 1.0
    momentum: float = 0.0
    delay: int | None = None
    outer_rate: float = 1.0
    outer_momentum: float = 0.0
    outer_delay: int | None = None
    weight: float = 0.25

    @classmethod
    def example(cls) -> HALoS:
        return cls(clusters=2, period=2, exchange=2, weight=0.5)

    def __post_init__(self) -> None:
        check_clusters(self.clusters)
        checks.integer("period", self.period)
        checks.integer("exchange", self.exchange)
        for name in ("rate", "outer_rate"):
            checks.positive(name, getattr(self, name))
        for name in ("momentum", "outer_momentum"):
            checks.positive(name, getattr(self, name), zero=True)
        for name in ("delay", "outer_delay"):
            if getattr(self, name) is not None:
                checks.integer(name, getattr(self, name))
        checks.fraction("weight", self.weight)

    def warnings(self, size: int) -> list[str]:
        return outer_cautions(self.period, self.rate, self.momentum)

    def cost(self, n: int, d: int) -> Cost:
        return Cost(d, 1)

    def largest_cost(self, n: int, d: int) -> Cost:
        """Return the cost of a worker that exchanges in every round."""
        return Cost(3 * d, 6, 16)

    def init(self, worker: Worker) -> State:
        clusters = ranks_of(self.clusters, worker)
        mine, rest = place_in(clusters, worker.rank), buffers.like(worker.params)
        local = [self.local(worker, number, rest) for number in range(len(clusters))]
        return State(
            center=worker.shared("center", like=worker.params),
            momentum=worker.shared("momentum", like=rest),
            total=worker.shared("total", like=rest),
            clusters=State(**{f"n{number:06}": state for number, state in enumerate(local)}),
            pulled=worker.copy_of_params(),
            seen=buffers.zeros(1, float),
            place=mine,
            workers=len(clusters[mine]),
        )

    def local(self, worker: Worker, number: int, rest: Buffer) -> State:
        """Return the shared variables of a cluster; `turns` is 3 k after k exchanges, more during the next."""
        names = ("local", "momentum", "total", "anchor")
        likes = (worker.params, rest, rest, worker.params)
        made = {
            name: worker.shared(f"{name} {number}", like=like) for name, like in zip(names, likes, strict=True)
        }
        return State(turns=worker.shared(f"turns {number}", like=buffers.zeros(1, float)), **made)

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        yield Local(self.period)
        here = getattr(state.clusters, f"n{state.place:06}")
        change = state.pulled  # until it holds what is pulled next
        ops.subtract(state.pulled, worker.params, change)
        scalars = (self.rate, self.momentum, float(self.delay or state.workers))
        yield Push("delayed_nesterov", (here.local, here.momentum, here.total), (change,), scalars)
        yield from pull(worker, state, here.local, state.seen)
        turns = yield from self.read(worker, here.turns)
        pushes = int(state.seen[0]) - int(turns) // 3  # an exchange moves l once as well
        if turns % 3 == 0 and pushes >= self.exchange * (turns // 3 + 1):
            mine = turns + 1 + worker.rank / worker.size
            yield self.claim(worker, here.turns, mine)
            now = yield from self.read(worker, here.turns)
            if now == mine:
                yield from self.meet(worker, state, here, len(vars(state.clusters)))
                yield self.claim(worker, here.turns, turns + 3)
                yield from pull(worker, state, here.local, state.seen)

    def meet(self, worker: Worker, state: State, here: State, clusters: int) -> Iterator[Request]:
        """Send what the cluster has moved by, and merge the center of all: one worker of the cluster at a time."""
        moved, center = (worker.scratch(name, like=worker.params) for name in ("moved", "center"))
        yield Fetch(here.anchor, into=moved)
        ops.subtract(moved, worker.params, moved)  # what was pulled a moment ago
        scalars = (self.outer_rate, self.outer_momentum, float(self.outer_delay or clusters))
        yield Push("delayed_nesterov", (state.center, state.momentum, state.total), (moved,), scalars)
        yield Fetch(state.center, into=center)
        yield Push("blend", (here.anchor,), (center,), (0.0,), arrived=True)  # to the bit
        yield Push("lerp_and_copy", (here.local, here.anchor), (), (self.weight,), arrived=True)

    def read(self, worker: Worker, turns: Shared) -> Generator[Request, None, float]:
        """Return how far the exchanges of a cluster are."""
        seen = worker.workspace("turns", 1, "float64")
        yield Fetch(turns, into=seen)
        return float(seen[0])

    def claim(self, worker: Worker, turns: Shared, number: float) -> Request:
        """Return a push that asks for the next exchange, or says that it is over: the first that asks gets it."""
        values = worker.workspace("claim", 1, "float64")
        values.fill(number)
        return Push("claim", (turns,), (values,), arrived=True)

    def consensus(self, worker: Worker, state: State, out: Buffer) -> Iterator[Request]:
        """Fetch the center of all clusters."""
        yield Fetch(state.center, into=out)
