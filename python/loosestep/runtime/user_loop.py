"""A run whose loop belongs to the user: one worker's requests, performed from the user's calls.

`drive` performs requests until there are none. Here the user's code runs between two of them: what needs a
gradient stays pending until a backward pass has made it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from loosestep import ops
from loosestep.foundation import buffers, checks
from loosestep.foundation.buffers import here, is_on_device
from loosestep.foundation.errors import Diverged, Mismatch
from loosestep.lowering.lowering import Lowering
from loosestep.lowering.requests import RollCall
from loosestep.lowering.staging import Staging
from loosestep.requests import AllReduce, Communication, Gradient, Ready, Start, Update
from loosestep.requests.worker import LEFT, Worker
from loosestep.runtime.plan import Plan
from loosestep.runtime.program import CONSENSUS, PARAMETERS, Program, StepModel
from loosestep.strategies.base import Need, Strategy
from loosestep.transports.base import Transport, failure
from loosestep.transports.matching import check_facts
from loosestep.transports.metered import Metered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from loosestep.requests import Buffer, Request, Shared

EARLY = frozenset({RollCall, Start, Ready})
"""What may be performed while backward runs: it never blocks a worker with data, once the model can serve it."""

NEXT_STEP = frozenset({Ready, Gradient, RollCall, type(None)})
"""What is pending between two steps: the next backward pass, or the end of the data, decides how it goes on."""

WANTS_GRADIENT = frozenset({Ready, Gradient, type(None)})

SUPPORTED_NEEDS = frozenset({Need.GLOBAL_BATCHES, Need.PARTIAL_PARTICIPATION, Need.EPOCH_LENGTH, Need.STEP_TIMES})
"""What a strategy may need and gets here as well: see `Parallel.shard`, `Parallel.ready`, `steps_per_epoch`."""

RUN_IS_OVER = "the run has ended: step() belongs inside the `with optimizer:` that began it"


class LoopModel(StepModel, Protocol):
    """What computes in a loop of the user's."""

    updates: int  # steps that the optimizer has made


class UserFeed:
    """The data of a loop that the user reads: known is only whether the user has left the loop."""

    def __init__(self) -> None:
        self.taken, self.closed = 0, False

    def ended(self) -> bool:
        """Return whether no further step will come."""
        return self.closed

    def skip(self, taken: int) -> None:
        """Do nothing but count: the user's loader stands where the user puts it."""
        self.taken = taken


def check_strategy(strategy: Strategy) -> None:
    """Raise TypeError for a strategy that needs more than a loop of the user's can give."""
    checks.instance("strategy", strategy, Strategy)
    for need in sorted(strategy.needs - SUPPORTED_NEEDS, key=lambda need: need.name):
        raise TypeError(f"{strategy} needs {need.value}, which a loop of your own cannot give: use loosestep.run")


class Connection:
    """One worker of a transport: it can communicate before its run begins, and between its steps.

    Its `worker.params` are a copy of `params` in main memory, and `params` themselves on a device.
    """

    def __init__(self, on: Transport, params: Buffer, seed: int = 0) -> None:
        metered = on if isinstance(on, Metered) else Metered(on)
        self.session = metered.open(seed)
        (rank,) = self.session.ranks[:1]
        on_device = is_on_device(params)
        placed = self.session.place(buffers.zeros(0) if on_device else params)  # every worker calls it
        self.worker = Worker(rank, metered.size, params if on_device else placed, self.share)
        self.worker.seed, self.worker.calling = seed, ""
        self.worker.links, self.worker.hosts = self.session.links, self.session.hosts
        self.meter = self.session.meters[rank]
        self.staging = Staging(self.worker, self.session.clock(rank), self.book_copies) if on_device else None
        self.endpoint = self.session.join(self.worker)
        self.explain: Callable[[Mismatch], Mismatch] = lambda error: error  # in words of the loop's calls
        self.handlers: dict[type[Request], Callable[..., object]] = dict(self.endpoint.handlers)

    def share(self, name: str, like: Buffer) -> Shared:
        """Return a shared variable, which is always kept in main memory."""
        return self.session.share(self.session.ranks[0], name, here(like))

    def book_copies(self, seconds: float) -> None:
        """Book copies between a GPU and main memory as part of a communication."""
        self.meter.waiting += seconds
        self.worker.communicating += seconds

    def compute_with(self, model: LoopModel) -> None:
        """Let `model` perform compute requests."""
        self.handlers.update(model.handlers)
        native, session = self.session.native | model.native, self.session
        self.lowering = Lowering(
            native, self.worker, session.unpriced, grouped=session.grouped, hosts=session.hosts
        )

    def agree(self, facts: dict[str, str]) -> None:
        """Raise Mismatch, on every process, unless all were asked for the same run."""
        check_facts(self.session.all_gather_object("run", lambda: facts)())

    def lower(self, requests: Iterable[Request]) -> Iterator[Request]:
        """Return the requests as the transport and the model perform them."""
        requests = self.staging.rewrite(requests) if self.staging else requests
        return self.session.wrap(self.worker, self.lowering.lower(requests))

    def run_unmetered(self, requests: Iterable[Request]) -> None:
        """Perform requests between two steps."""
        before, self.worker.unmetered = self.worker.unmetered, True
        try:
            for request in self.lower(requests):
                self.endpoint.doing = request
                self.handlers[type(request)](request)
        except Mismatch as error:
            raise self.explain(error) from error.__cause__
        finally:
            self.worker.unmetered = before


