"""SGD as one writes it in Python, for numba to compile: rivals of one thread, where numba is installed."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np


def compiled(function: Callable[..., Any], case: str) -> Callable[..., Any] | None:
    """The native form of a loop; says so where there is no numba."""
    if importlib.util.find_spec("numba") is None:
        print(f"{case}: no row of numba, which is not installed (pip install numba)")
        return None
    native: Callable[..., Any] = importlib.import_module("numba").njit(function, fastmath=True)
    return native


def factorize(
    users: Any, items: Any, values: Any, p: Any, q: Any, bias_p: Any, bias_q: Any, sums_p: Any, sums_q: Any,
    l2: Any, rate: Any,
) -> None:  # fmt: skip
    """An epoch of `MatrixFactorization` with AdaGrad, in the order of the ratings."""
    rank, zero = p.shape[1], np.float32(0)
    for n in range(len(values)):
        u, i = users[n], items[n]
        e = values[n] - bias_p[u] - bias_q[i]
        for f in range(rank):
            e -= p[u, f] * q[i, f]
        rate_p, rate_q = rate / np.sqrt(sums_p[u]), rate / np.sqrt(sums_q[i])
        added_p, added_q = zero, zero
        for f in range(rank):
            x, y = p[u, f], q[i, f]
            of_x, of_y = e * y - l2 * x, e * x - l2 * y
            p[u, f] = x + rate_p * of_x
            q[i, f] = y + rate_q * of_y
            added_p += of_x * of_x
            added_q += of_y * of_y
        sums_p[u] += added_p / np.float32(rank)
        sums_q[i] += added_q / np.float32(rank)
        bias_p[u] += rate_p * (e - l2 * bias_p[u])
        bias_q[i] += rate_q * (e - l2 * bias_q[i])


def learn_machine(
    begin: Any, feature: Any, value: Any, target: Any, v: Any, w: Any, sums_v: Any, sums_w: Any, b: Any, s: Any,
    l2: Any, l2_linear: Any, rate: Any,
) -> None:  # fmt: skip
    """An epoch of `FactorizationMachineClassifier` of two classes, in the order of the rows."""
    rank, zero, half, one = v.shape[1], np.float32(0), np.float32(0.5), np.float32(1)
    for row in range(len(target)):
        score, squares = b[0], zero
        s[:] = zero
        for k in range(begin[row], begin[row + 1]):
            j, x = feature[k], value[k]
            score += w[j] * x
            for f in range(rank):
                part = v[j, f] * x
                s[f] += part
                squares += part * part
        pairs = zero
        for f in range(rank):
            pairs += s[f] * s[f]
        score += half * (pairs - squares)
        g = -target[row] / (one + np.exp(target[row] * score))
        b[0] -= rate * g
        for k in range(begin[row], begin[row + 1]):
            j, x = feature[k], value[k]
            added = zero
            for f in range(rank):
                of_v = g * x * (s[f] - v[j, f] * x) + l2 * v[j, f]
                added += of_v * of_v
            sums_v[j] += added / np.float32(rank)
            rate_v = rate / np.sqrt(sums_v[j])
            for f in range(rank):
                v[j, f] -= rate_v * (g * x * (s[f] - v[j, f] * x) + l2 * v[j, f])
            of_w = g * x + l2_linear * w[j]
            sums_w[j] += of_w * of_w
            w[j] -= rate / np.sqrt(sums_w[j]) * of_w
