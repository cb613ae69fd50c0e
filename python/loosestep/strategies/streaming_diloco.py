"""Streaming DiLoCo: a fragment of the parameters at a time, while workers compute."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Literal, TypeAlias

from loosestep import ops
from loosestep.codecs.base import Codec
from loosestep.foundation import buffers, checks
from loosestep.foundation.buffers import here
from loosestep.requests import AllGather, AllReduce
from loosestep.strategies.base import Cost, State, Words, cost_of_mean
from loosestep.strategies.delayed import LateStrategy

if TYPE_CHECKING:
    from loosestep.requests import Communication
    from loosestep.requests.worker import Worker

Parts: TypeAlias = "list[tuple[slice, slice]]"


@dataclass(frozen=True, repr=False)
class StreamingDiLoCo(LateStrategy):
    """DiLoCo of one fragment after another, each averaged while workers compute.

    Every `period` steps the next fragment p begins to be averaged, and `delay` steps later D <- c_p - mean_i
    s_i,p, u_p <- m u_p + D, c_p <- c_p - r (D + m u_p), x_i,p <- k x_i,p + (1 - k) c_p.

    s is x as it was when its average began. So a fragment meets once in fragments * period steps (H), at an
    offset of its own, and what is sent at once is a fraction of the model. k = 1 is training apart; one fragment
    with delay 0 and k = 0 is DiLoCo. Fragments are of nearly equal size and begin with tensors, where those are
    known. The mean is weighted by the samples each worker used in the round. The paper sends 4 bits a value: with
    `codec=E3M0()` D <- mean_i Q(c_p - s_i,p), Q rounding as the codec does, the sum in the parameters' type.
    In practice there is one fragment more than layers, and AdamW inside, with 30 to 100 steps between two averages
    of a fragment.

    period: local steps between the exchanges of two fragments (H / fragments).
    fragments: how many.
    delay: local steps from the start of an exchange to its merge, None for half the period; the
        paper advises 5 at most.
    keep: k, the share of its own parameters that a worker keeps in a merge.
    rate: r, the outer learning rate.
    momentum: m, the outer momentum.
    codec: how each worker's outer gradient is rounded for the wire; None sends parameters as they are.
    pattern: what a fragment p of F is: 'sequential', one stretch of the parameters; 'strided', of F F stretches
        each F-th from p on, so that every fragment has early and late layers, as in the paper.

    A round sends 2 (n-1)/n d/fragments values a worker in 2 (n-1) messages, while it computes.
    With a codec: 8 bytes and the codec's, of d/fragments values, to each of n-1 workers.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 1600)
    >>> strategy = ls.StreamingDiLoCo(period=2, fragments=2, delay=1)
    >>> result = ls.run(strategy, lambda x, b: x - b, np.zeros(4), batches, on=ls.Simulated(2))
    >>> bool(abs(result.params - 1.5).max() < 1e-2)
    True

    Reference: A. Douillard, Y. Donchev et al., Streaming DiLoCo with overlapping communication, arXiv:2501.18512.
    """

    period: int = 25
    fragments: int = 4
    delay: int | None = 1
    keep: float = 0.5
    rate: float = 0.4
    momentum: float = 0.9
    codec: Codec | None = None
    pattern: Literal["sequential", "strided"] = "sequential"

    @classmethod
    def example(cls) -> StreamingDiLoCo:
        return cls(period=3, fragments=2)

    def __post_init__(self) -> None:
        checks.integer("period", self.period)
        checks.integer("fragments", self.fragments)
        self.check_delay(keeps=self.keep > 0 or self.fragments > 1)
        checks.positive("keep", self.keep, zero=True)
        checks.at_most("keep", self.keep, 1)
        checks.positive("rate", self.rate)
        checks.positive("momentum", self.momentum, zero=True)
        checks.one_of("pattern", self.pattern, ("sequential", "strided"))
        if self.codec is not None:
            checks.instance("codec", self.codec, Codec)

    @property
    def replicas_agree(self) -> bool:  # type: ignore[override]
        """Return whether every round ends with one whole mean on all workers."""
        return self.fragments == 1 and self.delay == 0 and self.keep == 0

    def cost(self, n: int, d: int) -> Cost:
        largest = -(-d // self.fragments)
        if self.codec is None:
            return cost_of_mean(n, d / self.fragments)
        return Cost(0, n - 1, 8 * (n - 1) * (1 + self.codec.words(largest)))

    def init(self, worker: Worker) -> State:
        largest = max(self.parts(worker, place)[-1][1].stop for place in range(self.fragments))
        return State(
            anchor=worker.copy_of_params(),
            momentum=buffers.like(worker.params),
            mean=buffers.like(worker.params[:largest]),
            wire=self.wire(worker, largest, self.codec) if self.codec else State(),
            coming=None,
            place=0,
        )

    def wire(self, worker: Worker, largest: int, codec: Codec) -> State:
        """Return buffers for the samples and the encoded fragment of this worker, and of all."""
        words = 1 + codec.words(largest)
        return Words(mine=buffers.zeros(words, float), come=buffers.zeros(words * worker.size, float))

    def parts(self, worker: Worker, place: int) -> list[tuple[slice, slice]]:
        """Return where the parts of a fragment are among the parameters, and where in what is sent."""
        count = self.fragments
        if self.pattern == "sequential":
            mine = [worker.fragments(count)[place]]
        else:
            mine = worker.fragments(count * max(1, min(count, worker.params.size // count)))[place::count]
        stops = [0, *accumulate(part.stop - part.start for part in mine)]
        return [(part, slice(*ends)) for part, ends in zip(mine, pairwise(stops), strict=True)]

    def send(self, worker: Worker, state: State) -> Communication:
        """Return the mean of the next fragment."""
        state.place = (worker.round - 1) % self.fragments
        parts = self.parts(worker, state.place)
        sent = state.mean[: parts[-1][1].stop]
        for part, room in parts:
            ops.copy(worker.params[part], sent[room])
        if self.codec:
            return self.coded(worker, state, parts, self.codec)
        return AllReduce(sent, op="mean", weight=worker.samples)

    def coded(self, worker: Worker, state: State, parts: Parts, codec: Codec) -> Communication:
        """Return the gathering of all encoded outer gradients."""
        outer, wire = state.mean[: parts[-1][1].stop], state.wire
        for part, room in parts:
            ops.subtract(state.anchor[part], outer[room], outer[room])
        words = 1 + codec.words(outer.size)
        wire.mine[0] = worker.samples
        codec.encode(here(outer), wire.mine[1:words], (worker.seed, worker.rank, worker.round))
        return AllGather(wire.mine[:words], wire.come[: words * worker.size])

    def decoded(self, worker: Worker, state: State, parts: Parts, codec: Codec) -> None:
        """Set the mean to the anchor less the mean of the decoded outer gradients."""
        mean = state.mean[: parts[-1][1].stop]
        one, total = (worker.workspace(what, mean.size, mean.dtype) for what in ("decoded", "their mean"))
        words = 1 + codec.words(mean.size)
        rows = state.wire.come[: words * worker.size].reshape(worker.size, words)

        def add_up() -> None:
            total.fill(0)
            for row in rows[rows[:, 0] > 0]:
                codec.decode(row[1:], one)
                ops.axpy(total, one, row[0] / rows[:, 0].sum())

        worker.fill(codec, rows.reshape(-1), total, add_up)
        mean[:] = total
        for part, room in parts:
            ops.subtract(state.anchor[part], mean[room], mean[room])

    def receive(self, worker: Worker, state: State) -> None:
        """Make the outer step from a fragment's mean, and merge the new anchor into the parameters."""
        parts = self.parts(worker, state.place)
        if self.codec:
            self.decoded(worker, state, parts, self.codec)
        for part, room in parts:
            mean, x = state.mean[room], worker.params[part]
            ops.outer_nesterov(mean, state.anchor[part], state.momentum[part], self.rate, self.momentum)
            if self.keep:
                ops.lerp(x, mean, 1 - self.keep)
            else:
                ops.copy(mean, x)
