"""Cases of which some end their process: what `fuzzing` itself is tried with."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.chaos.draw import Draw


def raises(draw: Draw) -> str:
    """Every second one ends the process, the others raise."""
    if draw.turn % 2 == 0:
        os.kill(os.getpid(), signal.SIGSEGV)
    raise ValueError(f"in turn {draw.turn}, {draw.random()}")


def well(draw: Draw) -> str:
    return "value"


KINDS = {"raises": raises, "well": well}
