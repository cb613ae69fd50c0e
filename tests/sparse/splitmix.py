"""The random numbers of csrc/models/threads/random.hpp in Python, for what replays the native engines."""

from __future__ import annotations

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


class Random:
    """SplitMix64, as csrc/models/threads/random.hpp."""

    def __init__(self, seed: int, epoch: int = 0, thread: int = 0) -> None:
        self.state = mix((mix((mix(seed) + epoch) & MASK) + thread) & MASK)

    def next(self) -> int:
        self.state = (self.state + GOLDEN) & MASK
        return mix(self.state)

    def below(self, n: int) -> int:
        return ((self.next() >> 32) * n) >> 32


def mix(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def shuffled(n: int, random: Random) -> list[int]:
    order = list(range(n))
    for left in range(n, 1, -1):
        other = random.below(left)
        order[left - 1], order[other] = order[other], order[left - 1]
    return order
