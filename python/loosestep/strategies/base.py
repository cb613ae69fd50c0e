"""The base of every method: a frozen description, explicit state, a round as a generator of requests."""

from __future__ import annotations

from abc import abstractmethod
from enum import Enum
from math import ceil
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from loosestep import ops
from loosestep.foundation.value import Value
from loosestep.requests import AllReduce, Fetch, Ready, Start, Wait
from loosestep.strategies.row_means import mean_of_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.optimizers.base import Optimizer
    from loosestep.requests import Buffer, Request, Shared
    from loosestep.requests.worker import Worker


SHORT, GAIN = 25, 2.0
"""Outer momentum is safe in rounds of SHORT or more local steps; in shorter rounds, up to a gain of GAIN."""


class State(SimpleNamespace):
    """All that must survive a crash: arrays, numbers, shared variables, nested States. Saved by name.

    Also a communication that one round starts and a later one waits for (None where there is none); the buffer
    that it fills belongs to the state as well.
    """


class Words(State):
    """Buffers of what a `Codec` encoded: bits of any pattern, which may look like numbers that are not finite."""


def leaves(state: State, path: str = "state") -> Iterator[tuple[str, State, str, Any]]:
    """Yield every leaf of a state: (full name, the State that holds it, its key, its value)."""
    for key, value in sorted(vars(state).items()):
        if isinstance(value, State):
            yield from leaves(value, f"{path}.{key}")
        else:
            yield f"{path}.{key}", state, key, value


class Need(Enum):
    """What a strategy needs of a training loop besides gradients and updates; `Strategy.needs` is a set of these.

    `loosestep.run` gives all of them. A PyTorch loop gives all but SKIPPED_UPDATES, some by a call of the user's.

    SKIPPED_UPDATES: a gradient may be taken that no update of the local optimizer follows.
    GLOBAL_BATCHES: batches hold the rows of all workers, and each worker takes its part of them by
        `worker.fractions`: `data.global_batches` in `run`, `optimizer.shard` in PyTorch.
    PARTIAL_PARTICIPATION: some rounds pass in which a worker takes no gradient: `optimizer.ready()` in PyTorch.
    EPOCH_LENGTH: the steps of an epoch are known: `steps_per_epoch=`.
    LOSSES: gradients come with losses: `worker.losses`.
    STEP_TIMES: `worker.computing` and `worker.communicating` are measured when a round begins.
    """

    SKIPPED_UPDATES = "an update of its own"
    GLOBAL_BATCHES = "batches of all workers"
    PARTIAL_PARTICIPATION = "rounds in which a worker rests"
    EPOCH_LENGTH = "the length of an epoch"
    LOSSES = "the loss of every step"
    STEP_TIMES = "the times of steps"


class Cost(NamedTuple):
    """What a worker sends in a round, headers not counted: the mean over all workers.

    values: numbers of the parameters' type.
    messages: also empty ones.
    nbytes: bytes in other formats, besides: the words of a codec, or float64 numbers.
    """

    values: float
    messages: float
    nbytes: float = 0.0

    def total(self, itemsize: int) -> float:
        """Return the bytes, where a value has that many."""
        return self.values * itemsize + self.nbytes


def cost_of_mean(n: int, d: float) -> Cost:
    """Return what a worker sends for a mean of d values over n workers: an all-reduce with the fewest bytes."""
    return Cost(2 * (n - 1) / n * d, 2 * (n - 1))


