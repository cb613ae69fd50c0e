"""The block that is printed before a run: what will be done, with what, on what."""

from __future__ import annotations

import inspect
from statistics import fmean
from textwrap import fill
from typing import TYPE_CHECKING, Any

from loosestep import buffers, units
from loosestep.collectives import traffic
from loosestep.requests import Gradient, Local, Ready, Shared
from loosestep.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from loosestep.requests import Request
    from loosestep.strategy import Strategy


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


def a_round(strategy: Strategy, size: int, nbytes: int) -> str:
    """What a worker does and sends in its first round, of a model of so many bytes: asked, and not performed."""
    steps, sent = asked_in_a_round(strategy, size)
    told = f"{units.times(steps, 'local step')}, sends {units.size(sent * nbytes)} a worker"
    return told if steps < 2 else f"{told} ({units.size(sent * nbytes / steps)} a step)"


def asked_in_a_round(strategy: Strategy, size: int) -> tuple[int, float]:
    """(local steps, bytes that are sent, for a byte of the model), of a small model: the mean over workers."""

    def share(name: str, like: Any) -> Shared:
        return Shared(name, like.size, like.dtype, like)

    worker = Worker(0, size, buffers.zeros(16 * size), share)
    worker.round = worker.samples = 1
    requests = list(strategy.round(worker, strategy.init(worker)))
    sent = sum(sent_by_each(request, size) for request in requests)
    return sum(map(steps_of, requests)), sent / worker.params.nbytes


def sent_by_each(request: Request, size: int) -> float:
    """Bytes, the mean over those who take part: chunks of a small bucket need not be alike."""
    ranks = getattr(request, "group", None) or range(size)
    return fmean(traffic(request, rank, size)[0] for rank in ranks)


def steps_of(request: Request) -> int:
    """Gradient steps that it begins."""
    if isinstance(request, Local):
        return request.steps
    return int(isinstance(request, Gradient) or (isinstance(request, Ready) and request.bucket.index == 0))
