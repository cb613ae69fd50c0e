"""A sampler that knows where it stands, in steps that were made: a loader that reads ahead does not matter."""

from __future__ import annotations

from typing import ClassVar

from loosestep.foundation.errors import CheckpointError


class Resumable:
    """A sampler that knows where in which epoch it stands."""

    facts: ClassVar[tuple[str, ...]]  # what must be as it was for a position to mean the same

    def __init__(self) -> None:
        self.epoch = 0  # number of the current or the next epoch
        self.used = 0  # rows or steps of it that an earlier run used
        self.began: int | None = None  # how far this worker was when the pass began
        self.dealt = 0  # batches of this pass
        self.whole = False  # it was dealt to its end

    def begin(self, steps: int) -> None:
        """Begin a pass: the next epoch's, if the pass before led to steps or was dealt whole."""
        if self.began is not None and (self.whole or steps != self.began):
            self.epoch, self.used = self.epoch + 1, 0
        self.began, self.dealt, self.whole = steps, 0, False

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: every pass begins the next epoch by itself; torch's DistributedSampler must be told."""

    def position(self, used: int, *, over: bool) -> dict[str, int]:
        """Return what is saved."""
        epoch, used = (self.epoch + 1, 0) if over else (self.epoch, used)
        return {**{name: getattr(self, name) for name in self.facts}, "epoch": epoch, "used": used}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next pass begin at a saved position."""
        for name in self.facts:
            value = getattr(self, name)
            if state[name] != value:
                raise CheckpointError(f"the sampler's state is of {name} {state[name]}, and its {name} is {value}")
        self.epoch, self.used, self.began = state["epoch"], state["used"], None
        self.whole = False
