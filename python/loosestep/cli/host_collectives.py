"""What `loosestep info` says about collectives of two processes; `python -m` of this module is the second."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from loosestep import _core
from loosestep.foundation import units
from loosestep.lowering.host_forms import IN_PLACE, NEVER, Forms, measured
from loosestep.transports.processes.collective_slots import blocking_calls

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Request

RANKS = 2
PATIENCE = 20.0
"""Seconds for the second process to start, and for a collective."""


def inspect() -> dict[str, Any]:
    """Return the forms that two processes choose here, and seconds by bytes and form; or `why` there are none."""
    if not hasattr(_core, "Host"):
        return {"why": "needs Linux"}
    if _core.info()["cores"] < RANKS:
        return {"why": "needs two cores"}
    try:
        with second_process() as memory:
            forms, times = measure(*memory)
    except (OSError, RuntimeError) as error:
        return {"why": str(error)}
    rows = [{"bytes": size, "piece": form, "seconds": seconds} for (size, form), seconds in times.items()]
    pieces = [list(each) for each in forms.pieces]
    return {"why": None, "direct_from": forms.direct_from, "pieces": pieces, "times": rows}


@contextmanager
def second_process() -> Iterator[tuple[_core.Host, _core.HostArena]]:
    """Start the other process; yields this one's memory for collectives and for vectors."""
    descriptors = _core.Host.make(_core.Host.needed(RANKS)), _core.HostArena.make(RANKS)
    memory = _core.Host(descriptors[0], RANKS, 0, True), _core.HostArena(descriptors[1], RANKS, 0, False)
    started = subprocess.Popen(
        [sys.executable, "-m", __name__, *(f"/proc/{os.getpid()}/fd/{number}" for number in descriptors)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield memory
        started.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        pass
    finally:
        started.kill()
        started.wait()
        for number in descriptors:
            os.close(number)


def measure(host: _core.Host, arena: _core.HostArena) -> tuple[Forms, dict[tuple[int, int], float]]:
    """Time sums of both processes; each calls it."""
    calls = blocking_calls(host, tuple(range(RANKS)), PATIENCE)

    def perform(request: Request) -> None:
        if calls[type(request)](request) != "done":
            raise RuntimeError("the second process did not come")

    def shared(n: int) -> Any:
        made = arena.allocate(4 * n)
        if made is None:
            raise RuntimeError("no room in memory")
        return made.view(np.float32)

    try:
        return measured(perform, lambda forms: host.use(arena, *forms, True), shared, RANKS)
    finally:
        host.close()
        arena.close()


def as_text(found: dict[str, Any]) -> str:
    """Return what was found in a line."""
    if found["why"] is not None:
        return f"not measured: {found['why']}"
    least = found["direct_from"]
    where = "never in place" if least >= NEVER else f"in place from {units.size(least)} on"
    pieces = ", ".join(
        units.size(piece) + (f" from {units.size(size)} on" if size else "") for size, piece in found["pieces"]
    )
    largest = max(row["bytes"] for row in found["times"])
    best = {row["piece"]: row["seconds"] for row in found["times"] if row["bytes"] == largest}
    took = f"{best.pop(IN_PLACE) * 1e3:.2f} ms for {units.size(largest)}, copied {min(best.values()) * 1e3:.2f} ms"
    return f"two processes sum {where}, {took}; copied in pieces of {pieces}"


def main() -> None:
    """Be the second process."""
    host, arena = sys.argv[1:]
    measure(_core.Host(host, RANKS, 1, False), _core.HostArena(arena, RANKS, 1, False))


if __name__ == "__main__":
    main()
