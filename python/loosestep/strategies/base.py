"""What a parallel-SGD method is: a frozen description, explicit state, one round as a generator of requests."""

from __future__ import annotations

from abc import abstractmethod
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from loosestep import ops
from loosestep.foundation.value import Value
from loosestep.requests import AllReduce, Fetch, Ready, Start, Wait

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from loosestep.requests import Buffer, Request, Shared
    from loosestep.requests.worker import Worker


SHORT, GAIN = 25, 2.0
"""In rounds of at least so many local steps outer momentum does no harm; in shorter ones up to this gain."""


class State(SimpleNamespace):
    """All that must survive a crash: arrays, numbers, shared variables, nested States. Saved by name.

    Also a communication that one round starts and a later one waits for (None where there is none); the buffer
    that it fills belongs to the state as well.
    """


def pieces(state: State, path: str = "state") -> Iterator[tuple[str, State, str, Any]]:
    """Every leaf of a state: (full name, the State that holds it, its key, its value)."""
    for key, value in sorted(vars(state).items()):
        if isinstance(value, State):
            yield from pieces(value, f"{path}.{key}")
        else:
            yield f"{path}.{key}", state, key, value


class Strategy(Value):
    """Base of every method. A subclass is a frozen dataclass with defaults; it performs nothing itself.

    `init(worker)` makes the state. `round(worker, state)` yields the requests of one round and returns; what
    outlives the round is in `state`, never in the generator or in `self`. `consensus` yields what brings the
    parameters to evaluate and to save into `out`. With another number of workers than wrote a checkpoint all begin
    at `consensus_in` (a buffer, or a State: its buffers in order), with the state that `init` makes there.
    """

    synchronous: ClassVar[bool] = True  # all workers meet in every round
    attends: ClassVar[bool] = False  # asynchronous, but workers wait for each other: those without data stay
    identity_at_one: ClassVar[bool] = False  # with one worker: the plain local optimizer, bit for bit
    needs: ClassVar[frozenset[str]] = frozenset()  # 'own_update', 'own_batches', 'own_rest', 'epochs', 'times'
    replicas_agree: ClassVar[bool] = False  # when a round ends all replicas are the same
    consensus_is: ClassVar[Literal["collective", "one-sided"]] = "collective"
    consensus_in: ClassVar[str] = "params"  # the mean over workers of this part of a checkpoint is the consensus;
    # that of the parameters is weighted by `weigh`

    @property
    def shares(self) -> tuple[str, ...]:
        """Which buffers all workers of a host hold in common: 'params', 'moments' (with their step counter)."""
        return ()

    @property
    def stages(self) -> tuple[tuple[Strategy, float | None], ...]:
        """(strategy, epochs) one after the other, the last without an end: itself alone, but for a schedule."""
        return ((self, None),)

    @classmethod
    def example(cls) -> Strategy:
        """An instance for contract tests; override where a class has no complete defaults."""
        return cls()

    def init(self, worker: Worker) -> State:
        """The state that must survive a crash."""
        return State()

    def warnings(self, size: int) -> list[str]:
        """What so many workers should know before they begin: a sentence each, with the numbers."""
        return []

    @abstractmethod
    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        """The requests of one round, as the paper's pseudo-code."""

    def data_ended(self, worker: Worker, state: State) -> Iterator[Request]:
        """The requests of a worker whose data has ended, and which begins no further round while others may go on.

        Workers that stay in all rounds are not asked. Others are asked again after every checkpoint, so `state`
        must know what was done.
        """
        return iter(())

    def weigh(self, worker: Worker) -> float:
        """What a replica weighs in an average of a round: the samples that its worker used in it."""
        return worker.samples

    def consensus(self, worker: Worker, state: State, out: Buffer) -> Iterator[Request]:
        """The mean of the replicas, the same on every worker.

        Inside a round it is weighted as the average that ends the round; between two the replicas may agree.
        """
        ops.copy(worker.params, out)
        agree = self.replicas_agree and not worker.inside
        yield AllReduce(out, op="mean", weight=1.0 if agree else self.weigh(worker))


def mean_gradient(
    worker: Worker, bucket_bytes: int = 25 << 20, first_bytes: int | None = 1 << 20
) -> Iterator[Request]:
    """A step whose gradient becomes the mean over all samples; parts are sent while later ones are computed."""
    sent = []
    for bucket in worker.buckets(bucket_bytes, first_bytes):
        yield Ready(bucket)
        request = AllReduce(bucket.grad, op="mean", weight=worker.samples)
        yield Start(request)
        sent.append(request)
    for request in sent:
        yield Wait(request)


def settle_moments(worker: Worker, policy: str, weight: float) -> Iterator[Request]:
    """What an average does to the local optimizer's buffers: 'average' them, 'reset' them to 0, or 'keep' them."""
    for moment in () if policy == "keep" else worker.moments:
        if policy == "average":
            yield AllReduce(moment, op="mean", weight=weight)
        else:
            moment.fill(0)


def note_rate(worker: Worker, eta: State, rate: float) -> None:
    """Keep a learning rate when a round begins, and its ratio to that of the round before (1 after a rate of 0).

    What was divided by the one and is multiplied by the other grows by this ratio: momentum in units of gradients.
    """
    if eta.round != worker.round:  # else it was resumed in its middle
        eta.ratio = rate / eta.rate if eta.rate else 1.0
        eta.rate, eta.round = rate, worker.round


def no_rate() -> State:
    """Return what `note_rate` keeps, before the first round."""
    return State(rate=0.0, ratio=1.0, round=0)


def outer_cautions(period: int, rate: float, momentum: float) -> list[str]:
    """The warning of an outer step that moves much farther than the workers did in a short round."""
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
    """What the worker has moved by since it pulled; there until it pulls again."""
    ops.subtract(worker.params, state.pulled, state.pulled)
    steps: Buffer = state.pulled
    return steps


def pull(worker: Worker, state: State, shared: Shared, version: Buffer | None = None) -> Iterator[Request]:
    """Go on from a shared variable; what it is now is kept, for the steps that follow."""
    yield Fetch(shared, into=worker.params, version=version)
    ops.copy(worker.params, state.pulled)
