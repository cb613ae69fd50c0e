"""What the workers of a user's loop tell each other between two steps, so that all go on alike, or raise alike."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from loosestep.foundation.errors import CheckpointError, Diverged, LoosestepError, Mismatch
from loosestep.requests import AllReduce

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from loosestep.requests import Buffer
    from loosestep.runtime.user_loop import Joined, Loop

Answer = TypeVar("Answer")


def come(joined: Joined, what: str, board: Buffer) -> None:
    """Take the maximum of all workers. Raises Mismatch that names the call if one is elsewhere."""
    try:
        joined.aside([AllReduce(board, op="max")])
    except Mismatch as error:
        raise Mismatch(f"{what} is for all workers, at one step, and not under `if rank == 0`: {error}") from error


class Meeting:
    """Where all workers of a loop meet, at one step.

    Words are asked for after a sum for which all have come. There are two places for them, in turn: who has asked
    all may put the next word before the others have asked.
    """

    def __init__(self, loop: Loop) -> None:
        self.loop, self.turn = loop, 0
        self.words: list[Any] = [None, None]
        survey = loop.joined.session.all_gather_object
        self.asks = [survey(f"word {place}", partial(self.words.__getitem__, place)) for place in (0, 1)]

    def wait(self, what: str) -> None:
        """Block until all workers are here. Raises Mismatch that names the call if one is elsewhere."""
        come(self.loop.joined, what, np.zeros(1))

    def tell(self, what: str, mine: Any) -> list[Any]:
        """Tell all workers a word (JSON), and return those of all in rank order."""
        place, self.turn = self.turn, 1 - self.turn
        self.words[place] = mine
        self.wait(what)
        return self.asks[place]()

    def agree(self, what: str, action: Callable[[], Answer]) -> list[Answer]:
        """Return what the action (JSON) came to on each worker; where one failed, all raise.

        Raises the first worker's CheckpointError or Diverged, in all alike. Another error is raised by the worker
        that made it, and the others raise CheckpointError.
        """
        mine: Any = None
        error: Exception | None = None
        try:
            mine = action()
        except (CheckpointError, Diverged) as found:
            error = found
        except LoosestepError:  # another worker is lost: nobody can be told
            raise
        except Exception as found:
            error = found
        told = self.tell(what, [mine, None if error is None else in_words(error)])
        failed = [(rank, words) for rank, (_, words) in enumerate(told) if words is not None]
        if failed and (error is None or (len(told) > 1 and isinstance(error, LoosestepError))):
            raise made(what, *failed[0]) from error
        if error is not None:
            raise error
        return [answer for answer, _ in told]


def in_words(error: Exception) -> Sequence[Any]:
    """An error for other processes: its kind, its sentence, and of a Diverged what and when."""
    about = [error.what, error.step] if isinstance(error, Diverged) else ["", 0]
    return [type(error).__name__ if not isinstance(error, CheckpointError) else "", str(error), *about]


def made(what: str, rank: int, words: Sequence[Any]) -> LoosestepError:
    """The error that another worker's is here."""
    kind, sentence, of, step = words
    if of:
        return Diverged(rank, step, what=of)
    return CheckpointError(
        f"worker {rank}: {kind}: {sentence} (in {what})" if kind else f"worker {rank}: {sentence}"
    )
