"""Checks of the scalars of ops on a device, with the CPU's messages: op, name, what was wanted, what was got."""

from __future__ import annotations

from operator import index
from typing import Any


def number(op: str, name: str, given: Any) -> float:
    """Return a number; refuse anything else, text of one included."""
    if isinstance(given, (str, bytes)) or (not hasattr(given, "__float__") and not hasattr(given, "__index__")):
        raise TypeError(f"{op}: {name} must be a number, got {type(given).__name__}")
    return float(given)


def several(op: str, name: str, given: Any) -> list[Any]:
    """Return the elements of a sequence, whatever they are."""
    if isinstance(given, str) or not hasattr(given, "__len__"):
        raise TypeError(f"{op}: {name} must be a sequence, got {type(given).__name__}")
    return list(given)


def numbers(op: str, name: str, given: Any) -> list[float]:
    """Return a sequence of numbers."""
    return [number(op, f"{name}[{i}]", each) for i, each in enumerate(several(op, name, given))]


def whole(op: str, name: str, given: Any, most: int) -> int:
    """Return a whole number from 0 on."""
    is_one = hasattr(given, "__index__")
    if is_one and 0 <= index(given) <= most:
        return index(given)
    got, error = (given, ValueError) if is_one else (type(given).__name__, TypeError)
    raise error(f"{op}: {name} must be a whole number from 0 to {most}, got {got}")
