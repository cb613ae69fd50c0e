"""What a strategy costs: seconds, bytes and money, of a step and of a whole run."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from loosestep.foundation import checks, units
from loosestep.foundation.value import Value
from loosestep.planner.methods.grid import cycle, label, period
from loosestep.planner.prediction import LARGEST, amount_of, check, replay
from loosestep.transports.simulated.stragglers import Constant

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from loosestep.strategies.base import Strategy
    from loosestep.transports.simulated.transport import Simulated

Objective: TypeAlias = Literal["seconds", "bytes", "money"]
OBJECTIVES: tuple[Objective, ...] = ("seconds", "bytes", "money")
FEW, CODED, BUCKET = 1 << 12, 1 << 14, 32
"""Values that are recorded of a model, where a codec rounds them to words, and of a bucket at least."""
LEAST, LEAST_UNEVEN = 4, 64
"""Local steps after which a step counts, at least; more of workers whose steps take unlike times."""
SHARED = 4
"""Rounds after which a step counts where messages share links, until they have found their order."""


@dataclass(frozen=True, repr=False)
class Tariff(Value):
    """What machines and links cost, in any currency.

    worker_hour: of one worker for an hour. gigabyte: of 10^9 bytes that a worker or a center sends.

    >>> Tariff(worker_hour=2.0, gigabyte=0.09).of(workers=4, seconds=1800, nbytes=1e9)
    4.36
    """

    worker_hour: float = 0.0
    gigabyte: float = 0.0

    def __post_init__(self) -> None:
        checks.positive("worker_hour", self.worker_hour, zero=True)
        checks.positive("gigabyte", self.gigabyte, zero=True)

    def of(self, workers: int, seconds: float, nbytes: float) -> float:
        """Return the money for so many workers, each of which has so many bytes sent, for so many seconds."""
        return workers * (seconds / 3600 * self.worker_hour + nbytes / 1e9 * self.gigabyte)


@dataclass(frozen=True)
class Candidate:
    """A strategy on a cluster, and what it costs.

    step_seconds, waiting_share, bytes_a_step, messages_a_step: of a local step in the course of a long run. Bytes
        are those that a worker sends, and that a center sends to it; bytes and messages are means over workers.
    beginning: seconds that the first steps take more than others; below 0 where nothing is waited for at first.
    steps: local steps to the loss, whole rounds; None where nobody has said how many.
    """

    strategy: Strategy
    workers: int
    step_seconds: float
    waiting_share: float
    bytes_a_step: float
    messages_a_step: float
    beginning: float = 0.0
    tariff: Tariff = field(default_factory=Tariff)
    steps: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds of the run to the loss, or of a step where the steps are not known."""
        return self.step_seconds if self.steps is None else self.beginning + self.steps * self.step_seconds

    @property
    def bytes(self) -> float:
        """Bytes for a worker in the run to the loss, or in a step."""
        return self.bytes_a_step * (self.steps or 1)

    @property
    def money(self) -> float:
        """Money of the run to the loss, or of a step."""
        return self.tariff.of(self.workers, self.seconds, self.bytes)

    def cost(self, objective: Objective) -> float:
        """Return one of the three."""
        found: float = getattr(self, objective)
        return found

    def to_loss(self, steps: float) -> Candidate:
        """Return what the run costs whose loss is reached in so many steps: at the end of a round."""
        of_round = period(self.strategy)
        return replace(self, steps=-(-steps // of_round) * of_round)

    def __str__(self) -> str:
        return (
            f"{label(self.strategy)}: {units.seconds(self.step_seconds)} s a step, "
            f"{units.share(self.waiting_share)} of it waiting, {units.size(self.bytes_a_step)} a step and worker"
        )


def priced(
    strategy: Strategy,
    parameters: int,
    on: Simulated,
    *,
    tariff: Tariff | None = None,
    dtype: DTypeLike = np.float32,
) -> Candidate:
    """Return what a step costs in the course of a long run: the second half of a short one.

    Raises ValueError for what `predict` refuses, and for a strategy that sends nothing while it trains: what an
    average at the end costs is no question of links.
    """
    check(strategy, on)
    least = LEAST if on.stragglers == Constant() else LEAST_UNEVEN
    rounds = 1 if on.prices.free else SHARED
    half = cycle(strategy) * max(rounds, -(-least // cycle(strategy)))
    amount = amount_of(parameters, on.size, values(strategy, parameters * np.dtype(dtype).itemsize))
    first, whole = (replay(strategy, amount, on, steps, dtype=dtype) for steps in (half, 2 * half))
    if on.size > 1 and not whole.bytes_sent:
        raise ValueError(f"{strategy!r} sends nothing in {2 * half} steps, so no link is too slow for it")
    seconds = whole.seconds - first.seconds
    nbytes = whole.bytes_sent + whole.bytes_fetched - first.bytes_sent - first.bytes_fetched
    waiting = whole.waiting_share * whole.seconds - first.waiting_share * first.seconds
    made = whole.steps - first.steps
    end = whole.finished[0] if strategy.consensus_is == "one-sided" else whole.seconds  # when a model is there
    return Candidate(
        strategy,
        on.size,
        step_seconds=seconds / made,
        waiting_share=min(1.0, max(0.0, waiting / seconds)) if seconds else 0.0,
        bytes_a_step=nbytes / made,
        messages_a_step=(whole.messages - first.messages) / made,
        beginning=float(end) - whole.steps * seconds / made,
        tariff=tariff or Tariff(),
    )


def values(strategy: Strategy, nbytes: int) -> int:
    """Return how many values stand for a model of so many bytes."""
    if getattr(strategy, "codec", None) is not None:
        return CODED
    return min(LARGEST, max(FEW, BUCKET * -(-nbytes // getattr(strategy, "bucket_bytes", nbytes))))
