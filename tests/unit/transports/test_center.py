"""How requests reach variables that the core keeps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from loosestep._core import Center
from loosestep.requests import Elastic, Fetch, Push, Shared
from loosestep.transports import center


def variable(name: str, *values: float) -> Shared:
    buf = np.array(values, np.float64)
    return Shared(name, buf.size, buf.dtype, Center(buf))


def read(shared: Shared) -> list[float]:
    into = np.empty(shared.size)
    center.read(Fetch(shared, into))
    return into.tolist()  # type: ignore[no-any-return]


def test_a_fetch_reads_values_and_how_often_they_were_moved() -> None:
    shared, version = variable("c", 1, 2), np.full(1, np.nan)
    into = np.empty(2)
    center.read(Fetch(shared, into, version))
    assert (into.tolist(), version.tolist()) == ([1, 2], [0])
    for _ in range(3):
        center.move(Push("axpy", (shared,), (np.ones(2),), (1.0,)), (np.ones(2),))
    center.read(Fetch(shared, into, version))
    assert (into.tolist(), version.tolist()) == ([4, 5], [3])


def test_a_push_moves_its_first_variable_and_those_beside_it() -> None:
    first, second, step = variable("x", 1, 1), variable("m", 2, 2), np.ones(2)
    push = Push("momentum", (first, second), (step,), (0.5, 0.5))
    center.handlers(0)[Push](push)
    assert read(second) == [0.5 * 2 - 0.5 * 1] * 2
    assert read(first) == [1 + 0.5] * 2


@pytest.mark.parametrize("rank", [0, 3])
def test_an_elastic_move_conserves_the_sum(rank: int) -> None:
    shared, buf = variable("c", 1, 2), np.array([3.0, 6.0])
    center.handlers(rank)[Elastic](Elastic(buf, shared, 0.5))
    assert buf.tolist() == [2, 4]
    assert read(shared) == [2, 4]


def test_every_request_of_a_variable_has_a_handler() -> None:
    handlers: Any = center.handlers(1)
    assert set(handlers) == {Fetch, Push, Elastic}
