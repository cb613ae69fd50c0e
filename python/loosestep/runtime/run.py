"""`run`: trains with a strategy, a model and a transport."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from os import PathLike
from signal import SIGTERM
from typing import TYPE_CHECKING, Any
from zlib import crc32

from loosestep.foundation import buffers, checks
from loosestep.lowering.lowering import Lowering
from loosestep.optimizers.base import Optimizer, Shapes
from loosestep.optimizers.schedules import SCALINGS, Scaling, at, factor
from loosestep.optimizers.sgd import SGD
from loosestep.requests.worker import Worker
from loosestep.runtime import arguments
from loosestep.runtime.checkpoint.folder import KEEP
from loosestep.runtime.checkpoint.manager import CheckpointManager
from loosestep.runtime.checkpoint.state import understood
from loosestep.runtime.numpy_model import Batches, Feed, GradientFunction, NumpyModel
from loosestep.runtime.plan import Plan
from loosestep.runtime.program import Program
from loosestep.runtime.result import (
    Interrupted,
    Progress,
    Result,
    Totals,
    WorkerResult,
    consensus_distance,
    mean_loss,
    named_metrics,
)
from loosestep.runtime.sampling.noise import check_sampler, give_noise
from loosestep.runtime.sampling.samples import Samples
from loosestep.runtime.shared_buffers import Common
from loosestep.runtime.signals import interruptible
from loosestep.strategies.base import Strategy
from loosestep.transports.base import Task, Transport
from loosestep.transports.launched import joined
from loosestep.transports.matching import check_facts, stable_repr
from loosestep.transports.metered import Metered
from loosestep.transports.serial import Serial

if TYPE_CHECKING:
    from loosestep.requests import Buffer, Request

Evaluate = Callable[[Any], "Mapping[str, float] | float"]


def run(
    strategy: Strategy,
    gradient: GradientFunction,
    x0: Buffer,
    batches: Batches,
    *,
    optimizer: Optimizer | None = None,
    steps: int | None = None,
    on: Transport | None = None,
    seed: int = 0,
    evaluate: Evaluate | None = None,
    every: int | None = None,
    stop: Callable[[Progress], bool] | None = None,
    callback: Callable[[Progress], object] | None = None,
    checkpoint: str | PathLike[str] | None = None,
    checkpoint_every: int | None = None,
    resume: bool = False,
    keep: int = KEEP,
    scale_rate: Scaling = "none",
    shapes: Sequence[tuple[int, ...]] = (),
    sparse: Sequence[int] = (),
    steps_per_epoch: int | None = None,
    samples: Samples | None = None,
) -> Result:
    """Train the parameters `x0` with a strategy, and return the result.

    gradient: (x, batch) -> gradient, or (loss, gradient); called by several threads at once under `Threads`. Where
        it has `for_worker(worker)`, that returns each worker's own, which may know its seed, rank and clock.
    x0: float32 or float64 array with the initial parameters of every worker; it is not changed.
    batches: (rank, size) -> iterator of this worker's batches. A worker whose batches end stays until all
        have ended. A batch holds len(batch) samples (of a tuple, or a list of arrays: of its first part), which
        weight averages.
    optimizer: the local optimizer, SGD(0.1) by default.
    steps: local gradient steps of each worker (None: until the batches end).
    on: the transport; by default what joins the processes that a launcher started (MPI() under mpiexec, ZMQ()
        under torchrun and srun), Serial() where it started one. A process that was started as one of several and
        cannot join them is refused; on=Serial() lets it train alone.
    seed: for whatever is random in the run: simulated durations and delays, a strategy's noise. The order of data
        is up to `batches`.
    evaluate: consensus parameters -> {name: number} (or one number), called every `every` steps and at the
        end, by rank 0; `callback` and `stop` then get the Progress. If `stop` returns True the run ends.
    checkpoint: a folder, written every `checkpoint_every` steps and at the end; with `resume` the run goes on
        from the checkpoint in it, if there is one. A resumed run gets the same batches if `batches` returns
        the same again. With another number of workers all begin at the consensus, and a line on standard error
        says so. A folder that cannot be written, or that another job writes to, is refused at the start.
    keep: how many checkpoints are kept. If the newest is damaged, a resumed run says so and takes the one before.
    scale_rate: the optimizer's rate is for the batch of one worker; 'linear' multiplies it by the number of
        workers, 'sqrt' by its root, 'none' leaves it.
    shapes: of the tensors in x0, one after the other; LARS and LAMB scale each by itself, buckets begin with one.
    sparse: which of these, by number, have gradients of few rows, as embeddings do. Where gradients are averaged
        they are sent as rows while that is shorter: same bits, fewer bytes. `gradient` may return a list of arrays
        and, for these, `Rows`, one for each of `shapes`.
    steps_per_epoch: local steps of an epoch, for strategies that count epochs.
    samples: where the draws of a sampler (SGLD, PSGLD, SGHMC) are kept; of any optimizer, its iterates.

    Raises ValueError or TypeError for bad input; WorkerFailed (chained to its cause) if a worker raises;
    Diverged if a loss is not finite, or if parameters or optimizer buffers are not where workers synchronize
    to evaluate, to save or to end (no such checkpoint is written); TimedOut, Mismatch, Deadlock,
    CheckpointError; Interrupted in every process after Ctrl-C, and after SIGTERM if the program has no handler
    of its own (the step is finished and saved; a second signal ends the run at once). A program that does not
    catch Interrupted ends with exit code 130 and a line, or after SIGTERM with 143.

    >>> import loosestep as ls, numpy as np
    >>> rows = np.eye(4)
    >>> mean = lambda rank, size: iter([rows[rank::size]] * 200)
    >>> result = ls.run(ls.LocalSGD(4), lambda x, b: x - b.mean(axis=0), np.zeros(4), mean, on=ls.Threads(2))
    >>> [round(float(v), 3) for v in result.params]
    [0.25, 0.25, 0.25, 0.25]
    """
    arguments.check_kinds(strategy, optimizer, on, samples)
    arguments.check_functions(gradient, batches, {"evaluate": evaluate, "stop": stop, "callback": callback})
    lengths = arguments.Lengths(steps, every, checkpoint_every, steps_per_epoch).checked()
    seed = checks.integer("seed", seed, 0)
    checks.one_of("scale_rate", scale_rate, tuple(SCALINGS))
    if checkpoint is None and (checkpoint_every is not None or resume):
        raise ValueError("checkpoint_every and resume need checkpoint, the folder to write to")
    on = on or joined() or Serial()
    made = Run(strategy, arguments.check_start(x0), optimizer or SGD(), on, seed, checkpoint, resume)
    check_sampler(strategy, made.optimizer, on.size)
    made.evaluate, made.callback, made.stop, made.samples = evaluate, callback, stop, samples
    made.scale_rate, made.keep = scale_rate, checks.integer("keep", keep)
    made.shapes, made.sparse = arguments.check_shapes(shapes, x0), arguments.check_sparse(sparse, shapes)
    return made.carry_out(gradient, batches, lengths)


@dataclass
class Run:
    """One run in progress."""

    strategy: Strategy
    x0: Buffer
    optimizer: Optimizer
    on: Transport
    seed: int
    checkpoint: str | PathLike[str] | None
    resume: bool
    evaluate: Evaluate | None = None
    callback: Callable[[Progress], object] | None = None
    stop: Callable[[Progress], bool] | None = None
    scale_rate: Scaling = "none"
    shapes: Shapes = ()
    sparse: tuple[int, ...] = ()
    keep: int = KEEP
    samples: Samples | None = None
    interrupted: int = 0  # by that signal
    checkpoints: CheckpointManager | None = None
    history: list[Progress] = field(default_factory=list)
    reported: tuple[float, int] = (0.0, 0)  # losses that an earlier Progress has reported, over samples

    def carry_out(self, gradient: GradientFunction, batches: Batches, lengths: arguments.Lengths) -> Result:
        """Perform the whole run; leave the session, whatever ends it."""
        metered = self.on if isinstance(self.on, Metered) else Metered(self.on)
        self.session = metered.open(self.seed)
        self.meters, self.size = self.session.meters, metered.size
        try:
            self.build(gradient, batches, lengths)
            with interruptible(self.interrupt):
                self.session.run([self.task(program) for program in self.plan.programs])
            self.interrupted = max(self.signals())  # a signal to one process interrupts the run of all
            result = self.result()
        except BaseException as error:
            self.session.leave(error)
            raise
        finally:
            if self.checkpoints is not None:
                self.checkpoints.close()
        self.session.leave(None)
        if self.interrupted:
            raise self.report_signal(Interrupted.by(self.interrupted, result))
        return result

    def interrupt(self, number: int) -> None:
        """Stop all workers at one step, since a signal asked for it."""
        self.interrupted = number
        self.plan.halt()

    def report_signal(self, error: Interrupted) -> Interrupted:
        """Print a line on rank 0, since a program that a signal ends shows no traceback; return the error."""
        if 0 in self.session.ranks:
            saved = "" if self.checkpoint is None else f"; saved to {self.checkpoint}"
            by = "SIGTERM" if error.signal == SIGTERM else "Ctrl-C"
            print(f"loosestep: {error} by {by}{saved}", file=sys.stderr, flush=True)
        return error

    def build(self, gradient: GradientFunction, batches: Batches, lengths: arguments.Lengths) -> None:
        """Make everything that the run needs, and restore a checkpoint if it is resumed."""
        if self.samples is not None and 0 in self.session.ranks:
            self.samples.begin(self.resume)
        self.agree(lengths)
        if self.checkpoint is not None:
            self.checkpoints = CheckpointManager(
                self.checkpoint,
                self.signature(),
                self.session,
                self.meters,
                resume=self.resume,
                keep=self.keep,
            )
        self.plan: Plan[Program] = Plan(
            self.strategy,
            **lengths._asdict(),
            evaluate=self.report,
            save=self.save,
            commit=self.commit,
            pause=self.pause,
        )
        self.plan.begin_halt = self.session.stop_protocol(self.plan.prepare, self.plan.decide)
        self.plan.await_halt = self.session.await_stop
        self.totals = self.session.all_gather_object("totals", self.local_totals)
        self.histories = self.session.all_gather_object("history", lambda: [asdict(seen) for seen in self.history])
        self.signals = self.session.all_gather_object("signal", lambda: self.interrupted)
        if self.strategy.shared_buffers and not self.session.hosted:
            raise ValueError(
                f"{self.strategy!r} needs workers that share memory, which those of {self.on!r} do not"
            )
        common = Common.of(self.strategy, self.session, self.optimizer, self.x0)
        for rank in self.session.ranks:
            self.plan.programs.append(self.program(rank, gradient, batches, common))
        if self.checkpoints is not None:
            self.restore(self.checkpoints)
        self.refuse_no_data()

    def agree(self, lengths: arguments.Lengths) -> None:
        """Raise Mismatch unless all processes were asked for the same run."""
        facts = {**self.signature(), "seed": self.seed, "resume": self.resume, **lengths._asdict()}
        facts |= {
            "keep": self.keep,
            "checkpoint": self.checkpoint is not None,
            "x0 (checksum)": crc32(self.x0.tobytes()),
            "shapes": str(self.shapes),
            "sparse": str(self.sparse),
        }
        check_facts(self.session.all_gather_object("run", lambda: facts)())

    def refuse_no_data(self) -> None:
        ended = all(program.model.feed.ended() for program in self.plan.programs)
        if all(self.session.all_gather_object("no data", lambda: ended)()) and not self.resume:
            raise ValueError("the data is empty: no worker got a single batch")

    def program(self, rank: int, gradient: GradientFunction, batches: Batches, common: Common) -> Program:
        """Make one worker with its model and state."""
        params = self.copy_of_start() if common.params is None else common.params
        moments = self.optimizer.init(params) if common.moments is None else common.moments
        worker = Worker(rank, self.size, params, self.share_for(rank), moments, common.updates)
        worker.shape(self.shapes)
        worker.expect_rows(self.sparse)
        worker.seed, worker.links, worker.hosts = self.seed, self.session.links, self.session.hosts
        worker.memo = self.session.memo
        adds = None if common.params is None else getattr(self.strategy, "adds", "exact")
        feed = Feed(batches, rank, self.size)
        optimizer = self.optimizer.scaled(factor(self.scale_rate, self.size))
        worker.rate_at = lambda step: at(optimizer.rate, step)
        give_noise(worker, self.strategy, optimizer)
        model = NumpyModel(worker, gradient, feed, optimizer, self.x0.shape, adds)
        model.samples_kept = self.samples
        return Program(self.plan, worker, model)

    def copy_of_start(self) -> Buffer:
        """Return a worker's parameters at the start, where its communications reach them best."""
        placed = self.session.place(self.x0)
        return buffers.copy_of(self.x0) if placed is self.x0 else placed

    def share_for(self, rank: int) -> Callable[[str, Buffer], Any]:
        return lambda name, like: self.session.share(rank, name, like)

    def task(self, program: Program) -> Task:
        worker, model = program.worker, program.model
        session, native = self.session, self.session.native | model.native
        lowering = Lowering(native, worker, session.unpriced, grouped=session.grouped, hosts=session.hosts)
        requests = session.wrap(worker, lowering.lower(program.script()))
        return Task(worker, requests, lambda request: model.handlers[type(request)](request))

    # --- synchronization points ----------------------------------------------------------------------------------

    def pause(self, rank: int, still: bool) -> None:
        (self.session.pause if still else self.session.proceed)(rank)

    def save(self, program: Program, step: int) -> Generator[Request, None, bool]:
        """Write one worker's part of a checkpoint, where there is a folder; return whether that failed."""
        if self.checkpoints is None:
            return False
        failed = yield from self.checkpoints.save(program, step)
        return failed

    def commit(self, program: Program, step: int, failed: bool) -> Iterator[Request]:
        """Make the checkpoint count; where a part failed, raise on all workers."""
        if self.checkpoints is not None:
            first = program is self.plan.programs[0]
            yield from self.checkpoints.commit(program, step, failed, first, lambda: self.facts(step))

    def facts(self, step: int) -> dict[str, Any]:
        """Return what a checkpoint keeps of the whole run."""
        coming = None if self.interrupted or self.plan.halts(step) else self.plan.halt_at
        return {"told": self.reported, "history": [asdict(seen) for seen in self.history], "halt_at": coming}

    def signature(self) -> dict[str, Any]:
        return {
            "strategy": stable_repr(self.strategy),
            "optimizer": stable_repr(self.optimizer)
            + ("" if self.scale_rate == "none" else f" with scale_rate {self.scale_rate}"),
            "workers": self.size,
            "parameters": f"{self.x0.size} {self.x0.dtype}",
        }

    def restore(self, checkpoints: CheckpointManager) -> None:
        """Go to the last whole checkpoint, if there is one."""
        facts = checkpoints.restore(self.plan.programs, self.strategy)
        if facts is None:
            return
        with understood(str(checkpoints.folder.path)):
            self.history = [Progress(**seen) for seen in facts["history"]]
            self.plan.halt_at = facts["halt_at"]  # `stop` had said so, and the others were ahead
            self.plan.halting = self.plan.halt_at is not None
            self.reported = (facts["told"][0], facts["told"][1])

    # --- reports -----------------------------------------------------------------------------------------

    def report(self, program: Program, step: int) -> bool:
        """Evaluate the consensus that rank 0 holds, once at a step; whether the run should stop."""
        if self.history and self.history[-1].step == step:
            return False
        self.history.append(self.progress(program, step))
        if self.samples is not None:
            self.samples.record_consensus(step, program.out)
        if self.callback is not None:
            self.callback(self.history[-1])
        return self.stop is not None and self.stop(self.history[-1])

    def progress(self, program: Program, step: int) -> Progress:
        totals = Totals.of(self.totals())
        fresh = (totals.loss - self.reported[0], totals.counted - self.reported[1])
        self.reported = totals.loss, totals.counted
        return Progress(
            step=step,
            seconds=totals.seconds,
            virtual=self.on.virtual,
            samples=totals.samples,
            loss=mean_loss([fresh]) if fresh[1] or not self.history else self.history[-1].loss,
            bytes_sent=totals.bytes_sent // self.size,
            waiting_share=totals.waiting_share(self.size),
            metrics={}
            if self.evaluate is None
            else named_metrics(self.evaluate(program.out.reshape(self.x0.shape))),
        )

    def local_totals(self) -> dict[str, Any]:
        """Return the counts of the workers in this process."""
        models, meters = [p.model for p in self.plan.programs], [self.meters[rank] for rank in self.session.ranks]
        return Totals(
            loss=sum(model.losses[0] for model in models),
            counted=sum(model.losses[1] for model in models),
            samples=sum(model.samples for model in models),
            steps=max(model.steps for model in models),
            bytes_sent=sum(meter.bytes for meter in meters),
            messages=sum(meter.messages for meter in meters),
            waiting=sum(meter.waiting for meter in meters),
            seconds=max(map(self.session.now, self.session.ranks)),
        )._asdict()

    def result(self) -> Result:
        totals = Totals.of(self.totals())
        history = tuple(Progress(**seen) for seen in self.histories()[0])
        last, programs = history[-1], self.plan.programs
        return Result(
            params=programs[0].out.reshape(self.x0.shape),
            loss=last.loss,
            seconds=last.seconds,
            virtual=last.virtual,
            steps=totals.steps,
            samples=last.samples,
            bytes_sent=last.bytes_sent,
            messages=totals.messages // self.size,
            waiting_share=last.waiting_share,
            consensus_distance=self.distance(),
            metrics=last.metrics,
            history=history,
            workers=tuple(
                WorkerResult.of(program, self.meters[program.worker.rank], self.x0.shape) for program in programs
            ),
        )

    def distance(self) -> float:
        programs = self.plan.programs
        if self.plan.apart:
            return float(programs[0].distance[0])
        return consensus_distance([program.worker.params for program in programs])
