"""Decoupled DiLoCo's merge: radial-directional averages, here of workers in lockstep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from loosestep import buffers, ops
from loosestep.errors import positive, whole
from loosestep.requests import AllGather
from loosestep.strategy import LateStrategy, State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loosestep.requests import Buffer, Communication
    from loosestep.worker import Worker

DEGENERATE = 1e-6
"""Shorter than this, directions of length 1 have no mean that rounding did not make."""


def radial_directional(deltas: Sequence[Buffer], weights: Sequence[float], out: Buffer) -> None:
    """out = (sum w |D| / sum w) phi(sum w phi(D)), phi(v) = v / |v|: as long as the deltas are on average.

    A plain mean of n orthogonal ones would be shorter by the root of n. Where directions cancel: the weighted
    mean. `out` is none of the deltas.
    """
    kept = [(w, delta, ops.norm(delta)) for w, delta in zip(weights, deltas, strict=True) if w]
    total, there = sum(w for w, _, _ in kept), [delta for _, delta, _ in kept]
    if not kept:
        out.fill(0)
        return
    ops.weighted_sum(there, [w / length if length else 0.0 for w, _, length in kept], out)
    direction = ops.norm(out)
    if direction > DEGENERATE * total:
        ops.scale(out, sum(w * length for w, _, length in kept) / total / direction)
    else:
        ops.weighted_sum(there, [w / total for w, _, _ in kept], out)


@dataclass(frozen=True, repr=False)
class DecoupledDiLoCo(LateStrategy):
    """Streaming DiLoCo whose outer gradient is, tensor by tensor, the radial-directional average of the workers':

    D <- (sum w_i |D_i| / sum w_i) phi(sum w_i phi(D_i)), D_i = c_p - s_i,p, phi(v) = v / |v|, w_i = b_i b_i / H,
    then u_p <- m u_p + D, c_p <- c_p - r (D + m u_p), x_i,p <- c_p, `delay` steps after fragment p was sent.

    b_i are the samples that worker i used in the round, of H local steps. Of the paper this is the merge, with
    every learner in the quorum. Left out: the syncer, quorums of some and the grace window (workers here wait
    for each other), counters of their own for each fragment, and plain means for embeddings. Where tensors are
    not known, a fragment is one.

    period: local steps between the exchanges of two fragments.
    fragments: how many.
    delay: local steps from sending a fragment to its merge, which loses them; None for half the period.
    rate: r, the outer learning rate.
    momentum: m, the outer momentum.

    A round sends (n-1) (d/fragments + 1) values a worker in n-1 messages, while it computes.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 1600)
    >>> strategy = ls.DecoupledDiLoCo(period=4, fragments=2, delay=1)
    >>> result = ls.run(strategy, lambda x, b: x - b, np.zeros(4), batches, on=ls.Simulated(2))
    >>> bool(abs(result.params - 1.5).max() < 0.1)
    True

    Reference: A. Douillard et al., Decoupled DiLoCo for Resilient Distributed Pre-training, arXiv:2604.21428; the
    rule after secondary sources.
    """

    period: int = 25
    fragments: int = 4
    delay: int | None = 2
    rate: float = 0.7
    momentum: float = 0.9

    @classmethod
    def example(cls) -> DecoupledDiLoCo:
        return cls(period=4, fragments=1, delay=1, momentum=0.5)

    def __post_init__(self) -> None:
        whole("period", self.period)
        whole("fragments", self.fragments)
        self.check_delay(keeps=self.fragments > 1)
        positive("rate", self.rate)
        positive("momentum", self.momentum, zero=True)

    def init(self, worker: Worker) -> State:
        params = worker.params
        largest = 1 + max(part.stop - part.start for part in worker.fragments(self.fragments))
        return State(
            anchor=worker.copy_of_params(),
            momentum=buffers.like(params),
            sent=buffers.zeros(largest, params.dtype),
            come=buffers.zeros(largest * worker.size, params.dtype),
            coming=None,
            place=0,
        )

    def send(self, worker: Worker, state: State) -> Communication:
        """The next fragment, and behind it its weight."""
        state.place = (worker.round - 1) % self.fragments
        part = worker.fragments(self.fragments)[state.place]
        size = part.stop - part.start
        ops.copy(worker.params[part], state.sent[:size])
        state.sent[size] = worker.samples * worker.samples / self.period
        return AllGather(state.sent[: size + 1], state.come[: (size + 1) * worker.size])

    def receive(self, worker: Worker, state: State) -> None:
        """The outer step makes of all fragments the new anchor."""
        part = worker.fragments(self.fragments)[state.place]
        size = part.stop - part.start
        rows = state.come[: (size + 1) * worker.size].reshape(worker.size, size + 1)
        anchor, momentum, x = state.anchor[part], state.momentum[part], worker.params[part]
        for tensor in worker.tensors(part):
            self.outer(rows[:, tensor], rows[:, size].tolist(), anchor[tensor], momentum[tensor], x[tensor])

    def outer(self, rows: Buffer, weights: list[float], anchor: Buffer, momentum: Buffer, x: Buffer) -> None:
        """One tensor's step; the rows become the workers' deltas."""
        for row in rows:
            ops.subtract(anchor, row, row)
        radial_directional(list(rows), weights, x)
        ops.subtract(anchor, x, x)
        ops.outer_nesterov(x, anchor, momentum, self.rate, self.momentum)
