"""Differences rounded to a few bits, with what was lost added to the next."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from loosestep import ops
from loosestep.codecs.base import Codec
from loosestep.codecs.top_k import TopK
from loosestep.foundation import buffers, checks
from loosestep.requests import (
    AllReduce,
    Barrier,
    Elastic,
    Fetch,
    Mix,
    Push,
    Request,
    Shared,
    Start,
    Wait,
)
from loosestep.requests.base import Compute, address
from loosestep.requests.worker import Worker
from loosestep.strategies import coded
from loosestep.strategies.allreduce_sgd import AllReduceSGD
from loosestep.strategies.base import Cost, Need, State, Strategy, no_rate, note_rate
from loosestep.strategies.row_means import with_whole_gradients

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Buffer

WORKERS, SIZE = 4, 1 << 10
"""Of the dry run that shows what a strategy sends."""
RAW = "a codec would round the parameters themselves, and lose a share of all of them in every round"
REASONS: dict[type[Request], str] = {
    Mix: f"mixes parameters of neighbours: {RAW}; ChocoSGD sends differences",
    Elastic: f"fetches parameters from a center: {RAW}",
    Fetch: f"fetches parameters from a center: {RAW}",
    Push: f"pushes to a center, from which it fetches parameters: {RAW}",
}


@dataclass(frozen=True, repr=False)
class ErrorFeedback(Strategy):
    """Another strategy whose means are of rounded differences: p <- d + e, e <- p - C(p), and the mean of C(p).

    What rounding has lost, the residual e, is added to the next difference, so that nothing is lost for ever:
    x_t - mean_i e_i = x_0 - the sum of all mean_i d_i, exactly. d is what the strategy averages: a gradient
    (`AllReduceSGD`: EF-SGD), or how far a worker has come from where all were alike (`LocalSGD`, `DiLoCo` and
    others at whose rounds' ends all replicas are alike: Qsparse-local-SGD). A gradient's residual is kept in units
    of steps: where the learning rate changes, it is divided by as much as the rate grew. Local momentum comes
    after the mean.

    Strategies that mix or fetch parameters, or average some that differ, are refused: a codec would round the
    parameters themselves. `ChocoSGD` sends differences over a graph. Codecs that are unbiased are scaled down
    until they contract. A gradient is encoded when all of it is there, so nothing is sent while it is computed. Of
    sparse messages the sum has one order. Sparse gradients, as an embedding's, are encoded with all their rows,
    for residuals fill them. With another number of workers all begin with the mean of the residuals.

    strategy: whose means are rounded.
    codec: how; `PowerSGD` takes each tensor as a matrix, where shapes are known; others take all values together.

    A round sends 8 bytes and those of the codec to each of n-1 others for each mean; of a codec whose messages add
    up (`RandomK`, `PowerSGD`), 2 (n-1)/n times its values in 2 (n-1) messages for each of its means.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 400)
    >>> strategy = ls.ErrorFeedback(ls.LocalSGD(period=4), ls.TopK(0.25))
    >>> optimizer = ls.SGD(0.05)
    >>> result = ls.run(
    ...     strategy, lambda x, b: x - b, np.zeros(8), batches, on=ls.Simulated(2), optimizer=optimizer
    ... )
    >>> bool(abs(result.params - 1.5).max() < 0.2)
    True

    Reference: S. P. Karimireddy et al., Error Feedback Fixes SignSGD, arXiv:1901.09847, algorithm 2; D. Basu et
    al., Qsparse-local-SGD, arXiv:1906.02367, algorithm 1.
    """

    kept_on_resize: ClassVar[tuple[str, ...]] = ("state.kept.residual",)
    strategy: Strategy = field(default_factory=AllReduceSGD)
    codec: Codec = field(default_factory=TopK)

    @classmethod
    def example(cls) -> ErrorFeedback:
        return cls(codec=TopK(0.5))

    def __post_init__(self) -> None:
        checks.instance("strategy", self.strategy, Strategy)
        checks.instance("codec", self.codec, Codec)
        if len(self.strategy.stages) > 1 or isinstance(self.strategy, ErrorFeedback):
            raise ValueError(f"strategy must be one that can be wrapped, got {self.strategy!r}: wrap its parts")
        if reason := why_not(self.strategy):
            raise ValueError(f"strategy must send differences, but {self.strategy!r} {reason}")

    # --- what is the strategy's ---------------------------------------------------------------------------

    @property
    def period(self) -> int:
        """Return the local steps of a round."""
        return int(getattr(self.strategy, "period", 1))

    @property
    def replicas_agree(self) -> bool:  # type: ignore[override]
        return self.strategy.replicas_agree

    @property
    def course_depends_on_values(self) -> bool:  # type: ignore[override]
        return self.strategy.course_depends_on_values

    @property
    def needs(self) -> frozenset[Need]:  # type: ignore[override]
        return self.strategy.needs

    @property
    def consensus_in(self) -> str:  # type: ignore[override]
        return self.strategy.consensus_in.replace("state.", "state.inner.", 1)

    def weigh(self, worker: Worker) -> float:
        return self.strategy.weigh(worker)

    def warnings(self, size: int) -> list[str]:
        return self.strategy.warnings(size)

    def consensus(self, worker: Worker, state: State, out: Buffer) -> Iterator[Request]:
        yield from self.strategy.consensus(worker, state.inner, out)

    # --- what is its own ----------------------------------------------------------------------------------

    def cost(self, n: int, d: int) -> Cost | None:
        """Return the cost where a round has one mean of all parameters, by a formula of the strategy's own."""
        if self.strategy.cost(n, d) is None or n == 1:
            return self.strategy.cost(n, d)
        return coded.cost(self.codec, n, d)

    def init(self, worker: Worker) -> State:
        return State(
            inner=self.strategy.init(worker),
            kept=coded.memory(worker, self.codec),
            anchor=worker.copy_of_params(),
            eta=no_rate(),
        )

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        pending, clock = 0, worker.clock
        for request in with_whole_gradients(worker, self.strategy.round(worker, state.inner)):
            asked: Any = request.request if isinstance(request, (Start, Wait)) else request
            kind = averages(asked, worker)
            if not kind:
                yield request
            elif isinstance(request, Start):
                pending += 1
            elif kind == "parameters":
                yield from self.mean_of_parameters(worker, state, asked.weight)
            elif not isinstance(request, Wait) or pending:  # the first that is waited for: all of them are there
                pending = 0
                yield from self.mean_of_gradients(worker, state, asked.weight, worker.rate_at(clock))
        ops.copy(worker.params, state.anchor)

    def mean_of_parameters(self, worker: Worker, state: State, weight: float) -> Iterator[Request]:
        """Yield what sets the parameters to the anchor less the mean of how far workers have come from it."""
        if weight:
            ops.accumulate(state.kept.residual, state.anchor, worker.params, 1.0)
        yield from coded.mean(worker, state.kept, self.codec, worker.params, weight)
        ops.subtract(state.anchor, worker.params, worker.params)
        ops.copy(worker.params, state.anchor)

    def mean_of_gradients(self, worker: Worker, state: State, weight: float, rate: float) -> Iterator[Request]:
        """Yield what sets the gradient to the mean of all, for a step of that learning rate."""
        note_rate(worker, state.eta, float(rate))
        if state.eta.ratio not in (0.0, 1.0):
            ops.scale(state.kept.residual, 1 / state.eta.ratio)
        if weight:
            ops.axpy(state.kept.residual, worker.grad, 1.0)
        yield from coded.mean(worker, state.kept, self.codec, worker.grad, weight)


