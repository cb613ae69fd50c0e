"""In which order the stages of a pipeline compute forward and backward passes of microbatches."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

SCHEDULES = ("1f1b", "gpipe")


class Pass(NamedTuple):
    """One stage's forward or backward pass of one microbatch."""

    stage: int
    forward: bool
    microbatch: int


def of_stage(schedule: str, stage: int, count: int, microbatches: int) -> list[tuple[bool, int]]:
    """Return (forward?, microbatch) in the order of one stage of `count`.

    "gpipe": all forward passes, then all backward passes. "1f1b": as many forward passes as there are later
    stages, then a forward and a backward pass in turn, then what is left; a stage keeps the activations of at most
    min(count - stage, microbatches) microbatches.

    >>> [("F" if forward else "B") + str(m) for forward, m in of_stage("1f1b", 0, 2, 3)]
    ['F0', 'F1', 'B0', 'F2', 'B1', 'B2']

    Reference: Y. Huang et al., GPipe, arXiv:1811.06965; D. Narayanan et al., PipeDream, SOSP 2019.
    """
    ahead = microbatches if schedule == "gpipe" else min(count - stage - 1, microbatches)
    order = [(True, m) for m in range(ahead)]
    for m in range(ahead, microbatches):
        order += [(True, m), (False, m - ahead)]
    return order + [(False, m) for m in range(microbatches - ahead, microbatches)]


@lru_cache(maxsize=1024)
def passes(schedule: str, count: int, microbatches: int) -> tuple[Pass, ...]:
    """Return all passes in an order in which they can be issued: each stage's own, and inputs before their use.

    It is that of the turns in which stages would make them if all passes took equally long.
    """
    turns = []
    for stage in range(count):
        for m in range(microbatches):
            if schedule == "gpipe":
                turns.append((stage + m, stage, Pass(stage, True, m)))
                turns.append((microbatches + 2 * (count - 1) - stage + m, stage, Pass(stage, False, m)))
            else:
                turns.append((stage + (m if m < count - stage else 2 * m), stage, Pass(stage, True, m)))
                turns.append((2 * count - 1 - stage + 2 * m, stage, Pass(stage, False, m)))
    turns.sort()
    return tuple(each for _, _, each in turns)
