"""Made data in the shape of known sets, for benchmarks: the same rows however many are asked for, in blocks.

Every block of 10,000 rows has a random stream of its own, so the start of a set does not depend on its length.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 10_000

Ratings = tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.float32]]


def _stream(seed: int, purpose: int, block: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, purpose, block])))


def _cumulative(weights: NDArray[Any]) -> NDArray[Any]:
    total = np.cumsum(weights / weights.sum())
    total[-1] = 1.0
    return total


class NetflixLike:
    """Stars 1 .. 5 of users on items whose activity and popularity are power laws, with biases and a low rank.

    Netflix's own size: 100,480,507 ratings, 480,189 users, 17,770 items. A pair may come twice (seldom).
    Rounding and noise set a floor to the RMSE; with the defaults it is 0.81.
    """

    def __init__(self, users: int, items: int, rank: int = 8, seed: int = 0, noise: float = 0.84) -> None:
        g = _stream(seed, 11)
        self.seed, self.noise = seed, noise
        self.activity = _cumulative(g.permutation((np.arange(users) + 50.0) ** -0.8))
        self.popularity = _cumulative(g.permutation((np.arange(items) + 30.0) ** -1.0))
        self.bias_u = g.normal(0, 0.42, users).astype(np.float32)
        self.bias_i = g.normal(0, 0.48, items).astype(np.float32)
        scale = (1 / np.sqrt(1 + np.arange(rank))).astype(np.float32)
        scale *= np.sqrt(0.33 / (scale**4).sum()) ** 0.5
        self.p = g.standard_normal((users, rank), np.float32) * scale
        self.q = g.standard_normal((items, rank), np.float32) * scale

    def block(self, number: int) -> Ratings:
        g = _stream(self.seed, 12, number)
        u = np.searchsorted(self.activity, g.random(BLOCK), side="right").astype(np.uint32)
        i = np.searchsorted(self.popularity, g.random(BLOCK), side="right").astype(np.uint32)
        score = 3.6 + self.bias_u[u] + self.bias_i[i] + np.einsum("nk,nk->n", self.p[u], self.q[i])
        stars = np.clip(np.rint(score + g.normal(0, self.noise, BLOCK)), 1, 5).astype(np.float32)
        return u, i, stars


def netflix_like(n: int, users: int, items: int, seed: int = 0) -> Ratings:
    """The first n ratings of `NetflixLike(users, items, seed=seed)`: users, items, stars."""
    made = NetflixLike(users, items, seed=seed)
    blocks = [made.block(number) for number in range(-(-n // BLOCK))]
    u, i, r = (np.concatenate(columns)[:n] for columns in zip(*blocks, strict=True))
    return u, i, r
