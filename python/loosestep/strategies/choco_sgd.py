"""CHOCO-SGD: gossip of rounded differences."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from loosestep import ops
from loosestep.codecs.base import Codec
from loosestep.codecs.sign import Sign
from loosestep.foundation import checks
from loosestep.foundation.buffers import here, is_on_device
from loosestep.requests import Exchange, Gradient, Update
from loosestep.strategies.base import Cost, State, Strategy
from loosestep.strategies.coded import clear_padding
from loosestep.topologies.base import Topology
from loosestep.topologies.ring import Ring

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Buffer, Request
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class ChocoSGD(Strategy):
    """Gossip of rounded differences: q_i <- C(x_i - y_i), y_i <- y_i + q_i, x_i <- x_i + g (sum_j w_ij y_j - y_i).

    Each round begins with a local step. y_i is what all know of worker i; its neighbours keep no copy of it, but
    the sum s_i = sum_j w_ij y_j, to which they add w_ij q_j. So two vectors suffice on any graph that stays as it
    is. The mean of all x does not change, whatever C does. With C = 1 and g = 1 it is D-PSGD, adapt then combine.
    Where C loses much, g must be small: with the largest 1 % of the values and g = 1 it diverges. All y begin at
    x_0, which all workers have. Weights stay when a worker's data ends; with another number of workers all begin
    at the mean.

    topology: which workers mix, a doubly stochastic `Topology` that stays as it is; None for `Ring()`.
    codec: C, how differences are rounded; None sends them as they are. An unbiased one is scaled down until it
        contracts.
    rate: g, the consensus step.

    A round sends the codec's words to each neighbour, one message each.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 400)
    >>> strategy = ls.ChocoSGD(codec=ls.TopK(0.5))
    >>> optimizer = ls.SGD(0.02)
    >>> result = ls.run(
    ...     strategy, lambda x, b: x - b, np.zeros(4), batches, on=ls.Simulated(4), optimizer=optimizer
    ... )
    >>> bool(abs(result.params - 2.5).max() < 0.05)
    True

    Reference: A. Koloskova, S. Stich, M. Jaggi, Decentralized Stochastic Optimization and Gossip Algorithms with
    Compressed Communication, arXiv:1902.00340, algorithm 2, in the form with two vectors of its release; the rate
    0.5 is the release's for signs on a ring of 16.
    """

    topology: Topology | None = None
    codec: Codec | None = field(default_factory=Sign)
    rate: float = 0.5

    def __post_init__(self) -> None:
        if self.topology is not None:
            checks.instance("topology", self.topology, Topology)
        if self.graph.stochastic != "doubly":
            raise ValueError(f"topology must be doubly stochastic, to conserve the mean, got {self.topology!r}")
        if self.codec is not None:
            checks.instance("codec", self.codec, Codec)
        checks.positive("rate", self.rate)
        checks.at_most("rate", self.rate, 1)

    @property
    def graph(self) -> Topology:
        """Return the topology that it mixes on."""
        return Ring() if self.topology is None else self.topology

    def weigh(self, worker: Worker) -> float:
        """Return 1: W conserves the plain mean."""
        return 1.0

    def cost(self, n: int, d: int) -> Cost:
        degree = self.graph.degree(n)
        if self.codec is None:
            return Cost(degree * d, degree)
        return Cost(0, degree, 8 * degree * self.codec.contracted(d)[0].words(d))

    def init(self, worker: Worker) -> State:
        self.graph.check_size(worker.size)
        if self.graph.period(worker.size) != 1:
            raise ValueError(f"topology must stay as it is, so that sums can be kept, got {self.graph!r}")
        return State(known=worker.copy_of_params(), mixed=worker.copy_of_params())

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        yield Gradient()
        yield Update()
        weights = self.graph.weights(worker.rank, worker.size)
        moved = self.workspace(worker, "moved", worker.params.size, worker.params.dtype)
        kept = [worker.params, state.known, state.mixed]
        held = kept if self.stays(worker) else [here(each) for each in kept]
        x, known, mixed = held
        ops.subtract(x, known, moved)
        mine = self.message(worker, moved)
        come = {rank: self.room(worker, rank) for rank, _ in weights.row if rank != worker.rank}
        yield Exchange([(rank, mine) for rank in weights.readers], list(come.items()))
        self.take(worker, mine, 1.0, known)
        for rank, weight in weights.row:
            self.take(worker, come.get(rank, mine), weight, mixed)
        ops.subtract(mixed, known, moved)
        ops.axpy(x, moved, self.rate)
        clear_padding(worker, x, known, mixed)
        if held is not kept:
            worker.params[:], state.known[:], state.mixed[:] = held

    def stays(self, worker: Worker) -> bool:
        """Return whether parameters on a device are coded there."""
        return is_on_device(worker.params) and (self.codec is None or self.codec.on_device)

    def workspace(self, worker: Worker, name: object, size: int, dtype: Any) -> Buffer:
        """Return memory where values are coded."""
        return worker.workspace(name, size, dtype, on_device=self.stays(worker))

    def room(self, worker: Worker, name: object) -> Buffer:
        """Return memory for a message."""
        size, dtype = worker.params.size, worker.params.dtype
        if self.codec is None:
            return self.workspace(worker, ("from", name), size, dtype)
        return self.workspace(worker, ("from", name), self.codec.contracted(size)[0].words(size), float)

    def message(self, worker: Worker, moved: Buffer) -> Buffer:
        """Return the words for a difference, or the difference itself."""
        if self.codec is None:
            return moved
        words = self.room(worker, "me")
        codec, _ = self.codec.contracted(moved.size)
        codec.encode(moved, words, (worker.seed, worker.rank, worker.round))
        return words

    def take(self, worker: Worker, message: Buffer, weight: float, out: Buffer) -> None:
        """Add a worker's difference, as it was rounded, times a weight."""
        if self.codec is None:
            ops.axpy(out, message, weight)
        else:
            codec, factor = self.codec.contracted(out.size)
            codec.add(message, out, weight * factor, self.workspace(worker, "decoded", out.size, out.dtype))
