"""Which workers form a cluster: groups of neighbouring ranks, by number, by name, or those that share a host."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, TypeAlias

from loosestep.foundation import checks

if TYPE_CHECKING:
    from loosestep.requests.worker import Worker

Clusters: TypeAlias = "int | tuple[tuple[str, int], ...]"


def check_clusters(clusters: Clusters) -> None:
    """Refuse what is neither a number of workers nor pairs of a name and a number of workers."""
    if not isinstance(clusters, tuple):
        checks.integer("clusters", clusters)
        return
    for pair in clusters:
        if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str)):
            raise TypeError(f"clusters must be a number of workers or pairs (name, workers), got {pair!r}")
        checks.integer(f"the workers of cluster {pair[0]!r}", pair[1])
    names = [name for name, _ in clusters]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"clusters must have one name each, and be at least one, got {names}")


def ranks_of(clusters: Clusters | None, worker: Worker) -> tuple[tuple[int, ...], ...]:
    """Return the ranks of each cluster, in order; None: of each host, where a transport says it, else of all."""
    everybody = tuple(range(worker.size))
    if clusters is None:
        return worker.hosts or (everybody,)
    if not isinstance(clusters, tuple):
        return tuple(everybody[first : first + clusters] for first in range(0, worker.size, clusters))
    counts = [count for _, count in clusters]
    if sum(counts) != worker.size:
        raise ValueError(f"clusters must have {worker.size} workers in all, got {sum(counts)} in {clusters!r}")
    return tuple(everybody[first:last] for first, last in pairwise(accumulate(counts, initial=0)))


def place_in(clusters: tuple[tuple[int, ...], ...], rank: int) -> int:
    """Return the number of the cluster of a rank."""
    return next(number for number, members in enumerate(clusters) if rank in members)
