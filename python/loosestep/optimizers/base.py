"""The base of every local optimizer: one update, as one fused native pass."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeAlias

from loosestep import ops
from loosestep.foundation import buffers, checks
from loosestep.foundation.value import Value
from loosestep.ops.noise import NoiseStream
from loosestep.optimizers import schedules
from loosestep.optimizers.schedules import Rate

if TYPE_CHECKING:
    from loosestep.requests import Buffer, Proximal

Shapes: TypeAlias = Sequence[tuple[int, ...]]  # of the tensors in a flat buffer, one after the other


class How(NamedTuple):
    """What `apply` is told of an update, besides its buffers."""

    rate: float
    number: int  # of the update, from 1
    seen: Buffer  # the parameters where the gradient was taken
    rules: Any  # the kernels
    shapes: Shapes  # of the tensors, if they are known
    step: int = 0  # of the worker, from 0
    noise: NoiseStream | None = None  # where a sampler's random numbers are; None: another adds them


ALONE = NoiseStream(0, 0)


class Optimizer(Value):
    """Base of the local optimizers. A subclass is a frozen dataclass with defaults; `apply` is all it must have.

    Its first field is `rate`, a number or a function of the worker's step (0, 1, ...), another `weight_decay`.
    `__post_init__` calls `check` with the names of its other numbers.

    moments: how many flat buffers like the parameters the rule keeps.
    decays_gradient: weight_decay * x is added to the gradient (L2, once) before `apply`; False where the rule
        decays the parameters itself, as AdamW does.
    correction: a field of those whose momentum holds the rate, which is then rescaled when the rate changes.
    """

    moments: ClassVar[int] = 0
    decays_gradient: ClassVar[bool] = True
    rate: Rate
    weight_decay: float
    correction: bool | None = None

    @classmethod
    def example(cls) -> Optimizer:
        """Return an instance for contract tests; override where the default rate does not suit them."""
        return cls()

    @property
    def noisy(self) -> bool:
        """Return whether updates add noise of a temperature, as those of samplers do."""
        return False

    def scaled(self, by: float) -> Optimizer:
        """Return the same optimizer at a rate that many times as large."""
        return replace(self, rate=schedules.scaled(self.rate, by))  # type: ignore[type-var]

    def init(self, params: Buffer) -> tuple[Buffer, ...]:
        """Return zeroed moments."""
        return tuple(buffers.zeros(params.size, params.dtype) for _ in range(self.moments))

    def update(
        self,
        params: Buffer,
        grad: Buffer,
        moments: tuple[Buffer, ...],
        step: int,
        count: int,
        *,
        at: Buffer | None = None,
        rules: Any = ops,
        shapes: Shapes = (),
        proximal: Proximal | None = None,
        noise: NoiseStream | None = ALONE,
    ) -> None:
        """Move `params` by `grad`, which was taken `at` (params, or a snapshot of them where they are shared).

        `count` is the number of updates including this one. `rules` are the ops: plain, or the atomic forms
        `ops.exact` and `ops.racy` for shared memory. `shapes` are those of the tensors in `params`, if they are
        known. With `proximal` params are this worker's own. `noise` is where samplers find their random numbers;
        None: they add none, as the strategy adds it.
        """
        how = How(schedules.at(self.rate, step), count, params if at is None else at, rules, shapes, step, noise)
        if self.weight_decay and self.decays_gradient:
            ops.axpy(grad, how.seen, self.weight_decay)
        if self.correction and rules is ops and count > 1 and step > 0:
            self.carry(moments[0], schedules.at(self.rate, step - 1), how.rate)
        if proximal is None:
            self.apply(params, grad, moments, how)
        else:
            self.apply_proximal(params, grad, moments, how, proximal)

    def variance(self, step: int) -> float:
        """Return the variance of the noise that a step adds to each parameter in the long run: 0 but for samplers.

        Raises ValueError where parameters differ in it.
        """
        return 0.0

    @staticmethod
    def carry(momentum: Buffer, before: float, rate: float) -> None:
        """Rescale the momentum, so that past gradients count with today's rate; after a rate of 0 none do."""
        if before not in (0.0, rate):
            ops.scale(momentum, rate / before)

    @abstractmethod
    def apply(self, params: Buffer, grad: Buffer, moments: tuple[Buffer, ...], how: How) -> None:
        """Move `params` by the rule: a call of an op of `how.rules`, which may be those for shared memory."""

    def apply_proximal(
        self, params: Buffer, grad: Buffer, moments: tuple[Buffer, ...], how: How, proximal: Proximal
    ) -> None:
        """Move `params` by the rule and by a proximal term; override where there is a fused op."""
        ops.proximal(grad, params, proximal.anchor, proximal.strength)
        self.apply(params, grad, moments, how)
        ops.blend(proximal.mean, params, proximal.keep)

    def check(self, *names: str) -> None:
        """Refuse a rate, weight decay or other number that is negative or not finite."""
        schedules.check("rate", self.rate)
        for name in ("weight_decay", *names):
            checks.positive(name, getattr(self, name), zero=True)
        if not isinstance(self.correction, (bool, type(None))):
            raise TypeError(f"correction must be True or False, got {self.correction!r}")
