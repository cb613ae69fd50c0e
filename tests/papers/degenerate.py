"""What a table of degenerate cases is made of; the tables are in `cases`, one a family of methods."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.papers.problems import RATE, Quadratics, quadratics

import loosestep as ls

STEPS = 36
FOUR, ONE, ALIKE = quadratics(4), quadratics(1), quadratics(4, alike=True)
NESTEROV, HEAVY, NO_MOMENTUM = ls.Nesterov(RATE, 0.9), ls.Momentum(RATE, 0.9), ls.Nesterov(RATE, 0.0)
S_SGD = ls.AllReduceSGD()


@dataclass(frozen=True)
class Case:
    """`strategy`, run so, is `other` (a strategy run so, or what is named), bit for bit or to rounding."""

    strategy: ls.Strategy
    other: ls.Strategy | str
    problem: Quadratics = field(default=FOUR, repr=False)
    optimizer: Any = None
    other_optimizer: Any = None
    bits: bool = False


def alone(strategy: ls.Strategy, optimizer: Any = None, *, bits: bool = True) -> Case:
    """One worker is the local optimizer."""
    return Case(strategy, S_SGD, ONE, optimizer, optimizer, bits)
