"""Numbers formatted for people."""

from __future__ import annotations


def size(count: float) -> str:
    """Return bytes in powers of 1000: 19.2 kB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.95:
            return f"{count:.3g} {unit}" if unit != "B" else f"{count:.0f} B"
        count /= 1000
    return f"{count:.3g} TB"


def seconds(count: float) -> str:
    """Return seconds with three digits: 0.0123, 1.23, 12.3, 123."""
    return f"{count:.0f}" if count >= 100 else f"{count:.3g}"


def share(part: float) -> str:
    """Return a fraction as a percentage: 12%."""
    return f"{100 * part:.0f}%" if part >= 0.0095 or part == 0 else "<1%"


def times(count: float, noun: str) -> str:
    """Return a count with its noun: 1 step, 2 steps."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
