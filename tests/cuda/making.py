"""Arguments of kernels, for their tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

KINDS = {"float": np.float32, "double": np.float64}
each_kind = pytest.mark.parametrize("kind", KINDS)
each_order = pytest.mark.parametrize("backwards", [False, True], ids=["forwards", "backwards"])


def buffers(many: int, n: int, kind: str, offset: int = 0) -> list[np.ndarray]:
    """Each begins `offset` elements behind a multiple of 64 bytes; values of very different sizes."""
    rng, made = np.random.default_rng(n), []
    for _ in range(many):
        room = np.empty(n + 32, KINDS[kind])
        start = -room.ctypes.data % 64 // room.itemsize + offset
        made.append(room[start : start + n])
        made[-1][:] = rng.standard_normal(n) * 10.0 ** rng.integers(-3, 4, n)
    return made


def structure(*fields: tuple[Any, Any]) -> Any:
    """A structure passed by value, laid out as C++ does: each field by its type and value, arrays by address."""
    kinds = [
        (f"f{i}", np.uint64 if isinstance(value, np.ndarray) else kind) for i, (kind, value) in enumerate(fields)
    ]
    values = tuple(value.ctypes.data if isinstance(value, np.ndarray) else value for _, value in fields)
    return np.array(values, np.dtype(kinds, align=True))[()]


def lane_sum(products: np.ndarray, first: float = 0.0) -> np.float32:
    """As a warp adds: lane j takes products j, j + 32, ... (lane 0 begins with `first`); lanes meet in pairs."""
    lanes = np.zeros(32, np.float32)
    lanes[0] = first
    for begin in range(0, products.size, 32):
        part = products[begin : begin + 32]
        lanes[: part.size] += part
    for width in (16, 8, 4, 2, 1):
        lanes = lanes + lanes[np.arange(32) ^ width]
    return lanes[0]
