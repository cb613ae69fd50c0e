"""Logistic regression on sparse rows by AdaGrad, one row at a time: alone, or `loosestep run -n 2 SCRIPT`."""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from loosestep import splash
from loosestep.transports.launched import launched

Array = NDArray[Any]


class Row(NamedTuple):
    features: Array  # numbers of those that are not zero
    values: Array
    label: float  # -1 or 1


def rows(count: int, features: int = 1_000, each: int = 20, seed: int = 0) -> list[Row]:
    """Rows whose labels a hidden linear model draws."""
    draw = np.random.default_rng(seed)
    hidden = np.random.default_rng(1).normal(0, 2, features)
    made = []
    for _ in range(count):
        where, values = draw.choice(features, each, replace=False), draw.normal(size=each)
        label = 1.0 if draw.random() < 1 / (1 + np.exp(-values @ hidden[where])) else -1.0
        made.append(Row(where, values, label))
    return made


def gradient(w: Array, row: Row) -> tuple[float, Array]:
    """Of the loss log(1 + exp(-label w x)), for the row's features alone."""
    margin = row.label * float(w @ row.values)
    return float(np.logaddexp(0, -margin)), row.values * (-row.label / (1 + np.exp(margin)))


def features_of(row: Row) -> Array:
    return row.features


def main(options: argparse.Namespace) -> None:
    on = launched()
    model = splash.AdaGrad(gradient, options.rate, features_of)
    data, held_out = rows(options.rows), rows(1_000, seed=2)

    def accuracy(variables: Any) -> dict[str, float]:
        right = [row.label * (variables["w"][row.features] @ row.values) > 0 for row in held_out]
        return {"accuracy": float(np.mean(right))}

    result = splash.run(
        model, data, model.variables(np.zeros(1_000)), passes=options.passes, rounds=4, on=on,
        loss=model.loss, evaluate=accuracy,
    )  # fmt: skip
    if getattr(on, "rank", 0) == 0:
        print(f"loss {result.metrics['loss']:.4f}, accuracy {result.metrics['accuracy']:.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--rate", type=float, default=0.2)
    main(parser.parse_args())
