"""Stochastic-gradient MCMC: optimizers with noise, whose iterates are draws from a posterior."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Any, ClassVar

from loosestep import ops
from loosestep.foundation import checks
from loosestep.optimizers import schedules
from loosestep.optimizers.base import How, Optimizer
from loosestep.optimizers.muon import now
from loosestep.optimizers.schedules import Rate

if TYPE_CHECKING:
    from loosestep.requests import Buffer


class Sampler(Optimizer):
    """Base of the samplers. Gradients are of f, the mean loss of `examples` n; iterates are draws from

        exp(-(n / temperature) (f(x) + weight_decay |x|^2 / 2)),

    for f a mean negative log-likelihood the posterior under the prior N(0, 1 / (n weight_decay)). So `rate` is
    that of SGD on f; the step size of the literature, of a potential that is a sum, is epsilon = 2 rate / n.

    rate: constant, or falling as (b + t)^-gamma, 1/2 < gamma <= 1, without a bias in the end: a function of the
    step.
    examples: n, the training rows of all workers together; 1 where f is the whole potential.
    temperature: 1 is the posterior, below it is colder; 0 is the optimizer without noise, to the bit.

    Random numbers are functions of seed, worker and step (`ops.normal`), so a resumed run draws what an unbroken
    one does, and a GPU what a CPU does.
    """

    examples: int
    temperature: float

    @classmethod
    def example(cls) -> Sampler:
        return cls(examples=10**9)  # type: ignore[call-arg]

    def check(self, *names: str) -> None:
        super().check("temperature", *names)
        checks.integer("examples", self.examples)

    @property
    def noisy(self) -> bool:
        return self.temperature > 0

    def variance(self, step: int) -> float:
        return self.diffusion(schedules.at(self.rate, step))

    def diffusion(self, rate: float) -> float:
        """Return the variance of an overdamped step's noise: 2 rate temperature / n."""
        return 2 * rate * self.temperature / self.examples

    def add_to_gradient(self, grad: Buffer, how: How, variance: float) -> None:
        """Add noise that becomes one of that variance where a rule multiplies it by -rate, whatever rule."""
        if how.noise is not None and variance:
            ops.add_normal(grad, -sqrt(variance) / how.rate, *place(how))

    @abstractmethod
    def apply(self, params: Buffer, grad: Buffer, moments: tuple[Buffer, ...], how: How) -> None: ...


def place(how: How) -> tuple[int, int, int, int]:
    """Return seed, stream, step and start of an update's random numbers."""
    assert how.noise is not None
    return how.noise.seed, how.noise.stream, how.step, how.noise.start


@dataclass(frozen=True, repr=False)
class SGLD(Sampler):
    """Stochastic gradient Langevin dynamics: x <- x - rate g + N(0, 2 rate temperature / n).

    `examples`, `temperature` and what is sampled: see `Sampler`. On f = x^2 / (2 s), n = 1, exact gradients, the
    draws have variance s / (1 - rate / (2 s)) (s / (1 - epsilon / (4 s)) in the literature's step size).

    >>> import numpy as np
    >>> x, g = np.zeros(2), np.ones(2)
    >>> SGLD(rate=0.5, temperature=0.0).update(x, g, (), 0, 1)
    >>> x.tolist()
    [-0.5, -0.5]
    >>> SGLD(rate=0.5, examples=100).update(x, g, (), step=0, count=1)
    >>> (x + 1).round(3).tolist()
    [0.099, -0.092]

    M. Welling, Y. W. Teh, Bayesian Learning via Stochastic Gradient Langevin Dynamics, ICML 2011, equation 4.
    """

    rate: Rate = 0.1
    examples: int = 1
    temperature: float = 1.0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        self.check()

    def apply(self, params: Buffer, grad: Buffer, moments: tuple[Buffer, ...], how: How) -> None:
        variance = self.diffusion(how.rate)
        if how.noise is None or not variance:
            how.rules.sgd(params, grad, how.rate)
        elif how.rules is ops:
            ops.langevin(params, grad, how.rate, sqrt(variance), *place(how))
        else:  # shared with others: the same two changes, each added atomically
            how.rules.sgd(params, grad, how.rate)
            ops.normal(grad, sqrt(variance), *place(how))
            how.rules.axpy(params, grad, 1.0)


