"""Normal random numbers that are a function of where they are: a seed, a stream, a step and a position.

So a worker's noise does not depend on how buffers are cut, on threads or on the machine, a resumed run needs no
state of a generator, and a device adds the noise that the CPU would have added. This is the specification, in
numpy, of csrc/rules/philox.hpp and normals.hpp; it gives their bits.

The four numbers 4 i .. 4 i + 3 of a stream are made of the four words of Philox 4x32-10 (Salmon, Moraes, Dror,
Shaw, SC 2011, section 3.4) at counter (i, stream, step) under the key `seed`: each pair of words is a length and a
direction (Box and Muller 1958). All of it is float32, by polynomials; a library's logarithm differs from
machine to machine. No number is longer than 6.8, as a word has 32 bits.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from loosestep.foundation.buffers import Buffer

Floats: TypeAlias = NDArray[np.float32]
Integers: TypeAlias = NDArray[np.uint32]

LOW = np.uint64(0xFFFFFFFF)


class NoiseStream(NamedTuple):
    """Where an optimizer's random numbers come from; the step is the fourth number of their place.

    seed: of the run.
    stream: of the worker, so that no two draw alike.
    start: the number of a buffer's first element, where the buffer is a part of all parameters.
    """

    seed: int
    stream: int
    start: int = 0


def philox(counter: list[NDArray[np.uint64]], seed: int) -> list[Integers]:
    """Four words for every counter, given as its four words, each below 2^32."""
    a, b, c, d = counter
    for turn in range(10):
        keys = ((seed + turn * 0x9E3779B9) & 0xFFFFFFFF, ((seed >> 32) + turn * 0xBB67AE85) & 0xFFFFFFFF)
        first, second = a * np.uint64(0xD2511F53), c * np.uint64(0xCD9E8D57)
        a, b = (second >> np.uint64(32)) ^ b ^ np.uint64(keys[0]), second & LOW
        c, d = (first >> np.uint64(32)) ^ d ^ np.uint64(keys[1]), first & LOW
    return [word.astype(np.uint32) for word in (a, b, c, d)]


def logarithm(x: Floats) -> Floats:
    """ln x for x in (0, 1]: x = 2^e (1 + f) with 1 + f from sqrt(1/2) to sqrt(2)."""
    moved: Integers = x.view(np.uint32) + np.uint32(0x3F800000 - 0x3F3504F3)
    e = ((moved.view(np.int32) >> 23) - 127).astype(np.float32)
    f: Floats = ((moved & np.uint32(0x7FFFFF)) + np.uint32(0x3F3504F3)).view(np.float32) - np.float32(1)
    p = 0.08700435 * f - np.float32(0.14267486)
    for next_one in (0.14914769, -0.16577585, 0.19963063, -0.25001338, 0.3333391):
        p = p * f + np.float32(next_one)
    square = f * f
    inner: Floats = f - (0.5 * square - square * f * p)
    made: Floats = inner + e * np.float32(0.6931472)
    return made


def around(x: Integers) -> tuple[Floats, Floats]:
    """Cosine and sine of x / 2^32 of a turn; the nearest quarter turn is taken off exactly."""
    quarter = (x + np.uint32(0x20000000)) >> np.uint32(30)
    s = (x - (quarter << np.uint32(30))).view(np.int32).astype(np.float32) * np.float32(2.0**-29)
    t = s * s
    sine = s * (((-3.595451e-05 * t + 0.002490007) * t - 0.080745436) * t + 0.7853982)
    cosine = (((3.5298112e-06 * t - 0.00032593863) * t + 0.015854325) * t - 0.30842513) * t + 1
    odd = quarter % 2 == 1
    first, second = np.where(odd, sine, cosine), np.where(odd, cosine, sine)
    return np.where((quarter + 1) & 2, -first, first), np.where(quarter & 2, -second, second)


def two_normals(x: Integers, y: Integers) -> tuple[Floats, Floats]:
    """A length from x, a direction from y."""
    u = x.astype(np.float32) * np.float32(2.0**-32) + np.float32(2.0**-33)
    length = np.sqrt(-2 * logarithm(u))
    cosine, sine = around(y)
    return length * cosine, length * sine


def stream_of(n: int, seed: int, stream: int, step: int, start: int) -> Floats:
    """Numbers start .. start + n - 1 of a stream."""
    four = np.arange(start // 4, (start + n + 3) // 4, dtype=np.uint64)
    words = [np.full_like(four, stream), np.full_like(four, step)]
    a, b, c, d = philox([four & LOW, four >> np.uint64(32), *words], seed)
    made = np.stack([*two_normals(a, b), *two_normals(c, d)], axis=1).reshape(-1)
    return made[start % 4 : start % 4 + n]


def like(x: Buffer, seed: int, stream: int, step: int, start: int) -> Any:
    """A number of the stream for every element."""
    return stream_of(x.size, seed, stream, step, start).astype(x.dtype).reshape(x.shape)


def normal(out: Buffer, scale: float, seed: int, stream: int, step: int, start: int = 0) -> None:
    """out = scale N: normal random numbers of mean 0 and standard deviation `scale`.

    Element i gets number start + i of the stream (seed, stream, step): whatever the threads, the machine or the
    way a buffer is cut, the same bits. `seed` is below 2^64, `stream` (a rank, say) and `step` below 2^32.

    >>> import numpy as np; from loosestep import ops
    >>> x = np.empty(4)
    >>> ops.normal(x, 1.0, seed=1, stream=0, step=0)
    >>> ops.normal(x[2:], 1.0, seed=1, stream=0, step=0, start=2)
    >>> x.round(2).tolist()
    [0.38, -0.3, -0.25, -1.0]
    """
    out[...] = scale * like(out, seed, stream, step, start)


def add_normal(x: Buffer, scale: float, seed: int, stream: int, step: int, start: int = 0) -> None:
    """x += scale N, with the numbers of `normal`."""
    x += scale * like(x, seed, stream, step, start)


def langevin(
    x: Buffer,
    g: Buffer,
    rate: float,
    scale: float,
    seed: int,
    stream: int,
    step: int,
    start: int = 0,
) -> None:
    """A gradient step with noise, in one pass: x = (x - rate g) + scale N, with the numbers of `normal`.

    With scale = sqrt(2 rate), and g the gradient of -log p, that is stochastic gradient Langevin dynamics (Welling
    and Teh, ICML 2011, equation 4, whose epsilon is 2 rate).
    """
    x[...] = (x - rate * g) + scale * like(x, seed, stream, step, start)
