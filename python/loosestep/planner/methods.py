"""Which methods, with which periods, suit a model and its links: their predictions side by side."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np

from loosestep.foundation import units
from loosestep.planner.prediction import predict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import DTypeLike

    from loosestep.planner.prediction import Prediction
    from loosestep.strategies.base import Strategy
    from loosestep.transports.simulated.transport import Simulated

PERIODS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Local steps between two communications that are tried of a strategy with a `period`."""
ROUNDS = 3
"""Rounds that are predicted of each."""


@dataclass(frozen=True)
class Methods:
    """Predictions of strategies on one cluster.

    chosen: of each strategy the one with the shortest period that waits no longer than was allowed, or, where all
    wait longer, the one that waits least; the fastest first. tried: all predictions. refused: strategies that
    cannot be predicted there, with the reason. average_seconds: what an average of all parameters takes.
    """

    parameters: int
    on: Simulated
    waiting: float
    chosen: tuple[Prediction, ...]
    tried: tuple[Prediction, ...]
    refused: tuple[tuple[Strategy, str], ...]
    average_seconds: float

    def __str__(self) -> str:
        step, average = self.on.step_time, self.average_seconds
        computing = step / (step + average) if step + average else 1.0
        return (
            f"An average of {units.times(self.parameters, 'parameter')} takes {units.seconds(average)} s between "
            f"{units.times(self.on.size, 'worker')}, a local step {units.seconds(step)} s: an average after every "
            f"step leaves {units.share(computing)} of the time for computing."
        )


def rank(
    strategies: Sequence[Strategy],
    parameters: int,
    on: Simulated,
    *,
    waiting: float = 0.1,
    periods: Sequence[int] = PERIODS,
    dtype: DTypeLike = np.float32,
) -> Methods:
    """Predict strategies with several periods, and choose for each the shortest one that hardly waits.

    A shorter period is nearer to minibatch SGD, so of those that wait no longer than `waiting`, a share of the
    workers' time, it is the safest; how far a longer one still converges only a run with numbers says.

    >>> import loosestep as ls
    >>> cluster = ls.Simulated(4, step_time=0.1, latency=0.01, bandwidth=1.25e7)
    >>> found = rank([ls.AllReduceSGD(), ls.LocalSGD()], 250_000, cluster)
    >>> [each.strategy for each in found.chosen]
    [LocalSGD(period=16), AllReduceSGD()]

    Raises ValueError for a share that is not between 0 and 1, for no strategy, and where all are refused.
    """
    if not 0 <= waiting <= 1:
        raise ValueError(f"waiting must be from 0 to 1, a share of the workers' time, got {waiting!r}")
    if not strategies:
        raise ValueError("strategies must hold at least one")
    chosen, tried, refused = [], [], []
    for strategy in strategies:
        try:
            found = [
                predict(each, parameters, on, steps=ROUNDS * steps, dtype=dtype)
                for each, steps in variants(strategy, periods)
            ]
        except ValueError as error:
            refused.append((strategy, str(error)))
            continue
        tried += found
        patient = [each for each in found if each.waiting_share <= waiting]
        chosen.append(patient[0] if patient else min(found, key=lambda each: each.waiting_share))
    if not chosen:
        raise ValueError(f"none of the strategies can be predicted: {refused[0][1]}")
    average = on.network().average(parameters, np.dtype(dtype).itemsize, on.groups())
    chosen.sort(key=lambda each: (each.step_seconds, each.bytes_sent))
    return Methods(parameters, on, waiting, tuple(chosen), tuple(tried), tuple(refused), average)


def variants(strategy: Strategy, periods: Sequence[int]) -> list[tuple[Strategy, int]]:
    """Return a strategy with each period that it allows, ascending, and the local steps of a round."""
    if "period" not in {item.name for item in fields(strategy)}:  # type: ignore[arg-type]
        return [(strategy, 1)]
    made = []
    for period in sorted(set(periods)):
        try:
            made.append((replace(strategy, period=period), period))  # type: ignore[type-var]
        except ValueError:  # such as a period below that of its fragments
            continue
    if not made:
        raise ValueError(f"{strategy!r} allows none of the periods {', '.join(map(str, periods))}")
    return made
