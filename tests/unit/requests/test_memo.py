"""What all workers compute of the same bits is computed once, where they take turns in one thread."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.contract.parametrize import go
from tests.contract.problem import Quadratic, facts

import loosestep as ls
from loosestep.codecs.base import Codec
from loosestep.codecs.top_k import Largest
from loosestep.requests.memo import Memo
from loosestep.transports.simulated import session


def test_who_asks_of_the_same_bits_gets_a_copy() -> None:
    memo, out, calls = Memo(), np.zeros(2), []

    def fill(key: object, given: Any, into: Any) -> bool:
        """Whether it was computed; what came of it is right in any case."""
        before = len(calls)

        def compute() -> None:
            calls.append(key)
            into[:] = given.sum() + 1

        memo.fill(key, given, into, compute)
        return len(calls) > before

    given = np.array([0.5, 0.0])
    assert fill("one", given, out)
    other = np.zeros(2)
    assert not fill("one", given.copy(), other)
    assert other.tolist() == [1.5, 1.5]
    out[:], given[0] = 7.0, 3.0  # whose memory they are: what is kept is a copy
    other[:] = 0.0
    assert not fill("one", np.array([0.5, 0.0]), other)
    assert other.tolist() == [1.5, 1.5]
    assert fill("one", np.array([0.5, -0.0]), other), "0 and -0 are other words"
    assert fill("two", np.array([0.5, -0.0]), other)
    assert fill("two", np.array([0.5, -0.0]), np.zeros(3))
    assert fill("two", np.array([0.5, -0.0]), np.zeros(3, np.float32))
    assert not fill("two", np.array([0.5, -0.0]), np.zeros(3, np.float32))
    assert fill("two", np.array([np.nan]), other)
    assert not fill("two", np.array([np.nan]), other), "a word that looks like no number is one all the same"


CODED = [
    (ls.DeMo(side=4, keep=12), Largest, "add"),
    (ls.ErrorFeedback(codec=ls.TopK(0.5)), Largest, "add"),
    (ls.SparseLoCo.example(), Largest, "add"),
    (ls.StreamingDiLoCo(4, fragments=2, delay=1, codec=ls.E3M0()), ls.E3M0, "decode"),
]


@pytest.mark.parametrize(("strategy", "kind", "name"), CODED, ids=lambda value: str(value))
def test_a_simulation_decodes_each_message_once(
    strategy: ls.Strategy, kind: type[Codec], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run has the bits, the bytes and the seconds of one whose workers all decode all messages."""
    n, calls, decode = 6, [0], getattr(kind, name)

    def counted(*given: Any) -> None:
        calls[0] += 1
        decode(*given)

    monkeypatch.setattr(kind, name, counted)
    data, on = Quadratic([12] * n, noise=0.5), ls.Simulated(n, stragglers=ls.stragglers.LogNormal(0.3))

    def run() -> tuple[Any, float, int]:
        calls[0] = 0
        result = go(strategy, data, on, seed=3)
        return facts(result), result.seconds, calls[0]

    once, seconds, few = run()
    monkeypatch.setattr(session, "Memo", lambda: None)
    each, later, many = run()
    assert once == each
    assert seconds == later
    assert 0 < few <= many / 3
