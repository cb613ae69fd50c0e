"""Requests of the runtime and of wrappers, which strategies do not yield."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from loosestep.requests import Communication

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(eq=False, slots=True)
class Drained(Communication):
    """Stands for a started request that was drained at a synchronization point: its `Wait` lasts until `due`."""

    due: float = 0.0  # in virtual time; in real time, never later than now


@dataclass(frozen=True, eq=False, slots=True)
class Drain(Communication):
    """Complete what `Start` began, unmetered; in virtual time `drained` records when it would have ended."""

    request: Communication
    drained: Drained

    def __str__(self) -> str:
        return f"Drain({self.request})"


@dataclass(frozen=True, eq=False, slots=True)
class RollCall(Communication):
    """Ask whether any worker has data for this round; `answer` receives one bool.

    Answered at once where this worker has; one that has not waits until another has, or until none can.
    """

    round: int
    present: bool
    answer: list[bool] = field(default_factory=list)


@dataclass(frozen=True, eq=False, slots=True)
class Script(Communication):
    """A request lowered to primitives that run beside the worker's own; if not started, waited for at once."""

    source: Communication
    requests: Iterator[Communication]
    sent: tuple[int, int] | None = None  # (bytes, messages) of it, where that is not what the source would send

    def __str__(self) -> str:
        return str(self.source)


@dataclass(frozen=True, eq=False, slots=True)
class IntraHost(Communication):
    """A phase of a hierarchical collective: requests of one host's workers, in order, in memory that they share.

    Those of one `phase` are carried out in the order of their `number`, from 0, none left out. Where workers share
    no memory they are messages of that `tag`.
    """

    phase: int
    number: int
    tag: int
    requests: Iterator[Communication]
