"""The header of a message comes back to the bit, and kinds of work are told from words about it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.values import drawn

from loosestep.transports.processes import wire
from loosestep.transports.processes.wire import Header, Kind, pack, unpack

LARGE = st.integers(0, 2**64 - 1)


@drawn
@given(st.sampled_from(list(Kind)), LARGE, LARGE, LARGE, LARGE, st.floats(allow_nan=False))
def test_a_header_comes_back(kind: Kind, size: int, number: int, round_: int, tag: int, note: float) -> None:
    header = Header(kind, np.dtype(np.float32).num, size, number, round_, tag, note)
    content = pack(header)
    assert unpack(content) == unpack(content + b"payload") == header
    assert len(content) == len(pack(Header(Kind.LEFT)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8, np.int64, bool])
def test_the_type_of_elements_comes_back(dtype: Any) -> None:
    number: Any = unpack(pack(Header(Kind.DATA, np.dtype(dtype).num))).dtype
    assert wire.DTYPES[number] == np.dtype(dtype)


def test_questions_failures_and_farewells_are_no_work() -> None:
    work = {kind for kind in Kind if kind <= wire.LAST_OF_WORK}
    assert {Kind.ASK, Kind.REPLY, Kind.FAIL, Kind.LEFT} == set(Kind) - work
