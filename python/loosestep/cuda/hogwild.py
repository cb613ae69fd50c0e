"""Hogwild on a device: passes over sparse rows and ratings in its memory, without locks.

Thousands of warps take rows in turn, each from the model as it finds it. `warps` bounds how many do so at once,
and so how stale a model they see: a step size that suits a few threads may diverge with ten thousand warps.
"""

from __future__ import annotations

from math import gcd, inf, prod
from typing import Any, Literal, NamedTuple

import numpy as np

from loosestep.cuda.arrays import Place, gpu_of, is_contiguous, seen
from loosestep.cuda.launch import THREADS, addresses, launch
from loosestep.cuda.memory import address, fetched, sent, structure

LOSSES = ("log_loss", "hinge", "squared_hinge", "squared_error", "huber")
SCHEDULES = ("constant", "invscaling", "optimal")
MOST_RANK = 128
Adds = Literal["racy", "exact"]


class CSR(NamedTuple):
    """Compressed sparse rows: int64 starts, int32 columns, float32 values and targets, perhaps weights of rows."""

    starts: Any
    columns: Any
    values: Any
    targets: Any
    weights: Any = None


class StepSize(NamedTuple):
    """The step size at step t = 1, 2, ...: eta0, eta0 / t^power_t, or 1 / (alpha (offset + t))."""

    eta0: float = 0.1
    schedule: str = "constant"
    power_t: float = 0.5
    alpha: float = 0.0
    offset: float = 0.0

    def passed(self) -> tuple[tuple[str, Any], ...]:
        """Return the fields of the kernel's structure, which begins at a multiple of eight bytes."""
        numbers = (self.eta0, self.power_t, self.alpha, self.offset)
        kind = one_of("schedule", self.schedule, SCHEDULES)
        return ("i4", 0), ("i4", kind), *(("f8", float(each)) for each in numbers)


CONSTANT = StepSize()


def linear(
    weights: Any,
    rows: CSR,
    *,
    loss: str = "log_loss",
    rate: StepSize = CONSTANT,
    adds: Adds = "racy",
    steps: int = 0,
    intercept_step: float = 1.0,
    epsilon: float = 0.1,
    warps: int = 1024,
) -> float:
    """Make one pass w_j <- w_j - eta slope x_j over the rows; return the sum of losses, each before its own step.

    weights: float32, one for each feature and the intercept behind them (moved by `intercept_step` times the step
    size; 0: none).
    rows: the examples; targets are -1 and 1, or numbers.
    loss: log_loss, hinge, squared_hinge, squared_error or huber (linear beyond `epsilon`).
    adds: `racy` may lose an update that another makes at once, `exact` adds atomically.
    steps: taken before this pass, for the rate.

    A column that is no feature is not followed: the sum is NaN then.
    """
    not_below_0(intercept_step=intercept_step, epsilon=epsilon, steps=steps)
    w = seen("hogwild", "weights", weights, written=True)
    if w.dtype != "float32" or not w.size:
        raise TypeError(f"hogwild: weights must be float32, with the intercept last, got {w.size} of {w.dtype}")
    count = checked(rows, w.device)
    kind = one_of("loss", loss, LOSSES)
    shape = (("u8", w.address), ("u8", w.size - 1), ("f4", intercept_step), ("i4", kind), ("f4", epsilon))
    model = structure(*shape, *rate.passed())
    share = structure(("u8", 0), ("u8", count), ("u8", steps))
    places = addresses([0 if each is None else address(each) for each in rows])
    return started("hogwild", f"linear<{way(adds)}>", w.place, warps, [model, places, share])


def checked(rows: CSR, device: int) -> int:
    """Return how many rows there are, after a check."""
    count = length("targets", rows.targets, "<f4", device)
    entries = length("columns", rows.columns, "<i4", device)
    same("starts", length("starts", rows.starts, "<i8", device), count + 1)
    same("values", length("values", rows.values, "<f4", device), entries)
    if rows.weights is not None:
        same("weights of rows", length("weights of rows", rows.weights, "<f4", device), count)
    return count


