"""Rows of a gradient: merged in one order, packed in few bytes, averaged to the bits of whole tensors."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.values import bits, drawn, worker

import loosestep as ls
from loosestep import ops
from loosestep.foundation import buffers
from loosestep.lowering import hierarchical
from loosestep.requests.row_gradients import Packing, RowTensor, dealt

COUNT, WIDTH = 7, 3


def table(start: int = 0) -> RowTensor:
    return RowTensor(start, start + COUNT * WIDTH, (COUNT, WIDTH))


def numbers(rank: int, rows: Any, dtype: Any) -> Any:
    """Values whose sums are not exact, of another magnitude on each worker."""
    values = np.random.default_rng(rank).standard_normal((len(rows), WIDTH)) * 10.0 ** (rank % 3)
    return values.astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_comes_twice_is_added_up_in_the_order_in_which_it_comes(dtype: Any) -> None:
    rows = np.array([5, 2, 5, 5, 0, 2, 5])
    values = numbers(1, rows, dtype) * dtype(1e3)
    wanted = np.zeros((COUNT, WIDTH), dtype)
    for row, value in zip(rows, values, strict=True):
        wanted[row] += value
    backwards = np.zeros((COUNT, WIDTH), dtype)
    for row, value in zip(rows[::-1], values[::-1], strict=True):
        backwards[row] += value
    assert bits([wanted]) != bits([backwards])
    one, grad = table(), buffers.zeros(COUNT * WIDTH, dtype)
    grad.fill(9)
    one.take(ls.Rows(rows.tolist(), values), grad)
    assert bits([grad]) == bits([wanted])
    assert one.touched is not None
    assert one.touched.tolist() == one.find(grad).tolist() == [0, 2, 5]


def test_rows_are_looked_for_where_they_are_not_known() -> None:
    one, grad = table(4), buffers.zeros(40)
    one.table(grad)[[1, 6], 2] = 1
    grad[:4] = grad[4 + COUNT * WIDTH :] = 1
    assert one.find(grad).tolist() == [1, 6]


@pytest.mark.parametrize(
    ("rows", "values", "sentence"),
    [
        ([0.5], np.ones((1, 3)), "rows must be whole numbers in one dimension, got float64 of shape"),
        ([[0]], np.ones((1, 3)), r"rows must be whole numbers in one dimension, got int64 of shape \(1, 1\)"),
        ([0, 7], np.ones((2, 3)), "rows must be from 0 to 6, got some from 0 to 7"),
        ([-1], np.ones((1, 3)), "rows must be from 0 to 6, got some from -1 to -1"),
        ([1, 2], np.ones((1, 3)), r"values must be 2 rows of 3 real numbers, got float64 of shape \(1, 3\)"),
        ([1, 2], np.ones((3, 2)), r"values must be 2 rows of 3 real numbers, got float64 of shape \(3, 2\)"),
        ([1], np.ones((1, 3), complex), "values must be 1 rows of 3 real numbers, got complex128"),
    ],
)
def test_what_is_no_part_of_the_tensor_is_refused(rows: Any, values: Any, sentence: str) -> None:
    grad = buffers.zeros(COUNT * WIDTH)
    with pytest.raises((TypeError, ValueError), match=sentence):
        table().take(ls.Rows(rows, values), grad)
    assert not grad.any()


def test_the_form_is_that_of_the_fewest_bytes() -> None:
    one = RowTensor(0, 400, (100, 4))
    assert one.row_bytes(4) == 20

    def forms(n: int, *longest: int, itemsize: int = 4, owners: bool = True) -> list[str]:
        return [one.form(n, most, itemsize, owners=owners).value for most in longest]

    # Two workers: 80 rows of 20 bytes are the 1,600 bytes that each sends of the whole table.
    assert forms(2, 0, 79, 80, 100) == ["lists", "lists", "whole", "whole"]
    assert forms(2, 88, 89, itemsize=8) == ["lists", "whole"]  # 36 bytes, of 3,200
    # Eight workers: lists 7 * 20 k; owners 20 (k + 87.5) + 8 * 7 * 11 where these have all rows; the whole 2,800.
    assert forms(8, 19, 20, owners=False) == ["lists", "whole"]
    assert 7 * 19 * 20 == 2660 < 2800 == 7 * 20 * 20
    assert forms(8, 19, 20, 21, 22) == ["lists", "owners", "owners", "whole"]
    wide = RowTensor(0, 40_000, (1000, 40))  # rows of 164 bytes; of 125 rows each, all together may be all
    found = [wide.form(8, most, 4, owners=True).value for most in (146, 147, 828, 829)]
    assert found == ["lists", "owners", "owners", "whole"]
    assert 7 * 146 * 164 < (146 + 875) * 164 + 616 < (147 + 875) * 164 + 616 < 7 * 147 * 164
    assert (828 + 875) * 164 + 616 < 2 * 7 / 8 * 160_000 < (829 + 875) * 164 + 616
    assert wide.form(8, 500, 4, owners=False).value == "whole"


def test_each_row_has_one_owner_and_comes_back_in_its_place() -> None:
    one, grad = table(), buffers.zeros(COUNT * WIDTH)
    one.take(ls.Rows([6, 1, 4, 3], numbers(0, range(4), np.float32)), grad)
    parts = dealt([one.rows(grad)], 3)
    assert [rows.tolist() for ((rows, _),) in parts] == [[3, 6], [1, 4], []]
    back = buffers.zeros(COUNT * WIDTH)
    one.put(back, [part for (part,) in parts])
    assert bits([back]) == bits([grad])
    assert one.filled is not None
    assert one.filled.tolist() == [1, 3, 4, 6]


def test_a_message_has_values_then_numbers_in_whole_words() -> None:
    first, second = table(), RowTensor(24, 34, (10, 1))
    for dtype, words in ((np.float32, -(-(2 * 16 + 3 * 8) // 8)), (np.float64, -(-(2 * 28 + 3 * 12) // 8))):
        grad = buffers.zeros(34, dtype)
        first.take(ls.Rows([4], np.full((1, 3), 2)), grad)
        second.take(ls.Rows([9, 0, 9], [1, 2, 3]), grad)
        packing = Packing([(first, 2), (second, 3)], grad.dtype)
        assert packing.words == words
        message = np.zeros(words)
        packing.pack(message, [first.rows(grad), second.rows(grad)])
        (rows, values), (others, more) = packing.unpack(message, [1, 2])
        assert (rows.tolist(), values.tolist()) == ([4], [[2, 2, 2]])
        assert (others.tolist(), more.tolist()) == ([0, 9], [[2], [4]])


@drawn
@given(
    st.lists(st.lists(st.integers(0, COUNT - 1), unique=True), min_size=1, max_size=5),
    st.lists(st.sampled_from([0, 1, 2, 5]), min_size=5, max_size=5),
    st.sampled_from([np.float32, np.float64]),
    st.integers(0, 4),
)
def test_the_mean_has_the_bits_of_that_of_whole_tensors(
    lists: list[list[int]], weights: list[int], dtype: Any, cut: int
) -> None:
    n = len(lists)
    weights = weights[:n]
    if not any(weights):
        return
    rows = [np.array(sorted(each) if weight else [], int) for each, weight in zip(lists, weights, strict=True)]
    values = [numbers(rank, each, dtype) for rank, each in enumerate(rows)]
    parts = [buffers.zeros(COUNT * WIDTH, dtype) for _ in range(n)]
    for part, mine, given_ in zip(parts, rows, values, strict=True):
        part.reshape(COUNT, WIDTH)[mine] = given_
    hosts = tuple(tuple(range(low, high)) for low, high in pairwise((0, cut, n))) if 0 < cut < n else ()
    one, grad = table(), buffers.zeros(COUNT * WIDTH, dtype)
    one.put(grad, [one.mean(list(zip(rows, values, strict=True)), weights, hosts)])
    if 1 < len(hosts) < n:
        hierarchical.fold("mean", parts, [float(weight) for weight in weights], hosts)
    else:
        ops.mean_of(parts, parts[0], [float(weight) for weight in weights])
    assert bits([grad + 0]) == bits([parts[0] + 0])
    assert one.filled is not None
    assert one.filled.tolist() == sorted({int(row) for each in rows for row in each})


def test_what_is_not_by_rows_is_in_the_buckets_once() -> None:
    one = worker(0, 2, buffers.zeros(1000))
    one.shape([(25, 10)] * 4)
    one.expect_rows([2, 0])
    assert [each.start for each in one.row_tensors] == [0, 500]
    one.grad.fill(1)
    for each in one.row_tensors:
        each.table(one.grad).fill(0)
    for sizes in ((4000, 4000), (1600, 400), (404, 404), (4, 4)):
        parts = [part for bucket in one.buckets(*sizes) for part in one.dense_parts(bucket)]
        assert sum(part.size for part in parts) == 500
        assert all(part.all() for part in parts)
    one.row_tensors = ()
    (bucket,) = one.buckets(4000)
    assert one.dense_parts(bucket)[0] is bucket.grad


def test_what_lies_between_tensors_goes_with_the_rows() -> None:
    one = worker(0, 2, buffers.zeros(32))
    one.edges, one.shapes = [0, 16], ((5, 2), (16,))
    one.expect_rows([0])
    (bucket,) = one.buckets(4000)
    assert [part.size for part in one.dense_parts(bucket)] == [16]


def test_room_for_lists_of_any_length_is_one_buffer() -> None:
    one = worker(0, 2)
    first = one.room("rows", 100)
    first.fill(7)
    assert one.room("rows", 125)[:100].tolist() == [7] * 100
    assert one.room("rows", 0).size == 0
    assert one.room("others", 5)[0] == 0
    assert (one.room("rows", 126).size, one.room("rows", 126)[0]) == (126, 0)
    assert len(one._scratch) == 2