class Loop:
    """Performs one worker's program, as far as the user's code has come.

    `begun`: the next step's communication has begun, or its gradient is taken.
    """

    def __init__(
        self,
        strategy: Strategy,
        connection: Connection,
        model: LoopModel,
        steps_per_epoch: int | None = None,
        after_round: Callable[[], Iterator[Request]] | None = None,
    ) -> None:
        self.after_round = after_round  # what is performed besides
        self.connection, self.worker, self.model = connection, connection.worker, model
        self.endpoint, self.handlers = connection.endpoint, dict(connection.handlers)
        self.handlers[RollCall] = self.call_roll
        self.clock = connection.session.clock(self.worker.rank)
        self.forward_at: float | None = None  # the user's first forward pass since the last step, if known
        plan: Plan[Program] = Plan(strategy, steps_per_epoch=steps_per_epoch, pause=self.pause, asks=True)
        self.program = Program(plan, self.worker, model)
        plan.programs.append(self.program)
        self.over = False
        self.failed: BaseException | None = None  # what ended it
        self.restart()

    def restart(self) -> None:
        """Begin where the program's position says."""
        self.begun = False
        self.round = self.worker.round  # that of the last request
        script = self.program.script()
        self.requests = self.connection.lower(self.with_more(script) if self.after_round else script)
        self.pending = next(self.requests, None)
        self.left_at = self.clock()

    def with_more(self, script: Iterator[Request]) -> Iterator[Request]:
        """Yield the requests of a program, and after each of its rounds what is performed besides."""
        begun = self.worker.round - (self.program.progress > 0)
        for request in script:
            if type(request) is RollCall and self.worker.round > begun and self.after_round:
                yield from self.after_round()
            yield request

    def pause(self, rank: int, still: bool) -> None:
        """Stop the worker's clock, or let it go on."""
        (self.connection.session.pause if still else self.connection.session.proceed)(rank)

    # --- performing requests -----------------------------------------------------------------------------

    def perform(self) -> None:
        """Perform the pending request."""
        request: Any = self.pending
        self.round = self.worker.round
        self.endpoint.doing = request
        try:
            self.handlers[type(request)](request)
        except Mismatch as error:
            raise self.connection.explain(error) from error.__cause__

    def call_roll(self, request: RollCall) -> None:
        """Ask the others whether there is data for a round; a worker that need not stay does not wait for them."""
        if self.program.stays:
            self.connection.handlers[RollCall](request)
        else:
            request.answer.append(request.present)

    def perform_early(self, may: Callable[[Request], bool]) -> None:
        """While backward runs, go on as far as nothing can block, and the model says that it may."""
        while type(self.pending) in EARLY and may(self.pending):  # type: ignore[arg-type]
            self.book_time()
            self.begun = True
            self.perform()
            self.pending = next(self.requests, None)
            self.left_at = self.clock()

    def to_gradient(self) -> bool:
        """Go on to where a gradient is wanted, and return whether more than the beginning of a round passed."""
        self.book_time()
        passed = False
        while type(self.pending) not in WANTS_GRADIENT:
            passed |= type(self.pending) is not RollCall
            self.perform()
            self.pending = next(self.requests, None)
        self.left_at = self.clock()
        return passed

    def to_update(self) -> None:
        """Go on to where the gradient is what the optimizer is to see."""
        self.book_time()
        self.begun = True
        while type(self.pending) is not Update:
            if self.pending is None:
                raise RuntimeError(RUN_IS_OVER)
            self.perform()
            self.pending = next(self.requests, None)
        self.left_at = self.clock()

    def finish(self) -> None:
        """Perform all communication that follows the update, which was performed."""
        self.pending = next(self.requests, None)
        if type(self.pending) in NEXT_STEP or not self.program.strategy.synchronous:
            self.endpoint.check()  # nothing that follows waits for a failed worker, and would raise
        while type(self.pending) not in NEXT_STEP:
            self.perform()
            self.pending = next(self.requests, None)
        self.begun, self.forward_at, self.left_at = False, None, self.clock()

    def book_time(self) -> None:
        """Do not book time spent in user code as communication; nor, before the forward pass, as compute."""
        now, worker = self.clock(), self.worker
        spent, computing = now - self.left_at, now - max(self.left_at, self.forward_at or self.left_at)
        if isinstance(self.pending, Communication):
            self.connection.meter.waiting -= spent
            worker.communicating -= spent
            worker.computing += computing
        else:  # a compute request, whose time is booked as compute since it is pending
            worker.computing -= spent - computing
        self.left_at = now

    def forward(self) -> None:
        """Note when the user's forward pass begins."""
        if self.forward_at is None:
            self.forward_at = self.clock()

    # --- between steps -----------------------------------------------------------------------------------

    def drain(self) -> None:
        """Complete what earlier rounds began, so that nothing is in flight while a state is saved or replaced."""
        self.connection.run_unmetered(self.program.drain())

    def between_steps(self, what: str) -> None:
        """Raise RuntimeError inside a step."""
        if self.begun:
            raise RuntimeError(
                f"{what} belongs between steps: after step(), before the next backward(). If no step will use "
                "the gradient at hand (a GAN's loss leaves one in the other network), freeze that network for the "
                "pass, detach() what comes from it, or call zero_grad() first"
            )

    def consensus(self) -> Buffer:
        """Return the parameters to evaluate; where the consensus is collective all workers call it at one step."""
        if self.failed is not None:
            raise RuntimeError(
                f"the run ended with an error ({type(self.failed).__name__}), so there is no consensus: the model "
                "holds this worker's own parameters"
            )
        if not self.over:
            self.between_steps("consensus()")
            program = self.program
            self.connection.run_unmetered(program.strategy.consensus(self.worker, program.state, program.out))
            self.check_consensus()
        return self.program.out

    def check_consensus(self) -> None:
        """Raise Diverged where the consensus is not finite: on all workers alike where all have called for it."""
        worker, program = self.worker, self.program
        if ops.all_finite(program.out):
            return
        if program.one_sided():
            raise Diverged(worker.rank, worker.clock, what=CONSENSUS)
        board = np.full(1, float(program.unsound()))
        self.connection.run_unmetered([AllReduce(board, op="max")])
        program.check(board[0], worker.clock, PARAMETERS)
        raise Diverged(0, worker.clock, what=CONSENSUS)

    def position(self) -> dict[str, int]:
        """Return where a run can begin again: between rounds, or inside one."""
        self.between_steps("state_dict()")
        worker, made = self.worker, self.program.made
        begun = type(self.pending) is not RollCall and self.pending is not None
        fresh = worker.round != self.round  # nothing of its round was performed
        if begun and not fresh and made is None:
            raise RuntimeError(
                f"worker {worker.rank} is inside round {worker.round}, where {self.program.strategy} cannot go on "
                "from its state: call state_dict() after another step"
            )
        inside = begun and not fresh
        return {
            "clock": worker.clock,
            "updates": self.model.updates,
            "samples": worker.samples,
            "part": self.program.part,
            "round": worker.round - (begun and fresh),
            "progress": (made or 0) if inside else 0,
            "inside": inside,
        }

    def go_to(self, position: dict[str, int]) -> None:
        """Begin again at a position; the state of its part of a schedule is already there."""
        self.program.progress = position["progress"]
        self.program.resumed = bool(position.get("inside", position["progress"]))
        self.program.in_flight.clear()
        self.model.updates = position["updates"]
        for name in ("clock", "samples", "round"):
            setattr(self.worker, name, position[name])
        self.restart()

    # --- the end -----------------------------------------------------------------------------------------

    def finalize(self) -> None:
        """Go on without data for as long as the strategy wants this worker."""
        self.book_time()
        if isinstance(self.pending, RollCall):  # it was made when there might have been data
            self.pending = replace(self.pending, present=False)
        while self.pending is not None:
            self.perform()
            self.pending = next(self.requests, None)
        self.begun = False

    def leave(self, error: BaseException | None, last: Iterable[Request] = ()) -> None:
        """End this worker's run: after its last requests, or at once with the error that the others are told."""
        if self.over:
            return
        try:
            if error is None:
                self.worker.calling = LEFT
                self.finalize()
                self.connection.run_unmetered(last)
        except BaseException as failed:
            error = failed
            raise
        finally:
            self.over, self.pending, self.failed = True, None, error
            told = error and failure(self.worker, self.endpoint.doing, error)
            self.connection.session.leave(told)
