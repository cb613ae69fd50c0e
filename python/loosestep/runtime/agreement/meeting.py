"""Calls of all workers of a user's loop, each of which is one process: by requests, and by what each says."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np

from loosestep.foundation.errors import LoosestepError, Mismatch
from loosestep.requests import AllReduce
from loosestep.runtime.agreement.base import Meeting

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from loosestep.runtime.user_loop import Loop

MARK = 0.6180339887498949
"""What every meeting sends first, so that no other collective is taken for one."""


class Agreement(Meeting):
    """Calls of all workers of a loop.

    word: what users call the object whose methods these calls are.

    Each begins with a meeting, which compares what was called and, where workers keep step, at which step. Answers
    are read after a meeting for which all have come. There are two places for them, used in turn: a worker that
    has read all may write its next answer before the others have read.
    """

    def __init__(self, loop: Loop, word: str = "optimizer") -> None:
        self.loop, self.worker, self.turn = loop, loop.worker, 0
        self.rank, self.size = self.worker.rank, self.worker.size
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
        place, self.turn = self.turn, 1 - self.turn
        self.mine[place] = mine
        self.meet(what, detail)
        return self.read[place]()

    def sum(self, numbers: npt.NDArray[np.float64]) -> None:
        self.loop.connection.run_unmetered([AllReduce(numbers, op="sum")])