class Strategy(Value):
    """Base of every method. A subclass is a frozen dataclass with defaults; it performs nothing itself.

    `init(worker)` makes the state. `round(worker, state)` yields the requests of one round and returns; what
    outlives the round is in `state`, never in the generator or in `self`. `consensus` yields what brings the
    parameters to evaluate and to save into `out`. All other methods have defaults.

    synchronous: all workers meet in every round.
    attends: asynchronous, but workers wait for each other, so that those without data stay in all rounds.
    identity_at_one: with one worker it is the plain local optimizer, bit for bit.
    needs: what else a training loop must give: a set of `Need`.
    course_depends_on_values: what a round asks for depends on what it has computed or received, or on measured
        times: `predict` refuses it.
    wants_like_data: it comes to the minimum of the mean loss only where workers' data are drawn alike.
    made_for: the local optimizer that it is made for, where the usual ones do not suit it, as momentum does not
        suit a method that has its own: `compare` takes it.
    replicas_agree: when a round ends all replicas are the same.
    all_alike: after every step all replicas are the same, and the buffers of their local optimizers: one worker's
        state is that of all.
    consensus_is: 'collective' if all workers take part in `consensus`, 'one-sided' if one can do it alone.
    consensus_in: the part of a checkpoint whose mean over workers is the consensus, a buffer, or a State: its
        buffers in order, or, where each is as large as the parameters, their mean by `weigh_part`. With
        another number of workers all begin there, with the state that `init` makes. The mean of 'params' is
        weighted by `weigh`.
    keeps_temperature: any sampler's draws have their temperature under it.
    adds_noise: it adds a sampler's noise itself (`worker.variance_at`), and local steps have none.
    kept_on_resize: the parts of a checkpoint whose mean over workers all begin with as well, by name: buffers of
        the state, such as residuals, of which nothing must be lost.
    """

    synchronous: ClassVar[bool] = True
    attends: ClassVar[bool] = False
    identity_at_one: ClassVar[bool] = False
    needs: ClassVar[frozenset[Need]] = frozenset()
    course_depends_on_values: ClassVar[bool] = False
    wants_like_data: ClassVar[bool] = False
    made_for: ClassVar[Optimizer | None] = None
    replicas_agree: ClassVar[bool] = False
    all_alike: ClassVar[bool] = False
    consensus_is: ClassVar[Literal["collective", "one-sided"]] = "collective"
    consensus_in: ClassVar[str] = "params"
    adds_noise: ClassVar[bool] = False
    keeps_temperature: ClassVar[bool] = False
    kept_on_resize: ClassVar[tuple[str, ...]] = ()

    @property
    def shared_buffers(self) -> tuple[str, ...]:
        """Return which buffers workers of a host have in common: 'params', 'moments' (with their step counter)."""
        return ()

    @property
    def stages(self) -> tuple[tuple[Strategy, float | None], ...]:
        """Return (strategy, epochs) pairs in order, the last without an end: itself alone, except for `Stages`."""
        return ((self, None),)

    @classmethod
    def example(cls) -> Strategy:
        """Return an instance for contract tests; override where a class has no complete defaults."""
        return cls()

    def cost(self, n: int, d: int) -> Cost | None:
        """Return what a round of n workers and d parameters sends, or None where no formula says it.

        Of the first round, and of all that are like it. The banner prints it, and the contract tests compare it
        with what is metered. Averages of the local optimizer's buffers are not counted.
        """
        return None

    def largest_cost(self, n: int, d: int) -> Cost | None:
        """Return the most that any round sends, where rounds differ."""
        return self.cost(n, d)

    def init(self, worker: Worker) -> State:
        """Return the state that must survive a crash; `worker.params` are where the run begins."""
        return State()

    def warnings(self, size: int) -> list[str]:
        """Return what so many workers should know before they begin: a sentence each, with the numbers."""
        return []

    def check_sampler(self, sampler: Optimizer) -> None:
        """Refuse a sampler (`SGLD`) whose draws would not have their temperature here, as averages are too cold.

        A strategy says by `keeps_temperature` that all have it; one under which some have it overrides this.
        """
        if self.keeps_temperature:
            return
        raise ValueError(
            f"{self!r} does not keep the temperature of {sampler!r}: an average over workers divides their noise "
            "and not their drift; take OneShotAveraging (chains apart), DownpourMCMC, ElasticMCMC or AllReduceSGD"
        )

    @abstractmethod
    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        """Yield the requests of one round, as the paper's pseudo-code."""

    def data_ended(self, worker: Worker, state: State) -> Iterator[Request]:
        """Yield the requests of a worker whose data has ended, while others may go on.

        Workers that stay in all rounds are not asked. Others are asked again after every checkpoint, so `state`
        must know what was done.
        """
        return iter(())

    def weigh(self, worker: Worker) -> float:
        """Return what a replica weighs in an average of a round: the samples that its worker used in it."""
        return worker.samples

    def weigh_part(self, part: int, size: int) -> float:
        """Return what a part of the consensus weighs, where it is a State of several models; of `size` workers."""
        return 1.0

    def consensus(self, worker: Worker, state: State, out: Buffer) -> Iterator[Request]:
        """Yield what brings the mean of the replicas into `out`, the same on every worker.

        Inside a round it is weighted as the average that ends the round; between two the replicas may agree.
        """
        ops.copy(worker.params, out)
        agree = self.replicas_agree and not worker.inside
        yield AllReduce(out, op="mean", weight=1.0 if agree else self.weigh(worker))


