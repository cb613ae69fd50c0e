"""Update rules of local optimizers, element by element: numpy bodies."""

from __future__ import annotations

import math

import numpy as np

from loosestep.foundation.buffers import Buffer
from loosestep.ops.registry import op

__all__ = [
    "adam",
    "lamb",
    "lars",
    "momentum",
    "nesterov",
    "rmsprop_warmup",
    "sgd",
]


@op
def sgd(x: Buffer, g: Buffer, rate: float) -> None:
    """x -= rate g."""
    x -= rate * g


@op
def momentum(x: Buffer, v: Buffer, g: Buffer, rate: float, momentum: float) -> None:
    """Heavy ball: v = momentum v - rate g, x += v."""
    v[...] = momentum * v - rate * g
    x += v


@op
def nesterov(x: Buffer, v: Buffer, g: Buffer, rate: float, momentum: float) -> None:
    """Nesterov's momentum: v = momentum v - rate g, x += momentum v - rate g."""
    step = rate * g
    v[...] = momentum * v - step
    x += momentum * v - step


@op
def adam(
    x: Buffer,
    m: Buffer,
    v: Buffer,
    g: Buffer,
    rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    step: int,
) -> None:
    """Adam; `step` counts from 1. The bias corrections are made in double, once. The operations are torch's, in
    order.

    m += (1 - beta1) (g - m), v = beta2 v + (1 - beta2) g g,
    x -= rate / (1 - beta1^step) m / (sqrt(v) / sqrt(1 - beta2^step) + epsilon).
    """
    size = rate / (1 - math.pow(beta1, step))
    correction = math.sqrt(1 - math.pow(beta2, step))
    m += (1 - beta1) * (g - m)
    v[...] = beta2 * v + (1 - beta2) * g * g
    x -= size * m / (np.sqrt(v) / correction + epsilon)


@op
def lars(x: Buffer, v: Buffer, g: Buffer, rate: float, momentum: float, weight_decay: float) -> None:
    """Heavy ball with the decay inside: v = momentum v - rate (g + weight_decay x), x += v."""
    v[...] = momentum * v - rate * (g + weight_decay * x)
    x += v


@op
def lamb(
    x: Buffer,
    m: Buffer,
    v: Buffer,
    g: Buffer,
    beta1: float,
    beta2: float,
    epsilon: float,
    weight_decay: float,
    step: int,
) -> None:
    """LAMB's direction takes the place of the gradient; `step` counts from 1. Adam's moments and corrections:

    m += (1 - beta1) (g - m), v = beta2 v + (1 - beta2) g g,
    g = m / (1 - beta1^step) / (sqrt(v) / sqrt(1 - beta2^step) + epsilon) + weight_decay x.
    """
    size = 1 / (1 - math.pow(beta1, step))
    inverse = 1 / math.sqrt(1 - math.pow(beta2, step))
    m += (1 - beta1) * (g - m)
    v[...] = beta2 * v + (1 - beta2) * g * g
    g[...] = size * m / (np.sqrt(v) * inverse + epsilon) + weight_decay * x


@op
def rmsprop_warmup(
    x: Buffer,
    d: Buffer,
    m: Buffer,
    g: Buffer,
    rate: float,
    momentum: float,
    decay: float,
    sgd_share: float,
    rms_share: float,
    epsilon: float,
) -> None:
    """Between RMSprop and heavy ball, the rate outside of the momentum:

    m = decay m + (1 - decay) g g, d = momentum d - (sgd_share + rms_share / (sqrt(m) + epsilon)) g, x += rate d.
    """
    m[...] = decay * m + (1 - decay) * g * g
    d[...] = momentum * d - (sgd_share + rms_share / (np.sqrt(m) + epsilon)) * g
    x += rate * d
