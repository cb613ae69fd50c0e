"""The average of the iterates, evaluated instead of the last one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from loosestep import ops
from loosestep.foundation import checks
from loosestep.strategies.allreduce_sgd import AllReduceSGD
from loosestep.strategies.base import Cost, Need, State, Strategy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Buffer, Request
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class Averaged(Strategy):
    """Another strategy, and an average z of where its rounds end: z <- z + (x - z) / k.

    k = 1, 2, ... counts what is averaged. z is evaluated, saved and returned; it is never fed back. The running
    mean is Polyak-Ruppert averaging (ASGD), with `start` tail averaging; with a constant `rate` a,
    z <- z + a (x - z), it is the moving mean MVASGD. The starting point x_0 is not counted by a running mean, and
    is where a moving mean begins.

    strategy: one whose replicas agree when a round ends, so that the average needs no communication.
    start: the first step that counts, after start - 1 of burn-in; until then z is x.
    rate: None for the running mean, or a; the comparison in arXiv:1412.6651 has 0.001.

    A round sends what a round of its strategy sends. With another number of workers all begin at z, and a running
    mean begins anew.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 400)
    >>> strategy = ls.Averaged(ls.AllReduceSGD(), start=100)
    >>> result = ls.run(strategy, lambda x, b: x - b, np.zeros(3), batches, on=ls.Simulated(2))
    >>> bool(abs(result.params - 1.5).max() < 1e-3)
    True

    Reference: B. Polyak, A. Juditsky, Acceleration of stochastic approximation by averaging, 1992; P. Jain et al.,
    arXiv:1610.03774 (the tail); S. Zhang et al., arXiv:1412.6651, section 5 (ASGD, MVASGD).
    """

    consensus_in: ClassVar[str] = "state.average"
    replicas_agree: ClassVar[bool] = True
    strategy: Strategy = field(default_factory=AllReduceSGD)
    start: int = 1
    rate: float | None = None

    @classmethod
    def example(cls) -> Averaged:
        return cls(start=6)

    def __post_init__(self) -> None:
        checks.instance("strategy", self.strategy, Strategy)
        checks.integer("start", self.start)
        if self.rate is not None:
            checks.positive("rate", self.rate, zero=True)
        if not self.strategy.replicas_agree:
            raise ValueError(
                f"strategy must be one whose replicas agree when a round ends, as AllReduceSGD's do, "
                f"got {self.strategy!r}"
            )

    @property
    def period(self) -> int:
        """Return the local steps of a round."""
        return int(getattr(self.strategy, "period", 1))

    @property
    def course_depends_on_values(self) -> bool:  # type: ignore[override]
        return self.strategy.course_depends_on_values

    @property
    def needs(self) -> frozenset[Need]:  # type: ignore[override]
        return self.strategy.needs

    def cost(self, n: int, d: int) -> Cost | None:
        return self.strategy.cost(n, d)

    def largest_cost(self, n: int, d: int) -> Cost | None:
        return self.strategy.largest_cost(n, d)

    def init(self, worker: Worker) -> State:
        return State(average=worker.copy_of_params(), counted=0, inner=self.strategy.init(worker))

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        yield from self.strategy.round(worker, state.inner)
        if worker.clock < self.start:
            ops.copy(worker.params, state.average)
        else:
            state.counted += 1
            ops.lerp(state.average, worker.params, 1 / state.counted if self.rate is None else self.rate)

    def consensus(self, worker: Worker, state: State, out: Buffer) -> Iterator[Request]:
        """Copy the average: every worker holds the same."""
        ops.copy(state.average, out)
        yield from ()
