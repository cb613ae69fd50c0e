"""`run`: a sequential stochastic algorithm on several workers."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, fields
from os import PathLike
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from loosestep.foundation import buffers, checks
from loosestep.foundation.buffers import Buffer
from loosestep.runtime.result import Interrupted, Progress, Result
from loosestep.runtime.run import run as run_strategy
from loosestep.splash.part import Job, Local, Loss, Part, Process, Samples, batches, counted
from loosestep.splash.strategy import Splash
from loosestep.splash.variables import Array, Layout
from loosestep.transports.base import Transport
from loosestep.transports.launched import joined
from loosestep.transports.matching import stable_repr
from loosestep.transports.serial import Serial

Evaluate = Callable[[Mapping[str, Array]], "Mapping[str, float] | float"]


@dataclass(frozen=True)
class SplashResult(Result):
    """What `run` returns: a `loosestep.Result`, whose steps are rounds, and

    variables: the shared variables at the end, by name. `params` holds them all in one vector.
    local: the local variables of this process's workers, by the number of the sample, or by group; by (rank,
        number) or (rank, group) where samples were given by a function.
    degrees: how many workers' stretches each round has kept; `samples` counts those that were undone, too.
    """

    variables: Mapping[str, Array] = field(kw_only=True)
    local: Mapping[Hashable, Local] = field(kw_only=True)
    degrees: tuple[int, ...] = field(kw_only=True)


def run(
    process: Process,
    samples: Samples,
    shared: Mapping[str, ArrayLike],
    *,
    passes: int = 1,
    rounds: int = 1,
    degree: int | Literal["tune"] | None = None,
    loss: Loss | None = None,
    group: Callable[[Any], Hashable] | None = None,
    shuffle: bool = True,
    dtype: DTypeLike = np.float64,
    on: Transport | None = None,
    seed: int = 0,
    evaluate: Evaluate | None = None,
    every: int | None = None,
    stop: Callable[[Progress], bool] | None = None,
    callback: Callable[[Progress], object] | None = None,
    checkpoint: str | PathLike[str] | None = None,
    checkpoint_every: int | None = None,
    resume: bool = False,
) -> SplashResult:
    """Run a sequential algorithm on the workers of a transport, and return the result.

    The algorithm is a function of one sample, which reads shared variables and changes them by operations that
    can be merged. In a round each of m workers processes a stretch of its own samples, as if there were m copies
    of each, so that it goes as far as one worker does that meets the samples of all; then they meet:

        v <- mean_i(Gamma_i v + D_i) + sum_i T_i

    Gamma_i is the product of what worker i multiplied v by, D_i what it added, T_i what it added late. One worker
    is the sequential program, bit for bit; the same seed gives the same bits in threads, over MPI and in virtual
    time.

    process: (sample, weight, shared, local) -> None, or the sample's loss. `weight` is m: steps and counts are to
        be multiplied by it. `shared` is a `Variables`. `local` is a dict, empty at first, that belongs to the
        sample; nothing in it is averaged. Neither the sample nor anything else may be changed.
    samples: a sequence, the same in every process; sample i is worker i % n's. Or (rank, size) -> a sequence of
        that worker's own.
    shared: the shared variables at the start, by name: arrays or numbers.
    passes: over the samples. rounds: of a pass, in each of which the workers meet.
    degree: m, at most the number of workers; where it is less, workers take turns and the others rest. By default
        all. "tune": every now and then groups of 1, 4, 16, ... and the remaining workers each make a round of
        their own from the same values; what the group leads to whose loss is least, on samples drawn from those of
        all, is kept, and all else undone. The largest group stands for all workers. Between two such rounds is 1
        ordinary round, then 2, 4, ... while the choice stays. It needs `loss`; 2 workers are not divided.
        Comparing takes no virtual time.
    loss: (sample, shared, local) -> a number; `shared` can only be read, and `local` is empty where the sample has
        not been processed. Its mean over all samples is metric "loss" of every evaluation, which the workers make
        together.
    group: sample -> what it belongs to, such as its document or user: its samples are one worker's and have one
        `local`. Group k, by first appearance, is worker k % n's.
    shuffle: the order of a worker's samples is drawn anew for each pass; else they keep theirs.
    dtype: of the shared variables, float32 or float64.
    on: the transport, by default as for `loosestep.run`. In threads Python computes one sample at a time, so
        processes are what makes it faster.
    seed: of the order of samples, of `shared.random`, and of the groups of "tune".
    evaluate: {name: array} -> {name: number} (or one number), every `every` rounds and at the end, by rank 0; with
        `stop` and `callback` as for `loosestep.run`.
    checkpoint, checkpoint_every, resume: as for `loosestep.run`, in rounds; only where `process` uses neither
        `local` nor `delayed_add`. Resumed is the same run: workers, samples, passes, rounds, degree, seed.

    A round sends 2 (n-1)/n d values a worker, d the size of all shared variables, in 2 (n-1) messages; one of k
    groups k times that.

    Raises ValueError or TypeError for bad input; WorkerFailed, which names worker, round and sample, chained to
    what `process` or `loss` raised; Diverged where a variable, named, or a loss is not finite; and what transports
    and `loosestep.run` raise.

    >>> from loosestep import Threads, splash
    >>> def process(word, weight, shared, local):
    ...     shared.add("counts", weight, at="abc".index(word))
    >>> splash.run(process, "abracadabra".replace("r", "b").replace("d", "c"), {"counts": [0, 0, 0]},
    ...     on=Threads(3)).variables["counts"].tolist()
    [5.0, 4.0, 2.0]

    Reference: Y. Zhang, M. I. Jordan, Splash: User-friendly Programming Interface for Parallelizing Stochastic
    Algorithms, arXiv:1506.07552. As their release but where it stores multiply(0) as 1e-16 and reads Gamma from
    one thread; it chooses among degrees that only grow, from the last and the root of n on.
    """
    on = on or joined() or Serial()
    checks.instance("on", on, Transport)
    seed = checks.integer("seed", seed, 0)
    rounds = checks.integer("rounds", rounds)
    begun, layout = declared(shared, dtype)
    checks.one_of("shuffle", shuffle, (True, False))
    job = Job(process, samples, layout, loss, group, rounds, bool(shuffle), seed, saved=checkpoint is not None)
    check(job, degree, on)
    if evaluate is not None:
        checks.callable_("evaluate", evaluate, " of the variables")
    chosen = on.size if degree is None else degree
    strategy = Splash(facts(job, dtype), chosen, checks.integer("passes", passes), on.size, job)
    reading = Reading(strategy.parts, layout, evaluate)
    try:
        result = run_strategy(
            strategy,
            lambda values, part: part.process(values),
            begun,
            batches(strategy.parts, strategy.stretches),
            on=on,
            seed=seed,
            evaluate=reading.evaluated,
            every=every,
            stop=stop,
            callback=callback,
            checkpoint=checkpoint,
            checkpoint_every=checkpoint_every,
            resume=resume,
        )
    except Interrupted as interrupted:
        interrupted.result = reading.result(interrupted.result)
        raise
    return reading.result(result)


@dataclass(frozen=True)
class Reading:
    """Turns vectors of all variables into what the user sees."""

    parts: Mapping[int, Part]
    layout: Layout
    evaluate: Evaluate | None

    def evaluated(self, params: Buffer) -> dict[str, float]:
        """Return the metrics of an evaluation, on rank 0."""
        found = {} if self.evaluate is None else self.evaluate(self.layout.readable(params))
        named = found if isinstance(found, Mapping) else {"value": found}
        mean = self.parts[0].mean_loss
        if mean is not None and "loss" in named:
            raise ValueError("evaluate must not return 'loss', which is the mean of loss, as a name of its own")
        return {**({} if mean is None else {"loss": mean}), **named}

    def result(self, result: Result) -> SplashResult:
        """Return a run's result with the variables by name."""
        held = {each.name: getattr(result, each.name) for each in fields(Result)}
        local = {key: value for part in self.parts.values() for key, value in part.local.items()}
        degrees = tuple(next(iter(self.parts.values())).state.degrees)
        return SplashResult(**held, variables=self.layout.views(result.params), local=local, degrees=degrees)


