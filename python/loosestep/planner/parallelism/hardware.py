"""What devices and links can do, and how long an operation takes on them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from loosestep.foundation import checks
from loosestep.foundation.value import Value
from loosestep.planner.parallelism.program import Op


@dataclass(frozen=True, repr=False)
class Link(Value):
    """A link between two devices, the same in both directions.

    latency: seconds from the start of a message to its first byte. bandwidth: bytes a second.
    """

    latency: float
    bandwidth: float

    def __post_init__(self) -> None:
        checks.positive("latency", self.latency, zero=True)
        if self.bandwidth != float("inf"):  # which is a link that costs nothing
            checks.positive("bandwidth", self.bandwidth)


@dataclass(frozen=True, repr=False)
class Hardware(Value):
    """Devices that are all alike, and the links of each. The defaults are those of no particular machine.

    An operation of f floating-point operations that reads and writes b bytes takes

        launch + max(f / flops, b / memory_bandwidth)

    seconds: arithmetic that is dense costs its operations, any other its bytes. Of n devices that each give b
    bytes, in a ring of links of that latency and bandwidth,

        an all-reduce takes 2 (n - 1) (latency + b / n / bandwidth)
        an all-gather takes   (n - 1) (latency + b / bandwidth)
        a send takes                   latency + b / bandwidth

    flops: floating-point operations a second, those that are reached, not the data sheet's.
    memory_bandwidth: bytes a second.
    memory: bytes of a device.
    launch: seconds that each operation costs besides.
    per_host: devices of a host, which are numbered together.
    within: the link between two devices of a host.
    between: the link of each device to those of other hosts.

    Reference: K. Santhanam et al., DistIR, arXiv:2111.05426, and its release's cost model, which adds arithmetic
    and memory instead of taking the larger, has no latencies, and multiplies some bytes by the size of a value.
    """

    flops: float = 100e12
    memory_bandwidth: float = 1e12
    memory: float = 40e9
    launch: float = 10e-6
    per_host: int = 8
    within: Link = field(default=Link(5e-6, 100e9))
    between: Link = field(default=Link(20e-6, 10e9))

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name in ("within", "between"):
                checks.instance(each.name, value, Link)
            elif each.name == "per_host":
                checks.integer(each.name, value)
            elif value != float("inf") or each.name == "launch":
                checks.positive(each.name, value, zero=each.name == "launch")

    def seconds(self, op: Op) -> float:
        """Return how long an operation takes, once it has begun."""
        if op.kind == "receive":  # the send has taken the time
            return 0.0
        if op.between is None:
            return self.launch + max(op.flops / self.flops, op.nbytes / self.memory_bandwidth)
        link, n = self.between if op.between else self.within, op.group
        if op.kind == "all-reduce":
            return 2 * (n - 1) * (link.latency + op.nbytes / n / link.bandwidth)
        if op.kind == "all-gather":
            return (n - 1) * (link.latency + op.nbytes / link.bandwidth)
        return link.latency + op.nbytes / link.bandwidth
