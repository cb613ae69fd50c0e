"""What the workers of a loop do together between its steps, besides their strategy's communication."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from loosestep.foundation.errors import Diverged, LoosestepError
from loosestep.runtime.agreement.values import mean, packed, unpacked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from loosestep.runtime.agreement.base import Meeting
    from loosestep.runtime.agreement.stopping import Stopping
    from loosestep.runtime.agreement.values import Foreign
    from loosestep.runtime.user_loop import Loop

Answer = TypeVar("Answer")


class Together:
    """Calls by which workers agree. All make the same ones in the same order, whatever the strategy.

    Where the strategy lets workers march in step they make them at one step; else each comes when it does, and the
    others wait for it.
    """

    rank: int
    agreement: Meeting
    stop_at: Stopping
    loop: Loop
    word: str = "optimizer"  # what users call it

    @staticmethod
    def _foreign(x: Any) -> Foreign | None:
        """Return a framework's array as `mean` wants it, None for what is none."""
        return None

    @contextmanager
    def _together(self, what: str) -> Iterator[None]:
        """Refuse a call of all inside a step and after the end; let errors name it."""
        if self.loop.over:
            raise RuntimeError(f"the run has ended: {what} belongs inside the `with {self.word}:` that began it")
        self.loop.between_steps(what)
        self.loop.endpoint.check()
        with self.agreement.call(what):
            yield

    def mean(self, x: Any, weight: float = 1.0) -> Any:
        """Return the mean of x over all workers: a number, an array, a tensor, or a dict of these.

        Summed as float64 in rank order, so that all get the same bits. Numbers become float; arrays and tensors
        keep dtype (integers become float64), and a tensor its device. `weight` is this worker's, such as the rows
        behind a metric; what has weight 0 is not looked at. Raises Mismatch where workers give different things.
        """
        with self._together("mean()"):
            return mean(self.agreement, "mean()", x, weight, self._foreign)

    def gather(self, x: Any) -> list[Any]:
        """Return the objects of all workers, in rank order; they are pickled on the way."""
        with self._together("gather()"):
            return list(map(unpacked, self.agreement.all_gather("gather()", packed(x))))

    def agree(self, x: Answer) -> Answer:
        """Return rank 0's object on every worker; it is pickled on the way. What others pass is not looked at."""
        with self._together("agree()"):
            first = self.agreement.rank == 0
            found = self.agreement.all_gather("agree()", packed(x) if first else None)
            return x if first else unpacked(found[0])

    def barrier(self) -> None:
        """Block until all workers have come here."""
        with self._together("barrier()"):
            self.agreement.meet("barrier()")

    def _once_everywhere(
        self, consensus: Callable[[], AbstractContextManager[Any]], action: Callable[[Any], Answer]
    ) -> Answer:
        """Return on all workers what `action` returns of the consensus on rank 0."""
        told: list[Any] = [None, None]  # rank 0's answer, and its error in words
        mine: Any = None  # rank 0's answer or error
        with self._together("once()"):
            alone = self.loop.program.one_sided()
            try:
                if self.rank == 0 or not alone:
                    with consensus() as held:
                        mine = attempt(partial(action, held), told) if self.rank == 0 else None
            except Diverged as error:
                if not alone:  # all have raised it
                    raise
                mine, told[1] = error, str(error)
            every = self.agreement.all_gather("once()", told)[: self.agreement.processes]  # those of worker 0
            if isinstance(mine, Exception):
                raise mine
            for rank, (_, words) in enumerate(every):
                if words is not None:
                    raise RuntimeError(f"once() failed on {self.agreement.who(rank)}: {words}")
            answer: Answer = mine if self.agreement.rank == 0 else unpacked(every[0][0])
            return answer

    # --- the end -----------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Ask all workers to stop: `stopping` becomes true on all of them, after one step. It never waits."""
        self.stop_at.ask()

    @property
    def stopping(self) -> bool:
        """Whether this loop is to end now, after Ctrl-C, SIGTERM or `stop()`: true on all workers after one step.

        Read it between steps, on all workers at the same ones. The first reading takes over Ctrl-C and SIGTERM
        until the run ends; a second signal ends the program at once.
        """
        return self.stop_at.now()


def attempt(action: Callable[[], Any], told: list[Any]) -> Any:
    """Return what the action returns, or the exception that it raises, and write it for the others into `told`."""
    try:
        answer = action()
        told[0] = packed(answer)
    except LoosestepError:  # another worker is lost
        raise
    except Exception as error:
        told[:] = None, f"{type(error).__name__}: {error}"
        return error
    return answer
