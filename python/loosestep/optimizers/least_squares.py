"""How large a rate and a batch may be for SGD on least squares: the bounds of mini-batching and tail averaging.

Of samples (x, y), with H = E[x x^T], `norm` is the largest eigenvalue of H and `radius` the smallest number with
E[|x|^2 x x^T] <= radius * H; for Gaussian x, trace(H) + 2 norm is enough. The update is
w <- w - rate / batch * sum over the batch of (w . x - y) x.

>>> largest_rate(radius=24.0, norm=1.0, batch=1)
0.08333333333333333
>>> batch_threshold(radius=24.0, norm=1.0)
25.0

Reference: P. Jain, S. Kakade, R. Kidambi, P. Netrapalli, A. Sidford, arXiv:1610.03774, theorem 1. The tail average
itself is `Averaged(start=...)`.
"""

from __future__ import annotations

from loosestep.foundation import checks

__all__ = ["batch_threshold", "largest_rate"]


def largest_rate(radius: float, norm: float, batch: int = 1) -> float:
    """Return 2 b / (radius + (b - 1) norm): SGD is stable below it (sufficient); half of it is advised."""
    checks.integer("batch", batch)
    check(radius, norm)
    return 2 * batch / (radius + (batch - 1) * norm)


def batch_threshold(radius: float, norm: float) -> float:
    """Return 1 + radius / norm: up to that batch size b times the batch costs hardly any more samples.

    Beyond it the largest rate is near its limit 2 / norm, and more samples in a batch only lower the variance.
    """
    check(radius, norm)
    return 1 + radius / norm


def check(radius: float, norm: float) -> None:
    """Refuse what belongs to no distribution: radius is at least norm."""
    checks.positive("norm", norm)
    checks.positive("radius", radius)
    if radius < norm:
        raise ValueError(f"radius must be at least {norm:g}, which is norm, got {radius:g}")
