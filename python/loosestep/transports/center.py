"""Requests to shared variables that the native core keeps in one memory for all workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loosestep.requests import Elastic, Fetch, Push

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from loosestep.requests import Buffer, Request


def read(request: Fetch, rank: int = 0) -> None:
    """Copy the variable's present value into the request's buffer."""
    seen = request.shared.store.fetch(request.into, rank)
    if request.version is not None:
        request.version[:] = seen


def move(request: Push, values: Sequence[Buffer], rank: int = 0) -> None:
    """Apply what was pushed."""
    first, *others = (shared.store for shared in request.shared)
    first.push(request.rule, others, values, request.scalars, rank)


def handlers(rank: int) -> dict[type[Request], Callable[[Any], object]]:
    """Return the functions that perform one worker's requests at once."""
    return {
        Fetch: lambda request: read(request, rank),
        Push: lambda request: move(request, request.values, rank),
        Elastic: lambda request: request.shared.store.elastic(request.buf, request.rate, rank),
    }
