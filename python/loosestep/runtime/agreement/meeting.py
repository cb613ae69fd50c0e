"""Calls of all workers of a user's loop between two steps: all are in the same one, and go on or raise alike."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from zlib import crc32

import numpy as np

from loosestep.foundation.errors import CheckpointError, Diverged, LoosestepError, Mismatch
from loosestep.requests import AllReduce

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from loosestep.runtime.user_loop import Loop

Answer = TypeVar("Answer")

MARK = 0.6180339887498949
"""What every meeting sends first, so that no other collective is taken for one."""


class Agreement:
    """Calls of all workers of a loop.

    word: what users call the object whose methods these calls are.

    Each begins with a meeting, which compares what was called and, where workers keep step, at which step. Answers
    are read after a meeting for which all have come. There are two places for them, used in turn: a worker that
    has read all may write its next answer before the others have read.
    """

    def __init__(self, loop: Loop, word: str = "optimizer") -> None:
        self.loop, self.worker, self.turn = loop, loop.worker, 0
        self.advice = (
            f"all workers must make the same calls, each at one step and none under `if {word}.rank == 0`; "
            f"{word}.shard() gives all as many steps"
        )
        self.mine: list[Any] = [None, None]
        self.depth = 0  # of calls within calls
        survey = loop.connection.session.all_gather_object
        self.read = [survey(f"word {place}", partial(self.mine.__getitem__, place)) for place in (0, 1)]
        self.where = survey("where", self.worker.whereabouts)
        loop.connection.explain = self.explained

    @contextmanager
    def call(self, what: str) -> Iterator[None]:
        """Let errors, on all workers, name this call while it goes on."""
        before = self.worker.calling if self.depth else ""
        self.depth, self.worker.calling = self.depth + 1, what
        try:
            yield
        except Mismatch:
            before = what  # the others may still ask
            raise
        finally:
            self.depth, self.worker.calling = self.depth - 1, before

    def explained(self, error: Mismatch) -> Mismatch:
        """Return the error in words of the loop's calls, if these explain it."""
        try:
            where = self.where()
        except LoosestepError as failed:  # another worker has left with its own error, which may be this one
            _, found, rest = str(failed).partition("worker 0 ")
            return Mismatch(found + rest) if self.advice in rest else error
        return self.apart(where) if len(set(where)) > 1 else error

    def apart(self, where: Sequence[str]) -> Mismatch:
        """Return the error that says where all workers are."""
        return Mismatch(f"{'; '.join(f'worker {rank} {each}' for rank, each in enumerate(where))}: {self.advice}")

    def meet(self, what: str, detail: str = "") -> bool:
        """Block until all workers are in this call; return whether all have the same `detail`.

        Raises Mismatch, on all workers, where one is in another call, or at another step of a strategy whose
        workers keep step.
        """
        if self.worker.size == 1:
            return True
        step = self.worker.clock if self.loop.program.stays else 0
        words = np.array([MARK, crc32(what.encode()), step, crc32(detail.encode())], float)
        board = np.concatenate([words, -words])
        self.reduce(board)
        same = board[: words.size] == -board[words.size :]
        if board[0] != MARK or not same[:3].all():
            where = self.where()
            self.reduce(board)  # all have read it
            raise self.apart(where)
        return bool(same[3])

    def reduce(self, board: Any) -> None:
        """Set the board to the maximum over all workers."""
        self.loop.connection.run_unmetered([AllReduce(board, op="max")])

    def all_gather(self, what: str, mine: Any, detail: str = "") -> list[Any]:
        """Return the values (JSON) of all workers, in rank order."""
        place, self.turn = self.turn, 1 - self.turn
        self.mine[place] = mine
        self.meet(what, detail)
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