def averages(request: Any, worker: Worker) -> str:
    """Return whether it averages 'gradients', all 'parameters', or neither."""
    if not isinstance(request, AllReduce) or request.op != "mean":
        return ""
    if within(request.buf, worker.grad):
        return "gradients"
    return "parameters" if within(request.buf, worker.params) and request.buf.size == worker.params.size else ""


def within(part: Buffer, whole: Buffer) -> bool:
    """Return whether a buffer is a part of another."""
    return 0 <= address(part) - address(whole) < whole.nbytes


def why_not(strategy: Strategy) -> str:
    """Return what a strategy does that is not the mean of differences over all workers, or ""."""
    if strategy.shared_buffers:
        return "has parameters that workers share"

    def share(name: str, like: Buffer) -> Shared:
        return Shared(name, like.size, like.dtype, like)

    steps = getattr(strategy, "steps", None)  # of each worker, where they differ
    size = len(steps) if isinstance(steps, tuple) else WORKERS
    worker = Worker(0, size, buffers.zeros(SIZE), share, (buffers.zeros(SIZE),))
    worker.round = worker.samples = 1
    state = strategy.init(worker)
    for request in strategy.round(worker, state):
        if reason := why_not_asked(request, worker, strategy):
            return reason
    return ""


def why_not_asked(request: Request, worker: Worker, strategy: Strategy) -> str:
    """Return what is wrong with one request."""
    asked = request.request if isinstance(request, (Start, Wait)) else request
    kind = averages(asked, worker)
    if isinstance(asked, (Compute, Barrier)) or kind == "gradients":
        return ""
    if not isinstance(asked, AllReduce):
        return REASONS.get(type(asked), f"asks for {type(asked).__name__}, which is no mean of all workers")
    if asked.group is not None:
        return f"averages parameters in groups, which have no common starting point: {RAW}"
    if kind == "parameters" and isinstance(request, AllReduce):
        return "" if strategy.replicas_agree else f"averages parameters that have no common starting point: {RAW}"
    if asked.buf.size >= worker.params.size:
        return f"averages copies of parameters, or moments of the optimizer: {RAW}"
    return f"averages parts of the parameters: {RAW}" if within(asked.buf, worker.params) else ""
