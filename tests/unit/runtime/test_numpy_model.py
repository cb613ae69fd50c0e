"""Batches one ahead, gradients that are checked and counted, updates by the optimizer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.unit.values import worker

import loosestep as ls
from loosestep.foundation.errors import Diverged
from loosestep.requests import Bucket, Gradient, Ready, Update
from loosestep.runtime.numpy_model import Feed, NumpyModel, samples_in


def feed(*batches: Any, rank: int = 0, size: int = 1) -> Feed:
    return Feed(lambda rank, size: iter(batches), rank, size)


def model(gradient: Any, *batches: Any, optimizer: Any = None) -> NumpyModel:
    one = worker(0, 1)
    return NumpyModel(one, gradient, feed(*batches), optimizer or ls.SGD(0.5), (2,))


def perform(one: NumpyModel, request: Any) -> int:
    return one.handlers[type(request)](request)


ROWS = np.ones((4, 2))


# --- data ---------------------------------------------------------------------------------------------------


def test_the_end_is_known_before_the_batch_is_wanted() -> None:
    one = feed("a", "b")
    assert not one.ended()
    assert not one.ended(), "looking takes nothing"
    assert one.take() == "a"
    assert not one.ended()
    assert one.take() == "b"
    assert one.ended()
    assert one.taken == 2


def test_a_worker_gets_batches_of_its_rank() -> None:
    asked = []
    one = Feed(lambda rank, size: asked.append((rank, size)) or iter("x"), 2, 3)  # type: ignore[func-returns-value]
    assert asked == [], "made at first use"
    one.ended()
    one.ended()
    assert asked == [(2, 3)]


def test_skipping_goes_to_where_a_checkpoint_stood() -> None:
    one = feed("a", "b", "c")
    one.skip(2)
    assert (one.taken, one.ended(), one.take()) == (2, False, "c")
    with pytest.raises(ValueError, match="^the batches of worker 1 end after 2, but the checkpoint had used 3$"):
        feed("a", "b", rank=1).skip(3)


def test_a_batch_of_all_gives_its_part() -> None:
    class Whole:
        def part(self, rank: int, shares: Any) -> tuple[int, Any]:
            return rank, shares

    one = feed(Whole(), "mine", rank=1)
    one.ended()
    assert one.take((0.5, 0.5)) == (1, (0.5, 0.5))
    one.ended()
    with pytest.raises(TypeError, match="batches of changing size need batches of all workers together"):
        one.take((0.5, 0.5))


@pytest.mark.parametrize(("batch", "count"), [(ROWS, 4), ((ROWS, 1), 4), ([1, 2, 3], 3), (2.0, 1), ([], 0)])
def test_samples_are_rows(batch: Any, count: int) -> None:
    assert samples_in(batch) == count


# --- gradients ----------------------------------------------------------------------------------------------


def test_a_step_counts_and_puts_the_gradient_in_its_place() -> None:
    one = model(lambda x, batch: (0.5, x + batch.sum(axis=0)), ROWS, 2 * ROWS)
    one.worker.params[:] = 1
    assert perform(one, Gradient()) == 1
    assert one.worker.grad.tolist() == [5, 5]
    assert perform(one, Gradient()) == 1
    assert one.worker.grad.tolist() == [9, 9]
    assert (one.steps, one.samples, one.worker.samples, one.worker.clock) == (2, 8, 8, 2)
    assert one.losses == (4.0, 8)


def test_a_gradient_may_be_each_workers_own() -> None:
    class Own:
        def __call__(self, x: Any, batch: Any) -> Any:
            raise AssertionError("the worker's own is called instead")

        def for_worker(self, worker: Any) -> Any:
            return lambda x, batch: x + worker.clock

    one = model(Own(), ROWS, ROWS)
    for _ in range(2):
        perform(one, Gradient())
    assert one.worker.grad.tolist() == [2, 2]


def test_parameters_may_be_read_and_not_written() -> None:
    def gradient(x: Any, batch: Any) -> Any:
        x += 1
        return x

    with pytest.raises(ValueError, match="read-only"):
        perform(model(gradient, ROWS), Gradient())


def test_without_data_the_gradient_is_zero_from_no_samples() -> None:
    one = model(lambda x, batch: x + 1, ROWS)
    perform(one, Gradient())
    assert perform(one, Gradient()) == 0
    assert one.worker.grad.tolist() == [0, 0]
    assert (one.steps, one.samples, one.worker.samples, one.worker.clock) == (1, 4, 4, 2)


def test_the_first_bucket_of_a_step_begins_it() -> None:
    one = model(lambda x, batch: x + 1, ROWS)
    grad = one.worker.grad
    assert [perform(one, Ready(Bucket(index, 2, grad[index:], 1.0))) for index in range(2)] == [1, 0]
    assert one.steps == 1


@pytest.mark.parametrize(
    ("answer", "kind", "sentence"),
    [
        (None, ValueError, "gradient must return an array of 2 values like x0, got None"),
        ([1.0, 2.0], ValueError, "gradient must return an array of 2 values like x0, got a list"),
        (np.zeros(3), ValueError, r"gradient must return an array of 2 values like x0, got shape \(3,\)"),
        (np.zeros(2, complex), TypeError, "gradient must return real numbers, got complex128"),
    ],
)
def test_what_is_no_gradient_is_refused(answer: Any, kind: type[Exception], sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        perform(model(lambda x, batch: answer, ROWS), Gradient())


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_ends_the_run(loss: float) -> None:
    with pytest.raises(Diverged, match="the loss of worker 0 is (nan|inf) at step 1"):
        perform(model(lambda x, batch: (loss, x), ROWS), Gradient())


def test_an_update_moves_parameters_against_the_gradient() -> None:
    one = model(lambda x, batch: x + 2, ROWS)
    perform(one, Gradient())
    assert perform(one, Update()) == 0
    assert one.worker.params.tolist() == [-1, -1]
    assert one.worker.updates == 1


def test_an_update_meets_the_rate_of_its_step() -> None:
    one = model(lambda x, batch: x * 0 + 1, ROWS, ROWS, optimizer=ls.SGD(lambda step: [0.5, 0.25][step]))
    for _ in range(2):
        perform(one, Gradient())
        perform(one, Update())
    assert one.worker.params.tolist() == [-0.75, -0.75]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_seen(bad: float) -> None:
    one = model(lambda x, batch: x, ROWS)
    one.worker.moments = [np.zeros(2)]
    assert one.finite()
    one.worker.moments[0][1] = bad
    assert not one.finite()
    one.worker.moments, one.worker.params[0] = [], bad
    assert not one.finite()


# --- gradients by tensors -------------------------------------------------------------------------------------


def of_tensors(*gradients: Any) -> NumpyModel:
    """A model of a table of three rows, of which few are in a gradient, and of two values more."""
    one = worker(0, 2, np.zeros(8))
    one.shape([(3, 2), (2,)])
    one.expect_rows([0])
    answers = iter(gradients)
    return NumpyModel(one, lambda x, batch: next(answers), feed(*range(9)), ls.SGD(0.5), (8,))


def test_a_gradient_may_be_one_for_each_tensor() -> None:
    one = of_tensors(
        [ls.Rows([2, 0, 2], [[1, 2], [3, 4], [5, 6]]), np.array([7, 8])],
        (1.5, [ls.Rows([1], [[1, 1]]), np.zeros(2)]),
        [np.arange(6).reshape(3, 2), np.ones(2)],
        np.ones(8),
    )
    grad, (table,) = one.worker.grad, one.worker.row_tensors
    assert perform(one, Gradient()) == 1
    assert grad.tolist() == [3, 4, 0, 0, 6, 8, 7, 8]
    assert table.find(grad).tolist() == [0, 2]
    perform(one, Gradient())
    assert grad.tolist() == [0, 0, 1, 1, 0, 0, 0, 0]
    assert (table.find(grad).tolist(), one.losses) == ([1], (1.5, 1))
    for rows in ([0, 1, 2], [0, 1, 2]):
        perform(one, Gradient())
        assert table.find(grad).tolist() == rows


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ([np.ones(6)], "gradient must return one for each of 2 shapes, got 1"),
        ([np.ones(6), np.ones(3)], r"gradient must return 2 real numbers for tensor 1, got shape \(3,\)"),
        ([np.ones(6), None], "gradient must return 2 real numbers for tensor 1, got None"),
        ([np.ones(6), ls.Rows([0], [1])], "gradient returned Rows for tensor 1, which sparse= does not name"),
        ([ls.Rows([3], [[1, 1]]), np.ones(2)], "rows must be from 0 to 2, got some from 3 to 3"),
        (([np.ones(6)],), "gradient must return a gradient, or .loss, gradient., got a tuple of 1: gradients of"),
        (ls.Rows([0], [[1, 1]]), "an array of 8 values like x0, got a Rows: of several tensors it is a list, for"),
    ],
)
def test_gradients_that_do_not_fit_the_tensors_are_refused(answer: Any, sentence: str) -> None:
    with pytest.raises((TypeError, ValueError), match=sentence):
        perform(of_tensors(answer), Gradient())


@pytest.mark.parametrize("shape", [(0, 2), (3, 0)])
def test_a_table_without_values_has_rows_as_any(shape: tuple[int, int]) -> None:
    one = worker(0, 2, np.zeros(2))
    one.shape([shape, (2,), shape])
    one.expect_rows([0, 2])
    rows = ls.Rows([0][: shape[0]], np.zeros((1, 0))[: shape[0]])
    model = NumpyModel(one, lambda x, batch: [rows, np.ones(2), rows], feed(1, 2), ls.SGD(0.5), (2,))
    perform(model, Gradient())
    assert one.grad.tolist() == [1, 1]
