"""What `run` accepts, and the sentence for what it does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import loosestep as ls
from loosestep.runtime import arguments
from loosestep.runtime.arguments import Lengths


def test_the_three_nouns_are_of_their_kinds() -> None:
    arguments.check_kinds(ls.LocalSGD(), None, None)
    arguments.check_kinds(ls.LocalSGD(), ls.SGD(), ls.Serial())
    for bad in ((ls.LocalSGD, None, None), (ls.LocalSGD(), ls.Serial(), None), (ls.LocalSGD(), None, ls.SGD())):
        with pytest.raises(
            TypeError, match=r"^(strategy|optimizer|on) must be an? (Strategy|Optimizer|Transport), got"
        ):
            arguments.check_kinds(*bad)


def test_what_is_called_can_be() -> None:
    arguments.check_functions(max, min, {"stop": None, "evaluate": max})
    with pytest.raises(TypeError, match=r"gradient must be a function of \(x, batch\)"):
        arguments.check_functions(1, min, {})
    with pytest.raises(TypeError, match=r"batches must be a function of \(rank, size\)"):
        arguments.check_functions(max, [], {})
    with pytest.raises(TypeError, match="stop must be"):
        arguments.check_functions(max, min, {"stop": 3})


@pytest.mark.parametrize(
    ("x0", "kind", "sentence"),
    [
        (np.zeros(2, int), TypeError, "x0 must be a float32 or float64 array, got int64 array"),
        ([1.0], TypeError, "x0 must be a float32 or float64 array, got 'list'"),
        (np.zeros(0), ValueError, "x0 has no values"),
        (np.array([1.0, np.inf]), ValueError, "x0 holds values that are not finite"),
    ],
)
def test_the_start_is_finite_numbers(x0: Any, kind: type[Exception], sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        arguments.check_start(x0)


def test_a_good_start_is_given_back_itself() -> None:
    x0 = np.ones((2, 3), np.float32)
    assert arguments.check_start(x0) is x0


def test_tensors_fill_the_start() -> None:
    assert arguments.check_shapes([[2, 2], [1]], np.zeros(5)) == ((2, 2), (1,))
    assert arguments.check_shapes([], np.zeros(5)) == ()
    with pytest.raises(ValueError, match="shapes must be of 5 values together, as x0 has, got 4"):
        arguments.check_shapes([[2, 2]], np.zeros(5))


@pytest.mark.parametrize("place", range(4))
def test_lengths_are_whole_numbers_where_they_are_given(place: int) -> None:
    names = ("steps", "every", "checkpoint_every", "steps_per_epoch")
    given: list[Any] = [None] * 4
    assert Lengths(*given).checked() == Lengths(*given)
    given[place] = np.int64(3)
    assert Lengths(*given).checked()[place] == 3
    for bad, kind in ((0, ValueError), (1.5, TypeError)):
        given[place] = bad
        with pytest.raises(kind, match=f"^{names[place]} must be"):
            Lengths(*given).checked()


def test_tensors_of_few_rows_are_named_by_number() -> None:
    assert arguments.check_sparse([2, 0, 2], [(3, 2), (), (4,)]) == (0, 2)
    assert arguments.check_sparse((), ()) == ()
    for bad in (1, 3):  # one of no dimension, and one that is not there
        with pytest.raises(
            ValueError, match=f"sparse must name tensors of rows by their numbers in shapes, got {bad}"
        ):
            arguments.check_sparse([bad], [(3, 2), (), (4,)])
    for wrong in (-1, 0.5):
        with pytest.raises((ValueError, TypeError), match="every number in sparse must be"):
            arguments.check_sparse([wrong], [(3, 2)])
    with pytest.raises(TypeError, match="sparse must be a sequence of numbers of tensors, got 0"):
        arguments.check_sparse(0, [(3, 2)])  # type: ignore[arg-type]


def test_a_length_below_0_is_refused_though_the_product_fits() -> None:
    with pytest.raises(ValueError, match="every length in shapes must be at least 0, got -2"):
        arguments.check_shapes([(-2, -2)], np.zeros(4))
