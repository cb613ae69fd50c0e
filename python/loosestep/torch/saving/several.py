"""One checkpoint of several optimizers of one loop: all of them are of one moment, or none counts."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from loosestep.runtime.checkpoint.folder import KEEP
from loosestep.runtime.checkpoint.loop import Checkpoints
from loosestep.torch.optimizer import Parallel

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence


def save_together(
    folder: str | os.PathLike[str],
    optimizers: Sequence[Parallel],
    note: Any = None,
    keep: int = KEEP,
    *,
    also: Sequence[Any] = (),
) -> None:
    """Write one checkpoint of several optimizers, such as a GAN's two: what `Parallel.save` does, for all at once.

    All workers call it between two steps, with the optimizers in one order; each must be at one step on all
    workers where its strategy lets them march. A job that dies meanwhile leaves the checkpoint before of all.
    """
    entered(optimizers, "save()").save(folder, note, keep, also)


def restore_together(
    folder: str | os.PathLike[str], optimizers: Sequence[Parallel], *, also: Sequence[Any] = ()
) -> Any:
    """Go on from the newest whole checkpoint that `save_together` wrote; return its note, None where none is.

    As many workers as wrote it go on.
    """
    return entered(optimizers, "restore()").restore(folder, also)


class Several:
    """Several optimizers between two steps, for a call of all workers."""

    def __init__(self, optimizers: Sequence[Parallel], what: str) -> None:
        self.optimizers, self.what = list(optimizers), what
        first = self.optimizers[0].checkpoints
        self.checkpoints = first.joint.setdefault(
            tuple(map(id, self.optimizers)), Checkpoints([each.member for each in self.optimizers], first.beside)
        )

    def enter(self, stack: ExitStack) -> None:
        """Let errors name the call, and the flat buffers hold the parameters."""
        for each in self.optimizers:
            stack.enter_context(each.agreement.call(self.what))
            stack.enter_context(each.layout.flat())

    def save(self, folder: Any, note: Any, keep: int, also: Any) -> None:
        """Save them into one checkpoint."""
        with ExitStack() as stack:
            self.enter(stack)
            for each in self.optimizers:
                each.hyperparameters.check(self.what)
            self.checkpoints.save(folder, note, keep, also)

    def restore(self, folder: Any, also: Any) -> Any:
        """Restore them from one checkpoint."""
        with ExitStack() as stack:
            self.enter(stack)
            return self.checkpoints.restore(folder, also)


def entered(optimizers: Sequence[Parallel], what: str) -> Several:
    """Return the optimizers, all of which can be saved or restored now."""
    for place, each in enumerate(optimizers):
        if not isinstance(each, Parallel):
            raise TypeError(f"optimizers[{place}] must be what parallel() returns, got {type(each).__name__}")
        each._require_own(what)
        each.loop.between_steps(what)
    if not optimizers or len(set(map(id, optimizers))) < len(optimizers):
        raise ValueError("optimizers must be at least one, and none of them twice")
    return Several(optimizers, what)
