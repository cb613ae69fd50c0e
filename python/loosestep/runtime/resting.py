"""A loop of the user's under a strategy that lets workers rest in some rounds, as `FedAvg(fraction=)` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from loosestep.runtime.user_loop import Loop


class Resting:
    """Lets the rounds pass in which this worker rests: in ready(), or in a step() that makes no step then.

    Needs of what it is part of: `loop`; `model`, whose flat() lets the flat buffer hold the parameters;
    `_require_own`, which refuses a call after the end.
    """

    loop: Loop
    model: Any
    _require_own: Callable[..., None]
    dropped = False  # the gradient at hand was taken before this worker rested

    def ready(self) -> None:
        """Wait until this worker has a step to make: the rounds in which `FedAvg` lets it rest pass here.

        Call it before you take a batch and read the parameters. If you leave it out, those rounds pass in step();
        the gradient was then taken before them and is not used: that step() makes no step.
        """
        self._require_own("ready()")
        self.loop.between_steps("ready()")
        self._pass_rounds()

    def _pass_rounds(self) -> bool:
        """Go on to where a gradient is wanted, and return whether others' parameters came meanwhile."""
        with self.model.flat():
            return self.loop.to_gradient()

    def _has_rested(self) -> bool:
        """Return whether the gradient at hand was taken before rounds in which this worker rested."""
        self.dropped = self.dropped or self._pass_rounds()
        if self.dropped:
            self.loop.begun = False
        return self.dropped
