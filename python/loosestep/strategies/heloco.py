"""HeLoCo: late outer gradients that point another way than the outer momentum are turned towards it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from loosestep import ops
from loosestep.foundation import buffers, checks
from loosestep.requests import Fetch, Local, Push
from loosestep.strategies.base import Cost, State, Strategy, outer_cautions, pull

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Buffer, Request
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class HeLoCo(Strategy):
    """Asynchronous local SGD whose outer gradients are turned towards the outer momentum before they are pushed.

    D = what was pulled - x is corrected tensor by tensor by the outer momentum m that the worker then reads. With
    c = cos(D, m) and f = |D| / (|D| + k |m|):

    c >= keep:      D stays
    0 <= c < keep:  D <- |D| phi((1 - l) phi(D) + l phi(m)), l = min(turn (1 - c) f, 1), phi(v) = v / |v|
    c < 0:          D <- D - b c |D| phi(m), b = min(shrink (-c) f, most)

    then m <- mu m + D, c <- c - rate (D + mu m). So a step that is late and points elsewhere is turned towards
    where the others go, as long as it is; of one that points back its part against m is made smaller, all of it
    where b = 1. With keep = -1 it is `AsyncLocalSGD(delay=1)`.

    Where tensors are not known all parameters are one. Others may push between a worker's reading of m and its
    push. In the source m is a mean, (1 - mu) times this one, and so is what k multiplies.

    period: local steps between two pushes.
    rate: outer learning rate.
    momentum: mu, outer; with 0 m is the last step that was pushed.
    keep: the cosine from which on a tensor's step is kept.
    turn: how strongly others are turned.
    shrink: how strongly those that point back are shortened along m.
    most: the most by which they are.
    weight: k, what m weighs against D in f: a D much shorter than m says little of where to go, and is left alone.

    A round sends d values in 1 message and receives 2 d in 2.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 400)
    >>> strategy = ls.HeLoCo(rate=0.3, momentum=0.3)
    >>> result = ls.run(strategy, lambda x, b: x - b, np.zeros(3), batches, on=ls.Simulated(2))
    >>> bool(abs(result.params - 1.5).max() < 0.5)
    True

    Reference: A. Al Asif et al., HeLoCo: Efficient asynchronous low-communication training under data and device
    heterogeneity, arXiv:2606.00271 (after a secondary source, which has no values of its constants: the defaults
    are this library's; that workers correct, and not a server, too).
    """

    synchronous: ClassVar[bool] = False
    consensus_is: ClassVar[Literal["collective", "one-sided"]] = "one-sided"
    consensus_in: ClassVar[str] = "state.center"
    period: int = 8
    rate: float = 0.2
    momentum: float = 0.5
    keep: float = 0.5
    turn: float = 0.5
    shrink: float = 1.0
    most: float = 1.0
    weight: float = 1.0

    @classmethod
    def example(cls) -> HeLoCo:
        return cls(period=2, keep=0.2, turn=0.2, shrink=0.5)

    def __post_init__(self) -> None:
        checks.integer("period", self.period)
        checks.positive("rate", self.rate)
        checks.positive("momentum", self.momentum, zero=True)
        checks.at_most("momentum", self.momentum, 1)
        checks.positive("1 + keep", 1 + self.keep, zero=True)
        for name in ("turn", "shrink", "most", "weight"):
            checks.positive(name, getattr(self, name), zero=True)
        checks.at_most("most", self.most, 1)

    def warnings(self, size: int) -> list[str]:
        return outer_cautions(self.period, self.rate, self.momentum)

    def cost(self, n: int, d: int) -> Cost:
        return Cost(d, 1)

    def init(self, worker: Worker) -> State:
        rest = buffers.like(worker.params)
        return State(
            center=worker.shared("center", like=worker.params),
            momentum=worker.shared("momentum", like=rest),
            total=worker.shared("total", like=rest),
            pulled=worker.copy_of_params(),
        )

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        yield Local(self.period)
        change, momentum = state.pulled, worker.scratch("momentum", like=worker.params)
        ops.subtract(state.pulled, worker.params, change)
        yield Fetch(state.momentum, into=momentum)
        for tensor in worker.tensors(slice(0, change.size)):
            self.correct(change[tensor], momentum[tensor])
        shared = state.center, state.momentum, state.total
        yield Push("delayed_nesterov", shared, (change,), (self.rate, self.momentum, 1.0))
        yield from pull(worker, state, state.center)

    def correct(self, change: Buffer, momentum: Buffer) -> None:
        """Turn or shorten the step of a tensor."""
        length, pace = ops.norm(change), ops.norm(momentum)
        if not length or not pace:
            return
        cosine = ops.dot(change, momentum) / (length * pace)
        trust = length / (length + self.weight * pace)
        if cosine >= self.keep:
            return
        if cosine < 0:
            ops.axpy(change, momentum, -min(-self.shrink * cosine * trust, self.most) * cosine * length / pace)
            return
        turned = min(self.turn * (1 - cosine) * trust, 1.0)
        ops.scale(change, (1 - turned) / length)
        ops.axpy(change, momentum, turned / pace)
        ops.scale(change, length / ops.norm(change))

    def consensus(self, worker: Worker, state: State, out: Buffer) -> Iterator[Request]:
        """Fetch the center."""
        yield Fetch(state.center, into=out)
