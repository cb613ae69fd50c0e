"""One method within clusters, another between them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from loosestep import ops
from loosestep.foundation import buffers, checks
from loosestep.foundation.buffers import is_buffer
from loosestep.requests import Barrier, Broadcast, Communication, Compute, Fetch, Local, Push, Shared, Wait
from loosestep.requests.worker import Worker
from loosestep.strategies.allreduce_sgd import AllReduceSGD
from loosestep.strategies.base import Need, State, Strategy, leaves
from loosestep.strategies.clusters import check_clusters, place_in, ranks_of
from loosestep.strategies.levels import Between, Within, seen_as
from loosestep.strategies.local_sgd import LocalSGD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Buffer, Request

UNFIT = frozenset({Need.GLOBAL_BATCHES, Need.PARTIAL_PARTICIPATION})
"""Needs of methods that share out what all workers have: they cannot be a level."""


@dataclass(frozen=True, repr=False)
class Hierarchical(Strategy):
    """Two methods in two levels: one among the workers of each cluster, another among the clusters.

    To `between` each cluster is one worker, whose parameters are the consensus of `within`. When a cluster has
    made the local steps of a round of `between`, y <- the consensus of `within` in the cluster; `between` moves
    y; x_i <- y, and `within` begins anew there.

    So `Hierarchical(AllReduceSGD(), DiLoCo(30))` is DiLoCo whose workers are clusters that make mini-batch steps,
    and `Hierarchical(AllReduceSGD(), EASGD(10))` lets clusters of different sizes and speeds go on without waiting
    for each other, while the workers of each march in step. A cluster counts by the samples that its members used
    in the last round within. The state of `within` (an anchor, momentum, a center) is made anew after each
    exchange, as where one of `Stages` ends; the local optimizer's buffers are kept.

    In `between`, means, broadcasts and barriers are of all workers, so that clusters that are hosts exchange as
    hosts do: each folds in its memory, and each number goes once between hosts. A center, a gathering and what
    goes to neighbours is dealt with by the first worker of each cluster, which then gives the others what came. In
    a job of several hosts the collectives of one cluster go by messages, within a host too.

    within: any method of one stage whose workers do not share memory or batches. Where its workers do not march in
        step they meet, and wait for the slowest, at each exchange between clusters.
    between: a method whose rounds are local steps and then communication: `LocalSGD`, `DiLoCo`, `SlowMo`,
        `CoCoDSGD`, `EASGD`, `AsyncLocalSGD`, `FedBuff` and others. Its steps are counted in steps of a worker;
        where they are no multiple of those of a round within, the last round within is finished first.
    clusters: workers of a cluster, in rank order (the last may be smaller); or pairs (name, workers) of clusters
        of different sizes, in rank order; None: those that share a host, where a transport knows of several, else
        all.

    A round sends what a round of `within` sends in a cluster; where it ends a round of `between`, what that sends
    between all workers or between clusters, and one broadcast in a cluster for all that came to its first worker.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 400)
    >>> strategy = ls.Hierarchical(ls.AllReduceSGD(), ls.DiLoCo(4, momentum=0.5), clusters=2)
    >>> result = ls.run(strategy, lambda x, b: x - b, np.zeros(3), batches, on=ls.Simulated(4))
    >>> bool(abs(result.params - 2.5).max() < 1e-3)
    True

    A cluster of three fast workers and one of a slow one, neither of which waits for the other:

    >>> slow = ls.Simulated(4, stragglers=ls.stragglers.SlowWorker(3, 2.5))
    >>> towns = (("Basel", 3), ("Bern", 1))
    >>> strategy = ls.Hierarchical(ls.AllReduceSGD(), ls.EASGD(4), clusters=towns)
    >>> result = ls.run(strategy, lambda x, b: x - b, np.zeros(3), batches, on=slow)
    >>> bool(abs(result.params - 3.0).max() < 1.0)
    True

    Reference: T. Lin et al., Don't Use Large Mini-Batches, Use Local SGD, arXiv:1808.07217, section 5 (two levels
    of one method); the composition of any two is this library's definition.
    """

    within: Strategy = field(default_factory=AllReduceSGD)
    between: Strategy = field(default_factory=LocalSGD)
    clusters: int | tuple[tuple[str, int], ...] | None = None

    @classmethod
    def example(cls) -> Hierarchical:
        return cls(LocalSGD(2), LocalSGD(4), clusters=2)

    def __post_init__(self) -> None:
        for name in ("within", "between"):
            strategy = getattr(self, name)
            checks.instance(name, strategy, Strategy)
            if strategy.shared_buffers or len(strategy.stages) > 1 or strategy.needs & UNFIT:
                why = "be of one stage, share no memory and deal no batches"
                raise ValueError(f"{name} must {why}, got {strategy!r}")
        if self.clusters is not None:
            check_clusters(self.clusters)

    @property
    def period(self) -> int:
        """Return the local steps of a round."""
        return int(getattr(self.within, "period", 1))

    @property
    def synchronous(self) -> bool:  # type: ignore[override]
        return self.within.synchronous and self.between.synchronous

    @property
    def attends(self) -> bool:  # type: ignore[override]
        """Return whether workers wait for others, though not for all."""
        return not self.synchronous

    @property
    def identity_at_one(self) -> bool:  # type: ignore[override]
        return self.within.identity_at_one and self.between.identity_at_one

    @property
    def course_depends_on_values(self) -> bool:  # type: ignore[override]
        return self.within.course_depends_on_values or self.between.course_depends_on_values

    @property
    def needs(self) -> frozenset[Need]:  # type: ignore[override]
        return self.within.needs | self.between.needs

    @property
    def consensus_is(self) -> Literal["collective", "one-sided"]:  # type: ignore[override]
        return self.between.consensus_is

    @property
    def consensus_in(self) -> str:  # type: ignore[override]
        return self.between.consensus_in.replace("state.", "state.between.")

    def warnings(self, size: int) -> list[str]:
        return [*self.within.warnings(size), *self.between.warnings(size)] if self.clusters is None else []

    def init(self, worker: Worker) -> State:
        clusters = ranks_of(self.clusters, worker)
        mine = place_in(clusters, worker.rank)
        self.rehearse(len(clusters))
        state = State(
            within=State(),
            between=self.between.init(Between(worker, clusters, mine, 1).seen),
            others=State(),  # what all workers share within other clusters
            cluster=mine,
            clusters=len(clusters),
            members=list(clusters[mine]),
            since=worker.clock,  # steps before this round of `between`
            number=1,  # of it
        )
        for cluster, members in enumerate(clusters):
            if cluster == mine:
                state.within = self.within.init(Within(worker, members, cluster).seen)
            elif not self.within.synchronous:
                seen = seen_as(worker, 0, len(members), 0, f"within {cluster}")
                shared = [value for *_, value in leaves(self.within.init(seen)) if isinstance(value, Shared)]
                setattr(state.others, f"n{cluster:06}", State(**{f"n{k:06}": v for k, v in enumerate(shared)}))
        state.steps = self.steps(Between(worker, clusters, mine, 1), state)
        return state

    def rehearse(self, size: int) -> None:
        """Refuse a method between so many clusters that does not make its steps first: by three short rounds."""

        def share(name: str, like: Buffer) -> Shared:
            return Shared(name, like.size, like.dtype, None)

        worker = Worker(0, size, buffers.zeros(256, float), share)
        state = self.between.init(worker)
        for number in (1, 2, 3):
            worker.round = number
            first, *others = self.between.round(worker, state)
            if not isinstance(first, Local) or first.idle or any(isinstance(each, Compute) for each in others):
                raise ValueError(
                    f"between must be a method whose rounds are local steps of all its workers, then "
                    f"communication, as LocalSGD's, DiLoCo's and EASGD's are, got {self.between!r}"
                )

    def steps(self, level: Between, state: State) -> int:
        """Return the local steps of a round of `between`: what it asks for first."""
        first = next(iter(self.between.round(level.seen, state.between)))
        assert isinstance(first, Local)
        return first.steps

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        level = Within(worker, state.members, state.cluster)
        yield from level.perform(self.within.round(level.seen, state.within))
        level.keep(state.within)
        if worker.clock - state.since >= state.steps:
            yield from self.gather(worker, state, level)
            clusters = ranks_of(self.clusters, worker)
            between = Between(worker, clusters, state.cluster, state.number)
            yield from between.perform(self.between.round(between.seen, state.between))
            between.keep(state.between)
            yield from self.begin_anew(worker, state, level)
            state.number, state.since = state.number + 1, worker.clock
            state.steps = self.steps(Between(worker, clusters, state.cluster, state.number), state)

    def gather(self, worker: Worker, state: State, level: Within) -> Iterator[Request]:
        """Bring the members of the cluster to the consensus of `within`."""
        for _, holder, key, value in list(leaves(state.within)):
            if isinstance(value, Communication):
                yield Wait(value)
                setattr(holder, key, None)
        if self.within.synchronous and self.within.replicas_agree:
            return
        out, members = worker.scratch("of the cluster", like=worker.params), tuple(state.members)
        one_sided, first = self.within.consensus_is == "one-sided", members[0]
        if not self.within.synchronous:
            yield Barrier(members)  # behind everybody's last pull, which saw its push
        if not one_sided or worker.rank == first:
            yield from level.perform(self.within.consensus(level.seen, state.within, out))
        if one_sided:
            yield Broadcast(out, root=first, group=members)
        ops.copy(out, worker.params)

    def begin_anew(self, worker: Worker, state: State, level: Within) -> Iterator[Request]:
        """Let `within` begin at the worker's parameters: with the state that it makes there, in the same place."""
        there = {value.name: value for *_, value in leaves(state.within) if isinstance(value, Shared)}
        wanted: list[tuple[Shared, Buffer]] = []

        def share(name: str, like: Buffer) -> Shared:
            shared = there[f"within {state.cluster} {name}"]
            wanted.append((shared, buffers.copy_of(like)))
            return shared

        made = self.within.init(level.seen.sharing(share))
        for (_, holder, key, old), (*_, new) in zip(list(leaves(state.within)), leaves(made), strict=True):
            if is_buffer(old):
                ops.copy(new, old)
            else:
                setattr(holder, key, new)
        if wanted:
            if worker.rank == state.members[0]:
                for shared, values in wanted:
                    yield from store(shared, values)
            yield Barrier(tuple(state.members))

    def consensus(self, worker: Worker, state: State, out: Buffer) -> Iterator[Request]:
        """Yield the consensus of `between`, where that is another than the mean of all replicas."""
        if self.between.consensus_is == "one-sided" or self.between.consensus_in != "params":
            seen = seen_as(worker, state.cluster, state.clusters, state.number, "between")
            yield from self.between.consensus(seen, state.between, out)
        else:
            yield from super().consensus(worker, state, out)


def store(shared: Shared, values: Buffer) -> Iterator[Request]:
    """Set a shared variable while nobody else touches it: c - c is 0, and 0 + v is v, to the bit."""
    seen = buffers.like(values)
    yield Fetch(shared, into=seen)
    ops.scale(seen, -1.0)
    yield Push("axpy", (shared,), (seen,), (1.0,), arrived=True)
    yield Push("axpy", (shared,), (values,), (1.0,), arrived=True)