@dataclass(frozen=True, repr=False)
class PSGLD(Sampler):
    """SGLD with RMSprop's diagonal: V <- a V + (1 - a) g^2,  M = 1 / (epsilon + sqrt(V)),

        x <- x - rate M g + N(0, 2 rate M temperature / n),

    g with its weight decay. The derivative of M is dropped, as is usual, so the draws have a bias that shrinks as
    a grows towards 1: M then hardly changes. `examples` and `temperature`: see `Sampler`.

    decay: a. epsilon: lambda in the paper.

    >>> import numpy as np
    >>> x, g, v = np.zeros(1), np.ones(1), np.zeros(1)
    >>> PSGLD(rate=0.01, decay=0.75, temperature=0.0, epsilon=0.0).update(x, g, (v,), 0, 1)
    >>> x.tolist(), v.tolist()
    ([-0.02], [0.25])

    C. Li, C. Chen, D. Carlson, L. Carin, Preconditioned Stochastic Gradient Langevin Dynamics for Deep Neural
    Networks, arXiv:1512.07666, algorithm 1.
    """

    moments: ClassVar[int] = 1
    rate: Rate = 1e-3
    examples: int = 1
    temperature: float = 1.0
    decay: float = 0.99
    epsilon: float = 1e-5
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        self.check("decay", "epsilon")

    def variance(self, step: int) -> float:
        raise ValueError("the noise of PSGLD differs between parameters: its workers must add it, each its own")

    def apply(self, params: Buffer, grad: Buffer, moments: tuple[Buffer, ...], how: How) -> None:
        g: Any = grad
        seen: Any = now(moments[0], how)
        change = (1 - self.decay) * (g * g - seen)
        how.rules.axpy(moments[0], change, 1.0)
        matrix = 1 / (self.epsilon + (seen if seen is moments[0] else seen + change) ** 0.5)
        move = how.rate * (matrix * g)
        variance = self.diffusion(how.rate)
        if how.noise is not None and variance:
            drawn = 0 * move
            ops.normal(drawn, sqrt(variance), *place(how))
            move -= matrix**0.5 * drawn
        how.rules.sgd(params, move, 1.0)


@dataclass(frozen=True, repr=False)
class SGHMC(Sampler):
    """Stochastic gradient Hamiltonian Monte Carlo: heavy ball with as much noise as friction takes away,

        v <- (1 - a) v - rate g + N(0, 2 (a - b) rate temperature / n),  x <- x + v.

    With a = 1 it is `SGLD`; an overdamped step of it is rate / a. `examples` and `temperature`: see `Sampler`. On
    f = x^2 / (2 s), n = 1, exact gradients, the draws have variance s / (1 - rate / (2 (2 - a) s)).

    friction: a; above 0, as there is no noise without it, except at temperature 0.
    noise_estimate: b, for the noise that gradients have themselves; at most a.

    >>> import numpy as np
    >>> x, g, v = np.zeros(1), np.ones(1), np.ones(1)
    >>> SGHMC(rate=0.5, friction=0.25, temperature=0.0).update(x, g, (v,), 0, 1)
    >>> x.tolist(), v.tolist()
    ([0.25], [0.25])

    T. Chen, E. Fox, C. Guestrin, Stochastic Gradient Hamiltonian Monte Carlo, arXiv:1402.4102, equation 15, where
    rate is eta times n.
    """

    moments: ClassVar[int] = 1
    rate: Rate = 0.01
    examples: int = 1
    temperature: float = 1.0
    friction: float = 0.1
    noise_estimate: float = 0.0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        self.check("friction", "noise_estimate")
        checks.at_most("friction", self.friction, 1)
        if self.noisy and not self.friction:
            raise ValueError(
                f"friction must be above 0, as noise replaces what it takes away, got {self.friction!r}"
            )
        checks.at_most("noise_estimate", self.noise_estimate, self.friction)

    def variance(self, step: int) -> float:
        share = (self.friction - self.noise_estimate) / self.friction**2 if self.noisy else 0.0
        return share * super().variance(step)

    def apply(self, params: Buffer, grad: Buffer, moments: tuple[Buffer, ...], how: How) -> None:
        self.add_to_gradient(grad, how, (self.friction - self.noise_estimate) * self.diffusion(how.rate))
        how.rules.momentum(params, moments[0], grad, how.rate, 1 - self.friction)
