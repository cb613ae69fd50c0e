"""The methods of a parallel optimizer that save it and go on from what was saved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loosestep.runtime.checkpoint.folder import KEEP
from loosestep.runtime.checkpoint.loop_state import restored
from loosestep.torch.saving.plain_state import load_plain
from loosestep.torch.saving.state_dict import is_plain, own_part, parallel_state

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    import torch

    from loosestep.runtime.agreement.base import Meeting
    from loosestep.runtime.checkpoint.loop import Checkpoints
    from loosestep.runtime.checkpoint.member import Member
    from loosestep.runtime.user_loop import Loop
    from loosestep.torch.hyperparameters import Hyperparameters


class Saving:
    """What of a run is saved and loaded."""

    inner: torch.optim.Optimizer
    loop: Loop
    _flat: Callable[[], AbstractContextManager[None]]  # lets the flat buffer hold the parameters
    agreement: Meeting
    hyperparameters: Hyperparameters
    member: Member
    checkpoints: Checkpoints
    _require_own: Callable[..., None]

    def state_dict(self) -> dict[str, Any]:
        """Return the inner optimizer's state, and this worker's: strategy, counters, on rank 0 shared variables.

        Parameters and buffers are in the model's own state_dict. Every rank saves its own; one that gets another's
        is refused, but under `AllReduceSGD`, where all are alike. Raises RuntimeError inside a step.
        """
        self._require_own("state_dict()", over=True)
        with self._flat():
            return parallel_state(self.inner, self.loop)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a `state_dict`: every worker loads its own, of the same strategy and number of workers.

        Under `AllReduceSGD`, where all are alike, one worker's serves all, whatever their number. That of a plain
        torch optimizer, given to all workers, begins the run anew at rank 0's parameters, as if it had been loaded
        before `parallel()`: load the model first.
        """
        self._require_own("load_state_dict()")
        with self.agreement.call("load_state_dict()"), self._flat():
            if is_plain(state_dict):
                load_plain(self.member, state_dict, self.hyperparameters)
                return
            restored(self.loop, own_part(state_dict))
            self.inner.load_state_dict(state_dict["optimizer"])
            self.agreement.meet("load_state_dict()")  # shared variables are set

    def save(
        self, folder: str | os.PathLike[str], note: Any = None, keep: int = KEEP, *, also: Sequence[Any] = ()
    ) -> None:
        """Write a checkpoint that `restore` goes on from: model, optimizer, strategy, counters, random numbers.

        Every worker calls it, at one step, whichever, inside `with optimizer:`. Each writes a file, then rank 0
        the manifest, so that a job that dies leaves the last complete one; `keep` of them stay. `restore` returns
        `note`: what else your loop must know, as JSON, such as {"epoch": 3}. `also` are objects with state_dict()
        and load_state_dict(), tensors in them included: a scheduler, a scaler, an averaged model, a sampler.
        Raises on all workers, which may go on, and leaves the checkpoint before: CheckpointError if a disk
        refuses, Diverged if numbers are not finite, TypeError for what cannot be written; ValueError if the folder
        holds another run's.
        """
        self._require_own("save()")
        self.loop.between_steps("save()")
        with self.agreement.call("save()"), self._flat():
            self.hyperparameters.check("save()")
            self.checkpoints.save(folder, note, keep, also)

    def restore(self, folder: str | os.PathLike[str], *, also: Sequence[Any] = ()) -> Any:
        """Go on from the newest whole checkpoint in the folder, and return its note; None where there is none.

        `also`: the like of what was saved, in that order, each of which loads its state.
        As many workers as wrote it go on bit for bit. With another number all begin at the saved consensus, with
        the mean of the optimizer's buffers and the note of worker 0, and a line on standard error says so. Raises
        CheckpointError, on all, where none is whole, another run wrote it, or another job writes there.
        """
        self._require_own("restore()")
        self.loop.between_steps("restore()")
        with self.agreement.call("restore()"), self._flat():
            return self.checkpoints.restore(folder, also)
