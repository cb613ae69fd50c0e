"""The block that is printed before a run: what will be done, with what, on what."""

from __future__ import annotations

import inspect
from statistics import fmean
from textwrap import fill
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from loosestep.foundation import buffers, units
from loosestep.lowering.costs import cost_of
from loosestep.requests import AllGather, AllReduce, Gradient, Local, Ready, Shared
from loosestep.requests.worker import Worker
from loosestep.topologies.base import LARGEST, Topology

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from loosestep.requests import Request
    from loosestep.strategies.base import Strategy

ASKED = 256  # workers whose first round is dry-run
SAMPLED = 64  # of the members of a collective


def summary(strategy: Strategy) -> str:
    """Return what a method does: the first sentence of its documentation."""
    paragraph = " ".join((inspect.getdoc(type(strategy)) or "").split("\n\n")[0].split())
    first = paragraph.split(". ")[0].rstrip(".:")
    return first + "."


def block(facts: Mapping[str, str], room: int | None = None) -> str:
    """Return names and what they are, one a line; what is longer than `room` goes on in a next line, indented.

    >>> print(block({"data": "digits", "model": "MLP(64), 4,810 parameters"}, 24))
    data   digits
    model  MLP(64), 4,810
           parameters
    """
    width = max(map(len, facts))
    lines = [f"{name:{width}}  {fact}" for name, fact in facts.items()]
    if room is None:
        return "\n".join(lines)
    indent = " " * (width + 2 if 2 * (width + 2) <= room else 4)
    return "\n".join(fill(line, room, subsequent_indent=indent, break_on_hyphens=False) for line in lines)


def warnings(strategies: Iterable[Strategy], size: int) -> list[str]:
    """Return what the methods warn so many workers of, a line each."""
    return [f"warning: {each!r}: {told}" for each in strategies for told in each.warnings(size)]


def graphs(strategies: Iterable[Strategy], size: int) -> dict[str, str]:
    """Return the graphs on which the methods mix, with what is known of each for so many workers.

    The spectral gap is that of `Topology.gap`, where the graph says it, else that of its matrices.
    """
    found = [value for each in strategies for value in vars(each).values() if isinstance(value, Topology)]
    return {repr(graph): described(graph, size) for graph in found}


def described(graph: Topology, size: int) -> str:
    """Return its degree and spectral gap."""
    graph.check_size(size)
    gap, period = graph.gap(size), graph.period(size)
    if gap is None and size > LARGEST:
        return f"degree {graph.degree(size):.3g}"
    gap = graph.spectral_gap(size) if gap is None else gap
    after = "" if period == 1 else f" of a period of {period} steps" if period else " of a step, in expectation"
    return f"degree {graph.degree(size):.3g}, spectral gap {gap:.3g}{after}"


class DryRun(NamedTuple):
    """What one worker does in its first round; `clock`: steps that others make meanwhile count as well."""

    steps: int
    clock: int
    sent: float  # bytes for a byte of the model
    messages: float


def a_round(strategy: Strategy, size: int, nbytes: int, itemsize: int = 4) -> str:
    """Return what a worker does and sends in its first round, for a model of so many bytes.

    Bytes are those of `Strategy.cost`, where the strategy says them and all workers send alike; else those of a
    dry run of every worker: where they differ, as on a graph with unequal numbers of neighbours, the least and
    the most.
    """
    steps, clocks, shares, messages = zip(*dry_runs(strategy, size, itemsize), strict=True)
    sent = [share * nbytes for share in shares]
    cost = strategy.cost(size, nbytes // itemsize)
    if cost is not None and units.size(min(sent)) == units.size(max(sent)):
        sent = [cost.total(itemsize)] * len(sent)
    a_step = [each / (clock or 1) for each, clock in zip(sent, clocks, strict=True)]
    told = f"{span(steps, str)} {'local step' if max(steps) == 1 else 'local steps'}, sends "
    if max(messages) > min(messages):
        told += f"{span(messages, '{:.0f}'.format)} messages, "
    told += f"{span(sent, units.size)} a worker"
    return told if max(steps) < 2 else f"{told} ({span(a_step, units.size)} a step)"


def span(values: Sequence[float], told: Callable[[Any], str]) -> str:
    """Return the least to the most, or the one that all are."""
    least, most = told(min(values)), told(max(values))
    return most if least == most else f"{least} to {most}"


def dry_runs(strategy: Strategy, size: int, itemsize: int = 8) -> list[DryRun]:
    """Return what every worker asks for in its first round; of more than 256 workers, every so many-th."""
    dtype = np.dtype(np.float32 if itemsize <= 4 else np.float64)
    return [dry_run(strategy, rank, size, dtype) for rank in range(0, size, -(-size // ASKED))]


def dry_run(strategy: Strategy, rank: int, size: int, dtype: np.dtype[Any]) -> DryRun:
    """Return one worker's first round with a small model: its requests are counted, and not performed."""

    def share(name: str, like: Any) -> Shared:
        return Shared(name, like.size, like.dtype, like)

    worker = Worker(rank, size, buffers.zeros(16 * size, dtype), share)
    worker.round = worker.samples = 1
    worker.losses = (0.0, 1)
    requests = list(strategy.round(worker, strategy.init(worker)))
    costs = [sent_by_each(request, rank, size) for request in requests]
    sent, messages = (sum(each) for each in zip(*costs, strict=True))
    steps, idle = sum(map(steps_of, requests)), sum(getattr(request, "idle", 0) for request in requests)
    return DryRun(steps, steps + idle, sent / worker.params.nbytes, messages)


def sent_by_each(request: Request, rank: int, size: int) -> tuple[float, float]:
    """Return bytes and messages: this rank's, or the mean over the members of a collective.

    Chunks of a small bucket need not be alike, as those of a model are. Of many ranks every so many-th is asked.
    """
    inner = getattr(request, "request", request)
    ranks = [rank]
    if isinstance(inner, (AllReduce, AllGather)):
        members = inner.group or range(size)
        ranks = list(members[:: -(-len(members) // SAMPLED)])
    nbytes, messages = zip(*(cost_of(request, each, size) for each in ranks), strict=True)
    return fmean(nbytes), fmean(messages)


def steps_of(request: Request) -> int:
    """Return how many gradient steps it begins."""
    if isinstance(request, Local):
        return request.steps
    return int(isinstance(request, Gradient) or (isinstance(request, Ready) and request.bucket.index == 0))
