"""One worker's samples, with what belongs to each: their order, local variables, and additions that wait."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from math import isfinite
from typing import Any, Protocol, TypeAlias

import numpy as np

from loosestep.foundation import buffers
from loosestep.foundation.buffers import Buffer
from loosestep.foundation.errors import Diverged, WorkerFailed
from loosestep.splash.variables import Late, Layout, Values, Variables
from loosestep.strategies.base import State

Local: TypeAlias = "dict[Any, Any]"
Process: TypeAlias = "Callable[[Any, float, Variables, Local], float | None]"
Loss: TypeAlias = "Callable[[Any, Values, Local], float]"


class Indexed(Protocol):
    """Samples by number, as a list or an array has them."""

    def __len__(self) -> int:
        """Return how many there are."""

    def __getitem__(self, number: Any, /) -> Any:
        """Return one of them."""


Samples: TypeAlias = "Indexed | Callable[[int, int], Indexed]"


@dataclass(frozen=True)
class Job:
    """What all workers are to do."""

    process: Process
    samples: Samples
    layout: Layout
    loss: Loss | None = None
    group: Callable[[Any], Hashable] | None = None
    rounds: int = 1
    """Of a pass."""
    shuffle: bool = True
    seed: int = 0
    saved: bool = False
    """Whether checkpoints are written, which keep neither local variables nor additions that wait."""

    def group_of(self, rank: int, number: int, sample: Any) -> Hashable:
        """Return what a worker's sample belongs to: by default, its number."""
        if self.group is None:
            return number
        try:
            key = self.group(sample)
            hash(key)
        except Exception as error:
            raise WorkerFailed(rank, 1, f"the group of sample {number}", error) from error
        return key


@dataclass
class Kept:
    """What samples had before a round that may be undone."""

    local: dict[Hashable, Local]
    late: dict[int, list[Late] | None]


def dealt(job: Job, rank: int, size: int) -> tuple[list[int], list[Any], list[Hashable]]:
    """Return a worker's samples: their numbers, themselves, and the groups to which they belong.

    Group number k, in order of appearance, is worker k % size's. Where samples are given by a function, all that
    it returns are the worker's, their numbers count those, and groups are (rank, group).
    """
    if callable(job.samples):
        given = job.samples(rank, size)
        numbers = list(range(counted(given, f"samples({rank}, {size}) must return a sequence")))
        mine = [sample(given, number) for number in numbers]
        groups = map(job.group_of, [rank] * len(mine), numbers, mine)
        return numbers, mine, [(rank, group) for group in groups]
    if job.group is None:
        numbers = list(range(rank, len(job.samples), size))
        return numbers, [sample(job.samples, number) for number in numbers], list(numbers)
    seen: dict[Hashable, int] = {}
    keys = [job.group_of(rank, number, sample(job.samples, number)) for number in range(len(job.samples))]
    numbers = [number for number, key in enumerate(keys) if seen.setdefault(key, len(seen)) % size == rank]
    return numbers, [job.samples[number] for number in numbers], [keys[number] for number in numbers]


def counted(samples: Any, wanted: str) -> int:
    """Return how many samples there are; refuse what is no sequence."""
    if hasattr(samples, "__getitem__") and not isinstance(samples, Mapping):
        try:
            return len(samples)
        except TypeError:  # an array of no dimension, a data set of which nobody knows how many
            pass
    raise TypeError(f"{wanted}, got {samples!r}")


def sample(samples: Indexed, number: int) -> Any:
    """Return the sample of a number; refuse what is not asked by number, such as a table by columns."""
    try:
        return samples[number]
    except LookupError as error:
        raise TypeError(
            f"samples must give each of {len(samples)} by its number from 0, got {type(error).__name__} for "
            f"{number}"
        ) from error


def order(seed: int, rank: int, number: int, count: int) -> list[int]:
    """Return the order of a worker's samples in its pass of that number."""
    found: list[int] = np.random.default_rng((seed, rank, number, 3)).permutation(count).tolist()
    return found


