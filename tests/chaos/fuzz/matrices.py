"""CSR matrices whose parts do not fit together: a sentence, or a fit; never the end of the process.

scikit-learn's and scipy's own checks see some of it; what they let pass must be seen before native code reads it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from tests.chaos.apart import apart
from tests.chaos.draw import sentence

from loosestep import sparse
from loosestep.foundation.errors import Diverged

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from tests.chaos.draw import Draw

ALL = 3000
ROWS, COLUMNS = 60, 20
ESTIMATORS: dict[str, Callable[[], Any]] = {
    "HogwildClassifier": lambda: sparse.HogwildClassifier(max_iter=2, random_state=0),
    "HogwildRegressor": lambda: sparse.HogwildRegressor(max_iter=2, random_state=0),
    "early": lambda: sparse.HogwildClassifier(max_iter=2, random_state=0, early_stopping=True),
    "FactorizationMachineClassifier": lambda: sparse.FactorizationMachineClassifier(max_iter=2, random_state=0),
    "FactorizationMachineRegressor": lambda: sparse.FactorizationMachineRegressor(max_iter=2, random_state=0),
    "MatrixFactorization": lambda: sparse.MatrixFactorization(max_iter=2, random_state=0),
}


def matrix(draw: Draw) -> Any:
    """A sound one."""
    random = np.random.default_rng(draw.randrange(1000))
    made = sp.random(ROWS, COLUMNS, 0.2, "csr", np.float32, random_state=random)
    kind = draw.choice((np.int32, np.int64))
    made.indices, made.indptr = made.indices.astype(kind), made.indptr.astype(kind)
    return made


def place(draw: Draw, values: NDArray[Any]) -> int:
    return draw.choice((0, len(values) - 1, draw.randrange(len(values))))


def columns(draw: Draw, made: Any) -> None:
    """Beyond the shape, below zero, or so large that 32 bits would bring them back into it."""
    wide = made.indices.dtype == np.int64
    made.indices[place(draw, made.indices)] = draw.choice(
        (COLUMNS, COLUMNS + 1, -1, -COLUMNS, 2**31 - 1, -(2**31), *((2**32 + 3, 2**62, -(2**62)) * wide))
    )


def all_columns(draw: Draw, made: Any) -> None:
    made.indices = made.indices.astype(np.int64) + draw.choice((COLUMNS, -COLUMNS, 2**32, 2**33))


def bounds(draw: Draw, made: Any) -> None:
    """Where rows begin: falling, below zero, beyond the end."""
    beyond = (-1, made.nnz + 1, 2**31 - 1, -(2**31), 10**6, 0, made.nnz)
    made.indptr[place(draw, made.indptr)] = draw.choice(beyond)


def order(draw: Draw, made: Any) -> None:
    """Rows whose columns fall or come twice."""
    made.indices = draw.choice((made.indices[::-1].copy(), np.full_like(made.indices, 3)))


def lengths(draw: Draw, made: Any) -> None:
    """Parts of different lengths."""
    part = draw.choice(("indices", "data", "indptr"))
    values = getattr(made, part)
    other = (values[:-1], values[:0], values[: len(values) // 2], np.concatenate([values, values]))
    setattr(made, part, draw.choice(other))


def values(draw: Draw, made: Any) -> None:
    """Numbers that are not finite, or hardly."""
    made.data[place(draw, made.data)] = draw.choice((np.nan, np.inf, -np.inf, 3e38, 1e-45))


def kinds(draw: Draw, made: Any) -> None:
    """Parts of odd types and layouts."""
    part = draw.choice(("indices", "data", "indptr"))
    found = getattr(made, part)
    other = draw.choice((np.float64, np.uint64, np.int8, np.complex64, np.bool_, ">i4", object, "U3"))
    layouts = (found.astype(other), found[::-1], np.repeat(found, 2)[::2], found.reshape(1, -1))
    setattr(made, part, draw.choice(layouts))


def shape(draw: Draw, made: Any) -> None:
    """More or fewer rows and columns than there are."""
    made._shape = draw.choice(
        ((ROWS + 1, COLUMNS), (ROWS - 1, COLUMNS), (ROWS, 1), (ROWS, 0), (0, COLUMNS), (2**40, COLUMNS))
    )


def fitted(draw: Draw, spoil: Callable[[Draw, Any], None]) -> str:
    name = draw.choice(sorted(ESTIMATORS))
    try:
        made = matrix(draw)
        spoil(draw, made)
    except (ValueError, TypeError):
        return "scipy-refuses"
    targets = np.arange(ROWS) % 2 if "Classifier" in name or name == "early" else np.linspace(0, 1, ROWS)
    arguments = (made,) if name == "MatrixFactorization" else (made, targets)
    try:
        ESTIMATORS[name]().fit(*arguments)
    except (ValueError, TypeError, Diverged, FloatingPointError) as error:
        return sentence(error)
    assert sound(made), f"{name} took a matrix whose parts do not fit together"
    return "fit"


def sound(made: Any) -> bool:
    """Whether every row is somewhere, and every column is one."""
    begins, used = np.asarray(made.indptr).reshape(-1), np.asarray(made.indices).reshape(-1)
    if begins.dtype.kind not in "iu" or used.dtype.kind not in "iu":
        return True  # an estimator may convert them
    return bool(
        begins[0] == 0
        and len(begins) == made.shape[0] + 1
        and (np.diff(begins.astype(np.int64)) >= 0).all()
        and begins[-1] <= len(used)
        and all(0 <= column < made.shape[1] for column in used[: int(begins[-1])].tolist())
    )


def kind(spoil: Callable[[Draw, Any], None]) -> Callable[[Draw], str]:
    """In a copy of the process: what it breaks, breaks no other case."""

    def case(draw: Draw) -> str:
        code, text = apart(lambda: fitted(draw, spoil))
        assert code == 0, text or f"the process ended with {code}"
        return text

    return case


SPOILERS = (columns, all_columns, bounds, order, lengths, values, kinds, shape)
KINDS = {each.__name__: kind(each) for each in SPOILERS}
