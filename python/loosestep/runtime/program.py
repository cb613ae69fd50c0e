"""One worker's whole run as a stream of requests: rounds, synchronization points, evaluation, the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from loosestep import ops
from loosestep.foundation.errors import Diverged
from loosestep.lowering.requests import Drain, Drained, RollCall
from loosestep.requests import AllReduce, Broadcast, Communication, Gradient, Local, Request, Start, Update, Wait
from loosestep.runtime import stage_switch

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping

    from loosestep.requests.worker import Worker
    from loosestep.runtime.plan import Plan
    from loosestep.strategies.base import State, Strategy

GRADIENT, UPDATE = Gradient(), Update(local=True)
PARAMETERS = "the parameters or optimizer buffers"
CONSENSUS = "the consensus parameters"
PIECE = 1 << 20  # parameters whose mean is taken at once at the end


class Data(Protocol):
    """The source of a worker's batches."""

    taken: int  # batches consumed

    def ended(self) -> bool:
        """Return whether there is no further batch."""

    def skip(self, taken: int) -> None:
        """Go to where a checkpoint stood."""


class StepModel(Protocol):
    """Computes gradients and applies updates for one worker, and counts them."""

    samples: int
    steps: int
    losses: tuple[float, int]  # (sum over samples, samples)

    native: ClassVar[frozenset[type[Request]]]  # what it performs itself

    @property
    def feed(self) -> Data:
        """The source of its batches."""

    @property
    def handlers(self) -> Mapping[type[Request], Callable[[Any], Any]]:
        """What performs each of them; in `run` they return how many gradient steps they began."""

    def finite(self) -> bool:
        """Return whether parameters, and what the optimizer keeps of each of them, are finite."""


