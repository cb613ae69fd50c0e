"""What each kind of operation computes, in numpy, and how many floating-point operations it takes.

The numpy bodies are the specification: the reference executor runs a program with them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import pi, prod, sqrt
from typing import Any

import numpy as np

Array = Any  # of any number of axes, float or integer
Shapes = Sequence[tuple[int, ...]]


@dataclass(frozen=True)
class Kernel:
    """run: (*inputs, **options) -> outputs. flops: (shapes of inputs, of outputs, options) -> number."""

    run: Callable[..., tuple[Array, ...]]
    flops: Callable[[Shapes, Shapes, dict[str, Any]], float]


def per_output(count: float) -> Callable[[Shapes, Shapes, dict[str, Any]], float]:
    """Return the cost of so many operations for each value of the first output."""
    return lambda inputs, outputs, options: count * prod(outputs[0])


def gelu(x: Array) -> tuple[Array, ...]:
    return (0.5 * x * (1 + np.tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))),)


def gelu_grad(dy: Array, x: Array) -> tuple[Array, ...]:
    t = np.tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))
    slope = sqrt(2 / pi) * (1 + 3 * 0.044715 * x**2)
    return (dy * (0.5 * (1 + t) + 0.5 * x * (1 - t**2) * slope),)


def normalized(x: Array) -> tuple[Array, Array]:
    """Return rows of mean 0 and variance 1, and what they were multiplied by."""
    scale = 1 / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)
    return (x - x.mean(axis=1, keepdims=True)) * scale, scale


def layer_norm(x: Array, gain: Array, bias: Array) -> tuple[Array, ...]:
    return (normalized(x)[0] * gain + bias,)


def layer_norm_grad(dy: Array, x: Array, gain: Array) -> tuple[Array, ...]:
    rows, scale = normalized(x)
    moved = dy * gain
    along = (moved * rows).mean(axis=1, keepdims=True)
    dx = scale * (moved - moved.mean(axis=1, keepdims=True) - rows * along)
    return dx, (dy * rows).sum(axis=0), dy.sum(axis=0)


def split_heads(qkv: Array, heads: int, sequence: int) -> Array:
    """Return (3, sequences, heads, sequence, width); columns are, for each head, its q, k and v."""
    parts = qkv.reshape(-1, sequence, heads, 3, qkv.shape[1] // (3 * heads))
    return parts.transpose(3, 0, 2, 1, 4)


def probabilities(q: Array, k: Array) -> Array:
    scores = q @ k.swapaxes(-1, -2) / sqrt(q.shape[-1])
    scores = np.where(np.tri(q.shape[-2], dtype=bool), scores, -np.inf)  # causal
    raised = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def attention(qkv: Array, heads: int, sequence: int) -> tuple[Array, ...]:
    q, k, v = split_heads(qkv, heads, sequence)
    out = probabilities(q, k) @ v
    return (out.transpose(0, 2, 1, 3).reshape(len(qkv), -1),)


def attention_grad(dy: Array, qkv: Array, heads: int, sequence: int) -> tuple[Array, ...]:
    q, k, v = split_heads(qkv, heads, sequence)
    weights = probabilities(q, k)
    out = dy.reshape(-1, sequence, heads, q.shape[-1]).transpose(0, 2, 1, 3)
    raised = out @ v.swapaxes(-1, -2)
    scores = weights * (raised - (raised * weights).sum(axis=-1, keepdims=True)) / sqrt(q.shape[-1])
    parts = np.stack([scores @ k, scores.swapaxes(-1, -2) @ q, weights.swapaxes(-1, -2) @ out])
    return (parts.transpose(1, 3, 2, 0, 4).reshape(qkv.shape),)


def attention_flops(inputs: Shapes, outputs: Shapes, options: dict[str, Any]) -> float:
    """Return those of two products of a row with each row of its sequence."""
    rows, width = outputs[0]
    return 4.0 * rows * int(options["sequence"]) * width


def attention_grad_flops(inputs: Shapes, outputs: Shapes, options: dict[str, Any]) -> float:
    """Return those of five products: the probabilities are computed anew."""
    return 2.5 * attention_flops((), inputs[:1], options)


def cross_entropy(logits: Array, targets: Array, scale: float) -> tuple[Array, ...]:
    """Return scale times the sum of the rows' losses, and its gradient."""
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    chances = raised / raised.sum(axis=1, keepdims=True)
    rows = np.arange(len(targets))
    loss = -np.log(chances[rows, targets]).sum() * scale
    chances[rows, targets] -= 1
    return np.array([loss]), chances * scale


def all_reduce(*inputs: Array, count: int) -> tuple[Array, ...]:
    """Sum the arrays of each place over the devices, of which each gives `count`."""
    sums = [sum(inputs[place + count :: count], inputs[place]) for place in range(count)]
    return tuple(sums) * (len(inputs) // count)


def all_gather(*inputs: Array) -> tuple[Array, ...]:
    return (np.concatenate(inputs, axis=1),) * len(inputs)


def shard(x: Array, index: int, parts: int) -> tuple[Array, ...]:
    width = x.shape[1] // parts
    return (x[:, index * width : (index + 1) * width],)


def nothing(inputs: Shapes, outputs: Shapes, options: dict[str, Any]) -> float:
    return 0.0


KERNELS: dict[str, Kernel] = {
    "matmul": Kernel(lambda x, w: (x @ w,), lambda i, o, _: 2.0 * prod(i[0]) * i[1][1]),
    "matmul dx": Kernel(lambda dy, w: (dy @ w.T,), lambda i, o, _: 2.0 * prod(i[0]) * i[1][0]),
    "matmul dw": Kernel(lambda x, dy: (x.T @ dy,), lambda i, o, _: 2.0 * prod(i[0]) * i[1][1]),
    "bias": Kernel(lambda x, b: (x + b,), per_output(1)),
    "bias db": Kernel(lambda dy: (dy.sum(axis=0),), lambda i, o, _: float(prod(i[0]))),
    "relu": Kernel(lambda x: (np.maximum(x, 0),), per_output(1)),
    "relu dx": Kernel(lambda dy, y: (dy * (y > 0),), per_output(1)),
    "gelu": Kernel(gelu, per_output(10)),
    "gelu dx": Kernel(gelu_grad, per_output(20)),
    "layer norm": Kernel(layer_norm, per_output(8)),
    "layer norm grad": Kernel(layer_norm_grad, per_output(14)),
    "attention": Kernel(attention, attention_flops),
    "attention grad": Kernel(attention_grad, attention_grad_flops),
    "add": Kernel(lambda x, y: (x + y,), per_output(1)),
    "cross entropy": Kernel(cross_entropy, lambda i, o, _: 5.0 * prod(i[0])),
    "accumulate": Kernel(lambda total, more: (total + more,), per_output(1)),
    "shard": Kernel(shard, nothing),
    "update": Kernel(lambda x, g, *state, rate: (x - rate * g,), per_output(2)),
    "all-reduce": Kernel(all_reduce, nothing),
    "all-gather": Kernel(all_gather, nothing),
    "send": Kernel(lambda x: (x,), nothing),
    "receive": Kernel(lambda x: (x,), nothing),
}
