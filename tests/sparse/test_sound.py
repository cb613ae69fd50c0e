"""Matrices that are not well formed and sizes that no memory holds end in a sentence, not in a crash of scipy."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from loosestep.sparse import (
    FactorizationMachineClassifier,
    FactorizationMachineRegressor,
    HogwildClassifier,
    HogwildRegressor,
    MatrixFactorization,
)
from loosestep.sparse.validation import sound


def rows(form: str = "csr") -> Any:
    return sp.random(40, 8, 0.3, "csr", np.float32, random_state=1).asformat(form)


def falls(matrix: Any) -> None:
    matrix.indptr[3] = matrix.indptr[5] + 1


def goes_beyond_in_the_middle(matrix: Any) -> None:
    matrix.indptr[4] = 10**6


def ends_beyond(matrix: Any) -> None:
    matrix.indptr[-1] += 100


def begins_late(matrix: Any) -> None:
    matrix.indptr[0] = 1


def begins_below(matrix: Any) -> None:
    matrix.indptr[0] = -3


def has_too_few_starts(matrix: Any) -> None:
    matrix.indptr = matrix.indptr[:-2]


def names_a_column_beyond(matrix: Any) -> None:
    matrix.indices[7] = matrix.indices.max() + 10**6


def names_a_column_below(matrix: Any) -> None:
    matrix.indices[7] = -2


def wraps_in_32_bits(matrix: Any) -> None:
    matrix.indices = matrix.indices.astype(np.int64) + 2**32


def wraps_in_64_bits(matrix: Any) -> None:
    matrix.indices = matrix.indices.astype(np.uint64)
    matrix.indices[7] = 2**64 - 1


def lacks_values(matrix: Any) -> None:
    matrix.data = matrix.data[:-5]


def has_places_that_are_no_integers(matrix: Any) -> None:
    matrix.indices = matrix.indices.astype(np.float64)


def has_values_of_another_shape(matrix: Any) -> None:
    matrix.data = matrix.data.reshape(1, 1, 1, -1)


def has_indices_of_another_shape(matrix: Any) -> None:
    matrix.indices = matrix.indices.reshape(1, -1)


FAULTS: dict[Any, str] = {
    has_values_of_another_shape: r"its data has the shape \(1, 1, 1, .*, its indices",
    has_indices_of_another_shape: r"its data has the shape .*, its indices \(1, ",
    falls: "indptr must not fall, but .* follows .* at 4",
    goes_beyond_in_the_middle: "indptr must not fall, but .* follows 1000000 at 5",
    ends_beyond: "indptr must go from 0 to .*, the number of indices, got 0 to",
    begins_late: "indptr must go from 0 to .*, got 1 to",
    begins_below: "indptr must go from 0 to .*, got -3 to",
    has_too_few_starts: "indptr must have .* elements, got",
    names_a_column_beyond: "its indices must be in 0 .. .*, got 1000",
    names_a_column_below: "its indices must be in 0 .. .*, got -2",
    wraps_in_32_bits: "its indices must be in 0 .. .*, got 4294967",
    wraps_in_64_bits: "its indices must be in 0 .. .*, got 18446744073709551615",
    lacks_values: "indices, but .* values",
    has_places_that_are_no_integers: "indptr and indices must be integers, got int32, float64",
}


@pytest.mark.parametrize("form", ["csr", "csc", "bsr"])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_matrix_that_is_not_well_formed_is_named(fault: Any, form: str) -> None:
    X = rows(form)
    assert sound(X) is X
    fault(X)
    with pytest.raises(ValueError, match=f"X is no well-formed {form.upper()} matrix: .*{FAULTS[fault]}"):
        sound(X)


def test_what_is_well_formed_passes() -> None:
    for X in (
        sp.csr_array((0, 3)),
        sp.csr_array((3, 0)),
        sp.bsr_array(np.ones((4, 6)), blocksize=(2, 3)),
        rows("lil"),
    ):
        assert sound(X) is X
    longer = rows()
    longer.data, longer.indices = (
        np.append(longer.data, 1),
        np.append(longer.indices, 10**6),
    )  # beyond what is used
    assert sound(longer) is longer


@pytest.mark.parametrize("change", [lambda a: a.astype(np.int16), lambda a: np.repeat(a, 2)[::2]])
@pytest.mark.filterwarnings("ignore:max_iter")
def test_indices_of_other_kinds_and_strides_are_taken(change: Any) -> None:
    other, y = rows(), np.arange(40) % 2
    other.indices, other.data = change(other.indices), np.repeat(other.data, 2)[::2]
    for kind in (HogwildClassifier, FactorizationMachineClassifier):
        scores = [kind(random_state=0, max_iter=2).fit(X, y).decision_function(rows()) for X in (rows(), other)]
        np.testing.assert_array_equal(*scores)


def test_a_coo_matrix_that_names_a_row_beyond_is_named() -> None:
    X = rows("coo")
    X.row[3] = 40
    with pytest.raises(ValueError, match="X is no well-formed COO matrix: its indices must be in 0 .. 39, got 40"):
        MatrixFactorization(4).fit(X)


TRAINED = [
    HogwildClassifier, HogwildRegressor, FactorizationMachineClassifier, FactorizationMachineRegressor,
    MatrixFactorization,
]  # fmt: skip


def calls(kind: Any) -> dict[str, Any]:
    y, good = np.arange(40) % 2, rows()
    more = {"classes": [0, 1]} if "Classifier" in kind.__name__ else {}
    if kind is MatrixFactorization:
        model = kind(4, max_iter=1).fit(good)
        return {
            "fit": kind(4).fit, "partial_fit": kind(4).partial_fit, "predict": model.predict,
            "transform": model.transform, "implicit": kind(4, feedback="implicit").fit,
        }  # fmt: skip
    model = kind(random_state=0).fit(good, y)
    found = {
        "fit": lambda matrix: kind().fit(matrix, y),
        "partial_fit": lambda matrix: kind().partial_fit(matrix, y, **more),
        "predict": model.predict,
    }  # fmt: skip
    if kind in TRAINED[:2]:
        found["early_stopping"] = lambda matrix: kind(early_stopping=True).fit(matrix, y)
    return found


@pytest.mark.parametrize("kind", TRAINED)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_estimators_look_before_they_index(kind: Any, fault: Any) -> None:
    for call in calls(kind).values():
        X = rows()
        fault(X)
        with pytest.raises(ValueError, match="X is no well-formed CSR matrix"):
            call(X)


def test_ratings_whose_numbers_wrap_are_refused() -> None:
    X = sp.coo_matrix((np.ones(2), (np.array([0, 2**32 + 1]), [0, 1])), shape=(2**32 + 2, 2))
    with pytest.raises(ValueError, match=r"X must have fewer than 2\^32 - 1 users and items, got the shape"):
        MatrixFactorization(4).fit(X)


def test_a_machine_of_too_many_columns_is_refused() -> None:
    X = sp.csr_matrix((np.ones(2, np.float32), np.array([0, 2**31]), [0, 1, 2]), shape=(2, 2**31 + 1))
    with pytest.raises((ValueError, MemoryError), match="columns of X must be in 1 .. 2147483647, got 2147483649"):
        FactorizationMachineRegressor(4).fit(X, [0, 1])


def test_rows_that_another_thread_writes_to_are_not_read_out_of_bounds() -> None:
    """As if they had changed between two readings: the places were laid out for fewer features than there are."""
    from loosestep import _core

    starts, columns = np.array([0, 2]), np.array([0, 5], np.int32)
    values, target = np.ones(2, np.float32), np.ones(1, np.float32)
    with pytest.raises(
        RuntimeError, match="the rows changed while they were read: no other thread may write to them"
    ):
        _core.SparseRows(starts, columns, values, np.array([1, 2], np.uint32), 0, 1, target, None, 1, 0)


LIMITED = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
import numpy as np, scipy.sparse as sp
from loosestep import Threads
from loosestep.foundation import buffers
from loosestep.sparse import *

pairs = np.stack([[1_500_000_000, 1_500_000_007, 3_999_999_999], [0, 1, 2]], 1)
wide = sp.csr_matrix((np.ones(3, np.float32), [0, 1, 3_000_000_000], [0, 1, 2, 3]), shape=(3, 3_000_000_001))
few = sp.csr_matrix((np.ones(3, np.float32), [0, 1, 1_000_000_000], [0, 1, 2, 3]), shape=(3, 2_000_000_000))
for call in (
    lambda: MatrixFactorization(8).fit(pairs, [1.0, 2, 3]),
    lambda: MatrixFactorization(8).partial_fit(pairs, [1.0, 2, 3]),
    lambda: MatrixFactorization(8, shape=(10, 4_000_000_000)).fit([[0, 0]], [1.0]),
    lambda: rotate(Threads(1), pairs, [1.0, 2, 3]),
    lambda: HogwildRegressor().fit(wide, [1.0, 2, 3]),
    lambda: HogwildRegressor().partial_fit(wide, [1.0, 2, 3]),
    lambda: FactorizationMachineRegressor().fit(few, [1.0, 2, 3]),
    lambda: buffers.zeros(10**10),
    lambda: buffers.zeros(10**30),
):
    try:
        call()
        print("it went")
    except MemoryError as error:
        print(error)
"""


def test_what_no_memory_holds_is_named() -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LIMITED)], capture_output=True, text=True, check=True
    )
    users = "there is not enough memory for factors of 4000000000 users and 3 items of rank"
    features = "there is not enough memory for a model of 3000000001 features and 1 outputs ("
    wanted = [
        f"{users} 8", f"{users} 8",
        "there is not enough memory for factors of 10 users and 4000000000 items of rank 8",
        f"{users} 32", features, features, "there is not enough memory for 1 x 2000000000 features of rank 16 (",
        "10000000000 numbers of float32 are 37.25 GiB, which cannot be had",
        f"{10**30} numbers of float32 are 3.725e+21 GiB, which cannot be had",
    ]  # fmt: skip
    told = done.stdout.splitlines()
    assert len(told) == len(wanted)
    for line, words in zip(told, wanted, strict=True):
        assert line.startswith(words)
    assert "must be numbered anew, as by numpy.unique(..., return_inverse=True)" in told[0]
