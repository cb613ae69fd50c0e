"""DOWNPOUR with samplers: workers sum the drift of one chain at a center."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, ClassVar, Literal

from loosestep import ops
from loosestep.foundation import checks
from loosestep.requests import Fetch, Local, Push
from loosestep.strategies.base import Cost, State, Strategy, pull, steps_taken

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.optimizers.base import Optimizer
    from loosestep.requests import Buffer, Request
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class DownpourMCMC(Strategy):
    """One chain with a center that all workers move: `period` steps of a sampler without its noise, then

        c <- c + (x - what was pulled) + N(0, variance of the noise that these steps owe),  x <- c.

    Steps are summed, so drift and noise go together and the temperature is the sampler's. With optimizers that
    have no noise, and samplers of temperature 0, it is DOWNPOUR to the bit. The local optimizer is `SGLD`, or
    `SGHMC`, whose noise is then that of its overdamped steps, rate / friction.

    On f = h x^2 / 2 with one worker, where epsilon is the sampler's 2 rate / n and n h the potential's curvature
    H, Var(c) = period epsilon / (1 - (1 - epsilon H / 2)^(2 period)). With several it is a little more, by the
    staleness of drifts: with 4 workers, period 4 and epsilon H = 0.02, 1.17 times that of the posterior.
    With SGHMC noise at the center has no inertia, as its drift has: for N workers and period 1 about
    1 + N rate h / friction^2 times, of which noise='worker' has none.

    period: local steps between two pushes; the drift within it sees no noise, so the step is about period epsilon.
    noise: 'center' adds it once, where it is pushed, as the paper's master does. 'worker' leaves it to the local
        steps, which carry it to the center in their sum: any sampler, `PSGLD` too, and with one worker exactly the
        sampler alone; with 4 as above 1.15.

    A round sends d values in 1 message and receives d values in 1.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([np.zeros(3)] * 400)
    >>> sampler = ls.SGLD(0.1, examples=10**6)
    >>> result = ls.run(ls.DownpourMCMC(), lambda x, b: x - b, np.ones(3), batches, optimizer=sampler)
    >>> bool(0 < abs(result.params).max() < 0.01)
    True

    Reference: C. Li, C. Chen, Y. Pu, R. Henao, L. Carin, Communication-Efficient Stochastic Gradient MCMC for
    Neural Networks, AAAI 2019 (the downpour protocol; the equations are this library's).
    """

    synchronous: ClassVar[bool] = False
    consensus_is: ClassVar[Literal["collective", "one-sided"]] = "one-sided"
    consensus_in: ClassVar[str] = "state.center"
    period: int = 1
    noise: Literal["center", "worker"] = "center"

    def __post_init__(self) -> None:
        checks.integer("period", self.period)
        checks.one_of("noise", self.noise, ("center", "worker"))

    @property
    def adds_noise(self) -> bool:  # type: ignore[override]
        return self.noise == "center"

    def check_sampler(self, sampler: Optimizer) -> None:
        """Refuse, for noise at the center, a sampler whose noise no single number says."""
        if self.adds_noise:
            try:
                sampler.variance(0)
            except ValueError as error:
                raise ValueError(f"{self!r} does not know the noise of {sampler!r}: say noise='worker'") from error

    def cost(self, n: int, d: int) -> Cost:
        return Cost(d, 1)

    def init(self, worker: Worker) -> State:
        center = worker.shared("center", like=worker.params)
        return State(center=center, pulled=worker.copy_of_params(), pushed=-1)  # at which step

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        if state.pushed < 0:  # a run may begin at a later step, with other workers than before
            state.pushed = worker.clock
        yield Local(self.period)
        steps = steps_taken(worker, state)
        variance = sum(map(worker.variance_at, range(state.pushed, worker.clock))) if self.adds_noise else 0.0
        if variance:
            z = worker.scratch("z", like=worker.params)
            worker.draw(z, sqrt(variance), worker.rank)
            ops.axpy(steps, z, 1.0)
        state.pushed = worker.clock
        yield Push("axpy", (state.center,), (steps,), (1.0,))
        yield from pull(worker, state, state.center)

    def consensus(self, worker: Worker, state: State, out: Buffer) -> Iterator[Request]:
        """Fetch the center: a draw."""
        yield Fetch(state.center, into=out)