def length(name: str, given: Any, typestr: str, device: int) -> int:
    """Return the length of an array on the device; refuse another dtype, and gaps."""
    if gpu_of(given) != device:
        raise ValueError(f"hogwild: {name} must be on GPU {device} like the model, got {type(given).__name__}")
    told, kind = given.__cuda_array_interface__, np.dtype(typestr)
    strides = told.get("strides")
    if told["typestr"] != typestr or not is_contiguous(told["shape"], strides, kind.itemsize):
        got = f"{told['typestr']}, strides {strides}"
        raise TypeError(f"hogwild: {name} must be a contiguous array of {kind}, got {got}")
    return prod(told["shape"])


def same(name: str, got: int, want: int) -> None:
    if got != want:
        raise ValueError(f"hogwild: {name} must have {want} elements, got {got}")


def not_below_0(**given: float) -> None:
    for name, value in given.items():
        if not 0 <= value < inf:
            raise ValueError(f"hogwild: {name} must be finite and at least 0, got {value}")


def one_of(name: str, given: str, known: tuple[str, ...]) -> int:
    """Return the index of `given` in `known`."""
    if given not in known:
        raise ValueError(f"hogwild: {name} must be one of {', '.join(known)}, got {given!r}")
    return known.index(given)


def way(adds: str) -> str:
    """Return the template argument for `adds`."""
    return ("Racy", "Exact")[one_of("adds", adds, ("racy", "exact"))]


class Side(NamedTuple):
    """Users or items: float32 rows of one length, a bias each or None, and their regularization."""

    rows: Any
    bias: Any = None
    l2: float = 0.0


def factors(
    users: Side, items: Side, ratings: Any, *, rate: float = 0.01, adds: Adds = "racy", warps: int = 1024
) -> float:
    """Make one pass over ratings; return the weighted sum of squared errors, each before its own update.

    For a rating r of (u, i) of weight w, with e = w (r - (b_u + b_i + p_u.q_i)), from the values before:
    p_u += rate (e q_i - l2_u p_u), b_u += rate (e - l2_u b_u), items likewise.

    ratings: uint32, four for each: user and item, and the bits of value and weight as float32. One of a user or an
    item that is none moves nothing, and makes the sum NaN.
    """
    p, q = seen("hogwild", "users", users.rows, written=True), seen("hogwild", "items", items.rows, written=True)
    rank = rank_of(users, items)
    sides = [field for each in (users, items) for field in side_fields(each, p.device)]
    model = structure(*sides, ("u4", rank), ("f4", rate))
    count, over = divmod(length("ratings", ratings, "<u4", p.device), 4)
    same("ratings", 4 * count + over, 4 * count)
    given = [model, address(ratings), 0, count]
    return started("factors", f"factors<{way(adds)}>", q.place, warps, given)


def rank_of(users: Side, items: Side) -> int:
    """Return the length of the rows, the same on both sides."""
    shapes = [tuple(map(int, each.rows.shape)) for each in (users, items)]
    if (
        {len(shape) for shape in shapes} != {2}
        or shapes[0][1] != shapes[1][1]
        or not 1 <= shapes[0][1] <= MOST_RANK
    ):
        raise ValueError(f"hogwild: rows must have one length from 1 to {MOST_RANK}, got shapes {shapes}")
    return shapes[0][1]


def side_fields(side: Side, device: int) -> list[tuple[str, Any]]:
    """Return the fields of the kernel's structure."""
    length("rows", side.rows, "<f4", device)
    if side.bias is not None:
        same("bias", length("bias", side.bias, "<f4", device), side.rows.shape[0])
    bias = 0 if side.bias is None else address(side.bias)
    return [("u8", address(side.rows)), ("u8", bias), ("u4", side.rows.shape[0]), ("f4", side.l2)]


def started(file: str, kernel: str, place: Place, warps: int, arguments: list[Any]) -> float:
    """Launch so many warps; return the sum that they leave."""
    if warps < 1:
        raise ValueError(f"hogwild: warps must be at least 1, got {warps}")
    total = sent(place, np.zeros(1))
    together = gcd(warps, THREADS // 32)  # of a thread block: as many as divide the number, which is kept
    launch(file, kernel, place, (warps // together,), (32 * together,), [*arguments, address(total)])
    return float(fetched(place, total)[0])