class Program:
    """The requests of one worker, and its position, as a checkpoint must keep it.

    Workers meet at synchronization points: every `checkpoint_every` steps, at evaluations of a collective
    consensus, on request, and at the end. They are possible between rounds and inside a round's first `Local`,
    where nothing else of the round has happened.

    progress: steps of the round's first `Local` that are done; 0 between rounds.
    resumed: the next round is one that had begun before a checkpoint.
    made: how many steps a round that is resumed here has made of the `Local` with which it begins; None where none
        can be resumed.
    steps_left: how many steps of the `Local` that is being performed come after this one.
    """

    def __init__(self, plan: Plan[Program], worker: Worker, model: StepModel) -> None:
        self.plan, self.worker, self.model = plan, worker, model
        self.states = [strategy.init(worker) for strategy, _ in plan.strategy.stages]
        self.progress = 0
        self.resumed = False
        self.made: int | None = 0
        self.steps_left = 0
        self.last_sync_step = 0  # the step of the last synchronization point
        self.last_eval_step = 0  # the step of the last evaluation without one
        self.next_step = 0  # the step that it may have begun
        self.ended = False  # no more steps of its own
        self.stopped = False
        self.lost = False  # the consensus is not finite
        self.in_flight: dict[Communication, Drained | None] = {}  # started and not waited for; None: not drained
        self.out = worker.copy_of_params()
        self._board = np.zeros(4)
        self.distance = np.zeros(1)  # mean_i ||x_i - mean x||^2 of workers in several processes, at the end
        self.enter(0)

    def enter(self, part: int) -> None:
        """Switch to stage `part` of a `Stages` strategy (other strategies have a single stage)."""
        plan, self.part = self.plan, part
        self.strategy: Strategy = plan.strategy.stages[part][0]
        self.state: State = self.states[part]
        self.until = plan.ends[part]
        self.stays = self.strategy.synchronous or self.strategy.attends  # in all rounds, without data too
        one_sided = plan.every and self.one_sided()
        self.eval_period = plan.every if one_sided and self.worker.rank == 0 else None  # steps
        sync_periods = (plan.checkpoint_every, None if one_sided else plan.every)
        self.sync_periods = tuple(period for period in sync_periods if period is not None)

    def script(self) -> Iterator[Request]:
        """Yield all requests of this worker, from the first round to the end of the run."""
        yield from self.switch()  # a checkpoint at the end of a stage was written before
        while not self.stopped:
            going = yield from self.roll_call()
            if going:
                yield from self.round()
            elif not self.stays:
                yield from self.strategy.data_ended(self.worker, self.state)
            if not self.stopped and (not going or self.sync_due()):
                yield from self.synchronize()
        if self.plan.apart:
            yield from self.finalize()

    def finalize(self) -> Iterator[Request]:
        """Give every process the final consensus and the distance of the replicas from their mean."""
        self.worker.unmetered = True
        yield Broadcast(self.out)
        whole = self.worker.params
        for low in range(0, whole.size, PIECE):  # memory for another vector may not be left
            params = whole[low : low + PIECE]
            mean = self.worker.scratch("mean", like=params)
            ops.copy(params, mean)
            yield AllReduce(mean)
            ops.subtract(params, mean, mean)
            self.distance += ops.norm(mean) ** 2
        yield AllReduce(self.distance)
        self.worker.unmetered = False

    def roll_call(self) -> Generator[Request, None, bool]:
        """Return whether there is another round: workers that stay go on while any worker has data for it."""
        if self.progress or self.resumed:  # inside a round, which all workers finish
            return True
        if self.plan.steps is not None and self.worker.clock >= self.plan.steps:
            self.ended = True
            return False
        present = not self.model.feed.ended()
        self.ended = not present
        if not (self.stays or self.plan.asks):
            return present
        call = RollCall(self.worker.round + 1, present)
        yield call
        self.ended = self.model.feed.ended()  # a loop of the user's may have ended while it was called
        return call.answer[0]

    def round(self) -> Iterator[Request]:
        """Perform one round of the strategy, with `Local` unrolled."""
        if not (self.progress or self.resumed):
            self.worker.round += 1
            self.worker.samples, self.worker.losses = 0, (0.0, 0)
        self.worker.inside, self.resumed, self.made = True, False, self.progress
        first, part = True, self.part
        for request in self.strategy.round(self.worker, self.state):
            if type(request) is Local:
                yield from self.local(request, first)
                self.steps_left = 0
                if self.stopped or self.part != part:
                    return
            else:
                yield self.track(request) if type(request) in (Start, Wait) else request
                self.made = None
            first = False
        self.progress, self.worker.inside = 0, False
        if self.eval_period:
            yield from self.evaluate_alone(self.eval_period)

    def track(self, request: Request) -> Request:
        """Note what is in flight, so that a checkpoint can drain it; replace the `Wait` for what was drained."""
        if type(request) is Start:
            self.in_flight[request.request] = None
        elif type(request) is Wait and (drained := self.in_flight.pop(request.request, None)):
            return Wait(drained)
        return request

    def local(self, request: Local, first: bool) -> Iterator[Request]:
        """Perform local steps; without data, a worker that stays lets them pass, any other ends them early."""
        worker, plan, part = self.worker, self.plan, self.part
        update = UPDATE if request.proximal is None else Update(request.proximal, local=True)
        done, steps = self.progress if first else 0, request.steps + request.idle
        before = 0 if first else request.after
        last = steps if plan.steps is None else min(steps, done + plan.steps - worker.clock)
        for step in range(done + 1, last + 1):
            self.made = None if before is None else before + step - 1
            if step <= request.steps and not self.model.feed.ended():
                self.steps_left = min(last, request.steps) - step
                yield GRADIENT
                yield update
            elif self.stays:
                worker.clock += 1
            else:
                return
            self.made = None if before is None else before + step
            if first and step < last:
                yield from self.between(step)
                if self.stopped or self.part != part:
                    return

    def between(self, step: int) -> Iterator[Request]:
        """Evaluate and synchronize between two steps of a round's first `Local`, where that is due."""
        if self.eval_period:
            yield from self.evaluate_alone(self.eval_period)
        if self.sync_due():
            self.progress = step
            yield from self.synchronize()

    # --- synchronization points ----------------------------------------------------------------------------------

    def sync_due(self) -> bool:
        """Return whether all workers synchronize now."""
        clock = self.worker.clock
        self.next_step = clock + 1
        if (self.plan.halting and self.plan.halts(clock)) or (self.until is not None and clock >= self.until):
            return True
        return bool(self.sync_periods) and any(
            clock // period > self.last_sync_step // period for period in self.sync_periods
        )

    def synchronize(self) -> Iterator[Request]:
        """Evaluate, save, and decide whether to go on, with all workers at one step."""
        plan, board = self.plan, self._board
        self.worker.unmetered = True
        board[:] = not self.ended, self.worker.clock, plan.halts(self.worker.clock), self.unsound()
        yield AllReduce(board, op="max")
        self.check(board[3], int(board[1]), PARAMETERS)
        over, step, halting = not board[0], int(board[1]), bool(board[2])
        plan.pause(self.worker.rank, True)
        last, self.last_sync_step = self.last_sync_step, step
        evaluating = self.crossed(plan.every, last) and not self.one_sided()
        wish = failed = False
        self.lost = False
        if over or halting or evaluating:
            wish = yield from self.consensus(step)
        saving = over or halting or self.crossed(plan.checkpoint_every, last)
        if saving and not self.lost:
            failed = yield from self.save(step)
        board[:] = over or halting, wish, failed, self.lost * (self.worker.size - self.worker.rank)
        yield AllReduce(board, op="max")
        self.check(board[3], step, CONSENSUS)
        self.stopped = bool(board[0] or board[1])
        if saving:
            yield from plan.commit(self, step, bool(board[2]))
        if saving and not self.stopped:  # the wait for the manifest is on no clock
            yield AllReduce(board, op="max")
        if board[1] and not saving:
            yield from self.final_checkpoint(step)
        plan.pause(self.worker.rank, False)
        self.worker.unmetered = False
        if not self.stopped:
            yield from self.switch()

    def switch(self) -> Iterator[Request]:
        """At the end of a stage, set all workers to its consensus and begin the next stage there."""
        worker = self.worker
        while self.until is not None and self.last_sync_step >= self.until:
            yield from self.drop_in_flight()
            yield from stage_switch.gather(self.strategy, worker, self.state, self.out, between=not self.progress)
            self.enter(self.part + 1)
            self.state = self.states[self.part] = yield from stage_switch.begin(self.strategy, worker, self.state)
            worker.clock = self.last_eval_step = self.last_sync_step
            self.progress, self.resumed, worker.inside, worker.fractions = 0, False, False, None
            worker.unmetered = True
            yield AllReduce(self._board, op="max")  # shared variables are set before any worker goes on
            worker.unmetered = False

    def drop_in_flight(self) -> Iterator[Request]:
        """Complete and forget what is in flight, since nothing in the next stage waits for it."""
        self.worker.unmetered = True
        yield from self.drain()
        self.in_flight.clear()
        self.worker.unmetered = False

    def final_checkpoint(self, step: int) -> Iterator[Request]:
        """Save and commit where `stop` ended the run after an evaluation."""
        self._board[2] = yield from self.save(step)
        yield AllReduce(self._board, op="max")
        yield from self.plan.commit(self, step, bool(self._board[2]))

    def save(self, step: int) -> Generator[Request, None, bool]:
        yield from self.drain()
        failed = yield from self.plan.save(self, step)
        return failed

    def unsound(self) -> int:
        """Return 0 if this worker's values are finite, else a code that is largest for the lowest rank."""
        return 0 if self.model.finite() else self.worker.size - self.worker.rank

    def check(self, found: float, step: int, what: str) -> None:
        """Raise Diverged, in all workers alike, for the one that the largest number means."""
        if found:
            self.worker.unmetered = False
            raise Diverged(self.worker.size - int(found), step, what=what)

    def drain(self) -> Iterator[Request]:
        """Complete what is in flight, unmetered, so that the state that is saved holds its result."""
        for request, drained in self.in_flight.items():
            if drained is None:
                self.in_flight[request] = fresh = Drained()
                yield Drain(request, fresh)

    def drained(self, request: Communication) -> Drained:
        """Return what a checkpoint keeps of a communication in the state, whose result is there."""
        known = request if isinstance(request, Drained) else self.in_flight.get(request)
        return known or Drained()

    def crossed(self, period: int | None, last: int) -> bool:
        return period is not None and self.last_sync_step // period > last // period

    def one_sided(self) -> bool:
        return self.strategy.consensus_is == "one-sided"

    # --- evaluation --------------------------------------------------------------------------------------

    def consensus(self, step: int) -> Generator[Request, None, bool]:
        """Write the parameters to evaluate into `out`, evaluate on rank 0; return whether to stop the run."""
        if self.one_sided() and self.worker.rank != 0:
            return False
        yield from self.strategy.consensus(self.worker, self.state, self.out)
        self.lost = not ops.all_finite(self.out)
        return self.worker.rank == 0 and not self.lost and self.plan.evaluate(self, step)

    def evaluate_alone(self, period: int) -> Iterator[Request]:
        """Evaluate a one-sided consensus: rank 0 alone, others go on. Its last step is left to the end."""
        plan, clock = self.plan, self.worker.clock
        if clock // period == self.last_eval_step // period or self.is_last(clock):
            return
        self.last_eval_step = clock
        self.worker.unmetered = True
        wish = yield from self.consensus(clock)
        self.worker.unmetered = False
        if self.lost:
            raise Diverged(self.worker.rank, clock, what=CONSENSUS)
        if wish:
            plan.halt()

    def is_last(self, clock: int) -> bool:
        """Return whether this worker makes no further step, so that the final evaluation comes next."""
        return clock == self.plan.steps or self.plan.halts(clock) or self.model.feed.ended()
