"""Buffers whose lengths and bytes do not fit in 32 bits, on a GPU; the emulation runs the same, short.

Noise fills them there, since any part of it can be made here again: what is compared are parts of the result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.cuda.carriers import Carrier

from loosestep import ops

WIDTH = 500
ROOM = 2.2
"""Times two buffers: what a test may hold at once."""


def parts(n: int) -> list[slice]:
    """The ends, and where numbers of 31 bits stop: those of elements, and of bytes."""
    places = (0, min(2**29, n // 3), min(2**31, n - WIDTH) - WIDTH // 2, n - WIDTH)
    return [slice(at, at + WIDTH) for at in places]


def noise(out: Any, stream: int, start: int = 0) -> Any:
    ops.normal(out, 1.0, 5, stream, 7, start)
    return out


def filled(carrier: Carrier, many: int) -> list[Any]:
    carrier.needs(int(ROOM * 2 * 4 * carrier.large))
    return [noise(carrier.cupy.zeros(carrier.large, "float32"), stream) for stream in range(many)]


def drawn(part: slice, stream: int) -> NDArray[Any]:
    made: NDArray[Any] = noise(np.zeros(WIDTH, np.float32), stream, part.start)
    return made


Step = Callable[[Any, Any], object]
STEPS: dict[str, Step] = {
    "rule": lambda x, c: ops.elastic(x, c, 0.3),
    "elastic_all": lambda x, c: ops.elastic_all([x], c, 0.3),
    "mix": lambda x, c: ops.mix([x, c], [[0.5, 0.5], [0.25, 0.75]]),
    "mean_of": lambda x, c: ops.mean_of([x, c], c, [1.0, 2.0]),
}


@pytest.mark.parametrize("step", STEPS)
def test_steps(carrier: Carrier, step: str) -> None:
    given = filled(carrier, 2)
    STEPS[step](*given)
    for part in parts(carrier.large):
        wanted = [drawn(part, 0), drawn(part, 1)]
        STEPS[step](*wanted)
        assert carrier.same([x[part] for x in given], wanted)


def test_reductions(carrier: Carrier) -> None:
    n, (x,) = carrier.large, filled(carrier, 1)
    assert ops.norm(x) ** 2 == pytest.approx(n, rel=0.1)
    assert ops.norm(x) == ops.norms(x, [0, n])[0] == ops.dot(x, x) ** 0.5
    for part in parts(n):
        assert ops.norms(x, [part.start, part.stop]) == ops.norms(drawn(part, 0), [0, WIDTH])
    assert ops.all_finite(x)
    ops.scale(x[n - 1 :], np.inf)
    assert not ops.all_finite(x)
