"""What a training step would take with another cache, other cores, another disk: predictions from three rates."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import ceil, inf
from typing import Any, Literal

from loosestep.foundation import checks
from loosestep.foundation.value import Value

Pipeline = Literal["serial", "prefetch", "staged"]
PIPELINES = ("serial", "prefetch", "staged")


@dataclass(frozen=True, repr=False)
class Rates(Value):
    """Samples per second of the three stages of a loop, each alone, and the throughput that follows from them.

    A cache that holds a fraction c of the data delivers

        store(c) = 1 / (c / memory + (1 - c) / fetch)

    samples per second, and the loop, by the way in which its stages overlap,

        staged:    min(compute, prep, store(c))                      each stage works ahead of the next
        prefetch:  min(compute, 1 / (1 / prep + 1 / store(c)))       workers fetch and prepare in turn, ahead of
                                                                     the step: torch's DataLoader with workers
        serial:    1 / (1 / compute + 1 / prep + 1 / store(c))       nothing overlaps: num_workers=0

    compute: what the step takes, G of the paper. prep: what the loader alone delivers from memory, with `cores`
        cores. fetch: what the disk delivers. memory: what a cache delivers; infinite where prep counts it.

    Every predicting method takes `cache`, the cached fraction of the data, from 0 to 1; and `cores`, a number of
    cores, `disk` and `device`, factors by which the disk and the computing are faster.

    Reference: J. Mohan, A. Phanishayee, A. Raniwala, V. Chidambaram, Analyzing and Mitigating Data Stalls in DNN
    Training, PVLDB 14(5), 2021, arXiv:2007.06775; `staged` is its formula.

    >>> rates = Rates(compute=1000, prep=1500, fetch=500, pipeline="staged")
    >>> rates.throughput(cache=0.25), rates.limit(cache=0.25)
    (666.6666666666666, 'fetch')
    >>> rates.cache_needed(), rates.cores_needed(), rates.disk_needed()
    (0.5, 1, 2.0)
    """

    compute: float
    prep: float
    fetch: float = inf
    memory: float = inf
    cores: int = 1
    pipeline: Pipeline = "prefetch"

    def __post_init__(self) -> None:
        for name in ("compute", "prep", "fetch", "memory"):
            if getattr(self, name) != inf:
                checks.positive(name, getattr(self, name))
        checks.integer("cores", self.cores)
        checks.one_of("pipeline", self.pipeline, PIPELINES)

    def seconds(
        self, cache: float = 0.0, cores: int | None = None, disk: float = 1.0, device: float = 1.0
    ) -> float:
        """Return the seconds that a sample takes."""
        compute, prep, fetch = self._stages(cache, cores, disk, device)
        if self.pipeline == "staged":
            return max(compute, prep, fetch)
        return max(compute, prep + fetch) if self.pipeline == "prefetch" else compute + prep + fetch

    def throughput(
        self, cache: float = 0.0, cores: int | None = None, disk: float = 1.0, device: float = 1.0
    ) -> float:
        """Return the samples per second."""
        seconds = self.seconds(cache, cores, disk, device)
        return 1 / seconds if seconds else inf

    def limit(
        self, cache: float = 0.0, cores: int | None = None, disk: float = 1.0, device: float = 1.0
    ) -> Literal["compute", "prep", "fetch"]:
        """Return the stage that takes longest, of the loader's two only where the step waits for the loader."""
        compute, prep, fetch = self._stages(cache, cores, disk, device)
        loader = prep + fetch if self.pipeline == "prefetch" else max(prep, fetch)
        if compute >= loader:
            return "compute"
        return "prep" if prep >= fetch else "fetch"

    def cache_needed(self) -> float | None:
        """Return the smallest cached fraction with which fetching delays nothing; None where no cache suffices."""
        budget = self._fetch_budget()
        disk, memory = 1 / self.fetch, 1 / self.memory
        if disk <= budget:
            return 0.0
        return None if memory > budget or budget < 0 else (disk - budget) / (disk - memory)

    def cores_needed(self, cache: float = 1.0) -> int | None:
        """Return the fewest cores with which the step waits for no preparation, with that much of a cache.

        None where no number suffices: in a serial loop, or where fetching alone takes as long as the step.
        """
        _, _, fetch = self._stages(cache, None, 1.0, 1.0)
        budget = 1 / self.compute - (fetch if self.pipeline == "prefetch" else 0.0)
        if self.prep == inf:
            return 1
        if self.pipeline == "serial" or budget <= 0:
            return None
        return max(1, ceil(self.cores / self.prep / budget - 1e-9))

    def disk_needed(self, cache: float = 0.0) -> float | None:
        """Return how many times as fast the disk must be so that fetching delays nothing; None where none is."""
        checks.fraction("cache", cache)
        budget = self._fetch_budget() - cache / self.memory
        missed = (1 - cache) / self.fetch
        if missed <= budget or missed == 0:
            return 1.0
        return missed / budget if budget > 0 else None

    def _fetch_budget(self) -> float:
        """Return the seconds that fetching a sample may take without a delay."""
        if self.pipeline == "staged":
            return max(1 / self.compute, 1 / self.prep)
        return 1 / self.compute - 1 / self.prep if self.pipeline == "prefetch" else 0.0

    def _stages(self, cache: float, cores: int | None, disk: float, device: float) -> tuple[float, float, float]:
        """Return the seconds of a sample in compute, prep and fetch."""
        checks.fraction("cache", cache)
        checks.positive("disk", disk)
        checks.positive("device", device)
        cores = self.cores if cores is None else checks.integer("cores", cores)
        fetch = cache / self.memory + (1 - cache) / (self.fetch * disk)
        return 1 / (self.compute * device), self.cores / (self.prep * cores), fetch

    def as_dict(self) -> dict[str, Any]:
        """Return the rates as a dictionary for JSON, in which None is infinite."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: None if value == inf else value for name, value in values.items()}
