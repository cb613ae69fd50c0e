"""A run that ends, is torn or refused at a touch of its checkpoints, one touch after the other, and is resumed.

A case is one touch: the first of a kind is the run's first, and so on to the last that there is.
"""

from __future__ import annotations

import errno
import os
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from tests.chaos.apart import apart
from tests.chaos.fuzz.checkpoints import go, told
from tests.chaos.touches import dying, refusing, torn, watch

import loosestep as ls

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.chaos.draw import Draw

ALL = 1440  # twelve kinds; a run has about seventy touches
STEPS = 12
DEAD = 41  # the exit code of who ends at a touch
STRATEGIES = (ls.LocalSGD(4), ls.EASGD(4), ls.CoCoDSGD(4))
ACTS: dict[str, Callable[[int], Any]] = {
    "dies": lambda at: dying(at, partial(os._exit, DEAD)),
    "torn": lambda at: torn(at, partial(os._exit, DEAD)),
    "full": lambda at: refusing(at, errno.ENOSPC),
    "broken": lambda at: refusing(at, errno.EIO),
}


@cache
def unbroken(strategy: ls.Strategy) -> str:
    return apart(lambda: hash_of(None, strategy))[1]


def hash_of(folder: Path | None, strategy: ls.Strategy, *, resume: bool = False) -> str:
    """What must be the same, in one line."""
    return repr(told(go(folder, strategy, steps=STEPS, resume=resume)))


def watched(folder: Path, strategy: ls.Strategy, act: Any) -> str:
    watch(folder, act)
    return hash_of(folder, strategy)


def case(draw: Draw, strategy: ls.Strategy, how: str) -> str:
    folder, at = draw.folder / "run", draw.turn + 1
    code, text = apart(lambda: watched(folder, strategy, ACTS[how](at)))
    if how in ("dies", "torn"):
        assert code in (0, DEAD), text
    else:
        assert code == 0 or text.startswith("CheckpointError: "), text
    if code == 0:
        assert text == unbroken(strategy), "it went on, to something else"
    resumed = apart(lambda: hash_of(folder, strategy, resume=True))
    assert resumed == (0, unbroken(strategy)), f"touch {at}: resumed, it came to {resumed}, after {text}"
    return "went-on" if code == 0 else "ended-and-resumed"


KINDS = {
    f"{how}_{type(strategy).__name__}": partial(case, strategy=strategy, how=how)
    for how in ACTS
    for strategy in STRATEGIES
}
