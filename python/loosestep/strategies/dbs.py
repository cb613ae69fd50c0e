"""DBS: batches in proportion to how fast workers compute."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from loosestep.foundation import checks
from loosestep.requests import AllGather
from loosestep.strategies.allreduce_sgd import AllReduceSGD
from loosestep.strategies.base import Cost, Need, State, Strategy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Buffer, Request
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class DBS(Strategy):
    """Dynamic batch size: another, synchronous strategy, whose workers share out each batch by their speed.

    Every so many rounds each worker tells its speed s_i = samples / seconds of computing (waiting left out), and
    p_i <- s_i / sum_j s_j: with p_i = b_i / B this is the paper's p_i <- (p_i / t_i) / sum_j (p_j / t_j). Worker i
    takes b_i of the B rows of a step, rounded by largest remainders, at least 1, sum B exactly. Means are weighted
    by samples, so the gradient is that of the whole batch whatever the shares. Rows are shared out anew at every
    step, so none is lost. (The release drops the tail of the data, and sum b_i may be below B.)

    strategy: any synchronous one.
    every: rounds between two measurements; the paper's is an epoch.
    smoothing: of speeds: s <- smoothing * (s of before) + (1 - smoothing) * (s measured).
    most: a share is at most multiplied or divided by this at once, before all are brought to sum 1; None: any.

    A round sends what a round of its strategy sends; every so many rounds one number more to each worker. Batches
    must be of all workers together, as `loosestep.data.global_batches` makes them.

    >>> import loosestep as ls, numpy as np
    >>> rows = np.linspace(0, 1, 60), np.zeros(60)
    >>> fast = ls.stragglers.SlowWorker(rank=3, factor=1 / 3)
    >>> on = ls.Simulated(4, step_time=0.0, sample_time=1e-3, stragglers=fast)
    >>> batches = ls.data.global_batches(rows, batch=12, epochs=40)
    >>> mean = lambda x, batch: x - batch[0].mean()
    >>> result = ls.run(ls.DBS(every=5), mean, np.zeros(1), batches, on=on)
    >>> [worker.samples for worker in result.workers]
    [405, 405, 405, 1185]

    Reference: Q. Ye et al., DBS: Dynamic Batch Size for Distributed Deep Neural Network Training,
    arXiv:2007.11831; the rounding is the library's.
    """

    course_depends_on_values: ClassVar[bool] = True
    strategy: Strategy = field(default_factory=AllReduceSGD)
    every: int = 50
    smoothing: float = 0.0
    most: float | None = None

    @classmethod
    def example(cls) -> DBS:
        return cls(every=4)

    def __post_init__(self) -> None:
        checks.instance("strategy", self.strategy, Strategy)
        checks.integer("every", self.every)
        checks.positive("smoothing", self.smoothing, zero=True)
        if self.smoothing >= 1:
            raise ValueError(f"smoothing must be below 1, got {self.smoothing!r}")
        if self.most is not None:
            checks.positive("most", self.most)
            if self.most <= 1:
                raise ValueError(f"most must be above 1, got {self.most!r}")
        if not self.strategy.synchronous or len(self.strategy.stages) > 1:
            raise ValueError(f"strategy must be a synchronous one (and no schedule), got {self.strategy!r}")

    @property
    def period(self) -> int:
        """Return the local steps of a round."""
        return int(getattr(self.strategy, "period", 1))

    @property
    def needs(self) -> frozenset[Need]:  # type: ignore[override]
        return self.strategy.needs | {Need.GLOBAL_BATCHES}

    @property
    def replicas_agree(self) -> bool:  # type: ignore[override]
        return self.strategy.replicas_agree

    @property
    def identity_at_one(self) -> bool:  # type: ignore[override]
        return self.strategy.identity_at_one

    @property
    def consensus_in(self) -> str:  # type: ignore[override]
        return self.strategy.consensus_in.replace("state.", "state.inner.")

    def cost(self, n: int, d: int) -> Cost | None:
        return self.strategy.cost(n, d)

    def largest_cost(self, n: int, d: int) -> Cost | None:
        """Return the cost of a round after which speeds are gathered."""
        most = self.strategy.largest_cost(n, d)
        return most and Cost(most.values, most.messages + n - 1, most.nbytes + 8 * (n - 1))

    def init(self, worker: Worker) -> State:
        shares, speeds = [1 / worker.size] * worker.size, [0.0] * worker.size
        inner = self.strategy.init(worker)
        return State(inner=inner, shares=shares, speeds=speeds, samples=0, rounds=0, since=worker.computing)

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        worker.fractions = state.shares
        yield from self.strategy.round(worker, state.inner)
        state.samples += worker.samples
        state.rounds += 1
        if state.rounds % self.every == 0:
            yield from self.measure(worker, state)

    def measure(self, worker: Worker, state: State) -> Iterator[Request]:
        """Gather the speeds of all workers, and choose new shares."""
        seconds = worker.computing - state.since
        mine, all_of_them = (
            worker.workspace("speed", 1, "float64"),
            worker.workspace("speeds", worker.size, "float64"),
        )
        mine[0] = state.samples / seconds if seconds > 0 else 0.0
        yield AllGather(mine, all_of_them)
        state.samples, state.since = 0, worker.computing
        state.speeds = [self.smoothed(*pair) for pair in zip(state.speeds, all_of_them.tolist(), strict=True)]
        state.shares = self.shared_anew(state.shares, state.speeds)

    def smoothed(self, before: float, measured: float) -> float:
        """Return a worker's smoothed speed; one that computed nothing keeps its speed."""
        if not before or not measured:
            return measured or before
        return self.smoothing * before + (1 - self.smoothing) * measured

    def shared_anew(self, shares: list[float], speeds: list[float]) -> list[float]:
        """Return shares in proportion to the speeds, once all are known."""
        if not all(speeds):
            return shares
        wanted = [speed / sum(speeds) for speed in speeds]
        if self.most is not None:
            pairs = zip(wanted, shares, strict=True)
            wanted = [min(max(share, before / self.most), before * self.most) for share, before in pairs]
        return [share / sum(wanted) for share in wanted]

    def consensus(self, worker: Worker, state: State, out: Buffer) -> Iterator[Request]:
        """Yield the consensus of the inner strategy."""
        yield from self.strategy.consensus(worker, state.inner, out)
