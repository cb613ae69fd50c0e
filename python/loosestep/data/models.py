"""Classifiers for the command line, the benchmarks and examples: flat parameters, numpy, no framework.

>>> import numpy as np
>>> classifier = MLP(8).build(features=4, classes=3)
>>> classifier.size
67
>>> batch = np.zeros((2, 4), np.float32), np.array([0, 2])
>>> loss, grad = classifier.gradient(classifier.init(seed=0), batch)
>>> round(float(loss), 3), grad.shape
(1.099, (67,))
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from loosestep.foundation import checks
from loosestep.foundation.value import Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import DTypeLike, NDArray

Array: TypeAlias = "NDArray[Any]"
BLOCK = 4096  # rows evaluated at a time, so that a large test set needs no large memory


class Model(Value):
    """Base of the built-in models: a description; `build` makes the classifier for some data."""

    l2: float

    @abstractmethod
    def widths(self) -> tuple[int, ...]:
        """Units of the hidden layers, first to last."""

    def build(self, features: int, classes: int, dtype: DTypeLike = np.float32) -> Classifier:
        """The classifier that takes rows of `features` numbers to one of `classes` labels."""
        checks.integer("features", features)
        checks.integer("classes", classes)
        return Classifier((features, *self.widths(), classes), self.l2, np.dtype(dtype))


@dataclass(frozen=True, repr=False)
class Softmax(Model):
    """Multinomial logistic regression. `l2` adds l2/2 |W|^2 to the loss, biases left out."""

    l2: float = 0.0

    def __post_init__(self) -> None:
        checks.positive("l2", self.l2, zero=True)

    def widths(self) -> tuple[int, ...]:
        return ()


@dataclass(frozen=True, init=False, repr=False)
class MLP(Model):
    """A multilayer perceptron: `MLP(128, 64)` has two hidden layers of rectified linear units.

    `l2` adds l2/2 |W|^2 to the loss, biases left out.
    """

    hidden: tuple[int, ...]
    l2: float

    def __init__(self, *hidden: int, l2: float = 0.0) -> None:
        for width in hidden:
            checks.integer("a hidden layer", width)
        checks.positive("l2", l2, zero=True)
        object.__setattr__(self, "hidden", hidden)
        object.__setattr__(self, "l2", l2)

    def __repr__(self) -> str:
        shown = [*map(repr, self.hidden), *([f"l2={self.l2!r}"] if self.l2 else [])]
        return f"MLP({', '.join(shown)})"

    def widths(self) -> tuple[int, ...]:
        return self.hidden


@dataclass(frozen=True)
class Classifier:
    """A model for given data. Nothing in it is ever written, so any number of threads may call it at once.

    The flat parameters hold, layer after layer, the weights (inputs x outputs, row by row) and the biases.
    """

    sizes: tuple[int, ...]  # features, hidden layers, classes
    l2: float
    dtype: np.dtype[Any]

    @property
    def size(self) -> int:
        """How many parameters there are."""
        return sum((inputs + 1) * outputs for inputs, outputs in pairwise(self.sizes))

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Of the tensors in the flat parameters, one after the other."""
        pairs = [((inputs, outputs), (outputs,)) for inputs, outputs in pairwise(self.sizes)]
        return tuple(shape for pair in pairs for shape in pair)

    def layers(self, flat: Array) -> list[tuple[Array, Array]]:
        """Views of a flat buffer: the weights and the biases of every layer."""
        views, start = [], 0
        for inputs, outputs in pairwise(self.sizes):
            middle, stop = start + inputs * outputs, start + (inputs + 1) * outputs
            views.append((flat[start:middle].reshape(inputs, outputs), flat[middle:stop]))
            start = stop
        return views

    def init(self, seed: int) -> Array:
        """The start: weights normal with variance 2/inputs (He), biases zero. The same for the same seed."""
        flat = np.zeros(self.size, self.dtype)
        random = np.random.default_rng(seed)
        for weights, _ in self.layers(flat):
            weights[:] = random.normal(0.0, (2 / len(weights)) ** 0.5, weights.shape)
        return flat

    def gradient(self, params: Array, batch: tuple[Array, Array]) -> tuple[float, Array]:
        """The mean cross-entropy of a batch, and its gradient."""
        inputs, labels = batch
        layers = self.layers(params)
        grad = np.empty_like(params)
        with np.errstate(over="ignore", invalid="ignore"):  # a loss that is not finite is the caller's to judge
            seen = self._forward(layers, inputs)
            losses, delta = _cross_entropy(seen.pop(), labels)
            delta /= len(labels)
            self._backward(layers, seen, delta, grad)
            return float(losses.mean()) + self._penalty(layers), grad

    def input_gradient(self, params: Array, batch: tuple[Array, Array]) -> Array:
        """The gradient of the mean cross-entropy of a batch with respect to its inputs, in their shape."""
        inputs, labels = batch
        layers = self.layers(params)
        with np.errstate(over="ignore", invalid="ignore"):
            seen = self._forward(layers, inputs)
            _, delta = _cross_entropy(seen.pop(), labels)
            delta /= len(labels)
            for index in reversed(range(len(layers))):
                delta = delta @ layers[index][0].T
                if index:
                    delta *= seen[index] > 0
        return delta

    def scores(self, params: Array, inputs: Array) -> Array:
        """The scores of the classes, whose softmax are their probabilities: a row for each of the inputs."""
        return self._forward(self.layers(params), inputs)[-1]

    def evaluate(self, params: Array, data: tuple[Array, Array]) -> dict[str, float]:
        """`test_accuracy` and `loss` of the parameters on (inputs, labels)."""
        inputs, labels = data
        layers = self.layers(params)
        right, loss = 0, 0.0
        with np.errstate(over="ignore", invalid="ignore"):
            for start in range(0, len(labels), BLOCK):
                scores = self._forward(layers, inputs[start : start + BLOCK])[-1]
                expected = labels[start : start + BLOCK]
                right += int((scores.argmax(axis=1) == expected).sum())
                loss += float(_cross_entropy(scores, expected)[0].sum(dtype=np.float64))
            penalty = self._penalty(layers)
        return {"test_accuracy": right / len(labels), "loss": loss / len(labels) + penalty}

    def _forward(self, layers: Sequence[tuple[Array, Array]], inputs: Array) -> list[Array]:
        """What each layer was given, and last the scores."""
        seen = [inputs]
        for weights, biases in layers:
            if len(seen) > 1:
                np.maximum(seen[-1], 0, out=seen[-1])
            scores = seen[-1] @ weights
            scores += biases
            seen.append(scores)
        return seen

    def _backward(
        self, layers: Sequence[tuple[Array, Array]], seen: Sequence[Array], delta: Array, grad: Array
    ) -> None:
        slots = self.layers(grad)
        for index in reversed(range(len(layers))):
            weights, (of_weights, of_biases) = layers[index][0], slots[index]
            np.matmul(seen[index].T, delta, out=of_weights)
            delta.sum(axis=0, out=of_biases)
            if self.l2:
                of_weights += self.l2 * weights
            if index:
                delta = delta @ weights.T
                delta *= seen[index] > 0

    def _penalty(self, layers: Sequence[tuple[Array, Array]]) -> float:
        if not self.l2:
            return 0.0
        return 0.5 * self.l2 * sum(float(np.vdot(weights, weights)) for weights, _ in layers)


def _cross_entropy(scores: Array, labels: Array) -> tuple[Array, Array]:
    """The loss of every row, and its gradient with respect to the scores, whose memory it takes."""
    scores -= scores.max(axis=1, keepdims=True)  # so that no exponential overflows
    rows = np.arange(len(labels))
    right = scores[rows, labels]
    np.exp(scores, out=scores)
    total = scores.sum(axis=1)
    scores /= total[:, None]
    scores[rows, labels] -= 1
    return np.log(total) - right, scores
