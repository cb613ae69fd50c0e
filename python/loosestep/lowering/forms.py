"""How the messages of an allreduce and an allgather are arranged: chosen by size, workers and links.

A form changes who sends what and when, never the order of a sum. The choice is a function of numbers that all
members know, so all choose alike.
"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loosestep.requests.links import Links


class Form(Enum):
    """The arrangement of an allreduce of P bytes over n workers, and how long it takes.

    WHOLE: each sends its vector to all others, and all fold: latency + (n-1) P / bandwidth.
    DIRECT: each sends every other the chunk that this one folds, then all the chunk that it has folded; the n-1
        messages of each phase at once: 2 latency + 2 (n-1)/n P / bandwidth.
    PAIRWISE: the same messages, each when the one before has come: 2 (n-1) latency + 2 (n-1)/n P / bandwidth.
    """

    WHOLE = "whole vectors"
    DIRECT = "chunks, all at once"
    PAIRWISE = "chunks, one after the other"

    @property
    def whole(self) -> bool:
        """Whether whole vectors are sent, in one phase."""
        return self is Form.WHOLE

    @property
    def at_once(self) -> bool:
        """Whether no message of a phase waits for another."""
        return self is not Form.PAIRWISE


ROOM = 4 << 20  # bytes: what a worker may receive of others' whole vectors at once
CROWD = 16  # workers from which on messages that come to one link at once may be more than its queue holds
NARROW = 1.05  # ... so they go one after the other where that takes at most so many times as long


@lru_cache(1024)  # every round asks for the same
def of_all_reduce(n: int, nbytes: int, links: Links | None) -> Form:
    """Return the form of an allreduce of so many bytes over n workers; without links, DIRECT.

    WHOLE where it is faster than DIRECT: for P < n latency bandwidth / ((n-1) (n-2)), and for two workers always
    (which then send one message instead of two, of the same bytes together). PAIRWISE for many workers whose
    links are so narrow that waiting for each message does not matter: there one link then never has to take n-1
    messages at once.
    """
    if links is None or n < 2:
        return Form.DIRECT
    latency, bandwidth = links
    whole = latency + (n - 1) * nbytes / bandwidth
    direct, pairwise = (2 * hops * latency + 2 * (n - 1) / n * nbytes / bandwidth for hops in (1, n - 1))
    if whole < direct and (n == 2 or (n - 1) * nbytes <= ROOM):
        return Form.WHOLE
    return Form.PAIRWISE if n >= CROWD and pairwise <= NARROW * direct else Form.DIRECT


@lru_cache(1024)
def of_all_gather(n: int, nbytes: int, links: Links | None) -> Form:
    """Return the form of an allgather of pieces of so many bytes over n workers: DIRECT or PAIRWISE."""
    if links is None or n < CROWD:
        return Form.DIRECT
    direct, pairwise = (hops * links.latency + (n - 1) * nbytes / links.bandwidth for hops in (1, n - 1))
    return Form.PAIRWISE if pairwise <= NARROW * direct else Form.DIRECT


@lru_cache(256)
def hops(n: int, form: Form) -> Sequence[Sequence[int]]:
    """Return which of the messages 1 to n-1 a worker sends and receives at once; k goes to the k-th after it."""
    if form is Form.PAIRWISE or n < 2:
        return [[hop] for hop in range(1, n)]
    return [range(1, n)]
