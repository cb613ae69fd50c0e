"""Tries all degrees for a number of devices, and sorts them by the length of a training step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from loosestep.foundation import checks
from loosestep.planner.parallelism.distribution import Degrees, Training
from loosestep.planner.parallelism.estimator import Estimate, Estimator
from loosestep.planner.parallelism.hardware import Hardware
from loosestep.planner.parallelism.models import Model
from loosestep.planner.parallelism.schedules import SCHEDULES

SHOWN = 3
"""How many reasons an error gives."""


@dataclass(frozen=True)
class Ranking:
    """All configurations that were tried.

    fitting: those that fit in the devices' memory, the fastest first; of those that are equally fast, the one that
        needs less memory, then smaller degrees. too_large: the others, the smallest first.
    refused: those that cannot be, with the reason.
    """

    devices: int
    memory: float
    fitting: list[Estimate]
    too_large: list[Estimate]
    refused: list[tuple[Degrees, str]]

    @property
    def count(self) -> int:
        """How many configurations were estimated."""
        return len(self.fitting) + len(self.too_large)

    @property
    def best(self) -> Estimate:
        """The fastest one. Raises ValueError, which says what is missing, where none fits."""
        if self.fitting:
            return self.fitting[0]
        if not self.too_large:
            reasons = Counter(reason for _, reason in self.refused).most_common(SHOWN)
            told = "; ".join(reason for reason, _ in reasons) or "the degrees to try have no such product"
            raise ValueError(f"there is no configuration for {self.devices} devices: {told}")
        least = self.too_large[0]
        raise ValueError(
            f"nothing fits in {gigabytes(self.memory)} a device: the smallest, {least.degrees}, needs "
            f"{gigabytes(least.peak)}, {gigabytes(least.peak - self.memory)} too much"
        )


def gigabytes(count: float) -> str:
    """Return bytes as GB, of 10^9 bytes each."""
    return f"{count / 1e9:.3g} GB"


def factors(number: int) -> list[int]:
    """Return all divisors, ascending.

    >>> factors(12)
    [1, 2, 3, 4, 6, 12]
    """
    return [each for each in range(1, number + 1) if number % each == 0]


def candidates(
    devices: int,
    batch: int,
    *,
    data: Sequence[int] = (),
    tensor: Sequence[int] = (),
    pipeline: Sequence[int] = (),
    microbatches: Sequence[int] = (),
    schedules: Sequence[str] = SCHEDULES,
) -> Iterator[Degrees]:
    """Yield all degrees whose product is the number of devices; see `search`."""
    for tensor_degree in tensor or factors(devices):
        for pipeline_degree in pipeline or factors(devices):
            data_degree, rest = divmod(devices, tensor_degree * pipeline_degree)
            if rest or data_degree < 1 or (data and data_degree not in data):
                continue
            for count in microbatches or usual_microbatches(batch // data_degree, pipeline_degree):
                alike = pipeline_degree == 1 or count == 1  # the schedules are then one, or differ in memory alone
                for schedule in schedules[:1] if alike else schedules:
                    yield Degrees(data_degree, tensor_degree, pipeline_degree, count, schedule)


def usual_microbatches(samples: int, stages: int) -> list[int]:
    """Return the divisors of a replica's batch, up to 64 or 4 for each stage.

    More would hardly shorten the step: of M microbatches and S stages the share of waiting is (S-1) / (M+S-1).

    >>> usual_microbatches(12, 2)
    [1, 2, 3, 4, 6, 12]
    """
    most = min(max(64, 4 * stages), max(1, samples))
    return [each for each in range(1, most + 1) if samples % each == 0]


def search(
    model: Model,
    training: Training,
    hardware: Hardware,
    devices: int,
    *,
    data: Sequence[int] = (),
    tensor: Sequence[int] = (),
    pipeline: Sequence[int] = (),
    microbatches: Sequence[int] = (),
    schedules: Sequence[str] = SCHEDULES,
) -> Ranking:
    """Estimate a training step in every configuration of so many devices, and rank those that fit in memory.

    data, tensor, pipeline: the degrees to try; by default all whose product is `devices`.
    microbatches: their numbers to try; by default those of `usual_microbatches`.
    schedules: of pipelines; with one stage, or one microbatch, the first of them alone.

    Degrees that do not divide the batch, or a layer's size, are refused, with the reason.

    >>> from loosestep.planner.parallelism.models import mlp
    >>> found = search(mlp(784, 4096, 4096, 10), Training(4096), Hardware(), 4)
    >>> found.best.degrees
    Degrees(data=4)

    Reference: K. Santhanam et al., DistIR, arXiv:2111.05426, section 5.
    """
    checks.integer("devices", devices)
    for name, numbers in (
        ("data", data),
        ("tensor", tensor),
        ("pipeline", pipeline),
        ("microbatches", microbatches),
    ):
        for number in numbers:
            checks.integer(name, number)
    wanted = {"data": data, "tensor": tensor, "pipeline": pipeline, "microbatches": microbatches}
    for name, numbers in wanted.items():
        for number in numbers:
            checks.integer(name, number)
    estimator = Estimator(model, training, hardware)
    found: list[Estimate] = []
    refused: list[tuple[Degrees, str]] = []
    for degrees in candidates(devices, training.batch, **wanted, schedules=schedules):
        try:
            found.append(estimator.estimate(degrees))
        except ValueError as error:
            refused.append((degrees, str(error)))
    fitting = [each for each in found if each.peak <= hardware.memory]
    too_large = [each for each in found if each.peak > hardware.memory]
    fitting.sort(key=lambda each: (each.seconds, each.peak, order(each.degrees)))
    too_large.sort(key=lambda each: (each.peak, each.seconds, order(each.degrees)))
    return Ranking(devices, hardware.memory, fitting, too_large, refused)


def order(degrees: Degrees) -> tuple[int, int, int, int, str]:
    """Return what decides between configurations that are equally good."""
    return degrees.tensor, degrees.pipeline, degrees.data, degrees.microbatches, degrees.schedule
