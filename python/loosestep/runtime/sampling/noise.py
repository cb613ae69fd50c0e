"""What a run tells a worker of its sampler."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loosestep.ops.noise import NoiseStream

if TYPE_CHECKING:
    from loosestep.optimizers.base import Optimizer
    from loosestep.requests.worker import Worker
    from loosestep.strategies.base import Strategy


def check_sampler(strategy: Strategy, optimizer: Optimizer, size: int) -> None:
    """Refuse a sampler whose draws would not have their temperature under that strategy.

    Raises ValueError. One worker alone under a strategy that then does nothing is the sampler itself.
    """
    if optimizer.noisy and (size > 1 or not strategy.identity_at_one):
        strategy.check_sampler(optimizer)


def give_noise(worker: Worker, strategy: Strategy, optimizer: Optimizer) -> None:
    """Say where the local steps' random numbers are, and how much noise there is in them."""
    worker.variance_at = optimizer.variance
    worker.noise = None if strategy.adds_noise else stream_for(worker, strategy)


def stream_for(worker: Worker, strategy: Strategy) -> NoiseStream:
    """Return the stream of a worker's own, or of all where all are one chain."""
    return NoiseStream(worker.seed, 0 if strategy.all_alike else worker.rank)
