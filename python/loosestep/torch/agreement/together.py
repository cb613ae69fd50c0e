"""What the workers of a loop do together between its steps, besides their strategy's communication."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from loosestep.foundation.errors import Diverged, LoosestepError
from loosestep.torch.agreement.copied_arguments import Copies
from loosestep.torch.agreement.values import mean, packed, unpacked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from torch import nn

    from loosestep.runtime.user_loop import Loop
    from loosestep.torch.agreement.meeting import Agreement
    from loosestep.torch.agreement.stopping import Stopping
    from loosestep.torch.flat import Layout

Answer = TypeVar("Answer")


class Together:
    """Calls by which workers agree. All make the same ones in the same order, whatever the strategy.

    Where the strategy lets workers march in step they make them at one step; else each comes when it does, and the
    others wait for it.
    """

    rank: int
    agreement: Agreement
    stop_at: Stopping
    loop: Loop
    layouts: Sequence[Layout]
    consensus: Callable[[], AbstractContextManager[nn.Module]]

    @contextmanager
    def _together(self, what: str) -> Iterator[None]:
        """Refuse a call of all inside a step and after the end; let errors name it."""
        if self.loop.over:
            raise RuntimeError(f"the run has ended: {what} belongs inside the `with optimizer:` that began it")
        self.loop.between_steps(what)
        self.loop.endpoint.check()
        with self.agreement.call(what):
            yield

    def mean(self, x: Any, weight: float = 1.0) -> Any:
        """Return the mean of x over all workers: a number, a numpy array, a tensor, or a dict of these.

        Summed as float64 in rank order, so that all get the same bits. Numbers become float; arrays and tensors
        keep dtype (integers become float64), and a tensor its device. `weight` is this worker's, such as the rows
        behind a metric; what has weight 0 is not looked at. Raises Mismatch where workers give different things.
        """
        with self._together("mean()"):
            return mean(self.agreement, "mean()", x, weight)

    def gather(self, x: Any) -> list[Any]:
        """Return the objects of all workers, in rank order; they are pickled on the way."""
        with self._together("gather()"):
            return list(map(unpacked, self.agreement.all_gather("gather()", packed(x))))

    def agree(self, x: Answer) -> Answer:
        """Return rank 0's object on every worker; it is pickled on the way. What others pass is not looked at."""
        with self._together("agree()"):
            found = self.agreement.all_gather("agree()", packed(x) if self.rank == 0 else None)
            return x if self.rank == 0 else unpacked(found[0])

    def barrier(self) -> None:
        """Block until all workers have come here."""
        with self._together("barrier()"):
            self.agreement.meet("barrier()")

    # --- the consensus -----------------------------------------------------------------------------------

    def once(self, action: Callable[..., Answer], *arguments: Any, everywhere: bool = False) -> Answer | None:
        """Return `action(*arguments)` of rank 0, called while the model holds the consensus; None on other ranks.

        It is for what is evaluated or saved once; print under `if optimizer.rank == 0`, which costs nothing. Where
        the strategy's consensus is collective, all workers call it at one step. Arguments that look at the model's
        memory, as `model.state_dict()` does, show the consensus too. A copy would be made before it: pass a
        function that makes it, as in once(lambda: send(model.state_dict())).

        everywhere: return rank 0's answer (pickled on the way) on all workers, which wait for it, and raise on all
            where it fails. So all see one score, also where each would find another center.
        """
        copies = Copies(self.layouts, arguments)
        if everywhere:
            return self._once_everywhere(lambda: copies.checked(action))
        if self.rank != 0 and self.loop.program.one_sided():
            return None
        answer: Answer | None = None
        with self.agreement.call("once()"), self.consensus():
            if self.rank == 0:
                answer = copies.checked(action)
        return answer

    def _once_everywhere(self, action: Callable[[], Answer]) -> Answer:
        told: list[Any] = [None, None]  # rank 0's answer, and its error in words
        mine: Any = None  # rank 0's answer or error
        with self._together("once()"):
            alone = self.loop.program.one_sided()
            try:
                if self.rank == 0 or not alone:
                    with self.consensus():
                        mine = attempt(action, told) if self.rank == 0 else None
            except Diverged as error:
                if not alone:  # all have raised it
                    raise
                mine, told[1] = error, str(error)
            told = self.agreement.all_gather("once()", told)[0]
            if told[1] is None:
                answer: Answer = mine if self.rank == 0 else unpacked(told[0])
                return answer
            if isinstance(mine, Exception):
                raise mine
            raise RuntimeError(f"once() failed on worker 0: {told[1]}")

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
