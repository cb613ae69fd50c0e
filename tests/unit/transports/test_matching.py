"""What does not fit together is refused, in a sentence that says who and when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from tests.unit.values import workers

import loosestep as ls
from loosestep.foundation.errors import Mismatch
from loosestep.requests import AllReduce, Shared
from loosestep.transports import matching


def test_the_first_difference_between_runs_is_named() -> None:
    matching.check_facts([{"seed": 1, "steps": 5}] * 3)
    with pytest.raises(Mismatch, match=r"^worker 2 has steps 6, worker 0 has steps 5$"):
        matching.check_facts([{"seed": 1, "steps": 5}, {"seed": 1, "steps": 5}, {"seed": 1, "steps": 6}])
    with pytest.raises(Mismatch, match=r"^worker 1 has resume None, worker 0 has resume True$"):
        matching.check_facts([{"resume": True}, {}])
    with pytest.raises(Mismatch, match=r"^worker 1 has keep 2, worker 0 has keep None$"):
        matching.check_facts([{}, {"keep": 2}])


@pytest.mark.parametrize("into", [np.zeros(3), np.zeros(4, np.float32)])
def test_a_message_fits_its_buffer(into: Any) -> None:
    one = workers(2)[1]
    one.round = 5
    matching.check_message(0, np.zeros(4), one, np.zeros(4))
    with pytest.raises(
        Mismatch,
        match=f"^worker 0 sent 4 float64 to worker 1, which expects {into.size} {into.dtype} in round 5$",
    ):
        matching.check_message(0, np.zeros(4), one, into)


@pytest.mark.parametrize("buf", [np.zeros(3), np.zeros(4, np.float32)])
def test_a_variable_fits_the_buffer_that_meets_it(buf: Any) -> None:
    shared = Shared("center", 4, np.dtype(np.float64), None)
    matching.check_shared(workers(1)[0], shared, np.zeros(4))
    with pytest.raises(
        Mismatch, match=rf"^worker 0 met 'center' \(4 float64\) with {buf.size} {buf.dtype} in round"
    ):
        matching.check_shared(workers(1)[0], shared, buf)


@pytest.mark.parametrize(
    "other", [AllReduce(np.zeros(3)), AllReduce(np.zeros(4, np.float32)), AllReduce(np.zeros(4), "sum")]
)
def test_a_collective_is_one_for_all(other: AllReduce) -> None:
    first = AllReduce(np.zeros(4), weight=3.0)
    matching.check_alike(workers(2), [first, AllReduce(np.zeros(4), weight=0.0)])
    with pytest.raises(Mismatch) as error:
        matching.check_alike(workers(2), [first, other])
    assert str(error.value) == f"worker 1 asked for {other}, worker 0 for {first} in round 0"


def test_a_value_is_written_without_addresses() -> None:
    assert matching.stable_repr(test_a_message_fits_its_buffer) == "<function test_a_message_fits_its_buffer>"
    assert matching.stable_repr([1, "at 0xg"]) == "[1, 'at 0xg']"


@dataclass(frozen=True, repr=False)
class One(ls.LocalSGD):
    """A strategy."""


@dataclass(frozen=True, repr=False)
class Other(ls.LocalSGD):
    """Another strategy."""


def test_the_checksum_of_the_source_tells_strategies_apart_and_not_their_values() -> None:
    name = "the strategy's source (checksum)"
    assert matching.build(One(4))[name] == matching.build(One(8))[name]
    assert matching.build(One())[name] != matching.build(Other())[name]
    assert matching.build(ls.Averaged(One()))[name] != matching.build(ls.Averaged(Other()))[name]
    assert matching.build(One())["loosestep's version"] == ls.__version__
