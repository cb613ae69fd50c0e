"""Local updates for loops that the library owns: what `Update()` does. One fused native pass each."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from loosestep import buffers, ops
from loosestep.errors import positive
from loosestep.value import Value

if TYPE_CHECKING:
    from loosestep.requests import Buffer, Pull

Rate: TypeAlias = float | Callable[[int], float]


class Optimizer(Value):
    """Base of the local optimizers. `rate` is a number, or a function of the worker's step (0, 1, ...).

    weight_decay adds weight_decay * x to the gradient (L2, once, inside the gradient). Moments are flat
    buffers like the parameters; `count` is the number of updates including this one.
    """

    moments: ClassVar[int] = 0
    rate: Rate
    weight_decay: float

    @classmethod
    def example(cls) -> Optimizer:
        """An instance for contract tests."""
        return cls()

    def init(self, params: Buffer) -> tuple[Buffer, ...]:
        """Zeroed moments."""
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
        pull: Pull | None = None,
    ) -> None:
        """Move `params` by `grad`, which was taken `at` (params, or a snapshot of them where they are shared).

        `rules` are the kernels: plain, or the atomic forms `ops.exact` and `ops.racy` for shared memory.
        With a `pull` params are this worker's own.
        """
        if self.weight_decay:
            ops.axpy(grad, params if at is None else at, self.weight_decay)
        rate = self.rate(step) if callable(self.rate) else self.rate
        if pull is None:
            self.apply(rules, params, grad, moments, rate, count)
        else:
            self.apply_pulled(params, grad, moments, rate, count, pull)

    @abstractmethod
    def apply(
        self, rules: Any, params: Buffer, grad: Buffer, moments: tuple[Buffer, ...], rate: float, count: int
    ) -> None:
        """The rule itself."""

    def apply_pulled(
        self, params: Buffer, grad: Buffer, moments: tuple[Buffer, ...], rate: float, count: int, pull: Pull
    ) -> None:
        """The rule between the two halves of a pull; one that has a fused form says so."""
        ops.pull(grad, params, pull.anchor, pull.strength)
        self.apply(ops, params, grad, moments, rate, count)
        ops.blend(pull.mean, params, pull.keep)

    def check(self) -> None:
        """Refuse a rate or weight decay that is negative or not finite."""
        if not callable(self.rate):
            positive("rate", self.rate, zero=True)
        positive("weight_decay", self.weight_decay, zero=True)


@dataclass(frozen=True, repr=False)
class SGD(Optimizer):
    """x <- x - rate g."""

    rate: Rate = 0.1
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        self.check()

    def apply(
        self, rules: Any, params: Buffer, grad: Buffer, moments: tuple[Buffer, ...], rate: float, count: int
    ) -> None:
        rules.sgd(params, grad, rate)

    def apply_pulled(
        self, params: Buffer, grad: Buffer, moments: tuple[Buffer, ...], rate: float, count: int, pull: Pull
    ) -> None:
        ops.sgd_pulled(params, grad, pull.anchor, pull.mean, rate, pull.strength, pull.keep)


@dataclass(frozen=True, repr=False)
class Momentum(Optimizer):
    """Heavy ball: v <- mu v - rate g; x <- x + v."""

    moments: ClassVar[int] = 1
    rate: Rate = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        self.check()
        positive("momentum", self.momentum, zero=True)

    def apply(
        self, rules: Any, params: Buffer, grad: Buffer, moments: tuple[Buffer, ...], rate: float, count: int
    ) -> None:
        rules.momentum(params, moments[0], grad, rate, self.momentum)


@dataclass(frozen=True, repr=False)
class Nesterov(Optimizer):
    """v <- mu v - rate g; x <- x + mu v - rate g: x is the look-ahead point, where the gradient is taken."""

    moments: ClassVar[int] = 1
    rate: Rate = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        self.check()
        positive("momentum", self.momentum, zero=True)

    def apply(
        self, rules: Any, params: Buffer, grad: Buffer, moments: tuple[Buffer, ...], rate: float, count: int
    ) -> None:
        rules.nesterov(params, moments[0], grad, rate, self.momentum)

    def apply_pulled(
        self, params: Buffer, grad: Buffer, moments: tuple[Buffer, ...], rate: float, count: int, pull: Pull
    ) -> None:
        anchor, mean, mu = pull.anchor, pull.mean, self.momentum
        ops.nesterov_pulled(params, moments[0], grad, anchor, mean, rate, mu, pull.strength, pull.keep)


@dataclass(frozen=True, repr=False)
class Adam(Optimizer):
    """D. Kingma, J. Ba, arXiv:1412.6980, algorithm 1, with epsilon added as in torch.optim.Adam."""

    moments: ClassVar[int] = 2
    rate: Rate = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        self.check()
        for name in ("beta1", "beta2", "epsilon"):
            positive(name, getattr(self, name), zero=True)

    def apply(
        self, rules: Any, params: Buffer, grad: Buffer, moments: tuple[Buffer, ...], rate: float, count: int
    ) -> None:
        rules.adam(params, *moments, grad, rate, self.beta1, self.beta2, self.epsilon, count)
