"""Matrix factorization of shared items, a rating at a time: alone, or `loosestep run -n 2 SCRIPT`."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from loosestep import splash
from loosestep.transports.launched import launched

Array = NDArray[Any]


class Rating(NamedTuple):
    user: int
    item: int
    value: float


@dataclass(frozen=True)
class Factors:
    """value = user . item, each of `rank` factors."""

    rank: int = 4
    rate: float = 0.05
    l2: float = 0.02

    def variables(self, items: int) -> dict[str, Array]:
        return {"items": self.start(0, items)}

    def start(self, seed: int, *shape: int) -> Array:
        return np.random.default_rng((9, seed)).normal(0, 0.5, (*shape, self.rank))

    def process(self, rating: Rating, weight: float, shared: splash.Variables, local: dict[Any, Any]) -> float:
        """Move both: the item's factors in proportion to the weight, the user's, which nobody averages, once."""
        user = local.get("factors")
        if user is None:
            user = self.start(rating.user + 1)
        item = shared["items"][rating.item]
        error = rating.value - float(user @ item)
        local["factors"] = user + self.rate * (error * item - self.l2 * user)
        shared.add("items", self.rate * weight * (error * user - self.l2 * item), at=rating.item)
        return error * error

    def loss(self, rating: Rating, shared: splash.Values, local: dict[Any, Any]) -> float:
        return (rating.value - float(local["factors"] @ shared["items"][rating.item])) ** 2


def user_of(rating: Rating) -> int:
    return rating.user


def ratings(users: int, items: int, count: int, rank: int = 4, seed: int = 0) -> list[Rating]:
    """Ratings by hidden factors, with noise of deviation 0.1."""
    draw = np.random.default_rng(seed)
    of_users, of_items = draw.normal(size=(users, rank)), draw.normal(size=(items, rank))
    pairs = draw.integers(0, (users, items), (count, 2)).tolist()
    return [Rating(u, i, float(of_users[u] @ of_items[i] + draw.normal(0, 0.1))) for u, i in pairs]


def main(options: argparse.Namespace) -> None:
    on = launched()
    model = Factors()
    result = splash.run(
        model.process, ratings(200, 100, options.ratings), model.variables(100), passes=options.passes, rounds=4,
        on=on, loss=model.loss, group=user_of,
    )  # fmt: skip
    if getattr(on, "rank", 0) == 0:
        print(f"root mean square error {np.sqrt(result.metrics['loss']):.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ratings", type=int, default=8_000)
    parser.add_argument("--passes", type=int, default=10)
    main(parser.parse_args())
