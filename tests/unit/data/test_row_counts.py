"""How many samples a batch holds, whatever it is made of; sparse rows give what dense ones give."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import loosestep as ls
from loosestep.data import global_batches, shards
from loosestep.runtime.numpy_model import samples_in

X = sp.random(50, 3, 0.5, format="csr", random_state=0)
Y = X @ np.ones(3)
DENSE, PLACES = np.zeros((8, 3)), np.zeros(8)
EXAMPLES = [(np.zeros(3), 1.0)] * 8


@pytest.mark.parametrize(
    "batch",
    [
        (DENSE, PLACES), (PLACES, DENSE), [DENSE, PLACES], DENSE, sp.csr_matrix(DENSE), sp.csr_array(DENSE),
        (sp.csr_matrix(DENSE), PLACES), (PLACES, sp.csr_matrix(DENSE)), (sp.coo_array(DENSE), PLACES),
        [sp.csr_matrix(DENSE), PLACES],
        EXAMPLES, [(1.0, 2.0)] * 8, [{"x": 1.0, "y": 0}] * 8, ["text"] * 8, [("text", 1)] * 8, [1.0] * 8,
        [(DENSE, 1)] * 8,
        (EXAMPLES, PLACES), ([[1, 2], [3], [4, 5, 6], [], [7], [8], [9], [0]], PLACES),
        ([[[1, 2], [3]], [[4]]] * 4, PLACES),
        {"x": DENSE, "y": PLACES}, {"name": "mnist", "rate": 0.1, "x": DENSE}, UserDict(x=DENSE),
        ({"x": DENSE}, PLACES),
        ((DENSE, np.zeros((8, 2))), PLACES), ((DENSE, DENSE), PLACES), {"x": sp.csr_matrix(DENSE)},
        (list("abcdefgh"), PLACES), range(8), (range(8), PLACES), {"x": {"ids": PLACES}},
    ],
    ids=lambda batch: f"{type(batch).__name__}",
)  # fmt: skip
def test_a_batch_of_eight_holds_eight(batch: Any) -> None:
    assert samples_in(batch) == 8


@pytest.mark.parametrize(
    "batch", [3.5, "text", (1.0, 2.0), {"x": 1.0}, {}, np.float32(1), None, object(), np.zeros(())]
)
def test_what_has_no_rows_is_one_sample(batch: Any) -> None:
    assert samples_in(batch) == 1


def test_an_empty_batch_holds_nothing() -> None:
    for batch in (np.zeros((0, 3)), (sp.csr_matrix((0, 3)), np.zeros(0)), []):
        assert samples_in(batch) == 0


def gradient(x: Any, batch: Any) -> tuple[float, Any]:
    rows, targets = batch.values() if isinstance(batch, dict) else batch
    gap = rows @ x - targets
    return float(gap @ gap), rows.T @ gap / len(targets)


def run(made: Any) -> Any:
    """The last batch has two rows, the others eight."""

    def batches(rank: int, size: int) -> Iterator[Any]:
        return (made(X[k : k + 8], Y[k : k + 8]) for k in range(0, 50, 8))

    return ls.run(ls.LocalSGD(2), gradient, np.zeros(3), batches, on=ls.Threads(2))


@pytest.mark.parametrize(
    "made",
    [
        lambda rows, y: (rows, y), lambda rows, y: (sp.csr_array(rows), y),
        lambda rows, y: {"rows": rows, "targets": y}, lambda rows, y: {"rows": rows.toarray(), "targets": y},
    ],
)  # fmt: skip
def test_batches_of_sparse_rows_and_mappings_weigh_as_dense_ones(made: Any) -> None:
    dense, other = run(lambda rows, y: (rows.toarray(), y)), run(made)
    np.testing.assert_allclose(other.params, dense.params)
    assert other.samples == dense.samples == 100
    assert other.history[-1].loss == pytest.approx(dense.history[-1].loss)


def test_sparse_rows_are_dealt_as_dense_ones() -> None:
    for deal in (lambda data: shards(data, 4, 2)(1, 3), lambda data: global_batches(data, 6, 2)(1, 3)):
        for mine, wanted in zip(deal((X, Y)), deal((X.toarray(), Y)), strict=True):
            rows, labels = mine.part(1) if hasattr(mine, "part") else mine
            dense, same = wanted.part(1) if hasattr(wanted, "part") else wanted
            np.testing.assert_array_equal(rows.toarray(), dense)
            np.testing.assert_array_equal(labels, same)


class Frame:
    """What of a table of pandas matters here."""

    shape, iloc = (50, 3), None


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ((X.tocoo(), Y), "the rows of data are a COO matrix: say .tocsr()"),
        ((X.tobsr(), Y), "the rows of data are a BSR matrix: say .tocsr()"),
        (([[1.0]] * 50, Y), "the rows of data must be an array or a CSR matrix, got list"),
        ((X, list(Y)), "the labels of data must be an array or a CSR matrix, got list: say numpy.asarray"),
        ((Frame(), Y), "the rows of data must be an array or a CSR matrix, got Frame"),
        ((np.zeros(()), Y), "the rows of data must be an array"),
        ((X, Y[:3]), "data must be as many rows as labels, at least one, got 50 and 3"),
    ],
)
def test_rows_that_cannot_be_dealt_are_refused_before_the_run(data: Any, words: str) -> None:
    for deal in (shards, global_batches):
        with pytest.raises((TypeError, ValueError), match=words):
            deal(data, 4, 1)
    with pytest.raises(ValueError, match="seed must be at least 0, got -1"):
        shards((X, Y), 4, 1, seed=-1)
