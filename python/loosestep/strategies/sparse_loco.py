"""SparseLoCo: local steps, then the largest of what is left to send, in two bits each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from loosestep import ops
from loosestep.codecs.base import Codec
from loosestep.codecs.bins import Bins
from loosestep.codecs.top_k import ChunkedTopK
from loosestep.foundation import checks
from loosestep.requests import Local
from loosestep.strategies import coded
from loosestep.strategies.base import Cost, State, Strategy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Request
    from loosestep.requests.worker import Worker
    from loosestep.strategies.coded import Divisor


def production() -> Codec:
    """Return the format of the largest run: 64 of 4,096 values, in 4 bins."""
    return ChunkedTopK(64, 4096, Bins(2))


@dataclass(frozen=True, repr=False)
class SparseLoCo(Strategy):
    """Local steps, then a sparse outer step: e <- b e + (c - x), q <- C(e), e <- e - q, c <- c - a mean q, x <- c.

    C keeps the largest of each chunk, in a few bins. There is no outer momentum: the residual e, which decays,
    plays its part. With all kept, unrounded, b = 0 and a = 1 it is local SGD. The defaults are those of the
    release's run of 72 billion parameters; the paper keeps 1 to 3 %, divides by the number of workers and does not
    clip. Chunks are of adjacent parameters, those of the release tiles of matrices. Means are weighted by the
    samples that each worker used in the round; one that used none sends nothing. With another number of workers
    all begin with the mean of the residuals.

    period: local steps of a round (H).
    rate: a, the outer learning rate.
    decay: b, what is left of the residual after a round.
    codec: C. An unbiased one is scaled down until it contracts.
    divisor: of the sum for each coordinate: 'senders', the weight of the workers that have sent it, as in the
    release,
        or 'workers', that of all, as in the paper, where what few have sent moves less.
    clip: shorten what a worker sends to the median of all workers' norms, so that none leads alone. Where workers'
        data differ this moves the point where they come to rest. The release takes the lower of two middle norms:
        of two workers the smaller, with which they would come to rest where one of them does.

    A round sends 8 bytes and the codec's to each of n-1 others: 0.22 bits for each of d values.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 400)
    >>> strategy = ls.SparseLoCo(period=4, codec=ls.ChunkedTopK(keep=6, chunk=8))
    >>> result = ls.run(strategy, lambda x, b: x - b, np.zeros(8), batches, on=ls.Simulated(2))
    >>> bool(abs(result.params - 1.5).max() < 0.1)
    True

    Reference: A. Sarfi et al., Communication Efficient LLM Pre-training with SparseLoCo, arXiv:2508.15706; its
    release (templar: hparams.json, compress.py, neurons.py) for the defaults, 'senders' and the clip.
    """

    kept_on_resize: ClassVar[tuple[str, ...]] = ("state.kept.residual",)
    replicas_agree: ClassVar[bool] = True
    period: int = 30
    rate: float = 0.4
    decay: float = 0.95
    codec: Codec = field(default_factory=production)
    divisor: Divisor = "senders"
    clip: bool = True

    @classmethod
    def example(cls) -> SparseLoCo:
        return cls(period=4, codec=ChunkedTopK(6, 8))

    def __post_init__(self) -> None:
        checks.integer("period", self.period)
        checks.positive("rate", self.rate)
        checks.fraction("decay", self.decay)
        checks.instance("codec", self.codec, Codec)
        checks.one_of("divisor", self.divisor, ("senders", "workers"))
        checks.instance("clip", self.clip, bool)

    def cost(self, n: int, d: int) -> Cost:
        if self.divisor == "workers" and not self.clip:
            return coded.cost(self.codec, n, d)
        return coded.cost_of_messages(self.codec, n, d)

    def init(self, worker: Worker) -> State:
        return State(anchor=worker.copy_of_params(), kept=coded.memory(worker, self.codec))

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        yield Local(self.period)
        if worker.samples:
            ops.accumulate(state.kept.residual, state.anchor, worker.params, self.decay)
        yield from coded.mean(
            worker,
            state.kept,
            self.codec,
            worker.params,
            worker.samples,
            divisor=self.divisor,
            clip=self.clip,
        )
        ops.axpy(state.anchor, worker.params, -self.rate)
        ops.copy(state.anchor, worker.params)
