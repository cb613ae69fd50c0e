"""Checks of arguments: each refuses what is wrong in one sentence that names the argument."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from operator import index
from typing import Any


def at_most(name: str, value: float, most: float) -> None:
    """Refuse `value` above `most` in one sentence that names it."""
    if not value <= most:
        raise ValueError(f"{name} must be at most {most:g}, got {value!r}")


def integer(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """Return `value` as an int (numpy's integers count); refuse anything else, and what is out of range."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    number = index(value)
    if number < least or (most is not None and number > most):
        wanted = f"at least {least}" if most is None else f"in {least} .. {most}"
        raise ValueError(f"{name} must be {wanted}, got {number}")
    return number


def rank(name: str, value: object, size: int) -> None:
    """Refuse what is no rank of `size` workers."""
    if integer(name, value, 0) >= size:
        raise ValueError(f"{name} must be below {size}, the number of workers, got {value}")


def instance(name: str, value: object, kind: type) -> None:
    """Refuse what is not an instance of `kind`; its class instead is a slip that deserves a hint."""
    if not isinstance(value, kind):
        article = "an" if kind.__name__[0] in "AEIOU" else "a"
        hint = f", did you mean {value.__name__}()?" if isinstance(value, type) else ""
        raise TypeError(f"{name} must be {article} {kind.__name__}, got {value!r}{hint}")


def callable_(name: str, value: object, of: str = "") -> None:
    """Refuse what cannot be called."""
    if not callable(value):
        raise TypeError(f"{name} must be a function{of}, got {value!r}")


def one_of(name: str, value: object, allowed: Sequence[object]) -> None:
    """Refuse what is outside a closed set."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")


def fraction(name: str, value: float) -> None:
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