class Part:
    """One worker's share: `len()` is the number of samples that it processes in this round."""

    def __init__(self, rank: int, size: int, job: Job, state: State, like: Buffer) -> None:
        self.rank, self.job, self.state = rank, job, state
        self.numbers, self.samples, self.keys = dealt(job, rank, size)
        self.local: dict[Hashable, Local] = {}
        self.late: dict[int, list[Late]] = {}
        self.variables = Variables(job.layout, buffers.like(like))
        self.passed: tuple[int, list[int]] = (-1, [])  # the number of a pass, and its order
        self.stretch: list[int] = []
        self.weight = self.round = 0
        self.trial: Kept | None = None  # in a round that may be undone
        self.mean_loss: float | None = None

    def __len__(self) -> int:
        return len(self.stretch)

    def stretch_of(self, number: int) -> list[int]:
        """Return the places of the samples of this worker's stretch of that number, in their order."""
        pass_, place = divmod(number, self.job.rounds)
        count = len(self.samples)
        if self.passed[0] != pass_:
            shuffled = order(self.job.seed, self.rank, pass_, count) if self.job.shuffle else list(range(count))
            self.passed = pass_, shuffled
        low, high = (count * edge // self.job.rounds for edge in (place, place + 1))
        return self.passed[1][low:high]

    def begin(self, weight: int, round_: int, *, trial: bool) -> None:
        """Begin a round in which samples have that weight; 0 for a worker that rests. A trial may be undone."""
        self.weight, self.round = weight, round_
        self.stretch = self.stretch_of(self.state.done[self.rank]) if weight else []
        self.trial = Kept({}, {}) if trial else None

    def process(self, values: Buffer) -> Any:
        """Process the stretch; return what is to be averaged, after the mean loss where samples have one."""
        shared = self.variables
        shared._begin(values, max(1, self.weight), (self.job.seed, self.rank, self.state.rounds, 4))
        total, counted = 0.0, 0
        for place in self.stretch:
            answer = self.process_one(place, shared)
            if answer is not None:
                total += answer
                counted += 1
        if counted not in (0, len(self.stretch)):
            raise TypeError(
                f"process must return a loss for every sample or for none, got {counted} from {len(self)} samples"
            )
        name = None if self.trial is not None else self.job.layout.not_finite(shared._buffer)
        if name is not None:
            raise Diverged(self.rank, self.round, what=f"the values of {name!r}")
        merged = shared._contribution()
        return (total / counted, merged) if counted else merged

    def process_one(self, place: int, shared: Variables) -> float | None:
        """Make what the sample has left undone, and let the user's function process it."""
        key = self.keys[place]
        local = self.local.get(key, {})
        late = self.late.pop(place, None)
        try:
            if self.trial is not None:
                self.trial.late[place] = late
                if key not in self.trial.local:
                    self.trial.local[key] = deepcopy(local)
            if late:
                shared._add_late(late)
            answer = self.job.process(self.samples[place], float(self.weight), shared, local)
            loss = None if answer is None else float(answer)
        except Exception as error:
            raise self.failed(place, error) from error
        if loss is not None and not isfinite(loss):
            raise Diverged(self.rank, self.round, loss, f"the losses at sample {self.numbers[place]}")
        if local:
            self.local[key] = local
        if shared.postponed:
            self.late[place], shared.postponed = shared.postponed, []
        if self.job.saved and (local or place in self.late):
            raise ValueError(
                f"sample {self.numbers[place]} has a local variable or a delayed addition, and checkpoints keep "
                "neither: run without checkpoint"
            )
        return loss

    def settle(self, *, kept: bool) -> None:
        """End a round, whose work is kept or undone."""
        if self.trial is not None and not kept:
            for key, local in self.trial.local.items():
                self.local.pop(key, None)
                self.local.update({key: local} if local else {})
            for place, late in self.trial.late.items():
                self.late.pop(place, None)
                self.late.update({place: late} if late else {})
        self.trial = None

    # --- losses ------------------------------------------------------------------------------------------

    def judge(self, candidates: Sequence[Buffer]) -> list[float]:
        """Return the sum of losses for each candidate over as many samples as a stretch has, and their number.

        They are drawn from all of the worker's, so that a stretch just processed counts for no more than its part.
        """
        count = len(self.samples)
        draw = np.random.default_rng((self.job.seed, self.rank, self.state.rounds, 6))
        places: list[int] = draw.permutation(count)[: -(-count // self.job.rounds)].tolist()
        return [*(self.losses(values, places) for values in candidates), len(places)]

    def losses(self, values: Buffer, places: Sequence[int] | None = None) -> float:
        """Return the sum of losses over some or all of this worker's samples."""
        assert self.job.loss is not None
        shared = Values(self.job.layout, values)
        total = 0.0
        for place in range(len(self.samples)) if places is None else places:
            try:
                total += float(self.job.loss(self.samples[place], shared, self.local.get(self.keys[place], {})))
            except Exception as error:
                raise self.failed(place, error) from error
        return total

    def failed(self, place: int, error: Exception) -> WorkerFailed:
        return WorkerFailed(self.rank, self.round, f"sample {self.numbers[place]}", error)


def batches(parts: dict[int, Part], stretches: int) -> Callable[[int, int], Iterator[Part]]:
    """Return what gives each worker its part once for every round, until so many stretches are in the result."""

    def of(rank: int, size: int) -> Iterator[Part]:
        part, number = parts[rank], 0
        while number < part.state.rounds or part.state.kept < stretches:  # those before a checkpoint are skipped
            number += 1
            yield part

    return of
