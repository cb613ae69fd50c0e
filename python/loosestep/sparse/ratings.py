"""Ratings as users give them: a sparse matrix, or pairs (user, item) with a rating each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from loosestep.foundation import checks
from loosestep.sparse.validation import sound

Index: TypeAlias = NDArray[np.uint32]
Floats: TypeAlias = NDArray[np.float32]
MOST = 2**32 - 1
"""The largest number of users or of items."""


@dataclass(frozen=True)
class Ratings:
    users: Index
    items: Index
    values: Floats
    shape: tuple[int, int]

    def __len__(self) -> int:
        return len(self.values)

    def part(self, chosen: NDArray[Any]) -> Ratings:
        return Ratings(self.users[chosen], self.items[chosen], self.values[chosen], self.shape)

    def held_out(self, fraction: float, random: np.random.Generator) -> tuple[Ratings, Ratings]:
        """Return (ratings to learn from, ratings held out), drawn without regard to users."""
        held, count = np.zeros(len(self), bool), max(1, round(fraction * len(self)))
        if count >= len(self):
            raise ValueError(
                f"validation_fraction={fraction!r} holds out {count} of {len(self)} ratings: none are left"
            )
        held[random.choice(len(self), count, replace=False)] = True
        return self.part(~held), self.part(held)


def read(X: Any, y: Any, shape: tuple[int, int] | None, known: bool = False) -> Ratings:
    """Return the ratings of a sparse matrix (its stored entries, y None), or of pairs (n, 2) and n ratings y.

    ValueError or TypeError says what is wrong with them; `shape` may name users and items that X does not show.
    known: `shape` is that of factors which are there, and X may name no others.
    """
    users, items, values, seen = _from_matrix(X) if y is None else (*_pairs(X), _ratings(y), None)
    if len(users) != len(values):
        raise ValueError(f"y must hold a rating for each of the {len(users)} pairs, got {len(values)}")
    if not len(values):
        raise ValueError("X must hold at least 1 rating, got 0 samples")
    if not np.isfinite(values).all():
        raise ValueError("ratings must be finite, got NaN or infinity (or a value too large for float32)")
    if known and shape is not None:
        check_known(users, items, shape, ValueError)
        return Ratings(users, items, values, shape)
    return Ratings(users, items, values, _shape(shape, seen, users, items))


def pairs(X: Any, shape: tuple[int, int]) -> tuple[Index, Index]:
    """Return users and items of pairs, or of stored entries; raise IndexError beyond what was fitted."""
    users, items = _from_matrix(X)[:2] if hasattr(X, "tocoo") else _pairs(X)
    check_known(users, items, shape, IndexError)
    return users, items


def check_known(users: Index, items: Index, shape: tuple[int, int], error: type[Exception]) -> None:
    """Refuse users and items that have no factors, by that kind of error."""
    for name, index, bound in (("user", users, shape[0]), ("item", items, shape[1])):
        if len(index) and index.max() >= bound:
            raise error(
                f"X names {name} {index.max()}, but the factors are of {bound} {name}s: give shape=(users, items) "
                "to the first fit where later data names more"
            )


def _from_matrix(X: Any) -> tuple[Index, Index, Floats, tuple[int, int]]:
    if not hasattr(X, "tocoo"):
        raise TypeError(f"X must be a sparse matrix, or pairs with y given, got {type(X).__name__} and no y")
    coo = sound(X).tocoo()
    if max(coo.shape) >= MOST:
        raise ValueError(f"X must have fewer than 2^32 - 1 users and items, got the shape {coo.shape}")
    return coo.row.astype(np.uint32), coo.col.astype(np.uint32), _ratings(coo.data), coo.shape


def _pairs(X: Any) -> tuple[Index, Index]:
    table = np.asarray(X)
    if table.ndim != 2 or table.shape[1] != 2:
        raise ValueError(f"X must have the shape (n, 2), a user and an item a row, got {table.shape}")
    if table.dtype.kind not in "iu":
        raise TypeError(f"X must hold whole numbers, got {table.dtype}")
    if table.size and (table.min() < 0 or table.max() >= MOST):
        raise ValueError(f"X must hold numbers from 0 to 2^32 - 2, got {table.min()} .. {table.max()}")
    return np.ascontiguousarray(table[:, 0], np.uint32), np.ascontiguousarray(table[:, 1], np.uint32)


def _ratings(y: Any) -> Floats:
    values = np.asarray(y)
    if values.ndim != 1 or values.dtype.kind not in "fiub":
        raise TypeError(f"ratings must be one row of real numbers, got {values.ndim} dimensions of {values.dtype}")
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values, np.float32)


def check_shape(given: Any) -> None:
    """Refuse what is not a number of users and one of items."""
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise TypeError(f"shape must be (users, items), got {given!r}")
    for what, number in zip(("users", "items"), given, strict=True):
        checks.integer(f"shape, of {what},", number, most=MOST)


def _shape(
    given: tuple[int, int] | None, seen: tuple[int, int] | None, users: Index, items: Index
) -> tuple[int, int]:
    needed = seen or (int(users.max()) + 1, int(items.max()) + 1)
    if given is None:
        return needed
    if given[0] < needed[0] or given[1] < needed[1]:
        raise ValueError(f"shape must be at least {needed}, as X shows, got {tuple(given)}")
    return int(given[0]), int(given[1])
