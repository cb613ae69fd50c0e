"""What can go wrong, in two families: the world failed (catch it), or the input was bad (mend it)."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from numbers import Real
from operator import index
from typing import Any


class LoosestepError(Exception):
    """The root of every error that is not plain bad input (which is ValueError or TypeError)."""


class WorkerFailed(LoosestepError):
    """A worker raised; chained to what it raised. `rank`, `round` and `during` say where."""

    def __init__(self, rank: int, round_: int, during: str, cause: BaseException) -> None:
        self.rank, self.round, self.during = rank, round_, during
        what = f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__
        super().__init__(f"worker {rank} failed in round {round_}, at {during}: {what}")


class PeerFailed(LoosestepError):
    """Another worker, in another process, has failed: with these words, or without a word."""

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
    """In virtual time: nobody can go on. Names every stuck worker, its round and its request."""


class Diverged(LoosestepError):
    """A loss was not finite; or, found where workers meet, `what` of a worker, such as its parameters."""

    def __init__(self, rank: int, step: int, loss: float = nan, what: str = "") -> None:
        self.rank, self.step, self.loss, self.what = rank, step, loss, what
        found = f"{what} of worker {rank} are not finite" if what else f"the loss of worker {rank} is {loss}"
        super().__init__(
            f"{found} at step {step}: the run diverged "
            "(a smaller learning rate may help) or the data holds values that are not finite"
        )


class CheckpointError(LoosestepError):
    """A checkpoint that cannot be read or written; names the file. The previous one is left in place."""


class Damaged(CheckpointError):
    """A file of a checkpoint is missing, or is not what was written. An older checkpoint may be whole."""


class Aborted(BaseException):
    """Ends a worker because another one failed; never reaches the caller."""


def at_most(name: str, value: float, most: float) -> None:
    """Refuse `value` above `most` in one sentence that names it."""
    if not value <= most:
        raise ValueError(f"{name} must be at most {most:g}, got {value!r}")


def whole(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """The int that `value` is (numpy's integers are too); refuse anything else, and one out of that range."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    number = index(value)
    if number < least or (most is not None and number > most):
        wanted = f"at least {least}" if most is None else f"in {least} .. {most}"
        raise ValueError(f"{name} must be {wanted}, got {number}")
    return number


def below(name: str, rank: object, size: int) -> None:
    """Refuse what is no rank of `size` workers."""
    if whole(name, rank, 0) >= size:
        raise ValueError(f"{name} must be below {size}, the number of workers, got {rank}")


def of_kind(name: str, value: object, kind: type) -> None:
    """Refuse what is not an instance of `kind`; its class instead is a slip that deserves a hint."""
    if not isinstance(value, kind):
        article = "an" if kind.__name__[0] in "AEIOU" else "a"
        hint = f", did you mean {value.__name__}()?" if isinstance(value, type) else ""
        raise TypeError(f"{name} must be {article} {kind.__name__}, got {value!r}{hint}")


def function(name: str, value: object, of: str = "") -> None:
    """Refuse what cannot be called."""
    if not callable(value):
        raise TypeError(f"{name} must be a function{of}, got {value!r}")


def one_of(name: str, value: object, allowed: Sequence[object]) -> None:
    """Refuse what is outside a closed set."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")


def share(name: str, value: float) -> None:
    """Refuse a number that is not from 0 to 1."""
    positive(name, value, zero=True)
    if value > 1:
        raise ValueError(f"{name} must be at most 1, got {value!r}")


def positive(name: str, value: float, *, zero: bool = False) -> None:
    """Refuse a number that is not above zero (or, with `zero`, not at least zero) and finite."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not (value >= 0 if zero else value > 0) or value == float("inf"):
        raise ValueError(f"{name} must be {'at least 0' if zero else 'above 0'} and finite, got {value!r}")
