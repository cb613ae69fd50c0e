"""What is tried of a strategy: every period, codec and bucket size that it allows."""

from __future__ import annotations

import pytest

import loosestep as ls
from loosestep.planner.methods import grid
from loosestep.planner.methods.grid import Grid

MIB = 1 << 20
SMALL = Grid((8, 1, 2, 4), (ls.E3M0(),), (MIB, 25 * MIB))


def test_periods_come_in_order_and_those_that_are_refused_are_left_out() -> None:
    assert SMALL.variants(ls.LocalSGD(4, steps=(4, 2)), 100) == [
        ls.LocalSGD(period, steps=(4, 2)) for period in (4, 8)
    ]
    with pytest.raises(ValueError, match="allows none of the periods 1"):
        Grid((1,), (), ()).variants(ls.LocalSGD(4, steps=(4, 2)), 100)


def test_a_codec_is_tried_where_a_strategy_takes_one_and_has_its_default() -> None:
    tried = SMALL.variants(ls.StreamingDiLoCo(), 100)
    assert {each.codec for each in tried if isinstance(each, ls.StreamingDiLoCo)} == {None, ls.E3M0()}
    assert len(tried) == 8
    said = SMALL.variants(ls.StreamingDiLoCo(codec=ls.E3M0()), 100)
    assert [each.codec for each in said if isinstance(each, ls.StreamingDiLoCo)] == [ls.E3M0()] * 4


def test_buckets_that_hold_the_whole_model_are_one_and_too_many_are_none() -> None:
    sizes = (MIB, 4 * MIB, 25 * MIB)
    all_sizes = Grid((1,), (), sizes)
    for nbytes, wanted in (
        (100, [25 * MIB]),  # its own of those that are alike
        (2 * MIB, [MIB, 25 * MIB]),
        (100 * MIB, list(sizes)),
        (200 * MIB, [4 * MIB, 25 * MIB]),
        (10_000 * MIB, [25 * MIB]),
    ):
        tried = all_sizes.variants(ls.AllReduceSGD(), nbytes)
        assert tried == [ls.AllReduceSGD(bucket_bytes=size) for size in wanted]
    assert all_sizes.variants(ls.AllReduceSGD(bucket_bytes=77), 100 * MIB) == [ls.AllReduceSGD(bucket_bytes=77)]


def test_strategies_and_codecs_are_found_by_scanning() -> None:
    public = {value for value in vars(ls).values() if isinstance(value, type) and issubclass(value, ls.Strategy)}
    assert {type(each) for each in grid.all_strategies()} == public - {ls.Strategy}
    assert ls.E3M0() in grid.all_codecs()


def test_a_method_is_what_differs_in_period_and_buckets_alone() -> None:
    assert grid.method(ls.LocalSGD(4)) == grid.method(ls.LocalSGD(8))
    assert grid.method(ls.LocalSGD(4)) != grid.method(ls.LocalSGD(4, momentum="reset"))
    assert grid.method(ls.StreamingDiLoCo()) != grid.method(ls.StreamingDiLoCo(codec=ls.E3M0()))
    assert grid.method(ls.AllReduceSGD(bucket_bytes=7)) == grid.method(ls.AllReduceSGD())


def test_a_label_has_the_period() -> None:
    assert grid.label(ls.StreamingDiLoCo(codec=ls.E3M0())) == "StreamingDiLoCo(period=25, codec=E3M0())"
    assert grid.label(ls.DiLoCo(period=4)) == "DiLoCo(period=4)"
    assert grid.label(ls.HierarchicalLocalSGD()) == "HierarchicalLocalSGD()"


def test_requests_repeat_after_the_last_level() -> None:
    assert grid.cycle(ls.HierarchicalLocalSGD(((2, 2), (32, None)))) == 32
    assert (grid.cycle(ls.LocalSGD(4)), grid.cycle(ls.CDSGD())) == (4, 1)