def declared(shared: Mapping[str, ArrayLike], dtype: DTypeLike) -> tuple[Buffer, Layout]:
    """Return the variables in one vector, and where each is in it."""
    if not isinstance(shared, Mapping) or not shared:
        raise TypeError(f"shared must be a mapping of names to arrays or numbers, at least one, got {shared!r}")
    try:
        kind = np.dtype(dtype)
    except TypeError:
        raise TypeError(f"dtype must be float32 or float64, got {dtype!r}") from None
    if kind not in (np.float32, np.float64):
        raise TypeError(f"dtype must be float32 or float64, got {kind}")
    arrays = {name: array(name, value, kind) for name, value in shared.items()}
    return buffers.flat(list(arrays.values()))[0], Layout(arrays)


def array(name: object, value: ArrayLike, kind: np.dtype[Any]) -> Array:
    """Return a variable's values; refuse what is no array of finite real numbers."""
    if not isinstance(name, str):
        raise TypeError(f"shared must have names that are texts, got {name!r}")
    try:
        given = np.asarray(value)
    except ValueError as error:  # lists of several lengths
        raise ValueError(f"shared {name!r} must be an array or a number, got {value!r}") from error
    if given.dtype.kind not in "fiub":
        raise TypeError(f"shared {name!r} must be real numbers, got {given.dtype}")
    with np.errstate(over="ignore"):
        made = given.astype(kind)
    if not made.size or not np.isfinite(made).all():
        raise ValueError(f"shared {name!r} must be finite numbers, at least one, got {value!r} as {kind}")
    return made


def check(job: Job, degree: object, on: Transport) -> None:
    """Refuse functions that cannot be called, samples that are none, and a degree that cannot be."""
    checks.callable_("process", job.process, " of (sample, weight, shared, local)")
    if job.loss is not None:
        checks.callable_("loss", job.loss, " of (sample, shared, local)")
    if job.group is not None:
        checks.callable_("group", job.group, " of a sample")
    wanted = "samples must be a sequence, or a function of (rank, size)"
    if not callable(job.samples) and not counted(job.samples, wanted):
        raise ValueError("samples must hold at least one, got none")
    if degree == "tune":
        if job.loss is None:
            raise ValueError("degree='tune' needs loss, by which degrees are compared")
    elif isinstance(degree, str):
        raise ValueError(f"degree must be 'tune', None or an integer, got {degree!r}")
    elif degree is not None:
        checks.integer("degree", degree, 1, on.size)


def facts(job: Job, dtype: DTypeLike) -> tuple[tuple[str, object], ...]:
    """Return what must be the same in every process."""
    functions = {"process": job.process, "loss": job.loss, "group": job.group}
    count = None if callable(job.samples) else len(job.samples)
    return (
        *((name, stable_repr(function)) for name, function in functions.items()),
        ("samples", count),
        ("shared", str(job.layout.shapes)),
        ("dtype", str(np.dtype(dtype))),
        ("rounds", job.rounds),
        ("shuffle", job.shuffle),
        ("seed", job.seed),
    )
