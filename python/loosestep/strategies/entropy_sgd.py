"""Entropy-SGD: descent on a loss that is smoothed by a noisy inner loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from loosestep import ops
from loosestep.foundation import buffers, checks
from loosestep.optimizers.schedules import Rate, at, check
from loosestep.requests import Proximal, Update
from loosestep.strategies.base import Cost, Need, State, Strategy, cost_of_mean_gradient, mean_gradient
from loosestep.strategies.scoping import Strength, check_strength, strength_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Buffer, Request
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class EntropySGD(Strategy):
    """Descent on local entropy, with the mean gradient g of all workers. From y = z = x, `inner` times

    y <- y - eta (g(y) + pull (y - x)) + noise N(0, 1),  z <- averaging z + (1 - averaging) y,

    then x <- x - rate (rho g(x) + x - z), with Nesterov's momentum. eta is the local optimizer's, whose moments
    outlive the inner loop. All workers hold the same x, y and z; the model is x. Alone, with rho 0, it is `Parle`.

    The gradient of local entropy is pull (x - z); that factor is absorbed in `rate`, as in Parle.

    inner: steps of the inner loop (L); a round is one of them. With rho > 0 one more takes the gradient at x.
    pull: gamma, a number or `Scoping`.
    averaging: the weight of the old mean: 0.75 in the release, 0.1 in the first version of the paper.
    noise: standard deviation of what a step adds to each coordinate: epsilon sqrt(eta), with epsilon from 1e-4 to
        1e-3 in the paper, 0 in the release. Drawn by (seed of the run, step), so the same on every worker and
        transport, and after a resume.
    rate: of the outer step; a number, or a function of the local step with which its inner loop began.
    momentum: of the outer step.
    rho: how much of the plain gradient the outer step follows; above 0 it needs a loop of the library's.

    A round sends 2 (n-1)/n d values a worker in 2 (n-1) messages a bucket of 25 MiB, the first of 1 MiB.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 2000)
    >>> result = ls.run(ls.EntropySGD(inner=4), lambda x, b: x - b, np.zeros(3), batches, on=ls.Simulated(2))
    >>> bool(abs(result.params - 1.5).max() < 1e-3)
    True

    Reference: P. Chaudhari et al., Entropy-SGD: Biasing Gradient Descent Into Wide Valleys, arXiv:1611.01838,
    algorithm 1; averaging and noise of the final version are as its release and other descriptions give them.
    """

    replicas_agree: ClassVar[bool] = True
    consensus_in: ClassVar[str] = "state.anchor"
    inner: int = 20
    pull: Strength = 0.01
    averaging: float = 0.75
    noise: float = 0.0
    rate: Rate = 0.1
    momentum: float = 0.9
    rho: float = 0.0

    @classmethod
    def example(cls) -> EntropySGD:
        return cls(inner=4)

    def __post_init__(self) -> None:
        checks.integer("inner", self.inner)
        check_strength("pull", self.pull)
        checks.fraction("averaging", self.averaging)
        check("rate", self.rate)
        for name in ("noise", "momentum", "rho"):
            checks.positive(name, getattr(self, name), zero=True)

    @property
    def needs(self) -> frozenset[Need]:  # type: ignore[override]
        """Return SKIPPED_UPDATES with rho: no update of the local optimizer follows the gradient at x."""
        return frozenset({Need.SKIPPED_UPDATES} if self.rho else ())

    def cost(self, n: int, d: int) -> Cost:
        return cost_of_mean_gradient(n, d)

    def init(self, worker: Worker) -> State:
        anchor, mean = worker.copy_of_params(), worker.copy_of_params()
        return State(anchor=anchor, mean=mean, velocity=buffers.like(anchor))

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        outer, step = divmod(worker.round - 1, self.inner + (self.rho > 0))
        yield from mean_gradient(worker)
        if step < self.inner:
            yield from self.step(worker, state, strength_at(self.pull, outer))
        else:
            ops.axpy(state.mean, worker.grad, -self.rho)
        if step == self.inner - (self.rho == 0):
            rate = at(self.rate, worker.clock - step - 1)
            ops.parle(state.anchor, state.velocity, state.mean, worker.params, rate, self.momentum, 0.0)
        elif step == self.inner - 1:
            ops.copy(state.anchor, worker.params)

    def step(self, worker: Worker, state: State, strength: float) -> Iterator[Request]:
        """Yield a step of the inner loop; with noise the mean is moved after the noise was added."""
        yield Update(Proximal(state.anchor, strength, state.mean, 1.0 if self.noise else self.averaging))
        if self.noise:
            ops.axpy(worker.params, worker.normal(), self.noise)
            ops.blend(state.mean, worker.params, self.averaging)

    def consensus(self, worker: Worker, state: State, out: Buffer) -> Iterator[Request]:
        """Copy the anchor: every worker holds the same."""
        ops.copy(state.anchor, out)
        yield from ()
