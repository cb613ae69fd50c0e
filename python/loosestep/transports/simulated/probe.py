"""What `loosestep.probe` has measured of a cluster: a small JSON file, which `Simulated.like` reads."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from loosestep.foundation.files import replace
from loosestep.transports.simulated.prices import Prices

__all__ = ["Measurement", "Probe"]

FORMAT = 1


@dataclass(frozen=True)
class Measurement:
    """How long one pattern took: `seconds`, the mean of `count` repetitions and of all workers, `spread` their
    standard deviation.

    together: how many messages of `nbytes` a worker sends at once.
    """

    pattern: str
    nbytes: int
    together: int
    seconds: float
    spread: float
    count: int


@dataclass(frozen=True)
class Probe:
    """A cluster as it was measured.

    n: workers. hosts: how many of them on each host, in rank order. transport, machine: in words.
    latency, bandwidth: of the links between workers, on one host or each on its own, or between hosts, in seconds
    and bytes a second, and `prices` what else a message costs. host_latency, host_bandwidth: of links within a
    host, where there are several hosts of several workers. center: where shared variables are. steps: for each
    worker, seconds of a step that are equally frequent. measured: what all that was fitted to. seconds: how long
    measuring took.
    """

    n: int
    hosts: tuple[int, ...]
    transport: str
    machine: str
    latency: float
    bandwidth: float
    prices: Prices
    center: Literal["apart", "shards"]
    steps: tuple[tuple[float, ...], ...]
    host_latency: float | None = None
    host_bandwidth: float | None = None
    measured: tuple[Measurement, ...] = ()
    seconds: float = 0.0

    @property
    def step_time(self) -> float:
        """Return the mean seconds of a step, over all workers."""
        means = [sum(each) / len(each) for each in self.steps]
        return sum(means) / len(means)

    def write(self, path: str | PathLike[str]) -> None:
        """Write this as JSON, or leave the file as it was."""
        replace(Path(path), self.text().encode())

    def text(self) -> str:
        """Return what `write` writes."""
        return json.dumps({"format": FORMAT, **asdict(self)}) + "\n"

    @classmethod
    def read(cls, path: str | PathLike[str]) -> Probe:
        """Read what `write` wrote.

        Raises ValueError where the file holds something else, and OSError where it cannot be read.
        """
        try:
            return cls.of(json.loads(Path(path).read_text()))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{path} is not what `loosestep probe` writes: {error}") from error

    @classmethod
    def of(cls, content: dict[str, Any]) -> Probe:
        """Return the probe that a file's content describes."""
        if content.pop("format") != FORMAT:
            raise ValueError("it has another format")
        if set(content) != {each.name for each in fields(cls)}:
            raise ValueError(f"it has the fields {sorted(content)}")
        return cls(
            **{
                **content,
                "hosts": tuple(content["hosts"]),
                "prices": Prices(**content["prices"]),
                "steps": tuple(tuple(map(float, each)) for each in content["steps"]),
                "measured": tuple(Measurement(**each) for each in content["measured"]),
            }
        )