def numbered(number: int) -> str:
    """Return the name of one of several like things in a state: names sort as numbers do."""
    return f"n{number:06}"


def mean_gradient(
    worker: Worker, bucket_bytes: int = 25 << 20, first_bytes: int | None = 1 << 20, *, untouched: bool = False
) -> Iterator[Request]:
    """Yield a step whose gradient becomes the mean over all samples; parts are sent while later ones are made.

    The tensors of whose gradients few rows are not zero come last, by `mean_of_rows`.

    untouched: the strategy writes nothing to the mean before the update, so that rows that are zero stay so, and
        need not be looked at.
    """
    sent = []
    for bucket in worker.buckets(bucket_bytes, first_bytes):
        yield Ready(bucket)
        for part in worker.dense_parts(bucket):
            request = AllReduce(part, op="mean", weight=worker.samples)
            yield Start(request)
            sent.append(request)
    yield from mean_of_rows(worker, worker.samples)
    for tensor in () if untouched else worker.row_tensors:
        tensor.filled = None
    for request in sent:
        yield Wait(request)


def cost_of_mean_gradient(n: int, d: int, bucket_bytes: int = 25 << 20, first_bytes: int = 1 << 20) -> Cost:
    """Return what a worker sends in `mean_gradient` of float32 values, in buckets that are full."""
    buckets = 1 + ceil(max(0, 4 * d - min(bucket_bytes, first_bytes)) / bucket_bytes)
    return Cost(cost_of_mean(n, d).values, buckets * cost_of_mean(n, d).messages)


def settle_moments(worker: Worker, policy: str, weight: float) -> Iterator[Request]:
    """Average the local optimizer's buffers ('average'), zero them ('reset') or leave them ('keep')."""
    for moment in () if policy == "keep" else worker.moments:
        if policy == "average":
            yield AllReduce(moment, op="mean", weight=weight)
        else:
            moment.fill(0)


def note_rate(worker: Worker, eta: State, rate: float) -> None:
    """Record the learning rate with which a round begins, and its ratio to that of the round before.

    The ratio is 1 after a rate of 0. Momentum in units of gradients that was divided by the one rate and is
    multiplied by the other grows by it.
    """
    if eta.round != worker.round:  # else it was resumed in its middle
        eta.ratio = rate / eta.rate if eta.rate else 1.0
        eta.rate, eta.round = rate, worker.round


def no_rate() -> State:
    """Return what `note_rate` keeps, before the first round."""
    return State(rate=0.0, ratio=1.0, round=0)


def outer_cautions(period: int, rate: float, momentum: float) -> list[str]:
    """Return a warning if an outer step moves much farther than the workers did in a short round."""
    if momentum >= 1:
        return [f"momentum {momentum:g} never dies away: it must be below 1"]
    gain = round(rate / (1 - momentum), 9)  # 0.2 / (1 - 0.9) is 2
    if period >= SHORT or gain <= GAIN:
        return []
    return [
        f"rate {rate:g} with momentum {momentum:g} moves {gain:.3g} times as far as the workers did, in the end: "
        f"too far in rounds of {period} local steps (below {SHORT}) if the local optimizer has momentum; rate "
        f"{1 - momentum:.3g} moves as far as they did"
    ]


def steps_taken(worker: Worker, state: State) -> Buffer:
    """Return by how much the worker has moved since it pulled, in `state.pulled`: valid until it pulls again."""
    ops.subtract(worker.params, state.pulled, state.pulled)
    steps: Buffer = state.pulled
    return steps


def pull(worker: Worker, state: State, shared: Shared, version: Buffer | None = None) -> Iterator[Request]:
    """Fetch a shared variable into the parameters, and keep a copy in `state.pulled` to measure steps from."""
    yield Fetch(shared, into=worker.params, version=version)
    ops.copy(worker.params, state.pulled)
