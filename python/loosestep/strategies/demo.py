"""DeMo: the fastest-moving cosine coefficients of momentum, each step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from loosestep import ops
from loosestep.codecs.cosine import CosineTiles, signs
from loosestep.codecs.top_k import ChunkedTopK
from loosestep.foundation import buffers, checks
from loosestep.foundation.buffers import here
from loosestep.optimizers.sgd import SGD
from loosestep.requests import Gradient, Update
from loosestep.strategies import coded
from loosestep.strategies.base import Cost, State, Strategy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.optimizers.base import Optimizer
    from loosestep.requests import Request
    from loosestep.requests.worker import Worker
    from loosestep.strategies.coded import Divisor


@dataclass(frozen=True, repr=False)
class DeMo(Strategy):
    """Decoupled momentum: m <- b m + r g, q <- TopK(DCT(m)), m <- m - IDCT(q), x <- x - r sign(IDCT(mean_i q_i)).

    Every worker keeps a momentum of its own, and shares only its largest cosine coefficients, which then leave it.
    r is the local optimizer's learning rate; the optimizer gets the signs as its gradient, so it should be `SGD`,
    whose weight decay w then gives x <- (1 - r w) x - r sign(...), as in the paper. Momentum is kept as
    coefficients, which is the same, since the transform is orthonormal. Tiles are side x side adjacent parameters;
    the release cuts each matrix into tiles, and each axis near to `side`. Means are weighted by samples. Replicas
    stay alike. With another number of workers all begin with the mean of the momenta.

    side: of a tile, up to 64.
    keep: coefficients of each tile that are sent (k).
    decay: b, of the momentum.
    divisor: of the sum for each coefficient: 'senders', the weight of the workers that have sent it, as in the
        release, or 'workers', that of all.

    A round sends keep (32 + log2 side^2) bits for each tile, and 8 bytes, to each of n-1 others.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 400)
    >>> strategy = ls.DeMo(side=4, keep=4)
    >>> optimizer = ls.SGD(0.01)
    >>> result = ls.run(
    ...     strategy, lambda x, b: x - b, np.zeros(16), batches, on=ls.Simulated(2), optimizer=optimizer
    ... )
    >>> bool(abs(result.params - 1.5).max() < 0.2)
    True

    Reference: B. Peng, J. Quesnelle, D. P. Kingma, DeMo: Decoupled Momentum Optimization, arXiv:2411.19870, and
    its release (bloc97/DeMo: demo.py) for the defaults and 'senders'.
    """

    kept_on_resize: ClassVar[tuple[str, ...]] = ("state.kept.residual",)
    replicas_agree: ClassVar[bool] = True
    made_for: ClassVar[Optimizer | None] = SGD(0.001)
    side: int = 64
    keep: int = 32
    decay: float = 0.999
    divisor: Divisor = "senders"

    @classmethod
    def example(cls) -> DeMo:
        return cls(side=4, keep=12)

    def __post_init__(self) -> None:
        checks.at_most("side", checks.integer("side", self.side), 64)
        checks.at_most("keep", checks.integer("keep", self.keep), self.side**2)
        checks.fraction("decay", self.decay)
        checks.one_of("divisor", self.divisor, ("senders", "workers"))

    @property
    def tiles(self) -> CosineTiles:
        """Return the transform."""
        return CosineTiles(self.side)

    @property
    def codec(self) -> ChunkedTopK:
        """Return how coefficients are sent."""
        return ChunkedTopK(self.keep, self.side**2)

    def cost(self, n: int, d: int) -> Cost:
        return coded.cost_of_messages(self.codec, n, self.tiles.size(d))

    def init(self, worker: Worker) -> State:
        count = self.tiles.size(worker.params.size)
        return State(kept=State(residual=buffers.like(worker.params, count)))

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        rate = float(worker.rate_at(worker.clock))
        yield Gradient()
        kept, dtype = state.kept.residual, worker.params.dtype
        made = worker.workspace("coefficients", kept.size, dtype)
        if worker.samples:
            momentum = here(kept)
            self.tiles.forward(here(worker.grad), made)
            ops.scale(momentum, self.decay)
            ops.axpy(momentum, made, rate)
            if momentum is not kept:
                kept[:] = momentum
        yield from coded.mean(worker, state.kept, self.codec, made, worker.samples, divisor=self.divisor)
        back = worker.workspace("signs", worker.params.size, dtype)
        self.tiles.back(made, back)
        signs(back, back)
        coded.clear_padding(worker, back)
        worker.grad[:] = back
        yield Update()
