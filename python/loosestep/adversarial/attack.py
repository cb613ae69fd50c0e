"""The base of attacks: steps along the gradient of the loss with respect to the inputs, in a ball and a range."""

from __future__ import annotations

from abc import abstractmethod
from math import inf, isnan, prod
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from loosestep.foundation import checks
from loosestep.foundation.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable

DRAWS = 0xADE5A217
"""In the key of a random start; no straggler, strategy or codec has it."""
TESTING = (1 << 32) - 1
"""The worker of starts in evaluations: no rank."""


class Place(NamedTuple):
    """Whose attack it is, and when: what a random start is a function of."""

    seed: int = 0
    worker: int = 0
    step: int = 0
    call: int = 0  # of several in one step


def rows_first(lengths: Any, values: Any) -> Any:
    """Return a number for each row in a shape that goes with `values`."""
    return lengths.reshape(-1, *[1] * (values.ndim - 1))


def norms(values: Any) -> Any:
    """Return the 2-norm of each row."""
    return rows_first((values * values).reshape(len(values), -1).sum(1) ** 0.5, values)


def converted(values: Any, dtype: Any) -> Any:
    """Return values of numpy or torch in another type of theirs."""
    return values.to(dtype) if hasattr(values, "new_tensor") else values.astype(dtype, copy=False)


def directions(values: Any) -> tuple[Any, Any]:
    """Return each row over its 2-norm, zeros where it is zero, and the norm, in float32 at least.

    Rows are first divided by their largest |value|, so that no square of it is beyond the type or below it.
    """
    if values.dtype.itemsize < 4:
        values = values.float() if hasattr(values, "new_tensor") else values.astype(np.float32)
    flat = abs(values).reshape(len(values), -1)
    largest = rows_first(flat.amax(1) if hasattr(flat, "amax") else flat.max(1), values)
    scaled = values / (largest + (largest == 0))
    lengths = norms(scaled)
    return scaled / (lengths + (lengths == 0)), lengths * largest


def is_floating(values: Any) -> bool:
    """Return whether values of numpy or torch are floating-point numbers."""
    floating = getattr(values.dtype, "is_floating_point", None)  # torch's dtypes say it themselves
    return bool(np.issubdtype(values.dtype, np.floating) if floating is None else floating)


class Attack(Value):
    """Base of attacks: x' within `epsilon` of x, and within `low` .. `high`, where the loss is larger.

    A subclass is a frozen dataclass with these fields, and says in `lengths` how far each step goes. All is done
    with numpy arrays or with torch tensors, on their device; every row is attacked by itself.

    clean: the share of the loss of x itself in adversarial training, where that of x' is 1.
    """

    clean: ClassVar[float]
    epsilon: float
    step: float | None
    norm: float
    random_start: bool
    targeted: bool
    low: float | None
    high: float | None

    @property
    @abstractmethod
    def lengths(self) -> tuple[float, ...]:
        """How far each step goes, in the units of `epsilon`."""

    def check(self) -> None:
        """Refuse what is no attack."""
        checks.positive("epsilon", self.epsilon, zero=True)
        if self.step is not None:
            checks.positive("step", self.step, zero=True)
        checks.one_of("norm", self.norm, (inf, 2))
        for name, value in (("random_start", self.random_start), ("targeted", self.targeted)):
            checks.one_of(name, value, (True, False))
        for name, end in (("low", self.low), ("high", self.high)):
            if end is not None and (not isinstance(end, Real) or isnan(end)):
                raise TypeError(f"{name} must be a number, or None for no limit, got {end!r}")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ValueError(f"low must be below high, got {self.low!r} and {self.high!r}")

    def start(self, shape: tuple[int, ...], place: Place) -> Any:
        """Return float32 displacements, each row drawn from the ball around 0: by seed, worker, step and call.

        The generator is Philox, a counter-based one, so the numbers are those of any transport, and of a resumed
        run. Uniform in the ball: with norm 2 a random direction times epsilon u^(1/d), of d features.
        """
        key = np.random.SeedSequence([place.seed, place.worker, place.step, DRAWS, place.call])
        random = np.random.Generator(np.random.Philox(key))
        epsilon = np.float32(self.epsilon)
        if self.norm == inf:
            return (random.random(shape, np.float32) * np.float32(2) - np.float32(1)) * epsilon
        direction = random.standard_normal(shape, np.float32)
        lengths = random.random(shape[0], np.float32) ** np.float32(1 / max(1, prod(shape[1:])))
        return direction * (epsilon * rows_first(lengths, direction) / norms(direction))

    def perturb(self, inputs: Any, slope: Callable[[Any], Any], place: Place = Place()) -> Any:  # noqa: B008
        """Return inputs of larger loss near `inputs`, which is not written; of smaller loss if `targeted`.

        inputs: a floating-point numpy array or torch tensor, a row for each sample.
        slope: inputs -> the gradient of the loss with respect to them. A factor that a whole row has in common
            does not count, so it may be that of the mean loss. If `targeted`, of the loss of the targets.
        place: whose attack it is, and when, for the random start.

        Raises TypeError for integers and ValueError for inputs outside of `low` .. `high`. It sends nothing.
        """
        if not len(inputs):
            return inputs
        self.check_inputs(inputs)
        found = inputs
        if self.random_start:
            start = self.start(tuple(inputs.shape), place)
            convert = getattr(inputs, "new_tensor", None)  # torch's: to that dtype and device
            found = inputs + (start.astype(inputs.dtype) if convert is None else convert(start))
            found = self.within(found, inputs)
        for length in self.lengths:
            ascent = self.direction(slope(found))
            found = self.within(found + ascent * (-length if self.targeted else length), inputs)
        return found

    def check_inputs(self, inputs: Any) -> None:
        """Refuse inputs that the range would change before any attack."""
        if not is_floating(inputs):
            raise TypeError(f"inputs must be floating-point numbers to be attacked, got {inputs.dtype}")
        least, most = float(inputs.min()), float(inputs.max())
        below, above = self.low is not None and least < self.low, self.high is not None and most > self.high
        if below or above:
            raise ValueError(
                f"inputs must be from low={self.low} to high={self.high}, got {least:.6g} to {most:.6g}: say the "
                f"range of yours, as in {type(self).__name__}(low=..., high=...), and epsilon in its units"
            )

    def direction(self, slope: Any) -> Any:
        """Return each row's steepest step of length 1: signs, or with norm 2 the gradient over its length."""
        if self.norm == inf:
            sign = getattr(type(slope), "sign", np.sign)  # a method of torch's tensors
            return sign(slope)
        return converted(directions(slope)[0], slope.dtype)

    def within(self, found: Any, inputs: Any) -> Any:
        """Return what is nearest to `found` in the ball around `inputs`, and then in the range."""
        if self.norm == inf:
            found = found.clip(inputs - self.epsilon, inputs + self.epsilon)
        else:
            way, length = directions(found - inputs)
            found = converted(inputs + way * length.clip(0, self.epsilon), inputs.dtype)
        return found if self.low is None and self.high is None else found.clip(self.low, self.high)
