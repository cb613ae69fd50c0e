"""What a strategy lets all workers hold in common: made by name, in one order, from rank 0's values."""

from __future__ import annotations

from typing import Any

import numpy as np
from tests.unit.sessions import FakeSession

import loosestep as ls
from loosestep.runtime import shared_buffers


class Noting(FakeSession):
    """Notes what is to be held in common."""

    def in_common(self, name: str, like: Any) -> Any:
        self.log.append((name, like.tolist()))
        return super().in_common(name, like)


def common(strategy: ls.Strategy, optimizer: ls.Optimizer) -> tuple[Any, list[Any]]:
    session, x0 = Noting(), np.array([1.0, 2.0])
    (kind,) = (
        kind
        for kind in vars(shared_buffers).values()
        if getattr(kind, "__module__", "") == shared_buffers.__name__
    )
    return kind.of(strategy, session, optimizer, x0), session.log


def test_a_strategy_that_shares_nothing_has_nothing_in_common() -> None:
    found, log = common(ls.LocalSGD(), ls.Momentum())
    assert (tuple(found), log) == ((None, None, None), [])


def test_parameters_begin_at_the_start() -> None:
    found, log = common(ls.Hogwild(moments="own"), ls.Momentum())
    assert log == [("params", [1.0, 2.0])]
    assert found.moments is found.updates is None
    assert found.params.tolist() == [1.0, 2.0]


def test_moments_come_with_a_count_of_their_updates() -> None:
    found, log = common(ls.Hogwild(), ls.Momentum())
    assert log == [("params", [1.0, 2.0]), ("moment 0", [0.0, 0.0]), ("updates", [0.0])]
    assert [each.tolist() for each in found.moments] == [[0.0, 0.0]]
    assert found.updates.dtype == np.float64
