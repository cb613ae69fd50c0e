"""Collective calls between two steps of a user's loop, so that all workers go on alike, or raise alike."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from loosestep.foundation.errors import CheckpointError, Diverged, LoosestepError, Mismatch
from loosestep.requests import AllReduce

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from loosestep.requests import Buffer
    from loosestep.runtime.user_loop import Connection, Loop

Answer = TypeVar("Answer")


def maximum(connection: Connection, what: str, values: Buffer) -> None:
    """Set `values` to the maximum over all workers. Raises Mismatch that names the call if one is elsewhere."""
    try:
        connection.run_unmetered([AllReduce(values, op="max")])
    except Mismatch as error:
        raise Mismatch(f"{what} is for all workers, at one step, and not under `if rank == 0`: {error}") from error


class Agreement:
    """Collective calls of all workers of a loop, at one step.

    Answers are read after a reduction for which all have come. There are two places for them, used in turn: a
    worker that has read all may write its next answer before the others have read.
    """

    def __init__(self, loop: Loop) -> None:
        self.loop, self.turn = loop, 0
        self.mine: list[Any] = [None, None]
        survey = loop.connection.session.all_gather_object
        self.read = [survey(f"word {place}", partial(self.mine.__getitem__, place)) for place in (0, 1)]

    def barrier(self, what: str) -> None:
        """Block until all workers are here. Raises Mismatch that names the call if one is elsewhere."""
        maximum(self.loop.connection, what, np.zeros(1))

    def all_gather(self, what: str, mine: Any) -> list[Any]:
        """Return the values (JSON) of all workers, in rank order."""
        place, self.turn = self.turn, 1 - self.turn
        self.mine[place] = mine
        self.barrier(what)
        return self.read[place]()

    def all_or_none(self, what: str, action: Callable[[], Answer]) -> list[Answer]:
        """Return what the action returned (JSON) on each worker, in rank order; where it failed on one, all raise.

        Raises the first worker's CheckpointError or Diverged, in all alike. Another error is raised by the worker
        that made it, and the others raise CheckpointError.
        """
        mine: Any = None
        error: Exception | None = None
        try:
            mine = action()
        except (CheckpointError, Diverged) as found:
            error = found
        except LoosestepError:  # another worker is lost: there is nobody to agree with
            raise
        except Exception as found:
            error = found
        gathered = self.all_gather(what, [mine, None if error is None else to_json(error)])
        failed = [(rank, words) for rank, (_, words) in enumerate(gathered) if words is not None]
        if failed and (error is None or (len(gathered) > 1 and isinstance(error, LoosestepError))):
            raise from_json(what, *failed[0]) from error
        if error is not None:
            raise error
        return [answer for answer, _ in gathered]


def to_json(error: Exception) -> Sequence[Any]:
    """Return an error for other processes: its kind, its message, and of a Diverged what and when."""
    about = [error.what, error.step] if isinstance(error, Diverged) else ["", 0]
    return [type(error).__name__ if not isinstance(error, CheckpointError) else "", str(error), *about]


def from_json(what: str, rank: int, error: Sequence[Any]) -> LoosestepError:
    """Return the error to raise here for another worker's."""
    kind, message, of, step = error
    if of:
        return Diverged(rank, step, what=of)
    return CheckpointError(
        f"worker {rank}: {kind}: {message} (in {what})" if kind else f"worker {rank}: {message}"
    )
