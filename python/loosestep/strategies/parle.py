"""Parle: replicas that each smooth their own loss, and hold together by a spring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from loosestep import ops
from loosestep.foundation import buffers, checks
from loosestep.optimizers.schedules import Rate, at, check
from loosestep.requests import AllReduce, Local, Proximal
from loosestep.strategies.base import Cost, State, Strategy, cost_of_mean
from loosestep.strategies.scoping import Scoping, Strength, check_strength, strength_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Buffer, Request
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class Parle(Strategy):
    """Entropy-SGD on every worker, its anchors x_i tied to their mean. A round is `period` inner steps of

    y <- y - eta (g(y) + pull (y - x_i)),  z <- averaging z + (1 - averaging) y,

    from y = z = x_i, then x_i <- x_i - rate ((x_i - z) + coupling (x_i - mean_j x_j)), with Nesterov's momentum.
    eta is the local optimizer's, whose moments outlive the round. Gradients are taken at y; the model is mean x_j.

    The local-entropy gradient x_i - z is not multiplied by `pull`, as in the release. The mean is weighted by the
    samples that each worker used in the round. Elastic-SGD, the paper's comparator, is
    `Parle(period=1, pull=0.0, averaging=0.0, rate=1.0, momentum=0.0, coupling=Scoping(...))`: where that is a now,
    x_i <- (1 - a) x_i + a mean_j x_j - eta g(x_i).

    period: inner steps between two outer steps (L).
    pull: 1/gamma, a number or `Scoping`; the paper's grows from 0.01 to 1.
    averaging: the weight a of the old mean; 0 keeps the last y alone, as later releases do.
    rate: of the outer step, eta in the paper: that of SGD, which drops where SGD's does, while the local
        optimizer's stays as it began (the MPI release has one rate for both). A number, or a function of the local
        step at which a round begins: `StepDecay`.
    momentum: of the outer step.
    coupling: 1/rho, a number or `Scoping`; the paper's grows from 1 to 10. The spring alone (a local rate of 0) is
        stable iff rate coupling < 2 (1 + momentum) / (1 + 2 momentum).
    towards: 'anchors' ties x_i to mean_j x_j, as the paper; 'means' to mean_j z_j, as its releases.

    A round sends 2 (n-1)/n d values a worker in 2 (n-1) messages.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 2000)
    >>> result = ls.run(ls.Parle(period=4), lambda x, b: x - b, np.zeros(3), batches, on=ls.Simulated(2))
    >>> bool(abs(result.params - 1.5).max() < 1e-3)
    True

    Reference: P. Chaudhari, C. Baldassi, R. Zecchina, S. Soatto, A. Talwalkar, A. Oberman, Parle: parallelizing
    stochastic gradient descent, arXiv:1707.00424, equations 8a to 8d: as its releases and other descriptions give
    them, without the releases' slips, and not compared with the paper's text.
    """

    consensus_in: ClassVar[str] = "state.anchor"
    period: int = 25
    pull: Strength = 0.01
    averaging: float = 0.75
    rate: Rate = 0.1
    momentum: float = 0.9
    coupling: Strength = 1.0
    towards: Literal["anchors", "means"] = "anchors"

    @classmethod
    def example(cls) -> Parle:
        return cls(period=4)

    def __post_init__(self) -> None:
        checks.integer("period", self.period)
        check_strength("pull", self.pull)
        check_strength("coupling", self.coupling)
        checks.fraction("averaging", self.averaging)
        check("rate", self.rate)
        checks.positive("momentum", self.momentum, zero=True)
        checks.one_of("towards", self.towards, ("anchors", "means"))

    def warnings(self, size: int) -> list[str]:
        strongest = at(self.rate, 0) * (
            self.coupling.most if isinstance(self.coupling, Scoping) else self.coupling
        )
        limit = 2 * (1 + self.momentum) / (1 + 2 * self.momentum)
        if size == 1 or strongest < limit:
            return []
        return [
            f"rate times coupling, {strongest:g} at most, drives replicas apart at any local learning rate: with "
            f"momentum {self.momentum:g} it must be below 2 (1 + momentum) / (1 + 2 momentum) = {limit:.3g}"
        ]

    def cost(self, n: int, d: int) -> Cost:
        return cost_of_mean(n, d)

    def init(self, worker: Worker) -> State:
        anchor, mean = worker.copy_of_params(), worker.copy_of_params()
        return State(anchor=anchor, mean=mean, velocity=buffers.like(anchor))

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        before = worker.round - 1
        proximal = Proximal(state.anchor, strength_at(self.pull, before), state.mean, self.averaging)
        yield Local(self.period, proximal=proximal)
        master = worker.params  # z holds what the inner loop found, so its place is free
        ops.copy(state.anchor if self.towards == "anchors" else state.mean, master)
        yield AllReduce(master, op="mean", weight=worker.samples)
        coupling = strength_at(self.coupling, before)
        rate = at(self.rate, max(0, worker.clock - self.period))
        ops.parle(state.anchor, state.velocity, state.mean, master, rate, self.momentum, coupling)

    def consensus(self, worker: Worker, state: State, out: Buffer) -> Iterator[Request]:
        """Average the anchors."""
        ops.copy(state.anchor, out)
        yield AllReduce(out, op="mean")
