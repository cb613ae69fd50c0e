"""What messages and updates cost besides latency and bandwidth, as `loosestep.probe` measures it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import inf, isfinite
from typing import TYPE_CHECKING, Any

from loosestep.foundation import checks
from loosestep.foundation.value import Value

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Prices"]


@dataclass(frozen=True, repr=False)
class Prices(Value):
    """The small prices of a cluster; all are nothing unless they are said.

    header: bytes of a message besides its content.
    send: seconds of the sender for each message, one after the other, also of one that goes on computing.
    receive, copy: seconds of the receiver for each message, and for each byte of it (copies, and the folding of
        what came).
    turn: seconds until a worker that computes goes on with a communication that it has started, or serves others.
    contention: the share by which a step is longer that begins while a communication which its worker has started
        goes on, since both need the processor.
    update: seconds that an update of the parameters takes for each of their bytes.
    inbound: bytes a second of all that comes to a worker's link (of a host's, where workers share hosts), None for
        no limit. What comes at the same time shares it.
    lag: tables of pairs (bytes, seconds): what a message of so many bytes takes beyond latency + bytes/bandwidth,
        as when TCP begins slowly, or less than that if negative; linear between them, and as the first and the
        last beyond. The first table is of messages that are sent alone, the next ones of those sent 2, 3, ...
        together; the last also holds for more.

    One of k messages of b bytes that are sent together begins to leave when those before it have left and the
    sender has spent `send` on each, and takes (b + header) / bandwidth; it is there latency + lag_k(b) later, and
    used receive + b copy after that.
    """

    header: float = 0.0
    send: float = 0.0
    receive: float = 0.0
    copy: float = 0.0
    turn: float = 0.0
    contention: float = 0.0
    update: float = 0.0
    inbound: float | None = None
    lag: tuple[tuple[tuple[float, float], ...], ...] = ()

    def __post_init__(self) -> None:
        for name in ("header", "send", "receive", "copy", "turn", "contention", "update"):
            checks.positive(name, getattr(self, name), zero=True)
        if self.inbound is not None and self.inbound != inf:
            checks.positive("inbound", self.inbound)
        tables = tuple(tuple((float(size), float(more)) for size, more in table) for table in self.lag)
        object.__setattr__(self, "lag", tables)
        for table in tables:
            sizes = [size for size, _ in table]
            if sizes != sorted(set(sizes)) or any(size < 0 for size in sizes):
                raise ValueError(f"lag must be tables of pairs (bytes, seconds) by growing bytes, got {table}")
            if not all(isfinite(seconds) for _, seconds in table):
                raise ValueError(f"lag must be finite, got {table}")

    @property
    def free(self) -> bool:
        """Return whether nothing costs anything."""
        return self == Prices()

    def native(self, host_of: Sequence[int] = ()) -> dict[str, Any]:
        """Return what the core takes; host_of: each worker's host, where those of a host share its link."""
        given = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "update"}
        given["inbound"] = inf if self.inbound is None else self.inbound
        return {**given, "host_of": list(host_of)}
