"""The block that is printed before a run: what will be done, with what, on what."""

from __future__ import annotations

import inspect
from statistics import fmean
from textwrap import fill
from typing import TYPE_CHECKING, Any, NamedTuple

from loosestep.foundation import buffers, units
from loosestep.lowering.costs import cost_of
from loosestep.requests import Gradient, Local, Ready, Shared
from loosestep.requests.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from loosestep.requests import Request
    from loosestep.strategies.base import Strategy

LOOKED_AT = 64  # workers whose first round is asked for


def sentence(strategy: Strategy) -> str:
    """What a method does, in the first sentence of its documentation."""
    paragraph = " ".join((inspect.getdoc(type(strategy)) or "").split("\n\n")[0].split())
    first = paragraph.split(". ")[0].rstrip(".:")
    return first + "."


def block(facts: Mapping[str, str], room: int | None = None) -> str:
    """Names and what they are, one a line; what is longer than `room` goes on in a next line, indented.

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


def cautions(strategies: Iterable[Strategy], size: int) -> list[str]:
    """What the methods warn so many workers of, a line each."""
    return [f"warning: {each!r}: {told}" for each in strategies for told in each.warnings(size)]


class Asked(NamedTuple):
    """What one worker does in its first round; `clock`: steps that others make meanwhile count as well."""

    steps: int
    clock: int
    sent: float  # bytes for a byte of the model
    messages: float


def a_round(strategy: Strategy, size: int, nbytes: int) -> str:
    """What a worker does and sends in its first round, of a model of so many bytes: asked, and not performed.

    Where workers differ, as on a graph whose workers have unequal numbers of neighbours: the least and the most.
    """
    steps, clocks, sent, messages = zip(*asked_in_a_round(strategy, size), strict=True)
    a_step = [each * nbytes / (clock or 1) for each, clock in zip(sent, clocks, strict=True)]
    told = f"{span(steps, str)} {'local step' if max(steps) == 1 else 'local steps'}, sends "
    if max(messages) > min(messages):
        told += f"{span(messages, '{:.0f}'.format)} messages, "
    told += f"{span([each * nbytes for each in sent], units.size)} a worker"
    return told if max(steps) < 2 else f"{told} ({span(a_step, units.size)} a step)"


def span(values: Sequence[float], told: Callable[[Any], str]) -> str:
    """The least to the most, or the one that all are; chunks of a small model need not be alike."""
    least, most = told(min(values)), told(max(values))
    return most if least == most else f"{least} to {most}"


def asked_in_a_round(strategy: Strategy, size: int) -> list[Asked]:
    """What each worker asks for; of more than 64, of every so many-th."""
    return [asked_by(strategy, rank, size) for rank in range(0, size, -(-size // LOOKED_AT))]


def asked_by(strategy: Strategy, rank: int, size: int) -> Asked:
    """One worker's first round, of a small model."""

    def share(name: str, like: Any) -> Shared:
        return Shared(name, like.size, like.dtype, like)

    worker = Worker(rank, size, buffers.zeros(16 * size), share)
    worker.round = worker.samples = 1
    requests = list(strategy.round(worker, strategy.init(worker)))
    costs = [sent_by_each(request, size) for request in requests]
    sent, messages = (sum(each) for each in zip(*costs, strict=True))
    steps, idle = sum(map(steps_of, requests)), sum(getattr(request, "idle", 0) for request in requests)
    return Asked(steps, steps + idle, sent / worker.params.nbytes, messages)


def sent_by_each(request: Request, size: int) -> tuple[float, float]:
    """Bytes and messages, the mean over those who take part: chunks of a small bucket need not be alike."""
    ranks = getattr(request, "group", None) or range(size)
    nbytes, messages = zip(*(cost_of(request, rank, size) for rank in ranks), strict=True)
    return fmean(nbytes), fmean(messages)


def steps_of(request: Request) -> int:
    """Gradient steps that it begins."""
    if isinstance(request, Local):
        return request.steps
    return int(isinstance(request, Gradient) or (isinstance(request, Ready) and request.bucket.index == 0))
