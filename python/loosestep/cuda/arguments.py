"""Arguments that are no buffers, checked in the CPU's words: op, name, what was wanted and what was got."""

from __future__ import annotations

from operator import index
from typing import Any


def number(op: str, name: str, given: Any) -> float:
    """What is one, not what is text of one."""
    if isinstance(given, (str, bytes)) or (not hasattr(given, "__float__") and not hasattr(given, "__index__")):
        raise TypeError(f"{op}: {name} must be a number, got {type(given).__name__}")
    return float(given)


def several(op: str, name: str, given: Any) -> list[Any]:
    """A sequence's, whatever they are."""
    if isinstance(given, str) or not hasattr(given, "__len__"):
        raise TypeError(f"{op}: {name} must be a sequence, got {type(given).__name__}")
    return list(given)


def numbers(op: str, name: str, given: Any) -> list[float]:
    """A sequence of numbers."""
    return [number(op, f"{name}[{i}]", each) for i, each in enumerate(several(op, name, given))]


def whole(op: str, name: str, given: Any, most: int) -> int:
    """A whole number from 0 on."""
    wanted = f"{op}: {name} must be a whole number from 0 to {most}"
    if not hasattr(given, "__index__"):
        raise TypeError(f"{wanted}, got {type(given).__name__}")
    if not 0 <= index(given) <= most:
        raise ValueError(f"{wanted}, got {given}")
    return index(given)
