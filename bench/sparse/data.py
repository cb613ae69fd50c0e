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


# --- sparse rows -------------------------------------------------------------------------------------------

Examples = tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]
"""Starts of rows, columns, values, targets (-1 and 1)."""


class RCV1Like:
    """News: documents of one or two topics. 47,236 words, about 75 in a document, the commonest in a fifth of all.

    A token comes with 45% from one of the document's topics (each a Zipf law over 1,500 words of its own), else
    from a Zipf-Mandelbrot background. Values are (1 + log tf) idf, rows of length 1. The target says whether the
    main topic is among those that hold 47% of the documents, turned round in 4% of them: so no classifier is
    right in more than 96%.
    """

    features, topics, own, typical = 47_236, 103, 1_500, 75

    def __init__(self, seed: int = 0) -> None:
        g = _stream(seed, 1)
        self.seed = seed
        self.background = self._law(self.features, 25.0, 1.05)
        self.within = self._law(self.own, 5.0, 0.9)
        self.share = self._law(self.topics, 3.0, 1.0)
        rare = self.features - 200  # the commonest words belong to no topic
        self.words = np.stack([g.permutation(rare)[: self.own] + 200 for _ in range(self.topics)])
        self.positive = self._half()
        self.idf = self._idf()

    @staticmethod
    def _law(size: int, shift: float, power: float) -> NDArray[Any]:
        return _cumulative((np.arange(size) + shift) ** -power)

    def _half(self) -> NDArray[np.bool_]:
        """Topics whose documents are positive: as many as fit into 47%."""
        chosen, held = np.zeros(self.topics, bool), 0.0
        for topic, share in enumerate(np.diff(self.share, prepend=0.0)):
            if held + share <= 0.47:
                chosen[topic], held = True, held + share
        return chosen

    def _idf(self) -> NDArray[np.float32]:
        """From the words' expected frequencies."""
        frequency = 0.55 * np.diff(self.background, prepend=0.0)
        each = np.diff(self.share, prepend=0.0)[:, None] * np.diff(self.within, prepend=0.0)
        np.add.at(frequency, self.words.ravel(), 0.45 * each.ravel())
        in_document = 1 - np.exp(-frequency * self.typical)
        return np.log1p(1 / np.maximum(in_document, 1e-6)).astype(np.float32)

    def block(self, number: int) -> tuple[NDArray[Any], ...]:
        """Lengths of rows, columns, values, targets."""
        g = _stream(self.seed, 2, number)
        main, second = (np.searchsorted(self.share, g.random(BLOCK), side="right") for _ in range(2))
        lengths = np.exp(g.normal(np.log(self.typical * 1.05) - 0.18, 0.6, BLOCK))
        row = np.repeat(np.arange(BLOCK), np.clip(lengths, 8, 1200).astype(np.int64))
        single = np.where(g.random(BLOCK) < 0.5, 1.0, 0.7)[row]
        topic = np.where(g.random(row.size) < single, main[row], second[row])
        column = np.searchsorted(self.background, g.random(row.size), side="right")
        of_topic = g.random(row.size) < 0.45
        place = np.searchsorted(self.within, g.random(row.size), side="right")
        column[of_topic] = self.words[topic[of_topic], place[of_topic]]
        targets = np.where(self.positive[main] ^ (g.random(BLOCK) < 0.04), 1, -1)
        return *self._weighed(row, column), targets

    def _weighed(self, row: NDArray[Any], column: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        key, times = np.unique(row * self.features + column, return_counts=True)
        row, column = key // self.features, (key % self.features).astype(np.int32)
        values = ((1 + np.log(times)) * self.idf[column]).astype(np.float32)
        values /= np.sqrt(np.bincount(row, values * values, BLOCK))[row].astype(np.float32)
        return np.bincount(row, minlength=BLOCK), column, values


def rcv1_like(n: int, seed: int = 0) -> Examples:
    """The first rows, in whole blocks of 10,000."""
    made = RCV1Like(seed)
    return _joined([made.block(number) for number in range(-(-n // BLOCK))], n)


def _joined(blocks: list[Any], n: int) -> Examples:
    lengths, columns, values, targets = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    starts = np.concatenate([[0], np.cumsum(lengths[:n])]).astype(np.int64)
    end = starts[-1]
    return starts, columns[:end], values[:end], targets[:n].astype(np.float32)


class CriteoLike:
    """Clicks: 13 counts and 26 names whose popularity is a Zipf law, hashed into 2^bits features of value 1.

    Numbers of names as in Criteo's Kaggle set. The target follows a logistic model with two crosses.
    """

    names = (1461, 583, 1_000_000, 400_000, 306, 24, 12_518, 634, 4, 93_146, 5_684, 900_000, 3_195, 28, 14_993,
             800_000, 11, 5_653, 2_173, 4, 850_000, 18, 16, 286_181, 105, 142_572)  # fmt: skip

    def __init__(self, bits: int, seed: int = 0) -> None:
        g = _stream(seed, 21)
        self.seed, self.bits, self.features = seed, bits, 1 << bits
        self.powers, self.sizes = g.uniform(1.05, 1.6, 26), g.uniform(0.08, 0.42, 26)
        self.salt = g.integers(1, 2**62, 41).astype(np.uint64)

    def hashed(self, ids: NDArray[Any], field: int) -> NDArray[np.uint64]:
        mixed = (ids.astype(np.uint64) + self.salt[field]) * np.uint64(0x9E3779B97F4A7C15)
        return mixed ^ (mixed >> np.uint64(29))

    def effect(self, ids: NDArray[Any], field: int) -> NDArray[np.float64]:
        """A fixed number about 0 for every name."""
        return ((self.hashed(ids, field) & np.uint64(0xFFFFFF)) / 2**24 - 0.5) * 3.46

    def drawn(self, g: np.random.Generator, field: int) -> NDArray[np.int64]:
        """Names by a bounded Zipf law."""
        power, most = 1 - self.powers[field], self.names[field]
        drawn = (1 + g.random(BLOCK) * ((most + 1.0) ** power - 1)) ** (1 / power)
        return np.minimum(drawn.astype(np.int64) - 1, most - 1)

    def block(self, number: int) -> tuple[NDArray[Any], ...]:
        g = _stream(self.seed, 22, number)
        counts = np.floor(np.exp(g.normal(1.0, 1.3, (13, BLOCK)))).astype(np.int64)
        names = [self.drawn(g, field) for field in range(26)]
        score = -3.5 + 0.12 * np.log1p(counts).sum(axis=0)
        for field, ids in enumerate(names):
            score += self.sizes[field] * self.effect(ids, field)
        score += 0.5 * self.effect(names[0] * 31 + names[5], 39) + 0.4 * self.effect(
            names[8] * 131 + names[13], 40
        )
        fields = [self.hashed(ids, k) for k, ids in enumerate([*names, *np.log2(1 + counts).astype(np.int64)])]
        columns = (np.stack(fields, axis=1) * np.uint64(0xD6E8FEB86659FD93)) >> np.uint64(64 - self.bits)
        targets = np.where(g.random(BLOCK) < 1 / (1 + np.exp(-score)), 1, -1)
        ones = np.ones(columns.size, np.float32)
        return np.full(BLOCK, 39), columns.ravel().astype(np.int32), ones, targets


def criteo_like(n: int, bits: int = 20, seed: int = 0) -> Examples:
    """The first rows, in whole blocks of 10,000."""
    made = CriteoLike(bits, seed)
    return _joined([made.block(number) for number in range(-(-n // BLOCK))], n)
