"""The number of rows in arrays, sparse matrices and sequences, and in what holds several of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def rows_in(part: Any) -> int | None:
    """Return the rows of one part of a batch; None where it has none, as a number or a text.

    Of an array or a sparse matrix, its first dimension; of a mapping or a tuple, those of its first part that has
    rows; of another sequence, its length.
    """
    if hasattr(part, "shape"):
        return int(part.shape[0]) if len(part.shape) else None
    if isinstance(part, str | bytes):
        return None
    if isinstance(part, Mapping | tuple):
        inner = part.values() if isinstance(part, Mapping) else part
        counts = [count for count in map(rows_in, inner) if count is not None]
        if counts or isinstance(part, Mapping):
            return counts[0] if counts else None
    return len(part) if hasattr(part, "__len__") else None


def pairs_in(data: tuple[Any, Any]) -> int:
    """Return how many rows and labels there are; refuse unequal numbers, and what cannot be indexed."""
    for name, part in zip(("rows", "labels"), data, strict=True):
        if not hasattr(part, "shape") or hasattr(part, "iloc") or len(part.shape) == 0:
            raise TypeError(
                f"the {name} of data must be an array or a CSR matrix, got {type(part).__name__}: "
                "say numpy.asarray(...) of it"
            )
        if getattr(part, "format", "csr") in ("coo", "dia", "bsr"):
            raise TypeError(
                f"the {name} of data are a {part.format.upper()} matrix: say .tocsr(), so that rows can be taken"
            )
    rows, labels = (part.shape[0] for part in data)
    if rows != labels or not labels:
        raise ValueError(f"data must be as many rows as labels, at least one, got {rows} and {labels}")
    return int(labels)
