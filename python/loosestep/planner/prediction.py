"""`predict`: how long a run would take, and what it would send, without its numbers."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from loosestep import _core
from loosestep.codecs.base import Codec
from loosestep.foundation import checks, units
from loosestep.optimizers.base import Optimizer
from loosestep.optimizers.sgd import SGD
from loosestep.planner.recorder import Groups, Recorder, Recording, Size
from loosestep.strategies.base import Need, Strategy
from loosestep.transports.simulated.session import CLOSED_FORM_ABOVE
from loosestep.transports.simulated.stragglers import durations
from loosestep.transports.simulated.transport import Simulated

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from loosestep.runtime.result import Result

LARGEST, ROOM = 1 << 16, 1 << 26
"""Values that are recorded of a larger model: at most LARGEST, and ROOM for all workers together."""
EACH = 4096
"""Workers whose requests are recorded one by one, at most."""


@dataclass(frozen=True)
class Prediction:
    """What a run takes by the simulator's clock.

    seconds: until the last worker has made its steps and rounds, and all that was sent is there. waiting_share: of
    the workers' time. bytes_sent, messages: mean over workers. bytes_fetched: what a center sends to a worker,
    likewise. finished: seconds of each worker.
    settled: seconds until what was started is over, too, for which a run in real time waits at its end.
    """

    strategy: Strategy
    steps: int
    seconds: float
    waiting_share: float
    bytes_sent: float
    bytes_fetched: float
    messages: float
    finished: np.ndarray[Any, np.dtype[np.float64]]
    settled: float

    @property
    def step_seconds(self) -> float:
        """Seconds of a local step, waiting included."""
        return self.seconds / self.steps

    def against(self, result: Result) -> str:
        """Return in a sentence how far a run was from this.

        >>> import loosestep as ls, numpy as np
        >>> cluster = ls.Simulated(2, step_time=0.01)
        >>> batches = lambda rank, size: iter([1.0] * 100)
        >>> result = ls.run(ls.LocalSGD(4), lambda x, b: x - b, np.zeros(4), batches, on=cluster)
        >>> ls.predict(ls.LocalSGD(4), 4, cluster, steps=100, dtype=np.float64).against(result)
        'took 1 s; predicted was 1 s: 0.0% off'
        """
        predicted = self.seconds if result.virtual else self.settled
        if not predicted:
            return f"took {units.seconds(result.seconds)} s; predicted was no time at all"
        off = result.seconds / predicted - 1
        return (
            f"took {units.seconds(result.seconds)} s; predicted was {units.seconds(predicted)} s: "
            f"{100 * off:{'+' if abs(off) >= 5e-4 else ''}.1f}% off"
        )

    def __str__(self) -> str:
        return (
            f"{self.strategy!r}: {units.seconds(self.step_seconds)} s a step, {units.share(self.waiting_share)} "
            f"of it waiting, {units.size(self.bytes_sent / self.steps)} a step and worker"
        )


def predict(
    strategy: Strategy,
    parameters: int,
    on: Simulated,
    *,
    steps: int,
    optimizer: Optimizer | None = None,
    dtype: DTypeLike = np.float32,
    samples: int = 1,
    seed: int = 0,
) -> Prediction:
    """Return how long a run would take on a simulated cluster, and what it would send, without its numbers.

    What workers ask for is recorded from the strategy's own code, on a model of at most 65,536 values that stand
    for all parameters, and replayed by the core on the virtual clock of `Simulated`, at the same prices. The
    seconds are those of `run` on the same cluster; an allreduce of up to 64 workers is priced as if nothing else
    shared its links, where `on.prices` are free. Where fewer values are recorded than there are, the bytes of
    codecs are rounded to words. Gradients count as dense, also those of which `run(sparse=)` sends rows.

    parameters: how many, of `dtype`. on: the simulated cluster. steps: local steps of each worker.
    optimizer: whose buffers strategies may send; SGD(0.1) by default. samples: in a worker's batch of a step.
    seed: of the durations of steps, where `on` has none of its own.

    Raises ValueError where what a strategy asks for depends on values or on measured times (AdaptiveLocalSGD, DBS,
    DecoupledDiLoCo), for a strategy of several stages, and where each of more than 4,096 workers would have to be
    recorded, since what they ask for depends on their rank.

    >>> import loosestep as ls
    >>> cluster = ls.Simulated(4, step_time=0.01, latency=0.005, bandwidth=1.25e7)
    >>> each, seldom = (ls.predict(s, 10**6, cluster, steps=32) for s in (ls.AllReduceSGD(), ls.LocalSGD(16)))
    >>> each.seconds > 10 * seldom.seconds
    True
    """
    check(strategy, on)
    parameters = checks.integer("parameters", parameters)
    amount = amount_of(parameters, on.size)
    return replay(strategy, amount, on, steps, optimizer=optimizer, dtype=dtype, samples=samples, seed=seed)


def amount_of(parameters: int, n: int, most: int = LARGEST) -> Size:
    """Return how many values are recorded of a model, for so many workers: at most `most`."""
    return Size(parameters, min(parameters, most, max(256, ROOM // n)))


def replay(
    strategy: Strategy,
    amount: Size,
    on: Simulated,
    steps: int,
    *,
    optimizer: Optimizer | None = None,
    dtype: DTypeLike = np.float32,
    samples: int = 1,
    seed: int = 0,
) -> Prediction:
    """Return what `predict` does of what it has checked, from a recording of so many values."""
    if optimizer is not None:
        checks.instance("optimizer", optimizer, Optimizer)
    n = on.size
    steps, samples = checks.integer("steps", steps), checks.integer("samples", samples)
    network = on.network()
    groups = Groups(n)
    links = network.links(on.groups())
    silent = without_numbers(strategy)

    def record(rank: int) -> Recording:
        recorder = Recorder(rank, n, amount, dtype, groups, links, samples)
        recorder.worker.seed = seed
        closed = not on.groups() and (on.prices.free or n > CLOSED_FORM_ABOVE)
        return recorder.play(silent, optimizer or SGD(), steps, on, closed=closed)

    first = record(0)
    if first.looked and n > EACH:
        raise ValueError(
            f"what a worker of {strategy!r} asks for depends on its rank, so each must be recorded: of at most "
            f"{EACH:,} workers, got {on!r}"
        )
    each = [first, *(record(rank) for rank in range(1, n))] if first.looked else [first]
    last = max(recording.steps for recording in each)
    step_time = on.step_time + on.sample_time * samples
    seconds = durations(on.stragglers, n, last, step_time, seed if on.seed is None else on.seed)
    program_of = list(range(n)) if first.looked else [0] * n
    programs = [recording.program() for recording in each]
    sharded = on.center == "shards"
    replayed = _core.replay(network, programs, program_of, groups.members, seconds, sharded=sharded)
    finished, waiting, _, settled = replayed
    whole = max(float(finished.max()), network.center_in)  # what was pushed last arrives later
    return Prediction(
        strategy=strategy,
        steps=last,
        seconds=whole,
        waiting_share=float(waiting.sum()) / (n * whole) if whole else 0.0,
        bytes_sent=float(np.mean([recording.nbytes for recording in each])),
        bytes_fetched=float(np.mean([recording.fetched for recording in each])),
        messages=float(np.mean([recording.messages for recording in each])),
        finished=finished,
        settled=max(whole, settled),
    )


def check(strategy: Strategy, on: Simulated) -> None:
    """Refuse what cannot be predicted."""
    checks.instance("strategy", strategy, Strategy)
    checks.instance("on", on, Simulated)
    if strategy.course_depends_on_values or Need.STEP_TIMES in strategy.needs:
        raise ValueError(f"what {strategy!r} does depends on values or on measured times: run it on {on!r}")
    if strategy.shared_buffers and (on.hosts is None or len(on.hosts) > 1) and on.size > 1:
        raise ValueError(f"{strategy!r} needs workers that share memory, and those of {on!r} are on several hosts")
    if len(strategy.stages) > 1:
        raise ValueError(f"{strategy!r} has several stages: predict each of them")


def without_numbers(strategy: Strategy) -> Strategy:
    """Return the strategy with a codec that encodes nothing: what is sent does not depend on what values are."""
    codec = getattr(strategy, "codec", None)
    if not isinstance(codec, Codec) or "codec" not in {each.name for each in fields(strategy)}:  # type: ignore[arg-type]
        return strategy
    kind = type(codec)
    silent = copy(codec)
    methods = {
        "encode": lambda self, x, wire, seed=(): wire.fill(0),
        "decode": lambda self, wire, out: out.fill(0),
    }
    object.__setattr__(silent, "__class__", type(kind.__name__, (kind,), methods))
    return replace(strategy, codec=silent)  # type: ignore[type-var]
