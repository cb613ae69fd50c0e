"""Scoping: a strength that grows as training goes on, from weak pulls that explore to strong ones that gather."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from loosestep.foundation import checks
from loosestep.foundation.value import Value


@dataclass(frozen=True, repr=False)
class Scoping(Value):
    """After s outer steps: min(first (1 - 1/(2 batches))^-s, most).

    first: the strength at the start, 1/gamma_0 or 1/rho_0 of the papers.
    most: where it stops growing.
    batches: mini-batches in an epoch; after one epoch of outer steps it is about first e^(1/2).

    >>> [round(Scoping(0.01, most=1.0, batches=10)(step), 4) for step in (0, 1, 20, 1000)]
    [0.01, 0.0105, 0.0279, 1.0]

    Reference: P. Chaudhari et al., Parle, arXiv:1707.00424, where its inverse shrinks; constants of the release.
    """

    first: float = 0.01
    most: float = 1.0
    batches: int = 500

    def __post_init__(self) -> None:
        checks.positive("first", self.first)
        checks.positive("most", self.most)
        checks.integer("batches", self.batches)
        if self.first > self.most:
            raise ValueError(f"first must be at most {self.most!r}, the value of most, got {self.first!r}")

    def __call__(self, step: int) -> float:
        shrunk = (1 - 0.5 / self.batches) ** step  # may vanish; its inverse might overflow
        return min(self.first / max(shrunk, self.first / self.most), self.most)


Strength: TypeAlias = float | Scoping


def strength_at(strength: Strength, step: int) -> float:
    """Return a constant strength as it is, or what scoping makes of it after so many outer steps."""
    return strength(step) if isinstance(strength, Scoping) else strength


def check_strength(name: str, value: object) -> None:
    """Refuse what is neither a Scoping nor a number of at least 0."""
    if not isinstance(value, Scoping):
        checks.positive(name, value, zero=True)  # type: ignore[arg-type]
