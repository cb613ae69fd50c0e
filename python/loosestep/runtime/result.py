"""What a run reports while it runs and at its end."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import nan
from signal import SIGINT, SIGTERM
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from loosestep import ops

if TYPE_CHECKING:
    from loosestep.requests import Buffer
    from loosestep.runtime.program import Program
    from loosestep.transports.metered import Meter


@dataclass(frozen=True)
class Progress:
    """One evaluation: where the run was, and what `evaluate` returned for the consensus parameters.

    seconds are those of the run's clock: with `virtual` they are simulated, and nobody waited for them. loss is
    the mean training loss over all workers since the previous evaluation, or that one's where there were no
    samples since (nan if gradients come without losses); bytes_sent is the mean over workers.
    """

    step: int
    seconds: float
    virtual: bool = field(default=False, kw_only=True)  # seconds are simulated
    samples: int
    loss: float
    bytes_sent: int
    waiting_share: float
    metrics: dict[str, float]


class Totals(NamedTuple):
    """Counts over some workers: sums, except that `steps` and `seconds` are the largest of any worker."""

    loss: float  # the sum over all samples whose gradient came with a loss
    counted: int  # ... and how many those are
    samples: int
    steps: int
    bytes_sent: int
    messages: int
    waiting: float
    seconds: float

    @classmethod
    def of(cls, parts: Sequence[dict[str, Any]]) -> Totals:
        """Merge the totals of several processes."""
        columns = {name: [part[name] for part in parts] for name in cls._fields}
        most = ("steps", "seconds")
        return cls(**{name: max(column) if name in most else sum(column) for name, column in columns.items()})

    def waiting_share(self, size: int) -> float:
        """Return the fraction of the time of all `size` workers that was spent waiting."""
        return self.waiting / (size * self.seconds) if self.seconds else 0.0


@dataclass(frozen=True)
class WorkerResult:
    """One worker's part of a result."""

    rank: int
    params: Buffer
    steps: int
    samples: int
    loss: float
    bytes_sent: int
    messages: int
    waiting: float

    @classmethod
    def of(cls, program: Program, meter: Meter, shape: tuple[int, ...]) -> WorkerResult:
        """Return what a worker did; its parameters in their shape."""
        worker, model = program.worker, program.model
        return cls(
            rank=worker.rank,
            params=worker.params.reshape(shape),
            steps=model.steps,
            samples=model.samples,
            loss=mean_loss([model.losses]),
            bytes_sent=meter.bytes,
            messages=meter.messages,
            waiting=meter.waiting,
        )


@dataclass(frozen=True)
class Result:
    """A finished run. `params` is the consensus: the center variable, or the mean of the replicas.

    steps: of the worker that made most; samples: of all workers; bytes_sent, messages: mean over workers;
    waiting_share: of the workers' time; consensus_distance: mean_i ||x_i - mean x||^2. seconds are those of the
    run's clock: with `virtual` they are simulated. `workers` are those that live in this process.
    """

    params: Buffer
    loss: float
    seconds: float
    virtual: bool = field(default=False, kw_only=True)  # seconds are simulated
    steps: int
    samples: int
    bytes_sent: int
    messages: int
    waiting_share: float
    consensus_distance: float
    metrics: dict[str, float]
    history: tuple[Progress, ...]
    workers: tuple[WorkerResult, ...]

    @property
    def samples_per_second(self) -> float:
        """Samples of all workers per second, virtual seconds where `virtual`."""
        return self.samples / self.seconds if self.seconds else nan


class Interrupted(KeyboardInterrupt):
    """The run was ended by Ctrl-C or SIGTERM: the step was finished and, with `checkpoint`, saved.

    `result` is the result so far, `signal` the number of the signal. A program that does not catch it ends with
    exit code 128 + signal; at a prompt (Python's, a notebook's) it is an ordinary KeyboardInterrupt.
    """

    signal: int = SIGINT

    def __init__(self, result: Result) -> None:
        self.result = result
        super().__init__(f"interrupted after step {result.steps}")

    @classmethod
    def by(cls, signal: int, result: Result) -> Interrupted:
        """Return the error for a signal."""
        if signal == SIGTERM:
            return Terminated(result)
        return cls(result) if hasattr(sys, "ps1") or sys.flags.interactive else Ended(result)


class Ended(Interrupted, SystemExit):
    """An `Interrupted` that ends a program which does not catch it, with the usual exit code.

    Python gives that to a KeyboardInterrupt, but not to a subclass.
    """

    def __init__(self, result: Result) -> None:
        super().__init__(result)
        self.code = 128 + self.signal


class Terminated(Ended):
    """The `Interrupted` of SIGTERM: exit code 143."""

    signal = SIGTERM


def named_metrics(answer: Mapping[str, float] | float) -> dict[str, float]:
    """Return what `evaluate` said as numbers by name; a number alone is the `value`."""
    named = answer if isinstance(answer, Mapping) else {"value": answer}
    return {name: float(number) for name, number in named.items()}


def mean_loss(losses: Sequence[tuple[float, int]]) -> float:
    """Return the mean loss of a sample, from (sum, samples) pairs; nan where no gradient came with a loss."""
    samples = sum(count for _, count in losses)
    return sum(total for total, _ in losses) / samples if samples else nan


def consensus_distance(replicas: Sequence[Buffer]) -> float:
    """Return mean_i ||x_i - mean x||^2."""
    mean, gap = np.empty_like(replicas[0]), np.empty_like(replicas[0])
    ops.mean_of(replicas, mean)
    total = 0.0
    for replica in replicas:
        ops.subtract(replica, mean, gap)
        total += ops.norm(gap) ** 2
    return total / len(replicas)
