"""Models as the planner sees them: layers one after the other, between which a pipeline can be cut."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

from loosestep.foundation import checks
from loosestep.foundation.value import Value
from loosestep.planner.parallelism.layers import GELU, Attention, Layer, LayerNorm, Linear, ReLU, Residual


@dataclass(frozen=True, repr=False)
class Model(Value):
    """Layers from the inputs to scores of classes, of which the loss is the cross entropy.

    layers: one after the other; a pipeline is cut between two of them.
    inputs: the width of an input row.
    rows: rows of a sample: the length of its sequence, or 1.
    """

    layers: tuple[Layer, ...]
    inputs: int
    rows: int = 1

    def __post_init__(self) -> None:
        checks.integer("inputs", self.inputs)
        checks.integer("rows", self.rows)
        if not self.layers:
            raise ValueError("a model must have layers, got none")


def mlp(*widths: int) -> Model:
    """Return linear layers with ReLU between them, of these widths: inputs, hidden layers, classes.

    >>> len(mlp(784, 512, 512, 10).layers)
    5
    """
    if len(widths) < 2:
        raise ValueError(f"an MLP must have the widths of its inputs and its classes at least, got {widths}")
    layers: list[Layer] = []
    for inputs, outputs in pairwise(widths):
        layers += [Linear(inputs, outputs), ReLU()]
    return Model(tuple(layers[:-1]), widths[0])


def transformer(layers: int, width: int, heads: int, sequence: int, classes: int) -> Model:
    """Return a decoder of GPT's kind: attention and an MLP of 4 times the width in each layer, norms before them.

    The inputs are embedded rows, of which a sample has `sequence`: the embedding itself is left out. Each row gets
    the scores of `classes`, the vocabulary.

    >>> len(transformer(12, 768, 12, 1024, 50257).layers)
    26
    """
    checks.integer("layers", layers)
    checks.integer("heads", heads)
    if checks.integer("width", width) % heads:
        raise ValueError(f"width must be a multiple of heads={heads}, got {width}")
    attend = Residual(
        (LayerNorm(width), Linear(width, 3 * width), Attention(heads, sequence), Linear(width, width))
    )
    expand = Residual((LayerNorm(width), Linear(width, 4 * width), GELU(), Linear(4 * width, width)))
    return Model((attend, expand) * layers + (LayerNorm(width), Linear(width, classes)), width, sequence)


def of_torch(modules: Iterable[Any]) -> Model:
    """Return the model of torch modules one after the other, as in nn.Sequential: Linear, ReLU, GELU, LayerNorm.

    Sizes alone are read; Dropout, Flatten and Identity, which cost next to nothing, are left out. Raises TypeError
    for any other module, with its place.
    """
    layers: list[Layer] = []
    for place, module in enumerate(modules):
        kind = type(module).__name__
        if kind == "Linear":
            layers.append(Linear(module.in_features, module.out_features))
        elif kind == "LayerNorm":
            layers.append(LayerNorm(module.normalized_shape[-1]))
        elif kind in ("ReLU", "GELU"):
            layers.append({"ReLU": ReLU, "GELU": GELU}[kind]())
        elif kind not in ("Dropout", "Flatten", "Identity"):
            raise TypeError(f"module {place} is a {kind}: the planner knows Linear, ReLU, GELU and LayerNorm")
    first = next((layer for layer in layers if isinstance(layer, (Linear, LayerNorm))), None)
    if first is None:
        raise ValueError("a model must have a Linear or LayerNorm layer, which says how wide its inputs are")
    return Model(tuple(layers), first.inputs if isinstance(first, Linear) else first.width)


def run_costs(costs: Sequence[float]) -> list[float]:
    """Return what every run of layers one after the other costs, ascending: what a slowest stage can cost."""
    found: set[float] = set()
    for first in range(len(costs)):
        found.update(accumulate(costs[first:]))
    return sorted(found)


def stages(costs: Sequence[float], count: int, limits: Sequence[float] = ()) -> list[range]:
    """Return `count` runs of layers of which the slowest is as fast as can be; early ones are filled first.

    limits: the `run_costs`, where they are known already.

    >>> stages([1, 1, 1, 1, 4], 2)
    [range(0, 4), range(4, 5)]
    """
    if count > len(costs):
        raise ValueError(f"{len(costs)} layers cannot be cut into {count} pipeline stages")
    limits = limits or run_costs(costs)
    place = bisect_left(limits, True, key=lambda limit: _filled(costs, count, limit) is not None)
    found = _filled(costs, count, limits[place])
    assert found is not None
    return found


def _filled(costs: Sequence[float], count: int, limit: float) -> list[range] | None:
    """Return runs of at most that cost, none empty, or None if there are too few for all layers."""
    runs, first = [], 0
    for left in range(count - 1, -1, -1):
        total, last = 0.0, first
        while last < len(costs) - left and total + costs[last] <= limit:
            total += costs[last]
            last += 1
        if last == first:
            return None
        runs.append(range(first, last))
        first = last
    return runs if first == len(costs) else None
