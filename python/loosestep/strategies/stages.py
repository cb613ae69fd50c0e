"""One strategy after another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from loosestep.foundation import checks
from loosestep.strategies.allreduce_sgd import AllReduceSGD
from loosestep.strategies.base import Cost, Need, State, Strategy
from loosestep.strategies.local_sgd import LocalSGD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Buffer, Request
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, init=False, repr=False)
class Stages(Strategy):
    """Strategies in turn, each for some epochs: Stages((AllReduceSGD(), 5), (LocalSGD(8), 20), (EASGD(), None)).

    At the step where a part ends all workers meet, and a round that is under way ends there. Then x_i <- the
    consensus of that part (its center, or the mean of its replicas; nothing is sent where those are the same), the
    optimizer's buffers are averaged, the state of the next part is what it makes there, and every worker counts
    the same steps. Parts may be synchronous or not.

    parts: (strategy, epochs) pairs; the last has None, and goes on to the end. An epoch is `steps_per_epoch`
        of the run; a run without it is refused where there is more than one part.

    A round sends what a round of its strategy sends; a switch sends one mean of the parameters and one of each of
    the optimizer's buffers, each 2 (n-1)/n d values a worker.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 400)
    >>> strategy = ls.Stages((ls.AllReduceSGD(), 2), (ls.LocalSGD(period=4), None))
    >>> gradient = lambda x, b: x - b
    >>> result = ls.run(strategy, gradient, np.zeros(3), batches, on=ls.Simulated(2), steps_per_epoch=100)
    >>> bool(abs(result.params - 1.5).max() < 1e-3)
    True

    Reference: T. Lin et al., Don't Use Large Mini-Batches, Use Local SGD, arXiv:1808.07217 (post-local SGD is the
    schedule from AllReduceSGD to LocalSGD); the conversion of states is the library's definition.
    """

    parts: tuple[tuple[Strategy, float | None], ...]
    consensus_in: ClassVar[str] = "params"

    def __init__(self, *parts: tuple[Strategy, float | None]) -> None:
        if not parts:
            raise ValueError("parts must be at least one pair, such as (AllReduceSGD(), None), got none")
        for number, part in enumerate(parts):
            self.check(part, last=number == len(parts) - 1)
        object.__setattr__(self, "parts", tuple(parts))

    @staticmethod
    def check(part: tuple[Strategy, float | None], *, last: bool) -> None:
        """Refuse what is no part."""
        if not isinstance(part, tuple) or len(part) != 2:
            raise TypeError(f"parts must be pairs (strategy, epochs), got {part!r}")
        strategy, epochs = part
        checks.instance("the strategy of a part", strategy, Strategy)
        if strategy.shared_buffers or len(strategy.stages) > 1:
            why = "is a schedule itself" if len(strategy.stages) > 1 else "has parameters that all workers share"
            raise ValueError(f"{strategy!r} cannot be a part of a schedule: it {why}")
        if last != (epochs is None):
            raise ValueError(f"only the last part must have None for its epochs, got {part!r}")
        if epochs is not None:
            checks.positive("epochs", epochs)

    def __repr__(self) -> str:
        return f"Stages({', '.join(map(repr, self.parts))})"

    @classmethod
    def example(cls) -> Stages:
        """Return post-local SGD: every gradient is averaged in the first epoch, then replicas every 8 steps."""
        return cls((AllReduceSGD(), 1), (LocalSGD(), None))

    @property
    def stages(self) -> tuple[tuple[Strategy, float | None], ...]:
        return self.parts

    @property
    def first(self) -> Strategy:
        """Return the strategy that begins."""
        return self.parts[0][0]

    @property
    def synchronous(self) -> bool:  # type: ignore[override]
        return all(strategy.synchronous for strategy, _ in self.parts)

    @property
    def identity_at_one(self) -> bool:  # type: ignore[override]
        return all(strategy.identity_at_one for strategy, _ in self.parts)

    @property
    def needs(self) -> frozenset[Need]:  # type: ignore[override]
        return frozenset({Need.EPOCH_LENGTH}).union(*(strategy.needs for strategy, _ in self.parts))

    @property
    def period(self) -> int:
        """Return the local steps of a round of the first part."""
        return int(getattr(self.first, "period", 1))

    # What follows is the first part's; the program goes from part to part.

    def cost(self, n: int, d: int) -> Cost | None:
        """Return the cost of a round of the first part."""
        return self.first.cost(n, d)

    def largest_cost(self, n: int, d: int) -> Cost | None:
        """Return the most of all parts, for each of the numbers by itself."""
        most = [strategy.largest_cost(n, d) for strategy, _ in self.parts]
        known = [each for each in most if each is not None]
        return Cost(*map(max, *known, (0, 0, 0))) if len(known) == len(most) else None

    def init(self, worker: Worker) -> State:
        return self.first.init(worker)

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        yield from self.first.round(worker, state)

    def consensus(self, worker: Worker, state: State, out: Buffer) -> Iterator[Request]:
        yield from self.first.consensus(worker, state, out)
