"""EASGD with samplers: chains that a center couples."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, ClassVar, Literal

from loosestep import ops
from loosestep.foundation import checks
from loosestep.optimizers.samplers import SGLD
from loosestep.requests import Elastic, Fetch, Local
from loosestep.strategies.base import Cost, State, Strategy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.optimizers.base import Optimizer
    from loosestep.requests import Buffer, Request
    from loosestep.requests.worker import Worker

OF_CENTER = 1 << 31
"""What is added to a worker's rank for the stream of the noise that it brings to the center."""


@dataclass(frozen=True, repr=False)
class ElasticMCMC(Strategy):
    """A chain x_i for each worker, coupled by a center c: draws from

        exp(-(n / temperature) (sum_i f(x_i) + coupling / 2 sum_i |x_i - c|^2)).

    Workers make `period` steps of `SGLD`, then, with a = coupling times the sum of their rates,
    x_i <- x_i - a (x_i - c) and c <- c + a (x_i - c) + N(0, v / N), v the variance of the noise of these steps:
    one worker of N at a time brings the center a term of its drift and its share of its noise. With optimizers
    that have no noise, and samplers of temperature 0, it is EASGD with moving rate a to the bit; with coupling 0
    the chains are independent and c stays.

    **The center is not distributed as the posterior**, nor quite is x_i. On f = h x^2 / 2 the ratios to the
    posterior's variance are, for small steps,

        Var(c): (h + coupling) / (N coupling)      Var(x_i): (h + coupling / N) / (h + coupling).

    For coupling far above h / N the center is narrower: by 2 / N at coupling = h. `narrowing` returns both. Take
    draws from all x_i at a coupling well below the curvatures that matter, or from c to find the mode.

    period: local steps between two exchanges. Var(c) grows with it: for 4 workers, coupling h / 2 and steps
        epsilon H = 0.05 it is 0.75 of the posterior's at period 1, as the formula says, 0.77 at 5 in virtual time,
        0.80 where all exchange at once.
    coupling: kappa / n, in the units of f's curvature, as weight decay is. Times the rates of `period` steps it is
        at most 1, else a round raises ValueError.

    A round sends d values in 1 message and receives d values in 1.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([np.zeros(3)] * 1000)
    >>> sampler = ls.SGLD(0.1, examples=10**6)
    >>> result = ls.run(ls.ElasticMCMC(), lambda x, b: x - b, np.ones(3), batches, optimizer=sampler)
    >>> bool(0 < abs(result.params).max() < 0.01)
    True

    Reference: C. Li, C. Chen, Y. Pu, R. Henao, L. Carin, Communication-Efficient Stochastic Gradient MCMC for
    Neural Networks, AAAI 2019 (the elastic protocol; the equations are this library's); J. Springenberg, A. Klein,
    S. Falkner, F. Hutter, Asynchronous Stochastic Gradient MCMC with Elastic Coupling, arXiv:1612.00767.
    """

    synchronous: ClassVar[bool] = False
    consensus_is: ClassVar[Literal["collective", "one-sided"]] = "one-sided"
    consensus_in: ClassVar[str] = "state.center"
    period: int = 10
    coupling: float = 0.1

    def __post_init__(self) -> None:
        checks.integer("period", self.period)
        checks.positive("coupling", self.coupling, zero=True)

    def narrowing(self, size: int, curvature: float) -> tuple[float, float]:
        """Return the variances of c and of x_i, as parts of the posterior's, where f has that curvature.

        >>> ElasticMCMC(coupling=0.5).narrowing(4, curvature=1.0)
        (0.75, 0.75)
        """
        h, k = curvature, self.coupling
        return ((h + k) / (size * k) if k else 0.0, (h + k / size) / (h + k))

    def warnings(self, size: int) -> list[str]:
        if size == 1 or not self.coupling:
            return []
        same, tight = (self.narrowing(size, times * self.coupling)[0] for times in (1, 0.1))
        return [
            f"the center is not a draw from the posterior: where the loss has curvature {self.coupling:g}, the "
            f"coupling, its variance is {same:.3g} of the posterior's, and {tight:.3g} where it is a tenth of that"
        ]

    def check_sampler(self, sampler: Optimizer) -> None:
        """Refuse all but SGLD: the elastic move is a part of its drift."""
        if not isinstance(sampler, SGLD):
            raise TypeError(
                f"{self!r} couples chains of SGLD, whose drift its elastic move is a part of, got {sampler!r}"
            )

    def cost(self, n: int, d: int) -> Cost:
        return Cost(d, 1)

    def init(self, worker: Worker) -> State:
        return State(center=worker.shared("center", like=worker.params), met=-1)  # at which step

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        if state.met < 0:  # a run may begin at a later step, with other workers than before
            state.met = worker.clock
        yield Local(self.period)
        steps = range(state.met, worker.clock)
        rate = self.coupling * sum(map(worker.rate_at, steps))
        variance = sum(map(worker.variance_at, steps)) / worker.size
        state.met = worker.clock
        if rate > 1:
            raise ValueError(
                f"coupling {self.coupling:g} times the rates of {len(steps)} steps is {rate:.3g}, and above 1 "
                "chains move beyond the center: take a smaller coupling, rate or period"
            )
        if rate and variance:
            yield from self.exchange(worker, state, rate, sqrt(variance))
        else:
            yield Elastic(worker.params, state.center, rate)

    def exchange(self, worker: Worker, state: State, rate: float, scale: float) -> Iterator[Request]:
        """Exchange x + z / a: the center moves by a (x - c) + z, in one message; take what is z's off x again."""
        z = worker.scratch("z", like=worker.params)
        worker.draw(z, scale, OF_CENTER + worker.rank)
        ops.axpy(worker.params, z, 1 / rate)
        yield Elastic(worker.params, state.center, rate)
        ops.axpy(worker.params, z, 1 - 1 / rate)

    def consensus(self, worker: Worker, state: State, out: Buffer) -> Iterator[Request]:
        """Fetch the center."""
        yield Fetch(state.center, into=out)
