"""Steps to a loss that are known of some periods, and of periods between them."""

from __future__ import annotations

import pytest

import loosestep as ls
from loosestep.planner.methods import Steps

KNOWN = Steps({ls.LocalSGD(4): 100, ls.LocalSGD(16): 120, ls.LocalSGD(64): 200, ls.AllReduceSGD(): 90})


def test_what_is_known_is_returned_and_periods_between_are_interpolated() -> None:
    assert KNOWN.of(ls.LocalSGD(16)) == 120
    assert KNOWN.of(ls.LocalSGD(8)) == pytest.approx(110)
    assert KNOWN.of(ls.LocalSGD(32)) == pytest.approx(160)


def test_nothing_is_known_beyond_the_periods_or_of_other_methods() -> None:
    others = (ls.LocalSGD(2), ls.LocalSGD(128), ls.LocalSGD(4, momentum="reset"), ls.EASGD(4), ls.DiLoCo(4))
    assert [KNOWN.of(each) for each in others] == [None] * len(others)


def test_buckets_make_no_difference() -> None:
    assert KNOWN.of(ls.AllReduceSGD(bucket_bytes=1 << 20)) == 90


def test_bad_steps_are_refused() -> None:
    with pytest.raises(TypeError, match="a key of steps must be a Strategy"):
        Steps({"LocalSGD()": 3})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match=r"steps of LocalSGD\(\) must be above 0"):
        Steps({ls.LocalSGD(): 0})
