"""The library's errors. Failures of the world derive from LoosestepError; bad input is ValueError or TypeError."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from typing import Any


class LoosestepError(Exception):
    """The root of every error that is not plain bad input (which is ValueError or TypeError)."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Let errors be pickled as they are; by default Python would call `__init__` with their text."""
        return restored, (type(self), self.args, self.__dict__)


def restored(kind: type[LoosestepError], args: tuple[Any, ...], state: dict[str, Any]) -> LoosestepError:
    """Return the error that was pickled."""
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


class WorkerFailed(LoosestepError):
    """A worker raised; chained to what it raised. `rank`, `round` and `during` say where."""

    def __init__(self, rank: int, round_: int, during: str, cause: BaseException) -> None:
        self.rank, self.round, self.during = rank, round_, during
        what = f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__
        super().__init__(f"worker {rank} failed in round {round_}, at {during}: {what}")


class PeerFailed(LoosestepError):
    """Another process has failed, with these words or without any."""

    def __init__(self, rank: int, words: str) -> None:
        self.rank = rank
        super().__init__(words if words.startswith("worker ") else f"worker {rank} failed: {words}")


class TimedOut(LoosestepError):
    """A worker waited past its deadline for one that showed no sign of life."""

    def __init__(self, rank: int, during: str, missing: Sequence[str], seconds: float) -> None:
        self.rank, self.during = rank, during
        super().__init__(f"worker {rank} waited {seconds:g} s at {during} for " + "; ".join(missing))


class Mismatch(LoosestepError):
    """Two workers asked for different things of one communication."""


class Deadlock(LoosestepError):
    """No worker can go on, in virtual time. Names every stuck worker, its round and its request."""


class Diverged(LoosestepError):
    """A loss was not finite; or, found where workers meet, `what` of a worker, such as its parameters."""

    def __init__(self, rank: int, step: int, loss: float = nan, what: str = "") -> None:
        self.rank, self.step, self.loss, self.what = rank, step, loss, what
        found = f"{what} of worker {rank} are not finite" if what else f"the loss of worker {rank} is {loss}"
        super().__init__(
            f"{found} at step {step}: the run diverged "
            "(a smaller learning rate may help) or the data holds values that are not finite"
        )


def divergence(error: BaseException | None) -> Diverged | None:
    """Return the divergence that an error is, or that made a worker fail."""
    while error is not None and not isinstance(error, Diverged):
        error = error.__cause__
    return error


class CheckpointError(LoosestepError):
    """A checkpoint that cannot be read or written; names the file. The previous one is left in place."""


class Damaged(CheckpointError):
    """A file of a checkpoint is missing, or is not what was written. An older checkpoint may be whole."""


class Aborted(BaseException):
    """Ends a worker because another one failed; never reaches the caller."""


class CudaError(LoosestepError):
    """No device, no driver, no compiler, or a kernel that does not compile or start. No buffer was changed."""
