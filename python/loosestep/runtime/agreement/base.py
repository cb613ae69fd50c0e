"""Calls of all workers of a user's loop between two steps: all are in the same one, and go on or raise alike."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, TypeVar

from loosestep.foundation.errors import CheckpointError, Diverged, LoosestepError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    import numpy as np
    from numpy.typing import NDArray

    from loosestep.requests.worker import Worker
    from loosestep.runtime.user_loop import Loop

Answer = TypeVar("Answer")


class Meeting(ABC):
    """What all processes of a run can do together between two steps of a loop.

    rank, size: of this process among all. processes: how many a worker consists of; worker 0's are the first.
    """

    loop: Loop
    worker: Worker
    rank: int
    size: int
    processes: int = 1

    @abstractmethod
    def call(self, what: str) -> AbstractContextManager[None]:
        """Let errors, on all workers, name this call inside the block."""

    @abstractmethod
    def meet(self, what: str, detail: str = "") -> bool:
        """Block until all are in this call; return whether all have the same `detail`.

        Raises Mismatch, on all, where one is in another call, or at another step of a strategy whose workers keep
        step.
        """

    @abstractmethod
    def all_gather(self, what: str, mine: Any, detail: str = "") -> list[Any]:
        """Return the values (JSON) of all, in rank order."""

    @abstractmethod
    def sum(self, numbers: NDArray[np.float64]) -> None:
        """Set the numbers to the sums over all, added in rank order."""

    def who(self, rank: int) -> str:
        """Return what an error calls one of all."""
        return f"worker {rank}"

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
            raise from_json(what, self.who(failed[0][0]), failed[0][1]) from error
        if error is not None:
            raise error
        return [answer for answer, _ in gathered]


def to_json(error: Exception) -> Sequence[Any]:
    """Return an error for other processes: its kind, its message, and of a Diverged what, when and where."""
    about = [error.what, error.step, error.rank] if isinstance(error, Diverged) else ["", 0, 0]
    return [type(error).__name__ if not isinstance(error, CheckpointError) else "", str(error), *about]


def from_json(what: str, who: str, error: Sequence[Any]) -> LoosestepError:
    """Return the error to raise here for another worker's."""
    kind, message, of, step, rank = error
    if of:
        return Diverged(rank, step, what=of)
    return CheckpointError(f"{who}: {kind}: {message} (in {what})" if kind else f"{who}: {message}")
