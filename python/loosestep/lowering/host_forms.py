"""How collectives of one host are carried out, by their size: chosen by a short measurement on the machine itself.

All ranks measure together, and each chooses by the numbers of all: so all choose alike. Every choice has the same
bits. Which stores publish a piece is measured while collectives go on (csrc/shm/streaming_stores.hpp).
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from loosestep.foundation import buffers
from loosestep.requests import AllGather, AllReduce, Barrier

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from loosestep.requests import Buffer, Request

    Times = Mapping[tuple[int, int], float]

KB, MB = 1 << 10, 1 << 20
NEVER = 1 << 62
IN_PLACE = 0
SIZES = (16 * KB, 64 * KB, 256 * KB, MB, 4 * MB)
"""Bytes of the vectors that are summed in the measurement."""
PIECES = (512 * KB, 256 * KB, 128 * KB)
"""Bytes of the pieces in which other than shared vectors are copied; the first one is what is used unmeasured."""
TURNS = 8
GAIN = 0.9
"""Another form than that of `Forms()` must take at most this part of its time."""
LOSS = 1.5
"""In place may take so many times the time of copies and still be done: strangers disturb a measurement."""
LIMIT = 0.1
"""Seconds after which the rest is left unmeasured."""


class Forms(NamedTuple):
    """From how many bytes on a collective is done in place; pieces of others: (bytes of the call, of a piece)."""

    direct_from: int = 32 * KB
    pieces: tuple[tuple[int, int], ...] = ((0, PIECES[0]),)


def candidates(size: int) -> tuple[int, ...]:
    """Return the forms that are measured at a size: in place, and pieces that differ there."""
    return (IN_PLACE, PIECES[0], *(piece for piece in PIECES[1:] if piece < size))


def measured(
    perform: Callable[[Request], object],
    use: Callable[[Forms], object],
    shared: Callable[[int], Buffer],
    ranks: int,
    clock: Callable[[], float] = perf_counter,
) -> tuple[Forms, dict[tuple[int, int], float]]:
    """Time every form at every size on all ranks at once; return the choice, and seconds by (size, form).

    perform: carries out a collective. use: sets the form. shared: returns so many float32 in the ranks' memory.
    """
    begun = clock()
    times: dict[tuple[int, int], float] = {}
    for size in SIZES:
        shortest = np.array([*race(perform, use, size, shared, clock), clock() - begun])
        every = np.zeros(ranks * shortest.size)
        perform(AllGather(shortest, every))
        slowest = every.reshape(ranks, -1).max(axis=0)
        times |= {(size, form): float(each) for form, each in zip(candidates(size), slowest, strict=False)}
        if slowest[-1] > LIMIT:
            break
    return chosen(times), times


def race(
    perform: Callable[[Request], object],
    use: Callable[[Forms], object],
    size: int,
    shared: Callable[[int], Buffer],
    clock: Callable[[], float],
) -> list[float]:
    """Return the shortest time of a sum in each form; they take turns, so that a disturbance meets all."""
    requests = [AllReduce(shared(size // 4)), AllReduce(buffers.zeros(size // 4))]
    taken: list[list[float]] = [[] for _ in candidates(size)]
    for _ in range(TURNS):
        for form, seconds in zip(candidates(size), taken, strict=True):
            use(Forms(0 if form == IN_PLACE else NEVER, ((0, form or PIECES[0]),)))
            perform(Barrier())
            start = clock()
            perform(requests[form != IN_PLACE])
            seconds.append(clock() - start)
    return [min(seconds) for seconds in taken]


def chosen(times: Times) -> Forms:
    """Return the fastest forms by these seconds of (size, form); where it is close, those of `Forms()`."""
    sizes = sorted({size for size, _ in times})
    return Forms(direct_from(times, sizes), tuple(pieces(times, sizes)))


def pieces(times: Times, sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Return the fastest pieces: those measured at a size hold for calls from half of it on."""
    found = [(0, PIECES[0])]
    for size in sizes:
        piece = fastest(times, size)
        if (size, PIECES[-1]) in times and piece != found[-1][1]:
            found.append((size // 2, piece))
    return found


def fastest(times: Times, size: int) -> int:
    """Return the pieces that are fastest at a size."""
    piece = PIECES[0]
    for other in PIECES[1:]:
        if times.get((size, other), float("inf")) < GAIN * times[size, piece]:
            piece = other
    return piece


def direct_from(times: Times, sizes: Sequence[int]) -> int:
    """Return the size from which on in place is best; the usual one where not all sizes were measured."""
    if sizes[-1] < SIZES[-1]:
        return Forms().direct_from
    least = NEVER
    for size in reversed(sizes):
        others = [seconds for (at, form), seconds in times.items() if at == size and form != IN_PLACE]
        most = LOSS if size >= Forms().direct_from else GAIN
        if times[size, IN_PLACE] > most * min(others):
            return least
        least = size
    return least


def of_facts(facts: Any) -> Forms | None:
    """Return the choice that another rank sent as JSON, if it had one."""
    if facts is None:
        return None
    return Forms(int(facts[0]), tuple((int(size), int(piece)) for size, piece in facts[1]))
